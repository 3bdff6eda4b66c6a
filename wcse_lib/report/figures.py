"""Figures for a paper: a tidy table and an `ax` in, the `ax` out; the only door to matplotlib."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib.analyze import CONTROL_WORDS, Quantity, with_metric_words

COLUMN, DOUBLE = 3.4, 7.0  # inches: one column of a two-column page, and both
INK, GREY = "#222222", "#6b6b6b"
# Okabe & Ito's colours are safe for colour-blind readers; marker and line say the same again for print in grey.
LOOKS = [
    ("#0072B2", "o", "-"),
    ("#D55E00", "s", "--"),
    ("#009E73", "^", "-."),
    ("#CC79A7", "D", ":"),
    ("#E69F00", "v", (0, (6, 1))),
    ("#56B4E9", "P", (0, (3, 1, 1, 1, 1, 1))),
]
FIXED = {"se": LOOKS[0], "wc": LOOKS[1]}
FIXED |= {"base": (GREY, "d", ":"), "reference": (INK, "*", "-"), "wrong": (INK, "x", "--")}
STYLE = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 7.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.3,
    "lines.markersize": 4,
    "savefig.dpi": 300,
    "legend.frameon": False,
    "svg.hashsalt": "wcse",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a `$` in a level or a study's name is a dollar
}
# Coverage (%) of the paper's generators (arXiv 2408.16737) at 1 … 10 samples, or 3, 6 … 30: read from figures.
PAPER = {
    ("MATH", "27B", 1): [32.7, 43.4, 49.5, 53.4, 56.3, 58.7, 60.6, 62.1, 63.5, 64.7],
    ("MATH", "9B", 1): [27.0, 37.3, 43.2, 47.2, 50.2, 52.6, 54.6, 56.3, 57.7, 59.0],
    ("MATH", "9B", 3): [43.1, 52.7, 57.7, 61.1, 63.6, 65.6, 67.1, 68.4, 69.6, 70.6],
    ("GSM8K", "27B", 1): [76.4, 87.0, 90.5, 92.4, 93.7, 94.5, 95.1, 95.5, 95.9, 96.2],
    ("GSM8K", "9B", 1): [65.6, 79.0, 84.5, 87.5, 89.4, 90.8, 91.7, 92.6, 93.2, 93.7],
    ("GSM8K", "9B", 3): [84.4, 90.9, 93.2, 94.5, 95.4, 96.1, 96.5, 96.9, 97.3, 97.6],
}


def style():
    """A context with the house style; `draw_all`, `svg` and `save` enter it themselves."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def coverage(
    frame: pd.DataFrame, ax, x: str = "k", paper: str | None = None, what: str = "Coverage"
):
    """Coverage with a band per arm, against samples (`x="k"`) or cost (`x="flops_per_problem"`).

    Args: frame: columns arm, k, flops_per_problem, value, low, high (fractions); paper: "MATH" or "GSM8K" adds the
    paper's points (over samples), marked as read from its figures.
    """
    for arm, look in _looks(frame["arm"]).items():
        rows = frame[frame["arm"] == arm].sort_values(x)
        if len(rows) < 3:  # bars show single points better than a band does
            _bars(ax, rows[x], rows, look, arm)
            continue
        marked = None if len(rows) <= 12 else [0, len(rows) - 1]
        ax.plot(
            rows[x],
            rows["value"],
            color=look[0],
            ls=look[2],
            marker=look[1],
            markevery=marked,
            label=arm,
        )
        ax.fill_between(rows[x], rows["low"], rows["high"], color=look[0], alpha=0.15, lw=0)
    for data, size, step in [key for key in PAPER if key[0] == paper and x == "k"]:
        label = f"paper's {size} on {data} (read from figures)" if step == 1 else None
        look = dict(color=GREY, ms=4, mew=0.8, marker="+" if size == "9B" else "x", ls="none")
        ax.plot(
            step * np.arange(1, 11), np.array(PAPER[data, size, step]) / 100, **look, label=label
        )
    if frame[x].max() > 4 * frame[x].min() > 0:
        ax.set_xscale("log")
    if x == "k":
        ticks = [
            k
            for k in (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000, 10000)
            if k <= ax.dataLim.x1
        ]
        ax.set_xticks(ticks, [f"{k:,}" for k in ticks])
        ax.minorticks_off()
    elif ax.get_xscale() == "log":
        _powers(ax, (1, 3))
    label = "Samples per problem, k" if x == "k" else "Sampling cost per problem, FLOPs"
    return _finish(ax, label, f"{what}, % of problems", percent="y", grid="y")


