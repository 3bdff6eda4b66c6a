"""Units: what stands after a number, or before it as a currency, and is not part of its value."""

from __future__ import annotations

import re
from fractions import Fraction

from wcse_lib.answers.words import (
    CURRENCIES,
    MEASURES,
    NO_UNITS,
    PARTS,
    POWERS,
    SCALES,
    TRIGONOMETRIC,
    UNIT_SIGNS,
    UNITS,
)

MAX_WORDS = 5  # of a unit
_CURRENCY = re.compile(rf"([-+]?)\s*({'|'.join(map(re.escape, CURRENCIES))})\s*(?=[-+.\d])(.+)")
_TAIL = re.compile(
    rf"(?:(?<![A-Za-z\\])|(?=“))(?:“[^“”]*”|[A-Za-z ./{UNIT_SIGNS}])+(\^\s*\{{?\s*[23]\s*\}}?)?$"
)
_PIECE = re.compile(rf"“[^”]*”|[A-Za-z][A-Za-z./]*|[{UNIT_SIGNS}]")
_LETTER = re.compile(r"[-+\d.,/]+ [msghlL]")  # elsewhere a single letter is a variable
# A noun may follow: not `5abc`, `x+abc`, `\pi abc`.
_NUMBER = re.compile(rf"(?:[\d)}}!”.,{UNIT_SIGNS}]|(?<![A-Za-z\\])[A-Za-z]{{2,}}) $")
_OPERATOR = re.compile(r"[-+*^=] *$")
_PART = re.compile(PARTS)


def split_unit(text: str) -> tuple[str, str, Fraction]:
    """(text without its unit, canonical unit, scale of a word such as "million").

    >>> split_unit("5 million dollars")
    ('5', 'dollar', Fraction(1000000, 1))
    """
    currency = _CURRENCY.match(text.replace("US $", "US$"))
    if currency:
        sign, name, amount = currency.groups()
        rest, _, scale = split_unit(sign + amount)
        return rest, CURRENCIES[name], scale
    tail = _TAIL.search(text)
    if not tail:
        return text, "", Fraction(1)
    exponent = re.sub(r"\D", "", tail.group(1) or "")
    names, scale, start = [], Fraction(1), len(text)
    # from the end, as long as the pieces are words of a unit
    for piece in reversed(list(_PIECE.finditer(tail.group()))):
        place = tail.start() + piece.start()
        words = piece.group().strip("“”. ").lower().split()
        if not _is_unit(piece.group(), words, text, text[:place]):
            break
        for word in reversed(words):
            times = SCALES.get(word, SCALES.get(word.removesuffix("s")))
            if word in POWERS:
                exponent = POWERS[word]
            elif times:
                scale *= times
            else:
                names.insert(0, _canonical(word))
        start = place
    number = text[:start]
    is_whole = not number or number == text or _OPERATOR.search(number)
    if is_whole or (exponent and not names) or len(names) > MAX_WORDS:
        return text, "", Fraction(1)
    unit = " ".join(filter(None, names)).replace(" per ", "/").removeprefix("deg ")
    if names[:1] == ["%"]:
        unit = "%"  # 10% of the people
    return number.rstrip("/ ").lstrip(), unit + exponent if unit else "", scale


def _canonical(word: str) -> str:
    """One name for the words, signs, singular and plural of a unit."""
    singulars = [UNITS.get(part, part.removesuffix("s")) for part in word.split("/")]
    return "/".join(UNITS.get(singular, singular) for singular in singulars)


def _is_unit(piece: str, words: list[str], text: str, before: str) -> bool:
    """Whether a piece of a text and its words are part of a unit, neither a variable nor a number in words."""
    if not words or any(map(_PART.fullmatch, words)):
        return False
    if not NO_UNITS.isdisjoint(words) or any(word.removesuffix("s") in NO_UNITS for word in words):
        return False
    if piece == "°" and re.search(TRIGONOMETRIC, text):
        return False
    if piece[0] == "“" or piece in UNIT_SIGNS or _LETTER.fullmatch(text):
        return True
    name = piece.strip("“”. ")
    if len(name) == 1 or name in ("of", "sq", "cu"):
        return len(name) > 1
    is_free = _NUMBER.search(before) or (len(name) > 4 and before[-1:].isdigit())  # 12apples
    for part in name.lower().split("/"):
        is_noun = is_free and len(part) > 2
        if not is_noun and part not in MEASURES and part.removesuffix("s") not in MEASURES:
            return False
    return True
