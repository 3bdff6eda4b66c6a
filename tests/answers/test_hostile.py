"""Text that is meant to hang, overflow or break a checker ends soon, with a verdict."""

import random
import time

import pytest

from wcse_lib.answers import STYLES, Checker, equivalent, extract
from wcse_lib.answers.equal import decide
from wcse_lib.answers.policy import DEFAULT

PIECES = ["x+", "5-", "1,", "(1,", "1:", "x<", "|", "'x", "2^", "\\pm ", "sin", "\\sqrt"]
SIGNS = "0123456789+-*/^_{}()[]\\,.=<>!%$ xyπ∞√½²&|'\""


def hostile(n: int) -> list[str]:
    """n outputs; a fixed mixture of kinds in many sizes."""
    rng = random.Random(0)
    kinds = [
        lambda k: "\\boxed{10^{10^{" + "10^{" * (k % 5) + "10" + "}" * (k % 5) + "}}}",
        lambda k: f"#### {9 + k % 5}**9**9" + "**9" * (k % 3),
        lambda k: "{" * 10_000 + str(k) + "}" * 10_000,
        lambda k: "\\boxed{" * (10 * k) + "5" + "}" * (10 * k if k % 2 else 3),
        lambda k: "\\boxed{" + "\\frac{" * (k % 300) + "1" + "}{2}" * (k % 300) + "}",
        lambda k: "The answer is " + "5\0" * k,
        lambda k: "\ud800" * k + " \\boxed{\udfff5}",
        lambda k: "answer is " * (k * 20) + "5",
        lambda k: "\nQuestion:" * (k * 10) + "#### 5",
        lambda k: "\\boxed{" + rng.choice(PIECES) * (k * 3) + "}",
        lambda k: "\\boxed{" + "+".join(f"\\sqrt{{{j}}}" for j in range(2, 2 + k % 150)) + "}",
        lambda k: "\\boxed{" + "\\cdot".join(f"{j}!" for j in range(500, 500 + k % 180)) + "}",
        lambda k: "$" * (k * 100) + "\\[" * (k * 10) + "**" * (k * 10) + " 5",
        lambda k: "\\boxed{" + "".join(rng.choice(SIGNS) for _ in range(k * 4)) + "}",
        lambda k: "\\boxed{5 " + "apples " * k + "}",
    ]
    texts = []
    for i in range(n):
        size = i // len(kinds) * 400 // n + 2 + rng.randrange(40)
        texts.append(kinds[i % len(kinds)](size))
    return texts


def test_a_thousand_hostile_outputs_end_soon():
    texts = [*hostile(1000), "a" * 1_000_000, "{" * 1_000_000, " " * 1_000_000 + "5"]
    begin = time.process_time()
    with Checker(limit_seconds=1.0, patience_seconds=3.0) as checker:
        checked = checker.check_many(texts, ["5"] * len(texts))
        as_golds = [checker.compare("5", text[:2500]) for text in texts[:200]]
    assert time.process_time() - begin < 60
    for extracted, verdict, reason in checked:
        assert verdict in ("correct", "incorrect", "unverifiable")
        assert reason
        assert extracted is None or len(extracted) <= 2000
        assert "\0" not in (extracted or "").encode("utf-8").decode("utf-8")
    assert all(reason for _, reason in as_golds)
    for text in texts[::40]:
        for style in STYLES:
            extract(text, style)


UNITS = [
    "pi ",
    "sin s",
    " ",
    " \n",
    "$",
    "5 pi ",
    "abc ",
    "- ",
    "[ ",
    "H2",
    "one and ",
    "5 h, ",
    "1-",
]
UNITS += [
    "\\sum_{k=1}^{9}",
    "\\max(1,",
    "\\begin{cases}x&",
    "m/s ",
    "(twelve) ",
    "1,23,",
    "10^{10^{",
]


@pytest.mark.parametrize("unit", UNITS)
def test_repetitions_take_no_longer_than_their_length(unit):
    begin = time.process_time()
    for style in STYLES:
        extract("Final Answer: " + unit * (100_000 // len(unit)) + "\nQuestion: a\n", style)
    run = unit * (1900 // len(unit))
    for text in ("x = " + run + "}", "5" + run + "6"):
        decide(text, "5", DEFAULT)
    assert time.process_time() - begin < 5


LONG = [
    "5" + " " * 1900 + "6",
    "5" + "\\ " * 950,
    "5" + "$ " * 950,
    "5" + "“" * 1900,
    "sinh" * 400 + "zz",
    "pi" * 900 + "!x",
]
LISTS = [  # a term, another spelling of it, its first number, how many terms
    (r"{}!", r"{}!*1", 900, 240),
    (r"\sqrt{{{}}}", r"{}^{{1/2}}", 2, 150),
    (r"x^{}", r"x^{}*1", 2, 250),
    (r"\sin{}", r"\sin({})*1", 2, 150),
    (r"x+y={}", r"y+x={}", 2, 180),
    (r"\sqrt{{x+{}}}", r"\sqrt{{{}+x}}", 2, 110),
    (r"\binom{{{}}}{{2000}}", r"\binom{{{}}}{{2000}}*1", 4000, 80),
    (r"({}.5+x)!", r"(x+{}.5)!", 2, 130),
]


def assert_soon(prediction: str, gold: str) -> None:
    begin = time.process_time()
    decide(prediction, gold, DEFAULT)
    assert time.process_time() - begin < 3, prediction[:40]


@pytest.mark.parametrize("text", LONG, ids=lambda text: text[:5])
def test_long_texts_end_soon(text):
    assert_soon(text, "5")


@pytest.mark.parametrize("one, other, first, n", LISTS)
def test_long_lists_and_sums_end_soon(one, other, first, n):
    numbers = range(first, first + n)
    terms = [one.format(k) for k in numbers]
    others = [other.format(k) for k in reversed(numbers)]
    assert equivalent(",".join(terms), ",".join(terms[::-1])) is True
    for mark in (",", "+"):
        assert_soon(mark.join(terms), mark.join(terms[::-1]))
        assert_soon(mark.join(terms), mark.join(others))


MARKS = ["- ", "1) ", "#### ", "> ", "* ", "(1) ", "- 1) ", "1. - ", "x - ", "2^ - "]


@pytest.mark.parametrize("mark", MARKS)
def test_marks_that_a_model_repeats_are_read_once(mark):
    """A pattern that can read a mark in two ways would need longer than a test suite for sixty of them."""
    assert extract(60 * mark + "16") is not None
    assert extract(60 * mark) is None or extract(60 * mark) in 60 * mark
