"""Training seeds added until something shows: how often that finds a winner among equals, and what a stop costs.

Usage: python benchmarks/stopping.py [N_STUDIES]

Studies of two arms at two budgets, tested on the same problems, with 2 seeds at first and up to 6. Every seed has luck
of its own, a shift of the student's skill that the sampling model of the test does not know of (scores are thresholds
of a normal skill, the test works on means of 0 and 1). After every seed the study is analysed as 06 does it: luck
pooled over arms and budgets, p corrected by Holm for the budgets. Three rules say what counts as shown:

* until p < .05: the first look that shows something ends the study
* one look: what the first look shows, whatever comes later (training.looks: 1)
* five looks: the same as the first, with every p multiplied by five (training.looks: 5)
"""

from __future__ import annotations

import sys
from typing import NamedTuple

import numpy as np
from scipy import stats

from wcse_lib.luck import CHANCES, SeedLuck, p_of

N_PROBLEMS, MOST_SEEDS, N_BUDGETS = 500, 6, 2
LOOKS = range(2, MOST_SEEDS + 1)
RATE, SHARED = 0.4, 0.5  # of problems solved; correlation of two students' skill on a problem
BATCH = 50  # studies drawn at a time


class Found(NamedTuple):
    """Of one setting, in shares of studies: what each rule shows, and the mean seeds that a rule trains."""

    until: float
    one: float
    five: float
    fixed: float
    seeds_until: float
    seeds_five: float


def draw(rng, n: int, luck: float, effect: float) -> np.ndarray:
    """Scores [study, arm, budget, problem, seed]; both of the first arm's rates are higher by `effect` (shares)."""
    threshold = stats.norm.ppf(RATE)
    density = stats.norm.pdf(threshold)
    shape = (n, 2, N_BUDGETS, N_PROBLEMS, MOST_SEEDS)
    difficulty = rng.normal(size=(n, 1, 1, N_PROBLEMS, 1))
    # What a student of one arm and budget finds easy is half of the rest, the same for all its seeds.
    taste = rng.normal(size=(n, 2, N_BUDGETS, N_PROBLEMS, 1))
    own = rng.normal(size=shape)
    skill = np.sqrt(SHARED) * difficulty + np.sqrt((1 - SHARED) / 2) * (taste + own)
    shift = rng.normal(0, luck / density, (n, 2, N_BUDGETS, 1, MOST_SEEDS))
    shift[:, 0] += effect / density
    return skill < threshold + shift


def p_values(scores: np.ndarray) -> np.ndarray:
    """p [study, budget] of the arms' difference, corrected by Holm over budgets; scores as from `draw`, so far."""
    n_seeds, n_problems = scores.shape[-1], scores.shape[-2]
    by_seed = scores.mean(3)
    variance = by_seed.var(-1, ddof=1).mean((1, 2))
    means = scores.mean(-1)
    residuals = (
        scores - means[..., None] - by_seed[..., None, :] + by_seed.mean(-1)[..., None, None]
    )
    squares = (residuals**2).sum((3, 4)) / ((n_problems - 1) * (n_seeds - 1))
    noise = squares.mean((1, 2)) / n_problems
    df = 2 * N_BUDGETS * (n_seeds - 1)
    luck = SeedLuck(variance[:, None], noise[:, None], df).times(2 / n_seeds)
    by_luck = luck.plausible(CHANCES)
    difference = means[:, 0] - means[:, 1]
    errors = difference.var(-1, ddof=1) / n_problems
    by_budget = []
    for budget in range(N_BUDGETS):
        mean, error = difference[:, budget].mean(-1), errors[:, budget, None]
        by_budget.append(p_of(mean, error, by_luck, n_problems))
    p = np.stack(by_budget, axis=1)
    smallest, largest = p.min(1), p.max(1)
    holm = np.minimum(1, N_BUDGETS * smallest)
    return np.stack([holm, np.maximum(holm, largest)], axis=1)


def simulate(n_studies: int, luck: float, effect: float) -> Found:
    rng = np.random.default_rng([n_studies, int(1e5 * luck), int(1e5 * effect)])
    smallest = []
    for _ in range(n_studies // BATCH):
        scores = draw(rng, BATCH, luck, effect).astype(np.float32)
        by_look = [p_values(scores[..., :n])[:, 0] for n in LOOKS]
        smallest.append(np.stack(by_look, axis=1))
    p = np.concatenate(smallest)
    until, five = p < 0.05, 5 * p < 0.05
    return Found(
        until=until.any(1).mean(),
        one=until[:, 0].mean(),
        five=five.any(1).mean(),
        fixed=until[:, -1].mean(),
        seeds_until=_seeds(until),
        seeds_five=_seeds(five),
    )


def _seeds(is_shown: np.ndarray) -> float:
    """Mean number of seeds that are trained until something shows, or the most."""
    first = np.where(is_shown.any(1), is_shown.argmax(1), len(LOOKS) - 1)
    return float(np.mean(np.array(LOOKS)[first]))


def main(n_studies: int = 2000) -> None:
    print(
        f"{n_studies} studies a row, {N_PROBLEMS} problems, two arms, two budgets; % of studies that show something"
    )
    heads = [
        "luck, points",
        "true difference, points",
        "until p < .05 (seeds)",
        "one look, 2 seeds",
    ]
    heads += ["five looks (seeds)", "6 seeds fixed"]
    print(f"| {' | '.join(heads)} |")
    print("| --- | --- | --- | --- | --- | --- |")
    for effect in (0.0, 0.04):
        for luck in (0.005, 0.01, 0.02, 0.03):
            found = simulate(n_studies, luck, effect)
            cells = [f"{100 * luck:g}", f"{100 * effect:g}"]
            cells.append(f"{100 * found.until:.1f} ({found.seeds_until:.1f})")
            cells.append(f"{100 * found.one:.1f}")
            cells.append(f"{100 * found.five:.1f} ({found.seeds_five:.1f})")
            cells.append(f"{100 * found.fixed:.1f}")
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
