"""SQL over Parquet files and frames, by DuckDB: little memory, whatever the number of rows."""

from __future__ import annotations

import contextlib
import glob
import re
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from wcse_lib.store.records import PIECE, StudyError, _reading

if TYPE_CHECKING:
    import duckdb
    import pyarrow

MEMORY_LIMIT = "400MB"  # what a query holds before it writes to the temporary folder
Table = Path | list[Path] | pd.DataFrame


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
    """An empty database in memory that sees `tables`, and no other file, frame or extension."""
    import duckdb

    with tempfile.TemporaryDirectory(prefix="wcse-sql-") as temporary:
        settings = {
            "memory_limit": MEMORY_LIMIT,
            "threads": 1,
            "temp_directory": temporary,
            "preserve_insertion_order": True,
            "python_enable_replacements": False,  # a misspelt table is no Python variable
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
        }
        with duckdb.connect(config=settings) as database:
            database.execute("SET enable_progress_bar = false")
            for name, table in tables.items():
                _add_view(database, name, table)
            try:
                yield database
            except duckdb.BinderException as error:
                raise _named_column(error, tables) or error from error
            except (duckdb.IOException, duckdb.OutOfMemoryException) as error:
                raise StudyError(
                    f"{tempfile.gettempdir()}: a table could not be sorted or joined there ({error}); "
                    "free that disk, or set TMPDIR to a larger one"
                ) from error


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


def _paths(table: Path | list[Path]) -> list[Path]:
    return table if isinstance(table, list) else [table]


def _columns(path: Path) -> tuple[str, ...]:
    """The columns of a file whose every page is undamaged. Raises StudyError as `read_parquet`."""
    with _reading(path):
        state = path.stat()
    return _verified_columns(path, state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=10_000)
def _verified_columns(path: Path, size: int, mtime_ns: int) -> tuple[str, ...]:
    """`_columns`, once for each state of a file: DuckDB itself does not look at the pages' checksums."""
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for _ in file.iter_batches(PIECE):
            pass
        return tuple(file.schema_arrow.names)


def _named_column(error: Exception, tables: dict[str, Table]) -> StudyError | None:
    """The error for a column that files lack; None where no file is to blame."""
    column = re.search(r'column "([^"]+)"', str(error), re.IGNORECASE)
    if not column:
        return None
    for table in tables.values():
        if isinstance(table, pd.DataFrame):
            continue
        for path in _paths(table):
            if column[1] not in _columns(path):
                return StudyError(
                    f"{path}: no column {column[1]!r}; columns are {', '.join(_columns(path))}: "
                    "the file is of another version of the kit; run its stage again"
                )
    return None


def _frame_of(table: pyarrow.Table) -> pd.DataFrame:
    """An Arrow table with the kinds of columns that `query` promises."""
    import pyarrow as pa

    for place, column in enumerate(table.schema):
        kind = _plain_type(column.type)
        table = table.set_column(place, column.name, table.column(place).cast(kind))
    kinds = {pa.bool_(): pd.BooleanDtype()}
    frame = table.to_pandas(types_mapper=kinds.get)
    for place, column in enumerate(table.schema):
        # NULL would turn every integer of the column into a float, and an id `1` into `1.0`
        if pa.types.is_integer(column.type) and table.column(place).null_count:
            frame[column.name] = (
                table.column(place).to_pandas(integer_object_nulls=True).astype("Int64")
            )
    return frame


def _plain_type(kind: pyarrow.DataType) -> pyarrow.DataType:
    """Sums of integers are wide decimals in DuckDB, and products of constants narrow ones."""
    import pyarrow as pa

    if pa.types.is_decimal(kind):
        return pa.int64() if kind.scale == 0 else pa.float64()
    if pa.types.is_signed_integer(kind):
        return pa.int64()
    return kind
