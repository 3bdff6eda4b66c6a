"""Votes: wrong answers are pooled by the policy that pools right ones, and a name is no bridge between the two."""

import pandas as pd
import pytest

from wcse_lib.study import Verification
from wcse_lib.verdicts import answer_lists, counted_votes


def votes_of(wrong: list[str | None], right: list[str]) -> pd.DataFrame:
    answers = pd.array([*wrong, *right], "string")
    rows = pd.DataFrame({"problem_id": "p", "extracted": answers, "n": 1})
    rows["correct"] = rows.index >= len(wrong)
    return rows.sort_values("extracted", ignore_index=True)


@pytest.mark.parametrize(
    "wrong, right",
    [
        (["50%", "0.5", r"\frac12"], ["20%", "0.2"]),
        (["50%", "50", "50 percent"], ["20", "20%"]),
        (["90 min", "1.5 h", "5400 s"], ["2 h", "2"]),
        (["8", "8 pears", "8 ripe pears"], ["9", "9 pears"]),
        (["[1,3)", r"1\le x<3", r"x\in[1,3)"], ["[0,1]", r"0\le x\le 1"]),
        (["y=3x", "3x-y=0", "3x = y"], ["y=x", "x=y"]),
        (["Red", "red", "RED."], ["blue", "Blue"]),
    ],
    ids=lambda texts: texts[0],
)
def test_three_wrong_votes_of_one_meaning_win_over_two_right_ones(wrong, right):
    assert counted_votes(votes_of(wrong, right)).majority(5)["accuracy"].tolist() == [0.0]


@pytest.mark.parametrize(
    "wrong, accuracy",
    [(["5 km", "5 m", "7"], 1.0), ([None, "", "50"], 1.0), (["1/3", "0.333", "0.333"], 0.5)],
)
def test_votes_of_other_meanings_stay_apart(wrong, accuracy):
    assert counted_votes(votes_of(wrong, ["6", "6.0"])).majority(5)["accuracy"].tolist() == [
        accuracy
    ]


def test_a_strict_policy_tells_wrong_votes_apart_as_it_does_right_ones():
    votes = votes_of(["5 cm", "5", "5 m"], ["6", "6"])
    strict = Verification(policy={"units": "strict"})
    assert counted_votes(votes, strict).majority(5)["accuracy"].tolist() == [1.0]


def test_programs_and_answers_to_tasks_are_pooled_by_name_alone():
    ((answers,), _) = next(answer_lists(votes_of(["50%", "0.5"], []), Verification(by="task")))
    assert len(set(answers)) == 2


def test_a_wrong_answer_that_equals_a_right_one_by_policy_is_still_wrong():
    # 50% is right for 0.5, and so is 50% for 50, which is wrong
    votes = votes_of(["50", "50", "50"], ["0.5", "50%"])
    assert counted_votes(votes).majority(5)["accuracy"].tolist() == [0.0]
