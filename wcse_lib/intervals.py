"""Uncertainty: arrays in, an estimate with the interval that holds it out; problems are the unit that is resampled.

The bootstrap here is Rubin's (1981): each problem gets an exponential weight instead of a whole number of copies. For
rates, half a pseudo-problem stands at each end of the scale, so that 0/1 data give Jeffreys' binomial interval, where
plain percentiles are [0, 0] when nothing was seen. Quantiles are widened as Student's t asks. When all problems agree
there is no spread to resample: the interval is then the exact binomial "rule of three". Nominal 95 % intervals cover
93 to 97 % in simulated studies of 50 to 300 problems, and more where data are few (some ten problems or correct
samples) or rates near 0 or 1, where plain percentiles fall to 78 %: read them as "at least 95 %".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from scipy import stats

LEVEL = 0.95  # of every interval
SHARES = ("%", "points")  # units whose values are shares, printed times 100


@dataclass(frozen=True)
class Estimate:
    """A number, the ends of its interval (NaN: the data do not tell), and what is needed to print it.

    `unit`: "%" of a share, "points" of a difference of shares (both are kept as shares and printed times 100), "count",
    or any other name. `n`: on how many problems or samples the number rests. Unpacks into value, low, high.

    >>> print(Estimate(0.4, 0.346, 0.456, n=300, unit="%"))
    40.0 % [34.6, 45.6], n = 300
    >>> Estimate(0.031, -0.01, 0.072, unit="points").text(interval=" ({low} to {high})")
    '+3.1 points (−1.0 to +7.2)'
    """

    value: float
    low: float
    high: float
    n: int | None = None
    unit: str = ""

    def __iter__(self) -> Iterator[float]:
        return iter((self.value, self.low, self.high))

    def __str__(self) -> str:
        return self.text()

    def text(
        self,
        signed: bool | None = None,
        decimals: int | None = None,
        with_unit: bool = True,
        with_n: bool = True,
        interval: str = " [{low}, {high}]",
    ) -> str:
        """The estimate in words, for a table's cell, a figure or a sentence; every other formatter's rules are here.

        `signed`: whether positive numbers show their sign (by default differences in points do). `decimals`: by default
        1 for shares, 2 for other units (none from 100 on), for counts none where they are whole. `interval`: its form,
        "" for none; counts and unknown ends show none.
        """
        value, low, high = (self._shown(number, signed, decimals) for number in self)
        if with_unit and self.unit not in ("", "count"):
            value += f" {self.unit}"
        if self.unit != "count" and not np.isnan(self.low):
            value += interval.format(low=low, high=high)
        if with_n and self.n is not None:
            value += f", n = {self.n:,}"
        return value

    def _shown(self, number: float, signed: bool | None, decimals: int | None) -> str:
        """One number in this estimate's unit, with a real minus sign; see `text`."""
        if signed is None:
            signed = self.unit == "points"
        sign = "+z" if signed else "z"  # z: what rounds to zero has no minus
        if self.unit in SHARES:
            text = f"{100 * number:{sign}.{1 if decimals is None else decimals}f}"
        elif self.unit == "count":
            is_whole = self.value % 1 == 0
            text = f"{number:{sign},.{0 if is_whole else 1}f}"
        else:
            if decimals is None:
                decimals = 2 if abs(self.value) < 100 else 0
            text = f"{number:{sign},.{decimals}f}"
        return text.replace("-", "−")


# ------------------------------------------------------------------------------------------------ one group of problems


def rate_of_problems(values, seed=0) -> Estimate:
    """Mean over problems of a share per problem, `values` [n] in 0..1: the one rule for every rate of problems.

    Wilson's interval where each problem is solved or not (0/1 values), else the bootstrap over problems. In "%", with
    its n. Raises ValueError on NaN, no problems.
    """
    values = _table(values=values)[:, 0]
    if np.isin(values, (0, 1)).all():
        return wilson(int(values.sum()), len(values))
    estimate = bootstrap(values, seed=seed)
    return replace(estimate, n=len(values), unit="%")


def wilson(successes: int, trials: int) -> Estimate:
    """Wilson's score interval of a rate from independent trials, in "%"; no trials: (NaN, 0, 1). Wilson 1927."""
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie between 0 and trials, not {successes} of {trials}")
    if trials == 0:
        return Estimate(np.nan, 0.0, 1.0, n=0, unit="%")
    ends = stats.binomtest(successes, trials).proportion_ci(LEVEL, "wilson")
    return Estimate(successes / trials, float(ends.low), float(ends.high), n=trials, unit="%")


