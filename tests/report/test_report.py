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
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from studies import write_plan
from test_figures import ALL, BUDGETS, tables

from wcse_lib.analyze import TABLES, Column
from wcse_lib.report import format, paths
from wcse_lib.report import page as report
from wcse_lib.store import StudyError, write_json
from wcse_lib.study import load_study

ROOT = Path(__file__).parents[2]
EVIL = "<script>fetch('https://evil.example/x')</script>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WIDGET = "application/vnd.jupyter.widget-view+json"


def notebook(folder: Path, png: str = PNG):
    """What papermill leaves: a title, streams with a progress bar, a table, a picture, an error, hostile text."""
    intro = "# 02 · What do the arms write?\n\nReads `01_plan`. [paper](https://arxiv.org/abs/2408.16737)\n\n"
    bar = [
        "\r  0%|          | 0/720",
        "\r 50%|█████     | 360/720",
        "\r100%|██████████| 720/720 [00:18<00:00]\n",
    ]
    log = f"writing {folder}/02_generate/wc from /home/alice/data\n\x1b[32mdone\x1b[0m {EVIL}\n"
    frame = pd.DataFrame(
        {
            "problem_id": ["train-1", "train-2"],
            "text": [f"A has 3. 3+4=7 {EVIL} #### 7", "B has 2 …"],
        }
    )
    table = {
        "text/html": "<style scoped>.x{color:red}</style>" + frame.to_html(),
        "text/plain": frame.to_string(),
    }
    hostile = f"<div onclick='alert(1)'>{EVIL}<img src='https://evil.example/a.png'>kept"
    hostile += "<a href='javascript:alert(1)'>go</a><link rel='stylesheet' href='https://evil.example/c.css'></div>"

    def stream(name: str, text: str):
        return new_output("stream", name=name, text=text)

    def display(data: dict):
        return new_output("display_data", data)

    return new_notebook(
        metadata={"language_info": {"name": "python"}},
        cells=[
            new_markdown_cell(intro + "| Reads | Writes |\n|---|---|\n| plan | samples |"),
            new_code_cell(
                f'run_folder = "{folder}"  # where the study lies\nn = 12', execution_count=1
            ),
            new_code_cell(
                "samples = generate(run, arm)",
                execution_count=2,
                outputs=[
                    stream("stderr", bar[0]),
                    stream("stderr", bar[1]),
                    stream("stdout", log),
                    stream("stderr", bar[2]),
                ],
            ),
            new_code_cell(
                "samples.head()", execution_count=3, outputs=[new_output("execute_result", table)]
            ),
            new_code_cell(
                "display(HTML(x))",
                execution_count=4,
                outputs=[
                    display({"text/html": hostile}),
                    display({"image/png": png, "text/plain": "<Figure>"}),
                    display({WIDGET: {"model_id": "x"}, "text/plain": "  0%| stale"}),
                    new_output(
                        "error",
                        ename="ValueError",
                        evalue="n",
                        traceback=["\x1b[31mValueError\x1b[39m: n is 0"],
                    ),
                ],
            ),
            new_markdown_cell(
                f"Model text: {EVIL} <iframe src='https://evil.example'></iframe> ends."
            ),
        ],
    )


