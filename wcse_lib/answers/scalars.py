"""Reads what has no structure: times, numbers in a base, words, single letters, and expressions with units."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product

from wcse_lib.answers.answer import Answer, Time, expression
from wcse_lib.answers.expressions import Unread, parse
from wcse_lib.answers.units import split_unit
from wcse_lib.answers.words import CASELESS, NAMES, NUMBERS, TRIGONOMETRIC

MAX_SIGNS = 3  # plus-minus signs in one expression
_TIME = re.compile(r"(\d{1,2})(?::(\d\d))?\s*(?:([ap])\.?\s?m\.?|(?<=:\d\d)())", re.I)
_BASED = re.compile(
    r"(-?\d[\dA-Fa-f.]*)\s*(?:_\s*\{?\s*(?:base )?([\da-z]+)\s*\}?|\(?base ?([\da-z]+)\)?)"
)
_WORDS = re.compile(r"[A-Za-z][A-Za-z'. -]*")
_DATED = re.compile(r"[A-Za-z]{3,}(?: [A-Za-z]+)* \d[\w ]*")
_FUNCTION = re.compile(rf"(?:{'|'.join(NAMES)})[A-Za-z]?")  # sin x, not since
_MODULUS = re.compile(r"(.+) \\pmod\{(\d+)\}")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-z])")
_REPEATING = re.compile(
    r"(-?)(\d*)\.(\d*?)(?:\\(?:overline|bar|dot)\s*\{?\s*(\d+)\s*\}?|(\d)\5\5+\.\.\.)"
)


# ---------------------------------------------------------------- readers of a text and its words: an answer, or None


def read_time(text: str, words: str) -> Answer | None:
    match = _TIME.fullmatch(words)
    if not match:
        return None
    hour_text, minute_text, half = match.groups()[:3]
    hour, minute_text = int(hour_text), minute_text or "00"
    if hour > 24 or minute_text >= "60":
        return None
    may_be_ratio = not half and minute_text[0] != "0"
    ratio = (read_scalar(hour_text), read_scalar(minute_text)) if may_be_ratio else ()
    shown_half = half.lower() if half else _half_of(hour)
    return Answer("time", ratio, Time(hour % 12, int(minute_text), shown_half, bool(half), hour))


def _half_of(hour: int) -> str:
    """The half of the day that an hour of 24 says by itself."""
    if 12 < hour < 24:
        return "p"
    return "" if hour % 24 else "a"


def read_based(text: str, words: str) -> Answer | None:
    match = _BASED.fullmatch(re.sub(r"^\((\w+)\)(?= ?_)", r"\1", words))
    if not match:
        return None
    digits = match.group(1)
    name = match.group(2) or match.group(3)
    base = str(NUMBERS.get(name, name))
    if base == "10":
        return read_scalar(digits)
    return Answer("base", tag=(re.sub(r"^0+(?=[^.])", "", digits.upper()), base))


def read_number_word(text: str, words: str) -> Answer | None:
    number = NUMBERS.get(words.lower())
    return None if number is None else read_scalar(str(number))


def read_letter(text: str, words: str) -> Answer | None:
    """A choice or a name: a capital, or a letter given as text."""
    letter = words.strip("().: ") if len(words) < 9 else ""
    if len(letter) != 1 or not letter.isalpha() or letter in "ei":
        return None
    return expression(letter) if letter.isupper() or "“" in text else None


def read_words(text: str, words: str) -> Answer | None:
    is_text = "“" in text
    if not _WORDS.fullmatch(words) or not (is_text or re.search("[A-Za-z]{3}|^[Nn][Oo]$", words)):
        return None
    if not is_text and _is_formula(words):
        return None
    if re.fullmatch(r"[A-Z]{2,4}'*", words) and words.lower() not in CASELESS:
        return Answer("text", tag=words)  # `ABC` is not `abc`
    plain = re.sub(r"^(?:the|an?) ", "", words.lower())
    plain = re.sub(r"(?<=[a-z]{4})-(?=[a-z])|(?<=[a-z])-(?=[a-z]{4})", " ", plain)
    return Answer("text", tag=re.sub(r"[^a-z'-]+", " ", plain).strip())


def _is_formula(words: str) -> bool:
    """Whether words are functions and constants with their letters, as `sin x`."""
    rest = _FUNCTION.sub("\0", words)
    return "\0" in rest and not re.search(r"[A-Za-z]{3}|[A-Za-z]\0|\0[A-Za-z]", rest)


def read_dated(text: str, words: str) -> Answer | None:
    """Words that end in a number which counts nothing, as `June 20`."""
    if not _DATED.fullmatch(words) or _FUNCTION.search(words) or split_unit(text)[1]:
        return None
    return Answer("text", tag=words.lower())


# ---------------------------------------------------------------- expressions


def read_scalar(text: str) -> Answer:
    """An expression with its unit, or with its modulus for a unit; plus-minus signs give the list of its values."""
    modulus = _MODULUS.fullmatch(text)
    if modulus:
        answer = read_scalar(modulus.group(1))
        is_bare = answer.kind == "expr" and not answer.unit
        return replace(answer, unit=f"mod {int(modulus.group(2))}") if is_bare else answer
    text, unit, scale = split_unit(text)
    if "°" in text and not unit and not re.search(TRIGONOMETRIC, text):
        text, unit = text.replace("°", " "), "deg"  # 180°/7
    if "\\" in text and _PLUS_MINUS.search(text):
        values = [("*", parse(one), scale) for one in _both_signs(text)]
        return Answer("list", tuple(expression(value, unit=unit) for value in values))
    repeating = _REPEATING.fullmatch(text)
    if repeating:
        return expression(_repeating_value(repeating) * scale, unit=unit)
    node = parse(text)
    return expression(node if scale == 1 else ("*", node, scale), text, unit)


def _both_signs(text: str) -> Iterator[str]:
    """The text with each choice of its plus-minus signs, which are free unless a minus-plus sign links them."""
    signs = _PLUS_MINUS.findall(text)
    if len(signs) > MAX_SIGNS:
        raise Unread("too many plus-minus signs")
    if "mp" in signs:
        choices = ["".join("+-"[(sign == "mp") ^ k] for sign in signs) for k in range(2)]
    else:
        choices = ["".join(reversed(choice)) for choice in product("+-", repeat=len(signs))]
    for choice in choices:
        left = iter(choice)
        yield _PLUS_MINUS.sub(lambda _, left=left: next(left), text)


def _repeating_value(match: re.Match) -> Fraction:
    sign, whole, head, marked, repeated = match.groups()
    cycle = marked or repeated
    start = (whole or "0") + head
    numerator = int(start + cycle) - int(start)
    value = Fraction(numerator, 10 ** len(head) * (10 ** len(cycle) - 1))
    return -value if sign else value
