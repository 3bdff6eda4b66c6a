"""Training luck: how far a student's accuracy moves with its seed, and intervals, p values and power that count it.

Students that differ in their training seed alone, each with what was drawn for that seed, differ in accuracy by more
than the test's problems explain. Two or three seeds say little of how much, so that the variance is pooled over all
groups of a study. That it is estimated still is carried on by its chi-square distribution (a generalised p value:
Weerahandi 1995), in interval and p alike. The power that 01 promises is that of the same p.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from wcse_lib.intervals import Estimate, bootstrap

CHANCES = (np.arange(200) + 0.5) / 200  # of the chi-square distribution of a variance
SIGHTS = (np.arange(40) + 0.5) / 40  # of the variances that a study may come to see
N_HALVINGS = 25  # of the range in which the smallest shown difference is looked for
TINY = 1e-18  # a variance


@dataclass(frozen=True)
class SeedLuck:
    """The variance of a student's mean score over training seeds, as shares (0.0001: a spread of one point).

    `variance` is that of the means as they were seen, and `noise` the part of it that chance on n problems adds; `df`
    is on how many degrees of freedom they rest: infinity where the variance is assumed, not seen.

    >>> assumed = SeedLuck(0.013**2)
    >>> round(assumed.sd, 4), assumed.is_assumed
    (0.013, True)
    """

    variance: float
    noise: float = 0.0
    df: float = np.inf

    @property
    def is_assumed(self) -> bool:
        return bool(np.isinf(self.df))

    @property
    def sd(self) -> float:
        """The spread over seeds, cleared of the noise."""
        return float(np.sqrt(max(0.0, self.variance - self.noise)))

    def times(self, weight: float) -> SeedLuck:
        """The luck of a difference, from that of one student: `weight` is the sum over its groups of 1 / students."""
        return SeedLuck(self.variance * weight, self.noise * weight, self.df)

    def plausible(self, chances) -> np.ndarray:
        """True variances, without noise, that the seen one allows, by their chance: arrays of one shape."""
        if self.is_assumed:
            return np.full(np.shape(chances), self.sd**2)
        scaled = self.variance * self.df / stats.chi2.ppf(chances, self.df)
        return np.maximum(0.0, scaled - self.noise)


def pooled_luck(tables: Sequence, draws: Sequence[Hashable] | None = None) -> SeedLuck | None:
    """The luck of one student, from groups of students that differ in their seeds alone; None where no group has two.

    Args: tables: of each group the scores [problem, seed], the same problems everywhere; draws: a label for each group.
    Groups with one label learn from the same samples, so that their luck is no independent sight of it: they are
    averaged, and count once in the degrees of freedom. Weights are the seeds less one.

    >>> scores = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 1, 0]])
    >>> luck = pooled_luck([scores])
    >>> round(luck.variance, 4), round(luck.noise, 4), luck.df
    (0.0833, 0.0556, 2)
    """
    labels = range(len(tables)) if draws is None else draws
    df_of: dict[Hashable, int] = {}
    variances, noises, weights = [], [], []
    for table, label in zip(tables, labels, strict=True):
        table = np.asarray(table, float)
        df = table.shape[1] - 1
        if df == 0:
            continue
        df_of[label] = max(df, df_of.get(label, 0))
        weights.append(df)
        variances.append(table.mean(0).var(ddof=1))
        noises.append(_noise(table))
    if not weights:
        return None
    variance = float(np.average(variances, weights=weights))
    noise = float(np.average(noises, weights=weights))
    return SeedLuck(variance, noise, sum(df_of.values()))


def _noise(table: np.ndarray) -> float:
    """Variance that chance on the problems adds to a seed's mean: the residual of a two-way analysis of variance."""
    n_problems, n_seeds = table.shape
    if n_problems == 1:  # nothing tells it from luck
        return 0.0
    residuals = table - table.mean(1, keepdims=True) - table.mean(0) + table.mean()
    mean_square = (residuals**2).sum() / ((n_problems - 1) * (n_seeds - 1))
    return mean_square / n_problems


def nested(values, luck: SeedLuck | None, n_boot=2000, seed=0, bounds=(-1.0, 1.0)) -> Estimate:
    """Mean of `values` [problem], means over seeds, where problems and seeds are both draws from more of their kind.

    `luck` is that of this mean (`SeedLuck.times`), None where it has none. `bounds`: the range of a value. Raises
    ValueError on NaN, no problems, values out of bounds.
    """
    if luck is None:
        return bootstrap(values, n_boot, seed, bounds)
    rng = np.random.default_rng([seed, 1])
    spread = np.sqrt(luck.plausible(rng.random(n_boot)))
    shift = spread * rng.standard_normal(n_boot)
    return bootstrap(values, n_boot, seed, bounds, shift)


