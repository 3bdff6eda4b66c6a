"""Whether PyTorch compiles a model: as the machine file says, or where a trial amid the work says that it pays."""

from __future__ import annotations

import os
import shutil
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, Literal

LOOK_SECONDS = 20.0  # of plain work, by which the work ahead is judged
# of plain work ahead, below which nothing is tried: compiling takes up to a minute, and no gain above 1.5 times was
# measured (LOG.md), so that above it at best twice as much is won as is staked
LEAST_SECONDS = 360.0
WARM_STEPS = 4  # compiled steps that are not timed: what is of new sizes is compiled anew
TIMED_STEPS = 8  # of either kind, by turns

TOO_SHORT = f"not compiled: less than {LEAST_SECONDS / 60:.0f} minutes of work were seen ahead, and compiling takes one"


class Compiling:
    """Whether the next step of some long work is compiled.

    `asked` True and False are obeyed. "auto" works plainly at first; where much is left after `LOOK_SECONDS`, steps are
    compiled and plain by turns for a while, and the faster way is kept. `note` tells the choice in a sentence. `clock`
    gives the seconds of the work alone; how much of it is done is told to `expect` and `n_done`, in any unit.
    """

    def __init__(
        self, asked: bool | Literal["auto"], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.clock = clock
        self.is_on = asked is True
        self.is_auto = asked == "auto"
        self.is_open = self.is_auto  # whether the choice is still to come
        self.note = f"{'' if asked else 'not '}compiled, as the machine file says"
        if self.is_auto:
            self.note = TOO_SHORT
        if self.is_auto and not shutil.which(compiler := os.environ.get("CXX", "g++")):
            self._close(False, f"not compiled: there is no {compiler} here")
        self.n_done = self.n_whole = 0.0
        self._first: tuple[float, float] | None = None  # step: when it began, and what was done
        self._last: tuple[float, float, bool] | None = None  # step: begin, size, whether compiled
        self._ahead: float | None = None  # plain seconds, as seen when the trial began
        self._warm_seconds: list[float] = []
        # of the trial: seconds a unit of size
        self._paces: dict[bool, list[float]] = {False: [], True: []}
        self._compiled: Any = None

    def expect(self, n: float) -> None:
        """So much is to be done from now on: looked at anew, unless there was a trial."""
        self.n_whole = self.n_done + n
        if self.note == TOO_SHORT:
            self.is_open, self._first = True, None

    def begin(self, size: float) -> None:
        """A step of this size begins, and the one before has ended."""
        if not self.is_open:
            return
        now = self.clock()
        if self._first is None:
            self._first = now, self.n_done
        elif self._ahead is None:
            self._look(now)
        else:
            self._compare(now)
        self._last = now, size, self.is_on

    def either(self, plain: Callable, compiled: Callable):
        """The step in the chosen way; plainly from now on where compiling fails and nobody has asked for it."""
        if not self.is_on:
            return plain()
        try:
            return compiled()
        except Exception as error:
            if not self.is_auto:
                raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            self._close(False, f"not compiled: compiling failed ({reason})")
        return plain()

    def compiled(self, what: Any, **options) -> Any:
        """A function or model by torch.compile, made when it is first asked for."""
        if self._compiled is None:
            import torch

            kept_by_processor()
            self._compiled = torch.compile(what, **options)
        return self._compiled

    def _look(self, now: float) -> None:
        """Begin a trial where enough work is ahead."""
        began, n_before = self._first
        if now - began < LOOK_SECONDS or self.n_done <= n_before:
            return
        seconds_each = (now - began) / (self.n_done - n_before)
        ahead = seconds_each * (self.n_whole - self.n_done)
        if ahead < LEAST_SECONDS:
            self._close(False, TOO_SHORT)
        else:
            self._ahead, self.is_on = ahead, True
            self.note = "compiled now and then: the work ended amid a trial"

    def _compare(self, now: float) -> None:
        """Note the step before, and end the trial when each way has had its turns."""
        began, size, was_compiled = self._last
        seconds = now - began
        if len(self._warm_seconds) < WARM_STEPS:
            self._warm_seconds.append(seconds)
            return
        self._paces[was_compiled].append(seconds / size)
        self.is_on = not was_compiled
        if min(map(len, self._paces.values())) < TIMED_STEPS:
            return
        plain, compiled = (statistics.median(self._paces[kind]) for kind in (False, True))
        speed = f"{plain / compiled:.2f} times as fast"
        took = f"{sum(self._warm_seconds):.0f} s of {self._ahead:.0f} ahead went into compiling"
        is_faster = compiled < plain
        self._close(
            is_faster, f"{'' if is_faster else 'not '}compiled, by a trial: {speed}; {took}"
        )

    def _close(self, is_on: bool, note: str) -> None:
        self.is_on, self.is_open, self.note = is_on, False, note


def told(notes: Mapping[str, str]) -> str:
    """Whether models were compiled, by name, in lines: one for each reason; "" says nothing.

    >>> told({"a": "not compiled: ...", "b": "not compiled: ..."})
    'a, b: not compiled: ...'
    """
    by_note: dict[str, list[str]] = {}
    for name, note in notes.items():
        if not note:
            continue
        by_note.setdefault(note, []).append(name)
    return "\n".join(f"{', '.join(names)}: {note}" for note, names in by_note.items())


def kept_by_processor() -> None:
    """Have PyTorch keep compiled code apart by instruction set: what one processor's run left in the cache is taken by
    another's (a cluster's shared folder, a moved image), and gives wrong numbers there (2.13)."""
    import torch

    torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
