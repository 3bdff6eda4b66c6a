"""Figures for a paper: each function takes one tidy table and an `ax`, draws, and returns the `ax`; matplotlib's only door."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

COLUMN, DOUBLE = 3.4, 7.0  # inches: one column of a two-column page, and both
INK, GREY = "#222222", "#6b6b6b"
# Okabe & Ito's colours (safe for colour-blind readers); marker and line repeat the code for print in grey.
LOOKS = [
    ("#0072B2", "o", "-"), ("#D55E00", "s", "--"), ("#009E73", "^", "-."), ("#CC79A7", "D", ":"),
    ("#E69F00", "v", (0, (6, 1))), ("#56B4E9", "P", (0, (3, 1, 1, 1, 1, 1))),
]  # fmt: skip
FIXED = {"se": LOOKS[0], "wc": LOOKS[1], "base": (GREY, "d", (0, (1, 1))), "reference": (INK, "*", "-"), "wrong": (INK, "x", "--")}
STYLE = {
    "font.family": "DejaVu Sans", "font.size": 8, "axes.titlesize": 8, "axes.titleweight": "bold", "axes.titlelocation": "left",
    "axes.labelsize": 8, "xtick.labelsize": 7.5, "ytick.labelsize": 7.5, "legend.fontsize": 7.5, "legend.frameon": False,
    "legend.handletextpad": 0.5, "legend.columnspacing": 1.2, "legend.borderaxespad": 0.2, "legend.handlelength": 2.4,
    "axes.spines.top": False, "axes.spines.right": False, "axes.edgecolor": GREY, "axes.linewidth": 0.7, "axes.axisbelow": True,
    "axes.labelcolor": INK, "text.color": INK, "xtick.color": INK, "ytick.color": INK, "xtick.major.width": 0.7,
    "ytick.major.width": 0.7, "grid.color": "#e3e3e3", "grid.linewidth": 0.6, "lines.linewidth": 1.4, "lines.markersize": 4,
    "savefig.dpi": 300, "svg.hashsalt": "wcse", "svg.fonttype": "path", "mathtext.fontset": "dejavusans",
}  # fmt: skip
# Coverage of the paper's Gemma2 generators (arXiv 2408.16737), k = 1 … 10, and for the 9B also at 3, 6 … 30: read from figures.
PAPER_COVERAGE = {
    "MATH": {
        "27B": [0.327, 0.434, 0.495, 0.534, 0.563, 0.587, 0.606, 0.621, 0.635, 0.647],
        "9B": [0.270, 0.373, 0.432, 0.472, 0.502, 0.526, 0.546, 0.563, 0.577, 0.590],
        "9B at 3k": [0.431, 0.527, 0.577, 0.611, 0.636, 0.656, 0.671, 0.684, 0.696, 0.706],
    },
    "GSM8K": {
        "27B": [0.764, 0.870, 0.905, 0.924, 0.937, 0.945, 0.951, 0.955, 0.959, 0.962],
        "9B": [0.656, 0.790, 0.845, 0.875, 0.894, 0.908, 0.917, 0.926, 0.932, 0.937],
        "9B at 3k": [0.844, 0.909, 0.932, 0.945, 0.954, 0.961, 0.965, 0.969, 0.973, 0.976],
    },
}


def style():
    """A context in which figures get the house style; `draw_all`, `svg` and `save` enter it themselves."""
    import matplotlib

    return matplotlib.rc_context(STYLE)


def coverage(frame: pd.DataFrame, ax, x: str = "k", paper: str | None = None):
    """Coverage against samples (`x="k"`) or cost (`x="flops_per_problem"`), one line and band per arm.

    Args: frame: columns arm, k, flops_per_problem, value, low, high (fractions); paper: "MATH" or "GSM8K" adds the
    paper's points, read from its figures, over samples.
    """
    many = frame[x].nunique() > 4
    for arm, look in _looks(frame["arm"]).items():
        rows = frame[frame["arm"] == arm].sort_values(x)
        if not many:  # a few values of k: points with bars say more than a band
            _bars(ax, rows[x], rows, look, arm)
            continue
        ax.plot(rows[x], rows["value"], color=look[0], ls=look[2], label=arm)
        ax.plot(rows[x].iloc[-1:], rows["value"].iloc[-1:], color=look[0], marker=look[1])
        ax.fill_between(rows[x], rows["low"], rows["high"], color=look[0], alpha=0.16, lw=0)
    if paper and x == "k":
        wide = {1: "+", 3: "x"}
        for name, values in PAPER_COVERAGE[paper].items():
            step = 3 if name.endswith("3k") else 1
            ks = step * np.arange(1, len(values) + 1)
            label = f"paper {name.split()[0]}, {paper} (read from figures)" if step == 1 else None
            ax.plot(ks, values, wide[1], color=GREY if "27" in name else "#a8a8a8", ms=4, mew=0.8, label=label)
    if frame[x].max() > 4 * max(frame[x].min(), 1e-300):
        ax.set_xscale("log")
        if x == "k":
            _plain_ticks(ax, frame[x].max())
    ax.set_xlabel("Samples per problem, k" if x == "k" else "Sampling cost per problem, FLOPs")
    ax.set_ylabel("Coverage, % of problems solved")
    _percent(ax, "y")
    ax.grid(axis="y")
    _legend(ax)
    return ax


def diversity(frame: pd.DataFrame, ax):
    """Unique correct samples per problem, by what counts as the same; `frame` holds one `average` (solved or all)."""
    last = frame.groupby(["arm", "budget", "kind"], sort=False)["k"].transform("max") == frame["k"]
    _rows(ax, frame[last], group=lambda r: f"{r.budget} budget", label=lambda r: KINDS.get(r.kind, r.kind), by="arm")
    ax.set_xlim(left=0)
    of = {"solved": "solved problem", "all": "problem (solved or not)"}.get(str(frame["average"].iloc[0]), "problem")
    ax.set_xlabel(f"Unique correct samples per {of}")
    return ax


KINDS = {"text": "exact text", "normalised": "normalised text", "equations": "equations"}


def false_positives(frame: pd.DataFrame, ax):
    """Share of samples with a correct answer whose reasoning is wrong, by judge and budget."""
    _rows(ax, frame, group=lambda r: f"{r.judge} judge", label=lambda r: f"{r.budget} budget", by="arm")
    ax.set_xlim(left=0)
    ax.set_xlabel("False-positive rate, % of correct samples")
    return _percent(ax, "x")


def levels(frame: pd.DataFrame, ax):
    """Coverage at one budget by difficulty level; `frame` holds one budget."""
    names = sorted(frame["level"].astype(str).unique(), key=lambda s: (len(s), s))
    looks = _looks(frame["arm"])
    for i, (arm, look) in enumerate(looks.items()):
        rows = frame[frame["arm"] == arm]
        rows = rows.assign(at=[names.index(str(v)) for v in rows["level"]]).sort_values("at")
        shift = 0.12 * (i - (len(looks) - 1) / 2)
        ax.plot(rows["at"] + shift, rows["value"], color=look[0], ls=look[2], lw=0.8, alpha=0.6)
        _bars(ax, rows["at"] + shift, rows, look, arm)
    ax.set_xticks(range(len(names)), names)
    ax.set_xlabel("Difficulty level")
    ax.set_ylabel("Coverage, % of problems solved")
    ax.grid(axis="y")
    _legend(ax)
    return _percent(ax, "y")


def accuracy(frame: pd.DataFrame, ax):
    """Students' accuracy on held-out problems by budget and arm; `frame` holds one metric, the paradigm stands beside."""
    who = frame["arm"].where(frame["source"] == "arm", frame["source"])
    rank = frame["source"].map({"base": 0, "arm": 1}).fillna(2)
    frame = frame.assign(who=who, rank=rank).sort_values("rank", kind="stable")
    frame = frame.sort_values("base", kind="stable", key=lambda s: s.map({b: i for i, b in enumerate(s.unique())}))
    label = {"base": "before training", "reference": "controls", "wrong": "controls"}
    _rows(ax, frame, group=lambda r: f"Student {r.base}", label=lambda r: label.get(r.source, f"{r.budget} budget"), by="who",
          note=lambda r: r.paradigm if isinstance(r.paradigm, str) else "")  # fmt: skip
    ax.set_xlabel(f"{_sentence(str(frame['metric'].iloc[0]))} on held-out problems, %")
    return _percent(ax, "x")


