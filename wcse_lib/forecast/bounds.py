"""Coverage between bounds that hold whatever the population is: a profile likelihood over all mixing distributions.

Of all distributions g over RATES whose log likelihood of the pilot lies within DROP of the best, the lowest and the
highest coverage. Both are convex programs of hundreds of shares, whose duals have one variable per distinct (n, c) of
the pilot, and in which any feasible point is a valid bound. They are solved by Newton's method with a barrier (Boyd and
Vandenberghe 2004, sections 5 and 11).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from wcse_lib.forecast.library import RATES, chances
from wcse_lib.forecast.population import distinct_pairs

DROP = 1.92  # half the 95 % quantile of chi-square with one degree of freedom
SHOWN_FROM = 3  # times the pilot's samples per problem: nearer, the forecast alone holds
GAP = 2e-3  # of the log likelihood, and of coverage: to which programs are solved
N_STEPS = 60  # at most, of Newton's method for a barrier


def shown(n, k: float) -> bool:
    """Whether k is so far beyond a pilot of `n` samples [problems] that bounds belong beside its forecast."""
    return k > SHOWN_FROM * np.mean(n)


def coverage_bounds(n, c, ks: Sequence[float], drop: float = DROP) -> pd.DataFrame:
    """The least and the most that coverage@k can be, at 95 %, whatever the population is: [k, least, most].

    Args: n, c: a pilot's counts [problems], as `posterior` takes them. Raises ValueError for counts that cannot be.
    """
    pairs, counts = distinct_pairs(n, c)
    each = [chances(n_samples, np.array([n_correct])) for n_samples, n_correct in pairs]
    chance = np.hstack(each)  # [RATES, pairs]
    floor = _best_log_likelihood(chance, counts) - drop
    rows = []
    for k in ks:
        missed = (1 - RATES) ** k
        least = 1 - _most(missed, chance, counts, floor)
        most = 1 + _most(-missed, chance, counts, floor)
        rows.append((k, max(least, 0.0), min(most, 1.0)))
    return pd.DataFrame(rows, columns=["k", "least", "most"])


def _best_log_likelihood(chance: np.ndarray, counts: np.ndarray) -> float:
    """The highest sum of counts · log(g @ chance) over distributions g [RATES].

    Its dual: the least of -counts · log(dual / counts) over dual [pairs] with chance @ dual <= n problems (Koenker and
    Mizera 2014).
    """
    n_problems = counts.sum()

    def value(dual):
        return -counts @ np.log(dual / counts) if (dual > 0).all() else np.inf

    def slopes(dual):
        return -counts / dual, np.diag(counts / dual**2)

    limits = np.full(len(RATES), float(n_problems))
    start = np.full(len(counts), 0.5 * n_problems / chance.sum(1).max())
    found = _minimised(value, slopes, chance, limits, start, GAP)
    return value(found)


def _most(aim: np.ndarray, chance: np.ndarray, counts: np.ndarray, floor: float) -> float:
    """The highest aim @ g over distributions g [RATES] whose log likelihood is at least `floor`.

    Its dual: the least of level - n_problems · price(dual), where aim + chance @ dual <= level at every rate, and price
    is the geometric mean of dual / counts, weighted by counts, times exp(floor / n_problems).
    """
    n_problems = counts.sum()
    part = counts / n_problems

    def price(dual):
        return np.exp(floor / n_problems + part @ np.log(dual / counts))

    def value(point):
        dual, level = point[:-1], point[-1]
        return level - n_problems * price(dual) if (dual > 0).all() else np.inf

    def slopes(point):
        dual = point[:-1]
        total = n_problems * price(dual)
        relative = part / dual
        slope = np.append(-total * relative, 1.0)
        curvature = np.zeros((len(point), len(point)))
        curvature[:-1, :-1] = total * (np.diag(part / dual**2) - np.outer(relative, relative))
        return slope, curvature

    limits = -aim
    sides = np.hstack([chance, np.full((len(RATES), 1), -1.0)])
    dual = counts / n_problems
    start = np.append(dual, (aim + chance @ dual).max() + 1.0)
    found = _minimised(value, slopes, sides, limits, start, GAP)
    return float(value(found))


def _minimised(
    value: Callable, slopes: Callable, sides: np.ndarray, limits: np.ndarray, start, gap: float
) -> np.ndarray:
    """The point at which a convex function is least where sides @ point <= limits, to within `gap` of its value.

    Args: value: of a point; slopes: its gradient and its matrix of second derivatives; start: a point inside.
    """
    point, weight = np.array(start, float), 1.0
    n_sides = len(limits)
    while True:
        point = _centred(value, slopes, sides, limits, point, weight)
        if n_sides / weight < gap:
            return point
        weight *= 30


def _centred(value, slopes, sides, limits, point, weight) -> np.ndarray:
    """Newton's method on weight · value - sum of log(limits - sides @ point)."""

    def height(at):
        room = limits - sides @ at
        return weight * value(at) - np.log(room).sum() if (room > 0).all() else np.inf

    now = height(point)
    for _ in range(N_STEPS):
        slope, curvature = slopes(point)
        pull = sides / (limits - sides @ point)[:, None]
        slope = weight * slope + pull.sum(0)
        step = -np.linalg.solve(weight * curvature + pull.T @ pull, slope)
        gain = -slope @ step
        if gain < 0.1:
            break
        size = 1.0
        while not height(point + size * step) <= now - 0.1 * size * gain:
            size *= 0.5
            if size < 1e-10:
                return point
        point = point + size * step
        now = height(point)
    return point
