"""What came of every arm and budget, beside what 01's pilot had forecast."""

from __future__ import annotations

import pandas as pd

from wcse_lib import forecast
from wcse_lib.analyze.samples import ArmSamples
from wcse_lib.forecast import Outcome
from wcse_lib.store import read_parquet
from wcse_lib.study import Run


def forecast_rows(run: Run, arms: dict[str, ArmSamples]) -> pd.DataFrame:
    """The pilot's forecast beside the outcome; empty where the study had no pilot."""
    if run.plan.pilot is None:  # a forecast that is there is of an earlier plan
        return pd.DataFrame()
    forecasts = read_parquet(run.path("01", "forecast.parquet"))
    return forecast.compare(forecasts, outcomes(run, arms))


def outcomes(run: Run, arms: dict[str, ArmSamples]) -> pd.DataFrame:
    """What came of every arm and budget, in the metrics that 01 forecasts: arm, budget, metric, outcome.

    Forecasts are of one draw, and outcomes are the mean over draws.
    """
    rows = []
    n_times = run.plan.n_problems["train"] * run.plan.n_draws
    sameness = run.study.curation.unique
    if sameness == "none":
        sameness = "text"
    for arm, samples in arms.items():
        for budget in samples.budgets:
            drawn = samples.by_budget[samples.by_budget["budget"] == budget]
            metrics = {
                Outcome.COVERAGE: drawn["n_covered"].sum() / n_times,
                Outcome.UNIQUE_CORRECT: drawn[f"n_{sameness}"].sum() / n_times,
                Outcome.EXAMPLES: float(samples.totals.loc[budget, "n_examples"]),
            }
            if samples.first["judge"].notna().any():
                metrics[Outcome.SOUND_COVERAGE] = drawn["n_sound_covered"].sum() / n_times
            for metric, value in metrics.items():
                rows.append({"arm": arm, "budget": budget, "metric": metric, "outcome": value})
    return pd.DataFrame(rows)
