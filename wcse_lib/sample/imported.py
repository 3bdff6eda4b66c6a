"""Samples that somebody else drew: a file and a column map become the same rows that engines write."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from wcse_lib.sample.engines.endings import Ending, ending
from wcse_lib.sample.lost import check_lost_share
from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.store import (
    KEY,
    USER,
    NotText,
    SampleWriter,
    StudyError,
    TableRow,
    folded,
    is_chat,
    is_parts,
    name_of,
    parts,
    read_samples,
    read_table,
    remove,
    write_json,
)
from wcse_lib.study import ImportedArm, SampleColumns, resolve, resolve_model

LOST = (Ending.FILTERED, Ending.FAILED)  # ends of samples that are no whole text
BLANK, STRANGER = "without a text", "of no problem of this study"  # why a row is left out
FROM_ELSEWHERE = {  # columns of which an imported file says nothing
    "seed": -1,
    "n_prompt_tokens": -1,
    "engine": "import",
    "prompt_hash": "",
    "error": "",
    "usd": None,
}


def import_samples(
    folder: Path,
    author: str,
    arm: ImportedArm,
    problems: pd.DataFrame,
    n: int | None = None,
    n_bought: int | None = None,
) -> dict[str, int]:
    """Write an imported arm's samples; a problem's rows get sample_index 0, 1, … in the file's (or its column's) order.
    A row is one sample, or holds a list of them.

    Args: n: samples of a problem that are used; n_bought: samples of a problem that the budget buys (`n` when left
    out). Returns counts, also as `import.json`: rows, samples, rows left out by reason, and how many samples are beyond
    or short of the budget. Token counts that the file lacks are counted with `arm.tokenizer` or set to -1, unknown.
    Raises StudyError when no row belongs to a problem, a column is missing or holds something else than its kind.
    """
    counts: Counter = Counter()
    samples = _read_file(author, arm, problems, counts, _tokenizer(author, arm))
    _refuse_strangers(author, arm, samples, counts)
    for old in parts(folder):  # the file is the source: an import is always whole
        remove(old)
    with SampleWriter(folder) as writer:
        for by_place in samples.values():
            for sample_index, place in enumerate(sorted(by_place)):
                writer.add(by_place[place] | {"sample_index": sample_index})

    counts["samples"] = sum(len(by_place) for by_place in samples.values())
    if n is not None:
        n_each = [len(samples.get(problem_id, ())) for problem_id in problems["problem_id"]]
        counts["more than planned, left unused"] = sum(max(0, held - n) for held in n_each)
        lacking = [max(0, (n_bought or n) - held) for held in n_each]
        counts["planned, but not in the file"] = sum(lacking)
    write_json(folder / "import.json", dict(counts))
    assert len(read_samples(folder, KEY)) == counts["samples"]
    return dict(counts)


def samples_in_file(
    author: str,
    arm: ImportedArm,
    problems: pd.DataFrame,
    most_lost: float = 1.0,
    match: str = "count",
) -> pd.Series:
    """How many samples of each problem an imported arm's file holds, in the problems' order; no token is counted.

    Raises StudyError as `import_samples`, where more than a share `most_lost` of them are lost, and where budgets are
    matched (`match`) by tokens that nobody counts; without problems only the file and its columns are checked.
    """
    counts: Counter = Counter()
    samples = _read_file(author, arm, problems, counts)
    if len(problems):
        _refuse_strangers(author, arm, samples, counts)
        rows: list[dict] = []
        for by_place in samples.values():
            rows += by_place.values()
        check_lost_share(pd.DataFrame(rows), resolve(arm.path), most_lost, n_blank=counts[BLANK])
        if not arm.tokenizer:
            n_unknown = sum(row["n_tokens"] < 0 for row in rows)
            check_token_counts(author, arm, n_unknown, len(rows), match)
    n_each = [len(samples.get(problem_id, ())) for problem_id in problems["problem_id"]]
    return pd.Series(n_each, problems["problem_id"], dtype=int)


def check_token_counts(
    author: str, arm: ImportedArm, n_unknown: int, n_samples: int, match: str
) -> None:
    """Raises StudyError where some samples' tokens are not known, and budgets are matched by what they cost."""
    is_paid_by_token = match in ("flops", "seconds")
    if match == "price":
        is_paid_by_token = arm.usd_per_sample is None
    if n_unknown and is_paid_by_token:
        raise StudyError(
            f"arms.{author}: {n_unknown} of {n_samples} imported samples have no token count, so budget.match: {match} "
            f"cannot be checked; name arms.{author}.columns.n_tokens or arms.{author}.tokenizer, or match by count, "
            "examples or coverage"
        )


def tokens_in_file(author: str, arm: ImportedArm, problems: pd.DataFrame) -> float | None:
    """Mean tokens of an imported arm's samples of these problems; None where none has a count. Raises as
    `import_samples`."""
    samples = _read_file(author, arm, problems, Counter(), _tokenizer(author, arm))
    counts: list[int] = []
    for by_place in samples.values():
        counts += [row["n_tokens"] for row in by_place.values() if row["n_tokens"] >= 0]
    return sum(counts) / len(counts) if counts else None


