"""The arithmetic judge: recomputes every purely numeric equation of a text."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import product
from operator import add, mul, sub, truediv

# Bounds of what is read, so that no text takes long: characters and equations of a text, tokens of a side, digits of a
# number, bits of a power.
MAX_CHARS = 100_000
MAX_EQUATIONS = 5_000
MAX_TOKENS = 120
MAX_DIGITS = 40
MAX_BITS = 1_000

_MARK = re.compile(r"<<([^<>\n]{0,400})>>")
_EQUALS = re.compile(r"(?<![<>!=:≠≈~])=+(?![<>≈~])")
_TOKEN = re.compile(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+|\*\*|[-+*/^()%]")
# where a clause ends within a run of numbers and signs
_CLAUSE = re.compile(r"(?:^|(?<=[\d)%]))(?:\.\s|,\s(?!\d{3}\b))")
_GLUED = re.compile(r"[\w\\{}'\"^.!|]$|\d:$")
_OPERATORS = {"+", "-", "*", "/", "^", "**"}
_CHARS = "0123456789.,+-*/^()% \t"
_SWAP = str.maketrans(
    dict.fromkeys("×✕∗·⋅", "*") | dict.fromkeys("÷∕⁄", "/") | dict.fromkeys("−–—‒", "-")
)
# to plain signs; bullets, bold, currency and equal units (`3 km + 4 km = 7 km`) go
_REWRITE = [
    (re.compile(r"^\s*[-*+•]\s+"), ""),
    (re.compile(r"\\(?:times|cdot)(?![a-z])"), "*"),
    (re.compile(r"\\div(?![a-z])"), "/"),
    (re.compile(r"=\s{0,3}\\(?:boxed|fbox)\{([\d.,$%/ ]{1,40})\}"), r"= \1. "),
    (re.compile(r"(?<![\d)])(?<![\d)] )\*\*(?=[\d$(])|(?<=[\d%)])\*\*(?!\s?[\d($])"), ""),
    (re.compile(r"\\[dt]?frac\{(\d{1,20})\}\{(\d{1,20})\}"), r" (\1/\2)"),
    (re.compile(r"\\?[$£€]|\\(?=%)|\\[!()\[\]]|&(?= ?=)"), ""),
    (re.compile(r"(?<=[\d)%])\s{0,3}[xX]\s{0,3}(?=[\d(.])"), "*"),
    (
        re.compile(
            r"([\d.,]{1,20} ?\b([A-Za-z]{2,20})(?: ?[-+] ?[\d.,]{1,20} ?\2){1,20})(?= ?= ?[\d.,]{1,20} ?\2)"
        ),
        lambda m: m[1].replace(m[2], ""),
    ),
]
# words of a line whose results may be rounded to whole numbers
_ABOUT = re.compile(
    r"(?i)\b(?:round|approx|nearest|remain|(?:about|nearly|almost|around|whole|left ?over)\b)|[≈~]"
)
# words of a line that convert units, and their factor
_CONVERT = {
    "cent|¢|%": 100,
    "hour|minute": 60,
    "day": 24,
    "week": 7,
    "year|foot|feet": 12,
    "kilo|milli|thousand": 1000,
}
# words that draw the number after them into a larger expression, or make it a label
_OPEN_LEFT = re.compile(
    r"(?i)\b(?:x|times|plus|minus|over|less|more|from|than|(?:divid|multipli)ed by|(?:day|week|month|year|round)s?)$"
    r"|\b(?:half|quarters?|thirds?|(?:four|fif|six|seven|eigh|nin|ten)ths?|percent) of$|[%\d]\s*(?:of|and)$"
    r"|\b(?:step|number)s?$|\\[a-z]+$|(?<!total )(?<!equal )(?<!equals )(?<!up )(?<!comes )\bto$"
)
# words and signs that make the number before them part of a larger one
_OPEN_RIGHT = re.compile(
    r"(?i)(?:dozen|hundred|thousand|[mbtr]+illion|half|halves|(?:\\text\{ ?)?r(?:\s?\d+|emainder)?|of|percent)\b"
    r"|[b-z]\b(?![&'’])|(?:hours?|minutes?|days?|weeks?|feet|foot|pounds?|dollars?),? (?:and )?\d"
    r"|and (?:an?|one|\d+)\b|\.?(?:[_:^{²³]|\\(?!quad|text|end)[a-z])"
)


@dataclass(frozen=True)
class _Equation:
    """One readable `=`: the tokens of its sides, and two things about its right one."""

    left: list[str]
    right: list[str]
    counts_things: bool  # a word follows: 11/5 = 2 trays
    goes_on: bool  # a further `=` follows: 5*2 = 10+3 = 13


@dataclass(frozen=True)
class _Reading:
    """How an expression is read."""

    rounded: dict[str, Fraction] | None = None  # what literals stand for: 10/3 for 3.33
    percent: int = 100  # what `%` divides by
    relative: bool = False  # 100 - 20% as 100 less a fifth of it


def judge_arithmetic(text: str) -> tuple[bool | None, str]:
    """Check every purely numeric equation of a text; a wrong one in a correct sample makes it a false positive.

    Returns (False, the first wrong step), (True, how many were right) or (None, "no equation to check"). It sees wrong
    sums, not wrong ideas, so its rate is a *lower bound* on the false-positive rate. Read: `a op b = c`, chains, GSM8K
    marks `<<…=…>>`, percents, currency, thousands commas, fractions, × ÷ x and LaTeX's signs, all exactly (Fraction);
    a side with words is not read. In doubt it passes: a result may be rounded or cut at its last decimal (10/3 = 3.33,
    which may go on as 10/3), and to an integer where the line says so or a quotient counts things (11/5 = 2 trays);
    units may change by their usual factor; 5*2 = 10+3 = 13 is fair. Time is linear in the first 100,000 characters.

    >>> judge_arithmetic("5+6=11, so 11*2=23")
    (False, 'wrong step: 11*2 = 23, not 22')
    """
    n_right, rounded = 0, {}
    for line in text[:MAX_CHARS].translate(_SWAP).split("\n"):
        if "=" not in line:
            continue
        is_about = bool(_ABOUT.search(line))
        factors = [factor for words, factor in _CONVERT.items() if re.search(words, line)]
        for equation in _equations(line):
            if n_right >= MAX_EQUATIONS:
                return True, f"{n_right} equations right, the rest not read"
            is_rough = is_about or (equation.counts_things and "/" in equation.left)
            holds = _holds(equation, rounded, is_rough, factors)
            if holds is False:
                step = f"{''.join(equation.left)[:60]} = {''.join(equation.right)[:60]}"
                return False, f"wrong step: {step}, not {float(_value(equation.left)):.9g}"
            if holds:
                n_right += 1
    return (True, f"{n_right} equations right") if n_right else (None, "no equation to check")


def _equations(line: str) -> Iterator[_Equation]:
    """The readable equations of a line, those of its marks `<<…=…>>` first."""
    for pattern, new in _REWRITE:
        line = pattern.sub(new, line)
    for part in [*_MARK.findall(line), _MARK.sub("", line)]:
        sides, equation = _EQUALS.split(part), None
        for i in range(len(sides) - 1):
            goes_on = i + 2 < len(sides)
            is_linked = equation is not None
            equation = _equation(sides[i][-400:], sides[i + 1][:400], is_linked, goes_on)
            if equation is not None:
                yield equation


def _equation(before: str, after: str, is_linked: bool, goes_on: bool) -> _Equation | None:
    """The equation around one `=`; None where a side is no number or expression, or only a part of one.

    `is_linked`: the `=` before it could be read, so that 20 = 21 in 5*4 = 20 = 21 is an equation too.
    """
    # the run of numbers and signs on either side, and the words around
    words = before.rstrip(_CHARS)
    run = before[len(words) :]
    for clause in list(_CLAUSE.finditer(run))[-1:]:
        run, words = run[clause.end() :], ""
    end = len(after) - len(after.lstrip(_CHARS))
    stop = re.search(r"[.,](?!\d)", after[:end])
    if stop:
        end = stop.start()
    left, right, rest = _tokens(run), _tokens(after[:end]), after[end:]

    # brackets, and the slash of `10 / hour`, that belong to the words
    while left[:1] == ["("] and left.count("(") > left.count(")"):
        left = left[1:]
    while right[-1:] == ["("] or (right[-1:] == [")"] and right.count(")") > right.count("(")):
        right = right[:-1]
    counts_things = bool(re.match(r"[A-Za-z]{2}", rest))
    if counts_things and right[-1:] == ["/"]:
        right = right[:-1]
    if not left or not right:
        return None

    # something must be worked out, and on the left unless the chain goes on
    works_left = not _OPERATORS.union("(").isdisjoint(left[1:])
    works_right = not _OPERATORS.union("(").isdisjoint(right[1:])
    is_chain = is_linked and "".join(left + right).replace(",", "").isdigit()
    if not (works_left or works_right or is_chain):
        return None
    if not works_left and (words or "%" in right):
        return None
    if _goes_further_left(words, run, left[0]):
        return None
    # 15+2ab is algebra
    letters = r"[A-Za-z]" if works_right else r"[A-Za-z]\b"
    is_algebra = not after[end - 1].isspace() and re.match(letters, rest)
    if is_algebra or _OPEN_RIGHT.match(rest):
        return None
    return _Equation(left, right, counts_things, goes_on)


def _goes_further_left(words: str, run: str, first: str) -> bool:
    """Whether the run is a part of a larger expression that begins with the words before it."""
    is_glued = words and not run[:1].isspace() and _GLUED.search(words)
    if is_glued or _OPEN_LEFT.search(words):
        return True
    if first == "-":
        return bool(words)
    return first in _OPERATORS or first in "%)"


def _tokens(run: str) -> list[str]:
    """The run's tokens; [] when something is left over, numbers follow each other (3 1/2) or start with 0 (0930)."""
    tokens = _TOKEN.findall(run)
    if len("".join(tokens)) != len("".join(run.split())):
        return []
    if re.search(r"[\d%]\s+[.(]?\d|(?<![\d.,])0\d", run):
        return []
    return tokens


