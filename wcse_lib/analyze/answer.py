"""From tables to the study's answer: the headline and a sentence for each comparison."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from wcse_lib.analyze.controls import controls_hold
from wcse_lib.analyze.notes import not_run, notes
from wcse_lib.analyze.reasons import why
from wcse_lib.analyze.significance import is_overall_row, is_significant
from wcse_lib.analyze.words import (
    ALL_BASES,
    Quantity,
    difference_words,
    join_words,
)
from wcse_lib.store import write_json
from wcse_lib.study import Run
from wcse_lib.verdicts import PRIMARY_METRIC


def headline_rows(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows that the answer is about, with `is_significant`.

    Students' greedy pass@1 over all bases, or without students the samples' pass@1. They are corrected together
    (`p_holm`), so that of equal arms one is called better in 5 % of draws of problems, however many arms and budgets
    there are; of training seeds p knows nothing.
    """
    differences = tables.get("differences", pd.DataFrame())
    if len(differences):
        rows = PRIMARY_METRIC.rows(differences)
        rows = rows[is_overall_row(rows)]
    else:
        nothing = pd.DataFrame(columns=["quantity", "low", "high", "p_holm"])
        rows = tables.get("arm_differences", nothing)
        rows = rows[rows["quantity"] == Quantity.PASS_AT_1]
    return rows.assign(is_significant=is_significant(rows))


def answer(run: Run, tables: dict[str, pd.DataFrame], paper: bool = False) -> dict:
    """The study's answer in words, every number from the tables; also written to `06_analyze/answer.json`.

    `paper`: lay the paper's coverage over the figure even where the problems are neither MATH's nor GSM8K's.
    """
    rows = headline_rows(tables)
    has_students = len(tables.get("differences", ())) > 0
    shown = rows
    if len(rows):
        shown = rows[(rows["arm_b"] == run.study.budget.reference) | rows["is_significant"]]
    measure = (
        "students' greedy pass@1 on held-out problems" if has_students else "pass@1 of the samples"
    )
    sentences = _sentences(run, shown, len(rows)) + controls_hold(tables)
    result = {
        "headline": headline(rows, "training set" if has_students else "samples"),
        "paragraph": f"Measured by {measure}: " + " ".join(sentences),
        "why": why(run.study, tables, shown) if has_students else [],
        "notes": notes(run, tables, shown, len(rows)),
        "not_run": not_run(run, tables),
        "paper": _paper_data(run) or ("MATH" if paper else None),
    }
    write_json(run.path("06", "answer.json"), result)
    return result


def headline(rows: pd.DataFrame, data: str) -> str:
    """One sentence on which arm gave the better `data`, from `headline_rows`."""
    if rows.empty:
        return "This study has one arm: there is nothing to compare."
    significant = rows[rows["is_significant"]]
    if significant.empty:
        return f"No difference between the arms' {data} could be shown at any budget."
    outcomes = []
    for row in significant.itertuples():
        better, worse = (row.arm_a, row.arm_b) if row.value > 0 else (row.arm_b, row.arm_a)
        outcomes.append((better, worse, row.budget))
    pairs = {(better, worse) for better, worse, _ in outcomes}
    if len(significant) == len(rows) and len(pairs) == 1:
        return f"At every budget, {outcomes[0][0]} gave the better {data}."
    wins = []
    for better, worse, budget in dict.fromkeys(outcomes):
        wins.append(f"{better} rather than {worse} at the budget “{budget}”")
    rest = "" if len(significant) == len(rows) else "; elsewhere no difference could be shown"
    return f"It depends: the better {data} came from {join_words(wins)}{rest}."


def _sentences(run: Run, shown: pd.DataFrame, n_comparisons: int) -> list[str]:
    sentences = [_sentence(run, row, n_comparisons) for row in shown.itertuples()]
    n_others = n_comparisons - len(shown)
    if n_others:
        sentences.append(
            f"The other {n_others} comparisons, of arms other than {run.study.budget.reference}, are not settled and"
            " stand in the table."
        )
    if n_comparisons > 1:
        sentences.append(
            f"These are {n_comparisons} comparisons: a difference counts as shown only where its p, corrected for"
            " all of them (Holm), is below 0.05 too."
        )
    return sentences


def _sentence(run: Run, row, n_comparisons: int) -> str:
    """A comparison with its interval, and why it is not settled where it is not."""
    arms = (row.arm_a, row.arm_b)
    samples_a, samples_b = (run.plan.n_samples(arm, row.budget) for arm in arms)
    short = [arm for arm in arms if row.budget in getattr(run.arm(arm), "held", {})]
    lack = f"; this budget is not met by {join_words(short)}" if short else ""
    base = getattr(row, "base", "") or ALL_BASES  # comparisons of samples have none
    student = "" if base == ALL_BASES else f", student {base}"
    doubt = ""
    if row.low <= 0 <= row.high:
        doubt = "; the interval holds zero, so the sign is not settled"
    elif not row.is_significant:
        doubt = (
            f"; the interval excludes zero, but corrected for {n_comparisons} comparisons p = {row.p_holm:.2f},"
            " so the sign is not settled"
        )
    return (
        f"At the budget “{row.budget}”{student} ({samples_a:.3g} against {samples_b:.3g} samples a problem{lack})"
        f" {row.arm_a} minus {row.arm_b} is {difference_words(row, ' ({low} to {high}')}, 95 % interval,"
        f" n = {row.n_problems} problems{doubt})."
    )


def _paper_data(run: Run) -> str | None:
    """Which of the paper's data sets stands as a word in the names of the study's files, folders or hub ids."""
    names = []
    for place in (run.study.dataset.path, run.study.dataset.train):
        names += Path(place or "").parts[-2:]
    for data in ("GSM8K", "MATH"):
        word = re.compile(rf"(?<![a-z]){data}(?![a-z])", re.IGNORECASE)
        if any(word.search(name) for name in names):
            return data
    return None
