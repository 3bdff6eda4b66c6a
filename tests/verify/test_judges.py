"""Judgements: the arithmetic judge on cases, gold solutions and hostile text; corrected rates against simulation."""

import json
import random
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from wcse_lib import intervals
from wcse_lib.nano import world
from wcse_lib.study import Verification
from wcse_lib.verify import judges, model_judge, rates
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
    assert sound is False and f"wrong step: {step}," in reason


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


def test_exact_judge_is_the_nano_checker():
    problem = world.make_problems(1, seed=3)[0]
    assert judges.exact(problem["question"], problem["reference"]) == (True, "")
    sound, reason = judges.exact(problem["question"], "#### " + problem["answer"] + "0")
    assert sound is False and reason
    with pytest.raises(ValueError, match="not a nano problem"):
        judges.exact("How many?", "#### 1")


def test_rubric_and_reading():
    told, blind = model_judge.rubric(), model_judge.rubric(gold_known=False)
    assert told.count("{question}") == blind.count("{question}") == 1 and "{" not in told.replace(
        "{question}", ""
    )
    assert "which is right" in told and "right" not in blind.split("Rubric")[0].replace(
        "right or wrong", ""
    )
    case = model_judge.case(" What is {solution}?\n", "It is {question}: $\\frac{1}{2}$ ")
    assert case == "Problem:\nWhat is {solution}?\n\nSolution:\nIt is {question}: $\\frac{1}{2}$"
    assert model_judge.parse_judgement("Step 1 follows.\nJudgement: SOUND") is True
    assert model_judge.parse_judgement("**Judgment: flawed.**") is False
    assert model_judge.parse_judgement("Judgement: SOUND\nNo, wait.\nJudgement: FLAWED") is False
    assert model_judge.parse_judgement("Judgement: SOUND or FLAWED") is None
    assert model_judge.parse_judgement("It looks sound to me") is None
    assert model_judge.parse_judgement(told) is None
    assert model_judge.read_judgement("Judgement: FLAWED", "stop") == (
        False,
        "the judge said FLAWED",
    )
    assert model_judge.read_judgement("Judgement: SOUND", "length") == (
        None,
        "the judge was cut off at max_tokens",
    )
    assert model_judge.read_judgement("", "error", "HTTP 500") == (
        None,
        "the judge failed: HTTP 500",
    )
    assert model_judge.read_judgement("I see\nno flaw.", "stop")[1].endswith(
        "neither SOUND nor FLAWED, but ends: I see no flaw."
    )


def corrected_rate(*pairs):
    """Of independent samples: one a problem, each in one of the three rates."""
    apart = [np.repeat(np.arange(3), [n for _, n in pairs]) == i for i in range(3)]
    return rates.corrected_rate(
        *((own * (own.cumsum() <= k), own) for own, (k, _) in zip(apart, pairs))
    )


def test_corrected_rate_undoes_the_judges_errors():
    value, low, high = corrected_rate((2_600, 10_000), (8_000, 10_000), (9_000, 10_000))
    assert (
        value == pytest.approx((0.26 + 0.9 - 1) / 0.7) and low < value < high and high - low < 0.05
    )
    _, low_small, high_small = corrected_rate((2_600, 10_000), (16, 20), (18, 20))
    assert high_small - low_small > 2 * (
        high - low
    )  # the calibration sample's uncertainty is carried
    assert corrected_rate((0, 50), (10, 10), (10, 10)).value == 0
    value, low, high = corrected_rate((18, 20), (6, 10), (5, 10))
    assert (
        low <= value == high == 1
    )  # hardly better than chance: the value is cut, and stays inside
    value, low, high = corrected_rate((5, 20), (5, 10), (5, 10))
    assert np.isnan(value) and low < 0.05 and high > 0.9
    with pytest.raises(ValueError, match="specificity"):
        rates.corrected_rate(([5], [20]), ([5], [10]), ([11], [10]))


def test_corrected_rate_covers_the_truth():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        flagged, se, sp = rng.binomial([200, 60, 60], [0.2 * 0.8 + 0.8 * 0.1, 0.8, 0.9])
        _, low, high = corrected_rate((flagged, 200), (se, 60), (sp, 60))
        hits += low <= 0.2 <= high
    assert 0.91 <= hits / 200 <= 0.995


def test_intervals_know_that_samples_of_a_problem_share_their_faults():
    """30 samples of each of 240 problems, unevenly solved, judged right by one and with errors by another: 95 %
    intervals of independent samples would hold the truth in 69 % of studies."""
    hits, n = np.zeros(2), 120
    for i in range(n):
        rng = np.random.default_rng([i, 9])
        kept = rng.binomial(30, rng.beta(0.5, 1.6, 240))
        false = rng.binomial(kept, rng.beta(0.64, 3.36, 240))
        caught, passed, known = (
            rng.binomial(false, rng.beta(7, 3, 240)),
            rng.binomial(kept - false, rng.beta(18, 2, 240)),
            rng.random(240) < 0.4,
        )
        sums = pd.DataFrame(
            {"author": "a", "problem_id": range(240), "n": kept, "n_undecided": 0, "reason": ""}
        )
        said = sums.assign(
            judge="model, corrected by human",
            n_false=caught + kept - false - passed,
            flawed=false * known,
            caught=caught * known,
            sound=(kept - false) * known,
            passed=passed * known,
        )
        table = pd.concat(
            [
                rates.false_positive_table(sums.assign(judge="exact", n_false=false), i),
                rates.corrected_table(said, i),
            ]
        )
        hits += (table["low"] <= 0.16) & (0.16 <= table["high"])
    assert (0.9 <= hits / n).all() and (hits / n <= 0.995).all()


