"""Files: written whole or not at all, read back with their keys checked."""

from wcse_lib.store.contents import sha256
from wcse_lib.store.errors import StudyError, differences
from wcse_lib.store.files import (
    encodable,
    locked,
    read_json,
    remove,
    write_contents,
    write_json,
    write_text,
)
from wcse_lib.store.manifest import check_tables, is_complete, machine, write_manifest
from wcse_lib.store.readers import field, read_table, read_text
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
from wcse_lib.store.values import (
    USER,
    NotText,
    TableRow,
    folded,
    is_chat,
    is_parts,
    name_of,
    read_spelt,
    words_of,
)

__all__ = [
    "KEY",
    "NotText",
    "SAMPLE_COLUMNS",
    "SampleWriter",
    "StudyError",
    "TableRow",
    "USER",
    "check_tables",
    "count_rows",
    "differences",
    "encodable",
    "field",
    "folded",
    "is_chat",
    "is_complete",
    "is_parts",
    "iter_samples",
    "locked",
    "machine",
    "name_of",
    "parquet_writer",
    "parts",
    "problem_range_filter",
    "query",
    "query_pieces",
    "read_json",
    "read_spelt",
    "read_parquet",
    "read_pieces",
    "read_samples",
    "read_table",
    "read_text",
    "remove",
    "sample_table",
    "sha256",
    "words_of",
    "write_contents",
    "write_json",
    "write_manifest",
    "write_parquet",
    "write_text",
]