def nested_p(values, luck: SeedLuck | None) -> float:
    """Two-sided p of no difference between means of problems `values` [problem], by the errors that `nested` counts.

    It is never below what flipping signs could give for so few problems that differ.
    """
    values = np.asarray(values, float)
    n_differ = np.count_nonzero(values)
    if n_differ == 0 or len(values) == 1:
        return 1.0
    by_luck = np.zeros(1) if luck is None else luck.plausible(CHANCES)
    p = p_of(values.mean(), standard_error(values) ** 2, by_luck, len(values))
    return float(max(p, 0.5 ** (n_differ - 1)))


def excluded(values, luck: SeedLuck | None, alpha=0.05) -> float:
    """The smallest difference that two one-sided tests at `alpha` exclude, in either direction.

    Errors are those of `nested_p`. It is how far the further end of the test's interval at 1 - 2 `alpha` lies from
    zero; never less than so few problems can miss. NaN for one problem. Schuirmann 1987.
    """
    values = np.asarray(values, float)
    if len(values) == 1:
        return float("nan")
    by_luck = np.zeros(1) if luck is None else luck.plausible(CHANCES)
    variance = standard_error(values) ** 2
    # between no reach at all and what the largest plausible error would ask for alone
    most = stats.t.isf(alpha, len(values) - 1) * np.sqrt(max(variance + by_luck.max(), TINY))

    def too_close(reach: float) -> float:
        return p_of(reach, variance, by_luck, len(values)) - 2 * alpha

    reach = optimize.brentq(too_close, 0.0, 1.001 * most)
    unseen = 1 - alpha ** (1 / len(values))
    return float(abs(values.mean()) + max(reach, unseen))


def standard_error(values) -> float:
    """Of the mean of `values` [problem]; NaN for one problem."""
    values = np.asarray(values, float)
    if len(values) == 1:
        return float("nan")
    return float(values.std(ddof=1) / np.sqrt(len(values)))


def p_of(difference, variance: float, by_luck: np.ndarray, n_problems: int) -> np.ndarray:
    """p of a mean difference over problems: the one test of 01 and 06.

    Args: difference: [...]; variance: of this mean, by the problems; by_luck: variances [..., chances] that luck may
    add, over which p is averaged (`SeedLuck.plausible`). A t distribution, since the problems' variance is estimated.
    """
    errors = np.sqrt(np.maximum(variance + by_luck, TINY))
    ratios = np.abs(np.asarray(difference, float))[..., None] / errors
    return 2 * special.stdtr(n_problems - 1, -ratios).mean(-1)


def power_of(
    effect: float, variance: float, luck: SeedLuck, n_problems: int, alpha: float
) -> float:
    """The chance that `p_of` falls below `alpha` where the true difference is `effect`.

    `variance` is the problems' part of the mean's, and `luck` what is expected of this difference's: its df say how far
    the pooled variance that a study sees will fall from that.
    """
    needed = _smallest_shown(variance, luck, n_problems, alpha)
    error = np.sqrt(max(variance + luck.sd**2, TINY))
    found = stats.norm.sf((needed - effect) / error) + stats.norm.cdf((-needed - effect) / error)
    return float(found.mean())


def _smallest_shown(variance: float, luck: SeedLuck, n_problems: int, alpha: float) -> np.ndarray:
    """The differences whose p is `alpha`, for each of the variances of luck that a study may come to see [sights]."""
    reach = stats.t.isf(alpha / 2, n_problems - 1)
    if luck.is_assumed:
        return reach * np.sqrt([variance + luck.sd**2])
    seen = luck.variance * stats.chi2.ppf(SIGHTS, luck.df) / luck.df
    sights = [SeedLuck(one, luck.noise, luck.df).plausible(CHANCES) for one in seen]
    by_luck = np.array(sights)
    # between what the smallest and the largest plausible error would ask for alone
    least = reach * np.sqrt(variance + by_luck.min(1))
    most = reach * np.sqrt(variance + by_luck.max(1))
    for _ in range(N_HALVINGS):
        middle = (least + most) / 2
        is_shown = p_of(middle, variance, by_luck, n_problems) < alpha
        most = np.where(is_shown, middle, most)
        least = np.where(is_shown, least, middle)
    return (least + most) / 2


def smallest_found(
    variance: float, luck: SeedLuck, n_problems: int, alpha=0.05, power=0.8
) -> float:
    """The true difference that the test finds with this power, errors as in `power_of`."""
    needed = _smallest_shown(variance, luck, n_problems, alpha)
    error = np.sqrt(max(variance + luck.sd**2, TINY))

    def missing(effect: float) -> float:
        return stats.norm.sf((needed - effect) / error).mean() - power

    return float(optimize.brentq(missing, 0.0, needed.max() + 10 * error))
