"""What a declared table is made of: its columns and figures, and its place in the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


class Kind(StrEnum):
    """What a column holds, which decides how it is read and how it is written for people."""

    WORD = "word"
    NUMBER = "number"
    FLAG = "flag"  # true or false, written as yes or no
    P_VALUE = "p value"
    HOURS = "hours"  # written in the unit that suits its size
    BOUND = "bound"  # an end of the interval of `value`: written beside it
    UNIT = "unit"  # the unit of this row's `value`: written beside it


class Section(StrEnum):
    """The parts of the report, in their order."""

    WHY = "why"
    DATA = "data"
    STUDENTS = "students"
    CONTROLS = "controls"
    FORECAST = "forecast"
    LEDGER = "ledger"


class Shown(StrEnum):
    """Where the report shows a table's rows."""

    OPEN = "open"
    FOLDED = "folded"
    ONLY_IN_FILE = "only in file"


@dataclass(frozen=True)
class Column:
    """A column: its name in the file, its heading for people (by default made from the name), and what it holds.

    `words`: what people read instead of its values. `unit`: "%" of shares and "points" of differences of shares, both
    kept as fractions of 1. `signed`: positive numbers show their sign. An `optional` column is left out where a study
    has nothing to put there.
    """

    name: str
    heading: str = ""
    kind: Kind = Kind.NUMBER
    unit: str = ""
    signed: bool = False
    optional: bool = False
    words: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def label(self) -> str:
        """The heading for people, with its unit.

        >>> Column("n_problems").label, Column("value", "coverage", unit="%").label
        ('problems', 'coverage, %')
        """
        heading = self.heading or self.name.removeprefix("n_").replace("_", " ")
        return f"{heading}, {self.unit}" if self.unit else heading


@dataclass(frozen=True)
class Figure:
    """A figure of a table, drawn by the function of this name in `report.figures`.

    `caption` says what it shows and how to read it; `title` is the table's heading where it is empty; `intervals` is
    what shows the 95 % intervals ("" where nothing does), and `counted` what `n` of the table counts. `shown`: open in
    the report, or folded.
    """

    name: str
    caption: str
    title: str = ""
    intervals: str = "Bars"
    counted: str = "problems"
    shown: Shown = Shown.FOLDED


@dataclass(frozen=True)
class Table:
    """A table of `06_analyze/tables`: its columns in the order in which people read them, and its place in the report
    (None: it is in no study's report).

    `optional`: not every complete study has it. `needs`: what a study must have for it, in words. `across`: the column
    whose values stand side by side in the report.
    """

    name: str
    section: Section | None
    heading: str
    columns: tuple[Column, ...]
    figures: tuple[Figure, ...] = ()
    shown: Shown = Shown.FOLDED
    optional: bool = False
    needs: str = ""
    across: str = ""

    @property
    def required(self) -> list[str]:
        """Names of the columns that every file of this table has."""
        return [column.name for column in self.columns if not column.optional]

    @property
    def of_students(self) -> bool:
        """Whether only a study that trains students has this table."""
        return self.section in (Section.STUDENTS, Section.CONTROLS)


Columns = tuple[Column, ...]


def words(*names: str) -> Columns:
    return tuple(Column(name, kind=Kind.WORD) for name in names)


def enum(name: str, words: Mapping[str, str]) -> Columns:
    return (Column(name, kind=Kind.WORD, words=words),)


def numbers(*names: str) -> Columns:
    return tuple(Column(name) for name in names)


METRIC = words("metric", "decoding") + numbers("k")


# arm_a's students minus arm_b's, each with their own paradigm
PAIR = words("base", "budget", "arm_a", "arm_b", "paradigm_a", "paradigm_b")


def flag(name: str) -> Columns:
    return (Column(name, kind=Kind.FLAG),)


def share(name: str, heading: str) -> Columns:
    return (Column(name, heading, unit="%"),)


def optional(columns: Columns) -> Columns:
    return tuple(replace(column, optional=True) for column in columns)


def estimate(heading: str, unit: str = "", signed: bool = False) -> Columns:
    """The three columns of an estimate: `value` and the ends of its 95 % interval, `low` and `high`."""
    value = Column("value", heading, unit=unit, signed=signed)
    return (value, Column("low", kind=Kind.BOUND), Column("high", kind=Kind.BOUND))


def bounds(prefix: str = "") -> Columns:
    """What a share would be if all unverifiable samples were wrong, and if all were right; where there are such."""
    columns = []
    for name in BOUNDS:
        words = name.replace("_", " ")
        columns.append(Column(f"{prefix}{name}", f"{prefix.replace('_', ' ')}{words}", unit="%"))
    return optional(tuple(columns))


BOUNDS = ("if_wrong", "if_right")
UNIT = (Column("unit", kind=Kind.UNIT),)
P_VALUES = (Column("p_holm", "p (Holm)", Kind.P_VALUE), Column("p", kind=Kind.P_VALUE))
DIFFERENCE = estimate("difference", "points", signed=True)
# the two parts of a difference's standard error
ERROR_BY_PROBLEMS = Column("error_by_problems", unit="points")
ERROR_BY_LUCK = Column("error_by_luck", unit="points")
# larger differences are excluded, in either direction, by two one-sided tests at 5 %
EXCLUDED = Column("excluded", "larger ones excluded", unit="points")
TESTED = (
    P_VALUES
    + optional((EXCLUDED,))
    + numbers("n_problems")
    + numbers("n_seeds")
    + optional(numbers("n_only_a", "n_only_b"))
    + optional((ERROR_BY_PROBLEMS, ERROR_BY_LUCK))
)
