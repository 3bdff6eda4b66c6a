"""What to buy: arms that cross, recommendations, and mixes of arms that solve alike or differently."""

import numpy as np
import pytest
from pilots import pilot, two_arms

from wcse_lib import forecast
from wcse_lib.forecast import best_mix, forecast_coverage


def test_recommendation():
    pilots, costs, (strong, weak) = two_arms()
    table = forecast.recommend(pilots, costs, 30)
    assert table["arm"].tolist() == ["wc", "se"]
    assert table["k"].tolist() == [30, 10]
    assert table["p_best"].sum() == pytest.approx(1)
    assert 0.5 < table["p_best"][0] < 1
    truth = {"se": (1 - (1 - strong) ** 10).mean(), "wc": (1 - (1 - weak) ** 30).mean()}
    assert all(row.low < truth[row.arm] < row.high for row in table.itertuples())
    with pytest.raises(ValueError, match="se: 2 buys no sample at 3"):
        forecast.recommend(pilots, costs, 2)


def test_crossing():
    """The weak arm solves little, but the strong one never solves half."""
    n, rng = np.full(200, 8), np.random.default_rng(8)
    pilots = {
        "se": (n, rng.binomial(8, np.repeat([0, 0.9], 100))),
        "wc": (n, rng.binomial(8, rng.beta(2, 18, 200))),
    }
    found = forecast.crossing(pilots, {"se": 3.0, "wc": 1.0}, np.geomspace(3, 300, 60))
    drawn = np.arange(300)
    weak = 1 - np.cumprod((18 + drawn) / (20 + drawn))  # coverage after 1, 2 … samples, exactly
    true = 1 + np.argmax(weak > 0.5)
    assert found["low"] <= true <= found["high"]
    assert found["p_crossing"] > 0.95
    assert found["p_ahead"][0] < 0.05
    assert found["p_ahead"][-1] > 0.95


def test_best_mix_of_complementary_and_of_equal_arms():
    n = np.full(100, 8)
    halves = {
        "se": (n, np.repeat([6, 0], 50)),
        "wc": (n, np.repeat([0, 6], 50)),
    }  # each solves what the other cannot
    table = best_mix(halves, {"se": 3.0, "wc": 1.0}, 30)
    best = table.iloc[0]
    assert min(best["se"], best["wc"]) >= 1
    assert best["value"] > 0.9
    assert best["p_beats_single"] > 0.99
    assert best["low"] < best["value"] < best["high"]
    assert (table["cost"] <= 30 * (1 + 1e-9)).all()
    alone = table.query("se == 0")["value"].item()
    assert 0.5 < alone < 0.62  # 400 failures do not exclude small rates, and these are 30 samples
    pilots, costs, (strong, weak) = two_arms(500)
    table = best_mix(pilots, costs, 12).set_index(["se", "wc"])["value"]
    for (n_strong, n_weak), value in table.items():
        true = (1 - (1 - strong) ** n_strong * (1 - weak) ** n_weak).mean()
        assert value == pytest.approx(true, abs=0.06)
    with pytest.raises(ValueError, match="same problems"):
        best_mix({"a": ([8, 8], [1, 2]), "b": ([8, 8, 8], [1, 2, 3])}, {"a": 1, "b": 1}, 4)


def test_a_mix_of_one_arm_with_itself_is_as_uncertain_as_the_arm():
    n, c, _ = pilot(np.random.default_rng(13), 0.6, 1.2)
    alone = forecast_coverage(n, c, [15], n_problems=300).iloc[0]
    value, low, high = forecast.forecast_mix({"a": (n, c), "b": (n, c)}, {"a": 5, "b": 10}, 300)
    assert value == pytest.approx(alone.value, abs=0.02)
    assert high - low == pytest.approx(alone.high - alone.low, rel=0.15)
    apart = forecast.forecast_mix(
        {"a": (n, c), "b": (n, np.random.default_rng(0).permutation(c))}, {"a": 5, "b": 10}, 300
    )
    assert apart[0] > value + 0.03  # arms that solve different problems solve more together


def test_three_arms_mix():
    pilots = {
        name: (np.full(40, 8), np.random.default_rng(i).integers(0, 9, 40))
        for i, name in enumerate("abc")
    }
    table = best_mix(pilots, {"a": 1.0, "b": 1.0, "c": 1.0}, 4)
    assert len(table) == 15
    assert (table[["a", "b", "c"]].sum(axis=1) == 4).all()
