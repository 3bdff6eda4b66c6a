"""Figures, the report page, comparisons and published folders."""

from wcse_lib.report.comparison import compare
from wcse_lib.report.drawing import draw_all
from wcse_lib.report.figures import explored
from wcse_lib.report.file_comparison import ComparedFile, write_file_comparison
from wcse_lib.report.page import write_report
from wcse_lib.report.paper import PAPER, paper_forecast
from wcse_lib.report.publish import publish_study
from wcse_lib.report.style import save, svg
from wcse_lib.report.tables_html import shown

__all__ = [
    "ComparedFile",
    "PAPER",
    "compare",
    "draw_all",
    "explored",
    "paper_forecast",
    "publish_study",
    "save",
    "shown",
    "svg",
    "write_file_comparison",
    "write_report",
]
