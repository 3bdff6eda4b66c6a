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
from dataclasses import dataclass
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
        # statement by statement, to name the one that fails
        parts = [ast.unparse(statement) for statement in ast.parse(tests).body]
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        return "unverifiable", f"the tests do not compile: {error}"
    if entry_point:
        parts.append(f"check({entry_point})")
    return _run(code, parts, limits, containment() == "namespaces")


@cache
def containment() -> str:
    """How code is contained on this machine, tried out once: "namespaces" or "limits only" (see the module's text)."""
    verdict, _ = _run("", ["pass"], Limits(), namespaces=True)
    return "namespaces" if verdict == "correct" else "limits only"


def _run(code: str, tests: list[str], limits: Limits, namespaces: bool) -> tuple[str, str]:
    """Run code and tests in a new process, which answers the job's token when all have passed."""
    token = os.urandom(16).hex()
    job = {
        "code": code,
        "tests": tests,
        "token": token,
        "namespaces": namespaces,
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
    python = getattr(sys, "_base_executable", sys.executable)
    command = [python, "-I", "-S", "-X", "utf8", os.path.abspath(__file__)]
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
        before, ready, reply = out.read(4_000).decode("utf-8", "replace").partition("ready\n")
    if before or not ready:
        return "unverifiable", f"the sandbox did not start: {before[:300] or 'no reply'}"
    if reply == token:
        return "correct", "the tests passed"
    return "incorrect", reply[:300] or "the code ended its process before the tests had passed"


# ---------------------------------------------------------------------- in the new process, which runs this file alone


def _system(name: str, *arguments: object) -> None:
    """A C library call that raises OSError when it fails (prctl, which only Linux has, does nothing elsewhere)."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is None and name == "prctl":
        return
    encoded = [part.encode() if isinstance(part, str) else part for part in arguments]
    if function is None or function(*encoded) == -1:
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")


def _enter_namespaces(file_bytes: int) -> None:
    """New mounts, processes, network and (unless root) users, and a root folder that holds the system read-only."""
    user, root = os.getuid(), os.getcwd()
    namespaces = 0x6C020000  # NEWNS NEWUTS NEWIPC NEWPID NEWNET
    if user:
        namespaces |= 0x10000000  # NEWUSER
    group = os.getgid()
    _system("unshare", namespaces)
    if user:
        maps = {"setgroups": "deny", "uid_map": f"{user} {user} 1", "gid_map": f"{group} {group} 1"}
        for name, text in maps.items():
            with open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    _system("mount", None, "/", None, 0x44000, None)  # MS_REC | MS_PRIVATE
    _system("mount", "tmpfs", root, "tmpfs", 6, "size=1m,mode=755")  # MS_NOSUID | MS_NODEV
    prefixes = {sys.base_prefix, sys.base_exec_prefix}
    for path in [*BIND, *(prefix for prefix in prefixes if not prefix.startswith("/usr"))]:
        _bind(path, root + path)
    os.makedirs(root + "/tmp", exist_ok=True)
    # MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, by mount_setattr (Linux 5.12)
    read_only = (ctypes.c_uint64 * 4)(3)
    _system("syscall", 442, -100, root, 0x8000, read_only, 32)
    options = f"size={file_bytes},nr_inodes=1k,mode=1777"
    _system("mount", "tmpfs", root + "/tmp", "tmpfs", 6, options)
    os.chroot(root)
    os.chdir("/tmp")


def _bind(path: str, target: str) -> None:
    """Show a file or folder of the system at another place."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if os.path.islink(path):
        os.symlink(os.readlink(path), target)
    elif os.path.exists(path):
        if os.path.isdir(path):
            os.mkdir(target)
        else:
            open(target, "w").close()
        _system("mount", path, target, None, 0x5000, None)  # MS_BIND | MS_REC


def _give_up_rights(job: dict) -> None:
    """Limits, a user of this run's own (so that the process limit binds and no file is shared), and no way back."""
    for name, soft in job["limits"].items():
        hard = soft + 1 if name == "CPU" else soft
        resource.setrlimit(getattr(resource, "RLIMIT_" + name), (soft, hard))
    if os.getuid() == 0:
        user = job["uid"]
        os.chown(".", user, user)
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        # fails where only root can read this Python's library; then nothing is run
        os.stat(os.__file__)
    _system("prctl", 1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG: end with the supervisor
    if job["namespaces"]:
        _system("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        _system("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    else:
        for name in ("connect", "connect_ex", "bind", "sendto"):
            setattr(socket.socket, name, None)


def _candidate(code: str, tests: list[str], out: int, failure: list[str]) -> None:
    """Run code and tests; leaves in `failure` what failed, or "". In a thread, so that no caller's frame lies below."""
    os.write(out, b"ready\n")
    module = sys.modules["candidate"] = type(sys)("candidate")
    places = ["the code", *(f"the tests: {test[:100]}" for test in tests)]
    for place, source in zip(places, [code, *tests]):
        try:
            exec(compile(source, "candidate", "exec"), module.__dict__)
        except BaseException as error:
            details = f" ({error})" if str(error) else ""
            failure[0] = f"{type(error).__name__} in {place}{details}"
            return
    failure[0] = ""


def _run_candidate(job: dict, out: int) -> None:
    """Run the job without rights, and write what failed or the token; ends this process."""
    os.setpgid(0, 0)
    _give_up_rights(job)
    failure = ["no end"]
    thread = threading.Thread(target=_candidate, args=(job["code"], job["tests"], out, failure))
    thread.start()
    thread.join()
    os.write(out, (failure[0] or job["token"])[:1000].encode("utf-8", "replace"))
    os._exit(0)


def _main() -> None:
    """Supervise one job, which is read from the standard input: contain it, wait for it, sweep up after it."""
    job = json.load(sys.stdin)
    job["uid"] = 20_000 + os.getpid() % 40_000
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        if job["namespaces"]:
            _enter_namespaces(job["limits"]["FSIZE"])
            first = os.fork()
            if first:
                os.waitpid(first, 0)
                return
        _system("prctl", 36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to this process
        _system("prctl", 4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody reads this process's memory
        child = os.fork()
        if child == 0:
            _run_candidate(job, out)
    except Exception as error:
        os.write(out, str(error).encode())
        return
    _await(child, job["wall"], out)
    _sweep(child)
    os._exit(0)  # as process 1 of a namespace this ends everything in it


def _await(child: int, wall_seconds: float, out: int) -> None:
    """Wait for the end of the job or of its time, and write which signal or limit ended it."""
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, wall_seconds)
    try:
        end = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        if end.si_code != os.CLD_EXITED:
            os.write(out, f"killed by {signal.Signals(end.si_status).name}".encode())
    except KeyboardInterrupt:
        os.write(out, f"time limit of {wall_seconds:g} s".encode())


def _sweep(child: int) -> None:
    """Kill the job's process group, then what left it: orphans, until none is left."""
    with contextlib.suppress(OSError):
        os.killpg(child, signal.SIGKILL)
        while True:
            with open(f"/proc/self/task/{os.getpid()}/children") as file:
                children = file.read().split()
            if not children:
                return
            os.kill(int(children[0]), signal.SIGKILL)
            os.waitpid(int(children[0]), 0)


if __name__ == "__main__":
    _main()
