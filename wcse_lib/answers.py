"""Extracts a sample's final answer and decides, exactly and in bounded time, whether it equals gold.

A prediction passes these guards in order; the first that can decide does, and says so in its reason:
identity after normalisation; exact integers and rationals (`Fraction`, never floats); structured types
(lists, tuples, sets, intervals, matrices, bases, times, ratios, units, ...); the value of an expression at fixed points to 280
digits; last, math-verify in a killable process, whose "equal" counts only when sympy confirms it and no part of the
text was dropped. `POLICY_TABLE` states every choice on which reasonable people differ.
"""

from __future__ import annotations

import json
import os
import queue
import re
import select
import subprocess
import sys
import threading
import time
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import ceil, comb, factorial, isqrt
from pathlib import Path

VERIFIER = "wcse-answers/1"  # stands on every verdict row; raise the number when any verdict can change
MAX_ANSWER = 2_000  # characters of a candidate answer; longer ones are never parsed
MAX_TAIL = 100_000  # characters at the end of a sample in which an answer is sought
DIGITS = (50, 300)  # two working precisions: the first rejects, the second confirms
MAX_BITS = 60_000  # of an exact number; larger ones are compared by high-precision value

POLICY_TABLE = """
| where people differ | default | `Policy` field |
| --- | --- | --- |
| unit, currency or noun on one side only (`5 cm` and `5`) | dropped; two different units are never equal | `units="drop"`, or `"strict"` |
| percent sign (`10%`) | equals `10` and `0.1`; a sign only in the prediction is not dropped for \\|gold\\| <= 1 | `percent="either"`, `"value"`, `"sign"` |
| `1,5` and `1.5` | equal when the other side is one decimal; `1,234` is a thousands separator, `1, 234` a list | `decimal_comma=True` |
| order of a bare list (`1, 2` and `2, 1`) | any order, repeats count; `(1,2)` is ordered, `\\{1,2\\}` a set | `lists="unordered"`, or `"ordered"` |
| rounded decimals (`0.333` and `1/3`, `3.14` and `pi`) | never equal; 0.5 and 1/2 are | `rounded_digits=None`, or a least number of digits |
| `k = 1` and `1`; `p=7, q=2` and `(p,q)=(7,2)` and `(7,2)` | equal; an equation such as `2x = 6` equals only equations | - |
| `-2 <= x <= 7`, `x \\in [-2,7]`, `[-2,7]` | equal; `(1,2)` is a point or an open interval, as the other side says | - |
| base subscript | must be on both sides and the same (`52_8`, not `52`); base ten may be left out | - |
| degrees | `90^\\circ` equals `90` (a unit) and `\\pi/2` (its value) | - |
| ratio | `4:6` equals `2:3` and `2/3`; two times of day must be the same | - |
| letters | variables keep their case (`a` is not `A`), words do not; a choice may carry its text (`(C) 12`) | - |
| expressions with variables | equal where both are real; equations up to a constant factor | - |
| `\\log` without a base | base unknown: equal only if equal in every base | - |
"""


@dataclass(frozen=True)
class Policy:
    """Choices on which reasonable people differ; `POLICY_TABLE` states what each means.

    Raises ValueError when a field has a value that is not in the table.
    """

    units: str = "drop"
    percent: str = "either"
    decimal_comma: bool = True
    lists: str = "unordered"
    rounded_digits: int | None = None

    def __post_init__(self) -> None:
        for field, allowed in (("units", ("drop", "strict")), ("percent", ("either", "value", "sign")),
                               ("lists", ("unordered", "ordered"))):  # fmt: skip
            if getattr(self, field) not in allowed:
                raise ValueError(f"Policy.{field} is {getattr(self, field)!r}; choose one of {', '.join(allowed)}")


DEFAULT = Policy()

# ---------------------------------------------------------------- extraction

_STOP = re.compile(r"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|end)\|>|</s>|<eos>|<end_of_turn>")
_RUN_ON = re.compile(r"\n[ \t]*(?:[#*]{1,4}[ \t]?)?(?:Question|Problem|Exercise|Q|Human|User|Instruction)[ \t]?"
                     r"(?:\d{1,4}[.:]|:|\*\*:?|\d{0,4}[ \t]?\n)")  # fmt: skip
