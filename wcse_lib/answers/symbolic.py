"""What the guards cannot read (sums, integrals, limits, ...): math-verify, believed only where sympy confirms it."""

from __future__ import annotations

import re

from wcse_lib.answers.values import points

N_POINTS = 4  # at which two expressions are compared
_DERIVATIVE = re.compile(r"'|\\(?:prime|partial)(?![a-z])|\bd[a-z]?\}?\{d")
_LETTER_OR_DIGIT = re.compile(r"\d|(?<![A-Za-z])[A-Za-z](?![A-Za-z])")


def math_verify(prediction: str, gold: str) -> tuple[bool | None, str]:
    """math-verify's verdict; "equal" is believed only if sympy confirms it and no number or variable was dropped.

    Not bounded in time or memory: see `workers.py`.
    """
    import sympy
    from math_verify import verify

    g = _parsed(gold)
    if g is None:
        return None, "gold cannot be parsed"
    p = _parsed(prediction)
    if p is None:
        return False, "prediction cannot be parsed"
    if not verify(g, p, timeout_seconds=None):
        if not isinstance(g, sympy.Expr) or not _confirmed(p, g):
            return False, "unequal: math-verify"
    if not _is_read_whole(gold, g) or not _is_read_whole(prediction, p):
        return None, "undecided: math-verify read only a part"
    if not _confirmed(p, g):
        return None, "undecided: math-verify, not confirmed"
    return True, "equal: math-verify, confirmed"


def _parsed(text: str):
    from math_verify import LatexExtractionConfig, parse

    found = parse(f"${text}$", [LatexExtractionConfig()], "no_fallback", parsing_timeout=None)
    return found[0] if found else None


def _is_read_whole(text: str, value) -> bool:
    import sympy

    return _signs(text) <= _signs(sympy.srepr(value).replace("'", " "))


def _signs(text: str) -> set[str]:
    """Digits and variables of a text, and how many derivatives it has (sympy's would be 0)."""
    n_derivatives = len(_DERIVATIVE.findall(text))
    letters = set(_LETTER_OR_DIGIT.findall(re.sub(r"\\[A-Za-z]+", " ", text)))
    signs = letters - {"d", "e", "i"}
    return signs | {f"{n_derivatives} derivatives"} if n_derivatives else signs


def _confirmed(a, b) -> bool:
    """Whether sympy finds two values equal, part by part."""
    import sympy

    a, b = a.doit(), b.doit()
    if isinstance(a, sympy.MatrixBase) and isinstance(b, sympy.MatrixBase):
        return a.shape == b.shape and all(map(_is_zero, a.flat(), b.flat()))
    if isinstance(a, sympy.Expr) and isinstance(b, sympy.Expr):
        if a == b:
            return True
        is_finite = not (a - b).has(sympy.oo, -sympy.oo, sympy.zoo, sympy.nan)
        return is_finite and _is_zero(a, b)
    if type(a) is not type(b) or len(a.args) != len(b.args) or not a.args:
        return False
    return all(map(_confirmed, a.args, b.args))


def _is_zero(a, b) -> bool:
    """Whether a - b is zero: by simplifying it, or at several points, beside the size of b."""
    import sympy

    gap = sympy.simplify((a - b).doit())
    if gap == 0:
        return True
    variables = (a - b).free_symbols
    for at in points([variable.name for variable in variables])[:N_POINTS]:
        values = {v: sympy.Rational(*at[v.name].as_integer_ratio()) for v in variables}
        size = abs(sympy.N(b.subs(values).doit(), 60))
        if abs(sympy.N(gap.subs(values), 60)) > size * sympy.Float(10) ** -40:
            return False
    return True
