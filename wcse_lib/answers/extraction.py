"""Finds the final answer in a full output: boxes, `####`, "the answer is ...", choices, whole outputs, last numbers."""

from __future__ import annotations

import re
from collections.abc import Callable

from wcse_lib.answers import words
from wcse_lib.answers.amounts import last_number
from wcse_lib.answers.boxes import boxed, hashes
from wcse_lib.answers.languages import PLAIN_SIGNS
from wcse_lib.answers.places import GROUP, NOWHERE, Found, inside, last
from wcse_lib.answers.reading import MAX_ANSWER
from wcse_lib.answers.sentences import answer_at, final, stated
from wcse_lib.answers.thoughts import may_have_tags, without_thoughts
from wcse_lib.answers.wholes import last_line, whole

MAX_TAIL = 100_000  # characters at the end of a sample in which its answer is sought

_STOP = re.compile("|".join(map(re.escape, words.END_OF_TURN)))
_TAGS = "|".join(re.escape(opening) for opening, _ in words.ANSWER_TAGS)
_TAG = re.compile(_TAGS, re.I | re.A)
_MAY_BE_TAG = re.compile(r"<[A-Za-z|]|\[[A-Z]{6}")  # found sooner than tags in any case
_CLOSING = {opening.lower(): closing for opening, closing in words.ANSWER_TAGS}
_DOUBLED = re.compile(r"\\\\(?<!\\\\\\)(?:boxed|fbox)\b")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_HAS_ANSWER = re.compile(r"\d|\\boxed|\\fbox|[Aa]nswer")
_MARKED = re.compile(r"\\boxed|\\fbox|####|answer", re.I)
_REPLY = re.compile(rf"^[^\w\n]*(?:{words.REPLY_HEADINGS})[^\w\n]{{0,9}}:", re.I | re.M)
_NEXT_QUESTION = re.compile(
    rf"\n[ \t]*(?:[#*]{{1,4}}[ \t]?)?(?:{words.QUESTION_HEADINGS})[ \t]?"
    r"(?:\d{1,4}[.:]|:|\*\*:?|\d{0,4}[ \t]?\n)"
)
# Dots after a whole number or words; after decimals or a list they say that it goes on.
_TRAILING_DOTS = re.compile(r"(?:[-$€£]*\d+(?:,\d{3})*)?[^\d.,+]*(?:\.\.\.+|…)")
_GROUP_SIGNS = ("$", "\\", "*", "`")
_END_SIGNS = re.compile(r"(?<!\\)[.,;:。।॥]+$")
_CHOICES = [
    re.compile(pattern)
    for pattern in (
        rf"(?i:{words.CHOICE_WORDS})\W{{0,12}}(?i:is|:)?\W{{0,12}}([A-J])(?![A-Za-z'])",
        r"\(([A-J])\)",
        r"\b(?:[Ss]o|[Tt]hus|[Hh]ence|[Tt]herefore),? ([A-J])\W*$",
        r"(?m)^[^\w\n]*([A-J])(?:[^\w\n]*$|[.):]\s)",
    )
]


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
    spoken = without_thoughts(_readable(text))
    if spoken is None:
        return None
    has_tags = may_have_tags(spoken)
    if has_tags:
        spoken = _STOP.split(spoken, maxsplit=1)[0]
    spoken = _before_next_question(spoken)[-MAX_TAIL:]
    tagged = _tagged(spoken) if has_tags else ""
    if tagged and style == "auto":
        said = _said(tagged)
        if said.place >= 0:
            return _clean(said.answer)
        return _clean(whole(tagged) or answer_at(tagged) or tagged)
    return _clean(_STYLES[style](tagged or spoken).answer)


def _readable(text: str) -> str:
    """A text that can be stored, with the digits and signs of ASCII, and no backslash doubled."""
    text = text.replace("\0", "")
    if not text.isascii():
        # lone surrogates cannot be stored
        text = text.encode("utf-8", "replace").decode("utf-8")
        if not PLAIN_SIGNS.keys().isdisjoint(map(ord, _NOT_ASCII.findall(text))):
            text = text.translate(PLAIN_SIGNS)
    if "\x08" in text or "\x0c" in text:
        # an escape that was read once too often
        text = text.replace("\x08oxed", "\\boxed").replace("\x0crac", "\\frac")
    is_doubled = "\\\\" in text and _DOUBLED.search(text)
    return text.replace("\\\\", "\\") if is_doubled else text


def _tagged(text: str) -> str:
    """What stands between the last tags of an answer, also where these are never closed; "" without tags."""
    opened = list(_TAG.finditer(text)) if _MAY_BE_TAG.search(text) else []
    if not opened:
        return ""
    closing = _CLOSING[opened[-1].group().lower()]
    content = re.split(re.escape(closing), text[opened[-1].end() :], maxsplit=1, flags=re.I)[0]
    return content.strip()


def _before_next_question(text: str) -> str:
    """A text up to the question that a model goes on with after its answer."""
    # most texts have no question, which is known sooner than where an answer stands
    answer = _NEXT_QUESTION.search(text) and _HAS_ANSWER.search(text)
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
    if answer.isalnum():  # most answers are whole numbers
        return answer if len(answer) <= MAX_ANSWER else None
    while answer.startswith(_GROUP_SIGNS) and (group := GROUP.fullmatch(answer)):
        answer = inside(group).strip()
    if answer.endswith(("...", "…")) and _TRAILING_DOTS.fullmatch(answer):
        answer = answer.rstrip(".… ")
    if not answer.endswith(("...", "\\right.")):
        answer = _END_SIGNS.sub("", answer).rstrip()
    if answer.count("|") == 1:  # of a table
        answer = answer.strip("| ")
    braces = re.sub(r"\\.", "", answer)
    is_whole = 0 < len(answer) <= MAX_ANSWER and braces.count("{") == braces.count("}")
    return answer if is_whole else None


def _choice(text: str) -> Found:
    """The last chosen letter A to J: in a box, after "answer is", in parentheses, or alone at the start of a line."""
    box = boxed(text)
    if box.place >= 0:
        text = re.sub(r"\\(?:text|textbf|mathrm|mbox)\s*\{([^{}]*)\}", r"\1", box.answer or "")
    for pattern in _CHOICES:
        letters = list(pattern.finditer(text))
        if letters:
            return Found(letters[-1].start(), letters[-1].group(1))
    return NOWHERE


# ---------------------------------------------------------------- styles


def _said(text: str) -> Found:
    """The last box, `####` or "final answer"; without these what the last phrase gives."""
    box = last(boxed(text), hashes(text))
    if box.place >= 0:
        # most texts lack the phrase after it, so that its word is looked for first
        return last(box, final(text)) if "final" in text[box.place :].lower() else box
    return last(stated(text), _openai(text))


def _auto(text: str) -> Found:
    said = _said(text)
    if said.place >= 0:
        return said
    answer = whole(text) or last_line(text)
    if answer:
        return Found(0, answer)
    number = last_number(text)
    return number if number.answer is not None else _choice(text)


def _final(text: str) -> Found:
    return final(text, must_end=True)


def _openai(text: str) -> Found:
    """The last line with "A: 18"."""
    place = NOWHERE
    for match in re.finditer(r"(?m)^[ \t]*A:[ \t]*(\S[^\n]*)$", text):
        place = Found(match.start(), match.group(1))
    return place


_STYLES: dict[str, Callable[[str], Found]] = {
    "auto": _auto,
    "gsm8k": hashes,
    "boxed": boxed,
    "minerva": _final,
    "openai": _openai,
    "choice": _choice,
    "last_number": last_number,
}
STYLES = tuple(_STYLES)
