"""Rows of files, hubs and reasoning-gym tasks as problems with readable gold answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

import pandas as pd

from wcse_lib import answers
from wcse_lib.store import StudyError, encodable, field, read_table
from wcse_lib.study import Columns, Dataset, resolve
from wcse_lib.verdicts import open_task, task_score, tests_fault, with_entry_point

COLUMNS = ["problem_id", "question", "answer", "level", "reference", "tests"]
# A line that holds its answer, and is not only that.
MARKED = re.compile(r"####|\\(?:boxed|fbox)|\banswer\b\W{0,3}(?:is\b|:|=)", re.I)
FILES = (".jsonl", ".json", ".csv", ".parquet")


def drop(split: str, problem_id: str, reason: str, other: str = "") -> dict:
    """A row that is left out; `other` is the held-out problem that it copies."""
    return {"split": split, "problem_id": problem_id, "reason": reason, "other": other}


def question_key(question: str) -> str:
    """Questions as compared within and between splits: case and white space folded."""
    return " ".join(question.lower().split())


def _id_of(question: str) -> str:
    return "p-" + hashlib.sha256(json.dumps(question).encode()).hexdigest()[:12]


# ---------------------------------------------------------------------- files and hubs


def read_split(dataset: Dataset, split: str, dropped: list[dict]) -> pd.DataFrame:
    """The usable problems (COLUMNS) of the training file, the held-out one or a transfer set, in their order.

    Adds to `dropped` every other row, with its reason. Raises StudyError when a file or hub cannot be read, lacks a
    column, or holds no usable problem.
    """
    held = dataset.transfer.get(split)
    columns, style, levels, prefix = dataset.columns, dataset.answer_style, None, ""
    if held is not None:
        columns = held.columns or columns
        style = held.answer_style or style
        prefix = f"{split}:"
    elif dataset.levels is not None:
        levels = {str(level) for level in dataset.levels}
    where, source = _source(dataset, split)
    rows: list[dict] = []
    ids: set[str] = set()
    questions: set[str] = set()
    for number, row in enumerate(source, 1):
        problem = _problem(row, columns, style, f"{where}", number)
        problem["problem_id"] = prefix + problem["problem_id"]
        reason = _why_unusable(problem, columns, levels)
        if not reason and problem["problem_id"] in ids:
            reason = "a problem of this id came before"
        if not reason and question_key(problem["question"]) in questions:
            reason = "the same question came before"
        if reason:
            dropped.append(drop(split, problem["problem_id"], reason))
            continue
        ids.add(problem["problem_id"])
        questions.add(question_key(problem["question"]))
        rows.append(problem)
    if not rows:
        why = dropped[-1]["reason"] if dropped else "it is empty"
        raise StudyError(
            f"{where}: no usable problem in it ({why}); check dataset.columns and levels"
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _problem(row: dict, columns: Columns, style: str, where: str, number: int) -> dict:
    """A row's fields as a problem; what a field does not hold is empty."""

    def text(name: str | None) -> str:
        return _text(row, name, where, number) if name else ""

    question, tests = text(columns.question), text(columns.tests)
    if columns.entry_point:
        tests = with_entry_point(tests, text(columns.entry_point))
    return {
        "problem_id": text(columns.problem_id) if columns.problem_id else _id_of(question),
        "question": question,
        "answer": "" if columns.tests else _gold(text(columns.answer), style),
        "level": text(columns.level),
        "reference": text(columns.solution),
        "tests": tests,
    }


def _gold(text: str, style: str) -> str:
    """The gold answer in a field. A bare value stands as it is, be it one that `extract` would cut."""
    must_be_read = "\n" in text or style != "auto"
    if not must_be_read and not MARKED.search(text):
        return text
    answer = answers.extract(text, style) or ""
    return answer if answer or must_be_read else text


def _why_unusable(problem: dict, columns: Columns, levels: set[str] | None) -> str:
    if not problem["question"].strip():
        return "empty question"
    if levels is not None and problem["level"] not in levels:
        return "its level is not among dataset.levels"
    if columns.tests:
        return tests_fault(problem["question"], problem["tests"])
    return "" if problem["answer"].strip() else "no answer can be read from the answer field"


def _text(row: dict, name: str, where: str, number: int) -> str:
    """A field as text, or a text with {field}s filled in; a list's items become lines."""
    if "{" in name:
        return re.sub(r"\{([\w.]+)\}", lambda match: _text(row, match[1], where, number), name)
    value = field(row, name, where, number)
    if value is None or value != value:
        return ""
    if isinstance(value, list):
        value = "\n".join(map(str, value))
    return encodable(str(value))  # JSON can hold lone surrogates


def _source(dataset: Dataset, split: str) -> tuple[str, Iterable[dict]]:
    """Where a split's rows come from, for messages, and the rows."""
    held = dataset.transfer.get(split)
    path = held.path if held else getattr(dataset, split)
    hub, config = dataset.path, dataset.config
    if held and held.hub:
        hub, config = held.hub, held.config
    is_file = dataset.name == "files" and not (held and held.hub)
    if is_file or path.endswith(FILES):
        return path, read_table(resolve(path))
    return _from_hub(hub, config, path)


def _from_hub(hub: str, config: str | None, split: str) -> tuple[str, Iterable[dict]]:
    """The rows of a split of a hub id, or of a local folder of the same form."""
    import datasets

    called = f"{hub} ({config})" if config else hub
    where = f"{called}, split {split}"
    name = str(resolve(hub)) if resolve(hub).is_dir() else hub
    try:
        return where, datasets.load_dataset(name, config, split=split)
    except Exception as error:  # the library raises a dozen kinds
        first_line = str(error).strip().partition("\n")[0]
        raise StudyError(
            f"dataset.path: {where} cannot be loaded ({type(error).__name__}: {first_line}); check id, "
            "config, split, network and, for gated sets, your login; a local folder of the same form "
            "will do too"
        ) from error


# ---------------------------------------------------------------------- reasoning-gym


def draw_tasks(
    dataset: Dataset, seed: str, split: str, n: int, seen: frozenset[str], dropped: list[dict]
) -> list[dict]:
    """Draw n problems of a reasoning-gym task whose own answer its scorer accepts; none twice, none of those `seen`.

    Raises StudyError when the task holds too few.
    """
    if not n:
        return []
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") >> 1
    source = open_task(dataset.task, json.dumps(dataset.options), number, 20 * n + 20)
    rows, questions = [], set(seen)
    for i in range(len(source)):
        entry = source[i]
        question, answer = entry["question"], str(entry["answer"] or "")
        task = {"task": dataset.task, "options": dataset.options, "entry": entry}
        tests = json.dumps(task, ensure_ascii=False, default=str)
        if reason := _why_not_drawn(question in questions, answer, tests):
            dropped.append(drop(split, _id_of(question), reason))
            continue
        questions.add(question)
        problem = {"problem_id": _id_of(question), "question": question, "answer": answer}
        rows.append(problem | {"level": "", "reference": "", "tests": tests})
        if len(rows) == n:
            return rows
    why = dropped[-1]["reason"]
    raise StudyError(
        f"dataset.task = {dataset.task!r}: only {len(rows)} of {n} problems for {split} could be drawn "
        f"({why}); ask for fewer, or choose another task"
    )


def _why_not_drawn(is_repeated: bool, answer: str, tests: str) -> str:
    if is_repeated:
        return "the same question was drawn before"
    if answer and task_score(tests, answer) < 1:
        return "the task's scorer does not accept the problem's own answer"
    if task_score(tests, "no answer at all") >= 1:
        return "the task's scorer accepts any answer"
    return ""
