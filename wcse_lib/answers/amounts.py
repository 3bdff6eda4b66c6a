"""The numbers of a sentence: which of them is the answer, and which only say in how many days it came about."""

from __future__ import annotations

import re
from fractions import Fraction

from wcse_lib.answers import languages, words
from wcse_lib.answers.languages import ENGLISH, LANGUAGES, LATIN, SCALE_OF_NUMERAL, Language
from wcse_lib.answers.places import GROUP, NOWHERE, SENTENCE_END, Found, inside, is_formula

MAX_END = 3_000  # characters at the end of a text whose numbers are looked at

_MONTH = rf"(?:{languages.MONTHS})"
_DATE = (
    rf"\b{_MONTH} \d{{1,2}}(?:st|nd|rd|th)?\b(?:,? \d{{4}}\b)?|\b\d{{1,2}}(?:st|nd|rd|th)? {_MONTH}(?: \d{{4}})?"
    r"|(?<![\d/-])\d{4}-\d\d?-\d\d?(?![\d-])|(?<![\d/])\d\d?/\d\d?/(?:\d{4}|\d\d)(?![\d/])"
)
_DIGITS = (
    r"(?:\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:[ '’]\d{3})+(?:[.,]\d+)?(?![\d%A-Za-z'’-]| \d)"
    # no ordinal, and no part of a version
    r"|(?:\d[\d,]*\d|\d)(?:\.\d+)?(?!\d|\.\d|(?:st|nd|rd|th)\b))"
)
_CURRENCY = r"(?:[€£]|\$(?![\d.,]+\\?%?\$))"  # no dollar of a pair around a formula: $9$
NUMBER = re.compile(
    # a minus sign stands after no number or variable
    rf"{_DATE}|(?:(?<![A-Za-z\d_)\]}}.%])(?<![\d)\]}}%] )[-\u2212]\s?)?{_CURRENCY}?(?<![A-Za-z\d.])"
    rf"(?:\d{{1,3}} (?=\d{{1,3}}/\d))?{_DIGITS}(?:[eE][-+]?\d+(?![A-Za-z\d]))?"
    r"(?:\s?(?:[x×*·]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?\{?-?\d+\}?)?"
    r"(?:/\d+|(?::\d{1,4}(?!\d))+)?(?:\s?\\?%)?|(?<![\w.])-?\.\d+"
)
_NUMERALS = "|".join(map(re.escape, sorted(SCALE_OF_NUMERAL, key=len, reverse=True)))
_NUMERAL = re.compile(rf"\s?({_NUMERALS})(?![A-Za-z])")
_SCALED_PART = re.compile(rf"(\d+)\s?({_NUMERALS})?")
_SCALED_PARTS = re.compile(rf"(?:\d+\s?(?:{_NUMERALS})?)*")
_ENGLISH_SCALE = re.compile(rf"\s(?:{words.SCALE_WORDS})\b")
_PURPOSE = re.compile(words.PURPOSE)
_REFUSALS = re.compile(languages.REFUSALS, re.I)
LIST_JOINT = re.compile(
    r"[^\S\n]*\\?[$)]?[^\S\n]*(?:,|,?\s*\b(?:and|or|und|oder|et|ou|y|o|e)\b|、|和|或|与|と|그리고|또는|और|এবং)"
    r"[^\S\n]*(?:\\\(|\$(?!\d))?[^\S\n]*(?:[A-Za-z]\w?\s*=\s*)?"
)
_FORMULA = re.compile(r"\\(?!%)|[\^_=]|^\s*[(\[].*,")
# never goes back into a term: a digit can be read in two ways, and ten terms in a thousand
_TERMS_BEFORE = re.compile(
    r"(?:(?:^|(?<=\s))[-−]?\(?(?:\d[\d.]*)?[a-zA-Z]?(?:\^?\d|[²³])?\)?\s[-+−]\s?)++$"
)
# the mean is 7.5 and the median is 8
_CLAUSE_JOINT = re.compile(r"[^\d,;.=]{0,15}\band the [a-z ]{1,25} (?:is|are) ")
_POINTS = re.compile(
    r"(?:\([^()\n]{1,40}\)(?:\s*,\s*(?:and |or )?|\s+and\s+|\s+or\s+)){1,9}\([^()\n]{1,40}\)"
)
_LAST_FRACTION = re.compile(
    r"(?:(?<![A-Za-z\d_)\]}])(?<![\d)\]}] )-\s?)?\\[dt]?frac\s*(?:\{[^{}]*\}|\d)\s*(?:\{[^{}]*\}|\d)\s*$"
)
_VARIABLE = re.compile(r"[A-Za-z](?![A-Za-z])(?<![mgshlLkKMBCFxX])|x(?![A-Za-z\d]|\s\d)")


