"""One spelling for what TeX, Unicode and markdown spell in many ways."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

from wcse_lib.answers.languages import PLAIN_SIGNS
from wcse_lib.answers.tex import plain_quantities, plain_systems, repaired
from wcse_lib.answers.words import COMMANDS, FUNCTIONS, OF_SEVERAL, SIGNS

ROW, AND, OR = "\ue000\ue001\ue002"  # between the rows of a matrix; between parts of a list
PLAIN_NUMBER = re.compile(r"-?[0-9]{1,18}(?:\.[0-9]{1,9})?")


def _script(decomposition: str) -> re.Pattern:
    """Runs of the characters that Unicode gives as raised or lowered ones, but for units and marks."""
    signs = ""
    for code in range(0xB2, 0x2C80):
        if unicodedata.decomposition(chr(code)).startswith(decomposition):
            signs += chr(code)
    return re.compile(f"[{re.sub('[º℠™]', '', signs)}]+")


_SCRIPTS = {"^": _script("<super>"), "_": _script("<sub>")}
_FRACTION_SIGN = re.compile("[¼-¾⅐-⅞]")
_ROOT_OF_NUMBER = re.compile(r"([∛∜])\s*(\d+(?:\.\d+)?)")
_SMALL_UNIT = re.compile(r"(?<=\d) ?(μ[A-Za-z]{1,3}|[kMGm]?Ω)(?![A-Za-z])")
_GREEK = re.compile("[α-ωΓΔΘΛΞΠΣΦΨΩ]")
_FUNCTION = re.compile(
    rf"{'|'.join((*FUNCTIONS, *OF_SEVERAL))}|ar?(?:sin|cos|tan|cot|sec|csc)h?|c?tg|cotg|cosec"
)
_UNSEEN = re.compile(  # controls, private characters, surrogates, marks of direction
    r"[\x00-\x08\x0b-\x1f\ud800-\uf8ff\u200b-\u200f\u202a-\u202e\ufeff]"
)
_BOX = re.compile(r"\$?\s*\\(?:boxed|fbox)\s*\{(.*)\}\s*\$?", re.S)
_AMOUNTS = re.compile(r"\s*\\?\$\d[^$]*(?:,|-|to|and|or)\s*\\?\$\d")  # $5, $6; $5-$10
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|normal|sf)?|[mh]box|math(?:rm|bf|sf|it)|operatorname\*?|ce)\s*\{([^{}]*)\}"
)


def _text_command(match: re.Match) -> str:
    r"""`\text{...}` as words in “ ”, unless it holds a number, a variable or a function."""
    inner = match.group(1).strip()
    if match.group().startswith(r"\operatorname") and _FUNCTION.fullmatch(inner):
        return rf" \{inner} "
    is_formula = re.fullmatch(r"(?:[-\d.,/%$\\ ]|and|or)*|\([A-Za-z]\)", inner)
    if is_formula or inner in FUNCTIONS or inner == "infinity":
        return f" {inner} "
    quantity = re.fullmatch(r"(\\?\$?-?\d[\d.,/]*) ?([A-Za-z]{2}.*)", inner)
    if quantity:
        return f" {quantity.group(1)} “{quantity.group(2)}”"  # 5 apples
    if len(inner.strip(" .")) > 1:
        return f"“{inner}”"
    # a single letter is a unit after a number, but not 3\mathbf{i}
    follows_number = re.search(r"[\d)}]\s*$", match.string[: match.start()])
    is_vector = len(inner) == 1 and match.group().startswith(r"\mathb")
    return f"“{inner}”" if follows_number and not is_vector else f" {inner} "


def _command(match: re.Match) -> str:
    return COMMANDS.get(match.group(1), match.group())


def _modulus(match: re.Match) -> str:
    r"""The remainder of a division, as `128 \bmod 3`, or the class of numbers that a `\pmod` or brackets name."""
    before, name, modulus = match.string[: match.start()], match.group(1), match.group(2)
    is_class = re.search(r"[(“]|\\pmod", match.group()) or re.search(r"=|\\equiv", before)
    is_class = is_class or name == "\\mod" or not re.search(r"[\w)}]\s*$", before)
    return rf" \pmod{{{modulus}}}" if is_class else rf" \bmod {modulus}"


def _over_or_choose(match: re.Match) -> str:
    name = "frac" if match[2] == "over" else "binom"
    return rf"\{name}{{{match[1]}}}{{{match[3]}}}"


def _temperature(match: re.Match) -> str:
    return "“celsius”" if match.group(1) else "“fahrenheit”"


def _digits_only(match: re.Match) -> str:
    return re.sub(r"\D", "", match.group())


_RULES = [  # in this order; later ones rely on earlier ones
    (r"\s+", " "),
    (r"\\\\(?:\[[^\]]*\])?|\\cr(?![A-Za-z])", ROW),
    (r"\\[hv]line(?![A-Za-z])", " "),
    # colours, and what shows nothing
    (
        r"\\(?:text)?color\s*\{[^{}]*\}|\\[hv]?phantom\s*\{[^{}]*\}"
        r"|\\(?:checkmark|[hv]fill|q?square|blacksquare)(?=\s*$)",
        " ",
    ),
    # thousands
    (
        r"(?<=\d),\\!\s*(?=\d{3})|(?<=\d) ?\{ ?, ?\}(?:\\!)?(?=\d{3})"
        r"|(?<=\d)\\[,!](?=\d{3}(?!\d))",
        "",
    ),
    (r"\\[,;:!> ()\[\]]|~", " "),
    (r"\\mathb[bf]\s*\{?R\}?", r"\\reals "),
    (r"<=|=<", r"\\le "),
    (r">=", r"\\ge "),
    # n!=120 is a factorial, x != 3 an inequality
    (r"(?<![\dnmk)])!=", r"\\ne "),
    # AB and BA are opposite vectors, and one segment
    (
        r"(?:(?<=\S)|(?<=\S )|(?=\\\w+ ?\{ ?[A-Z]{2} ?\} ?\S))"
        r"\\(?:vec|overrightarrow) ?\{ ?([A-Z]{2}) ?\}",
        r" \\vec_{\1}",
    ),
    (r"\\hat ?\{ ?([ijk]) ?\}", r" \1 "),
    (r"\\(?:boldsymbol|vec|over(?:left)?rightarrow)\s*\{\s*([A-Za-z]{1,3})\s*\}", r" \1 "),
    # lines over points, not \overline{z}
    (r"\\(?:underline|bm)\s*\{([^{}]*)\}|\\overline\s*\{\s*([A-Z]{2,3})\s*\}", r" \1\2 "),
    # of functions; `^\circ` is a degree
    (r"(?<=[A-Za-z)])\s*\\circ(?![A-Za-z])", "∘"),
    (r"(?<![A-Za-z])\\?ar?(?=(?:sin|cos|tan|cot|sec|csc)h?(?![a-z]))", r"\\arc"),
    (r"\\([A-Za-z]+)", _command),
    # the index of a power before its exponent
    (
        r"(\\[A-Za-z]+ ?|[A-Za-z])\^ ?(\{[^{}]*\}|[\dA-Za-z]) ?_ ?(\{[^{}]*\}|[\dA-Za-z])",
        r"\1_\3^\2",
    ),
    # again, as runs of spaces would make later rules slow
    (r"\s+", " "),
    (r"\^ ?(?:\{ ?° ?\}|°)", "°"),
    (r"\\not ?=", r"\\ne "),
    (":=", "="),
    (r"\{([^{}]*)\\(over|choose)(?![a-z])([^{}]*)\}", _over_or_choose),
    (r"°\s*“?\s*(?:(C)|F)(?:elsius|ahrenheit)?”?(?=\s*$)", _temperature),
    (r"(?<![A-Za-z\\])oo(?![A-Za-z])", r"\\infty "),
    (r"\\([%$#&])", r"\1"),
    (r"(?<=\d) ?“?([kMG]?)”? ?\\Omega\s*$", r" “\1ohm”"),
    (r"(?<=\d) ?\\mu ?“([A-Za-z]{1,3})”", r" “u\1”"),
    (r"(?<=[\d)}]) ?“? ?per cent ?”?(?=\s*$)", "%"),
    # combinations with the first number raised or lowered before the C
    (
        r"(?<![\w)}])(?:\{ ?\} ?)?[\^_] ?\{? ?(\d+) ?\}? ?C ?_ ?\{? ?(\d+) ?\}?",
        r"\\binom{\1}{\2}",
    ),
    # `No. 5`, `__5__`
    (r"^(?:[Nn]o\.|#)\s*(?=\d)|^_{1,2}(?=[^_]+_)|(?<=[^_])_{1,2}$", ""),
    (r"(?<=\d) ?[xX] ?(?=10\s*\^)", "*"),
    (r"\*\*", "^"),
    (
        r"\s*“?\(?\s*(\\[pb]?mod|(?<![A-Za-z\\])mod(?:ulo)?)\s*”?\s*\{?\s*(\d{1,9})\s*\}?\s*\)?”?(?=\s*$)",
        _modulus,
    ),
    (r"(?<=\d)\s*“?\s*(?<![A-Za-z])to\s*”?\s*(?=\d)", ":"),
    # ordinals
    (r"(?<=\d)\s*(?:\^\s*\{?\s*)?“?(?:st|nd|rd|th)”?\s*\}?(?=\s*$)", ""),
    # groups of three digits
    (
        r"(?<![\d.,/])(?<![\d./] )\d{1,3}"
        r"(?:(?: \d{3})+(?!\d)|(?:(?:['_]\d{3})+|(?:\.\d{3}){2,})(?![\d.]))",
        _digits_only,
    ),
]
_COMPILED_RULES = [(re.compile(pattern), replacement) for pattern, replacement in _RULES]


def _nfkc(text: str) -> str:
    """Unicode's plain form, with a hyphen for the minus sign."""
    return unicodedata.normalize("NFKC", text).replace("−", "-")


