"""Where a study's FLOPs, hours and USD went, as one stacked bar for each."""

from __future__ import annotations

import pandas as pd

from wcse_lib.budget import Part
from wcse_lib.report import marks
from wcse_lib.report.format import total_words
from wcse_lib.report.layout import Sheet
from wcse_lib.report.style import looks_of

LEAST_LABELLED = 0.06  # narrower parts of a bar have no room for their number
GREYS = {
    Part.PLAN: "#b0b0b0",
    Part.VERIFICATION: "#909090",
    Part.TRAINING: "#3d3d3d",
    Part.TESTS: "#6b6b6b",
}
Frame = pd.DataFrame


def _in_shares(rows: Frame) -> Frame:
    """A row for every line of the totals and unit that is known, with its share of all that was spent in that unit."""
    lines = rows["who"].astype(str) + ": " + rows["part"]
    units = {str(rows["unit"].iloc[0]): "spent", "usd": "usd", "hours": "hours"}
    parts = []
    for unit, column in units.items():
        amounts = rows[column].fillna(0)
        if amounts.sum() > 0:
            facts = dict(line=lines, unit=unit, share=amounts / amounts.sum(), total=amounts.sum())
            parts.append(rows[["who", "part"]].assign(**facts))
    return pd.concat(parts) if parts else rows.head(0)


def shares(rows: Frame, ax):
    """Where it went: a bar for every unit, in parts of 100 %; arms in their colours, prompts lighter."""
    units = list(rows["unit"].unique())
    ends = dict.fromkeys(units, 0.0)
    for row, is_first in zip(rows.itertuples(), ~rows["line"].duplicated()):
        y, left = units.index(row.unit), ends[row.unit]
        label = row.line if is_first else None
        ax.barh(y, row.share, left=left, height=0.7, label=label, **_fill(row, rows))
        if row.share >= LEAST_LABELLED:
            inside = dict(ha="center", va="center", size=6.5, color="white")
            ax.text(left + row.share / 2, y, f"{100 * row.share:.0f} %", **inside)
        ends[row.unit] = left + row.share
    totals = rows.drop_duplicates("unit")["total"]
    ax.set_yticks(range(len(units)), [total_words(*both) for both in zip(totals, units)])
    ax.set_ylim(len(units) - 0.5, -0.5)
    ax.set_xlim(0, 1)
    return marks.finish(ax, "Share of all that was spent, %", percent="x")


def _fill(row, rows: Frame) -> dict:
    """The fill of a part: an arm's colour for its samples and, lighter, its prompts; greys for what all share."""
    if row.part in GREYS:
        return dict(color=GREYS[row.part])
    return dict(
        color=looks_of(rows["who"])[row.who].color, alpha=1 if row.part == Part.SAMPLES else 0.6
    )


SHARES = Sheet(shares, rows=_in_shares, least_height=1.0)
