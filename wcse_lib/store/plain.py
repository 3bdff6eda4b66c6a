"""Words of strangers made harmless where they are shown: in terminals, in Markdown, and in cells of spreadsheets."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from wcse_lib.store.files import write_text

# All control characters but line ends and tabs, each as a sign that is seen.
SIGNS = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
SIGNS |= {0x7F: "\u2421"} | {code: "\ufffd" for code in range(0x80, 0xA0)}
# What begins a link or a picture, also of addresses by themselves, as the entities that are shown alike.
LINKS = {"[": "&#91;", "]": "&#93;", "://": "&#58;//", "www.": "www&#46;"}
FORMULA = re.compile(
    r"'*[=+\-@\t\r]"
)  # how a cell begins that spreadsheets compute, or that was guarded


def visible(text: str) -> str:
    """A text whose escape sequences a terminal or a notebook shows instead of following them.

    >>> visible("\\x1b[31mred")
    '\u241b[31mred'
    """
    return text.translate(SIGNS)


def inert(text: str) -> str:
    """A text for Markdown in which neither HTML nor links nor pictures of strangers come to life; ** and lists do.

    >>> inert("**Which?** ![x](http://x.example/x.png)")
    '**Which?** !&#91;x&#93;(http&#58;//x.example/x.png)'
    """
    text = html.escape(visible(text))
    for sign, entity in LINKS.items():
        text = text.replace(sign, entity)
    return text


def write_csv(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame as CSV, whole or not at all; text that a spreadsheet would compute begins with an apostrophe."""
    write_text(path, _mapped(frame, _guarded).to_csv(index=False))


def unguarded(frame: pd.DataFrame) -> pd.DataFrame:
    """A frame that was read from such a file, with the texts that were written."""
    return _mapped(frame, lambda text: text[1:] if text[0] == "'" and FORMULA.match(text) else text)


def _mapped(frame: pd.DataFrame, change: Callable[[str], str]) -> pd.DataFrame:
    """The frame with its texts changed; numbers and what is missing stay as they are."""
    changed = {}
    for name, column in frame.items():
        if column.map(_is_text).any():
            values = column.map(lambda value: change(value) if _is_text(value) else value)
            changed[name] = values.astype(column.dtype)
    return frame.assign(**changed)


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _guarded(text: str) -> str:
    if not FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text
