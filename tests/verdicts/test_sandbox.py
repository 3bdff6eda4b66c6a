"""The sandbox: honest code passes, dishonest or broken code does not, and nothing gets out."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from wcse_lib.verdicts import could_cheat, sandbox
from wcse_lib.verdicts.code import extract_code
from wcse_lib.verdicts.sandbox import Limits, run_tests

OK = "def f(x):\n    return x + 1\n"
TESTS = "assert f(1) == 2\nassert f(-1) == 0"
SHORT = Limits(wall_seconds=1.5, cpu_seconds=1)
CONTAINED = pytest.mark.skipif(
    sandbox.containment() != "namespaces", reason="needs namespaces: see containment()"
)
if run_tests(OK, TESTS)[0] == "unverifiable":
    pytestmark = pytest.mark.skip(
        reason="no sandbox: root without namespaces, and a Python that only root can read"
    )


def processes(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] if marker.encode() in path.read_bytes() else []
        except OSError:
            pass
    return found


def test_mbpp_style():
    assert run_tests(OK, TESTS) == ("correct", "the tests passed")
    verdict, reason = run_tests("def f(x):\n    return x", TESTS)
    assert verdict == "incorrect"
    assert reason == "AssertionError in the tests: assert f(1) == 2"
    verdict, reason = run_tests(OK, "assert f(1) == 2\nassert f(1) == 3, 'no'")
    assert (verdict, reason) == (
        "incorrect",
        "AssertionError in the tests: assert f(1) == 3, 'no' (no)",
    )


def test_human_eval_style():
    tests = "METADATA = {}\n\ndef check(candidate):\n    assert candidate([1, 2]) == 3\n    assert candidate([]) == 0\n"
    assert (
        run_tests("def total(xs):\n    return sum(xs)", tests, entry_point="total")[0] == "correct"
    )
    assert (
        run_tests("def total(xs):\n    return max(xs)", tests, entry_point="total")[0]
        == "incorrect"
    )
    assert run_tests("def other(xs):\n    return 0", tests, entry_point="total")[0] == "incorrect"


def test_data_faults_are_unverifiable():
    assert run_tests(OK, "") == ("unverifiable", "the problem has no tests")
    assert run_tests(OK, " \n")[0] == "unverifiable"
    assert run_tests(OK, "assert f(1 == 2")[0] == "unverifiable"


@pytest.mark.parametrize(
    "code,reason",
    {
        "def f(:": "SyntaxError in the code",
        "import nothing_like_this\n" + OK: "ModuleNotFoundError in the code",
        OK + "import sys; sys.exit(0)": "SystemExit in the code (0)",
        OK + "import os; os._exit(0)": "ended its process",
        "import os\ndef f(x): os._exit(0)": "ended its process",
        "def f(x): raise SystemExit": "SystemExit in the tests",
        "def f(x): return f(x)": "RecursionError in the tests",
        OK + "import ctypes; ctypes.string_at(0)": "killed by SIGSEGV",
        OK + "input()": "EOFError",
        OK + "\0": "null bytes",
        OK + "x = 'a' * 10**10": "MemoryError",
        OK + "open('a', 'w').write('x' * 10**8)": "File too large",
        OK + "files = [open(str(i), 'w') for i in range(100)]": "Too many open files",
        OK
        + "import threading as t\nfor _ in range(99): t.Thread(target=t.Event().wait).start()": "start new",
        OK
        + "import os\nfor i in range(3, 64):\n try: os.write(i, b'ready\\ncorrect')\n except OSError: pass": "ready",
    }.items(),
)
def test_code_cannot_pass_without_passing(code, reason):
    verdict, said = run_tests(code, TESTS, Limits(wall_seconds=20, cpu_seconds=10))
    assert verdict == "incorrect" and reason in said, said


@pytest.mark.parametrize(
    "code",
    [
        "while True: pass",
        "import time; time.sleep(60)",
        "while True: print('x' * 10**6)",
        "import os\nwhile True:\n try: os.fork()\n except OSError: pass",
        "class E(Exception):\n def __str__(self):\n  while True: pass\nraise E",
    ],
)
def test_what_does_not_end_is_ended(code):
    start = time.monotonic()
    verdict, reason = run_tests(OK + code, TESTS, SHORT)
    assert verdict == "incorrect" and ("time limit of 1.5 s" in reason or "SIGXCPU" in reason), (
        reason
    )
    assert time.monotonic() - start < 12


def test_nothing_stays_behind(tmp_path, monkeypatch):
    marker = f"wcse-stray-{os.getpid()}"
    code = "import os\nif os.fork() == 0:\n os.setsid()\n if os.fork() == 0:\n"
    code += f"  os.execv('/bin/sh', ['sh', '-c', 'sleep 60; : {marker}'])\n os._exit(0)\n" + OK
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    os.chmod(tmp_path, 0o777)
    assert run_tests(code, TESTS)[0] == "correct"
    assert not processes(marker)
    assert not list(tmp_path.iterdir())


def test_no_environment_and_a_folder_of_its_own(monkeypatch):
    monkeypatch.setenv("WCSE_SECRET", "xyzzy")
    code = (
        OK
        + "import os\nassert 'WCSE_SECRET' not in os.environ and os.listdir() == []\nopen('a', 'w').write('b')\n"
    )
    assert run_tests(code, TESTS) == ("correct", "the tests passed")
    assert run_tests(code, TESTS) == (
        "correct",
        "the tests passed",
    )  # the file of the first run is gone


def test_no_network():
    code = OK + "import socket\ns = socket.socket()\ns.settimeout(3)\ns.connect(('127.0.0.1', 1))\n"
    verdict, reason = run_tests(code, TESTS)
    assert verdict == "incorrect"
    assert "ConnectionRefusedError" not in reason


@CONTAINED
def test_the_rest_of_the_machine_is_out_of_reach(tmp_path):
    (tmp_path / "precious").write_text("x")
    os.chmod(tmp_path, 0o777)
    code = OK + (
        f"import os, shutil\nshutil.rmtree({str(tmp_path)!r}, ignore_errors=True)\n"
        f"assert not os.path.exists({str(tmp_path)!r}) and not os.path.exists({str(Path(__file__))!r})\n"
        "wrote = []\n"
        "for folder in ('/', '/usr', '/usr/lib', '/dev', os.path.dirname(os.__file__)):\n"
        " try: open(folder + '/wcse-probe', 'w'); wrote.append(folder)\n"
        " except OSError: pass\n"
        "assert not wrote, wrote\n"
        "assert not os.path.exists('/proc/self') and os.getuid() != 0\n"
        "for pid in (1, os.getppid()):\n"
        " try: os.kill(pid, 9)\n"
        " except OSError: pass\n"
        "import ctypes\n"
        "assert ctypes.CDLL(None).mount(b'tmpfs', b'/tmp', b'tmpfs', 0, None) == -1\n"
        "assert ctypes.CDLL(None).unshare(0x10000000) == -1\n"
    )
    assert run_tests(code, TESTS) == ("correct", "the tests passed")
    assert (tmp_path / "precious").read_text() == "x"


def test_ordinary_programs_run():
    code = (
        "from __future__ import annotations\nimport asyncio, bisect, collections, dataclasses, enum, functools\n"
        "import hashlib, heapq, itertools, math, random, re, ssl, statistics, subprocess, tempfile, typing, unittest\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\n"
        "P = collections.namedtuple('P', 'x')\nE = enum.Enum('E', 'a b')\n"
        "async def g(x): return x + 1\n"
        "def f(x):\n    with tempfile.TemporaryFile() as file: file.write(b'1')\n"
        "    return asyncio.run(g(P(Point(x).x).x))\n"
        "print('printing is fine')\nif __name__ == '__main__':\n    while True: pass\n"
    )
    assert run_tests(code, TESTS) == ("correct", "the tests passed")


def test_token_is_in_no_frame_below_the_code():
    code = OK + "import sys\nframe = sys._getframe()\nwhile frame:\n"
    code += " assert not {'token', 'job'} & set(frame.f_locals)\n frame = frame.f_back\n"
    assert run_tests(code, TESTS) == ("correct", "the tests passed")


def test_extract_code():
    text = (
        "First:\n```python\na = 1\n```\nThen\n```\nnot this\n```\nbetter:\n```py\nb = 2\n```\nDone."
    )
    assert extract_code(text) == "b = 2\n"
    assert extract_code("```\nc = 3\n```") == "c = 3\n"
    assert extract_code("d = 4") == "d = 4"
    assert (
        extract_code("cut off: ```python\nnot at a line's start")
        == "cut off: ```python\nnot at a line's start"
    )
    assert extract_code("```python\ne = 5\n") == "e = 5\n"
    start = time.process_time()
    extract_code("```python\n" * 50_000)
    assert time.process_time() - start < 5


def test_code_runs_as_a_module_in_the_main_thread():
    """Look-ups of the module, signals, processes, real annotations and a byte order mark."""
    code = (
        "\ufeffimport __main__, concurrent.futures, dataclasses, multiprocessing, pickle, signal, sys, typing\n"
        "@dataclasses.dataclass\nclass Point:\n    x: int\n    def to(self, other: 'Point') -> int: return 1\n"
        "def square(x): return x * x\n"
        "def by_processes(xs):\n    queue = multiprocessing.Queue()\n"
        "    one = multiprocessing.Process(target=queue.put, args=(xs[0],))\n    one.start()\n    one.join()\n"
        "    with multiprocessing.Pool() as pool: squares = pool.map(square, xs)\n"
        "    with concurrent.futures.ProcessPoolExecutor() as pool: again = list(pool.map(square, xs))\n"
        "    return queue.get(), squares, again\n"
        "def by_signal():\n    found = []\n    signal.signal(signal.SIGALRM, lambda *of: found.append(1))\n"
        "    signal.setitimer(signal.ITIMER_REAL, 0.01)\n    while not found: pass\n    return found\n"
    )
    tests = (
        "assert by_processes([2, 3]) == (2, [4, 9], [4, 9])\n"
        "assert by_signal() == [1]\n"
        "assert pickle.loads(pickle.dumps(Point(3))) == Point(3)\n"
        "assert dataclasses.fields(Point)[0].type is int\n"
        "assert typing.get_type_hints(Point.to)['other'] is Point\n"
        "assert __main__.square is sys.modules[__name__].square is square\n"
    )
    assert run_tests(code, tests) == ("correct", "the tests passed")


def test_a_forked_copy_of_the_code_cannot_pass_for_it():
    code = "import os\nif os.fork() == 0:\n    def f(x): return x + 1\nelse:\n    os.wait()\n    def f(x): return x\n"
    assert run_tests(code, TESTS)[0] == "incorrect"


AS_NOBODY = ["setpriv", "--reuid=64321", "--regid=64321", "--clear-groups"]


@pytest.fixture
def nobodys_program():
    """The sandbox's program in a folder that everybody may read."""
    if os.getuid() or not (shutil.which("setpriv") and Path("/usr/bin/python3").exists()):
        pytest.skip("needs root, setpriv and a Python that everybody may read")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        program = shutil.copytree(sandbox.PROGRAM.parent, f"{folder}/program")
        for path in [folder, program, *Path(program).iterdir()]:
            os.chmod(path, 0o755)
        yield Path(program, sandbox.PROGRAM.name)


