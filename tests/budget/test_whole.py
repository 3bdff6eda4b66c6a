"""Counts of whole samples that use a budget: what is proposed where one arm wastes a part of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcse_lib import plan
from wcse_lib.budget.whole import MOST_UNUSED, NEAR, better_counts, counts
from wcse_lib.study import check_study

COSTS = {"se": 268_098_176.0, "wc": 134_515_008.0}  # 1.993 : 1


@pytest.mark.parametrize(("n", "bought", "unused"), [(4, 7, 0.1220), (10, 19, 0.0467)])
def test_what_a_ratio_just_under_two_wastes(n, bought, unused):
    found = counts(COSTS, "se", n)
    assert found.samples == {"se": n, "wc": bought}
    assert found.unused == pytest.approx(unused, abs=1e-4)


@pytest.mark.parametrize(("n", "wc", "se"), [(1, 2, 1), (2, 4, 2), (4, 8, 4)])
def test_the_cheap_arm_as_reference_wastes_next_to_nothing(n, wc, se):
    better = better_counts(COSTS, "se", n)
    assert (better.reference, better.samples) == ("wc", {"se": se, "wc": wc})
    assert better.unused == pytest.approx(0.0035, abs=1e-4)


costs = st.dictionaries(st.sampled_from("abc"), st.floats(0.1, 30), min_size=2)


@given(costs, st.integers(1, 12))
def test_a_proposal_is_near_and_no_arm_wastes_more_than_it_says(costs, n):
    reference = min(costs)
    better = better_counts(costs, reference, n)
    if better is None:
        return
    assert better.unused < MOST_UNUSED
    assert 1 / NEAR <= better.cost / (n * costs[reference]) * (1 + 1e-9) <= NEAR * (1 + 1e-6)
    for name, bought in better.samples.items():
        spent = bought * costs[name]
        assert bought >= 1 and spent <= better.cost * (1 + 1e-9)
        assert 1 - spent / better.cost <= better.unused + 1e-9


def study_of(reference: str, n: int, **budget):
    arms = {
        name: {"model": name, "engine": "openai", "n_parameters": size}
        for name, size in COSTS.items()
    }
    return check_study(
        {
            "study": "whole",
            "dataset": {"name": "nano", "n_train": 4},
            "arms": arms,
            "budget": {"reference": reference, "samples": {"low": n}, **budget},
        },
        "whole.yaml",
    )


def said(study) -> list[str]:
    return [
        line for line in plan.preview(study, plan_machine()).splitlines() if "used better" in line
    ]


def plan_machine():
    from wcse_lib.study import Machine

    return Machine(tflops=0.01)


def test_the_dry_run_proposes_counts():
    (line,) = said(study_of("se", 4))
    assert "budget.reference: wc with budget.samples.low: 8 buys se 4, wc 8" in line
    assert "0.3 % unused" in line or "0.4 % unused" in line


@pytest.mark.parametrize(
    "study",
    [study_of("se", 10), study_of("wc", 8), study_of("se", 4, match="count")],
    ids=["10", "8", "count"],
)
def test_nothing_is_proposed_where_little_is_wasted_or_counts_are_equal(study):
    assert said(study) == []


def test_the_plan_says_it_too(tmp_path):
    run = plan.make_plan(study_of("se", 4), tmp_path)
    assert any("budget.samples.low: 8 buys se 4, wc 8" in line for line in plan.limits(run))
