"""Figures for a paper: one function per figure, a tidy table and an `ax` in, the `ax` out.

A figure of a table that `analyze.TABLES` declares has the name of its function here; `sheet` says how it is laid out.
"""

from __future__ import annotations

from functools import partial

import pandas as pd

from wcse_lib.analyze import (
    ALL_BASES,
    CONTROL_WORDS,
    Metric,
    Quantity,
    judge_words,
    with_metric_words,
)
from wcse_lib.forecast import OUTCOME_WORDS, SHARES
from wcse_lib.report import marks
from wcse_lib.report.layout import Panel, Tables, sheet
from wcse_lib.report.paper import paper_points
from wcse_lib.report.style import (
    GREY,
    INK,
    LOOKS,
    NO_ARMS,
    canvas,
    looks_of,
    style,
    svg,
)
from wcse_lib.study import BY_ARMS, MAIN

ABLATION_WORDS = {  # of a comparison: its heading, and what is compared under it
    "recipe": ("{recipe} minus main", "{arm_a}"),
    "arms": ("Between arms, with {recipe}", "{arm_a} − {arm_b}"),
    "gap": ("Change of that difference by {recipe}", "{arm_a} − {arm_b}"),
    "pooled": ("Pooled minus one arm", "pooled − {arm_b}"),
    "pick": ("{recipe} minus {against}", "{arm_a}"),
}
MOST_ABLATIONS = 12  # rows of a figure that stands open
K_TICKS = (1, 2, 3, 5, 10, 20, 30, 50, 100, 200, 500, 1000, 10000)
Frame = pd.DataFrame


def _coverage_panels(tables: Tables, paper: str | None) -> list[Panel]:
    """Coverage and sound coverage, each against samples and, where costs are known, against cost."""
    panels = []
    kinds = [
        ("coverage", "Any correct answer", "Coverage", paper),
        ("sound_coverage", "Less false positives", "Sound coverage", None),
    ]
    for name, title, what, overlay in kinds:
        if name not in tables:
            continue
        if "sound_coverage" not in tables:
            title = ""
        panels.append(Panel(title, tables[name], partial(coverage, paper=overlay, what=what)))
        with_cost = tables[name].dropna(subset="flops_per_problem")
        if len(with_cost):
            against_cost = partial(coverage, x="flops_per_problem", what=what)
            panels.append(Panel(title, with_cost, against_cost))
    return panels


@sheet(panels=_coverage_panels, per_line=2, height=2.4)
def coverage(rows: Frame, ax, x: str = "k", paper: str | None = None, what: str = "Coverage"):
    """Coverage with a band per arm, against samples (`x="k"`) or cost (`x="flops_per_problem"`).

    Args: rows: columns arm, k, flops_per_problem, value, low, high (fractions); paper: "MATH" or "GSM8K" adds the
    paper's points (over samples), marked as read from its figures.
    """
    for arm, look in looks_of(rows["arm"]).items():
        of_arm = rows[rows["arm"] == arm].sort_values(x)
        # Intervals show single points better than a band does.
        draw_arm = marks.points if len(of_arm) < 3 else marks.curve
        draw_arm(ax, of_arm[x], of_arm, look, arm)
        if "least" in of_arm:
            for end in ("least", "most"):
                ax.plot(of_arm[x], of_arm[end], color=look.color, lw=0.7, ls=":")
    if paper and x == "k":
        paper_points(ax, paper)
    if rows[x].max() > 4 * rows[x].min() > 0:
        ax.set_xscale("log")
    if x == "k":
        ticks = [k for k in K_TICKS if k <= ax.dataLim.x1]
        ax.set_xticks(ticks, [f"{k:,}" for k in ticks])
        ax.minorticks_off()
    else:
        marks.cost_ticks(ax)
    label = "Samples per problem, k" if x == "k" else "Sampling cost per problem, FLOPs"
    return marks.finish(ax, label, f"{what}, % of problems", percent="y", grid="y")


def _largest_k(rows: Frame) -> Frame:
    largest = rows.groupby(["arm", "budget", "kind"], observed=True)["k"].transform("max")
    return rows[rows["k"] == largest]


@sheet(by="average", title="average over {} problems", per_line=2)
def diversity(rows: Frame, ax):
    """Unique correct samples per problem at each arm's largest k, by what counts as the same, for one `average`.

    A bar marks `identity`: what they would be were no two the same (k · pass@1; per solved problem over coverage@k).
    """
    rows = _largest_k(rows)
    names = {"text": "exact text", "normalised": "normalised text"}
    rows = rows.assign(group=rows["budget"] + " budget", row=rows["kind"].replace(names))
    heights = marks.dots(ax, rows, by="arm")
    mark = dict(color=INK, ms=9, mew=1.2, label="were no two alike")
    ax.plot(rows["identity"], heights, "|", **mark)
    ax.set_xlim(left=0)
    of_solved = "solved " if rows["average"].iloc[0] == "solved" else ""
    return marks.finish(ax, f"Unique correct samples per {of_solved}problem")