def test_false_positive_table():
    frame = pd.DataFrame(
        {
            "author": ["a"] * 5 + ["b"] * 2,
            "problem_id": list("12345") + list("12"),
            "sample_index": 0,
            "sound": pd.array([True, False, None, True, True, None, None], "boolean"),
            "judge": ["human"] * 5 + ["arithmetic", "human"],
            "reason": "nobody was sure",
        }
    )
    sums = rates.by_problem(frame)
    table = rates.false_positive_table(sums).set_index(["author", "judge"])
    human = table.loc[("a", "human")]
    assert (human["n"], human["n_false"], human["n_undecided"]) == (4, 1, 1)
    expected = intervals.ratio([0, 1, 0, 0], [1, 1, 1, 1])
    assert (human["value"], human["low"], human["high"]) == tuple(expected)
    pieces = [
        rates.by_problem(frame.assign(sample_index=i)) for i in range(3)
    ]  # rows of one problem are added
    copied = (
        rates.false_positive_table(pd.concat(pieces))
        .set_index(["author", "judge"])
        .loc[("a", "human")]
    )
    assert (copied["n"], copied["value"], copied["low"]) == (12, 0.25, pytest.approx(human["low"]))
    assert table.loc[("b", "arithmetic"), "n"] == 1 and table.loc[("b", "human"), "n"] == 0
    assert np.isnan(table.loc[("b", "human"), "value"]) and table.loc[("b", "human"), "high"] == 1
    assert table.loc[("b", "human"), "reading"] == "nothing decided; nobody was sure"
    assert "lower bound" in table.loc[("b", "arithmetic"), "reading"]
    with pytest.raises(ValueError, match="repeated judgement"):
        rates.by_problem(pd.concat([frame, frame.head(1)]))


def test_a_model_judge_is_corrected_where_others_judged_too():
    rng = np.random.default_rng(0)
    flawed = rng.random(3000) < 0.2
    model = np.where(
        flawed, rng.random(3000) < 0.7, rng.random(3000) < 0.1
    )  # misses 30 %, finds 10 % that are none
    key = {
        "author": "a",
        "problem_id": [f"p{i}" for i in range(3000)],
        "sample_index": 0,
        "reason": "",
    }
    said = pd.DataFrame({**key, "judge": "model", "sound": pd.array(~model, "boolean")})
    said.loc[:99, "sound"] = pd.NA
    people = pd.DataFrame({**key, "judge": "human", "sound": pd.array(~flawed, "boolean")}).iloc[
        50:650
    ]
    table = rates.corrected_table(rates.calibration(pd.concat([said, people])))
    raw = rates.false_positive_table(rates.by_problem(said))
    (row,) = table.itertuples()
    assert row.judge == "model, corrected by human" and (row.n, row.n_undecided) == (2900, 100)
    assert raw["low"].item() > 0.2 or raw["value"].item() - 0.2 > 0.01  # uncorrected it is off
    assert (
        row.low < 0.2 < row.high
        and abs(row.value - 0.2) < 0.05
        and row.high - row.low > 2 * (raw["high"] - raw["low"]).item()
    )
    flagged = int(model[100:650][flawed[100:650]].sum())
    assert f"flags {flagged} of {flawed[100:650].sum()} flawed" in row.reading
    (row,) = rates.corrected_table(
        rates.calibration(pd.concat([said, people[people["sound"]]]))
    ).itertuples()
    assert np.isnan(row.value) and "flags 0 of 0 flawed" in row.reading
    assert rates.corrected_table(rates.calibration(said)).empty


@pytest.mark.parametrize("text", ["2+2 = (5)%", "7/10 = (70)%", "3*4 = (1+2)%", "1+1 = -(2)%"])
def test_a_per_cent_sign_after_a_bracket_is_read(text):
    assert judge_arithmetic(text)[0] in (True, False, None)


def study(dataset="files", model=False, **verification):
    """As much of a study as the choice of judges asks for."""
    verification = Verification(**verification, model_judge={"model": "m"} if model else None)
    return SimpleNamespace(dataset=SimpleNamespace(name=dataset), verification=verification)


def test_the_own_judge_comes_first():
    assert judges.judges_of(study("nano")) == ["exact", "arithmetic", "human"]
    assert judges.judges_of(study(judge="human")) == ["human", "arithmetic"]
    assert judges.judges_of(study(judge="none")) == []
    assert judges.judges_of(study(by="tests")) == []
    assert judges.judges_of(study(by="tests", model=True)) == ["model", "human"]


@pytest.mark.parametrize(
    ("given", "own", "free"),
    [
        (study("nano", judge="none"), None, None),
        (study("nano"), "exact", "exact"),
        (study("nano", judge="arithmetic"), "arithmetic", "arithmetic"),
        (study("nano", judge="model", model=True), "model", "exact"),
        (study(judge="human"), "human", "arithmetic"),
        (study(by="tests"), None, None),
        (study(by="tests", model=True), "model", None),
    ],
)
def test_students_are_judged_as_arms_are_where_it_costs_nothing(given, own, free):
    assert judges.own_judge(given) == own
    assert judges.free_judge(given) == free
