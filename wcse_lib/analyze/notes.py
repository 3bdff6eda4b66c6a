"""What limits a study's numbers, and what a reader may expect to find and will not."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from wcse_lib.analyze.controls import unseen_faults
from wcse_lib.analyze.looks import read_looks
from wcse_lib.analyze.words import (
    ANY_BASE,
    HELD_OUT,
    QUANTITY_WORDS,
    Ending,
    Quantity,
    join_some,
    join_words,
    judge_words,
)
from wcse_lib.budget import charged_prompts, unspent
from wcse_lib.intervals import Estimate
from wcse_lib.luck import SeedLuck, smallest_found
from wcse_lib.store import read_json
from wcse_lib.study import Run
from wcse_lib.verdicts import PRIMARY_METRIC

MATCHED_BY = {  # rules of `budget.match` other than by cost
    "count": "number of samples",
    "seconds": "measured seconds",
    "examples": "expected number of examples",
    "coverage": "expected coverage",
}
MOST_NAMED = 3  # comparisons whose power is told one by one
MOST_ALIKE = 4  # amounts that are told one by one
MANY = 0.01  # share of truncated samples that is worth a sentence
PROMPTS_COUNTED = {
    "once": "once a problem",
    "each": "with every sample",
    "cached": "from a cache after the first",
}


def notes(
    run: Run, tables: dict[str, pd.DataFrame], shown: pd.DataFrame, n_comparisons: int
) -> list[str]:
    """What limits the numbers, the gravest first: a report shows the first two beside its answer.

    `shown`: the headline's rows that the answer names; `n_comparisons`: how many it makes.
    """
    found = []
    if run.study.students:
        found += [*read_looks(run).sentences(), *_unseen_faults(run, tables)]
        found += _unmeasured_luck(run, tables)
    found += _overspent(tables)
    found += _power(tables, shown, n_comparisons, 0.05 / run.study.training.looks)
    found += [*_lost_samples(tables), *_open_answers(tables), *_cut_answers(tables)]
    found += [*_judges(tables), _matching(run), *_on_policy(run), *unspent(run.plan.arms)]
    found += [*_draws(run), *_long_examples(run), *_measured_luck(run, tables)]
    return found


def _matching(run: Run) -> str:
    """By what the arms' budgets are equal, and what that leaves out."""
    budget = run.study.budget
    if budget.match in MATCHED_BY:
        rule = MATCHED_BY[budget.match]
        return f"Arms are matched by {rule}; verification is left out of the match."
    by_flops = budget.match == "flops"
    unit = "FLOPs (2·P per token)" if by_flops else "price"
    counted = ["at equal lengths"]
    if budget.lengths == "measured":
        counted = ["at each arm's measured lengths"]
    left_out = []
    prompts = charged_prompts(run.study, run.plan.plain_arms())
    if prompts == "none":
        left_out.append("prompt tokens")
    else:
        counted.append(f"prompts counted {PROMPTS_COUNTED[prompts]}")
    if by_flops and budget.attention:
        counted.append("attention counted")
    elif by_flops:
        left_out.append("attention")
    left_out.append("verification")
    verb = "are" if len(left_out) > 1 else "is"
    return f"Arms are matched by {unit}, {', '.join(counted)}; {join_words(left_out)} {verb} left out of the match."


def _on_policy(run: Run) -> Iterator[str]:
    """What the students of on-policy arms spent, beside what those spent whose cost was their budget."""
    for arm, spec in run.study.on_policy_arms.items():
        spent, planned = 0.0, 0.0
        for student, entry in run.plan.students.items():
            if entry.arm == arm:
                report = read_json(run.path("04", student, "report.json"))
                spent += report["spent_flops"]
                planned += report["planned_flops"]
        yield (
            f"{arm}'s students spent {100 * spent / planned:.1f} % of the FLOPs that {spec.of}'s samples and the"
            f" training on them took; judging {spec.of}'s samples is left out."
        )


