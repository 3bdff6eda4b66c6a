"""Tables: Parquet files written whole or not at all, read whole, in pieces, or by SQL (DuckDB) in little memory."""

from __future__ import annotations

import atexit
import contextlib
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from wcse_lib.store import contents
from wcse_lib.store.errors import StudyError
from wcse_lib.store.files import reading, replacing

if TYPE_CHECKING:
    import duckdb
    import pyarrow

PIECE = 20_000  # rows that are held at a time where there may be millions
SETTINGS = {  # of DuckDB
    "memory_limit": "400MB",  # what a query holds before it writes to the temporary folder
    "threads": 1,
    "preserve_insertion_order": True,
    "python_enable_replacements": False,  # a misspelt table is no Python variable
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
}
Table = Path | list[Path] | pd.DataFrame


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as one Parquet file, whole or not at all."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    with replacing(path) as file:
        pq.write_table(table, file, write_page_checksum=True)


@contextlib.contextmanager
def parquet_writer(path: Path, columns: dict[str, str]) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that adds a frame with these columns to one Parquet file.

    columns: name -> `string`, `int64`, `double`, `boolean` or `floats` (an array). The file is there, whole, when the
    block ends well.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(columns)
    with (
        replacing(path) as file,
        pq.ParquetWriter(file, schema, write_page_checksum=True) as writer,
    ):

        def add(frame: pd.DataFrame) -> None:
            if len(frame):
                table = pa.Table.from_pandas(frame[list(columns)], schema, preserve_index=False)
                writer.write_table(table, row_group_size=PIECE)

        yield add


def _schema(columns: dict[str, str]) -> pyarrow.Schema:
    import pyarrow as pa

    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
        "floats": pa.list_(pa.float32()),
    }
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()])
    # pandas' own note about nullable columns, without which None would come back as an object
    nullable = {name: pd.Series(dtype=kind) for name, kind in columns.items() if kind == "boolean"}
    if nullable:
        note = pa.Schema.from_pandas(pd.DataFrame(nullable), preserve_index=False).metadata
        schema = schema.with_metadata(note)
    return schema


def empty_frame(columns: dict[str, str]) -> pd.DataFrame:
    """No rows of these columns (name: kind, as in `parquet_writer`)."""
    return _schema(columns).empty_table().to_pandas()


def read_parquet(
    path: Path, columns: list[str] | None = None, filters: list[tuple] | None = None
) -> pd.DataFrame:
    """Read one Parquet file, or those of its rows that match all `filters` (column, operator, value).

    Raises StudyError naming the file when it is missing, unreadable or damaged, or lacks a column.
    """
    import pyarrow.parquet as pq

    with _reading(path):
        filtered = [column for column, _, _ in filters or []]
        _check_columns(path, pq.read_schema(path).names, [*(columns or []), *filtered])
        table = pq.read_table(
            path,
            columns=columns,
            filters=filters,
            partitioning=None,
            page_checksum_verification=True,
        )
        return table.to_pandas()


