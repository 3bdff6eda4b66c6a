"""Do 95 % intervals hold the truth 95 times in 100, and how wide are they, where data are few or rates extreme?

    python benchmarks/coverage_of_intervals.py [--studies 200]

Each problem has a success rate from a population: normal on the logit scale, or some kinds of problems. A study draws
problems of it and samples of them, and all rates of a study are moved by the same amount, so that studies differ in
their truth: counts of few problems hold one and the same truth too often or too seldom. A cell of the table is the
share of studies, in %, whose interval holds the mean of the population, and the mean width in points. Ends and truth
are compared to 0.05 points, as they are printed.

Rules: `kit`; `factor`: the kit's with Hesterberg's (2015) factor beside Student's t, which it had before; `plain`: the
kit's by plain percentiles, which for 0/1 data is Jeffreys' interval; `t`: Student's; `bca`: Efron's (1987) bootstrap;
`logit`: Student's t on the logit scale; `wilson` and `beta`: Wilson's (1927) and Jeffreys' intervals of the number of
independent draws that would have this variance, fewer as t asks (Korn & Graubard 1998, Dean & Pagano 2015); `mover`: a
difference by the beta intervals of its two rates and their correlation (Newcombe 1998, Zou & Donner 2008). The second
table needs no simulation: the least share held, and the mean, by 0/1 data of each rate from 0.01 to 0.99.
"""

import argparse
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

from wcse_lib import intervals, metrics

SIZES = (10, 20, 30)
GRID = (np.arange(400) + 0.5) / 400  # chances at which a population is integrated
COARSE = special.ndtri((np.arange(60) + 0.5) / 60)  # normal quantiles, for two dimensions
AS_PRINTED = 0.0005
TINY = 1e-12
Z = stats.norm.isf(0.025)
N_DRAWS = 2000


class Rates(NamedTuple):
    """Numerators and denominators [studies, problems] of one rate, and its truth [studies]."""

    part: np.ndarray
    whole: np.ndarray
    truth: np.ndarray


# ------------------------------------------------------------------------------------------------ populations


def spread(middle: float, sd: float) -> Callable:
    """Logits that are normal."""
    return lambda chances: middle + sd * special.ndtri(chances)


def kinds(*shares_and_rates: tuple[float, float]) -> Callable:
    """Logits of some kinds of problems, by the share of each."""
    shares, rates = np.array(shares_and_rates).T
    logits = special.logit(rates)
    last = len(rates) - 1
    return lambda chances: logits[np.minimum(np.searchsorted(shares.cumsum(), chances), last)]


POPULATIONS = {
    "wide": spread(-1, 2),
    "narrow": spread(-0.9, 0.5),
    "two kinds": kinds((0.5, 0.9), (0.5, 0.05)),
    "zeros": kinds((0.3, 0.0), (0.4, 0.2), (0.3, 0.8)),
    "hard": spread(-4, 1.5),
    "easy": spread(2.3, 0.7),
    "easy, few hard": kinds((0.1, 0.1), (0.9, 0.95)),
}
# (samples of a problem, k): one answer, pass@1 of ten samples, coverage near 1, all samples that there are
DESIGNS = ((1, 1), (10, 1), (30, 10), (10, 10))
PAIRS = {"middle": (-1, 0.5, 1.5, 0.7), "easy": (2.2, 0.5, 1.5, 0.7), "hard": (-3, 0.0, 1.5, 0.5)}
# (samples of a problem, middle logit of being correct): few correct ones, few of many, many
JUDGED = ((1, -1), (10, -2), (10, 1))
JUDGED_PAIRS = ((1, 3, -1), (4, 10, -2), (10, 10, 1))
FLAWED = (0.03, 0.4)


def moves(rng, n_studies: int) -> np.ndarray:
    """By how much the logits of each study [studies, 1] are moved."""
    return rng.uniform(-0.5, 0.5, (n_studies, 1))