def differences(frame: pd.DataFrame, ax):
    """Forest plot of paired differences, arm_a's student minus arm_b's, in percentage points.

    Filled: p < 0.05 after Holm's correction; hollow: not. Dashed line: no difference.
    """
    groups = [f"{_sentence(m)}: {a} − {b}" for m, a, b in zip(frame["metric"], frame["arm_a"], frame["arm_b"])]
    paradigm = [f" ({p})" if isinstance(p, str) and p else "" for p in frame["paradigm"]]
    frame = frame.assign(row=frame["base"] + paradigm + ", " + frame["budget"].astype(str), group=groups, all="difference")
    solid = pd.to_numeric(frame["p_holm"], errors="coerce").lt(0.05)
    _forest(ax, frame.assign(solid=solid), by=None)
    pairs = frame[["arm_a", "arm_b"]].drop_duplicates()
    if len(pairs) == 1:
        a, b = pairs.iloc[0]
        ax.set_xlabel(f"Accuracy of {a}'s student − {b}'s, percentage points\n← {b} better      {a} better →")
    else:
        ax.set_xlabel("Accuracy difference, percentage points")
    return ax


def controls(frame: pd.DataFrame, ax):
    """Forest plot of the controls: can the study tell good training data (reference) from bad (wrong)?"""
    frame = frame.assign(row=frame["base"], group=frame["comparison"].str.replace(" - ", " − "), solid=frame["low"].gt(0) | frame["high"].lt(0))
    _forest(ax, frame, by="metric")
    ax.set_xlabel("Accuracy difference, percentage points")
    return ax