def diversity(frame: pd.DataFrame, ax):
    """Unique correct samples per problem at each arm's largest k, by what counts as the same, for one `average`; a bar
    marks what they would be were no two the same (k · pass@1; per solved problem that over coverage@k), where the table
    has it as `identity`."""
    frame = frame[
        frame.groupby(["arm", "budget", "kind"], observed=True)["k"].transform("max") == frame["k"]
    ]
    names = {"text": "exact text", "normalised": "normalised text"}
    groups, rows = (
        [f"{b} budget" for b in frame["budget"]],
        [names.get(k, k) for k in frame["kind"]],
    )
    at = _rows(ax, frame, groups, rows, by="arm")
    if "identity" in frame:
        ax.plot(frame["identity"], at, "|", color=INK, ms=9, mew=1.2, label="were no two alike")
    ax.set_xlim(left=0)
    return _finish(
        ax,
        f"Unique correct samples per {'solved ' * (frame['average'].iloc[0] == 'solved')}problem",
    )


def false_positives(frame: pd.DataFrame, ax):
    """Share of samples with a correct answer whose reasoning is wrong, by judge, budget and arm."""
    _rows(
        ax,
        frame,
        [f"Judge: {j}" for j in frame["judge"]],
        [f"{b} budget" for b in frame["budget"]],
        by="arm",
    )
    ax.set_xlim(left=0)
    return _finish(ax, "False-positive rate, % of correct samples", percent="x")


def levels(frame: pd.DataFrame, ax):
    """Coverage at one budget by difficulty level, one series per arm."""
    frame = frame.assign(at=frame["level"].astype(str))
    order = sorted(frame["at"].unique(), key=lambda level: (len(level), level))
    return _series(ax, frame, order, "arm", "Difficulty level", "Coverage, % of problems")


def lengths(frame: pd.DataFrame, ax):
    """Tokens per sample by arm and verdict: a line from the median to the 99th percentile, marks at median, 90th
    percentile and mean."""
    at, looks = (
        _places(ax, [f"Arm {a}" for a in frame["arm"]], list(frame["verdict"])),
        _looks(frame["arm"]),
    )
    for y, r in zip(at, frame.itertuples()):
        color = looks[r.arm][0]
        ax.plot([r.median_tokens, r.p99_tokens], [y, y], color=color, lw=1)
        for x, size in ((r.median_tokens, 8), (r.p90_tokens, 4), (r.p99_tokens, 8)):
            ax.plot(x, y, "|", color=color, ms=size, mew=1.2)
        ax.plot(r.value, y, looks[r.arm][1], color=color, ms=4)
        cut = f"  {100 * r.truncated_rate:.1f} % cut" if r.truncated_rate else ""
        ax.text(r.p99_tokens, y, cut, va="center", size=6, color=GREY)
    ax.set_xlim(left=0)
    return _finish(ax, "Tokens per sample")


def likelihood(frame: pd.DataFrame, ax):
    """Log-likelihood of the arms' examples under the untrained students, by base and budget."""
    _rows(
        ax,
        frame,
        [f"Student {b}" for b in frame["base"]],
        [f"{b} budget" for b in frame["budget"]],
        by="arm",
    )
    return _finish(ax, "Log-likelihood of examples, nats per token")


def forecast(frame: pd.DataFrame, ax):
    """The pilot's forecast with its interval and what came (a cross), by arm and budget, for one metric."""
    rows = [f"{arm}, {budget} budget" for arm, budget in zip(frame["arm"], frame["budget"])]
    at = _rows(
        ax, frame.assign(who="forecast"), [m.capitalize() for m in frame["metric"]], rows, by="who"
    )
    ax.plot(frame["outcome"], at, "x", color=LOOKS[1][0], ms=6, mew=1.5, label="outcome", zorder=3)
    share = (
        frame["metric"]
        .isin(
            ["coverage", "sound coverage", "pass@1", "false_positive_rate", "false-positive rate"]
        )
        .all()
    )
    return _finish(
        ax, "Share, %" if share else "Forecast and outcome", percent="x" if share else ""
    )