_SAID = re.compile(r"\d|\\boxed|\\fbox|[Aa]nswer")
_BOX = re.compile(r"\\(?:boxed|fbox)\s*\{|\\(?:boxed|fbox)\s+(?=[^\s{])|\\.|[{}]", re.S)
_BETWEEN = re.compile(r"(?:[\s$.,;:()\[\]]|\\[()\[\],; ]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|and|or|[A-Za-z]\s*=)*")
_FINAL = re.compile(r"\bfinal\s+answer\b[\s:*_#]{0,20}(?:(?:the\s+)?final\s+answer\b[\s:*_]{0,9})?(?:is\b)?", re.I)
_PHRASE = re.compile(r"\b(?:answer|result)\b\s{0,3}(?:\bis\b|\bare\b|=|:|\**:\**)|^[ \t>*#]{0,6}(?:answer|ans)\b[*:.\s]", re.I | re.M)
_NUMBER = re.compile(r"(?:(?<![\w)\]}.%])[-\u2212]\s?)?[$€£]?(?<![A-Za-z\d.])(?:\d[\d,]*\d|\d)(?:\.\d+)?(?:/\d+|:\d\d(?!\d))?"
                     r"(?:\s?\\?%)?|(?<![\w.])-?\.\d+")  # fmt: skip
_GROUP = re.compile(r"\$\$([^$]+)\$\$|\$([^$\n]+)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]|\*\*([^*\n]+)\*\*|`([^`\n]+)`", re.S)


def extract(text: str, style: str = "auto") -> str | None:
    """Final answer of a full output, or None when there is none (refusal, truncation, unclosed box, unclosed `<think>`).

    Only what follows the last `</think>` counts, up to the next few-shot question ("\\nQuestion:", "\\nProblem:", ...) or
    end-of-turn token, and within `<answer>` tags if there are any. `style`: "gsm8k" (`####`), "boxed" (`\\boxed`, `\\fbox`;
    last wins, boxes joined by "and" are one list), "minerva" ("The final answer is ..."), "openai" (`A: 18`), "choice",
    "last_number", or "auto": of box, `####` and "final answer" the one that stands last; without them the last "answer is"
    or `A:`; without those the last number or formula. Raises ValueError on an unknown style.
    """
    if style not in STYLES:
        raise ValueError(f"answer style {style!r} is unknown; choose one of {', '.join(STYLES)}")
    text = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")  # lone surrogates cannot be stored
    if "</think>" in text:
        text = text.rpartition("</think>")[2]
    if "<think>" in text:
        return None
    text = _STOP.split(text.strip(), maxsplit=1)[0]
    said = _SAID.search(text)
    cut = said and _RUN_ON.search(text, said.end())
    text = (text[: cut.start()] if cut else text)[-MAX_TAIL:]
    if tag := text.rfind("</answer>") + 1:
        text = text[text.rfind("<answer>", 0, tag) + 8 : tag - 1] if "<answer>" in text[:tag] else text[: tag - 1]
        return _clean(_STYLES[style](text)[1] or (text if style == "auto" else None))
    return _clean(_STYLES[style](text)[1])


def _clean(found: str | None) -> str | None:
    """Candidate without delimiters and closing punctuation; None when empty, unbalanced or too long."""
    if found is None or len(found) > MAX_ANSWER + 50:
        return None
    found = found.strip().strip("*`").strip()
    while whole := _GROUP.fullmatch(found):
        found = next(g for g in whole.groups() if g).strip()
    if found.endswith(("\\]", "\\)")) and found.count("\\[") + found.count("\\(") == 0:
        found = found[:-2]
    if not found.endswith("..."):
        found = re.sub(r"(?<!\\)[\s.,;:]+$", "", found)
    braces = re.sub(r"\\[{}]", "", found)
    return found if found and braces.count("{") == braces.count("}") and len(found) <= MAX_ANSWER else None


def _boxed(text: str) -> tuple[int, str | None]:
    """Position and content of the last outermost non-empty box; a box that is still open at the end gives None."""
    start = min((i for i in (text.find("\\boxed"), text.find("\\fbox")) if i >= 0), default=-1)
    if start < 0:
        return -1, None
    stack: list[tuple[bool, int, int]] = []
    boxes: list[tuple[int, int, str]] = []
    for m in _BOX.finditer(text, start):
        token = m.group()
        if token.endswith("{"):
            stack.append((len(token) > 1, m.start(), m.end()))
        elif token == "}" and stack:
            is_box, begin, inner = stack.pop()
            if is_box and text[inner : m.start()].strip():
                while boxes and boxes[-1][0] > begin:
                    boxes.pop()  # an inner box belongs to the outer one
                boxes.append((begin, m.end(), text[inner : m.start()]))
        elif token.startswith(("\\boxed", "\\fbox")):
            bare = re.compile(r"([^$\n]{1,200}?)\$|(\S{1,200})").match(text, m.end())
            if bare:
                boxes.append((m.start(), bare.end(), bare.group(1) or bare.group(2)))
    opened = max((begin for is_box, begin, _ in stack if is_box), default=-1)
    if not boxes or opened > boxes[-1][1]:
        return (opened, None) if opened >= 0 else (-1, None)
    joined = [boxes[-1][2]]
    for before, after in zip(boxes[-2::-1], boxes[:0:-1]):
        between = text[before[1] : after[0]]
        if len(between) > 60 or not _BETWEEN.fullmatch(between) or (between and not re.search(r"and|or|,", between)):
            break
        joined.insert(0, before[2])
    return boxes[-1][0], ", ".join(joined) if len(set(joined)) > 1 else joined[0]


