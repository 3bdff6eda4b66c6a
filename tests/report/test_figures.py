"""Figures: every table draws, labelled, the same bytes each time, and what is missing is left out."""

import re
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pandas as pd
import pytest
from made_tables import made_tables
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from wcse_lib.analyze import TABLES
from wcse_lib.report import draw_all, figures, layout, marks, style

DECLARED = [figure.name for table in TABLES.values() for figure in table.figures]


@pytest.fixture(scope="module")
def drawn():
    return {narrow: draw_all(made_tables(), narrow=narrow) for narrow in (False, True)}


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", DECLARED)
def test_every_declared_figure_is_drawn_with_labelled_axes_and_fits_its_column(drawn, name, narrow):
    figure = drawn[narrow][name]
    assert figure.get_figwidth() == (style.COLUMN if narrow else style.DOUBLE)
    for ax in figure.axes:
        # Rows name themselves; panels side by side share the first one's label.
        assert ax.get_xlabel()
        assert figure.axes[0].get_ylabel() or ax.get_yticklabels()[0].get_text()
    labels = "".join(ax.get_xlabel() + ax.get_ylabel() for ax in figure.axes)
    assert re.search("%|percentage points|samples per|nats|FLOPs|Tokens", labels)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("name", [*DECLARED, "answer"])
def test_nothing_is_cut_off(drawn, name, narrow):
    """Constrained layout keeps every text inside the page; a text over its edge would be lost in the file."""
    figure = drawn[narrow][name]
    figure.draw_without_rendering()
    page = figure.bbox
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert min(box.x0 - page.x0, box.y0 - page.y0) >= -1
    assert max(box.x1 - page.x1, box.y1 - page.y1) <= 1


def test_files_are_the_same_bytes_twice_and_carry_no_date(tmp_path):
    saved = []
    for folder in ("a", "b"):
        figure = draw_all({"controls": made_tables()["controls"]})["controls"]
        saved.append(style.save(figure, tmp_path / folder, "controls"))
    assert [path.name for path in saved[0]] == ["controls.svg", "controls.png"]
    assert [path.read_bytes() for path in saved[0]] == [path.read_bytes() for path in saved[1]]
    text = saved[0][0].read_text()
    assert "<dc:date>" not in text
    assert 'href="http' not in text


def test_missing_and_empty_tables_leave_their_figure_out():
    assert draw_all({}) == {}
    tables = made_tables()
    some = {"coverage": tables["coverage"], "levels": tables["levels"].head(0), "students": None}
    assert list(draw_all(some)) == ["coverage", "answer"]


def test_one_sample_per_problem_without_costs_and_intervals():
    """A study like OpenAI's solutions: one k, no FLOPs, perhaps no interval."""
    values = dict(value=[0.5, 0.3], low=[np.nan, 0.2], high=[np.nan, 0.4])
    facts = dict(arm=["se", "wc"], k=1, n_problems=10, flops_per_problem=np.nan)
    figure = draw_all({"coverage": pd.DataFrame(facts | values)})["coverage"]
    assert len(figure.axes) == 1
    assert "k" in figure.axes[0].get_xlabel()
    assert style.svg(figure).startswith("<?xml")


def test_coverage_lands_where_the_table_says():
    rows = made_tables()["coverage"]
    ax = figures.coverage(rows, Figure().subplots())
    line = next(line for line in ax.lines if line.get_label() == "wc")
    assert np.allclose(line.get_ydata(), rows.loc[rows["arm"] == "wc", "value"])
    assert ax.get_xscale() == "log"
    assert ax.yaxis.get_major_formatter()(0.5, 0) == "50"


def test_differences_are_spelt_out_and_filled_where_they_are_settled():
    rows = made_tables()["differences"]
    ax = figures.differences(rows, Figure().subplots())
    texts = " ".join(text.get_text() for text in ax.texts)
    for value in rows["value"]:
        assert f"{100 * value:+.1f}".replace("-", "−") in texts
    rows_named = [label.get_text() for label in ax.get_yticklabels()]
    assert {"small (kd), low", "wc (self − kd), low", "se (w2s − self), low"} <= set(rows_named)
    fills = {line.get_markerfacecolor() for line in ax.lines if line.get_marker() == "o"}
    assert fills == {"white", style.LOOKS[0].color}


