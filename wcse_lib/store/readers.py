"""Tables that people bring, read row by row; a torn row is named with its file and line."""

from __future__ import annotations

import codecs
import contextlib
import csv
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO

from wcse_lib.store.errors import StudyError

FORMS = ".jsonl, .json, .csv, .tsv or .parquet"
MARKS = {  # how a file begins that says its encoding; the longer mark first
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
TURNS = ({"role", "content"}, {"from", "value"}, {"type", "text"})  # keys of a chat's turn or part
SEPARATORS = ",;\t|"  # of CSV, as spreadsheets of different countries write it


def read_table(path: Path) -> Iterator[dict]:
    """Yield the rows of a JSONL, JSON, CSV or Parquet file (by its suffix), one at a time; CSV values are text.

    A byte order mark is read as such. JSON may be an array of objects, or an object that holds one such array. Raises
    StudyError naming the file, the line or row where one is torn, and a column or key that stands twice.
    """
    readers = {
        ".jsonl": _read_json,
        ".json": _read_json,
        ".csv": _read_csv,
        ".tsv": _read_csv,
        ".parquet": _read_parquet,
    }
    kind = Path(path).suffix.lower()
    if kind not in readers:
        raise StudyError(f"{path}: cannot tell its form; files end in {FORMS}")
    return readers[kind](path)


def field(row: dict, name: str, path: str | Path, number: int) -> Any:
    """The value of a (dotted) column; a number is a place in a list. Raises StudyError naming file, row and columns.

    >>> field({"chat": [{"content": "2 + 2?"}]}, "chat.0.content", "data.jsonl", 1)
    '2 + 2?'
    """
    if name in row:
        return as_text(row[name])
    value, found = row, ""
    for part in name.split("."):
        if isinstance(value, dict) and part in value:
            value = as_text(value[part])
        elif isinstance(value, list) and part.isdecimal() and int(part) < len(value):
            value = as_text(value[int(part)])
        else:
            columns = ", ".join(map(str, row))
            raise StudyError(
                f"{path}, line {number}: no column {name!r}; columns are {columns}{_there(value, found)}"
            )
        found = f"{found}.{part}" if found else part
    return value


def as_text(value: Any) -> Any:
    """UTF-8 bytes as text and maps as objects, also in lists and objects; any other value as it is."""
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        value = dict(value)  # a map of Parquet
    if isinstance(value, list):
        return [as_text(item) for item in value]
    if isinstance(value, dict):
        return {as_text(key): as_text(item) for key, item in value.items()}
    if not isinstance(value, bytes):
        return value
    with contextlib.suppress(UnicodeDecodeError):
        return value.decode("utf-8-sig")
    return value


def _there(value: Any, found: str) -> str:
    """What stands inside a row where a part of a column's name is not."""
    if not found:
        return ""
    if isinstance(value, dict):
        return f" ({found} holds {', '.join(map(str, value)) or 'nothing'})"
    if isinstance(value, list):
        return f" ({found} is a list of {len(value)}, counted from 0)"
    return f" ({found} holds no further columns)"


def read_text(path: Path) -> str:
    """A text file, in UTF-8 or what its byte order mark says. Raises StudyError naming file and remedy."""
    with open_text(path) as file:
        return file.read()


@contextlib.contextmanager
def open_text(path: Path, newline: str | None = None) -> Iterator[TextIO]:
    """Open a text file in UTF-8, or in the encoding that its byte order mark says.

    Raises StudyError where it is missing or holds something else, also while it is read.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(4)
        marked = [encoding for mark, encoding in MARKS.items() if start.startswith(mark)]
        with open(path, encoding=[*marked, "utf-8"][0], newline=newline) as file:
            yield file
    except (OSError, UnicodeError) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}); check the path and that it is UTF-8 text"
        ) from error


def _unmarked(lines: Iterable[str]) -> Iterator[str]:
    """Lines without the byte order marks that stand where files were joined."""
    for line in lines:
        yield line.removeprefix("\ufeff")


# ---------------------------------------------------------------------- JSON


def _read_json(path: Path) -> Iterator[dict]:
    """JSON objects, one a line; else a whole document, told by its first line."""
    with open_text(path) as file:
        lines = enumerate(_unmarked(file), 1)
        number, line = next(((n, text) for n, text in lines if text.strip()), (0, ""))
        if not line:
            return
        if _is_document(line, path):
            before = "\n" * (number - 1)  # so that errors name lines of the file
            yield from _document(before + line + file.read(), path)
            return
        yield _object(line, f"{path}, line {number}")
        for number, line in lines:
            if line.strip():
                yield _object(line, f"{path}, line {number}")


def _is_document(first_line: str, path: Path) -> bool:
    """Whether a file is one JSON document: an array, or an object that its first line does not end or that holds
    rows."""
    try:
        value = json.loads(first_line)
    except (ValueError, RecursionError):
        opens = first_line.lstrip().startswith("[") or first_line.rstrip().endswith(("{", "[", ","))
        return opens or path.suffix.lower() == ".json"
    is_table = bool(_tables(value)) or _is_by_column(value) or _holds_columns(value)
    return isinstance(value, list) or (path.suffix.lower() == ".json" and is_table)


def _document(text: str, path: Path) -> Iterator[dict]:
    """The rows of an array, of the one array of an object, or of objects that stand behind each other."""
    decoder, place = json.JSONDecoder(object_pairs_hook=_once), 0
    values: list = []
    while rest := text[place:].lstrip():
        place = len(text) - len(rest)
        line = text.count("\n", 0, place) + 1
        with _valid_json(f"{path}, line {line}", text):
            value, place = decoder.raw_decode(text, place)
        values.append(value)
    rows = values
    if len(values) == 1:
        rows = _rows_of(values[0], path)
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise StudyError(
                f"{path}, item {number} of its array: a JSON object is needed, not {type(row).__name__}"
            )
        yield row


def _rows_of(value: Any, path: Path) -> list:
    """The rows of a JSON document. Raises StudyError naming the keys of an object that is no table."""
    if isinstance(value, list):
        return value
    tables = _tables(value)
    if len(tables) == 1:
        return value[tables[0]]
    if not tables and _holds_columns(value):
        return [dict(zip(value, row)) for row in zip(*value.values())]
    if not tables and not _is_by_column(value):
        return [value]
    found = f"arrays under {', '.join(tables)}" if tables else f"keys {', '.join(value)}"
    raise StudyError(
        f"{path}: an object with {found}, and not one array of rows; write its rows as an array of "
        "objects, or one object a line"
    )


def _is_by_column(value: Any) -> bool:
    """Whether an object holds columns, each with its rows by number, as pandas writes them."""
    parts = value.values() if isinstance(value, dict) else ()
    return bool(parts) and all(isinstance(part, dict) for part in parts)


def _holds_columns(value: Any) -> bool:
    """Whether an object holds columns, each a list of as many rows."""
    columns = list(value.values()) if isinstance(value, dict) else []
    if len(columns) < 2 or not all(isinstance(column, list) for column in columns):
        return False
    return len({len(column) for column in columns}) == 1


def _tables(value: Any) -> list[str]:
    """The keys of an object that hold an array of rows: objects that are no turns of a chat."""
    tables = []
    for key, rows in value.items() if isinstance(value, dict) else ():
        is_table = isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows)
        if is_table and not any(turn <= set(rows[0]) for turn in TURNS):
            tables.append(key)
    return tables


def _object(line: str, place: str) -> dict:
    with _valid_json(place):
        row = json.loads(line, object_pairs_hook=_once)
    if not isinstance(row, dict):
        raise StudyError(f"{place}: a JSON object is needed, not {type(row).__name__}")
    return row


class _Twice(ValueError):
    """A key that stands twice in one object."""


def _once(pairs: list[tuple[str, Any]]) -> dict:
    """A JSON object whose keys are all different."""
    row = dict(pairs)
    if len(row) < len(pairs):
        raise _Twice(_repeated([key for key, _ in pairs]))
    return row


@contextlib.contextmanager
def _valid_json(place: str, document: str = "") -> Iterator[None]:
    try:
        yield
    except _Twice as error:
        raise StudyError(
            f"{place}: key {str(error)!r} stands twice in one object; rename or remove one"
        ) from None
    except (ValueError, RecursionError) as error:
        if document and isinstance(error, json.JSONDecodeError):
            place = re.sub(r"\d+$", str(error.lineno), place)
        raise StudyError(f"{place}: no valid JSON ({error}); mend or remove the line") from error


def _repeated(names: list[str]) -> str:
    """The first name that stands twice; empty where none does."""
    return next((name for name, n in Counter(names).items() if n > 1), "")


# ---------------------------------------------------------------------- CSV, Parquet


def _read_csv(path: Path) -> Iterator[dict]:
    csv.field_size_limit(2**31 - 1)
    with open_text(path, newline="") as file:
        header = file.readline()
        if named := re.fullmatch(r"sep=(.)\s*", header):  # a line that spreadsheets write
            separator, start = named[1], len(header)
        else:
            separator, start = _separator(header), 0
        file.seek(0)
        file.read(start)
        reader = csv.DictReader(_unmarked(file), strict=True, delimiter=separator)
        try:
            _check_header(path, reader.fieldnames)
            for row in reader:
                # DictReader puts None for what a line lacks, and under None what it has too much
                if None in row or None in row.values():
                    raise StudyError(
                        f"{path}, line {reader.line_num}: not {len(reader.fieldnames)} values "
                        "as in the first line; mend the line"
                    )
                if list(row.values()) == reader.fieldnames:
                    raise StudyError(
                        f"{path}, line {reader.line_num}: the names of the columns again; remove the line"
                    )
                yield row
        except csv.Error as error:
            raise StudyError(
                f"{path}, line {reader.reader.line_num}: no valid CSV ({error}); mend the line"
            ) from error


def _separator(header: str) -> str:
    """What parts a header most often; a comma where nothing does."""
    outside_quotes = re.sub(r'"[^"]*"', "", header)
    return max(SEPARATORS, key=outside_quotes.count)


def _check_header(path: Path, names: list[str] | None) -> None:
    if twice := _repeated([name.strip() for name in names or [] if name]):
        raise StudyError(f"{path}: column {twice!r} stands twice; rename or remove one")


def _read_parquet(path: Path) -> Iterator[dict]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            _check_header(path, file.schema_arrow.names)
            for batch in file.iter_batches(4096):
                yield from _as_written(pa.Table.from_batches([batch])).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StudyError(
            f"{path}: cannot be read as Parquet ({error}); check the path, or write the file anew"
        ) from error


def _as_written(table: Any) -> Any:
    """A table whose 32-bit decimals are the short ones that were meant: 0.1, and not 0.10000000149."""
    import pyarrow as pa

    for place, column in enumerate(table.columns):
        if pa.types.is_float32(column.type):
            exact = column.cast(pa.string()).cast(pa.float64())
            table = table.set_column(place, table.field(place).name, exact)
    return table
