"""Populations: the library's tables, what counts say of one problem, large pilots, the paper's curves."""

import numpy as np
import pytest
from pilots import pilot
from scipy import stats

from wcse_lib.forecast import fit_curve, forecast_coverage, posterior
from wcse_lib.forecast.library import RATES, library, log_chances

CURVES = {  # FACTS §3, read from figures (± 0.001): k = 1 … 10, and at 3k for the 9B model
    "MATH 27B": ".327 .434 .495 .534 .563 .587 .606 .621 .635 .647",
    "MATH 9B": ".270 .373 .432 .472 .502 .526 .546 .563 .577 .590",
    "MATH 9B 3k": ".431 .527 .577 .611 .636 .656 .671 .684 .696 .706",
    "GSM8K 27B": ".764 .870 .905 .924 .937 .945 .951 .955 .959 .962",
    "GSM8K 9B": ".656 .790 .845 .875 .894 .908 .917 .926 .932 .937",
    "GSM8K 9B 3k": ".844 .909 .932 .945 .954 .961 .965 .969 .973 .976",
}
CURVES = {name: np.array(text.split(), float) for name, text in CURVES.items()}
K = np.arange(1, 11)


@pytest.mark.parametrize("name", ["MATH 27B", "MATH 9B", "GSM8K 27B", "GSM8K 9B"])
def test_first_four_points_of_the_paper_forecast_the_rest(name):
    fit = fit_curve(K[:4], CURVES[name][:4])
    assert np.abs(fit.coverage(K) - CURVES[name]).max() < 0.008
    if "9B" in name:  # out to 30 samples, three times the fitted range's end and more
        assert np.abs(fit.coverage(3 * K) - CURVES[f"{name} 3k"]).max() < 0.009


def test_the_library_holds_distributions_of_every_shape():
    shares = library()
    assert shares.sum(1) == pytest.approx(np.ones(len(shares)), abs=1e-5)
    assert (shares >= 0).all()
    coverage = shares @ (1 - (1 - RATES) ** 10)
    counts = np.histogram(coverage, np.linspace(0, 1, 11))[0]
    assert counts.min() > 300, "every coverage is there"
    n_of_two_points = (np.count_nonzero(shares, axis=1) == 2).sum()
    assert n_of_two_points > 1500


@pytest.mark.parametrize("n", [8, 40])
def test_chances_of_counts_are_the_binomials(n):
    table = np.exp(log_chances(n, np.arange(n + 1)))
    assert table.sum(1) == pytest.approx(np.ones(len(table)), abs=1e-4)
    expected = library()[[7]] @ stats.binom.pmf(3, n, RATES)
    assert table[7, 3] == pytest.approx(expected.item(), rel=1e-3)


def test_a_problems_rate_after_its_counts():
    rng = np.random.default_rng(2)
    n, c, rates = pilot(rng, 2.0, 2.0, problems=300, samples=4, zero=0.3)
    expected = posterior(n, c).expected_rates(n, c)
    for correct in range(5):
        alike = c == correct
        assert expected[alike].mean() == pytest.approx(rates[alike].mean(), abs=0.1)
    assert len(np.unique(expected)) == len(np.unique(c))


def test_equally_likely_rates_are_those_of_the_shares():
    n, c, _ = pilot(np.random.default_rng(3), 0.6, 1.2)
    fit = posterior(n, c)
    rates = fit.rates(400, np.random.default_rng(0))
    assert (np.diff(rates, axis=1) >= 0).all()
    assert (1 - (1 - rates) ** 5).mean() == pytest.approx(fit.weight @ fit.coverage(5), abs=0.01)


@pytest.mark.parametrize("zero", [0.0, 0.2])
def test_a_large_pilot_says_as_much_of_small_k_as_its_mean_does(zero):
    rng = np.random.default_rng(0)
    n, c, _ = pilot(rng, 2.0, 2.0, problems=4000, zero=zero)
    table = forecast_coverage(n, c, [1, 100]).set_index("k")
    assert table.loc[1, "value"] == pytest.approx((1 - zero) / 2, abs=0.03)
    # coverage@100 of Beta(2, 2) is 0.999
    assert table.loc[100, "low"] - 0.01 < 1 - zero < table.loc[100, "high"] + 0.01
    assert table.loc[1, "high"] - table.loc[1, "low"] == pytest.approx(4 * error(c / n), rel=0.2)
    assert table.loc[100, "high"] - table.loc[100, "low"] < 0.2


def error(values) -> float:
    return values.std() / np.sqrt(len(values))


def test_more_samples_of_unsolved_problems_count_as_what_they_are():
    """A stopping rule leaves the likelihood as it is: forecasts from pilots that followed one hold the truth."""
    rng = np.random.default_rng(5)
    held = []
    for _ in range(150):
        rates = rng.beta(0.4, 0.8, 50)
        n = np.full(50, 4)
        c = rng.binomial(n, rates)
        n[c == 0] += 10
        c = c + rng.binomial(n - 4, rates)
        table = forecast_coverage(n, c, [30]).iloc[0]
        held.append(table.low <= 1 - stats.betabinom.pmf(0, 30, 0.4, 0.8) <= table.high)
    assert np.mean(held) > 0.89  # 95 %, and three standard errors
