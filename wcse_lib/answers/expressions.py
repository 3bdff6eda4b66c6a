"""Parses one expression in TeX or plain notation into a tree; `values.py` compares such trees."""

from __future__ import annotations

import re
import unicodedata
from fractions import Fraction
from functools import lru_cache

from wcse_lib.answers.nodes import Node, Unread, degrees, is_whole, negative, symbols
from wcse_lib.answers.words import (
    CONSTANTS,
    FUNCTION_LETTERS,
    FUNCTIONS,
    LETTER_FUNCTIONS,
    NAMES,
    OF_SEVERAL,
)

MAX_DEPTH = 40  # of brackets, exponents and functions

_PAIRS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_NO_FACTOR = {*_PAIRS.values(), "\\{", "\\}", "\\cup", "\\pm", "\\mp"}
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9}(?![\d.]))?"
_TOKEN = re.compile(
    rf"\s*({_NUMBER}|\\[A-Za-z]+|\\[{{}}]|“[^”]*”|{'|'.join(NAMES)}|[A-Z]{{2,}}|\S)"
)


def parse(text: str) -> Node:
    """The tree of one normalised expression. Raises Unread.

    >>> parse("2x+1")
    ('+', ('*', Fraction(2, 1), 'x'), Fraction(1, 1))
    """
    return _Parser(text).whole()


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
        tokens = _TOKEN.findall(text)
        if len(tokens) > 1:
            tokens = _with_factors(tokens)
        self.tokens = [*tokens, ""]
        self.position = 0
        self.counters: list[str] = []  # of the sums around
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
            elif token == "\\bmod":
                self.take()
                node = ("mod", node, self.signed())
            elif not self.factor_follows():
                return node
            elif token[0].isdigit() and not self.number_may_follow():
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

    def number_may_follow(self) -> bool:
        """Whether a number here is a factor, as after `3!` and between the powers of `2^6 3^5`."""
        is_power = self.tokens[self.position + 1] == "^" and "^" in self.tokens[: self.position]
        return is_power or self.tokens[self.position - 1] == "!"

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
        if name in OF_SEVERAL:
            return self.of_several(name)
        if name == "sum":
            return self.series()
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

    def of_several(self, name: str) -> Node:
        """The greatest, least, common divisor or common multiple of several numbers."""
        if self.next not in ("(", "\\{", "{", "["):
            raise Unread(f"{name} of what?", ask=True)
        closing = {"\\{": "\\}"}.get(self.next) or _PAIRS[self.next]
        self.take()
        parts = [self.sum()]
        while self.next == ",":
            self.take()
            parts.append(self.sum())
        self.take(closing)
        return (name, *parts)

    def series(self) -> Node:
        r"""A sum as `\sum_{k=1}^{n} k^2`; its term ends where a product ends."""
        try:
            for expected in "_{":
                self.take(expected)
            counter = self.take()
            self.take("=")
            first = self.sum()
            for expected in "}^":
                self.take(expected)
            last = self.group()
        except Unread:
            raise Unread("a sum of another form", ask=True) from None
        self.counters.append(counter)
        term = self.product()
        self.counters.pop()
        return ("sum", counter, first, last, term)

    def function(self, name: str) -> Node:
        marks: dict[str, Node] = {}
        while self.next in ("_", "^"):
            mark = self.take()
            marks[mark] = self.group() if mark == "_" else self.exponent()
        argument = self.primary() if self.next in ("(", "{") else self.bare_argument(name)
        if marks.get("^") == -1:
            if "arc" + name not in FUNCTIONS:
                raise Unread(f"the inverse of {name}, or one over it")
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
        is_known = (name == "vec" or _is_greek(name)) if is_command else token.isalpha()
        if not is_known:
            raise Unread(f"cannot read {token!r}", ask=is_command and len(token) > 2)
        index = ""
        if self.next == "_":
            index = self.index()
            name += "_" + index
        while self.next == "'":
            name += self.take()
        if self.is_function(name):
            if name == "C":
                return self.combinations()
            raise Unread(f"a value of the function {name}", ask=True)
        if any(counter in index for counter in self.counters):
            return ("index", name.partition("_")[0], parse(index))
        return name

    def index(self) -> str:
        """What stands below a name, without its braces: one sign, or the signs in braces."""
        self.take("_")
        if self.next.isdigit():
            return str(self.group())
        if self.next != "{":
            return self.take().strip("“”")
        n_open, signs = 0, []
        while not signs or n_open:
            token = self.take()
            n_open += (token == "{") - (token == "}")
            signs.append(token.strip("“”"))
        return "".join(signs[1:-1])

    def combinations(self) -> Node:
        """C(5,2), the number of pairs among five."""
        self.take("(")
        parts = [self.sum()]
        if self.next == ",":
            self.take()
            parts.append(self.sum())
        self.take(")")
        if len(parts) != 2 or not all(map(is_whole, parts)):
            raise Unread("a value of the function C", ask=True)
        return ("binom", *parts)

    def is_function(self, name: str) -> bool:
        """Whether parentheses after a letter hold an argument and not a factor."""
        if self.next != "(":
            return False
        if name == "C" and self.tokens[self.position + 2 : self.position + 3] == [","]:
            return True
        has_lone_argument = self.tokens[self.position + 2 : self.position + 3] == [")"]
        may_be_function = name[0].isupper() or name in LETTER_FUNCTIONS
        return name[0] in FUNCTION_LETTERS or (has_lone_argument and may_be_function)


def _with_factors(tokens: list[str]) -> list[str]:
    """Two capitals side by side, as in `RT/V`, as two factors; alone they are a name."""
    factors: list[str] = []
    for token in tokens:
        is_pair = len(token) == 2 and token.isalpha() and token.isupper()
        factors += list(token) if is_pair else [token]
    return factors


def _applied(name: str, argument: Node, base: Node | None) -> Node:
    """A function of its argument; a logarithm without a base has an unknown of its own for it."""
    if name == "cbrt":
        return ("root", argument, Fraction(3))
    if name != "log":
        return (name, argument)
    if base is None:
        return ("*", "log scale", ("ln", argument))
    return ("/", ("ln", argument), ("ln", base))
