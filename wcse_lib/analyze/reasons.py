"""Why one arm's students may be better: which explanations the data support, and which a recipe has tested.

A quantity speaks for an arm when its paired difference excludes zero in that direction. That it is the reason can only
be said by a recipe that takes it away, from the difference (`gap`) that this leaves or closes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib.analyze.significance import is_overall_row, is_significant
from wcse_lib.analyze.words import (
    Quantity,
    difference_words,
    join_words,
)
from wcse_lib.study import Curation, Study
from wcse_lib.train import SCORES
from wcse_lib.verdicts import PRIMARY_METRIC

UNCORRECTED = "95 % intervals, not corrected for their number"


class Advantage(NamedTuple):
    """What an arm that teaches better may have: its words, and +1 where more of a quantity is better, -1 where less."""

    words: str
    sign: int


MEASURED = {  # with paired differences, in `arm_differences`
    Quantity.COVERAGE: Advantage("higher coverage", 1),
    Quantity.SOUND_COVERAGE: Advantage("higher coverage by sound reasoning", 1),
    Quantity.SOLUTIONS: Advantage("more different solutions per solved problem", 1),
    Quantity.FALSE_POSITIVE_RATE: Advantage("fewer false positives", -1),
    Quantity.DUPLICATES: Advantage("fewer duplicates", -1),
} | {
    Quantity(name): Advantage(f"{score.better} {score.words}", score.sign)
    for name, score in SCORES.items()
}
COUNTED = {  # without intervals, in `explanation`
    Quantity.EXAMPLES: Advantage("more examples", 1),
    Quantity.EPOCHS: Advantage("fewer epochs over them", -1),
}


class Reason(NamedTuple):
    """A quantity that may explain a difference; what fits a student is one of a base student."""

    quantity: Quantity
    base: str = ""

    @property
    def words(self) -> str:
        words = (MEASURED | COUNTED)[self.quantity].words
        return f"{words} under {self.base}" if self.base else words


class Evidence(NamedTuple):
    """The reasons that speak for either arm of a comparison, and those that are not settled, each with its numbers."""

    for_a: dict[Reason, str]
    for_b: dict[Reason, str]
    undecided: dict[Reason, str]


def why(study: Study, tables: dict[str, pd.DataFrame], rows: pd.DataFrame) -> list[str]:
    """A paragraph for each of the headline's `rows`: which explanations the data support, which not, and which they
    cannot tell apart."""
    return [_paragraph(study, tables, row) for row in rows.itertuples()]


def _paragraph(study: Study, tables: dict[str, pd.DataFrame], row) -> str:
    evidence = _evidence(study, tables, row)
    if not row.is_significant:
        return _nothing_to_explain(row, evidence)
    winner, loser = (row.arm_a, row.arm_b) if row.value > 0 else (row.arm_b, row.arm_a)
    supports, against = evidence.for_a, evidence.for_b
    if winner == row.arm_b:
        supports, against = against, supports
    measured = join_words(list(supports.values())) or "nothing that was measured"
    sentences = [
        f"What could explain that {winner}'s students are better at {row.budget} (differences are {row.arm_a} minus"
        f" {row.arm_b}; {UNCORRECTED}): {measured}."
    ]
    if against:
        sentences.append(f"Against it: {loser} has {join_words(list(against.values()))}.")
    if evidence.undecided:
        undecided = join_words(list(evidence.undecided.values()))
        sentences.append(f"Not settled either way: {undecided}.")
    tested, tests = _tests(study, tables, row)
    sentences += tests
    untested = [reason.words for reason in supports if reason.quantity not in tested]
    if len(untested) > 1:
        sentences.append(
            f"This study cannot tell apart {join_words(untested)}: they go together in its arms, and no recipe took one"
            " away and left the others."
        )
    elif untested:
        sentences.append(f"That {untested[0]} is the reason is a guess: no recipe took it away.")
    return " ".join(sentences)


def _nothing_to_explain(row, evidence: Evidence) -> str:
    lead = (
        f"At {row.budget}, whether {row.arm_a}'s or {row.arm_b}'s students are better is not settled, so there is no"
        " effect to explain"
    )
    differing = []
    for arm, reasons in ((row.arm_a, evidence.for_a), (row.arm_b, evidence.for_b)):
        if reasons:
            differing.append(f"{arm} has {join_words(list(reasons.values()))}")
    if not differing:
        return f"{lead}, nor do the data differ clearly."
    return f"{lead}, although the data differ ({UNCORRECTED}): {'; '.join(differing)}."


def _evidence(study: Study, tables: dict[str, pd.DataFrame], row) -> Evidence:
    evidence = Evidence({}, {}, {})
    for difference in _of_pair(tables.get("arm_differences"), row).itertuples():
        if difference.quantity not in MEASURED or not _in_examples(study, difference.quantity):
            continue
        reason = Reason(Quantity(difference.quantity), difference.base)
        side = evidence.undecided
        if not difference.low <= 0 <= difference.high:
            is_for_a = difference.value * MEASURED[reason.quantity].sign > 0
            side = evidence.for_a if is_for_a else evidence.for_b
        numbers = difference_words(difference, ", {low} to {high}")
        side[reason] = f"{reason.words} ({numbers})"
    for quantity, advantage in COUNTED.items():
        count_a, count_b = (
            _count(tables, quantity, arm, row.budget) for arm in (row.arm_a, row.arm_b)
        )
        if None in (count_a, count_b) or count_a == count_b:
            continue
        better, worse = sorted((count_a, count_b), reverse=advantage.sign > 0)
        side = evidence.for_a if better == count_a else evidence.for_b
        side[Reason(quantity)] = f"{advantage.words} ({better:,.4g} against {worse:,.4g})"
    return evidence


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


def _tests(study: Study, tables: dict[str, pd.DataFrame], row) -> tuple[list[Quantity], list[str]]:
    """Which quantities the study's recipes have tested, and a sentence on each: what became of the difference."""
    tested, sentences = [], []
    rows = _of_pair(tables.get("ablations"), row)
    if rows.empty:
        return tested, sentences
    rows = PRIMARY_METRIC.rows(rows)
    rows = rows[is_overall_row(rows)]
    rows = rows.assign(is_significant=is_significant(rows))
    sign = np.sign(row.value)
    for (recipe, base), comparisons in rows.groupby(["recipe", "base"], sort=False):
        by_kind = {comparison.comparison: comparison for comparison in comparisons.itertuples()}
        if not {"arms", "gap"} <= set(by_kind):
            continue
        left, change = by_kind["arms"], by_kind["gap"]
        removed, effect = recipe_effects(study, study.recipes[recipe])
        reasons = join_words([Reason(quantity).words for quantity in removed])
        reasons = reasons or "what this takes away"
        lead = (
            f"With “{recipe}” ({effect}; {base}) the difference is {difference_words(left)}, changed by"
            f" {difference_words(change)}: "
        )
        if change.is_significant and sign * change.value < 0:
            sentences.append(f"{lead}at least part of the reason is {reasons}.")
            tested += removed
        elif left.is_significant and sign * left.value > 0:
            sentences.append(
                f"{lead}the difference stands, so that not all of the reason is {reasons}."
            )
            tested += removed
        else:
            sentences.append(f"{lead}whether that matters is not settled.")
    return tested, sentences


def recipe_effects(study: Study, recipe: Curation) -> tuple[list[Quantity], str]:
    """The quantities that a recipe makes equal between arms, and what it does in words."""
    removed, words = [], []
    if recipe.per_problem == 1:
        removed += [Quantity.SOLUTIONS, Quantity.DUPLICATES]
        words.append("one correct sample a problem")
    elif recipe.per_problem:
        words.append(f"at most {recipe.per_problem} a problem")
    if recipe.n_examples == "equal":
        removed += [Quantity.EXAMPLES, Quantity.EPOCHS]
        words.append("as many examples for every arm")
    if recipe.n_samples == "reference":
        removed += [Quantity.COVERAGE, Quantity.SOUND_COVERAGE]
        removed += [Quantity.EXAMPLES, Quantity.EPOCHS]
        words.append("as many samples a problem as the reference arm")
    if recipe.filter == "judge":
        removed.append(Quantity.FALSE_POSITIVE_RATE)
        words.append("only samples judged sound")
    elif recipe.filter == "none":
        words.append("no filter")
    if recipe.noise:
        words.append(f"{recipe.noise:.0%} wrong examples")
    removed = [quantity for quantity in removed if _in_examples(study, quantity)]
    return removed, ", ".join(words) or "other settings"
