"""06: from rows on disk to tables and words."""

from wcse_lib.analyze import tables
from wcse_lib.analyze.stage import analyze, checks
from wcse_lib.analyze.tables import TABLES, Column, Figure, Kind, Table, read_tables, write_tables
from wcse_lib.analyze.words import ALL, PRIMARY, answer

__all__ = [
    "ALL",
    "Column",
    "Figure",
    "Kind",
    "PRIMARY",
    "TABLES",
    "Table",
    "analyze",
    "answer",
    "checks",
    "read_tables",
    "tables",
    "write_tables",
]
