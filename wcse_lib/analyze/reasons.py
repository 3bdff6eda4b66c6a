"""Why one arm's students may be better: which explanations the data support, and which a recipe has tested.

A quantity speaks for an arm where its difference is shown in that direction. That it is the reason can only be said by
a recipe that takes it away, from the difference (`gap`) that this leaves or closes.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from wcse_lib.analyze.significance import is_overall_row, is_significant
from wcse_lib.analyze.words import QUANTITY_WORDS, Finding, Quantity, join_words
from wcse_lib.study import Curation, Study
from wcse_lib.train import SCORES
from wcse_lib.verdicts import PRIMARY_METRIC

# What may make an arm teach better: 1 where more of it is better, -1 where less is.
MEASURED = {  # with paired differences, in `arm_differences`
    Quantity.COVERAGE: 1,
    Quantity.SOUND_COVERAGE: 1,
    Quantity.SOLUTIONS: 1,
    Quantity.FALSE_POSITIVE_RATE: -1,
    Quantity.DUPLICATES: -1,
} | {Quantity(name): score.sign for name, score in SCORES.items()}
COUNTED = {Quantity.EXAMPLES: 1, Quantity.EPOCHS: -1}  # without intervals, in `explanation`
SIGNS = MEASURED | COUNTED
NO_REASONS = pd.DataFrame(columns=["arm_a", "arm_b", "budget", "quantity", "base", "speaks_for"])
MOST_TELLING = [Finding.PART, Finding.NOT_ALL, Finding.UNSETTLED]


def reasons(study: Study, tables: dict[str, pd.DataFrame], rows: pd.DataFrame) -> pd.DataFrame:
    """What may explain each comparison of `rows`: a row per quantity with its difference, the arm that it speaks for
    ("" where that is not settled), and the recipe that took it away with what it found."""
    found = []
    for row in rows.itertuples():
        tested = _tested(study, tables, row)
        for reason in _differences(study, tables, row):
            speaks_for = _speaks_for(row, reason)
            reason.pop("p_holm", None)
            found.append(reason | speaks_for | tested.get(reason["quantity"], {}))
    return pd.DataFrame(found)


def _differences(study: Study, tables: dict[str, pd.DataFrame], row) -> Iterator[dict]:
    """The differences of a comparison's arms in every quantity that may explain it."""
    pair = {"arm_a": row.arm_a, "arm_b": row.arm_b, "budget": row.budget}
    for difference in _of_pair(tables.get("arm_differences"), row).to_dict("records"):
        if difference["quantity"] in MEASURED and _in_examples(study, difference["quantity"]):
            kept = ("base", "quantity", "value", "low", "high", "unit", "p_holm")
            yield pair | {name: difference[name] for name in kept if name in difference}
    for quantity in COUNTED:
        count_a, count_b = (
            _count(tables, quantity, arm, row.budget) for arm in (row.arm_a, row.arm_b)
        )
        if None not in (count_a, count_b):
            exact = dict.fromkeys(("value", "low", "high"), count_a - count_b)
            yield pair | {"base": "", "quantity": quantity, "unit": "count"} | exact


def _speaks_for(row, reason: dict) -> dict:
    """The arm that a difference is an advantage of, where it is shown."""
    (is_shown,) = is_significant(pd.DataFrame([{"p_holm": np.nan} | reason]))
    is_for_a = reason["value"] * SIGNS[reason["quantity"]] > 0
    arm = row.arm_a if is_for_a else row.arm_b
    return {"speaks_for": arm if is_shown else ""}


def _of_pair(table: pd.DataFrame | None, row) -> pd.DataFrame:
    """The rows of a table that compare the same arms at the same budget."""
    if table is None:
        return pd.DataFrame()
    same = (table["arm_a"] == row.arm_a) & (table["arm_b"] == row.arm_b)
    return table[same & (table["budget"] == row.budget)]


def _count(tables: dict[str, pd.DataFrame], quantity: Quantity, arm: str, budget: str):
    """A count of an arm, the mean over bases; None where `explanation` does not hold it."""
    table = tables["explanation"]
    is_it = (table["quantity"] == quantity) & (table["arm"] == arm) & (table["budget"] == budget)
    return table.loc[is_it, "value"].mean() if is_it.any() else None


def _in_examples(study: Study, quantity: str) -> bool:
    """Whether examples differ in a quantity: duplicates are dropped but where curation keeps all."""
    return quantity != Quantity.DUPLICATES or study.curation.unique == "none"


# ---------------------------------------------------------------------- what recipes have tested


