"""Coverage against cost: expected curves, where they cross, and sliders that redraw them at once."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pandas as pd

from wcse_lib import budget, forecast
from wcse_lib.budget import flops_cost_model, matched_costs
from wcse_lib.store import read_parquet
from wcse_lib.study import Run


def plain_arms(run: Run) -> dict[str, dict]:
    """The plan's arms that have a model of their own: what mixes and adaptive arms draw from."""
    return {name: arm for name, arm in run.plan["arms"].items() if run.study.arms[name].model}


def paper_curves(points: dict) -> pd.DataFrame:
    """The paper's coverage (read from figures) beside a beta fitted to its first four points, per model.

    Args: points: {(data, size, step): coverage in % at step, 2·step, …}. Returns data, model, k, flops_per_token (2·P·k),
    read, forecast (fractions), fitted (whether the fit has seen the point).
    """
    rows = []
    for (data, size, step), read in points.items():
        fit = forecast.fit_curve(np.arange(1, 5), np.array(points[data, size, 1][:4]) / 100)
        for i, value in enumerate(read, 1):
            k, flops = i * step, 2e9 * float(size.rstrip("B")) * i * step
            rows.append(
                (
                    data,
                    size,
                    k,
                    flops,
                    value / 100,
                    float(fit.coverage([k])[0]),
                    step == 1 and i <= 4,
                )
            )
    return pd.DataFrame(
        rows, columns=["data", "model", "k", "flops_per_token", "read", "forecast", "fitted"]
    )


def read_curves(run: Run) -> pd.DataFrame:
    """Expected coverage of every plain arm after k samples (arm, k, value, low, high): by the pilot, else, as a mere
    illustration, a beta fitted to the paper's MATH models (27B for the reference arm, 9B for others; no intervals)."""
    if "pilot" in run.plan:
        return read_parquet(run.path("01", "curves.parquet"))
    ks, frames = np.unique(np.geomspace(1, 300, 60).round(1)), []
    for name in plain_arms(run):
        first = (
            [0.327, 0.434, 0.495, 0.534]
            if name == run.study.budget.reference
            else [0.270, 0.373, 0.432, 0.472]
        )
        value = forecast.fit_curve([1, 2, 3, 4], first).coverage(ks)
        frames.append(
            pd.DataFrame({"arm": name, "k": ks, "value": value, "low": value, "high": value})
        )
    return pd.concat(frames, ignore_index=True)


def _crossings(frame: pd.DataFrame, reference: str) -> list[float]:
    """Costs at which another arm's expected coverage passes the reference arm's, or falls behind it."""
    found, curve = [], {a: rows.sort_values("cost") for a, rows in frame.groupby("arm")}
    for other in (a for a in curve if a != reference):
        ends = [
            f([curve[a]["cost"].iloc[i] for a in (reference, other)])
            for f, i in ((max, 0), (min, -1))
        ]
        if ends[0] < ends[1]:
            at = np.geomspace(*ends, 400)
            lead = np.subtract(
                *(np.interp(at, curve[a]["cost"], curve[a]["value"]) for a in (other, reference))
            )
            found += list(at[1:][np.diff(np.sign(lead)) != 0])
    return found


def _told(costs: dict[str, budget.SampleCost], cost_model: str, prompt: str) -> bool:
    """Whether every arm's samples have a cost by this cost model."""
    try:
        return all(
            budget.cost(c, cost_model, 2, prompt) > budget.cost(c, cost_model, 1, prompt)
            for c in costs.values()
        )
    except ValueError:
        return False


