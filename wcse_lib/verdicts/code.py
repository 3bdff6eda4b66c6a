"""The code of a sample, and the program that its tests run."""

from __future__ import annotations

import re


def program(text: str, question: str, tests: str) -> tuple[str, str, str]:
    """(code, tests, entry point to check) of a sample. In tests like HumanEval's, which define `check(candidate)`, the
    entry point is what they call it with, else the question's last function; then the question's code stands before a
    text that goes on from it, its imports before one that writes the function anew."""
    code, named = extract_code(text), re.findall(r"^def +(\w+)\(", question, re.M)
    if not re.search(r"^def check\(", tests, re.M):
        return code, tests, ""
    called = re.search(r"^check\((\w+)\)", tests, re.M)
    entry = called[1] if called else (named or [""])[-1]
    if code.strip() and entry in named:
        anew = re.search(rf"^(?:async )?def +{entry}\b", code, re.M)
        code = "\n".join(
            [
                *(
                    re.findall(r"^(?:import|from) .*", question, re.M)
                    if anew
                    else [question.rstrip()]
                ),
                code,
            ]
        )
    return code, tests, "" if called else entry


def extract_code(text: str, which: str = "last") -> str:
    """The code in a model's answer: its `last` or `first` fenced block (```python before others), or the whole text."""
    blocks = re.findall(
        r"^[ \t]*```[ \t]*(\w*)[^\n]*\n(.*?)(?:^[ \t]*```|\Z)", text, re.DOTALL | re.MULTILINE
    )
    python = [body for name, body in blocks if name.lower() in ("python", "python3", "py")]
    return (python or [body for _, body in blocks] or [text])[{"first": 0, "last": -1}[which]]
