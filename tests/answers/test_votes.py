"""Answers that are equal have one class, and others have others: what votes are counted by."""

import re

import pytest
from answer_data import CASES, rows

from wcse_lib.answers import class_name
from wcse_lib.metrics import majority_at_k

ALIKE = [
    ("5 cm", r"5\text{ cm}", "5 centimeters", r"x = 5\text{ cm}", r"\SI{5}{\centi\metre}"),
    ("1/2", r"\frac{1}{2}", r"\dfrac12", "0.5", "x = 0.5", "one half"),
    (r"2\sqrt{2}", r"\sqrt8", "2√2"),
    ("x^2 - 1", "(x-1)(x+1)"),
    ("1, 2", "2 and 1", r"\{1, 2\}"),
    ("2x+4y=6", "x+2y=3"),
    ("Tuesday", r"\text{tuesday}"),
    ("(1, 2)", r"\left(1,2\right)"),
]


@pytest.mark.parametrize("texts", ALIKE, ids=lambda texts: texts[0])
def test_spellings_of_one_answer_have_one_class(texts):
    assert len({class_name(text) for text in texts}) == 1


def test_other_answers_have_other_classes():
    names = [class_name(texts[0]) for texts in ALIKE]
    names += [class_name(text) for text in ("5 m", "(2, 1)", r"\sqrt3", "x^2+1", "x+2y=4")]
    assert len(set(names)) == len(names)


# Names are left out of a class, and 25 digits at eight points make one.
SAME_CLASS = re.compile(r"=|\\in\b|5000|[15]0-x|ceil|49|\[invalid\]|\\sqrt2")


def test_unequal_cases_share_a_class_only_where_names_or_distant_points_tell_them_apart():
    shared = []
    for case in rows(CASES):
        is_unequal = case["kind"] == "pair" and case["expected"] is False
        if is_unequal and class_name(case["prediction"]) == class_name(case["gold"]):
            shared.append(case["gold"])
    assert [gold for gold in shared if not SAME_CLASS.search(gold)] == []


@pytest.mark.parametrize(
    "answers, accuracy",
    [
        (
            ["5 cm", "5", r"5\text{ cm}", "6", "6 cm"],
            0.0,
        ),  # three wrong votes against two right ones
        (["5 cm", "5 m", "7", "6", "6 cm"], 1.0),  # which unit a bare number has is not known
        (["5 apples", "5 apple", "8 or 5", "6", "6"], 0.5),
        (["5 x", "5", "7", "6", "6"], 1.0),  # a variable is no unit
    ],
)
def test_wrong_votes_are_counted_over_units(answers, accuracy):
    assert majority_at_k([answers], [[False] * 3 + [True] * 2], 5) == accuracy