def coverage(rng, rates: np.ndarray, at_grid: np.ndarray, n_samples: int, k: int) -> Rates:
    """coverage@k of problems with these success rates; at_grid: rates of the population [studies, grid]."""
    correct = rng.binomial(n_samples, rates)
    drawn = np.full(correct.size, n_samples)
    covered = metrics.coverage_per_problem(drawn, correct.ravel(), k).reshape(correct.shape)
    truth = (1 - (1 - at_grid) ** k).mean(1)
    return Rates(covered, np.ones(correct.shape), truth)


def one_rate(rng, n_studies: int, n: int, population: Callable, n_samples: int, k: int) -> Rates:
    moved = moves(rng, n_studies)
    rates = special.expit(population(rng.random((n_studies, n))) + moved)
    return coverage(rng, rates, special.expit(population(GRID) + moved), n_samples, k)


def paired_rates(rng, n_studies, n, middle, gap, sd, correlation, n_samples, k) -> list[Rates]:
    """Two arms or students on the same problems, whose logits are correlated."""
    moved, shared = moves(rng, n_studies), rng.normal(size=(n_studies, n))
    own = rng.normal(size=(n_studies, n))
    other = correlation * shared + np.sqrt(1 - correlation**2) * own
    sides = []
    for centre, scores in ((middle, shared), (middle + gap, other)):
        at_grid = special.expit(spread(centre, sd)(GRID) + moved)
        rates = special.expit(centre + sd * scores + moved)
        sides.append(coverage(rng, rates, at_grid, n_samples, k))
    return sides


def flawed(rng, scores, moved, n_samples: int, middle: float, rate: float) -> Rates:
    """False positives among correct samples: hard problems have more, and each has a rate of its own."""

    def chance_correct(score):
        return special.expit(middle + 1.5 * score)

    def chance_flawed(score, own):
        return special.expit(special.logit(rate) + moved - 0.5 * score + own)

    correct = rng.binomial(n_samples, chance_correct(scores))
    false = rng.binomial(correct, chance_flawed(scores, rng.normal(size=scores.shape)))
    score, own = (axis.ravel() for axis in np.meshgrid(COARSE, COARSE))
    weights = chance_correct(score)
    truth = chance_flawed(score, own) @ weights / weights.sum()
    return Rates(false.astype(float), correct.astype(float), truth)


def worlds(rng, n_studies: int):
    """(name, sides): the rate, or the two that are subtracted."""
    for n in SIZES:
        for name, population in POPULATIONS.items():
            for n_samples, k in DESIGNS:
                rate = one_rate(rng, n_studies, n, population, n_samples, k)
                yield f"coverage@{k} of {n_samples}, {name}, n = {n}", [rate]
    for n in (*SIZES, 100):
        for n_samples, middle in JUDGED:
            for rate in FLAWED:
                scores, moved = rng.normal(size=(n_studies, n)), moves(rng, n_studies)
                side = flawed(rng, scores, moved, n_samples, middle, rate)
                n_correct = side.whole.sum(1).mean()
                yield f"false positives {rate}, {n_correct:.0f} correct, n = {n}", [side]
    for n in SIZES:
        for name, arms in PAIRS.items():
            for n_samples, k in DESIGNS[:3]:
                sides = paired_rates(rng, n_studies, n, *arms, n_samples, k)
                yield f"difference, coverage@{k} of {n_samples}, {name}, n = {n}", sides
    for n in (*SIZES, 100):
        for few, many, middle in JUDGED_PAIRS:
            for rate in FLAWED:
                scores, moved = rng.normal(size=(n_studies, n)), moves(rng, n_studies)
                first = flawed(rng, scores, moved, few, middle, rate)
                second = flawed(rng, scores, moved, many, middle + 0.3, 1.5 * rate)
                counts = [f"{side.whole.sum(1).mean():.0f}" for side in (first, second)]
                name = f"difference, false positives {rate}, {' and '.join(counts)} correct"
                yield f"{name}, n = {n}", [first, second]


