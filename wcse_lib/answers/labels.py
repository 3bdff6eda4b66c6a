"""Reads what looks like arithmetic and is none: dates, ranges, scores, numbers of telephones and of versions."""

from __future__ import annotations

import re
from datetime import date
from typing import NamedTuple

from wcse_lib.answers.answer import Answer
from wcse_lib.answers.nodes import Unread, symbols
from wcse_lib.answers.notation import without_marks
from wcse_lib.answers.scalars import read_scalar, read_words

MONTHS = "january february march april may june july august september october november december"
_MONTHS = {name[:3]: number for number, name in enumerate(MONTHS.split(), start=1)}
_MONTH = rf"({'|'.join(MONTHS.split())}|{'|'.join(_MONTHS)}|sept)\b\.?"
_WEEKDAY = r"(?:(?:mon|tues|wednes|thurs|fri|satur|sun)day,? )?"
_DAY = r"(?:the )?(\d{1,2})(?:st|nd|rd|th)?"
_DATES_IN_WORDS = (  # day, month and year, by their groups
    (re.compile(rf"{_WEEKDAY}{_DAY} (?:of )?{_MONTH}(?:,? (\d{{4}}))?", re.I), (1, 2, 3)),
    (re.compile(rf"{_WEEKDAY}{_MONTH} {_DAY}(?:,? (\d{{4}}))?", re.I), (2, 1, 3)),
)
_DATE_IN_NUMBERS = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{4}|\d{1,2})")

_NUMBER = r"\d[\d,]*(?:\.\d+)?(?: \d+/\d+)?"
_CLOCK = r"\d{1,2}(?::\d\d)?(?: ?[ap]\.?m\.?)?"
_MONEY = r"(?:US)?[$€£¥]"
_RANGE = re.compile(
    rf"(?P<low>{_CLOCK}|{_MONEY}?{_NUMBER}%?)(?P<dash> ?- ?)(?P<high>{_CLOCK}|{_MONEY}?{_NUMBER}%?)"
    r"(?P<unit> ?(?:[A-Za-z]{2}|“|°).*)?",
    re.I,
)
_BETWEEN = re.compile(rf"(?:from|between) ({_NUMBER}) (?:and|to|-) ({_NUMBER})( .*)?", re.I)
_YEAR = re.compile(r"1\d{3}|20\d\d")
_CODES = (  # three numbers or more, or two where a sign says what they are
    re.compile(r"\d+([-/.])\d+(?:\1\d+)+"),  # 555-123-4567, 3/4/5, 1.2.3
    re.compile(r"\+\d{1,3}[- ]\d+(?:[- ]\d+)+"),
    re.compile(r"\(\d{2,5}\) ?\d+-\d+"),
    re.compile(r"v\d+(?:\.\d+)*"),
)


_MAY_BE_LABEL = re.compile(r"\d[%)]? ?[-/.] ?[$€£¥]?\d|[A-Za-z]{3}|^[+(v]")


class Date(NamedTuple):
    """The days that a text may mean, as (year or None, month, day), and its numbers as written."""

    days: frozenset[tuple[int | None, int, int]]
    as_written: tuple[int, ...]


def read_label(text: str) -> Answer | None:
    """The date, range or number without a value that a whole text is, or None.

    >>> read_label("2024-03-05").kind, read_label("10-15").kind, read_label("x-1")
    ('date', 'range', None)
    """
    if not _MAY_BE_LABEL.search(text):
        return None  # as nearly all answers
    words = without_marks(text).strip()
    return _date(words) or _range(text, words) or _code(words)


# ---------------------------------------------------------------- dates


def _date(words: str) -> Answer | None:
    for pattern, (day, month, year) in _DATES_IN_WORDS:
        match = pattern.fullmatch(words)
        if match:
            number = _MONTHS[match.group(month)[:3].lower()]
            return _answer([_day(match.group(year), number, match.group(day))], ())
    match = _DATE_IN_NUMBERS.fullmatch(words)
    if not match:
        return None
    first, _, second, third = match.groups()
    numbers = (int(first), int(second), int(third))
    if len(first) == 4:
        return _answer([_day(*numbers)], numbers)
    if len(first) == 3 or (match.group(2) == "." and len(third) != 4):
        return None
    years = [third] if len(third) == 4 else [f"19{third:>02}", f"20{third:>02}"]
    # day and month, in either order
    days = [_day(year, first, second) for year in years]
    days += [_day(year, second, first) for year in years]
    return _answer(days, numbers)


def _day(year: str | int | None, month: str | int, day: str | int) -> tuple | None:
    """A day that there is, else None."""
    try:
        date(int(year or 2000), int(month), int(day))
    except ValueError:
        return None
    return (int(year) if year else None, int(month), int(day))


def _answer(days: list, numbers: tuple[int, ...]) -> Answer | None:
    known = frozenset(filter(None, days))
    return Answer("date", tag=Date(known, numbers)) if known else None


# ---------------------------------------------------------------- ranges and codes


def _range(text: str, words: str) -> Answer | None:
    """A range or score: two numbers joined by a hyphen without spaces, or with them where years or a unit say so."""
    between = _BETWEEN.fullmatch(words)
    if between:
        return _from_to(*between.groups())
    match = _RANGE.fullmatch(text)
    if not match:
        return None
    low, high, unit = match.group("low"), match.group("high"), match.group("unit")
    are_years = _YEAR.fullmatch(low) and _YEAR.fullmatch(high)
    is_plain = re.fullmatch(r"[\d.,]+", low) and re.fullmatch(r"[\d.,]+", high)
    if match.group("dash") != "-" and is_plain and not unit and not are_years:
        return None  # 10 - 3
    if high.endswith("%") and not low.endswith("%"):
        low += "%"
    money = re.match(_MONEY, low)
    if money and high[0].isdigit():
        high = money.group() + high
    return _from_to(low, high, unit)


def _from_to(low: str, high: str, unit: str | None) -> Answer | None:
    """The range of two ends with the unit that follows the second, None where it is no unit, as in 3-2x."""
    try:
        ends = [read_words(end) or read_scalar(end + (unit or "")) for end in (low, high)]
    except Unread:
        return None
    for end in ends:
        is_quantity = end.kind == "expr" and not symbols(end.node) and (end.unit or not unit)
        if end.kind != "time" and not is_quantity:
            return None
    return Answer("range", tuple(ends))


def _code(words: str) -> Answer | None:
    """Numbers joined by hyphens, points or strokes, whose digits are all that they are."""
    if any(pattern.fullmatch(words) for pattern in _CODES):
        return Answer("text", tag="-".join(re.findall(r"\d+", words)))
    return None
