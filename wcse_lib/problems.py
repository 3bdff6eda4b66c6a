"""Problems: the nano lab's, or rows of files, as one table whose gold answers are known to be readable."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pandas as pd

from wcse_lib import answers
from wcse_lib.nano.world import make_problems
from wcse_lib.records import StudyError, read_jsonl
from wcse_lib.study import Dataset, resolve

COLUMNS = ["problem_id", "question", "answer", "level", "solution"]


def load_problems(dataset: Dataset, seed: int) -> tuple[dict[str, pd.DataFrame], list[dict]]:
    """The splits `train`, `validation`, `held_out` (frames with COLUMNS), and the rows left out with their reasons.

    Raises StudyError when a file lacks a column, a split is smaller than asked for, or splits overlap.
    """
    if dataset.name == "nano":
        return _nano(dataset, seed), []
    dropped: list[dict] = []
    train = _read(dataset.train, dataset, "train", dropped)
    held_out = _read(dataset.held_out, dataset, "held_out", dropped) if dataset.held_out else train.iloc[:0]
    n_validation = dataset.n_validation
    if len(train) <= n_validation:
        raise StudyError(
            f"dataset.n_validation = {n_validation}: {dataset.train} has only {len(train)} usable problems"
        )
    splits = {
        "train": _first(train.iloc[: len(train) - n_validation], dataset.n_train, "n_train", dataset.train),
        "validation": train.iloc[len(train) - n_validation :],
        "held_out": _first(held_out, dataset.n_held_out, "n_held_out", dataset.held_out),
    }
    overlap = set(_key(splits["held_out"])) & (set(_key(splits["train"])) | set(_key(splits["validation"])))
    if overlap:
        clash = splits["held_out"][_key(splits["held_out"]).isin(overlap)]
        dropped += [_drop("held_out", r.problem_id, "also among the training problems") for r in clash.itertuples()]
        splits["held_out"] = splits["held_out"].drop(clash.index)
    return {name: frame.reset_index(drop=True) for name, frame in splits.items()}, dropped


def _nano(dataset: Dataset, seed: int) -> dict[str, pd.DataFrame]:
    sizes = {"train": dataset.n_train, "validation": dataset.n_validation, "held_out": dataset.n_held_out or 0}
    splits, seen = {}, frozenset()
    for split in ("held_out", "validation", "train"):  # the last can grow without changing the others
        rows = make_problems(sizes[split], f"{seed}:{split}", tuple(dataset.levels), seen)
        seen |= {row["question"] for row in rows}
        splits[split] = pd.DataFrame(rows, columns=COLUMNS)
    return splits


def _read(path: str, dataset: Dataset, split: str, dropped: list[dict]) -> pd.DataFrame:
    columns, rows, seen = dataset.columns, [], set()
    for number, row in enumerate(read_jsonl(resolve(path)), 1):
        question, gold = field(row, columns.question, path, number), field(row, columns.answer, path, number)
        problem_id = str(field(row, columns.problem_id, path, number)) if columns.problem_id else _id(question)
        answer = (
            answers.extract(str(gold), dataset.answer_style)
            if "\n" in str(gold) or dataset.answer_style != "auto"
            else str(gold)
        )
        reason = ""
        if not str(question).strip():
            reason = "empty question"
        elif answer is None or not answer.strip():
            reason = "no answer can be read from the answer field"
        elif problem_id in seen:
            reason = "a problem of this id came before"
        if reason:
            dropped.append(_drop(split, problem_id, reason))
            continue
        seen.add(problem_id)
        level = str(field(row, columns.level, path, number)) if columns.level else ""
        solution = str(field(row, columns.solution, path, number)) if columns.solution else ""
        rows.append((problem_id, str(question), answer, level, solution))
    if not rows:
        raise StudyError(f"{path}: no usable problem in it ({len(dropped)} left out)")
    return pd.DataFrame(rows, columns=COLUMNS)


def field(row: dict, name: str, path: str | Path, number: int):
    """The value of a (dotted) column. Raises StudyError naming file, line and the columns that are there."""
    value = row
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise StudyError(f"{path}, line {number}: no column {name!r}; columns are {', '.join(map(str, row))}")
        value = value[part]
    return value


def _first(frame: pd.DataFrame, n: int | None, key: str, path: str | None) -> pd.DataFrame:
    if n is not None and n > len(frame):
        raise StudyError(f"dataset.{key} = {n}: {path} has only {len(frame)} usable problems")
    return frame if n is None else frame.iloc[:n]


def _key(frame: pd.DataFrame) -> pd.Series:
    """Questions as compared between splits: case and white space folded."""
    return frame["question"].str.lower().str.split().str.join(" ")


def _id(question: object) -> str:
    return "p-" + hashlib.sha256(json.dumps(question).encode()).hexdigest()[:12]


def _drop(split: str, problem_id: str, reason: str) -> dict:
    return {"split": split, "problem_id": problem_id, "reason": reason}