def accuracy(frame: pd.DataFrame, ax):
    """Students' accuracy in one metric on held-out problems, by base, budget and arm; the paradigm stands beside."""
    order = {base: i for i, base in enumerate(frame["base"].unique())}
    rank = 3 * frame["base"].map(order) + frame["source"].map({"base": 0, "arm": 1}).fillna(2)
    frame = frame.assign(who=_who(frame), rank=rank).sort_values("rank", kind="stable")
    names = {"base": "before training", "reference": "controls", "wrong": "controls"}
    rows = [names.get(s, f"{b} budget") for s, b in zip(frame["source"], frame["budget"])]
    _rows(ax, frame, [f"Student {b}" for b in frame["base"]], rows, by="who", notes="paradigm")
    return _finish(
        ax, f"{frame['metric'].iloc[0].capitalize()} on held-out problems, %", percent="x"
    )


def differences(frame: pd.DataFrame, ax):
    """Forest plot of paired differences, arm_a's student minus arm_b's; filled: p < 0.05 after Holm's correction."""
    groups = [
        f"{m.capitalize()}: {a} − {b}"
        for m, a, b in zip(frame["metric"], frame["arm_a"], frame["arm_b"])
    ]
    named = zip(frame["base"], frame["paradigm"].fillna(""), frame["budget"])
    rows = [
        f"{base} ({paradigm}), {budget}" if paradigm else f"{base}, {budget}"
        for base, paradigm, budget in named
    ]
    p = frame["p_holm"].fillna(frame["p"])  # NaN: one comparison, nothing to correct
    _rows(ax, frame.assign(hollow=~p.lt(0.05), same=""), groups, rows, by="same", numbers=True)
    pairs = frame[["arm_a", "arm_b"]].drop_duplicates().to_numpy()
    sides = "\n← {1} better · {0} better →".format(*pairs[0]) if len(pairs) == 1 else ""
    return _finish(ax, f"Accuracy difference, percentage points{sides}")


def ablations(frame: pd.DataFrame, ax):
    """Forest plot of what recipes change, by comparison; filled: p < 0.05 after Holm's correction."""
    words = {
        "recipe": "{recipe} minus main: {arm_a}",
        "arms": "{arm_a} − {arm_b}, with {recipe}",
        "pooled": "pooled − {arm_b}",
        "gap": "{arm_a} − {arm_b}: with {recipe} minus main",
    }
    groups = [words[r["comparison"]].format(**r) for r in frame.to_dict("records")]
    p = frame["p_holm"].fillna(frame["p"])
    rows = [f"{base}, {budget}" for base, budget in zip(frame["base"], frame["budget"])]
    _rows(ax, frame.assign(hollow=~p.lt(0.05), same=""), groups, rows, by="same", numbers=True)
    return _finish(ax, f"Difference in {frame['metric'].iloc[0]}, percentage points")


def studies(frame: pd.DataFrame, ax):
    """Forest plot over studies: columns group, study, value, low, high (shares); pooled rows are squares."""
    frame = frame.assign(
        kind=pd.Categorical(
            frame["study"].str.startswith("pooled").map({True: "pooled", False: "study"}),
            ["study", "pooled"],
        )
    )
    hollow = frame["low"].le(0) & frame["high"].ge(0)
    _rows(
        ax,
        frame.assign(hollow=hollow),
        list(frame["group"]),
        list(frame["study"]),
        by="kind",
        numbers=True,
    )
    return _finish(ax, "Difference, percentage points")


def controls(frame: pd.DataFrame, ax):
    """Forest plot of the controls: can the study tell good data (reference) from bad (wrong)? Hollow: includes zero."""
    hollow = frame["low"].le(0) & frame["high"].ge(0)
    groups = [CONTROL_WORDS[c] for c in frame["comparison"]]
    _rows(ax, frame.assign(hollow=hollow), groups, list(frame["base"]), by="metric", numbers=True)
    return _finish(ax, "Accuracy difference, percentage points")


