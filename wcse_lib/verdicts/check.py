"""A verdict for every sample: by its final answer, its problem's tests, a task's own scorer or a user's program."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain, islice, repeat

import numpy as np
import pandas as pd

from wcse_lib import answers
from wcse_lib.store import KEY
from wcse_lib.study import ANY_OF, Verification
from wcse_lib.verdicts import sandbox
from wcse_lib.verdicts.execute import run_samples
from wcse_lib.verdicts.program import ROW, read_program, run_program
from wcse_lib.verdicts.reasons import Reason
from wcse_lib.verdicts.tasks import task_verdict

KEY_COLUMNS = {"author": "string", "problem_id": "string", "sample_index": "int64"}
BEST_FIRST = ("correct", "unverifiable", "incorrect")
VERDICTS = KEY_COLUMNS | dict.fromkeys(["extracted", "verdict", "reason", "verifier"], "string")


@contextmanager
def verifier(style: str, workers: int = 1, how: Verification | None = None) -> Iterator[Callable]:
    """Yield `verify(samples, problems) -> verdict rows` (columns VERDICTS), whose processes and memo serve many calls.

    Args: style: as in answers.extract; samples: KEY columns, `text`, `finish_reason`, and `in_thought` where `spoken`
    gave it; problems: `problem_id`, `answer`, for code `question` and `tests`, for tasks `tests`, for a program ROW. A
    sample that was truncated or never stops thinking is incorrect (it has no final answer), a failed one unverifiable.
    `verify` raises KeyError when a sample's problem is unknown. Raises StudyError where the program cannot be read.
    """
    how = how or Verification()
    if how.by == "tests":
        check = partial(run_samples, workers=workers, seconds=how.seconds)
        name = f"wcse-tests/2 ({sandbox.containment()})"
        yield partial(_verify, check=check, gold=["question", "tests"], name=name)
        return
    if how.by == "program":
        program = read_program(how)
        reads = style if how.reads == "answer" else None
        check = partial(run_program, program=program, workers=workers, style=reads)
        yield partial(_verify, check=check, gold=ROW, name=program.version)
        return
    options = {"workers": workers, "limit_seconds": how.seconds}
    if how.by == "answer":
        gold, name = "answer", answers.VERIFIER
        options["policy"] = answers.Policy(**how.policy)
    else:
        gold, name = "tests", "wcse-task/1"
        options["ask"] = task_verdict
    with answers.Checker(style, **options) as checker:
        check = checker.check_many
        if how.by == "answer":
            check = partial(_check_any, check=check)
        yield partial(_verify, check=check, gold=gold, name=name)


def _verify(
    samples: pd.DataFrame,
    problems: pd.DataFrame,
    check: Callable[[list[str], list], list[tuple[str | None, str, str]]],
    gold: str | list[str],
    name: str,
) -> pd.DataFrame:
    """Verdict rows in the samples' order: `check` decides on the usable texts and their problems' `gold` columns."""
    finish = samples["finish_reason"].to_numpy()
    failed, in_thought = finish == "error", np.zeros(len(samples), bool)
    if "in_thought" in samples:
        in_thought = samples["in_thought"].to_numpy() & (finish == "stop")
    usable = np.flatnonzero((finish == "stop") & ~in_thought)
    extracted = [None] * len(samples)
    verdicts = np.where(failed, "unverifiable", "incorrect").tolist()
    reasons = np.where(failed, str(Reason.FAILED), str(Reason.TRUNCATED))
    reasons = np.where(in_thought, str(Reason.IN_THOUGHT), reasons).tolist()

    problem_ids = samples["problem_id"].iloc[usable]
    golds = problems.set_index("problem_id", drop=False)[gold].loc[problem_ids].to_numpy().tolist()
    results = check(samples["text"].iloc[usable].tolist(), golds)
    for place, result in zip(usable, results, strict=True):
        extracted[place], verdicts[place], reasons[place] = result
    return (
        samples[KEY]
        .assign(
            extracted=pd.array(extracted, "string"),
            verdict=verdicts,
            reason=reasons,
            verifier=name,
        )
        .reset_index(drop=True)
    )


def _check_any(texts: list[str], golds: list[str], check: Callable) -> list[tuple]:
    """`check` of each text against every one of its problem's gold answers: the best of their rows."""
    if not any(ANY_OF in gold for gold in golds):
        return check(texts, golds)
    n_golds = [gold.count(ANY_OF) + 1 for gold in golds]
    repeated = list(chain.from_iterable(map(repeat, texts, n_golds)))
    rows = iter(check(repeated, ANY_OF.join(golds).split(ANY_OF)))
    return [min(islice(rows, n), key=lambda row: BEST_FIRST.index(row[1])) for n in n_golds]
