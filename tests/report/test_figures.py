"""Figures: every table draws, labelled, the same bytes each time, and what is missing is left out."""

import itertools
import re
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from wcse_lib.report import figures, style

BUDGETS = {"low": {"se": 1, "wc": 3}, "high": {"se": 10, "wc": 30}}
BASES = {
    "small": {"se": "kd", "wc": "kd"},
    "wc": {"se": "kd", "wc": "self"},
    "se": {"se": "self", "wc": "w2s"},
}


def interval(value, n):
    half = 1.96 * np.sqrt(max(value * (1 - value), 1e-4) / n)
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


GREEDY = ("pass@k", "greedy", 1)


def named(metric):
    return dict(zip(("metric", "decoding", "k"), metric))


def tables(seed: int = 0) -> dict[str, pd.DataFrame]:
    """Every table of `06_analyze/tables`, shaped like a nano study's."""
    rng = np.random.default_rng(seed)
    rate, cost = {"se": 0.46, "wc": 0.34}, {"se": 2 * 1.2e6 * 45, "wc": 2 * 0.45e6 * 45}
    chance = {
        arm: np.random.default_rng(7).beta(1.2 * p, 1.2 * (1 - p), 4000) for arm, p in rate.items()
    }
    solved = {
        (a, k): float(np.mean(1 - (1 - chance[a]) ** k))
        for a in rate
        for k in range(1, BUDGETS["high"][a] + 1)
    }
    t = {
        name: []
        for name in "coverage diversity false_positives quality levels students differences arm_differences".split()
    }
    t |= {
        name: []
        for name in "controls ledger training flow sound_coverage lengths self_agreement arm_votes".split()
    }
    t |= {
        name: []
        for name in "explanation ablations transfer student_false_positives forecast".split()
    }
    for (arm, k), value in solved.items():
        facts = dict(arm=arm, k=k, n_problems=240, flops_per_problem=k * cost[arm])
        t["coverage"] += [dict(**facts, **interval(value, 240))]
        t["sound_coverage"] += [dict(**facts, judge="exact", **interval(0.8 * value, 240))]
    for arm in rate:
        t["self_agreement"] += [dict(arm=arm, n_problems=240, **interval(0.4, 240))]
        for k in (1, 2, 4, 8):
            v = interval(rate[arm] + 0.02 * k, 240)
            t["arm_votes"] += [
                dict(arm=arm, k=k, n_problems=240, **v, tie_rate=1 / k, no_answer_rate=0.0)
            ]
        for verdict, v in {"all": 40.0, "correct": 30.0}.items():
            profile = dict(median_tokens=v, p90_tokens=2 * v, p99_tokens=70.0, truncated_rate=0.03)
            t["lengths"] += [
                dict(
                    arm=arm,
                    verdict=verdict,
                    value=v,
                    low=v - 2,
                    high=v + 2,
                    n_samples=2400,
                    **profile,
                )
            ]
    for budget, arm in itertools.product(BUDGETS, rate):
        k, both = BUDGETS[budget][arm], dict(arm=arm, budget=budget)
        cover, n, spent = solved[arm, k], int(240 * k * rate[arm]), 240 * k * cost[arm]
        for (kind, share), average in itertools.product(
            {"text": 0.9, "equations": 0.6}.items(), ("solved", "all")
        ):
            v = share * k * rate[arm] / (cover if average == "solved" else 1)
            t["diversity"] += [
                dict(
                    **both,
                    k=k,
                    kind=kind,
                    average=average,
                    n_problems=240,
                    value=v,
                    low=0.93 * v,
                    high=1.07 * v,
                )
            ]
        for judge, v in {"exact": 0.31 + 0.06 * (arm == "wc"), "arithmetic": 0.05}.items():
            t["false_positives"] += [
                dict(**both, judge=judge, n=n, n_false=int(v * n), **interval(v, n))
            ]
        t["quality"] += [
            dict(
                **both,
                samples_per_problem=k,
                n_problems=240,
                n_samples=240 * k,
                n_correct=n,
                n_examples=int(0.9 * n),
                n_truncated=3 * k,
                n_unverifiable=k,
                duplicate_rate=0.02 * k**0.5,
                pass_at_1=rate[arm],
                coverage=cover,
                flops_spent=1.03 * spent,
            )
        ]
        facts = dict(**both, base="", n=240)
        t["explanation"] += [
            dict(**facts, quantity="coverage", unit="points", **interval(cover, 240))
        ]
        t["explanation"] += [
            dict(**facts, quantity="examples", unit="count", value=n, low=n, high=n)
        ]
        facts |= dict(base="small", quantity="log_likelihood", unit="nats per token")
        t["explanation"] += [dict(**facts, value=-0.5 - 0.1 * (arm == "se"), low=-0.7, high=-0.4)]
        t["forecast"] += [
            dict(**both, metric="coverage", k=k, n=50, **interval(cover - 0.03, 50), outcome=cover)
        ]
        t["forecast"] += [
            dict(
                **both,
                metric="examples",
                k=k,
                n=50,
                value=n,
                low=0.8 * n,
                high=1.2 * n,
                outcome=0.9 * n,
            )
        ]
        for level in range(1, 6):
            v = max(0.05, cover - 0.12 * (level - 2))
            t["levels"] += [dict(**both, level=level, n_problems=48, **interval(v, 48))]
        t["ledger"] += [
            dict(
                who=f"{arm} {budget}",
                stage="02_generate",
                kind="sampling",
                budget=budget,
                unit="flops",
                planned=spent,
                spent=1.03 * spent,
                ratio=1.03,
                matched=True,
            )
        ]
        for step, n, reason in (
            ("samples", 2400, ""),
            ("dropped", 1620, "incorrect"),
            ("examples", 780, ""),
        ):
            t["flow"] += [dict(arm=arm, step=step, n=n, reason=reason)]
    for budget, quantity in itertools.product(BUDGETS, ("pass_at_1", "coverage")):
        v = dict(value=-0.03, low=-0.07, high=0.01)
        t["arm_differences"] += [
            dict(
                arm_a="wc",
                arm_b="se",
                budget=budget,
                quantity=quantity,
                base="",
                n_problems=240,
                unit="points",
                **v,
            )
        ]
    metrics = {
        ("pass@k", "greedy", 1): 0.0,
        ("pass@k", "sampled", 1): -0.05,
        ("maj@k", "sampled", 1): -0.05,
        ("maj@k", "sampled", 4): 0.02,
        ("maj@k", "sampled", 8): 0.04,
    }
    for size, (base, paradigms) in enumerate(BASES.items(), 1):
        gains = [("base", None, None, None, 0.0)]
        gains += [("reference", None, "high", None, 0.11), ("wrong", None, "high", None, 0.01)]
        for b, (a, p) in itertools.product(BUDGETS, paradigms.items()):
            gains += [("arm", a, b, p, 0.03 + 0.03 * (b == "high") + 0.012 * (a == "wc"))]
        for source, arm, budget, paradigm, gain in gains:
            name = f"{base}.{arm}.{budget}" if source == "arm" else f"{base}.{source}"
            facts = dict(
                student=name,
                base=base,
                source=source,
                arm=arm,
                budget=budget,
                paradigm=paradigm,
                seed=0,
            )
            judged = dict(judge="exact", n=500, **interval(0.1, 500))
            t["student_false_positives"] += [
                {k: facts[k] for k in ("student", "base", "source", "arm", "budget")} | judged
            ]
            for metric, shift in metrics.items():
                v = interval(0.12 + 0.1 * size + gain + shift, 300)
                t["students"] += [dict(**facts, **named(metric), n_problems=300, **v)]
            if source != "base":
                planned = 3e12 * size
                t["ledger"] += [
                    dict(
                        who=name,
                        stage="04_finetune",
                        kind="training",
                        budget="",
                        unit="flops",
                        planned=planned,
                        spent=0.93 * planned,
                        ratio=0.93,
                        matched=True,
                    )
                ]
                for step in range(5, 125, 5):
                    loss = 0.5 + 0.9 * np.exp(-step / 40) + 0.02 * rng.normal()
                    t["training"] += [dict(student=name, step=step, loss=loss)]
        for budget, metric in itertools.product(BUDGETS, metrics):
            v = 0.012 + 0.02 * rng.normal()
            t["differences"] += [
                dict(
                    base=base,
                    paradigm=paradigms["wc"],
                    budget=budget,
                    **named(metric),
                    arm_a="wc",
                    arm_b="se",
                    n_problems=300,
                    value=v,
                    low=v - 0.032,
                    high=v + 0.032,
                    p=0.3,
                    p_holm=0.04 if abs(v) > 0.04 else 1,
                )
            ]
        t["transfer"] += [row | {"set": "far"} for row in t["differences"] if row["base"] == base]
        for kind, a, z in (
            ("recipe", "wc", "wc"),
            ("arms", "wc", "se"),
            ("gap", "wc", "se"),
            ("pooled", "pooled", "se"),
        ):
            facts = dict(
                base=base,
                comparison=kind,
                recipe="equal",
                against="main",
                arm_a=a,
                arm_b=z,
                budget="high",
            )
            v = dict(value=-0.02, low=-0.05, high=0.01, p=0.2, p_holm=1.0)
            t["ablations"] += [dict(**facts, **named(GREEDY), n_problems=300, **v)]
        for comparison, v in {
            "reference_minus_base": 0.11,
            "wrong_minus_reference": -0.1,
            "wrong_minus_base": 0.01,
        }.items():
            for metric in (GREEDY, ("pass@k", "sampled", 1)):
                span = dict(value=v, low=v - 0.04, high=v + 0.04)
                t["controls"] += [
                    dict(base=base, comparison=comparison, **named(metric), n_problems=300, **span)
                ]
    return {name: pd.DataFrame(rows) for name, rows in t.items()}