def _hashes(text: str) -> tuple[int, str | None]:
    """The last `#### answer` line; headings such as "#### Step 2" and "#### 1. Add" are none."""
    for m in reversed(list(re.finditer(r"####[ \t]*([^\n]*)", text))):
        line = re.sub(r"^(?:the\s+)?(?:final\s+)?answer\W+(?:is\s+)?", "", m.group(1).strip(" \t*#"), flags=re.I)
        if line and not re.match(r"[A-Za-z]{3,}|\d+[.)]\s", line):
            return m.start(), line
    return -1, None


def _sentence(rest: str) -> str | None:
    """The answer that a sentence starts with, or its last number or formula; "" for none, None for a broken one."""
    rest = rest[:600].lstrip(" \t\n:*_=,>#")
    group = _GROUP.match(rest)
    if group and not re.match(r"\s*(?:,|and\b|or\b)\s*[$\\]", rest[group.end() :]):
        return next(g for g in group.groups() if g)
    line = re.split(r"(?<![ap]\.m)[.!?](?=[\s\"*]|$)(?!\.)|\n|I hope it is", rest, maxsplit=1)[0].strip(" \"'*")
    line = re.split(r"[,;]?\s(?:because|since|as|which|where|when|so|if)\s", line, maxsplit=1)[0].strip()
    words = len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", line)))
    if line.count("$") % 2 and not re.search(r"\$\s?\d", line):
        return None  # cut off inside a formula
    if words <= 3 and re.match(r"[-+(\[{\\$€£.\d\u2212√π∞±]|\(?[A-Za-z]\)?$|[A-Za-z]\s?=", line):
        return line
    if number := _NUMBER.match(line):
        return number.group()
    found = _last_number(line)[1]
    if found is not None or re.match(r"(?:not|in)?correct|right|wrong|clear|given|as follows|not\b|that\b", line, re.I):
        return found or ""
    return line if len(line.split()) <= 4 else ""


def _after(pattern: re.Pattern, text: str, closed: bool = False) -> tuple[int, str | None]:
    """Answer after the last match of a phrase; with `closed`, only of a sentence that ends."""
    for m in reversed(list(pattern.finditer(text))):
        if closed and not re.search(r"[.\n]|I hope", text[m.end() :][:1200]):
            return m.start(), None
        found = _sentence(text[m.end() : m.end() + 700])
        if found is None or found:
            return m.start(), found
    return -1, None


def _choice(text: str) -> tuple[int, str | None]:
    """The last chosen letter A to J: in a box, after "answer is", in parentheses, or alone on a line."""
    box = _boxed(text)
    if box[0] >= 0:
        text = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", box[1] or "")
    for pattern in (r"(?i:answer|option|choice)\W{0,12}(?i:is|:)?\W{0,12}([A-J])(?![A-Za-z'])", r"\(([A-J])\)",
                    r"(?m)^\W*([A-J])(?:\W*$|[.):]\s)"):  # fmt: skip
        if found := list(re.finditer(pattern, text)):
            return found[-1].start(), found[-1].group(1)
    return -1, None


def _last_number(text: str) -> tuple[int, str | None]:
    """The last number, or the whole formula in which it stands (its right-hand side)."""
    tail = text[-3000:].replace("{,}", ",").replace(",\\!", ",")
    last = None
    for last in _NUMBER.finditer(tail):
        pass
    if last is None:
        return -1, None
    for group in _GROUP.finditer(tail):
        inner = next(g for g in group.groups() if g)
        if group.start() <= last.start() < group.end() and not re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}", inner):
            if re.search(r"\\(?!%)|[\^_=]", inner):
                return last.start(), re.split(r"(?<![<>!\\])=|\\approx", inner)[-1 if "\\approx" not in inner else -2]
    if command := re.search(r"\\d?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)\s*$", tail[: last.end() + 1]):
        return command.start(), command.group()
    return last.start(), last.group()


