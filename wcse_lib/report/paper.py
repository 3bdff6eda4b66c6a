"""The paper's published coverage (arXiv 2408.16737), read from its figures: drawn beside ours, and what a pilot of it
would have forecast."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wcse_lib.report import marks
from wcse_lib.report.style import DOUBLE, GREY, LOOKS, Look, canvas, style

# Coverage (%) of a data set's generators at 1 … 10 samples, or at 3, 6 … 30.
PAPER = {
    ("MATH", "27B", 1): [32.7, 43.4, 49.5, 53.4, 56.3, 58.7, 60.6, 62.1, 63.5, 64.7],
    ("MATH", "9B", 1): [27.0, 37.3, 43.2, 47.2, 50.2, 52.6, 54.6, 56.3, 57.7, 59.0],
    ("MATH", "9B", 3): [43.1, 52.7, 57.7, 61.1, 63.6, 65.6, 67.1, 68.4, 69.6, 70.6],
    ("GSM8K", "27B", 1): [76.4, 87.0, 90.5, 92.4, 93.7, 94.5, 95.1, 95.5, 95.9, 96.2],
    ("GSM8K", "9B", 1): [65.6, 79.0, 84.5, 87.5, 89.4, 90.8, 91.7, 92.6, 93.2, 93.7],
    ("GSM8K", "9B", 3): [84.4, 90.9, 93.2, 94.5, 95.4, 96.1, 96.5, 96.9, 97.3, 97.6],
}


def paper_points(ax, paper: str) -> None:
    """The published coverage on "MATH" or "GSM8K" against samples, marked as read from figures."""
    for (data, size, step), percent in PAPER.items():
        if data == paper:
            label = f"paper's {size} on {data} (read from figures)" if step == 1 else None
            look = dict(color=GREY, ms=4, mew=0.8, marker="+" if size == "9B" else "x", ls="none")
            ax.plot(step * np.arange(1, 11), np.array(percent) / 100, **look, label=label)


def paper_forecast(rows: pd.DataFrame):
    """The paper's coverage against FLOPs (points, read from its figures) and the fit to the first four points of each
    model (lines); a panel per data set. Args: rows: as plan.paper_curves gives it."""
    with style():
        drawing = canvas(DOUBLE, 2.5)
        axes = drawing.subplots(1, rows["data"].nunique(), squeeze=False)[0]
        for ax, (data, part) in zip(axes, rows.groupby("data", sort=False)):
            for look, (model, curve) in zip(LOOKS, part.groupby("model", sort=False)):
                _forecast_of_model(ax, model, curve.sort_values("k"), look)
            label = "Cost per problem, 2·P·k: GFLOPs per token of length"
            marks.finish(ax, label, "Coverage, % of problems", percent="y", grid="y")
            ax.set_title(f"{data} (filled: fitted; hollow: forecast)")
    return drawing


def _forecast_of_model(ax, model: str, rows: pd.DataFrame, look: Look) -> None:
    cost, read, fitted = rows["flops_per_token"] / 1e9, rows["read"], rows["fitted"]
    label = f"{model}, our forecast"
    ax.plot(cost, rows["forecast"], color=look.color, ls=look.line, label=label)
    dot = dict(marker=look.marker, ls="none", ms=4, color=look.color)
    ax.plot(cost[fitted], read[fitted], **dot, label=f"{model}, read from figures")
    ax.plot(cost[~fitted], read[~fitted], **dot, mfc="white")
