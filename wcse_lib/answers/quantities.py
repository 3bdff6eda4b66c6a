"""Compares numbers and expressions under the conventions for units, percent signs, degrees, moduli and rounding."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction

from wcse_lib.answers.answer import Answer, Mixed
from wcse_lib.answers.evaluation import real
from wcse_lib.answers.measures import measure
from wcse_lib.answers.nodes import Node, Unread, degrees, symbols
from wcse_lib.answers.policy import Policy
from wcse_lib.answers.units import NOUN_MARK
from wcse_lib.answers.values import equal

_MODULUS = re.compile(r"mod ([1-9]\d*)")
_DECIMAL = re.compile(r"-?0*(\d*)\.(\d+)")


def same_quantity(p: Answer, g: Answer, policy: Policy) -> str:
    """Label of the equality of two numbers or expressions with their units, or "". Raises Unread when undecided."""
    p, g, have_other_nouns = _without_nouns(p, g)
    if have_other_nouns:
        return ""
    units = {p.unit, g.unit}
    if "deg" in units and units & {"fahrenheit", "celsiu"}:
        units = {"deg"}
    if "%" in units and len(units) == 2:
        return _percent(p, g, policy) if "" in units else ""
    modulus = _MODULUS.fullmatch(p.unit) if len(units) == 1 else None
    if modulus and not symbols(("-", p.node, g.node)):
        return _congruent(p.node, g.node, int(modulus.group(1)))
    if "" not in units and len(units) == 2:
        return _converted(p, g)
    if "" in units and len(units) == 2:
        return _beside_bare(p, g, policy)
    label = equal(p.node, g.node)
    if not label and policy.rounded_digits:
        label = _rounded(p, g, policy.rounded_digits)
    return label


def _without_nouns(p: Answer, g: Answer) -> tuple[Answer, Answer, bool]:
    """Percentages and amounts without what they are of, and whether that differs: no loss is a profit."""
    (p_unit, _, p_noun), (g_unit, _, g_noun) = (one.unit.partition(NOUN_MARK) for one in (p, g))
    if not (p_noun or g_noun):
        return p, g, False
    differ = bool(p_noun and g_noun and p_noun != g_noun)
    return replace(p, unit=p_unit), replace(g, unit=g_unit), differ


def _beside_bare(p: Answer, g: Answer, policy: Policy) -> str:
    """A quantity beside a bare number, whose unit is the same if it may be left out."""
    quantity, number = (p, g) if p.unit else (g, p)
    if isinstance(quantity.tag, Mixed):
        return _mixed_beside_bare(quantity, number, policy)
    label = ""
    if policy.units == "drop":
        label = equal(p.node, g.node)
    if not label and quantity.unit == "deg":
        label = equal(degrees(quantity.node), number.node)
    if not label and policy.rounded_digits and policy.units == "drop":
        label = _rounded(p, g, policy.rounded_digits)
    return label


def _mixed_beside_bare(quantity: Answer, number: Answer, policy: Policy) -> str:
    """2 h 30 min is neither 2.5 nor 150 for sure."""
    for unit in quantity.tag.units:
        factor = measure(quantity.unit).size / measure(unit).size
        if policy.units == "drop" and equal(("*", quantity.node, factor), number.node):
            raise Unread("a number without its unit beside a quantity in several")
    return ""


def _converted(p: Answer, g: Answer) -> str:
    """Two units of one kind, as 90 min and 1.5 h."""
    p_size, p_kind = measure(p.unit)
    g_size, g_kind = measure(g.unit)
    if {p_kind, g_kind} == {"deg", "rad"}:
        return equal(*(degrees(one.node) if one.unit == "deg" else one.node for one in (p, g)))
    if p_kind != g_kind:
        return ""
    return equal(("*", p.node, p_size), ("*", g.node, g_size))


def _percent(p: Answer, g: Answer, policy: Policy) -> str:
    """A percentage beside a bare number: as many hundredths, or as many without the sign."""
    if policy.percent == "sign":
        return equal(p.node, g.node)
    is_either = policy.percent == "either"
    if is_either and (g.unit or symbols(g.node) or abs(real(g.node)) > 1):
        label = equal(p.node, g.node)
        if label:
            return label
    return equal(*(("/", one.node, Fraction(100)) if one.unit else one.node for one in (p, g)))


def _congruent(p: Node, g: Node, modulus: int) -> str:
    quotient = ("/", ("-", p, g), Fraction(modulus))
    return "congruent" if equal(quotient, Fraction(round(real(quotient)))) else ""


def _rounded(p: Answer, g: Answer, n_digits: int) -> str:
    """A decimal of at least so many digits that is gold, rounded."""
    decimal = _DECIMAL.fullmatch(str(p.tag))
    if not decimal or symbols(g.node):
        return ""
    whole, places = decimal.groups()
    if len((whole + places).lstrip("0")) < n_digits:
        return ""
    difference = abs(real(("-", p.node, g.node)))
    return "rounded decimal" if difference * 2 * 10 ** len(places) <= 1 else ""
