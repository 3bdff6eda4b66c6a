"""Files: written whole or not at all, read back with their keys checked."""

from wcse_lib.store.errors import StudyError, differences
from wcse_lib.store.files import encodable, locked, read_json, sha256, write_json, write_text
from wcse_lib.store.manifest import check_tables, is_complete, machine, write_manifest
from wcse_lib.store.readers import field, read_table
from wcse_lib.store.samples import (
    KEY,
    SAMPLE_COLUMNS,
    SampleWriter,
    count_rows,
    iter_samples,
    parts,
    read_samples,
    sample_table,
)
from wcse_lib.store.tables import (
    parquet_writer,
    problem_range_filter,
    query,
    query_pieces,
    read_parquet,
    read_pieces,
    write_parquet,
)

__all__ = [
    "KEY",
    "SAMPLE_COLUMNS",
    "SampleWriter",
    "StudyError",
    "check_tables",
    "count_rows",
    "differences",
    "encodable",
    "field",
    "is_complete",
    "iter_samples",
    "locked",
    "machine",
    "parquet_writer",
    "parts",
    "problem_range_filter",
    "query",
    "query_pieces",
    "read_json",
    "read_parquet",
    "read_pieces",
    "read_samples",
    "read_table",
    "sample_table",
    "sha256",
    "write_json",
    "write_manifest",
    "write_parquet",
    "write_text",
]
