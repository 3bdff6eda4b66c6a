"""06: from rows on disk to tidy tables with intervals."""

from __future__ import annotations

from collections.abc import Iterable

import pandas as pd

from wcse_lib.analyze import arms, endings, students
from wcse_lib.analyze.data_alone import compared_pairs
from wcse_lib.analyze.headline import headline_rows
from wcse_lib.analyze.looks import LOOKED_AT, Looks, read_looks, record_look
from wcse_lib.analyze.outcome import forecast_rows
from wcse_lib.analyze.reasons import reasons
from wcse_lib.analyze.samples import read_arms
from wcse_lib.analyze.significance import FAMILIES, with_holm, with_primary
from wcse_lib.analyze.split import split
from wcse_lib.analyze.tables import TABLES, as_declared, write_tables
from wcse_lib.budget import ledger_table, totals
from wcse_lib.sample import progress
from wcse_lib.study import Run


def analyze(run: Run, ngrams: bool = False) -> dict[str, pd.DataFrame]:
    """Compute every table of the study from its files alone, write `06_analyze/tables/*.csv` and return them by name.

    `ngrams` adds diversity by clusters of reworded solutions (slow where a problem has thousands of correct samples).
    `ablations` and `transfer` are about other recipes and held-out sets; every other table about the main ones. A table
    without rows is left out. Raises StudyError naming the file that an unfinished stage lacks.
    """
    samples = read_arms(run)
    fits = arms.read_fits(run)
    rows: dict[str, Iterable[dict] | pd.DataFrame] = {}
    rows["quality"] = arms.quality(samples)
    rows["coverage"] = arms.coverage(run, samples)
    rows["sound_coverage"] = arms.sound_coverage(run, samples)
    rows["diversity"] = arms.diversity(run, samples, ngrams)
    rows["false_positives"] = arms.false_positives(run, samples)
    rows["levels"] = arms.levels(run, samples)
    rows["lengths"] = arms.lengths(run, samples)
    rows["self_agreement"] = arms.self_agreement(run, samples)
    rows["arm_votes"] = arms.arm_votes(run, samples)
    rows["flow"] = arms.flow(run, samples)
    rows["arm_differences"] = arms.arm_differences(run, samples, fits)
    rows["explanation"] = arms.explanation(run, samples, fits)
    rows["forecast"] = forecast_rows(run, samples)
    rows["ledger"] = ledger_table(run)
    rows["totals"] = totals(rows["ledger"])
    if run.plan.students:
        tested = students.read_scores(run)
        rows["students"] = students.students(run, tested)
        rows["differences"] = students.differences(run, tested)
        rows["gains"] = students.gains(run, tested)
        counts = endings.read_endings(run)
        rows["endings"] = endings.endings(run, counts)
        rows["stopping"] = endings.stopping(run, tested, counts)
        rows["ablations"] = students.ablations(run, tested)
        rows["split"] = split(run, tested)
        rows["transfer"] = students.transfer(run, tested)
        rows["training_luck"] = students.training_luck(run, tested)
        rows["controls"] = students.controls(run, tested, samples)
        rows["student_false_positives"] = students.student_false_positives(run)
        rows["training"] = students.training(run)
    looks = read_looks(run)
    tables = {}
    with progress("tables of 06", len(rows), unit="tables") as bar:
        # most rows are worked out here, as they are asked for
        for name in TABLES:
            if name in rows:
                table = _table(name, rows[name], looks)
                if len(table):
                    tables[name] = table
                bar.update(1)
    tables = looks.spend(tables)
    tables |= _reasons(run, tables)
    write_tables(run.path("06", "tables"), tables)
    record_look(run, looks, tables)
    return tables


def _reasons(run: Run, tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The table `reasons` of every comparison that the answer makes, where there is anything to tell."""
    compared = headline_rows(tables) if run.plan.students else compared_pairs(tables)
    found = reasons(run.study, tables, compared)
    return {"reasons": as_declared("reasons", found)} if len(found) else {}


def _table(name: str, rows, looks: Looks) -> pd.DataFrame:
    """Rows as the declared table of this name, p values corrected for their number and that of looks."""
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if name in FAMILIES and len(table):
        if name == "differences":
            table = with_primary(table, looks.primary)
        table = with_holm(table, FAMILIES[name], looks.allowed if name in LOOKED_AT else 1)
    return as_declared(name, table)


def checks(run: Run, tables: dict[str, pd.DataFrame]) -> dict:
    """Facts about the tables. Raises AssertionError when a value is missing or lies outside its interval."""
    for name, table in tables.items():
        if "value" in table:
            is_known = table[["value", "low", "high"]].notna().all(axis=None)
            assert is_known, f"{name}: a value is missing"
            is_inside = table["value"].between(table["low"] - 1e-9, table["high"] + 1e-9)
            assert is_inside.all(), f"{name}: a value lies outside its interval"
    assert len(tables["quality"]), "no arm has any sample"
    return {"n_tables": len(tables), "n_rows": sum(len(table) for table in tables.values())}
