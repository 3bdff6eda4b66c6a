"""Verdicts and judgements for a frame of samples, one row each, joined by key and never by position."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from enum import StrEnum
from functools import partial

import pandas as pd

from wcse_lib import answers
from wcse_lib.store import KEY
from wcse_lib.study import Verification
from wcse_lib.verdicts import sandbox
from wcse_lib.verdicts.code import program
from wcse_lib.verdicts.tasks import task_verdict


class Reason(StrEnum):
    """How the `reason` of a verdict row begins where others ask for it; details may follow."""

    TRUNCATED = "truncated"
    FAILED = "the sample failed"
    NO_CODE = "no code"
    BAD_GOLD = "gold cannot be parsed"
    TIMEOUT = "timeout"


VERDICTS = dict.fromkeys([*KEY, "extracted", "verdict", "reason", "verifier"], "string") | {
    "sample_index": "int64"
}


def reason_kind(reason: pd.Series) -> pd.Series:
    """Reasons without the statement of the tests or the message of the code that they name."""
    return reason.str.replace(r" in the (?:tests|code)\b.*", "", regex=True)


def verdict_rows(
    samples: pd.DataFrame,
    problems: pd.DataFrame,
    style: str,
    workers: int = 1,
    how: Verification | None = None,
) -> pd.DataFrame:
    """One verdict per sample, in the samples' order, by final answer or as `how.by` says; see `verifier`."""
    with verifier(style, workers, how) as verify:
        return verify(samples, problems)


@contextmanager
def verifier(style: str, workers: int = 1, how: Verification | None = None) -> Iterator[Callable]:
    """Yield `verify(samples, problems) -> verdict rows` (columns VERDICTS), whose processes and memo serve many calls.

    Args: style: as in answers.extract; samples: KEY columns, `text`, `finish_reason`; problems: `problem_id`, `answer`,
    for code `question` and `tests`, for tasks `tests`. A truncated sample is incorrect (it has no final answer), a
    failed one unverifiable. `verify` raises KeyError when a sample's problem is unknown.
    """
    how = how or Verification()
    if how.by == "answer":
        with answers.Checker(style, answers.Policy(**how.policy), workers, how.seconds) as checker:
            yield partial(_verify, check=checker.check_many, gold="answer", name=answers.VERIFIER)
    elif how.by == "tests":
        check = partial(_run_tests, workers=workers, seconds=how.seconds)
        name = f"wcse-tests/1 ({sandbox.containment()})"
        yield partial(_verify, check=check, gold=["question", "tests"], name=name)
    else:
        with answers.Checker(
            style, workers=workers, limit_seconds=how.seconds, ask=task_verdict
        ) as checker:
            yield partial(_verify, check=checker.check_many, gold="tests", name="wcse-task/1")


def _verify(
    samples: pd.DataFrame, problems: pd.DataFrame, check: Callable, gold, name: str
) -> pd.DataFrame:
    finish = samples["finish_reason"].to_numpy()
    usable = [i for i, f in enumerate(finish) if f == "stop"]
    extracted, verdict, reason = (
        [None] * len(samples),
        ["incorrect"] * len(samples),
        [str(Reason.TRUNCATED)] * len(samples),
    )
    of = (
        problems.set_index("problem_id")[gold]
        .loc[samples["problem_id"].iloc[usable]]
        .to_numpy()
        .tolist()
    )
    for i, result in zip(usable, check(samples["text"].iloc[usable].tolist(), of), strict=True):
        extracted[i], verdict[i], reason[i] = result
    for i in (i for i, f in enumerate(finish) if f == "error"):
        verdict[i], reason[i] = "unverifiable", str(Reason.FAILED)
    rows = samples[KEY].reset_index(drop=True)
    return rows.assign(
        extracted=pd.array(extracted, "string"), verdict=verdict, reason=reason, verifier=name
    )


def _run_tests(
    texts: list[str], golds: list, workers: int, seconds: float
) -> list[tuple[str | None, str, str]]:
    """Run each text's code on its problem's (question, tests), equal code once: (code, verdict, reason)."""
    limits = sandbox.Limits(wall_seconds=2 * seconds, cpu_seconds=math.ceil(seconds))
    jobs = [program(text, *gold) for text, gold in zip(texts, golds)]
    once = list(dict.fromkeys(jobs))

    def run(job: tuple[str, str, str]) -> tuple[str, str]:
        return (
            sandbox.run_tests(*job[:2], limits, job[2])
            if job[0].strip()
            else ("incorrect", str(Reason.NO_CODE))
        )

    with ThreadPoolExecutor(workers) as threads:
        results = dict(zip(once, threads.map(run, once)))
    return [(job[0].strip() and job[0] or None, *results[job]) for job in jobs]
