"""An arm's samples as 03 reads them: those of the plan's problems, in pieces that fit in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd

from wcse_lib.store import KEY, iter_samples, query, read_parquet, read_pieces, sample_table
from wcse_lib.study import Run
from wcse_lib.verdicts import SAMPLE_FACTS, spoken


def planned_samples(
    run: Run, arm: str, columns: Iterable[str] = SAMPLE_FACTS
) -> Iterator[pd.DataFrame]:
    """An arm's samples (KEY columns, `text` and `columns`) of the plan's problems, a few whole problems at a time.

    What was only thought is left out of `text`; `in_thought` marks the samples that never stop thinking.
    """
    problem_ids = read_parquet(run.path("01", "train.parquet"), ["problem_id"])["problem_id"]
    opened = run.plan.opened_thoughts(arm)
    if opened:
        columns = dict.fromkeys([*columns, "model"])
    for samples in iter_samples(run.path("02", arm), [*KEY, "text", *columns]):
        samples = samples[samples["problem_id"].isin(problem_ids)].reset_index(drop=True)
        if len(samples):
            yield spoken(samples, opened)


def count_planned_samples(run: Run, arm: str) -> int:
    """How many samples `planned_samples` yields: an imported file may hold more than the plan uses, or fewer."""
    counted = query(
        "SELECT count(*) AS n FROM samples SEMI JOIN problems USING (problem_id)",
        samples=sample_table(run.path("02", arm)),
        problems=run.path("01", "train.parquet"),
    )
    return int(counted["n"].iloc[0])


def texts_of(run: Run, arm: str, keys: pd.DataFrame) -> pd.DataFrame:
    """These samples' rows with `text`, `question` and `answer`, in the order of `keys`."""
    problems = read_parquet(run.path("01", "train.parquet"), ["problem_id", "question", "answer"])
    pieces = [samples.merge(keys[KEY], on=KEY) for samples in planned_samples(run, arm, [])]
    texts = pd.concat(pieces).merge(problems, on="problem_id")
    return keys.merge(texts, on=KEY, validate="one_to_one")


def whole_problems(path: Path, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
    """The rows of a file that is sorted by key, in pieces that are cut between problems."""
    rest = pd.DataFrame()
    for piece in read_pieces(path, columns):
        rows = pd.concat([rest, piece], ignore_index=True) if len(rest) else piece
        is_last = rows["problem_id"] == rows["problem_id"].iloc[-1]
        rest = rows[is_last]
        if not is_last.all():
            yield rows[~is_last]
    if len(rest):
        yield rest
