"""Forecasts of coverage and of distinct solutions: exact cases, planted partitions, calibration by simulation."""

import numpy as np
import pytest
from pilots import benchmark, calibration, pilot

from wcse_lib.forecast import forecast_coverage, forecast_unique
from wcse_lib.forecast.curves import distinct_moments


def test_forecast_agrees_with_the_exact_estimate_inside_the_pilot():
    n, c, rates = pilot(np.random.default_rng(2), 0.5, 1.0, problems=300)
    table = forecast_coverage(n, c, [1, 2, 4, 30]).set_index("k")
    assert table.loc[1, "value"] == pytest.approx((c / n).mean(), abs=0.01)
    assert table.loc[30, "low"] < (1 - (1 - rates) ** 30).mean() < table.loc[30, "high"]
    assert (table["low"] < table["value"]).all()
    assert (table["value"] < table["high"]).all()
    assert table["value"].is_monotonic_increasing


def width(table) -> float:
    return (table["high"] - table["low"]).item()


def test_unequal_sample_counts():
    n, c = np.array([4, 8, 8, 16, 2, 5]), np.array([0, 3, 8, 1, 2, 0])
    once = forecast_coverage(n, c, [10])
    often = forecast_coverage(np.tile(n, 20), np.tile(c, 20), [10])
    assert width(often) < width(once) / 2


@pytest.mark.parametrize("n_correct", [0, 8])
def test_nothing_and_everything_solved(n_correct):
    n, c = np.full(20, 8), np.full(20, n_correct)
    row = forecast_coverage(n, c, [1, 100]).iloc[0]
    assert 0 <= row.low <= row.value <= row.high <= 1


def test_160_failures_do_not_say_never():
    assert forecast_coverage(np.full(20, 8), np.zeros(20), [100])["high"].item() > 0.2


def test_a_study_of_few_problems_is_less_certain_and_false_positives_lower_it():
    n, c, _ = pilot(np.random.default_rng(3), 0.5, 1.0)
    population = forecast_coverage(n, c, [10])
    study = forecast_coverage(n, c, [10], n_problems=40)
    assert width(study) > 1.2 * width(population)
    sound = forecast_coverage(n, c, [10], false_positives=(25, 100))
    value = population["value"].item()
    assert value - 0.15 < sound["value"].item() < value - 0.01
    again = [forecast_coverage(n, c, [10], n_problems=40, seed=1) for _ in range(2)]
    assert again[0].equals(again[1])


@pytest.mark.parametrize(
    "n, c",
    [
        ([8, 8], [1]),
        ([8], [1]),
        ([8, 8], [1, 9]),
        ([8, 0], [1, 0]),
        ([8, 8.5], [1, 1]),
        ([8, 8], [-1, 1]),
    ],
)
def test_impossible_pilots_are_refused(n, c):
    with pytest.raises(ValueError, match="n, c"):
        forecast_coverage(n, c, [1])


@pytest.mark.parametrize("population", ["Beta(0.4, 0.8)", "half 0.5, half 0.02", "five levels"])
def test_intervals_hold_the_truth(population):
    held = calibration(population, 80, seed=4)["held"]
    assert (held > 0.85).all()  # 95 %, and some standard errors; benchmarks/ measures it


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("population", list(benchmark().POPULATIONS))
@pytest.mark.parametrize("kind", ["even", "adaptive"])
def test_intervals_or_bounds_hold_the_truth_of_every_population(population, kind):
    found = calibration(population, 300, pilot=benchmark().PILOTS[kind], seed=5)
    held = found[["held", "bounds_held"]].max(axis=1)
    assert (held > 0.9 - 3 * np.sqrt(0.1 * 0.9 / 300)).all()


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "kind, name", [(kind, name) for kind, parts in benchmark().OTHERS.items() for name in parts]
)
def test_intervals_of_mixes_and_unique_solutions_hold_what_comes(kind, name):
    assert benchmark().OTHERS[kind][name](500)["held"] > 0.92  # 95, and three standard errors


# ------------------------------------------------------------------------------------------------ unique solutions


def test_unique_solutions_follow_the_partition_that_made_them():
    rng, d, theta, groups, counts = np.random.default_rng(6), 0.4, 3.0, [], []
    rates = rng.beta(2, 2, 300)
    truth = np.zeros(300)
    for i, p in enumerate(rates):  # draw 40 samples a problem, show the first 8 to the forecast
        sizes, correct = [], rng.random(40) < p
        for at, good in enumerate(correct):
            if at == 8:
                groups.append(list(sizes))
            if good:
                weights = np.array([*(s - d for s in sizes), theta + d * len(sizes)])
                chosen = rng.choice(len(weights), p=weights / weights.sum())
                sizes[chosen:] = (
                    [sizes[chosen] + 1, *sizes[chosen + 1 :]] if chosen < len(sizes) else [1]
                )
        counts.append(sum(groups[-1]))
        truth[i] = len(sizes)
    table = forecast_unique(np.full(300, 8), counts, groups, [1, 8, 40]).set_index("k")
    assert table.loc[8, "value"] == pytest.approx(np.mean([len(g) for g in groups]), abs=0.2)
    assert table.loc[40, "low"] - 0.5 < truth.mean() < table.loc[40, "high"] + 0.5
    assert table.loc[1, "value"] == pytest.approx(rates.mean(), abs=0.05)
    study = forecast_unique(np.full(300, 8), counts, groups, [1, 8, 40], n_problems=30).set_index(
        "k"
    )
    assert (
        (study["high"] - study["low"]) > 1.8 * (table["high"] - table["low"])
    ).all()  # few problems, less certain
    mean, square = distinct_moments(np.array([d]), np.array([theta]), 12)
    seen = np.array([len(benchmark().distinct(12, d, theta, rng)) for _ in range(3000)])
    assert mean[0, 12] == pytest.approx(seen.mean(), abs=0.15)
    assert square[0, 12] == pytest.approx((seen**2.0).mean(), rel=0.05)
    with pytest.raises(ValueError, match="groups"):
        forecast_unique([8, 8], [2, 1], [[1, 1], [2]], [1])


def test_tables_are_tidy():
    n, c, _ = pilot(np.random.default_rng(12), 1, 1, problems=20)
    table = forecast_coverage(n, c, [1, 3])
    assert list(table.columns) == ["k", "value", "low", "high"]
