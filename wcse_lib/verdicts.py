"""Verdicts and judgements for a frame of samples, one row each, joined by key and never by position."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pandas as pd

from wcse_lib import answers, judges, sandbox
from wcse_lib.records import KEY
from wcse_lib.study import Verification

VERDICTS = dict.fromkeys([*KEY, "extracted", "verdict", "reason", "verifier"], "string") | {
    "sample_index": "int64"
}
JUDGEMENT_COLUMNS = [*KEY, "sound", "judge", "reason"]


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
        ["truncated"] * len(samples),
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
        verdict[i], reason[i] = "unverifiable", "the sample failed"
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
            else ("incorrect", "no code")
        )

    with ThreadPoolExecutor(workers) as threads:
        results = dict(zip(once, threads.map(run, once)))
    return [(job[0].strip() and job[0] or None, *results[job]) for job in jobs]


def program(text: str, question: str, tests: str) -> tuple[str, str, str]:
    """(code, tests, entry point to check) of a sample. In tests like HumanEval's, which define `check(candidate)`, the
    entry point is what they call it with, else the question's last function; then the question's code stands before a
    text that goes on from it, its imports before one that writes the function anew."""
    code, named = sandbox.extract_code(text), re.findall(r"^def +(\w+)\(", question, re.M)
    if not re.search(r"^def check\(", tests, re.M):
        return code, tests, ""
    called = re.search(r"^check\((\w+)\)", tests, re.M)
    entry = called[1] if called else (named or [""])[-1]
    if code.strip() and entry in named:
        anew = re.search(rf"^(?:async )?def +{entry}\b", code, re.M)
        code = "\n".join(
            [
                *(
                    re.findall(r"^(?:import|from) .*", question, re.M)
                    if anew
                    else [question.rstrip()]
                ),
                code,
            ]
        )
    return code, tests, "" if called else entry


def task_verdict(answer: str, entry: str) -> tuple[bool | None, str]:
    """reasoning-gym's own score of an answer: 1 is correct. Run in a process of its own, as scorers may not end."""
    from wcse_lib.problems import task_score

    if not answer:
        return False, "no final answer"
    score = task_score(entry, answer)
    return score == 1, f"score {score:g}"


def judgement_rows(
    samples: pd.DataFrame,
    verdicts: pd.DataFrame,
    problems: pd.DataFrame,
    judge: str,
    every: bool = False,
) -> pd.DataFrame:
    """The reasoning of every correct sample (or `every` one) judged by `exact` (nano problems) or `arithmetic`."""
    if not every:
        samples = samples.merge(verdicts.loc[verdicts["verdict"] == "correct", KEY], on=KEY)
    if judge == "exact":
        question = problems.set_index("problem_id")["question"].loc[samples["problem_id"]]
        results = [judges.exact(q, text) for q, text in zip(question, samples["text"])]
    else:
        results = [judges.arithmetic(text) for text in samples["text"]]
    return judged(samples, judge, results)


def judged(
    samples: pd.DataFrame, judge: str, results: list[tuple[bool | None, str]]
) -> pd.DataFrame:
    """Judgement rows (JUDGEMENT_COLUMNS) of samples and their (sound, reason) pairs."""
    said = {"sound": [sound for sound, _ in results], "reason": [reason for _, reason in results]}
    rows = (
        samples[KEY]
        .assign(sound=pd.array(said["sound"], "boolean"), judge=judge)
        .astype({"judge": "string"})
    )
    return rows.assign(reason=pd.array(said["reason"], "string")).reset_index(drop=True)


def three_kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """The first correct sample, correct one with unsound reasoning, and incorrect one, where there are such.

    Args: rows: `verdict`, `reason`, and `sound` and `judge_reason` (empty where not judged). Returns them with `kind`, `why`.
    """
    correct, unsound = rows["verdict"] == "correct", rows["sound"].isin([False])
    kinds = {
        "correct": (correct & ~unsound, "reason"),
        "correct answer, unsound reasoning": (correct & unsound, "judge_reason"),
        "incorrect": (rows["verdict"] == "incorrect", "reason"),
    }
    first = {kind: (rows[mask].head(1), why) for kind, (mask, why) in kinds.items()}
    return pd.concat([row.assign(kind=kind, why=row[why]) for kind, (row, why) in first.items()])


def tell(rows: pd.DataFrame) -> str:
    """The rows of `three_kinds` as text; they have `question`, `answer` and `text` too."""
    return "\n\n".join(
        f"--- {r.kind}: {r.why}\n{r.question}\n(gold: {r.answer}, extracted: {r.extracted})\n{r.text}"
        for r in rows.itertuples()
    )
