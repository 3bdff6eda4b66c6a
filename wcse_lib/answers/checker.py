"""Verdicts on samples: extraction, the guards, and for what they leave a pool of processes that can be killed."""

from __future__ import annotations

import contextlib
import os
import queue
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from wcse_lib.answers.equal import ASK, Decision, decide
from wcse_lib.answers.extraction import STYLES, extract
from wcse_lib.answers.policy import DEFAULT, Policy
from wcse_lib.answers.symbolic import math_verify
from wcse_lib.answers.workers import TIMEOUT, Ask, Verdict, Worker

# Stands on every verdict row; raise the number whenever a verdict can change.
VERIFIER = "wcse-answers/5"
MAX_MEMO = 100_000  # pairs, so that memory stays flat over any number of samples
WORDS = {True: "correct", False: "incorrect", None: "unverifiable"}
Row = tuple[str | None, str, str]  # (extracted answer or None, verdict in words, reason)


@dataclass(eq=False)
class Checker(contextlib.AbstractContextManager):
    """Verdicts on many samples: a memo on (prediction, gold) and a lazy pool of killable math-verify processes.

    At most `workers` processes; a pair gets `limit_seconds` of processor time there (four times that on the clock),
    and after `patience_seconds` lost on time-outs no more is asked, so that hostile samples cannot stall a stage. Pairs
    that the guards decide start none. With another `ask` (a module's function of two texts, as `math_verify`) there
    are no guards: it decides. For any thread, Jupyter, and after a fork; a context manager. Raises ValueError on
    impossible settings.

    >>> with Checker() as checker:
    ...     checker.check("So it is 3/6.", "0.5")
    ('3/6', 'correct', 'equal: exact rational')
    """

    style: str = "auto"
    policy: Policy = DEFAULT
    workers: int = 2
    limit_seconds: float = 3.0
    patience_seconds: float = 60.0
    ask: Ask = math_verify

    def __post_init__(self) -> None:
        if self.style not in STYLES or self.workers < 1 or self.limit_seconds <= 0:
            raise ValueError(
                f"Checker: style {self.style!r} must be one of {', '.join(STYLES)}, workers "
                f"{self.workers} and limit_seconds {self.limit_seconds} positive"
            )
        self._memo: dict[tuple[str, str], Verdict] = {}
        self._renew()

    def _renew(self) -> None:
        self._owner = os.getpid()
        self._pool: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        for _ in range(self.workers):
            self._pool.put(Worker(self.limit_seconds, self.ask))

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes once they are idle; the checker can be used again afterwards."""
        if self._owner == os.getpid():
            for _ in range(self.workers):
                self._pool.get().kill()
        self._renew()

    def _guarded(self, prediction: str, gold: str) -> Decision:
        """What is known without a process; ASK when nothing is."""
        known = self._memo.get((prediction, gold))
        if known:
            return known
        if self.ask is not math_verify:
            return ASK, ""
        decision = decide(prediction, gold, self.policy)
        return decision if decision[0] == ASK else self._remember(prediction, gold, decision)

    def _remember(self, prediction: str, gold: str, verdict: Verdict) -> Verdict:
        if len(self._memo) > MAX_MEMO:
            self._memo.clear()
        self._memo[prediction, gold] = verdict
        return verdict

    def compare(self, prediction: str | None, gold: str) -> Verdict:
        """(True, False or None for unverifiable; reason) for an extracted answer."""
        prediction = prediction or ""
        decision = self._guarded(prediction, gold)
        if decision[0] != ASK:
            return decision
        if self._owner != os.getpid():
            self._renew()  # after a fork: the parent's pipes are not ours
        if self.patience_seconds <= 0:
            return self._remember(prediction, gold, (None, f"{TIMEOUT}: too many before"))
        worker = self._pool.get()
        try:
            verdict = worker.ask(prediction, gold)
        finally:
            self._pool.put(worker)
        if verdict[1] == TIMEOUT:
            self.patience_seconds -= self.limit_seconds
        return self._remember(prediction, gold, verdict)

    def check(self, text: str, gold: str) -> Row:
        """(extracted answer or None, "correct" | "incorrect" | "unverifiable", reason) of one sample."""
        return self.check_many([text], [gold])[0]

    def check_many(
        self,
        texts: Sequence[str],
        golds: Sequence[str],
        progress: Callable[[int], object] | None = None,
    ) -> list[Row]:
        """`check` of each text and its gold, in order; `progress(1)` after each. Raises ValueError if not in pairs."""
        if len(texts) != len(golds):
            raise ValueError(
                f"{len(texts)} texts but {len(golds)} golds; give one gold for each text"
            )
        pairs = [(extract(text, self.style), gold) for text, gold in zip(texts, golds)]
        # The guards decide nearly all; only the rest is given to threads, which wait for processes.
        asked = []
        for extracted, gold in dict.fromkeys(pairs):
            if self._guarded(extracted or "", gold)[0] == ASK:
                asked.append((extracted, gold))
        rows = []
        with ThreadPoolExecutor(self.workers) if asked else contextlib.nullcontext() as threads:
            slow = {pair: threads.submit(self.compare, *pair) for pair in asked}
            for pair in pairs:
                verdict, reason = slow[pair].result() if pair in slow else self.compare(*pair)
                rows.append((pair[0], WORDS[verdict], reason))
                if progress:
                    progress(1)
        return rows


@lru_cache(4)
def _shared(policy: Policy) -> Checker:
    return Checker(policy=policy, workers=1, patience_seconds=float("inf"))


def equivalent(prediction: str, gold: str, *, policy: Policy = DEFAULT) -> bool | None:
    """Whether an extracted answer equals gold; None when nothing can be said (time-out, gold that cannot be parsed).

    Bounded in time on any text, from any thread; `POLICY_TABLE` states the conventions.

    >>> equivalent("0.5", r"\\frac{1}{2}"), equivalent("0.33", r"\\frac{1}{3}")
    (True, False)
    """
    verdict = decide(prediction, gold, policy)[0]
    return _shared(policy).compare(prediction, gold)[0] if verdict == ASK else verdict