# ------------------------------------------------------------------------------------------------ rules


def kit(sides: list[Rates]) -> np.ndarray:
    """The kit's ends [2, studies]."""
    ends = []
    for i in range(len(sides[0].truth)):
        pairs = [(side.part[i], side.whole[i]) for side in sides]
        if len(pairs) == 1:
            estimate = intervals.ratio(*pairs[0], N_DRAWS, i, bounds=(0, 1))
        else:
            estimate = intervals.paired_ratio_difference(*pairs, N_DRAWS, i)
        ends.append((estimate.low, estimate.high))
    return np.array(ends).T


class Moments(NamedTuple):
    """Of one rate, or difference, by study: problems that count, value, what each adds to its error, variance, t."""

    n: np.ndarray
    value: np.ndarray
    errors: np.ndarray
    variance: np.ndarray
    reach: np.ndarray


def moments(side: Rates) -> Moments:
    n, size = (side.whole > 0).sum(1), side.whole.sum(1)
    value = np.divide(side.part.sum(1), size, out=np.full(len(size), 0.5), where=size > 0)
    errors = (side.part - value[:, None] * side.whole) / np.maximum(size, 1)[:, None]
    variance = (errors**2).sum(1) * n / np.maximum(n - 1, 1)
    return Moments(n, value, errors, variance, stats.t.isf(0.025, np.maximum(n - 1, 1)))


def guarded(of: Moments, low, high, limits=(0.0, 1.0)) -> np.ndarray:
    """Within the limits; where all problems agree the kit's rule of three."""
    least, most = limits
    unseen = 1 - 0.025 ** (1 / np.maximum(of.n, 1))
    agree = (of.variance < TINY) | (of.n < 2)
    low = np.where(agree, of.value - unseen * (of.value - least), np.fmin(low, of.value))
    high = np.where(agree, of.value + unseen * (most - of.value), np.fmax(high, of.value))
    return np.clip([np.where(of.n, low, least), np.where(of.n, high, most)], least, most)


def limits_of(sides: list[Rates]) -> tuple[float, float]:
    return (0.0, 1.0) if len(sides) == 1 else (-1.0, 1.0)


def moments_of(sides: list[Rates]) -> Moments:
    """Of the rate, or of the difference."""
    of = moments(sides[0])
    if len(sides) == 1:
        return of
    other = moments(sides[1])
    n, errors = np.minimum(of.n, other.n), of.errors - other.errors
    variance = (errors**2).sum(1) * n / np.maximum(n - 1, 1)
    reach = stats.t.isf(0.025, np.maximum(n - 1, 1))
    return Moments(n, of.value - other.value, errors, variance, reach)


def students_t(sides: list[Rates]) -> np.ndarray:
    of = moments_of(sides)
    half = of.reach * np.sqrt(of.variance)
    return guarded(of, of.value - half, of.value + half, limits_of(sides))


def weighted(sides: list[Rates], weights: np.ndarray) -> np.ndarray:
    """The rate, or difference [draws, studies], with weights [draws, problems]."""
    with np.errstate(invalid="ignore"):
        values = [(weights @ side.part.T) / (weights @ side.whole.T) for side in sides]
    return values[0] if len(sides) == 1 else values[0] - values[1]


def with_ends(sides: list[Rates]) -> list[Rates]:
    """Two problems more, of mean size, all wrong or all right (in the second of two sides the other way round)."""
    added = []
    for side, right in zip(sides, ([0, 1], [1, 0])):
        size = side.whole.sum(1) / np.maximum((side.whole > 0).sum(1), 1)
        part = np.c_[side.part, size[:, None] * right]
        added.append(Rates(part, np.c_[side.whole, size, size], side.truth))
    return added


