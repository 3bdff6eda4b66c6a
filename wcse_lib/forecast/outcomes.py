"""What a pilot forecasts of an arm at a budget."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """The column `metric` of `forecast`."""

    COVERAGE = "coverage"
    SOUND_COVERAGE = "sound_coverage"
    UNIQUE_CORRECT = "unique_correct_per_problem"
    EXAMPLES = "examples"


SHARES = (Outcome.COVERAGE, Outcome.SOUND_COVERAGE)  # of problems; the others are counts
OUTCOME_WORDS = {outcome.value: outcome.replace("_", " ") for outcome in Outcome}
