"""Which differences a study of so many items can see."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import optimize, stats


def minimum_detectable_effect(
    n_items: float,
    p: float,
    power=0.8,
    alpha=0.05,
    paired_correlation: float | None = None,
    n_seeds: int = 1,
    seed_sd: float = 0.0,
) -> float:
    """The smallest true difference between two rates near `p` that a two-sided test at `alpha` finds with `power`.

    For coverage and accuracy over `n_items` problems per arm, for a false-positive rate over judged samples; a share
    (0.02: two points). `paired_correlation`: of the arms' 0/1 outcomes on the same items, lowered to what the two rates
    allow; without it the items differ. `seed_sd`: spread of the rate over training seeds, `n_seeds` per arm (seeds do
    not add items), which the test (intervals.nested) has to learn from them. inf where no difference is found. Fleiss,
    Levin and Paik 2003, chapter 4; paired: Connor 1987. ValueError out of range, and for a spread over one seed.
    """
    gap = _shortfall(n_items, p, power, alpha, paired_correlation, n_seeds, seed_sd)
    most = max(p, 1 - p)
    return float(optimize.brentq(gap, 0.0, most)) if gap(most) >= 0 else float("inf")


def items_needed(
    effect: float,
    p: float,
    power=0.8,
    alpha=0.05,
    paired_correlation: float | None = None,
    n_seeds: int = 1,
    seed_sd: float = 0.0,
) -> int:
    """Items per arm that show a difference of `effect` (a share): the inverse of `minimum_detectable_effect`.

    Raises ValueError when the spread over seeds alone hides the effect, whatever the number of items.
    """
    if not 0 < effect <= max(p, 1 - p):
        raise ValueError(
            f"effect = {effect!r}: a share in (0, {max(p, 1 - p):g}] is needed (0.02: two points)"
        )

    def gap(log_items: float) -> float:
        return _shortfall(np.exp(log_items), p, power, alpha, paired_correlation, n_seeds, seed_sd)(
            effect
        )

    if gap(40.0) <= 0:
        raise ValueError(
            f"n_seeds = {n_seeds}: a spread of {seed_sd:g} over seeds hides {effect:g}; train more seeds"
        )
    return 1 if gap(0.0) >= 0 else int(np.ceil(np.exp(optimize.brentq(gap, 0.0, 40.0)) - 1e-6))


def _shortfall(n_items, p, power, alpha, r, n_seeds, seed_sd) -> Callable[[float], float]:
    """The test's power minus the power asked for, as a function of the effect; the other rate lies towards 1/2."""
    good = {
        "n_items": n_items >= 1,
        "p": 0 < p < 1,
        "power": alpha < power < 1,
        "alpha": 0 < alpha < 1,
        "paired_correlation": -1 <= (r or 0) < 1,
        "n_seeds": n_seeds >= 1 + (seed_sd > 0),
        "seed_sd": seed_sd >= 0,
    }
    if wrong := [key for key, ok in good.items() if not ok]:
        raise ValueError(
            f"{wrong[0]}: out of range; p, power and alpha are shares between 0 and 1, counts at least 1 (seeds "
            "that have a spread: 2)"
        )
    by_seed, z, by_chance = (
        2 * seed_sd**2 / n_seeds,
        stats.norm.isf(alpha / 2),
        (np.arange(200) + 0.5) / 200,
    )
    seen = 0.0  # half the interval that a spread seen over few seeds asks for, by how large it happens to come out
    if by_seed:
        seen = stats.t.isf(alpha / 2, n_seeds - 1) * np.sqrt(
            by_seed * stats.chi2.ppf(by_chance, n_seeds - 1) / (n_seeds - 1)
        )

    def gap(effect: float) -> float:
        q = p + effect if p <= 0.5 else p - effect
        both, spread = p * q, np.sqrt(max(p * (1 - p) * q * (1 - q), 0.0))
        if r is None:
            null, real = (p + q) * (1 - (p + q) / 2), p * (1 - p) + max(q * (1 - q), 0.0)
        else:
            differ = (
                p + q - 2 * np.clip(both + r * spread, max(p + q - 1, 0.0), min(p, q))
            )  # share of such items
            null = real = differ - effect**2
            if differ * n_items < stats.gamma.ppf(
                power, 6
            ):  # McNemar's exact test finds nothing in under six such items
                return -power
        half = np.hypot(z * np.sqrt(null / n_items), seen)
        error = np.sqrt(max(real, 0.0) / n_items + by_seed)
        return float(np.mean(stats.norm.cdf((effect - half) / max(error, 1e-12)))) - power

    return gap


def power_sentence(
    n_items: int, p: float, wanted: float = 0.02, what: str = "test items", **test
) -> str:
    """One sentence on what `n_items` can show; `wanted` is a share, `test` goes to `minimum_detectable_effect`."""
    least, power = minimum_detectable_effect(n_items, p, **test), test.get("power", 0.8)
    seen = f"the smallest difference seen with {power:.0%} power is {100 * least:.1f} points"
    seen = seen if np.isfinite(least) else "they can see no difference at all"
    if least <= wanted:
        return f"{n_items:,} {what} can see {100 * wanted:g} points: {seen}."
    needed = f" ({items_needed(wanted, p, **test):,} would be needed)"
    return f"{n_items:,} {what} cannot see {100 * wanted:g} points: {seen}{needed}."
