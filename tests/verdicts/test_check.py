"""Verdicts: code that is run through the first three rooms, HumanEval's form, and scorers that may hang."""

import json
import textwrap

import pandas as pd
import pytest
from studies import sample_row, verdict_rows

from wcse_lib import plan as planning
from wcse_lib.answers import Checker
from wcse_lib.sample import stage as generation
from wcse_lib.study import Machine, Verification, check_study
from wcse_lib.verify import judges_of
from wcse_lib.verify import stage as verification

MBPP = [  # (question, tests, solutions that pass, solutions that fail)
    (
        "the larger of two numbers",
        ["assert big(1, 2) == 2", "assert big(5, -1) == 5"],
        ["def big(a, b): return max(a, b)"],
        ["def big(a, b): return a"],
    ),
    (
        "the sum of squares up to n",
        ["assert sq(3) == 14", "assert sq(0) == 0"],
        ["def sq(n):\n    return sum(i * i for i in range(n + 1))"],
        ["def sq(n): return n * n"],
    ),
    (
        "whether a word is a palindrome",
        ["assert pal('abba')", "assert not pal('ab')"],
        ["pal = lambda s: s == s[::-1]"],
        ["pal = lambda s: True"],
    ),
    (
        "the n-th Fibonacci number",
        ["assert fib(10) == 55"],
        ["def fib(n, a=0, b=1):\n    return fib(n - 1, b, a + b) if n else a"],
        ["def fib(n):\n    while True: pass"],
    ),
    (
        "a list without repeats, in order",
        ["assert uniq([3, 1, 3]) == [3, 1]"],
        ["def uniq(x): return list(dict.fromkeys(x))"],
        ["def uniq(x): return sorted(set(x))"],
    ),
    (
        "count the vowels",
        ["assert vowels('banana') == 3"],
        ["def vowels(s): return sum(c in 'aeiou' for c in s)"],
        ["import os; os._exit(0)"],
    ),
    (
        "the greatest common divisor",
        ["assert gcd(12, 18) == 6"],
        ["from math import gcd"],
        ["def gcd(a, b): return 1"],
    ),
    (
        "reverse the words",
        ["assert rev('a b c') == 'c b a'"],
        ["def rev(s): return ' '.join(s.split()[::-1])"],
        ["def rev(s): return s[::-1]]"],
    ),
    (
        "the median of an odd list",
        ["assert med([3, 1, 2]) == 2"],
        ["def med(x): return sorted(x)[len(x) // 2]"],
        ["def med(x): return x[1]"],
    ),
    (
        "flatten one level",
        ["assert flat([[1], [2, 3]]) == [1, 2, 3]"],
        ["def flat(x): return [b for a in x for b in a]"],
        ["import sys; sys.exit(0)"],
    ),
]


def test_code_through_the_first_three_rooms(tmp_path):
    problems, samples = tmp_path / "mbpp.jsonl", tmp_path / "samples.jsonl"
    rows = [
        {"task_id": i, "text": f"Write {q}.", "code": good[0], "test_list": t}
        for i, (q, t, good, _) in enumerate(MBPP)
    ]
    problems.write_text(
        "".join(
            json.dumps({**row, "test_list": "\n".join(row["test_list"])}) + "\n" for row in rows
        )
    )
    written = [
        {"id": i, "out": f"Here it is:\n```python\n{code}\n```\nDone."}
        for i, (_, _, good, bad) in enumerate(MBPP)
        for code in [*good, *bad, *bad]
    ]
    samples.write_text(
        "".join(json.dumps(row) + "\n" for row in written)
        + json.dumps({"id": 0, "out": " "})
        + "\n"
    )
    columns = {
        "question": "text",
        "answer": "code",
        "solution": "code",
        "problem_id": "task_id",
        "tests": "test_list",
    }
    study = {
        "study": "code",
        "dataset": {"name": "files", "train": str(problems), "columns": columns},
        "arms": {
            "se": {
                "model": "somebody",
                "engine": "import",
                "path": str(samples),
                "n_parameters": 1.0e9,
                "columns": {"text": "out", "problem_id": "id"},
            }
        },
        "budget": {"reference": "se", "samples": {"all": 3}, "match": "count"},
        "verification": {"by": "tests", "seconds": 2.0},
    }
    run = planning.make_plan(check_study(study, "code"), tmp_path / "out")
    generation.generate(run, "se", Machine())
    verified = verification.verify(run, "se", Machine(workers=2))
    rows = pd.read_parquet(run.path("03", "se", "verdicts.parquet")).set_index(
        ["problem_id", "sample_index"]
    )
    for i in range(len(MBPP)):
        assert rows.loc[(str(i), 0), "verdict"] == "correct", rows.loc[(str(i), 0)]
        assert (rows.loc[[(str(i), 1), (str(i), 2)], "verdict"] == "incorrect").all()
        assert rows.loc[(str(i), 1), "reason"] == rows.loc[(str(i), 2), "reason"]
    assert "limit" in rows.loc[("3", 1), "reason"] or "killed" in rows.loc[("3", 1), "reason"]
    assert rows.loc[("0", 0), "extracted"] == MBPP[0][2][0] + "\n"
    assert rows["verifier"].str.startswith("wcse-tests/2 (").all()
    examples = pd.read_parquet(run.path("03", "se", "examples.parquet"))
    assert len(examples) == 10
    assert judges_of(run.study) == []
    assert verified.false_positives.empty


