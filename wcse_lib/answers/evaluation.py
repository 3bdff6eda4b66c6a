"""Evaluates expressions: exactly as long as everything is rational, else to 50 or 300 digits; bounded in time."""

from __future__ import annotations

import operator
import threading
import zlib
from fractions import Fraction
from functools import cached_property, lru_cache
from math import ceil, comb, factorial, floor, gcd, isqrt, lcm, prod

from wcse_lib.answers.nodes import Node, Unread

DIGITS = (50, 300)  # two working precisions: the first rejects, the second confirms
MAX_BITS = 60_000  # of an exact number; larger ones are compared by high-precision value
MAX_COST = 10_000  # of one decision, in about the time of one small operation
MAX_FACTORIAL = 5000  # exact up to here
MAX_TERMS = 1000  # of a sum
UNDEFINED = (ZeroDivisionError, ValueError)
Point = dict[str, Fraction]  # a value for each variable

_ARITHMETIC = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}
_EXACT_OF_SEVERAL = {
    "max": max,
    "min": min,
    "gcd": lambda numbers: gcd(*numbers),
    "lcm": lambda numbers: lcm(*numbers),
}
_MPMATH_NAMES = {"binom": "binomial", "abs": "fabs"}
# Bits of arguments.
_MAX_SIZE = {"ln": MAX_BITS, "!": 30, "binom": 30, "exp": 60, "lfloor": 100, "lceil": 100}
_MAX_SIZE |= dict.fromkeys(("sinh", "cosh", "coth", "sech", "csch"), 60)
_MAX_SIZE_ELSE = 400


class Evaluator:
    """Evaluates nodes at one working precision; exact as long as everything is rational, and bounded in time.

    `left_reals`: a real argument was outside a function's real domain. `lost_digits`: a part too small, or a number too
    long, for the precision entered a value. `cancelled_bits`: how many a difference of like numbers lost at most. All
    hold since the last `evaluator()`; `cost` since the last `restart()`.
    """

    def __init__(self, digits: int) -> None:
        self.digits = digits
        self.left_reals = False
        self.lost_digits = False
        self.cancelled_bits = 0
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
        if kind == "sum":
            return self.series(node, at)
        if kind == "index":
            return coordinate(f"{node[1]}_{self.value(node[2], at)}", 0, 0)
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

    def series(self, node: Node, at: Point):
        """The sum of its terms, one after the other."""
        _, counter, first, last, term = node
        ends = [self.value(end, at) for end in (first, last)]
        if not all(isinstance(end, Fraction) and end.denominator == 1 for end in ends):
            raise ValueError("a sum between numbers that are not whole")
        numbers = range(int(ends[0]), int(ends[1]) + 1)
        if len(numbers) > MAX_TERMS:
            raise Unread("a sum of too many terms", ask=True)
        total: Node = Fraction(0)
        for number in numbers:
            value = self.value(term, {**at, counter: Fraction(number)})
            is_exact = isinstance(total, Fraction) and isinstance(value, Fraction)
            total = total + value if is_exact else self.lift(total) + self.lift(value)
        return total

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
        if kind in _EXACT_OF_SEVERAL:
            return self.exact_of_several(kind, values)
        if kind == "mod":
            return x % y
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

    def exact_of_several(self, kind: str, values: list[Fraction]) -> Fraction:
        """The greatest or least of rationals, or their common divisor or multiple."""
        if kind in ("max", "min"):
            return _EXACT_OF_SEVERAL[kind](values)
        below = lcm(*(value.denominator for value in values))
        return Fraction(_EXACT_OF_SEVERAL[kind](int(value * below) for value in values), below)

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
            return self.plus_or_minus(kind, *values)
        if kind in _ARITHMETIC:
            return _ARITHMETIC[kind](*values)
        if kind in ("max", "min"):
            if any(map(mp.im, values)):
                raise ValueError(f"{kind} of numbers that are not real")
            return _EXACT_OF_SEVERAL[kind](map(mp.re, values))
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
        if kind in ("!!", "mod", "gcd", "lcm"):
            raise Unread(f"{kind} of numbers that are not whole")
        if kind == "!":
            return mp.gamma(x + 1)
        name = _MPMATH_NAMES.get(kind, kind.replace("arc", "a"))
        return getattr(mp, name)(*values)

    def plus_or_minus(self, kind: str, x, y):
        """A sum or difference of two numbers other than 0, and how many of their bits it loses."""
        mp = self.mp
        larger, smaller = sorted((mp.mag(x), mp.mag(y)), reverse=True)
        if larger - smaller > 3 * self.digits:
            raise Unread("a term is lost beside a much larger one")
        self.lost_digits |= larger - smaller > self.compared_bits
        result = _ARITHMETIC[kind](x, y)
        n_bits = larger - mp.mag(result) if result else mp.prec
        self.cancelled_bits = max(self.cancelled_bits, n_bits)
        return result

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


def evaluator(digits: int = DIGITS[0]) -> Evaluator:
    """This thread's evaluator for a precision, reset but for its cost."""
    mine = _LOCAL.__dict__.get(digits)
    if mine is None:
        mine = _LOCAL.__dict__[digits] = Evaluator(digits)
    mine.left_reals = mine.lost_digits = False
    mine.cancelled_bits = 0
    return mine


def restart() -> None:
    """All that is evaluated from here on is one decision, of bounded cost."""
    for digits in DIGITS:
        evaluator(digits).cost = 0


def real(node: Node):
    """Real value of a constant node to 50 digits, to compare with < and >. Raises as `equal` does."""
    machine = evaluator()
    return machine.mp.re(machine.lift(machine.value(node, {})))


@lru_cache(1024)
def coordinate(name: str, i: int, k: int) -> Fraction:
    """Value of the i-th variable at the k-th point: positive at the first three, negative at the next, then either."""
    seed = zlib.crc32(f"{name}/{k}".encode())
    size = Fraction(seed % 9_000 + 300, (997, 2003, 3001, 9973)[k % 4])
    is_negative = k > 2 and (k == 3 or (i >> k % 3) + k & 1)
    return -size if is_negative and name != "log scale" else size
