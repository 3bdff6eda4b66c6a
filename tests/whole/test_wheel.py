"""The kit as an installed wheel in an empty folder: `wcse new`, plan and run, without the checkout."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from files_of_samples import rows_of, write

from wcse_lib.study import STAGES

BUILT_FROM = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"]
FOLDERS = ["wcse_lib", "notebooks", "params"]
RUN = ["run", "params/my_study.yaml", "--machine", "params/machine/cpu.yaml"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder into which the built wheel was unpacked; its packages' dependencies are this environment's own."""
    root = tmp_path_factory.mktemp("wheel")
    source = root / "source"  # building leaves traces
    for name in FOLDERS:
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BUILT_FROM:
        shutil.copy(ROOT / name, source)
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    offline = ["--no-deps", "--no-build-isolation", "--no-index"]
    call([*pip, "wheel", *offline, "--wheel-dir", str(root), str(source)], root)
    (wheel,) = root.glob("*.whl")
    target = root / "site"
    call(
        [
            *pip,
            "install",
            "--no-deps",
            "--no-index",
            "--no-compile",
            "--target",
            str(target),
            str(wheel),
        ],
        root,
    )
    return target


@pytest.fixture(scope="module")
def begun(installed, tmp_path_factory) -> Path:
    """A folder that the installed `wcse new` wrote."""
    folder = tmp_path_factory.mktemp("empty") / "mine"
    wcse(installed, folder.parent, "new", str(folder))
    return folder


def call(command: list[str], folder: Path, **variables: str) -> str:
    """What a command prints; it has to succeed."""
    environment = os.environ | variables
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def wcse(installed: Path, folder: Path, *arguments: str) -> str:
    """What the installed command prints, called from `folder`."""
    command = [sys.executable, "-m", "wcse_lib.cli", *arguments]
    return call(command, folder, PYTHONPATH=str(installed))


def test_the_installed_package_is_the_one_that_runs(installed, begun):
    code = "import wcse_lib; print(wcse_lib.__file__)"
    place = call([sys.executable, "-c", code], begun, PYTHONPATH=str(installed))
    assert Path(place.strip()).is_relative_to(installed)


def test_a_new_folder_can_be_planned(installed, begun):
    assert "missing   nothing" in wcse(installed, begun, "plan", RUN[1])
    notebooks = [path.stem for path in sorted((begun / "notebooks").glob("*.ipynb"))]
    assert notebooks == list(STAGES)


def test_the_kits_own_studies_are_found_from_an_empty_folder(installed, tmp_path):
    assert "smoke: nothing planned yet" in wcse(installed, tmp_path, "status", "params/smoke.yaml")


def test_two_files_are_compared(installed, tmp_path):
    for name in "ab":
        write(tmp_path / f"{name}.jsonl", rows_of(1, 1))
    page = tmp_path / "outputs" / "a-b" / "comparison.html"
    assert f"page: {page}\n" in wcse(installed, tmp_path, "compare", "a.jsonl", "b.jsonl")
    assert page.exists()


def test_a_notebook_of_the_folder_runs(installed, begun):
    out = wcse(installed, begun, *RUN, "--until", "01_plan")
    assert "01_plan: done" in out
    assert (begun / "outputs/my_study/01_plan/plan.json").exists()


@pytest.mark.slow
@pytest.mark.dag
def test_the_study_of_a_new_folder_runs_to_its_report(installed, begun):
    wcse(installed, begun, *RUN)
    assert (begun / "outputs/my_study/report.html").exists()
    assert "all done" in wcse(installed, begun, "status", RUN[1])
