"""Tables that people bring: JSONL, CSV and Parquet, read row by row; a torn row is named with its file and line."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from wcse_lib.store.errors import StudyError


def read_table(path: Path) -> Iterator[dict]:
    """Yield the rows of a JSONL, CSV or Parquet file (by its suffix), one at a time; CSV values are text.

    Raises StudyError naming the file, and the line or row where one is torn.
    """
    readers = {
        ".jsonl": _read_jsonl,
        ".json": _read_jsonl,
        ".csv": _read_csv,
        ".parquet": _read_parquet,
    }
    kind = Path(path).suffix.lower()
    if kind not in readers:
        raise StudyError(f"{path}: cannot tell its form; files end in .jsonl, .csv or .parquet")
    return readers[kind](path)


def field(row: dict, name: str, path: str | Path, number: int) -> Any:
    """The value of a (dotted) column. Raises StudyError naming file, line and the columns that are there.

    >>> field({"answer": {"final": "4"}}, "answer.final", "data.jsonl", 1)
    '4'
    """
    value = row
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            columns = ", ".join(map(str, row))
            raise StudyError(f"{path}, line {number}: no column {name!r}; columns are {columns}")
        value = value[part]
    return value


@contextlib.contextmanager
def _text_of(path: Path, **options: str) -> Iterator[TextIO]:
    try:
        with open(path, **options) as file:
            yield file
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}); check the path and that it is UTF-8 text"
        ) from error


def _read_jsonl(path: Path) -> Iterator[dict]:
    with _text_of(path, encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _object(line, f"{path}, line {number}")


def _object(line: str, place: str) -> dict:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise StudyError(f"{place}: no valid JSON ({error}); mend or remove the line") from error
    if not isinstance(row, dict):
        raise StudyError(f"{place}: a JSON object is needed, not {type(row).__name__}")
    return row


def _read_csv(path: Path) -> Iterator[dict]:
    csv.field_size_limit(2**31 - 1)
    with _text_of(path, encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file, strict=True)
        try:
            for row in reader:
                # DictReader puts None for what a line lacks, and under None what it has too much
                if None in row or None in row.values():
                    raise StudyError(
                        f"{path}, line {reader.line_num}: not {len(reader.fieldnames)} values "
                        "as in the first line; mend the line"
                    )
                yield row
        except csv.Error as error:
            raise StudyError(
                f"{path}, line {reader.reader.line_num}: no valid CSV ({error}); mend the line"
            ) from error


def _read_parquet(path: Path) -> Iterator[dict]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StudyError(
            f"{path}: cannot be read as Parquet ({error}); check the path, or write the file anew"
        ) from error
