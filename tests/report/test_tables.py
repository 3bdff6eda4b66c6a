"""A table is declared once: what `analyze.TABLES` says is written, drawn and shown."""

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_report import make_study

from wcse_lib.analyze import TABLES, Figure, Table, columns, read_tables, write_tables
from wcse_lib.report import draw_all, format, layout, marks, shown, write_report
from wcse_lib.report.tables_html import page_table

MOOD = Table(
    "mood",
    columns.Section.DATA,
    "Mood of the samples",
    columns.words("arm") + columns.estimate("good mood", "%") + columns.numbers("n_problems"),
    (Figure("mood", "Share of samples in a good mood; read it from left to right."),),
)


@pytest.fixture
def mood(monkeypatch) -> pd.DataFrame:
    """A throw-away table with a figure: declared, drawn, and filled."""

    def draw(rows, ax):
        marks.dots(ax, rows.assign(group="Mood", row=rows["arm"]), by="arm")
        return marks.finish(ax, "Good mood, %", percent="x")

    monkeypatch.setitem(TABLES, "mood", MOOD)
    monkeypatch.setitem(layout.SHEETS, "mood", layout.Sheet(draw))
    rows = {"arm": ["se", "wc"], "value": [0.5, 0.4], "low": [0.45, 0.3], "high": [0.55, 0.5]}
    return pd.DataFrame(rows | {"n_problems": [300, 300]})


def test_a_new_table_is_a_file_a_figure_and_a_part_of_the_report(mood, tmp_path):
    folder = make_study(tmp_path / "nano", **dict.fromkeys(TABLES))
    write_tables(folder / "06_analyze" / "tables", {"mood": mood})
    found = read_tables(folder / "06_analyze" / "tables")
    pd.testing.assert_frame_equal(found["mood"], mood, check_dtype=False)
    assert list(draw_all(found)) == ["mood"]
    page = BeautifulSoup(write_report(folder).read_text(), "html.parser")
    assert page.select_one("details.fold summary").get_text() == "Mood of the samples"
    caption = page.select_one("figure.plot figcaption").get_text()
    assert caption.startswith("Share of samples in a good mood")
    assert caption.endswith("Bars: 95\xa0% intervals; n\xa0=\xa0300 problems.")
    heads = [th.get_text() for th in page.select("details.fold th")]
    assert heads == ["arm", "good mood, % [95 % interval]", "problems"]
    assert "50.0 [45.0, 55.0]" in page.select_one("details.fold table").get_text()


def test_every_declared_figure_has_its_function():
    declared = [figure.name for table in TABLES.values() for figure in table.figures]
    of_no_table = {"answer", "studies", "compared_files"}
    assert sorted(declared) == sorted(set(layout.SHEETS) - of_no_table)


@pytest.mark.parametrize("table", TABLES.values(), ids=lambda table: table.name)
def test_a_declared_table_names_every_column_once_and_an_interval_with_its_value(table):
    names = [column.name for column in table.columns]
    assert len(names) == len(set(names))
    assert {"value", "low", "high"}.isdisjoint(names) or {"value", "low", "high"} <= set(names)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        (columns.Column("flops_spent"), 1.234e12, "1.23 × 10¹²"),
        (columns.Column("k"), 12345.0, "12,345"),
        (columns.Column("ratio"), 0.5, "0.5"),
        (columns.Column("ratio"), float("nan"), "–"),
        (columns.Column("inside", kind=columns.Kind.FLAG), True, "yes"),
        (columns.Column("p", kind=columns.Kind.P_VALUE), 0.0002, "< 0.001"),
        (columns.Column("p", kind=columns.Kind.P_VALUE), 0.00615, "0.006"),
        (columns.Column("hours", kind=columns.Kind.HOURS), 0.5, "30 min"),
        (columns.Column("recipe", kind=columns.Kind.WORD), float("nan"), ""),
        (columns.Column("tie_rate", unit="%"), 0.123, "12.3"),
        (columns.Column("excluded", unit="points"), 0.0312, "3.1"),
        (columns.Column("arm", kind=columns.Kind.WORD), "null", "null"),
    ],
)
def test_a_value_is_written_as_its_column_says(column, value, text):
    assert format.cell(column, value) == text


@pytest.mark.parametrize(
    ("column", "unit", "text"),
    [
        (columns.Column("value", unit="%"), None, "40.0 [30.0, 50.0]"),
        (columns.Column("value", unit="points", signed=True), None, "+40.0 [+30.0, +50.0]"),
        (columns.Column("value"), "points", "40.0 [30.0, 50.0]"),
        (columns.Column("value", signed=True), "points", "+40.0 [+30.0, +50.0] points"),
        (columns.Column("value"), "nats per token", "0.40 [0.30, 0.50] nats per token"),
        (columns.Column("value"), "", "0.40 [0.30, 0.50]"),
    ],
)
def test_an_estimate_is_written_in_the_unit_of_its_column_or_of_its_row(column, unit, text):
    row = {"value": 0.4, "low": 0.3, "high": 0.5, "unit": unit}
    assert format.estimate(column, row) == text


def test_what_is_the_same_in_every_row_is_said_once_and_undeclared_columns_come_last():
    rows = pd.DataFrame({"seed": [1, 2, 3], "arm": ["a", "b", "c"], "k": 4, "budget": None})
    declared = Table("x", None, "X", columns.words("arm", "budget") + columns.numbers("k"))
    shown = page_table(declared, rows)
    assert [head.label for head in shown.head] == ["arm", "seed"]
    assert shown.constant == "k 4"
    assert [cell.text for cell in shown.rows[0]] == ["a", "1"]


def test_a_notebook_says_of_a_table_without_rows_that_it_has_none():
    """As the false positives of a study that nobody judges: of code, or where a program verifies."""
    words = shown({"false_positives": pd.DataFrame()}, "false_positives")._repr_html_()
    assert "False positives" in words and "No rows." in words
