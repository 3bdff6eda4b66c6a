"""Training luck: variances worked out by hand, p values against integrals, intervals that hold, power that is found."""

import numpy as np
import pytest
from scipy import integrate, stats

from wcse_lib import intervals
from wcse_lib.luck import (
    SeedLuck,
    excluded,
    nested,
    nested_p,
    p_of,
    pooled_luck,
    power_of,
    smallest_found,
)

rng = np.random.default_rng(8)


def two_way(table):
    """Variance of the columns' means, and the residuals' mean square over rows, by sums of squares from a textbook."""
    n, s = table.shape
    total = (table**2).sum() - table.sum() ** 2 / (n * s)
    rows = (table.sum(1) ** 2).sum() / s - table.sum() ** 2 / (n * s)
    columns = (table.sum(0) ** 2).sum() / n - table.sum() ** 2 / (n * s)
    residual = (total - rows - columns) / ((n - 1) * (s - 1))
    return columns / (s - 1) / n, residual / n


def test_one_group_by_hand():
    """Means 3/4, 3/4, 1/4: variance 1/12; the residuals' sum of squares is 7/6 over 3 · 2, over 4 problems."""
    scores = np.array([[1, 1, 0], [1, 1, 0], [1, 0, 0], [0, 1, 1]])
    luck = pooled_luck([scores])
    assert (luck.variance, luck.df) == (pytest.approx(1 / 12), 2)
    assert luck.noise == pytest.approx(two_way(scores)[1])
    assert luck.sd == pytest.approx(np.sqrt(1 / 12 - luck.noise))


def test_groups_are_averaged_by_their_degrees_of_freedom():
    tables = [(rng.random((30, n_seeds)) < 0.5).astype(float) for n_seeds in (2, 4, 1)]
    (v2, r2), (v4, r4) = (two_way(table) for table in tables[:2])
    luck = pooled_luck(tables)
    assert luck.variance == pytest.approx((v2 + 3 * v4) / 4)
    assert luck.noise == pytest.approx((r2 + 3 * r4) / 4)
    assert luck.df == 4


def test_groups_of_one_draw_count_once():
    tables = [(rng.random((30, 3)) < 0.5).astype(float) for _ in range(4)]
    apart, together = pooled_luck(tables), pooled_luck(tables, ["a", "a", "b", "b"])
    assert (apart.variance, apart.noise) == (together.variance, together.noise)
    assert (apart.df, together.df) == (8, 4)


def test_one_seed_tells_nothing_of_luck():
    assert pooled_luck([np.ones((5, 1))]) is None
    assert pooled_luck([]) is None


def test_plausible_variances_are_those_of_the_chi_square():
    luck = SeedLuck(4e-4, 1e-4, 3)
    chances = np.array([0.025, 0.5, 0.999])
    wanted = 4e-4 * 3 / stats.chi2.ppf(chances, 3) - 1e-4
    assert luck.plausible(chances) == pytest.approx(np.maximum(0, wanted))
    assert luck.times(0.5).plausible(chances) == pytest.approx(np.maximum(0, wanted) / 2)
    assert SeedLuck(4e-4).plausible(chances) == pytest.approx([4e-4] * 3)


@pytest.mark.parametrize("df", [1, 4])
def test_p_is_the_integral_over_the_variance(df):
    """Against an integral over the chi-square's density, of which `p_of` takes 200 points."""
    luck, variance, n, difference = SeedLuck(4e-4, 1e-4, df), 2e-4, 200, 0.04

    def integrand(x):
        by_luck = max(0.0, luck.variance * df / x - luck.noise)
        ratio = difference / np.sqrt(variance + by_luck)
        return 2 * stats.t.sf(ratio, n - 1) * stats.chi2.pdf(x, df)

    pieces = [0, 1e-3, 0.1, luck.variance * df / luck.noise, 100]
    wanted = sum(integrate.quad(integrand, *ends)[0] for ends in zip(pieces, pieces[1:]))
    chances = (np.arange(200) + 0.5) / 200
    assert p_of(difference, variance, luck.plausible(chances), n) == pytest.approx(wanted, rel=0.01)


def test_without_luck_p_is_students_and_the_interval_the_bootstraps():
    values = rng.integers(-1, 2, 80) + 0.1
    assert nested_p(values, None) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert nested(values, None, bounds=(-2, 2)) == intervals.bootstrap(values, bounds=(-2, 2))
    assumed = nested(values, SeedLuck(0.0), bounds=(-2, 2))
    assert assumed == intervals.bootstrap(values, bounds=(-2, 2))


def test_few_problems_that_differ_show_nothing_beyond_their_signs():
    four = np.r_[np.ones(4), np.zeros(296)]
    assert stats.ttest_1samp(four, 0).pvalue < 0.05
    assert nested_p(four, None) == pytest.approx(stats.binomtest(4, 4).pvalue)
    assert nested_p(np.ones(3), None) == pytest.approx(0.25)
    assert nested_p(np.zeros(9), SeedLuck(1e-4)) == 1
    assert nested_p([0.5], SeedLuck(1e-4)) == 1


def test_assumed_luck_adds_its_variance():
    """Normal theory: the interval's half width and p rest on the sum of both variances."""
    values = rng.normal(0.05, 0.5, 2000)
    luck = SeedLuck(0.02**2)
    error = np.hypot(values.std(ddof=1) / np.sqrt(2000), 0.02)
    estimate = nested(values, luck, n_boot=40_000, bounds=(-9, 9))
    assert (estimate.high - estimate.low) / 2 == pytest.approx(1.96 * error, rel=0.03)
    ratio = values.mean() / error
    assert nested_p(values, luck) == pytest.approx(2 * stats.norm.sf(abs(ratio)), rel=0.02)


