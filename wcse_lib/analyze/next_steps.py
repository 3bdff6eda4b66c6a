"""What to do next: what would settle a study's question, or carry its answer further, the most urgent first."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from wcse_lib.analyze.controls import planted_faults
from wcse_lib.analyze.words import join_words
from wcse_lib.study import Run
from wcse_lib.verify import own_judge

TIMES = 4  # as many problems halve the part of an error that problems make


def next_steps(run: Run, tables: dict[str, pd.DataFrame], shown: pd.DataFrame) -> list[str]:
    """Steps in the imperative, from what the study planned and found; `shown`: the headline's rows."""
    if not run.study.students:
        return [*_of_data(run), *_labels(run)]
    steps = [*_see_the_fault(run, tables), *_settle(run, shown)]
    if shown["is_significant"].any():
        steps += _explain(run)
    return [*steps, *_labels(run)]


def _see_the_fault(run: Run, tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    faults = planted_faults(tables)
    if not run.study.controls.planted:
        yield "Plant a fault (controls.planted): without one, nobody knows what this study can see."
    elif not faults["is_seen"].all():
        unseen = join_words(list(faults.loc[~faults["is_seen"], "base"]))
        yield (
            f"See the planted fault with {unseen} first, by more held-out problems or more training: until then a null"
            " result there says nothing."
        )


def _settle(run: Run, shown: pd.DataFrame) -> Iterator[str]:
    """More seeds where there is one, and more problems where a difference is not settled."""
    seeds = run.study.training.seeds
    if len(seeds) == 1:
        yield (
            "Train with three seeds, each on a draw of its own (training.seeds: [0, 1, 2]): one seed cannot show how"
            " far luck moves a student."
        )
    if len(shown) and not shown["is_significant"].all():
        n_problems = run.plan.n_problems["held_out"]
        yield (
            f"Test on more held-out problems where there are any (now {n_problems:,}): {TIMES} times as many halve"
            " what their choice adds to the error."
        )


def _explain(run: Run) -> Iterator[str]:
    if not run.study.recipes:
        yield (
            "Add recipes that take one explanation away each (recipes: equal examples, one correct a problem): only"
            " they can say why."
        )
    yield (
        "Repeat it with other models or problems and join the studies (wcse compare): this answer is of these"
        " models alone."
    )


def _of_data(run: Run) -> Iterator[str]:
    yield (
        "Train students on both arms (students:): better data by these measures need not train better students."
    )


def _labels(run: Run) -> Iterator[str]:
    if own_judge(run.study) == "arithmetic":
        yield (
            "Label 50 correct samples of each arm in 03: the arithmetic judge finds wrong sums, and no other false"
            " positives."
        )