ALL = "coverage diversity false_positives levels lengths arm_votes likelihood forecast accuracy differences ablations transfer".split()
ALL += "majority controls training ledger".split()


@pytest.fixture(scope="module")
def drawn():
    return {narrow: figures.draw_all(tables(), narrow=narrow) for narrow in (False, True)}


@pytest.mark.parametrize("narrow", [False, True])
def test_every_figure_is_drawn_with_labelled_axes_and_fits_its_column(drawn, narrow):
    assert sorted(drawn[narrow]) == sorted(ALL)
    for name, fig in drawn[narrow].items():
        assert fig.get_figwidth() == (style.COLUMN if narrow else style.DOUBLE)
        for ax in fig.axes:  # rows name themselves; panels side by side share the first one's label
            assert ax.get_xlabel() and (
                fig.axes[0].get_ylabel() or ax.get_yticklabels()[0].get_text()
            ), name
        labels = "".join(ax.get_xlabel() + ax.get_ylabel() for ax in fig.axes)
        assert re.search("%|percentage points|samples per|nats|FLOPs|Tokens", labels), name


def test_nothing_is_cut_off(drawn):
    """Constrained layout keeps every text inside the page; a text over its edge would be lost in the file."""
    for fig in [*drawn[False].values(), *drawn[True].values()]:
        fig.draw_without_rendering()
        page, box = fig.bbox, fig.get_tightbbox()
        box = box.transformed(fig.dpi_scale_trans)
        assert (
            box.x0 >= page.x0 - 1
            and box.y0 >= page.y0 - 1
            and box.x1 <= page.x1 + 1
            and box.y1 <= page.y1 + 1
        )