def majority(frame: pd.DataFrame, ax):
    """maj@k against k for one base's students before and after training; other metrics and controls are passed over."""
    frame = frame[frame["metric"].str.fullmatch(r"maj@\d+") & frame["source"].isin(["base", "arm"])]
    frame = frame.assign(at=frame["metric"].str[4:], who=_who(frame))
    return _series(
        ax,
        frame,
        sorted(frame["at"].unique(), key=int),
        "who",
        "Votes per problem, k",
        "maj@k accuracy, %",
    )


def arm_votes(frame: pd.DataFrame, ax):
    """maj@k of the arms' own samples against k, with the share of votes that end in a tie as a thin line."""
    order = [str(k) for k in sorted(frame["k"].unique())]
    _series(
        ax,
        frame.assign(at=frame["k"].astype(str), budget=None),
        order,
        "arm",
        "Votes per problem, k",
        "maj@k accuracy, %",
    )
    for arm, look in _looks(frame["arm"]).items():
        rows = frame[frame["arm"] == arm].sort_values("k")
        at = [order.index(str(k)) for k in rows["k"]]
        ax.plot(
            at, rows["tie_rate"], color=look[0], ls=":", lw=0.8, label=f"{arm}: ties for the lead"
        )
    return _finish(ax, "Votes per problem, k", "maj@k accuracy; ties, %", percent="y", grid="y")


def training(frame: pd.DataFrame, ax):
    """Training loss against step, a line per student; columns `who` and `budget`, where given, set look and width."""
    frame = frame if "who" in frame else frame.assign(who=frame["student"], budget=None)
    budgets = list(frame.loc[~frame["who"].isin(list(FIXED)[2:]), "budget"].dropna().unique())
    for _, rows in frame.sort_values("step").groupby("student", sort=False):
        who, budget = rows["who"].iloc[0], rows["budget"].iloc[0]
        width, label = (
            (0.8 + 0.8 * budgets.index(budget), f"{who}, {budget}")
            if budget in budgets
            else (1.2, who)
        )
        color, _, dash = _looks(frame["who"])[who]
        ax.plot(rows["step"], rows["loss"], color=color, ls=dash, lw=width, label=label)
    return _finish(ax, "Optimiser step", "Training loss, nats per token", grid="y")


def ledger(frame: pd.DataFrame, ax):
    """Planned (hollow) and spent (filled) amounts of one unit on a log axis."""
    frame = frame.assign(**{c: frame[c].where(frame[c] > 0) for c in ("planned", "spent")})
    kinds = frame.groupby(["stage", "who"])["kind"].transform("nunique").max() > 1
    rows = [f"{w}, {k}" if kinds else str(w) for w, k in zip(frame["who"], frame["kind"])]
    at = _places(ax, [str(s) for s in frame["stage"]], rows)
    ax.hlines(at, frame["planned"], frame["spent"], color=GREY, lw=0.8)
    ax.plot(frame["planned"], at, "o", mfc="white", mec=LOOKS[0][0], ms=5, label="planned")
    ax.plot(frame["spent"], at, "D", color=LOOKS[1][0], ms=3, label="spent")
    ax.set_xscale("log")
    ends = frame[["planned", "spent"]].stack()
    _powers(ax, (1, 3) if ends.max() < 300 * ends.min() else (1,))
    unit = str(frame["unit"].iloc[0])
    return _finish(ax, {"flops": "FLOPs", "usd": "US dollars"}.get(unit.lower(), unit))


