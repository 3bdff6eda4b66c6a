"""Intervals: closed forms, seeds both ways, degenerate data, and what they cover in thousands of simulated studies."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from scipy.special import betaln

from wcse_lib import intervals, metrics
from wcse_lib.luck import SeedLuck, nested, pooled_luck

rng = np.random.default_rng(7)


def ends(estimate):
    return estimate.low, estimate.high


def width(estimate):
    return estimate.high - estimate.low


def paired_difference(a, b, **options):
    """Mean of `a` minus mean of `b` over the same problems, both rates."""
    difference = np.asarray(a, float) - np.asarray(b, float)
    return nested(difference, None, **options)


# ------------------------------------------------------------------------------------------- simulated studies


def _seed(r):
    """A fresh one per study: a shared one would give all studies the same error of the resampling."""
    return int(r.integers(2**31))


def accuracy(r, n=150, p=0.3):
    """A student's greedy answers to n held-out problems."""
    return intervals.bootstrap(r.random(n) < p, n_boot=999, seed=_seed(r)), p


def coverage(r, n=100, m=10, k=4, a=0.3, b=0.6):
    """m samples of n problems whose success rates are heavy-tailed; truth: E[1 - (1 - p)^k]."""
    c = r.binomial(m, r.beta(a, b, n))
    truth = 1 - np.exp(betaln(a, b + k) - betaln(a, b))
    return intervals.bootstrap(
        metrics.coverage_per_problem(np.full(n, m), c, k), n_boot=999, seed=_seed(r)
    ), truth


def _judged(r, n, m, f):
    """(false positives, kept samples) per problem; false positives cluster in problems."""
    kept = r.binomial(m, r.beta(0.5, 0.6, n))
    return r.binomial(kept, r.beta(4 * f, 4 * (1 - f), n)), kept


def false_positives(r, n=100, m=10, f=0.2):
    return intervals.ratio(*_judged(r, n, m, f), n_boot=999, seed=_seed(r)), f


def paired_accuracy(r, n=300, p=0.4, q=0.44, rho=0.7):
    """Two students on the same problems; how well they do on a problem is correlated."""
    x, y = r.multivariate_normal([0, 0], [[1, rho], [rho, 1]], n).T
    a, b = x < stats.norm.ppf(p), y < stats.norm.ppf(q)
    return paired_difference(a, b, n_boot=999, seed=_seed(r)), p - q


def paired_coverage(r, n=100, k=4):
    """Arm a with 12 samples, arm b with 4, on the same problems, b's rates being a power of a's."""
    p = r.beta(0.5, 0.8, n)
    a = metrics.coverage_per_problem(np.full(n, 12), r.binomial(12, p), k)
    b = metrics.coverage_per_problem(np.full(n, 4), r.binomial(4, p**1.5), k)
    grid = stats.beta(0.5, 0.8).ppf((np.arange(20000) + 0.5) / 20000)
    return paired_difference(a, b, n_boot=999, seed=_seed(r)), np.mean(
        (1 - grid**1.5) ** k - (1 - grid) ** k
    )


def paired_false_positives(r, n=120):
    a, b = _judged(r, n, 10, 0.24), _judged(r, n, 4, 0.17)
    return intervals.paired_ratio_difference(a, b, n_boot=999, seed=_seed(r)), 0.07


def seeds(r, n=200, s=3, spread=0.1, groups=4):
    """s training seeds of each of some students on n problems; a seed moves all problems."""
    problems, moves = r.normal(size=(n, 1)), r.normal(0, spread, (groups, 1, s))
    scores = (problems + moves + r.normal(size=(groups, n, s)) < -0.4).astype(float)
    luck = pooled_luck(scores).times(1 / s)
    estimate = nested(scores[0].mean(1), luck, n_boot=999, seed=_seed(r), bounds=(0, 1))
    return estimate, stats.norm.cdf(-0.4 / np.sqrt(2 + spread**2))


def unpaired(r, n=200, m=120):
    return intervals.unpaired_difference(
        r.random(n) < 0.5, r.random(m) < 0.3, n_boot=999, seed=_seed(r)
    ), 0.2


def _covered(study, n_studies, **sizes):
    hits = []
    for i in range(n_studies):
        (value, low, high), truth = study(np.random.default_rng([i, 5]), **sizes)
        assert low <= value <= high
        hits.append(low <= truth <= high)
    return 100 * np.mean(hits)


MAIN = [accuracy, coverage, false_positives, paired_accuracy]


