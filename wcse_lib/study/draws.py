"""Draws: which of an arm's samples one training seed's students learn from, and no other's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pandas as pd

Numbers = TypeVar("Numbers", int, np.ndarray, pd.Series)


@dataclass(frozen=True)
class Draws:
    """How an arm's sample indices are shared out to `n` draws, of `size` samples a problem at the largest budget.

    Draw s has a block of indices, s·size … s·size + size − 1, and a budget of k samples its first k. Where a problem
    takes more than `size` (adaptive arms, mixes), the draws take turns after the last block. A sample's place among
    its draw's is its index where there is one draw.

    >>> draws = Draws(n=3, size=10)
    >>> draws.of(12), draws.place(12), draws.index(1, 2)
    (1, 2, 12)
    >>> draws.of(31), draws.place(31), draws.index(1, 10)
    (1, 10, 31)
    """

    n: int
    size: int

    @property
    def n_in_blocks(self) -> int:
        return self.n * self.size

    def of(self, sample_index: Numbers) -> Numbers:
        """The draw that a sample belongs to."""
        in_block = sample_index // self.size
        return _either(
            sample_index < self.n_in_blocks, in_block, self._beyond(sample_index) % self.n
        )

    def place(self, sample_index: Numbers) -> Numbers:
        """Where a sample stands among its draw's samples of the problem, from 0."""
        in_block = sample_index % self.size
        beyond = self.size + self._beyond(sample_index) // self.n
        return _either(sample_index < self.n_in_blocks, in_block, beyond)

    def index(self, draw: Numbers, place: Numbers) -> Numbers:
        """The sample index of a place in a draw."""
        in_block = draw * self.size + place
        beyond = self.n_in_blocks + (place - self.size) * self.n + draw
        return _either(place < self.size, in_block, beyond)

    @property
    def sql(self) -> str:
        """The columns `draw` and `place` of rows that have `sample_index`."""
        is_in_block = f"sample_index < {self.n_in_blocks}"
        beyond = f"(sample_index - {self.n_in_blocks})"
        return f"""
            if({is_in_block}, sample_index // {self.size}, {beyond} % {self.n}) AS draw,
            if({is_in_block}, sample_index % {self.size}, {self.size} + {beyond} // {self.n}) AS place"""

    def _beyond(self, sample_index: Numbers) -> Numbers:
        return sample_index - self.n_in_blocks


def _either(condition, yes: Numbers, no: Numbers) -> Numbers:
    """`yes` where the condition holds, else `no`, of numbers, arrays or columns."""
    if isinstance(condition, pd.Series):
        return yes.where(condition, no)
    if isinstance(condition, np.ndarray):
        return np.where(condition, yes, no)
    return yes if condition else no