def limits_only(
    program: Path, code: str, way: str = sandbox.LIMITS_ONLY, before: tuple = ()
) -> str:
    """What the sandbox's program replies, run with limits only by a user who is not root: its supervisor then is the
    code's own user. `before`: a command that runs it."""
    counts = {"CPU": 5, "AS": 1 << 30, "FSIZE": 1 << 20, "NPROC": 64, "NOFILE": 64, "CORE": 0}
    work = {"code": code, "parts": [["assert f(1) == 2", COUNTED]], "collected": []}
    job = {"runner": "runner", "work": work, "token": "passed", "containment": way}
    job |= {"wall": 5.0, "limits": counts}
    command = [*AS_NOBODY, *before, "/usr/bin/python3", "-I", "-S", str(program)]
    ended = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, cwd="/tmp", timeout=60
    )
    return ended.stdout


SPY = """
import os, socket
assert not any(map(os.path.exists, ["/proc/1", "/root", "/home", "/etc/passwd"]))
for folder in ("/", "/usr", "/dev", os.path.dirname(os.__file__), os.environ["PROGRAMS"]):
    try: open(folder + "/written", "w")
    except OSError: continue
    raise AssertionError(folder)
open("/tmp/written", "w").close()
try: socket.create_connection(("127.0.0.1", 9), 1)
except OSError: pass
assert {name for _, name in socket.if_nameindex()} <= {"lo"}
try: os.kill(-1, 9)
except (PermissionError, ProcessLookupError): pass
if os.fork() == 0:
    os.setsid()
    os.execv("/bin/sh", ["sh", "-c", "sleep 60; : MARKER"])
"""


