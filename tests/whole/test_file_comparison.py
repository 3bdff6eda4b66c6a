"""A comparison of two files is the study that its params file says: the notebooks find the same numbers."""

import os
from pathlib import Path

import pandas as pd
import pytest
from files_of_samples import compared, rows_of

from wcse_lib import analyze, pipeline, verify
from wcse_lib.start import Prices
from wcse_lib.study import Machine

MOST_BESIDE = 8  # times the CPU-seconds of verifying, or of one second
pytestmark = [pytest.mark.dag, pytest.mark.slow]


def numbers(study_folder: Path) -> dict[str, pd.DataFrame]:
    """The tables of a study, less how long its stages took."""
    tables = analyze.read_tables(study_folder / "06_analyze" / "tables")
    ledger = tables["ledger"]
    tables["ledger"] = ledger[ledger["unit"] != "seconds"].reset_index(drop=True)
    del tables["totals"]  # the ledger's sums, in hours too
    return tables


def test_the_study_run_through_the_notebooks_has_the_same_tables(root, tmp_path):
    prices = Prices(per_sample=(0.003, 0.001))
    answered = compared(tmp_path, rows_of(2, 1), rows_of(4, 2), prices=prices)
    by_notebooks = pipeline.run(str(answered.params), outputs=str(tmp_path / "by_notebooks"))
    tables, others = numbers(answered.run.folder), numbers(by_notebooks)
    assert tables.keys() == others.keys()
    assert {"coverage", "arm_differences", "explanation", "diversity"} <= tables.keys()
    for name, table in tables.items():
        pd.testing.assert_frame_equal(table, others[name])
    answer = "06_analyze/answer.json"
    assert (answered.run.folder / answer).read_text() == (by_notebooks / answer).read_text()


def test_two_files_of_a_thousand_samples_take_a_minute_at_most(tmp_path):
    """In CPU-seconds, since others may be at work: planning, tables and page take a few times what verifying does."""
    began = _cpu_seconds()
    answered = compared(tmp_path, rows_of(34, 17), rows_of(34, 12))
    whole = _cpu_seconds() - began
    began = _cpu_seconds()
    for arm in answered.run.study.arms:
        verify.verify(answered.run, arm, Machine(checkers=1))
    verifying = _cpu_seconds() - began
    print(f"whole {whole:.1f} CPU-seconds, verifying {verifying:.1f}")
    assert whole < 60
    assert whole - verifying < MOST_BESIDE * max(verifying, 1.0)


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])
