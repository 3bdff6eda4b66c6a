"""The arithmetic judge: recomputes every purely numeric equation of a text."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Iterator
from fractions import Fraction

MAX_CHARS, MAX_EQUATIONS, MAX_TOKENS, MAX_DIGITS, MAX_BITS = 100_000, 5_000, 120, 40, 1_000


_MARK = re.compile(r"<<([^<>\n]{0,400})>>")
_EQUALS = re.compile(r"(?<![<>!=:≠≈~])=+(?![<>≈~])")
_TOKEN = re.compile(r"(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+|\*\*|[-+*/^()%]")
_CLAUSE = re.compile(
    r"(?:^|(?<=[\d)%]))(?:\.\s|,\s(?!\d{3}\b))"
)  # a clause ends within a run of numbers and signs
_CHARS = "0123456789.,+-*/^()% \t"
_SWAP = str.maketrans(
    dict.fromkeys("×✕∗·⋅", "*") | dict.fromkeys("÷∕⁄", "/") | dict.fromkeys("−–—‒", "-")
)
_REWRITE = [  # to plain signs; bullets, currency and equal units (`3 km + 4 km = 7 km`) go
    (re.compile(r"^\s*[-*+•]\s+"), ""),
    (re.compile(r"\\(?:times|cdot)(?![a-z])"), "*"),
    (re.compile(r"\\div(?![a-z])"), "/"),
    (re.compile(r"=\s{0,3}\\(?:boxed|fbox)\{([\d.,$%/ ]{1,40})\}"), r"= \1. "),
    (re.compile(r"(?<![\d)])(?<![\d)] )\*\*(?=[\d$(])|(?<=[\d%)])\*\*(?!\s?[\d($])"), ""),  # bold
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
_ABOUT = re.compile(
    r"(?i)\b(?:round|approx|nearest|remain|(?:about|nearly|almost|around|whole|left ?over)\b)|[≈~]"
)
_CONVERT = {
    "cent|¢|%": 100,
    "hour|minute": 60,
    "day": 24,
    "week": 7,
    "year|foot|feet": 12,
    "kilo|milli|thousand": 1000,
}
_OPEN_LEFT = re.compile(  # words that draw the number after them into a larger expression, or make it a label
    r"(?i)\b(?:x|times|plus|minus|over|less|more|from|than|(?:divid|multipli)ed by|(?:day|week|month|year|round)s?)$"
    r"|\b(?:half|quarters?|thirds?|(?:four|fif|six|seven|eigh|nin|ten)ths?|percent) of$|[%\d]\s*(?:of|and)$"
    r"|\b(?:step|number)s?$|\\[a-z]+$|(?<!total )(?<!equal )(?<!equals )(?<!up )(?<!comes )\bto$"
)
_OPEN_RIGHT = re.compile(  # words and signs that make the number before them part of a larger one
    r"(?i)(?:dozen|hundred|thousand|[mbtr]+illion|half|halves|(?:\\text\{ ?)?r(?:\s?\d+|emainder)?|of|percent)\b"
    r"|[b-z]\b(?![&'’])|(?:hours?|minutes?|days?|weeks?|feet|foot|pounds?|dollars?),? (?:and )?\d"
    r"|and (?:an?|one|\d+)\b|\.?(?:[_:^{²³]|\\(?!quad|text|end)[a-z])"
)


def judge_arithmetic(text: str) -> tuple[bool | None, str]:
    """Check every purely numeric equation of a text; a wrong one in a correct sample makes it a false positive.

    Returns (False, the first wrong step), (True, how many were right) or (None, "no equation to check"). It sees wrong
    sums, not wrong ideas, so its rate is a *lower bound* on the false-positive rate. Read: `a op b = c`, chains, GSM8K
    marks `<<…=…>>`, percents, currency, thousands commas, fractions, × ÷ x and LaTeX's signs, all exactly (Fraction);
    a side with words is not read. In doubt it passes: a result may be rounded or cut at its last decimal (10/3 = 3.33,
    which may go on as 10/3), and to an integer where the line says so or a quotient counts things (11/5 = 2 trays);
    units may change by their usual factor; 5*2 = 10+3 = 13 is fair. Time is linear in the first 100,000 characters.
    """
    n, rounded = 0, {}
    for line in text[:MAX_CHARS].translate(_SWAP).split("\n"):
        if "=" not in line:
            continue
        about, factors = (
            bool(_ABOUT.search(line)),
            [f for words, f in _CONVERT.items() if re.search(words, line)],
        )
        for pattern, new in _REWRITE:
            line = pattern.sub(new, line)
        for part in [*_MARK.findall(line), _MARK.sub("", line)]:
            for left, right, counts, runs in _equations(part):
                if n >= MAX_EQUATIONS:
                    return True, f"{n} equations right, the rest not read"
                holds = _holds(
                    left, right, rounded, about or (counts and "/" in left), runs, factors
                )
                n += holds is not None
                if holds is False:
                    step = f"{''.join(left)[:60]} = {''.join(right)[:60]}"
                    return False, f"wrong step: {step}, not {float(_value(left)):.9g}"
    return (True, f"{n} equations right") if n else (None, "no equation to check")


def _equations(part: str) -> Iterator[tuple[list[str], list[str], bool, bool]]:
    """Left and right tokens of each readable `=`, whether the right counts things, and whether the chain goes on."""
    sides, linked = _EQUALS.split(part), False
    for i, (before, after) in enumerate(zip(sides, sides[1:])):
        before, after = before[-400:], after[:400]
        start, end = len(before.rstrip(_CHARS)), len(after) - len(after.lstrip(_CHARS))
        run, words = before[start:], before[:start]
        for clause in list(_CLAUSE.finditer(run))[-1:]:
            run, words = run[clause.end() :], ""
        end = min([end, *(m.start() for m in re.finditer(r"[.,](?!\d)", after[:end]))])
        left, right, rest = _tokens(run), _tokens(after[:end]), after[end:]
        while left[:1] == ["("] and left.count("(") > left.count(")"):
            left = left[1:]
        while right[-1:] == ["("] or (right[-1:] == [")"] and right.count(")") > right.count("(")):
            right = right[:-1]
        right = (
            right[:-1] if right[-1:] == ["/"] and re.match(r"[A-Za-z]{2}", rest) else right
        )  # 10 / hour
        whole, linked = (
            linked and "".join(left + right).replace(",", "").isdigit(),
            False,
        )  # 20 = 21 in 5*4 = 20 = 21
        works = [any(t in "+-*/^**(" for t in side[1:]) for side in (left, right)]
        if (
            not left
            or not right
            or not (any(works) or whole)
            or (not works[0] and (words or "%" in right))
        ):
            continue
        glued = words and not run[:1].isspace() and re.search(r"[\w\\{}'\"^.!|]$|\d:$", words)
        if glued or _OPEN_LEFT.search(words) or left[0] in "+*/^**%)" or (left[0] == "-" and words):
            continue
        algebra = not after[end - 1].isspace() and re.match(
            r"[A-Za-z]" if works[1] else r"[A-Za-z]\b", rest
        )  # 15+2ab
        if not algebra and not _OPEN_RIGHT.match(rest):
            linked = True
            yield left, right, bool(re.match(r"[A-Za-z]{2}", rest)), i + 2 < len(sides)


def _tokens(run: str) -> list[str]:
    """The run's tokens; [] when something is left over, numbers follow each other (3 1/2) or start with 0 (0930)."""
    tokens = _TOKEN.findall(run)
    odd = len("".join(tokens)) != len("".join(run.split())) or re.search(
        r"[\d%]\s+[.(]?\d|(?<![\d.,])0\d", run
    )
    return [] if odd else tokens


