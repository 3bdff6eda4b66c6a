"""04: finetune students."""

from wcse_lib.train.card import export
from wcse_lib.train.stage import checks, curves, reports, shown_rows, train_students
from wcse_lib.train.trainer import report_curves

__all__ = [
    "checks",
    "curves",
    "export",
    "report_curves",
    "reports",
    "shown_rows",
    "train_students",
]
