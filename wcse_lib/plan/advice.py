"""What the pilot advises to buy, in sentences, and where the arms' expected curves cross."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from wcse_lib import forecast
from wcse_lib.budget import Spend
from wcse_lib.intervals import Estimate
from wcse_lib.plan.pilot import MANY, PilotCounts, joined, unsolved_at_last
from wcse_lib.study import Crossing, Study

CAVEAT = (
    "Forecasts weigh many kinds of populations of success rates by what the pilot found. Their intervals are "
    "nominal 95 %, and hold less often where the truth is unlike the kinds that are weighed. Beyond three times "
    "the pilot's samples bounds stand beside them, which hold whatever the population is. For adaptive arms "
    "this was not tried."
)
FURTHEST = 3  # times the largest budget: how far crossings are looked for


def advise(study: Study, spend: Spend, pilot: dict[str, PilotCounts]) -> list[str]:
    """What to buy at every budget and how sure that is, where curves cross, and how far to trust forecasts."""
    sentences = []
    for budget_name in study.budget.samples:
        sentences += _at_budget(study, spend, pilot, budget_name)
    for name in pilot:
        if name != study.budget.reference:
            sentences.append(_who_is_ahead(study, spend, pilot, name))
    return [*sentences, _hardly_solved(pilot), CAVEAT]


def crossings(study: Study, spend: Spend, pilot: dict[str, PilotCounts]) -> list[Crossing]:
    """Where an arm's expected coverage crosses the reference arm's, where that is likelier than not."""
    likely = []
    for name in pilot:
        if name != study.budget.reference:
            crossing, _ = _crossing(study, spend, pilot, name)
            if crossing.p >= 0.5:
                likely.append(crossing)
    return likely


def _at_budget(
    study: Study, spend: Spend, pilot: dict[str, PilotCounts], budget_name: str
) -> Iterator[str]:
    money, each = spend.budgets[budget_name], spend.average(budget_name)
    pairs = {name: arm.pair for name, arm in pilot.items()}
    yield _best_arm(budget_name, forecast.recommend(pairs, each, money, study.seed))
    if len(pilot) == 1:
        return
    if all(arm.n_judged for arm in pilot.values()):
        yield _best_sound_arm(study, pilot, each, money)
    pairs, first = joined(pilot)
    yield _best_mix(pilot, forecast.best_mix(pairs, each, money, study.seed, first))


def _best_arm(budget_name: str, table: pd.DataFrame) -> str:
    best = table.iloc[0]
    text = (
        f"At the budget “{budget_name}” buy {best.arm} with k = {best.k}: "
        f"coverage {_percent(best)} is expected"
    )
    others = [f"{row.arm}, k = {row.k}: {_percent(row)}" for row in table.iloc[1:].itertuples()]
    if not others:
        return f"{text}."
    chance = f"the chance that it is the best single arm is {100 * best.p_best:.0f} %"
    return f"{text} ({'; '.join(others)}); {chance}."


def _best_sound_arm(study: Study, pilot: dict, each: dict, money: float) -> str:
    counted = all(arm.sound for arm in pilot.values())
    pairs = {name: arm.sound if counted else arm.pair for name, arm in pilot.items()}
    rates = None if counted else {name: arm.false for name, arm in pilot.items()}
    best = forecast.recommend(pairs, each, money, study.seed, false_positives=rates).iloc[0]
    return (
        f"Counting sound solutions alone it is {best.arm}, k = {best.k}: {_percent(best)}, "
        f"the best with a chance of {100 * best.p_best:.0f} %."
    )


def _best_mix(pilot: dict, mixes: pd.DataFrame) -> str:
    names = list(pilot)
    mix, is_single = mixes.iloc[0], (mixes[names] > 0).sum(axis=1) == 1
    used = [name for name in names if mix[name] > 0]
    if len(used) == 1:
        return f"No mix of arms is forecast to do better there than {used[0]} alone."
    counts = " + ".join(f"{int(mix[name])} {name}" for name in names)
    gain = 100 * (mix.value - mixes.loc[is_single, "value"].max())
    return (
        f"The best mix there is {counts} samples per problem: coverage {gain:.1f} points above the best "
        f"single arm, with a chance of {100 * mix.p_beats_single:.0f} % to beat every one."
    )


def _crossing(
    study: Study, spend: Spend, pilot: dict[str, PilotCounts], other: str
) -> tuple[Crossing, np.ndarray]:
    """Where an arm's curve crosses the reference arm's, in the reference's samples; and its chances to be ahead."""
    reference = study.budget.reference
    unit = spend.more[reference]
    start = max(unit, spend.more[other])
    most = FURTHEST * max(spend.budgets.values())
    pairs = {name: pilot[name].pair for name in (reference, other)}
    found = forecast.crossing(pairs, spend.more, np.geomspace(start, most, 60), study.seed)
    place = {key: float(found[key] / unit) for key in ("value", "low", "high")}
    crossing = Crossing(arms=[reference, other], **place, p=float(found["p_crossing"]))
    return crossing, found["p_ahead"]


def _who_is_ahead(study: Study, spend: Spend, pilot: dict[str, PilotCounts], other: str) -> str:
    reference = study.budget.reference
    crossing, p_ahead = _crossing(study, spend, pilot, other)
    most = FURTHEST * max(spend.budgets.values()) / spend.more[reference]
    text = (
        f"{other} is ahead of {reference} with a chance of {100 * p_ahead[0]:.0f} % at the smallest and "
        f"{100 * p_ahead[-1]:.0f} % at the largest budget between 1 and {most:.0f} samples of {reference}"
    )
    if crossing.p >= 0.5:
        unit = f"samples of {reference}"
        samples = Estimate(crossing.value, crossing.low, crossing.high, unit=unit)
        where = samples.text(decimals=1, interval=" ({low} to {high})")
        text += f"; the curves cross at about {where}"
    return f"{text}; the chance of a crossing there is {100 * crossing.p:.0f} %."


def _hardly_solved(pilot: dict[str, PilotCounts]) -> str:
    each = []
    for name, arm in pilot.items():
        share = unsolved_at_last(arm).text(decimals=0, interval=" ({low} to {high} %)")
        each.append(f"{name}: {share}")
    return f"Problems that even {MANY:,} samples are expected to leave unsolved: {'; '.join(each)}."


def _percent(row) -> str:
    rate = Estimate(row.value, row.low, row.high, unit="%")
    return rate.text(decimals=0, interval=" ({low} to {high} %)")