HUMANEVAL = (
    "import math\n\ndef helper(x):\n    return x + 1\n\n"
    'def area(r: float) -> float:\n    """The area of a circle."""\n'
)
CHECK = "METADATA = {}\n\n\ndef check(candidate):\n    assert abs(candidate(1) - 3.14159) < 1e-3\n"


@pytest.mark.parametrize("tests", [CHECK, CHECK + "\ncheck(area)\n"])
@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("    return math.pi * r * r\n", "correct"),  # a base model goes on
        (
            "```python\ndef area(r):\n    return math.pi * r ** 2\n```",
            "correct",
        ),  # a chat model writes it anew
        ("    return 3 * r\n", "incorrect"),
        ("```python\ndef area(r):\n    return 1\n```", "incorrect"),
        ("", "incorrect"),
    ],
)
def test_humaneval_style_problems(text, tests, verdict):
    problems = pd.DataFrame(
        [("h", HUMANEVAL, "", tests)], columns=["problem_id", "question", "answer", "tests"]
    )
    row = verdict_rows(
        pd.DataFrame([sample_row(0, problem_id="h", text=text)]),
        problems,
        "auto",
        1,
        Verification(by="tests"),
    ).iloc[0]
    assert row["verdict"] == verdict, row["reason"]
    assert text or row["reason"] == "no code"


def test_scorers_run_in_a_process_that_can_be_killed(tmp_path, monkeypatch):
    (tmp_path / "my_scorer.py").write_text(
        textwrap.dedent("""
        import os
        def score(answer, entry):
            while entry == "loop": pass
            if entry == "die": os._exit(1)
            if entry == "raise": raise KeyError(answer)
            return answer == entry, f"score {answer == entry:g}"
    """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_scorer import score

    with Checker(workers=2, limit_seconds=0.5, ask=score) as checker:
        golds = ["5", "6", "die", "5", "raise", "loop", "5"]
        got = [row[1:] for row in checker.check_many(["#### 5"] * 7, golds)]
    assert got[0] == got[3] == got[6] == ("correct", "score 1")
    assert got[1] == (
        "incorrect",
        "score 0",
    )
    assert [v for v, _ in got[2:6:1] if v == "unverifiable"] == ["unverifiable"] * 3
    assert got[2][1] == "undecided: score died"
    assert got[4][1] == "undecided: KeyError in score"
    assert got[5][1] == "timeout"


def test_reasoning_gym_scores_its_own_answers():
    gym = pytest.importorskip("reasoning_gym")
    entries = list(gym.create_dataset("chain_sum", seed=1, size=3))
    tests = [json.dumps({"task": "chain_sum", "options": {}, "entry": entry}) for entry in entries]
    problems = pd.DataFrame(
        {"problem_id": ["a", "b", "c"], "question": "", "answer": "", "tests": tests}
    )
    texts = [f"<answer>{entries[0]['answer']}</answer>", "<answer>none</answer>", ""]
    rows = pd.DataFrame([sample_row(0, problem_id=p, text=text) for p, text in zip("abc", texts)])
    got = verdict_rows(rows, problems, "auto", 1, Verification(by="task"))
    assert got["verdict"].tolist() == ["correct", "incorrect", "incorrect"]
