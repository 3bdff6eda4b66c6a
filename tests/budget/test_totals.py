"""The ledger in a few lines: what is added up, in which unit, and what is not known."""

import numpy as np
import pandas as pd
import pytest

from wcse_lib.budget import totals
from wcse_lib.budget.ledger import COLUMNS


def ledger(*rows) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=[*COLUMNS, "matched"])


SAMPLES = [
    ("se", "02_generate", "sampling", "low", "tokens", 0.0, 10.0, None),
    ("se", "02_generate", "sampling", "high", "tokens", 0.0, 100.0, None),
    ("se", "02_generate", "sampling", "low", "flops", 100.0, 110.0, True),
    ("se", "02_generate", "sampling", "high", "flops", 1000.0, 1100.0, False),
    ("se", "02_generate", "truncated", "high", "flops", 0.0, 50.0, None),
    ("se", "02_generate", "prompt", "high", "flops", 0.0, 500.0, None),
    ("se", "02_generate", "machine", "", "seconds", 0.0, 7200.0, None),
    ("se", "02_generate", "machine", "", "usd", 0.0, 6.0, None),
]


def line(table: pd.DataFrame, who: str, part: str) -> pd.Series:
    return table.set_index(["who", "part"]).loc[(who, part)]


def test_a_smaller_budget_is_a_part_of_the_largest_and_so_is_what_was_cut():
    found = line(totals(ledger(*SAMPLES)), "se", "samples")
    amounts = (found["planned"], found["spent"], found["ratio"])
    assert amounts == pytest.approx((1000, 1100, 1.1))
    assert (found["unit"], found["hours"], found["usd"]) == ("flops", 2, 6)
    assert line(totals(ledger(*SAMPLES)), "se", "prompts")["spent"] == 500


def test_what_was_billed_stands_before_the_machines_price():
    billed = ("se", "02_generate", "sampling", "high", "usd", 2.0, 3.0, None)
    assert line(totals(ledger(*SAMPLES, billed)), "se", "samples")["usd"] == 3


def test_arms_of_which_one_knows_no_flops_are_counted_in_what_all_know():
    other = ("wc", "02_generate", "sampling", "high", "tokens", 0.0, 40.0, None)
    table = totals(ledger(*SAMPLES, other))
    assert set(table["unit"]) == {"tokens"}
    assert line(table, "se", "samples")["spent"] == 100


def test_students_are_added_up_and_what_nobody_planned_has_no_ratio():
    students = []
    for name in "ab":
        students.append((name, "04_finetune", "training", np.nan, "flops", 10.0, 11.0, False))
        students.append((name, "05_evaluate", "evaluation", np.nan, "flops", 0.0, 5.0, None))
    table = totals(ledger(*SAMPLES, *students))
    assert line(table, "all students", "training")["ratio"] == pytest.approx(1.1)
    assert np.isnan(line(table, "all students", "tests")["ratio"])


def test_a_study_of_nothing_known_has_no_lines():
    assert totals(ledger()).empty
