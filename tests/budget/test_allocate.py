"""Budgets spent unevenly over problems: whole totals, nested budgets, more samples for harder problems."""

import numpy as np
import pytest

from wcse_lib.budget import allocate
from wcse_lib.study import Adaptive


def test_totals_are_whole_and_budgets_nest():
    problems = [f"p{i}" for i in range(101)]
    counts = allocate.mix_counts(
        {"low": {"a": 0.5, "b": 1.51}, "high": {"a": 5.25, "b": 15.1}}, problems, seed=3
    )
    totals = counts.groupby(["budget", "part"])["n"].sum()
    for (b, part), mean in {
        ("low", "a"): 0.5,
        ("low", "b"): 1.51,
        ("high", "a"): 5.25,
        ("high", "b"): 15.1,
    }.items():
        assert abs(totals[b, part] - 101 * mean) <= 0.5 + 1e-6
    wide = counts.pivot(index=["part", "problem_id"], columns="budget", values="n")
    assert (wide["low"] <= wide["high"]).all() and wide.loc["a", "low"].isin([0, 1]).all()
    both = counts[counts["budget"] == "low"].groupby("problem_id")["n"].sum()
    assert both.between(2, 3).all()  # rounded against each other
    other = allocate.mix_counts({"low": {"a": 0.5, "b": 1.51}}, problems, seed=4)
    assert not other["n"].equals(counts[counts["budget"] == "low"]["n"].reset_index(drop=True))


@pytest.mark.parametrize("rule", ["difficulty", "stop"])
def test_every_total_is_spent_and_hard_problems_get_more(rule):
    rng = np.random.default_rng(0)
    rates = np.repeat([0.9, 0.5, 0.05], 60)
    seen, right = np.zeros(180, int), np.zeros(180, int)

    def draw(n):
        assert (n >= seen).all()
        right[:] += rng.binomial(n - seen, rates)
        seen[:] = n
        return right.copy()

    spec = Adaptive(of="wc", rule=rule, first=2, correct=3)
    out = allocate.decide(spec, {"high": 180 * 12, "low": 180 * 3}, 180, draw)
    assert {b: n.sum() for b, n in out.items()} == {"low": 540, "high": 2160}
    assert (out["low"] <= out["high"]).all() and out["low"].min() >= 2
    easy, middle, hard = out["high"].reshape(3, 60).mean(1)
    assert easy < middle < hard, "the harder, the more samples"
    if rule == "stop":  # an easy problem is not drawn from after it has enough
        assert out["high"][:60].max() < 12 and out["high"].max() <= allocate.MOST * 12 + 3


def test_unsolved_problems_share_what_is_left():
    spec = Adaptive(of="wc", rule="unsolved", first=4)
    n = np.full(50, 4)
    c = np.repeat([1, 0], [30, 20])
    more = allocate.next_counts(spec, n, c, 400)
    assert more.tolist() == [4] * 30 + [14] * 20
    few = allocate.next_counts(spec, n, np.repeat([1, 0], [48, 2]), 400)
    assert few.tolist() == [4] * 48 + [64] * 2, "no problem gets more than eight times the mean"
    rest = allocate.next_counts(spec, few, np.repeat([1, 0], [48, 2]), 400)
    assert rest.sum() == 400, "then all share the rest"
    assert np.ptp(rest - few) <= 1


def test_reset_spends_nothing_on_what_is_solved():
    rng = np.random.default_rng(1)
    rates = np.repeat([0.9, 0.3, 0.05], 60)
    seen, solved_at = np.zeros(180, int), np.full(180, 999)

    def draw(n):
        for problem in np.flatnonzero(n > seen):
            for place in range(seen[problem], n[problem]):
                if rng.random() < rates[problem]:
                    solved_at[problem] = min(solved_at[problem], place + 1)
        seen[:] = n
        return (solved_at <= n).astype(int)

    spec = Adaptive(of="wc", rule="reset", first=1)
    out = allocate.decide(spec, {"low": 180 * 2, "high": 180 * 5}, 180, draw)
    assert {name: n.sum() for name, n in out.items()} == {"low": 360, "high": 900}
    is_solved = solved_at < 999
    assert is_solved.sum() > 120
    assert (out["high"][is_solved] == solved_at[is_solved]).all(), (
        "not one sample beyond the first correct one"
    )
    unsolved = out["high"][~is_solved]
    assert np.ptp(unsolved) <= 1, "those that are left have taken turns"


def test_reset_shares_what_is_left_when_all_are_solved():
    spec = Adaptive(of="wc", rule="reset")
    n, c = np.full(10, 2), np.ones(10, int)
    assert allocate.next_counts(spec, n, c, 40).tolist() == [4] * 10
    assert allocate.next_counts(spec, n, np.zeros(10, int), 23).tolist() == [3] * 3 + [2] * 7


def test_a_budget_below_the_first_samples_is_spread_evenly():
    out = allocate.decide(Adaptive(of="wc", first=4), {"low": 50}, 50, lambda n: np.zeros(50, int))
    assert (out["low"] == 1).all()


def test_stop_asks_for_more_when_all_have_enough():
    out = allocate.decide(
        Adaptive(of="wc", rule="stop", correct=1, first=1), {"b": 100}, 20, lambda n: n.copy()
    )
    assert out["b"].sum() == 100 and np.ptp(out["b"]) == 0
