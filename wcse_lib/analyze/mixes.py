"""Coverage at k samples of a problem, of plain arms and of mixes.

k of a mix's largest budget, drawn without regard to who wrote them, would be other mixes than the one that is planned:
some of one part alone. So a mix of k samples takes its shares of k, of its parts' own samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import metrics
from wcse_lib.budget import mix_counts
from wcse_lib.study import PlannedMixed


class ArmCounts(NamedTuple):
    """Of an arm's known samples, by problem (index problem_id): how many there are, how many count as covering their
    problem, and what one costs on average."""

    n: pd.Series
    n_counted: pd.Series
    flops_per_sample: float


class Point(NamedTuple):
    """Of k samples: the chance that each problem [problems] is covered, and the mean FLOPs of a problem."""

    k: int
    covered: np.ndarray
    flops_per_problem: float


def arm_points(counts: ArmCounts) -> Iterator[Point]:
    """k = 1, 2 … samples of a problem, as far as all problems allow."""
    n, n_counted = counts.n.to_numpy(), counts.n_counted.to_numpy()
    most = int(n.min()) if len(n) else 0
    for k in range(1, most + 1):
        covered = metrics.coverage_per_problem(n, n_counted, k)
        yield Point(k, covered, k * counts.flops_per_sample)


def mix_points(
    planned: PlannedMixed, parts: Mapping[str, ArmCounts], problem_ids: list[str], seed: int
) -> Iterator[Point]:
    """The mix at k = 1, 2 … samples of a problem, as far as its largest budget and its parts' samples reach.

    Args: parts: by arm; problem_ids: of the training problems in the plan's order, by which fractions become whole
    samples; seed: the study's. Problems that a part has no known sample of are left out. The chance is exact over all
    choices of that many samples of each part: 1 - the product over parts of C(n-c, k_part)/C(n, k_part).
    """
    common = pd.Index(problem_ids)
    for part in parts.values():
        common = common[common.isin(part.n.index)]
    for k in range(1, max(planned.samples.values()) + 1):
        taken = _composition(planned, k, problem_ids, seed).loc[common]
        missed, flops = np.ones(len(common)), 0.0
        for arm, part in parts.items():
            n, n_counted = part.n.loc[common].to_numpy(), part.n_counted.loc[common].to_numpy()
            n_taken = taken[arm].to_numpy()
            if (n_taken > n).any():
                return
            missed *= 1 - _coverage(n, n_counted, n_taken)
            flops += n_taken.mean() * part.flops_per_sample
        yield Point(k, 1 - missed, flops)


def _composition(planned: PlannedMixed, k: int, problem_ids: list[str], seed: int) -> pd.DataFrame:
    """Samples [problems, parts] of a mix of k: those of a budget of k, else by the shares of the next larger."""
    budgets = [budget for budget, n in planned.samples.items() if n >= k]
    budget = min(budgets, key=planned.samples.get)
    means = planned.parts[budget]
    scale = 1.0 if planned.samples[budget] == k else k / sum(means.values())
    scaled = {part: scale * mean for part, mean in means.items()}
    counts = mix_counts({"k": scaled}, problem_ids, seed)
    return counts.pivot(index="problem_id", columns="part", values="n")


def _coverage(n: np.ndarray, n_counted: np.ndarray, n_taken: np.ndarray) -> np.ndarray:
    """Chance that so many of each problem's samples hold one that counts [problems]; 0 where none is taken."""
    covered = np.zeros(len(n))
    for k in np.unique(n_taken[n_taken > 0]):
        here = n_taken == k
        covered[here] = metrics.coverage_per_problem(n[here], n_counted[here], int(k))
    return covered