def majority(frame: pd.DataFrame, ax):
    """maj@k of one base's students at one budget against k; other metrics in `frame` are passed over."""
    frame = frame[frame["metric"].str.match(r"maj@\d+$")]
    frame = frame.assign(k=frame["metric"].str[4:].astype(int), who=frame["arm"].where(frame["source"] == "arm", frame["source"]))
    ks = sorted(frame["k"].unique())
    students = list(frame["student"].unique())
    for student in students:
        rows = frame[frame["student"] == student].sort_values("k")
        look = _looks(frame["who"])[rows["who"].iloc[0]]
        at = [ks.index(k) + 0.07 * (students.index(student) - (len(students) - 1) / 2) for k in rows["k"]]
        ax.plot(at, rows["value"], color=look[0], ls=look[2], lw=0.8)
        _bars(ax, at, rows, look, rows["who"].iloc[0])
    ax.set_xticks(range(len(ks)), ks)
    ax.set_xlabel("Votes per problem, k")
    ax.set_ylabel("maj@k on held-out problems, %")
    ax.grid(axis="y")
    _legend(ax)
    return _percent(ax, "y")


def training(frame: pd.DataFrame, ax):
    """Training loss against step, a line per student; with columns `who` and `budget`, colour is who and width the budget."""
    who = frame["who"] if "who" in frame else frame["student"]
    budgets = list(frame["budget"].dropna().unique()) if "budget" in frame else []
    for student, rows in frame.groupby("student", sort=False):
        name = who.loc[rows.index[0]]
        look = _looks(who)[name]
        budget = rows["budget"].iloc[0] if budgets else None
        width = 0.9 + 0.9 * (budgets.index(budget) if budget in budgets else 0)
        label = f"{name}, {budget}" if "who" in frame and budget in budgets else name
        rows = rows.sort_values("step")
        ax.plot(rows["step"], rows["loss"], color=look[0], ls=look[2], lw=width, label=label)
    ax.set_xlabel("Optimiser step")
    ax.set_ylabel("Training loss, nats per token")
    ax.grid(axis="y")
    _legend(ax, columns=2)
    return ax


def ledger(frame: pd.DataFrame, ax):
    """Planned (hollow) and spent (filled) amounts on a log axis; `frame` holds one unit."""
    frame = frame.assign(planned=frame["planned"].where(frame["planned"] > 0), spent=frame["spent"].where(frame["spent"] > 0))
    frame = frame[frame["planned"].notna() | frame["spent"].notna()]
    each = frame.groupby(["stage", "who"])["kind"].transform("nunique").max() > 1
    at = _places(ax, [str(s) for s in frame["stage"]], [f"{r.who}, {r.kind}" if each else str(r.who) for r in frame.itertuples()])
    ax.hlines(at, frame["planned"], frame["spent"], color=GREY, lw=0.8)
    ax.plot(frame["planned"], at, "o", mfc="white", mec=LOOKS[0][0], label="planned")
    ax.plot(frame["spent"], at, "D", color=LOOKS[1][0], ms=3.4, label="spent")
    ax.set_xscale("log")
    ax.set_xlabel({"flops": "FLOPs", "usd": "US dollars"}.get(str(frame["unit"].iloc[0]).lower(), str(frame["unit"].iloc[0])))
    ax.grid(axis="x")
    _legend(ax)
    return ax


