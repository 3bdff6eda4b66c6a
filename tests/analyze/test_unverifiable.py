"""Unverifiable samples: left out of every number, with what it would be if they were wrong, and if right."""

import numpy as np
import pandas as pd
import pytest
from studies import STUDY, finished_study

from wcse_lib import metrics
from wcse_lib.analyze import analyze, answer
from wcse_lib.store import KEY, read_parquet, write_parquet
from wcse_lib.study import Run
from wcse_lib.verdicts import PRIMARY_METRIC, SAMPLED_PASS_AT_1, Metric, student_scores


def drawn_rows(run, arm):
    """All of an arm's verdicts; of t000 the second sample is unverifiable."""
    return read_parquet(run.path("03", arm, "verdicts.parquet"))


def test_arms_stand_between_their_bounds(synthetic_study, synthetic_tables):
    rows = drawn_rows(synthetic_study, "se")
    n = rows.groupby("problem_id").size()
    quality = synthetic_tables["quality"].set_index(["arm", "budget"]).loc[("se", "high")]
    curve = synthetic_tables["coverage"].query("arm == 'se'").set_index("k")
    for name, right in (("if_wrong", {"correct"}), ("if_right", {"correct", "unverifiable"})):
        n_right = rows["verdict"].isin(right).groupby(rows["problem_id"]).sum()
        assert quality[f"pass_at_1_{name}"] == pytest.approx((n_right / n).mean())
        assert quality[f"coverage_{name}"] == pytest.approx((n_right > 0).mean())
        for k in curve.index:
            assert curve.loc[k, name] == pytest.approx(metrics.coverage_at_k(n, n_right, k))
    assert (curve["if_wrong"] <= curve["if_right"]).all()
    assert curve.loc[1, "if_wrong"] < curve.loc[1, "value"]
    assert quality["pass_at_1_if_wrong"] < quality["pass_at_1_if_right"]


def test_an_adaptive_arms_bounds_are_of_its_fixed_samples(synthetic_study, synthetic_tables):
    rows = drawn_rows(synthetic_study, "ada").query("sample_index < 2")
    is_right = rows["verdict"] != "incorrect"
    quality = synthetic_tables["quality"].set_index(["arm", "budget"]).loc[("ada", "high")]
    assert quality["pass_at_1_if_right"] == pytest.approx(is_right.mean())


def verdicts(folder, greedy, sampled):
    """Files of a student whose sampled verdicts of each problem are letters: right, wrong, open."""
    words = {"r": "correct", "w": "incorrect", "u": "unverifiable"}
    rows = {"greedy": [], "sampled": []}
    for decoding, by_problem in (("greedy", greedy), ("sampled", sampled)):
        for place, letters in enumerate(by_problem):
            for index, letter in enumerate(letters):
                key = ("a", f"p{place}", index, "7" if letter == "r" else "1", words[letter])
                rows[decoding].append(key)
        table = pd.DataFrame(rows[decoding], columns=[*KEY, "extracted", "verdict"])
        write_parquet(folder / f"verdicts-{decoding}.parquet", table)
    return student_scores(folder, [1, 4])


def test_a_students_unverifiable_answers_are_left_out(tmp_path):
    found = verdicts(tmp_path, ["r", "u", "w", "r"], ["rrww", "rrrr", "ruuu", "uuuu"])
    assert found.is_known.tolist() == [True, False, True, False]
    known = found.is_known
    assert found.scores[PRIMARY_METRIC][known].tolist() == [1, 0]
    assert found.scores[SAMPLED_PASS_AT_1][known].tolist() == [0.5, 1]
    # one answer is left of four: the vote is that answer
    assert found.scores[Metric("maj@k", "sampled", 4)][known].tolist() == [0.5, 1]
    assert found.scores[Metric("pass@k", "sampled", 4)][known].tolist() == [1, 1]
    if_wrong, if_right = found.bounds[SAMPLED_PASS_AT_1]
    assert if_wrong.tolist() == [0.5, 1, 0.25, 0]
    assert if_right.tolist() == [0.5, 1, 1, 1]
    if_wrong, if_right = found.bounds[PRIMARY_METRIC]
    assert (if_wrong.tolist(), if_right.tolist()) == ([1, 0, 0, 1], [1, 1, 0, 1])


def test_without_unverifiable_answers_nothing_is_bounded(tmp_path, synthetic_tables):
    found = verdicts(tmp_path, ["r", "w"], ["rw", "ww"])
    assert found.bounds == {}
    assert found.is_known.all()
    assert "if_wrong" not in synthetic_tables["students"]


def test_students_are_compared_on_problems_that_all_can_be_verified_on(tmp_path):
    folder = finished_study(tmp_path / "open", (0,), recipes=False, study=STUDY)
    path = folder / "05_evaluate/small.wc.high.s0/verdicts-greedy.parquet"
    rows = read_parquet(path)
    is_open = rows["problem_id"].isin(["h000", "h001", "h250"])
    write_parquet(path, rows.assign(verdict=rows["verdict"].mask(is_open, "unverifiable")))
    run = Run(folder)
    tables = analyze(run)
    table = tables["students"].query("set == 'held_out'")
    assert set(table["n_problems"]) == {198}
    greedy = PRIMARY_METRIC.rows(table).set_index("student")
    own = greedy.loc["small.wc.high.s0"]
    right = rows[~is_open & rows["problem_id"].lt("h200")]["verdict"] == "correct"
    assert own["value"] == pytest.approx(right.mean())
    assert own["if_wrong"] == pytest.approx(right.sum() / 200)
    assert own["if_right"] == pytest.approx((right.sum() + 2) / 200)
    assert np.isnan(greedy.loc["small.se.high.s0", "if_wrong"])
    assert set(tables["differences"]["n_problems"]) == {198}
    notes = " ".join(answer(run, tables)["notes"])
    assert "Unverifiable held-out answers of small.wc.high.s0 (held_out) are left out" in notes
