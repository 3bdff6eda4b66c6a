"""Whether one sample is right: by its answer, by tests in a sandbox, or by a task."""

from wcse_lib.verdicts.check import VERDICTS, verifier
from wcse_lib.verdicts.judgements import JUDGEMENT_COLUMNS, decided, judged
from wcse_lib.verdicts.tasks import open_task, task_score

__all__ = [
    "JUDGEMENT_COLUMNS",
    "VERDICTS",
    "decided",
    "judged",
    "open_task",
    "task_score",
    "verifier",
]
