"""Finds the final answer in a full output: boxes, `####`, "the answer is ...", choices, last numbers."""

from __future__ import annotations

import re
from collections.abc import Callable

from wcse_lib.answers.expressions import WORDS, Unread
from wcse_lib.answers.notation import normalise, read

MAX_ANSWER = 2_000  # characters of a candidate answer; longer ones are never parsed
MAX_TAIL = 100_000  # characters at the end of a sample in which its answer is sought
Found = tuple[
    int, str | None
]  # where a marker stands (-1: nowhere) and the answer there (None: broken off)
_STOP = re.compile(
    r"<\|(?:im_end|im_start|endoftext|end_of_text|eot_id|end)\|>|</s>|<eos>|<end_of_turn>"
)
_SAID = re.compile(r"\d|\\boxed|\\fbox|[Aa]nswer")
_MARKED = re.compile(r"\\boxed|\\fbox|####|answer", re.I)
_REPLY = re.compile(r"^[^\w\n]*(?:answer|A|solution|response|assistant)[^\w\n]{0,9}:", re.I | re.M)
_RUN_ON = re.compile(
    r"\n[ \t]*(?:[#*]{1,4}[ \t]?)?(?:Question|Problem|Exercise|Q|Human|User|Instruction)[ \t]?"
    r"(?:\d{1,4}[.:]|:|\*\*:?|\d{0,4}[ \t]?\n)"
)
_BOX = re.compile(r"\\(?:boxed|fbox)(?:\s*\{|\s+(?=[^\s{])|(?=\d))|\\.|[{}]", re.S)
_JOINT = re.compile(
    r"(?:[\s$.,;:()\[\]\\]|\\q?quad|\\text\s*\{\s*(?:and|or)\s*\}|and\b|or\b|[A-Za-z]\s?=)*"
)
_FINAL = re.compile(
    r"\bfinal\s+answer\b[\s:*_#]{0,20}(?:(?:the\s+)?final\s+answer\b[\s:*_]{0,9})?(?:is\b)?", re.I
)
_PHRASE = re.compile(
    r"\b(?:answers?|correct\s(?:option|choice)s?)\b\s{0,3}(?:\bis\b|\bare\b|=|\**:\**)|^[ \t>*#]{0,6}ans(?:wer)?\b[*:.\s]",
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


_ASIDE = re.compile(
    r"([-\u2212]?[$€£]?\d[\d,]*(?:\.\d+)?%?(?:\s[A-Za-z]{2,}){0,2}|\(?[A-J]\)?)\s?[,;(]\s?"
    r"(?!(?:and|or)\s\W?[\dA-J]|(?:mod|base|pi|sqrt|inf|infinity|sin|cos|tan|log|ln)\b)(?:[A-Za-z]{2}|I\b)"
)  # 72, in total; 5 (not 6)
_SMALL = {*"an as at by he if in is it no of on or so to we".split()}


def extract(text: str, style: str = "auto") -> str | None:
    r"""Final answer of a full output, or None when there is none (refusal, truncation, unclosed box or `<think>`).

    Only what follows the last `</think>` counts, up to the next few-shot question ("\nQuestion:", "\nProblem:", ...) or
    end-of-turn token, and inside the last `<answer>` tags if any. Styles: "gsm8k" (`####`), "boxed" (`\boxed`, `\fbox`;
    the last one, or the last ones if joined by "and", "or" or a comma), "minerva" ("The final answer is ..."), "openai"
    (`A: 18`), "choice", "last_number", and "auto": of box, `####` and "final answer" the one that stands last; else the
    last of "answer is" and `A:`; else the last number or the formula it stands in. Raises ValueError on another style.
    """
    if style not in STYLES:
        raise ValueError(f"answer style {style!r} is unknown; choose one of {', '.join(STYLES)}")
    text = (
        text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")
    )  # lone surrogates cannot be stored
    text = text.rpartition("</think>")[2].strip()
    if "<think>" in text:
        return None
    text = _STOP.split(text, maxsplit=1)[0]
    said = _SAID.search(text)
    run_on = said and _RUN_ON.search(text, said.end())
    if run_on and not _MARKED.search(text, 0, run_on.start()):
        later = _RUN_ON.search(text, run_on.end())
        rest = text[run_on.end() : later.start() if later else None]
        if re.search(r"\\boxed|\\fbox|####", rest) and not _REPLY.search(rest):
            run_on = later  # the problem told again, not the next one
    text = (text[: run_on.start()] if run_on else text)[-MAX_TAIL:]
    tagged = text.rpartition("</answer>")[0].rpartition("<answer>")[2]
    found = _STYLES[style](tagged or text)[1]
    return _clean(tagged if tagged and found is None and style == "auto" else found)


def _clean(found: str | None) -> str | None:
    """A candidate without delimiters and closing punctuation; None when empty, unbalanced or too long."""
    found = (found or "")[: 2 * MAX_ANSWER].strip().strip("*`").strip()
    while whole := _GROUP.fullmatch(found):
        found = next(filter(None, whole.groups())).strip()
    found = found if found.endswith("...") else re.sub(r"(?<!\\)[.,;:。]+$", "", found).rstrip()
    braces = re.sub(r"\\.", "", found)
    return (
        found if 0 < len(found) <= MAX_ANSWER and braces.count("{") == braces.count("}") else None
    )


def _boxed(text: str) -> Found:
    """The last outermost box that is not empty; broken off when a later one is never closed."""
    start = min(
        filter(lambda i: i >= 0, (text.find("\\boxed"), text.find("\\fbox"))), default=len(text)
    )
    stack, boxes = [], []  # (is a box, start, start of the content); (start, end, content)
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
        if len(joint) > 60 or not _JOINT.fullmatch(joint) or not re.search(r"and|or|,", joint):
            break
        joined.insert(0, before[2])
    return boxes[-1][0], ", ".join(joined if len(set(joined)) > 1 else joined[:1])


def _hashes(text: str) -> Found:
    """The last `#### answer` line; headings such as "#### Step 2" and "#### 1. Add" are none."""
    for m in reversed(list(re.finditer(r"####[ \t]*([^\n]*)", text))):
        line = re.sub(
            r"^(?:the\s+)?(?:final\s+)?answer\W+(?:is\s+)?",
            "",
            m.group(1).strip(" \t*#"),
            flags=re.I,
        )
        if line and not re.match(r"[A-Za-z]{3,}|\d+[.)]\s", line):
            return m.start(), line
    return -1, None


def _is_formula(line: str) -> bool:
    """Whether a line, but for a unit at its end, is one formula that can be read whole."""
    if (
        "$" in line
        or len(line) > 300
        or not re.search(r"[\^_=<>√±+*/()\[\\π-]|\b(?:pi|sqrt|log|ln|sin|cos|tan)\b", line)
    ):
        return False
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+|(?:\s[A-Za-z]{3,}){1,3}$", "", line))
    if any(
        word.lower() in _SMALL or (len(word) > 2 and not word.startswith(WORDS)) for word in words
    ):
        return False
    try:
        return read(normalise(line)).kind not in ("text", "list", "chain")
    except (Unread, RecursionError, ArithmeticError, ValueError, LookupError, TypeError):
        return False


def _sentence(rest: str) -> str | None:
    """The answer that starts a text, or the last number of its first sentence; "" for none, None if broken off."""
    rest = rest.lstrip(" \t\n:*_=,>#")
    group = _GROUP.match(rest)
    if group and not re.match(r"\s*(?:,|and\b|or\b)\s*[$\\]", rest[group.end() :]):
        return next(filter(None, group.groups()))
    line = re.split(r"(?<![ap]\.m)[.!?](?=[\s\"*]|$)(?<!\.\.)|\n|I hope it is", rest, maxsplit=1)[0]
    line = re.split(r"[,;]?\s(?:because|since|as|which|where|when|so|if)\s", line, maxsplit=1)[
        0
    ].strip(" \"'*")
    if line.count("$") % 2 and not re.search(r"\$\s?\d", line):
        return None  # inside a formula
    line = re.sub(
        r"^(?:negative|minus)\s(?=[$\d.])", "-", re.sub("<<[^<>]*>>", "", line), flags=re.I
    )
    line = (
        line if re.search(r"[A-Za-z\\]", line) else line.rpartition("=")[2].strip()
    )  # $8 + $9 = $17
    if aside := _ASIDE.match(line):
        return aside.group(1)
    words = re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", line))
    if len(words) <= 3 and re.match(
        r"[-+(\[{\\$€£.\d\u2212√π∞±]|\(?[A-Za-z]\)?$|[A-Za-z]\s?=|\(?[A-J][).:]\s", line
    ):
        return line
    if _is_formula(line) or line.startswith("not "):
        return "" if line.startswith("not ") else line
    if number := _NUMBER.search(line):
        return number.group() if number.start() == 0 else _last_number(line)[1]
    talk = re.match(r"(?:in)?correct|right|wrong|clear|given|as follows|not|that|we\b", line, re.I)
    return line if len(words) <= 4 and not talk else ""


def _after(phrase: re.Pattern, text: str, closed: bool = False) -> Found:
    """The answer after the last phrase that has one; with `closed`, its sentence must end."""
    for m in reversed(list(phrase.finditer(text))):
        rest = text[m.end() : m.end() + 700]
        found = _sentence(rest) if not closed or re.search(r"\.(?!\d)|\n|I hope", rest) else None
        if found != "":
            return m.start(), found
    return -1, None


def _openai(text: str) -> Found:
    lines = re.finditer(r"(?m)^[ \t]*A:[ \t]*(\S[^\n]*)$", text)
    return max(((m.start(), m.group(1)) for m in lines), default=(-1, None))


def _choice(text: str) -> Found:
    """The last chosen letter A to J: in a box, after "answer is", in parentheses, or alone at the start of a line."""
    at, box = _boxed(text)
    text = (
        text
        if at < 0
        else re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", box or "")
    )
    for pattern in (
        r"(?i:answer|option|choice|choose|pick|select)\W{0,12}(?i:is|:)?\W{0,12}([A-J])(?![A-Za-z'])",
        r"\(([A-J])\)",
        r"(?m)^[^\w\n]*([A-J])(?:[^\w\n]*$|[.):]\s)",
    ):
        if found := [(m.start(), m.group(1)) for m in re.finditer(pattern, text)]:
            return found[-1]
    return -1, None


def _last_number(text: str) -> Found:
    """The last number, or the right-hand side of the formula in which it stands."""
    text = re.sub(
        r"\bnegative\s(?=\$?\d)", "-", text[-3000:].replace("{,}", ",").replace(",\\!", ",")
    )
    last = max(_NUMBER.finditer(text), key=lambda m: m.start(), default=None)
    if last is None:
        return -1, None
    for group in _GROUP.finditer(text):
        inner = next(filter(None, group.groups()))
        if group.start() <= last.start() < group.end() and re.search(
            r"\\(?!%)|[\^_=]|^\s*[(\[].*,", inner
        ):
            if not re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}", inner):
                return last.start(), re.split(r"(?<![<>!\\])=", inner.partition("\\approx")[0])[-1]
    fraction = re.search(
        r"(?:(?<![\w)\]}])(?<![\d)\]}] )-\s?)?\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)\s*$",
        text[: last.end() + 1],
    )
    if fraction:
        return last.start(), fraction.group()
    token = (
        re.search(r"[^\s=$]*$", text[: last.start()][-200:]).group()
        + re.match(r"[^\s=$]{0,200}", text[last.start() :]).group()
    )
    token = re.sub(r"^(?:\\[\[(]|[*`&])+|(?:\\[\])\\]|[*`.,;:!?])+$", "", token)
    if re.search(r"[\^(\[√]", token) and _is_formula(token):
        return last.start(), token  # 2^10, (7,6)
    scale = re.match(r"\s(?:hundred|thousand|[mb]illion|trillion)\b", text[last.end() :])
    return last.start(), last.group() + (scale.group() if scale else "")


def _auto(text: str) -> Found:
    final = (
        _after(_FINAL, text) if "final" in text.lower() else (-1, None)
    )  # looked for first, as most texts lack it
    strong = max(_boxed(text), _hashes(text), final, key=lambda found: found[0])
    weak = (
        strong
        if strong[0] >= 0
        else max(_after(_PHRASE, text), _openai(text), key=lambda found: found[0])
    )
    if weak[0] >= 0:
        return weak
    if _is_formula(text.strip(" *.")) or re.fullmatch(r"\W*[A-Za-z]+\W*", text):
        return 0, text
    return max(_last_number(text), _choice(text), key=lambda found: found[1] is not None)


_STYLES: dict[str, Callable[[str], Found]] = {
    "auto": _auto,
    "gsm8k": _hashes,
    "boxed": _boxed,
    "minerva": lambda text: _after(_FINAL, text, closed=True),
    "openai": _openai,
    "choice": _choice,
    "last_number": _last_number,
}
STYLES = tuple(_STYLES)
