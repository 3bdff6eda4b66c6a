"""Whether one sample is right: by its answer, by tests in a sandbox, or by a task."""

from wcse_lib.verdicts.check import KEY_COLUMNS, VERDICTS, Reason, reason_kind, verifier
from wcse_lib.verdicts.judgements import (
    JUDGED,
    JUDGEMENTS,
    SAMPLE_FACTS,
    as_judgements,
    decided,
    judged_rows,
    with_judgements,
)
from wcse_lib.verdicts.tasks import open_task, task_score

__all__ = [
    "JUDGED",
    "JUDGEMENTS",
    "KEY_COLUMNS",
    "Reason",
    "SAMPLE_FACTS",
    "VERDICTS",
    "as_judgements",
    "decided",
    "judged_rows",
    "open_task",
    "reason_kind",
    "task_score",
    "verifier",
    "with_judgements",
]
