"""Which differences a study of so many items can see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize, stats

FEWEST = 6  # McNemar's exact test finds nothing where fewer items differ
CHANCES = (np.arange(200) + 0.5) / 200


def minimum_detectable_effect(n_items: float, p: float, power=0.8, alpha=0.05, **test) -> float:
    """The smallest true difference between two rates near `p` that a two-sided test at `alpha` finds with `power`.

    For coverage and accuracy over `n_items` problems per arm, for a false-positive rate over judged samples; a share
    (0.02: two points). inf where no difference is found. `test`: paired_correlation, of the arms' 0/1 outcomes on the
    same items (without it the items differ); seed_sd, spread of the rate over training seeds, and n_seeds per arm, see
    `RateTest`. Raises ValueError out of range, and for a spread over one seed.

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
            f"n_seeds = {test.n_seeds}: a spread of {test.seed_sd:g} over seeds hides {effect:g}; train more seeds"
        )
    if gap(0.0) >= 0:
        return 1
    n_items = np.exp(optimize.brentq(gap, 0.0, 40.0))
    return int(np.ceil(n_items - 1e-6))


@dataclass(frozen=True)
class RateTest:
    """A two-sided test at `alpha` of two rates, `p` and another one nearer to 1/2, that should find it with `power`.

    `paired_correlation` is lowered to what the two rates allow. Seeds do not add items, and the test
    (intervals.nested) has to learn their spread `seed_sd` from `n_seeds` of them. Fleiss, Levin and Paik 2003, chapter
    4; paired: Connor 1987.
    """

    p: float
    power: float
    alpha: float
    paired_correlation: float | None = None
    n_seeds: int = 1
    seed_sd: float = 0.0

    def __post_init__(self):
        fewest_seeds = 2 if self.seed_sd > 0 else 1
        in_range = {
            "p": 0 < self.p < 1,
            "power": self.alpha < self.power < 1,
            "alpha": 0 < self.alpha < 1,
            "paired_correlation": -1 <= (self.paired_correlation or 0) < 1,
            "n_seeds": self.n_seeds >= fewest_seeds,
            "seed_sd": self.seed_sd >= 0,
        }
        for name, is_good in in_range.items():
            if not is_good:
                raise ValueError(
                    f"{name}: out of range; p, power and alpha are shares between 0 and 1, counts at least 1 (seeds "
                    "that have a spread: 2)"
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
            null = real = differ - effect**2
            if differ * n_items < stats.gamma.ppf(self.power, FEWEST):
                return -self.power
        by_seed = 2 * self.seed_sd**2 / self.n_seeds
        error = np.sqrt(max(real, 0.0) / n_items + by_seed)
        z = stats.norm.isf(self.alpha / 2)
        half_of_items = z * np.sqrt(null / n_items)
        half = np.hypot(half_of_items, self._half_of_seeds(by_seed))
        found = stats.norm.cdf((effect - half) / max(error, 1e-12))
        return float(np.mean(found)) - self.power

    def _differing_items(self, q: float) -> float:
        """Share of items that one arm solves and the other does not."""
        p = self.p
        variances = p * (1 - p) * q * (1 - q)
        both = p * q + self.paired_correlation * np.sqrt(max(variances, 0.0))
        least, most = max(p + q - 1, 0.0), min(p, q)
        return p + q - 2 * np.clip(both, least, most)

    def _half_of_seeds(self, variance: float) -> np.ndarray | float:
        """Half the interval that a spread seen over few seeds asks for, by how large it comes out [CHANCES]."""
        if not variance:
            return 0.0
        df = self.n_seeds - 1
        seen = variance * stats.chi2.ppf(CHANCES, df) / df
        return stats.t.isf(self.alpha / 2, df) * np.sqrt(seen)


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