def draw_all(
    tables: dict[str, pd.DataFrame], narrow: bool = False, paper: str | None = None
) -> dict:
    """Every figure that the tables allow, by name, as matplotlib Figures 7 in wide (`narrow`: 3.4 in).

    Missing and empty tables leave their figure out. Raises KeyError naming a column that a table lacks.
    """
    t = {
        name: frame.map(_printable)
        for name, frame in tables.items()
        if frame is not None and len(frame)
    }
    t = {name: with_metric_words(f) if "decoding" in f else f for name, f in t.items()}
    named = [
        t[name] for name in ("coverage", *t) if "arm" in t.get(name, ())
    ]  # coverage has every arm, in the plan's order
    arms = list(dict.fromkeys(a for frame in named for a in frame["arm"].dropna()))
    t = {
        name: f.assign(arm=pd.Categorical(f["arm"], arms)) if "arm" in f else f
        for name, f in t.items()
    }
    for name in ("students", "training"):  # other recipes and sets have tables of their own
        if name in t and {"set", "recipe"} <= set(t[name]):
            t[name] = t[name][(t[name]["set"] == "held_out") & (t[name]["recipe"] == "main")]
    if "students" in t:
        metric = t["students"]["metric"]
        t["votes"], t["single"] = (
            t["students"][metric.str.startswith("maj@")],
            t["students"][metric.str.endswith("pass@1")],
        )
    if "differences" in t:
        single = t["differences"]["metric"].str.endswith("pass@1")
        t["differences"] = t["differences"][single] if single.any() else t["differences"]
    for name in {"ablations", "transfer"} & set(t):
        frame = t[name][t[name]["metric"] == t[name]["metric"].iloc[0]]
        over_all = frame["base"] == "all students"  # and pairs of arms that only one base has
        pooled = frame[["arm_a", "arm_b"]].apply(tuple, axis=1)
        t[name] = frame[over_all | ~pooled.isin(pooled[over_all])]
    if "transfer" in t:
        t["transfer"] = t["transfer"].assign(
            metric=t["transfer"]["set"] + ", " + t["transfer"]["metric"]
        )
    if "training" in t and "students" in t:
        facts = t["students"].drop_duplicates("student").assign(who=_who)
        rows = t["training"].merge(
            facts[["student", "base", "who", "budget"]], on="student", how="inner"
        )
        t["training"] = rows if len(rows) else t["training"]
    if "ledger" in t:
        rows = t["ledger"][t["ledger"][["planned", "spent"]].gt(0).any(axis=1)]
        at_budget = rows["kind"] + " (" + rows["budget"].astype(str) + ")"
        rows = rows.assign(
            kind=rows["kind"].where(rows["budget"].isna() | (rows["budget"] == ""), at_budget)
        )
        if (
            rows.groupby(["stage", "unit"])["who"].nunique().max() > 20
        ):  # many students are told by their sums
            rows = rows.assign(
                who=rows["who"].where(
                    ~rows["stage"].isin(["04_finetune", "05_evaluate"]), "all students"
                )
            )
            rows = rows.groupby(["who", "stage", "kind", "unit"], sort=False, as_index=False)[
                ["planned", "spent"]
            ].sum()
        t["ledger"] = rows
    if "explanation" in t:
        t["likelihood"] = t["explanation"][t["explanation"]["quantity"] == Quantity.LOG_LIKELIHOOD]
    kinds = [
        ("coverage", "Any correct answer", "Coverage", paper),
        ("sound_coverage", "Less false positives", "Sound coverage", None),
    ]
    curves = []
    for name, title, what, overlay in (k for k in kinds if k[0] in t):
        title = title if "sound_coverage" in t else ""
        cost = t[name].dropna(subset="flops_per_problem")
        curves += [(title, t[name], partial(coverage, paper=overlay, what=what))]
        curves += (
            [(title, cost, partial(coverage, x="flops_per_problem", what=what))]
            if len(cost)
            else []
        )
    trained = "base" if "students" in t else None
    sheets = {  # name: panels, panels on a line, height of a line in inches (None: as its rows need)
        "coverage": (curves, 2, 2.4),
        "diversity": (
            _panels(t.get("diversity"), "average", diversity, "average over {} problems"),
            2,
            None,
        ),
        "false_positives": (_panels(t.get("false_positives"), None, false_positives), 1, None),
        "levels": (_panels(t.get("levels"), "budget", levels, "{} budget"), 2, 2.2),
        "lengths": (_panels(t.get("lengths"), None, lengths), 1, None),
        "arm_votes": (_panels(t.get("arm_votes"), None, arm_votes), 1, 2.4),
        "likelihood": (_panels(t.get("likelihood"), None, likelihood), 1, None),
        "forecast": (_panels(t.get("forecast"), "metric", forecast), 2, None),
        "accuracy": (_panels(t.get("single"), "metric", accuracy), 2, None),
        "differences": (_panels(t.get("differences"), None, differences), 1, None),
        "ablations": (_panels(t.get("ablations"), None, ablations), 1, None),
        "transfer": (_panels(t.get("transfer"), None, differences), 1, None),
        "majority": (_panels(t.get("votes"), "base", majority, "student {}"), 3, 2.3),
        "controls": (_panels(t.get("controls"), None, controls), 1, None),
        "training": (_panels(t.get("training"), trained, training, "student {}"), 3, 2.2),
        "studies": (_panels(t.get("studies"), None, studies), 1, None),
        "ledger": (_panels(t.get("ledger"), "unit", ledger), 1, None),
    }
    with style():
        return {
            name: _figure(p, 1 if narrow else n, height, narrow)
            for name, (p, n, height) in sheets.items()
            if p
        }