def _auto(text: str) -> tuple[int, str | None]:
    """The strong marker that stands last, else the last weak one, else the last number."""
    strong = max((_boxed(text), _hashes(text), _after(_FINAL, text)), key=lambda found: found[0])
    if strong[0] >= 0:
        return strong
    weak = max((_after(_PHRASE, text), _openai(text)), key=lambda found: found[0])
    return weak if weak[0] >= 0 else _last_number(text)


def _openai(text: str) -> tuple[int, str | None]:
    found = list(re.finditer(r"(?m)^[ \t]*A:[ \t]*(\S[^\n]*)$", text))
    return (found[-1].start(), found[-1].group(1)) if found else (-1, None)


_STYLES: dict[str, Callable[[str], tuple[int, str | None]]] = {
    "auto": _auto, "gsm8k": _hashes, "boxed": _boxed, "minerva": lambda text: _after(_FINAL, text, closed=True),
    "openai": _openai, "choice": _choice, "last_number": _last_number,
}  # fmt: skip
STYLES = tuple(_STYLES)

# ---------------------------------------------------------------- normalisation


class _Unread(Exception):
    """Text outside the grammar; `ask` says that math-verify may know more."""

    def __init__(self, why: str, ask: bool = False) -> None:
        super().__init__(why)
        self.ask = ask


_FUNCTIONS = "arcsinh arccosh arctanh arcsin arccos arctan sinh cosh tanh sin cos tan cot sec csc ln log exp sqrt cbrt".split()
_GREEK = "alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi omega pi infinity infty".split()
_VULGAR = {c: unicodedata.normalize("NFKC", c).replace("\u2044", "/") for c in "½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞"}
_SUPER = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
_SIGNS = dict(zip("−–—×·⋅∗÷≤≥≠≈∞√°±∓∪∈∅ℝ…′“”∖", ["-"] * 3 + ["*"] * 4 + ["/", "\\le ", "\\ge ", "\\ne ", "\\approx ", "\\infty ", " sqrt",
              "\\circ ", "\\pm ", "\\mp ", "\\cup ", "\\in ", "\\emptyset ", "\\reals ", "...", "'", " ", " ", "\\setminus "]))  # fmt: skip
_SAME = [(re.compile(a), b) for a, b in (
    (r"\\\\(?:\[[^\]]*\])?|\\cr\b", "\x1e"), (r",\\!\s*(?=\d)|\{,\}(?=\d{3})", ""), (r"(?<=\d)(?:\\[,!]|\u202f|\u2009)(?=\d{3}(?!\d))", ""),
    (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|mathstrut|bf|rm|it|q?quad)(?![A-Za-z])|\\[,;:!> ]|~", " "),
    (r"\\(?:boxed|fbox|mathbf|boldsymbol|mathit|mathsf|vec|hat|ensuremath)\s*\{((?:[^{}]|\{[^{}]*\})*)\}", r" \1 "),
    (r"\\[dtc]frac(?![a-z])", r"\\frac"), (r"\\[dt]binom(?![a-z])", r"\\binom"), (r"\\le(?:q|qslant)?(?![a-z])|<=|=<", r"\\le "),
    (r"\\ge(?:q|qslant)?(?![a-z])|>=", r"\\ge "), (r"\\neq?(?![a-z])|!=", r"\\ne "), (r"\\lt(?![a-z])", "<"), (r"\\gt(?![a-z])", ">"),
    (r"\\(?:cdot|times|ast)(?![a-z])", "*"), (r"\\div(?![a-z])", "/"), (r"\\colon(?![a-z])", ":"), (r"\\(?:lbrace|\{)", r"\\{"),
    (r"\\(?:rbrace|\})", r"\\}"), (r"\\langle(?![a-z])", "("), (r"\\rangle(?![a-z])", ")"), (r"\\[lr]?vert(?![a-z])", "|"),
    (r"\\(?:[lcd]?dots)(?![a-z])", "..."), (r"\\(?:varnothing|empty)(?![a-z])", r"\\emptyset "), (r"\\(?:mathbb|mathbf)\s*\{?R\}?", r"\\reals "),
    (r"\\backslash(?![a-z])", r"\\setminus "), (r"\\prime(?![a-z])", "'"), (r"\^\s*\{?\s*\\circ(?![a-z])\s*\}?|\\(?:degree|circ)(?![a-z])", "°"),
    (r"\\([%$#&])", r"\1"), (r"\\(?:simeq|sim)(?![a-z])", r"\\approx "), (r"\*\*", "^"), (r"(?<=\d) (?=\d{3}(?:\D|$))", "\x1f"),
    (r"(?<![\d.\x1f])(\d{1,3})((?:\x1f\d{3})+)(?!\d)", r"\1\2"))]  # fmt: skip


