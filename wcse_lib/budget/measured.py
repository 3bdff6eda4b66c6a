"""What a pilot measured of an arm, and what a sample of every arm costs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from wcse_lib.store import StudyError


@dataclass(frozen=True)
class PilotCounts:
    """One arm's pilot: counts by problem_id (n, c; s of them sound, where all were judged), sizes of its groups of equal
    correct solutions per problem, unsound and judged ones, means per sample, what judging cost per sample drawn (by unit;
    by a model, where all correct ones were judged), and what all of it cost by unit."""

    counts: pd.DataFrame
    groups: list[list[int]]
    false: tuple[int, int]
    tokens_per_sample: float | None
    prompt_tokens: float | None
    seconds_per_sample: float | None
    judge: dict[str, float] | None
    spent: dict[str, float]

    @property
    def sound(self) -> tuple[np.ndarray, np.ndarray] | None:
        """As `pair`, of samples that no judge finds fault with; None where some correct ones were not judged."""
        return (
            (self.counts["n"].to_numpy(), self.counts["s"].to_numpy())
            if "s" in self.counts
            else None
        )

    @property
    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        return self.counts["n"].to_numpy(), self.counts["c"].to_numpy()


def joined(pilot: dict[str, PilotCounts]) -> dict[str, tuple]:
    """(n, c) of every arm over the problems that all of them have, in one order."""
    common = sorted(set.intersection(*(set(found.counts.index) for found in pilot.values())))
    if len(common) < 2:
        raise StudyError("pilot: its arms have no two problems in common, and a mix needs them")
    return {
        a: (f.counts.loc[common, "n"].to_numpy(), f.counts.loc[common, "c"].to_numpy())
        for a, f in pilot.items()
    }


def cost_each(spend: dict, b: str) -> dict[str, float]:
    """What a sample of every arm costs on average when a whole budget goes to it, prompts that are paid once included."""
    money = spend["budgets"][b]
    once = {a: spend["costs"][a] - more for a, more in spend["more"].items()}
    return {
        a: money * more / max(money - once[a], 1e-9 * money) for a, more in spend["more"].items()
    }