def test_files_are_the_same_bytes_twice_and_carry_no_date(tmp_path):
    first, second = (
        figures.draw_all({"controls": tables()["controls"]})["controls"] for _ in range(2)
    )
    a, b = (
        style.save(first, tmp_path / "a", "controls"),
        style.save(second, tmp_path / "b", "controls"),
    )
    assert [p.name for p in a] == ["controls.svg", "controls.png"]
    assert all(x.read_bytes() == y.read_bytes() for x, y in zip(a, b))
    assert "<dc:date>" not in a[0].read_text() and 'href="http' not in a[0].read_text()


def test_missing_and_empty_tables_leave_their_figure_out():
    assert figures.draw_all({}) == {}
    some = {
        "coverage": tables()["coverage"],
        "levels": tables()["levels"].head(0),
        "students": None,
    }
    assert list(figures.draw_all(some)) == ["coverage"]


def test_one_sample_per_problem_without_costs_and_intervals():
    """A study like OpenAI's solutions: one k, no FLOPs, perhaps no interval."""
    spans = dict(value=[0.5, 0.3], low=[np.nan, 0.2], high=[np.nan, 0.4])
    frame = pd.DataFrame(
        dict(arm=["se", "wc"], k=1, n_problems=10, flops_per_problem=np.nan, **spans)
    )
    fig = figures.draw_all({"coverage": frame})["coverage"]
    assert len(fig.axes) == 1 and "k" in fig.axes[0].get_xlabel()
    style.svg(fig)


