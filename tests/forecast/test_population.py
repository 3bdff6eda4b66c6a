"""Populations: the paper's curves, planted parameters, and what counts say of one problem."""

import numpy as np
import pytest
from pilots import pilot
from scipy import stats

from wcse_lib import forecast
from wcse_lib.forecast import fit_curve, fit_pilot, forecast_coverage
from wcse_lib.forecast.population import Fit

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


def test_fit_recovers_a_large_pilot_and_tests_the_zero_share():
    rng = np.random.default_rng(0)
    n, c, _ = pilot(rng, 0.8, 2.0, problems=4000)
    fit = fit_pilot(n, c)
    assert fit.p_value > 0.01 and fit.zero == 0
    assert (fit.a, fit.b) == (pytest.approx(0.8, rel=0.1), pytest.approx(2.0, rel=0.1))
    n, c, _ = pilot(rng, 2.0, 2.0, problems=4000, zero=0.2)
    fit = fit_pilot(n, c)
    assert fit.p_value < 1e-6 and fit.zero == pytest.approx(0.2, abs=0.03)
    table = forecast_coverage(n, c, [1, 100])
    assert table["value"].to_numpy() == pytest.approx([0.4, 0.8], abs=0.02)
    assert (table["high"] - table["low"]).max() < 0.05  # grids zoom in on a large pilot
    fit = forecast.posterior(n, c)
    assert fit.weight[fit.zero > 0].sum() > 0.99


def test_zero_share_test_keeps_its_level():
    rng = np.random.default_rng(1)
    p_values = [fit_pilot(*pilot(rng, 1.0, 2.0)[:2]).p_value for _ in range(60)]
    assert np.mean(np.array(p_values) < 0.05) <= 0.15  # 0.05 expected; 3.5 standard errors


def test_a_problems_rate_after_its_counts():
    fit = Fit(1.5, 2.0, 0.0)
    rates = fit.rates([8] * 3, [0, 3, 8])
    assert (np.diff(rates, axis=1) >= 0).all()
    assert rates.mean(1) == pytest.approx([1.5 / 11.5, 4.5 / 11.5, 9.5 / 11.5], abs=2e-3)
    zero = Fit(1.5, 2.0, 0.5).rates([8], [0])
    assert (zero == 0).mean() == pytest.approx(
        0.5 / (0.5 + 0.5 * np.exp(stats.betabinom.logpmf(0, 8, 1.5, 2.0))), abs=0.02
    )
