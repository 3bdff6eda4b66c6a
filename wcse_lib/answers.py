"""Extracts a sample's final answer and decides, exactly and in bounded time, whether it equals gold.

Guards, in order; the first that can decide does, and names itself in the reason: identity after normalisation; exact
integers and rationals (never floats); structured types (lists, tuples, sets, intervals, matrices, bases, times, ratios,
units, ...); values to 240 digits, at several points when there are variables; last, for what `notation` cannot read (sums,
integrals, ...), math-verify in a killable process, whose "equal" counts only when sympy confirms it and nothing was dropped.
`POLICY_TABLE` states every choice on which reasonable people differ.
"""

from __future__ import annotations

import json
import os
import queue
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil
from pathlib import Path

from wcse_lib.notation import Answer, Unread, as_interval, equal, key, machine, normalise, points, proportional, read, symbols

VERIFIER = "wcse-answers/1"  # stands on every verdict row; raise the number whenever a verdict can change
MAX_ANSWER = 2_000  # characters of a candidate answer; longer ones are never parsed
MAX_TAIL = 100_000  # characters at the end of a sample in which its answer is sought

POLICY_TABLE = r"""
| where people differ | default | `Policy` field |
| --- | --- | --- |
| unit, currency or noun on one side only (`5 cm` and `5`) | dropped; two different units are never equal, nor converted | `units="drop"`; or `"strict"` |
| percent sign (`10%`) | equals `10` and `0.1`; one that only the prediction has is dropped only beside a gold > 1 | `percent="either"`; or `"value"`, `"sign"` |
| `1,5` and `1.5` | equal when the other side is one decimal; `1,234` is 1234, or a list if the other side is one; `1, 234` is a list | `decimal_comma=True` |
| order of a bare list (`1, 2` and `2, 1`) | any, repeats count; `(1,2)` is ordered, `\{1,2\}` a set | `lists="unordered"`; or `"ordered"` |
| rounded decimals (`0.333` and `1/3`, `3.14` and `\pi`) | never equal, however many digits | `rounded_digits=None`; or from how many digits on |
| `k=1` and `1`; `p=7, q=2`, `(p,q)=(7,2)` and `(7,2)` | equal; an equation such as `2x=6` equals only equations | - |
| `-2 <= x <= 7`, `x \in [-2,7]` and `[-2,7]` | equal; `(1,2)` is a point or an open interval, as the other side says | - |
| base subscripts (`52_8`) | must be the same on both sides; base ten may be left out | - |
| degrees | `90^\circ` equals `90` (a unit) and `\pi/2` (its value) | - |
| ratios and times | `4:6` equals `2:3` and `2/3`; two times of day must be the same, "pm" is a unit | - |
| letters | variables keep their case, words do not; a choice may carry its text (`(C) 12` and `C`) | - |
| expressions with variables | equal where both are real; equations up to a constant factor; `\log` in every base | - |
"""


@dataclass(frozen=True)
class Policy:
    """Choices on which reasonable people differ; `POLICY_TABLE` says what each means. Raises ValueError on other values."""

    units: str = "drop"
    percent: str = "either"
    decimal_comma: bool = True
    lists: str = "unordered"
    rounded_digits: int | None = None

    def __post_init__(self) -> None:
        allowed = {"units": ("drop", "strict"), "percent": ("either", "value", "sign"), "lists": ("unordered", "ordered")}
        for field, values in allowed.items():
            if getattr(self, field) not in values:
                raise ValueError(f"Policy.{field} is {getattr(self, field)!r}; choose one of {', '.join(values)}")


DEFAULT = Policy()

# ---------------------------------------------------------------- extraction

