"""The house style of figures: colours, sizes, and how a figure becomes a file."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

COLUMN, DOUBLE = 3.4, 7.0  # inches: one column of a two-column page, and both
INK, GREY = "#222222", "#6b6b6b"
STYLE = Path(__file__).parent / "figures.mplstyle"
UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f-\x9f\ufffe\uffff]")


class Look(NamedTuple):
    """Colour, marker and line of a series: marker and line say the same again for print in grey."""

    color: str
    marker: str
    line: str | tuple


# Okabe & Ito's colours are safe for colour-blind readers.
LOOKS = [
    Look("#0072B2", "o", "-"),
    Look("#D55E00", "s", "--"),
    Look("#009E73", "^", "-."),
    Look("#CC79A7", "D", ":"),
    Look("#E69F00", "v", (0, (6, 1))),
    Look("#56B4E9", "P", (0, (3, 1, 1, 1, 1, 1))),
]
NO_ARMS = {
    "base": Look(GREY, "d", ":"),
    "planted": Look(INK, "X", "-."),
    "reference": Look(INK, "*", "-"),
    "wrong": Look(INK, "x", "--"),
}
FIXED = {"se": LOOKS[0], "wc": LOOKS[1], **NO_ARMS}


def style():
    """A context with the house style; whatever draws or saves a figure enters it itself."""
    import matplotlib

    return matplotlib.rc_context(fname=STYLE)


def canvas(width: float, height: float):
    """An empty figure of this size in inches, to be drawn in the house style."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(figure) -> str:
    """A figure as SVG text in one line, the same bytes every time: text as outlines, salted ids, no date."""
    buffer = io.StringIO()
    with style():
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    # It is laid out now, and laying out again would take as long as drawing.
    figure.set_layout_engine("none")
    in_one_line = re.sub(r"\s*\n\s*", " ", buffer.getvalue())
    return in_one_line.replace("> <", "><")


def save(figure, folder: Path, name: str) -> list[Path]:
    """Write `<folder>/<name>.svg` and `.png` (300 dpi), and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    svg_path, png_path = folder / f"{name}.svg", folder / f"{name}.png"
    svg_path.write_text(svg(figure), encoding="utf-8")
    with style():
        figure.savefig(png_path, metadata={"Software": None})
    return [svg_path, png_path]


def looks_of(names: pd.Series) -> dict[str, Look]:
    """The look of each name present; a categorical's categories keep their looks across figures."""
    every = list(names.astype("category").cat.categories)
    others = [name for name in every if name not in FIXED]
    taken = [FIXED[name] for name in every if name in FIXED]
    free = [look for look in _every_look() if look not in taken]
    looks = dict(zip(others, free * len(others))) | FIXED
    present = set(names)
    return {name: looks[name] for name in every if name in present}


def _every_look() -> list[Look]:
    """LOOKS, and after them their colours again with the markers and lines of others."""
    looks = []
    for shift in range(len(LOOKS)):
        others = LOOKS[shift:] + LOOKS[:shift]
        for own, other in zip(LOOKS, others):
            looks.append(Look(own.color, other.marker, other.line))
    return looks


def short_names(names: Iterable[str], most: int) -> dict[str, str]:
    """Names as a figure has room for them: of a longer one its beginning or, where beginnings are alike, its end.

    Args: most: letters; a name takes more where it would not differ from the others else.

    >>> short_names(["se", "qwen2-5-72b-instruct", "qwen2-5-7b-instruct"], 10)
    {'se': 'se', 'qwen2-5-72b-instruct': 'qwen2-5-72…', 'qwen2-5-7b-instruct': 'qwen2-5-7b…'}
    >>> short_names(["solutions-at-temperature-0-7", "solutions-at-temperature-1-0"], 10)
    {'solutions-at-temperature-0-7': '…ature-0-7', 'solutions-at-temperature-1-0': '…ature-1-0'}
    """
    names = list(dict.fromkeys(names))
    for n in range(most - 1, max(map(len, names), default=0)):
        beginnings = {name: f"{name[:n]}…" if len(name) > n + 1 else name for name in names}
        ends = {name: f"…{name[-n:]}" if len(name) > n + 1 else name for name in names}
        for shortened in (beginnings, ends):
            if len(set(shortened.values())) == len(names):
                return shortened
    return dict(zip(names, names))


def printable(value):
    """A text without the control characters that neither a font nor an SVG file knows; all else as it is."""
    return UNPRINTABLE.sub(" ", value) if isinstance(value, str) else value
