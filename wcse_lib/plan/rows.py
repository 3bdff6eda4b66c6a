"""Rows of files, hubs and reasoning-gym tasks as problems with readable gold answers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable

import pandas as pd

from wcse_lib import answers
from wcse_lib.store import (
    USER,
    NotText,
    StudyError,
    TableRow,
    as_text,
    folded,
    is_chat,
    is_parts,
    name_of,
    read_spelt,
    read_table,
    words_of,
)
from wcse_lib.study import ANY_OF, Columns, Dataset, resolve
from wcse_lib.verdicts import fault_of_tests, open_task, task_score, with_entry_point

COLUMNS = ["problem_id", "question", "answer", "level", "reference", "tests"]
# A line that holds its answer, and is not only that.
MARKED = re.compile(r"####|\\(?:boxed|fbox)|\banswer\b\W{0,3}(?:is\b|:|=)", re.I)
FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")


def drop(split: str, problem_id: str, reason: str, other: str = "") -> dict:
    """A row that is left out; `other` is the held-out problem that it copies."""
    return {"split": split, "problem_id": problem_id, "reason": reason, "other": other}


def _id_of(question: str) -> str:
    return "p-" + hashlib.sha256(json.dumps(question).encode()).hexdigest()[:12]


# ---------------------------------------------------------------------- files and hubs


def read_split(
    dataset: Dataset, split: str, dropped: list[dict], for_program: bool = False
) -> pd.DataFrame:
    """The usable problems (COLUMNS) of the training file, the held-out one or a transfer set, in their order.

    Args: for_program: `tests` holds the whole row, as JSON, and gold is read as it stands, where there is any.
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
        levels = {name_of(level, "dataset.levels") for level in dataset.levels}
    where, source = _source(dataset, split)
    rows: list[dict] = []
    ids: set[str] = set()
    questions: set[str] = set()
    has_ids, line = False, None
    for number, row in enumerate(source, 1):
        line = TableRow(row, where, number)
        has_ids = has_ids or _has(line, columns.problem_id)
        try:
            if for_program:
                problem = _problem_for_program(line, columns, style)
            else:
                problem = _problem(line, columns, style)
        except NotText as error:
            dropped.append(drop(split, f"row {number}", str(error)))
            continue
        problem["problem_id"] = prefix + problem["problem_id"]
        reason = _why_unusable(problem, columns, levels, for_program)
        if not reason and folded(problem["question"]) in questions:
            reason = "the same question came before"
        if not reason and problem["problem_id"] in ids:
            reason = "a problem of this id came before"
        if reason:
            dropped.append(drop(split, problem["problem_id"], reason))
            continue
        ids.add(problem["problem_id"])
        questions.add(folded(problem["question"]))
        rows.append(problem)
    if columns.problem_id and line and not has_ids:
        line.name(columns.problem_id)  # raises, naming the columns that are there
    if not rows:
        why = dropped[-1]["reason"] if dropped else "it is empty"
        raise StudyError(
            f"{where}: no usable problem in it ({why}); check dataset.columns and levels"
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _problem(row: TableRow, columns: Columns, style: str) -> dict:
    """A row's fields as a problem; what a field does not hold is empty. A row without an id is given one."""
    return _asked(row, columns) | {
        "answer": "" if columns.tests else _gold(row, columns, style),
        "reference": _text(row, columns.solution) if columns.solution else "",
        "tests": _tests(row, columns) if columns.tests else "",
    }


def _problem_for_program(row: TableRow, columns: Columns, style: str) -> dict:
    """A row as a problem that a program decides about, which is given the whole row; gold may be an object."""
    gold = ""
    # a column of this name is looked for; one that the params file names must be there
    if columns.answer != Columns().answer or _has(row, columns.answer):
        gold = _text_or_json(row, columns.answer)
        gold = gold if style == "auto" else _answer_in(gold, style)
    return _asked(row, columns) | {
        "answer": gold,
        "reference": _text_or_json(row, columns.solution) if columns.solution else "",
        "tests": json.dumps(as_text(row.values), default=str),
    }


def _asked(row: TableRow, columns: Columns) -> dict:
    """What every problem has of a row, whoever decides about it."""
    question = _text(row, columns.question, USER)
    has_id = _has(row, columns.problem_id)
    problem_id = row.name(columns.problem_id) if has_id else ""
    return {
        "problem_id": problem_id or _id_of(question),
        "question": question,
        "level": row.name(columns.level) if columns.level else "",
    }


def _text_or_json(row: TableRow, name: str) -> str:
    """A field as text; objects and lists as JSON."""
    value = None if "{" in name else row.value(name)
    if isinstance(value, dict | list) and not is_chat(value):
        return json.dumps(value, ensure_ascii=False, default=str)
    return _text(row, name)


def _has(row: TableRow, name: str | None) -> bool:
    """Whether a row has a column at all, as rows of JSON may not."""
    return bool(name) and (name in row.values or name.partition(".")[0] in row.values)


def _text(row: TableRow, name: str, *speakers: tuple[str, ...]) -> str:
    """A field as text, or a text with {field}s filled in."""
    if "{" not in name:
        return row.words(name, *speakers)
    return re.sub(r"\{([\w.]+)\}", lambda match: row.words(match[1], *speakers), name)


def _tests(row: TableRow, columns: Columns) -> str:
    """A problem's tests; objects as JSON."""
    value = None if "{" in columns.tests else row.value(columns.tests)
    is_objects = isinstance(value, list) and any(isinstance(item, dict) for item in value)
    if isinstance(value, dict) or is_objects:
        tests = json.dumps(value, ensure_ascii=False, default=str)
    else:
        tests = _text(row, columns.tests)
    if columns.entry_point:
        tests = with_entry_point(tests, row.words(columns.entry_point))
    return tests


def _gold(row: TableRow, columns: Columns, style: str) -> str:
    """The gold answer, read out of its field; of a list, what `columns.answer_list` says of its items."""
    text = _text(row, columns.answer)
    golds = _several(row, columns)
    if golds is None:
        return _answer_in(text, style)
    golds = [_answer_in(gold, style) for gold in golds]
    if columns.answer_list == "any":
        return ANY_OF.join(gold for gold in dict.fromkeys(golds) if gold.strip())
    return ", ".join(golds) if all(gold.strip() for gold in golds) else ""


def _several(row: TableRow, columns: Columns) -> list[str] | None:
    """The items of an answer that is a list, or a text that spells one; None of any other."""
    value = None if "{" in columns.answer else row.value(columns.answer)
    if columns.answer_list and isinstance(value, str):
        value = read_spelt(value, lambda spelt: isinstance(spelt, list))
    if not isinstance(value, list) or is_chat(value) or is_parts(value):
        return None
    return [words_of(item, columns.answer) for item in value]


def _answer_in(text: str, style: str) -> str:
    """The answer in a text. A bare value stands as it is, be it one that `extract` would cut."""
    must_be_read = "\n" in text or style != "auto"
    if not must_be_read and not MARKED.search(text):
        return text
    answer = answers.extract(text, style) or ""
    return answer if answer or must_be_read else text


def _why_unusable(
    problem: dict, columns: Columns, levels: set[str] | None, for_program: bool
) -> str:
    if not problem["question"].strip():
        return "empty question"
    if levels is not None and problem["level"] not in levels:
        return "its level is not among dataset.levels"
    if columns.tests:
        return fault_of_tests(problem["question"], problem["tests"])
    is_answered = for_program or problem["answer"].strip()
    return "" if is_answered else "no answer can be read from the answer field"


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
