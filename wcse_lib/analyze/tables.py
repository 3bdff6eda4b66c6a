"""Every table that 06 writes, declared once: analysis fills it, figures draw it, the report and the tests read it here.

A new table touches three places: its declaration in `TABLES`, the function of `analyze` that fills it, and the function
of `report.figures` that draws it, where it has a figure.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from wcse_lib.analyze.columns import (
    DIFFERENCE,
    METRIC,
    P_VALUES,
    PAIR,
    TESTED,
    UNIT,
    Column,
    Figure,
    Kind,
    Section,
    Shown,
    Table,
    bounds,
    enum,
    estimate,
    flag,
    numbers,
    optional,
    share,
    words,
)
from wcse_lib.analyze.words import (
    CONTROL_WORDS,
    ENDING_WORDS,
    PORTION_WORDS,
    QUANTITY_WORDS,
    UNIT_WORDS,
)
from wcse_lib.forecast import OUTCOME_WORDS
from wcse_lib.store import StudyError, unguarded, write_csv

DECLARED = (
    Table(
        "reasons",
        Section.WHY,
        "What could make one arm teach better: an explanation speaks for an arm where its difference is shown",
        words("arm_a", "arm_b", "budget")
        + enum("quantity", QUANTITY_WORDS)
        + (Column("base", "student", Kind.WORD),)
        + estimate("difference", signed=True)
        + UNIT
        + words("speaks_for")
        + optional(words("recipe", "finding")),
        shown=Shown.OPEN,
        needs="two arms",
    ),
    Table(
        "ablations",
        Section.WHY,
        "What other recipes change",
        words("base", "budget", "arm_a", "arm_b", "comparison", "recipe", "against")
        + METRIC
        + DIFFERENCE
        + TESTED,
        (
            Figure(
                "ablations",
                "Students trained on the same samples, chosen differently. A recipe takes one explanation away; "
                "“Change of that difference” says what that did between arms; of many comparisons these stand here "
                "alone, and the numbers have all. "
                "Filled dots: p < 0.05 after Holm's correction.",
                shown=Shown.OPEN,
            ),
        ),
        optional=True,
    ),
    Table(
        "explanation",
        Section.DATA,
        "The arms’ data side by side, with 95 % intervals",
        words("arm", "budget", "base")
        + enum("quantity", QUANTITY_WORDS)
        + estimate("value")
        + UNIT
        + numbers("n"),
        (
            Figure(
                "likelihood",
                "Mean log-likelihood per token of each arm's examples under the student before training. "
                "Higher: closer to what it already says.",
                title="What the students would have written themselves",
            ),
        ),
        shown=Shown.OPEN,
        across="arm",
    ),
    Table(
        "split",
        Section.WHY,
        "Differences between arms: by more examples, and by another author of as many",
        words("base", "budget", "arm_a", "arm_b", "recipe")
        + enum("part", PORTION_WORDS)
        + METRIC
        + DIFFERENCE
        + TESTED,
        optional=True,
    ),
    Table(
        "quality",
        Section.DATA,
        "Data quality by arm and budget",
        words("arm", "budget")
        + share("coverage", "coverage")
        + bounds("coverage_")
        + share("pass_at_1", "pass@1")
        + bounds("pass_at_1_")
        + share("duplicate_rate", "duplicates")
        + numbers("samples_per_problem", "n_problems", "n_samples", "n_correct", "n_examples")
        + numbers("n_truncated", "n_unverifiable", "flops_spent"),
    ),
    Table(
        "arm_differences",
        Section.DATA,
        "Paired differences between the arms' samples, over problems",
        words("arm_a", "arm_b", "budget", "base")
        + enum("quantity", QUANTITY_WORDS)
        + estimate("difference", signed=True)
        + UNIT
        + optional(P_VALUES)
        + optional((Column("excluded", kind=Kind.BOUND),))
        + numbers("n_problems"),
    ),
    Table(
        "coverage",
        Section.DATA,
        "Coverage against samples and against their cost",
        words("arm")
        + numbers("k")
        + estimate("coverage", "%")
        + bounds()
        + numbers("n_problems", "flops_per_problem"),
        (
            Figure(
                "coverage",
                "Share of training problems with at least one correct sample among k; sound coverage counts only "
                "samples that the judge does not call unsound (for the arithmetic judge an upper bound). "
                "Where curves cross on the cost axis, the better buy changes. A mix of k samples has its shares of k; "
                "an adaptive arm shows the samples alone that every problem got.",
                intervals="Bands",
                shown=Shown.OPEN,
            ),
        ),
    ),
    Table(
        "sound_coverage",
        Section.DATA,
        "Sound coverage: coverage less false positives",
        words("arm", "judge")
        + numbers("k")
        + estimate("coverage", "%")
        + bounds()
        + numbers("n_problems", "flops_per_problem"),
        optional=True,
    ),
    Table(
        "diversity",
        Section.DATA,
        "Diversity of correct samples",
        words("arm", "budget", "kind", "average")
        + numbers("k")
        + estimate("unique correct")
        + numbers("n_problems", "identity"),
        (
            Figure(
                "diversity",
                "Unique correct samples per problem at each budget, by what counts as the same. Averaged over "
                "solved problems, as in the paper, it is nearly k · pass@1 / coverage@k and so adds little; "
                "uniqueness by equations says more. Of mixes and adaptive arms: what their samples hold.",
            ),
        ),
    ),
    Table(
        "false_positives",
        Section.DATA,
        "False positives",
        words("arm", "budget", "judge")
        + optional(words("corrected_by"))
        + estimate("false positives", "%")
        + numbers("n", "n_false"),
        (
            Figure(
                "false_positives",
                "Share of samples with a correct final answer whose reasoning is wrong, by who judged.",
                counted="correct samples",
            ),
        ),
    ),
    Table(
        "levels",
        Section.DATA,
        "Coverage by difficulty",
        words("arm", "budget", "level") + estimate("coverage", "%") + numbers("n_problems"),
        (
            Figure(
                "levels",
                "Share of training problems of each level with at least one correct sample at the budget.",
                counted="problems a level",
            ),
        ),
    ),
    Table(
        "lengths",
        Section.DATA,
        "Lengths",
        words("arm", "verdict")
        + estimate("mean tokens")
        + share("truncated_rate", "cut short")
        + share("error_rate", "failed")
        + numbers("n_samples", "median_tokens", "p90_tokens", "p99_tokens", "max_tokens"),
        (
            Figure(
                "lengths",
                "Tokens per sample by verdict: a line from the median to the 99th percentile, a tick at the 90th, "
                "the arm's mark at the mean.",
                intervals="",
            ),
        ),
        needs="token counts",
    ),
    Table(
        "arm_votes",
        Section.DATA,
        "Votes among an arm's own samples",
        words("arm")
        + numbers("k")
        + estimate("maj@k", "%")
        + share("tie_rate", "ties")
        + share("no_answer_rate", "no answer")
        + numbers("n_problems"),
        (
            Figure(
                "arm_votes",
                "Accuracy of the most frequent answer among k, ties broken at random (expected value); dotted: how "
                "often the lead is tied.",
            ),
        ),
    ),
    Table(
        "self_agreement",
        Section.DATA,
        "Self-agreement: chance that two samples of a problem give the same answer",
        words("arm") + estimate("agreement", "%") + numbers("n_problems"),
        needs="two samples a problem",
    ),
    Table(
        "flow",
        Section.DATA,
        "Where samples went: rows in = rows out + rows with a reason",
        words("arm", "budget", "recipe", "step") + numbers("n") + words("reason"),
    ),
    Table(
        "differences",
        Section.STUDENTS,
        "Paired differences between arms",
        PAIR + METRIC + DIFFERENCE + TESTED + optional(flag("primary")),
        (
            Figure(
                "differences",
                "Same base, same budget, same held-out problems. Filled dots: p < 0.05 after Holm's correction for "
                "the number of comparisons; hollow: not.",
            ),
        ),
    ),
    Table(
        "gains",
        Section.STUDENTS,
        "Arms' students minus their untouched base",
        words("base", "arm", "budget") + METRIC + DIFFERENCE + TESTED,
    ),
    Table(
        "students",
        Section.STUDENTS,
        "Students on held-out problems",
        words("student", "base", "source", "arm", "budget", "paradigm", "recipe", "set")
        + METRIC
        + estimate("accuracy", "%")
        + bounds()
        + share("tie_rate", "ties")
        + numbers("seed", "n_problems"),
        (
            Figure(
                "accuracy",
                "Accuracy by base, budget and arm. Beside the dots the paradigm (see the glossary). "
                "Controls: trained on examples with answers of other problems (planted), on reference solutions, and "
                "on wrong samples.",
                shown=Shown.OPEN,
            ),
            Figure(
                "majority",
                "Accuracy of the most frequent final answer among k samples, before training (base) and after, by "
                "arm and budget.",
                title="Majority vote",
            ),
        ),
    ),
    Table(
        "endings",
        Section.STUDENTS,
        "How many held-out answers were cut, and who is right among those that ended",
        words("student", "base", "source", "arm", "budget", "recipe", "decoding")
        + enum("quantity", ENDING_WORDS)
        + estimate("share", "%")
        + numbers("n_problems", "n_answers"),
    ),
    Table(
        "stopping",
        Section.STUDENTS,
        "What students gained over their untouched base, and whether it is stopping",
        words("base", "taught_by", "budget", "decoding")
        + enum("quantity", ENDING_WORDS)
        + DIFFERENCE
        + numbers("n_problems"),
    ),
    Table(
        "transfer",
        Section.STUDENTS,
        "Transfer",
        words("set") + PAIR + METRIC + DIFFERENCE + TESTED,
        (Figure("transfer", "The same differences on other held-out sets."),),
        optional=True,
    ),
    Table(
        "training_luck",
        Section.STUDENTS,
        "Training luck: how far accuracy moves between training seeds",
        words("base", "set")
        + METRIC
        + estimate("spread", "points")
        + numbers("df")
        + flag("assumed"),
    ),
    Table(
        "student_false_positives",
        Section.STUDENTS,
        "Share of the students' correct held-out samples whose reasoning is wrong",
        words("student", "base", "source", "arm", "budget", "recipe", "judge")
        + estimate("false positives", "%")
        + numbers("n"),
        optional=True,
    ),
    Table(
        "training",
        Section.STUDENTS,
        "Training loss",
        words("student") + numbers("step", "loss", "learning_rate", "accuracy"),
        (
            Figure(
                "training",
                "Loss on the solutions' tokens; of on-policy arms the divergence from the model that scores. "
                "The legend names arm (or control) and budget.",
                intervals="",
            ),
        ),
        shown=Shown.ONLY_IN_FILE,
    ),
    Table(
        "controls",
        Section.CONTROLS,
        "Controls",
        words("base")
        + enum("comparison", CONTROL_WORDS)
        + words("arm")
        + METRIC
        + DIFFERENCE
        + numbers("n_problems"),
        (
            Figure(
                "controls",
                "A study that sees the planted fault shows arm − planted above zero. What students of reference "
                "solutions and of wrong samples gain is shown beside it, and judges nothing. "
                "Hollow dots: the interval includes zero.",
                shown=Shown.OPEN,
            ),
        ),
    ),
    Table(
        "forecast",
        Section.FORECAST,
        "Forecast and outcome",
        words("arm", "budget")
        + enum("metric", OUTCOME_WORDS)
        + numbers("k")
        + estimate("forecast")
        + (Column("least", "bounds, from"), Column("most", "to"))
        + numbers("outcome", "n")
        + flag("inside"),
        (
            Figure(
                "forecast",
                "What the pilot predicted before the study ran, and what came. Thin lines, where k is over "
                "three times the pilot's: the least and the most that could come, whatever the population of "
                "problems is.",
            ),
        ),
        optional=True,
    ),
    Table(
        "totals",
        Section.LEDGER,
        "Planned and spent; the ledger below has every part by itself",
        words("who", "part")
        + enum("unit", UNIT_WORDS)
        + numbers("planned", "spent", "ratio")
        + (Column("usd", "USD"), Column("hours", "time", Kind.HOURS)),
        (
            Figure(
                "shares",
                "What part of all that was spent went where, in each unit that is known.",
                title="Where it went",
                intervals="",
                shown=Shown.OPEN,
            ),
        ),
        shown=Shown.OPEN,
    ),
    Table(
        "ledger",
        Section.LEDGER,
        "The ledger: every amount by arm or student, stage, kind and unit",
        words("who", "stage", "kind", "budget", "unit")
        + numbers("planned", "spent")
        + numbers("ratio")
        + flag("matched"),
    ),
)
TABLES: dict[str, Table] = {table.name: table for table in DECLARED}


def as_declared(name: str, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the columns of this table in their order, less optional ones that they lack.

    Raises KeyError naming columns that are not declared, or declared ones that are missing.
    """
    declared = [column.name for column in TABLES[name].columns]
    undeclared = set(rows) - set(declared)
    missing = set(TABLES[name].required) - set(rows)
    if len(rows) and (undeclared or missing):
        raise KeyError(f"{name}: not declared: {sorted(undeclared)}; missing: {sorted(missing)}")
    return rows[[column for column in declared if column in rows]]


