"""Inequalities of an absolute value as intervals: |x - 2| < 3 is (-1, 5)."""

from __future__ import annotations

from fractions import Fraction

from wcse_lib.answers.answer import HIGHEST, LOWEST, Answer, expression
from wcse_lib.answers.evaluation import evaluator, real
from wcse_lib.answers.nodes import Node, symbols

_COMPLEX = ("z", "w")  # whose absolute value bounds a disc


def interval_of_absolute(ends: list[Answer], relations: list[str]) -> Answer | None:
    """The numbers whose distance from a point a bound limits, None for other inequalities.

    `ends` are the expressions of the chain and `relations` its signs, "<" or "\\\\le".
    """
    if len(ends) != 2 or relations[0] not in ("<", "\\le"):
        return None
    nodes = [end.node for end in ends]
    is_inside = _is_absolute(nodes[0])
    distance, bound = nodes if is_inside else nodes[::-1]
    line = _line(distance[1]) if _is_absolute(distance) else None
    if line is None or symbols(bound) or real(bound) <= 0:
        return None
    name, slope, start = line
    low = expression(_solved(("*", Fraction(-1), bound), slope, start))
    high = expression(_solved(bound, slope, start))
    is_open = relations[0] == "<"
    if is_inside:
        return Answer("interval", (low, high), (is_open, is_open), name)
    below = Answer("interval", (LOWEST, low), (True, is_open), name)
    above = Answer("interval", (high, HIGHEST), (is_open, True), name)
    return Answer("union", (below, above))


def _is_absolute(node: Node) -> bool:
    return isinstance(node, tuple) and node[0] == "abs"


def _line(node: Node) -> tuple[str, Fraction, Fraction] | None:
    """(variable, positive slope, value at zero) of a line or minus a line with rational coefficients."""
    names = symbols(node)
    if len(names) != 1 or not names.isdisjoint(_COMPLEX):
        return None
    (name,) = names
    values = [evaluator().value(node, {name: Fraction(x)}) for x in (0, 1, 2, -7)]
    if not all(isinstance(value, Fraction) for value in values):
        return None
    start, slope = values[0], values[1] - values[0]
    is_line = values[2] == start + 2 * slope and values[3] == start - 7 * slope
    if not slope or not is_line:
        return None
    return (name, slope, start) if slope > 0 else (name, -slope, -start)


def _solved(bound: Node, slope: Fraction, start: Fraction) -> Node:
    return ("/", ("-", bound, start), slope)
