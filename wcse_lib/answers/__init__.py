"""Final answers: read out of texts and compared with gold. Needs nothing else of the kit."""

from wcse_lib.answers.checker import VERIFIER, Checker, equivalent
from wcse_lib.answers.extraction import STYLES, extract
from wcse_lib.answers.policy import POLICY_TABLE, Policy

__all__ = ["Checker", "POLICY_TABLE", "Policy", "STYLES", "VERIFIER", "equivalent", "extract"]
