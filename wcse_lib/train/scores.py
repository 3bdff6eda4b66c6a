"""Scores of how well sets of examples fit an untrained student, from what `train.fit` has measured of each example."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import intervals
from wcse_lib.train import gradients

UNBOUNDED = (-np.inf, np.inf)
COLUMNS = ["score", "arm", "value", "low", "high", "unit", "n_examples", "n_problems"]


class Score(NamedTuple):
    """A measure of how a set of examples fits a student: a ratio of two of `sums_of_arms`'s sums.

    `sign` is 1 where more fits better, -1 where less does. A score that is no ratio is given by shares of its examples,
    as in `gradients.shares`: its bootstrap over problems is then one of a ratio, too.
    """

    words: str
    numerator: str
    denominator: str
    unit: str
    sign: int

    @property
    def better(self) -> str:
        """Which value fits better, in a word."""
        return "higher" if self.sign > 0 else "lower"

    def is_known(self, sums: pd.DataFrame) -> bool:
        """Whether the examples tell of it at all."""
        return bool(sums[self.denominator].any())

    def of_each(self, examples: pd.DataFrame) -> pd.Series:
        """The score of every example by itself, from what `fit.measure` returns; none of gradients."""
        parts = _token_parts(examples)
        return parts[self.numerator] / parts[self.denominator]

    def value(self, sums: pd.DataFrame, seed: int) -> intervals.Estimate:
        """The score of some examples, from `sums_of_arms`."""
        return intervals.ratio(*self._ratio(sums), seed=seed, bounds=UNBOUNDED)

    def difference(self, a: pd.DataFrame, b: pd.DataFrame, seed: int) -> intervals.Estimate:
        """The score of `a` minus that of `b`, paired by problem; one of them may lack problems of the other."""
        a, b = a.align(b, fill_value=0.0)
        sums = self._ratio(a), self._ratio(b)
        return intervals.paired_ratio_difference(*sums, seed=seed, bounds=UNBOUNDED)

    def _ratio(self, sums: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return sums[self.numerator].to_numpy(), sums[self.denominator].to_numpy()


SCORES = {
    "log_likelihood": Score("log-likelihood", "log_likelihood", "n_tokens", "nats per token", 1),
    "rank_surprisal_ratio": Score(
        "rank–surprisal ratio", "mean_rank", "mean_surprisal", "ranks per nat", -1
    ),
    "gradient_score": Score("gradient score", "gradient_share", "n_gradients", "nats²", -1),
}


def scores_of(examples: Mapping[str, pd.DataFrame], seed: int = 0) -> pd.DataFrame:
    """Every score of sets of examples under one student: a row per score and arm (COLUMNS), 95 % intervals.

    Args: examples: by arm, or whatever the sets are called, what `fit.measure` returns of its examples.
    """
    return pd.DataFrame(_rows(examples, seed), columns=COLUMNS)


def _rows(examples: Mapping[str, pd.DataFrame], seed: int) -> Iterator[tuple]:
    by_arm = sums_of_arms(examples)
    for name, score in SCORES.items():
        for arm, sums in by_arm.items():
            if score.is_known(sums):
                counts = len(examples[arm]), len(sums)
                yield name, arm, *score.value(sums, seed), score.unit, *counts


def sums_of_arms(examples: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """By arm and problem_id the sums over examples (rows of `fit.parquet`) that SCORES divide.

    `mean_rank` and `mean_surprisal` add up the examples' means over their tokens: a data set's rank-surprisal ratio is
    that of the means over examples (arXiv 2601.14249). `gradient_share` is of equally many examples of each arm, as
    that score falls with their number.
    """
    with_gradient = {arm: _with_gradient(rows) for arm, rows in examples.items()}
    n_equal = min(map(len, with_gradient.values()), default=0)
    sums = {}
    for arm, rows in examples.items():
        of_gradients = _gradient_sums(with_gradient[arm].iloc[:n_equal])
        sums[arm] = _token_sums(rows).join(of_gradients).fillna(0.0)
    return sums


def _token_parts(examples: pd.DataFrame) -> pd.DataFrame:
    """What each example adds to the sums over tokens, and over examples of means over tokens."""
    n_tokens = examples["n_tokens"]
    return examples[["problem_id", "log_likelihood", "n_tokens"]].assign(
        mean_rank=examples["rank"] / n_tokens,
        mean_surprisal=-examples["log_likelihood"] / n_tokens,
    )


def _token_sums(examples: pd.DataFrame) -> pd.DataFrame:
    return _token_parts(examples).groupby("problem_id").sum().astype(float)


def _with_gradient(examples: pd.DataFrame) -> pd.DataFrame:
    """The examples whose gradients are known, in the order in which they are taken."""
    if "gradient" not in examples:  # of an earlier version of the kit
        return examples.iloc[:0]
    known = examples[examples["gradient"].notna()]
    return known.iloc[np.argsort(gradients.places(known), kind="stable")]


def _gradient_sums(examples: pd.DataFrame) -> pd.DataFrame:
    found = np.full(len(examples), np.nan)
    if len(examples):
        stacked = np.stack(examples["gradient"].to_list()).astype(float)
        found = gradients.shares(stacked, examples["problem_id"].to_numpy())
    shares = examples.assign(gradient_share=found, n_gradients=1.0).dropna(subset="gradient_share")
    return shares.groupby("problem_id")[["gradient_share", "n_gradients"]].sum()
