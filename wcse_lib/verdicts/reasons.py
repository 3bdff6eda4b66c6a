"""Why a sample has its verdict, in words that others count by, and why a problem's tests decide nothing."""

from __future__ import annotations

from enum import StrEnum

import pandas as pd

ONLY_STANDARD = "the sandbox has only Python's standard library"


class UnusableTests(Exception):
    """Tests that cannot run here or that assert nothing, whoever wrote the code; the text says why."""


class Reason(StrEnum):
    """How the `reason` of a verdict row begins where others ask for it; details may follow."""

    TRUNCATED = "truncated"
    FAILED = "the sample failed"
    IN_THOUGHT = "its thought never ends"
    NO_CODE = "no code"
    NO_ANSWER = "no final answer"
    BAD_GOLD = "gold cannot be parsed"
    TIMEOUT = "timeout"


def reason_kind(reason: pd.Series, by: str = "tests") -> pd.Series:
    """Reasons without the statement of the tests or the message of the code that they name.

    Args: by: as in verification.by; what a program says counts up to its first colon.
    """
    if by == "program":
        return reason.map(kind_of_program)
    return reason.str.replace(r" in the (?:tests|code)\b.*", "", regex=True)


def kind_of_program(reason: str) -> str:
    """A program's reason without its details: what stands before the first colon."""
    return reason.partition(":")[0]
