"""04: finetune students."""

from wcse_lib.train.card import export
from wcse_lib.train.pace import try_training
from wcse_lib.train.stage import checks, curves, reports, shown_rows, train_students, trained

__all__ = [
    "checks",
    "curves",
    "export",
    "reports",
    "shown_rows",
    "train_students",
    "trained",
    "try_training",
]
