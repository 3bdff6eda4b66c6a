"""Costs: FLOPs by hand, every cost model by hand, and what is lacking for one."""

import pytest

from wcse_lib.budget.costs import (
    COST_MODELS,
    SampleCost,
    cost,
    sampling_flops,
    training_flops,
)
from wcse_lib.study import Price

ARM = SampleCost(
    100,
    size=1e9,
    device_seconds=2.0,
    price=Price(model="m", output=10.0),
    judge={"usd": 0.002, "flops": 1e9, "seconds": 0.5},
)


@pytest.mark.parametrize(
    ("prompt", "tokens"), [("each", 1400), ("once", 1040), ("none", 1000), ("cached", 1040)]
)
def test_sampling_flops_by_hand(prompt, tokens):
    assert sampling_flops(9e9, 100, 40, 10, prompt) == 2 * 9e9 * tokens


def test_attention_by_hand():
    context = sum(range(41, 61)) - 20 / 2  # 20 tokens after 40, each counted at its middle
    assert sampling_flops(1, 20, 40, 1, "none", 3, 8) == 2 * 20 + 4 * 3 * 8 * context


def test_impossible_samplings_are_refused():
    with pytest.raises(ValueError, match="twice"):
        sampling_flops(9e9, 100, prompt="twice")
    with pytest.raises(ValueError, match="n_tokens"):
        sampling_flops(9e9, -1)


def test_training_flops_by_hand():
    assert training_flops(1e9, 1000) == 6e12
    assert training_flops(1e9, 1000, 1e7) == (4e9 + 2e7) * 1000


def test_judges_are_charged_where_they_are_known():
    assert cost(ARM, "price", 4) == pytest.approx(4 * (0.001 + 0.002))
    assert cost(ARM, "seconds", 4) == 8
    assert cost(ARM, "prompt") == 2e11 + 1e9
    assert cost(ARM, "flops") == 2e11


def test_what_is_lacking_is_named():
    with pytest.raises(ValueError, match="no cost model; choose of count, paper"):
        cost(ARM, "luck")
    with pytest.raises(
        ValueError, match="by attention: the arm has no size read from a checkpoint"
    ):
        cost(ARM, "attention")
    with pytest.raises(ValueError, match="by seconds: the arm has no device_seconds"):
        cost(SampleCost(1), "seconds")
    with pytest.raises(ValueError, match="m: price 'output' = -10"):
        cost(SampleCost(100, price=Price(model="m", output=-10)), "price")


@pytest.mark.parametrize(
    ("facts", "key"),
    [
        ({"n_tokens": 0}, "n_tokens"),
        ({"n_tokens": 1, "size": 0}, "size"),
        ({"n_tokens": 1, "device_seconds": 0}, "device_seconds"),
        ({"n_tokens": 1, "judge": {"usd": -1}}, "judge.usd"),
    ],
)
def test_impossible_samples_are_refused(facts, key):
    with pytest.raises(ValueError, match=key):
        SampleCost(**facts)


def test_every_cost_model_says_what_it_leaves_out():
    assert all(model.unit and model.leaves_out for model in COST_MODELS.values())


def test_a_price_of_a_sample_counts_no_token():
    paid = SampleCost(
        n_tokens=700, n_prompt_tokens=90, price=Price(model="m", output=0.0, sample=0.004)
    )
    assert cost(paid, "price", 3, "none") == pytest.approx(0.012)
