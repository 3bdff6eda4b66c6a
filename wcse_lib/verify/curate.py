"""Curation: chooses which samples become examples, and gives every other one the reason why it did not.

It works on judged rows (verdicts.JUDGED) of whole problems and needs no text.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib.store import KEY
from wcse_lib.study import Curation, rank
from wcse_lib.verdicts import Reason


class Drop(StrEnum):
    """Why a sample is no example: `reason` in `dropped` and `flow`; `{}` stands for the recipe's value."""

    BEYOND_SAMPLES = "beyond the first {} samples"
    BEYOND_PROBLEMS = "beyond the first {} problems"
    FAILED = "the sample failed"
    TRUNCATED = "truncated"
    IN_THOUGHT = "its thought never ends"
    BLANK = "empty"
    INCORRECT = "incorrect"
    UNVERIFIABLE = "unverifiable"
    UNSOUND = "judged unsound"
    NOT_JUDGED = "not judged"
    NO_ANSWER = "wrong, and without a final answer"
    REPEATED = "duplicate ({})"
    OVER_PER_PROBLEM = "over {} per problem"
    OVER_EXAMPLES = "over n_examples"
    OVER_RIGHT_SHARE = "over the share of right ones"
    OVER_WRONG_SHARE = "over the share of wrong ones"


class Cutoffs(NamedTuple):
    """The highest ranks that are admitted, of problems, right samples and wrong samples.

    They are what of a choice depends on all samples at once.
    """

    problem: float = math.inf
    right: float = math.inf
    wrong: float = math.inf


