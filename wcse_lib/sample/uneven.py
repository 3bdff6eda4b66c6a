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
    remove,
    write_parquet,
)
from wcse_lib.study import ImportedArm, Run
from wcse_lib.verdicts import spoken, verifier

SURPRISALS = "surprisals.parquet"  # of first samples, for the rule likelihood
PROBLEM_KEY = ["problem_id", "sample_index"]  # of one author's samples


def draw_mix(run: Run, arm: str) -> pd.DataFrame:
    """Write a mix's rows and its allocation from its parts' samples; returns the rows.

    Every row is a copy (`model` says who drew it, `author` is the mix), charged to the mix as if drawn for it. Raises
    StudyError naming a part that was not drawn before.
    """
    shares, folder = run.arm(arm).parts, run.path("02", arm)
    problem_ids = _train_problems(run)["problem_id"].tolist()
    counts = mix_counts(shares, problem_ids, run.study.seed)
    samples = {part: _with_draw(run, part) for part in counts["part"].unique()}
    drawn, allotted = [], []
    for draw in range(run.plan.n_draws):
        of_draw = {part: rows[rows["draw"] == draw] for part, rows in samples.items()}
        rows = mix_rows(arm, counts, of_draw)
        _check_parts(run, arm, counts, rows)
        n_new = rows.groupby(["problem_id", "budget"]).size().unstack(fill_value=0)
        n_new = n_new.reindex(index=problem_ids, columns=list(shares), fill_value=0)
        allotted.append(n_new.cumsum(axis=1))
        drawn.append(rows)
    rows = pd.concat(drawn)
    rows["sample_index"] = run.draws(arm).index(rows["draw"], rows["sample_index"])
    rows = rows.sort_values(PROBLEM_KEY, ignore_index=True)

    for old in parts(folder):  # copies cost nothing: they are always written whole
        remove(old)
    _write(folder, rows)
    by_budget = {budget: [n_new[budget] for n_new in allotted] for budget in shares}
    _write_allocation(folder, problem_ids, by_budget)
    return rows.drop(columns=["part", "budget", "draw"])


def _with_draw(run: Run, part: str) -> pd.DataFrame:
    """A part's samples with their `draw`, and as `sample_index` their place in it."""
    rows, draws = read_samples(run.path("02", part)), run.draws(part)
    place = draws.place(rows["sample_index"])
    return rows.assign(draw=draws.of(rows["sample_index"]), sample_index=place)


