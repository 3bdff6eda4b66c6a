"""Coverage against cost: expected curves, where they cross, and sliders that redraw them at once."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from wcse_lib import budget, forecast
from wcse_lib.budget import SampleCost, charged_prompts, flops_cost_model, matched_costs
from wcse_lib.store import read_parquet
from wcse_lib.study import Run

# The paper's coverage@1 … 4 on MATH: of the reference arm's model (27B), and of others (9B).
PAPER_REFERENCE, PAPER_OTHER = [0.327, 0.434, 0.495, 0.534], [0.270, 0.373, 0.432, 0.472]
MOVES_SLIDERS = ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")
ILLUSTRATION = (
    "<p><b>Illustration</b>: there is no pilot; the curves are the paper's MATH models.</p>"
)


def paper_curves(points: dict) -> pd.DataFrame:
    """The paper's coverage (read from figures) beside a beta fitted to its first four points, per model.

    Args: points: {(data, size, step): coverage in % at step, 2·step, …}. Returns data, model, k, flops_per_token
    (2·P·k), read, forecast (fractions), fitted (whether the fit has seen the point).
    """
    rows = []
    for (data, size, step), read in points.items():
        first_four = np.array(points[data, size, 1][:4]) / 100
        fit = forecast.fit_curve(np.arange(1, 5), first_four)
        n_parameters = 1e9 * float(size.rstrip("B"))
        for i, percent in enumerate(read, 1):
            k = i * step
            rows.append(
                {
                    "data": data,
                    "model": size,
                    "k": k,
                    "flops_per_token": 2 * n_parameters * k,
                    "read": percent / 100,
                    "forecast": float(fit.coverage([k])[0]),
                    "fitted": step == 1 and i <= 4,
                }
            )
    return pd.DataFrame(rows)


def read_curves(run: Run) -> pd.DataFrame:
    """Expected coverage of every plain arm after k samples (arm, k, value, low, high): by the pilot, else, as a mere
    illustration, a beta fitted to the paper's MATH models (27B for the reference arm, 9B for others; no intervals)."""
    if run.plan.pilot:
        return read_parquet(run.path("01", "curves.parquet"))
    ks = np.unique(np.geomspace(1, 300, 60).round(1))
    frames = []
    for name in run.plan.plain_arms():
        points = PAPER_REFERENCE if name == run.study.budget.reference else PAPER_OTHER
        value = forecast.fit_curve([1, 2, 3, 4], points).coverage(ks)
        curve = {"arm": name, "k": ks, "value": value, "low": value, "high": value}
        frames.append(pd.DataFrame(curve))
    return pd.concat(frames, ignore_index=True)


def _crossings(frame: pd.DataFrame, reference: str) -> list[float]:
    """Costs at which another arm's expected coverage passes the reference arm's, or falls behind it."""
    curves = {arm: rows.sort_values("cost") for arm, rows in frame.groupby("arm")}
    base = curves.pop(reference)
    crossings = []
    for curve in curves.values():
        start = max(curve["cost"].iloc[0], base["cost"].iloc[0])
        end = min(curve["cost"].iloc[-1], base["cost"].iloc[-1])
        if start < end:
            cost = np.geomspace(start, end, 400)
            lead = np.interp(cost, curve["cost"], curve["value"])
            lead -= np.interp(cost, base["cost"], base["value"])
            changes = np.diff(np.sign(lead)) != 0
            crossings += list(cost[1:][changes])
    return crossings


@dataclass(frozen=True)
class Unit:
    """A unit in which costs are shown: its cost model, and what a slider moves."""

    cost_model: str
    slider: str  # what the slider of an arm is called
    rates: dict[str, float]  # the plan's value of that slider, by arm


