"""Samples are shown to verdicts, judges and students without their thoughts."""

import pandas as pd
import pytest
from studies import sample_row

from wcse_lib.study import Verification
from wcse_lib.verdicts import spoken, verifier

TEXTS = ["Maybe \\boxed{5}. Wait", "no</think>\n#### 5", "<think>so</think>#### 5", "#### 5"]


def samples(texts=TEXTS, **more) -> pd.DataFrame:
    return pd.DataFrame([sample_row(i, text=text, **more) for i, text in enumerate(texts)])


@pytest.mark.parametrize(
    "opened, said, in_thought",
    [
        ("", [TEXTS[0], "#### 5", "#### 5", "#### 5"], [False] * 4),
        ("<think>", ["", "#### 5", "#### 5", ""], [True, False, False, True]),
        ({"m": "<think>"}, ["", "#### 5", "#### 5", ""], [True, False, False, True]),
        ({"other": "<think>"}, [TEXTS[0], "#### 5", "#### 5", "#### 5"], [False] * 4),
    ],
)
def test_what_is_said_after_the_thoughts(opened, said, in_thought):
    rows = spoken(samples(), opened)
    assert rows["text"].tolist() == said
    assert rows["in_thought"].tolist() == in_thought


@pytest.mark.parametrize("by", ["answer", "tests"])
def test_a_thought_that_never_ends_is_incorrect_and_says_why(by):
    text = "```python\ndef one(): return 1\n```" if by == "tests" else "\\boxed{1}"
    problems = pd.DataFrame(
        {"problem_id": ["p"], "question": ["q"], "answer": ["1"], "tests": ["assert one() == 1"]}
    )
    with verifier("auto", 1, Verification(by=by)) as verify:
        verdicts = verify(spoken(samples([text]), "<think>"), problems)
    assert verdicts.loc[0, "verdict"] == "incorrect"
    assert verdicts.loc[0, "reason"] == "its thought never ends"
    assert pd.isna(verdicts.loc[0, "extracted"])