@pytest.mark.parametrize("study", MAIN, ids=lambda f: f.__name__)
def test_intervals_cover_quickly(study):
    """400 studies: a true 95 % stays inside 92..98 (3 standard errors of 1.1), 90 % or 99 % falls out."""
    assert 92 <= _covered(study, 400) <= 98


@pytest.mark.parametrize("p", [0.06, 0.15, 0.3, 0.5, 0.8])
def test_exact_coverage_of_binary_data(p, n=60):
    """No simulation: the chance of each possible count, summed where its interval holds p."""
    covered = 0.0
    for c in range(n + 1):
        low, high = ends(intervals.bootstrap(np.arange(n) < c, n_boot=1000, seed=c))
        if low <= p <= high:
            covered += stats.binom.pmf(c, n, p)
    assert 0.93 <= covered <= 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    ("study", "sizes"),
    [
        (accuracy, {}),
        (accuracy, {"n": 50, "p": 0.1}),
        (accuracy, {"n": 300, "p": 0.9}),
        (coverage, {}),
        (coverage, {"n": 50, "k": 1}),
        (coverage, {"n": 300, "k": 10}),
        (coverage, {"n": 100, "m": 30, "k": 10, "a": 0.2, "b": 4}),
        (false_positives, {}),
        (false_positives, {"n": 50, "f": 0.2}),
        (false_positives, {"n": 300, "f": 0.06}),
        (paired_accuracy, {}),
        (paired_accuracy, {"n": 60, "p": 0.8, "q": 0.85}),
        (paired_coverage, {}),
        (paired_false_positives, {}),
        (seeds, {}),
        (seeds, {"s": 5, "spread": 0.02}),
        (unpaired, {}),
    ],
    ids=lambda x: getattr(
        x, "__name__", "-".join(f"{k}{v}" for k, v in x.items()) if isinstance(x, dict) else None
    ),
)
def test_intervals_cover_93_to_97_percent(study, sizes):
    covered = _covered(study, 2000, **sizes)
    print(f"{study.__name__} {sizes}: {covered:.1f} %")
    assert 93 <= covered <= 97


@pytest.mark.slow
def test_few_events_are_covered_where_plain_percentiles_are_not():
    """50 problems at 3 %: at least 93 % (conservative), against less than 85 % for the percentile bootstrap."""
    assert _covered(accuracy, 2000, n=50, p=0.03) >= 93
    x = rng.binomial(50, 0.03, 2000)
    plain = np.quantile(rng.binomial(50, x[:, None] / 50, (2000, 999)) / 50, [0.025, 0.975], axis=1)
    assert 100 * np.mean((plain[0] <= 0.03) & (0.03 <= plain[1])) < 85


@pytest.mark.slow
@pytest.mark.parametrize("n", [10, 20, 30])
@pytest.mark.parametrize(
    "study",
    [coverage, false_positives, paired_coverage, paired_false_positives],
    ids=lambda f: f.__name__,
)
def test_few_problems_are_covered_at_least(study, n):
    assert _covered(study, 1000, n=n) >= 93


# --------------------------------------------------------------------------------------- seeds, order, closed forms