def test_an_arm_looks_the_same_in_every_figure():
    new = {"se": "mix", "wc": "zeta"}
    tables = made_tables()
    some = {
        name: tables[name].replace({"arm": new}) for name in ("coverage", "levels", "diversity")
    }
    # The other arm is missing from one table.
    some["levels"] = some["levels"][some["levels"]["arm"] == "zeta"]
    colors = {"mix": set(), "zeta": set()}
    for figure in draw_all(some).values():
        for ax in figure.axes:
            for line in [*ax.lines, *(bars.lines[0] for bars in ax.containers)]:
                if line.get_label() in colors:
                    colors[line.get_label()].add(to_hex(line.get_color()))
    assert len(colors["mix"]) == len(colors["zeta"]) == 1
    assert colors["mix"] != colors["zeta"]


@pytest.mark.parametrize("part", style.Look._fields)
def test_arms_differ_in_colour_marker_and_line_so_that_grey_print_tells_them_apart(part):
    assert len({str(getattr(look, part)) for look in style.LOOKS}) == len(style.LOOKS)


def test_eight_arms_look_different():
    names = pd.Series([f"arm {i}" for i in range(8)])
    assert len(set(style.looks_of(names).values())) == 8


def test_an_arms_colour_is_the_same_in_training_curves():
    """Names in no alphabetical order, so that a figure that sorts them gives itself away."""
    tables = made_tables()
    new = {"se": "zeta", "wc": "mix"}
    some = {
        name: tables[name].replace({"arm": new}) for name in ("coverage", "students", "training")
    }
    drawn = draw_all(some)
    colors = {}
    for name in ("coverage", "training"):
        lines = drawn[name].axes[0].lines
        colors |= {line.get_label(): to_hex(line.get_color()) for line in lines}
    assert colors["zeta, low"] == colors["zeta, high"] == colors["zeta"]
    assert colors["mix, low"] == colors["mix"] != colors["zeta"]


def test_labels_of_hostile_data_are_drawn_as_text():
    hostile = [r"$$\\href{javascript:alert(1)}{x}$$", "a\x07b\x00", r"\$5 and $\frac$", "<b>", "5"]
    rows = made_tables()["levels"]
    rows["level"] = rows["level"].map(dict(enumerate(hostile, 1)))
    figure = draw_all({"levels": rows})["levels"]
    ElementTree.fromstring(style.svg(figure))
    labels = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert r"\$5 and $\frac$" in labels


@pytest.mark.parametrize("spread", [1.05, 1.5, 8, 200, 1e4, 1e9])
@pytest.mark.parametrize("least", [3, 3.6e13])
def test_ticks_of_costs_differ_and_do_not_overlap(spread, least):
    figure = layout.canvas(style.COLUMN, 2)
    ax = figure.subplots()
    ax.set_xscale("log")
    ax.plot([least, least * spread], [0, 1])
    marks.cost_ticks(ax)
    figure.draw_without_rendering()
    least_shown, most_shown = ax.get_xlim()
    shown = [
        label
        for label in ax.get_xticklabels()
        if least_shown <= label.get_position()[0] <= most_shown
    ]
    texts = [label.get_text() for label in shown]
    assert texts and len(set(texts)) == len(texts)
    assert not any("10⁰" in text for text in texts)
    boxes = sorted((label.get_window_extent() for label in shown), key=lambda box: box.x0)
    assert all(left.x1 < right.x0 for left, right in zip(boxes, boxes[1:]))


def test_parts_of_a_bar_are_shares_of_all_that_was_spent():
    rows = made_tables()["totals"].assign(spent=[1.0, 2.0, 3.0, np.nan, 4.0, 10.0])
    ax = draw_all({"totals": rows})["shares"].axes[0]
    widths = [bar.get_width() for bar in ax.patches[:6]]
    assert widths == pytest.approx([0.05, 0.1, 0.15, 0, 0.2, 0.5])
    ticks = [label.get_text() for label in ax.get_yticklabels()]
    assert ticks == ["20 FLOPs", "1.2 USD", "36 min"]


