"""01: from a params file to a plan that people can judge."""

from wcse_lib.plan.detectable import power_sentences, power_table
from wcse_lib.plan.explorer import explore, paper_curves
from wcse_lib.plan.extra_draws import what_draws_cost
from wcse_lib.plan.grid import expand, is_grid, varied_keys
from wcse_lib.plan.headline import headline_sentences
from wcse_lib.plan.outlook import in_all
from wcse_lib.plan.planner import try_study
from wcse_lib.plan.preview import preview, previews
from wcse_lib.plan.problems import load_problems
from wcse_lib.plan.stage import checks, limits, make_plan, study_from
from wcse_lib.plan.students import packages
from wcse_lib.plan.tables import (
    arms_table,
    exchange_table,
    left_out,
    matched_by,
    near_duplicates,
    problems_table,
    read_forecast,
    students_table,
)
from wcse_lib.plan.trial import shown_prompts
from wcse_lib.plan.true_cost import disagreements, opening, true_cost_table
from wcse_lib.study import MAIN, pilot_study

__all__ = [
    "MAIN",
    "arms_table",
    "checks",
    "disagreements",
    "exchange_table",
    "expand",
    "explore",
    "headline_sentences",
    "in_all",
    "is_grid",
    "varied_keys",
    "left_out",
    "limits",
    "load_problems",
    "make_plan",
    "matched_by",
    "near_duplicates",
    "opening",
    "packages",
    "paper_curves",
    "pilot_study",
    "power_sentences",
    "power_table",
    "preview",
    "previews",
    "problems_table",
    "read_forecast",
    "shown_prompts",
    "students_table",
    "study_from",
    "true_cost_table",
    "try_study",
    "what_draws_cost",
]