def _power(
    tables: dict[str, pd.DataFrame], shown: pd.DataFrame, n_comparisons: int, level: float
) -> Iterator[str]:
    """The differences that the comparisons would find with a power of 80 %, each by its own test at its corrected
    level.

    `level` is that of one comparison; the primary one, where the plan names it, is tested by itself.
    """
    found = {}
    for row in shown.itertuples():
        if getattr(row, "unit", "points") != "points":
            continue
        by_problems = (row.high - row.low) / 3.92
        luck = SeedLuck(0.0)
        if pd.notna(getattr(row, "error_by_luck", None)):
            by_problems = row.error_by_problems
            luck = SeedLuck(row.error_by_luck**2, df=_luck_df(tables, row.base))
        alpha = level
        if not getattr(row, "primary", False):
            alpha = level / max(n_comparisons, 1)
        quantity = getattr(row, "quantity", "")
        what = f" in {QUANTITY_WORDS[quantity]}" if quantity else ""
        name = f"{row.arm_a} against {row.arm_b} at {row.budget}{what}"
        found[name] = 100 * smallest_found(by_problems**2, luck, row.n_problems, alpha)
    if not found:
        return
    sizes = join_words([f"{points:.1f} points ({name})" for name, points in found.items()])
    if len(found) > MOST_NAMED:
        sizes = f"{min(found.values()):.1f} to {max(found.values()):.1f} points, by comparison,"
    yield f"True differences below about {sizes} would be missed more often than one time in five."


def _luck_df(tables: dict[str, pd.DataFrame], base: str) -> float:
    """On how many degrees of freedom the luck of the headline's rows of this base rests."""
    rows = PRIMARY_METRIC.rows(tables["training_luck"])
    rows = rows[rows["set"] == HELD_OUT]
    of_base = rows[rows["base"] == base]
    (row,) = (of_base if len(of_base) else rows[rows["base"] == ANY_BASE]).itertuples()
    return float("inf") if row.assumed else row.df


