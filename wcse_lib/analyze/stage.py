"""06: from rows on disk to tidy tables with intervals."""

from __future__ import annotations

import pandas as pd

from wcse_lib.analyze import arms as of_arms
from wcse_lib.analyze import students as of_students
from wcse_lib.analyze.outcome import forecast_rows
from wcse_lib.analyze.samples import read_arms
from wcse_lib.analyze.significance import FAMILIES, with_holm
from wcse_lib.analyze.tables import TABLES, as_declared, write_tables
from wcse_lib.budget import ledger_table
from wcse_lib.study import Run


def analyze(run: Run, ngrams: bool = False) -> dict[str, pd.DataFrame]:
    """Compute every table of the study from its files alone, write `06_analyze/tables/*.csv` and return them by name.

    `ngrams` adds diversity by clusters of reworded solutions (slow where a problem has thousands of correct samples).
    `ablations` and `transfer` are about other recipes and held-out sets; every other table about the main ones. A table
    without rows is left out. Raises StudyError naming the file that an unfinished stage lacks.
    """
    arms = read_arms(run)
    likelihoods = of_arms.read_likelihoods(run)
    rows = {
        "quality": of_arms.quality(arms),
        "coverage": of_arms.coverage(run, arms),
        "sound_coverage": of_arms.sound_coverage(run, arms),
        "diversity": of_arms.diversity(run, arms, ngrams),
        "false_positives": of_arms.false_positives(run, arms),
        "levels": of_arms.levels(run, arms),
        "lengths": of_arms.lengths(run, arms),
        "self_agreement": of_arms.self_agreement(run, arms),
        "arm_votes": of_arms.arm_votes(run, arms),
        "flow": of_arms.flow(run, arms),
        "arm_differences": of_arms.arm_differences(run, arms, likelihoods),
        "explanation": of_arms.explanation(run, arms, likelihoods),
        "forecast": forecast_rows(run, arms),
        "ledger": ledger_table(run),
    }
    if run.plan.students:
        tested = of_students.read_scores(run)
        rows |= {
            "students": of_students.students(run, tested),
            "differences": of_students.differences(run, tested),
            "ablations": of_students.ablations(run, tested),
            "transfer": of_students.transfer(run, tested),
            "controls": of_students.controls(run, tested, arms),
            "student_false_positives": of_students.student_false_positives(run),
            "training": of_students.training(run),
        }
    tables = {name: _table(name, rows[name]) for name in TABLES if name in rows}
    tables = {name: table for name, table in tables.items() if len(table)}
    write_tables(run.path("06", "tables"), tables)
    return tables


def _table(name: str, rows) -> pd.DataFrame:
    """Rows as the declared table of this name, p values corrected for their number."""
    table = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(list(rows))
    if name in FAMILIES and len(table):
        table = with_holm(table, FAMILIES[name])
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