def of_estimate(estimate: Iterable[float]) -> dict[str, float]:
    """The columns of an estimate: value, low, high."""
    return dict(zip(("value", "low", "high"), map(float, estimate)))


def write_tables(folder: Path, tables: dict[str, pd.DataFrame]) -> None:
    """Write every table, as it is declared, to `<folder>/<name>.csv`, and remove those of an earlier analysis."""
    folder.mkdir(parents=True, exist_ok=True)
    for stale in folder.glob("*.csv"):
        stale.unlink()
    for name, rows in tables.items():
        write_csv(folder / f"{name}.csv", as_declared(name, rows))


def read_tables(folder: Path) -> dict[str, pd.DataFrame]:
    """The declared tables that lie in a folder and have rows, by name, in the order of `TABLES`.

    Words are read as text: an arm may be called "null", and only an empty cell is a missing value. Raises StudyError
    naming the file and the column that it lacks.
    """
    found = {}
    for name, table in TABLES.items():
        path = folder / f"{name}.csv"
        if not path.exists() or not path.read_text(encoding="utf-8").strip():
            continue
        types = {column.name: object for column in table.columns if column.kind == Kind.WORD}
        rows = unguarded(pd.read_csv(path, dtype=types, keep_default_na=False, na_values=[""]))
        for column in table.required:
            if column not in rows:
                raise StudyError(f"{path}: column {column!r} is missing; run 06_analyze again")
        if len(rows):
            found[name] = rows
    return found
