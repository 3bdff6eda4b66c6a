"""Which columns of a file of samples hold what: guessed by their names, shown, and named by options."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path

from wcse_lib.store import StudyError, TableRow, read_table
from wcse_lib.study import Columns, SampleColumns

N_LOOKED_AT = 100  # first rows, whose keys are taken for the file's columns
# Of each role the usual names, the surest first. A column has one role: the earlier role takes it.
USUAL_NAMES = {
    "question": ("question", "problem", "query", "instruction", "prompt", "input", "question_text"),
    "text": (
        "sample",
        "samples",
        "response",
        "responses",
        "completion",
        "completions",
        "generation",
        "generations",
        "generated_text",
        "output",
        "outputs",
        "model_output",
        "model_answer",
        "text",
        "texts",
        "prediction",
        "predictions",
        "candidates",
        "solution",
        "solutions",
        "answer",
        "answers",
    ),
    "gold": (
        "gold",
        "gold_answer",
        "ground_truth",
        "reference_answer",
        "correct_answer",
        "expected_answer",
        "final_answer",
        "target",
        "label",
        "reference",
        "answer",
        "solution",
    ),
    "problem_id": ("problem_id", "question_id", "task_id", "unique_id", "id", "idx", "index"),
    "n_tokens": (
        "n_tokens",
        "num_tokens",
        "completion_tokens",
        "output_tokens",
        "n_completion_tokens",
        "tokens",
    ),
    "finish_reason": ("finish_reason", "finish_reasons", "stop_reason"),
    "sample_index": ("sample_index", "sample_idx"),
}
IN_WORDS = {
    "question": "question",
    "text": "samples",
    "gold": "gold answer",
    "problem_id": "id of the problem",
    "n_tokens": "tokens",
    "finish_reason": "how a sample ended",
    "sample_index": "order of samples",
}


@dataclass(frozen=True)
class FileColumns:
    """The column of a file that holds each role; None where the file has none. Names may be dotted."""

    text: str
    question: str | None = None
    gold: str | None = None
    problem_id: str | None = None
    n_tokens: str | None = None
    finish_reason: str | None = None
    sample_index: str | None = None

    def in_words(self) -> str:
        """What stands where, for people.

        >>> FileColumns("response", question="problem").in_words()
        'samples in `response`, question in `problem`'
        """
        named = [(IN_WORDS[role.name], getattr(self, role.name)) for role in fields(self)]
        return ", ".join(f"{words} in `{column}`" for words, column in named if column)

    def of_samples(self, key: str) -> SampleColumns:
        """As an imported arm names them; `key`, "question" or "problem_id", joins samples to problems."""
        joined = {key: getattr(self, key)}
        rest = {name: getattr(self, name) for name in ("n_tokens", "finish_reason", "sample_index")}
        return SampleColumns(text=self.text, **joined, **rest)

    def of_problems(self, key: str) -> Columns:
        """As a dataset names them; a file without questions shows its ids instead."""
        question = self.question or self.problem_id
        problem_id = self.problem_id if key == "problem_id" else None
        return Columns(question=question, answer=self.gold, problem_id=problem_id)


def guess_columns(path: Path, named: Mapping[str, str | None]) -> FileColumns:
    """The columns of a file of samples: those that are `named` (by role), the others by USUAL_NAMES.

    Raises StudyError naming file, columns and option where a named one is not there, and where nothing is known to hold
    samples, or questions or ids.
    """
    found, there = _found(path, named, list(USUAL_NAMES))
    unknown = _unknown_key(found)
    if "text" not in found:
        unknown = ["the samples (name it by --text COLUMN)", *unknown]
    if unknown and "gold" not in found:
        unknown.append("the gold answers (--gold COLUMN), if it has them")
    _check(path, unknown, there)
    return FileColumns(**found)


def guess_problem_columns(path: Path, named: Mapping[str, str | None]) -> Columns:
    """The columns of a file of problems with their gold answers, as a dataset names them; raises as `guess_columns`."""
    found, there = _found(path, named, ["question", "gold", "problem_id"])
    unknown = _unknown_key(found)
    if "gold" not in found:
        unknown = ["the gold answers (name it by --gold COLUMN)", *unknown]
    _check(path, unknown, there)
    question = found.get("question") or found["problem_id"]
    return Columns(question=question, answer=found["gold"], problem_id=found.get("problem_id"))


def _found(
    path: Path, named: Mapping[str, str | None], roles: list[str]
) -> tuple[dict[str, str], str]:
    """The column of each of these roles that the file has, and a clause that names all its columns."""
    rows = list(islice(read_table(path), N_LOOKED_AT))
    if not rows:
        raise StudyError(f"{path}: it is empty; write a row for each sample")
    columns: dict[str, str] = {}
    for row in rows:
        columns |= {_plain(name): name for name in row}
    found: dict[str, str] = {}
    for role, column in named.items():
        if column:
            TableRow(rows[0], path, 1).value(column)  # raises, naming the columns that are there
            found[role] = column
    for role in roles:
        taken = {None, *found.values()}
        free = [columns[name] for name in USUAL_NAMES[role] if columns.get(name) not in taken]
        if role not in found and free:
            found[role] = free[0]
    return found, f"it has {', '.join(columns.values())}, none with a usual name"


def _unknown_key(found: Mapping[str, str]) -> list[str]:
    """What joins the rows of two files, where no column is known to hold it."""
    if "question" in found or "problem_id" in found:
        return []
    return ["the questions, or ids of problems (--question COLUMN or --problem-id COLUMN)"]


def _check(path: Path, unknown: list[str], there: str) -> None:
    """Raises StudyError that asks for all columns at once."""
    if unknown:
        raise StudyError(f"{path}: which column holds {', and which '.join(unknown)}? {there}")


def _plain(name: str) -> str:
    """A column's name as USUAL_NAMES writes them.

    >>> _plain("Ground-Truth "), _plain("finishReason")
    ('ground_truth', 'finish_reason')
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name.strip())
    return re.sub(r"[\s\-_]+", "_", spaced).lower()
