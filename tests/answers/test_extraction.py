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
