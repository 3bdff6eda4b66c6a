"""What a pilot's counts let expect of larger budgets: coverage, distinct solutions, what to buy."""

from wcse_lib.forecast.arms import crossing, recommend
from wcse_lib.forecast.curves import compare, forecast_coverage, forecast_unique
from wcse_lib.forecast.mixes import best_mix, forecast_mix
from wcse_lib.forecast.outcomes import OUTCOME_WORDS, SHARES, Outcome
from wcse_lib.forecast.population import fit_curve, fit_pilot, posterior

__all__ = [
    "OUTCOME_WORDS",
    "Outcome",
    "SHARES",
    "best_mix",
    "compare",
    "crossing",
    "fit_curve",
    "fit_pilot",
    "forecast_coverage",
    "forecast_mix",
    "forecast_unique",
    "posterior",
    "recommend",
]
