"""What the tests of answers share: the cases of `cases.jsonl`, and the golds of real data.

A line of `cases.jsonl` is a case, by its `kind`. "pair": `expected` is what `equivalent(prediction, gold)` gives (true,
false, or null for unverifiable). "output": `expected` is what `extract(output, style)` gives (null: no answer).
"guards": math-verify has to be asked, or nothing can be said. `reason` says what the case is for.
"""

import json
from pathlib import Path

import pytest

from wcse_lib.answers import extract

CASES = Path(__file__).with_name("cases.jsonl")
DATA = Path(__file__).parents[3] / "shared" / "data"
needs_data = pytest.mark.skipif(
    not DATA.exists(), reason=f"the shared data are not at {DATA.name}/ beside the project"
)


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def cases(kind: str) -> list:
    """The cases of a kind, as pytest's parameters."""
    return [
        pytest.param(case, id=f"line {number}: {case['reason']}")
        for number, case in enumerate(rows(CASES), start=1)
        if case["kind"] == kind
    ]


def math_golds() -> list[str]:
    """The gold of each MATH row, as `extract` finds it."""
    return [extract(row["solution"]) for row in rows(DATA / "math_test_half.jsonl")]
