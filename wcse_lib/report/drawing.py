"""Every figure that a study's tables allow, and among them the one that carries its answer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import pandas as pd

from wcse_lib.analyze import ALL_BASES, PRIMARY_METRIC, QUANTITY_WORDS, TABLES, with_metric_words
from wcse_lib.report import marks, money
from wcse_lib.report.figures import (
    coverage,
    differences,
    first_metric_over_bases,
    not_settled,
    of_main_recipe,
    taught_by,
)
from wcse_lib.report.layout import SHEETS, Panel, Sheet, Tables, figure
from wcse_lib.report.style import INK, printable, short_names

MOST_ROWS_OF_ANSWER = 8
LONGEST_NAME, LONGEST_NAME_NARROW = 12, 9  # letters of an arm's or a student's name in a figure
NAMED = ("arm", "arm_a", "arm_b", "base")  # columns of such names
NOT_BOUGHT = pd.DataFrame(columns=["arm", "budget", "samples_per_problem"])
Frame = pd.DataFrame


def draw_all(tables: Tables, narrow: bool = False, paper: str | None = None) -> dict:
    """Every figure that the tables allow, by name, as matplotlib Figures 7 in wide (`narrow`: 3.4 in).

    `paper`: "MATH" or "GSM8K" lays the paper's coverage over ours. Missing and empty tables leave their figure out.
    Raises KeyError naming a column that a table lacks.
    """
    tables = _prepared(tables, LONGEST_NAME_NARROW if narrow else LONGEST_NAME)
    drawn = {}
    for table in TABLES.values():
        for declared in table.figures:
            drawn[declared.name] = figure(declared.name, table.name, tables, narrow, paper)
    drawn["answer"] = figure("answer", "", tables, narrow, paper)
    return {name: drawing for name, drawing in drawn.items() if drawing}


def _prepared(tables: Tables, longest: int) -> Tables:
    """Tables that have rows, their texts printable, names of arms and students short enough for labels, and one order
    of arms, so that each keeps its look in all figures."""
    found = {}
    for name, rows in tables.items():
        if rows is not None and len(rows):
            found[name] = rows.map(printable)
    short = _short_names(found.values(), longest)
    for name, rows in found.items():
        named = {
            column: rows[column].replace(short) for column in (*NAMED, "who") if column in rows
        }
        found[name] = rows.assign(**named)
    # Coverage has every arm, in the plan's order.
    names = ["coverage", *found]
    with_arms = [found[name]["arm"] for name in names if name in found and "arm" in found[name]]
    arms = list(dict.fromkeys(arm for column in with_arms for arm in column.dropna()))
    for name, rows in found.items():
        if "arm" in rows:
            found[name] = rows.assign(arm=pd.Categorical(rows["arm"], arms))
    if "training" in found and "students" in found:
        found["training"] = _with_students(found["training"], of_main_recipe(found["students"]))
    return found


def _short_names(tables: Iterable[Frame], longest: int) -> dict[str, str]:
    """The names of arms and students that are longer than this, and how figures write them."""
    names: dict[str, None] = {}
    for rows in tables:
        for column in NAMED:
            if column in rows:
                names |= dict.fromkeys(rows[column].dropna().astype(str))
    short = short_names(names.keys() - {ALL_BASES}, longest)
    return {name: shortened for name, shortened in short.items() if shortened != name}


def _with_students(training: Frame, students: Frame) -> Frame:
    """Training curves with base, budget and `who` of their students, by which they are drawn."""
    facts = students.drop_duplicates("student").assign(who=taught_by)
    rows = training.merge(facts[["student", "base", "who", "budget"]], on="student")
    return rows if len(rows) else training


def _answer_panels(tables: Tables, paper: str | None) -> list[Panel]:
    """What carries the answer: the differences that it is about, and what the budget bought of every arm."""
    panels = []
    if "differences" in tables:
        rows, draw = PRIMARY_METRIC.rows(tables["differences"]), differences
        if len(rows) > MOST_ROWS_OF_ANSWER:
            rows, draw = first_metric_over_bases(rows), differences_of_many
        panels.append(_first_rows(rows, draw))
    elif "arm_differences" in tables:
        rows = tables["arm_differences"].dropna(subset="p")
        panels.append(_first_rows(rows[rows["unit"] == "points"], data_differences))
    if "coverage" in tables:
        panels.append(_coverage_panel(tables["coverage"], tables.get("quality", NOT_BOUGHT)))
    return [panel for panel in panels if len(panel.rows)]


def _first_rows(rows: Frame, draw: Callable) -> Panel:
    """A panel of as many rows as one screen has room for; its title says how many there are."""
    is_cut = len(rows) > MOST_ROWS_OF_ANSWER
    title = f"The first {MOST_ROWS_OF_ANSWER} of {len(rows)}" if is_cut else ""
    return Panel(title, rows.head(MOST_ROWS_OF_ANSWER), draw)


def _coverage_panel(rows: Frame, quality: Frame) -> Panel:
    """Coverage against cost, or against samples where no arm's cost is known."""
    with_cost = rows.dropna(subset="flops_per_problem")
    if len(with_cost):
        draw = partial(what_was_bought, x="flops_per_problem", quality=quality)
        return Panel("Coverage at equal cost", with_cost, draw)
    return Panel("Coverage", rows, partial(what_was_bought, x="k", quality=quality))


def differences_of_many(rows: Frame, ax):
    """Forest plot of one metric's differences of many pairs of arms, a row for each pair and budget."""
    metric = with_metric_words(rows)["metric"].str.capitalize()
    rows = rows.assign(
        group=metric + ", " + rows["base"],
        row=_pairs(rows) + ", " + rows["budget"],
        hollow=not_settled(rows),
    )
    marks.forest(ax, rows)
    return marks.finish(ax, "Accuracy difference, percentage points")


def data_differences(rows: Frame, ax):
    """Forest plot of paired differences between arms' samples, in points; filled: shown after Holm's correction."""
    rows = rows.assign(
        group=_pairs(rows),
        row=rows["quantity"].replace(QUANTITY_WORDS) + ", " + rows["budget"],
        hollow=not_settled(rows),
    )
    marks.forest(ax, rows)
    return marks.finish(ax, "Difference, percentage points")


def _pairs(rows: Frame) -> pd.Series:
    return rows["arm_a"].astype(str) + " − " + rows["arm_b"].astype(str)


def what_was_bought(rows: Frame, ax, x: str, quality: Frame):
    """Coverage, with a ring where every budget bought its samples.

    Args: rows, x: as `coverage`; quality: columns arm, budget, samples_per_problem.
    """
    coverage(rows, ax, x=x)
    ring = dict(ms=9, mew=1, mfc="none", mec=INK, ls="none", label="bought by a budget")
    offset = dict(textcoords="offset points", size=7, ha="right")
    # a mean, where single samples could not be verified
    bought = quality.assign(k=quality["samples_per_problem"].round())[["arm", "budget", "k"]]
    for budget, at in rows.merge(bought, on=["arm", "k"]).groupby("budget", sort=False):
        ax.plot(at[x], at["value"], "o", **ring)
        highest = at.loc[at["value"].idxmax()]
        ax.annotate(budget, (highest[x], highest["value"]), (-5, 5), **offset)
    ax.set_xlabel("FLOPs per problem" if x == "flops_per_problem" else "Samples per problem")
    return ax


SHEETS["shares"] = money.SHARES
# The one figure that carries a study's answer; it is of no table alone.
SHEETS["answer"] = Sheet(
    differences, panels=_answer_panels, per_line=2, least_height=1.75, widths=(1.3, 1)
)
