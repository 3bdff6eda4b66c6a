"""Verdicts by a program that the user writes, and whether it can decide about a study's problems at all."""

from __future__ import annotations

import json
import math
import os
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from itertools import islice
from typing import NamedTuple

import pandas as pd

from wcse_lib import answers
from wcse_lib.store import StudyError, read_text
from wcse_lib.study import Verification, verifier_path
from wcse_lib.verdicts import sandbox
from wcse_lib.verdicts.names import UNREADABLE, names_of, parse
from wcse_lib.verdicts.reasons import Reason, kind_of_program
from wcse_lib.verifiers import SHIPPED

ROW = ["problem_id", "question", "answer", "level", "reference", "tests"]  # columns of problems
MOST_ASKED = 500  # of one sandbox
START_SECONDS = 30  # that a sandbox may take beside its answers, on a busy machine
WORDS = {True: "correct", False: "incorrect", None: "unverifiable"}
# verdict, reason, and what the answer votes for
Said = tuple[bool | None, str, str | None]


class Program(NamedTuple):
    """A file that defines `verify(answer, row)`, and `key(answer, row)` where it says which answers vote together."""

    name: str
    source: str
    seconds: float  # of a processor, for one answer

    @property
    def version(self) -> str:
        """Stands on every verdict row."""
        mark = sha256(self.source.encode()).hexdigest()[:12]
        return f"program {self.name} {mark} ({sandbox.containment()})"

    def says(self, asked: list[tuple[str, str]], workers: int) -> list[Said]:
        """What it says of each row (as JSON) and answer, in order; equal pairs are asked once.

        Whatever the program does to one answer, it gets a verdict: unverifiable, with a sentence that says what.
        """
        distinct = list(dict.fromkeys(asked))
        size = min(MOST_ASKED, math.ceil(len(distinct) / workers) or 1)
        pieces = [distinct[start : start + size] for start in range(0, len(distinct), size)]
        known: dict[tuple[str, str], Said] = {}
        with ThreadPoolExecutor(workers) as threads:
            for piece, said in zip(pieces, threads.map(self._ask, pieces)):
                known.update(zip(piece, said))
        return [known[pair] for pair in asked]

    def _ask(self, asked: list[tuple[str, str]]) -> list[Said]:
        """What it says of pairs, in one sandbox, and in another one where it ends that."""
        rows = list(dict.fromkeys(row for row, _ in asked))
        places = {row: place for place, row in enumerate(rows)}
        left = [(places[row], answer) for row, answer in asked]
        work = {"name": self.name, "source": self.source, "seconds": self.seconds, "rows": rows}
        found: list[Said] = []
        n_at_once = len(left)
        while left:
            now = left[:n_at_once]
            try:
                lines = sandbox.ask_program(work | {"asked": now}, self._limits(len(now)))
            except sandbox.NotStarted as error:
                return found + [(None, str(error), None)] * len(left)
            found += map(_said, lines)
            left = left[len(lines) :]
            # who ended the sandbox is known for sure only where it was asked alone
            n_at_once = len(left) if len(lines) == len(now) else 1
            if not lines and len(now) == 1:
                found.append((None, "the program ended its sandbox", None))
                left = left[1:]
        return found

    def _limits(self, n_asked: int) -> sandbox.Limits:
        seconds = n_asked * self.seconds
        return sandbox.Limits(2 * seconds + START_SECONDS, math.ceil(seconds) + START_SECONDS)


def _said(line: str) -> Said:
    try:
        verdict, reason, vote = json.loads(line)
    except ValueError:
        return None, "the program wrote where its verdicts are written", None
    return verdict, reason, vote


def read_program(how: Verification) -> Program:
    """The program of a study. Raises StudyError where it is not there, cannot be read or defines no `verify`."""
    path = verifier_path(how.path)
    shipped = ", ".join(SHIPPED)
    if not path.is_file():
        raise StudyError(
            f"verification.path = {how.path!r}: no such file; name a Python file that defines "
            f"verify(answer, row), or one that comes with the kit: {shipped}"
        )
    source = read_text(path)
    try:
        parse(source)
    except UNREADABLE as error:
        line = getattr(error, "lineno", None) or 1
        message = getattr(error, "msg", error)
        raise StudyError(
            f"{path}, line {line}: no valid Python ({message}); mend it (verification.path)"
        ) from error
    if "verify" not in names_of(source).bound:
        raise StudyError(
            f"{path}: no function verify in it (verification.path); define verify(answer, row) "
            f"as those that come with the kit do: {shipped}"
        )
    return Program(path.name, source, how.seconds)


def run_program(
    texts: list[str], golds: list[list[str]], program: Program, workers: int, style: str | None
) -> list[tuple[str | None, str, str]]:
    """(vote, verdict, reason) of each text and its problem's ROW columns.

    Args: style: how final answers are read out of texts (answers.extract); None: the whole text is the answer.
    """
    given = texts if style is None else [answers.extract(text, style) for text in texts]
    asked = []
    for answer, gold in zip(given, golds):
        if answer is not None:
            asked.append((row_of(gold), answer))
    said = iter(program.says(asked, workers))
    rows = []
    for answer in given:
        if answer is None:
            rows.append((None, WORDS[False], str(Reason.NO_ANSWER)))
        else:
            verdict, reason, vote = next(said)
            rows.append((vote, WORDS[verdict], reason))
    return rows


def row_of(problem: list[str]) -> str:
    """What a program is given as `row`, as JSON: the dataset's own row, and the columns ROW that it does not have."""
    *values, own = problem
    return json.dumps(dict(zip(ROW, values)) | (json.loads(own) if own else {}))


def faults_of_program(problems: pd.DataFrame, how: Verification) -> pd.Series:
    """Why the study's program cannot decide about each problem, or "": it must accept gold and reject an empty answer.

    Gold is the reference solution or the answer, where there is one. Raises StudyError where the program cannot be read
    or decides about no problem at all.
    """
    program = read_program(how)
    asked, n_golds = [], []
    for problem in problems[ROW].to_dict("records"):
        golds = [problem["answer"]]
        if how.reads == "text":
            golds.insert(0, problem["reference"])
        golds = [gold for gold in dict.fromkeys(golds) if gold.strip()]
        row = row_of(list(problem.values()))
        asked += [(row, answer) for answer in [*golds, ""]]
        n_golds.append(len(golds))
    said = iter(program.says(asked, os.cpu_count() or 1))
    faults, reasons = [], []
    for n in n_golds:
        of_golds = list(islice(said, n))
        fault, reason = _fault(of_golds, next(said))
        faults.append(fault and f"{fault} ({kind_of_program(reason)})")
        reasons.append(f"{fault}: {reason}")
    if faults and all(faults):
        raise StudyError(
            f"verification.path = {how.path!r}: it can decide about none of {len(faults)} problems; mend it, or the "
            f"columns of the row that it reads. Of the first, {reasons[0]}"
        )
    return pd.Series(faults, problems.index, dtype=object)


def _fault(of_golds: list[Said], of_nothing: Said) -> tuple[str, str]:
    """What is wrong with what a program says of a problem's gold and of an empty answer, and its reason."""
    if of_golds and not any(verdict for verdict, _, _ in of_golds):
        verdict, reason, _ = of_golds[0]
        return f"its gold answer is {WORDS[verdict]}", reason
    verdict, reason, _ = of_nothing
    if verdict is not False:
        return f"an empty answer is {WORDS[verdict]}, and must be incorrect", reason
    return "", ""
