"""What a pilot's counts let expect after k samples of one arm: coverage, and distinct correct solutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import gammaln

from wcse_lib.forecast.bounds import coverage_bounds, shown
from wcse_lib.forecast.library import RATES
from wcse_lib.forecast.population import check_pilot, covered, posterior

LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
QUANTILE = stats.norm.ppf(TAILS[1])
COLUMNS = ["k", "value", "low", "high"]
BOUNDS = ["least", "most"]
N_DRAWS = 2000  # of populations
N_DRAWS_UNIQUE = 400  # distinct solutions take longer


def forecast_coverage(
    n, c, ks: Sequence[float], seed=0, n_problems=None, false_positives: tuple | None = None
) -> pd.DataFrame:
    """coverage@k to expect at every k of `ks` from a pilot's counts `n`, `c` [problems]: [k, value, low, high].

    `value` is the posterior mean over the library of populations; the interval carries the pilot's sampling error over
    problems and samples, and doubt about the kind of population. `n_problems`: for a study of that many new problems
    (wider), not for the population. `false_positives` (n_false, n_judged) discounts unsound samples, evenly over
    problems: too kind where they gather on hard ones. benchmarks/forecast_calibration.py measures how often intervals
    hold the truth; `with_bounds` adds what holds whatever the population is.
    """
    fit, rng = posterior(n, c), np.random.default_rng(seed)
    if n_problems is None and not false_positives:
        return _table(ks, [fit.coverage(k) for k in ks], fit.weight)
    sound = sound_part(false_positives, N_DRAWS, rng)
    draws = np.clip(covered(fit.drawn(N_DRAWS, rng), ks, sound), 0, 1)
    if n_problems is not None:
        draws = rng.binomial(n_problems, draws) / n_problems
    return _table(ks, draws)


def sound_part(false_positives: tuple | None, size: int, rng) -> np.ndarray | float:
    """Draws [size, 1] of the part of correct samples that is sound, after (n_false, n_judged); 1 where none was
    judged."""
    n_false, n_judged = false_positives or (0, 0)
    if not n_judged:
        return 1.0
    return 1 - rng.beta(n_false + 0.5, n_judged - n_false + 0.5, (size, 1))


def with_bounds(table: pd.DataFrame, n, c, n_problems: int | None = None) -> pd.DataFrame:
    """A forecast of coverage with `least` and `most`: 95 % bounds whatever the population is (see
    `coverage_bounds`); NaN up to k = 3 · mean n.

    Args: table: as `forecast_coverage` gives it, from these counts; n_problems: adds the luck of a study of so many.
    """
    far = table[[shown(n, k) for k in table["k"]]]
    bounds = coverage_bounds(n, c, far["k"])
    least, most = bounds["least"].to_numpy(), bounds["most"].to_numpy()
    if n_problems is not None:
        value = np.clip(far["value"], least, most).to_numpy()
        luck = QUANTILE * np.sqrt(value * (1 - value) / n_problems)
        least = np.maximum(value - np.hypot(value - least, luck), 0.0)
        most = np.minimum(value + np.hypot(most - value, luck), 1.0)
    return table.assign(least=pd.Series(least, far.index), most=pd.Series(most, far.index))


def summary(draws: np.ndarray, weight: np.ndarray | None = None) -> list[float]:
    """[mean, low, high] of one-dimensional, possibly weighted draws."""
    if weight is None:
        weight = np.full(len(draws), 1 / len(draws))
    order = np.argsort(draws)
    below = np.cumsum(weight[order]) - weight[order] / 2
    low, high = np.interp(TAILS, below, draws[order])
    return [float(weight @ draws), low, high]


def _table(ks, draws, weight=None) -> pd.DataFrame:
    table = pd.DataFrame([summary(part, weight) for part in draws], columns=COLUMNS[1:])
    table.insert(0, "k", list(ks))
    return table


# ------------------------------------------------------------------------------------------------ distinct solutions


def forecast_unique(
    n, c, groups: Sequence[Sequence[int]], ks: Sequence[int], seed=0, n_problems=None
) -> pd.DataFrame:
    """Distinct correct solutions among k samples, mean over all problems: [k, value, low, high].

    `groups`: for every problem how often each of its distinct correct solutions came (they add up to c). Distinct ones
    among t correct follow the two-parameter partition of Ewens and Pitman (Pitman 1995), one for all problems; t
    follows the coverage forecast. `n_problems`: as in `forecast_coverage`. ValueError when groups do not add up to c.
    """
    n, c = check_pilot(n, c)
    _check_groups(groups, c)
    # which partitions could have given the groups
    grid = np.meshgrid(np.linspace(0.02, 0.98, 25), np.geomspace(0.05, 200, 25))
    d, theta = (values.ravel() for values in grid)
    log_mass = _log_partition(d, theta, groups)
    mass = np.exp(log_mass - log_mass.max())
    # draws of populations and partitions
    rng = np.random.default_rng(seed)
    shares = posterior(n, c).drawn(N_DRAWS_UNIQUE, rng)
    chosen = rng.choice(len(d), N_DRAWS_UNIQUE, p=mass / mass.sum())
    mean, square = distinct_moments(d[chosen], theta[chosen], max(ks))
    draws = []
    for k in ks:
        n_correct = np.arange(k + 1)
        chance = shares @ stats.binom.pmf(n_correct, k, RATES[:, None])
        expected = (chance * mean[:, : k + 1]).sum(1)
        error = 0.0
        if n_problems:
            squared = (chance * square[:, : k + 1]).sum(1)
            error = np.sqrt((squared - expected**2) / n_problems)
        noise = rng.standard_normal(N_DRAWS_UNIQUE)
        draws.append(np.maximum(expected + error * noise, 0.0))
    return _table(ks, draws)


def _check_groups(groups: Sequence[Sequence[int]], c: np.ndarray) -> None:
    totals = [sum(sizes) for sizes in groups]
    smallest = [min(sizes) for sizes in groups if len(sizes)]
    if totals != list(c) or min(smallest, default=1) < 1:
        raise ValueError(
            "groups: one list per problem, of positive counts that add up to its correct samples"
        )


def _log_partition(d, theta, groups: Sequence[Sequence[int]]) -> np.ndarray:
    """log chance [points] that partitions (d, theta) [points] give these groups."""
    total = np.zeros(len(d))
    for sizes in groups:
        if not len(sizes):
            continue
        m = np.asarray(sizes)[:, None]
        later = np.arange(1, len(m))[:, None]
        new = np.log(theta + later * d).sum(0)
        again = gammaln(m - d) - gammaln(1 - d)
        every = gammaln(theta + m.sum()) - gammaln(theta + 1)
        total += new + again.sum(0)
        total -= every
    return total


def distinct_moments(d, theta, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square [draws, 0 … most] of how many distinct ones are among t: the next is new with a chance of
    (theta + d·distinct) / (theta + t)."""
    mean = np.zeros((len(d), most + 1))
    square = np.zeros_like(mean)
    for t in range(most):
        now, now_square = mean[:, t], square[:, t]
        new = theta + d * now
        more = theta * (2 * now + 1) + d * (2 * now_square + now)
        mean[:, t + 1] = now + new / (theta + t)
        square[:, t + 1] = now_square + more / (theta + t)
    return mean, square


# ------------------------------------------------------------------------------------------------ afterwards


def compare(forecast: pd.DataFrame, outcome: pd.DataFrame) -> pd.DataFrame:
    """Forecasts beside what then happened, one row per arm, budget and metric in both.

    Args: forecast: 01's table (arm, budget, k, metric, value, low, high, least, most, n); outcome: arm, budget, metric,
    outcome. Returns arm, budget, metric, k, value, low, high, least, most, n, outcome, inside (of low … high).
    """
    table = forecast.merge(outcome, on=["arm", "budget", "metric"], validate="one_to_one")
    columns = ["arm", "budget", "metric", *COLUMNS, *BOUNDS, "n", "outcome"]
    inside = table["outcome"].between(table["low"] - 1e-9, table["high"] + 1e-9)
    return table[columns].assign(inside=inside)
