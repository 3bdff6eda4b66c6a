"""Judges: which of them judge a study, and the exact one."""

from types import SimpleNamespace

import pytest

from wcse_lib.nano import world
from wcse_lib.study import Verification
from wcse_lib.verify import judges


def test_exact_judge_is_the_nano_checker():
    problem = world.make_problems(1, seed=3)[0]
    assert judges.exact(problem["question"], problem["reference"]) == (True, "")
    sound, reason = judges.exact(problem["question"], "#### " + problem["answer"] + "0")
    assert sound is False
    assert reason
    with pytest.raises(ValueError, match="not a nano problem"):
        judges.exact("How many?", "#### 1")


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
