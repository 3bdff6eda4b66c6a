"""`wcse lab`: the project's root, 01 in front, no news."""

import os
import subprocess
import sys

import pytest

from wcse_lib.start.lab import lab_command
from wcse_lib.store import StudyError


def test_the_root_is_opened_with_01_in_front(root, monkeypatch):
    monkeypatch.chdir(root / "notebooks")
    command, _ = lab_command(["--no-browser"])
    assert command[-3:] == [
        f"--ServerApp.root_dir={root}",
        "--LabApp.default_url=/lab/tree/notebooks/01_plan.ipynb",
        "--no-browser",
    ]


def test_jupyter_finds_that_its_news_are_off(root, tmp_path):
    """As JupyterLab itself reads its configuration, beside what a person has set."""
    code = "from jupyterlab_server.config import get_static_page_config as read; print(read())"
    own = os.environ | {"JUPYTER_CONFIG_PATH": str(tmp_path), "JUPYTER_CONFIG_DIR": str(tmp_path)}
    _, environment = lab_command([], own)
    assert environment["JUPYTER_CONFIG_PATH"].endswith(f"{os.pathsep}{tmp_path}")
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert "'@jupyterlab/apputils-extension:announcements': True" in done.stdout, done.stderr


def test_no_lab_is_opened_where_no_project_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        StudyError, match="no notebooks/01_plan.ipynb here or above; call `wcse new"
    ):
        lab_command([])
