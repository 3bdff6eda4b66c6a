"""Power: the paper's gaps, and planted effects that the kit's own tests find as often as promised."""

import numpy as np
import pytest
from scipy import stats

from wcse_lib import intervals
from wcse_lib.luck import SeedLuck, nested_p, pooled_luck
from wcse_lib.plan import power
from wcse_lib.plan.power import Students, items_needed
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


SHARED, OF_ARM = (
    0.6,
    0.15,
)  # shares of the latent variance that all students have, and those of one arm and base


def answers(r, hard, rates):
    """0/1 answers [problem, seed] at these rates [seed], by a normal variable for each, `hard` [problem] in all."""
    of_arm = np.sqrt(OF_ARM) * r.normal(size=(len(hard), 1))
    of_student = np.sqrt(1 - SHARED - OF_ARM) * r.normal(size=(len(hard), len(rates)))
    latent = np.sqrt(SHARED) * hard[:, None] + of_arm + of_student
    return (latent < stats.norm.ppf(np.clip(rates, 0.001, 0.999))).astype(float)


def binary_correlation(latent: float, p: float) -> float:
    """Of two 0/1 outcomes of rate p whose normal variables correlate by `latent`."""
    threshold = stats.norm.ppf(p)
    both = stats.multivariate_normal.cdf([threshold] * 2, cov=[[1, latent], [latent, 1]])
    return (both - p * p) / (p * (1 - p))


def found(n, p, n_seeds, n_bases, sd, n_comparisons, studies, planted=True) -> float:
    """How often 06's test finds the promised effect, in studies of two arms and two budgets."""
    seed_correlation = binary_correlation(SHARED + OF_ARM, p)
    students = Students(n_seeds, n_bases, 4, sd, seed_correlation)
    alpha = 0.05 / n_comparisons
    options = {"paired_correlation": binary_correlation(SHARED, p), "alpha": alpha}
    effect = detectable(n, p, **options, students=students) if planted else 0.0
    hits = 0
    for study in range(studies):
        r = np.random.default_rng([study, 11])
        hard = r.normal(size=(n_bases, n))
        groups = []  # of each the mean over bases, which learn from one draw
        for rate in (p, p - effect if p > 0.5 else p + effect, p, p):
            rates = rate + r.normal(0, sd, n_seeds)
            of_bases = [answers(r, of_base, rates) for of_base in hard]
            groups.append(np.mean(of_bases, axis=0))
        luck = pooled_luck(groups) or SeedLuck(sd**2)
        difference = (groups[0] - groups[1]).mean(1)
        hits += nested_p(difference, luck.times(2 / n_seeds)) < alpha
    return hits / studies


# problems, rate, seeds, bases, spread over seeds, comparisons
STUDIES = [
    (300, 0.5, 1, 1, 0.013, 1),
    (300, 0.5, 3, 1, 0.013, 2),
    (500, 0.4, 2, 1, 0.02, 2),
    (500, 0.7, 5, 3, 0.01, 6),
    (1319, 0.8, 3, 1, 0.02, 2),
    (300, 0.4, 1, 3, 0.0, 12),
]


@pytest.mark.parametrize("case", STUDIES)
def test_the_kits_own_test_finds_the_promised_effect(case):
    assert found(*case, 400) == pytest.approx(0.8, abs=0.06)  # three standard errors


@pytest.mark.slow
@pytest.mark.parametrize("case", STUDIES)
def test_the_promise_in_thousands_of_studies(case):
    assert found(*case, 2000) == pytest.approx(0.8, abs=0.03)
    n_comparisons = case[-1]
    assert found(*case, 1000, planted=False) < 0.07 / n_comparisons + 0.01


def test_seeds_add_noise_that_items_cannot_remove():
    def with_seeds(n_seeds):
        return detectable(
            2000, 0.4, paired_correlation=0.5, students=Students(n_seeds, seed_sd=0.015)
        )

    effects = [with_seeds(n_seeds) for n_seeds in (2, 3, 5, 20)]
    assert effects == sorted(effects, reverse=True)
    assert effects[0] > 2 * effects[2]
    assumed = with_seeds(1)
    assert assumed > detectable(2000, 0.4, paired_correlation=0.5)
    with pytest.raises(ValueError, match="train more seeds"):
        items_needed(0.01, 0.4, students=Students(2, seed_sd=0.02))


def test_bases_halve_the_problems_part_and_not_the_lucks():
    one, four = (
        detectable(500, 0.5, paired_correlation=0.5, students=Students(1, n)) for n in (1, 4)
    )
    assert four == pytest.approx(one / 2, rel=0.02)
    lucky = [
        detectable(10**7, 0.5, paired_correlation=0.5, students=Students(1, n, seed_sd=0.01))
        for n in (1, 4)
    ]
    assert lucky[0] == pytest.approx(lucky[1], rel=0.01)
    wanted = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) * 0.01 * np.sqrt(2)
    assert lucky[0] == pytest.approx(wanted, rel=0.01)


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
    ],
)
def test_power_refuses_bad_input(key, value):
    with pytest.raises(ValueError, match=key):
        detectable(100, **{"p": 0.4, key: value})


@pytest.mark.parametrize(
    "key, value", [("n_seeds", 0), ("n_bases", 0), ("seed_sd", -1), ("seed_correlation", 1)]
)
def test_power_refuses_students_that_cannot_be(key, value):
    with pytest.raises(ValueError, match=key):
        detectable(100, 0.4, students=Students(**{key: value}))
