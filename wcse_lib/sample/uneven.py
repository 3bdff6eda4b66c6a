"""Budgets spent unevenly over problems: the samples that mixes and adaptive arms take, decided from rows on disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib.budget import decide, mix_counts
from wcse_lib.store import (
    KEY,
    SAMPLE_COLUMNS,
    SampleWriter,
    StudyError,
    parts,
    read_parquet,
    read_samples,
    write_parquet,
)
from wcse_lib.study import ImportedArm, Run
from wcse_lib.verdicts import spoken, verifier

PROBLEM_KEY = ["problem_id", "sample_index"]  # of one author's samples


def draw_mix(run: Run, arm: str) -> pd.DataFrame:
    """Write a mix's rows and its allocation from its parts' samples; returns the rows.

    Every row is a copy (`model` says who drew it, `author` is the mix), charged to the mix as if drawn for it. Raises
    StudyError naming a part that was not drawn before.
    """
    shares, folder = run.arm(arm).parts, run.path("02", arm)
    problem_ids = _train_problems(run)["problem_id"].tolist()
    counts = mix_counts(shares, problem_ids, run.study.seed)
    samples = {part: read_samples(run.path("02", part)) for part in counts["part"].unique()}
    rows = mix_rows(arm, counts, samples)
    _check_parts(run, arm, counts, rows)

    for old in parts(folder):  # copies cost nothing: they are always written whole
        old.unlink()
    _write(folder, rows)
    n_new = rows.groupby(["problem_id", "budget"]).size().unstack(fill_value=0)
    n_new = n_new.reindex(index=problem_ids, columns=list(shares), fill_value=0)
    _write_allocation(folder, problem_ids, n_new.cumsum(axis=1))
    return rows.drop(columns=["part", "budget"])


def mix_rows(
    author: str, counts: pd.DataFrame, samples: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """A mix's sample rows: its parts' own first samples, numbered anew so that a small budget's come first.

    Args: counts: as `mix_counts` gives it, budgets from small to large; samples: by part its rows. Adds `part` and
    `budget`, the smallest that a row belongs to. What a part does not hold is left out.
    """
    budgets = counts["budget"].unique()
    taken = []
    for part, rest in samples.items():
        of_part = counts[counts["part"] == part]
        for step, budget in enumerate(budgets):
            n = of_part[of_part["budget"] == budget].set_index("problem_id")["n"]
            is_taken = rest["sample_index"] < rest["problem_id"].map(n).fillna(0)
            rows = rest[is_taken].assign(part=part, budget=budget, step=step, rank=len(taken))
            taken.append(rows)
            rest = rest[~is_taken]
    order = ["problem_id", "step", "rank", "sample_index"]
    rows = pd.concat(taken).sort_values(order, ignore_index=True)
    rows["sample_index"] = rows.groupby("problem_id").cumcount()
    rows["author"] = author
    return rows.drop(columns=["step", "rank"])


def _check_parts(run: Run, arm: str, counts: pd.DataFrame, rows: pd.DataFrame) -> None:
    """Every part holds what the largest budget takes of it; imported ones may hold less, but not nothing."""
    largest = counts["budget"].iloc[-1]
    wanted = counts[counts["budget"] == largest].groupby("part")["n"].sum()
    taken = rows["part"].value_counts().reindex(wanted.index, fill_value=0)
    for part, n_wanted in wanted.items():
        n_missing = n_wanted - taken[part]
        may_lack = isinstance(run.study.arms[part], ImportedArm) and taken[part] > 0
        if n_missing > 0 and not may_lack:
            raise StudyError(
                f"{run.path('02', part)}: {n_missing} samples that {arm} needs are missing; draw {part} first"
            )


def draw_adaptive(
    run: Run, arm: str, draw: Callable[[dict[str, int]], pd.DataFrame], workers: int = 1
) -> pd.DataFrame:
    """Draw the samples of an adaptive arm, or of an adaptive pilot's, round by round and write its allocation; returns
    its rows.

    `draw`: makes the first n samples of every problem stand in this arm's folder and returns their rows; not called
    where all are there. What the arm `of` has drawn is copied, not drawn again, and charged to this arm all the same.
    Every round is decided from the verdicts of the rows before it, so a resumed run decides as an undisturbed one.
    """
    study = run.study
    with verifier(study.prompt.answer_style, workers, study.verification) as verify:
        rounds = _Rounds(run, arm, draw, verify)
        n_problems = len(rounds.problem_ids)
        totals = {name: n * n_problems for name, n in run.arm(arm).samples.items()}
        allocation = decide(study.rule_of(arm), totals, n_problems, rounds.n_correct)
    _write_allocation(rounds.folder, rounds.problem_ids, allocation)
    return rounds.rows


class _Rounds:
    """An adaptive arm's samples so far, and which of them are correct."""

    def __init__(self, run: Run, arm: str, draw: Callable, verify: Callable):
        self.arm, self.folder = arm, run.path("02", arm)
        self.problems = _train_problems(run)
        self.problem_ids = self.problems["problem_id"].tolist()
        self.samples_to_copy = read_samples(
            run.path("02", run.study.rule_of(arm).of), with_failed=False
        )
        self.draw, self.verify = draw, verify
        self.opened = run.plan.opened_thoughts(arm)
        self.rows = pd.DataFrame()
        self.is_correct = pd.Series(dtype=bool)  # by problem and sample_index

    def n_correct(self, n: np.ndarray) -> np.ndarray:
        """Correct ones [problems] among the first n [problems] samples, which are copied or drawn first."""
        wanted = dict(zip(self.problem_ids, n.tolist()))
        self._copy(wanted)
        self.rows = _first(read_samples(self.folder, with_failed=False), wanted)
        if len(self.rows) != n.sum():
            self.rows = self.draw(wanted)

        # Only what came in this round is verified.
        new = self.rows[~_keys(self.rows).isin(self.is_correct.index)]
        said = spoken(new, self.opened)
        verdicts = self.verify(said, self.problems).set_index(PROBLEM_KEY)["verdict"]
        known = [self.is_correct] if len(self.is_correct) else []
        self.is_correct = pd.concat([*known, verdicts == "correct"])
        by_problem = self.is_correct.loc[_keys(self.rows)].groupby(level=0).sum()
        return by_problem.reindex(self.problem_ids, fill_value=0).to_numpy(int)

    def _copy(self, wanted: Mapping[str, int]) -> None:
        held = _keys(read_samples(self.folder, KEY))
        copies = _first(self.samples_to_copy, wanted)
        copies = copies[~_keys(copies).isin(held)]
        if len(copies):
            _write(self.folder, copies.assign(author=self.arm))


def _train_problems(run: Run) -> pd.DataFrame:
    return read_parquet(run.path("01", "train.parquet"))


def _keys(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[PROBLEM_KEY])


def _first(rows: pd.DataFrame, wanted: Mapping[str, int]) -> pd.DataFrame:
    """Each problem's first samples."""
    return rows[rows["sample_index"] < rows["problem_id"].map(wanted).fillna(0)]


def _write(folder: Path, rows: pd.DataFrame) -> None:
    with SampleWriter(folder) as writer:
        for row in rows[list(SAMPLE_COLUMNS)].to_dict("records"):
            if pd.isna(row["usd"]):
                row["usd"] = None
            writer.add(row, is_kept=True)


def _write_allocation(folder: Path, problem_ids: list[str], counts: Mapping) -> None:
    """`allocation.parquet`: budget, problem_id, n. Args: counts: {budget: samples [problems]}."""
    frames = []
    for budget, n in counts.items():
        frame = pd.DataFrame({"budget": budget, "problem_id": problem_ids, "n": np.asarray(n)})
        frames.append(frame)
    write_parquet(folder / "allocation.parquet", pd.concat(frames, ignore_index=True))