@sheet()
def false_positives(rows: Frame, ax):
    """Share of samples with a correct answer whose reasoning is wrong, by judge, budget and arm."""
    corrected_by = rows["corrected_by"].astype(object).fillna("") if "corrected_by" in rows else ""
    judges = rows.assign(corrected_by=corrected_by)[["judge", "corrected_by"]]
    groups = ["Judge: " + judge_words(*judge) for judge in judges.itertuples(index=False)]
    rows = rows.assign(group=groups, row=rows["budget"] + " budget")
    marks.dots(ax, rows, by="arm")
    ax.set_xlim(left=0)
    return marks.finish(ax, "False-positive rate, % of correct samples", percent="x")


@sheet(by="budget", title="{} budget", per_line=2, height=2.2)
def levels(rows: Frame, ax):
    """Coverage at one budget by difficulty level, one series per arm."""
    rows = rows.assign(at=rows["level"].astype(str))
    order = sorted(rows["at"].unique(), key=lambda level: (len(level), level))
    return marks.series(ax, rows, order, "arm", "Difficulty level", "Coverage, % of problems")


@sheet()
def lengths(rows: Frame, ax):
    """Tokens per sample by arm and verdict: a line from the median to the 99th percentile, marks at median, 90th
    percentile and mean."""
    heights = marks.places(ax, [f"Arm {arm}" for arm in rows["arm"]], list(rows["verdict"]))
    looks = looks_of(rows["arm"])
    for y, row in zip(heights, rows.itertuples()):
        color, marker, _ = looks[row.arm]
        ax.plot([row.median_tokens, row.p99_tokens], [y, y], color=color, lw=1)
        for tokens, size in ((row.median_tokens, 8), (row.p90_tokens, 4), (row.p99_tokens, 8)):
            ax.plot(tokens, y, "|", color=color, ms=size, mew=1.2)
        ax.plot(row.value, y, marker, color=color, ms=4)
        cut = f"  {100 * row.truncated_rate:.1f} % cut" if row.truncated_rate else ""
        ax.text(row.p99_tokens, y, cut, va="center", size=6, color=GREY)
    ax.set_xlim(left=0)
    return marks.finish(ax, "Tokens per sample")


@sheet(rows=lambda rows: rows[rows["quantity"] == Quantity.LOG_LIKELIHOOD])
def likelihood(rows: Frame, ax):
    """Log-likelihood of the arms' examples under the untrained students, by base and budget."""
    rows = rows.assign(group="Student " + rows["base"], row=rows["budget"] + " budget")
    marks.dots(ax, rows, by="arm")
    return marks.finish(ax, "Log-likelihood of examples, nats per token")


@sheet(by="metric", per_line=2)
def forecast(rows: Frame, ax):
    """The pilot's forecast with its interval and what came (a cross), by arm and budget, for one metric."""
    names = [f"{arm}, {budget} budget" for arm, budget in zip(rows["arm"], rows["budget"])]
    words = rows["metric"].map(OUTCOME_WORDS).str.capitalize()
    rows = rows.assign(who="forecast", group=words, row=names)
    heights = marks.dots(ax, rows, by="who")
    _bounds(ax, rows, heights)
    cross = dict(color=LOOKS[1].color, ms=6, mew=1.5, label="outcome", zorder=3)
    ax.plot(rows["outcome"], heights, "x", **cross)
    if rows["metric"].isin(SHARES).all():
        return marks.finish(ax, "Share, %", percent="x")
    return marks.finish(ax, "Forecast and outcome")


def _bounds(ax, rows: Frame, heights) -> None:
    """Thin lines between the least and the most, where they are known."""
    known = rows["least"].notna().to_numpy()
    if known.any():
        bounded, y = rows[known], heights[known]
        label = "whatever the population"
        line = dict(color=GREY, lw=0.7, zorder=1)
        ax.hlines(y, bounded["least"], bounded["most"], **line)
        for end in ("least", "most"):
            ax.plot(bounded[end], y, "|", color=GREY, ms=5, label=label if end == "least" else None)


def of_main_recipe(rows: Frame) -> Frame:
    """The main recipe's students on the main held-out problems: other recipes and sets have tables of their own."""
    return rows[(rows["set"] == "held_out") & (rows["recipe"] == MAIN)]


def _single_samples(rows: Frame) -> Frame:
    return rows[(rows["metric"] == "pass@k") & (rows["k"] == 1)]


