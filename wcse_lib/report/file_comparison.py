"""Two files of samples compared: one page with an answer, a figure and a table, and the same table as plain text."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from wcse_lib import budget
from wcse_lib.analyze import QUANTITY_WORDS, Column, Kind, Quantity
from wcse_lib.intervals import Estimate
from wcse_lib.report import format, marks
from wcse_lib.report.layout import Panel, Tables, figure, sheet
from wcse_lib.report.page import render
from wcse_lib.report.paths import shortener
from wcse_lib.report.sections import page_figure
from wcse_lib.report.style import looks_of, save, svg
from wcse_lib.report.tables_html import Cell, Head, PageTable
from wcse_lib.store import machine, read_text, write_text
from wcse_lib.study import Run

QUANTITIES = (  # the rows of the table, in their order
    Quantity.PASS_AT_1,
    Quantity.COVERAGE,
    Quantity.SOUND_COVERAGE,
    Quantity.FALSE_POSITIVE_RATE,
    Quantity.SOLUTIONS,
    Quantity.DUPLICATES,
    Quantity.EXAMPLES_PER_PROBLEM,
)
K_TICKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
TERMINAL_WIDTH = 100
CAPTION_OF_CURVES = (
    "Share of the problems with at least one correct sample among k, estimated from all samples that are compared. "
    "Bands: 95 % intervals over problems, of each file by itself; their difference, over the same problems, is surer "
    "than the bands look."
)
CAPTION_OF_SHARES = (
    "Lines: 95 % intervals of each file by itself; what each rests on stands in the table as n."
)
P_VALUE = Column("p_holm", kind=Kind.P_VALUE)


@dataclass(frozen=True)
class ComparedFile:
    """A file of samples: the arm that it is, where it lies, and in words which of its columns were read."""

    name: str
    path: str
    columns: str


def write_file_comparison(
    run: Run, tables: Tables, answer: dict, files: list[ComparedFile], caveats: list[str]
) -> tuple[Path, str]:
    """Write `<study>/comparison.html`, and its figure to `figures/`, from the tables and answer of 06.

    Args: caveats: what of the files is not compared, and what they cannot tell. Returns the page's path, and answer,
    table and caveats as plain text.
    """
    names = [file.name for file in files]
    table = _table(tables, names)
    who = _who(run, files)
    caveats = [*_about_judging(run, tables), *caveats]
    shorten = shortener(run.folder.resolve())
    facts = {
        "title": run.study.title,
        "headline": answer["headline"],
        "paragraph": " ".join(answer["sentences"]),
        "who": who,
        "figure": _drawn(run, tables),
        "caption": CAPTION_OF_CURVES if _has_curves(tables) else CAPTION_OF_SHARES,
        "figure_title": "Coverage" if _has_curves(tables) else "The two files",
        "table": table,
        "caveats": caveats,
        "files": [replace(file, path=shorten(file.path)) for file in files],
        "notes": answer["notes"],
        "params": shorten(read_text(run.folder / "params.yaml")),
        "plan_id": run.plan_id,
        "machine": machine(),
    }
    page = run.folder / "comparison.html"
    write_text(page, render("file_comparison.html.j2", facts))
    parts = [
        answer["headline"],
        who,
        _plain_text(table),
        "\n".join(f"- {text}" for text in caveats),
    ]
    return page, "\n\n".join(_wrapped(part) for part in parts)


def _who(run: Run, files: list[ComparedFile]) -> str:
    """What is compared: how many samples of each file, of how many problems."""
    n = {file.name: max(run.arm(file.name).samples.values()) for file in files}
    if len(set(n.values())) == 1:
        samples = f"{max(n.values())} of each file"
    else:
        samples = " and ".join(f"{n_samples} of {name}" for name, n_samples in n.items())
    cost = ""
    if run.study.budget.match == "price":
        of_sample = [f"{usd:.3g} USD of {name}" for name, usd in _usd(run).items()]
        cost = f" They cost the same: a sample {' and '.join(of_sample)}."
    n_problems = run.plan.n_problems["train"]
    return f"Samples of {n_problems:,} problems that both files have: {samples} for each problem.{cost}"


def _usd(run: Run) -> dict[str, float]:
    """What a sample of each file costs."""
    costs = budget.matched_costs(run.study, run.plan.plain_arms())
    return {name: budget.cost(of_arm, "price", 1, "none") for name, of_arm in costs.items()}


# ---------------------------------------------------------------------- the table


def _table(tables: Tables, names: list[str]) -> PageTable:
    """A row for each quantity: of both files with the n that it rests on, and the paired difference."""
    differences = tables["arm_differences"].set_index("quantity")
    values = tables["explanation"].set_index(["quantity", "arm"])
    pair = differences.iloc[0]
    head = [Head("quantity")]
    for name in names:
        head += [Head(name, True), Head("n", True)]
    head += [
        Head(f"{pair['arm_a']} − {pair['arm_b']}", True),
        Head("p (Holm)", True),
        Head("problems", True),
    ]
    rows = []
    for quantity in QUANTITIES:
        known = [values.loc[(quantity, name)] for name in names if (quantity, name) in values.index]
        if len(known) == len(names):
            rows.append(_row(quantity, known, differences))
    return PageTable(head, rows, len(rows))


def _row(quantity: Quantity, of_files: list[pd.Series], differences: pd.DataFrame) -> list[Cell]:
    is_share = of_files[0]["unit"] == "points"
    cells = [Cell(f"{QUANTITY_WORDS[quantity]}, %" if is_share else QUANTITY_WORDS[quantity])]
    for row in of_files:
        cells += [_estimate(row, "%" if is_share else ""), Cell(f"{row['n']:,.0f}", row["n"])]
    if quantity not in differences.index:
        return [*cells, Cell(format.MISSING), Cell(format.MISSING), Cell(format.MISSING)]
    row = differences.loc[quantity]
    p = Cell(format.cell(P_VALUE, row["p_holm"]), row["p_holm"])
    n_problems = Cell(f"{row['n_problems']:,.0f}", row["n_problems"])
    return [*cells, _estimate(row, "points" if is_share else "", signed=True), p, n_problems]


def _estimate(row: pd.Series, unit: str, signed: bool = False) -> Cell:
    estimate = Estimate(row["value"], row["low"], row["high"], unit=unit)
    return Cell(estimate.text(signed=signed, with_unit=False), row["value"])


def _plain_text(table: PageTable) -> str:
    """The table with its columns aligned, for a terminal."""
    lines = [[head.label for head in table.head]]
    lines += [[cell.text for cell in row] for row in table.rows]
    widths = [max(len(line[place]) for line in lines) for place in range(len(table.head))]
    shown = []
    for line in lines:
        padded = []
        for head, text, width in zip(table.head, line, widths):
            padded.append(text.rjust(width) if head.number else text.ljust(width))
        shown.append("  ".join(padded).rstrip())
    return "\n".join(shown)


def _wrapped(text: str) -> str:
    """Prose in lines of the terminal's width; a table, whose lines are aligned, as it is."""
    if "\n" in text and not text.startswith("- "):
        return text
    lines = [
        textwrap.fill(line, TERMINAL_WIDTH, subsequent_indent="  " if line[:2] == "- " else "")
        for line in text.splitlines()
    ]
    return "\n".join(lines)


