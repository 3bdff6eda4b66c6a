"""01: from a params file to a plan."""

from wcse_lib.plan.explorer import explore, paper_curves
from wcse_lib.plan.grid import expand, is_grid
from wcse_lib.plan.pilot import pilot_study
from wcse_lib.plan.preview import preview
from wcse_lib.plan.stage import (
    arms_table,
    checks,
    exchange_table,
    left_out,
    make_plan,
    near_duplicates,
    power_sentences,
    power_table,
    problems_table,
    read_forecast,
    students_table,
    study_from,
)
from wcse_lib.plan.students import MAIN, packages, settings

__all__ = [
    "MAIN",
    "arms_table",
    "checks",
    "exchange_table",
    "expand",
    "explore",
    "is_grid",
    "left_out",
    "make_plan",
    "near_duplicates",
    "packages",
    "paper_curves",
    "pilot_study",
    "power_sentences",
    "power_table",
    "preview",
    "problems_table",
    "read_forecast",
    "settings",
    "students_table",
    "study_from",
]
