"""03: verdicts, judgements and examples."""

from wcse_lib.verify.judges import free_judge, judgement_rows, judges_of, own_judge
from wcse_lib.verify.labelling import agreement_table
from wcse_lib.verify.looks import as_text, three_kinds
from wcse_lib.verify.model_judge import case, judge_prompt
from wcse_lib.verify.rates import by_problem, false_positive_table
from wcse_lib.verify.stage import (
    checks,
    false_positives,
    labels,
    panel,
    three_rows,
    verify,
)

__all__ = [
    "agreement_table",
    "as_text",
    "by_problem",
    "case",
    "checks",
    "false_positive_table",
    "false_positives",
    "free_judge",
    "judge_prompt",
    "judgement_rows",
    "judges_of",
    "labels",
    "own_judge",
    "panel",
    "three_kinds",
    "three_rows",
    "verify",
]