def mix_rows(
    author: str, counts: pd.DataFrame, samples: Mapping[str, pd.DataFrame]
) -> pd.DataFrame:
    """A mix's sample rows of one draw: its parts' own first samples, numbered anew so that a small budget's come first.

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
    run: Run,
    arm: str,
    draw: Callable[[dict[str, list[int]]], pd.DataFrame],
    workers: int = 1,
    read: Callable[[pd.DataFrame], np.ndarray] | None = None,
) -> pd.DataFrame:
    """Draw the samples of an adaptive arm, or of an adaptive pilot's, round by round and write its allocation; returns
    its rows.

    `draw`: makes the samples of these indices, by problem, stand in this arm's folder and returns their rows; not
    called where all are there. What the arm `of` has drawn is copied, not drawn again, and charged to this arm all the
    same. Each draw spends the budget by itself. Every round is decided from the verdicts of the rows before it, so a
    resumed run decides as an undisturbed one. `read`: for the rule likelihood, the mean surprisal of sample rows.
    """
    study = run.study
    with verifier(study.prompt.answer_style, workers, run.verification) as verify:
        rounds = _Rounds(run, arm, draw, verify, read)
        n_problems = len(rounds.problem_ids)
        totals = {name: n * n_problems for name, n in run.arm(arm).samples.items()}
        shape = run.plan.n_draws, n_problems
        allocation = decide(study.rule_of(arm), totals, shape, rounds.n_correct, rounds.surprisals)
    _write_allocation(rounds.folder, rounds.problem_ids, allocation)
    return rounds.rows


class _Rounds:
    """An adaptive arm's samples so far, and which of them are correct."""

    def __init__(self, run: Run, arm: str, draw: Callable, verify: Callable, read: Callable | None):
        self.arm, self.folder = arm, run.path("02", arm)
        self.problems = _train_problems(run)
        self.problem_ids = self.problems["problem_id"].tolist()
        self.draws = run.draws(arm)
        self.samples_to_copy = read_samples(
            run.path("02", run.study.rule_of(arm).of), with_failed=False
        )
        self.draw, self.verify, self.read = draw, verify, read
        self.opened = run.plan.opened_thoughts(arm)
        self.rows = pd.DataFrame()
        self.is_correct = pd.Series(dtype=bool)  # by problem and sample_index

    def n_correct(self, n: np.ndarray) -> np.ndarray:
        """Correct ones among the first n samples (both [draws, problems]), which are copied or drawn first."""
        self._copy(n)
        self.rows = self._first(read_samples(self.folder, with_failed=False), n)
        if len(self.rows) != n.sum():
            self.rows = self.draw(self._indices(n))

        # Only what came in this round is verified.
        new = self.rows[~_keys(self.rows).isin(self.is_correct.index)]
        said = spoken(new, self.opened)
        verdicts = self.verify(said, self.problems).set_index(PROBLEM_KEY)["verdict"]
        known = [self.is_correct] if len(self.is_correct) else []
        self.is_correct = pd.concat([*known, verdicts == "correct"])
        correct = self.is_correct.loc[_keys(self.rows)]
        correct = correct[correct].index.to_frame(index=False)
        counts = np.zeros_like(n)
        np.add.at(counts, self._at(correct), 1)
        return counts

    def surprisals(self) -> np.ndarray:
        """The mean surprisal of every problem's first sample, [draws, problems]; read once, and kept on disk."""
        first = self._first(self.rows, np.ones((self.draws.n, len(self.problem_ids)), int))
        path = self.folder / SURPRISALS
        known = read_parquet(path) if path.exists() else first[PROBLEM_KEY].assign(surprisal=np.nan)
        found = first.merge(known, "left", PROBLEM_KEY)
        is_new = found["surprisal"].isna().to_numpy()
        if is_new.any():
            found.loc[is_new, "surprisal"] = self.read(found[is_new])
            write_parquet(path, found[[*PROBLEM_KEY, "surprisal"]])
        values = np.zeros((self.draws.n, len(self.problem_ids)))
        values[self._at(found)] = found["surprisal"]
        return values

    def _at(self, rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Where rows stand in counts [draws, problems]."""
        of_draw = self.draws.of(rows["sample_index"].to_numpy(int))
        return of_draw, pd.Index(self.problem_ids).get_indexer(rows["problem_id"])

    def _first(self, rows: pd.DataFrame, n: np.ndarray) -> pd.DataFrame:
        """The first n [draws, problems] samples of the study's problems."""
        rows = rows[rows["problem_id"].isin(self.problem_ids)]
        place = self.draws.place(rows["sample_index"].to_numpy(int))
        # a folder that an earlier plan filled may hold draws that this one has not
        return rows[place < n[self._at(rows)]]

    def _indices(self, n: np.ndarray) -> dict[str, list[int]]:
        """The sample indices of every problem's first n [draws, problems] samples."""
        wanted = {}
        for problem_id, n_by_draw in zip(self.problem_ids, n.T.tolist()):
            own: list[int] = []
            for draw, n_of_draw in enumerate(n_by_draw):
                own += [self.draws.index(draw, place) for place in range(n_of_draw)]
            wanted[problem_id] = sorted(own)
        return wanted

    def _copy(self, n: np.ndarray) -> None:
        held = _keys(read_samples(self.folder, KEY))
        copies = self._first(self.samples_to_copy, n)
        copies = copies[~_keys(copies).isin(held)]
        if len(copies):
            _write(self.folder, copies.assign(author=self.arm))


def _train_problems(run: Run) -> pd.DataFrame:
    return read_parquet(run.path("01", "train.parquet"))


def _keys(rows: pd.DataFrame) -> pd.MultiIndex:
    return pd.MultiIndex.from_frame(rows[PROBLEM_KEY])


def _write(folder: Path, rows: pd.DataFrame) -> None:
    with SampleWriter(folder) as writer:
        for row in rows[list(SAMPLE_COLUMNS)].to_dict("records"):
            if pd.isna(row["usd"]):
                row["usd"] = None
            writer.add(row, is_kept=True)


def _write_allocation(folder: Path, problem_ids: list[str], counts: Mapping) -> None:
    """`allocation.parquet`: budget, draw, problem_id, n. Args: counts: {budget: samples [draws, problems]}."""
    frames = []
    for budget, by_draw in counts.items():
        for draw, n in enumerate(by_draw):
            columns = {"budget": budget, "draw": draw, "problem_id": problem_ids}
            frames.append(pd.DataFrame(columns | {"n": np.asarray(n)}))
    write_parquet(folder / "allocation.parquet", pd.concat(frames, ignore_index=True))