Found = tuple[int, str | None]  # where a marker stands (-1: nowhere) and the answer there (None: broken off)
_STOP = re.compile(r"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|end)\|>|</s>|<eos>|<end_of_turn>")
_SAID = re.compile(r"\d|\\boxed|\\fbox|[Aa]nswer")
_RUN_ON = re.compile(
    r"\n[ \t]*(?:[#*]{1,4}[ \t]?)?(?:Question|Problem|Exercise|Q|Human|User|Instruction)[ \t]?(?:\d{1,4}[.:]|:|\*\*:?|\d{0,4}[ \t]?\n)"
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(?=[^\s{]))|\\.|[{}]", re.S)
_JOINT = re.compile(r"(?:[\s$.,;:()\[\]]|\\[()\[\],; ]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|and\b|or\b|[A-Za-z]\s?=)*")
_FINAL = re.compile(r"\bfinal\s+answer\b[\s:*_#]{0,20}(?:(?:the\s+)?final\s+answer\b[\s:*_]{0,9})?(?:is\b)?", re.I)
_PHRASE = re.compile(r"\banswer\b\s{0,3}(?:\bis\b|\bare\b|=|:|\**:\**)|^[ \t>*#]{0,6}(?:answer|ans)\b[*:.\s]", re.I | re.M)
_A_LINE = re.compile(r"^[ \t]*A:[ \t]*(\S[^\n]*)$", re.M)
_NUMBER = re.compile(
    r"(?:(?<![\w)\]}.%])[-\u2212]\s?)?[$€£]?(?<![A-Za-z\d.])(?:\d[\d,]*\d|\d)(?:\.\d+)?(?:/\d+|:\d\d(?!\d))?(?:\s?\\?%)?|(?<![\w.])-?\.\d+"
)
_GROUP = re.compile(
    r"\$\$([^$]+)\$\$|\$((?:\\.|[^$\\\n]|\n(?!\n))+)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]|\*\*([^*\n]+)\*\*|`([^`\n]+)`", re.S
)


def extract(text: str, style: str = "auto") -> str | None:
    r"""Final answer of a full output, or None when there is none (refusal, truncation, unclosed box or `<think>`).

    Only what follows the last `</think>` counts, up to the next few-shot question ("\nQuestion:", "\nProblem:", ...) or
    end-of-turn token, and inside the last `<answer>` tags if any. Styles: "gsm8k" (`####`), "boxed" (`\boxed`, `\fbox`; the
    last one, or the last ones if joined by "and", "or" or a comma), "minerva" ("The final answer is ..."), "openai" (`A: 18`),
    "choice", "last_number", and "auto": of box, `####` and "final answer" the one that stands last; else the last of "answer
    is" and `A:`; else the last number or the formula it stands in. Raises ValueError on an unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"answer style {style!r} is unknown; choose one of {', '.join(STYLES)}")
    text = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be stored
    text = text.rpartition("</think>")[2].strip()
    if "<think>" in text:
        return None
    text = _STOP.split(text, maxsplit=1)[0]
    said = _SAID.search(text)
    run_on = said and _RUN_ON.search(text, said.end())
    text = (text[: run_on.start()] if run_on else text)[-MAX_TAIL:]
    tagged = text.rpartition("</answer>")[0].rpartition("<answer>")[2]
    found = _STYLES[style](tagged or text)[1]
    return _clean(tagged if tagged and found is None and style == "auto" else found)


def _clean(found: str | None) -> str | None:
    """A candidate without delimiters and closing punctuation; None when empty, unbalanced or too long."""
    found = (found or "")[: 2 * MAX_ANSWER].strip().strip("*`").strip()
    while whole := _GROUP.fullmatch(found):
        found = next(filter(None, whole.groups())).strip()
    found = found if found.endswith("...") else re.sub(r"(?<!\\)[.,;:]+$", "", found).rstrip()
    braces = re.sub(r"\\.", "", found)
    return found if 0 < len(found) <= MAX_ANSWER and braces.count("{") == braces.count("}") else None


def _boxed(text: str) -> Found:
    """The last outermost box that is not empty; broken off when a later one is never closed."""
    start = min(filter(lambda i: i >= 0, (text.find("\\boxed"), text.find("\\fbox"))), default=len(text))
    stack: list[tuple[bool, int, int]] = []
    boxes: list[tuple[int, int, str]] = []
    for m in _BOX.finditer(text, start):
        token, is_box = m.group(), m.group().startswith(("\\boxed", "\\fbox"))
        if token[-1] == "{" and (is_box or token == "{"):
            stack.append((is_box, m.start(), m.end()))
        elif is_box:
            bare = re.compile(r"([^$\n]{1,200}?)\$|(\S{1,200})").match(text, m.end())
            boxes.append((m.start(), bare.end(), bare.group(1) or bare.group(2)))
        elif token == "}" and stack:
            is_box, begin, inner = stack.pop()
            if is_box and text[inner : m.start()].strip():
                while boxes and boxes[-1][0] > begin:
                    boxes.pop()  # a box inside this one
                boxes.append((begin, m.end(), text[inner : m.start()]))
    opened = max((begin for is_box, begin, _ in stack if is_box), default=-1)
    if not boxes or opened > boxes[-1][1]:
        return opened, None
    joined = [boxes[-1][2]]
    for before, after in zip(boxes[-2::-1], boxes[:0:-1]):
        joint = text[before[1] : after[0]]
        if len(joint) > 60 or not _JOINT.fullmatch(joint) or (joint and not re.search(r"and|or|,", joint)):
            break
        joined.insert(0, before[2])
    return boxes[-1][0], ", ".join(joined if len(set(joined)) > 1 else joined[:1])


def _hashes(text: str) -> Found:
    """The last `#### answer` line; headings such as "#### Step 2" and "#### 1. Add" are none."""
    for m in reversed(list(re.finditer(r"####[ \t]*([^\n]*)", text))):
        line = re.sub(r"^(?:the\s+)?(?:final\s+)?answer\W+(?:is\s+)?", "", m.group(1).strip(" \t*#"), flags=re.I)
        if line and not re.match(r"[A-Za-z]{3,}|\d+[.)]\s", line):
            return m.start(), line
    return -1, None


def _sentence(rest: str) -> str | None:
    """The answer with which a text starts, or the last number or formula of its first sentence; "" for none, None for broken off."""
    rest = rest.lstrip(" \t\n:*_=,>#")
    group = _GROUP.match(rest)
    if group and not re.match(r"\s*(?:,|and\b|or\b)\s*[$\\]", rest[group.end() :]):
        return next(filter(None, group.groups()))
    line = re.split(r"(?<![ap]\.m)[.!?](?=[\s\"*]|$)(?<!\.\.)|\n|I hope it is", rest, maxsplit=1)[0]
    line = re.split(r"[,;]?\s(?:because|since|as|which|where|when|so|if)\s", line, maxsplit=1)[0].strip(" \"'*")
    if line.count("$") % 2 and not re.search(r"\$\s?\d", line):
        return None  # inside a formula
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", line))
    if len(words) <= 3 and re.match(r"[-+(\[{\\$€£.\d\u2212√π∞±]|\(?[A-Za-z]\)?$|[A-Za-z]\s?=", line):
        return line
    number = _NUMBER.match(line) or _NUMBER.search(line)
    if number:
        return number.group() if number.start() == 0 else _last_number(line)[1]
    return line if len(words) <= 4 and not re.match(r"(?:in)?correct|right|wrong|clear|given|as follows|not|that|we\b", line, re.I) else ""


def _after(phrase: re.Pattern, text: str, closed: bool = False) -> Found:
    """The answer after the last phrase that has one; with `closed`, its sentence must end."""
    for m in reversed(list(phrase.finditer(text))):
        rest = text[m.end() : m.end() + 700]
        found = _sentence(rest) if not closed or re.search(r"\.(?!\d)|\n|I hope", rest) else None
        if found != "":
            return m.start(), found
    return -1, None


def _openai(text: str) -> Found:
    return max(((m.start(), m.group(1)) for m in _A_LINE.finditer(text)), default=(-1, None))


def _choice(text: str) -> Found:
    """The last chosen letter A to J: in a box, after "answer is", in parentheses, or alone at the start of a line."""
    at, box = _boxed(text)
    text = text if at < 0 else re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", box or "")
    for pattern in (r"(?i:answer|option|choice)\W{0,12}(?i:is|:)?\W{0,12}([A-J])(?![A-Za-z'])", r"\(([A-J])\)", r"(?m)^\W*([A-J])(?:\W*$|[.):]\s)"):
        if found := [(m.start(), m.group(1)) for m in re.finditer(pattern, text)]:
            return found[-1]
    return -1, None


def _last_number(text: str) -> Found:
    """The last number, or the right-hand side of the formula in which it stands."""
    text = text[-3000:].replace("{,}", ",").replace(",\\!", ",")
    last = max(_NUMBER.finditer(text), key=lambda m: m.start(), default=None)
    if last is None:
        return -1, None
    for group in _GROUP.finditer(text):
        inner = next(filter(None, group.groups()))
        if group.start() <= last.start() < group.end() and re.search(r"\\(?!%)|[\^_=]", inner):
            if not re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}", inner):
                return last.start(), re.split(r"(?<![<>!\\])=", inner.partition("\\approx")[0])[-1]
    fraction = re.search(r"\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)\s*$", text[: last.end() + 1])
    return last.start(), fraction.group() if fraction else last.group()


def _auto(text: str) -> Found:
    for markers in ((_boxed, _hashes, lambda text: _after(_FINAL, text)), (lambda text: _after(_PHRASE, text), _openai)):
        found = max((marker(text) for marker in markers), key=lambda one: one[0])
        if found[0] >= 0:
            return found
    return _last_number(text)


_STYLES: dict[str, Callable[[str], Found]] = {
    "auto": _auto, "gsm8k": _hashes, "boxed": _boxed, "minerva": lambda text: _after(_FINAL, text, closed=True),
    "openai": _openai, "choice": _choice, "last_number": _last_number,
}  # fmt: skip
STYLES = tuple(_STYLES)

# ---------------------------------------------------------------- equality


def _same(p: Answer, g: Answer, policy: Policy) -> str:
    """Label of the equality of prediction and gold, or "". Raises Unread when undecided."""
    kinds = {p.kind, g.kind}
    if kinds in ({"eq"}, {"rel"}) and (p.tag != g.tag or not p.tag or kinds == {"rel"}):
        alike = p.items[0] is not None and g.items[0] is not None and (p.kind == "eq" or p.tag == g.tag)
        return p.kind if alike and proportional(p.items[0], g.items[0], positive=p.kind == "rel") else ""
    if "eq" in kinds:  # a name on the left may be missing; an equation without one equals only equations
        p, g = (x.items[1] if x.kind == "eq" else x for x in (p, g))
        return _same(p, g, policy) if p and g else ""
    if kinds & {"interval", "union"}:
        p, g = as_interval(p), as_interval(g)
        alike = p.kind == g.kind and p.tag == g.tag
        return p.kind if alike and (_in_order if p.kind == "interval" else _any_order)(p.items, g.items, policy) else ""
    if kinds == {"ratio", "expr"}:
        p, g = (_quotient(*x.items) if x.kind == "ratio" else x for x in (p, g))
        return _same(p, g, policy) if p and g else ""
    if kinds == {"matrix", "tuple"}:
        matrix, vector = (p, g) if p.kind == "matrix" else (g, p)
        cells = [cell for row in matrix.items for cell in row]
        return "vector" if len(cells) in (len(matrix.items), len(matrix.items[0])) and _in_order(cells, vector.items, policy) else ""
    if kinds in ({"assign", "tuple"}, {"assign", "list"}, {"list", "tuple"}, {"tuple"}):
        return "tuple" if _in_order(p.items, g.items, policy) else ""
    if kinds == {"set"}:
        covers = all(any(_same(a, b, policy) for b in more.items) for one, more in ((p, g), (g, p)) for a in one.items)
        return "set" if covers else ""
    if kinds <= {"list", "set"}:
        compare = _in_order if policy.lists == "ordered" and kinds == {"list"} else _any_order
        return "list" if compare(p.items, g.items, policy) else ""
    if kinds in ({"set", "expr"}, {"list", "expr"}):
        p, g = (x.items[0] if x.kind != "expr" and len(x.items) == 1 else x for x in (p, g))
        return _same(p, g, policy) if p.kind == g.kind else ""
    if len(kinds) > 1:
        return ""
    if p.kind == "expr":
        return _scalars(p, g, policy)
    if p.kind == "matrix":
        return "matrix" if len(p.items) == len(g.items) and all(_in_order(a, b, policy) for a, b in zip(p.items, g.items)) else ""
    if p.kind == "time":
        (*clock, half), (*other, half_too) = p.tag, g.tag
        return "time" if clock == other and (half == half_too or (policy.units == "drop" and "" in (half, half_too))) else ""
    if p.kind == "ratio":
        pairs = [[_quotient(x.items[0], one) for one in x.items[1:]] for x in (p, g)]
        return "ratio" if None not in pairs[0] + pairs[1] and _in_order(*pairs, policy) else ""
    return p.kind if p.tag == g.tag and _in_order(p.items, g.items, policy) else ""  # text, base, chain, assign


def _quotient(*parts: Answer) -> Answer | None:
    """a:b as the number a/b."""
    whole = len(parts) == 2 and all(one.kind == "expr" for one in parts)
    return Answer("expr", (("/", parts[0].items[0], parts[1].items[0]),)) if whole else None


def _in_order(p: Sequence[Answer], g: Sequence[Answer], policy: Policy) -> bool:
    return len(p) == len(g) and all(_same(a, b, policy) for a, b in zip(p, g))


def _any_order(p: Sequence[Answer], g: Sequence[Answer], policy: Policy) -> bool:
    left = list(g)
    for one in p if len(p) == len(g) else ():
        found = next((i for i, other in enumerate(left) if _same(one, other, policy)), None)
        if found is None:
            return False
        left.pop(found)
    return len(p) == len(g)


def _scalars(p: Answer, g: Answer, policy: Policy) -> str:
    """Two numbers or expressions under the conventions for units, percent signs, degrees and rounding."""
    a, b, units = p.items[0], g.items[0], {p.unit, g.unit}
    if "%" in units and len(units) == 2:
        bare = policy.percent == "sign" or (policy.percent == "either" and (g.unit or symbols(b) or machine().value(("abs", b), {}) > 1))
        value = [("/", node, Fraction(100)) if x.unit else node for node, x in ((a, p), (b, g))]
        return "" if units != {"%", ""} else (equal(a, b) if bare else "") or (equal(*value) if policy.percent != "sign" else "")
    label = equal(a, b) if len(units) == 1 or ("" in units and policy.units == "drop") else ""
    if not label and units == {"deg", ""}:
        label = equal(*(("*", node, ("/", "π", Fraction(180))) if x.unit else node for node, x in ((a, p), (b, g))))
    if not label and policy.rounded_digits and not symbols(b) and (m := re.fullmatch(r"-?0*(\d*)\.(\d+)", str(p.tag))):
        close = machine().value(("abs", ("-", a, b)), {}) * 2 * 10 ** len(m.group(2)) <= 1
        label = "rounded decimal" if close and len((m.group(1) + m.group(2)).lstrip("0")) >= policy.rounded_digits else ""
    return label


@lru_cache(8192)
def _reading(text: str) -> Answer | Unread:
    """`read`, with a refusal as a value that can be remembered."""
    try:
        return read(text)
    except Unread as refusal:
        return refusal
    except (RecursionError, ArithmeticError, ValueError, LookupError, TypeError) as error:
        return Unread(f"no answer ({type(error).__name__})")


def _again(text: str, other: Answer, policy: Policy) -> Iterator[Answer]:
    """Further readings that the other side suggests: `1,234` as a list, `1,5` as a decimal."""
    if other.kind in ("list", "set", "tuple"):
        yield read(text, joined=False)
    elif policy.decimal_comma and re.fullmatch(r"-?(?:\d+,\d{1,2}|\d+,\d{4,}|0,\d+)", text) and other.kind == "expr":
        if isinstance(other.items[0], Fraction) and other.items[0].denominator > 1:
            yield read(text.replace(",", "."))


def _decide(prediction: str, gold: str, policy: Policy) -> tuple[bool | None | str, str]:
    """Everything short of math-verify: (True, False, None for unverifiable or "ask", reason)."""
    for side, text in (("gold cannot be parsed:", gold), ("undecided: prediction", prediction)):
        if len(text) > MAX_ANSWER:
            return None, f"{side} longer than {MAX_ANSWER} characters"
    p_text, g_text = normalise(prediction), normalise(gold)
    if p_text.lower() in ("", "[invalid]"):
        return False, "no final answer"
    if not re.search(r"\w|\\", g_text):
        return None, "gold cannot be parsed: empty"
    if key(p_text) == key(g_text):
        return True, "equal: identical"
    letters = [re.match(r"\(?([A-J])(?:$|\)$|(?:\)|[.:])\s*(\S))", re.sub("[“”]", "", text)) for text in (p_text, g_text)]
    if all(letters) and not all(m.group(2) for m in letters):  # `(C) 12` and `C`
        same = letters[0].group(1) == letters[1].group(1)
        return same, f"{'equal' if same else 'unequal'}: choice"
    g, p = _reading(g_text), _reading(p_text)
    if isinstance(g, Unread):
        return ("ask", "") if g.ask else (None, f"gold cannot be parsed: {g}")
    if isinstance(p, Unread):
        return ("ask", "") if p.ask and g.kind != "text" else (False, f"prediction cannot be parsed: {p}")
    try:
        pairs = ((p, g), *((q, g) for q in _again(p_text, g, policy)), *((p, h) for h in _again(g_text, p, policy)))
        label = next(filter(None, (_same(*pair, policy) for pair in pairs)), "")
    except Unread as refusal:
        return ("ask", "") if refusal.ask else (None, f"undecided: {refusal}")
    except (RecursionError, ArithmeticError, ValueError, LookupError, TypeError) as error:
        return None, f"undecided: {type(error).__name__}"
    return bool(label), f"equal: {label}" if label else f"unequal: {p.kind} and {g.kind}"


# ---------------------------------------------------------------- math-verify, in a process that can be killed


def _math_verify(prediction: str, gold: str) -> tuple[bool | None, str]:
    """math-verify's verdict; "equal" is believed only if sympy confirms it and no number or variable was dropped."""
    import sympy
    from math_verify import LatexExtractionConfig, parse, verify

    def names(text: str) -> set[str]:
        return set(re.findall(r"\d+|(?<![A-Za-z])[A-Za-z](?![A-Za-z])", re.sub(r"\\[A-Za-z]+", " ", text))) - {"d", "e", "i"}

    def zero(a, b) -> bool:
        gap = sympy.simplify((a - b).doit())
        if gap == 0:
            return True
        at = [{s: sympy.Rational(*one[s.name].as_integer_ratio()) for s in (a - b).free_symbols} for one in points([s.name for s in (a - b).free_symbols])]
        return all(abs(sympy.N(gap.subs(one), 60)) <= abs(sympy.N(b.subs(one).doit(), 60)) * sympy.Float(10) ** -40 for one in at[:4])

    def confirmed(a, b) -> bool:
        if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
            return zero(a, b)
        return type(a) is type(b) and len(a.args) == len(b.args) > 0 and all(map(confirmed, a.args, b.args))

    read_all = [parse(f"${text}$", [LatexExtractionConfig()], fallback_mode="no_fallback", parsing_timeout=None) for text in (gold, prediction)]
    for side, found in zip(("gold", "prediction"), read_all):
        if not found:
            return (None if side == "gold" else False), f"{side} cannot be parsed: by math-verify"
    (g, *_), (p, *_) = read_all
    if not verify(g, p, timeout_seconds=None) and not (isinstance(g, sympy.Expr) and confirmed(p, g)):
        return False, "unequal: math-verify"
    if not all(names(text) <= names(sympy.srepr(x).replace("'", " ")) for text, x in ((gold, g), (prediction, p))):
        return None, "undecided: math-verify read only a part"
    return (True, "equal: math-verify, confirmed") if confirmed(p, g) else (None, "undecided: math-verify, not confirmed")


def _serve(limit: float) -> None:
    """The worker's loop: a JSON pair a line in, a verdict a line out; it ends itself when a pair takes far too long."""
    import contextlib
    import logging
    import resource
    import signal

    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # stray prints must not look like verdicts
    logging.disable(logging.CRITICAL)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    _math_verify("x", "x")
    print("ready", file=out, flush=True)
    for line in sys.stdin:
        signal.alarm(ceil(limit) + 5)  # no orphan goes on when the parent is gone
        try:
            verdict = _math_verify(*json.loads(line))
        except Exception as error:
            verdict = (None, f"undecided: {type(error).__name__} in math-verify")
        signal.alarm(0)
        print(json.dumps(verdict), file=out, flush=True)


class _Worker:
    """One math-verify process; started at its first question, killed and replaced on time-out."""

    def __init__(self, limit_seconds: float) -> None:
        self.limit, self.process = limit_seconds, None

    def ask(self, prediction: str, gold: str) -> tuple[bool | None, str]:
        if self.process is None:
            path = os.pathsep.join(filter(None, [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")]))
            command = [sys.executable, "-c", f"from wcse_lib.answers import _serve; _serve({self.limit})"]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                            start_new_session=True, env={**os.environ, "PYTHONPATH": path})  # fmt: skip
            if not self._line(120.0):
                self.kill()
                return None, "undecided: math-verify did not start"
        try:
            self.process.stdin.write(json.dumps([prediction, gold]).encode() + b"\n")
            self.process.stdin.flush()
            line = self._line(self.limit)
        except OSError:
            line = b""
        if not line:
            self.kill()
            return None, "timeout" if line is None else "undecided: math-verify died"
        return tuple(json.loads(line))

    def _line(self, seconds: float) -> bytes | None:
        """The next line, b"" when the process has died, None when the time is up."""
        poll = select.poll()
        poll.register(self.process.stdout, select.POLLIN)
        return self.process.stdout.readline() if poll.poll(seconds * 1000) else None

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None


class Checker:
    """Verdicts on many samples: a memo on (prediction, gold) and a lazy pool of killable math-verify processes.

    At most `workers` processes; each pair gets `limit_seconds` of wall time there, and pairs that the guards decide start
    none. For any thread, Jupyter, and after a fork. A context manager. Raises ValueError on impossible settings.
    """

    def __init__(self, style: str = "auto", policy: Policy = DEFAULT, workers: int = 2, limit_seconds: float = 3.0) -> None:
        if style not in STYLES or workers < 1 or limit_seconds <= 0:
            raise ValueError(f"Checker(style={style!r}, workers={workers}, limit_seconds={limit_seconds}): style is one of {STYLES}, the others > 0")
        self.style, self.policy, self.workers, self.limit_seconds = style, policy, workers, limit_seconds
        self._memo: dict[tuple[str, str], tuple[bool | None, str]] = {}
        self._renew()

    def _renew(self) -> None:
        self._owner, self._pool = os.getpid(), queue.SimpleQueue()
        for _ in range(self.workers):
            self._pool.put(_Worker(self.limit_seconds))

    def __enter__(self) -> Checker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the processes once they are idle; the checker can be used again afterwards."""
        for _ in range(self.workers if self._owner == os.getpid() else 0):
            self._pool.get().kill()
        self._renew()

    def compare(self, prediction: str | None, gold: str) -> tuple[bool | None, str]:
        """(True, False or None for unverifiable; reason) for an extracted answer."""
        pair = (prediction or "", gold)
        if pair not in self._memo:
            equal, reason = _decide(*pair, self.policy)
            if equal == "ask":
                if self._owner != os.getpid():
                    self._renew()  # after a fork: the parent's pipes are not ours
                worker = self._pool.get()
                try:
                    equal, reason = worker.ask(*pair)
                finally:
                    self._pool.put(worker)
            if len(self._memo) > 200_000:
                self._memo.clear()  # memory stays flat over any number of samples
            self._memo[pair] = equal, reason
            return equal, reason
        return self._memo.get(pair) or self.compare(prediction, gold)

    def check(self, text: str, gold: str) -> tuple[str | None, str, str]:
        """(extracted answer or None, "correct" | "incorrect" | "unverifiable", reason) of one sample."""
        extracted = extract(text, self.style)
        equal, reason = self.compare(extracted, gold)
        return extracted, {True: "correct", False: "incorrect", None: "unverifiable"}[equal], reason

    def check_many(
        self, texts: Sequence[str], golds: Sequence[str], progress: Callable[[int], object] | None = None
    ) -> list[tuple[str | None, str, str]]:
        """`check` of each text with its gold, in order; `progress(1)` is called after each. Raises ValueError on unequal lengths."""
        if len(texts) != len(golds):
            raise ValueError(f"{len(texts)} texts but {len(golds)} golds; give one gold for each text")
        rows = []
        with ThreadPoolExecutor(self.workers) as threads:
            for row in threads.map(self.check, texts, golds):
                rows.append(row)
                if progress:
                    progress(1)
        return rows


@lru_cache(4)
def _shared(policy: Policy) -> Checker:
    return Checker(policy=policy, workers=1)


def equivalent(prediction: str, gold: str, *, policy: Policy = DEFAULT) -> bool | None:
    """Whether an extracted answer equals gold; None when nothing can be said (time-out, gold that cannot be parsed).

    Bounded in time on any text, from any thread. The module's docstring names the guards, `POLICY_TABLE` the conventions.
    """
    verdict = _decide(prediction, gold, policy)[0]
    return _shared(policy).compare(prediction, gold)[0] if verdict == "ask" else verdict


def verify_many(
    pairs: Iterable[tuple[str, str]], style: str = "auto", policy: Policy = DEFAULT, workers: int = 2, limit_seconds: float = 3.0,
    progress: Callable[[int], object] | None = None,
) -> list[tuple[str | None, str, str]]:  # fmt: skip
    """`Checker.check_many` of (text, gold) pairs with a pool of its own that ends with the call."""
    texts, golds = zip(*pairs, strict=True) if (pairs := list(pairs)) else ((), ())
    with Checker(style, policy, workers, limit_seconds) as checker:
        return checker.check_many(texts, golds, progress)
