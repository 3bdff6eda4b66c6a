"""Intervals, rays and what is made of them: unions, the real line without points, two rays that bound an interval."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from wcse_lib.answers.answer import Answer, expression
from wcse_lib.answers.expressions import Unread, is_variable, symbols
from wcse_lib.answers.values import real

LOWEST, HIGHEST = expression("-∞"), expression("∞")
REAL_LINE = Answer("interval", (LOWEST, HIGHEST), (True, True))


def interval(low: Answer, high: Answer, opened: tuple[bool, bool], variable: str = "") -> Answer:
    return Answer("interval", (low, high), opened, variable)


def as_interval(answer: Answer) -> Answer:
    """A pair in parentheses as an open interval; anything else unchanged."""
    if answer.kind == "tuple" and len(answer.items) == 2:
        return interval(*answer.items, (True, True))
    return answer


def line_without(points: Sequence[Answer]) -> Answer:
    """The real line without some numbers, which are in order."""
    ends = (LOWEST, *points, HIGHEST)
    pieces = [interval(low, high, (True, True)) for low, high in zip(ends, ends[1:])]
    return Answer("union", tuple(pieces))


def in_order(answers: Sequence[Answer]) -> list[Answer]:
    """Constant expressions from the smallest to the largest."""
    return sorted(answers, key=lambda answer: real(answer.node))


def without_variable(answer: Answer) -> Answer:
    """A set of numbers in braces, whose variable means nothing outside."""
    if answer.kind not in ("interval", "union"):
        return answer
    return replace(answer, unit="", items=tuple(map(without_variable, answer.items)))


def joined(rays: tuple[Answer, ...], is_and: bool, is_or: bool) -> Answer:
    """Several inequalities: two overlapping rays are an interval (`x > 1 and x < 3`), all else is a union."""
    if len({ray.unit for ray in rays}) > 1:
        return Answer("list", rays)
    up = [ray for ray in rays if ray.items[1] == HIGHEST and ray.items[0] not in (LOWEST, HIGHEST)]
    down = [ray for ray in rays if ray.items[0] == LOWEST and ray.items[1] not in (LOWEST, HIGHEST)]
    if len(rays) == 2 and up and down and not is_or:
        low, high = up[0].items[0], down[0].items[1]
        is_constant = not symbols(low.node) and not symbols(high.node)
        if is_constant and real(low.node) < real(high.node):
            return interval(low, high, (up[0].tag[0], down[0].tag[1]), rays[0].unit)
        if is_and:
            raise Unread("no number is in both")
    return Answer("union", rays)


def of_chain(ends: list[Answer], relations: list[str]) -> Answer | None:
    """The interval of a variable between or beside expressions, None where no side is a lone variable.

    `ends` are the expressions of a chain such as `1 < x \\le 2` and `relations` its signs, "<" or "\\le".
    """
    opened = [relation == "<" for relation in relations]
    nodes = [end.node for end in ends]
    alone = [is_variable(node) for node in nodes]
    if alone == [False, True, False]:
        return interval(ends[0], ends[2], (opened[0], opened[1]), nodes[1])
    if alone == [True, False]:
        return interval(LOWEST, ends[1], (True, opened[0]), nodes[0])
    if alone == [False, True]:
        return interval(ends[0], HIGHEST, (opened[0], True), nodes[1])
    return None
