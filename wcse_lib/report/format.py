"""How values of a table are written for people."""

from __future__ import annotations

from wcse_lib.analyze import UNIT_WORDS, Column, Kind
from wcse_lib.intervals import SHARES, Estimate

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
MISSING = "–"


def power_of_ten(exponent: int) -> str:
    """Ten to a whole power, as people write it.

    >>> power_of_ten(-12)
    '10⁻¹²'
    """
    return "10" + str(exponent).translate(SUPERSCRIPTS)


def number(value: float) -> str:
    """A number with three digits or without decimals, a large one with its power of ten.

    >>> [number(value) for value in (1.234e12, 0.5, 12345.0)]
    ['1.23 × 10¹²', '0.5', '12,345']
    """
    if abs(value) >= 1e7:
        digits, exponent = f"{value:.2e}".split("e")
        return f"{digits} × {power_of_ten(int(exponent))}"
    if abs(value) < 1000 and value % 1:
        return f"{value:,.3g}"
    return f"{value:,.0f}"


def cell(column: Column, value) -> str:
    """A value of a column; an interval, where it has one, is not part of it (`estimate`)."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return column.words.get(value, value)
    if value is None or value != value:
        return "" if column.kind == Kind.WORD else MISSING
    if column.kind == Kind.P_VALUE:
        return f"{value:.3f}" if value >= 0.001 else "< 0.001"
    if column.kind == Kind.HOURS:
        return duration(value)
    if column.unit in SHARES:
        return f"{100 * value:.1f}"
    return number(value)


def estimate(column: Column, row: dict) -> str:
    """The `value` of a row with its interval, and with its unit where the row and not the column names that."""
    unit = row.get("unit") or column.unit
    if unit == "points" and not column.signed:
        unit = "%"
    number = Estimate(row["value"], row["low"], row["high"], unit=unit)
    text = number.text(signed=column.signed, with_unit=False)
    return text if unit in (column.unit, "%", "count") else f"{text} {unit}"


def total_words(amount: float, unit: str) -> str:
    """An amount with its unit, as people say it.

    >>> total_words(3.2e14, "flops"), total_words(0.5, "hours"), total_words(0.00084, "usd")
    ('3.20 × 10¹⁴ FLOPs', '30 min', '0.00084 USD')
    """
    if unit == "hours":
        return duration(amount)
    return f"{number(amount)} {UNIT_WORDS.get(unit, unit)}"


def duration(hours: float) -> str:
    """
    >>> [duration(hours) for hours in (0.002, 0.133, 1.75, 120)]
    ['7 s', '8 min', '1.8 h', '120 h']
    """
    if hours < 1 / 30:
        return f"{3600 * hours:.0f} s"
    if hours < 1:
        return f"{60 * hours:.0f} min"
    return f"{hours:.1f} h" if hours < 10 else f"{hours:,.0f} h"
