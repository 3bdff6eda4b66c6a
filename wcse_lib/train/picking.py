"""Which of a problem's correct answers a student learns from: those that fit it best, or any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib.store import KEY, read_parquet
from wcse_lib.study import Recipe, Run
from wcse_lib.train.fit import MEASURED
from wcse_lib.train.rows import TrainingRows, write_rows
from wcse_lib.train.scores import SCORES

SCORE_OF = {"likelihood": "log_likelihood", "rsr": "rank_surprisal_ratio"}  # of the rules that read
REPEATED = "duplicate ({}) of another arm's"
NOT_PICKED = "not picked by {}"


def picked_rows(
    run: Run,
    student: str,
    rows: TrainingRows,
    path: Path,
    drop: Callable[[pd.DataFrame], None],
) -> TrainingRows:
    """Those of a student's right samples (`rows`) that its recipe picks, written to `path`; the others go to `drop`.

    Of every problem `per_problem` are picked, or all where it has fewer: as many by every rule, so that students of two
    rules differ in the choice alone. Equal scores, and all samples of `random`, go by the study's one order of samples.
    """
    recipe = run.recipe(run.student(student).recipe)
    candidates = _candidates(run, student, recipe, rows)
    reason = reasons(candidates, recipe)
    is_picked = reason == ""
    drop(candidates.loc[~is_picked, KEY].assign(reason=reason[~is_picked]))
    chosen = np.flatnonzero(is_picked)
    return write_rows((rows.data[int(number)] for number in chosen), path)


def rule_of(run: Run, student: str) -> str | None:
    """The rule by which a student's samples are picked, None where its recipe has none."""
    recipe = run.student(student).recipe
    return getattr(run.recipe(recipe), "pick", None) if recipe else None


def left_out(run: Run, student: str) -> set[tuple]:
    """The keys of what 04 had encoded for a student and did not pick."""
    rule = rule_of(run, student)
    if rule is None:
        return set()
    dropped = read_parquet(run.path("04", student, "dropped.parquet"))
    recipe = run.recipe(run.student(student).recipe)
    of_picking = (REPEATED.format(recipe.unique), NOT_PICKED.format(rule))
    keys = dropped.loc[dropped["reason"].isin(of_picking), KEY]
    return set(keys.itertuples(index=False, name=None))


def _candidates(run: Run, student: str, recipe: Recipe, rows: TrainingRows) -> pd.DataFrame:
    """What `reasons` asks of every row, in the rows' order."""
    arm, columns = run.student(student).arm, {"rank": "place"}
    if recipe.unique != "none":
        columns[f"same_{recipe.unique}"] = "same"
    pieces = []
    for name in [arm] if arm else run.plan.plain_arms():
        judged = read_parquet(run.path("03", name, "judged.parquet"), [*KEY, *columns])
        pieces.append(judged.rename(columns=columns))
    candidates = rows.data.select_columns(KEY).to_pandas()
    candidates = candidates.merge(pd.concat(pieces), "left", KEY, validate="one_to_one")
    if recipe.pick in SCORE_OF:
        fit = read_parquet(run.path("04", student, "fit.parquet"), [*KEY, "n_tokens", *MEASURED])
        candidates = candidates.merge(fit, "left", KEY, validate="one_to_one")
    return candidates


def reasons(candidates: pd.DataFrame, recipe: Recipe) -> pd.Series:
    """Why each candidate is not picked, "" for those that are.

    Args: candidates: `problem_id`, `place` in the study's order, `same` (a number for texts that count as one, by
    `recipe.unique`) and, for a rule that has a score, what `fit.measure` returns of each.
    """
    reason = pd.Series("", index=candidates.index, dtype=object)
    in_order = candidates.sort_values("place", kind="stable")
    if recipe.unique != "none":
        is_repeated = in_order.duplicated(["problem_id", "same"])
        reason[in_order.index[is_repeated]] = REPEATED.format(recipe.unique)
        in_order = in_order[~is_repeated]
    if recipe.pick in SCORE_OF:
        score = SCORES[SCORE_OF[recipe.pick]]
        worse = -score.sign * score.of_each(in_order)
        in_order = in_order.loc[worse.sort_values(kind="stable").index]
    nth = in_order.groupby("problem_id").cumcount()
    is_over = nth >= recipe.per_problem
    reason[in_order.index[is_over]] = NOT_PICKED.format(recipe.pick)
    return reason
