"""Reads the many spellings of an answer (TeX, Unicode, plain) into one typed tree and compares values to 240 digits."""

from __future__ import annotations

import re
import threading
import unicodedata
import zlib
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import comb, factorial, isqrt

DIGITS = (50, 300)  # two working precisions: the first rejects, the second confirms
MAX_BITS = 60_000  # of an exact number; larger ones are compared by high-precision value
MAX_DEPTH = 40  # of brackets
Node = Fraction | str | tuple  # a number, a symbol or constant, or (operator, *nodes)


class Unread(Exception):
    """Text outside the grammar, or a value that cannot be decided; `ask` says that math-verify may know more."""

    def __init__(self, why: str, ask: bool = False) -> None:
        super().__init__(why)
        self.ask = ask


@dataclass(frozen=True)
class Answer:
    """A read answer. `items` are answers, except for "expr", "eq" and "rel" (one Node or None first), by `kind`:

    expr (node; tag: source text; unit), text (tag), time (tag: hour, minute, half), base (tag: digits, base), chain (tag),
    list, set, tuple, ratio, union, matrix (rows), interval (ends; tag: open ends), assign (values; tag: names),
    eq (node of left - right, value of the right side; tag: name on the left), rel (node; tag: "<" or "\\\\le").
    """

    kind: str
    items: tuple = ()
    tag: object = None
    unit: str = ""


# ---------------------------------------------------------------- one spelling

FUNCTIONS = "arcsinh arccosh arctanh arcsin arccos arctan sinh cosh tanh sin cos tan cot sec csc ln log exp sqrt cbrt".split()
_GREEK = "alpha beta gamma delta epsilon theta lambda mu rho sigma tau phi omega pi infinity infty".split()
_LETTERS = set(_GREEK) | set("ell eta zeta kappa nu xi chi psi varphi varepsilon vartheta Gamma Delta Theta Lambda Pi Sigma Phi Psi Omega".split())
_ROW = "\ue000"  # row separator of a matrix
_TEXT = re.compile(r"\\(?:text(?:bf|it|rm|normal|sf)?|[mh]box|mathrm|operatorname\*?)\s*\{([^{}]*)\}")
_CHARS = {c: s for s, cs in {"-": "−–—‐", "*": "×·⋅∗", "/": "÷", "\\le ": "≤⩽", "\\ge ": "≥⩾", "\\ne ": "≠", "\\approx ": "≈", "\\infty ": "∞",
    " sqrt": "√", "°": "°º", "\\pm ": "±", "\\mp ": "∓", "\\cup ": "∪", "\\in ": "∈", "\\emptyset ": "∅", "\\reals ": "ℝ", "...": "…", "'": "′’",
    " ": "“”", "\\setminus ": "∖", "(": "⟨", ")": "⟩"}.items() for c in cs}  # fmt: skip
_RULES = [(re.compile(pattern), new) for pattern, new in (
    (r"\\\\(?:\[[^\]]*\])?|\\cr\b", _ROW), (r"(?<=\d),\\!\s*(?=\d{3})|(?<=\d)\{,\}(?=\d{3})|(?<=\d)\\[,!](?=\d{3}(?!\d))", ""),
    (r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits|bf|rm|it|q?quad)(?![A-Za-z])|\\[,;:!> ()\[\]]|~", " "),
    (r"\\(?:mathbf|boldsymbol|mathit|mathsf|vec|hat|overline|overrightarrow|overleftrightarrow)\s*\{\s*([A-Za-z]{1,3})\s*\}", r" \1 "),
    (r"\\(?:angle|triangle)(?![a-z])", " "), (r"\\[dtc]frac(?![a-z])", r"\\frac"), (r"\\[dt]binom(?![a-z])", r"\\binom"),
    (r"\\le(?:q|qslant)?(?![a-z])|<=|=<", r"\\le "), (r"\\ge(?:q|qslant)?(?![a-z])|>=", r"\\ge "), (r"\\neq?(?![a-z])|!=", r"\\ne "),
    (r"\\lt(?![a-z])", "<"), (r"\\gt(?![a-z])", ">"), (r"\\(?:cdot|times|ast)(?![a-z])", "*"), (r"\\div(?![a-z])", "/"),
    (r"\\colon(?![a-z])", ":"), (r"\\lbrace(?![a-z])", r"\\{"), (r"\\rbrace(?![a-z])", r"\\}"), (r"\\langle(?![a-z])", "("),
    (r"\\rangle(?![a-z])", ")"), (r"\\(?:[lr]?vert|mid)(?![a-z])", "|"), (r"\\[lcd]?dots(?![a-z])", "..."), (r"\\backslash(?![a-z])", r"\\setminus "),
    (r"\\(?:varnothing|empty)(?![a-z])", r"\\emptyset "), (r"\\(?:mathbb|mathbf)\s*\{?R\}?", r"\\reals "), (r"\\prime(?![a-z])", "'"),
    (r"\^\s*\{?\s*\\circ(?![a-z])\s*\}?|\\(?:degree|circ)(?![a-z])", "°"), (r"\\([%$#&])", r"\1"), (r"\\sim(?:eq)?(?![a-z])", r"\\approx "),
    (r"(?<=\d) ?[xX] ?(?=10\s*\^)", "*"), (r"\*\*", "^"), (r"(?<=\d)\s*(?:\^\s*\{?\s*)?“?(?:st|nd|rd|th)”?\s*\}?(?=\s*$)", ""),
    (r"(?<![\d./\ue001])(?<![\d./] )\d{1,3}(?:[ \u202f\u2009]\d{3})+(?!\d)", "\ue001"))]  # fmt: skip