def svg(fig) -> str:
    """A figure as SVG text, the same bytes every time: text as outlines, salted ids, no date."""
    with style():
        buffer = io.StringIO()
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    fig.set_layout_engine(
        "none"
    )  # it is laid out now, and laying out again takes as long as drawing
    return buffer.getvalue()


def save(fig, folder: Path, name: str) -> list[Path]:
    """Write `<folder>/<name>.svg` and `.png` (300 dpi) and return their paths."""
    paths = [Path(folder, f"{name}.svg"), Path(folder, f"{name}.png")]
    paths[0].parent.mkdir(parents=True, exist_ok=True)
    paths[0].write_text(svg(fig), encoding="utf-8")
    with style():
        fig.savefig(paths[1], metadata={"Software": None})
    return paths


def _panels(
    frame: pd.DataFrame | None, column: str | None, draw: Callable, title: str = ""
) -> list[tuple]:
    """(title, rows, function) per value of a column, or one for the whole table; none without rows."""
    names = list(frame[column].dropna().unique()) if column and frame is not None else []
    if len(names) < 2:
        return [] if frame is None or frame.empty else [("", frame, draw)]
    return [(title.format(n).capitalize(), frame[frame[column] == n], draw) for n in names]


def _figure(panels: list[tuple], columns: int, height: float | None, narrow: bool):
    """Lay panels out under one legend; panels of a given height share their y axis."""
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    fig = Figure(
        figsize=(COLUMN if narrow else DOUBLE, (height or 2) * lines + 0.25), layout="constrained"
    )
    axes = fig.subplots(lines, columns, squeeze=False, sharey=height is not None).ravel()
    handles = {}
    for i, (ax, (title, frame, draw)) in enumerate(zip(axes, panels)):
        draw(frame, ax).set_title(title)
        handles = dict(zip(*ax.get_legend_handles_labels()[::-1])) | handles
        if ax.get_legend():
            ax.get_legend().remove()
        if i % columns:
            ax.set_ylabel("")
    for ax in axes[len(panels) :]:
        ax.remove()
    if height is None:
        tall = [np.ptp(ax.get_ylim()) for ax in axes[: len(panels)]]
        tall = [0.6 + 0.165 * max(tall[i : i + columns]) for i in range(0, len(tall), columns)]
        fig.set_figheight(0.25 + sum(tall))
        axes[0].get_gridspec().set_height_ratios(tall)
    if len(handles) > 1:
        fit = (46 if narrow else 100) // (7 + max(map(len, handles)))
        fig.legend(
            handles.values(),
            handles,
            loc="outside upper left",
            ncols=max(1, min(len(handles), fit)),
        )
    return fig


def _finish(ax, x: str, y: str = "", percent: str = "", grid: str = "x"):
    """Labels, per-cent ticks, grid and a legend where there is more than one series."""
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if percent:
        getattr(ax, f"{percent}axis").set_major_formatter(lambda value, _: f"{100 * value:.3g}")
    ax.grid(axis=grid)
    if len(ax.get_legend_handles_labels()[1]) > 1:
        ax.legend()
    return ax


def _printable(value):
    """A text without the control characters that neither a font nor an SVG file knows; all else as it is."""
    return (
        re.sub(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]", " ", value) if isinstance(value, str) else value
    )


