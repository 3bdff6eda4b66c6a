"""How values of a table are written for people."""

from __future__ import annotations

from wcse_lib.analyze import Column, Kind
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
        return MISSING
    if column.kind == Kind.P_VALUE and value < 0.001:
        return "< 0.001"
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
