"""Units: what stands after a number, or before it as a currency, and is not part of its value."""

from __future__ import annotations

import re
from fractions import Fraction

from wcse_lib.answers.words import (
    CURRENCIES,
    MEASURES,
    NO_UNITS,
    ORDINAL_PART,
    POWERS,
    SCALES,
    TRIGONOMETRIC,
    UNIT_OF_WORD,
    UNIT_SIGNS,
)

MAX_WORDS = 5  # of a unit
_CURRENCY = re.compile(rf"([-+]?)\s*({'|'.join(map(re.escape, CURRENCIES))})\s*(?=[-+.\d])(.+)")
_TAIL = re.compile(
    rf"(?:(?<![A-Za-z\\])|(?=“))(?:“[^“”]*”|[A-Za-z ./{UNIT_SIGNS}])+(\^\s*\{{?\s*[23]\s*\}}?)?$"
)
_PIECE = re.compile(rf"“[^”]*”|[A-Za-z][A-Za-z./]*|[{UNIT_SIGNS}]")
_LETTER = re.compile(r"[-+\d.,/]+ [msghlL]")  # elsewhere a single letter is a variable
_AFTER_NUMBER = re.compile(  # not `5abc`, `x+abc`, `\pi abc`
    rf"(?:[\d)}}!”.,{UNIT_SIGNS}]|(?<![A-Za-z\\])[A-Za-z]{{2,}}) $"
)
_OPERATOR = re.compile(r"[-+*^=] *$")
_ORDINAL_PART = re.compile(ORDINAL_PART)


def split_unit(text: str) -> tuple[str, str, Fraction]:
    """(text without its unit, canonical unit, scale of a word such as "million").

    >>> split_unit("5 million dollars")
    ('5', 'dollar', Fraction(1000000, 1))
    """
    currency = _CURRENCY.match(text)
    if currency:
        sign, name, amount = currency.groups()
        rest, _, scale = split_unit(sign + amount)
        return rest, CURRENCIES[name], scale
    whole = text, "", Fraction(1)
    tail = _TAIL.search(text)
    if not tail:
        return whole
    exponent = re.sub(r"\D", "", tail.group(1) or "")
    names: list[str] = []
    scale, start = Fraction(1), len(text)
    # from the end, as long as the pieces are words of a unit
    for piece in reversed(list(_PIECE.finditer(tail.group()))):
        place = tail.start() + piece.start()
        if not _belongs(piece.group(), text, place):
            break
        for word in reversed(_words(piece.group())):
            times = SCALES.get(word, SCALES.get(word.removesuffix("s")))
            if word in POWERS:
                exponent = POWERS[word]
            elif times:
                scale *= times
            else:
                names.insert(0, _canonical(word))
        start = place
    if not 0 < start < len(text) or (exponent and not names) or len(names) > MAX_WORDS:
        return whole
    if _OPERATOR.search(text[:start]):
        return whole
    unit = _joined(names)
    return text[:start].rstrip("/ ").lstrip(), unit + exponent if unit else "", scale


def _joined(names: list[str]) -> str:
    if names[:1] == ["%"]:
        return "%"  # 10% of the people
    return " ".join(filter(None, names)).replace(" per ", "/").removeprefix("deg ")


def _words(piece: str) -> list[str]:
    return piece.strip("“”. ").lower().split()


def _canonical(word: str) -> str:
    """One name for a unit in words, signs or plural."""
    parts = []
    for part in word.split("/"):
        singular = part.removesuffix("s")
        parts.append(UNIT_OF_WORD.get(part, UNIT_OF_WORD.get(singular, singular)))
    return "/".join(parts)


def _belongs(piece: str, text: str, place: int) -> bool:
    """Whether a piece of text, which starts at `place`, is part of a unit and neither a variable nor a number word."""
    words = _words(piece)
    if not words or any(map(_ORDINAL_PART.fullmatch, words)):
        return False
    if not NO_UNITS.isdisjoint(words) or any(word.removesuffix("s") in NO_UNITS for word in words):
        return False
    if piece == "°" and re.search(TRIGONOMETRIC, text):
        return False
    if piece[0] == "“" or piece in UNIT_SIGNS or _LETTER.fullmatch(text):
        return True
    name = piece.strip("“”. ")
    if name in ("of", "sq", "cu"):
        return True
    return len(name) > 1 and _is_named(name, text, place)


def _is_named(name: str, text: str, place: int) -> bool:
    """Whether each part of a word such as `miles/hour` is a measure, or may be any noun, as it stands after a number."""
    before = text[:place]
    is_free = _AFTER_NUMBER.search(before)
    is_free = is_free or (len(name) > 4 and before[-1:].isdigit())  # 12apples
    for part in name.lower().split("/"):
        is_noun = is_free and len(part) > 2
        if not is_noun and part not in MEASURES and part.removesuffix("s") not in MEASURES:
            return False
    return True
