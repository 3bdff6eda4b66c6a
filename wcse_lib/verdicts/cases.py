"""Tests that are inputs and outputs in JSON: of a program that reads and prints, or of a function.

Read are APPS's and TACO's (`inputs`, `outputs`, `fn_name`), CodeContests' (`input`, `output`), and lists of cases as in
LiveCodeBench; Python's own spelling of the same data too.
"""

from __future__ import annotations

import ast
import json
from typing import Any, NamedTuple

from wcse_lib.verdicts.names import UNREADABLE
from wcse_lib.verdicts.reasons import UnusableTests

INPUTS = ("inputs", "input", "stdin", "args", "arguments")
OUTPUTS = ("outputs", "output", "expected_output", "expected_outputs", "expected", "stdout")
FUNCTION = ("fn_name", "func_name", "function_name", "entry_point", "function")
INSIDE = ("test_cases", "tests", "cases", "public_test_cases", "input_output", "metadata")
KIND = ("testtype", "type")


class Cases(NamedTuple):
    """Pairs of what is given and what is expected.

    For a program (`function` is "") both are texts. For a function what is given is {"args": […]} or {"kwargs": {…}}.
    """

    function: str
    pairs: tuple[tuple[Any, Any], ...]

    @property
    def needed(self) -> frozenset[str]:
        return frozenset({self.function, "Solution"} if self.function else ())


def data_of(tests: str) -> Any:
    """The data that tests spell, as JSON, as Python or as one value a line; None where they are a script."""
    if tests.strip()[:1] not in tuple("[{\"'"):
        return None
    try:
        return _value(tests.strip())
    except UNREADABLE:
        pass
    try:
        values = [_value(line.strip()) for line in tests.splitlines() if line.strip()]
    except UNREADABLE:
        return None
    return values if all(isinstance(value, dict) for value in values) else None


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)


def named(data: Any, function: str) -> Any:
    """The data with the function that it is for, where it names none and is not for programs."""
    items = data if isinstance(data, list) else [data]
    if any(_kind(item) == "stdin" or _first(item, FUNCTION) for item in items):
        return data
    return {FUNCTION[0]: function, "cases": data}


def cases_of(data: Any, entry_point: str) -> Cases:
    """The cases of such data; `entry_point` is the function of the question. Raises UnusableTests."""
    items = _items(data)
    pairs = []
    for item in items:
        pairs += _pairs(item)
    if not pairs:
        raise UnusableTests("the tests are JSON and hold no case with inputs and outputs")
    names = [_first(item, FUNCTION) for item in items]
    function = next((name for name in names if name), "")
    is_program = all(_is_text(given) and _is_text(expected) for given, expected in pairs)
    kinds = {_kind(item) for item in items}
    if not function and (kinds & {"functional", "call"} or not is_program):
        function = entry_point
        if not function:
            raise UnusableTests(
                "the tests call a function and do not name it; set dataset.columns.entry_point"
            )
    if not function:
        texts = tuple((_as_text(given), _as_text(expected)) for given, expected in pairs)
        if not any(expected.strip() for _, expected in texts):
            raise UnusableTests("the tests expect no output")
        return Cases("", texts)
    name = str(function).rpartition(".")[2]
    return Cases(name, tuple(_call(given, expected) for given, expected in pairs))


def _items(data: Any) -> list[dict]:
    """All objects in the data, with those that they hold under the names INSIDE."""
    items: list[dict] = []
    waiting = [data]
    for value in waiting:  # grows
        if isinstance(value, str) and value[:1] in ("{", "["):
            value = data_of(value)
        if isinstance(value, list):
            waiting += value
        elif isinstance(value, dict):
            items.append(value)
            waiting += [value[name] for name in INSIDE if name in value]
    return items


def _first(item: Any, names: tuple[str, ...]) -> Any:
    """The value under the first of these names that an object has."""
    if not isinstance(item, dict):
        return None
    return next((item[name] for name in names if item.get(name) is not None), None)


def _kind(item: Any) -> str:
    """ "stdin", "functional", "call" or ""."""
    kind = str(_first(item, KIND) or "").lower()
    return next((word for word in ("stdin", "functional", "call") if word in kind), "")


def _pairs(item: dict) -> list[tuple[Any, Any]]:
    """The (given, expected) of an object: one for each where both are lists of one length."""
    given, expected = _first(item, INPUTS), _first(item, OUTPUTS)
    if given is None and expected is None:
        return []
    if given is None or expected is None:
        raise UnusableTests("the tests are JSON with inputs or outputs, and not both")
    is_plural = "inputs" in item or "outputs" in item
    if is_plural or (isinstance(given, list) and isinstance(expected, list)):
        is_matched = isinstance(given, list) and isinstance(expected, list)
        if is_matched and len(given) == len(expected):
            return list(zip(given, expected))
        if is_plural and is_matched:
            raise UnusableTests(
                f"the tests are JSON with {len(given)} inputs and {len(expected)} outputs"
            )
    return [(given, expected)]


def _is_text(value: Any) -> bool:
    """Whether it can be what a program reads or prints: a text or lines."""
    if isinstance(value, list):
        return all(isinstance(line, str) for line in value)
    return isinstance(value, str)


def _as_text(value: Any) -> str:
    return "\n".join(value) if isinstance(value, list) else value


def _call(given: Any, expected: Any) -> tuple[Any, Any]:
    """A case of a function. A text holds one JSON value a line, as in LiveCodeBench."""
    if isinstance(given, dict):
        return {"kwargs": given}, expected
    if isinstance(given, list | tuple):
        return {"args": list(given)}, expected
    if isinstance(given, str):
        return {"args": [_loose(line) for line in given.splitlines()]}, _loose(expected)
    return {"args": [given]}, expected


def _loose(text: Any) -> Any:
    """A text as the value that it spells, or as it stands."""
    try:
        return _value(text) if isinstance(text, str) else text
    except UNREADABLE:
        return text