def _text_command(m: re.Match) -> str:
    """`\\text{...}` as a quoted word, unless it holds a number, a symbol or a function."""
    inner = m.group(1).strip()
    bare = inner.strip("() .")
    if bare in _FUNCTIONS or re.fullmatch(r"[-\d.,/%$ ]+|\([A-Za-z]\)", inner):
        return f" {inner} "
    if len(bare) == 1 and not re.search(r"[\d)}]\s*$", m.string[: m.start()]):
        return f" {inner} "
    return f"“{inner}”" if inner else " "


@lru_cache(8192)
def _normalise(text: str) -> str:
    """One spelling for what TeX, Unicode and markdown spell in many ways."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\u200b-\u200f\ufeff]", "", text)
    text = re.sub("[½⅓⅔¼¾⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞]", lambda m: f" {_VULGAR[m.group()]} ", text)
    text = re.sub("[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: f"^{{{m.group().translate(_SUPER)}}}", text)
    text = re.sub("[₀-₉]+", lambda m: f"_{{{unicodedata.normalize('NFKC', m.group())}}}", text)
    text = re.sub("[α-ωϕΓΔΘΛΠΣΦΨΩ]", lambda m: "\\" + unicodedata.name(m.group()).split()[-1 if "LETTER" in unicodedata.name(m.group()) else -2].lower() + " ", text)  # fmt: skip
    text = unicodedata.normalize("NFKC", "".join(_SIGNS.get(c, c) for c in text))
    if text.count("$") % 2 == 0 and not re.match(r"\s*\$\d[^$]*,\s*\$\d", text):
        text = re.sub(r"(?<!\\)\$", " ", text)
    text = re.sub(r"\\[()\[\]]", " ", text)
    text = re.sub(r"\\(?:text(?:bf|it|rm|normal|sf)?|[mh]box|mathrm|operatorname\*?)\s*\{([^{}]*)\}", _text_command, text)
    for pattern, replacement in _SAME:
        text = pattern.sub(replacement, text)
    text = text.replace("\x1f", "")
    text = re.sub(r"(?<=\d)\s*(?:\^\s*\{?\s*)?“?(?:st|nd|rd|th)”?\s*\}?(?=\s*$)", "", text)
    text = re.sub(r"\s+", " ", text).strip(" \"'*`=\n" if not text.rstrip().endswith("'") else " \"*`=")
    return text if text.endswith("...") else text.rstrip(" .,;")


def _key(text: str) -> str:
    """What must agree for two normalised answers to be identical; a space counts only between two word characters."""
    return re.sub(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])", "", text.replace("“", "").replace("”", ""))


# ---------------------------------------------------------------- expressions

Node = Fraction | str | tuple  # a number, a symbol or constant, or (operator, *nodes)
_TOKEN = re.compile(r"\s+|((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9}(?![\d.]))?)|(\\[A-Za-z]+|\\[{}]|“[^”]*”|"
                    + "|".join(sorted(_FUNCTIONS + _GREEK, key=len, reverse=True)) + r"|[A-Z]{2,}|.)")  # fmt: skip
_CONSTANTS = {"\\pi": "π", "pi": "π", "e": "e", "i": "i", "\\infty": "∞", "infinity": "∞", "infty": "∞"}
_CLOSERS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}


class _Reader:
    """Recursive descent over TeX and plain notation; `parse` gives a Node or raises _Unread."""

    def __init__(self, text: str) -> None:
        self.tokens = [m.group(1) or m.group(2) for m in _TOKEN.finditer(text) if m.group(1) or m.group(2)]
        self.i = self.depth = self.bars = 0

    def parse(self) -> Node:
        node = self.sum()
        if self.i < len(self.tokens):
            raise _Unread(f"cannot read {self.tokens[self.i]!r}", ask=self.tokens[self.i].startswith("\\"))
        return node

    def peek(self) -> str:
        return self.tokens[self.i] if self.i < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise _Unread(f"{expected or 'more'} expected, {token or 'the end'} found")
        self.i += 1
        return token

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > 50:
            raise _Unread("nested too deeply")
        node = self.product()
        while self.peek() in ("+", "-"):
            node = (self.take(), node, self.product())
        self.depth -= 1
        return node

    def starts(self) -> bool:
        token = self.peek()
        return bool(token) and (token[0].isalnum() or token in _CLOSERS or (token == "|" and not self.bars) or (
            token[0] == "\\" and len(token) > 2 and token not in ("\\rfloor", "\\rceil")))  # fmt: skip

    def product(self) -> Node:
        node = self.signed()
        while True:
            token = self.peek()
            if token in ("*", "/"):
                self.take()
                start = self.peek()
                node = (token, node, self.signed())
                if token == "/" and start.isalpha() and self.starts():
                    raise _Unread("a/bc is ambiguous")
            elif self.starts():
                if token[0].isdigit():
                    raise _Unread("two numbers side by side")
                node = ("*", node, self.power())
            else:
                return node

    def signed(self) -> Node:
        sign = 1
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        node = self.power()
        if sign > 0:
            return node
        return -node if isinstance(node, Fraction) else "-∞" if node == "∞" else ("*", Fraction(-1), node)

    def power(self) -> Node:
        node = self.primary()
        while (token := self.peek()) in ("^", "!", "°", "%"):
            self.take()
            if token == "^":
                node = ("^", node, self.exponent())
            else:
                node = ("!", node) if token == "!" else ("/", node, Fraction(100)) if token == "%" else (
                    "*", node, ("/", "π", Fraction(180)))  # fmt: skip
                if token == "!" and self.peek() == "!":
                    raise _Unread("double factorial", ask=True)
        return node

    def exponent(self) -> Node:
        self.depth += 1
        if self.depth > 50:
            raise _Unread("nested too deeply")
        node = self.group() if self.peek() == "{" else self.signed()
        self.depth -= 1
        return node

    def group(self) -> Node:
        """One TeX argument: braces, or a single character."""
        token = self.peek()
        if token[:1].isdigit() and len(token) > 1 and token.isdigit():
            self.tokens[self.i : self.i + 1] = [token[0], token[1:]]
            return Fraction(self.take())
        return self.primary()

    def mixed(self, whole: Fraction) -> Node:
        """`2\\frac{1}{2}` and `2 1/2` after their whole part; anything else leaves the whole part alone."""
        start, rest = self.i, self.tokens[self.i : self.i + 3]
        if len(rest) == 3 and rest[1] == "/" and rest[0].isdigit() and rest[2].isdigit():
            self.i += 3
            part: Node = ("/", Fraction(rest[0]), Fraction(rest[2]))
        elif rest[:1] == ["\\frac"]:
            part = self.primary()
        else:
            return whole
        if not all(isinstance(x, Fraction) and x.denominator == 1 for x in part[1:]):
            self.i = start
            return whole
        if not 0 <= part[1] < part[2]:
            raise _Unread("improper mixed number")
        return ("+", whole, part)

    def primary(self) -> Node:
        token = self.take()
        if token[0].isdigit() or token[0] == ".":
            digits, _, ten = token.lower().partition("e")
            number = Fraction(digits.rstrip(".") if digits != "." else "x")
            if ten:
                return ("*", number, ("^", Fraction(10), Fraction(int(ten))))
            return self.mixed(number) if token.isdigit() else number
        if token in _CLOSERS:
            node = self.sum()
            self.take(_CLOSERS[token])
            return ("floor" if token == "\\lfloor" else "ceil", node) if token[0] == "\\" else node
        if token == "|":
            self.bars += 1
            node = self.sum()
            self.take("|")
            self.bars -= 1
            return ("abs", node)
        name = token.lstrip("\\")
        if name in ("frac", "binom"):
            return ("/" if name == "frac" else "binom", self.group(), self.group())
        if name == "sqrt":
            index: Node = Fraction(2)
            if token[0] == "\\" and self.peek() == "[":
                self.take()
                index = self.sum()
                self.take("]")
            return ("root", self.group() if token[0] == "\\" else self.primary(), index)
        if name in _FUNCTIONS:
            return self.function(name)
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if token.isalpha() or (token[0] == "\\" and name in _GREEK + ["ell", "varphi", "varepsilon", "psi", "xi", "eta", "zeta", "nu", "chi", "kappa"]):
            if self.peek() == "_":
                self.take()
                begin = self.i
                self.group()
                name += "_" + "".join(self.tokens[begin : self.i]).strip("{}")
            while self.peek() == "'":
                name += self.take()
            if self.peek() == "(" and name[0] in "fghPF":
                raise _Unread(f"value of the function {name}", ask=True)
            return name
        raise _Unread(f"cannot read {token!r}", ask=token[0] == "\\")

    def function(self, name: str) -> Node:
        base: Node | None = None
        power: Node | None = None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = self.group()
            else:
                power = self.exponent()
        if self.peek() in ("(", "{"):
            node = self.primary()
        else:
            node = self.signed()
            while self.starts() and self.peek().lstrip("\\") not in _FUNCTIONS and self.peek() != "(":
                node = ("*", node, self.power())
        if power == Fraction(-1) and name in ("sin", "cos", "tan"):
            name, power = "arc" + name, None
        if name == "log":  # without a base, the base is an unknown of its own
            node = ("/", ("ln", node), ("ln", base)) if base is not None else ("*", "log scale", ("ln", node))
        elif name == "cbrt":
            node = ("root", node, Fraction(3))
        else:
            node = (name, node)
        return node if power is None else ("^", node, power)


class _Machine:
    """Evaluates nodes at one working precision; exact as long as everything is rational."""

    def __init__(self, digits: int) -> None:
        import mpmath

        self.mp = mpmath.MPContext()
        self.mp.dps, self.digits, self.off, self.cost = digits, digits, False, 0

    def lift(self, x):
        return self.mp.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else x

    def value(self, node: Node, at: dict[str, Fraction]):
        """Fraction, mpf or mpc. Raises _Unread (too large), ZeroDivisionError or ValueError (undefined)."""
        if isinstance(node, Fraction):
            return node
        if isinstance(node, str):
            if "∞" in node:
                raise ValueError("infinite")
            return {"π": +self.mp.pi, "e": +self.mp.e, "i": self.mp.mpc(0, 1)}[node] if node in "πei" else at[node]
        operator, *args = node
        values = [self.value(a, at) for a in args]
        exact = all(isinstance(v, Fraction) for v in values)
        bits = sum(v.numerator.bit_length() + v.denominator.bit_length() for v in values if isinstance(v, Fraction))
        self.cost += 1 + (bits >> 10)
        if self.cost > 20_000:
            raise _Unread("too expensive to evaluate")
        if operator in "+-*/" and exact and bits <= MAX_BITS:
            a, b = values
            return a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a / b
        result = self.inexact(operator, values)
        if not isinstance(result, Fraction):
            if not self.mp.isfinite(result):
                raise ValueError("undefined")
            if operator not in "+-*/abs" and self.mp.im(result) != 0 and all(self.mp.im(self.lift(v)) == 0 for v in values):
                self.off = True  # a real argument outside the real domain
        return result

    def inexact(self, operator: str, values: list):
        mp = self.mp
        if operator in ("^", "root"):
            return self.power(values[0], values[1] if operator == "^" else 1 / values[1])
        x = values[0]
        if operator == "!" or operator == "binom":
            if all(isinstance(v, Fraction) and v.denominator == 1 and 0 <= v <= 5000 for v in values):
                return Fraction(factorial(int(x)) if operator == "!" else comb(int(x), int(values[1])))
            if any(isinstance(v, Fraction) and v.denominator == 1 and v < 0 for v in values):
                raise ValueError("factorial of a negative integer")
            lifted = [self.lift(v) for v in values]
            if max(abs(v) for v in lifted) > 1e9:
                raise _Unread("number too large to evaluate")
            return mp.gamma(lifted[0] + 1) if operator == "!" else mp.binomial(*lifted)
        if operator in ("floor", "ceil"):
            if isinstance(x, Fraction):
                return Fraction(x.__floor__() if operator == "floor" else x.__ceil__())
            if mp.im(x) != 0 or abs(x - mp.nint(x)) < mp.mpf(10) ** (-self.digits // 2) or mp.mag(x) > self.digits:
                raise _Unread("rounding is undecided")
            return Fraction(int(mp.floor(x) if operator == "floor" else mp.ceil(x)))
        if operator == "abs":
            return abs(x)
        lifted = [self.lift(v) for v in values]
        if operator in ("+", "-", "*", "/"):
            a, b = lifted
            if operator in "+-" and a != 0 and b != 0 and abs(mp.mag(a) - mp.mag(b)) > 3 * self.digits:
                raise _Unread("a term is lost beside a much larger one")
            return a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a / b
        a = lifted[0]
        if a != 0 and mp.mag(a) > (60 if operator in ("exp", "sinh", "cosh") else 400):
            raise _Unread("number too large to evaluate")
        return getattr(mp, operator.replace("arc", "a"))(a)

    def power(self, base, exponent):
        mp = self.mp
        if isinstance(exponent, Fraction) and isinstance(base, Fraction):
            if base == 0 and exponent <= 0:
                raise ZeroDivisionError
            p, q = exponent.numerator, exponent.denominator
            size = base.numerator.bit_length() + base.denominator.bit_length()
            if q == 2 and base > 0:
                root = Fraction(isqrt(base.numerator), isqrt(base.denominator))
                if root * root == base:
                    base, q = root, 1
            if q == 1 and abs(p) * size <= MAX_BITS:
                return base**p
        base_mp = self.lift(base)
        if base_mp == 0:
            return base_mp
        if abs(self.lift(exponent)) * (abs(mp.mag(base_mp)) + 4) > 1e15:
            raise _Unread("number too large to evaluate")
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return base_mp ** int(exponent)
        if isinstance(exponent, Fraction) and exponent.denominator % 2 and mp.im(base_mp) == 0 and mp.re(base_mp) < 0:
            return (-1) ** exponent.numerator * (-base_mp) ** self.lift(exponent)  # the real root of odd degree
        return base_mp ** self.lift(exponent)


def _symbols(node: Node) -> set[str]:
    if isinstance(node, str):
        return set() if node in "πei" or "∞" in node else {node}
    return set().union(*map(_symbols, node[1:])) if isinstance(node, tuple) else set()


def _points(names: Iterable[str]) -> list[dict[str, Fraction]]:
    """Eight fixed points with different magnitudes and signs; `log scale` stays positive."""
    def at(name: str, k: int) -> Fraction:
        seed = zlib.crc32(f"{name}/{k}".encode())
        size = Fraction(seed % 9_000 + 300, (997, 2003, 3001, 9973)[k % 4])
        return -size if name != "log scale" and k > 2 and (k == 3 or seed >> 20 & 1) else size
    names = sorted(names)
    return [{name: at(name, k) for name in names} for k in range(8)] if names else [{}]


def _close(m: _Machine, a, b, digits: int) -> bool:
    a, b = m.lift(a), m.lift(b)
    return abs(a - b) <= max(abs(a), abs(b)) * m.mp.mpf(10) ** -digits


def _agree(a: Node, b: Node, at: dict[str, Fraction]) -> tuple[str, bool]:
    """Label ("" when different) of two values at one point, and whether both stayed in the real domain."""
    seen = []
    for digits in DIGITS:
        m = _Machine(digits)
        x, y = m.value(b, at), m.value(a, at)
        real = not m.off
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return "exact rational" if x == y else "", real
        seen.append((x, y))
        tiny = m.mp.mpf(10) ** (-digits * 4 // 5)
        if not _close(m, x, y, digits * 4 // 5) and max(abs(m.lift(x)), abs(m.lift(y))) > tiny:
            return "", real
    if _close(m, *seen[1], DIGITS[1] * 4 // 5):
        return f"value to {DIGITS[1] * 4 // 5} digits", real
    zero = [v[1] == 0 or not _close(m, v[0], v[1], 10) for v in zip(*seen)]  # rounding noise changes with the precision
    return (f"zero to {DIGITS[1]} digits" if all(zero) else ""), real


def _equal_nodes(a: Node, b: Node) -> str:
    """Label of equality of prediction `a` and gold `b`, or ""; raises _Unread when undecided."""
    if a == b:
        return "same expression"
    if any(isinstance(n, str) and "∞" in n for n in (a, b)):
        return ""
    real, other = [], []
    for at in _points(_symbols(a) | _symbols(b)):
        try:
            label, inside = _agree(a, b, at)
        except (ZeroDivisionError, ValueError):
            try:
                _Machine(DIGITS[0]).value(b, at)
                return ""  # only the prediction is undefined here
            except (ZeroDivisionError, ValueError):
                continue
        if inside and not label:
            return ""
        (real if inside else other).append(label)
    decisive = real if len(real) >= 3 or not other else real + other
    if not decisive:
        raise _Unread("undefined everywhere")
    return decisive[0] if all(decisive) else ""


def _proportional(a: Node, b: Node, signed: bool) -> str:
    """Label when a = c * b for a constant c (positive if `signed`): the same equation or inequality."""
    at = _points(_symbols(a) | _symbols(b))[0]
    m = _Machine(DIGITS[1])
    x, y = m.value(a, at), m.value(b, at)
    if x == 0 or y == 0 or (signed and (m.mp.im(m.lift(x / m.lift(y))) != 0 or m.mp.re(m.lift(x) / m.lift(y)) < 0)):
        return ""
    if _symbols(a) != _symbols(b):
        return ""
    fixed = [{n: at[n] for n in at}]
    return _equal_nodes(("*", a, _frozen(b, fixed[0])), ("*", b, _frozen(a, fixed[0])))


def _frozen(node: Node, at: dict[str, Fraction]) -> Node:
    """The node with its symbols replaced by numbers."""
    if isinstance(node, tuple):
        return (node[0], *(_frozen(n, at) for n in node[1:]))
    return at.get(node, node) if isinstance(node, str) else node
