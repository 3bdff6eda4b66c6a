"""Populations of success rates that could have given a pilot's counts: a Bayesian fit, and a single best one.

A population is a Beta(a, b) of success rates, with or without a share `zero` of problems that are never solved. Fits
work on x, the logit of the Beta's mean a / (a + b), and y = log(a + b).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats
from scipy.special import betaincinv, betaln, expit

# Priors of x and y: normal, within a range; of zero: 2·(1 - zero).
X_PRIOR, X_RANGE = {"loc": 0.0, "scale": 2.5}, (-6.0, 6.0)
Y_PRIOR, Y_RANGE = {"loc": 0.7, "scale": 1.5}, (-3.0, 5.7)
P_ZERO = 0.6  # prior chance that some problems are never solved; with it intervals keep their level
N_POINTS, N_ZEROS = 21, 31  # a grid's points along x and y, and along zero
PEAK = 10  # log of how many times less likely than the peak a point may be to stay in the grid
ALPHA = 0.05  # of the test for problems that are never solved


def check_pilot(n, c) -> tuple[np.ndarray, np.ndarray]:
    """Samples and correct samples [problems] as whole numbers. Raises ValueError for counts that cannot be."""
    n, c = np.atleast_1d(n), np.atleast_1d(c)
    if n.ndim != 1 or n.shape != c.shape or len(n) < 2:
        raise ValueError(
            f"n, c of shapes {n.shape}, {c.shape}: one count per problem, of two or more problems, needed"
        )
    are_whole = (n == np.floor(n)) & (c == np.floor(c))
    if not (are_whole & (n >= 1) & (c >= 0) & (c <= n)).all():
        raise ValueError(
            "n, c: whole counts with n >= 1 and 0 <= c <= n are needed; drop problems without samples"
        )
    return n.astype(int), c.astype(int)


def places(n: int) -> np.ndarray:
    """The middles of n equal parts of 0..1 [n]."""
    return (np.arange(n) + 0.5) / n


# ------------------------------------------------------------------------------------------------ all that could be


@dataclass(frozen=True)
class Posterior:
    """Populations that could have given the pilot, as weighted points [points]."""

    x: np.ndarray
    y: np.ndarray
    zero: np.ndarray
    weight: np.ndarray

    def coverage(self, k: float) -> np.ndarray:
        """coverage@k of every point [points]; k may be a fraction."""
        a, b = _beta(self.x, self.y)
        return (1 - self.zero) * -np.expm1(_log_miss(a, b, k))

    def rates(self, size: int, rng, false_positives=None, n_rates: int = 128) -> np.ndarray:
        """Draws of populations [size, n_rates]: a row holds equally likely success rates, ascending; rates of sound
        solutions where `false_positives` (n_false, n_judged) are given."""
        chosen = rng.choice(len(self.x), size, p=self.weight)
        a, b = _beta(self.x[chosen, None], self.y[chosen, None])
        zero = self.zero[chosen, None]
        # the lowest rates are those of problems that are never solved
        place = (places(n_rates) - zero) / (1 - zero)
        rates = _quantiles(a, b, place)
        n_false, n_judged = false_positives or (0, 0)
        if not n_judged:
            return rates
        unsound = rng.beta(n_false + 0.5, n_judged - n_false + 0.5, (size, 1))
        return rates * (1 - unsound)


def posterior(n, c) -> Posterior:
    """Bayesian fit to pilot counts `n`, `c` [problems], on grids that zoom in; priors stand above.

    Raises ValueError for counts that cannot be, or fewer than two problems.
    """
    pairs, counts = _distinct_pairs(n, c)
    grids = [_grid(with_zero, pairs, counts) for with_zero in (False, True)]
    x, y, zero, log_mass = (np.concatenate(part) for part in zip(*grids))
    weight = np.exp(log_mass - log_mass.max())
    return Posterior(x, y, zero, weight / weight.sum())


def _distinct_pairs(n, c) -> tuple[np.ndarray, np.ndarray]:
    """The different (n, c) [pairs, 2], and how many problems have each [pairs]."""
    rows = np.stack(check_pilot(n, c), axis=1)
    return np.unique(rows, axis=0, return_counts=True)


def _grid(with_zero: bool, pairs, counts) -> list[np.ndarray]:
    """x, y, zero and log posterior mass [points], over the box that holds all but exp(-PEAK) of the peak."""
    n_cells = np.array([N_POINTS - 1, N_POINTS - 1, N_ZEROS if with_zero else 1])
    box = np.array([X_RANGE, Y_RANGE, (0.0, 1.0)])
    for _ in range(8):
        axes = [np.linspace(low, high, N_POINTS) for low, high in box[:2]]
        x, y = (values.ravel() for values in np.meshgrid(*axes, indexing="ij"))
        zero = np.zeros(1)
        if with_zero:
            low, high = box[2]
            zero = low + places(N_ZEROS) * (high - low)
        log_mass = _log_likelihood(_log_moments(x, y, pairs), zero, pairs, counts)
        if with_zero:
            log_mass = log_mass + np.log(2 - 2 * zero)
        log_prior = stats.norm.logpdf(x, **X_PRIOR) + stats.norm.logpdf(y, **Y_PRIOR)
        log_mass = log_mass + log_prior[:, None]
        # the next box holds what is near the peak, and a step around it
        is_near = log_mass > log_mass.max() - PEAK
        of_points, of_zeros = is_near.any(1), is_near.any(0)
        kept = (x[of_points], y[of_points], zero[of_zeros])
        size = np.ptp(box, axis=1)
        step = size / n_cells
        low = np.array([values.min() for values in kept]) - step
        high = np.array([values.max() for values in kept]) + step
        smaller = np.clip(np.stack([low, high], axis=1), box[:, :1], box[:, 1:])
        if np.prod(np.ptp(smaller, axis=1) / size) > 0.3:
            break
        box = smaller
    prior = P_ZERO if with_zero else 1 - P_ZERO
    log_mass = log_mass + np.log(prior * np.prod(step))
    columns = np.broadcast_arrays(x[:, None], y[:, None], zero, log_mass)
    return [column.ravel() for column in columns]


def _beta(x, y) -> tuple[np.ndarray, np.ndarray]:
    """a and b of the Beta with logit mean `x` and log(a + b) `y`."""
    size = np.exp(y)
    return expit(x) * size, expit(-x) * size


def _log_miss(a, b, n) -> np.ndarray:
    """log chance that n samples of a problem whose rate is Beta(a, b) are all wrong."""
    return betaln(a, b + n) - betaln(a, b)


def _quantiles(a, b, place) -> np.ndarray:
    """Quantiles of Beta(a, b) at `place`; 0 where that is at most 0."""
    rates = betaincinv(a, b, np.clip(place, 0, 1))
    return np.where(place > 0, rates, 0.0)


def _log_moments(x, y, pairs) -> np.ndarray:
    """log E[p^c (1-p)^(n-c)] of the Betas (x, y) [points] for pairs (n, c): [points, pairs]."""
    n, c = np.asarray(pairs, float).T
    a, b = _beta(x[:, None], y[:, None])
    return betaln(a + c, b + n - c) - betaln(a, b)


def _log_likelihood(log_moments, zero, pairs, counts) -> np.ndarray:
    """[points, zeros]; the share `zero` of problems that are never solved can only explain c = 0."""
    is_solved = pairs[:, 1] > 0
    n_solved = counts[is_solved]
    solved = (log_moments[:, is_solved] @ n_solved)[:, None]
    solved = solved + n_solved.sum() * np.log1p(-zero)
    unsolved = 0.0
    for j in np.flatnonzero(~is_solved):
        chance = zero + (1 - zero) * np.exp(log_moments[:, [j]])
        unsolved = unsolved + counts[j] * np.log(chance)
    return solved + unsolved


# ------------------------------------------------------------------------------------------------ the best one


@dataclass(frozen=True)
class Fit:
    """One population: Beta(a, b) success rates, and a share `zero` of problems that are never solved; `p_value`: of
    there being no such share (likelihood ratio, half a chi-square: Self and Liang 1987), NaN where not tested."""

    a: float
    b: float
    zero: float
    p_value: float = float("nan")

    def coverage(self, ks) -> np.ndarray:
        """coverage@k [ks]."""
        log_miss = _log_miss(self.a, self.b, np.asarray(ks, float))
        return (1 - self.zero) * -np.expm1(log_miss)

    def rates(self, n, c, n_rates: int = 64) -> np.ndarray:
        """What to believe of each problem's rate after c of n: ascending quantiles [problems, n_rates]."""
        n, c = np.reshape(n, (-1, 1)), np.reshape(c, (-1, 1))
        miss = (1 - self.zero) * np.exp(_log_miss(self.a, self.b, n))
        never = np.where(c == 0, self.zero / (self.zero + miss), 0.0)
        place = (places(n_rates) - never) / np.maximum(1 - never, 1e-9)
        return _quantiles(self.a + c, self.b + n - c, place)


