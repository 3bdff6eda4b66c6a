"""Scores of sets of examples: the gradient score by hand, its interval, and equal numbers of examples."""

import numpy as np
import pandas as pd
import pytest

from wcse_lib import train
from wcse_lib.train import gradients, scores


def published(found, problems):
    """The published score, term by term: over folds of problems, h' (moment of the others + ν/d)⁻¹ h."""
    d = found.shape[1]
    names = sorted(set(problems))
    total = 0.0
    for i, one in enumerate(found):
        own = names.index(problems[i]) % 10
        moment, n = np.zeros((d, d)), 0
        for j, other in enumerate(found):
            if names.index(problems[j]) % 10 != own:
                direction = other / np.linalg.norm(other)
                moment += np.outer(direction, direction)
                n += 1
        total += one @ np.linalg.inv(moment / n + 1e-3 / d * np.eye(d)) @ one
    return total / len(found)


def drawn(n_problems, d=4, seed=0, scale=1.0):
    """Gradients that differ in size and direction, two of each problem."""
    rng = np.random.default_rng(seed)
    problems = np.repeat([f"p{i:03}" for i in range(n_problems)], 2)
    sizes = scale * np.exp(rng.normal(size=(len(problems), 1)) * 0.4)
    return rng.normal(size=(len(problems), d)) * [3, 2, 1, 1][:d] * sizes, problems


def test_two_problems_by_hand():
    """Each is held out once: 3² / (1 + ν/2) and 2² / (1 + ν/2), as both point the same way."""
    found = np.array([[3.0, 0.0], [2.0, 0.0]])
    shares = gradients.shares(found, np.array(["a", "b"]))
    assert shares.mean() == pytest.approx((9 + 4) / 2 / (1 + 0.001 / 2))
    across = gradients.shares(np.array([[3.0, 0.0], [0.0, 2.0]]), np.array(["a", "b"]))
    assert across.mean() == pytest.approx((9 + 4) / 2 / (0.001 / 2)), "where the other has nothing"


def test_the_mean_of_the_shares_is_the_published_score():
    found, problems = drawn(23)
    assert gradients.shares(found, problems).mean() == pytest.approx(published(found, problems))


def test_larger_gradients_and_fewer_directions_score_higher():
    found, problems = drawn(50)
    score = gradients.shares(found, problems).mean()
    assert gradients.shares(2 * found, problems).mean() == pytest.approx(4 * score)
    found[1:, 3] = 0.0
    assert gradients.shares(found, problems).mean() > score


def test_the_interval_is_as_wide_as_that_of_new_draws_of_the_problems():
    values, widths = [], []
    for seed in range(150):
        found, problems = drawn(60, seed=seed)
        share = gradients.shares(found, problems)
        values.append(share.mean())
        widths.append(pd.Series(share).groupby(problems).sum().std() * 60**0.5 / 120)
    assert np.mean(widths) == pytest.approx(np.std(values), rel=0.15)


def examples(arm, n_problems, scale=1.0, seed=0):
    found, problems = drawn(n_problems, seed=seed, scale=scale)
    rows = {"author": arm, "problem_id": problems, "sample_index": [0, 1] * n_problems}
    measured = {"n_tokens": 10, "log_likelihood": -5.0, "rank": 20.0, "gradient": list(found)}
    return pd.DataFrame(rows | measured)


def test_arms_are_compared_by_equally_many_gradients():
    few, many = examples("few", 30), examples("many", 60)
    sums = train.sums_of_arms({"few": few, "many": many})
    assert sums["few"]["n_gradients"].sum() == sums["many"]["n_gradients"].sum() == 60
    assert len(sums["many"]) == 60, "what is no gradient is of all problems"
    alone = train.sums_of_arms({"many": many})["many"]
    assert alone["n_gradients"].sum() == 120


def test_every_score_of_every_set_with_its_interval():
    sets = {"small": examples("small", 40), "large": examples("large", 40, scale=3.0, seed=1)}
    table = train.scores_of(sets).set_index(["score", "arm"])
    assert list(table.columns) == scores.COLUMNS[2:]
    assert table.loc[("log_likelihood", "small"), "value"] == -0.5
    assert table.loc[("rank_surprisal_ratio", "large"), "value"] == pytest.approx(2 / 0.5)
    of_gradients = table.loc["gradient_score"]
    assert of_gradients.loc["large", "low"] > of_gradients.loc["small", "high"]
    sums = train.sums_of_arms(sets)
    difference = train.SCORES["gradient_score"].difference(sums["large"], sums["small"], 0)
    expected = of_gradients.loc["large", "value"] - of_gradients.loc["small", "value"]
    assert difference.value == pytest.approx(expected) and difference.low > 0


def test_without_gradients_the_other_scores_stand():
    """Files of an earlier version have no column for them; one problem alone has nothing to be held against."""
    old = examples("a", 5).drop(columns="gradient")
    alone = examples("a", 1)
    for rows in (old, alone):
        table = train.scores_of({"a": rows})
        assert set(table["score"]) == {"log_likelihood", "rank_surprisal_ratio"}
