"""Numbers written in words or groups of digits: "twenty-one", "two and a half", "十二", "1.234,50", "1,23,456"."""

from __future__ import annotations

import re
from fractions import Fraction
from functools import partial

_SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
SMALL = {word: number for number, word in enumerate(_SMALL.split())}
TENS = {word: 10 * number for number, word in enumerate(_TENS.split(), start=2)}
LARGE = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PART_NAMES = "half third quarter fifth sixth seventh eighth ninth tenth eleventh twelfth"
_PARTS = {word: number for number, word in enumerate(_PART_NAMES.split(), start=2)}
_PARTS |= {"fourth": 4, "halve": 2, "hundredth": 100, "thousandth": 1000, "twentieth": 20}
_PARTS |= {word + "th": number for word, number in SMALL.items() if number > 12}
_CHINESE = {sign: number for number, sign in enumerate("零一二三四五六七八九")}
_CHINESE |= {"〇": 0, "两": 2, "兩": 2}
_CHINESE_SCALES = {
    "十": 10,
    "百": 100,
    "千": 1000,
    "万": 10**4,
    "萬": 10**4,
    "亿": 10**8,
    "億": 10**8,
}
_SAYS_NUMBER = re.compile(
    rf"(?:negative |minus )?(?:an? )?(?:{'|'.join((*SMALL, *TENS, *LARGE, *_PARTS))}|hundred|dozen)\b",
    re.I,
)
_CHINESE_NUMBER = re.compile(f"[{''.join((*_CHINESE, *_CHINESE_SCALES))}]+")


def number_in_words(text: str) -> Fraction | None:
    """The number that English or Chinese words are, None for other words.

    >>> number_in_words("twenty-one"), number_in_words("negative two thirds"), number_in_words("三百零五")
    (Fraction(21, 1), Fraction(-2, 3), Fraction(305, 1))
    """
    if _CHINESE_NUMBER.fullmatch(text):
        return _chinese(text)
    words = re.sub(r"[\s,-]+", " ", text.lower()).split()
    if words in (["a"], ["an"]):
        return None
    if words[:1] in (["negative"], ["minus"]):
        value = _positive(words[1:])
        return None if value is None else -value
    return _positive(words)


def number_at_start(text: str) -> tuple[Fraction, str] | None:
    """(the longest number in words that starts a text, the words after it), None if it starts with none."""
    if not _SAYS_NUMBER.match(text):
        return None
    words = text.split()
    for n_words in range(len(words), 0, -1):
        value = number_in_words(" ".join(words[:n_words]))
        if value is not None:
            return value, " ".join(words[n_words:])
    return None


def _positive(words: list[str]) -> Fraction | None:
    """A whole number, a decimal, or a fraction, alone or after "and"."""
    if "point" in words:
        place = words.index("point")
        whole = _whole(words[:place])
        digits = [SMALL.get(word, 10) for word in words[place + 1 :]]
        if whole is None or not digits or max(digits) > 9:
            return None
        return Fraction(f"{whole}.{''.join(map(str, digits))}")
    whole = _whole(words)
    if whole is not None:
        return Fraction(whole)
    if not words:
        return None
    name = words[-1]
    below = _PARTS.get(name) or _PARTS.get(name.removesuffix("s"))
    if not below:
        return None
    for place in range(len(words) - 1, -1, -1):
        if words[place] == "and":
            whole, above = _whole(words[:place]), _whole(words[place + 1 : -1] or ["one"])
            is_mixed = whole is not None and above is not None
            return Fraction(above, below) + whole if is_mixed else None
    above = _whole(words[:-1] or ["one" if below == 2 else ""])
    return None if above is None else Fraction(above, below)


def _whole(words: list[str]) -> int | None:
    """The number of words such as "three hundred and five"; a digit after a digit is none."""
    if words in (["a"], ["an"]):
        return 1
    if words[:1] in (["a"], ["an"]) and len(words) > 1:
        words = ["one", *words[1:]]
    total, current, last_scale = 0, None, 10**15
    for place, word in enumerate(words):
        if word == "and":
            if (
                not total
                and not current
                or place == len(words) - 1
                or "hundred" == words[place + 1]
            ):
                return None
            continue
        if word == "hundred":
            current = (1 if current is None else current) * 100
        elif word == "dozen":
            current = (1 if current is None else current) * 12
        elif word in LARGE:
            if LARGE[word] >= last_scale:
                return None
            last_scale = LARGE[word]
            total, current = total + (1 if current is None else current) * last_scale, None
        else:
            current = _with_digit(current, word)
            if current is None:
                return None
    return total + (current or 0) if words else None


def _with_digit(current: int | None, word: str) -> int | None:
    """A number below a hundred after what may stand before it: nothing, hundreds, or tens before a digit."""
    value = SMALL.get(word, TENS.get(word))
    if value is None or current is None:
        return value
    is_after_hundreds = current and current % 100 == 0
    is_after_tens = current % 100 in TENS.values() and 0 < value < 10
    return current + value if value and (is_after_hundreds or is_after_tens) else None


def _chinese(text: str) -> Fraction | None:
    """A Chinese number such as 三百零五, or digits in a row as 二〇二四."""
    if not any(sign in _CHINESE_SCALES for sign in text):
        return Fraction("".join(str(_CHINESE[sign]) for sign in text))
    total, section, digit = 0, 0, None
    for sign in text:
        scale = _CHINESE_SCALES.get(sign)
        if scale is None:
            digit = _CHINESE[sign]
        elif scale < 10**4:
            section, digit = section + (1 if digit is None else digit) * scale, None
        else:
            total, section, digit = (total + section + (digit or 0)) * scale, 0, None
    return Fraction(total + section + (digit or 0))


# ---------------------------------------------------------------- groups of digits

_GROUPS = (  # with what separates their groups, and what their decimals
    (re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)"), ",", ""),
    (re.compile(r"(?<![\d.,])[1-9]\d?(?:,\d{2})+,\d{3}(?!\d|,\d)"), ",", ""),  # lakhs
    (re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:[. ]\d{3})+,\d{1,}(?![\d.,])"), ". ", ","),
    (re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:'\d{3})+(?:[.,]\d+)?(?![\d.,])"), "'", ","),
)


_MAY_BE_GROUPED = re.compile(r"\d[,.' ]\d\d")


def joined_digits(text: str) -> str:
    """A text with the groups of its digits joined and a point before decimals.

    Not inside brackets whose only commas they are: `(1,234)` is a pair.

    >>> joined_digits("1,234.5 + 1.234,5 + 1,23,456")
    '1234.5 + 1234.5 + 123456'
    """
    if not _MAY_BE_GROUPED.search(text):
        return text
    for pattern, separators, point in _GROUPS:
        text = pattern.sub(partial(_joined, separators, point), text)
    return text


def _joined(separators: str, point: str, match: re.Match) -> str:
    if _is_pair(match):
        return match.group()
    digits = re.sub(f"[{separators}]", "", match.group())
    return digits.replace(point, ".") if point else digits


def _is_pair(match: re.Match) -> bool:
    before = match.string[: match.start()]
    n_open = len(re.findall(r"[(\[]|\\\{", before)) - len(re.findall(r"[)\]]|\\\}", before))
    return n_open > 0 and not re.search(r",\s|;|,0\d", match.string)