def _holds(
    equation: _Equation, rounded: dict[str, Fraction], is_rough: bool, factors: list[int]
) -> bool | None:
    """Whether an equation holds in one of its fair readings; `None` when it cannot be evaluated.

    A result that was rounded is written into `rounded`, so that the text may go on with what it stands for.
    """
    left, right = equation.left, equation.right
    exact_left, exact_right = _value(left), _value(right)
    if exact_left is None or exact_right is None:
        return None
    if exact_left == exact_right:
        return True

    # 25 / 1/3 as 25 / (1/3)
    grouped = re.sub(r"/ ([\d.,]+) / ([\d.,]+)", r"/ ( \1 / \2 )", " ".join(left)).split()
    with_rounded, whole_percent = _Reading(rounded), _Reading(percent=1)
    values = {
        exact_left,
        _value(left, with_rounded),
        _value(left, whole_percent),
        _value(left, _Reading(relative=True)),
        _value(grouped),
    }
    sides = [right]
    if equation.goes_on and len(right) > 1 and right[0][-1].isdigit():
        sides.append(right[:1])
    for side in sides:
        targets = {_value(side), _value(side, with_rounded), _value(side, whole_percent)}
        for value, target in product(values - {None}, targets - {None}):
            if _close(value, target, side, is_rough):
                if value != target and len(side) == 1:
                    rounded[side[0]] = value
                return True
            if value and target and (value / target in factors or target / value in factors):
                return True
    return False