def test_numbers_land_where_the_table_says():
    ax = Figure().subplots()
    frame = tables()["coverage"]
    figures.coverage(frame, ax)
    line = next(line for line in ax.lines if line.get_label() == "wc")
    assert np.allclose(line.get_ydata(), frame.loc[frame["arm"] == "wc", "value"])
    assert ax.get_xscale() == "log" and ax.yaxis.get_major_formatter()(0.5, 0) == "50"
    ax = Figure().subplots()
    frame = tables()["differences"]
    figures.differences(frame, ax)
    seen = {t.get_text() for t in ax.texts}
    assert all(f"{100 * v:+.1f}".replace("-", "−") in " ".join(seen) for v in frame["value"])
    fills = {line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"}
    assert fills == {"white", style.LOOKS[0][0]}  # significant after correction, and not


def test_an_arm_looks_the_same_in_every_figure_and_arms_differ_in_grey():
    new = {"se": "mix", "wc": "zeta"}
    some = {
        name: tables()[name].replace({"arm": new}) for name in ("coverage", "levels", "diversity")
    }
    some["levels"] = some["levels"][
        some["levels"]["arm"] == "zeta"
    ]  # the other arm is missing from one table
    found = {}
    for fig in figures.draw_all(some).values():
        for ax in fig.axes:
            for line in [*ax.lines, *(c.lines[0] for c in ax.containers)]:
                if line.get_label() in ("mix", "zeta"):
                    found.setdefault(line.get_label(), set()).add(to_hex(line.get_color()))
    assert len(found["mix"]) == len(found["zeta"]) == 1 and found["mix"] != found["zeta"]
    for part in zip(*style.LOOKS):
        assert len({str(look) for look in part}) == len(style.LOOKS)


def test_an_arms_colour_is_the_same_in_training_curves():
    """Names in no alphabetical order, so that a figure that sorts them gives itself away."""
    new = {"se": "zeta", "wc": "mix"}
    some = {
        name: tables()[name].replace({"arm": new}) for name in ("coverage", "students", "training")
    }
    drawn = figures.draw_all(some)
    colour = {
        line.get_label(): to_hex(line.get_color()) for line in drawn["coverage"].axes[0].lines
    }
    lines = {line.get_label(): to_hex(line.get_color()) for line in drawn["training"].axes[0].lines}
    assert {lines["zeta, low"], lines["zeta, high"]} == {colour["zeta"]} and lines[
        "mix, low"
    ] == colour["mix"] != colour["zeta"]


def test_labels_of_hostile_data_are_drawn_as_text():
    frame = tables()["levels"]
    frame["level"] = frame["level"].map(
        {
            1: r"$$\\href{javascript:alert(1)}{x}$$",
            2: "a\x07b\x00",
            3: r"\$5 and $\frac$",
            4: "<b>",
            5: "5",
        }
    )
    for fig in figures.draw_all({"levels": frame}).values():
        ElementTree.fromstring(style.svg(fig))
        assert r"\$5 and $\frac$" in {label.get_text() for label in fig.axes[0].get_xticklabels()}


@pytest.mark.parametrize("spread", [1.5, 8, 200, 1e4, 1e9])
@pytest.mark.parametrize("unit,least", [("seconds", 3), ("flops", 2e9)])
def test_ticks_of_the_ledger_do_not_overlap(spread, unit, least):
    facts = dict(
        who=["se", "wc"], stage="02_generate", kind="sampling", budget="", unit=unit, planned=least
    )
    fig = figures.draw_all(
        {"ledger": pd.DataFrame(facts | {"spent": [least, least * spread]})}, narrow=True
    )["ledger"]
    fig.draw_without_rendering()
    ends = fig.axes[0].get_xlim()
    shown = [
        (t.get_window_extent(), t.get_text())
        for t in fig.axes[0].get_xticklabels()
        if ends[0] <= t.get_position()[0] <= ends[1]
    ]
    shown.sort(key=lambda label: label[0].x0)
    assert shown and all(a.x1 < b.x0 for (a, _), (b, _) in zip(shown, shown[1:])), shown
    assert unit == "flops" or not any("10⁰" in text for _, text in shown)


def test_the_legend_of_diversity_claims_no_formula_that_a_panel_does_not_have():
    fig = figures.draw_all({"diversity": tables()["diversity"].assign(identity=1.0)})["diversity"]
    assert (
        len(fig.axes) == 2
        and [t.get_text() for t in fig.legends[0].get_texts()][0] == "were no two alike"
    )


def test_paper_points_are_drawn_only_when_asked_and_say_where_they_come_from():
    frame = tables()["coverage"]
    plain, overlaid = (
        figures.coverage(frame, Figure().subplots(), paper=paper) for paper in (None, "MATH")
    )
    assert plain.get_legend_handles_labels()[1] == ["se", "wc"]
    assert (
        sum("read from figures" in label for label in overlaid.get_legend_handles_labels()[1]) == 2
    )


def test_a_missing_column_is_named():
    with pytest.raises(KeyError, match="flops_per_problem"):
        figures.draw_all({"coverage": tables()["coverage"].drop(columns="flops_per_problem")})


def test_no_global_state_is_left_behind(drawn):
    assert matplotlib.rcParams["svg.hashsalt"] is None and matplotlib.rcParams["axes.spines.top"]
    assert not re.search(
        r"^(import|from) matplotlib", open(style.__file__).read(), re.M
    )  # the door opens inside functions
