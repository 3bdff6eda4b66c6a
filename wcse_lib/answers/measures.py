"""Units as products of powers: one name for the spellings of each, and their size in units of the same kind."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from wcse_lib.answers.words import inverted


class Measure(NamedTuple):
    """How large a unit is, in units of the `kind` that it shares with all that it can be compared with."""

    size: Fraction
    kind: str


# Spellings of a unit: signs keep their case, words do not; of words the singular.
_SPELLINGS = {
    "m": "m meter metre",
    "in": "in inch inche",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "nmi": "nmi",
    "g": "g gram gramme",
    "t": "tonne",
    "lb": "lb lbs pound",
    "oz": "oz ounce",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour",
    "day": "day",
    "wk": "wk week",
    "month": "month mo",
    "yr": "yr year",
    "decade": "decade",
    "century": "century centurie",
    "l": "l L liter litre",
    "gal": "gal gallon",
    "qt": "qt quart",
    "pt": "pt pint",
    "cup": "cup",
    "tbsp": "tbsp tablespoon",
    "tsp": "tsp teaspoon",
    "ha": "ha hectare",
    "acre": "acre",
    "A": "A amp ampere",
    "K": "K kelvin",
    "mol": "mol mole",
    "M": "M molar",
    "N": "N newton",
    "J": "J joule",
    "W": "W watt",
    "Wh": "Wh",
    "Pa": "Pa pascal",
    "bar": "bar",
    "atm": "atm atmosphere",
    "Hz": "Hz hertz",
    "C": "C coulomb",
    "V": "V volt",
    "F": "F farad",
    "Ω": "Ω ohm",
    "T": "T tesla",
    "Wb": "Wb weber",
    "H": "H henry henrie",
    "eV": "eV electronvolt",
    "cal": "cal calorie",
    "bit": "bit",
    "byte": "byte",
    "dollar": "dollar usd buck $ us$",
    "euro": "euro eur €",
    "gbp": "gbp £ quid",
    "yen": "yen jpy ¥",
    "rupee": "rupee inr ₹",
    "yuan": "yuan cny rmb renminbi",
    "cent": "cent ¢",
    "pence": "pence",
    "cad": "cad",
    "aud": "aud",
    "hkd": "hkd",
    "deg": "deg degree °",
    "rad": "rad radian",
    "rpm": "rpm",
    "%": "% percent pct percentage",
    "person": "person people",
    "": "unit",
}
_WORDS = inverted(_SPELLINGS)
_COMPOUND = inverted(
    {"mi/h": "mph", "km/h": "kph kmh kmph", "nmi/h": "knot kt", "kW*h": "kwh kWh", "cm^3": "cc"}
)
# Letters before a sign, and words before a word, that multiply; and what they stand before.
_PREFIX_SIGNS = {
    "G": 9,
    "M": 6,
    "k": 3,
    "h": 2,
    "d": -1,
    "c": -2,
    "m": -3,
    "μ": -6,
    "n": -9,
    "p": -12,
}
_PREFIX_SIGNS |= {"T": 12, "f": -15}
_PREFIX_WORDS = {"giga": "G", "mega": "M", "kilo": "k", "hecto": "h", "deci": "d", "centi": "c"}
_PREFIX_WORDS |= {"milli": "m", "micro": "μ", "nano": "n", "pico": "p", "tera": "T", "femto": "f"}
_PREFIXED = set("m g s l A K mol M N J W Wh Pa bar Hz C V F Ω T Wb H eV cal".split())
# What a unit is in others: a number and the kind that it measures, as powers of base units.
_SIZES = {
    "in": "0.0254 m",
    "ft": "0.3048 m",
    "yd": "0.9144 m",
    "mi": "1609.344 m",
    "nmi": "1852 m",
    "t": "1000000 g",
    "lb": "453.59237 g",
    "oz": "28.349523125 g",
    "min": "60 s",
    "h": "3600 s",
    "day": "86400 s",
    "wk": "604800 s",
    "yr": "12 month",
    "decade": "120 month",
    "century": "1200 month",
    "l": "0.001 m^3",
    "qt": "0.25 gal",
    "pt": "0.125 gal",
    "cup": "0.0625 gal",
    "tbsp": "0.00390625 gal",
    "tsp": "1/768 gal",
    "ha": "10000 m^2",
    "acre": "4046.8564224 m^2",
    "M": "1000 mol*m^-3",
    "N": "1000 g*m*s^-2",
    "J": "1000 g*m^2*s^-2",
    "W": "1000 g*m^2*s^-3",
    "Wh": "3600000 g*m^2*s^-2",
    "Pa": "1000 g*m^-1*s^-2",
    "bar": "100000000 g*m^-1*s^-2",
    "atm": "101325000 g*m^-1*s^-2",
    "Hz": "1 s^-1",
    "C": "1 A*s",
    "V": "1000 g*m^2*s^-3*A^-1",
    "F": "1/1000 A^2*s^4*g^-1*m^-2",
    "Ω": "1000 g*m^2*s^-3*A^-2",
    "T": "1000 g*s^-2*A^-1",
    "Wb": "1000 g*m^2*s^-2*A^-1",
    "H": "1000 g*m^2*s^-2*A^-2",
    "eV": "1.602176634e-16 g*m^2*s^-2",
    "cal": "4184 g*m^2*s^-2",
    "cent": "0.01 dollar",
    "pence": "0.01 gbp",
}
# In these one quantity may be given together, as in "2 h 30 min".
MIXED_KINDS = {"s", "m", "g", "month", "gal", "dollar", "gbp", "deg"}


def unit_name(word: str) -> str | None:
    """The one name of a unit, with its prefix, or None for another word."""
    sign = word.replace("µ", "μ")
    for spelling in (sign, sign.lower(), _singular(sign.lower())):
        if spelling in _WORDS:
            return _WORDS[spelling]
        if spelling in _COMPOUND:
            return _COMPOUND[spelling]
    prefix, rest = sign[:1].replace("u", "μ"), sign[1:]
    if prefix in _PREFIX_SIGNS and _WORDS.get(rest) in _PREFIXED and len(rest) <= 3:
        return prefix + _WORDS[rest]
    lower = _singular(sign.lower())
    for start, prefix in _PREFIX_WORDS.items():
        rest = _WORDS.get(lower.removeprefix(start))
        if lower.startswith(start) and rest in _PREFIXED:
            return prefix + rest
    if sign.lower() in ("cm", "mm", "km", "kg", "mg", "ml"):
        return sign.lower()  # CM, KG
    return None


def _singular(word: str) -> str:
    return word.removesuffix("s") if len(word) > 2 else word


def powers(unit: str) -> dict[str, int]:
    """The exponent of each factor of a unit such as "m*s^-2" or "mi/h"."""
    found: dict[str, int] = {}
    for sign, name, exponent in re.findall(r"([*/]?)([^*/^]+)(?:\^(-?\d+))?", unit):
        n = int(exponent or 1)
        found[name] = found.get(name, 0) + (-n if sign == "/" else n)
    return {name: n for name, n in found.items() if n}


def product(factors: dict[str, int]) -> str:
    """The one spelling of a product of powers."""
    spelled = [name if n == 1 else f"{name}^{n}" for name, n in sorted(factors.items()) if n]
    return "*".join(spelled)


@lru_cache(1024)
def measure(unit: str) -> Measure:
    """The size of a unit and its kind; a unit without a size, as an apple, is its own kind."""
    size, kind = Fraction(1), {}
    for name, exponent in powers(unit).items():
        base, factor = name, Fraction(1)
        is_prefixed = name not in _SPELLINGS and name[:1] in _PREFIX_SIGNS and name[1:] in _PREFIXED
        if is_prefixed:
            base, factor = name[1:], Fraction(10) ** _PREFIX_SIGNS[name[0]]
        number, bases = _SIZES.get(base, f"1 {base}").split(" ", 1)
        size *= (factor * Fraction(number)) ** exponent
        for part, n in powers(bases).items():
            kind[part] = kind.get(part, 0) + n * exponent
    return Measure(size, product(kind))