def _close(value: Fraction, target: Fraction, side: list[str], is_rough: bool) -> bool:
    """Equal, up to floating-point dust or, for one number alone, up to its last decimal (rounded or cut)."""
    gap = abs(value - target)
    if gap <= abs(value) / 10**9:
        return True
    is_number = len(side) <= 2 and side[-1] in (side[0], "%")
    decimals = len(side[0].partition(".")[2]) if is_number else 0
    unit = Fraction(1, 10**decimals)
    # the decimals of 33.3 % read as 0.333 are worth a hundredth
    if side[-1] == "%" and abs(target) < abs(_value(side[:1]) or 0):
        unit /= 100
    may_be_cut = decimals > 0 and abs(target) < abs(value)
    if is_rough or may_be_cut:
        return gap < unit
    return decimals > 0 and gap <= unit / 2


_APPLY = {ast.Add: add, ast.Sub: sub, ast.Mult: mul, ast.Div: truediv}
_MALFORMED = (SyntaxError, ValueError, KeyError, AttributeError, ZeroDivisionError)


def _value(tokens: list[str], reading: _Reading = _Reading()) -> Fraction | None:
    """Value of an expression, `None` when malformed or too large."""
    if len(tokens) > MAX_TOKENS or max(map(len, tokens), default=0) > MAX_DIGITS:
        return None
    # as Python code: numbers are strings, so that no digit is lost, and `P` stands for the percent
    plain = {"^": "**", "%": "/P"} | {sign: sign for sign in ("**", *"-+/*()")}
    code = "".join(plain.get(token, f"'{token}'") for token in tokens)
    code = re.sub(r"(?<=[')P])\(|(?<=[)P])(?=')", r"*\g<0>", code)  # 2(3+4)
    try:
        value = _evaluate(ast.parse(code, mode="eval").body, reading)
        return value if abs(value) < 10**300 else None
    except (*_MALFORMED, RecursionError, MemoryError):
        return None


def _evaluate(node: ast.AST, reading: _Reading) -> Fraction:
    if isinstance(node, ast.Constant):
        return _number(node.value, reading.rounded)
    if isinstance(node, ast.Name):
        return Fraction(reading.percent)
    if isinstance(node, ast.UnaryOp):
        operand = _evaluate(node.operand, reading)
        return -operand if isinstance(node.op, ast.USub) else operand
    left, right = _evaluate(node.left, reading), _evaluate(node.right, reading)
    if isinstance(node.op, ast.Pow):
        n_bits = max(left.numerator.bit_length(), left.denominator.bit_length())
        if right.denominator != 1 or n_bits * abs(right) > MAX_BITS:
            raise ValueError("a power that is too large or not whole")
        return left ** int(right)
    is_percent = isinstance(getattr(node.right, "right", None), ast.Name)
    if reading.relative and is_percent and isinstance(node.op, ast.Add | ast.Sub):
        right *= left
    return _APPLY[type(node.op)](left, right)


def _number(literal: str, rounded: dict[str, Fraction] | None) -> Fraction:
    """What a literal stands for; where rounded ones are known, 66.67 is 200/3."""
    if rounded is None:
        return Fraction(literal.replace(",", ""))
    value = rounded.get(literal) or Fraction(literal.replace(",", ""))
    is_third = re.search(r"\.(?:3{2,}|6+[67])$", literal)
    return value.limit_denominator(3) if is_third else value
