"""Compares the values of expressions: rationals exactly, all others to 240 digits, several points for variables."""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from fractions import Fraction
from math import prod

from wcse_lib.answers.evaluation import (
    DIGITS,
    UNDEFINED,
    Evaluator,
    Point,
    coordinate,
    evaluator,
    real,
)
from wcse_lib.answers.nodes import Node, Unread, of_whole_numbers, replaced, symbols

MIN_DIGITS = 15  # that must be left for a comparison where digits cancel
N_POINTS = 8
N_REAL = 3  # of them at least are in the real domain; else points nearer to zero are tried


def points(names: Collection[str], whole: Collection[str] = ()) -> list[Point]:
    """Eight fixed assignments of rationals of several sizes and signs to the names ([{}] without names).

    The `whole` ones among them are 1 to 8.
    """
    if not names:
        return [{}]
    ordered = list(enumerate(sorted(names)))
    found = []
    for k in range(N_POINTS):
        point = {name: coordinate(name, i, k) for i, name in ordered}
        point.update(dict.fromkeys(whole, Fraction(k + 1)))
        found.append(point)
    return found


def _close(machine: Evaluator, a, b, digits: int) -> bool:
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
        # digits that cancelled, as in sqrt(x^2+1) - x, are no difference
        n_left = n_compared - machine.cancelled_bits * 3 // 10
        if not is_close and (n_left < MIN_DIGITS or _close(machine, x, y, n_left)):
            is_close = digits == DIGITS[1] and n_left >= DIGITS[0]
        elif not is_close:
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
    try:
        return _equal_at_points(a, b)
    except Unread as error:
        try:
            is_unequal = not symbols(("-", a, b)) and _are_far_apart(a, b)
        except (Unread, *UNDEFINED):
            raise error from None
        if is_unequal:
            return ""
        if _base(a) == _base(b) != "":
            return equal(a[2], b[2])
        raise


def _equal_at_points(a: Node, b: Node) -> str:
    whole = of_whole_numbers(a) | of_whole_numbers(b)
    places = points(symbols(a) | symbols(b), whole)
    inside, outside = [], []  # of the real domain
    near_zero = [{name: value / 16 for name, value in at.items()} for at in places]
    for at in places + near_zero:
        if at is near_zero[0] and (len(inside) >= N_REAL or whole or not at):
            break
        result = _at_point(a, b, at)
        if result is None:
            continue
        label, is_real = result
        if is_real and not label:
            return ""
        (inside if is_real else outside).append(label)
    labels = inside if len(inside) >= N_REAL else inside + outside
    if not labels:
        raise Unread("undefined everywhere")
    if not all(labels):
        return ""
    may_turn = re.search("abs|floor|ceil|root|max|min", f"{a}{b}")
    if may_turn and not whole and not _agree_far_out(a, b, places[-2:]):
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
    whole = of_whole_numbers(a) | of_whole_numbers(b)
    at, machine = points(symbols(a), whole)[0], evaluator(DIGITS[1])
    x = machine.lift(machine.value(a, at))
    y = machine.lift(machine.value(b, at))
    if not x or not y:
        return ""
    if positive and (machine.mp.im(x / y) != 0 or machine.mp.re(x / y) < 0):
        return ""
    return equal(("*", a, replaced(b, at)), ("*", b, replaced(a, at)))


# ---------------------------------------------------------------- numbers too large to evaluate

LARGE = 10**9


def _base(node: Node) -> Node:
    """The base of a power of a rational above 1, else ""."""
    is_power = isinstance(node, tuple) and node[0] == "^" and isinstance(node[1], Fraction)
    return node[1] if is_power and node[1] > 1 else ""


def _are_far_apart(a: Node, b: Node) -> bool:
    """Whether two positive numbers differ by their logarithms' logarithms."""
    (a_height, x), (b_height, y) = _tower(a), _tower(b)
    log10 = evaluator().mp.log10
    while a_height < b_height and x > 0:
        a_height, x = a_height + 1, log10(x)
    while b_height < a_height and y > 0:
        b_height, y = b_height + 1, log10(y)
    return a_height != b_height or abs(x - y) > max(abs(x), abs(y)) / 100


def _tower(node: Node):
    """(height, top): about 10 to the power of 10 to the power of ... top, so that top is below `LARGE`."""
    with suppress(Unread):
        return _lowered(0, real(node))
    if node[0] == "+":
        return _larger(_tower(node[1]), _tower(node[2]))
    if node[0] == "*":
        return _raised(_larger(_logarithm(_tower(node[1])), _logarithm(_tower(node[2]))))
    if node[0] not in ("^", "!"):
        raise Unread("number too large to evaluate")
    exponent = _tower(node[-1])
    base = _tower(node[1])
    # log(b^c) is c log b, and log(n!) about n log n
    log_of_log = _larger(_logarithm(exponent), _logarithm(_logarithm(base)))
    return _raised(_raised(log_of_log))


def _lowered(height: int, top):
    while top >= LARGE:
        height, top = height + 1, evaluator().mp.log10(top)
    return height, top


def _raised(tower):
    """Ten to the power of a tower."""
    return _lowered(tower[0] + 1, tower[1])


def _logarithm(tower):
    height, top = tower
    if height:
        return height - 1, top
    if top <= 0:
        raise Unread("the logarithm of no positive number")
    return 0, evaluator().mp.log10(top)


def _larger(one, other):
    """About the sum of two towers: only small numbers add up."""
    if not one[0] and not other[0]:
        return _lowered(0, one[1] + other[1])
    return max(one, other)
