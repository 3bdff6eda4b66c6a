"""Stories: what they tell adds up, their solutions say the answer, and no question comes twice."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcse_lib import answers
from wcse_lib.nano.stories import LARGEST, LARGEST_GIVEN, LEVELS, NAMES, make_stories
from wcse_lib.plan.problems import load_problems
from wcse_lib.sample.prompts import prompt_text, shots, stops
from wcse_lib.study import Dataset, Prompt
from wcse_lib.verify.arithmetic import judge_arithmetic

EXAMPLES = Prompt(style="plain", template="Question: {question}\nAnswer:\n", shots="stories_2shot")
EQUATION = re.compile(r"(\d+) ([-+*]) (\d+) = (\d+)")
COUNTS = {"+": int.__add__, "-": int.__sub__, "*": int.__mul__}


def told(question: str) -> int:
    """The answer, worked out from the question alone: a number each person, changed sentence by sentence."""
    *sentences, ask = re.findall(r"[^.?]+[.?]", question)
    owned: dict[str, int] = {}
    for sentence in map(str.strip, sentences):
        (n,) = map(int, re.findall(r"\d+", sentence))
        who = [word for word in re.findall(r"\w+", sentence) if word in NAMES]
        if "more" in sentence and "than" in sentence:
            owned[who[0]] = owned[who[1]] + n
        elif "fewer" in sentence:
            owned[who[0]] = owned[who[1]] - n
        elif "times" in sentence:
            owned[who[0]] = owned[who[1]] * n
        elif " has " in sentence:
            owned[who[0]] = n
        elif re.search(r"gives [A-Z]", sentence):
            owned[who[1]] += n
        elif re.search(r"buys|finds", sentence):
            owned[who[0]] += n
        else:
            owned[who[0]] -= n
    return sum(owned[name] for name in re.findall(r"\w+", ask) if name in NAMES)


@given(st.integers(0, 2**32), st.sampled_from(LEVELS))
def test_a_story_adds_up(seed, level):
    for problem in make_stories(5, seed, [level]):
        assert told(problem["question"]) == int(problem["answer"]), problem
        equations = EQUATION.findall(problem["reference"])
        assert len(equations) == level == int(problem["level"])
        for left, sign, right, result in equations:
            assert COUNTS[sign](int(left), int(right)) == int(result)
            assert 1 <= int(result) <= LARGEST
        assert answers.extract(problem["reference"]) == problem["answer"] == equations[-1][-1]
        assert judge_arithmetic(problem["reference"])[0] is True
        assert max(map(int, re.findall(r"\d+", problem["question"]))) <= LARGEST_GIVEN


def test_the_same_seed_gives_the_same_problems_and_another_seed_others():
    first, again, other = make_stories(60, 1), make_stories(60, 1), make_stories(60, 2)
    assert first == again
    questions = [{row["question"] for row in rows} for rows in (first, other)]
    assert len(questions[0]) == 60 and len(questions[0] & questions[1]) < 5
    assert [row["level"] for row in first[:4]] == ["1", "2", "1", "2"]


def test_every_kind_of_step_is_drawn():
    asked = " ".join(row["question"] for row in make_stories(300, 0, [1]))
    for words in "buys gives finds loses sells more fewer times together left".split():
        assert words in asked


def test_skipped_questions_do_not_come_again():
    first = {row["question"] for row in make_stories(50, 3)}
    assert not first & {row["question"] for row in make_stories(200, 3, skip=first)}


def test_a_level_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="level 3: stories have levels 1 and 2"):
        make_stories(1, 0, [1, 3])


def test_a_dataset_of_stories_keeps_its_splits_apart():
    sizes = {"n_train": 40, "n_validation": 10, "n_held_out": 30}
    splits, dropped = load_problems(Dataset(name="stories", levels=[1], **sizes), seed=5)
    found = {name: set(splits[name]["question"]) for name in ("train", "validation", "held_out")}
    assert [len(found[name]) for name in found] == list(sizes.values()) and dropped == []
    assert len(set.union(*found.values())) == 80
    assert set(splits["train"]["level"]) == {"1"}


def test_levels_are_checked_when_the_params_file_is_read():
    with pytest.raises(ValueError, match="name: stories has levels 1 to 2"):
        Dataset(name="stories", n_train=1, levels=[3])


def test_the_worked_examples_are_stories_of_people_that_no_story_knows():
    text = shots(EXAMPLES)
    questions, solutions = text.split("Question: ")[1:], []
    for example in questions:
        question, solution = example.split("\nAnswer:\n")
        solutions.append(solution.replace("{question}", "").strip())
        assert not set(re.findall(r"\w+", question)) & set(NAMES)
        assert judge_arithmetic(solutions[-1])[0] is True
        assert EQUATION.findall(solutions[-1])[-1][-1] == answers.extract(solutions[-1])
    assert len(solutions) == 2
    asked = prompt_text("How many?", EXAMPLES)
    assert asked.endswith("The answer is 11.\n\nQuestion: How many?\nAnswer:\n")
    assert stops(EXAMPLES, ["\n\n"]) == ("\n\n",)
