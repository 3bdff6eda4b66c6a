"""04: finetune students."""

from wcse_lib.train.stage import checks, curves, reports, shown_rows, train_students
from wcse_lib.train.trainer import curves as report_curves

__all__ = ["checks", "curves", "report_curves", "reports", "shown_rows", "train_students"]
