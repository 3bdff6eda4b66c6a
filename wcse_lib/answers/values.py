"""Compares the values of expressions: rationals exactly, all others to 240 digits, several points for variables."""

from __future__ import annotations

import operator
import re
import threading
import zlib
from collections.abc import Collection
from contextlib import suppress
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil, comb, factorial, floor, isqrt, prod

from wcse_lib.answers.expressions import Node, Unread, symbols

DIGITS = (50, 300)  # two working precisions: the first rejects, the second confirms
MAX_BITS = 60_000  # of an exact number; larger ones are compared by high-precision value
MAX_COST = 10_000  # of one decision, in about the time of one small operation
MAX_FACTORIAL = 5000  # exact up to here
N_POINTS = 8
UNDEFINED = (ZeroDivisionError, ValueError)
Point = dict[str, Fraction]  # a value for each variable

_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_MPMATH_NAMES = {"binom": "binomial", "abs": "fabs"}
# Bits of arguments.
_MAX_SIZE = {"ln": MAX_BITS, "!": 30, "binom": 30, "exp": 60, "lfloor": 100, "lceil": 100}
_MAX_SIZE |= dict.fromkeys(("sinh", "cosh", "coth", "sech", "csch"), 60)
_MAX_SIZE_ELSE = 400


class _Evaluator:
    """Evaluates nodes at one working precision; exact as long as everything is rational, and bounded in time.

    `left_reals`: a real argument was outside a function's real domain. `lost_digits`: a part too small, or a number too
    long, for the precision entered a value. Both hold since the last `evaluator()`; `cost` since the last `restart()`.
    """

    def __init__(self, digits: int) -> None:
        self.digits = digits
        self.left_reals = False
        self.lost_digits = False
        self.cost = 0
        # four fifths of the precision, in bits: smaller parts do not count in a comparison
        self.compared_bits = digits * 8 // 3

    @cached_property
    def mp(self):
        import mpmath

        # a context of its own, since mpmath's global precision is shared between threads
        context = mpmath.MPContext()
        context.dps = self.digits
        return context

    def lift(self, x):
        """A Fraction as mpf; other values unchanged."""
        if not isinstance(x, Fraction):
            return x
        for n in (x.numerator, x.denominator):
            if n.bit_length() > self.compared_bits:
                without_zeros = n // (n & -n)
                self.lost_digits |= without_zeros.bit_length() > self.compared_bits
        return self.mp.mpf(x.numerator) / x.denominator

    def value(self, node: Node, at: Point):
        """Fraction, mpf or mpc. Raises Unread (too large), ZeroDivisionError or ValueError (undefined)."""
        if isinstance(node, Fraction):
            return node
        if isinstance(node, str):
            return self.named(node, at)
        kind = node[0]
        values = [self.value(part, at) for part in node[1:]]
        bits, is_exact = 0, True
        for value in values:
            if isinstance(value, Fraction):
                bits += value.numerator.bit_length() + value.denominator.bit_length()
            else:
                is_exact = False
        self.cost += 1 + (bits >> 10)
        if self.cost > MAX_COST:
            raise Unread("too expensive to evaluate")
        if is_exact and bits <= MAX_BITS and kind in _ARITHMETIC:
            return _ARITHMETIC[kind](*values)
        if is_exact:
            result = self.exact(kind, values)
            if result is not None:
                self.cost += result.numerator.bit_length() >> 7
                return result
        result = self.inexact(kind, values)
        if isinstance(result, Fraction):
            return result
        if not self.mp.isfinite(result):
            raise ValueError("undefined")
        if kind not in _ARITHMETIC and self.mp.im(result) and not self.left_reals:
            self.left_reals = not any(self.mp.im(self.lift(value)) for value in values)
        return result

    def named(self, name: str, at: Point):
        """The value of a constant or a variable."""
        if "∞" in name:
            raise ValueError("infinite")
        if name in at:
            return at[name]
        if name == "i":
            return self.mp.mpc(0, 1)
        return +(self.mp.pi if name == "π" else self.mp.e)

    def exact(self, kind: str, values: list[Fraction]) -> Fraction | None:
        """The exact result of rationals, or None when it is not rational or not small."""
        x, y = values[0], values[-1]
        if kind == "abs":
            return abs(x)
        if kind in ("lfloor", "lceil"):
            return Fraction(floor(x) if kind == "lfloor" else ceil(x))
        if kind in ("^", "root"):
            return self.exact_power(x, y if kind == "^" else 1 / y)
        if kind not in ("!", "!!", "binom") or not all(v.denominator == 1 for v in values):
            return None
        if kind == "!!":
            return Fraction(prod(range(int(x), 0, -2))) if 0 <= x <= MAX_FACTORIAL else None
        if min(values) < 0:
            raise ValueError("factorial of a negative integer")
        if max(values) > MAX_FACTORIAL:
            return None
        return Fraction(factorial(int(x)) if kind == "!" else comb(int(x), int(y)))

    def exact_power(self, base: Fraction, exponent: Fraction) -> Fraction | None:
        if base == 0 and exponent <= 0:
            raise ZeroDivisionError
        if exponent.denominator == 2:
            root = Fraction(isqrt(abs(base.numerator)), isqrt(base.denominator))
            if root * root == base:
                base, exponent = root, exponent * 2
        if exponent.denominator != 1:
            return None
        bits = base.numerator.bit_length() + base.denominator.bit_length()
        return base**exponent.numerator if abs(exponent) * bits <= MAX_BITS else None

    def inexact(self, kind: str, values: list):
        """The result at the working precision. Raises Unread when it is too large or cannot be decided."""
        mp = self.mp
        if kind in ("^", "root"):
            self.cost += 4
            return self.power(self.lift(values[0]), values[1] if kind == "^" else 1 / values[1])
        values = [self.lift(value) for value in values]
        if kind in "+-" and all(values):
            gap = abs(mp.mag(values[0]) - mp.mag(values[1]))
            if gap > 3 * self.digits:
                raise Unread("a term is lost beside a much larger one")
            self.lost_digits |= gap > self.compared_bits
        if kind in _ARITHMETIC:
            return _ARITHMETIC[kind](*values)
        self.cost += 100 if kind in ("!", "binom") else 4
        sizes = [mp.mag(value) if value else 0 for value in values]
        if max(sizes) > _MAX_SIZE.get(kind, _MAX_SIZE_ELSE):
            raise Unread("number too large to evaluate")
        # the function may hide its argument: the cosine of a tiny x is 1
        is_flat = max(sizes) > 8 and kind in ("sinh", "cosh", "tanh", "coth")
        self.lost_digits |= is_flat or min(sizes) < -self.digits
        x = values[0]
        if kind in ("lfloor", "lceil"):
            return self.rounded(kind, x)
        if kind == "!!":
            raise Unread("double factorial of no natural number")
        if kind == "!":
            return mp.gamma(x + 1)
        name = _MPMATH_NAMES.get(kind, kind.replace("arc", "a"))
        return getattr(mp, name)(*values)

    def rounded(self, kind: str, x) -> Fraction:
        mp = self.mp
        if mp.im(x) != 0 or abs(x - mp.nint(x)) < mp.mpf(10) ** (-self.digits // 2):
            raise Unread("rounding is undecided")
        return Fraction(int(mp.floor(x) if kind == "lfloor" else mp.ceil(x)))

    def power(self, base, exponent):
        mp = self.mp
        if base == 0:
            return base
        lifted = self.lift(exponent)
        if abs(lifted) * (abs(mp.mag(base)) + 4) > 1e15:
            raise Unread("number too large to evaluate")
        self.lost_digits |= exponent != 0 and mp.mag(lifted) < -self.digits
        has_odd_root = isinstance(exponent, Fraction) and exponent.denominator % 2 == 1
        if has_odd_root and exponent.denominator == 1:
            return base ** int(exponent)
        if has_odd_root and mp.im(base) == 0 and mp.re(base) < 0:
            return (-1) ** exponent.numerator * (-base) ** lifted  # the real root of odd degree
        return base**lifted


_LOCAL = threading.local()


def evaluator(digits: int = DIGITS[0]) -> _Evaluator:
    """This thread's evaluator for a precision, reset but for its cost."""
    mine = _LOCAL.__dict__.get(digits)
    if mine is None:
        mine = _LOCAL.__dict__[digits] = _Evaluator(digits)
    mine.left_reals = mine.lost_digits = False
    return mine


def restart() -> None:
    """All that is evaluated from here on is one decision, of bounded cost."""
    for digits in DIGITS:
        evaluator(digits).cost = 0


def real(node: Node):
    """Real value of a constant node to 50 digits, to compare with < and >. Raises as `equal` does."""
    machine = evaluator()
    return machine.mp.re(machine.lift(machine.value(node, {})))


def points(names: Collection[str]) -> list[Point]:
    """Eight fixed assignments of rationals of several sizes and signs to the names ([{}] without names)."""
    if not names:
        return [{}]
    ordered = list(enumerate(sorted(names)))
    return [{name: _coordinate(name, i, k) for i, name in ordered} for k in range(N_POINTS)]


@lru_cache(1024)
def _coordinate(name: str, i: int, k: int) -> Fraction:
    """Value of the i-th variable at the k-th point: positive at the first three, negative at the next, then either."""
    seed = zlib.crc32(f"{name}/{k}".encode())
    size = Fraction(seed % 9_000 + 300, (997, 2003, 3001, 9973)[k % 4])
    is_negative = k > 2 and (k == 3 or (i >> k % 3) + k & 1)
    return -size if is_negative and name != "log scale" else size


def _close(machine: _Evaluator, a, b, digits: int) -> bool:
    a, b = machine.lift(a), machine.lift(b)
    return abs(a - b) <= max(abs(a), abs(b)) * machine.mp.mpf(10) ** -digits


def _agree(a: Node, b: Node, at: Point) -> tuple[str, bool]:
    """Label ("" when different) of two values at one point, and whether both stayed in the real domain."""
    earlier = None
    for digits in DIGITS:
        machine, n_compared = evaluator(digits), digits * 4 // 5
        y, x = machine.value(b, at), machine.value(a, at)
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return "exact rational" if x == y else "", not machine.left_reals
        is_close = _close(machine, x, y, n_compared)
        if not is_close:
            size = max(abs(machine.lift(x)), abs(machine.lift(y)))
            if size > machine.mp.mpf(10) ** -n_compared:
                return "", not machine.left_reals
        if digits == DIGITS[0]:
            earlier = x, y
    if is_close:
        if machine.lost_digits and not at:
            raise Unread("numbers of more digits than are compared")
        return f"value to {n_compared} digits", not machine.left_reals
    # Both are nearly zero: they are zero if what is left of them changes with the precision.
    is_noise = True
    for early, late in zip(earlier, (x, y)):
        if late and _close(machine, early, late, 10):
            is_noise = False
    return f"zero to {n_compared} digits" if is_noise else "", not machine.left_reals


def _at_point(a: Node, b: Node, at: Point) -> tuple[str, bool] | None:
    """As `_agree`; None where both are undefined."""
    try:
        return _agree(a, b, at)
    except UNDEFINED:
        try:
            evaluator().value(b, at)
        except UNDEFINED:
            return None
        return "", True  # only the prediction is undefined here


def equal(a: Node, b: Node) -> str:
    """Label of the equality of prediction `a` and gold `b`, or "": they agree at every point at which both are real.

    Raises Unread when undecided (too large, undefined everywhere).
    """
    if a == b:
        return "same expression"
    if _is_infinite(a) or _is_infinite(b):
        return ""
    places = points(symbols(a) | symbols(b))
    inside, outside = [], []  # of the real domain
    for at in places:
        result = _at_point(a, b, at)
        if result is None:
            continue
        label, is_real = result
        if is_real and not label:
            return ""
        (inside if is_real else outside).append(label)
    labels = inside if len(inside) >= 3 else inside + outside
    if not labels:
        raise Unread("undefined everywhere")
    if not all(labels):
        return ""
    if re.search("abs|floor|ceil|root", f"{a}{b}") and not _agree_far_out(a, b, places[-2:]):
        return ""
    return labels[0]


def _is_infinite(node: Node) -> bool:
    return isinstance(node, str) and "∞" in node


def _agree_far_out(a: Node, b: Node, places: list[Point]) -> bool:
    """Whether two nodes agree at distant points too, as |x - 50| and 50 - x do not."""
    for at in places:
        to_whole_numbers = 3600 * prod(value.denominator for value in at.values())
        for size in (1009, 10**6 + 3, to_whole_numbers):
            with suppress(Unread, *UNDEFINED):
                label, is_real = _agree(a, b, {name: value * size for name, value in at.items()})
                if is_real and not label:
                    return False
    return True


def proportional(a: Node, b: Node, positive: bool = False) -> str:
    """Label when a = c * b for a constant c (c > 0 if `positive`): the same equation, or the same inequality."""
    if symbols(a) != symbols(b):
        return ""
    at, machine = points(symbols(a))[0], evaluator(DIGITS[1])
    x = machine.lift(machine.value(a, at))
    y = machine.lift(machine.value(b, at))
    if not x or not y:
        return ""
    if positive and (machine.mp.im(x / y) != 0 or machine.mp.re(x / y) < 0):
        return ""
    return equal(("*", a, _fixed(b, at)), ("*", b, _fixed(a, at)))


def _fixed(node: Node, at: Point) -> Node:
    """The node with its variables replaced by numbers."""
    if isinstance(node, tuple):
        return (node[0], *(_fixed(part, at) for part in node[1:]))
    return at.get(node, node) if isinstance(node, str) else node
