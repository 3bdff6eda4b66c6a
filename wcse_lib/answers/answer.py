"""A read answer: one typed tree for its many spellings, and the intervals, unions and assignments made of others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from wcse_lib.answers.evaluation import real
from wcse_lib.answers.nodes import Node, Unread, is_variable, symbols


@dataclass(frozen=True)
class Answer:
    r"""A read answer. `items` are answers (nodes where the table says so) and `tag` is more about them, by `kind`:

    | kind | items | tag | unit |
    | --- | --- | --- | --- |
    | expr | its node | its text, if it was read whole, or Mixed | its unit |
    | text | - | the text | - |
    | chain (of inequalities) | members, if they were read | the relations, or the text | - |
    | date | - | Date | - |
    | range (or score) | low and high end | - | - |
    | pieces (of a function) | rows of value and condition | - | - |
    | time | hour and minute, if it may be a ratio | Time | - |
    | base | - | (digits, base) | - |
    | list, tuple, ratio | members | - | - |
    | matrix | rows, each a tuple of answers | - | - |
    | set | members | - | its variable |
    | interval | low and high end | (low is open, high is open) | its variable |
    | union | intervals and sets | - | its variable |
    | assign | values | names | - |
    | eq | node of left - right or None, right side or None | name on the left or None | - |
    | rel | node of right - left | "<" or "\le" | - |
    """

    kind: str
    items: tuple = ()
    tag: object = None
    unit: str = ""

    @property
    def node(self) -> Node:
        """The expression of an `expr`, `eq` or `rel`."""
        return self.items[0]

    @property
    def value(self) -> Answer | None:
        """What stands right of the name of an `eq`."""
        return self.items[1]


class Time(NamedTuple):
    """A time of day; `half` is "a", "p", or "" where only "am" or "pm" could say it."""

    hour: int  # of twelve
    minute: int
    half: str
    half_is_given: bool
    hour_as_written: int


class Mixed(NamedTuple):
    """The units in which a quantity such as 2 h 30 min is given."""

    units: tuple[str, ...]


def expression(node: Node, tag: object = None, unit: str = "") -> Answer:
    return Answer("expr", (node,), tag, unit)


def spread(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """The answers, with lists (from plus-minus signs) replaced by their members."""
    members: list[Answer] = []
    for answer in answers:
        members += answer.items if answer.kind == "list" else [answer]
    return tuple(members)


def assignment(names: Sequence[str], values: Sequence[Answer]) -> Answer:
    """Values of several names, as they are written."""
    return Answer("assign", tuple(values), tuple(names))


def by_name(answer: Answer) -> Answer:
    """An assignment by the alphabet of its names."""
    names = sorted(answer.tag)
    values = dict(zip(answer.tag, answer.items))
    return assignment(names, [values[name] for name in names])


# ---------------------------------------------------------------- intervals

LOWEST, HIGHEST = expression("-∞"), expression("∞")
OPEN = (True, True)
REAL_LINE = Answer("interval", (LOWEST, HIGHEST), OPEN)


def as_interval(answer: Answer) -> Answer:
    """A pair in parentheses as an open interval; anything else unchanged."""
    is_pair = answer.kind == "tuple" and len(answer.items) == 2
    return Answer("interval", answer.items, OPEN) if is_pair else answer


def line_without(points: Sequence[Answer]) -> Answer:
    """The real line without some numbers, which are in order."""
    ends = (LOWEST, *points, HIGHEST)
    pieces = [Answer("interval", pair, OPEN) for pair in zip(ends, ends[1:])]
    return Answer("union", tuple(pieces))


def without_variable(answer: Answer) -> Answer:
    """A set of numbers in braces, whose variable means nothing outside."""
    if answer.kind not in ("interval", "union"):
        return answer
    return replace(answer, unit="", items=tuple(map(without_variable, answer.items)))


def interval_of_chain(ends: list[Answer], relations: list[str]) -> Answer | None:
    """The interval of a variable in a chain such as 1 < x <= 2, None where no side is a lone variable.

    `ends` are the expressions of the chain and `relations` its signs, "<" or "\\le".
    """
    opened = [relation == "<" for relation in relations]
    alone = [is_variable(end.node) for end in ends]
    if alone in ([False, True, False], [True, True, True]):
        return Answer("interval", (ends[0], ends[2]), tuple(opened), ends[1].node)
    if alone == [True, False]:
        return Answer("interval", (LOWEST, ends[1]), (True, opened[0]), ends[0].node)
    if alone == [False, True]:
        return Answer("interval", (ends[0], HIGHEST), (opened[0], True), ends[1].node)
    return None


def joined(rays: tuple[Answer, ...], is_and: bool, is_or: bool) -> Answer:
    """Several inequalities: two overlapping rays are an interval (x > 1 and x < 3), all else is a union."""
    if len({ray.unit for ray in rays}) > 1:
        return Answer("list", rays)
    up = [ray for ray in rays if ray.items[1] == HIGHEST and ray.items[0] not in (LOWEST, HIGHEST)]
    down = [ray for ray in rays if ray.items[0] == LOWEST and ray.items[1] not in (LOWEST, HIGHEST)]
    if len(rays) > 2 or is_or or not up or not down:
        return Answer("union", rays)
    low, high = up[0].items[0], down[0].items[1]
    is_constant = not symbols(low.node) and not symbols(high.node)
    if is_constant and real(low.node) < real(high.node):
        return Answer("interval", (low, high), (up[0].tag[0], down[0].tag[1]), rays[0].unit)
    if is_and:
        raise Unread("no number is in both")
    return Answer("union", rays)
