"""The tree of an expression: numbers, names and operators, and what can be asked of it without evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

# A number; a variable or constant; or (operator, *nodes). A sum is ("sum", variable, from, to, term) and a name whose
# index depends on it is ("index", name, node).
Node = Fraction | str | tuple


class Unread(Exception):
    """Text outside the grammar, or a value that cannot be decided; `ask`: math-verify may know more."""

    def __init__(self, why: str, ask: bool = False) -> None:
        super().__init__(why)
        self.ask = ask


def negative(node: Node) -> Node:
    """Minus a node."""
    if isinstance(node, Fraction):
        return -node
    if node == "∞":
        return "-∞"
    return node[2] if has_minus(node) else ("*", Fraction(-1), node)


def has_minus(node: Node) -> bool:
    """Whether a node is minus another one, as `negative` makes it."""
    return isinstance(node, tuple) and node[:2] == ("*", -1)


def degrees(node: Node) -> Node:
    """An angle in degrees as a number."""
    return ("*", node, ("/", "π", Fraction(180)))


def symbols(node: Node) -> frozenset[str]:
    """Names of the variables in an expression."""
    if isinstance(node, tuple) and node[0] == "sum":
        _, variable, first, last, term = node
        return symbols(first) | symbols(last) | symbols(term) - {variable}
    if isinstance(node, tuple):
        parts = node[2:] if node[0] == "index" else node[1:]
        return frozenset().union(*map(symbols, parts))
    if isinstance(node, Fraction) or node in ("π", "e", "i", "∞", "-∞"):
        return frozenset()
    return frozenset([node])


def is_variable(node: Node) -> bool:
    """Whether a node is a lone variable."""
    return isinstance(node, str) and node in symbols(node)


def is_whole(node: Node) -> bool:
    """Whether a node is an integer."""
    return isinstance(node, Fraction) and node.denominator == 1


def of_whole_numbers(node: Node) -> frozenset[str]:
    """Names of the variables up to which a sum runs: they stand for whole numbers."""
    if not isinstance(node, tuple):
        return frozenset()
    names = symbols(node[2]) | symbols(node[3]) if node[0] == "sum" else frozenset()
    return names.union(*map(of_whole_numbers, node[1:]))


def replaced(node: Node, names: dict[str, Node]) -> Node:
    """The node with some of its names replaced."""
    if isinstance(node, tuple) and node[0] == "sum":
        names = {name: value for name, value in names.items() if name != node[1]}
    if isinstance(node, tuple):
        return (node[0], *(replaced(part, names) for part in node[1:]))
    return names.get(node, node) if isinstance(node, str) else node


def determinant(rows: Sequence[Sequence[Node]]) -> Node:
    """The determinant of a square matrix of nodes, by its first row."""
    if len(rows) == 1:
        return rows[0][0]
    total: Node = Fraction(0)
    for column, factor in enumerate(rows[0]):
        minor = [[*row[:column], *row[column + 1 :]] for row in rows[1:]]
        sign = "-" if column % 2 else "+"
        total = (sign, total, ("*", factor, determinant(minor)))
    return total
