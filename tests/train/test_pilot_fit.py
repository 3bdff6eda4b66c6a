"""Whose text fits the students: the pilot's examples of two arms, of which one writes its words backwards."""

import pytest
from mixed_study import fill, study_of

from wcse_lib import plan, train
from wcse_lib.budget import ledger_table
from wcse_lib.store import read_json, read_parquet, write_parquet
from wcse_lib.train import pilot_fit
from wcse_lib.train.gradients import DIMENSION
from wcse_lib.verify.examples import write_examples

PILOT = {"n_problems": 20, "n_samples": 4}
STUDENTS = {
    "students": {"small": {"model": "nano-student"}},
    "training": {"amount": {"low": 1, "high": 1}},
    "dataset": {"name": "nano", "n_train": 24, "n_held_out": 5, "levels": [1, 2]},
}


def piloted(folder, **pilot):
    study = study_of("fits", pilot=PILOT | pilot, **STUDENTS)
    small = plan.make_plan(plan.pilot_study(study), folder)
    fill(small)
    for arm in ("se", "wc"):
        write_examples(small, arm)
    path = small.path("03", "wc", "examples.parquet")
    examples = read_parquet(path)
    backwards = examples["text"].map(lambda text: " ".join(reversed(text.split())))
    write_parquet(path, examples.assign(text=backwards))
    return plan.make_plan(study, folder), small


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    run, small = piloted(tmp_path_factory.mktemp("out"), fit=True)
    return run, small, train.fit_of_pilot(run)


def test_the_arm_that_writes_as_the_student_does_is_chosen_by_likelihood(measured):
    run, _, table = measured
    values = table.set_index(["score", "arm"])["value"]
    assert values["log_likelihood", "se"] > values["log_likelihood", "wc"] + 1
    assert values["rank_surprisal_ratio"].notna().all()
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    by_likelihood, by_ratio, by_gradient = train.choices(run)
    assert by_likelihood.startswith(
        "Student small, by log-likelihood (higher fits better): se (minus wc +"
    )
    assert "does not settle" not in by_likelihood
    assert "by rank–surprisal ratio (lower fits better): " in by_ratio
    assert "by gradient score (lower fits better): " in by_gradient


def test_every_example_is_read_once_and_what_it_took_is_on_the_ledger(measured):
    run, small, table = measured
    found = read_parquet(run.path("01", "fit.parquet"))
    assert found["gradient"].map(len).eq(DIMENSION).all()
    n_examples = sum(
        len(read_parquet(small.path("03", arm, "examples.parquet"))) for arm in ("se", "wc")
    )
    assert len(found) == n_examples
    assert table.groupby("score")["n_examples"].sum().tolist() == [n_examples] * 3
    took = read_json(run.path("01", "fit.json"))["small"]
    assert took["flops"] == 2 * run.student("small.base").n_parameters * took["tokens"]
    fill(run)
    rows = ledger_table(run).query("kind == 'fit'").set_index("unit")
    assert rows["spent"].to_dict() == took
    assert set(rows["who"]) == {"small"} and set(rows["stage"]) == {"01_plan"}


def test_unasked_nothing_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pilot_fit, "measure", None)
    run, _ = piloted(tmp_path)
    assert train.fit_of_pilot(run).empty and train.choices(run) == []


def test_of_a_pilot_that_follows_the_unsolved_only_its_first_samples_are_read(
    tmp_path, monkeypatch
):
    """The others are of problems that were chosen by their wrong answers."""
    run, small = piloted(tmp_path, fit=True, first=2)
    assert (read_parquet(small.path("03", "wc", "examples.parquet"))["sample_index"] >= 2).any()
    pieces = list(pilot_fit._examples(run, small))
    assert pieces and all((piece["sample_index"] < 2).all() for piece in pieces)