def _judges(tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    """By whose judgements false positives are known, and what these cannot see."""
    table = tables.get("false_positives", pd.DataFrame(columns=["judge", "corrected_by"]))
    for judge, corrected_by in table[["judge", "corrected_by"]].drop_duplicates().to_numpy():
        if isinstance(corrected_by, str) and corrected_by:
            yield f"One rate of false positives is the judge's ({judge_words(judge, corrected_by)})."
        elif judge == "arithmetic":
            yield (
                "The arithmetic judge finds wrong sums, and no wrong ideas: its rate of false positives is a lower"
                " bound, and sound coverage by it an upper one."
            )
        elif judge == "model":
            yield "One rate of false positives is a model's, uncorrected for its own errors."


def _unseen_faults(run: Run, tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    if not run.study.controls.planted:
        yield "No fault was planted (controls.planted): whether this study could have seen one is not known."
    yield from unseen_faults(tables)


def _overspent(tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Arms whose sampling did not cost what was planned for it."""
    ratios = {}
    for row in tables.get("ledger", pd.DataFrame()).itertuples():
        is_sampling = row.stage == "02_generate" and row.unit == "flops" and row.kind == "sampling"
        is_unmatched = pd.notna(row.matched) and not row.matched
        if is_sampling and is_unmatched and row.planned > 0:
            ratios[f"{row.who} {row.ratio:.2f} times ({row.budget})"] = abs(np.log(row.ratio))
    if ratios:
        told = join_words([*ratios])
        if len(ratios) > MOST_ALIKE:
            farthest = max(ratios, key=ratios.get)
            told = f"{len(ratios)} amounts differ, the farthest is {farthest}"
        yield (
            f"Sampling did not cost the planned FLOPs: {told}. Texts are not as long as the plan assumed."
        )


def _lost_samples(tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Samples that were cut or could not be verified, and how far the latter could move a rate."""
    cut, unverifiable, span = [], [], 0.0
    for row in tables["quality"].itertuples():
        if row.n_truncated > MANY * row.n_samples:
            cut.append(f"{row.n_truncated:,} of {row.arm}'s {row.n_samples:,} at {row.budget}")
        if row.n_unverifiable:
            unverifiable.append(f"{row.n_unverifiable:,} of {row.arm}'s at {row.budget}")
            span = max(span, row.pass_at_1_if_right - row.pass_at_1_if_wrong)
            span = max(span, row.coverage_if_right - row.coverage_if_wrong)
    if cut:
        yield f"Samples were cut at max_tokens: {join_some(cut)}."
    if unverifiable:
        yield (
            f"Unverifiable samples ({join_some(unverifiable)}) are left out, as if they were as often right as the"
            " others of their problem. Between all of them wrong and all of them right, pass@1 and coverage of no"
            f" arm move by more than {100 * span:.1f} points (`quality`: if wrong, if right)."
        )


def _open_answers(tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Students some of whose held-out answers are unverifiable."""
    table = tables.get("students", pd.DataFrame())
    if "if_wrong" not in table:
        return
    for row in PRIMARY_METRIC.rows(table).dropna(subset="if_wrong").itertuples():
        yield (
            f"Unverifiable held-out answers of {row.student} ({row.set}) are left out, and with them problems that have"
            " no other of every student, as if they were as often right as the rest. If all were wrong, its greedy"
            f" pass@1 would be {100 * row.if_wrong:.1f} %, if all were right {100 * row.if_right:.1f} %."
        )


def _draws(run: Run) -> Iterator[str]:
    """Of what the numbers about samples are, where each training seed learnt from its own."""
    n_draws = run.plan.n_draws
    if n_draws > 1:
        yield (
            f"Each training seed learnt from a draw of its own: every arm's budgets were drawn {n_draws} times. Rates"
            " of samples are over all draws, and counts of samples and examples are means of a draw."
        )


def _long_examples(run: Run) -> Iterator[str]:
    trained = [name for name, entry in run.plan.students.items() if entry.source != "base"]
    for student in trained:
        n_dropped = read_json(run.path("04", student, "report.json"))["n_dropped_long"]
        if n_dropped:
            yield (
                f"{n_dropped} examples of {student} were longer than training.max_tokens, or than its model holds, and"
                " left out."
            )


def _unmeasured_luck(run: Run, tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    """What intervals and p values of students' differences cannot count: luck that was shared, or assumed."""
    if len(run.study.training.seeds) > 1 and run.plan.n_draws == 1:
        yield (
            "All training seeds learnt from the same drawn samples (training.draws: shared): what is said of students"
            " holds for these training sets, not for the generators."
        )
    for luck, row in _luck(tables):
        if row.assumed:
            yield (
                f"Each student was trained with one seed. Intervals and p values of students' differences assume"
                f" {luck.text(signed=False, interval='')} of luck between seeds (power.seed_sd_points): where it is"
                " larger they claim too much."
            )


def _measured_luck(run: Run, tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    for luck, row in _luck(tables):
        if not row.assumed:
            yield (
                "Intervals and p values of students' differences count the choice of problems, and"
                f" {luck.text(signed=False, interval=' ({low} to {high})')} of spread between students that differ in"
                f" their training seed alone, pooled over the study ({row.df:.0f} degrees of freedom)."
            )


def _luck(tables: dict[str, pd.DataFrame]) -> Iterator[tuple]:
    """The luck of the main held-out problems in the primary metric, with its row; nothing where it is not told."""
    if "training_luck" in tables:
        rows = PRIMARY_METRIC.rows(tables["training_luck"])
        for row in rows[rows["set"] == HELD_OUT].head(1).itertuples():
            yield Estimate(row.value, row.low, row.high, unit="points"), row


def _cut_answers(tables: dict[str, pd.DataFrame]) -> Iterator[str]:
    """Students whose held-out answers were cut: these count as wrong, however good the reasoning was."""
    shares = []
    for row in tables.get("endings", pd.DataFrame()).itertuples():
        if row.quantity == Ending.CUT and row.value > MANY:
            shares.append(
                f"{row.student} {100 * row.value:.0f} % of {row.n_answers:,} ({row.decoding})"
            )
    if shares:
        yield (
            f"Held-out answers cut at evaluation.max_tokens, which count as wrong: {join_some(shares)}. Who goes on"
            " after an answer is measured by stopping, too; see sampling.stop."
        )


def not_run(run: Run, tables: dict[str, pd.DataFrame]) -> list[str]:
    """What a reader may expect to find and will not."""
    missing, study = [], run.study
    judged_arms = set(tables["sound_coverage"]["arm"]) if "sound_coverage" in tables else set()
    if len(judged_arms) < len(run.plan.arms):
        missing.append(
            "Coverage without false positives is shown only for arms all of whose correct samples were judged."
        )
    if not study.students:
        missing.append("The study has no students: it compares the data alone.")
        return missing
    if not study.recipes:
        missing.append(
            "No ablations: the study has no further recipes, so that reasons for a difference cannot be separated."
        )
    if Quantity.LOG_LIKELIHOOD not in set(tables["explanation"]["quantity"]):
        missing.append("How the examples fit the base students was not measured.")
    if "transfer" not in tables:
        missing.append("No transfer: students were tested on one set of held-out problems.")
    return missing