def _powers(ax, subs: tuple[int, ...]) -> None:
    """Ticks of a log x axis at these multiples of powers of ten, written as plain numbers where those are short."""
    from matplotlib.ticker import LogLocator, NullFormatter

    def told(value: float, _) -> str:
        digit, power = f"{value:.0e}".split("e")
        raised = "10" + str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
        return (
            f"{value:,g}"
            if 0.01 <= value < 1e4
            else raised
            if digit == "1"
            else f"{digit}·{raised}"
        )

    ax.xaxis.set_major_locator(LogLocator(subs=subs))
    ax.xaxis.set_major_formatter(told)
    ax.xaxis.set_minor_formatter(NullFormatter())


def _looks(names: pd.Series) -> dict[str, tuple]:
    """Colour, marker and line of each name present; a categorical's categories keep them across figures."""
    every = list(names.astype("category").cat.categories)
    free = [look for look in LOOKS if look not in [FIXED.get(n) for n in every]] or LOOKS
    others = [n for n in every if n not in FIXED]
    return {
        n: FIXED.get(n) or free[others.index(n) % len(free)] for n in every if (names == n).any()
    }


def _who(frame: pd.DataFrame) -> pd.Series:
    """The arm whose examples a student learnt from, else its source (base, reference, wrong)."""
    names = frame["arm"].astype(object).where(frame["source"] == "arm", frame["source"])
    return pd.Categorical(
        names, list(dict.fromkeys([*frame["arm"].astype("category").cat.categories, *names]))
    )


def _places(ax, groups: list[str], rows: list[str]) -> np.ndarray:
    """Order entries by group, under a header each, and by row; label the axis; return the entries' y."""
    keys, at, y, previous = list(zip(groups, rows)), np.zeros(len(rows)), 0.0, (None, None)
    for i in sorted(range(len(keys)), key=lambda i: (groups.index(groups[i]), keys.index(keys[i]))):
        if groups[i] != previous[0]:
            y += 1.4 if previous[0] else 0
            look = dict(
                weight="bold", size=7.5, va="center", bbox=dict(fc="white", ec="none", pad=1)
            )
            ax.text(0, y, groups[i], transform=ax.get_yaxis_transform(), **look)
        at[i] = y = y + (0.6 if keys[i] == previous else 1.0)
        previous = keys[i]
    ticks = {key: np.mean([y for y, other in zip(at, keys) if other == key]) for key in keys}
    ax.set_yticks(list(ticks.values()), [row for _, row in ticks])
    ax.set_ylim(y + 0.7, -0.6)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    return at


def _rows(
    ax,
    frame: pd.DataFrame,
    groups: list[str],
    rows: list[str],
    by: str,
    notes: str = "",
    numbers: bool = False,
):
    """Dots with intervals, one row per (group, row), its entries set apart and marked by column `by`.

    Column `notes` stands beside the dots; `numbers` shows points around a zero line and spells them out at the right.
    Returns the entries' y.
    """
    if numbers:
        frame = frame.assign(**{c: 100 * frame[c] for c in ("value", "low", "high")})
        ax.axvline(0, color=INK, lw=0.8, ls=(0, (4, 3)), zorder=1)
    at, looks = _places(ax, groups, rows), _looks(frame[by])
    first = ~frame[by].duplicated().to_numpy()
    for i, (y, r) in enumerate(zip(at, frame.itertuples())):
        name = getattr(r, by)
        _bars(
            ax,
            [y],
            frame.iloc[[i]],
            looks[name],
            name if first[i] else None,
            True,
            getattr(r, "hollow", False),
        )
        if notes and isinstance(note := getattr(r, notes), str):
            end = (np.nanmax([r.value, r.high]), y)
            ax.annotate(
                note, end, (3, 0), textcoords="offset points", va="center", size=6, color=GREY
            )
        if numbers:
            text = f"{r.value:+.1f} [{r.low:+.1f}, {r.high:+.1f}]".replace(
                " [+nan, +nan]", ""
            ).replace("-", "−")
            ax.text(1.02, y, text, transform=ax.get_yaxis_transform(), va="center", size=6.5)
    return at


