"""Buying: the paper's exchange ratios, and samples that match a reference's by cost, examples or coverage."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wcse_lib.budget.buying import exchange, match, match_by_curves, matched_samples
from wcse_lib.budget.checkpoints import ModelSize
from wcse_lib.budget.costs import COST_MODELS, SampleCost, cost
from wcse_lib.study import Price

GEMMA_27B = ModelSize(27_000_000_000, 26_000_000_000, 27_000_000_000, 46, 4096)
GEMMA_9B = ModelSize(9_000_000_000, 8_500_000_000, 9_000_000_000, 42, 4096)


# ------------------------------------------------------------------------------------------------ the paper's numbers


@pytest.mark.parametrize(
    ("n", "se", "wc", "bought"),
    [
        (1, 27, 9, 3),
        (10, 27e9, 9e9, 30),
        (1, 10.5, 0.3, 35),
        (1, 0.3, 0.1 * 3, 1),
        (1, 0.1 * 3, 0.1, 3),
        (5, 2, 3, 3),
    ],
)
def test_matched_samples(n, se, wc, bought):
    assert matched_samples(n, se, wc) == bought


@given(st.integers(1, 10_000), st.floats(1e-9, 1e12), st.floats(1e-9, 1e12))
def test_never_overspends_and_wastes_less_than_one(n, se, wc):
    try:
        bought = matched_samples(n, se, wc)
    except ValueError:
        assert n * se < wc
    else:
        assert bought * wc <= n * se * (1 + 1e-9) < (bought + 1) * wc * (1 + 1e-8)


@pytest.mark.parametrize("bad", [0, -1, True, 1.0, 2.5, "2", None, math.nan])
def test_bad_counts_are_refused(bad):
    with pytest.raises(ValueError, match="se_samples"):
        matched_samples(bad, 27, 9)


@pytest.mark.parametrize("bad", [0, -1.0, math.nan, math.inf, True, "9", None, np.bool_(True)])
@pytest.mark.parametrize("key", ["se_cost", "wc_cost"])
def test_bad_costs_are_refused(bad, key):
    with pytest.raises(ValueError, match=key):
        matched_samples(1, **{"se_cost": 27, "wc_cost": 9, key: bad})


def test_nothing_bought_says_so_and_how_much_is_needed():
    with pytest.raises(ValueError, match=r"buys 0 samples.*at least 4 samples"):
        matched_samples(3, 1.0, 4.0)


# ------------------------------------------------------------------------------------------------ exchange


def test_unequal_lengths_by_hand():
    arms = {"se": SampleCost(300, 100, GEMMA_27B), "wc": SampleCost(450, 100, GEMMA_9B)}
    table = exchange("se", arms, 10, "once").query("arm == 'wc'").set_index("cost_model")
    ratio = table["exchange_ratio"]
    once = (27 * (10 * 300 + 100) - 9 * 100) / (9 * 450)  # samples for ten of the reference's
    assert ratio["paper"] == 3
    assert ratio["flops"] == pytest.approx(2)
    assert ratio["prompt·once"] == pytest.approx(once / 10)
    assert ratio["prompt·cached"] == ratio["prompt·once"]
    assert ratio["prompt·each"] == pytest.approx(27 * 400 / (9 * 550))
    assert ratio["count"] == 1
    assert ratio["tokens"] == pytest.approx(300 / 450)
    assert {name.partition("·")[0] for name in table.index} == set(COST_MODELS)


def test_what_an_arm_lacks_stands_in_place_of_what_is_left_out():
    arms = {"se": SampleCost(300, 100, GEMMA_27B), "wc": SampleCost(450, 100, GEMMA_9B)}
    table = exchange("se", arms, 10, "once").query("arm == 'wc'").set_index("cost_model")
    assert np.isnan(table.loc["price", "exchange_ratio"])
    assert "price" in table.loc["price", "leaves_out"]
    assert np.isnan(table.loc["seconds", "exchange_ratio"])
    assert "device_seconds" in table.loc["seconds", "leaves_out"]
    assert "buys 0" not in " ".join(table["leaves_out"])


def test_every_way_to_count_prompts_stands_once_whichever_the_study_takes():
    arms = {"se": SampleCost(300, 100, GEMMA_27B), "wc": SampleCost(450, 100, GEMMA_9B)}
    none, each = (exchange("se", arms, 10, prompt) for prompt in ("none", "each"))
    rows = none["cost_model"] == "prompt·once"
    assert none.loc[rows, "exchange_ratio"].equals(each.loc[rows, "exchange_ratio"])


def test_judging_is_noted_where_it_is_counted():
    judged = SampleCost(100, size=1e9, price=Price(model="m", output=1.0), judge={"usd": 0.002})
    arms = {"se": judged, "wc": SampleCost(100, 0, 1e9)}
    notes = exchange("se", arms).set_index(["cost_model", "arm"])["leaves_out"]
    assert "judging" in notes["price", "se"]
    assert not notes.xs("wc", level="arm").str.contains("judging").any()


# ------------------------------------------------------------------------------------------------ matching


def test_match_spends_all_but_part_of_a_sample():
    arms = {"se": SampleCost(300, 0, GEMMA_27B), "wc": SampleCost(280, 0, GEMMA_9B)}
    table = match("flops", "se", arms, {"low": 1, "high": 10}).set_index(["budget", "arm"])
    row = table.loc[("high", "wc")]
    assert row.n_samples == 10 * 27 * 300 // (9 * 280)
    assert 0 <= row.reference - row.planned < cost(arms["wc"], "flops")
    assert (table.loc[[("low", "se"), ("high", "se")], "n_samples"] == [1, 10]).all()
    assert match("count", "se", arms, {"low": 7})["n_samples"].tolist() == [7, 7]


def test_any_number_of_arms_and_prompts_counted_once():
    arms = {f"m{p}": SampleCost(100, 300, p * 1e9) for p in (27, 9, 3)}
    table = match("prompt", "m27", arms, {"low": 2}, prompt="once").set_index("arm")
    assert table.loc["m3", "n_samples"] == (27 * (300 + 200) - 3 * 300) // (3 * 100)
    assert (table["planned"] <= table["reference"] * (1 + 1e-12)).all()
    with pytest.raises(ValueError, match="m27: the budget buys 0"):
        match("flops", "m3", arms, {"low": 1})


def test_a_free_sample_cannot_be_matched():
    paid = SampleCost(100, price=Price(model="m", output=10.0))
    free = SampleCost(10, price=Price(model="free", output=0.0))
    with pytest.raises(ValueError, match="wc: another sample costs nothing"):
        match("price", "se", {"se": paid, "wc": free}, {"low": 1})


def test_match_by_examples():
    k = np.arange(1, 41)
    table = match_by_curves("examples", "se", {"se": 0.6 * k, "wc": 0.2 * k}, {"low": 10})
    row = table.set_index("arm").loc["wc"]
    assert row["n_samples"] == 30
    assert row["planned"] == pytest.approx(6)


def test_match_by_coverage():
    k = np.arange(1, 41)
    curves = {"se": 1 - 0.5**k, "wc": 1 - 0.8**k}
    table = match_by_curves("coverage", "se", curves, {"low": 2})
    assert table["n_samples"].tolist() == [2, 7]  # 1 - 0.8^7 = 0.79
    with pytest.raises(ValueError, match="wc: 40 samples miss se's coverage"):
        match_by_curves("coverage", "se", curves, {"low": 30})
    with pytest.raises(ValueError, match="curves"):
        match_by_curves("examples", "se", curves, {"low": 50})


def test_the_reference_has_to_be_an_arm():
    with pytest.raises(ValueError, match="reference = 'xl'"):
        match("count", "xl", {"se": SampleCost(1)}, {"low": 10})
    with pytest.raises(ValueError, match="reference = 'xl'"):
        exchange("xl", {"se": SampleCost(1)})
