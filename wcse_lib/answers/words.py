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
OF_SEVERAL = ("gcd", "lcm", "max", "min")  # functions of several numbers
NAMES = (
    *FUNCTIONS,
    *OF_SEVERAL,
    *"alpha beta gamma delta theta lambda sigma omega pi infinity inf".split(),
)
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
    "''": "″",
    "...": "… dots ldots cdots",
    "°": "º degree circ",
    " sqrt": "√",
    r"\sqrt[3]": "∛",
    r"\sqrt[4]": "∜",
    r" \tan ": "tg",
    r" \cot ": "ctg cotg",
    r" \csc ": "cosec",
    r"\cap ": "∩",
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
    "bf rm it quad qquad angle measuredangle triangle",
}
COMMANDS = inverted(_SPELLINGS)
SPACING = alternatives(
    "qquad quad"
)  # commands that nothing goes on as, so that `\\quadx` is damaged
SIGNS = {sign: meaning for sign, meaning in COMMANDS.items() if not sign.isascii()}

# ---------------------------------------------------------------- numbers and units

SCALES = {"tens": 10, "dozen": 12, "hundred": 100, "thousand": 10**3, "million": 10**6}
SCALES |= {"billion": 10**9, "trillion": 10**12, "lakh": 10**5, "crore": 10**7}
SCALES |= {"mln": 10**6, "mio": 10**6, "bn": 10**9, "bln": 10**9, "mn": 10**6, "trn": 10**12}
# Close to a number of money or people; elsewhere each may be a variable.
SCALE_LETTERS = {"K": "thousand", "M": "million", "B": "billion", "T": "trillion"}
UNIT_SIGNS = "%€$£¥¢°"
_CURRENCIES = {  # before a number
    "dollar": "US$ $ USD",
    "cad": "C$ CA$ CAD",
    "aud": "A$ AU$ AUD",
    "hkd": "HK$ HKD",
    "yuan": "CN¥ CNY RMB",
    "chf": "CHF Fr.",
    "sgd": "S$ SGD",
    "nzd": "NZ$ NZD",
    "brl": "R$ BRL",
    "mxn": "MX$ MXN",
    "krw": "₩ KRW",
    "rub": "₽ RUB",
    "try": "₺ TRY",
    "thb": "฿ THB",
    "vnd": "₫ VND",
    "ils": "₪ ILS",
    "php": "₱ PHP",
    "ngn": "₦ NGN",
    "euro": "€ EUR",
    "gbp": "£ GBP",
    "yen": "¥",
    "rupee": "₹ Rs. Rs",
}
CURRENCIES = inverted(_CURRENCIES)
POWERS = inverted({"2": "square sq squared", "3": "cubic cu cubed"})  # of a unit
# Words after a number that say more than what is counted.
NO_UNITS = {
    *FUNCTIONS,
    *"""or and more less plus minus times over factorial choose mod modulo base remainder if for when
    not where than to through except with is are at least most divided by sum each between from until
    none half halves third quarter fourth score gross negative above below zero root repeating
    recurring undefined halved doubled tripled incorrect wrong false tau mil alpha beta gamma
    以上 以下 未満 より 이상 이하 미만 초과
    delta theta lambda sigma omega pi infinity inf max gcd lcm""".split(),
}
# Sevenths, sixteenths, hundredths.
PARTS = "(?:.*(?:teen|tie|llion|hundred|thousand)|fif|six|seven|eigh|nin|ten|eleven|twelf)ths?"
# Words that mean the same.
ALIKE = {
    "does not exist": "does not exist|doesn't exist|dne|d n e|nonexistent|non-existent",
    "no solution": "no solution|no solutions|there is no solution|there are no solutions",
    "no real solution": "no real solution|no real solutions",
    "infinitely many": "infinitely many|infinitely many solutions|infinite solutions",
    "noon": "noon|midday",
}
CASELESS = set("yes no true odd even none both all".split())  # capitals in them say nothing

# ---------------------------------------------------------------- full outputs

# An answer stands between these.
ANSWER_TAGS = (
    ("<answer>", "</answer>"),
    ("<final_answer>", "</final_answer>"),
    ("<final answer>", "</final answer>"),
    ("<solution>", "</solution>"),
    ("<result>", "</result>"),
    ("<output>", "</output>"),
    ("[ANSWER]", "[/ANSWER]"),
    ("[SOLUTION]", "[/SOLUTION]"),
    ("<|begin_of_box|>", "<|end_of_box|>"),
    ("<|begin_of_answer|>", "<|end_of_answer|>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
)
END_OF_TURN = (
    "<|im_end|> <|im_start|> <|endoftext|> <|end_of_text|> <|eot_id|> <|eom_id|> <|end|> <|return|> "
    "<|END_RESPONSE|> <|END_OF_TURN_TOKEN|> </s> <eos> <end_of_turn> <turn|>".split()
) + ["[END FINAL RESPONSE]"]
# Keys of JSON objects that hold an answer, the better ones first.
ANSWER_KEYS = (r"(?:final|correct)?[ _-]?answers?", "result|solution|choice|option|output")
QUESTION_HEADINGS = alternatives("Question Problem Exercise Q Human User Instruction")
REPLY_HEADINGS = alternatives("answer A solution response assistant")
CHOICE_WORDS = alternatives("answer option choice choose pick select go\\swith")
NEGATIVE = alternatives("negative minus")
# What follows one of these explains the answer.
EXPLAINS = alternatives("because since as which where when so if assuming given")
# What starts with one of these judges the answer instead of giving it.
TALK = r"(?:in)?correct|right|wrong|clear|given|as follows|not|that|we\b|found|obtained|below|above|all\b"
# After a number these belong to it, and start no aside.
NO_ASIDE = alternatives("mod base pi sqrt inf infinity sin cos tan log ln")
# These end the name of what is counted: 12 apples in, 12 apples left.
NO_NOUNS = alternatives(
    """in on at for per by from with without of to after before within during over under each every
    because since as which that who where when so if and or but not is are was were will would has
    have had it he she they this total altogether left remaining together only more less fewer
    respectively i we i'm than then there plus minus times mod modulo choose"""
)
# After a number and its noun these say more than when or how: the number alone is not the answer.
LIMITS = (
    r"at (?:most|least)\b|or (?:more|less|fewer|greater|above|below)\b|(?:more|less|fewer|greater) than\b"
    r"|out of\b|of \$?\d|to \$?\d|over \d|times \$?\d|divided|plus|minus|mod|base|choose|factorial"
    r"|(?:with |and )?(?:an? )?remainder|below zero|squared|cubed|from \d"
)
SCALE_WORDS = "hundred|thousand|[mbtr]+illion|lakh|crore"
SMALL_WORDS = set("an as at by he if in is it no of on or so to we".split())  # of prose
# A number after a purpose says what for: it takes 5 days to save $15.
PURPOSE = (
    r"\b(?:takes?|took|needs?|needed|requires?|required|[Tt]here (?:are|is|were)) [^\d.,;=]{0,20}\d[^.,;=]{0,30}?"
    r"\bto (?P<what>(?!\d)[a-z]+ [^,;:=]*)"
)