def every_interval(seed):
    x, y, w = np.linspace(0, 1, 40), np.linspace(0.2, 0.9, 40) ** 2, np.arange(1, 41)
    return [
        intervals.bootstrap(x, seed=seed),
        intervals.ratio(w // 3, w, seed=seed),
        intervals.ratio(w // 3, w, clusters=np.arange(40) // 4, seed=seed),
        paired_difference(x, y, seed=seed),
        intervals.unpaired_difference(x, y[:30], seed=seed),
        intervals.paired_ratio_difference((w // 3, w), (w // 4, w + 1), seed=seed),
        nested(x - y, SeedLuck(1e-3, 1e-4, 2), seed=seed),
    ]


def test_same_seed_same_interval_other_seed_other_interval():
    assert every_interval(3) == every_interval(3)
    for one, other in zip(every_interval(3), every_interval(4)):
        assert one.value == other.value and one.low != other.low and one.high != other.high
        assert abs(one.low - other.low) < 0.5 * (one.high - one.low)
    flips = [
        intervals.paired_p([0.1, 0.5, 0.9, 0.2], [0, 0.3, 0.2, 0.4], seed=seed)
        for seed in (1, 1, 2)
    ]
    assert flips[0] == flips[1] != flips[2]


def test_the_global_random_state_is_neither_read_nor_moved():
    np.random.seed(0)  # noqa: NPY002
    before = np.random.random()  # noqa: NPY002
    np.random.seed(0)  # noqa: NPY002
    intervals.bootstrap([0, 1, 1])
    assert np.random.random() == before  # noqa: NPY002


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=30), st.randoms())
def test_order_of_problems_does_not_matter_and_the_value_lies_inside(values, random):
    one = intervals.bootstrap(values, n_boot=100)
    shuffled = random.sample(values, len(values))
    assert np.allclose(tuple(one), tuple(intervals.bootstrap(shuffled, n_boot=100)), atol=1e-12)
    assert one.value == pytest.approx(np.mean(values))
    assert 0 <= one.low <= one.value <= one.high <= 1
    assert one.low < one.high


def test_binary_data_give_jeffreys_interval_and_normal_data_the_t_interval():
    x = np.r_[np.ones(30), np.zeros(170)]
    value, low, high = intervals.bootstrap(x, n_boot=40_000)
    assert (value, low, high) == pytest.approx(
        (0.15, *stats.beta.ppf([0.025, 0.975], 30.5, 170.5)), abs=0.002
    )
    y = rng.normal(10, 2, 25)
    estimate = intervals.bootstrap(y, n_boot=40_000)
    expected = stats.t.interval(0.95, 24, y.mean(), y.std(ddof=1) / 5)
    assert ends(estimate) == pytest.approx(expected, abs=0.2)
    assert width(estimate) == pytest.approx(np.ptp(expected), rel=0.06)


def test_few_binary_problems_give_jeffreys_interval_as_far_as_students_t_reaches():
    tail = stats.norm.sf(stats.t.isf(0.025, 19))
    expected = stats.beta.ppf([tail, 1 - tail], 8.5, 12.5)
    estimate = intervals.bootstrap(np.arange(20) < 8, n_boot=100_000)
    assert ends(estimate) == pytest.approx(expected, abs=0.003)


def test_more_problems_are_narrower():
    x = rng.random(60)
    more = width(intervals.bootstrap(np.tile(x, 25)))
    assert more == pytest.approx(width(intervals.bootstrap(x)) / 5, rel=0.15)


def test_clusters_are_the_unit():
    """Ten copies of each problem are no more information than one."""
    x, ones = rng.random(50), np.ones(500)
    copies, labels = np.repeat(x, 10), np.repeat(np.arange(50), 10)
    copied = intervals.ratio(copies, ones, clusters=labels)
    assert np.allclose(tuple(intervals.bootstrap(x)), tuple(copied), atol=1e-9)
    assert width(intervals.bootstrap(copies)) < 0.5 * width(copied)


def test_pairing_removes_what_the_arms_share():
    shared = rng.random(200)
    a, b = shared + rng.normal(0, 0.01, 200), shared + rng.normal(0, 0.01, 200)
    paired = paired_difference(a, b)
    assert width(paired) < 0.2 * width(intervals.unpaired_difference(a, b))
    assert paired_difference(b, a).value == pytest.approx(-paired.value)


def test_seeds_widen_when_they_differ():
    problems, noise = rng.random((200, 1)), rng.normal(0, 0.02, (200, 3))
    moved = noise + [[-0.2, 0, 0.2]]
    widths = []
    for scores in (problems + noise, problems + moved):
        luck = pooled_luck([scores]).times(1 / 3)
        widths.append(width(nested(scores.mean(1), luck, bounds=(-1, 2))))
    assert widths[1] > 3 * widths[0]


# ------------------------------------------------------------------------------------------------ degenerate data


@pytest.mark.parametrize("n", [1, 3, 50, 1000])
def test_all_alike_rates_get_the_rule_of_three(n):
    unseen = 1 - 0.025 ** (1 / n)
    none, every = np.zeros(n), np.ones(n)
    half = intervals.bootstrap(np.full(n, 0.5))
    assert tuple(intervals.bootstrap(none)) == pytest.approx((0, 0, unseen))
    assert tuple(intervals.bootstrap(every)) == pytest.approx((1, 1 - unseen, 1))
    assert tuple(paired_difference(every, every)) == pytest.approx((0, -unseen, unseen))
    assert tuple(intervals.ratio(none, np.full(n, 7))) == pytest.approx((0, 0, unseen))
    assert ends(half) == pytest.approx((0.5 - unseen / 2, 0.5 + unseen / 2))
    exact = stats.binomtest(0, n).proportion_ci(0.95, "exact")
    assert ends(intervals.bootstrap(none)) == pytest.approx((exact.low, exact.high))


def test_what_the_data_cannot_tell_is_nan_or_everything_not_zero_width():
    alike = intervals.bootstrap([512.0] * 9)
    assert alike.value == 512
    assert np.isnan(ends(alike)).all()
    nothing = intervals.ratio([0, 0], [0, 0])
    assert np.isnan(nothing.value)
    assert ends(nothing) == (0, 1)
    one_arm = intervals.paired_ratio_difference(([0, 1], [1, 2]), ([0, 0], [0, 0]))
    assert np.isnan(one_arm.value)
    assert ends(one_arm) == (-1, 1)
    one_problem = intervals.bootstrap([0.4])
    assert one_problem.low < 0.05
    assert one_problem.high > 0.95


def test_one_event_is_not_more_certain_than_none():
    none, one = intervals.bootstrap(np.zeros(50)), intervals.bootstrap(np.r_[1, np.zeros(49)])
    assert 0 < one.low < 0.02 < one.high and one.high > none.high


def test_few_samples_of_one_arm_are_not_made_certain_by_the_other_arms_problems():
    """5 of 5 in one arm, of 50 problems that the other has: no surer than 5 of 5 alone."""
    few = (np.arange(50) < 5).astype(float)
    alone = intervals.ratio(few, few)
    other = np.arange(50) % 2, np.ones(50)
    estimate = intervals.paired_ratio_difference((few, few), other)
    assert estimate.value - estimate.low > alone.value - alone.low


def test_problems_that_keep_nothing_do_not_count():
    x, w = [1, 0, 2, 1], [3, 2, 5, 4]
    assert intervals.ratio([*x, 0, 0], [*w, 0, 0]) == intervals.ratio(x, w)


@pytest.mark.parametrize(
    "call",
    [
        lambda: intervals.bootstrap([]),
        lambda: intervals.bootstrap([0.1, np.nan]),
        lambda: intervals.bootstrap([[0.1, 0.2]]),
        lambda: intervals.bootstrap([0.1, 0.2], n_boot=0),
        lambda: intervals.ratio([0.1, 0.2], [1, 1], clusters=["a"]),
        lambda: intervals.bootstrap([0.1, 5.0], bounds=(0, 1)),
        lambda: intervals.ratio([1], [0]),
        lambda: intervals.ratio([1], [-1]),
        lambda: intervals.ratio([1, 2], [3]),
        lambda: intervals.paired_p([1, 0], [1]),
        lambda: intervals.paired_ratio_difference(([1], [1]), ([1, 2], [1, 2])),
        lambda: nested([[0.1], [0.2]], None),
        lambda: nested([0.1, np.nan], None),
        lambda: intervals.wilson(3, 2),
        lambda: intervals.wilson(-1, 2),
        lambda: intervals.rate_of_problems([]),
        lambda: intervals.rate_of_problems([1, np.nan]),
        lambda: intervals.mcnemar([0.5, 1], [1, 0]),
        lambda: intervals.holm([0.2, 1.2]),
    ],
)
def test_bad_input_raises(call):
    with pytest.raises(ValueError):
        call()


# ------------------------------------------------------------------------------------------------ rates


def test_wilsons_interval_by_hand():
    z = stats.norm.isf(0.025)
    for c, n in [(0, 5), (5, 5), (1, 50), (17, 50), (500, 501)]:
        centre = (c + z**2 / 2) / (n + z**2)
        half = z * np.sqrt(c * (n - c) / n + z**2 / 4) / (n + z**2)
        expected = (c / n, centre - half, centre + half)
        assert tuple(intervals.wilson(c, n)) == pytest.approx(expected, abs=1e-12)


def test_no_trials_say_nothing():
    nothing = intervals.wilson(0, 0)
    assert np.isnan(nothing.value)
    assert ends(nothing) == (0, 1)


def test_one_rule_for_rates_of_problems():
    """Wilson where a problem is solved or not, the bootstrap where it is solved to a part; with n and unit."""
    solved = np.arange(300) < 6
    assert intervals.rate_of_problems(solved) == intervals.wilson(6, 300)
    assert str(intervals.rate_of_problems(solved)) == "2.0 % [0.9, 4.3], n = 300"
    shares = rng.integers(0, 5, 40) / 4
    estimate = intervals.rate_of_problems(shares, seed=3)
    assert tuple(estimate) == tuple(intervals.bootstrap(shares, seed=3))
    assert (estimate.n, estimate.unit) == (40, "%")


# ------------------------------------------------------------------------------------------------ as text

GAP = intervals.Estimate(-0.031, -0.0549, 0.0072, unit="points")
RATE = intervals.Estimate(0.4, 0.346, 0.456, n=1300, unit="%")
NATS = intervals.Estimate(-0.5, -0.75, 0.251, unit="nats per token")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (str(RATE), "40.0 % [34.6, 45.6], n = 1,300"),
        (RATE.text(with_n=False, with_unit=False), "40.0 [34.6, 45.6]"),
        (RATE.text(with_n=False, decimals=0, interval=" ({low} to {high})"), "40 % (35 to 46)"),
        (RATE.text(with_n=False, interval=""), "40.0 %"),
        (str(GAP), "−3.1 points [−5.5, +0.7]"),
        (GAP.text(signed=False, with_unit=False), "−3.1 [−5.5, 0.7]"),
        (str(NATS), "−0.50 nats per token [−0.75, 0.25]"),
        (NATS.text(signed=True), "−0.50 nats per token [−0.75, +0.25]"),
        (str(intervals.Estimate(1234.0, 1.0, 2.0, unit="count")), "1,234"),
        (str(intervals.Estimate(12.25, 1.0, 2.0, unit="count")), "12.2"),
        (str(intervals.Estimate(0.5, np.nan, np.nan, unit="%")), "50.0 %"),
        (str(intervals.Estimate(2.0, 1.5, 2.5)), "2.00 [1.50, 2.50]"),
    ],
)
def test_an_estimate_prints_itself(text, expected):
    assert text == expected