@pytest.mark.skipif(not shutil.which("bwrap"), reason="bubblewrap (bwrap) is not installed")
def test_bubblewrap_hides_files_network_and_processes(nobodys_program, monkeypatch):
    monkeypatch.setattr(sandbox, "PROGRAM", nobodys_program)
    monkeypatch.setattr(sandbox, "PYTHON", "/usr/bin/python3")
    for prefix in ("base_prefix", "base_exec_prefix"):
        monkeypatch.setattr(sandbox.sys, prefix, "/usr")
    marker = f"wcse-stray-{os.getpid()}-bubblewrap"
    programs = f"import os\nos.environ['PROGRAMS'] = {str(nobodys_program.parent)!r}\n"
    command = tuple(sandbox._bubblewrap(Limits()))
    code = programs + SPY.replace("MARKER", marker) + OK
    bystander = subprocess.Popen([*AS_NOBODY, "sleep", "60"])
    try:
        reply = limits_only(nobodys_program, code, sandbox.BUBBLEWRAP, command)
        assert reply == "ready\npassed"
        assert bystander.poll() is None and not processes(marker)
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("way", [sandbox.NAMESPACES, sandbox.BUBBLEWRAP, sandbox.LIMITS_ONLY])
def test_the_first_way_that_works_is_taken(monkeypatch, way):
    def run(work, limits, tried):
        return ("correct" if tried == way else "unverifiable"), ""

    monkeypatch.setattr(sandbox, "_run", run)
    assert sandbox.containment.__wrapped__() == way


