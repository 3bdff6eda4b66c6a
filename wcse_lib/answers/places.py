"""Where an answer was found in a text, and the delimiters and sentences around it."""

from __future__ import annotations

import re
from operator import attrgetter
from typing import NamedTuple

from wcse_lib.answers import words
from wcse_lib.answers.notation import normalise
from wcse_lib.answers.reading import UNREADABLE, read


class Found(NamedTuple):
    """Where a marker stands (-1: nowhere), and the answer there (None: broken off)."""

    place: int
    answer: str | None


NOWHERE = Found(-1, None)

GROUP = re.compile(
    r"\$\$([^$]+)\$\$|\$((?:\\.|[^$\\\n]|\n(?!\n))+)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]"
    r"|\*\*([^*\n]+)\*\*|`([^`\n]+)`",
    re.S,
)
SENTENCE_END = re.compile(
    r"(?<![ap]\.m)(?<!\b[Nn]o)(?<!\bapprox)[.!?](?=[\s\"*]|$)(?<!\.\.)|\n|[。।॥]|I hope it is"
)
_FORMULA_SIGN = re.compile(r"[\^_=<>√±+*/()\[\\π-]|\b(?:pi|sqrt|log|ln|sin|cos|tan)\b")


def last(*places: Found) -> Found:
    return max(places, key=attrgetter("place"))


def inside(group: re.Match) -> str:
    """What the delimiters of a formula, bold text or code enclose."""
    return next(filter(None, group.groups()))


def first_sentence(text: str) -> str:
    return SENTENCE_END.split(text, maxsplit=1)[0]


def is_formula(line: str) -> bool:
    """Whether a line, but for a unit at its end, is one formula that can be read whole."""
    if "$" in line or len(line) > 300 or not _FORMULA_SIGN.search(line):
        return False
    plain = re.sub(r"\\[A-Za-z]+|(?:\s[A-Za-z]{3,}){1,3}$", "", line)
    for word in re.findall(r"[A-Za-z]{2,}", plain):
        is_name = len(word) == 2 or word.startswith(words.NAMES)
        if word.lower() in words.SMALL_WORDS or not is_name:
            return False
    try:
        return read(normalise(line)).kind not in ("text", "list", "chain")
    except UNREADABLE:
        return False
