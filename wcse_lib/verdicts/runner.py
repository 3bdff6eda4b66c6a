"""Runs a sample's code against its tests, inside the sandbox: a script, a program's cases or a function's.

Needs nothing but Python's standard library, and is read before the sandbox closes. Everything ends in a text: "" when
every assertion passed and at least one ran, else what failed.
"""

from __future__ import annotations

import atexit
import importlib
import json
import math
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable
from typing import Any, NoReturn

CANNOT_RUN = "the tests cannot run here"  # how what fails begins where no code could pass
COUNT, TRIED, PASSED = "__count_assertion__", "tried", "passed"
# modules that tests import the code from
SOLUTION_MODULES = (
    "solution",
    "candidate",
    "main",
    "submission",
    "your_module",
    "your_code",
    "my_module",
    "my_solution",
    "answer",
    "program",
    "task",
)
# what LeetCode has imported for its class Solution
OF_LEETCODE = """
import bisect, collections, functools, heapq, itertools, math, re, string
from collections import *
from functools import *
from itertools import *
from typing import *
"""
MOST_FILES = 1024
SHOWN = 60  # characters of a value in a reason


def run(work: dict) -> str:
    """What failed, or "".

    Args: `work`: `code`, and of a script `parts` and `collected`, of cases `function` and `pairs`.
    """
    if "parts" in work:
        return _run_script(work["code"], work["parts"], work["collected"])
    if work["function"]:
        return _run_function(work["code"], work["function"], work["pairs"])
    return _run_program(work["code"], work["pairs"])


def _new_module(name: str) -> dict[str, Any]:
    """The namespace of a new module, which is found under every name that code may look it up by."""
    module = type(sys)(name)
    for known in (name, "__main__", *SOLUTION_MODULES):
        sys.modules[known] = module
    return module.__dict__


def _execute(source: str, namespace: dict, name: str = "candidate") -> None:
    # this file's own `from __future__` must not reach the code
    exec(compile(source, name, "exec", dont_inherit=True), namespace)


def _described(error: BaseException, place: str = "") -> str:
    try:
        message = str(error)
    except Exception:  # its own __str__ fails
        message = ""
    details = f" ({message})" if message else ""
    return f"{type(error).__name__}{place}{details}"


# ---------------------------------------------------------------------- scripts


def _run_script(code: str, parts: list[list[str]], collected: list[str]) -> str:
    """Run the code, the statements of the tests, and what unittest or pytest would collect of them."""
    namespace = _new_module("candidate")
    counts = {TRIED: 0, PASSED: 0}

    def count(kind: str) -> None:
        counts[kind] += 1

    place = " in the code"
    try:
        _execute(code, namespace)
        namespace[COUNT] = count
        for shown, source in parts:
            place = f" in the tests: {shown}"
            _execute(source, namespace, "tests")
        for name in collected:
            place = f" in the tests: {name}"
            _run_collected(namespace[name])
    except BaseException as error:
        described = _described(error, place)
        return f"{CANNOT_RUN}: {described}" if _lacks_module(error, place) else described
    if counts[TRIED] > counts[PASSED]:
        return "AssertionError in the tests: it was caught"
    return "" if counts[PASSED] else "no assertion of the tests ran"


def _lacks_module(error: BaseException, place: str) -> bool:
    """Whether the tests themselves import what is not here: no call of the code, no name that it should have."""
    if not isinstance(error, ImportError) or "in the tests" not in place:
        return False
    frames = [error.__traceback__]
    while frames[-1].tb_next:
        frames.append(frames[-1].tb_next)
    files = {frame.tb_frame.f_code.co_filename for frame in frames}
    return "candidate" not in files and error.name not in ("candidate", *SOLUTION_MODULES)


def _run_collected(found: Any) -> None:
    """Run a TestCase, a class of tests or a test; raises what the first failure raised."""
    if not isinstance(found, type):
        _call_test(found)
        return
    if hasattr(found, "assertEqual"):
        _run_test_case(found)
        return
    for name in dir(found):
        if name.startswith("test"):
            instance = found()
            getattr(instance, "setup_method", bool)()
            _call_test(getattr(instance, name))
            getattr(instance, "teardown_method", bool)()


def _run_test_case(found: type) -> None:
    unittest = importlib.import_module("unittest")
    errors: list[BaseException] = []

    class Result(unittest.TestResult):
        def addError(self, test: Any, error: tuple) -> None:
            errors.append(error[1])

        addFailure = addError

        def addSubTest(self, test: Any, subtest: Any, error: tuple | None) -> None:
            if error:
                errors.append(error[1])

        def addUnexpectedSuccess(self, test: Any) -> None:
            errors.append(AssertionError("unexpected success"))

    unittest.defaultTestLoader.loadTestsFromTestCase(found).run(Result())
    if errors:
        raise errors[0]


def _call_test(test: Callable) -> None:
    """Call a test with each of its parameter sets."""
    for arguments in getattr(test, "parameter_sets", [{}]):
        try:
            result = test(**arguments)
            if hasattr(result, "__await__"):
                importlib.import_module("asyncio").run(result)
        except Exception as error:
            if type(error).__name__ != "SkipTest":
                raise


# ---------------------------------------------------------------------- programs and functions


def _run_program(code: str, pairs: list[list[str]]) -> str:
    """Run the code once a case, in a process that reads the input and prints the output."""
    for number in range(len(pairs)):
        case = f"case {number + 1} of {len(pairs)}"
        # what is expected is in no name of this function while the code runs
        printed, error = _in_child(lambda: _be_program(code, pairs), pairs[number][0])
        if error:
            return f"{error} in the code: {case}"
        if not same_output(printed, pairs[number][1]):
            shown = f"{_short(printed)} for {_short(pairs[number][1])}"
            return f"wrong output in the tests: {case}, {shown}"
    return ""


