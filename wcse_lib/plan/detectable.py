"""Which differences the study can see, said before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib.forecast import Outcome
from wcse_lib.plan import power
from wcse_lib.plan.tables import read_forecast
from wcse_lib.study import Run

RATES = (0.02, 0.98)  # nearer to 0 or 1 the normal approximation fails
ONE_SEED = (
    " One training seed cannot tell a difference of the arms from one of seeds: what holds is that of "
    "these two students."
)


class Comparison(NamedTuple):
    """Something that the study compares: on how many items, at what rate of success."""

    what: str
    n: int
    items: str
    rate: float
    correlation: float | None  # of the two sides' outcomes; None where they are not paired
    n_seeds: int = 1


def power_table(run: Run) -> pd.DataFrame:
    """The smallest differences (points) seen with 80 % power at α = 0.05, one row for each thing that is compared.

    Coverage on the training problems and students on every held-out set, unpaired and paired; false positives over the
    correct samples to expect. Arms' rates and correlation are the pilot's; without one, and for students, `power` gives
    them, and the spread over training seeds in the last column, which one seed, that cannot tell of its spread, lacks.
    """
    rows = []
    for comparison in _comparisons(run):
        if comparison.n > 1:
            rows.append(_row(comparison, run.study.power.seed_sd_points / 100))
    return pd.DataFrame(rows)


def _comparisons(run: Run) -> Iterator[Comparison]:
    given, n_train = run.study.power, run.plan.n_problems["train"]
    correlation = run.plan.pilot_correlation
    yield Comparison(
        "coverage of arms",
        n_train,
        "training problems",
        _expected_coverage(run),
        given.correlation if correlation is None else correlation,
    )
    yield from _false_positives(run)
    n_seeds = len(run.study.training.seeds)
    if run.plan.students:
        for name, n in run.plan.n_held_out.items():
            items = "held-out problems" if name == "held_out" else f"problems of {name}"
            yield Comparison("students", n, items, given.rate, given.correlation, n_seeds)


def _expected_coverage(run: Run) -> float:
    """The reference arm's forecast coverage at its largest budget; without a pilot, what `power` assumes."""
    table = read_forecast(run)
    if table is None:
        return run.study.power.rate
    of_reference = table["arm"] == run.study.budget.reference
    return table[of_reference & (table["metric"] == Outcome.COVERAGE)]["value"].iloc[-1]


def _false_positives(run: Run) -> Iterator[Comparison]:
    """The arm with the fewest correct samples to expect limits what can be said of false positives."""
    n_correct = {}
    for name, facts in (run.plan.pilot or {}).items():
        n_samples = min(run.plan.arms[name].samples.values()) * run.plan.n_problems["train"]
        n_correct[name] = n_samples * facts.pass_at_1
    if not n_correct:
        return
    fewest = min(n_correct, key=lambda name: (n_correct[name], name))
    facts = run.plan.pilot[fewest]
    if n_correct[fewest] >= 2 and facts.n_judged:
        yield Comparison(
            "false positives of arms",
            int(n_correct[fewest]),
            f"correct samples of {fewest} (expected)",
            facts.n_false / facts.n_judged,
            None,
        )


def _row(comparison: Comparison, seed_sd: float) -> dict:
    rate = float(np.clip(comparison.rate, *RATES))
    ways: dict[str, dict] = {"unpaired_points": {}}
    if comparison.correlation is not None:
        paired = {"paired_correlation": comparison.correlation}
        ways["paired_points"] = paired
        if comparison.n_seeds > 1:
            seeds = {"n_seeds": comparison.n_seeds, "seed_sd": seed_sd}
            ways["paired_with_seeds_points"] = paired | seeds
    row = {
        "what": comparison.what,
        "n": comparison.n,
        "items": comparison.items,
        "rate": rate,
        "correlation": comparison.correlation,
    }
    for name, options in ways.items():
        row[name] = 100 * power.minimum_detectable_effect(comparison.n, rate, **options)
    return row


def power_sentences(run: Run, wanted: float = 0.02) -> list[str]:
    """What the study's items can and cannot show, one sentence for each comparison."""
    sentences = []
    n_seeds, sd = len(run.study.training.seeds), run.study.power.seed_sd_points
    for row in power_table(run).itertuples():
        options, paired = {}, ""
        if not pd.isna(row.correlation):
            options = {"paired_correlation": row.correlation}
            paired = f", paired (correlation {row.correlation:.2g}),"
        items = f"{row.items}{paired} at a rate of {row.rate:.2g}"
        sentence = power.power_sentence(row.n, row.rate, wanted, items, **options)
        if row.what == "students" and n_seeds == 1:
            sentence += ONE_SEED
        elif row.what == "students":
            points = row.paired_with_seeds_points
            sentence += (
                f" With {n_seeds} training seeds that spread by {sd:g} points: {points:.1f} points."
            )
        sentences.append(f"{row.what.capitalize()}: your {sentence}")
    return sentences
