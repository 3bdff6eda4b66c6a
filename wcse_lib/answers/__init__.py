"""Final answers: read out of texts and compared with gold. Needs nothing else of the kit."""

from wcse_lib.answers.equal import POLICY_TABLE, VERIFIER, Checker, Policy, equivalent
from wcse_lib.answers.extraction import STYLES, extract

__all__ = ["Checker", "POLICY_TABLE", "Policy", "STYLES", "VERIFIER", "equivalent", "extract"]