def jeffreys(sides: list[Rates], has_factor: bool) -> np.ndarray:
    """The kit's draws, by weights that all studies share, at plain percentiles or at t's and Hesterberg's factor."""
    rng, of = np.random.default_rng(1), moments_of(sides)
    n_problems = sides[0].part.shape[1]
    shapes = [1.0] * n_problems + [0.5] * 2
    draws = weighted(with_ends(sides), rng.standard_gamma(shapes, (2 * N_DRAWS, n_problems + 2)))
    reach = np.full(len(of.n), Z)
    if has_factor:
        reach = of.reach * np.sqrt((of.n + 1) / np.maximum(of.n - 1, 1))
    return guarded(of, *quantiles(draws, stats.norm.cdf([-reach, reach])), limits_of(sides))


def quantiles(draws: np.ndarray, chances: np.ndarray) -> np.ndarray:
    """Of draws [draws, studies] at chances [2, studies]."""
    places = np.rint(chances * (len(draws) - 1)).astype(int)
    return np.take_along_axis(np.sort(draws, axis=0), places, axis=0)


def inner(value: np.ndarray) -> np.ndarray:
    return np.clip(value, 1e-9, 1 - 1e-9)


def on_logits(sides: list[Rates]) -> np.ndarray:
    of = moments(sides[0])
    value = inner(of.value)
    half = of.reach * np.sqrt(of.variance) / (value * (1 - value))
    middle = special.logit(value)
    return guarded(of, special.expit(middle - half), special.expit(middle + half))


def independent_draws(of: Moments) -> np.ndarray:
    """How many independent draws would have this variance, fewer as t asks."""
    value = inner(of.value)
    return value * (1 - value) / np.maximum(of.variance, TINY) * (Z / of.reach) ** 2


def beta(sides: list[Rates]) -> np.ndarray:
    of = moments(sides[0])
    n = independent_draws(of)
    shape = of.value * n + 0.5, (1 - of.value) * n + 0.5
    return guarded(of, stats.beta.ppf(0.025, *shape), stats.beta.ppf(0.975, *shape))


def wilson(sides: list[Rates]) -> np.ndarray:
    of = moments(sides[0])
    n = independent_draws(of)
    middle = (of.value * n + Z**2 / 2) / (n + Z**2)
    half = Z / (n + Z**2) * np.sqrt(of.value * (1 - of.value) * n + Z**2 / 4)
    return guarded(of, middle - half, middle + half)


def mover(sides: list[Rates]) -> np.ndarray:
    first, second = (moments(side) for side in sides)
    (low_a, high_a), (low_b, high_b) = (beta([side]) for side in sides)
    a, b = first.value, second.value
    sizes = np.sqrt((first.errors**2).sum(1) * (second.errors**2).sum(1))
    correlation = (first.errors * second.errors).sum(1) / np.maximum(sizes, TINY)

    def reach(of_a, of_b):
        return np.sqrt(np.maximum(0, of_a**2 + of_b**2 - 2 * correlation * of_a * of_b))

    return np.array([a - b - reach(a - low_a, high_b - b), a - b + reach(high_a - a, b - low_b)])


def bca(sides: list[Rates]) -> np.ndarray:
    of, n = moments_of(sides), sides[0].part.shape[1]
    counts = np.random.default_rng(1).multinomial(n, np.full(n, 1 / n), 2 * N_DRAWS)
    draws = weighted(sides, counts)
    draws = np.where(np.isnan(draws), of.value, draws)
    below = (draws < of.value).mean(0) + (draws == of.value).mean(0) / 2
    bias = special.ndtri(np.clip(below, 1 / len(draws), 1 - 1 / len(draws)))
    without_one = weighted(sides, 1.0 - np.eye(n))
    skew = without_one.mean(0) - without_one
    with np.errstate(invalid="ignore"):
        speed = np.nan_to_num((skew**3).sum(0) / (6 * (skew**2).sum(0) ** 1.5))
    moved = bias + np.array([[-Z], [Z]])
    chances = special.ndtr(bias + moved / (1 - speed * moved))
    return guarded(of, *quantiles(draws, chances), limits_of(sides))