def _text_command(m: re.Match) -> str:
    """`\\text{...}` as a quoted word, unless it holds a number, a symbol or a function."""
    inner = m.group(1).strip()
    unit = re.search(r"[\d)}]\s*$", m.string[: m.start()])
    if inner in FUNCTIONS or re.fullmatch(r"[-\d.,/%$ ]+|\([A-Za-z]\)", inner) or (len(inner.strip(" .")) == 1 and not unit):
        return f" {inner} "
    return f"“{inner}”" if inner else " "


@lru_cache(8192)
def normalise(text: str) -> str:
    """One spelling for what TeX, Unicode and markdown spell in many ways; words of `\\text` stand in “ ”."""
    text = re.sub(r"[\x00-\x08\x0b-\x1f\ud800-\udfff\u200b-\u200f\ufeff\ue000-\uf8ff]", "", text)
    text = text.strip(" \n\t*`\"")
    if boxed := re.fullmatch(r"\s*\$?\s*\\(?:boxed|fbox)\s*\{(.*)\}\s*\$?\s*", text, re.S):
        text = boxed.group(1)
    text = re.sub("[¼-¾⅐-⅞]", lambda m: f" {unicodedata.normalize('NFKC', m.group())} ".replace("\u2044", "/"), text)
    for script, mark in (("[⁰¹²³⁴-⁹⁻]+", "^"), ("[₀-₉]+", "_")):
        text = re.sub(script, lambda m, mark=mark: f"{mark}{{{unicodedata.normalize('NFKC', m.group()).replace('−', '-')}}}", text)
    text = unicodedata.normalize("NFKC", "".join(_CHARS.get(c, c) for c in text))
    text = re.sub("[α-ωΓΔΘΛΞΠΣΦΨΩ]", lambda m: "\\" + unicodedata.name(m.group()).split()[3].lower() + " ", text)
    if text.count("$") % 2 == 0 and not re.match(r"\s*\\?\$\d[^$]*,\s*\\?\$\d", text):
        text = re.sub(r"(?<!\\)\$", " ", text)
    text = _TEXT.sub(_text_command, text)
    for pattern, new in _RULES:
        text = pattern.sub(new if new != "\ue001" else lambda m: re.sub(r"\s", "", m.group()), text)
    text = re.sub(r"\s+", " ", text).strip(" =" + _ROW)
    return text if text.endswith("...") else text.rstrip(" .,;")


def key(text: str) -> str:
    """What two normalised answers must share to be identical: a space counts only between two word characters."""
    return re.sub(r"(?<![A-Za-z\d]) | (?![A-Za-z\d])", "", text.replace("“", "").replace("”", ""))


# ---------------------------------------------------------------- expressions

_TOKEN = re.compile(r"\s+|((?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,9}(?![\d.]))?)|(\\[A-Za-z]+|\\[{}]|“[^”]*”|"
                    + "|".join(sorted(FUNCTIONS + _GREEK, key=len, reverse=True)) + r"|[A-Z]{2,}|.)", re.S)  # fmt: skip
_CONSTANTS = {"\\pi": "π", "pi": "π", "e": "e", "i": "i", "\\infty": "∞", "infinity": "∞", "infty": "∞"}
_PAIRS = {"(": ")", "[": "]", "{": "}", "\\lfloor": "\\rfloor", "\\lceil": "\\rceil"}