def select(
    rows: pd.DataFrame, choice: Curation, seed: int, cutoffs: Cutoffs | None = None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split samples into examples and dropped rows; what is chosen depends on the keys and the seed, not on the order.

    Args: rows: judged rows (JUDGED) of whole problems, with `place` among the draw's samples where that is not
    `sample_index`; several authors are one pool. choice: its numbers, in this order
      n_samples: only each problem's first n samples;
      n_problems: only the first n problems, in a random order that a larger n extends and that is the same for arms
        with the same seed and problems;
      filter: "gold" admits correct samples, "judge" those judged sound whatever the gold answer, "none" all;
      unique: one sample per problem of those equal by text, normalised words or equation sequence;
      per_problem: at most so many per problem (1: exactly one for every solved problem);
      noise: this share of the examples are wrong ones; without `n_examples` they take the place of right ones;
      n_examples: exactly so many in all.
    Wrong samples pass `unique` and `per_problem` by themselves. Rows that are a piece of the whole need the `cutoffs`
    of the whole, from `problem_cutoff` and `rank_cutoffs`.
    Returns (examples: the admitted rows, sorted by key; dropped: KEY columns and `reason`); the two together hold
    every row once. Raises ValueError for a repeated key or too few samples.
    """
    repeated = rows.duplicated(KEY)
    if repeated.any():
        raise ValueError(f"the key {rows.loc[repeated, KEY].iloc[0].tolist()} stands twice")
    rows = rows.sort_values(KEY, ignore_index=True)
    if cutoffs is None:
        last = problem_cutoff(rows["problem_id"], choice.n_problems, seed)
        candidates = [candidate_ranks(rows, choice, seed, last)]
        cutoffs = Cutoffs(last, *rank_cutoffs(candidates, choice))

    reason, is_right = _reasons(rows, choice, seed, cutoffs.problem)
    over_right, over_wrong = Drop.OVER_RIGHT_SHARE, Drop.OVER_WRONG_SHARE
    if choice.n_examples is not None:
        over_right = over_wrong = Drop.OVER_EXAMPLES
    _drop(reason, is_right & (rows["rank"] > cutoffs.right), over_right)
    _drop(reason, ~is_right & (rows["rank"] > cutoffs.wrong), over_wrong)

    kept = reason == ""
    examples = rows[kept].reset_index(drop=True)
    dropped = rows.loc[~kept, KEY].assign(reason=reason[~kept]).reset_index(drop=True)
    return examples, dropped


def problem_cutoff(problem_ids: Iterable[str], n_problems: int | None, seed: int) -> float:
    """The rank of the last of the first `n_problems` problems; infinite where all are admitted."""
    if n_problems is None:
        return math.inf
    ranks = sorted(rank(seed, problem_id) for problem_id in set(problem_ids))
    return ranks[n_problems - 1] if n_problems <= len(ranks) else math.inf


def candidate_ranks(
    rows: pd.DataFrame, choice: Curation, seed: int, last_problem: float
) -> tuple[np.ndarray, np.ndarray]:
    """Ranks of the right and of the wrong samples that `select` has left when it comes to `n_examples` and `noise`."""
    reason, is_right = _reasons(rows, choice, seed, last_problem)
    is_left = reason == ""
    right = rows.loc[is_left & is_right, "rank"]
    wrong = rows.loc[is_left & ~is_right, "rank"]
    return right.to_numpy(), wrong.to_numpy()


def rank_cutoffs(
    candidates: list[tuple[np.ndarray, np.ndarray]], choice: Curation
) -> tuple[float, float]:
    """The highest ranks of right and of wrong samples to admit, from the `candidate_ranks` of all pieces.

    Raises ValueError where there are too few samples.
    """
    right = np.concatenate([ranks for ranks, _ in candidates])
    wrong = np.concatenate([ranks for _, ranks in candidates])
    n_total = len(right) if choice.n_examples is None else choice.n_examples
    n_wrong = round(choice.noise * n_total)
    cutoffs = []
    for side, ranks, n in (("right", right, n_total - n_wrong), ("wrong", wrong, n_wrong)):
        if n > len(ranks):
            raise ValueError(
                f"{n} {side} examples are needed, {len(ranks)} samples are left for them: "
                f"lower n_examples = {choice.n_examples} or noise = {choice.noise}, or draw more samples"
            )
        cutoffs.append(np.partition(ranks, n - 1)[n - 1] if n else -1)
    return tuple(cutoffs)


def _drop(reason: pd.Series, mask: pd.Series, why: str | pd.Series) -> None:
    """Write the reason into those rows of the mask that have none yet."""
    mask = mask & (reason == "")
    reason[mask] = why[mask] if isinstance(why, pd.Series) else str(why)


def _reasons(
    rows: pd.DataFrame, choice: Curation, seed: int, last_problem: float
) -> tuple[pd.Series, pd.Series]:
    """Why rows are dropped that their own problem's rows and the last problem's rank rule out; which are right."""
    reason = pd.Series("", index=rows.index, dtype=object)
    if choice.n_samples is not None:
        beyond = rows.get("place", rows["sample_index"]) >= choice.n_samples
        _drop(reason, beyond, Drop.BEYOND_SAMPLES.format(choice.n_samples))
    if last_problem < math.inf:
        ranks = {problem_id: rank(seed, problem_id) for problem_id in rows["problem_id"].unique()}
        beyond = rows["problem_id"].map(ranks) > last_problem
        _drop(reason, beyond, Drop.BEYOND_PROBLEMS.format(choice.n_problems))

    # samples that no recipe admits
    _drop(reason, rows["finish_reason"] == "error", Drop.FAILED)
    _drop(reason, rows["finish_reason"] == "length", Drop.TRUNCATED)
    _drop(reason, rows["reason"] == Reason.IN_THOUGHT, Drop.IN_THOUGHT)
    _drop(reason, rows["is_blank"], Drop.BLANK)

    # right ones pass the filter, wrong ones are wanted only as noise
    is_right, is_wrong, why_not = _sides(rows, choice.filter)
    admitted = is_right | is_wrong if choice.noise else is_right
    _drop(reason, ~admitted, why_not)
    _drop(reason, is_wrong & rows["extracted"].isna(), Drop.NO_ANSWER)

    # of like samples, and of too many, those of the lowest rank stay
    ordered = rows.assign(is_right=is_right).sort_values("rank", kind="stable")
    if choice.unique != "none":
        alive = ordered[reason[ordered.index] == ""]
        is_repeated = alive.duplicated(["problem_id", "is_right", f"same_{choice.unique}"])
        reason[alive.index[is_repeated]] = Drop.REPEATED.format(choice.unique)
    if choice.per_problem is not None:
        alive = ordered[reason[ordered.index] == ""]
        nth = alive.groupby(["problem_id", "is_right"]).cumcount()
        is_over = nth >= choice.per_problem
        reason[alive.index[is_over]] = Drop.OVER_PER_PROBLEM.format(choice.per_problem)
    return reason, is_right


def _sides(rows: pd.DataFrame, filter: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Which rows the filter calls right and which wrong, and the reason that keeps a row out."""
    if filter == "none":
        everything = pd.Series(True, index=rows.index)
        return everything, ~everything, pd.Series("", index=rows.index)
    if filter == "gold":
        return (
            rows["verdict"] == "correct",
            rows["verdict"] == "incorrect",
            rows["verdict"].astype(object),
        )
    is_right = rows["sound"].isin([True])
    is_wrong = rows["sound"].isin([False])
    why_not = pd.Series(str(Drop.NOT_JUDGED), index=rows.index, dtype=object)
    return is_right, is_wrong, why_not.mask(is_wrong, str(Drop.UNSOUND))
