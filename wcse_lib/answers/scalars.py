"""Reads what has no structure: times, numbers in a base, words, single letters, and expressions with units.

A reader is a pattern and a function of its match in the words of a text: it gives an answer, or None for the next one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product

from wcse_lib.answers.answer import Answer, Time, expression
from wcse_lib.answers.expressions import parse
from wcse_lib.answers.nodes import Unread
from wcse_lib.answers.notation import without_marks
from wcse_lib.answers.numerals import number_in_words
from wcse_lib.answers.units import split_unit
from wcse_lib.answers.words import ALIKE, CASELESS, NAMES, TRIGONOMETRIC

MAX_SIGNS = 3  # plus-minus signs in one expression
_FUNCTION = re.compile(rf"(?:{'|'.join(NAMES)})[A-Za-z]?")  # sin x, not since
_MODULUS = re.compile(r"(.+) \\pmod\{(\d+)\}")
_PLUS_MINUS = re.compile(r"\\(pm|mp)(?![a-z])")
_REPEATING = re.compile(
    r"(-?)(\d*)\.(\d*?)(?:\\(?:overline|bar|dot)\s*\{?\s*(\d+)\s*\}?|\((\d+)\)|(\d)\6\6+\.\.\.)"
)
_TWO_DOTS = re.compile(r"\\dot\s*\{?\s*(\d)\s*\}?(\d*)\\dot\s*\{?\s*(\d)\s*\}?")
_SYNONYMS = {word: meaning for meaning, words in ALIKE.items() for word in words.split("|")}
_HEX = re.compile(r"0[xX]([\dA-Fa-f]+)|0[bB]([01]+)|0[oO]([0-7]+)")


def read_words(text: str) -> Answer | None:
    """The answer of the first reader that has one, None when a text is no more than an expression."""
    words = without_marks(text).strip()
    for pattern, reader in _READERS:
        match = pattern.fullmatch(words)
        answer = reader(match, text) if match else None
        if answer is not None:
            return answer
    return None


def _time(match: re.Match, text: str) -> Answer | None:
    hour_text, minute_text, given_half = match.groups()
    hour, minute_text = int(hour_text), minute_text or "00"
    if hour > 24 or minute_text >= "60":
        return None
    half = (given_half or "").lower()
    if 12 < hour < 24:  # says it by itself
        half = half or "p"
    elif hour in (0, 24):
        half = half or "a"
    may_be_ratio = not given_half and minute_text[0] != "0"
    ratio = (read_scalar(hour_text), read_scalar(minute_text)) if may_be_ratio else ()
    return Answer("time", ratio, Time(hour % 12, int(minute_text), half, bool(given_half), hour))


def _noon(match: re.Match, text: str) -> Answer:
    half = "p" if match.group(1).lower() == "noon" else "a"
    return Answer("time", (), Time(0, 0, half, True, 12))


def _based(match: re.Match, text: str) -> Answer | None:
    digits, base = match.group(1) or match.group(2), match.group(3) or match.group(4)
    base = str(number_in_words(base) or base)
    if base == "10":
        return read_scalar(digits)
    # of letters alone only two or more are a number: a_{16} is a term
    if digits.isalpha() and (len(digits) < 2 or base != "16"):
        return None
    return Answer("base", tag=(re.sub(r"^0+(?=[^.])", "", digits.upper()), base))


def _prefixed(match: re.Match, text: str) -> Answer:
    """0xFF, 0b101 and 0o17."""
    base = {1: "16", 2: "2", 3: "8"}[match.lastindex]
    digits = match.group(match.lastindex).upper().lstrip("0") or "0"
    return Answer("base", tag=(digits, base))


def _number_word(match: re.Match, text: str) -> Answer | None:
    number = number_in_words(match.group())
    return None if number is None else expression(number)


def _letter(match: re.Match, text: str) -> Answer | None:
    """A choice or a name: a capital, or a letter given as text."""
    letter = match.group(1)
    is_name = letter.isupper() or ("“" in text and letter not in "ei")
    return expression(letter) if is_name and letter.isalpha() and len(match.group()) < 9 else None


def _plain_words(match: re.Match, text: str) -> Answer | None:
    words, is_text = match.group(), "“" in text
    if not is_text and (not re.search("[A-Za-z]{3}|^[Nn][Oo]$", words) or _is_formula(words)):
        return None
    if re.fullmatch(r"[A-Z]{2,4}'*", words) and words.lower() not in {*CASELESS, *_SYNONYMS}:
        return Answer("text", tag=words)  # `ABC` is not `abc`
    plain = re.sub(r"^(?:the|an?) ", "", words.lower())
    if plain in ("noon", "midday", "midnight"):
        return None
    plain = re.sub(r"(?<=[a-z]{4})-(?=[a-z])|(?<=[a-z])-(?=[a-z]{4})", " ", plain)
    plain = re.sub(r"[^a-z'-]+", " ", plain).strip()
    return Answer("text", tag=_SYNONYMS.get(plain, plain))


def _is_formula(words: str) -> bool:
    """Whether words are functions and constants with their letters, as `sin x`."""
    rest = _FUNCTION.sub("\0", words)
    return "\0" in rest and not re.search(r"[A-Za-z]{3}|[A-Za-z]\0|\0[A-Za-z]", rest)


def _numbered_words(match: re.Match, text: str) -> Answer | None:
    """Words that end in a number which counts nothing: June 20."""
    words = match.group()
    is_formula = _FUNCTION.search(words) or split_unit(text)[1]
    return None if is_formula else Answer("text", tag=words.lower())


_READERS = (
    (re.compile(r"(\d{1,2})(?::(\d\d))?\s*(?:([ap])\.?\s?m\.?|(?<=:\d\d))", re.I), _time),
    (re.compile(r"(?:12(?::00)? ?)?(noon|midnight)", re.I), _noon),
    (_HEX, _prefixed),
    (
        re.compile(
            r"(?:(-?\d[\dA-Fa-f.]*|[A-F]+|[a-f]+)|\((\d[\dA-Fa-f]*)\)(?= ?_))"
            r"\s*(?:_\s*\{?\s*(?:base )?([\da-z]+)\s*\}?|\(?base ?([\da-z]+)\)?)"
        ),
        _based,
    ),
    (re.compile("(?:[A-Za-z]{3,}|an?)(?:[ -][A-Za-z]+)*|[〇-龥]+"), _number_word),
    (re.compile(r"[().: ]*([^\W\d_])[().: ]*"), _letter),
    (re.compile(r"[A-Za-z][A-Za-z'. -]*"), _plain_words),
    (re.compile(r"[A-Za-z]{3,}(?: [A-Za-z]+)* \d[\w ]*"), _numbered_words),
)


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
    text = _TWO_DOTS.sub(r"\\dot{\1\2\3}", text)
    if _PLUS_MINUS.search(text):
        nodes = [("*", parse(one), scale) for one in _with_signs(text)]
        return Answer("list", tuple(expression(node, unit=unit) for node in nodes))
    repeating = _REPEATING.fullmatch(text)
    if repeating:
        return expression(_repeating_value(*repeating.groups()) * scale, unit=unit)
    node = parse(text)
    return expression(node if scale == 1 else ("*", node, scale), text, unit)


def _with_signs(text: str) -> Iterator[str]:
    """The text with each choice of its plus-minus signs, which are free unless a minus-plus sign links them."""
    signs = _PLUS_MINUS.findall(text)
    if len(signs) > MAX_SIGNS:
        raise Unread("too many plus-minus signs")
    choices = [choice[::-1] for choice in product("+-", repeat=len(signs))]
    if "mp" in signs:
        upper = ["+" if sign == "pm" else "-" for sign in signs]
        lower = ["-" if sign == "pm" else "+" for sign in signs]
        choices = [upper, lower]
    for choice in choices:
        left = iter(choice)
        yield _PLUS_MINUS.sub(lambda _, left=left: next(left), text)


def _repeating_value(sign: str, whole: str, head: str, *cycles: str | None) -> Fraction:
    cycle, start = next(filter(None, cycles)), (whole or "0") + head
    cycle_value = int(start + cycle) - int(start)
    value = Fraction(cycle_value, 10 ** len(head) * (10 ** len(cycle) - 1))
    return -value if sign else value
