"""What can stop a run in its first moment: Ctrl-C while Python still imports, and a user without a home."""

import subprocess
import sys
from pathlib import Path

import pytest

from wcse_lib import pipeline
from wcse_lib.store import StudyError

# Ctrl-C as soon as the named module is looked for
CODE = """
import os, signal, sys
from wcse_lib import __main__ as command

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
sys.argv = ["wcse", "--help"]
sys.exit(command.main())
"""


def ended(module: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)], capture_output=True, text=True
    )


def test_ctrl_c_during_imports_is_no_traceback():
    for module in ("wcse_lib.cli", "typer"):
        run = ended(module)
        assert (run.returncode, run.stdout, run.stderr) == (130, "", "stopped\n")


def test_without_ctrl_c_it_is_the_command():
    run = ended("a module that nobody imports")
    assert run.returncode == 0 and "Usage: wcse" in run.stdout


def test_a_user_without_a_home_is_told_so(monkeypatch, tmp_path):
    def home():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(StudyError, match="HOME is not set.*name a folder"):
        pipeline.run("params/smoke.yaml", outputs=str(tmp_path))
    assert not list(tmp_path.iterdir())