class _Asides:
    """What stands around a number that counts something else than the answer, and after one that is denied."""

    def __init__(self, spoken: list[Language]):
        self.before = re.compile(rf"(?:{_either('before', spoken)})\s*[$€£]?$", re.I)
        self.after = re.compile(_either("after", spoken), re.I)
        self.no = re.compile(rf"(?:{_either('no', spoken)})[\s*]*[$€£]?$", re.I)
        self.denied = re.compile(rf"\s?[^\s\d,.。]{{0,4}}?\s?(?:{_either('denied', spoken)})", re.I)

    def deny(self, number: re.Match) -> bool:
        before, after = number.string[: number.start()], number.string[number.end() :]
        return bool(self.no.search(before[-20:]) or self.denied.match(after[:20]))


def _either(part: str, spoken: list[Language]) -> str:
    return "|".join(f"(?:{getattr(language, part)})" for language in spoken)


# Where nothing says which language a text is in, its script does.
_SCRIPTS = LANGUAGES.keys() - set(LATIN)
_BY_SCRIPT = _Asides([one for name, one in LANGUAGES.items() if name in {ENGLISH, *_SCRIPTS}])
_BY_LANGUAGE = {name: _Asides([one]) for name, one in LANGUAGES.items()} | {ENGLISH: _BY_SCRIPT}


_NO_BOUNDS = (re.compile(languages.NEVER),) * 2
_ANY_SCRIPT = "any language of another script"


def _sides(before: str, after: str) -> tuple[re.Pattern, re.Pattern]:
    """Patterns of what stands before and after a number that is only a bound."""
    return re.compile(rf"(?:{before})[\s$€£(]*$", re.I), re.compile(after, re.I)


_BOUNDS = {name: _sides(*words_of_bounds) for name, words_of_bounds in languages.BOUNDS.items()}
_OF_SCRIPTS = [bounds for name, bounds in _BOUNDS.items() if name in _SCRIPTS]
_BOUNDS[_ANY_SCRIPT] = tuple(
    re.compile("|".join(pattern.pattern for pattern in side), re.I) for side in zip(*_OF_SCRIPTS)
)


def is_denied(after: str, language: str) -> bool:
    """Whether the text after a number says that this is not the answer."""
    return bool(_BY_LANGUAGE[language].denied.match(after[:20]))


def is_bound(number: re.Match, language: str) -> bool:
    """Whether a number is only a bound or the end of a range: at least 5, 5以上."""
    before, after = _BOUNDS.get(language, _NO_BOUNDS)
    text = number.string
    return bool(
        before.search(text[: number.start()][-40:]) or after.match(text[number.end() :][:20])
    )


def counts_something_else(after: str, language: str) -> bool:
    """Whether the text after a number says in how much time, or of how many, the answer is."""
    return bool(_BY_LANGUAGE[language].after.match(after[:20]))


