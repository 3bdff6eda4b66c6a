"""Which differences a study of so many items can see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

from wcse_lib.luck import SeedLuck, power_of


def minimum_detectable_effect(n_items: float, p: float, power=0.8, alpha=0.05, **test) -> float:
    """The smallest true difference between two rates near `p` that a two-sided test at `alpha` finds with `power`.

    For coverage and accuracy over `n_items` problems per arm, for a false-positive rate over judged samples; a share
    (0.02: two points). inf where no difference is found. `test`: paired_correlation, of the arms' 0/1 outcomes on the
    same items (without it the items differ); `students`, where the rates are those of trained students: see `RateTest`.
    Raises ValueError out of range.

    >>> round(minimum_detectable_effect(500, 0.4), 3)
    0.088
    """
    test = RateTest(p, power, alpha, **test)
    largest = max(p, 1 - p)
    if test.gap(largest, n_items) < 0:
        return float("inf")
    return float(optimize.brentq(test.gap, 0.0, largest, args=(n_items,)))


def items_needed(effect: float, p: float, power=0.8, alpha=0.05, **test) -> int:
    """Items per arm that show a difference of `effect` (a share): the inverse of `minimum_detectable_effect`.

    Raises ValueError when the spread over seeds alone hides the effect, whatever the number of items.
    """
    test = RateTest(p, power, alpha, **test)
    if not 0 < effect <= max(p, 1 - p):
        raise ValueError(
            f"effect = {effect!r}: a share in (0, {max(p, 1 - p):g}] is needed (0.02: two points)"
        )

    def gap(log_items: float) -> float:
        return test.gap(effect, np.exp(log_items))

    if gap(40.0) <= 0:
        raise ValueError(
            f"n_seeds = {test.students.n_seeds}: a spread of {test.students.seed_sd:g} over seeds hides {effect:g};"
            " train more seeds"
        )
    if gap(0.0) >= 0:
        return 1
    n_items = np.exp(optimize.brentq(gap, 0.0, 40.0))
    return int(np.ceil(n_items - 1e-6))


@dataclass(frozen=True)
class Students:
    """How many students a rate is the mean of, and how much training luck moves it.

    `seed_correlation`: of the 0/1 outcomes of two that differ in their seed alone. `seed_sd`: spread of one student's
    rate over seeds (a share); bases learn from the same draws, so that more of them average none of it away.
    `n_groups`: arms × budgets over which 06 pools that spread.
    """

    n_seeds: int = 1
    n_bases: int = 1
    n_groups: int = 2
    seed_sd: float = 0.0
    seed_correlation: float = 0.7


@dataclass(frozen=True)
class RateTest:
    """A two-sided test at `alpha` of two rates, `p` and another one nearer to 1/2, that should find it with `power`.

    `paired_correlation` is lowered to what the two rates allow. Rates of `students` are tested as 06 does
    (`luck.p_of`), others by the normal approximation. Fleiss, Levin and Paik 2003, chapter 4; paired: Connor 1987.
    """

    p: float
    power: float
    alpha: float
    paired_correlation: float | None = None
    students: Students | None = None

    def __post_init__(self):
        students = self.students or Students()
        in_range = {
            "p": 0 < self.p < 1,
            "power": self.alpha < self.power < 1,
            "alpha": 0 < self.alpha < 1,
            "paired_correlation": -1 <= (self.paired_correlation or 0) < 1,
            "n_seeds": students.n_seeds >= 1,
            "n_bases": students.n_bases >= 1,
            "n_groups": students.n_groups >= 1,
            "seed_sd": students.seed_sd >= 0,
            "seed_correlation": -1 <= students.seed_correlation < 1,
        }
        for name, is_good in in_range.items():
            if not is_good:
                raise ValueError(
                    f"{name}: out of range; p, power and alpha are shares between 0 and 1, counts at least 1"
                )

    def gap(self, effect: float, n_items: float) -> float:
        """The test's power minus the power asked for."""
        if n_items < 1:
            raise ValueError(f"n_items = {n_items}: out of range; counts are at least 1")
        q = self.p + effect if self.p <= 0.5 else self.p - effect
        if self.paired_correlation is None:
            middle = (self.p + q) / 2
            null = 2 * middle * (1 - middle)
            real = self.p * (1 - self.p) + max(q * (1 - q), 0.0)
        else:
            differ = self._differing_items(q)
            null = real = max(differ - effect**2, 0.0)
            if differ * n_items < stats.gamma.ppf(self.power, self._fewest_differing()):
                return -self.power
        if self.students is not None:
            return self._power_of_students(effect, real, max(n_items, 2)) - self.power
        z = stats.norm.isf(self.alpha / 2)
        error = max(np.sqrt(real / n_items), 1e-12)
        found = stats.norm.cdf((effect - z * np.sqrt(null / n_items)) / error)
        return float(found) - self.power

    def _fewest_differing(self) -> int:
        """Where fewer items differ no flip of signs, and so neither McNemar's exact test nor 06's, finds anything."""
        return int(np.ceil(1 - np.log2(self.alpha)))

    def _power_of_students(self, effect: float, variance: float, n_items: float) -> float:
        """The power of 06's test; `variance` is that of two single students' difference on an item."""
        students = self.students
        n_seeds, n_bases = students.n_seeds, students.n_bases
        # what is a single student's own on an item averages out over seeds, all of it over bases
        between = max(students.seed_correlation, self.paired_correlation or 0.0)
        own = (1 - between) / (1 - (self.paired_correlation or 0.0))
        variance = variance * (own / n_seeds + 1 - own) / n_bases
        return power_of(
            effect, variance / n_items, self._luck(between, n_items), n_items, self.alpha
        )

    def _luck(self, between: float, n_items: float) -> SeedLuck:
        """The luck of a difference as 06 is expected to see it."""
        students = self.students
        weight = 2 / students.n_seeds
        if students.n_seeds == 1:
            return SeedLuck(students.seed_sd**2).times(weight)
        noise = self.p * (1 - self.p) * (1 - between) / (n_items * students.n_bases)
        df = students.n_groups * (students.n_seeds - 1)
        return SeedLuck(students.seed_sd**2 + noise, noise, df).times(weight)

    def _differing_items(self, q: float) -> float:
        """Share of items that one arm solves and the other does not."""
        p = self.p
        variances = p * (1 - p) * q * (1 - q)
        both = p * q + self.paired_correlation * np.sqrt(max(variances, 0.0))
        least, most = max(p + q - 1, 0.0), min(p, q)
        return p + q - 2 * np.clip(both, least, most)


def power_sentence(
    n_items: int, p: float, wanted: float = 0.02, what: str = "test items", **test
) -> str:
    """One sentence on what `n_items` can show; `wanted` is a share, `test` goes to `minimum_detectable_effect`."""
    least = minimum_detectable_effect(n_items, p, **test)
    power = test.get("power", 0.8)
    seen = "they can see no difference at all"
    if np.isfinite(least):
        seen = f"the smallest difference seen with {power:.0%} power is {100 * least:.1f} points"
    if least <= wanted:
        return f"{n_items:,} {what} can see {100 * wanted:g} points: {seen}."
    needed = items_needed(wanted, p, **test)
    return f"{n_items:,} {what} cannot see {100 * wanted:g} points: {seen} ({needed:,} would be needed)."