def bootstrap(values, n_boot=2000, seed=0, bounds=None, shift=0.0) -> Estimate:
    """Mean of `values` [n] over problems.

    `bounds` is a value's possible range: (0, 1) by default when the values lie in it, unless all are above 0 and small
    (< 0.1); else none. Pass (-inf, inf) for quantities such as USD. `shift`: noise [n_boot] from elsewhere than the
    problems, see `luck.nested`. Raises ValueError on NaN, no rows, values outside.
    """
    bounds = bounds or _range(values)
    return ratio(values, np.ones(np.shape(values)), n_boot, seed, bounds=bounds, shift=shift)


def ratio(
    numerators, denominators, n_boot=2000, seed=0, clusters=None, bounds=None, shift=0.0
) -> Estimate:
    """Sum of `numerators` [n] over sum of `denominators` [n], such as false positives over kept samples per problem.

    Rows with one label of `clusters` [n] are drawn together. Rows with denominator 0 say nothing and are left out; when
    that is all of them the value is NaN and the interval is `bounds`: the ratio's possible range, (0, 1) by default
    when no numerator exceeds its denominator, else none. Raises ValueError on NaN, unequal lengths, negative
    denominators, values out of `bounds`.
    """
    table = _table(clusters, numerators=numerators, denominators=denominators)
    if (table[:, 1] < 0).any() or table[table[:, 1] == 0, 0].any():
        raise ValueError("a denominator is negative, or 0 under a numerator that is not")
    table = table[table[:, 1] > 0]
    x, w = table.T
    if bounds is None:
        is_share = ((x >= 0) & (x <= w)).all()
        bounds = (0.0, 1.0) if is_share else (-np.inf, np.inf)
    low, high = bounds
    if (x < low * w - 1e-9).any() or (x > high * w + 1e-9).any():
        raise ValueError(
            f"values lie outside bounds ({low}, {high}): give the range that the quantity can have"
        )
    size = _mean_size(w)
    ends = [(low * size, size), (high * size, size)]
    return _interval(table, _ratio, ends, (low, high), n_boot, seed, shift)


def share_with_variance(value: float, variance: float, careful: float, n_free: int) -> Estimate:
    """The interval of a share that was estimated with this variance: Jeffreys' for the number of independent draws that
    would have it, fewer as Student's t with `n_free` degrees of freedom asks. Korn & Graubard 1998.

    `careful`: the share by which variance becomes a number of draws, away from 0 and 1. In "%".
    """
    wider = stats.t.isf((1 - LEVEL) / 2, n_free) / stats.norm.isf((1 - LEVEL) / 2)
    n = careful * (1 - careful) / (variance * wider**2)
    ends = stats.beta.ppf(
        [(1 - LEVEL) / 2, (1 + LEVEL) / 2], value * n + 0.5, (1 - value) * n + 0.5
    )
    low, high = min(ends[0], value), max(ends[1], value)
    return Estimate(value, float(low), float(high), unit="%")


# ------------------------------------------------------------------------------------------------ differences


def paired_ratio_difference(a, b, n_boot=2000, seed=0, bounds=(0.0, 1.0), level=LEVEL) -> Estimate:
    """Ratio of `a` minus ratio of `b`, each a pair (numerators [n], denominators [n]) as in `ratio`, same problems.

    A problem may have denominator 0 in one arm; an arm that has no other makes the value NaN and the interval as wide
    as can be. `bounds` is the range of either ratio, `level` that of the interval: at 0.9 it holds what two one-sided
    tests at 5 % do not exclude.
    """
    columns = {"numerators_a": a[0], "denominators_a": a[1]}
    columns |= {"numerators_b": b[0], "denominators_b": b[1]}
    table = _table(**columns)
    table = table[(table[:, [1, 3]] > 0).any(1)]
    n = int((table[:, [1, 3]] > 0).sum(0).min())
    low, high = bounds
    size_a, size_b = _mean_size(table[:, 1]), _mean_size(table[:, 3])
    least = (low * size_a, size_a, high * size_b, size_b)
    most = (high * size_a, size_a, low * size_b, size_b)
    limits = (low - high, high - low)
    return _interval(
        table, _ratio_difference, [least, most], limits, n_boot, seed, n=n, level=level
    )


