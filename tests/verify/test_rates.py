"""False-positive rates: counted by problem, and corrected for a model's errors, against simulation."""

import numpy as np
import pandas as pd
import pytest

from wcse_lib import intervals
from wcse_lib.verify import rates


def corrected_rate(flagged, of_flagged, of_passed):
    """Of independent samples, one a problem; the labelled ones are the first of those flagged, and of those passed."""
    n_flagged, n = flagged
    is_flagged = np.arange(n) < n_flagged
    counts = [(is_flagged, np.ones(n))]
    for kind, (n_flawed, n_known) in ((is_flagged, of_flagged), (~is_flagged, of_passed)):
        place = kind.cumsum() * kind
        is_known = (place > 0) & (place <= n_known)
        counts.append((is_known & (place <= n_flawed), is_known))
    return rates.corrected_rate(*counts)


def test_corrected_rate_weighs_what_the_judge_flags_and_passes():
    value, low, high = corrected_rate((2_600, 10_000), (160, 200), (10, 100))
    assert value == pytest.approx(0.26 * 0.8 + 0.74 * 0.1)
    assert low < value < high
    few = corrected_rate((2_600, 10_000), (16, 20), (1, 10))
    assert few.value == pytest.approx(value)
    assert few.high - few.low > 2 * (high - low)
    none = corrected_rate((0, 50), (0, 0), (0, 10))
    assert none.value == none.low == 0
    assert 0.05 < none.high < 0.4
    every = corrected_rate((50, 50), (10, 10), (0, 0))
    assert every.value == every.high == 1


def test_a_kind_without_labels_has_no_rate():
    assert np.isnan(tuple(corrected_rate((5, 20), (2, 3), (0, 0)))).all()
    assert np.isnan(tuple(corrected_rate((5, 20), (0, 0), (1, 9)))).all()
    with pytest.raises(ValueError, match="of_passed"):
        rates.corrected_rate(([5], [20]), ([5], [10]), ([11], [10]))
    with pytest.raises(ValueError, match="flagged"):
        rates.corrected_rate(([0, 0], [0, 0]), ([0, 0], [0, 0]), ([0, 0], [0, 0]))


def test_all_labelled_is_the_plain_rate():
    """With every sample labelled the judge adds nothing: the interval is that of the labels alone."""
    rng = np.random.default_rng(3)
    n = rng.integers(1, 9, 300)
    flawed = rng.binomial(n, rng.beta(1, 4, 300))
    caught, false = rng.binomial(flawed, 0.7), rng.binomial(n - flawed, 0.1)
    flagged = caught + false, n
    value, low, high = rates.corrected_rate(
        flagged, (caught, caught + false), (flawed - caught, n - caught - false)
    )
    plain = intervals.ratio(flawed, n)
    assert value == pytest.approx(plain.value)
    assert (low, high) == pytest.approx((plain.low, plain.high), abs=0.01)


@pytest.mark.parametrize("share_of_flagged", [None, 0.5])
def test_corrected_rate_covers_the_truth(share_of_flagged):
    """400 studies of 1,000 samples, 100 of them labelled: at random, or half of them among the flagged."""
    rng = np.random.default_rng(0)
    hits = []
    for _ in range(400):
        flawed = rng.random(1000) < 0.1
        is_flagged = rng.random(1000) < np.where(flawed, 0.8, 0.1)
        order = rng.permutation(1000)
        labelled = order[:100]
        if share_of_flagged:
            parts = order[is_flagged[order]][:50], order[~is_flagged[order]][:50]
            labelled = np.concatenate(parts)
        known = np.isin(np.arange(1000), labelled)
        of_flagged, of_passed = known & is_flagged, known & ~is_flagged
        _, low, high = rates.corrected_rate(
            (is_flagged, np.ones(1000)),
            (of_flagged & flawed, of_flagged),
            (of_passed & flawed, of_passed),
        )
        hits.append(low <= 0.1 <= high)
    assert 0.92 <= np.mean(hits) <= 0.99


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
                rates.corrected_table(said),
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
    assert row.high - row.low > 1.5 * (raw["high"] - raw["low"]).item()
    flagged = int(model[100:650][flawed[100:650]].sum())
    assert f"flags {flagged} of {flawed[100:650].sum()} flawed" in row.reading
    (row,) = rates.corrected_table(
        rates.calibration(pd.concat([said, people[~model[50:650]]]))
    ).itertuples()
    assert np.isnan(row.value)
    assert "flags 0 of" in row.reading  # nobody looked at what it flags
    assert rates.corrected_table(rates.calibration(said)).empty
