"""Finds the final answer in a full output: boxes, `####`, "the answer is ...", choices, last numbers."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from wcse_lib.answers import words
from wcse_lib.answers.notation import normalise
from wcse_lib.answers.reading import MAX_ANSWER, UNREADABLE, read
from wcse_lib.answers.thoughts import without_thoughts

MAX_TAIL = 100_000  # characters at the end of a sample in which its answer is sought
MAX_SENTENCE = 700  # characters after a phrase
MAX_JOINT = 60  # characters between two boxes of one answer


class Found(NamedTuple):
    """Where a marker stands (-1: nowhere), and the answer there (None: broken off)."""

    place: int
    answer: str | None


NOWHERE = Found(-1, None)

_STOP = re.compile("|".join(map(re.escape, words.END_OF_TURN)))
_HAS_ANSWER = re.compile(r"\d|\\boxed|\\fbox|[Aa]nswer")
_MARKED = re.compile(r"\\boxed|\\fbox|####|answer", re.I)
_REPLY = re.compile(rf"^[^\w\n]*(?:{words.REPLY_HEADINGS})[^\w\n]{{0,9}}:", re.I | re.M)
_NEXT_QUESTION = re.compile(
    rf"\n[ \t]*(?:[#*]{{1,4}}[ \t]?)?(?:{words.QUESTION_HEADINGS})[ \t]?"
    r"(?:\d{1,4}[.:]|:|\*\*:?|\d{0,4}[ \t]?\n)"
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(?=[^\s{])|(?=\d))|\\.|[{}]", re.S)
_BARE_BOX = re.compile(r"([^$\n]{1,200}?)\$|(\S{1,200})")
_JOINT = re.compile(
    r"(?:[\s$.,;:()\[\]\\]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|and\b|or\b|[A-Za-z]\s?=)*"
)
_FINAL = re.compile(
    r"\bfinal\s+answer\b[\s:*_#]{0,20}(?:(?:the\s+)?final\s+answer\b[\s:*_]{0,9})?(?:is\b)?", re.I
)
_PHRASE = re.compile(
    rf"\b(?:{words.ANSWER_NOUNS})\b\s{{0,3}}(?:\bis\b|\bare\b|=|\**:\**)"
    r"|^[ \t>*#]{0,6}ans(?:wer)?\b[*:.\s]",
    re.I | re.M,
)
_NUMBER = re.compile(
    r"(?:(?<![\w)\]}.%])(?<![\d)\]}%] )[-\u2212]\s?)?[$€£]?(?<![A-Za-z\d.])(?:\d{1,3} (?=\d{1,3}/\d))?"
    r"(?:\d[\d,]*\d|\d)(?:\.\d+)?(?:/\d+|:\d{1,3}(?!\d))?(?:\s?\\?%)?|(?<![\w.])-?\.\d+"
)
_GROUP = re.compile(
    r"\$\$([^$]+)\$\$|\$((?:\\.|[^$\\\n]|\n(?!\n))+)\$(?!\d)|\\\((.+?)\\\)|\\\[(.+?)\\\]"
    r"|\*\*([^*\n]+)\*\*|`([^`\n]+)`",
    re.S,
)
_ASIDE = re.compile(  # 72, in total; 5 (not 6)
    r"([-\u2212]?[$€£]?\d[\d,]*(?:\.\d+)?%?(?:\s[A-Za-z]{2,}){0,2}|\(?[A-J]\)?)\s?[,;(]\s?"
    rf"(?!(?:and|or)\s\W?[\dA-J]|(?:{words.NO_ASIDE})\b)(?:[A-Za-z]{{2}}|I\b)"
)
_SENTENCE_END = re.compile(r"(?<![ap]\.m)[.!?](?=[\s\"*]|$)(?<!\.\.)|\n|I hope it is")
_EXPLANATION = re.compile(rf"[,;]?\s(?:{words.EXPLAINS})\s")
_ANSWER_START = re.compile(
    r"[-+(\[{\\$€£.\d\u2212√π∞±]|\(?[A-Za-z]\)?$|[A-Za-z]\s?=|\(?[A-J][).:]\s"
)
_FORMULA_SIGN = re.compile(r"[\^_=<>√±+*/()\[\\π-]|\b(?:pi|sqrt|log|ln|sin|cos|tan)\b")
_CHOICES = [
    re.compile(pattern)
    for pattern in (
        rf"(?i:{words.CHOICE_WORDS})\W{{0,12}}(?i:is|:)?\W{{0,12}}([A-J])(?![A-Za-z'])",
        r"\(([A-J])\)",
        r"(?m)^[^\w\n]*([A-J])(?:[^\w\n]*$|[.):]\s)",
    )
]
_LAST_FRACTION = re.compile(
    r"(?:(?<![\w)\]}])(?<![\d)\]}] )-\s?)?\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)\s*$"
)


def extract(text: str, style: str = "auto") -> str | None:
    r"""Final answer of a full output, or None when there is none (refusal, truncation, unclosed box or `<think>`).

    Only what follows the last `</think>` counts, up to the next few-shot question ("\nQuestion:", "\nProblem:", ...) or
    end-of-turn token, and inside the last `<answer>` tags if any. Styles: "gsm8k" (`####`), "boxed" (`\boxed`, `\fbox`;
    the last one, or the last ones if joined by "and", "or" or a comma), "minerva" ("The final answer is ..."), "openai"
    (`A: 18`), "choice", "last_number", and "auto": of box, `####` and "final answer" the one that stands last; else the
    last of "answer is" and `A:`; else the last number or the formula it stands in. Raises ValueError on another style.

    >>> extract(r"Half of it, so the answer is \boxed{\frac{1}{2}}.")
    '\\frac{1}{2}'
    """
    if style not in STYLES:
        raise ValueError(f"answer style {style!r} is unknown; choose one of {', '.join(STYLES)}")
    # lone surrogates cannot be stored
    text = text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    text = without_thoughts(text)
    if text is None:
        return None
    text = _STOP.split(text, maxsplit=1)[0]
    text = _before_next_question(text)[-MAX_TAIL:]
    opened, closed = words.TAGGED_ANSWER
    tagged = text.rpartition(closed)[0].rpartition(opened)[2]
    answer = _STYLES[style](tagged or text).answer
    if tagged and answer is None and style == "auto":
        return _clean(tagged)
    return _clean(answer)


def _before_next_question(text: str) -> str:
    """A text up to the question that a model goes on with after its answer."""
    answer = _HAS_ANSWER.search(text)
    question = answer and _NEXT_QUESTION.search(text, answer.end())
    if not question:
        return text
    if _MARKED.search(text, 0, question.start()):
        return text[: question.start()]
    # Nothing is marked as the answer before: it may be the problem that is repeated, and not the next one.
    later = _NEXT_QUESTION.search(text, question.end())
    end = later.start() if later else len(text)
    rest = text[question.end() : end]
    is_repeated = re.search(r"\\boxed|\\fbox|####", rest) and not _REPLY.search(rest)
    return text[:end] if is_repeated else text[: question.start()]


def _clean(answer: str | None) -> str | None:
    """A candidate without delimiters and closing punctuation; None when empty, unbalanced or too long."""
    answer = (answer or "")[: 2 * MAX_ANSWER].strip().strip("*`").strip()
    while group := _GROUP.fullmatch(answer):
        answer = _inside(group).strip()
    if not answer.endswith("..."):
        answer = re.sub(r"(?<!\\)[.,;:。]+$", "", answer).rstrip()
    braces = re.sub(r"\\.", "", answer)
    is_whole = 0 < len(answer) <= MAX_ANSWER and braces.count("{") == braces.count("}")
    return answer if is_whole else None


def _inside(group: re.Match) -> str:
    """What the delimiters of a formula, bold text or code enclose."""
    return next(filter(None, group.groups()))


def _last(*places: Found) -> Found:
    return max(places, key=lambda found: found.place)


# ---------------------------------------------------------------- boxes and marks


class _Box(NamedTuple):
    start: int
    end: int
    content: str


def _boxed(text: str) -> Found:
    """The last outermost box that is not empty; broken off when a later one is never closed."""
    boxes, open_box = _boxes(text)
    if not boxes or open_box > boxes[-1].end:
        return Found(open_box, None)
    contents = [boxes[-1].content]
    for before, after in zip(boxes[-2::-1], boxes[:0:-1]):
        joint = text[before.end : after.start]
        is_joined = len(joint) <= MAX_JOINT and _JOINT.fullmatch(joint)
        if not is_joined or not re.search(r"and|or|,", joint):
            break
        contents.insert(0, before.content)
    if len(set(contents)) == 1:
        contents = contents[:1]
    return Found(boxes[-1].start, ", ".join(contents))


def _boxes(text: str) -> tuple[list[_Box], int]:
    """The outermost boxes with content, and where the last one starts that is never closed (-1: none)."""
    starts = [text.find(command) for command in ("\\boxed", "\\fbox")]
    start = min((start for start in starts if start >= 0), default=len(text))
    boxes: list[_Box] = []
    braces: list[tuple[bool, int, int]] = []  # open ones: is it a box, start, start of the content
    for match in _BOX.finditer(text, start):
        token = match.group()
        is_box = token.startswith(("\\boxed", "\\fbox"))
        if token == "{" or (is_box and token[-1] == "{"):
            braces.append((is_box, match.start(), match.end()))
        elif is_box:
            bare = _BARE_BOX.match(text, match.end())
            boxes.append(_Box(match.start(), bare.end(), bare.group(1) or bare.group(2)))
        elif token == "}" and braces:
            is_box, begin, inner = braces.pop()
            if is_box and text[inner : match.start()].strip():
                while boxes and boxes[-1].start > begin:
                    boxes.pop()  # a box inside this one
                boxes.append(_Box(begin, match.end(), text[inner : match.start()]))
    open_boxes = [begin for is_box, begin, _ in braces if is_box]
    return boxes, max(open_boxes, default=-1)


def _hashes(text: str) -> Found:
    """The last `#### answer` line; headings such as "#### Step 2" and "#### 1. Add" are none."""
    for match in reversed(list(re.finditer(r"####[ \t]*([^\n]*)", text))):
        line = match.group(1).strip(" \t*#")
        line = re.sub(r"(?i)^(?:the\s+)?(?:final\s+)?answer\W+(?:is\s+)?", "", line)
        if line and not re.match(r"[A-Za-z]{3,}|\d+[.)]\s", line):
            return Found(match.start(), line)
    return NOWHERE


def _openai(text: str) -> Found:
    last = NOWHERE
    for match in re.finditer(r"(?m)^[ \t]*A:[ \t]*(\S[^\n]*)$", text):
        last = Found(match.start(), match.group(1))
    return last


# ---------------------------------------------------------------- sentences


def _after(phrase: re.Pattern, text: str, must_end: bool = False) -> Found:
    """The answer after the last phrase that has one; with `must_end`, its sentence must end."""
    for match in reversed(list(phrase.finditer(text))):
        rest = text[match.end() : match.end() + MAX_SENTENCE]
        if must_end and not re.search(r"\.(?!\d)|\n|I hope", rest):
            return Found(match.start(), None)
        answer = _sentence(rest)
        if answer != "":
            return Found(match.start(), answer)
    return NOWHERE


def _final(text: str) -> Found:
    return _after(_FINAL, text, must_end=True)


def _sentence(rest: str) -> str | None:
    """The answer that starts a text, or the last number of its first sentence; "" for none, None if broken off."""
    rest = rest.lstrip(" \t\n:*_=,>#")
    group = _GROUP.match(rest)
    if group and not re.match(r"\s*(?:,|and\b|or\b)\s*[$\\]", rest[group.end() :]):
        return _inside(group)
    line = _SENTENCE_END.split(rest, maxsplit=1)[0]
    line = _EXPLANATION.split(line, maxsplit=1)[0].strip(" \"'*")
    if line.count("$") % 2 and not re.search(r"\$\s?\d", line):
        return None  # inside a formula
    line = re.sub("<<[^<>]*>>", "", line)
    line = re.sub(rf"(?i)^(?:{words.NEGATIVE})\s(?=[$\d.])", "-", line)
    if not re.search(r"[A-Za-z\\]", line):
        line = line.rpartition("=")[2].strip()  # $8 + $9 = $17
    aside = _ASIDE.match(line)
    if aside:
        return aside.group(1)
    n_words = len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", line)))
    if n_words <= 3 and _ANSWER_START.match(line):
        return line
    if _is_formula(line):
        return line
    if line.startswith("not "):
        return ""
    number = _NUMBER.search(line)
    if number:
        return number.group() if number.start() == 0 else _last_number(line).answer
    is_talk = re.match(words.TALK, line, re.I)
    return line if n_words <= 4 and not is_talk else ""


def _is_formula(line: str) -> bool:
    """Whether a line, but for a unit at its end, is one formula that can be read whole."""
    if "$" in line or len(line) > 300 or not _FORMULA_SIGN.search(line):
        return False
    plain = re.sub(r"\\[A-Za-z]+|(?:\s[A-Za-z]{3,}){1,3}$", "", line)
    for word in re.findall(r"[A-Za-z]{2,}", plain):
        is_name = len(word) == 2 or word.startswith(words.NAMES)
        if word.lower() in words.SMALL_WORDS or not is_name:
            return False
    try:
        return read(normalise(line)).kind not in ("text", "list", "chain")
    except UNREADABLE:
        return False


# ---------------------------------------------------------------- letters and numbers


def _choice(text: str) -> Found:
    """The last chosen letter A to J: in a box, after "answer is", in parentheses, or alone at the start of a line."""
    box = _boxed(text)
    if box.place >= 0:
        text = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", box.answer or "")
    for pattern in _CHOICES:
        letters = list(pattern.finditer(text))
        if letters:
            return Found(letters[-1].start(), letters[-1].group(1))
    return NOWHERE


def _last_number(text: str) -> Found:
    """The last number, or the right-hand side of the formula in which it stands."""
    text = text[-3000:].replace("{,}", ",").replace(",\\!", ",")
    text = re.sub(r"\bnegative\s(?=\$?\d)", "-", text)
    numbers = list(_NUMBER.finditer(text))
    if not numbers:
        return NOWHERE
    last = numbers[-1]
    answer = _formula_around(text, last.start())
    if answer is None:
        answer = _fraction_or_token(text, last)
    if answer is not None:
        return Found(last.start(), answer)
    scale = re.match(rf"\s(?:{words.SCALE_WORDS})\b", text[last.end() :])
    return Found(last.start(), last.group() + (scale.group() if scale else ""))


def _formula_around(text: str, place: int) -> str | None:
    """The right-hand side of the delimited formula around a place."""
    for group in _GROUP.finditer(text):
        inner = _inside(group)
        is_around = group.start() <= place < group.end()
        if not is_around or not re.search(r"\\(?!%)|[\^_=]|^\s*[(\[].*,", inner):
            continue
        if not re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}", inner):
            return re.split(r"(?<![<>!\\])=", inner.partition("\\approx")[0])[-1]
    return None


def _fraction_or_token(text: str, number: re.Match) -> str | None:
    r"""The `\frac`, or the formula without spaces as `2^10` or `(7,6)`, of which a number is part."""
    fraction = _LAST_FRACTION.search(text[: number.end() + 1])
    if fraction:
        return fraction.group()
    before = re.search(r"[^\s=$]*$", text[: number.start()][-200:]).group()
    after = re.match(r"[^\s=$]{0,200}", text[number.start() :]).group()
    token = re.sub(r"^(?:\\[\[(]|[*`&])+|(?:\\[\])\\]|[*`.,;:!?])+$", "", before + after)
    return token if re.search(r"[\^(\[√]", token) and _is_formula(token) else None


# ---------------------------------------------------------------- styles


def _auto(text: str) -> Found:
    # most texts lack the phrase, so that its word is looked for first
    final = _after(_FINAL, text) if "final" in text.lower() else NOWHERE
    marked = _last(_boxed(text), _hashes(text), final)
    if marked.place >= 0:
        return marked
    stated = _last(_after(_PHRASE, text), _openai(text))
    if stated.place >= 0:
        return stated
    if _is_formula(text.strip(" *.")) or re.fullmatch(r"\W*[A-Za-z]+\W*", text):
        return Found(0, text)
    number = _last_number(text)
    return number if number.answer is not None else _choice(text)


_STYLES: dict[str, Callable[[str], Found]] = {
    "auto": _auto,
    "gsm8k": _hashes,
    "boxed": _boxed,
    "minerva": _final,
    "openai": _openai,
    "choice": _choice,
    "last_number": _last_number,
}
STYLES = tuple(_STYLES)
