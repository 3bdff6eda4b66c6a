"""Nano problems read back into their facts, and the checker refuses every wrong line and no right one."""

import random
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wcse_lib.nano.world import (
    LEVELS,
    check,
    is_study_question,
    make_problems,
    make_puzzle,
    parse,
    solve,
)

seeds = st.integers(0, 2**32)
levels = st.sampled_from(LEVELS)


@given(seeds, levels)
def test_question_reads_back_into_its_facts(seed, level):
    puzzle = make_puzzle(random.Random(seed), level)
    assert parse(puzzle.question) == puzzle
    assert puzzle.level == level


@given(seeds, levels)
def test_own_solutions_are_sound_and_answer_gold(seed, level):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    for _ in range(5):
        text = solve(puzzle, rng)
        assert check(puzzle.question, text).sound, check(puzzle.question, text).reason
        assert text.endswith(f"#### {puzzle.answer}")
        assert text.count("=") == 2 * level


@given(seeds, levels)
def test_a_slip_is_never_sound(seed, level):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    assert not check(puzzle.question, solve(puzzle, rng, slips=1)).sound


def changed(text: str, place: re.Match, other: object) -> str:
    return f"{text[: place.start()]}{other}{text[place.end() :]}"


@settings(max_examples=300)
@given(seeds, levels, st.data())
def test_any_changed_number_is_unsound(seed, level, data):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    text = solve(puzzle, rng)
    place = data.draw(st.sampled_from(list(re.finditer(r"\d+", text))))
    other = data.draw(st.integers(0, 250).filter(lambda n: n != int(place[0])))
    assert not check(puzzle.question, changed(text, place, other)).sound


@given(seeds, levels, st.data())
def test_a_changed_operator_is_unsound(seed, level, data):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    text = solve(puzzle, rng)
    place = data.draw(st.sampled_from(list(re.finditer(r"[-+*]", text))))
    other = data.draw(st.sampled_from([op for op in "+-*" if op != place[0]]))
    assert not check(puzzle.question, changed(text, place, other)).sound


@given(seeds, st.sampled_from(LEVELS[1:]))
def test_use_before_derivation_is_unsound(seed, level):
    """Every order of the lines that a topological order does not allow is refused; every other one is accepted."""
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    *steps, final = solve(puzzle, rng).split("\n")
    people = [s for s in steps if not s.startswith("total")]
    rest = steps[len(people) :]
    order = rng.sample(people, len(people))
    by_name = {f.name: f for f in puzzle.facts}
    seen = {f.name for f in puzzle.facts if not f.op}
    allowed = True
    for line in order:
        name = line.split()[0]
        allowed &= all(ref in seen for ref in by_name[name].refs)
        seen.add(name)
    assert check(puzzle.question, "\n".join([*order, *rest, final])).sound == allowed


@given(seeds, st.sampled_from(LEVELS[1:]), st.data())
def test_a_left_out_step_is_unsound(seed, level, data):
    rng = random.Random(seed)
    puzzle = make_puzzle(rng, level)
    lines = solve(puzzle, rng).split("\n")
    del lines[data.draw(st.integers(0, len(lines) - 2))]
    result = check(puzzle.question, "\n".join(lines))
    assert not result.sound


QUESTION = (
    "Ann has 12 pens. Tom has 7 pens more than Ann has. Eva has 2 times as many pens as Tom has. "
    "How many pens do Tom and Eva have in total?"
)
TOM, EVA, TOTAL = "Tom has 7+Ann =7+12=19", "Eva has 2*Tom =2*19=38", "total is Eva +Tom =38+19=57"
STEPS = [TOM, EVA, TOTAL]
NO_FACT = "does not follow from the question"
NO_ANSWER = "the final answer does not follow"


@pytest.mark.parametrize("lines", [[*STEPS, "#### 57"], ["Ann has 12", *STEPS, "#### 57"]])
def test_sound_solutions_by_hand(lines):
    assert check(QUESTION, "\n".join(lines)).sound


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        ([], NO_ANSWER),
        ([EVA, TOM, TOTAL], "not known yet"),
        ([TOM, TOTAL], "not known yet"),
        ([TOM, EVA], NO_ANSWER),
        ([TOM, EVA, "Tom has 19"], NO_ANSWER),
        ([*STEPS, "#### 57"], "not a step: #### 57"),
        (["I think so", *STEPS], "not a step"),
        (["Tom has 20", *STEPS], "restates a number that is not known"),
        (["Bob has 1+1=1+1=2", *STEPS], NO_FACT),
        (["Ann has 7+7=7+7=14", *STEPS], NO_FACT),
        (["Tom has Ann -7=12-7=5", *STEPS], NO_FACT),
        (["Tom has 7+Ann =7+13=20", *STEPS], "another number"),
        (["Tom has 7+Ann =7+12=20", *STEPS], "wrong arithmetic"),
        ([TOM, EVA, "total is Eva +Tom =38-19=57"], "another number"),
        ([TOM, EVA, "total is Tom +Tom =19+19=38"], NO_FACT),
        ([TOM, EVA, "total is Ann +Tom =12+19=31"], NO_FACT),
        (["total is total+Tom =0+19=19", *STEPS], "not a step"),
        (["total is total +Tom =0+19=19", *STEPS], NO_FACT),
    ],
)
def test_unsound_solutions_by_hand(lines, reason):
    result = check(QUESTION, "\n".join([*lines, "#### 57"]))
    assert not result.sound
    assert reason in result.reason


@pytest.mark.parametrize(
    ("last", "reason"),
    [("#### 38", NO_ANSWER), ("and more", "no final answer"), ("", "no final answer")],
)
def test_the_last_line_is_the_number_asked_for(last, reason):
    result = check(QUESTION, "\n".join([*STEPS, last]))
    assert not result.sound
    assert reason in result.reason


def test_an_empty_solution_has_no_answer():
    assert check(QUESTION, "").reason == "no final answer in the last line"


@pytest.mark.parametrize(
    "text",
    [
        "What is love?",
        "Ann has 3 pens.",
        "Ann has 3 pens. Ann has 4 pens. How many pens does Ann have?",
        "Ann has 3 pens. How many pens does Bob have?",
        "Ann has 3 pens more than Bob has. Bob has 3 pens more than Ann has. How many pens does Bob have?",
        "Ann has 3 pens more than Bob has. How many pens does Ann have?",
        "Ann has 3 pens. Really. How many pens does Ann have?",
    ],
)
def test_what_is_no_nano_problem_is_not_checked(text):
    assert parse(text) is None
    with pytest.raises(ValueError, match="not a nano problem"):
        check(text, "#### 3")


@pytest.mark.parametrize(
    "text",
    [
        "\0" * 10,
        "Tom has " + "9" * 5000 + "+1=2\n#### 3",
        "####",
        "\n\n\n",
        "#### ٣",
        "Tom has 7+Ann =7+12=19\r\n#### 19",
    ],
)
def test_checker_survives_hostile_text(text):
    question = make_puzzle(random.Random(0), 3).question
    assert check(question, text).sound is False


def test_problems_are_seeded_and_distinct():
    rows = make_problems(200, 7)
    assert rows == make_problems(200, 7)
    assert rows[:50] == make_problems(50, 7)
    assert rows != make_problems(200, 8)
    assert len({row["question"] for row in rows}) == 200
    assert len({row["problem_id"] for row in rows}) == 200
    assert all(is_study_question(row["question"]) for row in rows)
    assert [row["level"] for row in rows[:5]] == ["1", "2", "3", "4", "1"]