def unpaired_difference(a, b, n_boot=2000, seed=0) -> Estimate:
    """Mean of `a` [n] minus mean of `b` [m] over different problems, from their two intervals (Newcombe's MOVER)."""
    bounds = _range([*a, *b])
    first = bootstrap(a, n_boot, seed, bounds)
    second = bootstrap(b, n_boot, seed + 1, bounds)
    value = first.value - second.value
    below = np.hypot(first.value - first.low, second.high - second.value)
    above = np.hypot(first.high - first.value, second.value - second.low)
    return Estimate(value, value - below, value + above)


def mcnemar(a, b) -> tuple[int, int, float]:
    """(problems only `a` solves, problems only `b` solves, exact two-sided p) from solved-or-not arrays [n]."""
    a, b = _table(a=a, b=b).T
    if not np.isin([a, b], (0, 1)).all():
        raise ValueError(
            "mcnemar takes solved or not per problem (0/1); for means over samples use paired_p"
        )
    only_a, only_b = int((a > b).sum()), int((a < b).sum())
    return only_a, only_b, paired_p(a, b)


def paired_p(a, b, n_draws=20_000, seed=0) -> float:
    """Two-sided p of no difference between paired `a`, `b` [n], by flipping each difference's sign at random; exact
    where all non-zero differences have one size (0/1 data: McNemar's exact test)."""
    a, b = _table(a=a, b=b).T
    difference = np.round(a - b, 12)
    difference = difference[difference != 0]
    sizes, counts = np.unique(np.abs(difference), return_counts=True)
    if len(sizes) == 0:
        return 1.0
    if len(sizes) == 1:
        n_up = int((difference > 0).sum())
        return float(stats.binomtest(n_up, len(difference)).pvalue)
    rng = np.random.default_rng(seed)
    sums = np.zeros(n_draws)
    for size, count in zip(sizes, counts):
        n_up = rng.binomial(count, 0.5, n_draws)
        sums = sums + size * (2 * n_up - count)
    n_extreme = (np.abs(sums) >= abs(difference.sum()) - 1e-9).sum()
    return float((1 + n_extreme) / (1 + n_draws))


def paired_ratio_p(a, b, n_draws=20_000, seed=0) -> float:
    """Two-sided p of no difference between paired ratios `a` and `b`, as in `paired_ratio_difference`.

    The signs of each problem's contribution to the difference are flipped at random, as in `paired_p`, which this is
    where all denominators are 1. A ratio without any denominator says nothing: 1.
    """
    columns = {"numerators_a": a[0], "denominators_a": a[1]}
    columns |= {"numerators_b": b[0], "denominators_b": b[1]}
    table = _table(**columns)
    total_a, size_a, total_b, size_b = table.sum(0)
    if not (size_a and size_b):
        return 1.0
    # Were both ratios the common one, each side's sum of these would be 0.
    common = (total_a + total_b) / (size_a + size_b)
    excess_a = table[:, 0] - common * table[:, 1]
    excess_b = (table[:, 2] - common * table[:, 3]) * size_a / size_b
    return paired_p(excess_a, excess_b, n_draws, seed)