def is_compound(line: str, number: re.Match, language: str) -> bool:
    """Whether a number goes on with another one after its unit, as hours with minutes (1時間20分)."""
    following = NUMBER.search(line, number.end())
    if not following or amount(number, language) != number.group():
        return False
    unit = line[number.end() : following.start()]
    if re.fullmatch(r"\s?[^\W\d_A-Za-z]{1,4}", unit):
        return True
    is_word = language != ENGLISH and re.fullmatch(r"\s?[^\W\d_][^\s,;:()]{0,14}\s", unit)
    return bool(is_word) and not _is_aside(following, _BY_LANGUAGE[language])


def amount(match: re.Match, language: str = ENGLISH) -> str:
    """A number as an answer: with the scale that a word after it names ("3 million", "3万")."""
    number, text = match.group(), match.string
    scale = _ENGLISH_SCALE.match(text, match.end())
    if scale:
        return number + scale.group()
    numeral = _NUMERAL.match(text, match.end())
    # words such as "mil" are numerals where the language is known to have them
    is_known = numeral and (language != ENGLISH or not numeral.group(1).isascii())
    digits = number.replace(",", "")
    if not is_known or not re.fullmatch(r"-?\d+(?:\.\d+)?", digits):
        return number
    value = Fraction(digits) * SCALE_OF_NUMERAL[numeral.group(1)]
    # 3万2千: each part has a scale of its own
    for part in _SCALED_PART.finditer(_SCALED_PARTS.match(text, numeral.end()).group()):
        value += Fraction(part.group(1)) * SCALE_OF_NUMERAL.get(part.group(2), 1)
    return str(value) if value.denominator == 1 else str(float(value))


def main_number(sentence: str, language: str = ENGLISH) -> re.Match | None:
    """The last number of a sentence that is no aside ("in 3 days", "(4 each)", "to save $15"), or else its last one.

    None where it has only numbers that are not the answer ("it is not 5").
    """
    asides = _BY_LANGUAGE[language]
    numbers = [one for one in NUMBER.finditer(sentence) if not asides.deny(one)]
    purpose = _PURPOSE.search(sentence)
    for number in reversed(numbers):
        is_purpose = purpose and purpose.start("what") <= number.start() < purpose.end()
        if not is_purpose and not _is_aside(number, asides):
            return number
    return numbers[-1] if numbers else None


def _is_aside(number: re.Match, asides: _Asides) -> bool:
    before, after = number.string[: number.start()], number.string[number.end() :]
    if asides.before.search(before[-40:]) or asides.after.match(after[:20]):
        return True
    opening = before.rfind("(")
    is_in_brackets = opening > before.rfind(")") and ")" in after
    if not is_in_brackets or not NUMBER.search(before, 0, opening):
        return False
    content = before[opening:] + after.partition(")")[0]
    return bool(re.search(r"[^\W\d_]{2,}", content)) and "\\" not in content


def number_in(sentence: str, language: str = ENGLISH) -> str:
    """The main number of a sentence, with the formula or list of which it is part; "" for none."""
    chosen = main_number(sentence, language)
    if chosen is None:
        return ""
    found = _formula_around(sentence, chosen.start())
    for points in _POINTS.finditer(sentence) if found is None else ():
        if points.start() <= chosen.start() < points.end():
            return points.group()
    if found is None:
        found = _fraction_or_token(sentence, chosen)
    if found is None:
        found = _expression_to(sentence, chosen)
    if found is None:
        found = _list_to(sentence, chosen)
    return amount(chosen, language) if found is None else found


