"""Whether any arm's data helped: its students against their untouched base, by hand and in words."""

import numpy as np
import pandas as pd
import pytest

from wcse_lib import intervals
from wcse_lib.analyze import PRIMARY_METRIC
from wcse_lib.analyze.gains import gain_sentences

METRIC = PRIMARY_METRIC._asdict()


def test_gains_are_paired_with_the_base_and_one_family(synthetic_study, synthetic_tables):
    scores = {}
    for student in ("small.base", "small.wc.high.s0", "small.wc.high.s1"):
        path = synthetic_study.path("05", student, "verdicts-greedy.parquet")
        verdicts = pd.read_parquet(path).sort_values("problem_id")
        scores[student] = (verdicts["verdict"] == "correct").to_numpy(float)[:200]
    base, *seeds = scores.values()
    rows = PRIMARY_METRIC.rows(synthetic_tables["gains"])
    row = rows.query("base == 'small' and arm == 'wc' and budget == 'high'").iloc[0]
    assert row["value"] == pytest.approx(np.mean(seeds) - base.mean())
    assert len(rows) == 10  # ada has no student of base wc
    assert np.allclose(rows["p_holm"], intervals.holm(rows["p"].to_numpy()))


def told(*gains):
    """What is said of gains: base, arm, value and whether it is shown."""
    rows = []
    for base, arm, value, is_shown in gains:
        p = 0.01 if is_shown else 0.4
        half = abs(value) / 2 if is_shown else 2 * abs(value)
        facts = {"base": base, "arm": arm, "budget": "high", "value": value, "p_holm": p}
        rows.append(METRIC | facts | {"low": value - half, "high": value + half, "p": p})
    return gain_sentences({"gains": pd.DataFrame(rows)})


def test_that_no_data_helped_is_said_as_such():
    text = " ".join(told(("small", "wc", 0.01, False), ("small", "se", -0.1, True)))
    assert "No arm's examples were shown to make student small better" in text
    assert "some made student small worse" in text
    assert "cannot tell" not in text
    assert "0 of 2 shown to be better, 1 to be worse" in text


def test_whom_data_helped_is_named_with_the_best_arm_of_each():
    first, small, se, _ = told(
        ("small", "wc", 0.1, True), ("small", "se", 0.2, True), ("se", "wc", 0.02, False)
    )
    assert first == (
        "An arm's examples made student small better than the untouched base; for student se no arm's examples were"
        " shown to help."
    )
    assert small.startswith(
        "Student small: the best of its arms' students is se's at “high”, +20.0 points"
    )
    assert small.endswith("2 of 2 shown to be better.")
    assert se.endswith("0 of 1 shown to be better.")


def test_without_students_there_is_nothing_to_say():
    assert gain_sentences({}) == []
