"""Every table of words and signs that answers are written in: another language or notation adds rows here."""

from __future__ import annotations


def inverted(table: dict[str, str], one_sign_each: bool = False) -> dict[str, str]:
    """{spelling: meaning} of a table {meaning: spellings}, which are words, or single signs."""
    meanings = {}
    for meaning, spellings in table.items():
        for spelling in spellings if one_sign_each else spellings.split():
            meanings[spelling] = meaning
    return meanings


def alternatives(words: str) -> str:
    """A regular expression for any of the words."""
    return "|".join(words.split())


# ---------------------------------------------------------------- formulas

# Longer names stand before the shorter ones that begin them: the tokens are searched in this order.
FUNCTIONS = tuple(
    "arcsinh arccosh arctanh arccoth arcsech arccsch arcsin arccos arctan arccot arcsec arccsc "
    "sinh cosh tanh coth sech csch sin cos tan cot sec csc ln log exp sqrt cbrt".split()
)
NAMES = (*FUNCTIONS, *"alpha beta gamma delta theta lambda sigma omega pi infinity inf".split())
TRIGONOMETRIC = alternatives("sin cos tan cot sec csc")
CONSTANTS = inverted({"π": r"\pi pi", "e": "e", "i": "i", "∞": r"\infty infinity inf"})
# Letters that stand for a known function when a lone argument in parentheses follows; so does any capital.
LETTER_FUNCTIONS = set("gamma phi varphi sigma tau mu zeta".split())
# Letters that stand for a function whenever parentheses follow.
ALWAYS_FUNCTIONS = "fghPF"

# ---------------------------------------------------------------- one spelling

SIGNS = {
    "-": "−–—‐",
    "*": "×·⋅∗",
    "/": "÷⁄",
    r"\lfloor ": "⌊",
    r"\rfloor ": "⌋",
    r"\lceil ": "⌈",
    r"\rceil ": "⌉",
    r"\le ": "≤⩽",
    r"\ge ": "≥⩾",
    r"\ne ": "≠",
    r"\approx ": "≈",
    r"\infty ": "∞",
    " sqrt": "√",
    "°": "º",
    r"\pm ": "±",
    r"\mp ": "∓",
    r"\cup ": "∪",
    r"\in ": "∈",
    r"\emptyset ": "∅",
    "...": "…",
    "=": "≡",
    r"\reals ": "ℝ",
    "'": "′’",
    " ": "“”",
    r"\setminus ": "∖",
    "(": "⟨",
    ")": "⟩",
}
TEX_COMMANDS = {
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
    # what only moves or sizes is no part of an answer
    " ": "left right big Big bigl bigr Bigl Bigr bigg Bigg displaystyle textstyle "
    "limits bf rm it quad qquad angle triangle",
}
MEANING_OF_SIGN = inverted(SIGNS, one_sign_each=True)
MEANING_OF_COMMAND = inverted(TEX_COMMANDS)

# ---------------------------------------------------------------- numbers and units

NUMBERS = {
    "zero": 0,
    "one": 1,
    "two": 2,
    "three": 3,
    "four": 4,
    "five": 5,
    "six": 6,
    "seven": 7,
    "eight": 8,
    "nine": 9,
    "ten": 10,
    "eleven": 11,
    "twelve": 12,
    "sixteen": 16,
}
SCALES = {
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
UNITS = {
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
}
UNIT_OF_WORD = {unit: unit for unit in UNITS} | inverted(UNITS)
UNIT_SIGNS = "%€$£¥¢°"
CURRENCIES = {  # before a number
    "US $": "dollar",
    "US$": "dollar",
    "$": "dollar",
    "€": "euro",
    "£": "gbp",
    "¥": "yen",
    "₹": "rupee",
    "USD": "dollar",
    "EUR": "euro",
    "GBP": "gbp",
    "Rs.": "rupee",
    "Rs": "rupee",
}
POWERS = inverted({"2": "square sq sq. squared", "3": "cubic cu cubed"})  # of a unit
MEASURES = {*UNIT_OF_WORD, *POWERS, "per"} - {""}
# One quantity may be given in several of these, as in "2 h 30 min".
MIXED_UNITS = ({"h", "min", "s"}, {"ft", "in"}, {"lb", "oz"}, {"dollar", "cent"})
# Words after a number that say more than what is counted.
NO_UNITS = {
    *NAMES,
    *"""or and more less plus minus times over factorial choose mod modulo base remainder if for when
    not where than to through except with is are at least most divided by sum each between from until
    none half halves third quarter fourth score gross negative above below zero root repeating
    recurring undefined halved doubled tripled incorrect wrong false tau mil mln""".split(),
}
ORDINAL_PART = (  # sevenths, sixteenths, hundredths
    "(?:.*(?:teen|tie|llion|hundred|thousand)|fif|six|seven|eigh|nin|ten|eleven|twelf)ths?"
)
CASELESS = set("yes no true odd even none both all".split())  # capitals in them say nothing

# ---------------------------------------------------------------- full outputs

THOUGHT = ("<think>", "</think>")
TAGGED_ANSWER = ("<answer>", "</answer>")
END_OF_TURN = tuple(
    "<|im_end|> <|im_start|> <|endoftext|> <|end_of_text|> <|eot_id|> <|end|> </s> <eos> "
    "<end_of_turn>".split()
)
QUESTION_HEADINGS = alternatives("Question Problem Exercise Q Human User Instruction")
REPLY_HEADINGS = alternatives("answer A solution response assistant")
ANSWER_NOUNS = r"answers?|correct\s(?:option|choice)s?"
CHOICE_WORDS = alternatives("answer option choice choose pick select")
NEGATIVE = alternatives("negative minus")
# What follows one of these explains the answer.
EXPLAINS = alternatives("because since as which where when so if")
# What starts with one of these judges the answer instead of giving it.
TALK = r"(?:in)?correct|right|wrong|clear|given|as follows|not|that|we\b"
# An aside after a number does not start with one of these: they belong to the number.
NO_ASIDE = alternatives("mod base pi sqrt inf infinity sin cos tan log ln")
SCALE_WORDS = "hundred|thousand|[mb]illion|trillion"
SMALL_WORDS = set("an as at by he if in is it no of on or so to we".split())  # of prose
