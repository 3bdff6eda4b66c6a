"""The arithmetic judge on cases, gold solutions and hostile text."""

import json
import random
import time
from pathlib import Path

import pandas as pd
import pytest

from wcse_lib.verify import rates
from wcse_lib.verify.arithmetic import judge_arithmetic

DATA = Path(__file__).parents[3] / "shared" / "data"

RIGHT = [
    "16 - 3 - 4 = 9",
    "Tom has 5+3=8 apples.",
    "2*3=6=12/2",
    "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.",
    "$1,200 × 2 = $2,400",
    "100 ÷ 4 = 25",
    "20% * 50 = 10",
    "20% of 50 = 10, and 100% - 20% = 80%",
    "1/4 = 25%",
    "$50 - 20% = $40",
    "10/3 = 3.33",
    "20/3 = 6.66; 20/3 = 6.67",
    "10/3 = 3.33, so 3.33*3 = 10",
    "66.67% * 3 = 200%",
    "800/3=266.6666666666667",
    "2.5 x 4 = 10",
    "2(3+4) = 14",
    "2^10 = 1024 = 2**10",
    "-3 + 5 = 2",
    "- 5 * 3 = 15",
    "5 * 2 = 10 + 3 = 13",
    "11 / 5 = 2 trays",
    "7 / 2 = 4 (rounded up)",
    "25 / 1/3 = 75",
    "25 * 4 = $1.00, as there are 100 cents in a dollar",
    r"\frac{1}{2} + \frac{1}{3} = \frac{5}{6}",
    r"\(3 \times 4 = 12\)",
    "3 km + 4 km = 7 km",
    "0.1 + 0.2 = 0.30000000000000004",
    "$10,050 + $1 = $10,051",
    r"5+5=\boxed{10}",
    r"$1080 + 108 = \boxed{1188}$$11\cdot 9 = 99$",
    "5 + 5 = **10** apples",
    "5*4 = 20 = 20 eggs",
    "2*30 = 60 = 1 hour",
    "2 ** 3 ** 2 = 512",
]
WRONG = [
    ("16 - 3 - 4 = 10", "16-3-4 = 10"),
    ("The sum is 5+6=12.", "5+6 = 12"),
    ("2*3=6=12/3", "6 = 12/3"),
    ("5+5=<<5+5=10>>11", "5+5 = 11"),
    ("<<3+4=8>>7", "3+4 = 8"),
    ("$1,200 × 2 = $2,401", "1,200*2 = 2,401"),
    ("100 ÷ 4 = 24", "100/4 = 24"),
    ("1/4 = 24%", "1/4 = 24%"),
    ("10/3 = 3.34", "10/3 = 3.34"),
    ("10/4 = 2", "10/4 = 2"),
    ("24.5 + 1 = 25", "24.5+1 = 25"),
    ("3 - 5 = 2", "3-5 = 2"),
    ("5 * 2 = 10 + 3", "5*2 = 10+3"),
    ("3 km + 4 km = 8 km", "3+4 = 8"),
    (r"\(3 \times 4 = 13\)", "3*4 = 13"),
    ("first 2+2=4\nthen 4+4=9\nso 9+1=10", "4+4 = 9"),
    ("$10,050 + $1 = $10,052", "10,050+1 = 10,052"),
    ("5*1,000=5,001", "5*1,000 = 5,001"),
    ("<<1,000+1=1,002>>", "1,000+1 = 1,002"),
    (r"5+5=\boxed{11}", "5+5 = 11"),
    ("5 + 5 = **11**", "5+5 = 11"),
    ("5*4=20=21", "20 = 21"),
]
UNREADABLE = [
    "",
    "no equation",
    "x = 5",
    "2x + 4 = 10",
    "5 + x = 10",
    "half of 10 - 2 = 3",
    "1:30 + 2 = 3:30",
    "5! = 7",
    "3 1/2 + 1 = 5",
    "5 apples * 2 = 9 apples",
    "0900 - 0130 = 0730",
    "12 + 12 = 2 dozen",
    "7/2 = 3 remainder 1",
    "5 != 120/3",
    "1/0 = 5",
    "$400 000 x 3/100 = $12000",
    "10^10^10 = 5",
    "5 + 3 <= 9",
    "Week 1 + Week 2 = 35 + 35",
    "14, 400 / 80 = 180",
    r"4\frac{5}{8} = 4",
    "5^2 = 15 + 2ab",
]


