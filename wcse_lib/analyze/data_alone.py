"""The answer of a study without students: in what the arms' data differ at equal budget, and what that cannot tell."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from wcse_lib.analyze.significance import is_significant
from wcse_lib.analyze.tables import TABLES
from wcse_lib.analyze.words import (
    ANSWERED,
    QUANTITY_WORDS,
    Quantity,
    bought_words,
    difference_words,
    excluded_words,
    join_words,
)
from wcse_lib.study import Run
from wcse_lib.verify import own_judge

CANNOT_TELL = "Which of them trains a student better this study cannot tell: it has no students."


class Advantage(NamedTuple):
    """How arms with the better data are told of: "covers more problems" of one, "cover more problems" of several."""

    of_one: str
    of_several: str
    what: str
    sign: int  # -1 where less of the quantity is better

    def words(self, n_arms: int) -> str:
        return f"{self.of_one if n_arms == 1 else self.of_several} {self.what}"


ADVANTAGES = {
    Quantity.COVERAGE: Advantage("covers", "cover", "more problems", 1),
    Quantity.SOUND_COVERAGE: Advantage("solves", "solve", "more by sound reasoning", 1),
    Quantity.EXAMPLES_PER_PROBLEM: Advantage("gives", "give", "more examples", 1),
    Quantity.FALSE_POSITIVE_RATE: Advantage("has", "have", "fewer false positives", -1),
}


def data_rows(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The arms' differences that answer a study without students, one family of p values, with `is_significant`."""
    columns = ["arm_a", "arm_b", "budget", "quantity", "low", "high", "p_holm"]
    nothing = pd.DataFrame(columns=columns)
    rows = tables.get("arm_differences", nothing)
    rows = rows[rows["quantity"].isin(ANSWERED)]
    return rows.assign(is_significant=is_significant(rows))


def compared_pairs(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The arms that are compared, and at which budgets; no students say which of them is better."""
    rows = data_rows(tables)
    pairs = rows.reindex(columns=["arm_a", "arm_b", "budget"]).drop_duplicates()
    return pairs.assign(is_significant=False)


def data_headline(rows: pd.DataFrame) -> str:
    """In what which arm's data are better at which budget, from `data_rows`."""
    if rows.empty:
        return "This study has one arm: there is nothing to compare."
    compared = [QUANTITY_WORDS[quantity] for quantity in dict.fromkeys(rows["quantity"])]
    if not rows["is_significant"].any():
        return (
            f"No difference between the arms' data could be shown at any budget ({join_words(compared)})."
            f" {CANNOT_TELL}"
        )
    budgets_of: dict[str, list[str]] = {}
    for budget, at_budget in rows.groupby("budget", sort=False):
        budgets_of.setdefault(_found(at_budget), []).append(f"“{budget}”")
    sentences = []
    for found, budgets in budgets_of.items():
        plural = "s" if len(budgets) > 1 else ""
        sentences.append(f"At the budget{plural} {join_words(budgets)} {found}.")
    return " ".join([*sentences, CANNOT_TELL])


def _found(rows: pd.DataFrame) -> str:
    """What was shown at one budget: arms with the same advantages over the same others share a clause."""
    of_pairs: dict[tuple[str, str], list[Quantity]] = {}
    for row in rows[rows["is_significant"]].itertuples():
        is_first = row.value * ADVANTAGES[row.quantity].sign > 0
        pair = (row.arm_a, row.arm_b) if is_first else (row.arm_b, row.arm_a)
        of_pairs.setdefault(pair, []).append(row.quantity)
    if not of_pairs:
        return "no difference between the arms' data could be shown"
    worse_of: dict[tuple, list[str]] = {}
    for (better, worse), quantities in of_pairs.items():
        worse_of.setdefault((better, *quantities), []).append(worse)
    better_of: dict[tuple, list[str]] = {}
    for (better, *quantities), worse in worse_of.items():
        better_of.setdefault((tuple(quantities), join_words(worse)), []).append(better)
    clauses = []
    for (quantities, worse), better in better_of.items():
        does = [ADVANTAGES[quantity].words(len(better)) for quantity in quantities]
        clauses.append(f"{join_words(better)} {join_words(does)} than {worse}")
    if not rows["is_significant"].all():
        clauses.append("otherwise no difference could be shown")
    return "; ".join(clauses)


def data_sentences(run: Run, rows: pd.DataFrame) -> list[str]:
    """A sentence for each pair of arms and budget with its differences, and how they were tested and judged.

    Of two arms every difference is told; of more only what was shown, and where the others are.
    """
    sentences, margin = [], run.study.power.equivalence_points
    has_one_pair = len(rows.groupby(["arm_a", "arm_b"])) == 1
    told = rows if has_one_pair else rows[rows["is_significant"]]
    for (arm_a, arm_b, budget), compared in told.groupby(["arm_a", "arm_b", "budget"], sort=False):
        n_problems = compared["n_problems"].max()
        numbers = [_numbers(row, margin, n_problems) for row in compared.itertuples()]
        sentences.append(
            f"At the budget “{budget}” ({bought_words(run, arm_a, arm_b, budget)}) {arm_a} minus {arm_b} is"
            f" {join_words(numbers)} (95 % intervals over {n_problems} training problems)."
        )
    if len(rows) > 1:
        sentences.append(
            f"There were {len(rows)} comparisons: a difference counts as shown only where its p, corrected for all of"
            " them (Holm), is below 0.05 too."
        )
    if len(told) < len(rows):
        heading = TABLES["arm_differences"].heading
        sentences.append(f"Those that are not settled are in the table “{heading}”.")
    holds_zero = (told["low"] <= 0) & (told["high"] >= 0)
    if holds_zero.any():
        sentences.append("Excluded is what two one-sided tests exclude, each at 5 %.")
    return sentences + _judged(run, rows)


def _numbers(row, margin: float | None, n_problems: int) -> str:
    """A difference with its interval, its quantity, whether it is settled, and how many problems it rests on where
    that is fewer than `n_problems`."""
    doubt = ""
    if row.low <= 0 <= row.high:
        doubt = ", not settled"
        # `data_sentences` names the tests once for all
        if clause := excluded_words(row, margin, tests=""):
            doubt += f", but {clause}"
    elif not row.is_significant:
        doubt = f", not settled: corrected p = {row.p_holm:.2f}"
    if row.n_problems < n_problems:
        doubt += f"; {row.n_problems} problems in the arm that has fewer"
    difference = difference_words(row, " ({low} to {high}" + doubt + ")")
    if row.quantity == Quantity.EXAMPLES_PER_PROBLEM:
        return f"{difference} a problem"
    return f"{difference} in {QUANTITY_WORDS[row.quantity]}"


def _judged(run: Run, rows: pd.DataFrame) -> list[str]:
    """Whose judgements the false positives and sound coverage rest on, or that they were not compared."""
    quantities = set(rows["quantity"])
    if Quantity.FALSE_POSITIVE_RATE not in quantities:
        return ["The reasoning of correct samples was not judged: false positives are not known."]
    judge = own_judge(run.study)
    sentence = f"False positives are those that the {judge} judge found"
    if judge == "arithmetic":
        sentence += ", which sees wrong arithmetic alone: there are at least so many"
    if Quantity.SOUND_COVERAGE not in quantities:
        sentence += "; not all correct samples were judged, so that sound coverage is not known"
    return [f"{sentence}."]