class _Reader:
    """Recursive descent over one expression; `parse` gives its Node or raises Unread."""

    def __init__(self, text: str) -> None:
        self.tokens = [m.group(1) or m.group(2) for m in _TOKEN.finditer(text) if m.group(1) or m.group(2)]
        self.i = self.depth = self.bars = 0

    def parse(self) -> Node:
        node = self.sum()
        if token := self.peek():
            raise Unread(f"cannot read {token!r}", ask=token[0] == "\\")
        return node

    def peek(self) -> str:
        return self.tokens[self.i] if self.i < len(self.tokens) else ""

    def take(self, expected: str = "") -> str:
        token = self.peek()
        if not token or (expected and token != expected):
            raise Unread(f"{expected or 'something'} expected, {token or 'the end'} found")
        self.i += 1
        return token

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Unread("nested too deeply")

    def sum(self) -> Node:
        self.deeper()
        node = self.product()
        while self.peek() in ("+", "-"):
            node = (self.take(), node, self.product())
        self.depth -= 1
        return node

    def starts(self) -> bool:
        """Whether a factor starts here, so that juxtaposition means a product."""
        token = self.peek()
        closing = token in _PAIRS.values() or token in ("\\{", "\\}", "\\cup", "\\pm", "\\mp")
        return bool(token) and not closing and (token[0].isalnum() or token[0] == "\\" or token in _PAIRS or (token == "|" and not self.bars))

    def product(self) -> Node:
        node = self.signed()
        while True:
            token = self.peek()
            if token in ("*", "/"):
                self.take()
                start = self.peek()
                node = (token, node, self.signed())
                if token == "/" and start.isalpha() and self.starts():
                    raise Unread("a/bc is ambiguous")
            elif not self.starts():
                return node
            elif token[0].isdigit():
                raise Unread("two numbers side by side")
            else:
                node = ("*", node, self.power())

    def signed(self) -> Node:
        sign = 1
        while self.peek() in ("+", "-"):
            sign = -sign if self.take() == "-" else sign
        node = self.power()
        if sign > 0:
            return node
        return -node if isinstance(node, Fraction) else "-∞" if node == "∞" else ("*", Fraction(-1), node)

    def power(self) -> Node:
        node = self.primary()
        while (token := self.peek()) in ("^", "!", "°", "%"):
            self.take()
            if token == "!" and self.peek() == "!":
                raise Unread("double factorial", ask=True)
            node = (("^", node, self.exponent()) if token == "^" else ("!", node) if token == "!" else
                    ("/", node, Fraction(100)) if token == "%" else ("*", node, ("/", "π", Fraction(180))))  # fmt: skip
        return node

    def exponent(self) -> Node:
        self.deeper()
        node = self.group() if self.peek() == "{" else self.signed()
        self.depth -= 1
        return node

    def group(self) -> Node:
        """One TeX argument: braces, or a single character."""
        token = self.peek()
        if token.isdigit() and len(token) > 1:
            self.tokens[self.i : self.i + 1] = [token[0], token[1:]]
            return Fraction(self.take())
        return self.primary()

    def mixed(self, whole: Fraction) -> Node:
        """`2\\frac{1}{2}` and `2 1/2` after their whole part; anything else leaves the whole part alone."""
        start, rest = self.i, self.tokens[self.i : self.i + 3]
        if len(rest) == 3 and rest[1] == "/" and rest[0].isdigit() and rest[2].isdigit():
            self.i += 3
            part: Node = ("/", Fraction(rest[0]), Fraction(rest[2]))
        elif rest[:1] == ["\\frac"]:
            part = self.primary()
        else:
            return whole
        if not all(isinstance(x, Fraction) and x.denominator == 1 for x in part[1:]):
            self.i = start
            return whole
        if not 0 <= part[1] < part[2]:
            raise Unread("improper mixed number")
        return ("+", whole, part)

    def primary(self) -> Node:
        token = self.take()
        name = token.lstrip("\\")
        if token[0].isdigit() or (token[0] == "." and len(token) > 1):
            digits, _, ten = token.lower().partition("e")
            number = Fraction(digits.rstrip("."))
            return ("*", number, ("^", Fraction(10), Fraction(ten))) if ten else self.mixed(number) if token.isdigit() else number
        if token in _PAIRS:
            node = self.sum()
            self.take(_PAIRS[token])
            return ("floor" if name == "lfloor" else "ceil", node) if name in ("lfloor", "lceil") else node
        if token == "|":
            self.bars += 1
            node = self.sum()
            self.take("|")
            self.bars -= 1
            return ("abs", node)
        if name in ("frac", "binom"):
            return ("/" if name == "frac" else "binom", self.group(), self.group())
        if name == "sqrt":
            index: Node = Fraction(2)
            if token[0] == "\\" and self.peek() == "[":
                self.take()
                index = self.sum()
                self.take("]")
            return ("root", self.group() if token[0] == "\\" else self.primary(), index)
        if name in FUNCTIONS:
            return self.function(name)
        if token in _CONSTANTS:
            return _CONSTANTS[token]
        if name not in _LETTERS and not token.isalpha():
            raise Unread(f"cannot read {token!r}", ask=token[0] == "\\" and len(token) > 2)
        if self.peek() == "_":
            self.take()
            begin = self.i
            self.group()
            name += "_" + "".join(self.tokens[begin : self.i]).strip("{}")
        while self.peek() == "'":
            name += self.take()
        if self.peek() == "(" and name[0] in "fghPF":
            raise Unread(f"a value of the function {name}", ask=True)
        return name

    def function(self, name: str) -> Node:
        base: Node | None = None
        power: Node | None = None
        while self.peek() in ("_", "^"):
            if self.take() == "_":
                base = self.group()
            else:
                power = self.exponent()
        if self.peek() in ("(", "{"):
            node = self.primary()
        else:
            node = self.signed()
            while self.starts() and self.peek().lstrip("\\") not in FUNCTIONS and self.peek() != "(":
                node = ("*", node, self.power())
        if power == -1 and name in ("sin", "cos", "tan"):
            name, power = "arc" + name, None
        if name == "log":  # without a base, the base is an unknown of its own
            node = ("/", ("ln", node), ("ln", base)) if base is not None else ("*", "log scale", ("ln", node))
        else:
            node = ("root", node, Fraction(3)) if name == "cbrt" else (name, node)
        return node if power is None else ("^", node, power)


def parse(text: str) -> Node:
    """The expression tree of a normalised text. Raises Unread."""
    return _Reader(text).parse()


def symbols(node: Node) -> frozenset[str]:
    """Names of the variables in an expression."""
    if isinstance(node, tuple):
        return frozenset().union(*map(symbols, node[1:]))
    return frozenset([node]) if isinstance(node, str) and node not in ("π", "e", "i", "∞", "-∞") else frozenset()


