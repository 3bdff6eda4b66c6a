"""Samples that could have passed their tests by other means than being right: counted, and not judged by it."""

from __future__ import annotations

import re

# Names by which code decides what equals it, reaches the frames and objects of what runs it, or replaces its tools.
MEANS = re.compile(
    r"\b(__eq__|__ne__|_getframe|currentframe|f_back|f_globals|f_locals|get_objects|get_referrers|settrace|setprofile"
    r"|builtins|__builtins__|ctypes|sys\.modules)\b"
    r"|\b(exec|compile|AssertionError|isinstance|__import__)\s*=(?!=)"
    r"|\bdef\s+(exec|compile|isinstance|__import__)\b|\bclass\s+AssertionError\b"
)


def could_cheat(code: str) -> bool:
    """Whether code names a means by which it could pass tests that run in its own process; honest code may, too.

    >>> could_cheat("class Any:\\n    def __eq__(self, other): return True"), could_cheat("def f(x): return x == 1")
    (True, False)
    """
    return bool(MEANS.search(code))
