"""Samples' code on their problems' tests; and what can be said of the tests before there are samples."""

from __future__ import annotations

import math
import os
import re
from concurrent.futures import ThreadPoolExecutor

import pandas as pd

from wcse_lib.verdicts import sandbox
from wcse_lib.verdicts.code import Program, program
from wcse_lib.verdicts.reasons import Reason, reason_kind
from wcse_lib.verdicts.runner import CANNOT_RUN


def run_samples(
    texts: list[str], golds: list[list[str]], workers: int, seconds: float
) -> list[tuple[str | None, str, str]]:
    """Run each text's code on its problem's (question, tests), equal code once: (code, verdict, reason)."""
    limits = _limits(seconds)
    programs = [program(text, question, tests) for text, (question, tests) in zip(texts, golds)]
    distinct = list(dict.fromkeys(programs))

    def run(one: Program) -> tuple[str, str]:
        if one.fault:
            return "unverifiable", one.fault
        if not one.code.strip():
            return "incorrect", str(Reason.NO_CODE)
        return sandbox.run_tests(one.code, one.tests, limits, one.entry_point)

    with ThreadPoolExecutor(workers) as threads:
        results = dict(zip(distinct, threads.map(run, distinct)))
    rows = []
    for one in programs:
        code = one.code if one.code.strip() else None
        rows.append((code, *results[one]))
    return rows


def _limits(seconds: float) -> sandbox.Limits:
    return sandbox.Limits(wall_seconds=2 * seconds, cpu_seconds=math.ceil(seconds))


def fault_of_tests(question: str, tests: str) -> str:
    """Why tests can decide about nobody's code here, or "": nothing is run to find out."""
    return program("", question, tests).fault


def faults_of_solutions(problems: pd.DataFrame, seconds: float) -> pd.Series:
    """Why each problem's own solution (`reference`) does not pass its `tests`, or "" where it does.

    A solution is read as a sample is. Without a solution, or where the sandbox does not start, nothing is found.
    """
    faults = pd.Series("", problems.index)
    rows = problems[problems["reference"].str.strip() != ""]
    golds = rows[["question", "tests"]].to_numpy().tolist()
    results = run_samples(rows["reference"].tolist(), golds, os.cpu_count() or 1, seconds)
    for place, (_, verdict, reason) in zip(rows.index, results, strict=True):
        if reason.startswith(CANNOT_RUN):
            faults[place] = reason
        elif verdict == "incorrect":
            missing = re.search(r"No module named '\w+", reason)
            kind = missing[0] + "'" if missing else reason_kind(pd.Series([reason])).iloc[0]
            faults[place] = f"its own solution fails its tests ({kind})"
    return faults
