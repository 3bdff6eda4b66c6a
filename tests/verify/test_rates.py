"""False-positive rates: counted by problem, and corrected for a model's errors, against simulation."""

import numpy as np
import pandas as pd
import pytest

from wcse_lib import intervals
from wcse_lib.verify import rates


def corrected_rate(*pairs):
    """Of independent samples: one a problem, each in one of the three rates."""
    apart = [np.repeat(np.arange(3), [n for _, n in pairs]) == i for i in range(3)]
    return rates.corrected_rate(
        *((own * (own.cumsum() <= k), own) for own, (k, _) in zip(apart, pairs))
    )


def test_corrected_rate_undoes_the_judges_errors():
    value, low, high = corrected_rate((2_600, 10_000), (8_000, 10_000), (9_000, 10_000))
    assert value == pytest.approx((0.26 + 0.9 - 1) / 0.7)
    assert low < value < high
    assert high - low < 0.05
    _, low_small, high_small = corrected_rate((2_600, 10_000), (16, 20), (18, 20))
    assert high_small - low_small > 2 * (
        high - low
    )  # the calibration sample's uncertainty is carried
    assert corrected_rate((0, 50), (10, 10), (10, 10)).value == 0
    value, low, high = corrected_rate((18, 20), (6, 10), (5, 10))
    assert (
        low <= value == high == 1
    )  # hardly better than chance: the value is cut, and stays inside
    value, low, high = corrected_rate((5, 20), (5, 10), (5, 10))
    assert np.isnan(value)
    assert low < 0.05
    assert high > 0.9
    with pytest.raises(ValueError, match="specificity"):
        rates.corrected_rate(([5], [20]), ([5], [10]), ([11], [10]))


def test_corrected_rate_covers_the_truth():
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(200):
        flagged, se, sp = rng.binomial([200, 60, 60], [0.2 * 0.8 + 0.8 * 0.1, 0.8, 0.9])
        _, low, high = corrected_rate((flagged, 200), (se, 60), (sp, 60))
        hits += low <= 0.2 <= high
    assert 0.91 <= hits / 200 <= 0.995


def test_intervals_know_that_samples_of_a_problem_share_their_faults():
    """30 samples of each of 240 problems, unevenly solved, judged right by one and with errors by another.

    95 % intervals of independent samples would hold the truth in 69 % of studies.
    """
    hits, n = np.zeros(2), 120
    for i in range(n):
        rng = np.random.default_rng([i, 9])
        kept = rng.binomial(30, rng.beta(0.5, 1.6, 240))
        false = rng.binomial(kept, rng.beta(0.64, 3.36, 240))
        caught, passed, known = (
            rng.binomial(false, rng.beta(7, 3, 240)),
            rng.binomial(kept - false, rng.beta(18, 2, 240)),
            rng.random(240) < 0.4,
        )
        sums = pd.DataFrame(
            {"author": "a", "problem_id": range(240), "n": kept, "n_undecided": 0, "reason": ""}
        )
        said = sums.assign(
            corrected_by="human",
            n_false=caught + kept - false - passed,
            flawed=false * known,
            caught=caught * known,
            sound=(kept - false) * known,
            passed=passed * known,
        )
        table = pd.concat(
            [
                rates.false_positive_table(sums.assign(judge="exact", n_false=false), i),
                rates.corrected_table(said, i),
            ]
        )
        hits += (table["low"] <= 0.16) & (0.16 <= table["high"])
    assert (0.9 <= hits / n).all()
    assert (hits / n <= 0.995).all()


def test_false_positive_table():
    frame = pd.DataFrame(
        {
            "author": ["a"] * 5 + ["b"] * 2,
            "problem_id": list("12345") + list("12"),
            "sample_index": 0,
            "sound": pd.array([True, False, None, True, True, None, None], "boolean"),
            "judge": ["human"] * 5 + ["arithmetic", "human"],
            "reason": "nobody was sure",
        }
    )
    sums = rates.by_problem(frame)
    table = rates.false_positive_table(sums).set_index(["author", "judge"])
    human = table.loc[("a", "human")]
    assert (human["n"], human["n_false"], human["n_undecided"]) == (4, 1, 1)
    expected = intervals.ratio([0, 1, 0, 0], [1, 1, 1, 1])
    assert (human["value"], human["low"], human["high"]) == tuple(expected)
    pieces = [
        rates.by_problem(frame.assign(sample_index=i)) for i in range(3)
    ]  # rows of one problem are added
    copied = (
        rates.false_positive_table(pd.concat(pieces))
        .set_index(["author", "judge"])
        .loc[("a", "human")]
    )
    assert (copied["n"], copied["value"], copied["low"]) == (12, 0.25, pytest.approx(human["low"]))
    assert table.loc[("b", "arithmetic"), "n"] == 1
    assert table.loc[("b", "human"), "n"] == 0
    assert np.isnan(table.loc[("b", "human"), "value"])
    assert table.loc[("b", "human"), "high"] == 1
    assert table.loc[("b", "human"), "reading"] == "nothing decided; nobody was sure"
    assert "lower bound" in table.loc[("b", "arithmetic"), "reading"]
    with pytest.raises(ValueError, match="repeated judgement"):
        rates.by_problem(pd.concat([frame, frame.head(1)]))


def test_a_model_judge_is_corrected_where_others_judged_too():
    rng = np.random.default_rng(0)
    flawed = rng.random(3000) < 0.2
    model = np.where(
        flawed, rng.random(3000) < 0.7, rng.random(3000) < 0.1
    )  # misses 30 %, finds 10 % that are none
    key = {
        "author": "a",
        "problem_id": [f"p{i}" for i in range(3000)],
        "sample_index": 0,
        "reason": "",
    }
    said = pd.DataFrame({**key, "judge": "model", "sound": pd.array(~model, "boolean")})
    said.loc[:99, "sound"] = pd.NA
    people = pd.DataFrame({**key, "judge": "human", "sound": pd.array(~flawed, "boolean")}).iloc[
        50:650
    ]
    table = rates.corrected_table(rates.calibration(pd.concat([said, people])))
    raw = rates.false_positive_table(rates.by_problem(said))
    (row,) = table.itertuples()
    assert (row.judge, row.corrected_by) == ("model", "human")
    assert (row.n, row.n_undecided) == (2900, 100)
    assert raw["low"].item() > 0.2 or raw["value"].item() - 0.2 > 0.01  # uncorrected it is off
    assert row.low < 0.2 < row.high
    assert abs(row.value - 0.2) < 0.05
    assert row.high - row.low > 2 * (raw["high"] - raw["low"]).item()
    flagged = int(model[100:650][flawed[100:650]].sum())
    assert f"flags {flagged} of {flawed[100:650].sum()} flawed" in row.reading
    (row,) = rates.corrected_table(
        rates.calibration(pd.concat([said, people[people["sound"]]]))
    ).itertuples()
    assert np.isnan(row.value)
    assert "flags 0 of 0 flawed" in row.reading
    assert rates.corrected_table(rates.calibration(said)).empty
