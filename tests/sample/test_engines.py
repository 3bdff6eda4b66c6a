"""Engines are found by name: a new one is a module of its name, and that name in one list."""

import sys
from types import ModuleType

import pytest
from conftest import ROOT
from sample_fakes import FakeEngine

from wcse_lib.plan import make_plan
from wcse_lib.sample import engines, generate
from wcse_lib.sample.engines import open_engine
from wcse_lib.study import ENGINES, Machine, check_study

STUDY = {
    "study": "t",
    "dataset": {"name": "nano", "n_train": 3, "levels": [1]},
    "arms": {"wc": {"model": "nano-student"}},
    "budget": {"reference": "wc", "samples": {"one": 2}, "match": "count"},
}


@pytest.fixture
def echo(monkeypatch):
    """What adding an engine takes; the name goes to `study.ENGINES` in the source."""
    module = ModuleType("wcse_lib.sample.engines.echo")
    module.open_engine = lambda model, machine, adapters, spending: FakeEngine()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(engines.MODULES, "echo", module.__name__)


def test_an_added_engine_draws_an_arm(tmp_path, echo):
    run = make_plan(check_study(STUDY, "test"), tmp_path)
    rows = generate(run, "wc", Machine().model_copy(update={"engine": "echo"}))
    assert len(rows) == 6
    assert set(rows["engine"]) == {"echo"}
    assert rows["text"].str.fullmatch(r"text \d+").all()


def test_an_unknown_engine_is_named_with_those_that_are_known():
    with pytest.raises(ValueError, match="'echo' is not one of hf, vllm, openai"):
        open_engine("echo", "m", Machine())


@pytest.mark.parametrize("name", ENGINES)
def test_machine_files_may_name_every_local_engine(name):
    assert Machine(engine=name).engine == name


@pytest.mark.parametrize("name", [*ENGINES, "openai"])
def test_every_engine_has_its_module(name):
    assert (ROOT / "wcse_lib/sample/engines" / f"{name}.py").is_file()