OF_ALL = {
    "kit": kit,
    "factor": lambda sides: jeffreys(sides, has_factor=True),
    "plain": lambda sides: jeffreys(sides, has_factor=False),
    "t": students_t,
    "bca": bca,
}
OF_RATES = OF_ALL | {"logit": on_logits, "wilson": wilson, "beta": beta}
OF_DIFFERENCES = OF_ALL | {"mover": mover}


# ------------------------------------------------------------------------------------------------ tables


def held(ends: np.ndarray, truth: np.ndarray) -> float:
    low, high = ends
    return 100 * np.mean((low - AS_PRINTED <= truth) & (truth <= high + AS_PRINTED))


def simulated(n_studies: int) -> None:
    rows: dict[str, dict[str, list]] = {}
    for name, sides in worlds(np.random.default_rng(0), n_studies):
        truth = sides[0].truth
        rules = OF_RATES
        if len(sides) == 2:
            truth, rules = truth - sides[1].truth, OF_DIFFERENCES
        print(f"{name:62} truth {100 * truth.mean():5.1f}", end="")
        group = rows.setdefault(name.rsplit(" ", 1)[1] + " " + name.split(",")[0].split("@")[0], {})
        for rule, of in rules.items():
            ends = of(sides)
            share, width = held(ends, truth), 100 * (ends[1] - ends[0]).mean()
            print(f"  {rule} {share:.1f} ({width:.1f})", end="")
            group.setdefault(rule, []).append((share, width))
        print(flush=True)
    print("\nleast, mean and most held, and mean width")
    for name, rules in rows.items():
        print(f"{name:26}", end="")
        for rule, cells in rules.items():
            shares, widths = np.array(cells).T
            summary = f"{shares.min():.1f} {shares.mean():.1f} {shares.max():.1f}"
            print(f"  {rule} {summary} ({widths.mean():.1f})", end="")
        print()


def exact_of_binary(n: int) -> None:
    """The share held by each rule of 0/1 data of n problems, from the chances of all counts."""
    counts, rates = np.arange(n + 1), np.linspace(0.01, 0.99, 491)
    chances = stats.binom.pmf(counts[:, None], n, rates)
    studies = Rates((np.arange(n) < counts[:, None]).astype(float), np.ones((n + 1, n)), counts)
    found = {rule: OF_RATES[rule]([studies]) for rule in ("kit", "factor", "plain", "beta")}
    score = [intervals.wilson(int(count), n) for count in counts]
    found["wilson"] = np.array([(one.low, one.high) for one in score]).T
    found["mid-p"] = np.array([mid_p(count, n) for count in counts]).T
    print(f"{n:4}", end="")
    for rule, (low, high) in found.items():
        is_held = (low[:, None] <= rates) & (rates <= high[:, None])
        shares = 100 * (chances * is_held).sum(0)
        width = 100 * (chances * (high - low)[:, None]).sum(0).mean()
        print(f"  {rule} {shares.min():.1f} {shares.mean():.1f} ({width:.1f})", end="")
    print(flush=True)


def mid_p(count: int, n: int) -> tuple[float, float]:
    """Ends at which half the chance of this count and that of more, or fewer, is 2.5 %."""

    def above(rate):
        return stats.binom.sf(count, n, rate) + stats.binom.pmf(count, n, rate) / 2

    low, high = 0.0, 1.0
    if count > 0:
        low = optimize.brentq(lambda rate: above(rate) - 0.025, TINY, 1 - TINY)
    if count < n:
        high = optimize.brentq(lambda rate: above(rate) - 0.975, TINY, 1 - TINY)
    return low, high


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--studies", type=int, default=200)
    simulated(parser.parse_args().studies)
    print("\n0/1 data by number of problems: least and mean held over rates, mean width")
    for n in (*SIZES, 60, 150, 300):
        exact_of_binary(n)


if __name__ == "__main__":
    main()
