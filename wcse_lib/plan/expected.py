"""What the pilot lets expect of the study's arms, budgets, mixes and adaptive rules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from wcse_lib import forecast
from wcse_lib.budget import Spend, decide
from wcse_lib.forecast import Outcome
from wcse_lib.plan.pilot import PilotCounts, joined
from wcse_lib.study import (
    Adaptive,
    Curation,
    PlannedAdaptive,
    PlannedArm,
    PlannedMixed,
    Study,
)

EXPECTED = ["value", "low", "high", "least", "most"]
COLUMNS = ["arm", "budget", "k", "metric", *EXPECTED]
Cells = dict[str, list[float]]  # metric -> EXPECTED
NO_BOUNDS = (np.nan, np.nan)
N_POPULATIONS = 16  # on which an adaptive rule is played
MOST_PROBLEMS = 500  # of each


def forecast_table(
    study: Study, arms: Mapping[str, PlannedArm], pilot: dict[str, PilotCounts], n: int
) -> pd.DataFrame:
    """What every arm should give at every budget in a study of n problems: arm, budget, k, metric, value, low, high,
    least, most, n.

    Beside the forecast stands what holds whatever the population is (`least`, `most`), for the coverage of arms that
    have a model and a budget far beyond the pilot; else NaN.
    """
    plain = {
        name: _expected(study, pilot[name], arm.samples, n)
        for name, arm in arms.items()
        if name in pilot
    }
    rows: list[tuple] = []
    for name, arm in arms.items():
        if isinstance(arm, PlannedAdaptive):
            rows += _adaptive_rows(study, name, arm, plain[arm.rule.of], pilot[arm.rule.of], n)
        elif isinstance(arm, PlannedMixed):
            for budget_name, parts in arm.parts.items():
                pairs, first = joined(pilot)
                expected = forecast.forecast_mix(pairs, parts, n, study.seed, first)
                k = sum(parts.values())
                rows.append((name, budget_name, k, Outcome.COVERAGE, *expected, *NO_BOUNDS))
        else:
            rows += _plain_rows(name, arm, plain[name])
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"k": float, "least": float, "most": float})
    return table.assign(n=n)


def _plain_rows(name: str, arm: PlannedArm, expected: dict[str, Cells]) -> Iterator[tuple]:
    for budget_name, k in arm.samples.items():
        for metric, values in expected[budget_name].items():
            yield name, budget_name, k, metric, *values


def _adaptive_rows(
    study: Study,
    name: str,
    arm: PlannedAdaptive,
    expected: dict[str, Cells],
    parent: PilotCounts,
    n: int,
) -> Iterator[tuple]:
    """As the same samples spread evenly, and what the rule gains on them: of likelihood nobody knows, as counts do not
    say how likely a model finds its samples."""
    gains = dict.fromkeys(arm.samples, 0.0)
    if arm.rule.rule != "likelihood":
        gains = _gains(arm.rule, arm.samples, parent.pair, min(n, MOST_PROBLEMS), study.seed)
    for budget_name, k in arm.samples.items():
        even = np.array(expected[budget_name][Outcome.COVERAGE][:3])
        gained = np.clip(even + gains[budget_name], 0, 1)
        yield name, budget_name, k, Outcome.COVERAGE, *gained, *NO_BOUNDS


def _expected(
    study: Study, arm: PilotCounts, samples: Mapping[str, int], n: int
) -> dict[str, Cells]:
    """What a plain arm should give in a study of n problems at every budget."""
    ks = [*samples.values(), 1]
    how = {"seed": study.seed, "n_problems": n}
    covers = forecast.forecast_coverage(*arm.pair, ks, **how)
    frames = {Outcome.COVERAGE: forecast.with_bounds(covers, *arm.pair, n)}
    if arm.sound:
        sound = forecast.forecast_coverage(*arm.sound, ks, **how)
        frames[Outcome.SOUND_COVERAGE] = forecast.with_bounds(sound, *arm.sound, n)
    elif arm.n_judged:
        frames[Outcome.SOUND_COVERAGE] = forecast.forecast_coverage(
            *arm.pair, ks, **how, false_positives=arm.false
        )
    frames[Outcome.UNIQUE_CORRECT] = forecast.forecast_unique(
        *arm.pair, arm.groups, ks, study.seed, n_problems=n
    )
    cells = {}
    for metric, frame in frames.items():
        cells[metric] = frame.reindex(columns=EXPECTED).to_numpy(float)
    if _examples_follow_from_samples(study.curation):
        cells[Outcome.EXAMPLES] = n * _examples_per_problem(study.curation, cells, ks)
    by_budget = {}
    for i, budget_name in enumerate(samples):
        by_budget[budget_name] = {metric: values[i].tolist() for metric, values in cells.items()}
    return by_budget


def _examples_follow_from_samples(curation: Curation) -> bool:
    """Whether the number of examples is that of unique correct samples, or of solved problems."""
    limits = (curation.n_samples, curation.n_problems, curation.n_examples, curation.noise)
    return curation.filter == "gold" and curation.per_problem in (None, 1) and not any(limits)


def _examples_per_problem(curation: Curation, cells: Mapping, ks: list[int]) -> np.ndarray:
    if curation.per_problem == 1:
        return cells[Outcome.COVERAGE]
    if curation.unique == "none":
        pass_at_1 = cells[Outcome.COVERAGE][-1]
        return np.array(ks)[:, None] * pass_at_1
    return cells[Outcome.UNIQUE_CORRECT]


def _gains(
    rule: Adaptive, samples: Mapping[str, int], pair: tuple, n: int, seed: int
) -> dict[str, float]:
    """Coverage that an adaptive rule gains over k samples of every problem, from playing it on populations that could
    have given the pilot."""
    rng = np.random.default_rng(seed)
    totals = {budget_name: k * n for budget_name, k in samples.items()}
    ks = np.array(list(samples.values()))
    gains = []
    for population in forecast.posterior(*pair).rates(N_POPULATIONS, rng, MOST_PROBLEMS):
        rates = rng.choice(population, n)
        even = [(1 - (1 - rates) ** k).mean() for k in ks]
        gains.append(np.subtract(_played(rule, totals, rates, rng), even))
    return dict(zip(samples, np.mean(gains, axis=0)))


def _played(rule: Adaptive, totals: Mapping[str, int], rates: np.ndarray, rng) -> list[float]:
    """Coverage at every total when an adaptive rule plays on problems of known success rates."""
    n_drawn, n_right = np.zeros(len(rates), int), np.zeros(len(rates), int)
    coverage_at: dict[int, float] = {}

    def draw(wanted: np.ndarray) -> np.ndarray:
        n_right[:] += rng.binomial(wanted - n_drawn, rates)
        n_drawn[:] = wanted
        coverage_at[int(wanted.sum())] = float((n_right > 0).mean())
        return n_right.copy()

    decide(rule, totals, len(rates), draw)
    return [coverage_at[total] for total in totals.values()]


def matching_curves(study: Study, pilot: dict[str, PilotCounts]) -> dict[str, np.ndarray] | None:
    """What 1, 2, … samples of every arm are expected to give, where budgets are matched by coverage or examples."""
    if study.budget.match not in ("examples", "coverage"):
        return None
    most = max(100, 30 * max(study.budget.samples.values()))
    ks = np.unique(np.geomspace(1, most, 30).astype(int))
    curves = {}
    for name, arm in pilot.items():
        if study.budget.match == "coverage":
            expected = forecast.forecast_coverage(*arm.pair, ks)
        else:
            expected = forecast.forecast_unique(*arm.pair, arm.groups, ks)
        curves[name] = np.interp(np.arange(1, most + 1), ks, expected["value"])
    return curves


def best_shares(spend: Spend, pilot: dict[str, PilotCounts], budget_name: str) -> dict[str, float]:
    """Budget shares of the mix whose forecast coverage at a budget is best (the same at every budget, so that they
    nest)."""
    each = spend.average(budget_name)
    pairs, first = joined(pilot)
    best = forecast.best_mix(pairs, each, spend.budgets[budget_name], first=first).iloc[0]
    money = {name: best[name] * each[name] for name in pilot if best[name] > 0}
    total = sum(money.values())
    return {name: float(part / total) for name, part in money.items()}
