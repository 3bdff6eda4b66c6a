"""The report: one file, no request, foreign text as text, whatever tables there are."""

import base64
import importlib.util
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_report import ANSWER, EVIL, PNG, make_study, notebook
from made_tables import made_tables

from wcse_lib.analyze import TABLES
from wcse_lib.report import page as report
from wcse_lib.store import StudyError, write_json

LOADING = ("src", "href", "srcset", "action", "data", "poster", "background", "xlink:href")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a full study whose tables carry hostile text too."""
    folder = tmp_path_factory.mktemp("river") / "outputs" / "nano"
    make_study(folder, flow=made_tables()["flow"].replace("incorrect", EVIL))
    path = report.write_report(folder)
    assert path == folder / "report.html"
    assert path.stat().st_size < 10_000_000
    return path


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def soup(page):
    return BeautifulSoup(text_of(page), "html.parser")


def test_it_starts_with_the_question_and_the_computed_answer(soup):
    title = "At this sampling budget, which generator made the better training set?"
    assert soup.h1.get_text() == title
    first = soup.h1.find_next("p")
    assert first.get_text() == f"{ANSWER['headline']} {ANSWER['gains'][0]}"


def test_the_first_screen_has_who_is_who_one_figure_steps_caveats_and_cost(soup):
    header = soup.header
    assert len(header.select("figure")) == 1
    text = header.get_text()
    assert "nano-se, 1.2 M parameters; 1 or 10 samples a problem" in text
    assert "2026-11-23" in text
    for sentence in [*ANSWER["notes"][:2], *ANSWER["next"][:3]]:
        assert sentence in text
        assert soup.get_text().count(sentence) == 1
    assert ANSWER["next"][3] not in text
    assert "4.94 × 10¹³ FLOPs, 36 min of its machine, 1.2 USD" in text


def test_what_is_folded_is_all_there_and_little_stands_open(soup):
    titles = [summary.get_text() for summary in soup.select("details > summary")]
    for table in ("levels", "lengths", "arm_votes", "flow", "ledger", "gains"):
        assert TABLES[table].heading in titles
    is_open = [table for table in soup("table") if not table.find_parent("details")]
    assert len(is_open) == 3  # reasons, explanation, totals
    assert len([plot for plot in soup("figure", "plot") if not plot.find_parent("details")]) == 5


def test_why_is_a_table_whose_signs_are_of_the_difference_in_its_head(soup):
    table = soup.find("h2", id="why").find_next("table")
    heads = [th.get_text() for th in table("th")]
    assert heads == ["quantity", "wc − se [95 % interval]", "speaks for", "recipe", "finding"]
    cells = [[td.get_text() for td in row("td")] for row in table("tr")[1:]]
    assert cells[0] == ["coverage", "−3.0 [−7.0, +1.0] points", "", "", ""]
    fewer = ["false-positive rate", "−6.0 [−8.0, −4.0] points", "wc", "judged", "not settled"]
    assert cells[1] == fewer


@pytest.mark.parametrize("attribute", LOADING)
def test_no_attribute_loads_anything_from_outside(soup, attribute):
    for tag in soup(True):
        assert tag.get(attribute, "#").startswith(("#", "data:image/")), tag.name


def test_no_tag_style_or_figure_loads_anything_from_outside(page, soup):
    assert not soup(["link", "iframe", "object", "embed", "base", "form"])
    css = "".join(tag.get_text() for tag in soup("style"))
    assert "url(" not in css
    assert "@import" not in css
    assert "default-src 'none'" in text_of(page)
    for image in re.findall(r"data:image/svg\+xml;base64,([^\" ]+)", text_of(page)):
        assert not re.search(rb"href=\"(?!#)|url\((?!#)|<script", base64.b64decode(image))


def test_hostile_text_is_text(page, soup):
    (script,) = soup("script")
    assert "evil" not in script.get_text()
    names = {name for tag in soup(True) for name in tag.attrs}
    assert not [name for name in names if name.startswith("on")]
    assert "javascript:" not in text_of(page)
    shown = [tag for tag in soup(["td", "li", "pre"]) if EVIL in tag.get_text()]
    # An answer's note, a table's cell, and two notebooks' stream and data frame.
    assert len(shown) >= 6
    assert "kept" in soup.get_text()
    assert "ends." in soup.get_text()


def test_every_executed_notebook_is_there_and_none_names_this_machine(page, soup):
    books = [tag.parent.summary.get_text() for tag in soup.select("details > div.book")]
    stages = ("02_generate", "03_verify")
    title = "wc/executed.ipynb 02 · What do the arms write?"
    assert books == [f"{stage}/{title}" for stage in stages]
    for place in (page.parent, page.parents[2], f"{Path.home()}/"):
        assert str(place) not in text_of(page)


def test_figures_have_alternative_texts_and_captions(soup):
    plots = soup.select("figure.plot")
    assert len(plots) == sum(len(table.figures) for table in TABLES.values())
    for plot in plots:
        assert len(plot.img["alt"]) > 60
        assert plot.source["srcset"] != plot.img["src"]
        caption = plot.figcaption.get_text()
        without_intervals = ("Loss on", "Where it went", "Tokens per")
        assert caption.startswith(without_intervals) or re.search(
            "95\xa0% intervals; n\xa0=\xa0\\d", caption
        )


def test_a_cell_is_sorted_by_its_number(soup):
    cell = soup.find("td", string=re.compile(r"^[+−]\d+\.\d \["))
    shown = float(cell.get_text().split()[0].replace("−", "-"))
    assert float(cell["data-v"]) == pytest.approx(shown / 100, abs=6e-4)
    assert "n" in cell["class"]
    assert soup.select("table.sort th button")


def test_no_style_of_the_page_takes_a_class_of_highlighted_code(page):
    """Pygments marks code with short classes (`nb`: a builtin); of them the page may set colour and slant alone."""
    from pygments.token import STANDARD_TYPES

    allowed = {"color", "font-style", "text-align"}
    css = re.search("<style>(.*?)</style>", text_of(page), re.DOTALL)[1]
    css = re.sub(r"@media[^{]*\{", "", css)
    for selectors, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", css):
        classes = re.findall(r"(?:^|,)\s*\.([\w-]+)\s*(?=,|$)", selectors)
        if set(classes) & set(STANDARD_TYPES.values()):
            properties = {part.split(":")[0] for part in rule.split(";") if part}
            assert properties <= allowed, selectors


def test_the_side_by_side_table_sorts_by_value_and_shows_arms_first(soup):
    table = soup.select_one("table.across")
    heads = ["quantity", "se, low", "wc, low", "se, high", "wc, high"]
    assert [th.get_text() for th in table("th")] == heads
    assert "log-likelihood under the base (small), nats per token" in table.get_text()
    cells = [cell for cell in table.select("td.n") if "−0.6" in cell.get_text()]
    assert cells
    for cell in cells:
        assert float(cell["data-v"]) == pytest.approx(-0.6)
        assert "nats" not in cell.get_text()


def test_a_page_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "page_figures", lambda *found: {})
    folder = make_study(tmp_path / "nano")
    (folder / "report.html" / "in the way").mkdir(parents=True)
    with pytest.raises(StudyError, match="report.html: could not be written"):
        report.write_report(folder)


@pytest.mark.parametrize(
    "words",
    [
        "truncated",
        "unverifiable",
        "one seed",
        "w2s",
        "0123456789abcdef",
        "python 3.11.7",
        "n_train: 240",
        "2026-11-23 02:15 UTC",
        "GiB memory",
        "2 × abacus: 02_generate/se, 02_generate/wc",
        "git commit c0ffeec0ffee: 02_generate/se, 02_generate/wc",
        "git commit not recorded: 01_plan",
        "wc leads in coverage",
    ],
)
def test_limits_glossary_provenance_and_reasons_are_there(soup, words):
    assert words in soup.get_text()


def test_nothing_is_said_to_be_missing_from_a_whole_study(soup):
    assert soup.get_text().count("No ablations") == 1
    assert "is missing or empty" not in soup.get_text()


EXPECTED = [name for name, table in TABLES.items() if not table.optional]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_missing_table_is_named_and_breaks_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setattr(report, "page_figures", lambda *found: {})  # drawing is tested elsewhere
    words = text_of(report.write_report(make_study(tmp_path / "nano", **{name: None})))
    assert f"06_analyze/tables/{name}.csv</code> is missing or empty" in words


def test_a_study_without_anything_but_a_plan(tmp_path):
    folder = make_study(tmp_path / "nano", **dict.fromkeys(TABLES))
    (folder / "06_analyze" / "answer.json").unlink()
    (folder / "06_analyze" / "tables").mkdir()
    (folder / "06_analyze" / "tables" / "levels.csv").write_text("")
    write_json(folder / "02_generate" / "se" / "failed.json", {"error": "x"})
    words = text_of(report.write_report(folder))
    assert "has not been analysed yet" in words
    assert "02_generate/se failed" in words
    assert words.count("is missing or empty") == len(EXPECTED)


def test_an_imported_study_with_one_sample_no_flops_and_odd_names(tmp_path):
    """An arm may be called null, a value may lack its interval."""
    facts = dict(arm=["null", "wc"], k=1, n_problems=660, flops_per_problem=np.nan)
    values = dict(value=[0.3456, 0.2], low=[np.nan, 0.1], high=[np.nan, 0.3])
    tables = dict.fromkeys(TABLES) | {"coverage": pd.DataFrame(facts | values)}
    words = text_of(report.write_report(make_study(tmp_path / "one", **tables)))
    for cell in ("null", "34.6", "20.0 [10.0, 30.0]"):
        assert f">{cell}<" in words


def test_a_lacking_column_and_a_missing_plan_are_named(tmp_path):
    folder = make_study(tmp_path / "nano", levels=made_tables()["levels"].drop(columns="low"))
    with pytest.raises(StudyError, match="levels.csv: column 'low' is missing"):
        report.write_report(folder)
    with pytest.raises(StudyError, match="plan.json: not there"):
        report.write_report(tmp_path / "none")


def test_large_notebooks_are_left_out_with_a_note_and_the_file_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_BYTES", 300_000)
    folder = make_study(tmp_path / "nano", **dict.fromkeys(TABLES))
    nbformat.write(notebook(folder, png=PNG * 4000), folder / "03_verify" / "wc" / "executed.ipynb")
    path = report.write_report(folder)
    assert path.stat().st_size < 300_000
    assert text_of(path).count("Left out to keep this file") == 1


def test_a_copy_without_notebooks_goes_elsewhere_and_says_where_they_are(tmp_path):
    folder = make_study(tmp_path / "nano", **dict.fromkeys(TABLES))
    nbformat.write(notebook(folder), folder / "03_verify" / "wc" / "executed.ipynb")
    whole = report.write_report(folder)
    path = report.write_report(folder, tmp_path / "results" / "nano.html", has_notebooks=False)
    assert path == tmp_path / "results" / "nano.html"
    words = text_of(path)
    assert "Left out of this copy; they lie in the study's folder." in words
    assert "executed.ipynb" not in words and "executed.ipynb" in text_of(whole)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/bin/chromium").exists(), reason="no Chromium on this machine")
@pytest.mark.skipif(
    importlib.util.find_spec("playwright") is None, reason="playwright is not installed"
)
def test_a_browser_offline_asks_for_nothing_and_sorts(page):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(
            executable_path="/usr/bin/chromium", args=["--no-sandbox", "--disable-gpu"]
        )
        tab = browser.new_context(offline=True, viewport={"width": 390, "height": 844}).new_page()
        asked, said = [], []
        tab.on("request", lambda request: asked.append(request.url))
        tab.on("console", lambda message: said.append(message.text))
        tab.goto(page.as_uri())
        assert [url for url in asked if not url.startswith("data:")] == [page.as_uri()]
        assert said == []
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        for direction in ("ascending", "descending"):
            tab.locator("table.sort th", has_text="samples").last.click()
            head = "document.querySelector('th[aria-sort]')"
            rows = f"[...{head}.closest('table').tBodies[0].rows]"
            values = tab.evaluate(f"{rows}.map(row => +row.cells[{head}.cellIndex].dataset.v)")
            assert tab.evaluate(f"{head}.getAttribute('aria-sort')") == direction
            assert values == sorted(values, reverse=direction == "descending")
        browser.close()


def test_many_arms_are_folded_and_not_lost(tmp_path):
    """Six arms at two budgets: one budget's data, one comparison and no long table of totals stand open."""
    tables = made_tables()
    arms = [f"arm-{letter}" for letter in "abcdef"]
    explained = tables["explanation"].query("arm == 'se'")
    tables["explanation"] = pd.concat([explained.assign(arm=arm) for arm in arms])
    reasons = tables["reasons"]
    tables["reasons"] = pd.concat([reasons.assign(arm_b=arm) for arm in arms])
    totals = tables["totals"].query("who == 'se'")
    tables["totals"] = pd.concat([totals.assign(who=arm) for arm in arms])
    page = report.write_report(make_study(tmp_path / "many", **tables)).read_text()
    soup = BeautifulSoup(page, "html.parser")
    is_open = [
        caption
        for caption in soup.select("figure.wide > figcaption b")
        if not caption.find_parent("details")
    ]
    captions = [caption.text for caption in is_open]
    assert "The arms’ data side by side, with 95 % intervals, at high" in captions
    assert not any(
        caption.endswith("at low") or caption.startswith("Planned") for caption in captions
    )
    folds = [summary.text for summary in soup.select("summary")]
    assert "The arms’ data side by side, with 95 % intervals, at low" in folds
    assert "The same of 11 other comparisons" in folds
    assert sum(fold.startswith("The same of wc − arm-") for fold in folds) == 11
