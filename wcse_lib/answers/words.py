"""Every table of words and signs that answers are written in: another language or notation adds rows here."""

from __future__ import annotations


def inverted(table: dict[str, str]) -> dict[str, str]:
    """{spelling: meaning} of a table {meaning: spellings}."""
    meanings = {}
    for meaning, spellings in table.items():
        meanings |= dict.fromkeys(spellings.split(), meaning)
    return meanings


def alternatives(spellings: str) -> str:
    """A regular expression for any of the words."""
    return "|".join(spellings.split())


# ---------------------------------------------------------------- formulas

# Longer names stand before the shorter ones that begin them: tokens are searched in this order.
FUNCTIONS = tuple(
    "arcsinh arccosh arctanh arccoth arcsech arccsch arcsin arccos arctan arccot arcsec arccsc "
    "sinh cosh tanh coth sech csch sin cos tan cot sec csc ln log exp sqrt cbrt".split()
)
NAMES = (*FUNCTIONS, *"alpha beta gamma delta theta lambda sigma omega pi infinity inf".split())
TRIGONOMETRIC = alternatives("sin cos tan cot sec csc")
CONSTANTS = inverted({"π": r"\pi pi", "e": "e", "i": "i", "∞": r"\infty infinity inf"})
# Names of functions where one symbol in parentheses follows (as any capital), or any parentheses.
LETTER_FUNCTIONS = set("gamma phi varphi sigma tau mu zeta".split())
FUNCTION_LETTERS = "fghPF"
# What TeX commands and signs outside ASCII mean.
_SPELLINGS = {
    "-": "− – — ‐",
    "*": "× · ⋅ ∗ cdot times ast",
    "/": "÷ ⁄ div",
    "=": "≡ equiv",
    "<": "lt",
    ">": "gt",
    ":": "colon",
    "(": "⟨ langle",
    ")": "⟩ rangle",
    "|": "vert lvert rvert mid",
    "'": "′ ’ prime",
    "...": "… dots ldots cdots",
    "°": "º degree circ",
    " sqrt": "√",
    r"\{": "lbrace",
    r"\}": "rbrace",
    r"\lfloor ": "⌊",
    r"\rfloor ": "⌋",
    r"\lceil ": "⌈",
    r"\rceil ": "⌉",
    r"\le ": "≤ ⩽ le leq leqslant",
    r"\ge ": "≥ ⩾ ge geq geqslant",
    r"\ne ": "≠ ne neq",
    r"\approx ": "≈ sim simeq",
    r"\infty ": "∞",
    r"\pm ": "±",
    r"\mp ": "∓",
    r"\cup ": "∪",
    r"\in ": "∈",
    r"\emptyset ": "∅ varnothing",
    r"\setminus ": "∖ backslash",
    r"\reals ": "ℝ Reals R",
    r"\frac": "dfrac tfrac cfrac",
    r"\binom": "dbinom tbinom",
    # what only moves or sizes is no part of an answer
    " ": "“ ” left right big Big bigl bigr Bigl Bigr bigg Bigg displaystyle textstyle limits "
    "bf rm it quad qquad angle triangle",
}
COMMANDS = inverted(_SPELLINGS)
SIGNS = {sign: meaning for sign, meaning in COMMANDS.items() if not sign.isascii()}

# ---------------------------------------------------------------- numbers and units

_COUNTED = "zero one two three four five six seven eight nine ten eleven twelve".split()
NUMBERS = {word: number for number, word in enumerate(_COUNTED)} | {"sixteen": 16}
SCALES = {"tens": 10, "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6}
SCALES |= {"billion": 10**9, "trillion": 10**12, "lakh": 10**5, "crore": 10**7}
_UNITS = {  # after a number
    "cm": "cm centimeter centimetre",
    "m": "m meter metre",
    "km": "km kilometer kilometre",
    "mm": "mm millimeter millimetre",
    "in": "in inch inche",
    "ft": "ft foot feet",
    "yd": "yd yard",
    "mi": "mi mile",
    "kg": "kg kilogram",
    "g": "g gram",
    "lb": "lb pound lbs",
    "oz": "oz ounce",
    "s": "s sec second",
    "min": "min minute",
    "h": "h hr hour",
    "yr": "yr year",
    "l": "l liter litre",
    "mi/h": "mi/h mph",
    "ml": "ml milliliter millilitre",
    "dollar": "dollar usd buck $ us$",
    "euro": "euro eur €",
    "gbp": "gbp £",
    "yen": "yen jpy ¥",
    "rupee": "rupee inr ₹",
    "cent": "cent ¢",
    "deg": "deg degree °",
    "%": "% percent pct percentage",
    "": "unit",
}
UNITS = inverted(_UNITS)
UNIT_SIGNS = "%€$£¥¢°"
_CURRENCIES = {  # before a number
    "dollar": "US$ $ USD",
    "euro": "€ EUR",
    "gbp": "£ GBP",
    "yen": "¥",
    "rupee": "₹ Rs. Rs",
}
CURRENCIES = inverted(_CURRENCIES)
POWERS = inverted({"2": "square sq sq. squared", "3": "cubic cu cubed"})  # of a unit
MEASURES = {*UNITS, *POWERS, "per"}
# One quantity may be given in several of these, as in "2 h 30 min".
MIXED_UNITS = ({"h", "min", "s"}, {"ft", "in"}, {"lb", "oz"}, {"dollar", "cent"})
# Words after a number that say more than what is counted.
NO_UNITS = {  # after a number
    *NAMES,
    *"""or and more less plus minus times over factorial choose mod modulo base remainder if for when
    not where than to through except with is are at least most divided by sum each between from until
    none half halves third quarter fourth score gross negative above below zero root repeating
    recurring undefined halved doubled tripled incorrect wrong false tau mil mln""".split(),
}
# Sevenths, sixteenths, hundredths.
PARTS = "(?:.*(?:teen|tie|llion|hundred|thousand)|fif|six|seven|eigh|nin|ten|eleven|twelf)ths?"
CASELESS = set("yes no true odd even none both all".split())  # capitals in them say nothing

# ---------------------------------------------------------------- full outputs

TAGGED_ANSWER = ("<answer>", "</answer>")
END_OF_TURN = (
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
# After a number these belong to it, and start no aside.
NO_ASIDE = alternatives("mod base pi sqrt inf infinity sin cos tan log ln")
SCALE_WORDS = "hundred|thousand|[mb]illion|trillion"
SMALL_WORDS = set("an as at by he if in is it no of on or so to we".split())  # of prose
