"""04 and the ledger with an on-policy student: its counterpart is trained first, and both cost as much."""

import pytest
from studies import lay_examples

from wcse_lib import budget, train
from wcse_lib.budget import ledger
from wcse_lib.store import StudyError, is_complete, read_json
from wcse_lib.study import Machine
from wcse_lib.train.scored import on_policy_training

STUDENT, COUNTERPART = "small.opd.high", "small.wc.high"


@pytest.fixture(scope="module")
def laid(tmp_path_factory):
    arms = {
        "se": {"model": "nano-se"},
        "wc": {"model": "nano-wc"},
        "opd": {"on_policy": {"of": "wc", "beta": 0.5}},
    }
    how = {"amount": {"low": 1, "high": 12}, "batch_size": 4, "n_checkpoints": 2}
    run = lay_examples(tmp_path_factory.mktemp("made"), arms=arms, training=how)
    with pytest.raises(StudyError, match=f"train {COUNTERPART} first"):
        budget.on_policy_budget(run, STUDENT)
    machine = Machine(threads=1, dtype="float32")
    return run, train.train_students(run, [STUDENT, COUNTERPART], machine)


def test_both_are_trained_and_reported(laid):
    run, table = laid
    assert table["student"].tolist() == [STUDENT, COUNTERPART]
    files = {path.name for path in run.path("04", STUDENT).iterdir()}
    assert {"model", "report.json", "training.json", "manifest.json"} <= files
    assert not files & {"dropped.parquet", "fit.parquet", "rows.arrow"}
    for student in (STUDENT, COUNTERPART):
        assert is_complete(run.path("04", student), run.plan_id)
    assert "has no rows" in train.shown_rows(run, STUDENT)
    assert train.checks(run, [STUDENT, COUNTERPART], table)["n_students"] == 2
    curves = train.curves(run, [STUDENT])
    assert len(curves) == table.set_index("student").loc[STUDENT, "steps"]
    assert curves["loss"].notna().all()


def test_it_may_spend_what_its_counterpart_costs(laid):
    run, _ = laid
    wc = run.arm("wc")
    # lay_examples drew two samples of each of 30 problems
    drawn = ledger._samples_of(run, "wc").query("budget == 'high'")["n_tokens"].sum()
    sampling = wc.planned_flops_per_token * drawn
    counterpart = read_json(run.path("04", COUNTERPART, "report.json"))["spent_flops"]
    assert budget.on_policy_budget(run, STUDENT) == sampling + counterpart
    report = read_json(run.path("04", STUDENT, "report.json"))
    assert report["planned_flops"] == sampling + counterpart
    # a sample is a larger part of so small a budget
    one = report["planned_flops"] / report["n_examples"]
    assert abs(report["spent_flops"] - report["planned_flops"]) < 1.5 * one


def test_the_ledger_holds_what_it_wrote_and_what_was_scored(laid):
    run, _ = laid
    report = read_json(run.path("04", STUDENT, "report.json"))
    entries = {entry.kind: entry for entry in ledger._training(run, STUDENT)}
    assert entries["training"].planned.flops == report["planned_flops"]
    assert entries["training"].spent.flops == report["spent_flops"]
    for kind in ("writing", "scoring"):
        assert entries[kind].spent.flops == report["on_policy_flops"][kind] > 0
        assert entries[kind].planned.flops is None


def test_the_scorer_reads_the_arms_prompt(laid):
    run, _ = laid
    training = on_policy_training(run, STUDENT, Machine())
    assert training.beta == 0.5
    assert len(training.prompts) == run.plan.n_problems["train"]
    assert training.scorer.endswith("nano-wc")
    assert training.decoding.top_k == 0 and training.decoding.temperature == 1.0
