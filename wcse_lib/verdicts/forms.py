"""The forms of tests that are known, and what is run of each: a script and what it defines, or inputs and outputs.

Whatever a script asserts is counted while it runs: a statement before and after each assertion calls COUNT. Tests that
can run no assertion, whoever wrote the code, raise UnusableTests.
"""

from __future__ import annotations

import ast
import json
from functools import lru_cache
from typing import Any, NamedTuple

from wcse_lib.verdicts.cases import Cases, cases_of, data_of, named
from wcse_lib.verdicts.counting import assertion_sites, counted
from wcse_lib.verdicts.names import (
    BUILTINS,
    UNREADABLE,
    imported_modules,
    is_standard,
    loaded,
    names_of,
    parse,
)
from wcse_lib.verdicts.reasons import ONLY_STANDARD, UnusableTests
from wcse_lib.verdicts.runner import SOLUTION_MODULES

CANDIDATES = {"candidate", "f", "fn", "func", "function", "solution"}
# what finds and runs tests by itself
RUNNERS = {"unittest.main", "pytest.main", "doctest.testmod"}
ENDS = {f"{name}({status})" for name in ("sys.exit", "exit", "quit") for status in ("", "0")}
# with these the tests may reach the code without its names
BY_TEXT = {"eval", "exec", "getattr", "globals", "locals", "vars", "__import__", "sys", "importlib"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


class Script(NamedTuple):
    """Tests in Python: statements as (shown, counted source), then functions and classes to be called by name.

    `needed` holds the names that the tests expect of the code.
    """

    parts: tuple[tuple[str, str], ...]
    collected: tuple[str, ...]
    needed: frozenset[str]


@lru_cache(maxsize=64)
def read_tests(tests: str, entry_point: str = "") -> Script | Cases:
    """What is run for a problem's tests; `entry_point` is the function that they are for, where they do not name it.

    Raises UnusableTests, with the reason, for tests that cannot run here or that assert nothing.
    """
    tests = tests.replace("\ufeff", "").strip()
    if not tests:
        raise UnusableTests("the problem has no tests")
    data = data_of(tests)
    if isinstance(data, str):
        return read_tests(data, entry_point)
    if _are_lines(data):
        return _script("\n".join(data), entry_point)
    return _script(tests, entry_point) if data is None else cases_of(data, entry_point)


def with_entry_point(tests: str, entry_point: str) -> str:
    """Tests that name the function that they are for: `check(name)` behind a script, `fn_name` in JSON."""
    data = data_of(tests)
    if _are_lines(data):
        tests = "\n".join(data)
    elif data is not None:
        return json.dumps(named(data, entry_point)) if entry_point else tests
    try:
        uncalled = _uncalled(parse(tests).body)
    except UNREADABLE:
        return tests
    takers = [function.name for function in uncalled if _takes_candidate(function)]
    if not takers or not entry_point:
        return tests
    return f"{tests}\n\n{takers[-1]}({entry_point})\n"


def _are_lines(data: Any) -> bool:
    """Whether data are the statements of a script, as MBPP's `test_list`."""
    return isinstance(data, list) and bool(data) and all(isinstance(item, str) for item in data)


def _script(source: str, entry_point: str) -> Script:
    try:
        tree = _without_package(parse(source))
        body = _without_runners(_with_guarded(tree.body))
        _refuse_missing(tree)
        uncalled = _uncalled(body)
        takers = [function.name for function in uncalled if _takes_candidate(function)]
        collected = _collected(body, uncalled)
        if takers:
            if not entry_point:
                raise UnusableTests(
                    f"the tests define {takers[-1]}(candidate) and do not name the function; "
                    "set dataset.columns.entry_point"
                )
            body += parse(f"{takers[-1]}({entry_point})").body
        shown = [ast.unparse(statement) for statement in body]
        names = names_of("\n".join(shown))
        needed = names.used - names.bound - BUILTINS | _imported_from_solution(tree)
        body = [counted(statement, needed) for statement in body]
        _refuse_idle(body, collected)
        future = "".join(f"{line}\n" for line in shown if line.startswith("from __future__ "))
        parts = []
        for text, statements in zip(shown, body):
            parts.append((text[:100], future + "\n".join(map(ast.unparse, statements))))
    except UNREADABLE as error:
        message, line = getattr(error, "msg", error), getattr(error, "lineno", None)
        place = f" (line {line})" if line else ""
        raise UnusableTests(f"the tests do not compile: {message}{place}") from error
    imports_code = bool(imported_modules(tree) & set(SOLUTION_MODULES))
    if not (needed or imports_code or names.used & BY_TEXT):
        raise UnusableTests("the tests use nothing of the code")
    return Script(tuple(parts), tuple(collected), frozenset(needed))


def _without_package(tree: ast.Module) -> ast.Module:
    """The tests, with `from .solution import f` as `from solution import f`: they run in no package."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in SOLUTION_MODULES:
            node.level = 0
    return tree


def _with_guarded(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements, with those under `if __name__ == "__main__":` in its place."""
    statements = []
    for statement in body:
        is_guard = isinstance(statement, ast.If) and "__name__" in loaded(statement.test)
        statements += statement.body if is_guard else [statement]
    return statements


def _without_runners(body: list[ast.stmt]) -> list[ast.stmt]:
    """The statements without `unittest.main()` and its like, whose tests are collected here, and `sys.exit(0)`."""
    origins: dict[str, str] = {}  # of imported names, which may be others in the tests
    for node in body:
        if isinstance(node, ast.Import):
            origins |= {alias.asname or alias.name: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                origins[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    kept = []
    for statement in body:
        is_definition = isinstance(statement, Function | ast.ClassDef)
        ends = ast.unparse(statement) in ENDS
        if is_definition or not (ends or _calls_runner(statement, origins)):
            kept.append(statement)
    return kept


def _calls_runner(statement: ast.stmt, origins: dict[str, str]) -> bool:
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            if origins.get(first, first) + dot + rest in RUNNERS:
                return True
    return False


def _refuse_missing(tree: ast.Module) -> None:
    modules = imported_modules(tree) - set(SOLUTION_MODULES) - {"pytest"}
    if missing := sorted(module for module in modules if not is_standard(module)):
        raise UnusableTests(f"the tests import {', '.join(missing)}; {ONLY_STANDARD}")


def _uncalled(body: list[ast.stmt]) -> list[Function]:
    """Functions that no other statement of the tests names."""
    uncalled = []
    for function in body:
        if isinstance(function, Function):
            others = [statement for statement in body if statement is not function]
            if not any(function.name in loaded(other) for other in others):
                uncalled.append(function)
    return uncalled


def _required(function: Function) -> list[str]:
    """The parameters that a caller must give."""
    arguments = function.args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    required = names[: len(names) - len(arguments.defaults)]
    for argument, default in zip(arguments.kwonlyargs, arguments.kw_defaults):
        if default is None:
            required.append(argument.arg)
    return required


def _takes_candidate(function: Function) -> bool:
    """Whether it is a `check(candidate)`, under whichever name."""
    required = _required(function)
    if len(required) != 1 or function.decorator_list:
        return False
    is_test = function.name.startswith(("check", "test"))
    return function.name == "check" or (is_test and required[0] in CANDIDATES)


def _collected(body: list[ast.stmt], uncalled: list[Function]) -> list[str]:
    """Names of what pytest or unittest would find and call. Raises UnusableTests where it needs a fixture."""
    collected = []
    test_cases = _test_cases(body)
    for statement in body:
        if isinstance(statement, ast.ClassDef):
            bases = [ast.unparse(base) for base in statement.bases]
            is_unittest = statement.name in test_cases
            if is_unittest or statement.name.startswith("Test"):
                collected.append(statement.name)
            if not is_unittest and statement.name.startswith("Test") and not bases:
                for method in statement.body:
                    if isinstance(method, Function) and method.name.startswith("test"):
                        _refuse_fixtures(method, skip=1)
        elif isinstance(statement, Function):
            _refuse_fixture(statement)
            is_test = statement.name.startswith("test") or statement.name == "check"
            if is_test and statement in uncalled and not _takes_candidate(statement):
                _refuse_fixtures(statement)
                collected.append(statement.name)
    return collected


def _test_cases(body: list[ast.stmt]) -> set[str]:
    """Names of the classes that derive from unittest's TestCase, directly or not, and of its aliases."""
    found: set[str] = set()
    for statement in body:
        if isinstance(statement, ast.ImportFrom):
            names = {alias.asname: [alias.name] for alias in statement.names if alias.asname}
        elif isinstance(statement, ast.ClassDef):
            names = {statement.name: [ast.unparse(base) for base in statement.bases]}
        elif isinstance(statement, ast.Assign):
            value = ast.unparse(statement.value)
            names = {ast.unparse(target): [value] for target in statement.targets}
        else:
            continue
        for name, origins in names.items():
            if any(origin.endswith("TestCase") or origin in found for origin in origins):
                found.add(name)
    return found


def _refuse_fixture(function: Function) -> None:
    for decorator in function.decorator_list:
        if "fixture" in ast.unparse(decorator):
            raise UnusableTests(f"the tests define the pytest fixture {function.name}: not run")


def _refuse_fixtures(function: Function, skip: int = 0) -> None:
    """Raises UnusableTests for parameters that neither `parametrize` nor `patch` gives."""
    given: set[str] = set()
    for decorator in function.decorator_list:
        text = ast.unparse(decorator)
        if "patch" in text:
            return
        if "parametrize" in text and isinstance(decorator, ast.Call) and decorator.args:
            given |= _parameter_names(decorator.args[0])
    wanting = [name for name in _required(function)[skip:] if name not in given]
    if wanting:
        raise UnusableTests(f"the tests need the pytest fixture {wanting[0]}: not run")


def _parameter_names(node: ast.expr) -> set[str]:
    names: Any = ast.literal_eval(node)
    if isinstance(names, str):
        names = names.split(",")
    return {name.strip() for name in names}


def _refuse_idle(body: list[list[ast.stmt]], collected: list[str]) -> None:
    """Raises UnusableTests where no assertion can run: none is there, or nothing calls the function that holds it."""
    definitions: dict[str, ast.stmt] = {}
    reached: list[ast.stmt] = []
    for statements in body:
        for statement in statements:
            if not isinstance(statement, Function | ast.ClassDef):
                reached.append(statement)
            else:
                definitions[statement.name] = statement
                if statement.name in collected:
                    reached.append(statement)
    seen: set[str] = set(collected)
    for statement in reached:  # grows: what is named by what is reached is reached too
        for name in loaded(statement) & set(definitions) - seen:
            seen.add(name)
            reached.append(definitions[name])
    if any(map(assertion_sites, reached)):
        return
    idle = [name for name, statement in definitions.items() if assertion_sites(statement)]
    if idle:
        raise UnusableTests(f"the tests define {idle[0]} and nothing calls it")
    raise UnusableTests("the tests assert nothing")


def _imported_from_solution(tree: ast.Module) -> set[str]:
    """What the tests import from the module that stands for the code: `from solution import f`."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in SOLUTION_MODULES:
            names.update(alias.name for alias in node.names)
    return names - {"*"}
