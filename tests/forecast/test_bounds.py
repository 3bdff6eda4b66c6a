"""Bounds over all populations: against a solver of another kind, their promise by simulation, and beside forecasts."""

import numpy as np
import pytest
from pilots import pilot
from scipy.optimize import linprog

from wcse_lib.forecast import coverage_bounds, forecast_coverage, with_bounds
from wcse_lib.forecast.bounds import DROP
from wcse_lib.forecast.library import RATES, chances
from wcse_lib.forecast.population import distinct_pairs


def cutting_planes(n, c, k: float, sign: int) -> float:
    """The least (sign -1) or most (1) coverage@k, by linear programs under more and more tangents of the likelihood."""
    pairs, counts = distinct_pairs(n, c)
    chance = np.hstack([chances(int(a), np.array([b])) for a, b in pairs])
    best = np.full(len(RATES), 1 / len(RATES))
    for _ in range(20_000):  # EM
        best = best * (chance @ (counts / (best @ chance))) / counts.sum()
    floor = counts @ np.log(best @ chance) - DROP
    tangents, limits = [], []
    at = best
    for _ in range(80):
        seen = at @ chance
        tangents.append(-chance @ (counts / seen))
        limits.append(counts @ np.log(seen) - counts.sum() - floor)
        aim = sign * (1 - RATES) ** k
        found = linprog(aim, tangents, limits, np.ones((1, len(RATES))), [1.0]).x
        if counts @ np.log(np.maximum(found @ chance, 1e-12)) > floor - 1e-4:
            return 1 - found @ (1 - RATES) ** k
        at = 0.7 * found + 0.3 * at
    raise AssertionError("no convergence")


def uneven(rng) -> tuple:
    rates = rng.choice([0.5, 0.02], 50)
    n = np.full(50, 4)
    c = rng.binomial(4, rates)
    n[c == 0] += 9
    return n, c + rng.binomial(n - 4, rates)


@pytest.mark.parametrize("shape", ["beta", "uneven"])
def test_bounds_are_those_of_another_solver(shape):
    rng = np.random.default_rng(1)
    n, c = pilot(rng, 0.4, 0.8)[:2] if shape == "beta" else uneven(rng)
    row = coverage_bounds(n, c, [60]).iloc[0]
    assert row["least"] == pytest.approx(cutting_planes(n, c, 60, -1), abs=2e-3)
    assert row["most"] == pytest.approx(cutting_planes(n, c, 60, 1), abs=2e-3)


def test_bounds_hold_the_truth_where_rates_lie_in_two_groups():
    rng = np.random.default_rng(2)
    truth = 1 - (0.5**40 + 0.98**40) / 2
    held = []
    for _ in range(120):
        n = np.full(50, 8)
        c = rng.binomial(n, rng.choice([0.5, 0.02], 50))
        row = coverage_bounds(n, c, [40]).iloc[0]
        held.append(row["least"] <= truth <= row["most"])
    assert np.mean(held) > 0.89


@pytest.mark.parametrize("n_correct", [0, 8])
def test_nothing_and_everything_solved_has_bounds(n_correct):
    row = coverage_bounds(np.full(20, 8), np.full(20, n_correct), [100]).iloc[0]
    assert 0 <= row["least"] < row["most"] <= 1
    # 160 failures, or 160 successes, leave 95 % of the rest open by the likelihood of p^160 alone
    if n_correct == 0:
        assert row["least"] < 0.01
        assert row["most"] == pytest.approx(1 - np.exp(-DROP / 160 * 100), abs=0.02)
    else:
        assert row["most"] > 0.99


def test_bounds_stand_beside_a_forecast_far_from_the_pilot():
    n, c, _ = pilot(np.random.default_rng(3), 0.5, 1.0)
    table = with_bounds(forecast_coverage(n, c, [1, 24, 25, 100]), n, c)
    assert table["least"].isna().tolist() == [True, True, False, False]
    far = table.iloc[2:]
    assert (far["least"] < far["value"]).all()
    assert (far["value"] < far["most"]).all()
    of_study = with_bounds(forecast_coverage(n, c, [25, 100], n_problems=60), n, c, 60)
    assert (of_study["least"].to_numpy() < far["least"].to_numpy()).all()
    assert (of_study["most"].to_numpy() >= far["most"].to_numpy()).all()
