"""Power: the paper's gaps, and planted effects that the kit's own tests find as often as promised."""

import numpy as np
import pytest

from wcse_lib import intervals
from wcse_lib.plan import power
from wcse_lib.plan.power import items_needed
from wcse_lib.plan.power import minimum_detectable_effect as detectable


def test_the_papers_gaps_need_thousands_of_items():
    assert 8000 <= items_needed(0.02, 0.28) <= 8200
    assert 9400 <= items_needed(0.02, 0.40) <= 9600
    assert detectable(500, 0.4) == pytest.approx(0.088, abs=0.001)
    assert detectable(items_needed(0.02, 0.4), 0.4) == pytest.approx(0.02, abs=1e-5)
    assert items_needed(0.02, 0.4, paired_correlation=0.6) < items_needed(0.02, 0.4) / 2
    sentence = power.power_sentence(500, 0.4)
    assert sentence.startswith(
        "500 test items cannot see 2 points: the smallest difference seen with 80% power is 8.8 points"
    )
    assert "can see 2 points" in power.power_sentence(20_000, 0.4)
    assert "no difference at all" in power.power_sentence(2, 0.5)


@pytest.mark.parametrize(
    ("n", "p", "r"),
    [(500, 0.4, None), (1319, 0.85, None), (500, 0.4, 0.6), (200, 0.1, 0.3), (50, 0.2, None)],
)
def test_planted_effects_of_the_promised_size_are_found(n, p, r):
    rng, studies, effect = np.random.default_rng(10), 6000, detectable(n, p, paired_correlation=r)
    q = p + effect if p <= 0.5 else p - effect
    both = p * q + (r or 0.0) * np.sqrt(p * (1 - p) * q * (1 - q))
    table = rng.multinomial(n, [both, p - both, q - both, 1 - p - q + both], size=studies)
    if r is None:
        x, y = rng.binomial(n, p, studies), rng.binomial(n, q, studies)
        pooled = (x + y) / (2 * n)
        z = (x - y) / n / np.sqrt(2 * pooled * (1 - pooled) / n)
    else:  # McNemar's test
        z = (table[:, 1] - table[:, 2]) / np.sqrt(np.maximum(table[:, 1] + table[:, 2], 1))
    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.8, abs=0.03)


def found(n, p, r, seeds, sd, studies, planted=True) -> float:
    """How often the kit's own interval over problems and seeds excludes zero, where the promised effect is planted."""
    rng, effect = (
        np.random.default_rng(11),
        detectable(n, p, paired_correlation=r, n_seeds=seeds, seed_sd=sd) if planted else 0.0,
    )
    q = p + effect if p <= 0.5 else p - effect
    alike = (
        r * np.sqrt(p * (1 - p) * q * (1 - q)) / (min(p, q) - p * q)
    )  # share of problems that are equally hard for both
    hits = 0
    for study in range(studies):
        one = rng.random(n)
        two = np.where(rng.random(n) < alike, one, rng.random(n))
        a, b = (u[:, None] < rate + rng.normal(0, sd, seeds) for u, rate in ((one, p), (two, q)))
        difference = b.astype(float) - a
        estimate = intervals.nested(difference, n_boot=1000, seed=study, bounds=(-1, 1))
        hits += not estimate.low <= 0 <= estimate.high
    return hits / studies


SEEDS = [
    (300, 0.5, 0.5, 3, 0.01),
    (1319, 0.8, 0.6, 4, 0.02),
    (300, 0.4, 0.5, 5, 0.01),
    (300, 0.5, 0.5, 2, 0.01),
    (500, 0.4, 0.6, 1, 0.0),
]


@pytest.mark.parametrize("case", SEEDS)
def test_the_kits_own_test_over_seeds_finds_the_promised_effect(case):
    assert found(*case, 400) == pytest.approx(0.8, abs=0.06)  # three standard errors


@pytest.mark.slow
@pytest.mark.parametrize("case", [*SEEDS, (5000, 0.5, 0.5, 3, 0.01), (1319, 0.5, 0.5, 3, 0.01)])
def test_the_promise_in_thousands_of_studies(case):
    assert found(*case, 2500) == pytest.approx(0.8, abs=0.04)
    assert found(*case, 1000, planted=False) < 0.07


def test_seeds_add_noise_that_items_cannot_remove():
    effects = [detectable(2000, 0.4, n_seeds=seeds, seed_sd=0.015) for seeds in (2, 3, 5, 20)]
    assert effects == sorted(effects, reverse=True)
    assert effects[-1] > detectable(2000, 0.4)
    assert effects[0] > 3 * effects[2]
    with pytest.raises(ValueError, match="train more seeds"):
        items_needed(0.01, 0.4, n_seeds=2, seed_sd=0.02)
    with pytest.raises(ValueError, match="n_seeds"):  # one seed does not tell how far seeds spread
        detectable(2000, 0.4, n_seeds=1, seed_sd=0.01)


@pytest.mark.parametrize(
    ("n", "p", "r"), [(500, 0.97, 0.95), (300, 0.6, 0.95), (160, 0.95, 0.5), (1319, 0.97, 0.6)]
)
def test_no_more_is_promised_than_two_rates_allow(n, p, r):
    effect = detectable(n, p, paired_correlation=r)
    q = p - effect if p > 0.5 else p + effect
    both = min(p * q + r * np.sqrt(p * (1 - p) * q * (1 - q)), p, q)
    cells = [both, p - both, q - both, 1 - p - q + both]
    assert min(cells) >= 0
    assert n * (p + q - 2 * both) >= 6
    rng, hits = np.random.default_rng(12), []
    for a, b, c, d in rng.multinomial(n, cells, 500):
        x, y = np.repeat([1, 1, 0, 0], [a, b, c, d]), np.repeat([1, 0, 1, 0], [a, b, c, d])
        hits.append(intervals.paired_p(x, y) < 0.05)
    assert np.mean(hits) > 0.7  # McNemar's exact test is a little cautious
    with pytest.raises(ValueError, match="paired_correlation"):
        detectable(n, p, paired_correlation=1.0)


@pytest.mark.parametrize(
    "key, value",
    [
        ("p", 0),
        ("p", 1.2),
        ("power", 1),
        ("alpha", 0),
        ("paired_correlation", 1),
        ("n_seeds", 0),
        ("seed_sd", -1),
    ],
)
def test_power_refuses_bad_input(key, value):
    with pytest.raises(ValueError, match=key):
        detectable(100, **{"p": 0.4, key: value})