class _Machine:
    """Evaluates nodes at one working precision; exact as long as everything is rational."""

    def __init__(self, digits: int) -> None:
        self.digits, self.off, self.cost = digits, False, 0

    @cached_property
    def mp(self):
        import mpmath

        context = mpmath.MPContext()  # its own, since mpmath's global precision is shared between threads
        context.dps = self.digits
        return context

    def lift(self, x):
        return self.mp.mpf(x.numerator) / x.denominator if isinstance(x, Fraction) else x

    def value(self, node: Node, at: dict[str, Fraction]):
        """Fraction, mpf or mpc. Raises Unread (too large), ZeroDivisionError or ValueError (undefined)."""
        if isinstance(node, Fraction):
            return node
        if isinstance(node, str):
            if "∞" in node:
                raise ValueError("infinite")
            return at[node] if node in at else self.mp.mpc(0, 1) if node == "i" else +(self.mp.pi if node == "π" else self.mp.e)
        operator, *values = node[0], *(self.value(n, at) for n in node[1:])
        exact = all(isinstance(v, Fraction) for v in values)
        bits = sum(v.numerator.bit_length() + v.denominator.bit_length() for v in values if isinstance(v, Fraction))
        self.cost += 1 + (bits >> 10)
        if self.cost > 20_000:
            raise Unread("too expensive to evaluate")
        if exact and bits <= MAX_BITS and operator in "+-*/":
            return _arithmetic(operator, *values)
        result = self.inexact(operator, values)
        if not isinstance(result, Fraction):
            if not self.mp.isfinite(result):
                raise ValueError("undefined")
            if operator not in "+-*/" and self.mp.im(result) != 0 and all(self.mp.im(self.lift(v)) == 0 for v in values):
                self.off = True  # a real argument outside the real domain
        return result

    def inexact(self, operator: str, values: list):
        mp, x = self.mp, values[0]
        if operator in ("^", "root"):
            return self.power(x, values[1] if operator == "^" else 1 / values[1])
        if operator in ("floor", "ceil", "abs") and isinstance(x, Fraction):
            return abs(x) if operator == "abs" else Fraction(x.__floor__() if operator == "floor" else x.__ceil__())
        if operator in ("!", "binom"):
            whole = all(isinstance(v, Fraction) and v.denominator == 1 for v in values)
            if whole and all(0 <= v <= 5000 for v in values):
                return Fraction(factorial(int(x)) if operator == "!" else comb(int(x), int(values[1])))
            if whole and min(values) < 0:
                raise ValueError("factorial of a negative integer")
        values = [self.lift(v) for v in values]
        x, size = values[0], max(mp.mag(v) if v else 0 for v in values)
        if operator in "+-*/":
            if operator in "+-" and all(values) and abs(mp.mag(x) - mp.mag(values[1])) > 3 * self.digits:
                raise Unread("a term is lost beside a much larger one")
            return _arithmetic(operator, *values)
        if size > {"!": 30, "binom": 30, "exp": 60, "sinh": 60, "cosh": 60, "floor": self.digits, "ceil": self.digits}.get(operator, 400):
            raise Unread("number too large to evaluate")
        if operator in ("floor", "ceil"):
            if mp.im(x) != 0 or abs(x - mp.nint(x)) < mp.mpf(10) ** (-self.digits // 2):
                raise Unread("rounding is undecided")
            return Fraction(int(getattr(mp, operator)(x)))
        if operator in ("!", "binom"):
            return mp.gamma(x + 1) if operator == "!" else mp.binomial(*values)
        return abs(x) if operator == "abs" else getattr(mp, operator.replace("arc", "a"))(x)

    def power(self, base, exponent):
        mp = self.mp
        if isinstance(exponent, Fraction) and isinstance(base, Fraction):
            if base == 0 and exponent <= 0:
                raise ZeroDivisionError
            root = Fraction(isqrt(abs(base.numerator)), isqrt(base.denominator))
            if exponent.denominator == 2 and root * root == base:
                base, exponent = root, exponent * 2
            if exponent.denominator == 1 and abs(exponent) * (base.numerator.bit_length() + base.denominator.bit_length()) <= MAX_BITS:
                return base**exponent.numerator
        real_root = isinstance(exponent, Fraction) and exponent.denominator % 2 and exponent.denominator > 1
        base = self.lift(base)
        if base == 0:
            return base
        if abs(self.lift(exponent)) * (abs(mp.mag(base)) + 4) > 1e15:
            raise Unread("number too large to evaluate")
        if isinstance(exponent, Fraction) and exponent.denominator == 1:
            return base ** int(exponent)
        if real_root and mp.im(base) == 0 and mp.re(base) < 0:  # the real root of odd degree
            return (-1) ** exponent.numerator * (-base) ** self.lift(exponent)
        return base ** self.lift(exponent)


def _arithmetic(operator: str, a, b):
    return a + b if operator == "+" else a - b if operator == "-" else a * b if operator == "*" else a / b


_LOCAL = threading.local()


def machine(digits: int = DIGITS[0]) -> _Machine:
    """This thread's evaluator for a precision, reset."""
    machines = _LOCAL.__dict__.setdefault("machines", {})
    found = machines.setdefault(digits, _Machine(digits))
    found.off, found.cost = False, 0
    return found


def points(names) -> list[dict[str, Fraction]]:
    """Eight fixed assignments of rationals of several sizes and signs to the names ([{}] without names)."""
    def at(name: str, k: int) -> Fraction:
        seed = zlib.crc32(f"{name}/{k}".encode())
        size = Fraction(seed % 9_000 + 300, (997, 2003, 3001, 9973)[k % 4])
        return -size if name != "log scale" and k > 2 and (k == 3 or seed >> 20 & 1) else size

    return [{name: at(name, k) for name in sorted(names)} for k in range(8)] if names else [{}]


def _close(m: _Machine, a, b, digits: int) -> bool:
    a, b = m.lift(a), m.lift(b)
    return abs(a - b) <= max(abs(a), abs(b)) * m.mp.mpf(10) ** -digits


def _agree(a: Node, b: Node, at: dict[str, Fraction]) -> tuple[str, bool]:
    """Label ("" when different) of two values at one point, and whether both stayed in the real domain."""
    seen = []
    for digits in DIGITS:
        m = machine(digits)
        y = m.value(b, at)
        x = m.value(a, at)
        if isinstance(x, Fraction) and isinstance(y, Fraction):
            return "exact rational" if x == y else "", not m.off
        seen.append((x, y))
        share = digits * 4 // 5
        if _close(m, x, y, share):
            continue
        if max(abs(m.lift(x)), abs(m.lift(y))) > m.mp.mpf(10) ** -share:
            return "", not m.off
    if _close(m, x, y, share):
        return f"value to {share} digits", not m.off
    zero = all(late == 0 or not _close(m, early, late, 10) for early, late in zip(*seen))  # noise changes with the precision
    return f"zero to {share} digits" if zero else "", not m.off


def equal(a: Node, b: Node) -> str:
    """Label of the equality of prediction `a` and gold `b`, or "": at every point at which both are real.

    Raises Unread when undecided (too large, undefined everywhere).
    """
    if a == b:
        return "same expression"
    if "∞" in str(a if isinstance(a, str) else "") + str(b if isinstance(b, str) else ""):
        return ""
    real, other = [], []
    for at in points(symbols(a) | symbols(b)):
        try:
            label, inside = _agree(a, b, at)
        except (ZeroDivisionError, ValueError):
            try:
                machine().value(b, at)
                return ""  # only the prediction is undefined here
            except (ZeroDivisionError, ValueError):
                continue
        if inside and not label:
            return ""
        (real if inside else other).append(label)
    labels = real if len(real) >= 3 or not other else real + other
    if not labels:
        raise Unread("undefined everywhere")
    return labels[0] if all(labels) else ""


def proportional(a: Node, b: Node, positive: bool = False) -> str:
    """Label when a = c * b for a constant c (c > 0 if `positive`): the same equation, or the same inequality."""
    if symbols(a) != symbols(b):
        return ""
    at, m = points(symbols(a))[0], machine(DIGITS[1])
    x, y = (m.lift(m.value(n, at)) for n in (a, b))
    if not x or not y or (positive and (m.mp.im(x / y) != 0 or m.mp.re(x / y) < 0)):
        return ""
    return equal(("*", a, _fixed(b, at)), ("*", b, _fixed(a, at)))


def _fixed(node: Node, at: dict[str, Fraction]) -> Node:
    """The node with its symbols replaced by numbers."""
    if isinstance(node, tuple):
        return (node[0], *(_fixed(n, at) for n in node[1:]))
    return at.get(node, node) if isinstance(node, str) else node


# ---------------------------------------------------------------- structured answers

UNITS = {alias: unit for unit, aliases in {"cm": "centimeter centimetre", "m": "meter metre", "km": "kilometer kilometre", "mm": "millimeter millimetre",
    "in": "inch inche", "ft": "foot feet", "yd": "yard", "mi": "mile", "kg": "kilogram", "g": "gram", "mg": "milligram", "lb": "pound lbs", "oz": "ounce",
    "s": "sec second", "min": "minute", "h": "hr hour", "yr": "year", "l": "liter litre", "ml": "milliliter millilitre", "mph": "", "dollar": "usd buck $",
    "euro": "eur €", "gbp": "£", "cent": "¢", "deg": "degree °", "%": "percent pct percentage", "": "unit"}.items() for alias in [unit, *aliases.split()]}  # fmt: skip
_SCALES = {w: Fraction(10) ** p for p, w in ((2, "hundred"), (3, "thousand"), (6, "million"), (9, "billion"), (12, "trillion"))} | {
    w: Fraction(1, d) for d, ws in ((2, "half halve"), (3, "third"), (4, "quarter fourth"), (5, "fifth"), (6, "sixth"), (8, "eighth"), (10, "tenth"),
    (100, "hundredth"), (1000, "thousandth")) for w in ws.split()}  # fmt: skip
_NO_UNITS = {*"or and more less plus minus times over factorial choose mod modulo base remainder if for when where not than to through except with is are at "
             "least most divided by sum each between from until none".split(), *FUNCTIONS, *_GREEK}  # fmt: skip
_BASES = {w: str(n) for n, w in enumerate("two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split(), 2)}
_ENDS = (Answer("expr", ("-∞",)), Answer("expr", ("∞",)))
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_RELATION = r"\\(?:le|ge|ne|approx)(?![a-z])|[=<>]"
_NAME = r"(?:[A-Za-z]|\\[a-z]+ ?|[A-Z]{2,}|“[^”]*”|[A-Z][a-z]{2,})(?:_(?:\w|\{\w+\}))?'?(?: ?\([^()=]*\))?"


def split(text: str, separators: str = "[,;]") -> list[str]:
    """Parts of the text between separators (a regex) that stand outside all brackets. Raises Unread when unbalanced."""
    parts, depth, begin = [], 0, 0
    for m in re.finditer(rf"{separators}|[()\[\]{{}}]", text):
        if m.group() in "([{":
            depth += 1
        elif m.group() in ")]}":
            depth -= 1
        elif depth == 0:
            parts.append(text[begin : m.start()].strip())
            begin = m.end()
        if not 0 <= depth <= MAX_DEPTH:
            raise Unread("unbalanced or too many brackets")
    if depth:
        raise Unread("unbalanced brackets")
    return [*parts, text[begin:].strip()]


def _join(m: re.Match) -> str:
    """Digit groups joined, except inside brackets whose only commas they are (`(1,234)` is a pair)."""
    before = m.string[: m.start()]
    nested = len(re.findall(r"[(\[]|\\\{", before)) - len(re.findall(r"[)\]]|\\\}", before))
    return m.group() if nested > 0 and not re.search(r",\s|;", m.string) else m.group().replace(",", "")


@lru_cache(8192)
def read(text: str, joined: bool = True) -> Answer:
    """Reads a normalised answer; a list splits at commas, semicolons, "and" and "or" outside brackets. Raises Unread.

    With `joined`, `1,234` is a number, otherwise a list.
    """
    text = _THOUSANDS.sub(_join, text) if joined else text
    text = re.sub(r"\s*(?:“\s*(?:and|or)\s*”|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*", " , ", text)
    parts = [part for part in split(text) if part]
    if len(parts) == 1:
        return _item(parts[0])
    items = _spread(map(_item, parts))
    if not items:
        raise Unread("empty")
    if items[0].kind == "eq" and items[0].tag and all(one.kind != "eq" for one in items[1:]):
        items = (items[0].items[1], *items[1:])  # n = 2, 3, 4
    if all(one.kind == "eq" and one.tag for one in items):
        names, values = [one.tag for one in items], [one.items[1] for one in items]
        if len({name.partition("_")[0] for name in names}) == 1:
            return Answer("list", tuple(values))
        if len(set(names)) == len(names):
            return _assign(names, values)
    return _pieces(items) if all(one.kind == "interval" for one in items) else Answer("list", items)


def _spread(answers) -> tuple[Answer, ...]:
    """The answers, with lists (from plus-minus signs) replaced by their members."""
    return tuple(one for answer in answers for one in (answer.items if answer.kind == "list" else (answer,)))


def _assign(names: list[str], values) -> Answer:
    order = sorted(range(len(names)), key=names.__getitem__)
    return Answer("assign", tuple(values[i] for i in order), tuple(names[i] for i in order))


def _pieces(rays: tuple[Answer, ...]) -> Answer:
    """Several inequalities: two overlapping rays are an interval (`x > 1 and x < 3`), all else is a union."""
    up, down = ([r for r in rays if r.items[i] == _ENDS[i]] for i in (1, 0))
    if len(rays) == 2 and len(up) == len(down) == 1 and not any(symbols(r.items[i].items[0]) for r, i in ((up[0], 0), (down[0], 1))):
        low, high = up[0].items[0], down[0].items[1]
        if low not in _ENDS and high not in _ENDS and machine().mp.re(machine().lift(machine().value(("-", high.items[0], low.items[0]), {}))) > 0:
            return Answer("interval", (low, high), (up[0].tag[0], down[0].tag[1]))
    return Answer("union", rays)


def _item(text: str) -> Answer:
    """Reads what stands between two commas."""
    if m := re.fullmatch(r"\\\{\s*[a-z]\s*(?:\\in \\reals\s*)?[|:](.*)\\\}", text) or re.match(r"[A-Za-z\\_\d, ()]{1,30}?\\in(?![a-z])(.*)", text):
        return read(m.group(1).strip())  # a set in words of its members; membership
    relations = re.findall(_RELATION, text)
    if relations and len(sides := split(text, _RELATION)) == len(relations) + 1:
        return _relation(sides, relations)
    if len(unions := split(text, r"\\cup(?![a-z])")) > 1:
        return Answer("union", tuple(as_interval(_item(part)) for part in unions))
    if m := re.fullmatch(r"\\reals\s*(?:\\setminus|-)\s*\\\{(.*)\\\}", text):
        cuts = sorted((_scalar(part) for part in split(m.group(1))), key=lambda one: machine().value(one.items[0], {}))
        ends = (_ENDS[0], *cuts, _ENDS[1])
        return Answer("union", tuple(Answer("interval", pair, (True, True)) for pair in zip(ends, ends[1:])))
    if text == "\\reals" or re.fullmatch(r"“?all real(?: number)?s”?", text, re.I):
        return Answer("interval", _ENDS, (True, True))
    if m := re.fullmatch(r"\\begin\{([pbB]?matrix|smallmatrix|array)\}\s*(?:\{[lcr| ]*\})?(.*)\\end\{\1\}", text):
        rows = [row for row in m.group(2).split(_ROW) if row.strip()]
        return Answer("matrix", tuple(tuple(map(_item, split(row, "&"))) for row in rows))
    if m := re.fullmatch(r"(\\?[({]|\[)(.*?)(\\?[)}]|\])", text):
        try:
            parts = [part for part in split(m.group(2)) if part]
        except Unread:
            return _plain(text)  # (a)(b)
        return _bracket(m.group(1), parts, m.group(3))
    return Answer("set") if text == "\\emptyset" else Answer("text", tag="...") if set(text) == {"."} else _plain(text)


def _bracket(opening: str, parts: list[str], closing: str) -> Answer:
    """Tuples, intervals with their end-points, sets, nested lists, and mere parentheses."""
    items, pair = tuple(map(_item, parts)), opening + closing
    if pair in ("\\{\\}", "{}") and (pair[0] == "\\" or len(items) > 1):
        return Answer("set" if pair[0] == "\\" else "list", _spread(items))
    if len(items) == 1 and pair in ("()", "[]", "{}"):
        return items[0]
    if pair == "[]" and len(items) > 1 and all(one.kind in ("interval", "tuple") for one in items):
        return Answer("matrix", tuple(one.items for one in items))  # [[1,2],[3,4]]
    if len(items) > 1 and (pair == "()" or (pair == "[]" and len(items) > 2)):
        return Answer("tuple", items)
    if len(items) == 2 and pair in ("[]", "[)", "(]"):
        return Answer("interval", items, (opening == "(", closing == ")"))
    raise Unread("empty or mixed brackets")


def _relation(sides: list[str], relations: list[str]) -> Answer:
    """Assignments, equations, inequalities as intervals, and chains of comparisons."""
    if "\\approx" in relations:  # what follows an approximation sign is a rounding of what stands before it
        keep = max(1, relations.index("\\approx"))
        return _relation(sides[: keep + 1], ["="] * keep) if sides[0] else read(sides[1])
    if set(relations) == {"="}:
        left, right = sides[0], sides[-1]
        if len(sides) == 2 and re.fullmatch(_NAME, right) and not re.fullmatch(_NAME, left):
            left, right = right, left
        value = read(right) if re.fullmatch(_NAME + r"|\([^()]*,[^()]*\)", left) else None
        if left[0:1] == "(" and value and value.kind == "tuple":
            names = [part.strip() for part in left[1:-1].split(",")]
            if len(names) == len(value.items) == len(set(names)):
                return _assign(names, value.items)
        elif value:
            variable = re.fullmatch(r"[A-Za-z]", left) and left not in "ei" and value.kind == "expr" and not value.unit
            return Answer("eq", (("-", left, value.items[0]) if variable else None, value), left.replace(" ", ""))
        nodes = [parse(side) for side in sides]
        if any(map(symbols, nodes)):
            return Answer("eq", (("-", nodes[0], nodes[-1]), None))
        if all(equal(node, nodes[-1]) for node in nodes):
            return Answer("expr", (nodes[-1],))
        raise Unread("false equation")
    chain = Answer("chain", tag=" ".join(x for pair in zip(map(key, sides), [*relations, ""]) for x in pair))
    try:
        ends = [_plain(side) for side in sides]
    except Unread:
        return chain
    if any(end.kind != "expr" for end in ends) or len(ends) > 3:
        return chain
    if set(relations) <= {">", "\\ge"}:
        ends, relations = ends[::-1], [{">": "<", "\\ge": "\\le"}[r] for r in reversed(relations)]
    if len(ends) == 2 and any(end.items[0][:2] == ("*", -1) for end in ends if isinstance(end.items[0], tuple)):  # -x > -1
        ends = [Answer("expr", (_negative(end.items[0]),)) for end in reversed(ends)]
    nodes, opened = [end.items[0] for end in ends], tuple(r == "<" for r in relations)
    alone = [isinstance(node, str) and node in symbols(node) for node in nodes]
    if relations == ["\\ne"] and alone[0]:
        return Answer("union", tuple(Answer("interval", e, (True, True)) for e in ((_ENDS[0], ends[1]), (ends[1], _ENDS[1]))))
    if set(relations) <= {"<", "\\le"}:
        if alone == [False, True, False]:
            return Answer("interval", (ends[0], ends[2]), opened)
        if alone in ([True, False], [False, True]):
            return Answer("interval", (_ENDS[0], ends[1]) if alone[0] else (ends[0], _ENDS[1]), (alone[0] or opened[0], alone[1] or opened[0]))
        if len(ends) == 2:
            return Answer("rel", (("-", nodes[1], nodes[0]),), relations[0])
    return chain


def _negative(node: Node) -> Node:
    return -node if isinstance(node, Fraction) else node[2] if node[:2] == ("*", -1) else ("*", Fraction(-1), node)


def _plain(text: str) -> Answer:
    """Times, numbers in a base, choices, words, ratios, and expressions with units."""
    words = re.sub(r"[“”]", "", text).strip()
    if m := re.fullmatch(r"(\d{1,2})(?::(\d\d))?\s*([ap])\.?\s?m\.?", words, re.I) or re.fullmatch(r"(\d{1,2}):(\d\d)()", words):
        hour, half = int(m.group(1)), m.group(3).lower()
        return Answer("time", tag=(hour % 12, int(m.group(2) or 0), half or ("p" if hour > 12 else "")))
    if m := re.fullmatch(r"(-?\d[\dA-Fa-f.]*)\s*(?:_\s*\{?\s*(?:base )?([\da-z]+)\s*\}?|\(?base ([\da-z]+)\)?)", words):
        base = _BASES.get(m.group(2) or m.group(3), m.group(2) or m.group(3))
        if base != "10":
            return Answer("base", tag=(re.sub(r"^0+(?=[^.])", "", m.group(1).upper()), base))
        words = text = m.group(1)
    bare = words[:9].strip("().: ") if len(words) < 9 else ""
    if len(bare) == 1 and bare.isalpha() and bare not in "ei" and (bare.isupper() or "“" in text):
        return Answer("expr", (bare,))
    if re.fullmatch(r"[A-Za-z][A-Za-z'. -]*", words) and ("“" in text or re.search("[A-Za-z]{3}", words)):
        if "“" in text or not re.match("|".join([*FUNCTIONS, "pi", "inf", *_GREEK]), words):
            return Answer("text", tag=re.sub(r"[^a-z]+", " ", re.sub(r"^(?:the|an?) ", "", words.lower())).strip())
    parts = split(text, ":")
    return Answer("ratio", tuple(map(_item, parts))) if len(parts) > 1 else _scalar(text)


def _unit(text: str) -> tuple[str, str, Fraction]:
    """(text without its unit, canonical unit, scale of words such as "million") of an expression."""
    if m := re.match(r"([-+]?)\s*([$€£])\s*(.+)", text):
        rest, _, scale = _unit(m.group(1) + m.group(3))
        return rest, UNITS[m.group(2)], scale
    tail = re.search(r"(?<![A-Za-z\\“])(?:“[^”]*”|[A-Za-z][A-Za-z ./]*|[%€$£¢°]|\s)+(\^\s*\{?\s*[23]\s*\}?)?$", text)
    if not tail or not tail.start():
        return text, "", Fraction(1)
    exponent, scale, found, begin = re.sub(r"\D", "", tail.group(1) or ""), Fraction(1), [], tail.end()
    for m in reversed(list(re.finditer(r"“[^”]*”|[A-Za-z][A-Za-z./]*|[%€$£¢°]", tail.group()))):
        piece = m.group().strip("“”. ").lower()
        quoted = m.group()[0] == "“"
        single = piece in set("msghl") and m.group() == piece and text[: tail.start() + m.start()][-1:] == " " and not re.search("[a-z]", text[: tail.start()])
        if m.group() == "°" and re.search("sin|cos|tan|cot|sec|csc", text):
            break
        if not (quoted or (piece in UNITS and len(m.group()) > 1) or piece in "%€$£¢°" or len(piece) > 2 or single) or _NO_UNITS & set(piece.split()):
            break
        for word in reversed(piece.split()):
            stem = word if word in UNITS else word[:-1] if word.endswith("s") else word
            if stem in _SCALES:
                scale *= _SCALES[stem]
            elif word in ("square", "sq", "squared", "cubic", "cubed"):
                exponent = "2" if word[0] == "s" else "3"
            else:
                found.insert(0, UNITS.get(stem, stem))
        begin = tail.start() + m.start()
    unit = " ".join(filter(None, found))
    if begin == tail.end() or (exponent and not found):
        return text, "", Fraction(1)
    return text[:begin].strip(), unit + exponent if unit else "", scale


def _scalar(text: str) -> Answer:
    """An expression with its unit; plus-minus signs give the list of its values."""
    text, unit, scale = _unit(text)
    signs = re.findall(r"\\(pm|mp)(?![a-z])", text)
    if signs:
        if len(signs) > 3:
            raise Unread("too many plus-minus signs")
        linked = "mp" in signs or len(signs) == 1
        choices = [[(k if linked else k >> j) & 1 ^ (s == "mp") for j, s in enumerate(signs)] for k in range(2 if linked else 2 ** len(signs))]
        plain = [re.sub(r"\\(?:pm|mp)(?![a-z])", lambda m, c=iter(c): "+-"[next(c)], text) for c in choices]
        return Answer("list", tuple(Answer("expr", (("*", parse(one), scale),), unit=unit) for one in plain))
    if m := re.fullmatch(r"(-?)(\d*)\.(\d*?)(?:\\(?:overline|bar|dot)\s*\{?\s*(\d+)\s*\}?|(\d)\5\5+\.\.\.)", text):
        head, cycle = (m.group(2) or "0") + m.group(3), m.group(4) or m.group(5)
        node: Node = Fraction(int(head + cycle) - int(head), 10 ** len(m.group(3)) * (10 ** len(cycle) - 1)) * (-1 if m.group(1) else 1)
    else:
        node = parse(text)
    return Answer("expr", (node if scale == 1 else ("*", node, scale),), tag=text, unit=unit)


def as_interval(answer: Answer) -> Answer:
    """A pair in parentheses read as an open interval; anything else unchanged."""
    pair = answer.kind == "tuple" and len(answer.items) == 2
    return Answer("interval", answer.items, (True, True)) if pair else answer
