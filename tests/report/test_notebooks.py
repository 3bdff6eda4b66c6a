"""Executed notebooks in the report: folded, tidy, safe, and nothing of the machine that ran them."""

import nbformat
import pytest
from bs4 import BeautifulSoup
from made_report import EVIL, PNG, notebook
from nbformat.v4 import new_code_cell, new_notebook, new_output

from wcse_lib.report import notebooks
from wcse_lib.report.paths import shortener


def shown(folder, book):
    """A notebook as the report shows it."""
    (folder / "02_generate").mkdir(parents=True)
    nbformat.write(book, folder / "02_generate" / "executed.ipynb")
    (found,) = notebooks.read_books(folder, shortener(folder))
    return found


@pytest.fixture
def html(tmp_path):
    folder = tmp_path / "outputs" / "nano"
    return BeautifulSoup(shown(folder, notebook(folder)).html, "html.parser")


def test_a_book_has_its_first_heading_as_title(tmp_path):
    book = shown(tmp_path, notebook(tmp_path))
    assert (book.name, book.title) == ("02_generate/executed.ipynb", "02 · What do the arms write?")


def test_code_is_folded(html):
    sources = html.select("div.input")
    assert sources
    assert all(source.find_parent("details", class_="code") for source in sources)


@pytest.mark.parametrize(
    ("text", "is_there"),
    [
        ("100%|██████████| 720/720", True),
        ("50%|", False),
        ("\x1b", False),
        ("stale", False),
        ("paper (https://arxiv.org/abs/2408.16737)", True),
        ("writing outputs/nano/02_generate/wc from ~/data", True),
        ("ValueError: n is 0", True),
    ],
)
def test_outputs_are_as_they_ended_with_short_paths_and_links_in_words(html, text, is_there):
    assert (text in html.get_text()) == is_there


def test_colours_and_pictures_stay(html):
    assert html.select("span.ansi-green-fg")
    assert html.select(f"img[src='data:image/png;base64,{PNG}']")


def test_columns_of_words_are_marked_and_those_of_numbers_not(html):
    rows = html.select("table.dataframe tr")[1:]
    marked = [[cell.get("class") for cell in row(["th", "td"])] for row in rows]
    assert marked == [[None, ["words"], ["words"]]] * 2


@pytest.mark.parametrize(
    ("hostile", "safe"),
    [
        (f"<div onclick='alert(1)'>{EVIL}kept</div>", "<div>kept</div>"),
        ("<a href='javascript:alert(1)'>go</a>", "<a>go</a>"),
        ("<a href='https://a.example'>go</a>", "<a>go (https://a.example)</a>"),
        ("<img src='https://evil.example/a.png' alt='plot'>", "[plot]"),
        ("<img src='data:image/png;base64,AA'>", '<img src="data:image/png;base64,AA">'),
        ("<img src='data:text/html,x'>", "[image]"),
        ("<iframe src='https://evil.example'>x</iframe>y", "y"),
        ("<style>@import 'https://evil.example/c.css'</style>y", "y"),
        ("<link rel='stylesheet' href='https://evil.example/c.css'>y", "y"),
        (
            "<p style='color:red;background:url(https://evil.example)'>y</p>",
            '<p style="color:red">y</p>',
        ),
        ("<svg><script>alert(1)</script></svg>y", "y"),
        ("<template><img src=x onerror=alert(1)></template>y", "y"),
        ("<form action='https://evil.example'><button>y</button></form>", "y"),
        ("<base href='https://evil.example'>y", "y"),
        ("<?xml version='1.0'?><p>y</p>", "<p>y</p>"),
    ],
)
def test_foreign_html_is_cut_down_to_what_loads_and_runs_nothing(hostile, safe):
    assert notebooks.clean(hostile) == safe


def test_long_outputs_are_clipped_with_a_note(tmp_path):
    output = new_output("stream", name="stdout", text="x" * (notebooks.MOST_CHARACTERS + 1234))
    book = shown(tmp_path, new_notebook(cells=[new_code_cell("1", outputs=[output])]))
    assert "… 1,234 more characters in the notebook" in book.html


def test_a_torn_notebook_is_named_and_the_others_are_shown(tmp_path):
    (tmp_path / "02_generate").mkdir()
    (tmp_path / "02_generate" / "torn.ipynb").write_text('{"cells": [')
    nbformat.write(notebook(tmp_path), tmp_path / "02_generate" / "whole.ipynb")
    torn, whole = notebooks.read_books(tmp_path, shortener(tmp_path))
    assert torn.note == "Could not be read (NotJSONError)."
    assert (whole.note, whole.title) == ("", "02 · What do the arms write?")