def test_without_bubblewrap_it_is_not_tried(monkeypatch):
    monkeypatch.setattr(sandbox.shutil, "which", lambda name: None)
    verdict, reason = sandbox._run({}, Limits(), sandbox.BUBBLEWRAP)
    assert verdict == "unverifiable" and "not installed" in reason


COUNTED = "__count_assertion__('tried')\nassert f(1) == 2\n__count_assertion__('passed')"


def test_limits_only_a_child_that_would_kill_its_supervisor_is_swept_up(nobodys_program):
    marker = f"wcse-stray-{os.getpid()}-limits"
    code = (
        "import os, signal\nsupervisor = os.getppid()\nrefused = []\n"
        "for call in (lambda: os.kill(supervisor, 9), lambda: os.kill(-1, 9),\n"
        "             lambda: os.killpg(os.getpgid(supervisor), 9)):\n"
        "    try: call()\n    except PermissionError: refused.append(1)\n"
        "assert len(refused) == 3, refused\n"
        "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n"
        f"        os.execv('/bin/sh', ['sh', '-c', 'sleep 60; : {marker}'])\n    os._exit(0)\n"
    )
    bystander = subprocess.Popen([*AS_NOBODY, "sleep", "60"])
    try:
        assert limits_only(nobodys_program, code + OK) == "ready\npassed"
        assert bystander.poll() is None, "kill(-1) has reached a process of the same user"
        assert not processes(marker)
    finally:
        bystander.kill()
        bystander.wait()