def last_number(text: str) -> Found:
    """The answer among the numbers of the last sentence that has any; nowhere where that says that there is none."""
    text = text[-MAX_END:].replace("{,}", ",").replace(",\\!", ",")
    text = re.sub(r"\bnegative\s(?=\$?\d)", "-", text)
    numbers = list(NUMBER.finditer(text))
    if not numbers:
        return NOWHERE
    place, end = numbers[-1].span()
    start = max((stop.end() for stop in SENTENCE_END.finditer(text, 0, place)), default=0)
    stop = SENTENCE_END.search(text, end)
    sentence = text[start : stop.start() if stop else len(text)]
    if _REFUSALS.search(sentence):
        return NOWHERE
    around = _formula_around(text, place)  # which may stand on several lines
    chosen = main_number(sentence)
    if chosen and is_bound(chosen, _ANY_SCRIPT):
        return NOWHERE
    answer = number_in(sentence) if around is None else around
    return Found(place, answer) if answer else NOWHERE


def _formula_around(text: str, place: int) -> str | None:
    """The right-hand side of the delimited formula around a place, or of several that are one list."""
    groups = list(GROUP.finditer(text))
    around = [n for n, group in enumerate(groups) if group.start() <= place < group.end()]
    if not around or not _FORMULA.search(inside(groups[around[0]])):
        return None
    first = last_one = around[0]
    while first > 0 and LIST_JOINT.fullmatch(text, groups[first - 1].end(), groups[first].start()):
        first -= 1
    formulas = [inside(group) for group in groups[first : last_one + 1]]
    if any(re.search(r"(?<![\\A-Za-z{])[A-Za-z]{3,}", formula) for formula in formulas):
        return None
    return ", ".join(map(right_side, formulas))


def right_side(formula: str) -> str:
    """What an equation ends in; of an approximation what it approximates, unless that is a name.

    >>> right_side("x = 3/2 \\\\approx 1.5"), right_side("x \\\\approx 11")
    (' 3/2 ', ' 11')
    """
    exact, is_near, near = formula.partition("\\approx")
    value = re.split(r"(?<![<>!\\])=", exact)[-1]
    is_name = re.fullmatch(r"\s*\\?[A-Za-z]+(?:_\{?\w+\}?)?\s*(?:\([^()]*\))?\s*", value)
    return near if is_near and is_name else value


def _fraction_or_token(text: str, number: re.Match) -> str | None:
    r"""The `\frac`, or the formula without spaces as `2^10` or `(7,6)`, of which a number is part."""
    fraction = _LAST_FRACTION.search(text[: number.end() + 1])
    if fraction:
        return fraction.group()
    before = re.search(r"[^\s=$]*$", text[: number.start()][-200:]).group()
    after = re.match(r"[^\s=$]{0,200}", text[number.start() :]).group()
    token = re.sub(r"^(?:\\[\[(]|[*`&])+|(?:\\[\])\\]|[*`.,;:!?])+$", "", before + after)
    if re.search(r"[\^(\[√]", token) and is_formula(token):
        return token
    has_variable = _VARIABLE.match(text, number.end()) and re.fullmatch(r"[\w.^+*/()-]+", token)
    return token if has_variable else None


def _expression_to(sentence: str, number: re.Match) -> str | None:
    """The expression with a variable that ends in a number: 3x^2 - 5x + 2."""
    terms = _TERMS_BEFORE.search(sentence[: number.start()][-200:])
    expression = (terms.group() if terms else "") + number.group()
    has_variable = re.search(r"(?<![A-Za-z])[a-zA-Z](?![A-Za-z])", expression)
    return expression.strip() if has_variable else None


def _list_to(sentence: str, last_one: re.Match) -> str | None:
    """The numbers side by side of which one is the last: 3, 5 and 7."""
    items = [last_one]
    for before in reversed(
        [one for one in NUMBER.finditer(sentence) if one.end() <= last_one.start()]
    ):
        is_aside = _BY_SCRIPT.before.search(sentence[: before.start()][-40:])
        between = before.end(), items[0].start()
        is_joined = LIST_JOINT.fullmatch(sentence, *between) or _CLAUSE_JOINT.fullmatch(
            sentence, *between
        )
        if is_aside or not is_joined:
            break
        items.insert(0, before)
    return ", ".join(item.group() for item in items) if len(items) > 1 else None
