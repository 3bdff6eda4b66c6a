r"""What TeX spells with commands of its own: systems, quantities of siunitx; and the damage that escaping does."""

from __future__ import annotations

import re

from wcse_lib.answers.words import COMMANDS, FUNCTIONS, SPACING

# ---------------------------------------------------------------- damage

# Letters after a control character that a program made of a backslash and a letter: "\f" of "\frac".
_EATEN = re.compile(
    "\x0c(?=rac|lo|box)|\x08(?=oxed|inom|egin|eta|ar|mod|igcup|m )|\x07(?=lpha|ngle|pprox)"
    "|\x0b(?=ec|ert|ar)|\t(?=imes|ext|heta|frac|riangle|frac)|\r(?=ight|ho|angle)|\n(?=eq|abla)"
)
_LETTER_OF = {"\x0c": "f", "\x08": "b", "\x07": "a", "\x0b": "v", "\t": "t", "\r": "r", "\n": "n"}
_NAMES = {
    *filter(str.isascii, COMMANDS),
    *FUNCTIONS,
    *"frac sqrt text mathrm begin end infty pm cup pi alpha beta theta overline pmod bmod".split(),
}
_ESCAPED = re.compile(rf"\\\\(?=(?:{'|'.join(sorted(_NAMES, key=len, reverse=True))})(?![A-Za-z]))")
_SPACING = re.compile(rf"\\(?:{SPACING})(?=[A-Za-z])")


def repaired(text: str) -> str:
    r"""A text without the damage that escaping does to TeX: `\\frac`, a form feed for `\f`, `\quadx`, a last `\`."""
    text = _EATEN.sub(lambda match: "\\" + _LETTER_OF[match.group()], text)
    if "\\\\" in text and _ESCAPED.search(text):
        runs = re.findall(r"\\+", text)
        if all(len(run) % 2 == 0 for run in runs):
            text = text.replace("\\\\", "\\")  # all of it was escaped once too often
        elif "\\begin" not in text:
            text = _ESCAPED.sub(r"\\", text)
    text = _SPACING.sub(" ", text)
    return re.sub(r"(?<!\\)\\\s*$", "", text)


# ---------------------------------------------------------------- siunitx

_BRACES = r"\{([^{}]*(?:\{[^{}]*\}[^{}]*)*)\}"
_QUANTITY = re.compile(rf"\\(?:SI|qty)\s*(?:\[[^\]]*\])?\s*{_BRACES}\s*{_BRACES}")
_RANGE = re.compile(
    rf"\\(?:SIrange|qtyrange)\s*(?:\[[^\]]*\])?\s*{_BRACES}\s*{_BRACES}\s*{_BRACES}"
)
_BARE_UNIT = re.compile(rf"\\(?:si|unit)\s*(?:\[[^\]]*\])?\s*{_BRACES}")
_NUMBER = re.compile(rf"\\num\s*(?:\[[^\]]*\])?\s*{_BRACES}")
_ANGLE = re.compile(r"\\ang\s*(?:\[[^\]]*\])?\s*\{([^{}]*)\}")
_PREFIXES = "quecto|ronto|yocto|zepto|atto|femto|pico|nano|micro|milli|centi|deci|deca|hecto|kilo"
_PREFIX = re.compile(rf"\b({_PREFIXES}|mega|giga|tera|peta|exa) (?=[a-z])")
_TO_THE = re.compile(r"\\(?:tothe|raiseto)\s*\{(-?\d+)\}")


def plain_quantities(text: str) -> str:
    r"""The commands of siunitx as a number and its unit in words.

    >>> plain_quantities(r"\SI{9.8}{\meter\per\second\squared}")
    '9.8 “meter per second squared”'
    """
    if "\\" not in text:
        return text
    text = _RANGE.sub(lambda match: f"{match[1]}-{match[2]} {_unit(match[3])}", text)
    text = _QUANTITY.sub(lambda match: f"{_number(match[1])} {_unit(match[2])}", text)
    text = _BARE_UNIT.sub(lambda match: _unit(match[1]), text)
    text = _NUMBER.sub(lambda match: f" {_number(match[1])} ", text)
    return _ANGLE.sub(lambda match: _angle(match[1]), text)


def _number(text: str) -> str:
    """A number, in which a comma is a decimal sign and "x" multiplies."""
    plain = re.sub(r"(?<=\d),(?=\d)", ".", text)
    return re.sub(r"\s*[xX]\s*", r"\\times ", plain).strip()


def _unit(text: str) -> str:
    text = _TO_THE.sub(r"^\1 ", text)
    words = re.sub(r"\\([A-Za-z]+)", r" \1 ", text).replace("~", " ").replace(".", "*")
    words = re.sub(r"\s+", " ", words).strip()
    words = _PREFIX.sub(r"\1", words)
    return f"“{words}”" if words else ""


def _angle(text: str) -> str:
    """Degrees; minutes; seconds."""
    parts = [part.strip() for part in text.split(";")]
    return " ".join(part + mark for part, mark in zip(parts, ("°", "'", "''")) if part)


# ---------------------------------------------------------------- systems

_OF_ROWS = "cases|dcases|rcases|aligned|align|alignedat|gathered|gather|split|eqnarray|alignat"
_ROWS = re.compile(
    rf"(?:\\left\s*)?(?:\\?\{{\s*|\\lbrace\s*)?\\begin\{{((?:{_OF_ROWS})\*?)\}}(.*?)\\end\{{\1\}}"
    r"\s*(?:\\right\s*(?:\.|\\?\}))?",
    re.S,
)
_BRACED = re.compile(
    r"(?:\\left\s*)?\\(?:\{|lbrace)\s*\\begin\{(array|matrix)\}\s*(?:\{[lcr| @!]*\})?(.*?)\\end\{\1\}"
    r"\s*(?:\\right\s*\.)?",
    re.S,
)


def plain_systems(text: str) -> str:
    r"""Every environment of rows of equations, and arrays behind one brace, as `\begin{cases}`."""
    if "\\begin" not in text:
        return text
    for pattern in (_BRACED, _ROWS):
        text = pattern.sub(_cases, text)
    return text


def _cases(match: re.Match) -> str:
    rows = match.group(2)
    # a mark for alignment before a sign is no border of a cell
    rows = re.sub(r"&\s*(?==|[<>]|\\(?:le|ge|lt|gt|in|ne|approx|equiv)[a-z]*)", "", rows)
    rows = re.sub(r"(=|[<>])\s*&", r"\1", rows)
    return rf"\begin{{cases}}{rows}\end{{cases}}"
