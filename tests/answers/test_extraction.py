"""Final answers are found in full outputs, in every style."""

import pytest
from answer_data import cases

from wcse_lib.answers import extract


@pytest.mark.parametrize("case", cases("output"))
def test_cases(case):
    assert extract(case["output"], case["style"]) == case["expected"]


def test_unknown_style_is_named():
    with pytest.raises(ValueError, match="'boxd'.*gsm8k"):
        extract("5", "boxd")


def test_a_strange_letter_in_a_tag_is_no_error():
    assert extract("<answer>5</answer> <an\u017fwer> It is 7.") == "5"


def test_a_box_with_deep_braces_or_signs_escaped_is_whole():
    assert extract(r"So \boxed{\frac{\sqrt{\frac{1}{2}}}{3}}.") == r"\frac{\sqrt{\frac{1}{2}}}{3}"
    assert extract(r"So \boxed{\{1, 2\}}. No \boxed{ }") == r"\{1, 2\}"
    assert extract(r"So \fbox{\boxed{4}}, in $\{x\}$.") == r"\boxed{4}"