# ------------------------------------------------------------------------------------------------ tests


def test_mcnemar_is_the_exact_binomial_test():
    a = np.r_[np.ones(15), np.zeros(5), np.ones(80)]
    b = np.r_[np.zeros(15), np.ones(5), np.ones(80)]
    exact = 2 * stats.binom.cdf(5, 20, 0.5)
    assert intervals.mcnemar(a, b) == (15, 5, pytest.approx(exact))
    assert intervals.mcnemar(b, a) == (5, 15, pytest.approx(exact))
    assert intervals.mcnemar(a, a) == (0, 0, 1.0)


def test_paired_p_by_all_sign_flips():
    d = np.array([0.3, -0.1, 0.45, 0.2, 0.25, -0.05, 0.4])
    signs = np.array(np.meshgrid(*[[1, -1]] * len(d))).reshape(len(d), -1)
    exact = np.mean(np.abs(d @ signs) >= abs(d.sum()) - 1e-12)
    assert intervals.paired_p(d, np.zeros(7)) == pytest.approx(exact, abs=0.01)


def test_holm():
    assert intervals.holm([0.01, 0.04, 0.03, 0.5]) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert intervals.holm([0.9, 0.9]).max() == 1
    assert len(intervals.holm([])) == 0


def test_a_difference_of_ratios_at_90_percent_lies_within_that_at_95():
    """Nine tenths of studies of equal rates hold zero at 0.9: what two one-sided tests at 5 % are made of."""
    studies = np.random.default_rng(12)
    n_held, n = 0, 400
    for i in range(n):
        rates = studies.beta(0.8, 0.8, 150)
        a, b = ((studies.binomial(4, rates) > 0, np.ones(150)) for _ in range(2))
        wide = intervals.paired_ratio_difference(a, b, n_boot=999, seed=i)
        tight = intervals.paired_ratio_difference(a, b, n_boot=999, seed=i, level=0.9)
        assert wide.low <= tight.low <= tight.high <= wide.high
        n_held += tight.low <= 0 <= tight.high
    assert 0.865 < n_held / n < 0.945