@pytest.mark.parametrize("text", RIGHT)
def test_fair_arithmetic_passes(text):
    assert judge_arithmetic(text)[0] is True


@pytest.mark.parametrize("text,step", WRONG)
def test_wrong_step_is_named(text, step):
    sound, reason = judge_arithmetic(text)
    assert sound is False
    assert f"wrong step: {step}," in reason


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_is_not_certain_is_not_judged(text):
    assert judge_arithmetic(text) == (None, "no equation to check")


def test_random_equations_against_integers():
    rng = random.Random(1)
    for _ in range(2_000):
        expression = str(rng.randint(0, 999)) + "".join(
            f" {rng.choice('+-*')} {rng.randint(0, 99)}" for _ in range(3)
        )
        value = eval(expression)
        off = rng.choice([0, 0, 1, -1, 10])
        assert judge_arithmetic(f"so {expression} = {value + off} in all")[0] is (off == 0)


def test_gold_solutions_hold():
    if not (DATA / "gsm8k_test.jsonl").exists():
        pytest.skip("shared/data/gsm8k_test.jsonl is not there")
    answers = [
        json.loads(line)["answer"] for line in open(DATA / "gsm8k_test.jsonl", encoding="utf-8")
    ]
    judged = [judge_arithmetic(a)[0] for a in answers]
    assert judged.count(True) >= 1_300
    assert [i for i, sound in enumerate(judged) if sound is False] == [
        501,
        1024,
    ]  # misprints in the data, both real


def test_lower_bounds_on_real_model_solutions():
    path = DATA / "gsm8k_openai_model_solutions.jsonl"
    if not path.exists():
        pytest.skip("shared/data/gsm8k_openai_model_solutions.jsonl is not there")
    rows = [json.loads(line) for line in open(path, encoding="utf-8")]
    authors = ["6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification"]
    correct = [
        (a, i, r[a]["solution"]) for a in authors for i, r in enumerate(rows) if r[a]["is_correct"]
    ]
    frame = pd.DataFrame(correct, columns=["author", "problem_id", "text"]).assign(
        sample_index=0, judge="arithmetic", reason=""
    )
    frame["sound"] = [judge_arithmetic(text)[0] for text in frame["text"]]
    table = rates.false_positive_table(rates.by_problem(frame)).set_index("author").loc[authors]
    assert table["n"].tolist() == [145, 257, 211, 373]
    assert table["n_false"].tolist() == [
        2,
        2,
        3,
        6,
    ]  # every one of them looked at: a false equation stands in it


def test_hostile_text_ends_soon():
    texts = [
        "1+1=2\n" * 200_000,
        "1+1=" * 250_000,
        "(" * 500_000 + "1+1=2",
        "9^9^9^9=1 " * 50_000,
        "9" * 10**6 + "+1=5",
        "1 ab+" * 200_000 + "=1 ab",
        "<<" * 500_000 + "=",
        "1" + " " * 10**6 + "+1=2",
        "a=" * 500_000,
        "\0" * 10**6,
        ("-" * 100 + "1+1=2\n") * 5_000,
        ("(" * 59 + "1+1" + ")" * 59 + "=2\n") * 2_000,
        "1x" * 300_000 + "1=1",
    ]
    start = time.process_time()
    assert all(judge_arithmetic(text)[1] for text in texts)
    assert time.process_time() - start < 15


@pytest.mark.parametrize("text", ["2+2 = (5)%", "7/10 = (70)%", "3*4 = (1+2)%", "1+1 = -(2)%"])
def test_a_per_cent_sign_after_a_bracket_is_read(text):
    assert judge_arithmetic(text)[0] in (True, False, None)