class Explorer:
    """Expected coverage against cost, drawn anew for other budgets, lengths, sizes or prices."""

    def __init__(self, run: Run, draw: Callable[..., str]):
        self.run, self.draw = run, draw
        self.reference = run.study.budget.reference
        self.arms = run.plan.plain_arms()
        self.curves = read_curves(run)
        self.costs = matched_costs(run.study, self.arms)
        self.prompts = charged_prompts(run.study, self.arms)
        self.parameter_scale = self._parameter_scale()
        self.units = self._units()
        self.first_unit = next(iter(self.units))
        if run.study.budget.match == "price" and "USD" in self.units:
            self.first_unit = "USD"
        self.k_most = int(self.curves["k"].max())
        self.knows_lengths = self._knows_lengths()

    def _parameter_scale(self) -> float:
        largest = max(arm.planned_flops_per_token or 0 for arm in self.arms.values())
        return 1e6 if largest < 2e8 else 1e9

    def _units(self) -> dict[str, Unit]:
        """The units in which every arm's samples have a cost; relative tokens where there is none."""
        size = "million parameters" if self.parameter_scale == 1e6 else "billion parameters"
        flops = flops_cost_model(self.run.study, self.arms)
        units = {}
        if self._have_cost(flops):
            sizes = {
                name: arm.planned_flops_per_token / 2 / self.parameter_scale
                for name, arm in self.arms.items()
            }
            units["FLOPs"] = Unit(flops, size, sizes)
        by_sample = [bool(arm.price and arm.price.sample) for arm in self.arms.values()]
        if self._have_cost("price") and all(by_sample):
            prices = {name: arm.price.sample for name, arm in self.arms.items()}
            units["USD"] = Unit("price", "USD per sample", prices)
        elif self._have_cost("price") and not any(by_sample):
            prices = {name: arm.price.output for name, arm in self.arms.items()}
            units["USD"] = Unit("price", "USD per million tokens", prices)
        if not units:
            units["tokens"] = Unit("tokens", "cost of a token", dict.fromkeys(self.arms, 1.0))
        return units

    def _have_cost(self, cost_model: str) -> bool:
        prompts = self.prompts
        try:
            for cost in self.costs.values():
                one = budget.cost(cost, cost_model, 1, prompts)
                if budget.cost(cost, cost_model, 2, prompts) <= one:
                    return False
        except ValueError:
            return False
        return True

    def _knows_lengths(self) -> bool:
        """Whether costs are per sample, and not per token of a length that nobody knows."""
        needed = [self.arms[self.reference]]
        if self.run.study.budget.lengths == "measured":
            needed = self.arms.values()
        return all(arm.tokens_per_sample for arm in needed)

    def start(self) -> dict[str, float]:
        """The plan's own values: budget in samples of the reference arm, and the largest k shown."""
        most = max(max(arm.samples.values()) for arm in self.arms.values())
        samples = float(max(self.run.study.budget.samples.values()))
        return {"samples": samples, "k": min(self.k_most, 2 * most)}

    def _spent(self, arm: str, unit: str, moved: dict) -> tuple[float, float]:
        """What the first and each further sample of a problem cost, by the sliders' values where they were moved."""
        rate = moved.get(f"{unit}_{arm}", self.units[unit].rates[arm])
        cost = self.costs[arm]
        cost = replace(cost, n_tokens=moved.get(f"length_{arm}", cost.n_tokens))
        cost = self._at_rate(cost, unit, rate)
        factor = rate if unit == "tokens" else 1
        prompts, by = self.prompts, self.units[unit].cost_model
        one = factor * budget.cost(cost, by, 1, prompts)
        two = factor * budget.cost(cost, by, 2, prompts)
        return one, two - one

    def _at_rate(self, cost: SampleCost, unit: str, rate: float) -> SampleCost:
        if unit == "USD":
            key = "sample" if cost.price.sample else "output"
            return replace(cost, price=cost.price.model_copy(update={key: rate}))
        if unit == "tokens":
            return cost
        return replace(cost, active=rate * self.parameter_scale)

    def picture(self, samples: float, k: int, unit: str = "", **moved: float) -> str:
        """HTML: curves of coverage against cost with the budget marked, and what it buys of every arm."""
        unit = unit or self.first_unit
        label = unit if self.knows_lengths else f"{unit} per token of length"
        once, more = {}, {}
        for arm in self.arms:
            once[arm], more[arm] = self._spent(arm, unit, moved)
        money = once[self.reference] + (samples - 1) * more[self.reference]

        frame = self.curves[self.curves["k"] <= k]
        further = (frame["k"] - 1) * frame["arm"].map(more)
        frame = frame.assign(cost=frame["arm"].map(once) + further)
        crossings = _crossings(frame, self.reference)
        # every arm keeps the look that it has in 06
        looks = pd.Categorical(frame["arm"], list(self.run.plan.arms))
        drawn = self.draw(frame.assign(arm=looks), money, label, crossings)
        # inline SVG is cut out of reports, so the picture is an image
        encoded = base64.b64encode(drawn.encode()).decode()
        rows = [self._bought(arm, money, once[arm], more[arm], k) for arm in self.arms]
        note = "" if self.run.plan.pilot else ILLUSTRATION
        return (
            f'{note}<img alt="Expected coverage against cost" src="data:image/svg+xml;base64,{encoded}">'
            f"<p>A budget of {samples:,.1f} samples of {self.reference} a problem "
            f"({money:.3g} {label}) buys:</p>"
            "<table><tr><th>arm</th><th>samples</th><th>coverage to expect</th></tr>"
            f"{''.join(rows)}</table>"
        )

    def _bought(self, arm: str, money: float, once: float, more: float, k: int) -> str:
        """A table row: how many samples of an arm the money buys, and the coverage to expect of them."""
        n = money / once if money < once else 1 + (money - once) / more
        remark = ""
        if n >= k:
            n, remark = k, " (all that k allows)"
        elif n < 1:
            remark = " (not one)"
        curve = self.curves[self.curves["arm"] == arm]
        value = np.interp(n, curve["k"], curve["value"])
        shown = f"{100 * value:.1f} %" if n >= 1 else "–"
        return f"<tr><td>{arm}</td><td>{n:,.1f}{remark}</td><td>{shown}</td></tr>"