def explore(run: Run, draw: Callable[..., str], interactive: bool = True):
    """Coverage against cost: sliders that redraw it at once in JupyterLab, the plan's own values as one picture elsewhere.

    Args: draw: frame (arm, k, cost, value, low, high), budget, unit and crossings to SVG (figures.explored); interactive:
    False shows the picture alone, as do papermill and the pipeline, which have nobody to move a slider.
    """
    arms, table, reference, b = (
        plain_arms(run),
        read_curves(run),
        run.study.budget.reference,
        run.study.budget,
    )
    costs = matched_costs(run.study, arms)
    small = max(arm["planned_flops_per_token"] or 0 for arm in arms.values()) < 2e8
    scale, called = (1e6, "million parameters") if small else (1e9, "billion parameters")
    cost_models = {
        "FLOPs": (flops_cost_model(run.study), called),
        "USD": ("price", "USD per million tokens"),
    }
    cost_models = {
        unit: (cost_model, words)
        for unit, (cost_model, words) in cost_models.items()
        if _told(costs, cost_model, b.prompt_tokens)
    } or {"tokens": ("tokens", "cost of a token")}
    first = "USD" if b.match == "price" else next(iter(cost_models))
    known = lambda a: {
        "tokens": 1.0,
        "USD": (arms[a]["price"] or {}).get("output"),
        "FLOPs": (arms[a]["planned_flops_per_token"] or 0) / 2 / scale,
    }  # noqa: E731
    rate = {unit: {a: known(a)[unit] for a in arms} for unit in cost_models}
    most, told = (
        int(table["k"].max()),
        all(
            arms[a]["tokens_per_sample"] for a in (arms if b.lengths == "measured" else [reference])
        ),
    )

    def spent(a: str, unit: str, moved: dict) -> tuple[float, float]:
        """What the first and each further sample of a problem cost."""
        at, cost = moved.get(f"{unit}_{a}", rate[unit][a]), costs[a]
        cost = replace(cost, n_tokens=moved.get(f"length_{a}", cost.n_tokens))
        if unit == "USD":
            cost = replace(cost, price=cost.price | {"output": at})
        elif unit == "FLOPs":
            cost = replace(
                cost,
                size=replace(cost.size, n_active=at * scale)
                if isinstance(cost.size, budget.ModelSize)
                else at * scale,
            )
        one, two = (
            budget.cost(cost, cost_models[unit][0], k, b.prompt_tokens)
            * (at if unit == "tokens" else 1)
            for k in (1, 2)
        )
        return one, two - one

    def picture(samples: float, k: int, unit: str = first, **moved: float) -> str:
        label = unit if told else f"{unit} per token of length"
        once, more = ({a: spent(a, unit, moved)[i] for a in arms} for i in (0, 1))
        money, frame = once[reference] + (samples - 1) * more[reference], table[table["k"] <= k]
        frame = frame.assign(
            cost=frame["arm"].map(once) + (frame["k"] - 1) * frame["arm"].map(more)
        )
        bought, crossings = [], _crossings(frame, reference)
        for a, rows in table.groupby("arm", sort=False):
            n = min(money / once[a] if money < once[a] else 1 + (money - once[a]) / more[a], k)
            value = np.interp(n, rows["k"], rows["value"])
            few = " (not one)" if n < 1 else " (all that k allows)" if n == k else ""
            bought.append(
                f"<tr><td>{a}</td><td>{n:,.1f}{few}</td><td>{f'{100 * value:.1f} %' if n >= 1 else '–'}</td></tr>"
            )
        head = f"<p>A budget of {samples:,.1f} samples of {reference} a problem ({money:.3g} {label}) buys:</p>"
        head += (
            "<table><tr><th>arm</th><th>samples</th><th>coverage to expect</th></tr>"
            + "".join(bought)
            + "</table>"
        )
        note = (
            ""
            if "pilot" in run.plan
            else "<p><b>Illustration</b>: there is no pilot; the curves are the paper's MATH models.</p>"
        )
        frame = frame.assign(
            arm=pd.Categorical(frame["arm"], list(run.plan["arms"]))
        )  # so that arms look as in 06
        drawn = base64.b64encode(
            draw(frame, money, label, crossings).encode()
        ).decode()  # inline SVG is cut out of reports
        return f'{note}<img alt="Expected coverage against cost" src="data:image/svg+xml;base64,{drawn}">{head}'

    start = {
        "samples": float(max(run.study.budget.samples.values())),
        "k": min(most, 2 * max(max(a["samples"].values()) for a in arms.values())),
    }
    if not (
        interactive
        and any(
            key in os.environ for key in ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG")
        )
    ):
        from IPython.display import HTML

        return HTML(picture(**start))
    import ipywidgets as widgets

    looks = {
        "style": {"description_width": "210px"},
        "layout": widgets.Layout(width="520px"),
    }
    sliders = {
        "samples": widgets.FloatLogSlider(
            start["samples"],
            min=0,
            max=2.5,
            step=0.01,
            description=f"budget, samples of {reference}",
            **looks,
        ),
        "k": widgets.IntSlider(start["k"], min=2, max=most, description="k, at most", **looks),
    }
    if len(cost_models) > 1:
        sliders["unit"] = widgets.ToggleButtons(
            options=list(cost_models), value=first, description="cost in", **looks
        )
    for a in arms:
        for unit, (_, called) in cost_models.items():
            at = np.log10(rate[unit][a])
            sliders[f"{unit}_{a}"] = widgets.FloatLogSlider(
                rate[unit][a],
                min=at - 1,
                max=at + 1,
                step=0.005,
                readout_format=".3g",
                description=f"{a}: {called}",
                **looks,
            )
        length = costs[a].n_tokens
        sliders[f"length_{a}"] = widgets.FloatSlider(
            length,
            min=length / 4,
            max=4 * length,
            step=length / 40,
            readout_format=".3g",
            description=f"{a}: tokens per sample" if told else f"{a}: relative length",
            **looks,
        )
    shown = widgets.HTML(picture(**{name: s.value for name, s in sliders.items()}))

    def moved(_) -> None:
        shown.value = picture(**{name: s.value for name, s in sliders.items()})

    for slider in sliders.values():
        slider.observe(moved, "value")
    return widgets.HBox([widgets.VBox(list(sliders.values())), shown])
