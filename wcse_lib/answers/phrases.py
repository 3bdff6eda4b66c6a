"""Reads quantities that are more than a number and a unit: numbers in words, and one quantity in several units."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction

from wcse_lib.answers.answer import Answer, Mixed, expression
from wcse_lib.answers.languages import SCALE_OF_NUMERAL
from wcse_lib.answers.measures import MIXED_KINDS, measure
from wcse_lib.answers.nodes import Unread
from wcse_lib.answers.notation import without_marks
from wcse_lib.answers.numerals import joined_digits, number_at_start, number_in_words
from wcse_lib.answers.scalars import read_scalar
from wcse_lib.answers.units import read_unit
from wcse_lib.answers.words import NO_UNITS

MAX_NOUN = 3  # words after a number in words
_NUMERAL = re.compile(
    rf"(-?\d[\d,.]*) ?({'|'.join(map(re.escape, SCALE_OF_NUMERAL))})((?:[^\W\d_A-Za-z]| [^\W\d_]*).*)?"
)
_WITH_WORDS = re.compile(r"(.+?) ?\(([^()]+)\)((?: [a-z]+)*)")
_PART = r"(\d[\d.]*) ?(“[^”]*”|[A-Za-z]+)\.?"
_JOINT = r"(?:,? ?(?:“and”|and)? ?|, ?)"
_PARTS = re.compile(rf"(-?){_PART}(?:{_JOINT}{_PART}){{1,3}}")
_ANGLE = re.compile(
    r"(-?\d+) ?(?:°|“?degrees?”?)(?: ?(\d+(?:\.\d+)?) ?(?:'|“?minutes?”?|“min”))?"
    r"(?: ?(\d+(?:\.\d+)?) ?(?:''|\"|“?seconds?”?))?"
)
_RATIO = re.compile(
    r"(?:(?:the|an?|in the|in an?) )?ratio ?(?:of|is|as|=|:)? ?(\d[\d.]*(?: ?: ?\d[\d.]*)+)", re.I
)
_FEET = re.compile(r"(\d+)' ?(\d+(?:\.\d+)?)(?:''|\")")


def read_phrase(text: str) -> Answer | None:
    """The quantity that a whole text is, or None.

    >>> read_phrase("2 hours 30 minutes").node, read_phrase("twenty-one apples").unit
    (Fraction(150, 1), 'apple')
    """
    return (
        _angle(text)
        or _feet(text)
        or _ratio(text)
        or _mixed(text)
        or _with_numeral(text)
        or _with_words(text)
        or _in_words(text)
    )


def _with_numeral(text: str) -> Answer | None:
    """A number with the numeral of another language for a power of ten: 3万."""
    match = _NUMERAL.fullmatch(text)
    if not match:
        return None
    number, numeral, noun = match.groups()
    scale = SCALE_OF_NUMERAL[numeral]
    answer = read_scalar(f"{joined_digits(number)}{noun or ''}")
    return replace(answer, items=(answer.node * scale,)) if _is_rational(answer) else None


def _is_rational(answer: Answer) -> bool:
    return answer.kind == "expr" and isinstance(answer.node, Fraction)


def _in_words(text: str) -> Answer | None:
    """A number in words with what it counts."""
    words = without_marks(text)
    found = number_at_start(words)
    if not found:
        return None
    number, noun = found
    nouns = noun.lower().split()
    if len(nouns) > MAX_NOUN or not NO_UNITS.isdisjoint(nouns) or nouns[:1] == ["of"]:
        return None
    if not re.fullmatch(r"[A-Za-z ./]*", noun):
        return None
    unit = read_unit(noun)
    return unit and expression(number * unit.scale, unit=unit.name)


def _with_words(text: str) -> Answer | None:
    """A number and the same one in words: 12 (twelve). Raises Unread where they differ."""
    match = _WITH_WORDS.fullmatch(without_marks(text))
    if not match:
        return None
    outside, inside, noun = match.groups()
    values = [number_in_words(part) for part in (outside, inside)]
    if (values[0] is None) == (values[1] is None):
        return None
    digits, value = (inside, values[0]) if values[1] is None else (outside, values[1])
    answer = None
    with suppress(Unread):
        answer = read_scalar(digits + noun)
    if answer is None or not _is_rational(answer):
        return None
    if answer.node != value:
        raise Unread("a number beside another one in words")
    return answer


def _mixed(text: str) -> Answer | None:
    """One quantity in several units of a kind, from the largest to the smallest, as a number of the smallest."""
    match = _PARTS.fullmatch(text)
    if not match:
        return None
    total, units = Fraction(0), []
    for number, word in re.findall(_PART, text):
        unit = read_unit(without_marks(word))
        if unit is None or unit.scale != 1:
            return None
        units.append(unit.name)
        total += Fraction(number.rstrip(".")) * measure(unit.name).size
    sizes = [measure(unit) for unit in units]
    is_falling = all(one.size > other.size for one, other in zip(sizes, sizes[1:]))
    kinds = {size.kind for size in sizes}
    if len(kinds) > 1 or kinds.isdisjoint(MIXED_KINDS) or not is_falling:
        return None
    sign = -1 if match.group(1) else 1
    return expression(sign * total / sizes[-1].size, Mixed(tuple(units)), units[-1])


def _angle(text: str) -> Answer | None:
    """Degrees with minutes and seconds."""
    match = _ANGLE.fullmatch(text)
    if not match or not (match.group(2) or match.group(3)):
        return None
    whole, minutes, seconds = match.groups()
    part = Fraction(minutes or 0) / 60 + Fraction(seconds or 0) / 3600
    sign = -1 if whole.startswith("-") else 1
    return expression(int(whole) + sign * part, unit="deg")


def _ratio(text: str) -> Answer | None:
    """What is called a ratio, and thus no time: ratio 10:30."""
    match = _RATIO.fullmatch(without_marks(text)) if ":" in text else None
    return match and Answer("ratio", tuple(map(read_scalar, match.group(1).split(":"))))


def _feet(text: str) -> Answer | None:
    r"""Feet and inches: 5'10''."""
    match = _FEET.fullmatch(text)
    if not match:
        return None
    inches = 12 * int(match.group(1)) + Fraction(match.group(2))
    return expression(inches, Mixed(("ft", "in")), "in")
