"""The program of the sandbox's process: gives up its rights, runs one job and sweeps up after it.

Started by sandbox.py with the job on the standard input; runs alone, without the kit, under Python's standard library.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import json
import os
import queue
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from functools import partial

# By processor: its number, calls that name a process first (kill, tkill, tgkill, prlimit64), and calls that a sample
# has no use for (ptrace, rt_sigqueueinfo, rt_tgsigqueueinfo, process_vm_writev, pidfd_send_signal).
SYSTEM_CALLS = {
    "x86_64": (0xC000003E, (62, 200, 234, 302), (101, 129, 297, 311, 424)),
    "aarch64": (0xC00000B7, (129, 130, 131, 261), (117, 138, 240, 271, 424)),
}
MOST_NAMED = 900  # processes in a filter, which holds 4,096 lines
X32 = 0x40000000  # from here on: the same calls by other numbers
BIND = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/nix/store", "/dev/null", "/dev/urandom")


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
    for folder in ("/tmp", "/dev/shm"):
        os.makedirs(root + folder, exist_ok=True)
    # MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, by mount_setattr (Linux 5.12)
    read_only = (ctypes.c_uint64 * 4)(3)
    _system("syscall", 442, -100, root, 0x8000, read_only, 32)
    options = f"size={file_bytes},nr_inodes=1k,mode=1777"
    for folder in ("/tmp", "/dev/shm"):  # the locks of multiprocessing are files of the second
        _system("mount", "tmpfs", root + folder, "tmpfs", 6, options)
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
    if job["containment"] != "limits only":
        _system("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        _system("capset", (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)())
    else:
        for name in ("connect", "connect_ex", "bind", "sendto"):
            setattr(socket.socket, name, None)
        _spare_older_processes()


def _spare_older_processes() -> None:
    """Let signals and limits of this process, and of all that it starts, reach none that is older: not the supervisor,
    who sweeps up, not the kit, and not "all" (kill(-1)). By a filter of system calls (seccomp); none elsewhere."""
    machine = os.uname().machine
    if sys.platform != "linux" or machine not in SYSTEM_CALLS:
        return
    architecture, guarded, denied = SYSTEM_CALLS[machine]
    own = os.getpid()
    refused, allowed = (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7FFF0000)  # EPERM; go on
    # (what to do, jump where it is so, jump where it is not, number); jumps are counted from the next line
    lines = [(0x20, 0, 0, 4), (0x15, 1, 0, architecture), refused, (0x20, 0, 0, 0)]
    lines += [(0x35, 0, 1, X32), refused]
    for call in denied:
        lines += [(0x15, 0, 1, call), refused]
    for place, call in enumerate(guarded):
        lines.append((0x15, len(guarded) - place, 0, call))
    lines.append(allowed)
    # the process that is meant: 0 is this one's group, a group is negative, and -1 is all
    lines.append((0x20, 0, 0, 16))
    for older in _older_with_larger_numbers()[:MOST_NAMED]:
        lines += [(0x15, 0, 1, older), refused, (0x15, 0, 1, 2**32 - older), refused]
    lines += [(0x15, 2, 0, 0), (0x35, 0, 2, own), (0x25, 1, 0, 2**32 - own)]
    lines += [allowed, refused]
    program = b"".join(struct.pack("HBBI", *line) for line in lines)
    memory = ctypes.create_string_buffer(program)
    header = struct.pack("HP", len(lines), ctypes.addressof(memory))
    _system("prctl", 38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
    with contextlib.suppress(OSError):  # a kernel without such filters
        _system("prctl", 22, 2, ctypes.create_string_buffer(header), 0, 0)  # PR_SET_SECCOMP


def _older_with_larger_numbers() -> list[int]:
    """This user's processes that are older than this one and have larger numbers: after the last number, these begin
    anew."""
    own = os.getpid()
    began = _began(own)
    found = []
    for name in os.listdir("/proc"):
        is_larger = name.isdigit() and int(name) > own
        if is_larger and _is_own(name) and _began(name) < began:
            found.append(int(name))
    return found


def _is_own(process: str) -> bool:
    try:
        return os.stat(f"/proc/{process}").st_uid == os.getuid()
    except OSError:  # it has ended
        return False


def _began(process: int | str) -> float:
    """When a process began, in ticks; of one that has ended by now, later than all."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[19])
    except (OSError, IndexError):
        return float("inf")


def _load(name: str) -> object:
    """A module of this file's folder, which the code can no longer read."""
    path = os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _report(outcome: queue.SimpleQueue, token: str, out: int) -> None:
    """Write what failed or the token, and end the process. In a thread, so that the token is in no caller's frame."""
    failure = outcome.get()
    os.write(out, (failure or token)[:1000].encode("utf-8", "replace"))
    os._exit(0)


def _run_candidate(run: Callable[[dict], str], job: dict, out: int) -> Callable[[], None]:
    """Give up rights; returns what runs the job, for the main thread, as only that can handle signals."""
    os.setpgid(0, 0)
    _give_up_rights(job)
    # Pool() and others start as many processes as there are processors
    os.cpu_count = lambda: 2
    sys.argv = ["candidate.py"]
    outcome = queue.SimpleQueue()
    reporter = threading.Thread(target=_report, args=(outcome, job["token"], out))
    reporter.start()
    os.write(out, b"ready\n")
    return partial(_work, run, job["work"], outcome.put, reporter.join)


def _work(run: Callable[[dict], str], work: dict, put: Callable, join: Callable) -> None:
    try:
        put(run(work))
    finally:
        join()  # at once in a process that the code forked: it has no reporter
        os._exit(0)


def _main() -> Callable[[], None]:
    """Supervise one job, which is read from the standard input: contain it, wait for it, sweep up after it.

    Returns in the process that is to run the code.
    """
    job = json.load(sys.stdin)
    job["uid"] = 20_000 + os.getpid() % 40_000
    out = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        run = _load(job["runner"]).run
        # where a program's verdicts are written, one by one
        job["work"]["out"] = out
        sys.modules["pytest"] = _load("pytest_standin")
        if job["containment"] == "namespaces":
            _enter_namespaces(job["limits"]["FSIZE"])
            first = os.fork()
            if first:
                os.waitpid(first, 0)
                os._exit(0)
        _system("prctl", 36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: orphans come to this process
        _system("prctl", 4, 0, 0, 0, 0)  # PR_SET_DUMPABLE: nobody reads this process's memory
        child = os.fork()
        if child == 0:
            return _run_candidate(run, job, out)
    except Exception as error:
        os.write(out, str(error).encode())
        os._exit(1)
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
    _main()()