def _holds(left, right, rounded: dict, about: bool, runs: bool, factors: list[int]) -> bool | None:
    """Whether an equation holds in one of its fair readings; `None` when it cannot be evaluated."""
    if None in (pair := (_value(left), _value(right))) or pair[0] == pair[1]:
        return None if None in pair else True
    grouped = re.sub(
        r"/ ([\d.,]+) / ([\d.,]+)", r"/ ( \1 / \2 )", " ".join(left)
    ).split()  # 25 / 1/3 as 25 / (1/3)
    values = {
        _value(left),
        _value(left, rounded),
        _value(left, percent=1),
        _value(left, relative=True),
    }
    values = (values | {_value(grouped)}) - {None}
    for side in (
        [right, right[:1]] if runs and len(right) > 1 and right[0][-1].isdigit() else [right]
    ):
        targets = {_value(side), _value(side, rounded), _value(side, percent=1)} - {None}
        for value in values:
            for target in targets:
                if _close(value, target, side, about):
                    if value != target and len(side) == 1:
                        rounded[side[0]] = value
                    return True
                if target and value and any(value / target in (f, Fraction(1, f)) for f in factors):
                    return True
    return False


def _close(value: Fraction, target: Fraction, side: list[str], about: bool) -> bool:
    """Equal, up to floating-point dust or, for one number alone, up to its last decimal (rounded or cut)."""
    decimals = (
        len(side[0].partition(".")[2]) if len(side) <= 2 and side[-1] in (side[0], "%") else 0
    )
    shown = abs(_value(side[:1]) or 0) if side[-1] == "%" else 0
    unit = Fraction(1, 10**decimals * (100 if abs(target) < shown else 1))
    gap, cut = abs(value - target), about or (decimals > 0 and abs(target) < abs(value))
    return gap <= abs(value) / 10**9 or (gap < unit if cut else decimals > 0 and gap <= unit / 2)


