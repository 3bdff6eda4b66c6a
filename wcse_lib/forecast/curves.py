"""What a pilot's counts let expect after k samples of one arm: coverage, and distinct correct solutions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy import stats
from scipy.special import gammaln

from wcse_lib.forecast.population import check_pilot, posterior

LEVEL = 0.95
TAILS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
COLUMNS = ["k", "value", "low", "high"]
N_DRAWS = 2000  # of populations
# distinct solutions take longer: fewer populations, and rates in each
N_DRAWS_UNIQUE, N_RATES_UNIQUE = 400, 48


def forecast_coverage(
    n, c, ks: Sequence[float], seed=0, n_problems=None, false_positives: tuple | None = None
) -> pd.DataFrame:
    """coverage@k to expect at every k of `ks` from a pilot's counts `n`, `c` [problems]: [k, value, low, high].

    `value` is the posterior mean; the interval carries the pilot's sampling error over problems and samples, and doubt
    about the kind of population. `n_problems`: for a study of that many new problems (wider), not for the population.
    `false_positives` (n_false, n_judged) discounts unsound samples, evenly over problems: too kind where they gather on
    hard ones. Nominal 95 % intervals from 50 × 8 hold the truth 93 to 98 % of times where rates are Beta-like down to 0
    or never solved; they lie too low where few rates are near 0: logit-normal 78 % at k = 100, two groups of rates 0.5
    and 0.02 even 15 % (benchmarks/forecast_calibration.py, 2,000 studies each).
    """
    fit, rng = posterior(n, c), np.random.default_rng(seed)
    if n_problems is None and not false_positives:
        return _table(ks, [fit.coverage(k) for k in ks], fit.weight)
    draws = covered(fit.rates(N_DRAWS, rng, false_positives), ks)
    if n_problems is not None:
        draws = rng.binomial(n_problems, draws) / n_problems
    return _table(ks, draws)


def covered(rates: np.ndarray, ks) -> np.ndarray:
    """coverage@k [ks, draws] of rates [draws, problems]."""
    missed = [((1 - rates) ** k).mean(1) for k in ks]
    return 1 - np.stack(missed)


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
    # draws of populations and partitions; scipy's pmf overflows nearer the ends of 0..1
    rng = np.random.default_rng(seed)
    rates = posterior(n, c).rates(N_DRAWS_UNIQUE, rng, None, N_RATES_UNIQUE)
    rates = np.clip(rates, 1e-9, 1 - 1e-9)
    chosen = rng.choice(len(d), N_DRAWS_UNIQUE, p=mass / mass.sum())
    mean, square = distinct_moments(d[chosen], theta[chosen], max(ks))
    draws = []
    for k in ks:
        n_correct = np.arange(k + 1)
        chance = stats.binom.pmf(n_correct, k, rates[..., None]).mean(1)
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

    Args: forecast: 01's table (arm, budget, k, metric, value, low, high, n); outcome: arm, budget, metric, outcome.
    Returns arm, budget, metric, k, value, low, high, n, outcome, inside.
    """
    table = forecast.merge(outcome, on=["arm", "budget", "metric"], validate="one_to_one")
    columns = ["arm", "budget", "metric", *COLUMNS, "n", "outcome"]
    inside = table["outcome"].between(table["low"] - 1e-9, table["high"] + 1e-9)
    return table[columns].assign(inside=inside)