def _be_program(code: str, pairs: list[list[str]]) -> None:
    _forget_expected(pairs)
    _execute(code, _new_module("__main__"))


def _forget_expected(pairs: list[list[Any]]) -> None:
    """Take what is expected out of this process, a child's: its code finds it in no frame and no object."""
    for pair in pairs:
        del pair[1:]


def _run_function(code: str, name: str, pairs: list[list[Any]]) -> str:
    """Call the function once a case, in one process that hands back its results as JSON."""
    printed, error = _in_child(lambda: _be_function(code, name, pairs), "")
    if error:
        return f"{error} in the code"
    expected = [value for _, value in pairs]
    results = [json.loads(line) for line in printed.split("\n") if line]
    if len(results) != len(expected):
        return "the code ended its process before the tests had passed"
    # some sets put every expected value into a list of its own
    if all(isinstance(value, list) and len(value) == 1 for value in expected):
        inner = [value[0] for value in expected]
        if all(map(same_value, results, inner)):
            return ""
    for number, (result, value) in enumerate(zip(results, expected), 1):
        if not same_value(result, value):
            case = f"case {number} of {len(pairs)}"
            return f"wrong result in the tests: {case}, {_short(result)} for {_short(value)}"
    return ""


def _be_function(code: str, name: str, pairs: list[list[Any]]) -> None:
    _forget_expected(pairs)
    results = os.fdopen(os.dup(1), "w")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what the code prints is no result
    namespace = _new_module("candidate")
    if "class Solution" in code:
        _execute(OF_LEETCODE, namespace)
    _execute(code, namespace)
    for (given,) in pairs:
        function = namespace.get(name)
        if function is None:
            function = getattr(namespace["Solution"](), name)
        results.write(json.dumps(_call(function, given)) + "\n")
    results.flush()


def _call(function: Callable, given: dict) -> Any:
    """Call it with the arguments, or, where it takes one that is a list, with the list."""
    if "kwargs" in given:
        return function(**given["kwargs"])
    arguments = given["args"]
    signature = importlib.import_module("inspect").signature(function)
    try:
        signature.bind(*arguments)
    except TypeError:
        return function(arguments)
    return function(*arguments)


def _in_child(work: Callable[[], None], given: str) -> tuple[str, str]:
    """What a child process that does the work prints, and what went wrong, or ""."""
    with (
        tempfile.TemporaryFile(dir=".") as read,
        tempfile.TemporaryFile(dir=".") as printed,
        tempfile.TemporaryFile(dir=".") as complaints,
    ):
        read.write(given.encode("utf-8", "replace"))
        read.seek(0)
        child = os.fork()
        if child == 0:
            for place, file in enumerate((read, printed, complaints)):
                os.dup2(file.fileno(), place)
            os.closerange(3, MOST_FILES)
            _end_with(work)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        printed.seek(0)
        complaints.seek(0)
        output = printed.read().decode("utf-8", "replace")
        said = complaints.read().decode("utf-8", "replace").strip().splitlines()
    if status < 0:
        return output, f"killed by {signal.Signals(-status).name}"
    if status:
        return output, said[-1] if said else f"exit status {status}"
    return output, ""


def _end_with(work: Callable[[], None]) -> NoReturn:
    """Do the work as an interpreter does a script, and end this process."""
    status = 1
    try:
        sys.stdin, sys.stdout, sys.stderr = (open(place, mode) for place, mode in enumerate("rww"))
        status = _exit_status(work)
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
    except BaseException as error:
        status = 1
        os.write(2, _described(error).encode("utf-8", "replace"))
    finally:
        os._exit(status & 0xFF)


def _exit_status(work: Callable[[], None]) -> int:
    try:
        work()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return int(end.code or 0)
        return 1
    return 0


def same_output(printed: str, expected: str) -> bool:
    """Whether two outputs are the same line by line, but for white space at their ends and digits beyond the sixth.

    White space within lines counts where an expected line is indented, as in drawings.
    """
    ours, theirs = printed.rstrip().split("\n"), expected.rstrip().split("\n")
    if len(ours) != len(theirs):
        return False
    if any(line[:1].isspace() for line in theirs):
        return [line.rstrip() for line in ours] == [line.rstrip() for line in theirs]
    return all(map(_same_words, ours, theirs))


def _same_words(ours: str, theirs: str) -> bool:
    words, expected = ours.split(), theirs.split()
    return len(words) == len(expected) and all(map(_same_word, words, expected))


def _same_word(ours: str, theirs: str) -> bool:
    if ours == theirs:
        return True
    try:
        # whole numbers are compared as text
        return "." in theirs and _near(float(ours), float(theirs))
    except ValueError:
        return False


def same_value(ours: Any, theirs: Any) -> bool:
    """Whether two values of JSON are the same, but for digits beyond the sixth of decimals."""
    if isinstance(theirs, list) and isinstance(ours, list):
        return len(ours) == len(theirs) and all(map(same_value, ours, theirs))
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return set(ours) == set(theirs) and all(same_value(ours[key], theirs[key]) for key in ours)
    if isinstance(theirs, float) and isinstance(ours, float):
        return ours == theirs or _near(ours, theirs)
    return ours == theirs


def _near(ours: float, theirs: float) -> bool:
    return math.isclose(ours, theirs, rel_tol=1e-6, abs_tol=1e-9)


def _short(value: Any) -> str:
    return repr(value)[:SHOWN]
