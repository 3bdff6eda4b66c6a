"""What figures are made of: points with intervals, rows of them under headings, series, curves, axes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wcse_lib.intervals import Estimate
from wcse_lib.report.format import power_of_ten
from wcse_lib.report.style import COLUMN, GREY, INK, Look, looks_of

HEADING_GAP, ROW_GAP, SAME_ROW_GAP = 1.4, 1.0, 0.6  # in heights of a row
LONGEST_LINE = 32  # letters that a narrow figure has room for
LONGEST_HEADING = 14  # letters for which a narrow figure has room beside the labels
LONGEST_LABEL = 26  # letters beside which a narrow figure has room for numbers


def finish(ax, x_label: str, y_label: str = "", percent: str = "", grid: str = "x"):
    """Labels, per-cent ticks on the axis `percent`, grid, and a legend where there is more than one series."""
    ax.set_xlabel(x_label)
    ax.set_ylabel(y_label)
    if percent:
        axis = ax.xaxis if percent == "x" else ax.yaxis
        axis.set_major_formatter(lambda value, _: f"{100 * value:.3g}")
    ax.grid(axis=grid)
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend()
    return ax


def curve(ax, x, rows: pd.DataFrame, look: Look, label: str) -> None:
    """A line with a band; every point is marked where they are few, else the ends."""
    marked = None if len(rows) <= 12 else [0, len(rows) - 1]
    ax.plot(
        x,
        rows["value"],
        color=look.color,
        ls=look.line,
        marker=look.marker,
        markevery=marked,
        label=label,
    )
    ax.fill_between(x, rows["low"], rows["high"], color=look.color, alpha=0.15, lw=0)


def points(
    ax, at, rows: pd.DataFrame, look: Look, label: str | None, flat=False, hollow=False
) -> None:
    """Points with their intervals, at these places of the x axis (`flat`: of the y axis); no interval, a bare point."""
    value, low, high = (rows[name].to_numpy(float) for name in ("value", "low", "high"))
    x, y, side = (value, at, "xerr") if flat else (at, value, "yerr")
    errors = {side: np.clip([value - low, high - value], 0, None)}
    ax.errorbar(
        x,
        y,
        **errors,
        color=look.color,
        fmt=look.marker,
        mfc="white" if hollow else look.color,
        elinewidth=1,
        label=label,
        clip_on=False,
    )


def places(ax, groups: list[str], rows: list[str]) -> np.ndarray:
    """Order entries by group, under a heading each, and by row; label the axis; return the entries' y."""
    keys = list(zip(groups, rows))
    heights = np.zeros(len(keys))
    y, previous = 0.0, (None, None)
    order = sorted(range(len(keys)), key=lambda i: (groups.index(groups[i]), keys.index(keys[i])))
    for i in order:
        if groups[i] != previous[0]:
            if previous[0]:
                y += HEADING_GAP
            _heading(ax, y, groups[i])
        y += SAME_ROW_GAP if keys[i] == previous else ROW_GAP
        heights[i] = y
        previous = keys[i]
    ticks = pd.Series(heights).groupby(pd.Series(keys), sort=False).mean()
    ax.set_yticks(list(ticks), [row for _, row in ticks.index])
    ax.set_ylim(y + 0.7, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return heights


def _heading(ax, y: float, text: str) -> None:
    """A heading from the axes' left on; in a narrow figure a long one ends at their right, since no labels stand beside
    it."""
    is_long = ax.figure.get_figwidth() <= COLUMN and len(text) > LONGEST_HEADING
    ax.text(
        1 if is_long else 0,
        y,
        text,
        transform=ax.get_yaxis_transform(),
        weight="bold",
        size=7.5 * min(1, LONGEST_LINE / len(text)) if is_long else 7.5,
        ha="right" if is_long else "left",
        va="center",
        bbox=dict(fc="white", ec="none", pad=1),
    )


def dots(ax, rows: pd.DataFrame, by: str, notes: str = "") -> np.ndarray:
    """Points with intervals, a line of the figure for each (`group`, `row`), marked by the column `by`.

    Columns: group, row, value, low, high, `by`; `hollow`, where given, leaves points empty; `notes`: a column of short
    texts to stand beside them. Returns the entries' y.
    """
    heights = places(ax, list(rows["group"]), list(rows["row"]))
    names = rows[by] if by else pd.Series("", rows.index)
    looks = looks_of(names)
    labelled = ~names.duplicated().to_numpy()
    for i, name in enumerate(names):
        one = rows.iloc[[i]]
        hollow = "hollow" in one and one["hollow"].iloc[0]
        points(ax, [heights[i]], one, looks[name], name if labelled[i] else None, True, hollow)
        note = one[notes].iloc[0] if notes else None
        if isinstance(note, str):
            end = (np.nanmax(one[["value", "high"]]), heights[i])
            offset = dict(textcoords="offset points", va="center", size=6, color=GREY)
            ax.annotate(note, end, (3, 0), **offset)
    return heights


def forest(ax, rows: pd.DataFrame, by: str = "") -> None:
    """Differences as dots around a zero line, in percentage points, spelt out at the right where there is room. Columns
    as `dots`."""
    ax.axvline(0, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    in_points = {name: 100 * rows[name] for name in ("value", "low", "high")}
    heights = dots(ax, rows.assign(**in_points), by)
    if ax.figure.get_figwidth() <= COLUMN and rows["row"].str.len().max() > LONGEST_LABEL:
        return  # long labels leave no room beside the dots
    for y, row in zip(heights, rows.itertuples()):
        estimate = Estimate(row.value, row.low, row.high, unit="points")
        text = estimate.text(with_unit=False)
        ax.text(1.02, y, text, transform=ax.get_yaxis_transform(), va="center", size=6.5)


def series(ax, rows: pd.DataFrame, order: list[str], by: str, x_label: str, y_label: str):
    """Points with intervals over the ordered values of the column `at`; hollow: the first of several budgets."""
    one_series = ["student" if "student" in rows else by, "budget"]
    parts = list(rows.groupby(one_series, sort=False, dropna=False, observed=True))
    budgets = list(rows.loc[rows[by].isin(rows["arm"]), "budget"].dropna().unique())
    for i, ((_, budget), part) in enumerate(parts):
        name = part[by].iloc[0]
        label, hollow = name, False
        if len(budgets) > 1 and budget in budgets:
            label, hollow = f"{name}, {budget}", budget == budgets[0]
        # Series stand a little apart, so that their intervals do not hide each other.
        shift = 0.1 * (i - (len(parts) - 1) / 2)
        part = part.assign(at=[order.index(place) + shift for place in part["at"]])
        part = part.sort_values("at")
        look = looks_of(rows[by])[name]
        ax.plot(part["at"], part["value"], color=look.color, ls=look.line, lw=0.8)
        points(ax, part["at"], part, look, label, hollow=hollow)
    ax.set_xticks(range(len(order)), order)
    return finish(ax, x_label, y_label, percent="y", grid="y")


def cost_ticks(ax) -> None:
    """Few ticks of a cost's x axis, linear or log, written as plain numbers where those are short."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    least, most = ax.get_xlim()
    if ax.get_xscale() == "linear" or most < 8 * least:
        # within a decade round numbers are better than powers
        locator = MaxNLocator(nbins=3)
    else:
        locator = LogLocator(subs=(1, 3) if most < 300 * least else (1,), numticks=6)
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(lambda value, _: _tick(value))
    ax.xaxis.set_minor_formatter(NullFormatter())


def _tick(value: float) -> str:
    """A tick's number with the digits that it needs, so that no two ticks read the same.

    >>> [_tick(value) for value in (20, 1e6, 4.2e13)]
    ['20', '10⁶', '4.2·10¹³']
    """
    if value == 0 or 0.01 <= value < 1e4:
        return f"{value:,g}"
    digits, exponent = f"{value:.2e}".split("e")
    digits, raised = f"{float(digits):g}", power_of_ten(int(exponent))
    return raised if digits == "1" else f"{digits}·{raised}"
