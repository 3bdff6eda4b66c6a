"""Whether a study saw its planted fault, what was cut, and whether a gain is more than stopping."""

import numpy as np
import pandas as pd
import pytest

from wcse_lib.analyze import PRIMARY_METRIC, notes
from wcse_lib.analyze.controls import (
    controls_hold,
    gains_by_stopping,
    planted_faults,
    stopping_sentences,
)

FAULT = {"comparison": "arm_minus_planted", "arm": "se", **PRIMARY_METRIC._asdict()}
GAINED = {"value": 0.2, "low": 0.1, "high": 0.3, "n_problems": 300}
STOPS = {"value": -0.3, "low": -0.4, "high": -0.2, "n_problems": 300}


def faults(**intervals) -> dict[str, pd.DataFrame]:
    """A table of controls with the planted fault's (value, low, high) of each base."""
    rows = []
    for base, (value, low, high) in intervals.items():
        rows.append(FAULT | {"base": base, "value": value, "low": low, "high": high})
    return {"controls": pd.DataFrame(rows)}


def stopping(gain=None, cut=None, ended=None, budget="high") -> dict[str, pd.DataFrame]:
    """A table of stopping with one student; of ended answers there is no row where `ended` is None."""
    by_quantity = {"accuracy": GAINED | (gain or {}), "cut_share": STOPS | (cut or {})}
    if ended:
        by_quantity["accuracy_of_ended"] = dict(zip(("value", "low", "high", "n_problems"), ended))
    facts = {"base": "small", "taught_by": "se", "budget": budget, "decoding": "greedy"}
    rows = [facts | {"quantity": name} | row for name, row in by_quantity.items()]
    return {"stopping": pd.DataFrame(rows)}


# ---- the planted fault


def test_a_fault_that_was_seen_is_told_with_its_size():
    (sentence,) = controls_hold(faults(small=(0.213, 0.15, 0.277), wc=(0.1, 0.02, 0.18)))
    assert sentence == (
        "This study saw a planted fault of 21.3 points (15.0 to 27.7) for small and"
        " 10.0 points (2.0 to 18.0) for wc."
    )


@pytest.mark.parametrize("interval", [(0.04, -0.01, 0.09), (0.04, 0.0, 0.08), (-0.2, -0.3, -0.1)])
def test_a_fault_that_was_not_seen_takes_the_meaning_from_a_null_result(interval):
    """Also where answers of other problems taught more than the arm's own: no rule finds a fault there."""
    (seen, unseen) = controls_hold(faults(small=(0.2, 0.1, 0.3), wc=interval))
    assert seen.startswith(
        "This study saw a planted fault of 20.0 points (10.0 to 30.0) for small."
    )
    assert "could not see a planted fault for wc: a null result there says nothing" in unseen
    assert "small" not in unseen


def test_other_data_judge_nothing():
    """Reference solutions below the base, and wrong samples above: the fault was seen all the same."""
    tables = faults(small=(0.2, 0.1, 0.3))
    others = []
    for comparison, value in (("reference_minus_base", -0.1), ("wrong_minus_reference", 0.2)):
        interval = {"value": value, "low": value - 0.05, "high": value + 0.05}
        others.append(FAULT | {"base": "small", "comparison": comparison} | interval)
    tables["controls"] = pd.concat([tables["controls"], pd.DataFrame(others)])
    assert len(planted_faults(tables)) == 1
    assert len(controls_hold(tables)) == 1


def test_without_a_planted_fault_nothing_is_claimed(synthetic_study, synthetic_tables):
    controls = synthetic_tables["controls"].query("comparison != 'arm_minus_planted'")
    assert controls_hold({"controls": controls}) == []
    assert controls_hold({}) == []
    assert stopping_sentences({}) == []
    run = synthetic_study
    without = run.study.controls.model_copy(update={"planted": 0.0})
    study = run.study.model_copy(update={"controls": without})
    fake = type("Fake", (), {"study": study, "plan": run.plan})
    said = list(notes._unseen_faults(fake, {}))
    assert said == [
        "No fault was planted (controls.planted): whether this study could have seen one is not known."
    ]
    assert list(notes._unseen_faults(run, synthetic_tables)) == []


def test_the_fault_is_held_against_the_arms_own_students(synthetic_study, synthetic_tables):
    """The pair is base, arm, largest budget: mean over seeds of the greedy scores."""
    row = planted_faults(synthetic_tables).query("base == 'small'").iloc[0]
    means = []
    for student in ("small.se.high", "small.planted"):
        for seed in (0, 1):
            path = synthetic_study.path("05", f"{student}.s{seed}", "verdicts-greedy.parquet")
            verdicts = pd.read_parquet(path).sort_values("problem_id").head(200)
            means.append((verdicts["verdict"] == "correct").mean())
    assert row["value"] == pytest.approx((means[0] + means[1] - means[2] - means[3]) / 2)
    assert row["arm"] == "se"
    assert row["is_seen"]
    first = synthetic_tables["controls"]["comparison"].iloc[0]
    assert first == "arm_minus_planted"


