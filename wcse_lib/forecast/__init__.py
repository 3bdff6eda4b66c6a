"""What a pilot's counts let expect of larger budgets: coverage, distinct solutions, what to buy."""

from wcse_lib.forecast.arms import crossing, recommend
from wcse_lib.forecast.bounds import coverage_bounds
from wcse_lib.forecast.curves import compare, forecast_coverage, forecast_unique, with_bounds
from wcse_lib.forecast.mixes import best_mix, forecast_mix
from wcse_lib.forecast.outcomes import OUTCOME_WORDS, SHARES, Outcome
from wcse_lib.forecast.population import posterior
from wcse_lib.forecast.published import fit_curve

__all__ = [
    "OUTCOME_WORDS",
    "Outcome",
    "SHARES",
    "best_mix",
    "compare",
    "coverage_bounds",
    "crossing",
    "fit_curve",
    "forecast_coverage",
    "forecast_mix",
    "forecast_unique",
    "posterior",
    "recommend",
    "with_bounds",
]
