"""Parses one expression in TeX or plain notation into a tree; `values.py` compares such trees."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from wcse_lib.answers.words import CONSTANTS, FUNCTION_LETTERS, FUNCTIONS, LETTER_FUNCTIONS, NAMES

MAX_DEPTH = 40  # of brackets, exponents and functions
Node = Fraction | str | tuple  # a number, a variable or constant, or (operator, *nodes)

_PAIRS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_NO_FACTOR = {*_PAIRS.values(), "\\{", "\\}", "\\cup", "\\pm", "\\mp"}
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9}(?![\d.]))?"
_TOKEN = re.compile(
    rf"\s*({_NUMBER}|\\[A-Za-z]+|\\[{{}}]|“[^”]*”|{'|'.join(NAMES)}|[A-Z]{{2,}}|\S)"
)


class Unread(Exception):
    """Text outside the grammar, or a value that cannot be decided; `ask`: math-verify may know more."""

    def __init__(self, why: str, ask: bool = False) -> None:
        super().__init__(why)
        self.ask = ask


def parse(text: str) -> Node:
    """The tree of one normalised expression. Raises Unread.

    >>> parse("2x+1")
    ('+', ('*', Fraction(2, 1), 'x'), Fraction(1, 1))
    """
    return _Parser(text).whole()


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
    if isinstance(node, tuple):
        return frozenset().union(*map(symbols, node[1:]))
    if isinstance(node, Fraction) or node in ("π", "e", "i", "∞", "-∞"):
        return frozenset()
    return frozenset([node])


def is_variable(node: Node) -> bool:
    """Whether a node is a lone variable."""
    return isinstance(node, str) and node in symbols(node)


def is_whole(node: Node) -> bool:
    """Whether a node is an integer."""
    return isinstance(node, Fraction) and node.denominator == 1


@lru_cache(256)
def _is_greek(name: str) -> bool:
    try:
        unicodedata.lookup(f"GREEK SMALL LETTER {name.removeprefix('var')}")
    except KeyError:
        return name == "ell"
    return True


class _Parser:
    """Recursive descent over the tokens of one expression; each method reads what its name says."""

    def __init__(self, text: str) -> None:
        self.tokens = [*_TOKEN.findall(text), ""]
        self.position = 0
        self.depth = 0
        self.open_bars = 0

    @property
    def next(self) -> str:
        return self.tokens[self.position]

    def take(self, expected: str = "") -> str:
        token = self.next
        if not token or (expected and token != expected):
            raise Unread(f"{expected or 'something'} expected, {token or 'the end'} found")
        self.position += 1
        return token

    def whole(self) -> Node:
        node = self.sum()
        if self.next:
            raise Unread(f"cannot read {self.next!r}", ask=self.next[0] == "\\")
        return node

    def sum(self) -> Node:
        node = self.product()
        while self.next in ("+", "-"):
            node = (self.take(), node, self.product())
        return node

    def product(self) -> Node:
        node = self.signed()
        while True:
            token = self.next
            if token in ("*", "/"):
                node = self.written_factor(node)
            elif not self.factor_follows():
                return node
            elif token[0].isdigit() and self.tokens[self.position - 1] != "!":
                raise Unread("two numbers side by side")
            else:
                node = ("*", node, self.power())

    def written_factor(self, node: Node) -> Node:
        """A product or quotient with its sign."""
        operator = self.take()
        divisor = self.next
        node = (operator, node, self.signed())
        if operator == "/" and divisor.isalpha() and self.factor_follows():
            raise Unread("a/bc is ambiguous")
        return node

    def factor_follows(self) -> bool:
        """Whether a factor without a sign starts here."""
        token = self.next
        if not token or token in _NO_FACTOR:
            return False
        if token == "|":
            return not self.open_bars
        return token[0].isalnum() or token[0] == "\\" or token in _PAIRS

    def signed(self) -> Node:
        n_minus = 0
        while self.next in ("+", "-"):
            n_minus += self.take() == "-"
        node = self.power()
        return negative(node) if n_minus % 2 else node

    def power(self) -> Node:
        node = self.primary()
        while self.next in ("^", "!", "°", "%"):
            node = self.postfix(node)
        return node

    def postfix(self, node: Node) -> Node:
        token = self.take()
        if token == "^":
            return ("^", node, self.exponent())
        if token == "%":
            return ("/", node, Fraction(100))
        if token == "°":
            return degrees(node)
        if self.next != "!":
            return ("!", node)
        self.take()
        if self.next == "!":
            raise Unread("a multifactorial")
        return ("!!", node)

    def exponent(self) -> Node:
        return self.group() if self.next == "{" else self.signed()

    def group(self) -> Node:
        """One TeX argument: braces, or a single character."""
        token = self.next
        if token.isdigit() and len(token) > 1:
            self.tokens[self.position : self.position + 1] = [token[0], token[1:]]
            return Fraction(self.take())
        return self.primary()

    def primary(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread("nested too deeply")
        node = self.atom()
        self.depth -= 1
        return node

    def atom(self) -> Node:
        token = self.take()
        name = token.lstrip("\\")
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            return self.number(token)
        if token in _PAIRS:
            node = self.sum()
            self.take(_PAIRS[token])
            return (name, node) if token[0] == "\\" else node
        if token == "|":
            return self.absolute()
        if name in ("frac", "binom"):
            return self.fraction(name)
        if name == "sqrt":
            return self.root(token)
        if name in FUNCTIONS:
            return self.function(name)
        if token == "\\pi":
            self.check_primes()
        if token in CONSTANTS:
            return CONSTANTS[token]
        return self.variable(token, name)

    def number(self, token: str) -> Node:
        """A literal; an integer before a proper fraction of integers (`2\\frac{1}{2}`, `2 1/2`) is a mixed number."""
        digits, _, exponent = token.lower().partition("e")
        value = Fraction(digits.rstrip("."))
        if exponent:
            return ("*", value, ("^", Fraction(10), Fraction(exponent)))
        start = self.position
        part = self.part_of_mixed() if token.isdigit() else None
        if part is None:
            return value
        _, above, below = part
        if not (is_whole(above) and is_whole(below)):
            self.position = start
            return value
        if not 0 <= above < below:
            raise Unread("improper mixed number")
        return ("+", value, part)

    def part_of_mixed(self) -> Node | None:
        """The fraction that follows an integer, if any."""
        if self.next == "\\frac":
            return self.primary()
        following = self.tokens[self.position : self.position + 3]
        if following[1:2] != ["/"] or not (following[0].isdigit() and following[2].isdigit()):
            return None
        self.position += 3
        return ("/", Fraction(following[0]), Fraction(following[2]))

    def absolute(self) -> Node:
        self.open_bars += 1
        node = self.sum()
        self.take("|")
        self.open_bars -= 1
        return ("abs", node)

    def fraction(self, name: str) -> Node:
        above = self.group()
        below = self.group()
        if "d" in symbols(above) and isinstance(below, tuple) and below[:2] == ("*", "d"):
            raise Unread("a derivative", ask=True)
        return ("/" if name == "frac" else "binom", above, below)

    def root(self, token: str) -> Node:
        if token[0] != "\\":
            return ("root", self.primary(), Fraction(2))
        index: Node = Fraction(2)
        if self.next == "[":
            self.take()
            index = self.sum()
            self.take("]")
        return ("root", self.group(), index)

    def function(self, name: str) -> Node:
        marks: dict[str, Node] = {}
        while self.next in ("_", "^"):
            mark = self.take()
            marks[mark] = self.group() if mark == "_" else self.exponent()
        argument = self.primary() if self.next in ("(", "{") else self.bare_argument(name)
        if marks.get("^") == -1 and name in ("sin", "cos", "tan"):
            return ("arc" + name, argument)
        node = _applied(name, argument, marks.get("_"))
        return ("^", node, marks["^"]) if "^" in marks else node

    def bare_argument(self, name: str) -> Node:
        """What a function without parentheses is taken of: `sin 2xy`."""
        node = self.signed()
        while self.factor_follows() and not re.match(r"[(\d]", self.next):
            if self.next.lstrip("\\") in FUNCTIONS:
                break
            node = ("*", node, self.power())
        if self.next == "/" and self.tokens[self.position + 1].lstrip("\\") not in FUNCTIONS:
            raise Unread(f"{name} a/b is ambiguous", ask=True)
        return node

    def check_primes(self) -> None:
        r"""Raises Unread where the text starts as `\pi(10)` and ends there or one token later: a count of primes?"""
        if self.position == 1 and self.tokens[1:4:2] == ["(", ")"] and len(self.tokens) <= 6:
            raise Unread("\\pi may count primes", ask=True)

    def variable(self, token: str, name: str) -> Node:
        is_command = token[0] == "\\"
        is_known = _is_greek(name) if is_command else token.isalpha()
        if not is_known:
            raise Unread(f"cannot read {token!r}", ask=is_command and len(token) > 2)
        if self.next == "_":
            self.take()
            start = self.position
            self.group()
            name += "_" + "".join(self.tokens[start : self.position]).strip("{}")
        while self.next == "'":
            name += self.take()
        if self.is_function(name):
            raise Unread(f"a value of the function {name}", ask=True)
        return name

    def is_function(self, name: str) -> bool:
        """Whether parentheses after a letter hold an argument and not a factor."""
        if self.next != "(":
            return False
        has_lone_argument = self.tokens[self.position + 2 : self.position + 3] == [")"]
        may_be_function = name[0].isupper() or name in LETTER_FUNCTIONS
        return name[0] in FUNCTION_LETTERS or (has_lone_argument and may_be_function)


def _applied(name: str, argument: Node, base: Node | None) -> Node:
    """A function of its argument; a logarithm without a base has an unknown of its own for it."""
    if name == "cbrt":
        return ("root", argument, Fraction(3))
    if name != "log":
        return (name, argument)
    if base is None:
        return ("*", "log scale", ("ln", argument))
    return ("/", ("ln", argument), ("ln", base))
