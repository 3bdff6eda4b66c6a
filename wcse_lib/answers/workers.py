"""A question to a function that may hang, crash or fill the memory: asked in a process that can be killed."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

START_SECONDS = 120.0
MAX_MEMORY = 4 << 30  # bytes
TIMEOUT = "timeout"
Verdict = tuple[bool | None, str]  # (True, False or None for unverifiable; reason)
Ask = Callable[[str, str], Verdict]  # of a prediction and gold


def serve(limit_seconds: float, ask: Ask) -> None:
    """The worker's loop: a JSON pair a line in, a verdict a line out. Dies when a pair takes more processor time."""
    import logging
    import resource

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # stray prints must not look like verdicts
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    is_warm = False
    with contextlib.suppress(Exception):
        is_warm = bool(ask("x", "x"))
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        # the first pair may have packages to import
        signal.setitimer(signal.ITIMER_PROF, limit_seconds if is_warm else 4 * limit_seconds)
        try:
            verdict = ask(*json.loads(line))
            is_warm = True
        except Exception as error:
            verdict = (None, f"undecided: {type(error).__name__} in {shown_name(ask)}")
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), file=out, flush=True)


def shown_name(ask: Ask) -> str:
    return ask.__name__.strip("_").replace("_", "-")


class Worker:
    """One process that runs a module's function; started at its first question, replaced after a time-out."""

    def __init__(self, limit_seconds: float, ask: Ask) -> None:
        self.limit_seconds = limit_seconds
        self.function = ask
        self.name = shown_name(ask)
        self.process: subprocess.Popen | None = None

    def start(self) -> bytes | None:
        """Starts the process, which finds this module wherever its package lies; returns its first line."""
        package_folder = Path(__file__).resolve().parents[__name__.count(".")]
        paths = [str(package_folder), os.environ.get("PYTHONPATH", "")]
        code = (
            f"from {__name__} import serve; "
            f"from {self.function.__module__} import {self.function.__name__} as ask; "
            f"serve({self.limit_seconds}, ask)"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        )
        return self.line(START_SECONDS)

    def ask(self, prediction: str, gold: str) -> Verdict:
        """The function's verdict; (None, reason) when it takes too long, dies or cannot be started."""
        line = None
        try:
            if self.process is None and not self.start():
                return None, f"undecided: {self.name} did not start"
            self.process.stdin.write(json.dumps([prediction, gold]).encode() + b"\n")
            self.process.stdin.flush()
            line = self.line(4 * self.limit_seconds)
            if line:
                return tuple(json.loads(line))
            is_timeout = line is None or self.process.wait(9) == -signal.SIGPROF
            return None, TIMEOUT if is_timeout else f"undecided: {self.name} died"
        except OSError as error:
            line = None
            return None, f"undecided: {self.name} cannot run ({error})"
        finally:
            if not line:  # also after an interrupt: a late answer must not meet the next question
                self.kill()

    def line(self, seconds: float) -> bytes | None:
        """The next line, b"" when the process has died, None when the time is up."""
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        return self.process.stdout.readline() if poll.poll(seconds * 1000) else None

    def kill(self) -> None:
        if self.process is not None:
            with contextlib.suppress(OSError), self.process:
                self.process.kill()
            self.process = None