def _ascii(text: str) -> str:
    """Signs of Unicode as TeX or plain ones."""
    text = _ROOT_OF_NUMBER.sub(r"\1{\2}", text.translate(PLAIN_SIGNS))
    text = _FRACTION_SIGN.sub(lambda m: f" {_nfkc(m.group())} ".replace("\u2044", "/"), text)
    text = _SCRIPTS["^"].sub(lambda m: f"^{{{_nfkc(m.group())}}}", text)
    text = _SCRIPTS["_"].sub(lambda m: f"_{{{_nfkc(m.group())}}}", text)
    text = _nfkc("".join(SIGNS.get(sign, sign) for sign in text))
    text = _SMALL_UNIT.sub(lambda m: f"“{m.group(1).replace('μ', 'u').replace('Ω', 'ohm')}”", text)
    return _GREEK.sub(_greek, text)


def _greek(match: re.Match) -> str:
    """The command of a Greek letter, whose case counts."""
    _, case, _, name = unicodedata.name(match.group()).split()[:4]
    return f"\\{name.lower() if case == 'SMALL' else name.capitalize()} "


@lru_cache(2048)
def normalise(text: str) -> str:
    r"""One spelling for what TeX, Unicode and markdown spell in many ways; words of `\text` stand in “ ”.

    >>> normalise(r"$\dfrac{1}{2}\,\text{cm}$.")
    '\\frac{1}{2} “cm”'
    """
    if PLAIN_NUMBER.fullmatch(text):
        return text  # most answers are plain numbers
    text = _UNSEEN.sub("", repaired(text)).strip(" \n\t*`")
    text = re.sub(r'\A"(.*)"\Z', r"\1", text)
    boxed = _BOX.fullmatch(text)
    if boxed:
        text = boxed.group(1)
    if not text.isascii():
        text = _ascii(text)
    if text.count("$") % 2 == 0 and not _AMOUNTS.match(text):
        text = re.sub(r"(?<!\\)\$", " ", text)  # formulas, not money
    text = plain_systems(plain_quantities(text))
    text = _TEXT.sub(_text_command, text)
    for pattern, replacement in _COMPILED_RULES:
        text = pattern.sub(replacement, text)
    text = re.sub(r"\s+", " ", text).strip(" =" + ROW)
    return text if text.endswith("...") else text.rstrip(" .,;")


def without_marks(text: str) -> str:
    """A normalised text without the marks of its words."""
    return text.replace("“", "").replace("”", "")


def key(text: str) -> str:
    """What two normalised answers must share to be identical: a space counts only between two word characters."""
    return re.sub(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])", "", without_marks(text))
