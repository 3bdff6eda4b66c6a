"""`wcse new`: a folder in which a study runs at once."""

import json

import pytest

from wcse_lib.cli import main
from wcse_lib.start import new_folder
from wcse_lib.store import StudyError, read_table
from wcse_lib.study import load_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("new") / "mine"
    new_folder(path)
    return path


def test_the_params_file_is_ten_lines_of_keys_that_hold(folder):
    path = folder / "params/my_study.yaml"
    keys = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    assert len(keys) == 10
    study = load_study(path)
    assert list(study.arms) == ["strong", "weak"]


def test_no_example_problem_is_tested_on_and_trained_on(folder):
    questions = {}
    for name in ("problems", "held_out"):
        questions[name] = {row["question"] for row in read_table(folder / f"data/{name}.jsonl")}
    assert len(questions["problems"]) == 24
    assert not questions["problems"] & questions["held_out"]


def test_notebooks_name_the_folders_own_study(folder):
    for path in (folder / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        parameters = next(cell for cell in cells if cell["metadata"].get("tags") == ["parameters"])
        assert "my_study" in "".join(parameters["source"])
        assert "nano" not in "".join(parameters["source"])


def test_the_new_folder_can_be_planned(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["plan", "params/my_study.yaml", "--machine", "params/machine/cpu.yaml"]) == 0
    assert "missing   nothing" in capsys.readouterr().out


def test_what_is_there_is_never_written_over(folder):
    with pytest.raises(StudyError, match="mine: there is something already"):
        new_folder(folder)