@sheet(rows=lambda rows: _single_samples(of_main_recipe(rows)), by="decoding", per_line=2)
def accuracy(rows: Frame, ax):
    """Students' accuracy in one metric on held-out problems, by base, budget and arm; the paradigm stands beside."""
    place_of_base = {base: i for i, base in enumerate(rows["base"].unique())}
    place_of_source = rows["source"].map({"base": 0} | dict.fromkeys(BY_ARMS, 1)).fillna(2)
    rank = 3 * rows["base"].map(place_of_base) + place_of_source
    rows = rows.assign(who=taught_by(rows), rank=rank).sort_values("rank", kind="stable")
    names = {"base": "before training"} | dict.fromkeys(
        ("planted", "reference", "wrong"), "controls"
    )
    rows = rows.assign(
        group="Student " + rows["base"],
        row=rows["source"].map(names).fillna(rows["budget"] + " budget"),
    )
    marks.dots(ax, rows, by="who", notes="paradigm")
    metric = with_metric_words(rows)["metric"].iloc[0].capitalize()
    return marks.finish(ax, f"{metric} on held-out problems, %", percent="x")


def not_settled(rows: Frame) -> pd.Series:
    """Whether p, corrected (NaN: one comparison, nothing to correct), is not below 0.05."""
    return ~rows["p_holm"].fillna(rows["p"]).lt(0.05)


def _holds_zero(rows: Frame) -> pd.Series:
    return rows["low"].le(0) & rows["high"].ge(0)


def _student_and_budget(row) -> str:
    """The base with its students' paradigm, or with either side's where they differ: `wc (self − kd), low`."""
    both = (row.paradigm_a, row.paradigm_b)
    words = " − ".join(dict.fromkeys(name for name in both if isinstance(name, str) and name))
    return f"{row.base} ({words}), {row.budget}" if words else f"{row.base}, {row.budget}"


@sheet(rows=_single_samples)
def differences(rows: Frame, ax):
    """Forest plot of paired differences, arm_a's student minus arm_b's; filled: p < 0.05 after Holm's correction."""
    metric = with_metric_words(rows)["metric"]
    if "set" in rows:
        metric = rows["set"] + ", " + metric
    rows = rows.assign(
        group=metric.str.capitalize() + ": " + rows["arm_a"] + " − " + rows["arm_b"],
        row=[_student_and_budget(row) for row in rows.itertuples()],
        hollow=not_settled(rows),
    )
    marks.forest(ax, rows)
    label = "Accuracy difference, percentage points"
    pairs = rows[["arm_a", "arm_b"]].drop_duplicates().to_numpy()
    if len(pairs) == 1:
        arm_a, arm_b = pairs[0]
        label += f"\n← {arm_b} better · {arm_a} better →"
    return marks.finish(ax, label)


def first_metric_over_bases(rows: Frame) -> Frame:
    """Of the first metric, comparisons over all students, and those between arms that only one base has."""
    rows = Metric(*rows[list(Metric._fields)].iloc[0]).rows(rows)
    over_all = rows["base"] == ALL_BASES
    pairs = rows[["arm_a", "arm_b"]].apply(tuple, axis=1)
    return rows[over_all | ~pairs.isin(pairs[over_all])]


@sheet(rows=first_metric_over_bases)
def transfer(rows: Frame, ax):
    """Forest plot of paired differences on other held-out sets."""
    return differences(rows, ax)


def _what_recipes_change(rows: Frame) -> Frame:
    """The comparisons of the first metric; of very many the changes of differences between arms alone, if there are
    such."""
    rows = first_metric_over_bases(rows)
    changes = rows[rows["comparison"].isin(("gap", "pick"))]
    return changes if len(rows) > MOST_ABLATIONS and len(changes) else rows


@sheet(rows=_what_recipes_change)
def ablations(rows: Frame, ax):
    """Forest plot of what recipes change, by comparison; filled: p < 0.05 after Holm's correction."""
    rows = with_metric_words(rows)
    groups, names = [], []
    for row in rows.to_dict("records"):
        group, name = ABLATION_WORDS[row["comparison"]]
        groups.append(group.format(**row))
        names.append(f"{name.format(**row)}, {row['base']}, {row['budget']}")
    rows = rows.assign(group=groups, row=names, hollow=not_settled(rows))
    marks.forest(ax, rows)
    return marks.finish(ax, f"Difference in {rows['metric'].iloc[0]}, percentage points")