def test_interval_and_p_agree_on_what_is_shown():
    """Where p is 0.05 the interval ends near zero, with luck on few degrees of freedom too."""
    for df in (1, 2, 6):
        luck = SeedLuck(6e-4, 1e-4, df)
        noise = rng.normal(0, 0.4, 400)
        ends = []
        for middle in np.linspace(0.02, 0.6, 30):
            values = noise - noise.mean() + middle
            estimate = nested(values, luck, n_boot=10_000, bounds=(-9, 9))
            ends.append((nested_p(values, luck), estimate.low))
        shown_by_p = sum(p < 0.05 for p, _ in ends)
        shown_by_interval = sum(low > 0 for _, low in ends)
        assert abs(shown_by_p - shown_by_interval) <= 1


def study(r, n_seeds, sd, effect=0.0, n_groups=2, n=300):
    """p of the difference of two of `n_groups` kinds of students, whose answers are right or wrong."""
    easy = r.normal(0, 1.2, (n, 1))
    tables = []
    for group in range(n_groups):
        shifts = r.normal(0, sd, n_seeds) + (effect if group == 0 else 0.0)
        chance = stats.norm.cdf(easy)
        tables.append(r.random((n, n_seeds)) < np.clip(chance + shifts, 0, 1))
    difference = tables[0].mean(1) - tables[1].mean(1)
    luck = pooled_luck(tables) or SeedLuck(sd**2)
    return difference, luck.times(2 / n_seeds)


@pytest.mark.parametrize("n_seeds", [1, 2, 3])
def test_of_equal_students_5_percent_differ(n_seeds):
    """600 studies: 5 ± 2.7 % (three standard errors); p over problems alone would be below 0.05 in a third."""
    p = [nested_p(*study(np.random.default_rng([i, 3]), n_seeds, 0.03)) for i in range(600)]
    alone = [
        nested_p(study(np.random.default_rng([i, 3]), n_seeds, 0.03)[0], None) for i in range(600)
    ]
    assert 0.023 <= np.mean(np.array(p) < 0.05) <= 0.077
    assert np.mean(np.array(alone) < 0.05) > 0.15


def test_power_by_drawing_variances_and_differences():
    """Against a simulation of what `power_of` integrates: a seen variance, a difference, its p."""
    luck, variance, n, effect = SeedLuck(3e-4, 1e-4, 3), 2e-4, 300, 0.06
    r, n_hits = np.random.default_rng(2), 0
    for _ in range(3000):
        seen = SeedLuck(luck.variance * r.chisquare(3) / 3, luck.noise, 3)
        difference = r.normal(effect, np.sqrt(variance + luck.sd**2))
        chances = (np.arange(200) + 0.5) / 200
        n_hits += p_of(difference, variance, seen.plausible(chances), n) < 0.01
    assert power_of(effect, variance, luck, n, 0.01) == pytest.approx(n_hits / 3000, abs=0.03)


@pytest.mark.parametrize("luck", [SeedLuck(0.0), SeedLuck(2e-4), SeedLuck(2e-4, 1e-4, 2)])
def test_the_smallest_difference_found_has_its_power(luck):
    least = smallest_found(1e-4, luck, 500, alpha=0.02, power=0.7)
    assert power_of(least, 1e-4, luck, 500, 0.02) == pytest.approx(0.7, abs=1e-3)


def test_without_luck_the_smallest_difference_is_the_textbooks():
    wanted = (stats.norm.isf(0.025) + stats.norm.isf(0.2)) * 0.01
    assert smallest_found(1e-4, SeedLuck(0.0), 100_000) == pytest.approx(wanted, rel=1e-3)


@pytest.mark.parametrize("luck", [None, SeedLuck(4e-4), SeedLuck(4e-4, 1e-4, 6)])
def test_what_is_excluded_is_where_two_one_sided_tests_reach(luck):
    """The tests against -x and +x: the one nearer to the mean has a one-sided p of 5 %."""
    values = rng.choice([-1.0, 0, 1], 300, p=[0.1, 0.72, 0.18])
    x = excluded(values, luck)
    by_luck = np.zeros(1) if luck is None else luck.plausible((np.arange(200) + 0.5) / 200)
    nearer = x - abs(values.mean())
    two_sided = p_of(nearer, values.var(ddof=1) / 300, by_luck, 300)
    assert two_sided / 2 == pytest.approx(0.05, abs=1e-6)
    assert excluded(-values, luck) == pytest.approx(x)


def test_problems_that_all_agree_exclude_what_so_few_could_not_miss():
    assert excluded(np.zeros(59), None) == pytest.approx(1 - 0.05 ** (1 / 59))
    assert np.isnan(excluded([0.0], None))


def test_a_true_difference_is_excluded_in_5_percent_of_studies():
    """1,000 studies of 300 problems whose true difference is 12 points, seen with luck of 1 point a seed."""
    studies = np.random.default_rng(21)
    n_excluded = 0
    for _ in range(1000):
        shift = 0.12 + studies.normal(0, np.sqrt(2) * 0.01)
        values = studies.choice([-1.0, 0, 1], 300, p=[0.15 - shift / 2, 0.7, 0.15 + shift / 2])
        n_excluded += excluded(values, SeedLuck(2 * 0.01**2)) < 0.12
    assert 0.03 < n_excluded / 1000 < 0.07
