"""Adaptive arms and mixes in the tables: no number from a size that verdicts chose, and no mix but the planned one."""

from functools import partial
from math import comb

import numpy as np
import pandas as pd
import pytest

from wcse_lib import intervals
from wcse_lib.analyze import arms as tables
from wcse_lib.analyze.mixes import ArmCounts, mix_points
from wcse_lib.analyze.samples import read_arms
from wcse_lib.analyze.words import Quantity
from wcse_lib.budget import decide, mix_counts
from wcse_lib.store import read_parquet, read_samples
from wcse_lib.study import Adaptive, PlannedMixed

N_PROBLEMS = 300
FEW = 8  # samples of a problem that the parent draws, and on average the adaptive arm


@pytest.fixture(scope="module")
def samples_of(mixed):
    return read_arms(mixed)


def profile(is_correct: np.ndarray, n: np.ndarray, n_first: int) -> pd.DataFrame:
    """What a profile holds of samples `is_correct` [problems, samples], of which each problem's first `n` are drawn."""
    place = np.arange(is_correct.shape[1])
    n_correct = (is_correct & (place < n[:, None])).sum(1)
    counts = {"n": n, "n_correct": n_correct, "n_first": n_first}
    counts["n_first_correct"] = is_correct[:, :n_first].sum(1)
    counts["n_covered"] = counts["coverage"] = n_correct > 0
    names = ["sound_coverage", "n_false", "n_judged", "n_text", "n_equations", "n_examples"]
    others = dict.fromkeys(names, 0)
    return pd.DataFrame(counts | others)


def correct_among(so_far: np.ndarray, n: np.ndarray) -> np.ndarray:
    """Correct ones [problems] among each problem's first n, from running sums [problems, samples]."""
    return so_far[np.arange(len(n)), n - 1]


def planned_mix(samples: dict[str, int], parts: dict[str, float]) -> PlannedMixed:
    """A mix whose largest budget has these parts, and smaller ones the same shares."""
    most = max(samples.values())
    by_budget = {}
    for budget, n in samples.items():
        by_budget[budget] = {part: mean * n / most for part, mean in parts.items()}
    return PlannedMixed(
        samples=samples,
        exchange_ratio=1.0,
        budget_used=dict.fromkeys(samples, 1.0),
        planned={},
        planned_flops_per_token=None,
        shares=dict.fromkeys(parts, 1 / len(parts)),
        parts=by_budget,
    )


@pytest.mark.parametrize(("rule", "n_studies"), [("stop", 200), ("difficulty", 8)])
def test_an_adaptive_arm_does_not_beat_its_copy(rule, n_studies):
    """Both arms hold the same texts. Out of the numbers that verdicts chose the adaptive one would win nearly every
    study; out of its fixed samples it wins no more often than chance allows."""
    spec = Adaptive(of="wc", rule=rule, first=2, correct=1)
    is_ahead = np.zeros((n_studies, 2), bool)
    for seed in range(n_studies):
        rng = np.random.default_rng([seed, 16])
        is_correct = rng.random((N_PROBLEMS, 65 * FEW)) < rng.beta(0.6, 1.2, N_PROBLEMS)[:, None]
        so_far = np.cumsum(is_correct, axis=1)
        draw = partial(correct_among, so_far)
        n_by_rule = decide(spec, {"all": N_PROBLEMS * FEW}, N_PROBLEMS, draw)
        parent = profile(is_correct, np.full(N_PROBLEMS, FEW), FEW)
        adaptive = profile(is_correct, n_by_rule["all"], spec.first)
        of_parent = tables.ratios(parent, is_sound_known=False)[Quantity.PASS_AT_1]
        of_adaptive = tables.ratios(adaptive, is_sound_known=False)[Quantity.PASS_AT_1]
        of_all = (adaptive["n_correct"] / adaptive["n"]).to_numpy(), of_parent[1]
        for i, share in enumerate((of_all, of_adaptive)):
            difference = intervals.paired_ratio_difference(share, of_parent, n_boot=400)
            is_ahead[seed, i] = difference.low > 0
    by_all, by_fixed = is_ahead.mean(0)
    assert by_all > 0.9
    assert by_fixed < 0.05 or is_ahead[:, 1].sum() <= 1


