"""Sandbox: runs a model's code against a problem's tests, or a user's verifier, in a process of its own.

With `namespaces` (Linux, as root or where users may make their own) the code sees a read-only system, an empty folder
in memory, no network, no other process and none of your files, and whatever it starts ends with it. `bubblewrap` does
the same by the program of that name (bwrap), where only that may make namespaces for users. With `limits only`
(many containers, macOS) it has resource limits, an empty environment, a temporary folder, a socket module that refuses,
and its descendants are swept up; on Linux no signal of theirs reaches an older process, be it the kit, the supervisor
or all (kill(-1)). Code that means harm can still read and write what the user can and reach the network.
`containment()` says which holds. Root's code runs as a nameless user or not at all. Not protected against, either way:
faults of the kernel; use of CPU and memory within the limits; code that cheats its own tests: it may patch what they
call, return objects that equal everything, or search the interpreter for the pass token (random, never on disk, in no
frame below the code, but in its process); 03 counts the correct samples that name a means of it (`could_cheat`). What
a function returns or a program prints for cases (no script) is compared in a process that the code does not run in,
and what is expected is in no object of the code's own process. For hostile code use a virtual machine.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wcse_lib.verdicts.contained import BIND
from wcse_lib.verdicts.forms import Script, read_tests
from wcse_lib.verdicts.reasons import UnusableTests
from wcse_lib.verdicts.runner import CANNOT_RUN

NAMESPACES, BUBBLEWRAP, LIMITS_ONLY = "namespaces", "bubblewrap", "limits only"
PYTHON = getattr(sys, "_base_executable", sys.executable)
PROGRAM = Path(__file__).with_name("contained.py").resolve()


@dataclass(frozen=True)
class Limits:
    """What one run may use: seconds by the clock and of CPU, bytes of memory per process and of files, and counts."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 5
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    n_processes: int = 32  # threads count too, and up to four are the sandbox's own
    n_files: int = 64


def run_tests(
    code: str, tests: str, limits: Limits = Limits(), entry_point: str = ""
) -> tuple[str, str]:
    """Run code against tests; returns (verdict, reason) as on verdict rows.

    Args: `tests`: in one of the forms of docs/datasets.md; `entry_point`: the function for tests that define
    `check(candidate)` and do not call it. "correct": all passed, and at least one assertion ran. "incorrect": anything
    else, be it a failed test, `sys.exit(0)`, a crash or a limit. "unverifiable": the tests cannot run, whoever wrote
    the code, or the sandbox did not start. Only the standard library can be imported.
    """
    code = code.removeprefix("\ufeff")
    try:
        form = read_tests(tests, entry_point)
    except UnusableTests as error:
        return "unverifiable", str(error)
    if isinstance(form, Script):
        work = {"code": code, "parts": form.parts, "collected": form.collected}
    else:
        work = {"code": code, "function": form.function, "pairs": form.pairs}
    return _run(work, limits, containment())


@cache
def containment() -> str:
    """How code is contained on this machine, tried out once: the first of the three ways (see the module's text) that
    works here."""
    work = {"code": "print(1)", "function": "", "pairs": [["", "1"]]}
    for way in (NAMESPACES, BUBBLEWRAP):
        verdict, _ = _run(work, Limits(), way)
        if verdict == "correct":
            return way
    return LIMITS_ONLY


def ask_program(work: dict, limits: Limits) -> list[str]:
    """The lines that program_runner.run writes for `work["asked"]`: fewer where the sandbox is ended before.

    Args: limits: of all together; their memory, files and processes are those of one. Raises NotStarted.
    """
    reply = _reply("program_runner", work, limits, containment())
    # what stands behind the last whole line says how the sandbox ended
    return reply.split("\n")[:-1]


class NotStarted(Exception):
    """The sandbox did not start; the text says why."""


def _run(work: dict, limits: Limits, way: str) -> tuple[str, str]:
    """Do runner.run's work in a new process, which answers the job's token when all tests have passed."""
    token = os.urandom(16).hex()
    try:
        reply = _reply("runner", work, limits, way, token)
    except NotStarted as error:
        return "unverifiable", str(error)
    if reply == token:
        return "correct", "the tests passed"
    if reply.startswith(CANNOT_RUN):
        return "unverifiable", reply[:300]
    return "incorrect", reply[:300] or "the code ended its process before the tests had passed"


def _reply(runner: str, work: dict, limits: Limits, way: str, token: str = "") -> str:
    """What a job writes that the program `runner` does in a new process. Raises NotStarted."""
    job = {
        "runner": runner,
        "work": work,
        "token": token,
        "containment": way,
        "wall": limits.wall_seconds,
        "limits": {
            "CPU": limits.cpu_seconds,
            "AS": limits.memory_bytes,
            "FSIZE": limits.file_bytes,
            "NPROC": limits.n_processes,
            "NOFILE": limits.n_files,
            "CORE": 0,
        },
    }
    command = [PYTHON, "-I", "-S", "-X", "utf8", str(PROGRAM)]
    if way == BUBBLEWRAP:
        command = [*_bubblewrap(limits), *command]
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        with subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": "/usr/bin:/bin"},
            start_new_session=True,
        ) as process:
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(json.dumps(job).encode(), limits.wall_seconds + 10)
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        out.seek(0)
        written = out.read(limits.file_bytes).decode("utf-8", "replace")
    before, ready, reply = written.partition("ready\n")
    if before or not ready:
        raise NotStarted(f"the sandbox did not start: {before[:300] or 'no reply'}")
    return reply


def _bubblewrap(limits: Limits) -> list[str]:
    """bubblewrap's command, for a program after it: no network and no other process, the system, this Python and the
    sandbox's own programs to read, two empty folders in memory to write to. Raises NotStarted without bubblewrap."""
    program = shutil.which("bwrap")
    if program is None:
        raise NotStarted("bubblewrap (bwrap) is not installed")
    # as process 1 of its namespace the supervisor is out of reach of signals, and all ends with it
    command = [program, "--unshare-all", "--die-with-parent", "--as-pid-1"]
    command += ["--dev", "/dev", "--chdir", "/tmp"]
    for folder in ("/tmp", "/dev/shm"):
        command += ["--size", str(limits.file_bytes), "--tmpfs", folder]
    python_folders = {sys.base_prefix, sys.base_exec_prefix, str(Path(PYTHON).resolve().parent)}
    folders = [path for path in BIND if not path.startswith("/dev/")]
    for path in dict.fromkeys([*folders, *sorted(python_folders), str(PROGRAM.parent)]):
        command += ["--ro-bind-try", path, path]
    return [*command, "--remount-ro", "/dev", "--remount-ro", "/"]
