"""06: from rows on disk to tables and words."""

from wcse_lib.analyze import columns
from wcse_lib.analyze.answer import answer
from wcse_lib.analyze.columns import Column, Figure, Kind, Section, Shown, Table
from wcse_lib.analyze.stage import analyze, checks
from wcse_lib.analyze.tables import TABLES, read_tables, write_tables
from wcse_lib.analyze.words import (
    ALL_BASES,
    CONTROL_WORDS,
    QUANTITY_WORDS,
    UNIT_WORDS,
    Quantity,
    judge_words,
    with_metric_words,
)
from wcse_lib.verdicts import PRIMARY_METRIC, Metric, metric_words

__all__ = [
    "ALL_BASES",
    "CONTROL_WORDS",
    "Column",
    "Figure",
    "Kind",
    "Metric",
    "PRIMARY_METRIC",
    "QUANTITY_WORDS",
    "Quantity",
    "Section",
    "Shown",
    "TABLES",
    "UNIT_WORDS",
    "Table",
    "analyze",
    "answer",
    "checks",
    "columns",
    "judge_words",
    "metric_words",
    "read_tables",
    "with_metric_words",
    "write_tables",
]