_APPLY = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}


def _value(
    tokens: list[str], rounded: dict | None = None, percent=100, relative=False
) -> Fraction | None:
    """Value of an expression, `None` when malformed or too large; `rounded` maps literals to what they stand for."""
    if len(tokens) > MAX_TOKENS or any(len(t) > MAX_DIGITS for t in tokens):
        return None
    code = "".join(
        {"^": "**", "%": "/P"}.get(t, t) if t in "**-+/^()%" else f"'{t}'" for t in tokens
    )
    code = re.sub(r"(?<=[')P])\(|(?<=[)P])(?=')", lambda m: "*" + m[0], code)  # 2(3+4)

    def walk(node) -> Fraction:
        if isinstance(node, ast.Constant):
            third = rounded is not None and re.search(
                r"\.(?:3{2,}|6+[67])$", node.value
            )  # 66.67 as 200/3
            value = (rounded or {}).get(node.value) or Fraction(node.value.replace(",", ""))
            return value.limit_denominator(3) if third else value
        if isinstance(node, ast.Name):
            return Fraction(percent)
        if isinstance(node, ast.UnaryOp):
            return walk(node.operand) * (-1 if isinstance(node.op, ast.USub) else 1)
        a, b = walk(node.left), walk(node.right)
        if isinstance(node.op, ast.Pow):
            if (
                b.denominator != 1
                or max(a.numerator.bit_length(), a.denominator.bit_length()) * abs(b) > MAX_BITS
            ):
                raise ValueError("a power that is too large or not whole")
            return a ** int(b)
        if (
            relative
            and isinstance(node.op, ast.Add | ast.Sub)
            and type(getattr(node.right, "right", 0)) is ast.Name
        ):
            b *= a  # 100 - 20% as 100 less a fifth of it
        return _APPLY[type(node.op)](a, b)

    try:
        value = walk(ast.parse(code, mode="eval").body)
        return value if abs(value) < 10**300 else None
    except (
        SyntaxError,
        ValueError,
        KeyError,
        AttributeError,
        ZeroDivisionError,
        RecursionError,
        MemoryError,
    ):
        return None
