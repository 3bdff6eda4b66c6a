"""Reads chemical formulas and ions as text, however their numbers are written: C6H12O6, C_6H_{12}O_6, Fe^{3+}."""

from __future__ import annotations

import re

from wcse_lib.answers.answer import Answer
from wcse_lib.answers.notation import without_marks

_ELEMENTS = (
    "H He Li Be B C N O F Ne Na Mg Al Si P S Cl Ar K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr Rb Sr Y Zr Nb "
    "Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe Cs Ba La Ce Nd Sm Eu Gd W Os Ir Pt Au Hg Tl Pb Bi Po At Rn Fr Ra Th U Pu"
)
_ELEMENT = "|".join(sorted(_ELEMENTS.split(), key=len, reverse=True))
_ATOM = rf"(?:{_ELEMENT})\d*"
_FORMULA = re.compile(rf"\d*(?:{_ATOM}|\((?:{_ATOM})+\)\d*|\[(?:{_ATOM})+\]\d*)+(?:\^?\d*[+-])?")


def read_chemical(text: str) -> Answer | None:
    """The formula with a number or a charge that a whole text is, or None.

    >>> read_chemical("C_6H_{12}O_6") == read_chemical("C6H12O6")
    True
    """
    plain = re.sub(r"[_{}\s]", "", without_marks(text))
    plain = re.sub(r"\^([+-])(\d+)$", r"^\2\1", plain)  # +3 as 3+
    is_formula = _FORMULA.fullmatch(plain) and re.search(r"[\d+-]", plain)
    return Answer("text", tag=f"formula {plain.replace('^', '')}") if is_formula else None


def is_chemical(answer: Answer) -> bool:
    return answer.kind == "text" and answer.tag.startswith("formula ")