def test_the_p_of_a_ratio_is_the_paired_p_where_denominators_are_one():
    a, b = np.random.default_rng(3).integers(0, 2, (2, 80)).astype(float)
    ones = np.ones(80)
    assert intervals.paired_ratio_p((a, ones), (b, ones)) == intervals.paired_p(a, b)


def test_the_p_of_equal_ratios_is_small_in_5_percent_of_studies():
    """False positives among unequal numbers of correct samples, which problems share: a rate of 0.3 in both arms."""
    rng = np.random.default_rng(11)
    n_small, n = 0, 400
    for _ in range(n):
        rates = rng.beta(0.6, 1.4, 120)
        correct_a, correct_b = rng.binomial(3, 0.5, 120), rng.binomial(10, 0.7, 120)
        a = rng.binomial(correct_a, rates), correct_a
        b = rng.binomial(correct_b, rates), correct_b
        n_small += intervals.paired_ratio_p(a, b, n_draws=1000) < 0.05
    assert 0.02 < n_small / n < 0.085


def test_what_rounds_to_zero_has_no_minus():
    tiny = intervals.Estimate(-0.0004, -0.021, 0.026, unit="points")
    assert tiny.text(with_unit=False) == "+0.0 [−2.1, +2.6]"
    lengths = intervals.Estimate(-0.0004, -0.021, 0.026, unit="tokens")
    assert lengths.text(with_unit=False) == "0.00 [−0.02, 0.03]"
