"""The parts of a study's page: what of every declared table and figure stands open, and what is folded."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from wcse_lib.analyze import TABLES, Column, Figure, Section, Shown, Table
from wcse_lib.report.drawing import draw_all
from wcse_lib.report.layout import SHEETS
from wcse_lib.report.style import svg
from wcse_lib.report.tables_html import PageTable, page_table, side_by_side

FILE = "06_analyze/tables/{}.csv"
MOST_ACROSS = 4  # columns of numbers side by side
MOST_ROWS = 8  # of a table that stands open
MOST_FOLDS = 6  # of one table, each with a line of its own
Tables = dict[str, pd.DataFrame]


@dataclass(frozen=True)
class PageFigure:
    """A figure as a template shows it: SVG in base64 for wide and narrow screens, its numbers in words, a caption."""

    wide: str
    narrow: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Block:
    """A table, a figure, or a figure with its numbers in a table, under one title."""

    title: str
    figure: PageFigure | None = None
    table: PageTable | None = None
    file: str = ""
    is_open: bool = False
    inner: tuple[Block, ...] = ()  # further ones, folded under this title


def sections(tables: Tables, drawn: dict[str, PageFigure]) -> dict[Section, list[Block]]:
    """The blocks of every section that has any, in the declared order."""
    found: dict[Section, list[Block]] = {}
    for table in TABLES.values():
        if table.name in tables:
            blocks = _blocks(table, tables[table.name], drawn)
            found.setdefault(table.section, []).extend(blocks)
    return {section: found[section] for section in Section if section in found}


def _blocks(table: Table, rows: pd.DataFrame, drawn: dict[str, PageFigure]) -> list[Block]:
    if table.name == "reasons":
        return _by_comparison(table, rows)
    if table.across and _is_wide(rows):
        return _by_budget(table, rows, drawn)
    shown = side_by_side(table, rows) if table.across else page_table(table, rows)
    numbers = {"table": shown, "file": FILE.format(table.name)}
    blocks = []
    is_short = bool(table.across) or len(rows) <= MOST_ROWS
    if table.shown == Shown.OPEN and is_short:
        blocks.append(Block(table.heading, is_open=True, **numbers))
    if table.shown == Shown.ONLY_IN_FILE or blocks:
        numbers = {}
    for figure in table.figures:
        if figure.name in drawn:
            title, is_open = figure.title or table.heading, figure.shown == Shown.OPEN
            blocks.append(Block(title, drawn[figure.name], is_open=is_open, **numbers))
            numbers = {}  # they stand with the first figure
    if numbers:
        blocks.append(Block(table.heading, **numbers))
    return blocks


def _is_wide(rows: pd.DataFrame) -> bool:
    """Whether a table of several budgets has more columns side by side than a page has room for."""
    n_columns = len(rows[["arm", "budget"]].drop_duplicates())
    return rows["budget"].nunique() > 1 and n_columns > MOST_ACROSS


def _by_budget(table: Table, rows: pd.DataFrame, drawn: dict[str, PageFigure]) -> list[Block]:
    """A table for the last budget, which is open, with the figures of all; and one for each other budget."""
    *others, last = rows["budget"].unique()
    blocks = []
    for budget in (last, *others):
        heading = f"{table.heading}, at {budget}"
        own = replace(table, heading=heading, figures=() if blocks else table.figures)
        if blocks:
            own = replace(own, shown=Shown.FOLDED)
        blocks += _blocks(own, rows[rows["budget"] == budget], drawn)
    return blocks


def _by_comparison(table: Table, rows: pd.DataFrame) -> list[Block]:
    """A block for each comparison of arms, in its own direction; the first one of which a recipe tells is open."""
    comparisons = list(rows.groupby(["arm_a", "arm_b", "budget"], sort=False))
    if "finding" in rows:
        comparisons.sort(key=lambda comparison: comparison[1]["finding"].isna().all())
    blocks = []
    for (arm_a, arm_b, budget), own in comparisons:
        named = [_named_after(column, f"{arm_a} − {arm_b}") for column in table.columns]
        declared = replace(table, columns=tuple(named))
        shown = page_table(declared, own.drop(columns=["arm_a", "arm_b", "budget"]))
        heading = f"{arm_a} − {arm_b} at {budget}"
        title = f"The same of {heading}" if blocks else f"{table.heading} ({heading})"
        blocks.append(Block(title, table=shown, file=FILE.format(table.name), is_open=not blocks))
    first, *others = blocks
    if len(others) > MOST_FOLDS:
        others = [Block(f"The same of {len(others)} other comparisons", inner=tuple(others))]
    return [first, *others]


def _named_after(column: Column, heading: str) -> Column:
    return replace(column, heading=heading) if column.name == "value" else column


def page_figures(tables: Tables, paper: str | None, folder: Path) -> dict[str, PageFigure]:
    """Every figure for wide and for narrow screens. The wide ones are those that 06 saved in `folder`, unless its
    tables are younger."""
    narrow = draw_all(tables, narrow=True, paper=paper)
    wide = _saved_figures(folder)
    if not narrow.keys() <= wide.keys():
        drawn = draw_all(tables, paper=paper)
        wide = {name: svg(figure) for name, figure in drawn.items()}
    shown = {}
    for table in TABLES.values():
        for figure in table.figures:
            if figure.name in narrow:
                rows = SHEETS[figure.name].rows(tables[table.name])
                alt = numbers_in_words(table, rows)
                caption = _caption(figure, rows)
                both = wide[figure.name], svg(narrow[figure.name])
                shown[figure.name] = page_figure(*both, alt, caption)
    if "answer" in narrow:
        alt = "; ".join(shown[name].alt for name in ("differences", "coverage") if name in shown)
        shown["answer"] = page_figure(wide["answer"], svg(narrow["answer"]), alt)
    return shown


def page_figure(wide_svg: str, narrow_svg: str, alt: str, caption: str = "") -> PageFigure:
    wide, narrow = (base64.b64encode(svg.encode()).decode() for svg in (wide_svg, narrow_svg))
    return PageFigure(wide, narrow, alt, caption)


def _saved_figures(folder: Path) -> dict[str, str]:
    """The figures that 06 saved after it had written its tables, as SVG."""
    written = [path.stat().st_mtime for path in folder.glob("tables/*.csv")]
    newest = max(written, default=0.0)
    saved = [path for path in folder.glob("figures/*.svg") if path.stat().st_mtime >= newest]
    return {path.stem: path.read_text(encoding="utf-8") for path in saved}


def _caption(figure: Figure, rows: pd.DataFrame) -> str:
    if not figure.intervals:
        return figure.caption
    n = _span(rows)
    return (
        f"{figure.caption} {figure.intervals}: 95\xa0% intervals; n\xa0=\xa0{n} {figure.counted}."
    )


def _span(rows: pd.DataFrame) -> str:
    """On how many problems or samples the rows rest: one number, or the least and the most."""
    for name in ("n_problems", "n"):
        if name in rows:
            least, most = rows[name].min(), rows[name].max()
            return f"{least:,.0f}" if least == most else f"{least:,.0f} to {most:,.0f}"
    return "0"


def numbers_in_words(table: Table, rows: pd.DataFrame) -> str:
    """A figure's numbers for those who do not see it: its first rows; of curves, which are long, their ends."""
    if table.name in ("coverage", "training"):
        rows = rows.groupby(rows.columns[0], sort=False).tail(1)
    shown = page_table(table, rows)
    sentences = []
    for row in shown.rows[:6]:
        pairs = [f"{head.label} {cell.text}" for head, cell in zip(shown.head, row)]
        sentences.append(", ".join(pairs))
    if len(rows) > 6:
        sentences.append(f"and {len(rows) - 6} more")
    return "; ".join(sentences)
