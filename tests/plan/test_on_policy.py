"""On-policy arms: what is refused before anything is paid, and the students that they have."""

import pytest
from made_tokenizers import made_checkpoint, made_tokenizer
from studies import taught_study

from wcse_lib.plan import make_plan
from wcse_lib.plan.on_policy import check_shared_tokens
from wcse_lib.store import StudyError
from wcse_lib.study import BY_ARMS

ARMS = {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}}


def scored_study(of="se", **changes):
    """A `taught_study` with an on-policy arm."""
    opd = {"on_policy": {"of": of, "learning_rate": 1e-4}}
    return taught_study(**{"arms": ARMS | {"opd": opd}} | changes)


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    students = {
        "small": {"model": "nano-student"},
        "wc": {"model": "nano-wc", "arms": ["se", "wc"]},
    }
    study = scored_study(students=students, recipes={"equal": {"n_examples": "equal"}})
    return make_plan(study, tmp_path_factory.mktemp("out"))


def test_the_arm_teaches_and_draws_nothing(planned):
    assert list(planned.plan.arms) == planned.study.order == ["se", "wc"]
    assert planned.plan.teachings == ["se", "wc", "opd"]
    taught = {
        name: (one.source, one.paradigm, one.learning_rate)
        for name, one in planned.plan.students.items()
        if one.arm == "opd"
    }
    # no other recipe, and no student whose arms leave it out
    expected = ("on_policy", "opd", 1e-4)
    assert taught == {"small.opd.low": expected, "small.opd.high": expected}


def test_its_students_wait_for_those_whose_cost_they_may_spend(planned):
    assert planned.plan.counterpart("small.opd.high") == "small.se.high"
    assert planned.path("04", "small.se.high") in planned.inputs("04", "small.opd.high")
    assert planned.path("04", "small.se.high") not in planned.inputs("04", "small.wc.high")
    assert {planned.student("small.se.high").source, "on_policy"} == set(BY_ARMS)


REFUSED = {
    "an arm that is not there": (
        {"of": "xl"},
        r"arms\.opd\.on_policy\.of: 'xl' is no arm with a local",
    ),
    "an endpoint": (
        {"arms": ARMS | {"wc": {"model": "gpt", "engine": "openai"}}, "of": "wc"},
        r"'wc' is no arm with a local model",
    ),
    "no students": ({"students": {}}, r"this study has none; remove it"),
    "unsloth": (
        {"training": {"amount": {"low": 1, "high": 2}, "backend": "unsloth"}},
        r"goes with training\.backend: trl alone",
    ),
    "a student without its counterpart": (
        {
            "students": {
                "small": {"model": "nano-student", "arms": ["wc", "opd"]},
                "wc": {"model": "nano-wc"},
            }
        },
        r"students\.small\.arms: opd may spend what learning from se's",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_scored_is_refused(case):
    changes, reason = dict(REFUSED[case][0]), REFUSED[case][1]
    of = changes.pop("of", "se")
    if "arms" in changes:
        changes["arms"] = changes["arms"] | {"opd": {"on_policy": {"of": of}}}
    with pytest.raises(StudyError, match=reason):
        scored_study(of, **changes)


def test_several_learning_rates_would_share_the_budget():
    students = {"small": {"model": "nano-student", "learning_rate": [1e-3, 1e-4]}}
    arms = ARMS | {"opd": {"on_policy": {"of": "se"}}}
    with pytest.raises(StudyError, match=r"arms\.opd\.on_policy\.learning_rate: one is needed"):
        taught_study(arms=arms, students=students)
    assert scored_study(students=students).on_policy_arms["opd"].learning_rate == 1e-4


def test_other_tokens_are_refused_before_anything_is_drawn(tmp_path):
    other = made_checkpoint(tmp_path / "other", made_tokenizer())
    students = {"small": {"model": "nano-student"}, "other": {"model": other}}
    with pytest.raises(
        StudyError, match=r"students\.other\.arms: opd compares .*tokenizers differ"
    ):
        check_shared_tokens(scored_study(students=students))
    apart = students | {"other": {"model": other, "arms": ["se", "wc"]}}
    check_shared_tokens(scored_study(students=apart))


def test_a_model_that_is_not_here_is_passed_over_by_a_dry_run():
    students = {"small": {"model": "nobody/nothing"}}
    check_shared_tokens(scored_study(students=students), may_fetch=False)
    with pytest.raises(OSError):
        check_shared_tokens(scored_study(students=students))