def explore(run: Run, draw: Callable[..., str], interactive: bool = True):
    """Coverage against cost: sliders that redraw it at once in JupyterLab, the plan's own values as one picture
    elsewhere.

    Args: draw: frame (arm, k, cost, value, low, high), budget, unit and crossings to SVG (figures.explored);
    interactive: False shows the picture alone, as do papermill and the pipeline, which have nobody to move a slider.
    """
    explorer = Explorer(run, draw)
    if not interactive or not any(key in os.environ for key in MOVES_SLIDERS):
        from IPython.display import HTML

        return HTML(explorer.picture(**explorer.start()))
    return _widgets(explorer)


def _widgets(explorer: Explorer):
    """The sliders beside the picture that they redraw."""
    import ipywidgets as widgets

    sliders = _sliders(explorer)
    shown = widgets.HTML()

    def redraw(_=None) -> None:
        values = {name: slider.value for name, slider in sliders.items()}
        shown.value = explorer.picture(**values)

    redraw()
    for slider in sliders.values():
        slider.observe(redraw, "value")
    # Where both have no room beside each other, the picture goes below, and no slider loses its value.
    beside = widgets.Layout(flex_flow="row wrap")
    return widgets.HBox([widgets.VBox(list(sliders.values())), shown], layout=beside)


def _sliders(explorer: Explorer) -> dict:
    import ipywidgets as widgets

    looks = {
        "style": {"description_width": "190px"},
        "layout": widgets.Layout(width="420px", flex="0 0 auto"),
    }
    start = explorer.start()
    sliders = {
        "samples": widgets.FloatLogSlider(
            start["samples"],
            min=0,
            max=2.5,
            step=0.01,
            description=f"budget, samples of {explorer.reference}",
            **looks,
        ),
        "k": widgets.IntSlider(
            start["k"], min=2, max=explorer.k_most, description="k, at most", **looks
        ),
    }
    if len(explorer.units) > 1:
        sliders["unit"] = widgets.ToggleButtons(
            options=list(explorer.units),
            value=explorer.first_unit,
            description="cost in",
            **looks,
        )
    for arm in explorer.arms:
        for name, unit in explorer.units.items():
            rate = unit.rates[arm]
            middle = np.log10(rate)
            sliders[f"{name}_{arm}"] = widgets.FloatLogSlider(
                rate,
                min=middle - 1,
                max=middle + 1,
                step=0.005,
                readout_format=".3g",
                description=f"{arm}: {unit.slider}",
                **looks,
            )
        length = explorer.costs[arm].n_tokens
        is_known = explorer.knows_lengths
        sliders[f"length_{arm}"] = widgets.FloatSlider(
            length,
            min=length / 4,
            max=4 * length,
            step=length / 40,
            readout_format=".3g",
            description=f"{arm}: tokens per sample" if is_known else f"{arm}: relative length",
            **looks,
        )
    return sliders
