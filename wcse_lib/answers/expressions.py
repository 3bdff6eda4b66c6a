"""Parses one expression in TeX or plain notation and compares values: rationals exactly, all others to 240 digits."""

from __future__ import annotations

import operator
import re
import threading
import unicodedata
import zlib
from collections.abc import Collection
from contextlib import suppress
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil, comb, factorial, floor, isqrt, prod

DIGITS = (50, 300)  # two working precisions: the first rejects, the second confirms
MAX_BITS = 60_000  # of an exact number; larger ones are compared by high-precision value
MAX_DEPTH = 40  # of brackets, exponents and functions
Node = Fraction | str | tuple  # a number, a variable or constant, or (operator, *nodes)

FUNCTIONS = (
    *(
        f"{arc}{name}{h}"
        for arc in ("arc", "")
        for h in ("h", "")
        for name in "sin cos tan cot sec csc".split()
    ),
    "ln",
    "log",
    "exp",
    "sqrt",
    "cbrt",
)
WORDS = (
    *FUNCTIONS,
    "alpha",
    "beta",
    "gamma",
    "delta",
    "theta",
    "lambda",
    "sigma",
    "omega",
    "pi",
    "infinity",
    "inf",
)
_CONSTANTS = {
    "\\pi": "π",
    "pi": "π",
    "e": "e",
    "i": "i",
    "\\infty": "∞",
    "infinity": "∞",
    "inf": "∞",
}
_APPLIED = (
    "gamma",
    "phi",
    "varphi",
    "sigma",
    "tau",
    "mu",
    "zeta",
)  # known functions; Γ, as any capital
_PAIRS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}
_NO_FACTOR = {*_PAIRS.values(), "\\{", "\\}", "\\cup", "\\pm", "\\mp"}
_NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9}(?![\d.]))?"
_TOKEN = re.compile(
    rf"\s*({_NUMBER}|\\[A-Za-z]+|\\[{{}}]|“[^”]*”|{'|'.join(WORDS)}|[A-Z]{{2,}}|\S)"
)


class Unread(Exception):
    """Text outside the grammar, or a value that cannot be decided; `ask` says that math-verify may know more."""

    def __init__(self, why: str, ask: bool = False) -> None:
        super().__init__(why)
        self.ask = ask


@lru_cache(256)
def _is_greek(name: str) -> bool:
    try:
        return bool(unicodedata.lookup(f"GREEK SMALL LETTER {name.removeprefix('var')}")) or True
    except KeyError:
        return name == "ell"