# ---- stopping


@pytest.mark.parametrize(
    "ended, learnt",
    [
        ((0.15, 0.05, 0.25, 120), "more than stopping"),
        ((0.0, -0.08, 0.08, 120), "only stopping"),
        ((-0.1, -0.15, -0.05, 120), "only stopping"),
        ((0.02, -0.15, 0.2, 12), "not known"),
        (None, "not known"),
    ],
)
def test_what_was_learnt_beside_stopping(ended, learnt):
    (row,) = gains_by_stopping(stopping(ended=ended)).to_dict("records")
    assert row["learnt"] == learnt


@pytest.mark.parametrize(
    "rows",
    [
        {"gain": {"low": -0.01}},  # nothing gained
        {"cut": {"high": 0.0}},  # the base may have stopped as often
        {"cut": {"value": -0.05, "low": -0.08, "high": -0.02}},  # too few to make up the gain
    ],
)
def test_no_question_arises_where_stopping_cannot_be_the_gain(rows):
    assert gains_by_stopping(stopping(ended=(0.0, -0.05, 0.05, 200), **rows)).empty
    assert stopping_sentences(stopping(ended=(0.0, -0.05, 0.05, 200), **rows)) == []


def test_the_words_for_stopping_name_student_and_number():
    (only,) = stopping_sentences(stopping(ended=(0.0, -0.08, 0.08, 120)))
    assert only == (
        "Only stopping was learnt by small's student of se at high: it gained 20.0 points and among the 120 problems"
        " to which it and its base ended an answer +0.0 points (−8.0 to +8.0)."
    )
    (unknown,) = stopping_sentences(stopping(budget=None))
    assert unknown == (
        "Whether small's student of se learnt more than to stop is not known: it gained 20.0 points and there is no"
        " problem to which both ended an answer."
    )
    assert stopping_sentences(stopping(ended=(0.15, 0.05, 0.25, 120))) == []


def test_endings_are_counted(synthetic_study, synthetic_tables):
    """The bases of the synthetic study never end what is hard; everybody else always ends."""
    table = synthetic_tables["endings"].set_index(["student", "decoding", "quantity"])
    samples = pd.read_parquet(synthetic_study.path("05", "small.base", "greedy"))
    is_main = samples["problem_id"] < "h200"
    is_cut = samples.loc[is_main, "finish_reason"] == "length"
    row = table.loc["small.base", "greedy", "cut_share"]
    assert row["value"] == pytest.approx(is_cut.mean())
    assert (row["n_problems"], row["n_answers"]) == (200, 200)
    ended = table.loc["small.base", "sampled", "accuracy_of_ended"]
    assert ended["n_problems"] == 200 - is_cut.sum()
    assert ended["n_answers"] == 4 * ended["n_problems"]
    assert table.loc["small.se.high.s0", "greedy", "cut_share"]["value"] == 0


def test_gains_among_ended_answers_are_paired(synthetic_study, synthetic_tables):
    rows = synthetic_tables["stopping"].query(
        "base == 'small' and taught_by == 'wc' and budget == 'high' and decoding == 'greedy'"
    )
    row = rows.set_index("quantity").loc["accuracy_of_ended"]
    read = {}
    for student in ("small.base", "small.wc.high.s0", "small.wc.high.s1"):
        path = synthetic_study.path("05", student, "verdicts-greedy.parquet")
        verdicts = pd.read_parquet(path).set_index("problem_id")["verdict"] == "correct"
        read[student] = verdicts.sort_index().head(200).to_numpy(float)
    samples = pd.read_parquet(synthetic_study.path("05", "small.base", "greedy"))
    ended = (samples.set_index("problem_id")["finish_reason"].sort_index() == "stop").head(200)
    base, *taught = read.values()
    difference = (np.mean(taught, axis=0) - base)[ended.to_numpy()]
    assert row["n_problems"] == ended.sum()
    assert row["value"] == pytest.approx(difference.mean())
    (gain,) = gains_by_stopping({"stopping": rows}).to_dict("records")
    assert gain["learnt"] == "more than stopping"


def test_students_whose_answers_were_cut_are_noted(synthetic_tables):
    (sentence,) = notes._cut_answers(synthetic_tables)
    cut = synthetic_tables["endings"].query("quantity == 'cut_share' and student == 'small.base'")
    share = cut.query("decoding == 'greedy'")["value"].iloc[0]
    assert f": small.base {100 * share:.0f} % of 200 (greedy), " in sentence
    assert "small.se" not in sentence
    assert list(notes._cut_answers({})) == []
