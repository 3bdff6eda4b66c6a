"""Which arm to buy for a budget, and at which budget another arm takes the lead."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from wcse_lib.forecast.curves import N_DRAWS, sound_part, summary
from wcse_lib.forecast.population import covered, posterior


def recommend(
    pilots: Mapping[str, tuple],
    costs: Mapping[str, float],
    budget: float,
    seed=0,
    false_positives: Mapping[str, tuple] | None = None,
) -> pd.DataFrame:
    """The arm to buy for `budget` (cost per problem): rows of arm, k, value, low, high, p_best, the best arm first.

    `p_best` is the chance that the arm's coverage at its k is the highest: how sure the recommendation is.
    `false_positives`: {arm: (n_false, n_judged)} compares sound coverage. Raises ValueError for an unaffordable arm.
    """
    rng = np.random.default_rng(seed)
    rows, draws = [], []
    for arm, counts in pilots.items():
        k = affordable(arm, costs[arm], budget)
        unsound = false_positives.get(arm) if false_positives else None
        shares = posterior(*counts).drawn(N_DRAWS, rng)
        draws.append(covered(shares, [k], sound_part(unsound, N_DRAWS, rng))[0])
        rows.append([arm, k, *summary(draws[-1])])
    table = pd.DataFrame(rows, columns=["arm", "k", "value", "low", "high"])
    best = np.argmax(draws, axis=0)
    table["p_best"] = [(best == i).mean() for i in range(len(rows))]
    return table.sort_values("p_best", ascending=False, ignore_index=True)


def affordable(arm: str, cost: float, budget: float) -> int:
    """How many samples at `cost` the budget buys. Raises ValueError for none."""
    k = int(budget / cost * (1 + 1e-12)) if cost > 0 else 0
    if k < 1:
        raise ValueError(
            f"{arm}: {budget:g} buys no sample at {cost:g}; raise the budget, or leave the arm out"
        )
    return k


def crossing(pilots: Mapping[str, tuple], costs: Mapping[str, float], budgets, seed=0) -> dict:
    """Where two arms' forecast coverage curves cross, over `budgets` (cost per problem, ascending).

    `pilots`: {arm: (n, c)}; `costs`: of one sample. Returns value (median), low, high: the budget from which the lead
    no longer changes; p_crossing: the chance that it changes in the range; p_ahead [budgets]: the chance that the
    second arm leads. Pilots count as independent: where they share problems, this is cautious.
    """
    rng = np.random.default_rng(seed)
    budgets = np.asarray(budgets, float)
    curves = []  # of each arm [budgets, draws]
    for arm, counts in pilots.items():
        shares = posterior(*counts).drawn(1000, rng)
        curves.append(covered(shares, budgets / costs[arm]))
    first, second = curves
    is_ahead = second > first
    changes = is_ahead[1:] != is_ahead[:-1]
    crosses = changes.any(0)
    value = low = high = np.nan
    if crosses.any():
        from_the_end = np.argmax(changes[::-1, crosses], axis=0)
        last = budgets[1:][len(changes) - 1 - from_the_end]
        low, value, high = np.quantile(last, [0.025, 0.5, 0.975])
    found = {"value": value, "low": low, "high": high}
    return found | {"p_crossing": crosses.mean(), "p_ahead": is_ahead.mean(1)}
