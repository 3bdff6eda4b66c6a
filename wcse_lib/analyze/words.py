"""What the tables measure, as values for their columns, and the words for people beside them."""

from __future__ import annotations

from enum import StrEnum

import numpy as np
import pandas as pd

from wcse_lib.intervals import Estimate
from wcse_lib.study import Run
from wcse_lib.verdicts import Metric, metric_words

ALL_BASES = "all students"  # column `base` of rows that are means over all base students
HELD_OUT = "held_out"  # column `set`: the problems that are no transfer set
ANY_BASE = "any student"  # column `base` of what is pooled over the base students


class Quantity(StrEnum):
    """What may make an arm's examples teach better: the column `quantity`."""

    PASS_AT_1 = "pass_at_1"
    COVERAGE = "coverage"
    SOUND_COVERAGE = "sound_coverage"
    FALSE_POSITIVE_RATE = "false_positive_rate"
    DUPLICATES = "duplicates_among_correct"
    SOLUTIONS = "solutions_per_solved_problem"
    LOG_LIKELIHOOD = "log_likelihood"
    RANK_SURPRISAL = "rank_surprisal_ratio"
    GRADIENT_SCORE = "gradient_score"
    EXAMPLES = "examples"
    EXAMPLES_PER_PROBLEM = "examples_per_problem"
    PROBLEMS = "problems_with_examples"
    REPEATED_EXAMPLES = "repeated_examples"
    EPOCHS = "epochs"


QUANTITY_WORDS = {quantity.value: quantity.replace("_", " ") for quantity in Quantity} | {
    Quantity.PASS_AT_1: "pass@1",
    Quantity.FALSE_POSITIVE_RATE: "false-positive rate",
    Quantity.LOG_LIKELIHOOD: "log-likelihood under the base",
    Quantity.RANK_SURPRISAL: "rank–surprisal ratio under the base",
    Quantity.GRADIENT_SCORE: "gradient score under the base",
    Quantity.REPEATED_EXAMPLES: "repeated texts among examples",
}
ANSWERED = (  # what a study without students is answered by
    Quantity.COVERAGE,
    Quantity.SOUND_COVERAGE,
    Quantity.EXAMPLES_PER_PROBLEM,
    Quantity.FALSE_POSITIVE_RATE,
)


class Finding(StrEnum):
    """What a recipe that takes a quantity away has shown of it: the column `finding`."""

    PART = "at least part of the reason"
    NOT_ALL = "not all of the reason"
    UNSETTLED = "not settled"


class Ending(StrEnum):
    """What is counted of held-out answers: the column `quantity` of `endings` and `stopping`."""

    ACCURACY = "accuracy"
    CUT = "cut_share"
    OF_ENDED = "accuracy_of_ended"


class Portion(StrEnum):
    """What a difference between arms is the sum of: the column `part` of `split`."""

    WHOLE = "whole"
    EXAMPLES = "more_examples"
    AUTHOR = "another_author"


PORTION_WORDS = {
    Portion.WHOLE: "the whole difference",
    Portion.EXAMPLES: "by more examples",
    Portion.AUTHOR: "by another author",
}
ENDING_WORDS = {
    Ending.ACCURACY: "accuracy",
    Ending.CUT: "answers cut at max_tokens",
    Ending.OF_ENDED: "accuracy of answers that ended",
}
CONTROL_WORDS = {  # column `comparison` of `controls`
    "arm_minus_planted": "arm − planted fault",
    "reference_minus_base": "reference − base",
    "wrong_minus_reference": "wrong − reference",
    "wrong_minus_base": "wrong − base",
    "arm_minus_base": "coverage@1 as arm − pass@1 as base",
}


UNIT_WORDS = {"flops": "FLOPs", "usd": "USD", "kwh": "kWh"}


def judge_words(judge: str, corrected_by: str = "") -> str:
    """Who judged, and by whose judgements its errors were corrected.

    >>> judge_words("model", "human")
    'model, corrected by human'
    """
    return f"{judge}, corrected by {corrected_by}" if corrected_by else judge


