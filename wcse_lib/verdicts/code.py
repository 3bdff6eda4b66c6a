"""The code of a sample, and the program that its tests run."""

from __future__ import annotations

import re
from typing import NamedTuple


class Program(NamedTuple):
    """A sample's code, its problem's tests, and the function that the tests' `check` is to be called with, or ""."""

    code: str
    tests: str
    entry_point: str = ""


def program(text: str, question: str, tests: str) -> Program:
    """What is run for a sample.

    In tests like HumanEval's, which define `check(candidate)`, the entry point is what they call it with, else the
    question's last function; then the question's code stands before a text that goes on from it, its imports before one
    that writes the function anew.
    """
    code = extract_code(text)
    if not re.search(r"^def check\(", tests, re.M):
        return Program(code, tests)
    functions = re.findall(r"^def +(\w+)\(", question, re.M)
    called = re.search(r"^check\((\w+)\)", tests, re.M)
    if called:
        entry_point = called[1]
    else:
        entry_point = functions[-1] if functions else ""
    if code.strip() and entry_point in functions:
        before = [question.rstrip()]
        if re.search(rf"^(?:async )?def +{entry_point}\b", code, re.M):
            before = re.findall(r"^(?:import|from) .*", question, re.M)
        code = "\n".join([*before, code])
    return Program(code, tests, "" if called else entry_point)


def extract_code(text: str) -> str:
    """The code in a model's answer: its last fenced block (```python before others), or the whole text.

    >>> extract_code("So:\\n```python\\nx = 1\\n```\\nDone.")
    'x = 1\\n'
    """
    fence = r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)"
    blocks = re.findall(fence, text, re.DOTALL | re.MULTILINE)
    python = [body for name, body in blocks if name.lower() in ("python", "python3", "py")]
    bodies = python or [body for _, body in blocks] or [text]
    return bodies[-1]
