"""The answer in a sentence: what follows "the answer is", in many languages, without its asides."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from wcse_lib.answers import languages, words
from wcse_lib.answers.amounts import (
    LIST_JOINT,
    NUMBER,
    amount,
    counts_something_else,
    is_bound,
    is_compound,
    is_denied,
    main_number,
    number_in,
)
from wcse_lib.answers.languages import ENGLISH, LANGUAGES, LATIN
from wcse_lib.answers.measures import unit_name
from wcse_lib.answers.places import (
    GROUP,
    NOWHERE,
    Found,
    first_sentence,
    inside,
    is_formula,
    last,
)

MAX_SENTENCE = 700  # characters after a phrase
MAX_VALUE = 90  # characters of an answer in front of a phrase
MAX_WORDS = 40  # characters of an answer in the words of other scripts
MAX_PHRASES = 50  # of a text that are looked at, from its end

_MARK = r"[ \t]{0,3}(?:[*_\])]{1,3}(?=[\s:=]|$))?[ \t]{0,3}"
_COLON = r"(?::(?!=)|=(?!=)|\||[—–]|->|→|\n)"


class _Phrases(NamedTuple):
    forward: re.Pattern  # two groups: the verb, and a colon
    reversed: re.Pattern
    no: re.Pattern
    may_lack_verb: bool


_VALUE_BEFORE = re.compile(
    r"(\$[^$\n]{1,80}\$|\*\*[^*\n]{1,80}\*\*|\\\([^\n]{1,80}?\\\)|(?<!\w)\([^()\n]{1,60}\)"
    r"|(?<![A-Za-z\d(])\(?[A-J]\)?|(?<![\w.,/^*])[-−]?[$€£]?\d[\d,]*(?:\.\d+)?(?:/\d+)?%?)(?: [a-z]{2,12})?\s?$"
)


def _phrases(language: languages.Language) -> _Phrases:
    verb = rf"({language.gives})?"
    forward = rf"(?:{language.answer}){_MARK}{verb}{_MARK}({_COLON})?"
    may_lack_verb = re.fullmatch(language.gives, "") is not None
    return _Phrases(
        forward=re.compile(forward, re.I | re.M),
        reversed=re.compile(language.reversed),
        no=re.compile(language.no, re.I),
        may_lack_verb=may_lack_verb,
    )


_PHRASES = {name: _phrases(language) for name, language in LANGUAGES.items()}
_FINAL = re.compile(
    r"\bfinal\s+answer\b(?=[\s*_]{0,9}(?:is\b|[:#=|\n—–]|\**\s*[-$(\d\\]))"
    r"[\s:*_#]{0,20}(?:(?:the\s+)?final\s+answer\b[\s:*_]{0,9})?(?:is\b)?",
    re.I,
)
_KEYS = [
    re.compile(
        rf"[\"'](?:{keys})[\"']\s*:\s*(\"(?:\\.|[^\"\\])*\"|'[^'\n]*'|\[[^\[\]]*\]|-?[\d.,/]+|true\b|false\b)",
        re.I,
    )
    for keys in words.ANSWER_KEYS
]

_SEPARATORS = " \t\n:=,>#|_\"“”'‘「『«"
_LEADS = re.compile(languages.LEADS, re.I)
_OPTION = re.compile(languages.OPTION, re.I)
_ENDINGS = re.compile(languages.VERB_ENDINGS)
_NOTHING = re.compile(r"[\W_]*$")
_STARTS_HERE = re.compile(
    r"\s*[*_]{0,3}\s?(?:[-+−]?[$€£¥]?\d|\\|\$|\(?[A-J]\)?(?![A-Za-z])|[√π±\[{(])"
)
_GROUP_JOINT = re.compile(
    r"\s*(?:,?\s*\b(?:and|or|und|oder|et|ou|y|o|e)\b|,|:|\bto\b|[-–+*/×]|、|和|或"
    r"|(?:feet|foot|ft|hours?|hrs?|h|minutes?|min|pounds?|lbs?|dollars?)\b(?:\s+and\b)?)\s*"
)
_SCALE = re.compile(rf"\s?(?:{words.SCALE_WORDS})\b")

_CHOSEN = re.compile(r"(\(([A-J])\)|([A-J])(?![\w'’&]|\s?[-+*/^=<>]\s?[\w(]))")
_CHOICES = re.compile(
    r"\(?[A-J]\)?(?:\s*(?:,|,?\s?\band\b|&|,?\s?\bor\b)\s*\(?[A-J]\)?(?![\w'’]))+"
)
_CHOICE_TEXT = re.compile(r"\s?[).:]\s+(?=\S)")
_AFTER_LETTER = re.compile(
    rf"\s*(?:$|[).:,;—–(-]|[^\x00-\x7f]|(?:{words.EXPLAINS}|{words.NO_NOUNS}|non?|nicht|y|et|pas)\b)"
)
_NOUN = re.compile(
    rf"(?:\s?(?!(?:{words.NO_NOUNS})\b)[A-Za-z%°$€£][A-Za-z\d%°²³./'’-]*){{0,4}}", re.I
)
_GOES_ON = re.compile(
    r"['′]\s?\d|\s*(?:[-+*/^=<>×·÷±≤≥≈√π_!\\|{\[](?!-)|\((?!\s*=)(?![^)]*[^\W\d_]{2})"
    r"|(?:,|,?\s?\b(?:and|or)\b|;|&)\s*(?:\\\(|\$|\*\*)?[-+]?[$€£]?(?:\d|\\|\$|[a-zA-Z]\w?\s*=))"
)
_LIST = re.compile(rf"(?:{NUMBER.pattern})(?:(?:{LIST_JOINT.pattern})(?:{NUMBER.pattern}))+")
# Room 12, COVID-19
_NAME_WITH_NUMBER = re.compile(
    r"(?:the )?(?!Total|Sum|About|Only|Around|Approximately)(?:[A-Z][A-Za-z'’]*[ -]){1,3}\d+\W*"
)
_LIMIT = re.compile(rf"\s*(?:{words.LIMITS})", re.I)
_MODULUS = re.compile(rf"\s*\(?\s*(?:{words.NO_ASIDE})\b", re.I)
_EXPLANATION = re.compile(rf"[,;]?\s(?:{words.EXPLAINS})\s", re.I)
_CONDITION = re.compile(r"\b(?:if|when)\b.*\b(?:if|when|otherwise|else)\b", re.I)
_ANSWER_START = re.compile(
    r"[-+(\[{\\$€£.\d\u2212√π∞±]|\(?[A-Za-z]\)?$|[A-Za-z]\s?=|\(?[A-J][).:]\s"
)


def after(phrase: re.Pattern, text: str, must_end: bool = False) -> Found:
    """The answer after the last phrase that has one; with `must_end`, its sentence must end."""
    for match in reversed(list(phrase.finditer(text))[-MAX_PHRASES:]):
        rest = text[match.end() : match.end() + MAX_SENTENCE]
        if must_end and not re.search(r"\.(?!\d)|\n|I hope", rest):
            return Found(match.start(), None)
        answer = answer_at(rest)
        if answer != "":
            return Found(match.start(), answer)
    return NOWHERE


def final(text: str, must_end: bool = False) -> Found:
    """The answer that is called final; a passing "to get the final answer, we add" gives none."""
    return after(_FINAL, text, must_end)


def stated(text: str) -> Found:
    """The answer that the last phrase of any language gives, also one in front of it or as a key of JSON."""
    names = LATIN if text.isascii() else LANGUAGES
    found = [_in_language(text, name) for name in names]
    return last(*found, _in_json(text))


def _in_language(text: str, name: str) -> Found:
    phrases = _PHRASES[name]
    for match in reversed(list(phrases.forward.finditer(text))[-MAX_PHRASES:]):
        verb, colon = match.groups()
        rest = text[match.end() : match.end() + MAX_SENTENCE]
        line_start = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
        is_heading = not line_start.strip(" \t>*#-")
        if not verb and not colon:
            may_start = phrases.may_lack_verb or is_heading
            if not may_start or not _STARTS_HERE.match(rest):
                continue
        if colon == "\n" and not verb and not is_heading:
            continue
        answer = answer_at(rest, name)
        if answer != "":
            return last(Found(match.start(), answer), _reversed(text, name))
    return _reversed(text, name)


def _reversed(text: str, name: str) -> Found:
    """The answer in front of the last "is the answer"."""
    for match in reversed(list(_PHRASES[name].reversed.finditer(text))[-MAX_PHRASES:]):
        value = _VALUE_BEFORE.search(text[: match.start()][-MAX_VALUE:])
        answer = answer_at(value.group(1), name) if value else None
        if answer:
            return Found(match.start(), answer)
    return NOWHERE


def _in_json(text: str) -> Found:
    for key in _KEYS if ":" in text else ():
        values = list(key.finditer(text))
        if values:
            return Found(values[-1].start(), _json_value(values[-1].group(1)))
    return NOWHERE


def _json_value(value: str) -> str:
    """A JSON value as an answer; a list as its members."""
    try:
        read = json.loads(value)
    except ValueError:
        read = value.strip("'")
    if isinstance(read, list):
        return ", ".join(map(str, read))
    return answer_at(read) or read if isinstance(read, str) else value


# ---------------------------------------------------------------- the answer itself


def answer_at(rest: str, language: str = ENGLISH) -> str | None:
    """The answer that starts a text, or the main number of its first sentence; "" for none, None if broken off."""
    rest = _start(rest)
    if _PHRASES[language].no.match(rest.lstrip("*")) or _NOTHING.match(rest):
        return ""
    group = GROUP.match(rest)
    if group and not re.match(r"\d[\d,.]*\s+[a-z]{2,}", group.group(2) or ""):
        return _of_groups(group, rest, language)
    line = first_sentence(rest)
    if not _CONDITION.search(line):
        line = _EXPLANATION.split(line, maxsplit=1)[0]
    line = line.strip(" \"'*")
    if line.count("$") % 2 and not re.search(r"\$\s?\d|\d\s?\$", line):
        return None  # inside a formula
    line = re.sub("<<[^<>]*>>", "", line)
    line = re.sub(rf"(?i)^(?:{words.NEGATIVE})\s(?=[$\d.])", "-", line)
    if not re.search(r"[^\W\d_]|\\", line):
        line = line.rpartition("=")[2].strip()  # $8 + $9 = $17
    chosen = _choice(line)
    if chosen:
        return chosen
    number = NUMBER.match(line)
    if number:
        return _quantity(line, number, language)
    return _words_or_formula(line, language)


def _start(rest: str) -> str:
    """A text from where an answer may start: without separators, loose marks of bold text, and words before it."""
    before = None
    while rest != before:
        before = rest
        rest = rest.lstrip(_SEPARATORS)
        if rest.startswith("*") and not GROUP.match(rest):
            rest = rest.lstrip("*")
        for lead in (_LEADS, _OPTION):
            rest = rest[match.end() :] if (match := lead.match(rest)) else rest
    return rest


def _of_groups(group: re.Match, rest: str, language: str) -> str | None:
    """What delimiters enclose, or several such groups side by side as one list."""
    inner = inside(group)
    if group.group().startswith(("**", "`")):
        inner = answer_at(inner, language)
        if not inner:
            return inner
    end, parts = group.end(), [inner]
    while (joint := _GROUP_JOINT.match(rest, end)) and (
        following := GROUP.match(rest, joint.end())
    ):
        parts += [joint.group(), inside(following)]
        end = following.end()
    scale = _SCALE.match(rest, end)
    if scale:
        parts.append(scale.group())
    return "".join(parts).strip()


def _choice(line: str) -> str:
    """The chosen letter or letters that start a line, with its text where that is short; "" for none."""
    several = _CHOICES.match(line)
    if several:
        return several.group()
    chosen = _CHOSEN.match(line)
    if not chosen:
        return ""
    rest = line[chosen.end() :]
    is_bare = not chosen.group(2)
    if is_bare and not _AFTER_LETTER.match(rest):
        return ""
    text = _CHOICE_TEXT.match(rest) if is_bare else re.match(r"\s+(?=[^\s(])", rest)
    if not text:
        return chosen.group(1)
    said = re.split(r"[,;(]|\s(?:not|and|because|since|as|which)\s", rest[text.end() :])[0].strip()
    is_talk = re.match(rf"(?:{words.NO_NOUNS})\b", said, re.I)
    if is_talk or len(said.split()) > 6 or re.search(r"\b[A-J]\b", said):
        return chosen.group(1)
    return line[: chosen.end()] + rest[: text.end()] + said


def _quantity(line: str, number: re.Match, language: str) -> str:
    """A number that starts a line, with the noun that it counts; the line where more belongs to the answer."""
    rest = line[number.end() :]
    if is_denied(rest, language):
        return ""
    if is_bound(number, language):
        return _ENDINGS.sub("", line)
    if counts_something_else(rest, language):
        return number_in(line, language)
    if rest.startswith(("...", "…")) and "." in number.group():
        return line  # 0.333...
    if is_compound(line, number, language):
        return _ENDINGS.sub("", line)  # 1時間20分
    noun = _NOUN.match(rest)
    after_noun = rest[noun.end() :]
    goes_on = _GOES_ON.match(rest) or _GOES_ON.match(after_noun) or _MODULUS.match(rest)
    is_mixed = _is_unit(noun) and re.match(r"\s\d", after_noun)
    if goes_on or is_mixed or _LIMIT.match(rest) or _LIMIT.match(after_noun):
        return _with_what_follows(line)
    if _CONDITION.search(rest):
        return line
    if (language == ENGLISH or _is_unit(noun)) and not re.match(r"[^\x00-\x7f]", after_noun):
        return number.group() + noun.group().rstrip()
    return amount(number, language)


def _is_unit(noun: re.Match) -> bool:
    return unit_name(noun.group().strip(" .")) is not None


def _with_what_follows(line: str) -> str:
    """A line that starts with a number to which more belongs: a list, a sum with its value, or what is no number."""
    left, is_equation, right = line.rpartition("=")
    if is_equation and not re.search(r"[A-Za-z]{2}|[<>!]$", left):
        return answer_at(right) or line  # 8 + 9 = 17 apples
    listed = _LIST.match(line)
    if listed and not re.search(r"\d", line[listed.end() :]):
        return listed.group()
    return line


def _words_or_formula(line: str, language: str) -> str:
    """A line that starts with no number: a formula, few words, or a sentence in which a number stands."""
    n_words = len(re.findall(r"[A-Za-z]{2,}", re.sub(r"\\[A-Za-z]+", "", line)))
    if n_words <= 3 and _ANSWER_START.match(line):
        return line
    if is_formula(line):
        return line
    number = main_number(line, language)
    if number:
        is_name = _NAME_WITH_NUMBER.fullmatch(line)
        return line if is_name or is_bound(number, language) else number_in(line, language)
    is_talk = re.match(words.TALK, line, re.I)
    is_short = n_words <= 4 and (line.isascii() or len(line) <= MAX_WORDS)
    return _ENDINGS.sub("", line) if is_short and not is_talk else ""
