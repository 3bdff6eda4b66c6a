"""The problems of a study: training, validation, held-out and transfer sets, kept apart."""

from __future__ import annotations

import random

import pandas as pd

from wcse_lib.nano import LEVELS, make_problems, make_stories
from wcse_lib.plan import copies
from wcse_lib.plan.meaning import ByMeaning, Counted
from wcse_lib.plan.rows import COLUMNS, draw_tasks, drop, read_split
from wcse_lib.store import StudyError, folded
from wcse_lib.study import MADE_HERE, Dataset, Study, Verification
from wcse_lib.verdicts import faults_of_program, faults_of_solutions, read_program

Splits = dict[str, pd.DataFrame]
MAKERS = {"nano": make_problems, "stories": make_stories}


def load_problems(
    dataset: Dataset,
    seed: int,
    how: Verification | None = None,
    by_meaning: ByMeaning | Counted | None = None,
) -> tuple[Splits, list[dict]]:
    """The problems of a study, and every row that was left out, with split, problem_id, reason and, of a copy, the
    held-out problem (`other`).

    Returns frames by name: `train`, `validation` and `held_out` (COLUMNS; `held_out` also `set`: "held_out" or the
    name of a transfer set, whose ids start with it), and `near_duplicates` (copies.PAIRS): training problems that
    stayed although a held-out one is much like them. Code tasks whose own solution fails their tests are left out, and
    problems about which the study's program cannot decide. Without `by_meaning` only words are compared. Raises
    StudyError when a file, hub or program cannot be read, lacks a column, or holds fewer problems than asked for.
    """
    how = how or Verification()
    if how.by == "program":
        read_program(how)
    dropped: list[dict] = []
    if dataset.name in MADE_HERE:
        return _draw_splits(dataset, seed, dropped, how), dropped
    return _read_splits(dataset, seed, dropped, how, by_meaning), dropped


def check_splits(study: Study, splits: Splits) -> None:
    """Raises StudyError where a study's students cannot be tested, or its controls not be trained, on these
    problems."""
    if splits["held_out"].empty:
        raise StudyError("dataset.held_out: students need held-out problems, and none are usable")
    if study.controls.reference and (splits["train"]["reference"] == "").all():
        raise StudyError(
            "controls.reference: the training problems have no solutions; "
            "set dataset.columns.solution or reference: false"
        )


def _draw_splits(dataset: Dataset, seed: int, dropped: list[dict], how: Verification) -> Splits:
    """Splits of problems that are made here; none stands in two."""
    sizes = {  # the last can grow without changing the others
        "held_out": dataset.n_held_out or 0,
        "validation": dataset.n_validation,
        "train": dataset.n_train,
    }
    splits: Splits = {}
    seen: frozenset[str] = frozenset()
    for split, n in sizes.items():
        own_seed = f"{seed}:{split}"
        if make := MAKERS.get(dataset.name):
            levels = tuple(map(int, dataset.levels or LEVELS[dataset.name]))
            rows = [{"tests": "", **row} for row in make(n, own_seed, levels, seen)]
        else:
            rows = draw_tasks(dataset, own_seed, split, n, seen, dropped)
        splits[split] = pd.DataFrame(rows, columns=COLUMNS)
        seen |= set(splits[split]["question"])
    if how.by == "program":
        trial = _Trial(how, dropped)
        splits = {split: trial.first(frame, split, "", None) for split, frame in splits.items()}
    splits["held_out"] = splits["held_out"].assign(set="held_out")
    splits["near_duplicates"] = pd.DataFrame(columns=copies.PAIRS)
    return splits


def _read_splits(
    dataset: Dataset,
    seed: int,
    dropped: list[dict],
    how: Verification,
    by_meaning: ByMeaning | Counted | None,
) -> Splits:
    """Splits of files or hubs; copies of held-out problems are left out of training."""
    train = _read(dataset, "train", seed, dropped, how)
    names = list(dataset.transfer)
    if dataset.held_out:
        names = ["held_out", *names]
    sets = {name: _read(dataset, name, seed, dropped, how).assign(set=name) for name in names}
    held_out = pd.concat([_no_problem(), *sets.values()], ignore_index=True)
    n_read = len(train)
    train, near = _without_copies(train, held_out, dataset, dropped, by_meaning)
    if train.empty:
        why = dropped[-1]["reason"]
        raise StudyError(
            f"dataset.train: all {n_read} problems are held out too ({why}); "
            "give another file or, where problems of one form are meant, decontaminate: false"
        )
    n_train = len(train) - dataset.n_validation
    if n_train <= 0:
        raise StudyError(
            f"dataset.n_validation = {dataset.n_validation}: "
            f"only {len(train)} training problems are usable"
        )
    wanted = {"held_out": ("n_held_out", dataset.n_held_out)}
    for name, held in dataset.transfer.items():
        wanted[name] = (f"transfer.{name}.n", held.n)
    trial = _Trial(how, dropped)
    tested = [trial.first(sets[name], name, *wanted[name]) for name in names]
    splits = {
        "train": trial.first(train.iloc[:n_train], "train", "n_train", dataset.n_train),
        "validation": trial.first(train.iloc[n_train:], "validation", "n_validation", None),
        "held_out": pd.concat([_no_problem(), *tested]),
    }
    used: set[str] = set()
    for frame in splits.values():
        used.update(frame["problem_id"])
    both_used = near["problem_id"].isin(used) & near["held_out_id"].isin(used)
    splits["near_duplicates"] = near[both_used]
    return {name: frame.reset_index(drop=True) for name, frame in splits.items()}


