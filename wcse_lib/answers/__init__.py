"""Final answers: read out of texts and compared with gold. Needs nothing else of the kit."""

from wcse_lib.answers.checker import VERIFIER, Checker, equivalent
from wcse_lib.answers.extraction import STYLES, extract
from wcse_lib.answers.policy import POLICY_TABLE, Policy
from wcse_lib.answers.thoughts import (
    closed_thought,
    is_thought_tag,
    opened_thought,
    without_thoughts,
)
from wcse_lib.answers.votes import class_name, pooled

__all__ = [
    "Checker",
    "POLICY_TABLE",
    "Policy",
    "STYLES",
    "VERIFIER",
    "class_name",
    "closed_thought",
    "equivalent",
    "extract",
    "is_thought_tag",
    "opened_thought",
    "pooled",
    "without_thoughts",
]