class _Parser:
    """Recursive descent over the tokens of one expression; each method reads what its name says."""

    def __init__(self, text: str) -> None:
        self.tokens = [*_TOKEN.findall(text), ""]
        self.i = self.depth = self.bars = 0

    @property
    def next(self) -> str:
        return self.tokens[self.i]

    def take(self, expected: str = "") -> str:
        token = self.next
        if not token or (expected and token != expected):
            raise Unread(f"{expected or 'something'} expected, {token or 'the end'} found")
        self.i += 1
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

    def factor_follows(self) -> bool:
        """Whether a juxtaposed factor starts here."""
        token = self.next
        if not token or token in _NO_FACTOR or (token == "|" and self.bars):
            return False
        return token[0].isalnum() or token[0] == "\\" or token == "|" or token in _PAIRS

    def product(self) -> Node:
        node = self.signed()
        while True:
            token = self.next
            if token in ("*", "/"):
                self.take()
                divisor = self.next
                node = (token, node, self.signed())
                if token == "/" and divisor.isalpha() and self.factor_follows():
                    raise Unread("a/bc is ambiguous")
            elif not self.factor_follows():
                return node
            elif token[0].isdigit() and self.tokens[self.i - 1] != "!":
                raise Unread("two numbers side by side")
            else:
                node = ("*", node, self.power())

    def signed(self) -> Node:
        sign = 1
        while self.next in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        node = self.power()
        return node if sign > 0 else negative(node)

    def power(self) -> Node:
        node = self.primary()
        while (token := self.next) in ("^", "!", "°", "%"):
            self.take()
            if token == "^":
                node = ("^", node, self.group() if self.next == "{" else self.signed())
            elif token == "!" == self.next:
                self.take()
                if self.next == "!":
                    raise Unread("a multifactorial")
                node = ("!!", node)
            else:
                node = (
                    ("!", node)
                    if token == "!"
                    else ("/", node, Fraction(100))
                    if token == "%"
                    else degrees(node)
                )
        return node

    def group(self) -> Node:
        """One TeX argument: braces, or a single character."""
        token = self.next
        if token.isdigit() and len(token) > 1:
            self.tokens[self.i : self.i + 1] = [token[0], token[1:]]
            return Fraction(self.take())
        return self.primary()

    def number(self, token: str) -> Node:
        """A literal; an integer before a proper fraction of integers (`2\\frac{1}{2}`, `2 1/2`) is a mixed number."""
        digits, _, exponent = token.lower().partition("e")
        value, start, follow = (
            Fraction(digits.rstrip(".")),
            self.i,
            self.tokens[self.i : self.i + 3],
        )
        if exponent:
            return ("*", value, ("^", Fraction(10), Fraction(exponent)))
        if token.isdigit() and follow[0] == "\\frac":
            part = self.primary()
        elif (
            token.isdigit() and follow[1:2] == ["/"] and follow[0].isdigit() and follow[2].isdigit()
        ):
            part, self.i = ("/", Fraction(follow[0]), Fraction(follow[2])), self.i + 3
        else:
            return value
        if not all(isinstance(x, Fraction) and x.denominator == 1 for x in part[1:]):
            self.i = start
            return value
        if not 0 <= part[1] < part[2]:
            raise Unread("improper mixed number")
        return ("+", value, part)

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
            return (name, node) if name in ("lfloor", "lceil") else node
        if token == "|":
            self.bars += 1
            node = self.sum()
            self.take("|")
            self.bars -= 1
            return ("abs", node)
        if name in ("frac", "binom"):
            above, below = self.group(), self.group()
            if "d" in symbols(above) and isinstance(below, tuple) and below[:2] == ("*", "d"):
                raise Unread("a derivative", ask=True)
            return ("/" if name == "frac" else "binom", above, below)
        if name == "sqrt":
            index: Node = Fraction(2)
            if token[0] == "\\" and self.next == "[":
                self.take()
                index = self.sum()
                self.take("]")
            return ("root", self.group() if token[0] == "\\" else self.primary(), index)
        if name in FUNCTIONS:
            return self.function(name)
        if (
            token == "\\pi"
            and self.i == 1
            and self.tokens[1::2] == ["(", ")", ""][: len(self.tokens) // 2]
        ):
            raise Unread("\\pi may count primes", ask=True)
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if not (_is_greek(name) if token[0] == "\\" else token.isalpha()):
            raise Unread(f"cannot read {token!r}", ask=token[0] == "\\" and len(token) > 2)
        if self.next == "_":
            self.take()
            begin = self.i
            self.group()
            name += "_" + "".join(self.tokens[begin : self.i]).strip("{}")
        while self.next == "'":
            name += self.take()
        lone = self.tokens[self.i : self.i + 3 : 2] == ["(", ")"] and (
            name[0].isupper() or name in _APPLIED
        )
        if lone or (self.next == "(" and name[0] in "fghPF"):
            raise Unread(f"a value of the function {name}", ask=True)
        return name

    def function(self, name: str) -> Node:
        marks: dict[str, Node] = {}
        while (mark := self.next) in ("_", "^"):
            self.take()
            marks[mark] = self.group() if mark == "_" or self.next == "{" else self.signed()
        if self.next in ("(", "{"):
            node = self.primary()
        else:
            node = self.signed()
            while self.factor_follows() and not re.match(r"[(\d]", self.next):
                if self.next.lstrip("\\") in FUNCTIONS:
                    break
                node = ("*", node, self.power())
            if self.next == "/" and self.tokens[self.i + 1].lstrip("\\") not in FUNCTIONS:
                raise Unread(f"{name} a/b is ambiguous", ask=True)
        if marks.get("^") == -1 and name in ("sin", "cos", "tan"):
            return ("arc" + name, node)
        if name == "log":  # without a base, the base is an unknown of its own
            node = (
                ("/", ("ln", node), ("ln", marks["_"]))
                if "_" in marks
                else ("*", "log scale", ("ln", node))
            )
        else:
            node = ("root", node, Fraction(3)) if name == "cbrt" else (name, node)
        return ("^", node, marks["^"]) if "^" in marks else node


def parse(text: str) -> Node:
    """The tree of one normalised expression. Raises Unread."""
    return _Parser(text).whole()


def negative(node: Node) -> Node:
    """Minus a node."""
    if isinstance(node, tuple) and node[:2] == ("*", -1):
        return node[2]
    return (
        -node if isinstance(node, Fraction) else "-∞" if node == "∞" else ("*", Fraction(-1), node)
    )


def degrees(node: Node) -> Node:
    """An angle in degrees as a number."""
    return ("*", node, ("/", "π", Fraction(180)))


def symbols(node: Node) -> frozenset[str]:
    """Names of the variables in an expression."""
    if isinstance(node, tuple):
        return frozenset().union(*map(symbols, node[1:]))
    return (
        frozenset([node])
        if isinstance(node, str) and node not in ("π", "e", "i", "∞", "-∞")
        else frozenset()
    )


# ---------------------------------------------------------------- values

_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_MAX_SIZE = {
    "ln": MAX_BITS,
    "!": 30,
    "binom": 30,
    "exp": 60,
    "sinh": 60,
    "cosh": 60,
    "coth": 60,
    "sech": 60,
    "csch": 60,
    "lfloor": 100,
    "lceil": 100,
}  # bits of arguments


class _Machine:
    """Evaluates nodes at one working precision; exact as long as everything is rational, and bounded in time."""

    def __init__(self, digits: int) -> None:
        self.digits, self.off, self.lost, self.cost = digits, False, False, 0
        self.seen = (
            digits * 8 // 3
        )  # bits, four fifths of the precision: smaller parts do not count in a comparison

    @cached_property
    def mp(self):
        import mpmath

        context = (
            mpmath.MPContext()
        )  # its own, since mpmath's global precision is shared between threads
        context.dps = self.digits
        return context

    def lift(self, x):
        if not isinstance(x, Fraction):
            return x
        for n in (x.numerator, x.denominator):
            if n.bit_length() > self.seen and (n // (n & -n)).bit_length() > self.seen:
                self.lost = True
        return self.mp.mpf(x.numerator) / x.denominator

    def value(self, node: Node, at: dict[str, Fraction]):
        """Fraction, mpf or mpc. Raises Unread (too large), ZeroDivisionError or ValueError (undefined)."""
        if isinstance(node, Fraction):
            return node
        if isinstance(node, str):
            if "∞" in node:
                raise ValueError("infinite")
            if node in at:
                return at[node]
            return self.mp.mpc(0, 1) if node == "i" else +(self.mp.pi if node == "π" else self.mp.e)
        kind, values = node[0], [self.value(n, at) for n in node[1:]]
        bits = sum(
            v.numerator.bit_length() + v.denominator.bit_length()
            for v in values
            if isinstance(v, Fraction)
        )
        self.cost += 1 + (bits >> 10)
        if self.cost > 10_000:
            raise Unread("too expensive to evaluate")
        exact = all(isinstance(v, Fraction) for v in values)
        if kind in _ARITHMETIC and exact and bits <= MAX_BITS:
            return _ARITHMETIC[kind](*values)
        result = self.exact(kind, values) if exact else None
        self.cost += result.numerator.bit_length() >> 7 if result is not None else 0
        result = self.inexact(kind, values) if result is None else result
        if not isinstance(result, Fraction):
            if not self.mp.isfinite(result):
                raise ValueError("undefined")
            if (
                kind not in _ARITHMETIC
                and self.mp.im(result)
                and not any(self.mp.im(self.lift(v)) for v in values)
            ):
                self.off = True  # a real argument outside the real domain
        return result

    def exact(self, kind: str, values: list[Fraction]) -> Fraction | None:
        """The exact result of rationals, or None when it is not rational or not small."""
        x, y, whole = values[0], values[-1], all(v.denominator == 1 for v in values)
        if kind in ("abs", "lfloor", "lceil"):
            return Fraction(abs(x) if kind == "abs" else floor(x) if kind == "lfloor" else ceil(x))
        if kind in ("!", "binom") and whole and min(values) < 0:
            raise ValueError("factorial of a negative integer")
        if kind in ("!", "binom") and whole and max(values) <= 5000:
            return Fraction(factorial(int(x)) if kind == "!" else comb(int(x), int(y)))
        if kind == "!!" and whole and 0 <= x <= 5000:
            return Fraction(prod(range(int(x), 0, -2)))
        if kind in ("^", "root"):
            y = y if kind == "^" else 1 / y
            if x == 0 and y <= 0:
                raise ZeroDivisionError
            root = Fraction(isqrt(abs(x.numerator)), isqrt(x.denominator))
            x, y = (root, y * 2) if y.denominator == 2 and root * root == x else (x, y)
            if (
                y.denominator == 1
                and abs(y) * (x.numerator.bit_length() + x.denominator.bit_length()) <= MAX_BITS
            ):
                return x**y.numerator
        return None

    def inexact(self, kind: str, values: list):
        mp = self.mp
        self.cost += 100 if kind in ("!", "binom") else 4 * (kind not in _ARITHMETIC)
        if kind in ("^", "root"):
            return self.power(self.lift(values[0]), values[1] if kind == "^" else 1 / values[1])
        values = [self.lift(v) for v in values]
        x, sizes = values[0], [mp.mag(v) if v else 0 for v in values]
        if kind in _ARITHMETIC:
            gap = abs(sizes[0] - sizes[1]) if kind in "+-" and all(values) else 0
            if gap > 3 * self.digits:
                raise Unread("a term is lost beside a much larger one")
            self.lost |= gap > self.seen
            return _ARITHMETIC[kind](*values)
        if max(sizes) > _MAX_SIZE.get(kind, 400):
            raise Unread("number too large to evaluate")
        self.lost |= min(sizes) < -self.digits or (
            kind in ("sinh", "cosh", "tanh", "coth") and max(sizes) > 8
        )  # cos x is 1
        if kind in ("lfloor", "lceil"):
            if mp.im(x) != 0 or abs(x - mp.nint(x)) < mp.mpf(10) ** (-self.digits // 2):
                raise Unread("rounding is undecided")
            return Fraction(int(mp.floor(x) if kind == "lfloor" else mp.ceil(x)))
        if kind == "!!":
            raise Unread("double factorial of no natural number")
        if kind == "!":
            return mp.gamma(x + 1)
        return getattr(
            mp, {"binom": "binomial", "abs": "fabs"}.get(kind, kind.replace("arc", "a"))
        )(*values)

    def power(self, base, exponent):
        mp, odd = self.mp, isinstance(exponent, Fraction) and exponent.denominator % 2 == 1
        if base == 0:
            return base
        if abs(self.lift(exponent)) * (abs(mp.mag(base)) + 4) > 1e15:
            raise Unread("number too large to evaluate")
        self.lost |= exponent != 0 and mp.mag(self.lift(exponent)) < -self.digits
        if odd and exponent.denominator == 1:
            return base ** int(exponent)
        if odd and mp.im(base) == 0 and mp.re(base) < 0:  # the real root of odd degree
            return (-1) ** exponent.numerator * (-base) ** self.lift(exponent)
        return base ** self.lift(exponent)


_LOCAL = threading.local()


def machine(digits: int = DIGITS[0]) -> _Machine:
    """This thread's evaluator for a precision, reset but for its cost."""
    found = _LOCAL.__dict__.setdefault(digits, _Machine(digits))
    found.off, found.lost = False, False
    return found


def restart() -> None:
    """All that is evaluated from here on is one decision, of bounded cost."""
    for digits in DIGITS:
        machine(digits).cost = 0


def real(node: Node):
    """Real value of a constant node to 50 digits, to compare with < and >. Raises as `equal` does."""
    return machine().mp.re(machine().lift(machine().value(node, {})))


def points(names: Collection[str]) -> list[dict[str, Fraction]]:
    """Eight fixed assignments of rationals of several sizes and signs to the names ([{}] without names)."""

    def at(name: str, i: int, k: int) -> Fraction:
        seed = zlib.crc32(f"{name}/{k}".encode())
        size = Fraction(seed % 9_000 + 300, (997, 2003, 3001, 9973)[k % 4])
        return -size if name != "log scale" and k > 2 and (k == 3 or (i >> k % 3) + k & 1) else size

    return (
        [{name: at(name, i, k) for i, name in enumerate(sorted(names))} for k in range(8)]
        if names
        else [{}]
    )


def _close(m: _Machine, a, b, digits: int) -> bool:
    a, b = m.lift(a), m.lift(b)
    return abs(a - b) <= max(abs(a), abs(b)) * m.mp.mpf(10) ** -digits


def _agree(a: Node, b: Node, at: dict[str, Fraction]) -> tuple[str, bool]:
    """Label ("" when different) of two values at one point, and whether both stayed in the real domain."""
    seen = []
    for digits in DIGITS:
        m, share = machine(digits), digits * 4 // 5
        y, x = m.value(b, at), m.value(a, at)
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return "exact rational" if x == y else "", not m.off
        seen.append((x, y))
        if (
            not _close(m, x, y, share)
            and max(abs(m.lift(x)), abs(m.lift(y))) > m.mp.mpf(10) ** -share
        ):
            return "", not m.off
    if _close(m, x, y, share):
        if m.lost and not at:
            raise Unread("numbers of more digits than are compared")
        return f"value to {share} digits", not m.off
    noise = all(
        not late or not _close(m, early, late, 10) for early, late in zip(*seen)
    )  # changes with the precision
    return f"zero to {share} digits" if noise else "", not m.off


def equal(a: Node, b: Node) -> str:
    """Label of the equality of prediction `a` and gold `b`, or "": they agree at every point at which both are real.

    Raises Unread when undecided (too large, undefined everywhere).
    """
    if a == b:
        return "same expression"
    if any(isinstance(n, str) and "∞" in n for n in (a, b)):
        return ""
    inside, outside = [], []
    for at in points(symbols(a) | symbols(b)):
        try:
            label, is_real = _agree(a, b, at)
        except (ZeroDivisionError, ValueError):
            try:
                machine().value(b, at)
                return ""  # only the prediction is undefined here
            except (ZeroDivisionError, ValueError):
                continue
        if is_real and not label:
            return ""
        (inside if is_real else outside).append(label)
    labels = inside if len(inside) >= 3 else inside + outside
    if not labels:
        raise Unread("undefined everywhere")
    if all(labels) and re.search("abs|floor|ceil|root", f"{a}{b}"):  # |x-50| is not 50-x
        for at in points(symbols(a) | symbols(b))[-2:]:
            for size in (
                1009,
                10**6 + 3,
                3600 * prod(value.denominator for value in at.values()),
            ):  # the last: to whole numbers
                with suppress(Unread, ZeroDivisionError, ValueError):
                    label, is_real = _agree(
                        a, b, {name: value * size for name, value in at.items()}
                    )
                    labels += [label] * is_real
    return labels[0] if all(labels) else ""


def proportional(a: Node, b: Node, positive: bool = False) -> str:
    """Label when a = c * b for a constant c (c > 0 if `positive`): the same equation, or the same inequality."""
    if symbols(a) != symbols(b):
        return ""
    at, m = points(symbols(a))[0], machine(DIGITS[1])
    x, y = (m.lift(m.value(n, at)) for n in (a, b))
    if not x or not y or (positive and (m.mp.im(x / y) != 0 or m.mp.re(x / y) < 0)):
        return ""
    return equal(("*", a, _fixed(b, at)), ("*", b, _fixed(a, at)))


def _fixed(node: Node, at: dict[str, Fraction]) -> Node:
    """The node with its variables replaced by numbers."""
    if isinstance(node, tuple):
        return (node[0], *(_fixed(n, at) for n in node[1:]))
    return at.get(node, node) if isinstance(node, str) else node
