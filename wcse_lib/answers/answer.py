"""A read answer: one typed tree for its many spellings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from wcse_lib.answers.expressions import Node, symbols


@dataclass(frozen=True)
class Answer:
    r"""A read answer. `items` are answers (nodes where the table says so) and `tag` is more about them, by `kind`:

    | kind | items | tag | unit |
    | --- | --- | --- | --- |
    | expr | its node | its text, if it was read whole | its unit |
    | text | - | words | - |
    | time | hour and minute, if it may be a ratio | Time | - |
    | base | - | (digits, base) | - |
    | chain | - | text | - |
    | list, tuple, ratio | members | - | - |
    | matrix | rows, each a tuple of answers | - | - |
    | set | members | - | its variable |
    | interval | low and high end | (low is open, high is open) | its variable |
    | union | intervals and sets | - | its variable |
    | assign | values, in the order of their names | names | - |
    | eq | node of left - right or None, right side or None | name on the left or None | - |
    | rel | node of right - left | "<" or "\le" | - |
    """

    kind: str
    items: tuple = ()
    tag: object = None
    unit: str = ""

    @property
    def node(self) -> Node:
        """The expression of an `expr`; left - right of an `eq`, right - left of a `rel`."""
        return self.items[0]

    @property
    def value(self) -> Answer | None:
        """What an `eq` says that its name is."""
        return self.items[1]


class Time(NamedTuple):
    """A time of day; `half` is "a", "p", or "" where only "am" or "pm" could say it."""

    hour: int  # of twelve
    minute: int
    half: str
    half_is_given: bool
    hour_as_written: int


def expression(node: Node, tag: str | None = None, unit: str = "") -> Answer:
    return Answer("expr", (node,), tag, unit)


def assignment(names: list[str], values: tuple[Answer, ...]) -> Answer:
    """Values of several names, by the order of the names."""
    pairs = sorted(zip(names, values), key=lambda pair: pair[0])
    return Answer("assign", tuple(value for _, value in pairs), tuple(name for name, _ in pairs))


def spread(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """The answers, with lists (from plus-minus signs) replaced by their members."""
    members: list[Answer] = []
    for answer in answers:
        members += answer.items if answer.kind == "list" else [answer]
    return tuple(members)


def is_number(answer: Answer) -> bool:
    """Whether an answer is an expression without variables."""
    return answer.kind == "expr" and not symbols(answer.node)
