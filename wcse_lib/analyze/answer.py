"""From tables to the study's answer: the headline and a sentence for each comparison."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from wcse_lib.analyze.controls import controls_hold, stopping_sentences
from wcse_lib.analyze.data_alone import data_headline, data_rows, data_sentences
from wcse_lib.analyze.gains import gain_sentences
from wcse_lib.analyze.headline import headline, headline_rows, own_rows, rows_of_bases
from wcse_lib.analyze.next_steps import next_steps
from wcse_lib.analyze.notes import not_run, notes
from wcse_lib.analyze.reasons import NO_REASONS, why
from wcse_lib.analyze.words import (
    ALL_BASES,
    bought_words,
    difference_words,
    excluded_words,
    join_words,
)
from wcse_lib.store import write_json
from wcse_lib.study import Run


def answer(run: Run, tables: dict[str, pd.DataFrame], paper: bool = False) -> dict:
    """The study's answer in words, every number from the tables; also written to `06_analyze/answer.json`.

    A study without students is answered by its arms' data (`data_alone`). `paper`: lay the paper's coverage over the
    figure even where the problems are neither MATH's nor GSM8K's.
    """
    has_students = len(tables.get("differences", ())) > 0
    if has_students:
        rows, of_bases = headline_rows(tables), rows_of_bases(tables)
        is_named = (rows["arm_b"] == run.study.budget.reference) | rows["is_significant"]
        shown = rows[is_named | rows["primary"]]
        n_corrected = int((~rows["primary"]).sum())
        found = headline(rows, of_bases)
        measure = "students' greedy pass@1 on held-out problems"
        sentences = _sentences(run, shown, of_bases, rows)
    else:
        shown = rows = data_rows(tables)
        n_corrected = len(rows)
        found = data_headline(rows)
        measure = "the samples alone"
        sentences = data_sentences(run, rows)
    limits = notes(run, tables, shown, n_corrected)
    result = {
        "headline": found,
        "sentences": [f"Measured by {measure}.", *sentences],
        "gains": gain_sentences(tables) + stopping_sentences(tables),
        "controls": [told for told in controls_hold(tables) if told not in limits],
        "why": why(tables.get("reasons", NO_REASONS), shown) if has_students else [],
        "notes": limits,
        "next": next_steps(run, tables, shown),
        "not_run": not_run(run, tables),
        "paper": _paper_data(run) or ("MATH" if paper else None),
    }
    write_json(run.path("06", "answer.json"), result)
    return result


def _sentences(
    run: Run, shown: pd.DataFrame, of_bases: pd.DataFrame, rows: pd.DataFrame
) -> list[str]:
    n_corrected = int((~rows["primary"]).sum())
    sentences = []
    for row in shown.itertuples():
        sentences.append(_sentence(run, row, 1 if row.primary else n_corrected))
        sentences += _by_student(row, of_bases)
    n_others = len(rows) - len(shown)
    if n_others:
        sentences.append(
            f"The other {n_others} comparisons, of arms other than {run.study.budget.reference}, are not settled and"
            " stand in the table."
        )
    if n_corrected > 1:
        kind = " secondary" if rows["primary"].any() else ""
        sentences.append(
            f"These are {n_corrected}{kind} comparisons: a difference counts as shown only where its p, corrected for"
            " all of them (Holm), is below 0.05 too."
        )
    n_single = int((~of_bases["primary"]).sum())
    if n_single > 1:
        sentences.append(
            f"The {n_single} differences of single students are corrected among themselves."
        )
    return sentences


def _sentence(run: Run, row, n_comparisons: int) -> str:
    """A comparison with its interval, and why it is not settled where it is not."""
    base = getattr(row, "base", "") or ALL_BASES
    student = "" if base == ALL_BASES else f", student {base}"
    kind = "Primary: at" if row.primary else "At"
    doubt = ""
    if row.low <= 0 <= row.high:
        doubt = "; the interval holds zero, so the sign is not settled"
        if clause := excluded_words(row, run.study.power.equivalence_points):
            doubt += f", but {clause}"
    elif not row.is_significant:
        doubt = (
            f"; the interval excludes zero, but corrected for {_corrected_for(run, n_comparisons)} p ="
            f" {row.p_holm:.2f}, so the sign is not settled"
        )
    return (
        f"{kind} the budget “{row.budget}”{student} ({bought_words(run, row.arm_a, row.arm_b, row.budget)})"
        f" {row.arm_a} minus {row.arm_b} is {difference_words(row, ' ({low} to {high}')}, 95 % interval,"
        f" n = {row.n_problems} problems{doubt})."
    )


def _corrected_for(run: Run, n_comparisons: int) -> str:
    words = []
    if n_comparisons > 1:
        words.append(f"{n_comparisons} comparisons")
    n_looks = run.study.training.looks
    if n_looks > 1:
        words.append(f"{n_looks} looks")
    return join_words(words) or "earlier looks"


def _by_student(row, of_bases: pd.DataFrame) -> list[str]:
    """Each base's own difference in the comparison of a row, as one sentence; none where there is one base."""
    own = []
    for of_base in own_rows(row, of_bases).itertuples():
        mark = "shown" if of_base.is_significant else "not settled"
        own.append(f"{of_base.base} {difference_words(of_base, ' ({low} to {high}')}, {mark})")
    return [f"Student by student: {'; '.join(own)}."] if own else []


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
