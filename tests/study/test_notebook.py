"""What papermill gives a notebook is held against the parameters that its first cell declares."""

import json

import pytest
from conftest import ROOT
from IPython.core.interactiveshell import InteractiveShell

from wcse_lib.store import StudyError
from wcse_lib.study import check_parameters

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WRONG = {  # by notebook: a parameter that it has not, one of another type, and the messages
    "02_generate": ("arms = 'wc'", "arm = ['wc']", "did you mean 'arm'", "a text is needed"),
    "03_verify": ("labels = 3", "n_labels = 'x'", "its parameters are", "a whole number is needed"),
    "04_finetune": ("student = 's'", "students = 's'", "did you mean 'students'", "list of texts"),
    "05_evaluate": ("machin = ''", "machine = 1", "did you mean 'machine'", "a text is needed"),
    "06_analyze": ("foldr = 'x'", "ngrams = 'yes'", "did you mean 'folder'", "True or False"),
}


def namespace_of(notebook: str, given: str | None = None) -> dict:
    """The globals of a kernel that ran the parameters of a notebook, and then papermill's own cell."""
    cells = json.loads((ROOT / f"notebooks/{notebook}.ipynb").read_text())["cells"]
    source = next("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    shell = InteractiveShell()
    shell.history_manager.enabled = False
    for cell in [source] if given is None else [source, f"# Parameters\n{given}\n"]:
        assert shell.run_cell(cell, store_history=True).success
    return shell.user_ns


@pytest.mark.parametrize("notebook", WRONG)
def test_declared_parameters_pass(notebook):
    check_parameters(namespace_of(notebook))


@pytest.mark.parametrize("notebook", WRONG)
def test_a_parameter_that_is_not_declared_is_named(notebook):
    misspelt, _, hint, _ = WRONG[notebook]
    with pytest.raises(StudyError, match=f"{misspelt.split()[0]}: no parameter.*{hint}"):
        check_parameters(namespace_of(notebook, misspelt))


@pytest.mark.parametrize("notebook", WRONG)
def test_a_value_of_another_type_is_named(notebook):
    _, wrong, _, words = WRONG[notebook]
    with pytest.raises(StudyError, match=f"{wrong.split()[0]} = .*{words}.*; papermill"):
        check_parameters(namespace_of(notebook, wrong))


@pytest.mark.parametrize("value", ["1", "None", "'True'", "0.0"])
def test_nothing_passes_for_a_truth_value(value):
    with pytest.raises(StudyError, match="paper = .*True or False is needed"):
        check_parameters(namespace_of("06_analyze", f"paper = {value}"))


def test_all_faults_are_named_at_once():
    with pytest.raises(StudyError, match="foldr: .*\n.*papr: .*\n.*ngrams = 3"):
        check_parameters(namespace_of("06_analyze", "foldr = 'a'\npapr = True\nngrams = 3"))


def test_what_a_person_defines_in_jupyter_is_left_alone():
    namespace = namespace_of("06_analyze") | {"answer": {"a": 1}, "names": ["b"], "n": 3}
    check_parameters(namespace)


def test_the_plan_takes_keys_of_a_study_and_its_own():
    from wcse_lib.plan import study_from

    given = namespace_of("01_plan", "seed = 5\nparams = 'params/smoke.yaml'")
    assert study_from(given, "params/smoke.yaml").seed == 5
    with pytest.raises(StudyError, match="sed: no parameter.*did you mean 'seed'"):
        study_from(namespace_of("01_plan", "sed = 5"), "params/smoke.yaml")
    with pytest.raises(StudyError, match="interactive = 'no': True or False is needed"):
        study_from(namespace_of("01_plan", "interactive = 'no'"), "params/smoke.yaml")


@pytest.mark.parametrize("path", NOTEBOOKS[1:], ids=lambda path: path.stem)
def test_every_notebook_checks_before_it_opens_the_study(path):
    cells = json.loads(path.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert code[2].startswith("check_parameters(globals())")
