"""Samples that somebody else drew: a file and a column map become the same rows that engines write."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pandas as pd

from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.store import (
    SampleWriter,
    StudyError,
    field,
    parts,
    read_samples,
    read_table,
    write_json,
)
from wcse_lib.study import ArmParams, resolve, resolve_model


def import_samples(
    folder: Path, author: str, arm: ArmParams, problems: pd.DataFrame, n: int | None = None
) -> dict[str, int]:
    """Write an imported arm's samples; a problem's rows get sample_index 0, 1, … in the file's (or its column's) order.

    Args: n: samples planned per problem. Returns counts, also as `import.json`: rows, samples, rows left out by reason,
    and how many samples are beyond or short of the plan. Token counts that the file lacks are counted with
    `arm.tokenizer` or set to -1, unknown. Raises StudyError when no row belongs to a problem, a column is missing or
    holds something else than its kind.
    """
    path, columns = resolve(arm.path), arm.columns
    try:
        tokenizer = load_tokenizer(resolve_model(arm.tokenizer)) if arm.tokenizer else None
    except (OSError, ValueError) as error:
        raise StudyError(
            f"arms.{author}.tokenizer: {arm.tokenizer!r} cannot be loaded ({str(error).splitlines()[0]}); name a folder or hub id that is here"
        ) from error
    known = dict(
        zip(
            problems["problem_id" if columns.problem_id else "question"].str.strip(),
            problems["problem_id"],
        )
    )
    counts: Counter = Counter()
    found: dict[str, dict[int, dict]] = {}  # by problem, by place
    for number, row in enumerate(read_table(path), 1):
        counts["rows"] += 1
        name = field(row, columns.problem_id or columns.question, path, number)
        name = (
            int(name) if isinstance(name, float) and name == int(name) else name
        )  # an id that a file made a decimal
        problem_id, text = known.get(str(name).strip()), field(row, columns.text, path, number)
        of_problem = found.get(problem_id, {})
        place = _whole(row, columns.sample_index, path, number, len(of_problem))
        if problem_id is None:
            counts["of no problem of this study"] += 1
        elif not isinstance(text, str) or not text.strip():
            counts["without a text"] += 1
        elif place in of_problem:
            counts["of a key that came before"] += 1
        else:
            n_tokens = (
                _whole(row, columns.n_tokens, path, number, -1) or -1
            )  # no text has 0: it is unknown
            if n_tokens == -1 and tokenizer:
                n_tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
            cut = columns.finish_reason and field(row, columns.finish_reason, path, number) in (
                "length",
                "max_tokens",
            )
            found.setdefault(problem_id, {})[place] = {
                "author": author,
                "problem_id": problem_id,
                "seed": -1,
                "text": text,
                "n_prompt_tokens": -1,
                "n_tokens": n_tokens,
                "finish_reason": "length" if cut else "stop",
                "engine": "import",
                "model": arm.model,
                "prompt_hash": "",
                "error": "",
                "usd": None,
            }
    if not found:
        raise StudyError(
            f"{path}: no row belongs to a problem of this study; check arms.{author}.columns ({dict(counts)})"
        )
    for old in parts(folder):  # the file is the source: an import is always whole
        old.unlink()
    with SampleWriter(folder) as writer:
        for rows in found.values():
            for i, place in enumerate(sorted(rows)):
                writer.add(rows[place] | {"sample_index": i})
    counts["samples"] = sum(map(len, found.values()))
    if n is not None:
        n_each = [len(found.get(p, ())) for p in problems["problem_id"]]
        counts["more than planned, left unused"] = sum(max(0, k - n) for k in n_each)
        counts["planned, but not in the file"] = sum(max(0, n - k) for k in n_each)
    write_json(folder / "import.json", dict(counts))
    assert len(read_samples(folder, ["author", "problem_id", "sample_index"])) == counts["samples"]
    return dict(counts)


def _whole(row: dict, column: str | None, path: Path, number: int, default: int) -> int:
    """A column's whole number, 0 or more; the default when the column is not mapped or the field is empty."""
    value = field(row, column, path, number) if column else None
    if value is None or value == "" or value != value:
        return default
    try:
        if float(value) == int(float(value)) >= 0:
            return int(float(value))
    except (TypeError, ValueError, OverflowError):
        pass
    raise StudyError(
        f"{path}, line {number}: {column} = {value!r}: a whole number, 0 or more, is needed"
    )