def _no_problem() -> pd.DataFrame:
    return pd.DataFrame(columns=[*COLUMNS, "set"]).astype(str)


def _read(
    dataset: Dataset, split: str, seed: int, dropped: list[dict], how: Verification
) -> pd.DataFrame:
    frame = read_split(dataset, split, dropped, for_program=how.by == "program")
    if not dataset.shuffle:
        return frame
    order = random.Random(f"{seed}:{split}").sample(range(len(frame)), len(frame))
    return frame.iloc[order].reset_index(drop=True)


def _without_copies(
    train: pd.DataFrame,
    held_out: pd.DataFrame,
    dataset: Dataset,
    dropped: list[dict],
    by_meaning: ByMeaning | Counted | None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training problems without copies of held-out ones, and the near-duplicates that stayed."""
    left_out: list[dict] = []
    if dataset.decontaminate:
        found, near = copies.compare(train, held_out, dataset.ngram)
        if by_meaning:
            others = train[~train["problem_id"].isin(found["problem_id"])]
            more, nearest = by_meaning.compare(others, held_out)
            found = pd.concat([found, more])
            near = pd.concat([near[~near["problem_id"].isin(more["problem_id"])], nearest])
        for row in found.itertuples():
            reason = f"{row.reason} a problem of {row.set}"
            left_out.append(drop("train", row.problem_id, reason, row.held_out_id))
    else:  # the very same question is never trained on
        near = pd.DataFrame(columns=copies.PAIRS)
        asked = dict(zip(held_out["question"].map(folded), held_out["problem_id"]))
        for row in train.itertuples():
            if other := asked.get(folded(row.question)):
                reason = "its very question is held out"
                left_out.append(drop("train", row.problem_id, reason, other))
    dropped += left_out
    ids = [row["problem_id"] for row in left_out]
    return train[~train["problem_id"].isin(ids)], near


class _Trial:
    """Takes the problems of a split, and leaves out those whose own solution fails: its tests, or the program."""

    def __init__(self, how: Verification, dropped: list[dict]):
        self.how, self.dropped = how, dropped

    def first(self, frame: pd.DataFrame, split: str, key: str, n: int | None) -> pd.DataFrame:
        """The first n problems; all where n is not given. Raises StudyError where there are fewer."""
        if self.how.by == "program" or (frame["tests"] != "").any():
            frame = self._solved(frame, split, len(frame) if n is None else n)
        n = len(frame) if n is None else n
        if n > len(frame):
            raise StudyError(
                f"dataset.{key} = {n}: only {len(frame)} problems are usable; "
                "ask for fewer, or leave the key out"
            )
        reason = f"beyond dataset.{key} = {n}"
        self.dropped += [drop(split, problem_id, reason) for problem_id in frame["problem_id"][n:]]
        return frame.iloc[:n]

    def _solved(self, frame: pd.DataFrame, split: str, n: int) -> pd.DataFrame:
        """The problems without the unsolved ones among those that are tried until n are solved."""
        solved, rest = frame.iloc[:0], frame
        while len(solved) < n and len(rest):
            n_tried = n - len(solved)
            tried, rest = rest.iloc[:n_tried], rest.iloc[n_tried:]
            faults = self._faults(tried)
            for problem_id, fault in zip(tried["problem_id"], faults):
                if fault:
                    self.dropped.append(drop(split, problem_id, fault))
            solved = pd.concat([solved, tried[faults == ""]])
        if solved.empty and len(frame):
            raise StudyError(
                f"dataset: no problem of {split} is usable ({faults.iloc[0]}); "
                "check columns.tests, columns.solution and columns.entry_point, or leave out columns.solution"
            )
        return pd.concat([solved, rest])

    def _faults(self, frame: pd.DataFrame) -> pd.Series:
        if self.how.by == "program":
            return faults_of_program(frame, self.how)
        return faults_of_solutions(frame, self.how.seconds)
