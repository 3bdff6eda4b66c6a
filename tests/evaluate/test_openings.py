"""Engines that 05 opens: one for each set of weights, from which a base and all adapters on it draw."""

import shutil
import sys
from collections import Counter
from types import ModuleType

import pandas as pd
import pytest
from sample_fakes import FakeEngine
from studies import lay_examples

from wcse_lib.budget import ledger
from wcse_lib.evaluate import stage as evaluation
from wcse_lib.nano import MODELS
from wcse_lib.sample import cluster, engines
from wcse_lib.store import KEY, read_samples, write_json
from wcse_lib.study import Machine


class Counting(FakeEngine):
    """Writes into every sample's text which adapter drew it; may die after some samples of all engines together."""

    opened: list["Counting"] = []
    n_left = None

    def __init__(self, model, machine, adapters, spending):
        super().__init__()
        self.model, self.adapters, self.adapter, self.is_open = model, list(adapters), None, True
        Counting.opened.append(self)

    def use(self, adapter):
        assert adapter is None or adapter in self.adapters
        self.adapter = adapter

    def generate(self, requests, decoding):
        for output in super().generate(requests, decoding):
            if Counting.n_left == 0:
                raise KeyboardInterrupt
            if Counting.n_left:
                Counting.n_left -= 1
            yield engines.Output(output.key, str(self.adapter or self.model), 5, 3, "stop")

    def close(self):
        self.is_open = False


@pytest.fixture
def counting(monkeypatch):
    """The machine of the counting engine."""
    module = ModuleType("wcse_lib.sample.engines.counting")
    module.open_engine = Counting
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(engines.MODULES, "counting", module.__name__)
    Counting.opened, Counting.n_left = [], None
    return Machine(checkers=1).model_copy(update={"engine": "counting"})


def trained(folder, is_adapter: bool):
    """A study after 04: seven students of each of two bases, whose weights are no more than a tokenizer."""
    run = lay_examples(folder)
    for student, entry in run.plan.students.items():
        if entry.source == "base":
            continue
        model = run.path("04", student, "model")
        model.mkdir(parents=True)
        for path in (MODELS / entry.model).glob("[ct]*"):  # the tokenizer with its template
            shutil.copy(path, model)
        if is_adapter:
            write_json(model / "adapter_config.json", {"r": 8})
        write_json(run.path("04", student, "training.json"), {"seed": student})
    return run


def openings(run) -> pd.DataFrame:
    """Planned and spent openings on the ledger, by model."""
    table = pd.DataFrame(ledger._openings(run), columns=ledger.COLUMNS)
    assert set(table["unit"]) == {"openings"}
    return table.set_index("who")[["planned", "spent"]].astype(int)


def drew(run, student: str) -> set[str]:
    """The weights that a student's samples say drew them."""
    return set(read_samples(run.path("05", student, "sampled"))["text"])


def test_adapters_and_their_base_share_one_engine(tmp_path, counting):
    run = trained(tmp_path, is_adapter=True)
    evaluation.evaluate(run, [], counting)
    bases = {entry.model for entry in run.plan.students.values()}
    assert len(Counting.opened) == len(bases) == 2
    assert not any(engine.is_open for engine in Counting.opened)
    for student, entry in run.plan.students.items():
        adapter = str(run.path("04", student, "model"))
        weights = str(MODELS / entry.model) if entry.source == "base" else adapter
        assert drew(run, student) == {weights}
    assert openings(run).to_dict("index") == dict.fromkeys(bases, {"planned": 1, "spent": 1})


def test_students_with_weights_of_their_own_are_opened_one_after_the_other(tmp_path, counting):
    run = trained(tmp_path, is_adapter=False)
    evaluation.evaluate(run, [], counting)
    n_students = Counter(entry.model for entry in run.plan.students.values())
    assert len(Counting.opened) == n_students.total() > 2
    assert openings(run)["planned"].to_dict() == openings(run)["spent"].to_dict() == n_students


def test_a_killed_test_goes_on_with_the_adapters_that_are_left(tmp_path, counting):
    run = trained(tmp_path, is_adapter=True)
    students = [name for name, entry in run.plan.students.items() if entry.base == "small"]
    n_samples = run.plan.n_problems["held_out"] * (1 + run.study.evaluation.n_samples)
    Counting.n_left = 2 * n_samples + 3  # in the middle of the third student
    with pytest.raises(KeyboardInterrupt):
        evaluation.evaluate(run, students, counting)
    Counting.n_left = None
    evaluation.evaluate(run, students, counting)
    first, second = Counting.opened
    assert not first.is_open and len(second.adapters) == len(students) - 2
    # the sample in flight is lost with the engine, and drawn again
    assert len(first.requests + second.requests) == len(students) * n_samples + 1
    for student in students:
        rows = read_samples(run.path("05", student, "sampled"))
        assert not rows.duplicated(KEY).any()
    assert openings(run).loc["nano-student"].tolist() == [1, 2]


@pytest.mark.parametrize("n_workers, n_tasks", [(1, 2), (2, 2), (4, 4), (100, 14)])
def test_workers_share_a_base_only_where_there_are_more_of_them(
    tmp_path, counting, monkeypatch, n_workers, n_tasks
):
    """With as many workers as bases none of them opens what another has open."""
    run, tasks = trained(tmp_path, is_adapter=True), []

    def noted(work, groups, machine):
        for group in groups:
            tasks.append(group)
            work(group)
            yield group, None

    monkeypatch.setattr(cluster, "map_tasks", noted)
    evaluation.evaluate(run, [], counting.model_copy(update={"workers": n_workers}))
    assert len(tasks) == len(Counting.opened) == n_tasks
    assert sorted(sum(tasks, [])) == sorted(run.plan.students)
    assert openings(run)["spent"].sum() == n_tasks