def _series(ax, frame: pd.DataFrame, order: list[str], by: str, x: str, y: str):
    """Points with intervals over the ordered values of column `at`; hollow: the first of several budgets."""
    keys = ["student" if "student" in frame else by, "budget"]
    units = list(frame.groupby(keys, sort=False, dropna=False, observed=True))
    budgets = list(frame.loc[frame[by].isin(frame["arm"]), "budget"].dropna().unique())
    for i, ((_, budget), rows) in enumerate(units):
        shift, name, told = (
            0.1 * (i - (len(units) - 1) / 2),
            rows[by].iloc[0],
            len(budgets) > 1 and budget in budgets,
        )
        rows = rows.assign(at=[order.index(a) + shift for a in rows["at"]]).sort_values("at")
        look, label = _looks(frame[by])[name], f"{name}, {budget}" if told else name
        ax.plot(rows["at"], rows["value"], color=look[0], ls=look[2], lw=0.8)
        _bars(ax, rows["at"], rows, look, label, hollow=told and budget == budgets[0])
    ax.set_xticks(range(len(order)), order)
    return _finish(ax, x, y, percent="y", grid="y")


def _bars(
    ax,
    at,
    rows: pd.DataFrame,
    look: tuple,
    label: str | None,
    flat: bool = False,
    hollow: bool = False,
) -> None:
    """Points with their intervals; a missing interval leaves the point bare."""
    value, low, high = (rows[c].to_numpy(float) for c in ("value", "low", "high"))
    x, y, side = (value, at, "xerr") if flat else (at, value, "yerr")
    fill, error = (
        "white" if hollow else look[0],
        {side: np.clip([value - low, high - value], 0, None)},
    )
    ax.errorbar(
        x,
        y,
        **error,
        color=look[0],
        fmt=look[1],
        mfc=fill,
        elinewidth=1,
        label=label,
        clip_on=False,
    )


def explored(frame: pd.DataFrame, budget: float, unit: str, crossings: list[float]) -> str:
    """SVG of expected coverage against cost, a band per arm (where there are intervals), the budget and crossings
    marked.

    Args: frame: arm, cost, value, low, high (fractions); budget and crossings: costs per problem, in `unit`.
    """
    from matplotlib.figure import Figure

    with style():
        fig = Figure(figsize=(5.2, 3.0), layout="constrained")
        ax = coverage(frame, fig.subplots(), x="cost")
        ax.set_xlabel(f"Sampling cost per problem, {unit}")
        ax.axvline(budget, color=INK, lw=0.9)
        ax.annotate(
            "budget",
            (budget, 1),
            (3, -8),
            xycoords=ax.get_xaxis_transform(),
            textcoords="offset points",
            size=7,
        )
        for at in crossings:
            ax.axvline(at, color=GREY, lw=0.9, ls=":")
            ax.annotate(
                "crossing",
                (at, 0),
                (3, 4),
                xycoords=ax.get_xaxis_transform(),
                textcoords="offset points",
                size=7,
            )
        ax.set_ylim(0, 1)
        ax.legend(loc="upper left")
    return svg(fig)


def paper_forecast(frame: pd.DataFrame):
    """The paper's coverage against FLOPs (points, read from its figures) and the fit to the first four points of each
    model (lines); a panel per data set. Args: frame: as planning.paper_curves gives it."""
    from matplotlib.figure import Figure

    with style():
        fig = Figure(figsize=(DOUBLE, 2.5), layout="constrained")
        for ax, (data, part) in zip(
            fig.subplots(1, frame["data"].nunique(), squeeze=False)[0],
            frame.groupby("data", sort=False),
        ):
            for (model, rows), (color, marker, dash) in zip(
                part.groupby("model", sort=False), LOOKS
            ):
                rows = rows.sort_values("k")
                ax.plot(
                    rows["flops_per_token"] / 1e9,
                    rows["forecast"],
                    color=color,
                    ls=dash,
                    label=f"{model}, our forecast",
                )
                for fitted, fill in ((True, color), (False, "white")):
                    points = rows[rows["fitted"] == fitted]
                    label = f"{model}, read from figures" if fitted else None
                    ax.plot(
                        points["flops_per_token"] / 1e9,
                        points["read"],
                        marker,
                        ms=4,
                        color=color,
                        mfc=fill,
                        label=label,
                    )
            _finish(
                ax,
                "Cost per problem, 2·P·k: GFLOPs per token of length",
                "Coverage, % of problems",
                percent="y",
                grid="y",
            )
            ax.set_title(f"{data} (filled: fitted; hollow: forecast)")
    return fig
