"""Stands in for pytest in the sandbox: what simple tests use of it, and no fixtures.

A parametrized test carries its arguments as `parameter_sets`, one dictionary a call.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any


class _Raises:
    """The context of `raises`, whose `value` is what was raised."""

    def __init__(self, expected: Any, match: str | None):
        self.expected, self.match = expected, match
        self.type = self.value = None

    def __enter__(self) -> _Raises:
        return self

    def __exit__(self, kind: type | None, value: BaseException | None, trace: Any) -> bool:
        if kind is None:
            raise AssertionError(f"{self.expected} was not raised")
        if not issubclass(kind, self.expected):
            return False
        if self.match is not None and not re.search(self.match, str(value)):
            raise AssertionError(f"{str(value)!r} does not match {self.match!r}")
        self.type, self.value = kind, value
        return True


def raises(expected: Any, *call: Any, match: str | None = None, **keywords: Any) -> _Raises:
    context = _Raises(expected, match)
    if call:
        with context:
            call[0](*call[1:], **keywords)
    return context


class approx:
    """A number, or a list, tuple or dictionary of them, that equals what lies near it."""

    def __init__(self, expected: Any, rel: float | None = None, abs: float | None = None, **_: Any):
        self.expected = expected
        self.rel = rel if rel is not None else 0.0 if abs is not None else 1e-6
        self.abs = abs if abs is not None else 1e-12

    def __eq__(self, actual: Any) -> bool:
        return self._near(actual, self.expected)

    def _near(self, actual: Any, expected: Any) -> bool:
        if isinstance(expected, dict):
            same_keys = isinstance(actual, dict) and set(actual) == set(expected)
            return same_keys and all(self._near(actual[key], expected[key]) for key in expected)
        if isinstance(expected, list | tuple):
            same_length = isinstance(actual, list | tuple) and len(actual) == len(expected)
            return same_length and all(map(self._near, actual, expected))
        if not isinstance(expected, int | float) or not isinstance(actual, int | float):
            return actual == expected
        return math.isclose(actual, expected, rel_tol=self.rel, abs_tol=self.abs)


class _Row(tuple):
    """The arguments of one call."""


def param(*values: Any, **_: Any) -> _Row:
    return _Row(values)


def skip(reason: str = "", **_: Any) -> None:
    from unittest import SkipTest

    raise SkipTest(reason)


def fail(reason: str = "", **_: Any) -> None:
    raise AssertionError(reason)


def _parametrize(names: Any, values: Any, **_: Any) -> Callable:
    """Give a test its arguments; decorators on top of each other give all combinations."""
    if isinstance(names, str):
        names = [name.strip() for name in names.split(",")]
    is_single = len(names) == 1
    rows = [(value,) if is_single and not isinstance(value, _Row) else value for value in values]

    def decorate(test: Callable) -> Callable:
        sets = getattr(test, "parameter_sets", [{}])
        test.parameter_sets = [given | dict(zip(names, row)) for row in rows for given in sets]
        return test

    return decorate


def _not_run(test: Callable) -> Callable:
    test.parameter_sets = []
    return test


class _Mark:
    """`mark.parametrize` gives arguments, `mark.skip` and `mark.xfail` leave a test out, and all others do nothing."""

    parametrize = staticmethod(_parametrize)

    def __getattr__(self, name: str) -> Callable:
        decorate = _not_run if name in ("skip", "xfail") else _same

        def mark(*arguments: Any, **_: Any) -> Any:
            is_decorator = len(arguments) == 1 and callable(arguments[0])
            return decorate(arguments[0]) if is_decorator else decorate

        return mark


def _same(test: Callable) -> Callable:
    return test


mark = _Mark()