def fit_pilot(n, c) -> Fit:
    """Maximum-likelihood beta-binomial of counts `n`, `c` [problems]; a share of never-solved problems is kept only
    where the likelihood-ratio test rejects its absence at ALPHA."""
    pairs, counts = _distinct_pairs(n, c)

    def loss(point):
        zero = expit(point[2:]) if len(point) > 2 else np.zeros(1)
        moments = _log_moments(point[:1], point[1:2], pairs)
        return -_log_likelihood(moments, zero, pairs, counts).item()

    plain, mixed = _minimise(loss, with_zero=False), _minimise(loss, with_zero=True)
    statistic = max(0.0, 2 * (plain.fun - mixed.fun))
    p_value = 0.5 * float(stats.chi2.sf(statistic, 1))
    return _fit_at(mixed.x if p_value < ALPHA else plain.x, p_value)


def fit_curve(ks, coverage) -> Fit:
    """Least-squares population of a published curve, coverage (shares) at `ks`; without never-solved problems (on a few
    rounded points such a share is mostly noise: with k = 1 to 4 of the paper's curves it spoils k = 30)."""
    ks, coverage = np.asarray(ks, float), np.asarray(coverage, float)
    fits = ks.shape == coverage.shape and len(ks) >= 2
    if not fits or not ((ks > 0) & (coverage > 0) & (coverage < 1)).all():
        raise ValueError(
            "fit_curve: two or more k > 0, each with a coverage between 0 and 1 (shares, not per cent)"
        )

    def loss(point):
        errors = _fit_at(point).coverage(ks) - coverage
        return 1e4 * (errors**2).sum()

    return _fit_at(_minimise(loss, with_zero=False).x)


def _fit_at(point, p_value=float("nan")) -> Fit:
    """The population at (x, y[, logit zero])."""
    a, b = _beta(point[0], point[1])
    zero = expit(point[2]) if len(point) > 2 else 0.0
    return Fit(float(a), float(b), float(zero), p_value)


def _minimise(loss: Callable, with_zero: bool) -> optimize.OptimizeResult:
    """The better of two runs from different starts, over (x, y[, logit zero])."""
    n = 3 if with_zero else 2
    bounds = [(-9, 9), (-4, 9), (-9, 9)][:n]
    runs = []
    for start in ((-1.5, 0.5, -2.0), (0.5, 0.5, -2.0)):
        runs.append(optimize.minimize(loss, start[:n], method="L-BFGS-B", bounds=bounds))
    return min(runs, key=lambda run: run.fun)
