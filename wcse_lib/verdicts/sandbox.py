"""Sandbox: runs a model's code against a problem's tests in a process of its own, and says whether all of them passed.

With `namespaces` (Linux, as root or where users may make their own) the code sees a read-only system, an empty folder
in memory, no network, no other process and none of your files, and whatever it starts ends with it. With `limits only`
(many containers, macOS) it has resource limits, an empty environment, a temporary folder, a socket module that refuses,
and its descendants are swept up; code that means harm can still read and write what the user can and reach the network.
`containment()` says which holds. Root's code runs as a nameless user or not at all. Not protected against, either way:
faults of the kernel; use of CPU and memory within the limits; code that cheats its own tests: it may patch what they
call, return objects that equal everything, or search the interpreter for the pass token (random, never on disk, in no
frame below the code, but in its process). For hostile code use a virtual machine.
"""

from __future__ import annotations

import ast
import contextlib
import ctypes
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import astuple, dataclass
from functools import cache

BIND = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/nix/store", "/dev/null", "/dev/urandom")


@dataclass(frozen=True)
class Limits:
    """What one run may use: seconds by the clock and of CPU, bytes of memory per process and of files, and counts."""

    wall_seconds: float = 10.0
    cpu_seconds: int = 5
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    n_processes: int = 16  # threads count too, and up to four are the sandbox's own
    n_files: int = 64


def run_tests(
    code: str, tests: str, limits: Limits = Limits(), entry_point: str = ""
) -> tuple[str, str]:
    """Run code, then its tests; returns (verdict, reason) as on verdict rows.

    Args: `tests`: source text, such as MBPP's assert statements; with `entry_point` it is HumanEval's, and its
    `check(candidate)` is called with that function. "correct": every test ran and passed. "incorrect": anything
    else, be it a failed test, `sys.exit(0)`, a crash or a limit. "unverifiable": there are no tests, they do not
    compile or the sandbox did not start. Only the standard library can be imported.
    """
    if not tests.strip():
        return "unverifiable", "the problem has no tests"
    try:
        parts = [
            ast.unparse(statement) for statement in ast.parse(tests).body
        ]  # one by one, to name the one that fails
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "unverifiable", f"the tests do not compile: {error}"
    return _run(
        code,
        parts + [f"check({entry_point})"] * bool(entry_point),
        limits,
        containment() == "namespaces",
    )


@cache
def containment() -> str:
    """How code is contained on this machine, tried out once: "namespaces" or "limits only" (see the module's text)."""
    return (
        "namespaces"
        if _run("", ["pass"], Limits(), namespaces=True)[0] == "correct"
        else "limits only"
    )


def _run(code: str, tests: list[str], limits: Limits, namespaces: bool) -> tuple[str, str]:
    wall, *rest = astuple(limits)
    job = {
        "code": code,
        "tests": tests,
        "token": os.urandom(16).hex(),
        "namespaces": namespaces,
        "wall": wall,
    }
    job["limits"] = dict(zip(("CPU", "AS", "FSIZE", "NPROC", "NOFILE"), rest), CORE=0)
    python = [
        getattr(sys, "_base_executable", sys.executable),
        "-I",
        "-S",
        "-X",
        "utf8",
        os.path.abspath(__file__),
    ]
    own = {
        "env": {"PATH": "/usr/bin:/bin"},
        "start_new_session": True,
        "stderr": subprocess.DEVNULL,
    }
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder,
    ):
        with subprocess.Popen(
            python, stdin=subprocess.PIPE, stdout=out, cwd=folder, **own
        ) as process:
            try:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.communicate(json.dumps(job).encode(), timeout=wall + 10)
            finally:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)
        out.seek(0)
        before, ready, said = out.read(4_000).decode("utf-8", "replace").partition("ready\n")
    if before or not ready:
        return "unverifiable", f"the sandbox did not start: {before[:300] or 'no reply'}"
    if said == job["token"]:
        return "correct", "the tests passed"
    return "incorrect", said[:300] or "the code ended its process before the tests had passed"


