"""Reads the many spellings of an answer (TeX, Unicode, words) into one typed tree."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache

from wcse_lib.answers.expressions import (
    FUNCTIONS,
    MAX_DEPTH,
    WORDS,
    Node,
    Unread,
    equal,
    negative,
    parse,
    real,
    symbols,
)


@dataclass(frozen=True)
class Answer:
    r"""A read answer. `items` are answers (nodes where said so) and `tag` is more about them, by `kind`:

    expr (node; tag: its text; `unit`), text (tag: words), time (hour, minute, if it may be a ratio; tag: hour mod 12,
    minute, half, whether am or pm was said, hour), base (tag: digits, base), chain (tag: text), list, tuple, ratio,
    matrix (rows), set, union and interval (`unit`: their variable; ends; tag: which are open), assign (values; tag:
    names), eq (node of left - right or None, value of the right or None; tag: name on the left), rel
    (node; tag: "<" or "\le").
    """

    kind: str
    items: tuple = ()
    tag: object = None
    unit: str = ""


# ---------------------------------------------------------------- one spelling

_ROW, _AND, _OR = "\ue000\ue001\ue002"  # between the rows of a matrix; between parts of a list
_CHARS = {
    c: new
    for new, chars in {
        "-": "−–—‐",
        "*": "×·⋅∗",
        "/": "÷⁄",
        "\\lfloor ": "⌊",
        "\\rfloor ": "⌋",
        "\\lceil ": "⌈",
        "\\rceil ": "⌉",
        "\\le ": "≤⩽",
        "\\ge ": "≥⩾",
        "\\ne ": "≠",
        "\\approx ": "≈",
        "\\infty ": "∞",
        " sqrt": "√",
        "°": "º",
        "\\pm ": "±",
        "\\mp ": "∓",
        "\\cup ": "∪",
        "\\in ": "∈",
        "\\emptyset ": "∅",
        "...": "…",
        "=": "≡",
        "\\reals ": "ℝ",
        "'": "′’",
        " ": "“”",
        "\\setminus ": "∖",
        "(": "⟨",
        ")": "⟩",
    }.items()
    for c in chars
}
_COMMANDS = {
    c: new
    for new, commands in {
        r"\le ": "le leq leqslant",
        r"\ge ": "ge geq geqslant",
        r"\ne ": "ne neq",
        "<": "lt",
        ">": "gt",
        "*": "cdot times ast",
        "/": "div",
        ":": "colon",
        r"\{": "lbrace",
        r"\}": "rbrace",
        "(": "langle",
        ")": "rangle",
        "|": "vert lvert rvert mid",
        "...": "dots ldots cdots",
        r"\setminus ": "backslash",
        r"\emptyset ": "varnothing",
        "°": "degree circ",
        r"\approx ": "sim simeq",
        r"\frac": "dfrac tfrac cfrac",
        r"\binom": "dbinom tbinom",
        r"\reals ": "Reals R",
        "'": "prime",
        "=": "equiv",
        " ": """left right big Big bigl bigr Bigl Bigr bigg Bigg displaystyle textstyle
    limits bf rm it quad qquad angle triangle""",
    }.items()
    for c in commands.split()
}
_UNSEEN = re.compile(
    r"[\x00-\x08\x0b-\x1f\ud800-\uf8ff\u200b-\u200f\u202a-\u202e\ufeff]"
)  # controls, surrogates
_SCRIPTS = {
    mark: "".join(
        c for c in map(chr, range(0xB2, 0x2C80)) if unicodedata.decomposition(c).startswith(name)
    ).translate({ord(c): None for c in "º℠™"})
    for mark, name in (("^", "<super>"), ("_", "<sub>"))
}
_PLAIN = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,9})?")
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|sf)?|[mh]box|math(?:rm|bf|sf|it)|operatorname\*?)\s*\{([^{}]*)\}"
)
_SPELLINGS = [
    (re.compile(old), new)
    for old, new in (
        (r"\s+", " "),
        (r"\\\\(?:\[[^\]]*\])?|\\cr\b", _ROW),
        (
            r"\\(?:text)?color\s*\{[^{}]*\}|\\[hv]?phantom\s*\{[^{}]*\}|\\(?:checkmark|[hv]fill|q?square|blacksquare)(?=\s*$)",
            " ",
        ),
        (
            r"(?<=\d),\\!\s*(?=\d{3})|(?<=\d) ?\{ ?, ?\}(?:\\!)?(?=\d{3})|(?<=\d)\\[,!](?=\d{3}(?!\d))",
            "",
        ),  # thousands
        (r"\\[,;:!> ()\[\]]|~", " "),
        (r"\\mathb[bf]\s*\{?R\}?", r"\\reals "),
        (r"<=|=<", r"\\le "),
        (r">=", r"\\ge "),
        (r"!=", r"\\ne "),
        (r"\\(?:boldsymbol|vec|hat|over(?:left)?rightarrow)\s*\{\s*([A-Za-z]{1,3})\s*\}", r" \1 "),
        (
            r"\\(?:underline|bm)\s*\{([^{}]*)\}|\\overline\s*\{\s*([A-Z]{2,3})\s*\}",
            r" \1\2 ",
        ),  # not \overline{z}
        (r"(?<=[A-Za-z)])\s*\\circ(?![A-Za-z])", "∘"),  # of functions; `^\circ` is a degree
        (r"\\([A-Za-z]+)", lambda m: _COMMANDS.get(m.group(1), m.group())),
        (r"\s+", " "),  # runs of spaces would make later rules slow
        (r"\^ ?(?:\{ ?° ?\}|°)", "°"),
        (r"\\not ?=", r"\\ne "),
        (":=", "="),
        (
            r"\{([^{}]*)\\(over|choose)(?![a-z])([^{}]*)\}",
            lambda m: rf"\{'frac' if m[2] == 'over' else 'binom'}{{{m[1]}}}{{{m[3]}}}",
        ),
        (
            r"°\s*“?\s*(?:(C)|F)(?:elsius|ahrenheit)?”?(?=\s*$)",
            lambda m: "“celsius”" if m.group(1) else "“fahrenheit”",
        ),
        (r"(?<![A-Za-z\\])oo(?![A-Za-z])", r"\\infty "),
        (r"\\([%$#&])", r"\1"),
        (r"^(?:[Nn]o\.|#)\s*(?=\d)|^_{1,2}(?=[^_]+_)|(?<=[^_])_{1,2}$", ""),  # `No. 5`, `__5__`
        (r"(?<=\d) ?[xX] ?(?=10\s*\^)", "*"),
        (r"\*\*", "^"),
        (
            r"\s*“?\(?\s*(?:\\[pb]?|(?<![A-Za-z\\]))mod\s*”?\s*\{?\s*(\d{1,9})\s*\}?\s*\)?”?(?=\s*$)",
            r" \\pmod{\1}",
        ),
        (r"(?<=\d)\s*“?\s*(?<![A-Za-z])to\s*”?\s*(?=\d)", ":"),
        (r"(?<=\d)\s*(?:\^\s*\{?\s*)?“?(?:st|nd|rd|th)”?\s*\}?(?=\s*$)", ""),  # ordinals
        (
            r"(?<![\d.,/])(?<![\d./] )\d{1,3}(?:(?: \d{3})+(?!\d)|(?:(?:['_]\d{3})+|(?:\.\d{3}){2,})(?![\d.]))",
            lambda m: re.sub(r"\D", "", m.group()),
        ),
    )
]


def _text_command(m: re.Match) -> str:
    r"""`\text{...}` as words in “ ”, unless it holds a number, a variable or a function."""
    inner = m.group(1).strip()
    if re.fullmatch(r"(?:[-\d.,/%$\\ ]|and|or)*|\([A-Za-z]\)", inner) or inner in (
        *FUNCTIONS,
        "infinity",
    ):
        return f" {inner} "
    if words := re.fullmatch(r"(\\?\$?-?\d[\d.,/]*) ?([A-Za-z]{2}.*)", inner):
        return f" {words.group(1)} “{words.group(2)}”"  # 5 apples
    unit = re.search(r"[\d)}]\s*$", m.string[: m.start()])
    unit = unit and not (len(inner) == 1 and m.group().startswith(r"\mathb"))  # 3\mathbf{i}
    return f"“{inner}”" if unit or len(inner.strip(" .")) > 1 else f" {inner} "


@lru_cache(2048)
def normalise(text: str) -> str:
    r"""One spelling for what TeX, Unicode and markdown spell in many ways; words of `\text` stand in “ ”."""
    if _PLAIN.fullmatch(text):
        return text  # most answers are plain numbers
    text = _UNSEEN.sub("", text).strip(' \n\t*`"')
    if boxed := re.fullmatch(r"\$?\s*\\(?:boxed|fbox)\s*\{(.*)\}\s*\$?", text, re.S):
        text = boxed.group(1)
    if not text.isascii():
        text = re.sub(
            "[¼-¾⅐-⅞]",
            lambda m: f" {unicodedata.normalize('NFKC', m.group())} ".replace("\u2044", "/"),
            text,
        )
        for mark, script in _SCRIPTS.items():
            text = re.sub(
                f"[{script}]+",
                lambda m, mark=mark: (
                    f"{mark}{{{unicodedata.normalize('NFKC', m.group()).replace('−', '-')}}}"
                ),
                text,
            )
        text = unicodedata.normalize("NFKC", "".join(_CHARS.get(c, c) for c in text)).replace(
            "−", "-"
        )
        text = re.sub(
            "[α-ωΓΔΘΛΞΠΣΦΨΩ]",
            lambda m: "\\" + unicodedata.name(m.group()).split()[3].lower() + " ",
            text,
        )
    if text.count("$") % 2 == 0 and not re.match(r"\s*\\?\$\d[^$]*,\s*\\?\$\d", text):
        text = re.sub(r"(?<!\\)\$", " ", text)  # formulas, not money
    text = _TEXT.sub(_text_command, text)
    for old, new in _SPELLINGS:
        text = old.sub(new, text)
    text = re.sub(r"\s+", " ", text).strip(" =" + _ROW)
    return text if text.endswith("...") else text.rstrip(" .,;")


def key(text: str) -> str:
    """What two normalised answers must share to be identical: a space counts only between two word characters."""
    return re.sub(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])", "", text.replace("“", "").replace("”", ""))


# ---------------------------------------------------------------- units

UNITS = {
    alias: unit
    for unit, aliases in {
        "cm": "centimeter centimetre",
        "m": "meter metre",
        "km": "kilometer kilometre",
        "mm": "millimeter millimetre",
        "in": "inch inche",
        "ft": "foot feet",
        "yd": "yard",
        "mi": "mile",
        "kg": "kilogram",
        "g": "gram",
        "lb": "pound lbs",
        "oz": "ounce",
        "s": "sec second",
        "min": "minute",
        "h": "hr hour",
        "yr": "year",
        "l": "liter litre",
        "mi/h": "mph",
        "ml": "milliliter millilitre",
        "dollar": "usd buck $ us$",
        "euro": "eur €",
        "gbp": "£",
        "yen": "jpy ¥",
        "rupee": "inr ₹",
        "cent": "¢",
        "deg": "degree °",
        "%": "percent pct percentage",
        "": "unit",
    }.items()
    for alias in [unit, *aliases.split()]
}
_MEASURES = {*UNITS, *"square sq squared cubic cu cubed per".split()} - {""}
_SCALES = {
    "tens": 10,
    "dozen": 12,
    "hundred": 100,
    "thousand": 10**3,
    "lakh": 10**5,
    "million": 10**6,
    "crore": 10**7,
    "billion": 10**9,
    "trillion": 10**12,
}
_NO_UNITS = {
    *WORDS,
    *"""or and more less plus minus times over factorial choose mod modulo base remainder if for when
    not where than to through except with is are at least most divided by sum each between from until none half halves
    third quarter fourth score gross negative above below zero root repeating recurring undefined halved doubled tripled
    incorrect wrong false tau mil mln""".split(),
}
_PART = re.compile(
    r"(?:.*(?:teen|tie|llion|hundred|thousand)|fif|six|seven|eigh|nin|ten|eleven|twelf)ths?"
)  # 3 sevenths


def _canonical(word: str) -> str:
    return "/".join(
        UNITS.get(w, UNITS.get(w.removesuffix("s"), w.removesuffix("s"))) for w in word.split("/")
    )


def _unit(text: str) -> tuple[str, str, Fraction]:
    """(text without its unit, canonical unit, scale of a word such as "million")."""
    if m := re.match(r"([-+]?)\s*((?:US ?)?\$|[€£¥₹]|USD|EUR|GBP|Rs\.?)\s*(?=[-+.\d])(.+)", text):
        rest, _, scale = _unit(m.group(1) + m.group(3))
        return (
            rest,
            UNITS[re.sub(r" |(rs\.?)", lambda m: "₹" * bool(m.group(1)), m.group(2).lower())],
            scale,
        )
    tail = re.search(
        r"(?:(?<![A-Za-z\\])|(?=“))(?:“[^“”]*”|[A-Za-z ./%€$£¥¢°])+(\^\s*\{?\s*[23]\s*\}?)?$", text
    )
    exponent, scale = re.sub(r"\D", "", tail.group(1) or "") if tail else "", Fraction(1)
    found, begin = [], len(text)
    pieces = (
        list(re.finditer(r"“[^”]*”|[A-Za-z][A-Za-z./]*|[%€$£¥¢°]", tail.group())) if tail else []
    )
    for m in reversed(pieces):
        piece, at = m.group().strip("“”. "), tail.start() + m.start()
        words = piece.lower().split()
        letter = re.fullmatch(
            r"[-+\d.,/]+ [msghlL]", text
        )  # elsewhere a single letter is a variable
        sign, trig = piece in "%€$£¥¢°", piece == "°" and re.search("sin|cos|tan|cot|sec|csc", text)
        free = re.search(
            r"(?:[\d)}!”.,%$€£¥¢°]|(?<![A-Za-z\\])[A-Za-z]{2,}) $", text[:at]
        )  # not `5abc`, `x+abc`, `\pi abc`
        free = free or (len(piece) > 4 and text[at - 1 : at].isdigit())  # 12apples
        named = all(
            (free and w[2:]) or {w, w.removesuffix("s")} & _MEASURES
            for w in piece.lower().split("/")
        )
        known = (
            m.group()[0] == "“"
            or letter
            or sign
            or piece in ("of", "sq", "cu")
            or (len(piece) > 1 and named)
        )
        if (
            not known
            or trig
            or not words
            or _NO_UNITS & {*words, *(word.removesuffix("s") for word in words)}
        ):
            break
        if any(map(_PART.fullmatch, words)):
            break
        for word in reversed(words):
            if word in ("square", "sq", "sq.", "squared", "cubic", "cu", "cubed"):
                exponent = "3" if "cu" in word else "2"
            elif times := _SCALES.get(word, _SCALES.get(word.removesuffix("s"))):
                scale *= times
            else:
                found.insert(0, _canonical(word))
        begin = at
    unit = (
        "%"
        if found[:1] == ["%"]
        else " ".join(filter(None, found)).replace(" per ", "/").removeprefix("deg ")
    )
    if (
        not 0 < begin < len(text)
        or (exponent and not found)
        or len(found) > 5
        or re.search(r"[-+*^=] *$", text[:begin])
    ):
        return text, "", Fraction(1)
    return text[:begin].rstrip("/ ").lstrip(), unit + exponent if unit else "", scale


# ---------------------------------------------------------------- structure

_BASES = dict(
    zip(
        "zero one two three four five six seven eight nine ten eleven twelve sixteen".split(),
        (*range(13), 16),
    )
)
_ENDS = (Answer("expr", ("-∞",)), Answer("expr", ("∞",)))
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_RELATION = r"\\(?:le|ge|ne|approx)(?![a-z])|[=<>]"
_ARGUMENT = r"(?:\d+|[A-Za-z]|[A-Z]+|\\[a-z]+) ?"
_NAME = r"\|[A-Z]{2}\||\[[A-Z]{3,}\]|[fghFG] ?\^ ?\{-1\} ?\([^()=]*\)|"  # |AB|, [ABC], inverses
_NAME += rf"\\(?:{'|'.join(FUNCTIONS)}) ?\([^()=]*\)|(?:[A-Za-z]|\\[a-z]+ ?|[A-Z]{{2,}}|“[^”]*”|[A-Z][a-z]{{2,}})(?:_(?:\w|\{{\w+\}}))?'?"
_NAME += rf"(?:(?<=([fghpqFGHPQ'])) ?\((?![^()=]*\1)[^()=]*\)| ?\({_ARGUMENT}(?:(?:[,|]|\\c[au]p) ?{_ARGUMENT})*\))?"  # f(x+1), not x(x+1)
_FUNCTION = re.compile(rf"(?:{'|'.join(WORDS)})[A-Za-z]?")  # sin x, not since
_SHORT = "yes no true odd even none both all".split()  # words whose case says nothing


def split(
    text: str, separators: str = f"[,;{_AND}{_OR}]", seen: list[str] | None = None
) -> list[str]:
    """Parts between separators (a regex) outside brackets; `seen` collects these. Raises Unread when unbalanced."""
    parts, depth, begin = [], 0, 0
    for m in re.finditer(rf"{separators}|[()\[\]{{}}]", text):
        if m.group() in "([{":
            depth += 1
        elif m.group() in ")]}":
            depth -= 1
        elif depth == 0:
            parts.append(text[begin : m.start()].strip())
            begin = m.end()
            if seen is not None:
                seen.append(m.group())
        if not 0 <= depth <= MAX_DEPTH:
            raise Unread("unbalanced or too many brackets")
    if depth:
        raise Unread("unbalanced brackets")
    return [*parts, text[begin:].strip()]


def _join_digits(m: re.Match) -> str:
    """Digit groups joined, except inside brackets whose only commas they are (`(1,234)` is a pair)."""
    before = m.string[: m.start()]
    nested = len(re.findall(r"[(\[]|\\\{", before)) - len(re.findall(r"[)\]]|\\\}", before))
    return (
        m.group()
        if nested > 0 and not re.search(r",\s|;|,0\d", m.string)
        else m.group().replace(",", "")
    )


@lru_cache(2048)
def read(text: str, joined: bool = True) -> Answer:
    """Reads a normalised answer; a list splits at commas, semicolons, "and" and "or" outside brackets. Raises Unread.

    With `joined`, `1,234` is a number, otherwise a list.
    """
    if _PLAIN.fullmatch(text):
        return Answer("expr", (Fraction(text),), tag=text)
    text = _THOUSANDS.sub(_join_digits, text) if joined else text
    for word, mark in (("and", _AND), ("or", _OR)):
        text = re.sub(rf"(?:“\s*{word}\s*”|(?<![A-Za-z\\]){word}(?![A-Za-z]))", mark, text)
    seen: list[str] = []
    parts = [part for part in split(text, seen=seen) if part]
    if len(parts) == 1:
        return _item(parts[0])
    if (m := re.match(r"[a-z] ?\\ne ", parts[0])) and _OR not in seen:
        cuts = [part.removeprefix(m.group()) for part in parts]
        if not any(re.search(_RELATION, cut) for cut in cuts):
            return _cut(sorted(map(_scalar, cuts), key=lambda one: real(one.items[0])))
    items = _spread(map(_item, parts))
    if not items:
        raise Unread("empty")
    if (
        items[0].kind == "eq"
        and items[0].tag
        and not {"eq", "interval"} & {one.kind for one in items[1:]}
    ):
        items = (
            items[0],
            *(Answer("eq", (None, one), items[0].tag) for one in items[1:]),
        )  # n = 2, 3, 4
    if all(one.kind == "eq" and one.tag for one in items):
        names = [one.tag for one in items]
        if len(set(names)) == len(names) and len({name.partition("_")[0] for name in names}) > 1:
            return _assign(names, [one.items[1] for one in items])
    if all(one.kind == "interval" for one in items):
        return _pieces(items, seen)
    if (
        {one.kind for one in items} == {"eq", "interval"}
        and _OR in seen
        and len({one.tag if one.kind == "eq" else one.unit for one in items}) == 1
    ):
        return Answer(
            "union",
            tuple(Answer("set", one.items[1:]) if one.kind == "eq" else one for one in items),
        )  # x=1 or x>2
    if len(units := {one.unit for one in items}) == len(items) and any(
        units <= set(u.split()) for u in ("h min s", "ft in", "lb oz", "dollar cent")
    ):
        raise Unread("one quantity in several units")
    return Answer("list", items)


def _spread(answers: Iterable[Answer]) -> tuple[Answer, ...]:
    """The answers, with lists (from plus-minus signs) replaced by their members."""
    return tuple(
        one for answer in answers for one in (answer.items if answer.kind == "list" else (answer,))
    )


def _assign(names: list[str], values: Sequence[Answer]) -> Answer:
    order = sorted(range(len(names)), key=names.__getitem__)
    return Answer("assign", tuple(values[i] for i in order), tuple(names[i] for i in order))


def _pieces(rays: tuple[Answer, ...], words: list[str]) -> Answer:
    """Several inequalities: two overlapping rays are an interval (`x > 1 and x < 3`), all else is a union."""
    up, down = (
        [r for r in rays if r.items[i] == _ENDS[i] and r.items[1 - i] not in _ENDS] for i in (1, 0)
    )
    if len({ray.unit for ray in rays}) > 1:
        return Answer("list", rays)
    if len(rays) == 2 and up and down and _OR not in words:
        low, high = up[0].items[0], down[0].items[1]
        if (
            not symbols(low.items[0])
            and not symbols(high.items[0])
            and real(low.items[0]) < real(high.items[0])
        ):
            return Answer("interval", (low, high), (up[0].tag[0], down[0].tag[1]), rays[0].unit)
        if _AND in words:
            raise Unread("no number is in both")
    return Answer("union", rays)


def _unnamed(answer: Answer) -> Answer:
    """A set of numbers in braces, whose variable means nothing outside."""
    if answer.kind not in ("interval", "union"):
        return answer
    return replace(answer, unit="", items=tuple(map(_unnamed, answer.items)))


def _cut(cuts: Sequence[Answer]) -> Answer:
    """The real line without some numbers, in order."""
    ends = (_ENDS[0], *cuts, _ENDS[1])
    return Answer(
        "union", tuple(Answer("interval", pair, (True, True)) for pair in zip(ends, ends[1:]))
    )


def _item(text: str) -> Answer:
    """Reads what stands between two commas."""
    if member := re.match(r"(?!.{0,30}\\not)([A-Za-z\\_\d, ()]{1,30}?)\\in(?![a-z])(.*)", text):
        inside = read(member.group(2).strip())
        return (
            replace(inside, unit=member.group(1).strip())
            if inside.kind in ("interval", "union", "set")
            else inside
        )
    if m := re.fullmatch(r"\\\{\s*[a-z]\s*(?:\\in \\reals\s*)?[|:](.*)\\\}", text):
        return _unnamed(read(m.group(1).strip()))
    if len(sides := split(text, _RELATION, relations := [])) > 1:
        return _relation(sides, relations)
    if len(unions := split(text, r"\\cup(?![a-z])")) > 1:
        return Answer("union", tuple(as_interval(_item(part)) for part in unions))
    if m := re.fullmatch(r"\\reals\s*(?:\\setminus|-)\s*\\\{(.*)\\\}", text):
        return _cut(sorted(map(_scalar, split(m.group(1))), key=lambda one: real(one.items[0])))
    if text == "\\reals" or re.fullmatch(r"“?all real(?: number)?s”?", text, re.I):
        return Answer("interval", _ENDS, (True, True))
    if m := re.fullmatch(
        r"\\begin\{([pbB]?matrix|smallmatrix|array)\}\s*(?:\{[lcr| ]*\})?(.*)\\end\{\1\}", text
    ):
        rows = [row for row in m.group(2).split(_ROW) if row.strip()]
        return Answer("matrix", tuple(tuple(map(_item, split(row, "&"))) for row in rows))
    if m := re.fullmatch(r"(\\?[({]|\[)(.*?)(\\?[)}]|\])", text):
        try:
            parts = split(m.group(2))
        except Unread:
            return _plain(text)  # (a)(b)
        return _bracket(m.group(1), [part for part in parts if part], m.group(3))
    return (
        Answer("set")
        if text == "\\emptyset"
        else Answer("text", tag="...")
        if set(text) == {"."}
        else _plain(text)
    )


def _bracket(opening: str, parts: list[str], closing: str) -> Answer:
    """Tuples, intervals with their ends, sets, nested lists, and mere parentheses."""
    items, pair = tuple(map(_item, parts)), opening + closing
    if pair in ("\\{\\}", "{}") and (pair[0] == "\\" or len(items) > 1):
        return Answer("set" if pair[0] == "\\" else "list", _spread(items))
    if len(items) == 1 and pair in ("()", "[]", "{}"):
        return items[0]
    if pair == "[]" and len(items) > 1 and all(one.kind in ("interval", "tuple") for one in items):
        return Answer("matrix", tuple(one.items for one in items))  # [[1,2],[3,4]]
    if pair == "()" and [one.kind for one in items].count("list") == 1:  # (\pm 1, 2)
        i = next(i for i, one in enumerate(items) if one.kind == "list")
        return Answer(
            "list",
            tuple(Answer("tuple", (*items[:i], one, *items[i + 1 :])) for one in items[i].items),
        )
    if len(items) > 1 and (pair == "()" or (pair == "[]" and len(items) > 2)):
        return Answer("tuple", items)
    if len(items) == 2 and pair in ("[]", "[)", "(]"):
        return Answer("interval", items, (opening == "(", closing == ")"))
    raise Unread("empty or mixed brackets")


def as_interval(answer: Answer) -> Answer:
    """A pair in parentheses as an open interval; anything else unchanged."""
    pair = answer.kind == "tuple" and len(answer.items) == 2
    return Answer("interval", answer.items, (True, True)) if pair else answer


def _relation(sides: list[str], relations: list[str]) -> Answer:
    """Assignments and equations; inequalities."""
    if (
        "\\approx" in relations
    ):  # what follows an approximation sign is a rounding of what stands before it
        keep = relations.index("\\approx")
        if keep == 0 and not re.fullmatch(_NAME, sides[0]):
            return read(sides[0] or sides[1])
        return _relation(sides[: max(keep, 1) + 1], ["="] * max(keep, 1))
    if set(relations) != {"="}:
        return _inequality(sides, relations)
    left, right = sides[0], sides[-1]
    if len(sides) == 2 and re.fullmatch(_NAME, right) and not re.fullmatch(_NAME, left):
        left, right = right, left
    value = read(right) if re.fullmatch(_NAME + r"|\([^()]*,[^()]*\)", left) else None
    if value and left[0] == "(":
        names = [part.strip() for part in left[1:-1].split(",")]
        if value.kind == "tuple" and len(names) == len(value.items) == len(set(names)):
            return _assign(names, value.items)
    elif value:
        variable = (
            re.fullmatch(r"[A-Za-z]", left)
            and left not in "ei"
            and value.kind == "expr"
            and not value.unit
        )
        return Answer(
            "eq", (("-", left, value.items[0]) if variable else None, value), left.replace(" ", "")
        )
    nodes = [parse(side) for side in sides]
    if any(map(symbols, nodes)):
        return Answer("eq", (("-", nodes[0], nodes[-1]), None))
    if all(equal(node, nodes[-1]) for node in nodes):
        return Answer("expr", (nodes[-1],))  # 2 + 3 = 5
    raise Unread("false equation")


def _inequality(sides: list[str], relations: list[str]) -> Answer:
    """An interval when a side is a lone variable, else a relation of two sides, else a chain to be compared as text."""
    if set(relations) <= {">", "\\ge"}:
        sides, relations = sides[::-1], [{">": "<", "\\ge": "\\le"}[r] for r in reversed(relations)]
    chain = Answer(
        "chain", tag=" ".join(x for pair in zip(map(key, sides), [*relations, ""]) for x in pair)
    )
    try:
        ends = [_plain(side) for side in sides]
    except Unread:
        return chain
    if len(ends) > 3 or any(end.kind != "expr" for end in ends):
        return chain
    if len(ends) == 2 and any(
        str(end.items[0]).startswith("('*', Fraction(-1, 1), ") for end in ends
    ):  # -x > -1
        ends = [Answer("expr", (negative(end.items[0]),)) for end in reversed(ends)]
    nodes, opened = [end.items[0] for end in ends], tuple(r == "<" for r in relations)
    alone = [isinstance(node, str) and node in symbols(node) for node in nodes]
    if relations == ["\\ne"] and alone[0]:
        return _cut(ends[1:])
    if not set(relations) <= {"<", "\\le"}:
        return chain
    if alone == [False, True, False]:
        return Answer("interval", (ends[0], ends[2]), opened, nodes[1])
    if alone == [True, False]:
        return Answer("interval", (_ENDS[0], ends[1]), (True, opened[0]), nodes[0])
    if alone == [False, True]:
        return Answer("interval", (ends[0], _ENDS[1]), (opened[0], True), nodes[1])
    return Answer("rel", (("-", nodes[1], nodes[0]),), relations[0]) if len(ends) == 2 else chain


def _plain(text: str) -> Answer:
    """Times, numbers in a base, single letters, words, ratios, and expressions with units."""
    words = re.sub(r"[“”]", "", text).strip()
    m = re.fullmatch(r"(\d{1,2})(?::(\d\d))?\s*(?:([ap])\.?\s?m\.?|(?<=:\d\d)())", words, re.I)
    if m and (hour := int(m.group(1))) <= 24 and (minute := m.group(2) or "00") < "60":
        half = (m.group(3) or ("p" if 12 < hour < 24 else "" if hour % 24 else "a")).lower()
        ratio = tuple(map(_scalar, m.groups()[:2])) if not m.group(3) and minute[0] != "0" else ()
        return Answer("time", ratio, (hour % 12, int(minute), half, bool(m.group(3)), hour))
    if m := re.fullmatch(
        r"(-?\d[\dA-Fa-f.]*)\s*(?:_\s*\{?\s*(?:base )?([\da-z]+)\s*\}?|\(?base ?([\da-z]+)\)?)",
        re.sub(r"^\((\w+)\)(?= ?_)", r"\1", words),
    ):
        base = str(_BASES.get(m.group(2) or m.group(3), m.group(2) or m.group(3)))
        if base != "10":
            return Answer("base", tag=(re.sub(r"^0+(?=[^.])", "", m.group(1).upper()), base))
        words = text = m.group(1)
    if words.lower() in _BASES:
        words = text = str(_BASES[words.lower()])
    letter = words.strip("().: ") if len(words) < 9 else ""
    if (
        len(letter) == 1
        and letter.isalpha()
        and letter not in "ei"
        and (letter.isupper() or "“" in text)
    ):
        return Answer("expr", (letter,))
    if re.fullmatch(r"[A-Za-z][A-Za-z'. -]*", words) and (
        "“" in text or re.search("[A-Za-z]{3}|^[Nn][Oo]$", words)
    ):
        rest = _FUNCTION.sub("\0", words)
        if "“" in text or "\0" not in rest or re.search(r"[A-Za-z]{3}|[A-Za-z]\0|\0[A-Za-z]", rest):
            tag = re.sub(
                r"(?<=[a-z]{4})-(?=[a-z])|(?<=[a-z])-(?=[a-z]{4})",
                " ",
                re.sub(r"^(?:the|an?) ", "", words.lower()),
            )
            named = (
                re.fullmatch(r"[A-Z]{2,4}'*", words) and words.lower() not in _SHORT
            )  # `ABC` is not `abc`
            return Answer("text", tag=words if named else re.sub(r"[^a-z'-]+", " ", tag).strip())
    if re.fullmatch(r"[A-Za-z]{3,}(?: [A-Za-z]+)* \d[\w ]*", words) and not (
        _FUNCTION.search(words) or _unit(text)[1]
    ):
        return Answer("text", tag=words.lower())  # June 20
    parts = split(text, ":")
    return Answer("ratio", tuple(map(_item, parts))) if len(parts) > 1 else _scalar(text)


def _scalar(text: str) -> Answer:
    """An expression with its unit, or with its modulus for a unit; plus-minus signs give the list of its values."""
    if m := re.fullmatch(r"(.+) \\pmod\{(\d+)\}", text):
        one = _scalar(m.group(1))
        return (
            replace(one, unit=f"mod {int(m.group(2))}")
            if one.kind == "expr" and not one.unit
            else one
        )
    text, unit, scale = _unit(text)
    if "°" in text and not unit and not re.search("sin|cos|tan|cot|sec|csc", text):
        text, unit = text.replace("°", " "), "deg"  # 180°/7
    if signs := re.findall(r"\\(pm|mp)(?![a-z])", text):
        if len(signs) > 3:
            raise Unread("too many plus-minus signs")
        linked = len(signs) == 1 or "mp" in signs  # else each sign is free
        values = []
        for k in range(2 if linked else 2 ** len(signs)):
            chosen = iter(
                "+-"[(k if linked else k >> j) & 1 ^ (sign == "mp")] for j, sign in enumerate(signs)
            )
            one = re.sub(r"\\(?:pm|mp)(?![a-z])", lambda _, chosen=chosen: next(chosen), text)
            values.append(Answer("expr", (("*", parse(one), scale),), unit=unit))
        return Answer("list", tuple(values))
    if m := re.fullmatch(
        r"(-?)(\d*)\.(\d*?)(?:\\(?:overline|bar|dot)\s*\{?\s*(\d+)\s*\}?|(\d)\5\5+\.\.\.)", text
    ):
        head, cycle = (
            (m.group(2) or "0") + m.group(3),
            m.group(4) or m.group(5),
        )  # a repeating decimal
        value = Fraction(
            int(head + cycle) - int(head), 10 ** len(m.group(3)) * (10 ** len(cycle) - 1)
        )
        return Answer("expr", (-value * scale if m.group(1) else value * scale,), unit=unit)
    node: Node = parse(text)
    return Answer("expr", (node if scale == 1 else ("*", node, scale),), tag=text, unit=unit)
