"""Asks a user's program about many answers, inside the sandbox: one process answers for all until one of them ends it.

Needs nothing but Python's standard library, and is read before the sandbox closes. Every answer gets a line of JSON:
[verdict (true, false or null), reason, what it votes for or null].
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from typing import Any, NoReturn

READ = b"read"  # says that a process has read the program
WALL = 2  # seconds by the clock for each that an answer may take of a processor
LONGEST_REASON, LONGEST_VOTE, SHOWN = 300, 2000, 60  # characters
STANDARD = "the sandbox has only Python's standard library"
DEFAULTS = {True: "accepted", False: "rejected", None: "the program cannot decide"}


def run(work: dict) -> str:
    """Write a line for each of `work["asked"]` (pairs of row and answer) to the file `work["out"]`."""
    left = work["asked"]
    while left:
        left = left[_serve(work, left) :]
    return ""


def _serve(work: dict, asked: list) -> int:
    """Let a new process answer until it ends or takes too long; returns how many have their line."""
    read, write = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(read)
        os.close(work["out"])
        _answer_all(work, asked, write)
    os.close(write)
    with contextlib.suppress(OSError):
        os.setpgid(worker, worker)
    n_answered, is_late = _relay(read, work["out"], WALL * work["seconds"])
    os.close(read)
    with contextlib.suppress(OSError):
        os.killpg(worker, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1])
    if n_answered == len(asked):
        return n_answered
    fault = _end(work, status, is_late)
    if n_answered is None:
        for _ in asked:
            os.write(work["out"], _line(None, f"{fault}, before it answered anything"))
        return len(asked)
    os.write(work["out"], _line(None, fault))
    return n_answered + 1


def _relay(read: int, out: int, wall_seconds: float) -> tuple[int | None, bool]:
    """Pass a process's lines on until it ends or is late.

    Returns how many it answered, None where it did not even read the program, and whether it was late. A line begins
    with its number: what else the program writes there is taken for no verdict.
    """
    n_answered, rest = None, b""
    while select.select([read], [], [], wall_seconds)[0]:
        data = os.read(read, 1 << 16)
        if not data:
            return n_answered, False
        *whole, rest = (rest + data).split(b"\n")
        for line in whole:
            number, _, said = line.partition(b" ")
            if n_answered is None:
                n_answered = 0 if number == READ else None
            elif number == b"%d" % n_answered:
                os.write(out, said + b"\n")
                n_answered += 1
    return n_answered, True


def _end(work: dict, status: int, is_late: bool) -> str:
    """Why a process ended before it had answered, as a sentence."""
    if is_late or -status == signal.SIGXCPU:
        return f"timeout: {work['name']} took more than {work['seconds']:g} s"
    if status < 0:
        return f"the program was killed by {signal.Signals(-status).name}"
    return f"the program ended its process: exit status {status}"


def _line(verdict: bool | None, reason: str, vote: str | None = None) -> bytes:
    return json.dumps([verdict, reason[:LONGEST_REASON], vote]).encode() + b"\n"


# ---------------------------------------------------------------------- the process that answers


def _answer_all(work: dict, asked: list, out: int) -> NoReturn:
    """Read the program, then answer one after the other; a program that cannot be read has one answer to all."""
    own_process = os.getpid()
    try:
        os.setpgid(0, 0)
        _allow(work["seconds"])
        program, fault = _read(work)
        os.write(out, READ + b"\n")
        for number, (row, answer) in enumerate(asked):
            _allow(work["seconds"])
            line = _line(None, fault)
            if not fault:
                line = _line(*_verdict(work, program, answer, work["rows"][row]))
            # a process that the program forked has nothing to say
            if os.getpid() != own_process:
                break
            os.write(out, b"%d " % number + line)
    finally:
        os._exit(0)


def _allow(seconds: float) -> None:
    """Let the processor work for so many more seconds, rounded up; then the process is killed."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime + seconds)
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (min(soft, hard), hard))


def _read(work: dict) -> tuple[dict, str]:
    """The program's names, and why it could not be read, or ""."""
    module = type(sys)("verifier")
    sys.modules["verifier"] = module
    try:
        exec(compile(work["source"], work["name"], "exec", dont_inherit=True), module.__dict__)
    except BaseException as error:
        return {}, _described(work, error)
    if not callable(module.__dict__.get("verify")):
        return {}, f"{work['name']} defines no function verify"
    return module.__dict__, ""


def _verdict(
    work: dict, program: dict, answer: str, row: str
) -> tuple[bool | None, str, str | None]:
    """What the program says of an answer, and what that votes for."""
    try:
        said = program["verify"](answer, json.loads(row))
        verdict, reason = _understood(said)
        vote = _vote(program.get("key"), answer, row)
    except BaseException as error:
        return None, _described(work, error), None
    return verdict, reason, vote


def _understood(said: Any) -> tuple[bool | None, str]:
    """A verdict and its reason, of what `verify` returned."""
    verdict, reason = said, ""
    if isinstance(said, tuple | list) and len(said) == 2:
        verdict, reason = said
    # 1 and 0 are no verdicts, although they equal True and False
    is_verdict = any(verdict is one for one in DEFAULTS)
    if not is_verdict or not isinstance(reason, str):
        allowed = "verify returns True, False, None or (one of these, a text)"
        return None, f"the program returned no verdict: {_shown(said)}; {allowed}"
    return verdict, " ".join(reason.split()) or DEFAULTS[verdict]


def _vote(key: Callable | None, answer: str, row: str) -> str | None:
    """What an answer votes for: what the program's `key` makes of it, else its text with white space folded."""
    vote = " ".join(answer.split()) if key is None else key(answer, json.loads(row))
    if vote is not None and not isinstance(vote, str):
        raise TypeError(f"key returned {_shown(vote)}; it returns a text or None")
    if vote and len(vote) > LONGEST_VOTE:
        digest = hashlib.sha256(vote.encode("utf-8", "replace")).hexdigest()
        return f"{vote[:LONGEST_VOTE]} … {digest}"
    return vote or None


def _described(work: dict, error: BaseException) -> str:
    """What the program raised, where, and what that may come from."""
    line, frame = "", error.__traceback__
    while frame:
        if frame.tb_frame.f_code.co_filename == work["name"]:
            line = f", line {frame.tb_lineno} of {work['name']}"
        frame = frame.tb_next
    try:
        message = " ".join(str(error).split())[: LONGEST_REASON // 2]
    except Exception:  # its own __str__ fails
        message = "no message"
    hint = f"; {STANDARD}" if isinstance(error, ImportError) else ""
    return f"the program raised {type(error).__name__}: {message}{line}{hint}"


def _shown(value: Any) -> str:
    return f"{repr(value)[:SHOWN]} ({type(value).__name__})"
