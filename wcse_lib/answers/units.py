"""Finds units: what stands after a number, or before it as a currency, and is not part of its value."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from wcse_lib.answers.measures import powers, product, unit_name
from wcse_lib.answers.words import (
    CURRENCIES,
    NO_UNITS,
    PARTS,
    POWERS,
    SCALES,
    TRIGONOMETRIC,
    UNIT_SIGNS,
)

MAX_WORDS = 5  # of a unit
_CURRENCY = re.compile(rf"([-+]?)\s*({'|'.join(map(re.escape, CURRENCIES))})\s*(?=[-+.\d])(.+)")
_EXPONENT = r"(?: ?\^ ?\{? ?-?\d ?\}?)?"
_NAME = rf"(?:“[^“”]*”|[^\W\d_](?:[^\W\d_]|\.)*|[{UNIT_SIGNS}]){_EXPONENT}"
_PIECE = re.compile(rf"{_NAME}(?: ?[*/] ?(?:\( ?)?{_NAME}(?: ?\))?)*[ .]*")
# From the number on; a letter alone is elsewhere a variable.
_LETTER = re.compile(
    r"-?[\d.,]+(?: ?(?:\*|x) ?10 ?\^ ?(?:\{ ?-?\d+ ?\}|-?\d+))? [msghlLNJWVACKFTMΩ]|-?[\d.,]+[eE]-?\d+ ?[A-Z]"
)
# A noun may follow: not `5abc`, `x+abc`, `\pi abc`.
_NUMBER = re.compile(rf"(?:[\d)}}!”.,{UNIT_SIGNS}]|(?<![A-Za-z\\])[A-Za-z]{{2,}}) $")
_OPERATOR = re.compile(r"[-+*^=] *$")
_PART = re.compile(PARTS)
_VARIABLE = re.compile(
    r"(?<![A-Za-z\\])[A-Za-z](?![A-Za-z])|\\(?!frac|sqrt|pi(?![a-z])|binom)[a-z]"
)
_TOKEN = re.compile(r"\^ ?\{? ?(-?\d) ?\}?|((?:[^\W\d_]|['$])+|[*/()%€£¥¢°])")
_QUOTIENT = re.compile(r"(?<=[\d)}]) ?\\frac ?\{([^{}]+(?:\{\d\})?)\} ?\{([^{}]+(?:\{\d\})?)\}$")


class Unit(NamedTuple):
    name: str  # as `measures.product` spells it
    scale: Fraction  # of words such as "million"


# Of what these are a share or an amount may be left out: a noun after the mark.
NOUNS_FOLLOW = {"%", *CURRENCIES.values()}
NOUN_MARK = ":"
NO_UNIT = Unit("", Fraction(1))


def split_unit(text: str) -> tuple[str, str, Fraction]:
    """(text without its unit, canonical unit, scale of a word such as "million").

    >>> split_unit("5 million dollars")
    ('5', 'dollar', Fraction(1000000, 1))
    """
    currency = _CURRENCY.match(text.replace("US $", "US$"))
    if currency:
        sign, name, amount = currency.groups()
        rest, more, scale = split_unit(sign + amount)
        return rest, _named({CURRENCIES[name]: 1} | powers(more)), scale
    text = _QUOTIENT.sub(_quotient, text)
    start = len(text)
    # from the end, as long as the pieces are words of a unit
    for piece in reversed(list(_PIECE.finditer(text))):
        if piece.end() != start or not _is_unit(piece.group(), text, text[: piece.start()]):
            break
        start = piece.start()
    number = text[:start]
    unit = read_unit(text[start:])
    if not number or number == text or _OPERATOR.search(number) or unit is None:
        return text, "", Fraction(1)
    return number.rstrip("/ ").lstrip(), unit.name, unit.scale


def _quotient(match: re.Match) -> str:
    r"""A fraction of known units as words: `\frac{m}{s^2}`."""
    names = [re.findall(r"[A-Za-zΩμ]+", part) for part in match.groups()]
    is_unit = all(names) and all(map(unit_name, [*names[0], *names[1]]))
    above, below = (part.replace("“", "").replace("”", "") for part in match.groups())
    return f" “{above}/({below})”" if is_unit else match.group()


@lru_cache(2048)
def read_unit(text: str) -> Unit | None:
    """The unit that words or signs are: `m s^{-1}`, "meters per second"; None where there are too many or none.

    >>> read_unit("kg m/s^2").name, read_unit("miles per hour").name
    ('kg*m*s^-2', 'h^-1*mi')
    """
    factors: dict[str, int] = {}
    scale, sign, next_power, last = Fraction(1), 1, 1, ""
    n_open = n_words = 0
    for exponent, word in _TOKEN.findall(text):
        lower = word.lower()
        is_scale = not factors and (SCALES.get(lower) or SCALES.get(lower.removesuffix("s")))
        if exponent or (lower in ("squared", "cubed") and last):
            power = int(exponent or POWERS[lower])
            factors[last] = factors.get(last, 0) + _sign_of(factors, last) * (power - 1)
        elif is_scale:
            scale *= is_scale
        elif lower in POWERS:
            next_power = int(POWERS[lower])
        elif lower in ("/", "per"):
            sign = -1
        elif lower in ("(", ")"):
            n_open += 1 if lower == "(" else -1
        elif lower == "*":
            sign = sign if n_open else 1
        elif lower == "of" and any(map(unit_name, factors)):
            break  # 10 m of wire
        elif word:
            for name, power in _factors(word):
                factors[name] = factors.get(name, 0) + sign * power * next_power
                last = name
            next_power = 1
            n_words += 1
    if n_words > MAX_WORDS or (next_power > 1 and not factors):
        return None
    return Unit(_named(factors), scale)


def _sign_of(factors: dict[str, int], name: str) -> int:
    return -1 if factors.get(name, 0) < 0 else 1


def _factors(word: str) -> list[tuple[str, int]]:
    """A word's unit as products of powers; a noun in its singular."""
    name = unit_name(word.strip("."))
    if name is None:
        lower = word.lower()
        name = re.sub(r"(?<=ch|sh)es$|(?<=[xs])es$", "", lower) if len(lower) > 4 else lower
        name = name if name != lower else lower.removesuffix("s")
    return list(powers(name).items()) if name else []


