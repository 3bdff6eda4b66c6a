"""Tables of arms where each training seed has a draw: rates over all draws, counts that are means of a draw."""

import numpy as np
import pytest

from wcse_lib import metrics
from wcse_lib.analyze import arms
from wcse_lib.analyze.notes import _draws, _unmeasured_luck
from wcse_lib.analyze.outcome import outcomes
from wcse_lib.analyze.samples import read_arms
from wcse_lib.store import read_parquet


@pytest.fixture(scope="module")
def samples(three_draws):
    return read_arms(three_draws)


def judged_rows(run, arm, budget):
    """The budget's judged rows, with `draw` and `correct`."""
    rows = read_parquet(run.path("03", arm, "judged.parquet"))
    rows = run.rows_of_budget(rows, arm, budget)
    draw = run.draws(arm).of(rows["sample_index"])
    return rows.assign(draw=draw, correct=rows["verdict"] == "correct")


@pytest.mark.parametrize("arm", ["se", "wc", "mix", "adaptive"])
def test_quality_is_the_mean_over_draws(three_draws, samples, arm):
    quality = {row["budget"]: row for row in arms.quality({arm: samples[arm]})}
    examples = read_parquet(three_draws.path("03", arm, "examples.parquet"))
    for budget, row in quality.items():
        rows = judged_rows(three_draws, arm, budget)
        of_draws = [rows[rows["draw"] == draw] for draw in range(3)]
        solved = [own[own["correct"]]["problem_id"].nunique() / 24 for own in of_draws]
        assert row["coverage"] == pytest.approx(np.mean(solved))
        assert row["n_samples"] == round(len(rows) / 3)
        assert row["n_correct"] == round(rows["correct"].sum() / 3)
        chosen = (examples["budget"] == budget) & (examples["recipe"] == "main")
        assert row["n_examples"] == round(chosen.sum() / 3)
        n_different = rows.groupby(["draw", "problem_id"])["same_text"].nunique().sum()
        assert row["duplicate_rate"] == pytest.approx(1 - n_different / len(rows))
        assert row["samples_per_problem"] == three_draws.plan.n_samples(arm, budget)


def test_coverage_at_k_uses_the_samples_of_all_draws(three_draws, samples):
    rows = judged_rows(three_draws, "se", "high")
    n, n_correct = rows.groupby("problem_id").size(), rows.groupby("problem_id")["correct"].sum()
    curve = {row["k"]: row["value"] for row in arms.coverage(three_draws, {"se": samples["se"]})}
    assert list(curve) == list(range(1, 16))
    for k in (1, 5, 15):
        assert curve[k] == pytest.approx(metrics.coverage_at_k(n, n_correct, k))


def test_numbers_at_k_of_an_adaptive_arm_use_equal_first_parts(three_draws, samples):
    n_first = three_draws.study.rule_of("adaptive").first
    assert samples["adaptive"].first["n"].unique().tolist() == [3 * n_first]


def test_outcomes_are_of_a_draw(three_draws, samples):
    table = outcomes(three_draws, {"se": samples["se"]}).query("budget == 'high'")
    found = table.set_index("metric")["outcome"]
    rows = judged_rows(three_draws, "se", "high")
    solved = rows[rows["correct"]].groupby("draw")["problem_id"].nunique()
    assert found["coverage"] == pytest.approx(solved.mean() / 24)
    examples = read_parquet(three_draws.path("03", "se", "examples.parquet"))
    chosen = (examples["budget"] == "high") & (examples["recipe"] == "main")
    assert found["examples"] == pytest.approx(chosen.sum() / 3)


def test_the_answer_says_what_the_seeds_learnt_from(three_draws, synthetic_study):
    (own,) = _draws(three_draws)
    assert "drawn 3 times" in own
    assert list(_unmeasured_luck(three_draws, {})) == []
    assert list(_draws(synthetic_study)) == []
    (shared,) = _unmeasured_luck(synthetic_study, {})
    assert "these training sets, not for the generators" in shared
