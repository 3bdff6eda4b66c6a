"""Whether one sample is right: by its answer, by tests in a sandbox, or by a task."""

from wcse_lib.verdicts.cheats import could_cheat
from wcse_lib.verdicts.check import KEY_COLUMNS, VERDICTS, verifier
from wcse_lib.verdicts.execute import fault_of_tests, faults_of_solutions
from wcse_lib.verdicts.forms import with_entry_point
from wcse_lib.verdicts.judgements import (
    JUDGED,
    JUDGEMENTS,
    SAMPLE_FACTS,
    as_judgements,
    decided,
    judged_rows,
    with_judgements,
)
from wcse_lib.verdicts.program import faults_of_program, read_program
from wcse_lib.verdicts.reasons import Reason, reason_kind
from wcse_lib.verdicts.scores import (
    PRIMARY_METRIC,
    SAMPLED_PASS_AT_1,
    Metric,
    answer_lists,
    counted_votes,
    metric_words,
    student_scores,
)
from wcse_lib.verdicts.spoken import spoken
from wcse_lib.verdicts.tasks import open_task, task_score

__all__ = [
    "could_cheat",
    "JUDGED",
    "JUDGEMENTS",
    "KEY_COLUMNS",
    "Metric",
    "PRIMARY_METRIC",
    "Reason",
    "SAMPLED_PASS_AT_1",
    "SAMPLE_FACTS",
    "VERDICTS",
    "answer_lists",
    "as_judgements",
    "decided",
    "fault_of_tests",
    "faults_of_program",
    "faults_of_solutions",
    "judged_rows",
    "counted_votes",
    "metric_words",
    "open_task",
    "read_program",
    "reason_kind",
    "spoken",
    "student_scores",
    "task_score",
    "verifier",
    "with_entry_point",
    "with_judgements",
]
