"""Figures, the report page, comparisons and published folders."""

from wcse_lib.report.comparison import compare
from wcse_lib.report.figures import PAPER, draw_all, explored, paper_forecast, save, svg
from wcse_lib.report.page import write_report

__all__ = [
    "PAPER",
    "compare",
    "draw_all",
    "explored",
    "paper_forecast",
    "save",
    "svg",
    "write_report",
]