LAST_PROCESS = Path("/proc/sys/kernel/ns_last_pid")


@pytest.mark.skipif(
    not os.access(LAST_PROCESS, os.W_OK), reason="numbers of processes cannot be set"
)
def test_limits_only_holds_where_numbers_of_processes_begin_anew(nobodys_program):
    """The supervisor has one of the last numbers, and the code one of the first."""
    code = (
        "import os\nassert os.getppid() > os.getpid()\n"
        "try: os.kill(os.getppid(), 9)\nexcept PermissionError: pass\nos.kill(os.getpid(), 0)\n"
    )
    last = int(Path("/proc/sys/kernel/pid_max").read_text())
    replies = set()
    for _ in range(20):  # other processes take numbers, too
        LAST_PROCESS.write_text(str(last - 2))
        replies.add(limits_only(nobodys_program, code + OK))
        if "ready\npassed" in replies:
            break
    assert "ready\npassed" in replies and "ready\n" not in replies


def test_limits_only_code_may_still_end_what_it_started(nobodys_program):
    code = (
        "import multiprocessing, os, resource, subprocess, time\n"
        "child = multiprocessing.Process(target=time.sleep, args=(60,))\nchild.start()\n"
        "child.terminate()\nchild.join()\nassert child.exitcode == -15\n"
        "with subprocess.Popen(['/bin/sleep', '60']) as other:\n    other.kill()\n"
        "assert other.returncode == -9\nresource.setrlimit(resource.RLIMIT_NOFILE, (32, 32))\n"
    )
    assert limits_only(nobodys_program, code + OK) == "ready\npassed"


@pytest.mark.parametrize(
    "code",
    [
        "class Any:\n    def __eq__(self, other): return True\ndef f(x): return Any()",
        "import builtins\nbuiltins.exec = print\ndef f(x): return 0",
        "import sys\nframe = sys._getframe()\ndef f(x): return 0",
        "compile = None\ndef f(x): return 0",
        "class AssertionError(Exception): pass\ndef f(x): return 0",
    ],
)
def test_code_that_could_cheat_is_told_from_code_that_cannot(code):
    assert could_cheat(code)
    assert not could_cheat(OK)


# `wanted` is 171717, which must not stand in the text itself, as code finds its own text
HUNT = """
import sys, gc
def wanted(): return "".join(chr(sign + 1) for sign in b"060606")
def is_near():
    found, frame = [], sys._getframe()
    while frame:
        found += frame.f_locals.values()
        frame = frame.f_back
    kept = [one for one in gc.get_objects() if isinstance(one, (list, dict, tuple)) and len(one) < 50]
    return wanted() in repr(found) + repr(kept)
"""


@pytest.mark.parametrize(
    "code, entry",
    [
        ("def f(x): return int(wanted()) if is_near() else 0", "f"),
        ("input()\nprint(wanted() if is_near() else 0)", None),
    ],
)
def test_what_is_expected_of_cases_is_nowhere_in_the_codes_process(code, entry):
    arguments, expected = ([1], 171717) if entry else ("1\n", "171717\n")
    cases = {"inputs": [arguments, arguments], "outputs": [expected, expected]}
    tests = json.dumps(cases | ({"fn_name": entry} if entry else {}))
    verdict, reason = run_tests(HUNT + code, tests)
    assert verdict == "incorrect" and reason.startswith("wrong"), reason
    assert run_tests(HUNT + code.replace("if is_near()", "if True"), tests)[0] == "correct"