def _refuse_strangers(author: str, arm: ImportedArm, samples: dict, counts: Counter) -> None:
    if not samples:
        found = ", ".join(f"{n} {reason}" for reason, n in counts.items()) or "it is empty"
        raise StudyError(
            f"{arm.path}: no row belongs to a problem of this study ({found}); check "
            f"arms.{author}.columns, which join samples to problems"
        )


def _read_file(
    author: str, arm: ImportedArm, problems: pd.DataFrame, counts: Counter, tokenizer=None
) -> dict[str, dict[int, dict]]:
    """{problem_id: {place: row}} of the samples that belong to a problem; counts the others by reason."""
    path, columns = resolve(arm.path), arm.columns
    problem_ids = _names(problems, columns.problem_id)
    samples: dict[str, dict[int, dict]] = {}
    for line in _lines_of_samples(path, columns):
        counts["rows"] += 1
        try:
            name = line.name(columns.problem_id) if columns.problem_id else ""
            if not columns.problem_id:
                name = folded(line.words(columns.question, USER))
            text = line.words(columns.text)
        except NotText as error:
            counts[str(error)] += 1
            continue
        problem_id = problem_ids.get(name)
        by_place = samples.get(problem_id, {})
        place = _whole_number(line, columns.sample_index, default=len(by_place))
        if not name:
            counts[f"without {columns.problem_id or columns.question}"] += 1
        elif problem_id is None:
            counts[STRANGER] += 1
        elif not text.strip():
            counts[BLANK] += 1
        elif place in by_place:
            counts["of a key that came before"] += 1
        else:
            reason = line.value(columns.finish_reason) if columns.finish_reason else "stop"
            row = FROM_ELSEWHERE | {
                "author": author,
                "problem_id": problem_id,
                "text": text,
                "n_tokens": _n_tokens(line, columns.n_tokens, text, tokenizer),
                "model": arm.model or author,
                **_how_it_ended(reason),
            }
            samples.setdefault(problem_id, {})[place] = row
    return samples


def _lines_of_samples(path: Path, columns: SampleColumns) -> Iterator[TableRow]:
    """The rows of a file, one a sample: a row that holds a list of samples stands once for each of them."""
    for number, values in enumerate(read_table(path), 1):
        line = TableRow(values, path, number)
        texts = line.value(columns.text)
        if not _is_list_of_samples(texts):
            yield line
            continue
        beside = [columns.n_tokens, columns.finish_reason, columns.sample_index]
        lists = {column: line.value(column) for column in beside if column}
        for column, listed in lists.items():
            if not isinstance(listed, list) or len(listed) != len(texts):
                raise StudyError(
                    f"{path}, line {number}: {columns.text} holds {len(texts)} samples, so that {column} has to be "
                    f"a list of {len(texts)} too; write it so, or leave it out of the columns"
                )
        for place, text in enumerate(texts):
            own = {column: listed[place] for column, listed in lists.items()}
            yield TableRow(values | {columns.text: text} | own, path, number)


def _is_list_of_samples(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and not (is_chat(value) or is_parts(value))


def _names(problems: pd.DataFrame, by_id: str | None) -> dict[str, str]:
    """What a file may call a problem -> its problem_id."""
    if not by_id:
        return dict(zip(problems["question"].map(folded), problems["problem_id"]))
    return {name_of(problem_id, by_id): problem_id for problem_id in problems["problem_id"]}


def _tokenizer(author: str, arm: ImportedArm):
    if not arm.tokenizer:
        return None
    try:
        return load_tokenizer(resolve_model(arm.tokenizer))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise StudyError(
            f"arms.{author}.tokenizer: {arm.tokenizer!r} cannot be loaded ({reason}); "
            "name a folder or hub id that is here"
        ) from error


def _how_it_ended(reason: object) -> dict:
    """`finish_reason` and `error` of a row, from the file's word; what says nothing counts as finished."""
    end = ending(reason)
    if end in LOST:
        return {"finish_reason": "error", "error": f"the file says it ended with {reason!r}: {end}"}
    return {"finish_reason": "length" if end == Ending.LENGTH else "stop"}


def _whole_number(line: TableRow, column: str | None, default: int) -> int:
    """A column's whole number, 0 or more; the default when the column is not mapped or the field is empty."""
    value: Any = line.value(column) if column else None
    is_empty = value is None or value == "" or value != value
    if is_empty:
        return default
    try:
        number = int(float(value))
        if number == float(value) and number >= 0:
            return number
    except (TypeError, ValueError, OverflowError):
        pass
    raise StudyError(
        f"{line.path}, line {line.number}: {column} = {value!r}: a whole number, 0 or more, is needed"
    )


def _n_tokens(line: TableRow, column: str | None, text: str, tokenizer) -> int:
    """A sample's length; -1 where it is unknown, as 0 is of no text."""
    n_tokens = _whole_number(line, column, default=0)
    if n_tokens:
        return n_tokens
    if tokenizer:
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])
    return -1
