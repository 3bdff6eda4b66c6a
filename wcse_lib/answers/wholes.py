"""Outputs that are nothing but their answer: formulas, lists, matrices, JSON, a letter, a few words."""

from __future__ import annotations

import json
import re

from wcse_lib.answers import words
from wcse_lib.answers.amounts import NUMBER, right_side
from wcse_lib.answers.languages import REFUSALS
from wcse_lib.answers.measures import unit_name
from wcse_lib.answers.places import GROUP, inside, is_formula

MAX_WHOLE = 1_000  # characters

_REFUSALS = re.compile(REFUSALS, re.I)
_FENCE = re.compile(r"\s*```[a-z]*\n(.*?)\n?```\s*", re.S)
_TEXT = re.compile(
    r"\\(?:begin|end)\s*\{\w+\*?\}|\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s*\{[^{}]*\}|\\[A-Za-z]+"
)
_WORD = re.compile(r"[^\W\d_]{2,}")
_NAME_OF_WORDS = re.compile(r"(?!I )[A-Z][^\W\d_]*(?:[ '’-][A-Z][^\W\d_]+){0,3}|[^\W\d_]+")
_YES_OR_NO = re.compile(r"(yes|no|true|false)\b[,.:;!]\s", re.I)
_TEXT_ALONE = re.compile(r"\\(?:text(?:bf|it|rm)?|mathrm|mbox)\s*\{([^{}]*)\}")
_EQUATION = re.compile(r"\s*([A-Za-z]\w?)\s*=\s*([^=]+)")
_EQUALS = r"=(?![^{]*\})"  # not the one below a sum: \sum_{k=0}^{n}
_BULLET = re.compile(r"^\s*(?:[-*•]|\d[.)])\s+(?=\S)")
_QUANTITY = rf"(?:{NUMBER.pattern})(?: (?!(?:{words.NO_NOUNS})\b)[a-z]+){{0,2}}"
_QUANTITIES = re.compile(rf"{_QUANTITY}(?:(?:,|,? and|,? or) {_QUANTITY})+")
# A sign without which a line of formulas is one number or product, that `last_number` knows to read.
_STRUCTURE = re.compile(r"[,;&\[{=<>|^_\\√±]|\b(?:or|and)\b|\d \d{3}\b|≤|≥|≠|∪|∈|∞|π")


def whole(text: str) -> str | None:
    """An output that is only an answer, as a whole, so that no list of it becomes its last number; else None."""
    text = text.strip().strip("*").strip()
    fenced = _FENCE.fullmatch(text)
    text = fenced.group(1) if fenced else text
    if not text or len(text) > MAX_WHOLE or _REFUSALS.search(text):
        return None
    said = _YES_OR_NO.match(text)
    if said and "\n" not in text:
        return said.group(1)
    if text[0] in "[{" and '"' in text:
        return _json(text)
    text = _without_delimiters(text)
    alone = _TEXT_ALONE.fullmatch(text)
    if alone:
        return alone.group(1)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if len(lines) > 1 and "\\begin" not in text and text[:1] not in "[{":
        return _of_lines(lines) if _is_formulas(text) else None
    short = text.strip(" .*")
    if _NAME_OF_WORDS.fullmatch(short) or is_formula(short) or _QUANTITIES.fullmatch(short):
        return _value(short)
    return _value(text) if _is_formulas(text) and _STRUCTURE.search(text) else None


def _json(text: str) -> str:
    """JSON with no key of an answer, as it is; the members of a list of words or numbers."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    is_flat = isinstance(value, list) and all(
        isinstance(member, str | int | float) for member in value
    )
    return ", ".join(map(str, value)) if is_flat else text


def last_line(text: str) -> str | None:
    """The last line of a text, where that is a list or another formula of several parts."""
    line = text.rstrip().rpartition("\n")[2]
    formula = _without_delimiters(line.strip().strip("*"))
    has_parts = re.search(r"[,;&]|\b(?:or|and)\b", formula)
    return whole(line) if has_parts and _is_formulas(formula) else None


def _without_delimiters(text: str) -> str:
    """A text without the dollars and such around its formulas, unless these are money."""
    while group := GROUP.fullmatch(text.strip(" .")):
        text = inside(group).strip()
    if text.count("$") % 2 == 0 and not re.match(r"\s*\$\d[^$]*[,a-z]", text):
        return GROUP.sub(inside, text)
    return text


def _is_formulas(text: str) -> bool:
    """Whether a text has no words but "and", "or", units and names of functions."""
    for word in _WORD.findall(_TEXT.sub(" ", text)):
        is_known = word.lower() in ("and", "or", "per", *words.POWERS) or unit_name(word)
        is_name = word.startswith(words.NAMES) or len(word) == 2 or word.isupper()
        if not (is_known or is_name) or word.lower() in words.SMALL_WORDS - {"or"}:
            return False
    return True


def _value(formula: str) -> str:
    """A formula; of a sum or chain only what it ends in, of an approximated name its value."""
    sides = re.split(_EQUALS, formula)
    is_sum = len(sides) > 1 and not re.search(r"[A-Za-z\\,;<>!]", "=".join(sides[:-1]))
    is_chain = len(sides) > 2 and not re.search(r"[,;<>&]|\b(?:or|and)\b", formula)
    if is_sum or is_chain:
        return sides[-1].strip()
    if "\\approx" in formula and not re.search(r"[,;]|\b(?:or|and)\b", formula):
        return right_side(formula).strip()
    return formula


def _of_lines(lines: list[str]) -> str | None:
    """Lines of formulas: values of one name, or numbers alone, are a list; else they are steps to the last."""
    lines = [_without_delimiters(_BULLET.sub("", line)) for line in lines]
    equations = [_EQUATION.fullmatch(line) for line in lines]
    if all(equations) and len({equation.group(1) for equation in equations}) == 1:
        return " or ".join(lines)
    if all(NUMBER.fullmatch(line) for line in lines):
        return ", ".join(lines)
    return _value(lines[-1])