def make_study(folder: Path, **changed) -> Path:
    """A finished nano study on disk, with the tables in `changed` replaced (None: missing)."""
    study = load_study(ROOT / "params" / "nano.yaml").model_dump()
    frames = tables() | changed
    for name, frame in frames.items():
        if frame is not None:
            (folder / "06_analyze" / "tables").mkdir(parents=True, exist_ok=True)
            frame.to_csv(folder / "06_analyze" / "tables" / f"{name}.csv", index=False)
    arms = {
        arm: {
            "model": f"nano-{arm}",
            "n_parameters": p,
            "samples": {b: k[arm] for b, k in BUDGETS.items()},
        }
        for arm, p in {"se": 1_200_000, "wc": 450_000}.items()
    }
    students = frames["students"]["student"].unique() if frames["students"] is not None else []
    entry = {"base": "small", "model": "nano-student", "source": "base"}
    write_plan(
        folder,
        {
            "study": study,
            "arms": arms,
            "students": dict.fromkeys(students, entry),
            "plan_id": "0123456789abcdef",
            "n_problems": {"train": 240, "validation": 60, "held_out": 300},
            "versions": {"python": "3.11.7"},
        },
    )
    write_json(
        folder / "06_analyze" / "answer.json",
        {
            "headline": "At the high budget, wc's examples made better students by 1.2 points on average, "
            "and this study cannot tell that from none.",
            "paragraph": "Over three bases, the paired difference wc − se in greedy pass@1 is +1.2 "
            "points, 95 % interval "
            "−0.9 to +3.3, n = 300 held-out problems. wc covers 80.4 % of the training problems at 30 "
            "samples, se 81.6 % at 10, for the same planned FLOPs.",
            "why": ["wc leads in coverage and in nothing else."],
            "not_run": ["No ablations.", "No seeds: one seed each."],
            "notes": ["Both controls hold for every student.", f"A sample reads {EVIL}"],
        },
    )
    for stage in ("01_plan", "02_generate/se", "02_generate/wc", "06_analyze"):
        machine = (
            {"machine": "2 × abacus", "commit": ("c0ffee" * 7)[:40]}
            if stage.startswith("02")
            else {}
        )
        write_json(
            folder / stage / "manifest.json",
            {"plan_id": "0", "finished": "2026-11-23T02:15:00+00:00"} | machine,
        )
    for stage in ("02_generate/wc", "03_verify/wc"):
        (folder / stage).mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(folder), folder / stage / "executed.ipynb")
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The report of a full study whose tables carry hostile text too."""
    folder = tmp_path_factory.mktemp("river") / "outputs" / "nano"
    make_study(folder, flow=tables()["flow"].replace("incorrect", EVIL))
    path = report.write_report(folder)
    assert path == folder / "report.html" and path.stat().st_size < 10_000_000
    return path


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def test_it_starts_with_the_question_and_the_computed_answer(page):
    soup = BeautifulSoup(text_of(page), "html.parser")
    assert (
        soup.h1.get_text()
        == "At this sampling budget, which generator made the better training set?"
    )
    assert [tag.get_text()[:10] for tag in soup.h1.find_all_next("p")[:2]] == [
        "At the hig",
        "Over three",
    ]


def test_it_asks_for_nothing_from_outside(page):
    soup = BeautifulSoup(text_of(page), "html.parser")
    for tag in soup(True):
        for name in (
            "src",
            "href",
            "srcset",
            "action",
            "data",
            "poster",
            "background",
            "xlink:href",
        ):
            value = tag.get(name, "#")
            assert value.startswith(("#", "data:image/")), f"{tag.name} {name}={value[:60]}"
    assert not soup(["link", "iframe", "object", "embed", "base", "form"])
    css = "".join(tag.get_text() for tag in soup("style"))
    assert "url(" not in css and "@import" not in css and "default-src 'none'" in text_of(page)
    for image in re.findall(r"data:image/svg\+xml;base64,([^\" ]+)", text_of(page)):
        assert not re.search(rb"href=\"(?!#)|url\((?!#)|<script", base64.b64decode(image))


def test_hostile_text_is_text(page):
    soup = BeautifulSoup(text_of(page), "html.parser")
    assert len(soup("script")) == 1 and "evil" not in soup.script.get_text()
    assert not [tag for tag in soup(True) if any(name.startswith("on") for name in tag.attrs)]
    assert "javascript:" not in text_of(page)
    shown = [tag.get_text() for tag in soup(["td", "li", "pre"]) if EVIL in tag.get_text()]
    assert (
        len(shown) >= 6
    )  # an answer's note, a table's cell, and two notebooks' stream and data frame
    assert "kept" in soup.get_text() and "ends." in soup.get_text()


def test_notebooks_are_folded_tidy_and_name_no_machine(page):
    soup = BeautifulSoup(text_of(page), "html.parser")
    books = [tag.parent for tag in soup.select("details > div.book")]
    assert [book.summary.get_text() for book in books] == [
        f"{stage}/wc/executed.ipynb 02 · What do the arms write?"
        for stage in ("02_generate", "03_verify")
    ]
    book = books[0]
    assert all(source.find_parent("details", class_="code") for source in book.select("div.input"))
    assert "100%|██████████| 720/720" in book.get_text() and "50%|" not in book.get_text()
    assert (
        book.select("span.ansi-green-fg")
        and "\x1b" not in book.get_text()
        and "stale" not in book.get_text()
    )
    assert (
        f"data:image/png;base64,{PNG}" in str(book)
        and "paper (https://arxiv.org/abs/2408.16737)" in book.get_text()
    )
    assert "writing outputs/nano/02_generate/wc from ~/data" in book.get_text()
    words = text_of(page)
    assert (
        str(page.parent) not in words
        and str(page.parents[2]) not in words
        and str(Path.home()) + "/" not in words
    )


def test_figures_have_alternative_texts_captions_and_tables(page):
    soup = BeautifulSoup(text_of(page), "html.parser")
    plots = soup.select("figure.plot")
    assert len(plots) == len(ALL)
    for plot in plots:
        assert len(plot.img["alt"]) > 60 and plot.source["srcset"] != plot.img["src"]
        caption = plot.figcaption.get_text()
        told = re.search("95\xa0% intervals; n\xa0=\xa0\\d", caption)
        assert told or caption.startswith(("Training loss", "Planned and spent", "Lengths"))
    cell = soup.find("td", string=re.compile(r"^[+−]\d+\.\d \["))
    assert float(cell["data-v"]) == pytest.approx(
        float(cell.get_text().split()[0].replace("−", "-")) / 100, abs=6e-4
    )
    assert "n" in cell["class"] and soup.select("table.sort th button")


def test_no_style_of_the_page_takes_a_class_of_highlighted_code(page):
    """Pygments marks code with short classes (`nb`: a builtin); of them the page may set colour and slant alone."""
    from pygments.token import STANDARD_TYPES

    text = text_of(page)
    css = re.sub(r"@media[^{]*\{", "", re.search("<style>(.*?)</style>", text, re.S)[1])
    assert 'class="nb">print<' not in text or not re.search(r"\.nb\b", css)
    for selectors, rule in re.findall(r"([^{}]+)\{([^{}]*)\}", css):
        bare = {name for s in selectors.split(",") for name in re.findall(r"^\s*\.([\w-]+)$", s)}
        if bare & set(STANDARD_TYPES.values()):
            assert {part.split(":")[0] for part in rule.split(";") if part} <= {
                "color",
                "font-style",
                "text-align",
            }, selectors


def test_the_side_by_side_table_sorts_by_value_and_shows_arms_first(page):
    table = BeautifulSoup(text_of(page), "html.parser").select_one("table.across")
    assert [th.get_text() for th in table("th")] == ["quantity", "se", "wc", "budget"]
    cells = [cell for cell in table.select("td.n") if "−0.6" in cell.get_text()]
    assert cells and all(
        float(cell["data-v"]) == pytest.approx(-0.6) and "nats" not in cell.get_text()
        for cell in cells
    )
    assert "log-likelihood under the base (small), nats per token" in table.get_text()


def test_a_page_that_cannot_be_written_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "_figures", lambda *found: {})
    folder = make_study(tmp_path / "nano")
    (folder / "report.html" / "in the way").mkdir(parents=True)
    with pytest.raises(StudyError, match="report.html: could not be written"):
        report.write_report(folder)


def test_limits_glossary_and_provenance_are_there(page):
    words = BeautifulSoup(text_of(page), "html.parser").get_text()
    limits = [
        "Truncated samples (cut at 80 tokens): se low 1.2\xa0%",
        "could not be verified",
        "one seed",
        "w2s",
    ]
    facts = [
        "0123456789abcdef",
        "python 3.11.7",
        "n_train: 240",
        "2026-11-23 02:15 UTC",
        "GiB memory",
    ]
    for needed in limits + facts:
        assert needed in words, needed
    assert words.count("No ablations") == 1 and "is missing or empty" not in words
    assert "2 × abacus: 02_generate/se, 02_generate/wc" in words  # each stage's own machine
    assert (
        "git commit c0ffeec0ffee: 02_generate/se, 02_generate/wc" in words
        and "git commit not recorded: 01_plan" in words
    )
    assert "wc leads in coverage" in words  # why


EXPECTED = [name for name, table in TABLES.items() if not table.optional]


@pytest.mark.parametrize("name", EXPECTED)
def test_a_missing_table_is_named_and_breaks_nothing(tmp_path, monkeypatch, name):
    monkeypatch.setattr(report, "_figures", lambda *found: {})  # drawing is tested elsewhere
    words = text_of(report.write_report(make_study(tmp_path / "nano", **{name: None})))
    assert f"06_analyze/tables/{name}.csv</code> is missing or empty" in words


def test_a_study_without_anything_but_a_plan(tmp_path):
    folder = make_study(tmp_path / "nano", **dict.fromkeys(tables()))
    (folder / "06_analyze" / "answer.json").unlink()
    (folder / "06_analyze" / "tables").mkdir()
    (folder / "06_analyze" / "tables" / "levels.csv").write_text("")
    write_json(folder / "02_generate" / "se" / "failed.json", {"error": "x"})
    (folder / "03_verify" / "wc" / "executed.ipynb").write_text('{"cells": [')
    words = text_of(report.write_report(folder))
    assert (
        "has not been analysed yet" in words
        and "Could not be read" in words
        and "analysed yet" in words
    )
    assert "02_generate/se failed" in words
    assert words.count("is missing or empty") == len(EXPECTED)


def test_real_shapes_one_sample_no_interval_odd_names(tmp_path):
    """The imported study: one sample, no FLOPs; an arm may be called null, a value may lack its interval."""
    frames = dict.fromkeys(tables()) | {
        "coverage": pd.DataFrame(
            {
                "arm": ["null", "wc"],
                "k": 1,
                "n_problems": 660,
                "flops_per_problem": np.nan,
                "value": [0.3456, 0.2],
                "low": [np.nan, 0.1],
                "high": [np.nan, 0.3],
            }
        )
    }
    words = text_of(report.write_report(make_study(tmp_path / "one", **frames)))
    assert ">null<" in words and ">34.6<" in words and ">20.0 [10.0, 30.0]<" in words


def test_a_lacking_column_and_a_missing_plan_are_named(tmp_path):
    folder = make_study(tmp_path / "nano", levels=tables()["levels"].drop(columns="low"))
    with pytest.raises(StudyError, match="levels.csv: column 'low' is missing"):
        report.write_report(folder)
    with pytest.raises(StudyError, match="plan.json: not there"):
        report.write_report(tmp_path / "none")


def test_large_notebooks_are_left_out_with_a_note_and_the_file_stays_small(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "MOST_BYTES", 300_000)
    folder = make_study(tmp_path / "nano", **dict.fromkeys(tables()))
    nbformat.write(notebook(folder, png=PNG * 4000), folder / "03_verify" / "wc" / "executed.ipynb")
    path = report.write_report(folder)
    assert path.stat().st_size < 300_000 and text_of(path).count("Left out to keep this file") == 1


def test_paths_and_progress_bars(tmp_path):
    shorten = paths.shortener(tmp_path / "outputs" / "nano")
    assert shorten(f"{tmp_path}/outputs/nano/x.csv") == "outputs/nano/x.csv"
    assert shorten(f"{tmp_path}/outputs2") == "…/outputs2"
    assert (
        shorten("(imported from /usr/share/my/x.jsonl: how) <td>/usr/y</td>")
        == "(imported from …/x.jsonl: how) <td>…/y</td>"
    )
    for other in (
        "3 km /hours/day",
        "https://usr/lib/x",
        "<p>a</p>/</b>",
        "and/usr/or",
        "src='data:image/png;base64,/usr/a'",
    ):
        assert shorten(other) == other
    assert shorten("/Users/ann/a /home/bob/b and/home/c") == "~/a ~/b and/home/c"
    assert paths.map_text({"train": "/big/p.jsonl", "n": 3, "none": None}, shorten) == {
        "train": "…/p.jsonl",
        "n": 3,
    }
    column = Column("flops_spent")
    numbers = [format.cell(column, value) for value in (1.234e12, 0.5, 12345.0, float("nan"))]
    assert numbers == ["1.23 × 10¹²", "0.5", "12,345", "–"]


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
        assert [url for url in asked if not url.startswith("data:")] == [
            page.as_uri()
        ] and said == []
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        for direction in ("ascending", "descending"):
            tab.locator("table.sort th", has_text="samples").last.click()
            head = "document.querySelector('th[aria-sort]')"
            rows = f"[...{head}.closest('table').tBodies[0].rows]"
            values = tab.evaluate(f"{rows}.map(row => +row.cells[{head}.cellIndex].dataset.v)")
            assert tab.evaluate(f"{head}.getAttribute('aria-sort')") == direction
            assert values == sorted(values, reverse=direction == "descending")
        browser.close()