def read_pieces(path: Path, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
    """What `read_parquet` returns, in frames of PIECE rows."""
    with _reading(path), _opened(path) as file:
        _check_columns(path, file.schema_arrow.names, columns or [])
        for batch in file.iter_batches(PIECE, columns=columns):
            yield batch.to_pandas()


def _opened(path: Path) -> pyarrow.parquet.ParquetFile:
    """A file to be read in pieces: pre_buffer would hold all of it in memory."""
    import pyarrow.parquet as pq

    return pq.ParquetFile(path, page_checksum_verification=True, pre_buffer=False)


def count_table_rows(path: Path) -> int:
    """Rows of a Parquet file, read from its footer; 0 for a damaged one."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_metadata(path).num_rows
    except (pa.ArrowException, OSError):
        return 0


def problem_range_filter(rows: pd.DataFrame) -> list[tuple]:
    """Filters for `read_parquet` that give other files' rows of the problems of a piece, and of none far from them."""
    return [
        ("problem_id", ">=", rows["problem_id"].min()),
        ("problem_id", "<=", rows["problem_id"].max()),
    ]


def _reading(path: Path, *damage: type[Exception]) -> contextlib.AbstractContextManager[None]:
    import pyarrow as pa

    # pandas reads its own note in a file, and stumbles in many ways over a damaged one
    damage += (pa.ArrowException, LookupError, TypeError, AttributeError)
    return reading(path, damage, anew=": only its rows are made anew")


def _check_columns(path: Path, names: list[str], needed: list[str]) -> None:
    """Raises StudyError where a file lacks a column: it is whole, but not what this code reads."""
    for column in needed:
        if column not in names:
            raise StudyError(
                f"{path}: no column {column!r}; columns are {', '.join(names)}: "
                "the file is of another version of the kit; run its stage again"
            )


def query(sql: str, /, **tables: Table) -> pd.DataFrame:
    """The rows of a SELECT (DuckDB's SQL) over `tables`: each keyword names a view in the SQL.

    A table is a Parquet file, a list of such files with the same kind of rows (a column that some of them lack is NULL
    there), or a frame. Rows come in the order of the files only where the SQL does not group or join; say ORDER BY.
    Columns come back as text (`str`), `int64` (`Int64` where one is missing), `float64` and `boolean`; NULL is NA.
    Raises StudyError as `read_parquet` does for a missing or damaged file and for a column that the files lack.

    >>> counts = pd.DataFrame({"arm": ["se", "se"], "n": [1, 2]})
    >>> query("SELECT arm, sum(n) AS n FROM counts GROUP BY arm", counts=counts)
      arm  n
    0  se  3
    """
    with _database(tables) as database:
        return _frame_of(database.sql(sql).to_arrow_table())


def query_pieces(sql: str, /, **tables: Table) -> Iterator[pd.DataFrame]:
    """What `query` returns, in frames of PIECE rows, so that memory does not grow with the number of rows."""
    import pyarrow as pa

    with _database(tables) as database:
        for batch in database.sql(sql).to_arrow_reader(PIECE):
            yield _frame_of(pa.Table.from_batches([batch]))


@contextlib.contextmanager
def _database(tables: dict[str, Table]) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory that sees `tables`, and no other file, frame or extension.

    Opening one takes as long as a small query: an emptied one is taken where this process has one.
    """
    import duckdb

    idle = _idle_databases(os.getpid())
    database = idle.pop() if idle else _new_database()
    try:
        for name, table in tables.items():
            _add_view(database, name, table)
        yield database
        for name in tables:
            database.execute(f'DROP VIEW IF EXISTS "{name}"')
            database.unregister(name)
    except BaseException as error:
        database.close()
        if isinstance(error, duckdb.Error):
            raise _explained(error, tables) from error
        raise
    idle.append(database)


@lru_cache
def _idle_databases(pid: int) -> list[duckdb.DuckDBPyConnection]:
    """Databases that no query uses; a forked process does not share its parent's."""
    return []


def _new_database() -> duckdb.DuckDBPyConnection:
    import duckdb

    database = duckdb.connect(config=SETTINGS | {"temp_directory": _temporary_folder(os.getpid())})
    database.execute("SET enable_progress_bar = false")
    return database


@lru_cache
def _temporary_folder(pid: int) -> str:
    """Where this process's queries write what does not fit into memory; removed when it ends."""
    folder = tempfile.mkdtemp(prefix="wcse-sql-")
    atexit.register(_remove_own, folder, pid)
    return folder


def _remove_own(folder: str, pid: int) -> None:
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _add_view(database: duckdb.DuckDBPyConnection, name: str, table: Table) -> None:
    import pyarrow as pa

    if isinstance(table, pd.DataFrame):
        database.register(name, pa.Table.from_pandas(table, preserve_index=False))
        return
    paths = _paths(table)
    if not paths:
        raise StudyError(
            f"{name}: no files to read; run the stage that writes them first, or give an empty frame"
        )
    for path in paths:
        _columns(path)
    patterns = [glob.escape(str(path)) for path in paths]
    files = database.read_parquet(patterns, hive_partitioning=False, union_by_name=True)
    files.create_view(name)


def _paths(table: Table) -> list[Path]:
    if isinstance(table, pd.DataFrame):
        return []
    return table if isinstance(table, list) else [table]


def _columns(path: Path) -> list[str]:
    """The columns of a file whose every page is undamaged. Raises StudyError as `read_parquet`."""
    with _reading(path):
        state = path.stat()
    return _verified_columns(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _verified_columns(path: Path, size: int, mtime_ns: int) -> list[str]:
    """`_columns`, once for each state of a file: DuckDB itself does not look at the pages' checksums, nor need it where
    the whole file has been compared."""
    with _reading(path), _opened(path) as file:
        if not contents.check(path):
            for _ in file.iter_batches(PIECE):
                pass
        return file.schema_arrow.names


def _explained(error: duckdb.Error, tables: dict[str, Table]) -> Exception:
    """The StudyError for what a person can mend: a missing column, a full disk, damage; else the error itself."""
    import duckdb

    if isinstance(error, (duckdb.IOException, duckdb.OutOfMemoryException)):
        reason = str(error).splitlines()[0]
        return StudyError(
            f"{tempfile.gettempdir()}: a table could not be sorted or joined there ({reason}); "
            "free that disk, or set TMPDIR to a larger one"
        )
    paths = [path for table in tables.values() for path in _paths(table)]
    if isinstance(error, (duckdb.BinderException, duckdb.ParserException)):
        column = re.search(r'column "([^"]+)"', str(error), re.IGNORECASE)
        for path in paths if column else []:
            _check_columns(path, _columns(path), [column[1]])
        return error
    # What DuckDB finds wrong with a file that pyarrow reads: bits of its footer.
    for path in paths:
        with _reading(path, duckdb.Error):
            duckdb.read_parquet(glob.escape(str(path))).fetchall()
    return error


def _frame_of(table: pyarrow.Table) -> pd.DataFrame:
    """An Arrow table with the kinds of columns that `query` promises."""
    import pyarrow as pa

    plain = [column.with_type(_plain_type(column.type)) for column in table.schema]
    # Kinds that keep NULL apart: with floats, one NULL would turn an id `1` into `1.0`.
    nullable = {pa.bool_(): pd.BooleanDtype(), pa.int64(): pd.Int64Dtype()}
    frame = table.cast(pa.schema(plain)).to_pandas(types_mapper=nullable.get)
    for name, column in frame.items():
        if column.dtype == "Int64" and not column.hasnans:
            frame[name] = column.astype("int64")
    return frame


def _plain_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Sums of integers are wide decimals in DuckDB, and products of constants narrow ones."""
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return pa.int64() if kind.scale == 0 else pa.float64()
    if pa.types.is_signed_integer(kind):
        return pa.int64()
    return kind
