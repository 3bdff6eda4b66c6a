"""A table of the analysis as a page shows it: texts to read, numbers to sort by, constant columns said once."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

import pandas as pd

from wcse_lib.analyze import QUANTITY_WORDS, TABLES, Column, Kind, Table, with_metric_words
from wcse_lib.report import format

SMALL = (
    "<table style='font-size: 11px'>"  # the widest table then fits into JupyterLab at 1280 pixels
)
MOST_ROWS = 300  # longer tables are cut here; the CSV has the rest


@dataclass(frozen=True)
class Cell:
    """The text of a cell, and the number that it is sorted by (None: by its text)."""

    text: str
    sort: float | None = None


@dataclass(frozen=True)
class Head:
    """The heading of a column, and whether the column holds numbers."""

    label: str
    number: bool = False


@dataclass(frozen=True)
class PageTable:
    """What the template `data_table` shows. `n`: rows of the whole table; `constant`: what is the same in all."""

    head: list[Head]
    rows: list[list[Cell]]
    n: int
    constant: str = ""
    across: bool = False


def page_table(table: Table, rows: pd.DataFrame) -> PageTable:
    """The rows of a declared table, in the declared order of columns; columns that are not declared come last.

    An interval stands beside its value. Columns without any value are left out; those with one value throughout stand
    in `constant`.
    """
    rows = rows.mask(rows.eq(""))  # no text and no value are one thing to a reader
    if {"metric", "decoding"} <= set(rows):
        rows = with_metric_words(rows)
    if "matched" in rows:
        # Only sampling is matched between arms: elsewhere a bare "no" would read as a fault.
        rows = rows.assign(matched=rows["matched"].where(rows["kind"] == "sampling"))
    shown, constant = [], []
    for column in _columns(table, rows):
        varies = column.name == "value" or rows[column.name].nunique(dropna=False) > 1
        (shown if varies or len(rows) <= 2 else constant).append(column)
    first = rows.iloc[0]
    shared = [f"{column.label} {format.cell(column, first[column.name])}" for column in constant]
    records = rows.head(MOST_ROWS).to_dict("records")
    return PageTable(
        head=[_head(column) for column in shown],
        rows=[[_cell(column, row) for column in shown] for row in records],
        n=len(rows),
        constant=", ".join(shared),
    )


def _columns(table: Table, rows: pd.DataFrame) -> list[Column]:
    """The columns that a page shows of a table: the declared ones that have values, then all others."""
    declared = {column.name: column for column in table.columns}
    others = [_undeclared(rows[name]) for name in rows if name not in declared]
    found = []
    for column in [*declared.values(), *others]:
        beside_value = column.kind in (Kind.BOUND, Kind.UNIT)
        if column.name in rows and not beside_value and rows[column.name].notna().any():
            found.append(column)
    return found


def _undeclared(values: pd.Series) -> Column:
    has_text = values.map(type).isin([str, bool]).any()
    return Column(values.name, kind=Kind.WORD if has_text else Kind.NUMBER)


def _is_number(column: Column) -> bool:
    return column.kind not in (Kind.WORD, Kind.FLAG)


def _head(column: Column) -> Head:
    interval = " [95 % interval]" if column.name == "value" else ""
    return Head(column.label + interval, _is_number(column))


def _cell(column: Column, row: dict) -> Cell:
    value = row[column.name]
    text = format.estimate(column, row) if column.name == "value" else format.cell(column, value)
    known_number = _is_number(column) and value == value
    return Cell(text, value if known_number else None)


def side_by_side(table: Table, rows: pd.DataFrame) -> PageTable:
    """A table with a column per value of `table.across` and budget, for reading across; units but % stand beside the
    quantity."""
    (value_column,) = (column for column in table.columns if column.name == "value")
    cells, quantities = [], []
    for row in rows.to_dict("records"):
        is_share = row["unit"] in ("points", "%")
        plain_unit = row["unit"] if is_share or row["unit"] == "count" else ""
        text = format.estimate(value_column, row | {"unit": plain_unit})
        # Without breaks inside, a narrow column breaks before the interval.
        text = text.replace(", ", ",\xa0") + ("\xa0%" if is_share else "")
        cells.append(Cell(text, row["value"] if row["value"] == row["value"] else None))
        quantities.append(_quantity(row, plain_unit))
    n_budgets = rows["budget"].nunique()
    at = rows[table.across].astype(str) + (", " + rows["budget"] if n_budgets > 1 else "")
    rows = rows.assign(cell=cells, quantity=quantities, at=at)
    wide = rows.pivot_table(
        index="quantity", columns="at", values="cell", aggfunc="first", sort=False
    )
    shown = []
    for quantity, entries in zip(wide.index, wide.to_numpy()):
        known = [entry if isinstance(entry, Cell) else Cell(format.MISSING) for entry in entries]
        shown.append([Cell(quantity), *known])
    head = [Head("quantity"), *(Head(name, number=True) for name in wide.columns)]
    return PageTable(head, shown, len(shown), across=True)


def _quantity(row: dict, plain_unit: str) -> str:
    """The name of a row's quantity, with its base, and with its unit where the cell does not show it."""
    base = f" ({row['base']})" if isinstance(row["base"], str) and row["base"] else ""
    quantity = QUANTITY_WORDS.get(row["quantity"], row["quantity"])
    unit = "" if plain_unit or row["unit"] in quantity else f", {row['unit']}"
    return f"{quantity}{base}{unit}"


@dataclass(frozen=True, repr=False)
class Shown:
    """Declared tables as a notebook shows them: with units, intervals beside their values, and nothing cut off."""

    tables: dict[str, pd.DataFrame]

    def __repr__(self) -> str:
        """What stands beside the HTML in a saved notebook: which tables, and not their raw rows."""
        lines = [f"{TABLES[name].heading}: {len(rows)} rows" for name, rows in self.tables.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return "".join(_html(TABLES[name], rows) for name, rows in self.tables.items())


def shown(tables: dict[str, pd.DataFrame], *names: str) -> Shown:
    """The named tables that a study has, for a notebook's output."""
    return Shown({name: tables[name] for name in names if name in tables})


def _html(declared: Table, rows: pd.DataFrame) -> str:
    """A table with its heading, every text of it escaped."""
    if rows.empty:
        return f"<p><b>{escape(declared.heading)}.</b> No rows.</p>"
    table = side_by_side(declared, rows) if declared.across else page_table(declared, rows)
    lines = [_line("th", [head.label for head in table.head])]
    for row in table.rows:
        lines.append(_line("td", [cell.text for cell in row]))
    notes = []
    if table.constant:
        notes.append(f" In every row: {escape(table.constant)}.")
    if len(table.rows) < table.n:
        notes.append(f" First {len(table.rows)} of {table.n} rows.")
    return (
        f"<p><b>{escape(declared.heading)}.</b>{''.join(notes)}</p>{SMALL}{''.join(lines)}</table>"
    )


def _line(tag: str, texts: list[str]) -> str:
    cells = [f"<{tag} style='text-align: left'>{escape(text)}</{tag}>" for text in texts]
    return f"<tr>{''.join(cells)}</tr>"
