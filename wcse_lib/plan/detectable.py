"""Which differences the study can see, said before anything is spent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib.forecast import Outcome
from wcse_lib.plan import power
from wcse_lib.plan.headline import n_comparisons
from wcse_lib.plan.tables import read_forecast
from wcse_lib.study import Run, Study

RATES = (0.02, 0.98)  # nearer to 0 or 1 the normal approximation fails
ALPHA = 0.05


class Comparison(NamedTuple):
    """Something that the study compares: on how many items, at what rate of success."""

    what: str
    n: int
    items: str
    rate: float
    correlation: float | None  # of the two sides' outcomes; None where they are not paired
    students: power.Students | None = None


def power_table(run: Run) -> pd.DataFrame:
    """The smallest differences (points) seen with 80 % power at α = 0.05, one row for each thing that is compared.

    Coverage on the training problems and students on every held-out set, unpaired and paired; false positives over the
    correct samples to expect. Arms' rates and correlation are the pilot's; without one, and for students, `power` gives
    them. `headline_points`: what 06's test of students finds, over all seeds and bases, with training luck, corrected
    for the number of comparisons as the one of several that alone differs is.
    """
    rows = []
    for comparison in _comparisons(run):
        if comparison.n > 1:
            rows.append(_row(comparison, n_headline_tests(run.study)))
    return pd.DataFrame(rows)


def n_headline_tests(study: Study) -> int:
    """For how many tests 06 corrects the headline: pairs of arms at every budget, or the primary one, times the looks
    that the plan allows."""
    n_tests = 1 if study.primary is not None else max(1, n_comparisons(study))
    return n_tests * study.training.looks


def expected_students(study: Study) -> power.Students:
    """How many students the headline's rates are means of, and how much luck `power` expects of them."""
    of_one_base = study.primary is not None and study.primary.base is not None
    n_groups = len(study.plain_arms) * len(study.budget.samples)
    return power.Students(
        n_seeds=len(study.training.seeds),
        n_bases=1 if of_one_base else len(study.students),
        n_groups=n_groups,
        seed_sd=study.power.seed_sd_points / 100,
        seed_correlation=study.power.seed_correlation,
    )


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
    if run.plan.students:
        students = expected_students(run.study)
        for name, n in run.plan.n_held_out.items():
            items = "held-out problems" if name == "held_out" else f"problems of {name}"
            yield Comparison("students", n, items, given.rate, given.correlation, students)


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


def _row(comparison: Comparison, n_tests: int) -> dict:
    rate = float(np.clip(comparison.rate, *RATES))
    ways: dict[str, dict] = {"unpaired_points": {}}
    if comparison.correlation is not None:
        paired = {"paired_correlation": comparison.correlation}
        ways["paired_points"] = paired
        if comparison.students is not None:
            corrected = {"students": comparison.students, "alpha": ALPHA / n_tests}
            ways["headline_points"] = paired | corrected
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
    for row in power_table(run).itertuples():
        options, paired = {}, ""
        if not pd.isna(row.correlation):
            options = {"paired_correlation": row.correlation}
            paired = f", paired (correlation {row.correlation:.2g}),"
        items = f"{row.items}{paired} at a rate of {row.rate:.2g}"
        sentence = power.power_sentence(row.n, row.rate, wanted, items, **options)
        if row.what == "students":
            sentence += _headline_sentence(run.study, row.headline_points)
        sentences.append(f"{row.what.capitalize()}: your {sentence}")
    return sentences


def _headline_sentence(study: Study, points: float) -> str:
    """What 06's own test finds, and what was assumed of luck."""
    students = expected_students(study)
    n_tests = n_headline_tests(study)
    seen = f"{points:.1f} points" if np.isfinite(points) else "no difference at all"
    corrected = f"corrected for {n_tests} tests; " if n_tests > 1 else ""
    source = "measured by 06 over the study"
    if students.n_seeds == 1:
        source = "which one seed cannot show, so that 06 assumes it too"
    counts = f"training seeds: {students.n_seeds}; base students: {students.n_bases}; {corrected}"
    luck = f"training luck of {100 * students.seed_sd:g} points, {source}"
    return f" That is two single students. The answer's own test ({counts}{luck}) finds {seen}."