def test_pass_at_1_of_an_adaptive_arm_is_its_parents_own(mixed, samples_of):
    """Its first samples are copies of the arm that it is of: no table tells the two apart by pass@1."""
    quality = pd.DataFrame(tables.quality(samples_of)).set_index(["arm", "budget"])
    verdicts = read_parquet(mixed.path("03", "wc", "verdicts.parquet"))
    for budget, n in mixed.arm("adaptive").samples.items():
        first = verdicts[verdicts["sample_index"] < min(2, n)]
        share = (first["verdict"] == "correct").mean()
        assert quality.loc[("adaptive", budget), "pass_at_1"] == pytest.approx(share)
    differences = pd.DataFrame(tables.arm_differences(mixed, samples_of, {}))
    of_pass = differences[differences["quantity"] == Quantity.PASS_AT_1]
    pairs = set(zip(of_pass["arm_a"], of_pass["arm_b"]))
    assert ("wc", "adaptive") not in pairs and ("adaptive", "wc") not in pairs
    assert ("wc", "se") in pairs and ("adaptive", "se") in pairs
    curve = pd.DataFrame(tables.coverage(mixed, samples_of))
    assert curve.loc[curve["arm"] == "adaptive", "k"].max() == 2
    votes = pd.DataFrame(tables.arm_votes(mixed, samples_of))
    assert votes.loc[votes["arm"] == "adaptive", "k"].max() == 2


def test_coverage_at_a_budget_is_what_uneven_arms_hold(mixed, samples_of):
    quality = pd.DataFrame(tables.quality(samples_of)).set_index(["arm", "budget"])
    diversity = pd.DataFrame(tables.diversity(mixed, samples_of, ngrams=False))
    texts = diversity[(diversity["kind"] == "text") & (diversity["average"] == "all")]
    for arm in ("mix", "adaptive"):
        verdicts = read_parquet(mixed.path("03", arm, "verdicts.parquet"))
        rows = verdicts.merge(read_samples(mixed.path("02", arm)))
        for budget in mixed.study.budget.samples:
            own = mixed.rows_of_budget(rows, arm, budget)
            correct = own[own["verdict"] == "correct"]
            coverage = correct["problem_id"].nunique() / 40
            assert quality.loc[(arm, budget), "coverage"] == pytest.approx(coverage)
            unique = correct.groupby("problem_id")["text"].nunique().sum() / 40
            of_budget = texts[(texts["arm"] == arm) & (texts["budget"] == budget)]
            assert of_budget["value"].item() == pytest.approx(unique)


def test_a_mix_of_k_samples_is_the_planned_mix_at_k():
    """Against counting: every choice of a part's samples that the plan would take at a budget of k."""
    rng = np.random.default_rng(1)
    ids = [f"p{i}" for i in range(7)]
    planned = planned_mix({"all": 4}, {"se": 1.0, "wc": 3.0})
    n = {"se": 3, "wc": 4}
    n_correct = {arm: rng.integers(0, most + 1, len(ids)) for arm, most in n.items()}
    counts = {}
    for arm, size in n.items():
        held = pd.Series(size, ids)
        counts[arm] = ArmCounts(held, pd.Series(n_correct[arm], ids), {"se": 3.0, "wc": 1.0}[arm])
    points = list(mix_points(planned, counts, ids, seed=0))
    assert [point.k for point in points] == [1, 2, 3, 4]
    for point in points:
        means = {"se": point.k / 4, "wc": 3 * point.k / 4}
        taken = mix_counts({"k": means}, ids, 0).set_index(["problem_id", "part"])["n"]
        for i, problem_id in enumerate(ids):
            missed = 1.0
            for arm, size in n.items():
                k = taken[problem_id, arm]
                missed *= comb(size - n_correct[arm][i], k) / comb(size, k)
            assert point.covered[i] == pytest.approx(1 - missed)
        assert point.flops_per_problem == pytest.approx(
            3 * taken.xs("se", level="part").mean() + taken.xs("wc", level="part").mean()
        )


def test_a_mix_below_its_largest_budget_is_no_choice_among_all_its_samples():
    """One part solves everything and the other nothing, one sample of each: at k = 1 the mix solves half of the
    problems with certainty, not each with one half."""
    planned = planned_mix({"low": 1, "high": 2}, {"good": 1.0, "bad": 1.0})
    ids = [f"p{i}" for i in range(10)]
    ones = pd.Series(1, ids)
    parts = {"good": ArmCounts(ones, ones, np.nan), "bad": ArmCounts(ones, 0 * ones, np.nan)}
    first, second = mix_points(planned, parts, ids, seed=0)
    assert sorted(first.covered) == [0.0] * 5 + [1.0] * 5
    assert second.covered.tolist() == [1.0] * 10


def test_the_vote_of_a_mix_is_that_of_its_samples_at_a_budget(mixed, samples_of):
    votes = pd.DataFrame(tables.arm_votes(mixed, samples_of))
    of_mix = votes[votes["arm"] == "mix"].set_index("k")["value"]
    assert set(of_mix.index) == set(mixed.arm("mix").samples.values())
    assert of_mix.between(0, 1).all()
    curve = pd.DataFrame(tables.coverage(mixed, samples_of)).query("arm == 'mix'")
    assert curve["k"].max() == max(mixed.arm("mix").samples.values())
