"""The corpus of the nano models holds what it says, and no question of a study."""

import random

import pytest

from tools.nano_models.corpus import TEXTBOOKS, WEB, document
from wcse_lib.nano import check
from wcse_lib.nano.world import is_study_question, parse


@pytest.mark.parametrize("authors", [TEXTBOOKS, WEB])
def test_no_study_question_is_in_the_corpus(authors):
    rng = random.Random(1)
    questions = [document(rng, authors)[0] for _ in range(800)]
    stories = [question for question in questions if parse(question)]
    assert len(stories) > 400
    assert not any(is_study_question(story) for story in stories)


def test_the_webs_mix_is_as_stated():
    rng = random.Random(2)
    n = n_terse = n_sloppy = 0
    while n < 1500:
        question, solution = document(rng, WEB)
        puzzle = parse(question)
        if puzzle and puzzle.level > 1:
            n += 1
            if solution.startswith("####"):
                n_terse += 1
            elif not check(question, solution).sound:
                n_sloppy += 1
    assert n_terse / n == pytest.approx(WEB["terse"], abs=0.05)
    assert n_sloppy / n == pytest.approx(WEB["sloppy"], abs=0.05)


def test_textbooks_are_sound():
    rng = random.Random(3)
    for _ in range(300):
        question, solution = document(rng, TEXTBOOKS)
        assert not parse(question) or check(question, solution).sound