def draw_all(tables: dict[str, pd.DataFrame], narrow: bool = False, paper: str | None = None) -> dict:
    """Every figure that the tables allow, by name, as matplotlib Figures of double-column (or, `narrow`, one-column) width.

    Tables that are missing or empty leave their figure out. Raises KeyError naming a column that a table lacks.
    """
    t = {name: frame for name, frame in tables.items() if frame is not None and len(frame)}
    students, plots = t.get("students"), {}
    if "coverage" in t:
        cost = t["coverage"]["flops_per_problem"].notna().any()
        panels = [("", t["coverage"], lambda f, ax: coverage(f, ax, paper=paper))]
        panels += [("", t["coverage"], lambda f, ax: coverage(f, ax, x="flops_per_problem"))] * cost
        plots["coverage"] = panels, 2, 2.5
    if "diversity" in t:
        plots["diversity"] = _split(t["diversity"], "average", diversity, lambda a: f"Averaged over {a} problems"), 2, None
    if "false_positives" in t:
        plots["false_positives"] = [("", t["false_positives"], false_positives)], 1, None
    if "levels" in t:
        plots["levels"] = _split(t["levels"], "budget", levels, lambda b: f"{b} budget"), 2, 2.3
    if "differences" in t:
        single = ~t["differences"]["metric"].str.startswith("maj@")
        plots["differences"] = [("", t["differences"][single] if single.any() else t["differences"], differences)], 1, None
    if students is not None:
        single = students[~students["metric"].str.startswith("maj@")]
        if len(single):
            plots["accuracy"] = _split(single, "metric", accuracy, lambda m: _sentence(m)), 2, None
        votes = students[students["metric"].str.match(r"maj@\d+$")]
        if votes["metric"].nunique() > 1:
            plots["majority"] = _vote_panels(votes), 2 if votes["budget"].nunique() == 2 else 3, 2.1
    if "controls" in t:
        plots["controls"] = [("", t["controls"], controls)], 1, None
    if "training" in t:
        frame = t["training"].reset_index(drop=True)
        if students is not None:
            facts = students.drop_duplicates("student").assign(who=lambda s: s["arm"].where(s["source"] == "arm", s["source"]))
            frame = frame.merge(facts[["student", "base", "who", "budget"]], on="student", how="left")
        known = "base" in frame and frame["base"].notna().all()
        plots["training"] = _split(frame, "base", training, lambda b: f"Student {b}") if known else [("", frame, training)], 3, 2.3
    if "ledger" in t:
        rows = t["ledger"][t["ledger"][["planned", "spent"]].gt(0).any(axis=1)]
        if len(rows):
            plots["ledger"] = _split(rows, "unit", ledger, lambda u: ""), 1, None
    with style():
        return {name: _figure(panels, 1 if narrow else n, height, narrow) for name, (panels, n, height) in plots.items()}


def svg(fig) -> str:
    """A figure as SVG text, the same bytes every time: text as outlines, no date, salted ids."""
    with style():
        buffer = io.StringIO()
        fig.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def save(fig, folder: Path, name: str) -> list[Path]:
    """Write `<folder>/<name>.svg` and `.png` (300 dpi) and return their paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.svg", folder / f"{name}.png"]
    paths[0].write_text(svg(fig), encoding="utf-8")
    with style():
        fig.savefig(paths[1], format="png", metadata={"Software": None})
    return paths


def _figure(panels: list[tuple[str, pd.DataFrame, Callable]], columns: int, height: float | None, narrow: bool):
    """Lay panels out; a panel of rows (height None) is as tall as its rows need."""
    from matplotlib.figure import Figure

    columns = min(columns, len(panels))
    lines = -(-len(panels) // columns)
    fig = Figure(figsize=(COLUMN if narrow else DOUBLE, (height or 2) * lines), layout="constrained")
    fig.get_layout_engine().set(h_pad=0.06, w_pad=0.05, hspace=0.04, wspace=0.05)
    axes = fig.subplots(lines, columns, squeeze=False).ravel()
    for ax, (title, frame, draw) in zip(axes, panels):
        draw(frame, ax)
        ax.set_title(title, pad=18 if ax.get_legend() is not None else 6)
    for ax in axes[len(panels) :]:
        ax.remove()
    if height is None:
        fig.set_size_inches(fig.get_figwidth(), lines * (0.85 + 0.165 * max(np.ptp(ax.get_ylim()) for ax in axes[: len(panels)])))
    return fig


def _split(frame: pd.DataFrame, column: str, draw: Callable, title: Callable) -> list:
    names = list(frame[column].dropna().unique())
    return [(title(n) if len(names) > 1 else "", _keep_looks(frame, frame[column] == n), draw) for n in names]


def _vote_panels(votes: pd.DataFrame) -> list:
    budgets = list(votes.loc[votes["source"] == "arm", "budget"].dropna().unique()) or [None]
    return [
        (f"Student {base}" + (f", {b} budget" if b else ""), part, majority)
        for base in votes["base"].unique() for b in budgets
        if len(part := votes[(votes["base"] == base) & ((votes["source"] == "base") | ((votes["source"] == "arm") & (votes["budget"] == b)))])
    ]  # fmt: skip


def _keep_looks(frame: pd.DataFrame, rows: pd.Series) -> pd.DataFrame:
    part = frame[rows]
    part.attrs["names"] = list(frame["arm"].dropna().unique()) if "arm" in frame else []
    return part
