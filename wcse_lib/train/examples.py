"""Which examples a student is trained on, in pieces, so that memory does not grow with their texts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from wcse_lib.store import (
    KEY,
    StudyError,
    iter_samples,
    problem_range_filter,
    query_pieces,
    read_parquet,
    read_pieces,
)
from wcse_lib.study import PlannedStudent, Run, rank
from wcse_lib.train.planted import givers

COLUMNS = [*KEY, "text"]


def examples_of(run: Run, student: str) -> Iterator[pd.DataFrame]:
    """Pieces of a student's examples: KEY, `text`, and `is_cut`, whether left out to make arms' counts equal.

    They are an arm's by its recipe, the same with answers permuted between problems (planted), those of all plain arms
    (pooled), reference solutions, or wrong samples of the student's own model, each at the student's budget and of the
    draw of its training seed. Which are cut depends on keys and the study's seed alone, and what is permuted on the
    student's seed too. Raises StudyError when none are left.
    """
    one = run.student(student)
    pieces_of = {
        "arm": _arms,
        "pooled": _pooled,
        "planted": _planted,
        "reference": _references,
        "wrong": _wrong,
    }
    n_left = 0
    for piece in pieces_of[one.source](run, one, run.draw_of(student)):
        if "is_cut" not in piece:
            piece = piece.assign(is_cut=False)
        n_left += len(piece) - int(piece["is_cut"].sum())
        yield piece[[*COLUMNS, "is_cut"]].reset_index(drop=True)
    if n_left == 0:
        raise StudyError(
            f"{student}: no examples to train on; see 03_verify for why samples were dropped"
        )


def _references(run: Run, student: PlannedStudent, draw: int) -> Iterator[pd.DataFrame]:
    problems = read_parquet(run.path("01", "train.parquet"), ["problem_id", "reference"])
    solved = problems[problems["reference"] != ""].rename(columns={"reference": "text"})
    yield solved.assign(author="reference", sample_index=0)


def _wrong(run: Run, student: PlannedStudent, draw: int) -> Iterator[pd.DataFrame]:
    """Incorrect samples that do give an answer."""
    path = run.path("03", student.arm, "verdicts.parquet")
    for samples in iter_samples(run.path("02", student.arm), COLUMNS):
        filters = [*problem_range_filter(samples), ("verdict", "==", "incorrect")]
        verdicts = read_parquet(path, [*KEY, "extracted"], filters)
        answered = verdicts.dropna(subset="extracted")
        chosen = run.rows_of_budget(answered, student.arm, student.budget, draw)
        yield samples.merge(chosen[KEY], on=KEY)


def _pooled(run: Run, student: PlannedStudent, draw: int) -> Iterator[pd.DataFrame]:
    for arm in run.plan.plain_arms():
        yield from examples_of_arm(run, arm, student.budget, student.recipe, draw)


def _planted(run: Run, student: PlannedStudent, draw: int) -> Iterator[pd.DataFrame]:
    """An arm's examples, of which the share `controls.planted` have texts that were written for other problems.

    As many as the arm's, and every text once, so that only their match with the problems is worse.
    """
    keys = pd.concat(_arms(run, student, draw, KEY), ignore_index=True)
    if "is_cut" in keys:
        keys = keys[~keys["is_cut"]]
    keys = keys[KEY].sort_values(KEY, ignore_index=True)
    problems = pd.factorize(keys["problem_id"])[0]
    rng = np.random.default_rng([rank(run.study.seed, "planted"), student.seed])
    try:
        taken = givers(problems, run.study.controls.planted, rng)
    except ValueError as error:
        raise StudyError(
            f"{student.base}.planted: {error}; draw more samples, or write controls: {{planted: 0}}"
        ) from None

    # keys alone are in memory: the texts come by a join
    of_others = keys.iloc[taken].reset_index(drop=True).add_prefix("giver_")
    at = {"budget": student.budget, "recipe": student.recipe}
    yield from query_pieces(
        """SELECT moved.author, moved.problem_id, moved.sample_index, examples.text
        FROM moved JOIN examples ON examples.author = giver_author
            AND examples.problem_id = giver_problem_id AND examples.sample_index = giver_sample_index
            AND examples.budget = moved.budget AND examples.recipe = moved.recipe
        ORDER BY ALL""",
        moved=keys.join(of_others).assign(**at),
        examples=run.path("03", student.arm, "examples.parquet"),
    )


def _arms(
    run: Run, student: PlannedStudent, draw: int, columns: list[str] = COLUMNS
) -> Iterator[pd.DataFrame]:
    """An arm's examples; where their number is to be "equal", all after the first n by rank are cut."""
    at = (student.arm, student.budget, student.recipe, draw)
    if run.recipe(student.recipe).n_examples != "equal":
        yield from examples_of_arm(run, *at, columns)
        return
    n_kept = min(_n_examples(run, arm, *at[1:]) for arm in _peers(run, student))
    is_cut = _places(run, *at) >= n_kept
    n_seen = 0
    for piece in examples_of_arm(run, *at, columns):
        yield piece.assign(is_cut=is_cut[n_seen : n_seen + len(piece)])
        n_seen += len(piece)


def _peers(run: Run, student: PlannedStudent) -> set[str]:
    """The arms that have a student of the same budget and recipe."""
    peers = set()
    for other in run.plan.students.values():
        same = (other.budget, other.recipe) == (student.budget, student.recipe)
        if other.source == "arm" and same:
            peers.add(other.arm)
    return peers


def _places(run: Run, arm: str, budget: str, recipe: str, draw: int) -> np.ndarray:
    """The place of each example, (n,), in the study's one random order of keys."""
    ranks = []
    for keys in examples_of_arm(run, arm, budget, recipe, draw, KEY):
        found = [rank(run.study.seed, *key) for key in keys[KEY].itertuples(index=False)]
        ranks.append(np.array(found, dtype=np.int64))
    order = np.concatenate(ranks).argsort(kind="stable")
    places = np.empty(len(order), dtype=np.int64)
    places[order] = np.arange(len(order))
    return places


def _n_examples(run: Run, arm: str, budget: str, recipe: str, draw: int) -> int:
    pieces = examples_of_arm(run, arm, budget, recipe, draw, ["sample_index"])
    return sum(map(len, pieces))


def examples_of_arm(
    run: Run, arm: str, budget: str, recipe: str, draw: int, columns: list[str] = COLUMNS
) -> Iterator[pd.DataFrame]:
    """Pieces of what 03 admitted for an arm at a budget, by a recipe, of one draw."""
    path = run.path("03", arm, "examples.parquet")
    for piece in read_pieces(path, [*columns, "budget", "recipe"]):
        is_chosen = (piece["budget"] == budget) & (piece["recipe"] == recipe)
        is_of_draw = run.draws(arm).of(piece["sample_index"]) == draw
        yield piece[is_chosen & is_of_draw]