@sheet()
def studies(rows: Frame, ax):
    """Forest plot over studies: columns group, study, value, low, high (shares); pooled rows are squares."""
    kinds = rows["study"].str.startswith("pooled").map({True: "pooled", False: "study"})
    rows = rows.assign(
        kind=pd.Categorical(kinds, ["study", "pooled"]),
        row=rows["study"],
        hollow=_holds_zero(rows),
    )
    marks.forest(ax, rows, by="kind")
    return marks.finish(ax, "Difference, percentage points")


@sheet()
def controls(rows: Frame, ax):
    """Forest plot of the controls, the planted fault first: could the study see it? Hollow: includes zero."""
    rows = with_metric_words(rows).assign(
        group=rows["comparison"].replace(CONTROL_WORDS),
        row=rows["base"],
        hollow=_holds_zero(rows),
    )
    marks.forest(ax, rows, by="metric")
    return marks.finish(ax, "Accuracy difference, percentage points")


def _votes(rows: Frame) -> Frame:
    rows = of_main_recipe(rows)
    return rows[rows["metric"] == "maj@k"]


@sheet(rows=_votes, by="base", title="student {}", per_line=3, height=2.3)
def majority(rows: Frame, ax):
    """maj@k against k for one base's students before and after training; controls are passed over."""
    rows = rows[rows["source"].isin(["base", *BY_ARMS])]
    rows = rows.assign(at=rows["k"].astype(str), who=taught_by(rows))
    order = sorted(rows["at"].unique(), key=int)
    return marks.series(ax, rows, order, "who", "Votes per problem, k", "maj@k accuracy, %")


@sheet(height=2.4)
def arm_votes(rows: Frame, ax):
    """maj@k of the arms' own samples against k, with the share of votes that end in a tie as a thin line."""
    order = [str(k) for k in sorted(rows["k"].unique())]
    rows = rows.assign(at=rows["k"].astype(str), budget=None)
    marks.series(ax, rows, order, "arm", "Votes per problem, k", "maj@k accuracy, %")
    for arm, look in looks_of(rows["arm"]).items():
        of_arm = rows[rows["arm"] == arm].sort_values("k")
        places = [order.index(at) for at in of_arm["at"]]
        thin = dict(color=look.color, ls=":", lw=0.8, label=f"{arm}: ties for the lead")
        ax.plot(places, of_arm["tie_rate"], **thin)
    label = "maj@k accuracy; ties, %"
    return marks.finish(ax, "Votes per problem, k", label, percent="y", grid="y")


@sheet(by="base", title="student {}", per_line=3, height=2.2)
def training(rows: Frame, ax):
    """Training loss against step, a line per student; columns `who` and `budget`, where given, set look and width."""
    if "who" not in rows:
        rows = rows.assign(who=rows["student"], budget=None)
    of_arms = ~rows["who"].isin(list(NO_ARMS))
    budgets = list(rows.loc[of_arms, "budget"].dropna().unique())
    looks = looks_of(rows["who"])
    for _, curve in rows.sort_values("step").groupby("student", sort=False):
        who, budget = curve["who"].iloc[0], curve["budget"].iloc[0]
        width, label = 1.2, who
        if budget in budgets:
            width, label = 0.8 + 0.8 * budgets.index(budget), f"{who}, {budget}"
        line = dict(color=looks[who].color, ls=looks[who].line, lw=width, label=label)
        ax.plot(curve["step"], curve["loss"], **line)
    return marks.finish(ax, "Optimiser step", "Training loss, nats per token", grid="y")


def taught_by(rows: Frame) -> pd.Categorical:
    """The arm that taught a student, else its source, such as base or planted; arms first, in order."""
    names = rows["arm"].astype(object).where(rows["source"].isin(BY_ARMS), rows["source"])
    arms = rows["arm"].astype("category").cat.categories
    return pd.Categorical(names, list(dict.fromkeys([*arms, *names])))


def explored(rows: Frame, budget: float, unit: str, crossings: list[float]) -> str:
    """SVG of expected coverage against cost, a band per arm (where there are intervals), dotted bounds, the budget and
    crossings marked.

    Args: rows: arm, cost, value, low, high and, where known, least, most (fractions); budget and crossings: costs per
    problem, in `unit`.
    """
    with style():
        drawing = canvas(5.2, 3.0)
        ax = coverage(rows, drawing.subplots(), x="cost")
        ax.set_xlabel(f"Sampling cost per problem, {unit}")
        note = dict(xycoords=ax.get_xaxis_transform(), textcoords="offset points", size=7)
        ax.axvline(budget, color=INK, lw=0.9)
        ax.annotate("budget", (budget, 1), (3, -8), **note)
        for cost in crossings:
            ax.axvline(cost, color=GREY, lw=0.9, ls=":")
            ax.annotate("crossing", (cost, 0), (3, 4), **note)
        ax.set_ylim(0, 1)
        ax.legend(loc="upper left")
    return svg(drawing)
