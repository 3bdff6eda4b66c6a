"""04: finetune students."""

from wcse_lib.train.card import export
from wcse_lib.train.pace import try_training
from wcse_lib.train.pilot_fit import choices, fit_of_pilot
from wcse_lib.train.scores import SCORES, scores_of, sums_of_arms
from wcse_lib.train.stage import checks, curves, reports, shown_rows, train_students, trained

__all__ = [
    "SCORES",
    "checks",
    "choices",
    "curves",
    "export",
    "fit_of_pilot",
    "reports",
    "scores_of",
    "shown_rows",
    "sums_of_arms",
    "train_students",
    "trained",
    "try_training",
]