def holm(p_values) -> np.ndarray:
    """Holm's adjusted p values [m], in the order given: rejecting those <= alpha errs in at most alpha of tables.

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, float)
    if not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"p values must lie between 0 and 1, not {p_values}")
    order = np.argsort(p)
    scaled = p[order] * np.arange(len(p), 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(scaled), 1.0)
    return adjusted[np.argsort(order)]


# ------------------------------------------------------------------------------------------------ resampling


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[..., 0] / sums[..., 1]


def _ratio_difference(sums: np.ndarray) -> np.ndarray:
    return _ratio(sums) - _ratio(sums[..., 2:])


def _interval(
    table, statistic, ends, limits, n_boot, seed, shift=0.0, n=None, level=LEVEL
) -> Estimate:
    """The estimate of `statistic`, which maps sums of rows [..., columns] to numbers, with its bootstrap interval.

    Args: table: rows [n, columns]; ends: the rows at the ends of the scale; limits: the statistic's range; shift: noise
    [n_boot] from elsewhere; n: how many rows count, where these are not all; level: of the interval.
    """
    if n_boot < 1:
        raise ValueError(f"n_boot must be at least 1, not {n_boot}")
    n = len(table) if n is None else n
    bounded = np.isfinite(limits).all()
    if n == 0:
        low, high = limits if bounded else (np.nan, np.nan)
        return Estimate(np.nan, low, high)
    value = float(statistic(table.sum(0)))
    if n == 1 or (_rows_agree(table, statistic, value) and not np.any(shift)):
        return _without_spread(value, n, limits, level)
    rng = np.random.default_rng(seed)
    draws = _draws(table, statistic, ends if bounded else [], n_boot, rng) + shift
    low, high = np.quantile(draws, _tails(n, level, bounded))
    least, most = limits
    low = max(min(low, value), least)
    high = min(max(high, value), most)
    return Estimate(value, float(low), float(high))


def _rows_agree(table, statistic, value: float) -> bool:
    """Whether leaving any one row out leaves the statistic as it is."""
    with np.errstate(invalid="ignore", divide="ignore"):
        without_one = statistic(table.sum(0) - table)
    return np.allclose(without_one, value, rtol=1e-12, atol=1e-12)


def _without_spread(value: float, n: int, limits, level: float) -> Estimate:
    """The exact binomial "rule of three": how far the truth can be from what n equal rows show."""
    least, most = limits
    unseen = np.nan  # the largest share that n draws can miss
    if np.isfinite(limits).all():
        unseen = 1 - ((1 - level) / 2) ** (1 / n)
    low = value - unseen * (value - least)
    high = value + unseen * (most - value)
    return Estimate(value, float(low), float(high))


def _draws(table, statistic, ends, n_boot, rng) -> np.ndarray:
    """The statistic [n_boot] under random weights of the rows, and of half a row at each of the `ends`."""
    # equal rows share a gamma weight: that is fast, and no order matters
    rows, weights = np.unique(table, axis=0, return_counts=True)
    rows = np.vstack([rows, *ends])
    weights = np.r_[weights, [0.5] * len(ends)]
    # blocks keep memory small
    most = max(1, 2_000_000 // len(rows))
    blocks = []
    for done in range(0, n_boot, most):
        size = min(most, n_boot - done)
        drawn = rng.standard_gamma(weights, (size, len(rows)))
        blocks.append(statistic(drawn @ rows))
    return np.concatenate(blocks)


def _tails(n: int, level: float, has_ends: bool) -> np.ndarray:
    """Quantiles of the bootstrap over n rows that give a t interval for normal data (Hesterberg 2015)."""
    reach = stats.t.isf((1 - level) / 2, n - 1)
    # the bootstrap's spread is too small by this factor, which ends make up for
    if not has_ends:
        reach *= np.sqrt((n + 1) / (n - 1))
    return stats.norm.cdf([-reach, reach])


def _mean_size(denominators: np.ndarray) -> float:
    """Of the problems that have one: what half a problem at an end of the scale is half of."""
    sizes = denominators[denominators > 0]
    return float(sizes.mean()) if len(sizes) else 0.0


def _range(values) -> tuple[float, float]:
    """(0, 1) for what looks like a rate, else no bounds."""
    least, most = np.min(values), np.max(values)
    is_share = 0 <= least and most <= 1
    if is_share and (least == 0 or most >= 0.1):
        return 0.0, 1.0
    return -np.inf, np.inf


def _table(clusters=None, **columns) -> np.ndarray:
    """Checked columns side by side [n, columns]; summed within clusters where labels are given."""
    arrays = {name: np.asarray(column, float) for name, column in columns.items()}
    for name, array in arrays.items():
        if array.ndim != 1 or not array.size or not np.isfinite(array).all():
            raise ValueError(
                f"{name} must be a non-empty array of finite numbers: drop or count missing ones first"
            )
    lengths = [len(array) for array in arrays.values()]
    codes = np.arange(lengths[0])
    if clusters is not None:
        codes = np.unique(clusters, return_inverse=True)[1]
    if set(lengths) != {len(codes)}:
        raise ValueError(
            f"{', '.join(columns)} or clusters differ in length, {lengths}: join them by problem_id first"
        )
    return np.column_stack([np.bincount(codes, array) for array in arrays.values()])
