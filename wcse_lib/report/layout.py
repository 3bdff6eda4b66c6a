"""How the panels of a figure are laid out: `sheet` makes a function that draws one panel the figure of its name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib.report.style import COLUMN, DOUBLE, canvas, style

Tables = dict[str, pd.DataFrame]
LEGEND_LINE = 0.17  # inches
ROW, DENSE = 0.165, 0.14  # inches of a row, and of each of very many
MANY_ROWS = 40


class Panel(NamedTuple):
    title: str
    rows: pd.DataFrame
    draw: Callable


@dataclass(frozen=True)
class Sheet:
    """How a figure is laid out.

    `rows` chooses the rows of its table; there is a panel for every value of the column `by`, under `title` with that
    value put in, `per_line` side by side. `height`: of a line of panels, in inches, which then share their y axis;
    None: as their rows need, and at least `least_height`. `widths`: of the panels of a line, where they differ.
    `panels`, where given, makes the panels from all tables and the name of the paper's data.
    """

    draw: Callable
    rows: Callable[[pd.DataFrame], pd.DataFrame] = lambda rows: rows
    by: str = ""
    title: str = ""
    per_line: int = 1
    height: float | None = None
    least_height: float = 0.0
    widths: tuple[float, ...] = ()
    panels: Callable[[Tables, str | None], list[Panel]] | None = None


SHEETS: dict[str, Sheet] = {}


def sheet(**layout):
    """Makes a function of `rows` and `ax` the figure of its name, laid out as `Sheet` says."""

    def register(draw: Callable) -> Callable:
        SHEETS[draw.__name__] = Sheet(draw, **layout)
        return draw

    return register


def figure(name: str, table: str, tables: Tables, narrow: bool = False, paper: str | None = None):
    """The figure of this name as a matplotlib Figure, 7 in wide (`narrow`: 3.4 in); None where its table has no
    rows."""
    layout = SHEETS[name]
    if layout.panels:
        panels = layout.panels(tables, paper)
    else:
        panels = _panels(layout, layout.rows(tables[table])) if table in tables else []
    return _laid_out(layout, panels, narrow) if panels else None


def _panels(layout: Sheet, rows: pd.DataFrame) -> list[Panel]:
    values = list(rows[layout.by].dropna().unique()) if layout.by in rows else []
    if len(values) < 2:
        return [Panel("", rows, layout.draw)] if len(rows) else []
    titles = [layout.title.format(value).capitalize() for value in values]
    parts = [rows[rows[layout.by] == value] for value in values]
    return [Panel(title, part, layout.draw) for title, part in zip(titles, parts)]


def _laid_out(layout: Sheet, panels: list[Panel], narrow: bool):
    """Panels under one legend."""
    n_columns = 1 if narrow else min(layout.per_line, len(panels))
    n_lines = -(-len(panels) // n_columns)
    width = COLUMN if narrow else DOUBLE
    height = (layout.height or 2) * n_lines + 0.25
    same_y = layout.height is not None
    # long labels of rows leave axes that are too narrow for a title or a label from their left or around their middle
    sides = ("right", "right") if narrow and layout.widths else ("left", "center")
    handles: dict = {}
    with style():
        drawing = canvas(width, height)
        widths = layout.widths if len(layout.widths) == n_columns else None
        grid = drawing.subplots(
            n_lines, n_columns, squeeze=False, sharey=same_y, width_ratios=widths
        )
        axes = list(grid.ravel())
        for i, (ax, panel) in enumerate(zip(axes, panels)):
            panel.draw(panel.rows, ax).set_title(panel.title, loc=sides[0])
            ax.set_xlabel(ax.get_xlabel(), loc=sides[1])
            shapes, labels = ax.get_legend_handles_labels()
            handles = dict(zip(labels, shapes)) | handles
            if ax.get_legend():
                ax.get_legend().remove()
            if i % n_columns and same_y:
                ax.set_ylabel("")
        for ax in axes[len(panels) :]:
            ax.remove()
        if layout.height is None:
            _fit_heights(drawing, axes[: len(panels)], n_columns, layout.least_height)
        if len(handles) > 1:
            _common_legend(drawing, handles, n_characters=46 if narrow else 100)
    return drawing


def _fit_heights(drawing, axes: list, n_columns: int, least: float) -> None:
    """Give every line of panels the height that the tallest of its panels needs for its rows."""
    tall = [np.ptp(ax.get_ylim()) for ax in axes]
    lines = [tall[i : i + n_columns] for i in range(0, len(tall), n_columns)]
    tallest = [max(line) for line in lines]
    heights = [max(least, 0.6 + n * (DENSE if n > MANY_ROWS else ROW)) for n in tallest]
    drawing.set_figheight(0.25 + sum(heights))
    axes[0].get_gridspec().set_height_ratios(heights)


def _common_legend(drawing, handles: dict, n_characters: int) -> None:
    """One legend above all panels; its further lines make the figure higher."""
    n_fitting = n_characters // (7 + max(map(len, handles)))
    n_columns = max(1, min(len(handles), n_fitting))
    n_lines = -(-len(handles) // n_columns)
    drawing.set_figheight(drawing.get_figheight() + LEGEND_LINE * (n_lines - 1))
    drawing.legend(handles.values(), handles, loc="outside upper left", ncols=n_columns)