def _system(
    name: str, *args
) -> None:  # from here on inside the sandbox's own process, which runs this file alone
    """A C library call that raises OSError when it fails (prctl, which only Linux has, does nothing elsewhere)."""
    function = getattr(
        ctypes.CDLL(None, use_errno=True), name, lambda *_: 0 if name == "prctl" else -1
    )
    if function(*[a.encode() if isinstance(a, str) else a for a in args]) == -1:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _enter_namespaces(file_bytes: int) -> None:
    """New mounts, processes, network and (unless root) users, and a root folder that holds the system read-only."""
    uid, gid, root = os.getuid(), os.getgid(), os.getcwd()
    _system(
        "unshare", 0x6C020000 | (0x10000000 if uid else 0)
    )  # NEWNS NEWUTS NEWIPC NEWPID NEWNET, NEWUSER
    for name, text in {
        "setgroups": "deny",
        "uid_map": f"{uid} {uid} 1",
        "gid_map": f"{gid} {gid} 1",
    }.items():
        if uid:
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _system("mount", None, "/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
    _system("mount", "tmpfs", root, "tmpfs", 6, "size=1m,mode=755")  # MS_NOSUID | MS_NODEV
    for path in (
        *BIND,
        *(p for p in {sys.base_prefix, sys.base_exec_prefix} if not p.startswith("/usr")),
    ):
        os.makedirs(os.path.dirname(root + path), exist_ok=True)
        if os.path.islink(path):
            os.symlink(os.readlink(path), root + path)
        elif os.path.exists(path):
            os.mkdir(root + path) if os.path.isdir(path) else open(root + path, "w").close()
            _system("mount", path, root + path, None, 0x5000, None)  # MS_BIND | MS_REC
    os.makedirs(root + "/tmp", exist_ok=True)
    read_only = (ctypes.c_uint64 * 4)(
        3
    )  # MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, by mount_setattr (Linux 5.12)
    _system("syscall", 442, -100, root, 0x8000, read_only, 32)
    _system(
        "mount", "tmpfs", root + "/tmp", "tmpfs", 6, f"size={file_bytes},nr_inodes=1k,mode=1777"
    )
    os.chroot(root)
    os.chdir("/tmp")


def _give_up_rights(job: dict) -> None:
    """Limits, a user of this run's own (so that the process limit binds and no file is shared), and no way back."""
    for name, value in job["limits"].items():
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (value, value + (name == "CPU")))
    if os.getuid() == 0:
        os.chown(".", uid := job["uid"], uid)
        for give_up, rights in ((os.setgroups, []), (os.setgid, uid), (os.setuid, uid)):
            give_up(rights)
        os.stat(
            os.__file__
        )  # fails where only root can read this Python's library; then nothing is run
    _system("prctl", 1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: end with the supervisor
    if job["namespaces"]:
        _system("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        _system("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    else:
        socket.socket.connect = socket.socket.connect_ex = socket.socket.bind = (
            socket.socket.sendto
        ) = None


def _candidate(code: str, tests: list[str], out: int, said: list[str]) -> None:
    """Run code and tests; leaves in `said` what failed, or "". In a thread, so that no caller's frame lies below."""
    os.write(out, b"ready\n")
    module = sys.modules["candidate"] = type(sys)("candidate")
    for i, source in enumerate([code, *tests]):
        where = f"the tests: {source[:100]}" if i else "the code"
        try:
            exec(compile(source, "candidate", "exec"), module.__dict__)
        except BaseException as error:
            said[0] = f"{type(error).__name__} in {where}"
            said[0] += f" ({error})" * bool(str(error))
            return
    said[0] = ""


def _main() -> object:
    job, out = {**json.load(sys.stdin), "uid": 20_000 + os.getpid() % 40_000}, os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        if job["namespaces"]:
            _enter_namespaces(job["limits"]["FSIZE"])
            if init := os.fork():
                return os.waitpid(init, 0)
        _system("prctl", 36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to this process
        _system("prctl", 4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody reads this process's memory
        if not (child := os.fork()):
            os.setpgid(0, 0)
            _give_up_rights(job)
            thread = threading.Thread(
                target=_candidate, args=(job["code"], job["tests"], out, said := ["no end"])
            )
            thread.start()
            thread.join()
            os.write(out, (said[0] or job["token"])[:1000].encode("utf-8", "replace"))
            os._exit(0)
    except Exception as error:
        return os.write(out, str(error).encode())
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, job["wall"])
    try:
        end = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        if end.si_code != os.CLD_EXITED:
            os.write(out, f"killed by {signal.Signals(end.si_status).name}".encode())
    except KeyboardInterrupt:
        os.write(out, f"time limit of {job['wall']:g} s".encode())
    with contextlib.suppress(
        OSError
    ):  # its process group, then what left it: orphans, until none is left
        os.killpg(child, signal.SIGKILL)
        while children := open(f"/proc/self/task/{os.getpid()}/children").read().split():
            os.kill(int(children[0]), signal.SIGKILL)
            os.waitpid(int(children[0]), 0)
    os._exit(0)  # as process 1 of a namespace this ends everything in it


if __name__ == "__main__":
    _main()
