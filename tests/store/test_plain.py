"""What strangers wrote does nothing where it is shown: in terminals, Markdown and spreadsheets."""

import pandas as pd
import pytest

from wcse_lib.store import inert, unguarded, visible, write_csv

HOSTILE = [
    "![x](http://x.example/x.png)",
    "[click](javascript:alert(1))",
    "<img src=http://x.example/x.png onerror=alert(1)>",
    "<http://x.example>",
    "![x][y]\n\n[y]: http://x.example/x.png",
    "\x1b]8;;http://x.example\x07click\x1b]8;;\x07",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_markdown_of_a_stranger_shows_its_signs(text):
    from bs4 import BeautifulSoup
    from nbconvert.filters import markdown2html

    page = BeautifulSoup(markdown2html(inert(text)), "html.parser")
    assert not page(["img", "a", "script"])
    assert "\x1b" not in page.get_text()


def test_what_is_meant_as_markdown_stays():
    from nbconvert.filters import markdown2html

    assert "<strong>so</strong>" in markdown2html(inert("**so** it is\n\n- [1.5, 2]"))


def test_no_escape_sequence_reaches_a_terminal():
    shown = visible("a\x1b[2J\x07\x9b31m\r\tb\nc")
    assert shown == "a␛[2J␇\ufffd31m␍\tb\nc"


def test_formulas_are_guarded_numbers_stay_and_all_come_back(tmp_path):
    texts = ["=1+1", "+cmd|' /C calc'!A0", "-1", "-x", "@SUM(1)", "'=1", "'tis", "a", "\t=1", ""]
    frame = pd.DataFrame({"text": texts, "value": [-1.5] * len(texts), "n": -2})
    write_csv(tmp_path / "t.csv", frame)
    read = pd.read_csv(tmp_path / "t.csv", dtype={"text": object}, keep_default_na=False)
    guarded = ["'=1+1", "'+cmd|' /C calc'!A0", "-1", "'-x", "'@SUM(1)", "''=1", "'tis", "a"]
    assert read["text"].tolist() == [*guarded, "'\t=1", ""]
    assert read["value"].eq(-1.5).all() and read["n"].eq(-2).all()
    pd.testing.assert_frame_equal(unguarded(read), frame.astype({"text": object}))