def difference_words(row, interval: str = " ({low} to {high})") -> str:
    """The difference of a table's row in its unit, with its interval in this form."""
    unit = getattr(row, "unit", "points")
    estimate = Estimate(row.value, row.low, row.high, unit=unit)
    return estimate.text(signed=True, interval=interval)


BY_TWO_TESTS = " (two one-sided tests, 5 %)"


def bought_words(run: Run, arm_a: str, arm_b: str, budget: str) -> str:
    """How many samples of a problem the budget buys of two arms, and whose files hold fewer; an on-policy arm takes
    what the samples of another and the training on them cost."""
    on_policy = run.study.on_policy_arms
    if arm_a in on_policy or arm_b in on_policy:
        return f"{_bought_of(run, arm_a, budget)} against {_bought_of(run, arm_b, budget)}"
    samples_a, samples_b = (run.plan.n_samples(arm, budget) for arm in (arm_a, arm_b))
    short = [arm for arm in (arm_a, arm_b) if budget in getattr(run.arm(arm), "held", {})]
    lack = f"; this budget is not met by {join_words(short)}" if short else ""
    return f"{samples_a:.3g} against {samples_b:.3g} samples a problem{lack}"


def _bought_of(run: Run, arm: str, budget: str) -> str:
    spec = run.study.on_policy_arms.get(arm)
    if spec is None:
        return f"{run.plan.n_samples(arm, budget):.3g} samples a problem"
    return f"what {spec.of}'s samples and the training on them cost"


def excluded_words(row, margin: float | None = None, tests: str = BY_TWO_TESTS) -> str:
    """What two one-sided tests at 5 % (BY_TWO_TESTS) exclude of a table's row, as a clause; "" where it was not tested.

    `margin`: points that the plan counts as no difference. `tests`: how the clause names the tests.
    """
    largest = getattr(row, "excluded", None)
    if largest is None or pd.isna(largest):
        return ""
    unit = getattr(row, "unit", "points")
    clause = f"differences of more than {rounded_up(largest, unit)} {unit} are excluded{tests}"
    if margin is not None and unit == "points":
        holds = "equivalent" if 100 * largest <= margin else "not shown to be equivalent"
        clause += f", {holds} by the plan's margin of {margin:g}"
    return clause


def rounded_up(size: float, unit: str = "points") -> str:
    """A size in its unit, its last digit rounded up, so that what is excluded stays excluded.

    >>> rounded_up(0.0312), rounded_up(0.123, "examples")
    ('3.2', '0.13')
    """
    factor, decimals = (100, 1) if unit == "points" else (1, 2)
    steps = np.ceil(round(size * factor * 10**decimals, 6))
    return f"{steps / 10**decimals:.{decimals}f}"


def join_words(words: list[str]) -> str:
    """
    >>> join_words(["more examples", "fewer duplicates", "higher coverage"])
    'more examples, fewer duplicates and higher coverage'
    """
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def join_some(words: list[str], most: int = 4) -> str:
    """As `join_words`; of more than `most` the first ones are named, and the others counted.

    >>> join_some(["a", "b", "c", "d"]), join_some(["a", "b", "c", "d", "e"])
    ('a, b, c and d', 'a, b, c and 2 others')
    """
    if len(words) <= most:
        return join_words(words)
    return join_words([*words[: most - 1], f"{len(words) - most + 1} others"])


def named_students(bases: list[str]) -> str:
    """
    >>> named_students(["small", "wc"]), named_students(["se"])
    ('students small and wc', 'student se')
    """
    return f"student{'s' if len(bases) > 1 else ''} {join_words(bases)}"


def with_metric_words(table: pd.DataFrame) -> pd.DataFrame:
    """A table with its metrics in words: `metric` alone instead of metric, decoding and k."""
    metrics = table[list(Metric._fields)].itertuples(index=False)
    words = [metric_words(*metric) for metric in metrics]
    return table.drop(columns=["decoding", "k"]).assign(metric=words)
