"""The comparison that a params file names as its headline: what is refused, and what 01 says of it."""

import pytest
from studies import taught_study

from wcse_lib.plan import headline_sentences
from wcse_lib.store import StudyError

PRIMARY = {"arms": ["wc", "se"], "budget": "high"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"arms": ["wc", "xx"]}, "primary.arms: 'xx' is no arm; arms are se, wc"),
        ({"arms": ["wc", "wc"]}, "primary.arms: 'wc' stands twice"),
        ({"arms": ["wc"]}, "primary.arms"),
        ({"budget": "huge"}, "primary.budget: 'huge' is no budget; budgets are low, high"),
        ({"base": "xx"}, "primary.base: 'xx' is no student; students are "),
        ({"bugdet": "high"}, "primary.bugdet"),
    ],
    ids=["arm", "twice", "one arm", "budget", "student", "key"],
)
def test_what_the_study_cannot_compare_is_refused(change, message):
    with pytest.raises(StudyError, match=message):
        taught_study(primary=PRIMARY | change)


def test_a_student_that_learns_from_one_of_them_is_refused():
    students = {
        "small": {"model": "nano-student", "arms": ["se"]},
        "wc": {"model": "nano-wc", "arms": ["wc"]},
    }
    with pytest.raises(StudyError, match="primary.arms: no student learns from both wc and se"):
        taught_study(primary=PRIMARY, students=students)
    students["wc"]["arms"] = ["se", "wc"]
    taught_study(primary=PRIMARY, students=students)
    with pytest.raises(StudyError, match="primary.arms: no student small learns from both wc"):
        taught_study(primary=PRIMARY | {"base": "small"}, students=students)


def test_a_study_without_students_has_none():
    with pytest.raises(StudyError, match="primary: compares students, and this study has none"):
        taught_study(primary=PRIMARY, students={})


def test_01_says_which_comparison_is_the_headline():
    none, _ = headline_sentences(taught_study())
    assert "one of 2 that are corrected together (Holm)" in none
    named, looks = headline_sentences(taught_study(primary=PRIMARY))
    assert (
        "The headline is wc against se at the budget “high”, of the mean over all students" in named
    )
    assert "1 others are secondary" in named
    assert "may be looked at once (training.looks)" in looks
    of_one, _ = headline_sentences(taught_study(primary=PRIMARY | {"base": "small"}))
    assert "of student small" in of_one
    (alone,) = headline_sentences(taught_study(students={}))
    assert "cannot tell which data train better" in alone