# ---------------------------------------------------------------------- the figure


def _drawn(run: Run, tables: Tables):
    """Coverage against samples and, with prices, against USD; of one sample a problem the quantities themselves."""
    rows = tables["coverage"]
    if run.study.budget.match == "price":
        rows = rows.assign(usd_per_problem=rows["k"] * rows["arm"].map(_usd(run)))
    of_figure = {"coverage": rows, "explanation": tables["explanation"]}
    wide, narrow = (
        figure("compared_files", "coverage", of_figure, narrow) for narrow in (False, True)
    )
    save(wide, run.folder / "figures", "comparison")
    return page_figure(svg(wide), svg(narrow), "The table below holds its numbers")


def _has_curves(tables: Tables) -> bool:
    """Whether there are several samples of a problem, so that coverage rises with their number."""
    return tables["coverage"]["k"].max() > 1


def _panels(tables: Tables, _paper) -> list[Panel]:
    rows = tables["coverage"]
    if not _has_curves(tables):
        return [Panel("", _shares(tables["explanation"]), _dots)]
    panels = [Panel("", rows, partial(_curves, x="k"))]
    if "usd_per_problem" in rows:
        panels.append(Panel("", rows, partial(_curves, x="usd_per_problem")))
    return panels


def _shares(values: pd.DataFrame) -> pd.DataFrame:
    """The quantities of the table that are shares, as `marks.dots` draws them; pass@1 is coverage there."""
    is_shown = values["quantity"].isin(QUANTITIES[1:]) & (values["unit"] == "points")
    rows = values[is_shown]
    words = rows["quantity"].map(QUANTITY_WORDS)
    return rows.assign(group=words, row="", hollow=False)


def _dots(rows: pd.DataFrame, ax):
    marks.dots(ax, rows, by="arm")
    ax.set_xlim(left=0)
    return marks.finish(ax, "% (of problems or samples, see the table)", percent="x")


def _curves(rows: pd.DataFrame, ax, x: str):
    """Coverage with a band per file against samples (`k`) or cost (`usd_per_problem`)."""
    for name, look in looks_of(rows["arm"]).items():
        of_file = rows[rows["arm"] == name].sort_values(x)
        draw = marks.points if len(of_file) < 3 else marks.curve
        draw(ax, of_file[x], of_file, look, name)
    if rows[x].max() > 4 * rows[x].min():
        ax.set_xscale("log")
    label = "Cost of sampling a problem, USD"
    if x == "k":
        ticks = [k for k in K_TICKS if k <= rows["k"].max()]
        ax.set_xticks(ticks, [f"{k:,}" for k in ticks])
        ax.minorticks_off()
        label = "Samples per problem, k"
    else:
        marks.cost_ticks(ax)
    return marks.finish(ax, label, "Coverage, % of problems", percent="y", grid="y")


@sheet(panels=_panels, per_line=2, height=2.6)
def compared_files(rows: pd.DataFrame, ax):
    """The figure of two files of samples: `_panels` says which panels it has."""
    return _curves(rows, ax, x="k")


# ---------------------------------------------------------------------- caveats


def _about_judging(run: Run, tables: Tables) -> list[str]:
    """By what samples were judged, and what of them could not be."""
    sentences = [
        "False positives are right answers whose written arithmetic is wrong: wrong ideas are not seen, so there are "
        "at least so many."
    ]
    for row in tables["quality"].itertuples():
        lost = []
        if row.n_truncated:
            lost.append(f"{row.n_truncated:,} were cut short and count as wrong")
        if row.n_unverifiable:
            lost.append(f"{row.n_unverifiable:,} could not be verified and are left out")
        if lost:
            sentences.append(f"Of {row.arm}'s {row.n_samples:,.0f} samples {' and '.join(lost)}.")
    return sentences