def _named(factors: dict[str, int]) -> str:
    for base in NOUNS_FOLLOW & factors.keys():
        others = {name: power for name, power in factors.items() if name != base}
        is_rate = any(power < 0 for power in others.values())  # dollars an hour
        if base == "%" or not is_rate:
            return base + (NOUN_MARK + product(others) if others else "")
    if "celsiu" in factors or "fahrenheit" in factors:
        factors.pop("deg", None)
    return product(factors)


def _is_unit(piece: str, text: str, before: str) -> bool:
    """Whether a piece of a text is part of a unit, neither a variable nor a number in words."""
    words = re.sub(r"[“”.*/^{}()\d-]", " ", piece).lower().split()
    if not words or any(map(_PART.fullmatch, words)):
        return False
    if not NO_UNITS.isdisjoint(words) or any(word.removesuffix("s") in NO_UNITS for word in words):
        return False
    if "°" in piece and re.search(TRIGONOMETRIC, text):
        return False
    if piece[0] == "“" or piece.strip() in UNIT_SIGNS or _LETTER.fullmatch(text):
        return True
    names = re.sub(r"[“”^{}()\d-]", " ", piece).replace(".", " ").split()
    names = [name for part in names for name in re.split(r"[*/]+", part) if name]
    if not names or (len(names) == 1 and re.fullmatch("[A-Za-zΩμ]", names[0])):
        return False
    if names[0] in ("of", "sq", "cu", "per") or names[0].lower() in POWERS:
        return True
    is_free = _NUMBER.search(before) or (len(names[0]) > 4 and before[-1:].isdigit())
    return all(_may_be_unit(name, bool(is_free), before) for name in names)


def _may_be_unit(name: str, is_free: bool, before: str) -> bool:
    """Whether a name without marks is a noun, where one may stand, or a unit: a short one only after a number."""
    if (is_free and len(name) > 2) or not name.isascii():
        return True
    if name.lower() in SCALES or name.lower() in POWERS:
        return True
    if unit_name(name) is None:
        return False
    is_common = name in _COMMON or len(name) > 2
    return is_common or not _VARIABLE.search(before)


# After a formula with variables these are units; `mg` and `ms` are products there.
_COMMON = set("cm km mm kg ft in yd mi lb oz hr ml".split())