def test_the_answer_is_one_figure_of_differences_beside_coverage():
    figure = draw_all(made_tables())["answer"]
    left, right = figure.axes
    assert "← se better · wc better →" in left.get_xlabel()
    assert right.get_xlabel() == "FLOPs per problem"
    names = {text.get_text() for text in right.texts}
    assert names == {"low", "high"}


@pytest.mark.filterwarnings("error::UserWarning")
def test_many_arms_with_long_names_fit_a_narrow_figure():
    names = ["Qwen3.5-397B-A17B", "gpt-oss-120b-high", "adaptive-by-difficulty", "se", "wc"]
    rows = made_tables()["differences"]
    pairs = [rows.assign(arm_a=a, arm_b=b) for a, b in combinations(names, 2)]
    figure = draw_all({"differences": pd.concat(pairs)}, narrow=True)["answer"]
    figure.draw_without_rendering()
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert len(labels) == 8
    assert figure.axes[0].get_title(loc="right") == "The first 8 of 60"
    assert labels[0] == "Qwen3.5-… − gpt-oss-…, low"
    box = figure.get_tightbbox()
    assert 0 <= box.x0 and box.x1 <= style.COLUMN


def test_many_arms_are_shown_over_all_students_in_figures_of_both_widths():
    rows = made_tables()["differences"].replace({"base": {"small": "all students"}})
    names = ["adaptive-by-difficulty", "se", "wc", "a-third-arm"]
    pairs = [rows.assign(arm_a=a, arm_b=b) for a, b in combinations(names, 2)]
    for narrow in (False, True):
        figure = draw_all({"differences": pd.concat(pairs)}, narrow=narrow)["answer"]
        headings = [text.get_text() for text in figure.axes[0].texts]
        assert "Greedy pass@1, all students" in headings


def test_without_students_the_answer_is_of_the_data():
    tables = {name: made_tables()[name] for name in ("coverage", "arm_differences")}
    tables["arm_differences"] = tables["arm_differences"].assign(p=0.01)
    left, right = draw_all(tables)["answer"].axes
    rows = [label.get_text() for label in left.get_yticklabels()]
    assert rows == ["pass@1, low", "coverage, low", "pass@1, high", "coverage, high"]


def test_the_legend_of_diversity_claims_no_formula_that_a_panel_does_not_have():
    figure = draw_all({"diversity": made_tables()["diversity"]})["diversity"]
    assert len(figure.axes) == 2
    assert figure.legends[0].get_texts()[0].get_text() == "were no two alike"


@pytest.mark.parametrize(("paper", "n_labels"), [(None, 0), ("MATH", 2)])
def test_paper_points_are_drawn_only_when_asked_and_say_where_they_come_from(paper, n_labels):
    ax = figures.coverage(made_tables()["coverage"], Figure().subplots(), paper=paper)
    labels = ax.get_legend_handles_labels()[1]
    assert {"se", "wc"} <= set(labels)
    assert sum("read from figures" in label for label in labels) == n_labels


def test_a_missing_column_is_named():
    rows = made_tables()["coverage"].drop(columns="flops_per_problem")
    with pytest.raises(KeyError, match="flops_per_problem"):
        draw_all({"coverage": rows})


def test_no_global_state_is_left_behind(drawn):
    assert matplotlib.rcParams["svg.hashsalt"] is None
    assert matplotlib.rcParams["axes.spines.top"]


@pytest.mark.parametrize(
    "module", ["style", "marks", "layout", "figures", "drawing", "money", "paper"]
)
def test_matplotlib_is_imported_inside_functions(module):
    source = (Path(style.__file__).parent / f"{module}.py").read_text()
    assert not re.search(r"^(import|from) matplotlib", source, re.MULTILINE)
