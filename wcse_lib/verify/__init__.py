"""03: verdicts, judgements and examples."""

from wcse_lib.verify.judges import by_problem, calibration, corrected_table, false_positive_table
from wcse_lib.verify.judging import judgement_rows, tell, three_kinds
from wcse_lib.verify.labelling import agreement_table, panel
from wcse_lib.verify.stage import checks, judges_of, labels, three_rows, verify

__all__ = [
    "agreement_table",
    "by_problem",
    "calibration",
    "checks",
    "corrected_table",
    "false_positive_table",
    "judgement_rows",
    "judges_of",
    "labels",
    "panel",
    "tell",
    "three_kinds",
    "three_rows",
    "verify",
]