def _tested(study: Study, tables: dict[str, pd.DataFrame], row) -> dict[Quantity, dict]:
    """By quantity the recipe that took it away, and what that did to the difference of a settled comparison.

    Of several recipes the one that tells most.
    """
    rows = _of_pair(tables.get("ablations"), row)
    if rows.empty or not row.is_significant:
        return {}
    rows = PRIMARY_METRIC.rows(rows)
    rows = rows[is_overall_row(rows)]
    rows = rows.assign(is_significant=is_significant(rows))
    tested: dict[Quantity, dict] = {}
    for recipe, comparisons in rows.groupby("recipe", sort=False):
        by_kind = {comparison.comparison: comparison for comparison in comparisons.itertuples()}
        if not {"arms", "gap"} <= set(by_kind):
            continue
        finding = _finding(np.sign(row.value), by_kind["arms"], by_kind["gap"])
        for quantity in removed_by(study, study.recipes[recipe]):
            earlier = tested.get(quantity, {"finding": Finding.UNSETTLED})
            if MOST_TELLING.index(finding) <= MOST_TELLING.index(earlier["finding"]):
                tested[quantity] = {"recipe": recipe, "finding": finding}
    return tested


def _finding(sign: float, left, change) -> Finding:
    """What a recipe tells, from the difference that it leaves and its change; `sign` is the main difference's."""
    if change.is_significant and sign * change.value < 0:
        return Finding.PART
    if left.is_significant and sign * left.value > 0:
        return Finding.NOT_ALL
    return Finding.UNSETTLED


def removed_by(study: Study, recipe: Curation) -> list[Quantity]:
    """The quantities that a recipe makes equal between arms."""
    removed = []
    if recipe.per_problem == 1:
        removed += [Quantity.SOLUTIONS, Quantity.DUPLICATES]
    if recipe.n_examples == "equal":
        removed += [Quantity.EXAMPLES, Quantity.EPOCHS]
    if recipe.n_samples == "reference":
        removed += [Quantity.COVERAGE, Quantity.SOUND_COVERAGE]
        removed += [Quantity.EXAMPLES, Quantity.EPOCHS]
    if recipe.filter == "judge":
        removed.append(Quantity.FALSE_POSITIVE_RATE)
    return [quantity for quantity in removed if _in_examples(study, quantity)]


# ---------------------------------------------------------------------- in words


def why(table: pd.DataFrame, rows: pd.DataFrame) -> list[str]:
    """What `reasons` says of each pair of arms in the headline's `rows`, in a few sentences; the table has the rest."""
    words = []
    for (arm_a, arm_b), own in rows.groupby(["arm_a", "arm_b"], sort=False):
        settled, others = own[own["is_significant"]], own[~own["is_significant"]]
        sentences = []
        for is_a_better, budgets in settled.groupby(settled["value"] > 0, sort=False):
            winner, loser = (arm_a, arm_b) if is_a_better else (arm_b, arm_a)
            sentences.append(
                f"At {_budgets(budgets)} {winner}'s students are better than {loser}'s."
            )
            for row in budgets.itertuples():
                sentences += _what_explains(_of_pair(table, row), winner, row.budget)
        if len(others):
            sentences.append(
                f"At {_budgets(others)}, whether {arm_a}'s or {arm_b}'s students are better is not settled, so there is"
                " no effect to explain; what differs in the data is told all the same."
            )
        words.append(" ".join(sentences))
    return words


def _budgets(rows: pd.DataFrame) -> str:
    return join_words(list(dict.fromkeys(rows["budget"])))


def _what_explains(own: pd.DataFrame, winner: str, budget: str) -> Iterator[str]:
    """Of a settled comparison: what recipes have told apart, and how much they have not."""
    if "finding" not in own:
        own = own.assign(finding="")
    supports = own[own["speaks_for"] == winner]
    if supports.empty:
        yield f"Nothing that was measured at {budget} speaks for {winner}."
        return
    is_part = supports["finding"] == Finding.PART
    if is_part.any():
        yield f"At {budget} at least part of the reason is {_named(supports[is_part])}."
    is_tested = is_part | (supports["finding"] == Finding.NOT_ALL)
    untested = supports[~is_tested]
    if len(untested) > 1:
        yield (
            f"This study cannot tell apart the {len(untested)} {'other ' if is_tested.any() else ''}explanations that"
            f" speak for {winner} at {budget}: no recipe took one away and left the others."
        )
    elif len(untested):
        yield f"That {_named(untested)} is the reason at {budget} is a guess: no recipe took it away."


def _named(rows: pd.DataFrame) -> str:
    """The quantities of some rows in words, with the student where they are of one."""
    words = []
    for row in rows.itertuples():
        of_base = f" {row.base}" if isinstance(row.base, str) and row.base else ""
        words.append(f"{QUANTITY_WORDS[row.quantity]}{of_base}")
    return join_words(words)
