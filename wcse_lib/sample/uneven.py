"""Budgets spent unevenly over problems: the samples that mixes and adaptive arms take, decided from rows on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib import store as records
from wcse_lib.budget import decide, mix_counts
from wcse_lib.store import KEY, StudyError, read_parquet, read_samples
from wcse_lib.study import Run
from wcse_lib.verdicts import verifier


def mix_rows(
    author: str, counts: pd.DataFrame, samples: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """A mix's sample rows: its parts' own first samples, numbered anew so that a small budget's come first.

    Args: counts: as mix_counts gives it, budgets from small to large; samples: by part its rows. Adds `part` and
    `budget`, the smallest that a row belongs to. What a part does not hold is left out.
    """
    budgets, taken = list(counts["budget"].unique()), []
    for part, left in samples.items():
        for step, budget in enumerate(budgets):
            mine = counts[(counts["part"] == part) & (counts["budget"] == budget)].set_index(
                "problem_id"
            )["n"]
            now = left["sample_index"] < left["problem_id"].map(mine).fillna(0)
            taken.append(left[now].assign(part=part, budget=budget, step=step, rank=len(taken)))
            left = left[~now]
    rows = pd.concat(taken).sort_values(
        ["problem_id", "step", "rank", "sample_index"], ignore_index=True
    )
    rows["sample_index"], rows["author"] = rows.groupby("problem_id").cumcount(), author
    return rows.drop(columns=["step", "rank"])


def mix(run: Run, arm: str) -> pd.DataFrame:
    """Write a mix's rows and its allocation from its parts' samples; returns the rows.

    Every row is a copy (`model` says who drew it, `author` is the mix), charged to the mix as if drawn for it. Raises
    StudyError naming a part that was not drawn before.
    """
    parts, folder = run.arm(arm)["parts"], run.path("02", arm)
    ids = read_parquet(run.path("01", "train.parquet"), ["problem_id"])["problem_id"].tolist()
    counts = mix_counts(parts, ids, run.study.seed)
    rows = mix_rows(
        arm, counts, {part: read_samples(run.path("02", part)) for part in counts["part"].unique()}
    )
    wanted = counts[counts["budget"] == counts["budget"].iloc[-1]].groupby("part")["n"].sum()
    for part, n in rows["part"].value_counts().reindex(wanted.index, fill_value=0).items():
        if n == 0 < wanted[part] or (n < wanted[part] and run.study.arms[part].engine != "import"):
            lack = f"{wanted[part] - n} samples that {arm} needs are missing"
            raise StudyError(f"{run.path('02', part)}: {lack}; draw {part} first")
    for old in records.parts(folder):  # copies cost nothing: they are always written whole
        old.unlink()
    _write(folder, rows)
    n = rows.groupby(["problem_id", "budget"]).size().unstack(fill_value=0)
    n = n.reindex(index=ids, columns=list(parts), fill_value=0)
    _write_allocation(folder, ids, n.cumsum(axis=1))
    return rows.drop(columns=["part", "budget"])


def _write(folder: Path, rows: pd.DataFrame) -> None:
    with records.SampleWriter(folder) as writer:
        for row in rows[list(records.SAMPLE_COLUMNS)].to_dict("records"):
            writer.add(row | {"usd": None if pd.isna(row["usd"]) else row["usd"]})


def _write_allocation(
    folder: Path, problem_ids: list[str], counts: Mapping[str, Sequence[int]]
) -> None:
    frames = [
        pd.DataFrame({"budget": b, "problem_id": problem_ids, "n": np.asarray(n)})
        for b, n in counts.items()
    ]
    records.write_parquet(folder / "allocation.parquet", pd.concat(frames, ignore_index=True))


def _first(rows: pd.DataFrame, wanted: Mapping[str, int]) -> pd.DataFrame:
    """Each problem's first samples, without failed ones."""
    return rows[
        (rows["sample_index"] < rows["problem_id"].map(wanted).fillna(0))
        & (rows["finish_reason"] != "error")
    ]


def adaptive(
    run: Run, arm: str, draw: Callable[[dict[str, int]], pd.DataFrame], workers: int = 1
) -> pd.DataFrame:
    """Draw an adaptive arm's samples round by round and write its allocation; returns its rows.

    `draw`: makes the first n samples of every problem stand in this arm's folder and returns their rows; not called where
    all are there. What the arm `of` has drawn is copied, not drawn again, and charged to this arm all the same. Every round is decided from the
    verdicts of the rows before it, so a resumed run decides as an undisturbed one.
    """
    spec, folder, pair = run.study.arms[arm].adaptive, run.path("02", arm), KEY[1:]
    problems = read_parquet(run.path("01", "train.parquet"))
    ids, other = problems["problem_id"].tolist(), read_samples(run.path("02", spec.of))
    correct, rows = pd.Series(dtype=bool), None

    def told(n: np.ndarray) -> np.ndarray:
        nonlocal correct, rows
        wanted = dict(zip(ids, map(int, n)))
        have, copies = (
            pd.MultiIndex.from_frame(read_samples(folder, KEY)[pair]),
            _first(other, wanted),
        )
        if len(copies := copies[~pd.MultiIndex.from_frame(copies[pair]).isin(have)]):
            _write(folder, copies.assign(author=arm))
        rows = _first(read_samples(folder), wanted)
        rows = rows if len(rows) == n.sum() else draw(wanted)
        new = rows[~pd.MultiIndex.from_frame(rows[pair]).isin(correct.index)]
        right = verify(new, problems).set_index(pair)["verdict"] == "correct"
        correct = pd.concat([correct, right]) if len(correct) else right
        return (
            correct.loc[pd.MultiIndex.from_frame(rows[pair])]
            .groupby(level=0)
            .sum()
            .reindex(ids, fill_value=0)
            .to_numpy(int)
        )

    totals = {b: n * len(ids) for b, n in run.arm(arm)["samples"].items()}
    with verifier(run.study.prompt.answer_style, workers, run.study.verification) as verify:
        _write_allocation(folder, ids, decide(spec, totals, len(ids), told))
    return rows
