"""Answers in boxes, and after `####`."""

from __future__ import annotations

import re
from typing import NamedTuple

from wcse_lib.answers.places import NOWHERE, Found
from wcse_lib.answers.sentences import answer_at

MAX_JOINT = 60  # characters between two boxes of one answer

_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(?=[^\s{])|(?=\d))|\\.|[{}]", re.S)
# A box with at most one level of braces inside, as nearly all are.
_FLAT = r"[^{}\\]*(?:\\(?!boxed|fbox).[^{}\\]*)*"
_ONE_BOX = re.compile(rf"\\(?:boxed|fbox)\s*\{{({_FLAT}(?:\{{{_FLAT}\}}{_FLAT})*)\}}", re.S)
_HASHES = re.compile(r"####[ \t]*([^\n]*)")
_BARE_BOX = re.compile(r"([^$\n]{1,200}?)\$|(\S{1,200})")
_PART_NAME = r"(?:(?:for|in)\s)?(?:parts?|case)\s\(?[a-z\d]\)?|\([a-h]\)|\((?:i|ii|iii|iv|v)\)"
_JOINT = re.compile(
    r"(?:[\s$.,;:*()\[\]\\]|\\q?quad|and\b|or\b|[A-Za-z](?:_\w|_\{\w+\})?\s?="
    rf"|{_PART_NAME})*",
    re.I,
)
_WORDS_IN_TEX = re.compile(r"\\text\s*\{([^{}]*)\}")
_JOINED = re.compile(rf"\b(?:and|or)\b|,|{_PART_NAME}", re.I)
# A part begins with its name at the start of a line; the second name of a text says which part it is.
_PART = re.compile(
    r"^[\s*#]{0,9}(?:(?:part|question)\s)?\(?([a-h])[).:]|^[\s*#]{0,9}(?:\d[.)]\s)?(?:for\s)?part\s\(?([a-h1-8])\b",
    re.I | re.M,
)


class _Box(NamedTuple):
    start: int
    end: int
    content: str


def boxed(text: str) -> Found:
    """The last outermost box that is not empty; broken off when a later one is never closed.

    Boxes that stand side by side, or one in each of a text's parts, are one list.
    """
    start = _first_box(text)
    if start < 0:
        return NOWHERE
    only = _ONE_BOX.match(text, start)
    if only and only.group(1).strip() and _first_box(text, only.end()) < 0:
        return Found(start, only.group(1))
    boxes, open_box = _boxes(text, start)
    if not boxes or open_box > boxes[-1].end:
        return Found(open_box, None)
    contents = _of_parts(text, boxes) if len(boxes) > 1 else []
    if not contents:
        contents = [boxes[-1].content]
        for before, after in zip(boxes[-2::-1], boxes[:0:-1]):
            joint = _WORDS_IN_TEX.sub(r"\1", text[before.end : after.start])
            is_joined = len(joint) <= MAX_JOINT and _JOINT.fullmatch(joint)
            if not is_joined or not _JOINED.search(joint):
                break
            contents.insert(0, before.content)
    if len(set(contents)) == 1:
        contents = contents[:1]
    return Found(boxes[-1].start, ", ".join(contents))


def _of_parts(text: str, boxes: list[_Box]) -> list[str]:
    """The last box of each part (a), (b), …; none unless the parts are in order and each has a box."""
    parts = list(_PART.finditer(text))
    names = [(part.group(1) or part.group(2)).lower() for part in parts]
    first = max((place for place, name in enumerate(names) if name in "a1"), default=-1)
    names, parts = names[first:], parts[first:]
    is_in_order = all(ord(b) - ord(a) == 1 for a, b in zip(names, names[1:]))
    if first < 0 or len(names) < 2 or not is_in_order:
        return []
    ends = [*(part.start() for part in parts[1:]), len(text)]
    contents = []
    for part, end in zip(parts, ends):
        inside = [box.content for box in boxes if part.start() <= box.start < end]
        if not inside:
            return []
        contents.append(inside[-1])
    return contents


def _first_box(text: str, start: int = 0) -> int:
    """Where the first command of a box stands from a place on; -1 without any."""
    boxed_start, fbox_start = text.find("\\boxed", start), text.find("\\fbox", start)
    if boxed_start < 0 or fbox_start < 0:
        return max(boxed_start, fbox_start)
    return min(boxed_start, fbox_start)


def _boxes(text: str, start: int) -> tuple[list[_Box], int]:
    """The outermost boxes with content from a place on, and where the last one that is never closed starts (or -1)."""
    boxes: list[_Box] = []
    braces: list[tuple[bool, int, int]] = []  # open ones: is it a box, start, start of the content
    for match in _BOX.finditer(text, start):
        token = match.group()
        is_box = token.startswith(("\\boxed", "\\fbox"))
        if token == "{" or (is_box and token[-1] == "{"):
            braces.append((is_box, match.start(), match.end()))
        elif is_box:
            bare = _BARE_BOX.match(text, match.end())
            boxes.append(_Box(match.start(), bare.end(), bare.group(1) or bare.group(2)))
        elif token == "}" and braces:
            is_box, begin, inner = braces.pop()
            if is_box and text[inner : match.start()].strip():
                while boxes and boxes[-1].start > begin:
                    boxes.pop()  # a box inside this one
                boxes.append(_Box(begin, match.end(), text[inner : match.start()]))
    open_boxes = [begin for is_box, begin, _ in braces if is_box]
    return boxes, max(open_boxes, default=-1)


def hashes(text: str) -> Found:
    """The last `#### answer` line; headings such as "#### Step 2" and "#### 1. Add" are none."""
    lines = list(_HASHES.finditer(text)) if "####" in text else []
    for match in reversed(lines):
        line = match.group(1).strip(" \t*#")
        line = re.sub(r"(?i)^(?:the\s+)?(?:final\s+)?answer\W+(?:is\s+)?", "", line)
        if line and not re.match(r"[^\W\d_]{3,}|\d+[.)]\s", line):
            return Found(match.start(), answer_at(line) or line)
    return NOWHERE
