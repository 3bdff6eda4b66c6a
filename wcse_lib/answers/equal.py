"""Decides, exactly where possible and always in bounded time, whether an extracted answer equals gold.

Guards, in order; the first that can decide does, and says so: identity after normalisation; exact integers and
rationals (never floats); structured types (lists, tuples, sets, intervals, matrices, bases, times, ratios, units);
values to 240 digits, at several points when there are variables. What they leave is for math-verify (`checker.py`).
`policy.py` states all choices on which reasonable people differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from functools import reduce

from wcse_lib.answers.answer import Answer, Time, as_interval, expression
from wcse_lib.answers.expressions import Node, Unread, degrees, is_whole, symbols
from wcse_lib.answers.notation import key, normalise, without_marks
from wcse_lib.answers.policy import Policy
from wcse_lib.answers.reading import MAX_ANSWER, UNREADABLE, read
from wcse_lib.answers.values import equal, proportional, real, restart

ASK = "ask"  # the verdict of guards that cannot decide where math-verify may
Comparer = Callable[[Answer, Answer, Policy], str]
Decision = tuple[bool | None | str, str]  # (True, False, None for unverifiable or ASK; reason)

_CHOICE = re.compile(
    r"(?:(?i:option|choice|answer)\s+)?"
    r"(?:\(([a-j])\)|\(?([A-J])(?:\)?|[).:]\s+((?!and\b|or\b|[,;&+*/^=<>])(?:(?!\b[A-J]\b).)*)))"
)
_MODULUS = re.compile(r"mod ([1-9]\d*)")
_DECIMAL = re.compile(r"-?0*(\d*)\.(\d+)")
_METRES = re.compile(r"(-?[\d.,]+) ?m ?\^ ?\{?([23])\}?")
_DECIMAL_COMMA = re.compile(r"-?(?:\d+,\d{1,2}|\d+,\d{4,}|0,\d+)")


def decide(prediction: str, gold: str, policy: Policy) -> Decision:
    r"""Everything short of math-verify: (True, False, None for unverifiable or ASK; reason).

    >>> decide("0.5", r"\frac12", Policy())
    (True, 'equal: exact rational')
    """
    if not isinstance(gold, str):
        return None, "gold cannot be parsed: missing"
    if len(gold) > MAX_ANSWER:
        return None, f"gold cannot be parsed: longer than {MAX_ANSWER} characters"
    if len(prediction) > MAX_ANSWER:
        return None, f"undecided: prediction longer than {MAX_ANSWER} characters"
    p_text, g_text = normalise(prediction), normalise(gold)
    if p_text.lower() in ("", "[invalid]"):
        return False, "no final answer"
    if not re.search(r"\w|\\", g_text):
        return None, "gold cannot be parsed: empty"
    if key(p_text) == key(g_text):
        return True, "equal: identical"
    return _choices(p_text, g_text) or _values(p_text, g_text, policy)


def _choices(p_text: str, g_text: str) -> Decision | None:
    """Two letters of a multiple choice, at most one of them with its text: `(C) 12` and `C`."""
    p, g = (_CHOICE.fullmatch(without_marks(text)) for text in (p_text, g_text))
    if not p or not g or (p.group(3) and g.group(3)):
        return None
    p_letter = p.group(1) or p.group(2)
    g_letter = g.group(1) or g.group(2)
    same = p_letter.upper() == g_letter.upper()
    return same, "equal: choice" if same else "unequal: choice"


def _values(p_text: str, g_text: str, policy: Policy) -> Decision:
    """Both texts read and compared."""
    restart()
    try:
        g = read(g_text)
    except UNREADABLE as error:
        return _unread(None, "gold cannot be parsed", error)
    try:
        p = read(p_text)
    except UNREADABLE as error:
        return _unread(False, "prediction cannot be parsed", error, g)
    try:
        label = _label_of_readings(p, p_text, g, g_text, policy)
    except UNREADABLE as error:
        return _unread(None, "undecided", error, g)
    return (True, f"equal: {label}") if label else (False, f"unequal: {p.kind} and {g.kind}")


def _unread(
    verdict: bool | None, doubt: str, error: Exception, gold: Answer | None = None
) -> Decision:
    """What an error says: nothing more, or that math-verify may know, which no words are given to."""
    if getattr(error, "ask", False) and (gold is None or gold.kind != "text"):
        return ASK, ""
    return verdict, f"{doubt}: {error if isinstance(error, Unread) else type(error).__name__}"


def _label_of_readings(p: Answer, p_text: str, g: Answer, g_text: str, policy: Policy) -> str:
    """Label of the first equality of a reading of each text, or ""."""
    for gold in _readings(g_text, g, p, policy):
        for prediction in _readings(p_text, p, g, policy):
            label = same(prediction, gold, policy)
            if label:
                return label
    return ""


def _readings(text: str, answer: Answer, other: Answer, policy: Policy) -> Iterator[Answer]:
    """The reading of a text, and those that the other side suggests: `1,234` as a list, `1,5` as a decimal."""
    yield answer
    if answer.kind == "text" and re.fullmatch("[a-z]{3}", text):
        yield expression(reduce(lambda a, b: ("*", a, b), text))  # `xyz` may be a product
    if other.kind in ("list", "set", "tuple") and not re.search(r",0\d", text):
        yield read(text, joined_digits=False)
        return
    area = _METRES.fullmatch(text)
    if area and other.kind == "expr":
        if not symbols(other.node):  # beside a number `5 m^2` is an area, beside `m` a term
            yield read(f"{area.group(1)} “m”^{area.group(2)}")
        return
    if policy.decimal_comma and _DECIMAL_COMMA.fullmatch(text) and _is_fraction(other):
        yield read(text.replace(",", "."))


def _is_fraction(answer: Answer) -> bool:
    is_rational = answer.kind == "expr" and isinstance(answer.node, Fraction)
    return is_rational and answer.node.denominator > 1


# ---------------------------------------------------------------- by kinds


def same(p: Answer, g: Answer, policy: Policy) -> str:
    """Label of the equality of prediction and gold, or "". Raises Unread when undecided."""
    compare = _COMPARERS.get(frozenset((p.kind, g.kind)))
    if compare:
        return compare(p, g, policy)
    return _named(p, g, policy) if "eq" in (p.kind, g.kind) else ""


def all_in_order(p: Sequence[Answer], g: Sequence[Answer], policy: Policy) -> bool:
    return len(p) == len(g) and all(same(a, b, policy) for a, b in zip(p, g))


def all_in_any_order(p: Sequence[Answer], g: Sequence[Answer], policy: Policy) -> bool:
    if len(p) != len(g):
        return False
    left = list(g)
    for one in p:
        place = _place(one, left, policy)
        if place is None:
            return False
        left.pop(place)
    return True


def _place(one: Answer, others: list[Answer], policy: Policy) -> int | None:
    """Where an answer's equal stands; identical ones are looked for first, as they cost nothing."""
    if one in others:
        return others.index(one)
    for place, other in enumerate(others):
        if same(one, other, policy):
            return place
    return None


def _equations(p: Answer, g: Answer, policy: Policy) -> str:
    """Two equations, or two values with names; values with the same name are compared alone."""
    if p.tag and p.tag == g.tag:
        return same(p.value, g.value, policy)
    if p.node is None or g.node is None:
        return ""
    return "eq" if proportional(p.node, g.node) else ""


def _named(p: Answer, g: Answer, policy: Policy) -> str:
    """A name on the left may be missing; an equation without one equals only equations."""
    p = p.value if p.kind == "eq" else p
    g = g.value if g.kind == "eq" else g
    return same(p, g, policy) if p and g else ""


def _relations(p: Answer, g: Answer, policy: Policy) -> str:
    is_same_sign = p.tag == g.tag
    return "rel" if is_same_sign and proportional(p.node, g.node, positive=True) else ""


def _intervals(p: Answer, g: Answer, policy: Policy) -> str:
    """Intervals and unions; a tuple of two is an open interval beside one."""
    if _are_of_other_variables(p, g):
        return ""
    p, g = as_interval(p), as_interval(g)
    if p.kind != g.kind or p.tag != g.tag:
        return ""
    compare = all_in_order if p.kind == "interval" else all_in_any_order
    return p.kind if compare(p.items, g.items, policy) else ""


def _are_of_other_variables(p: Answer, g: Answer) -> bool:
    return "" != p.unit != g.unit != ""


def _sets(p: Answer, g: Answer, policy: Policy) -> str:
    """Each member of one has an equal in the other."""
    if _are_of_other_variables(p, g):
        return ""
    for members, others in ((p.items, g.items), (g.items, p.items)):
        if not all(_is_among(member, others, policy) for member in members):
            return ""
    return "set"


def _is_among(member: Answer, others: tuple[Answer, ...], policy: Policy) -> bool:
    if member in others:
        return True
    for other in others:
        if (member.kind == "set") == (other.kind == "set") and same(member, other, policy):
            return True
    return False


def _lists(p: Answer, g: Answer, policy: Policy) -> str:
    is_ordered = policy.lists == "ordered" and p.kind == g.kind
    compare = all_in_order if is_ordered else all_in_any_order
    return "list" if compare(p.items, g.items, policy) else ""


def _lone_member(p: Answer, g: Answer, policy: Policy) -> str:
    """A list or set of one member beside what its member may be."""
    p, g = (
        one.items[0] if one.kind in ("set", "list") and len(one.items) == 1 else one
        for one in (p, g)
    )
    return same(p, g, policy) if p.kind == g.kind else ""


def _tuples(p: Answer, g: Answer, policy: Policy) -> str:
    return "tuple" if all_in_order(p.items, g.items, policy) else ""


def _assigned_list(p: Answer, g: Answer, policy: Policy) -> str:
    """Values of several names beside a list: by name if it has any, else by place."""
    if not any(item.kind == "eq" for item in (*p.items, *g.items)):
        return _tuples(p, g, policy)
    p_items, g_items = _with_names(p), _with_names(g)
    return "list" if all_in_any_order(p_items, g_items, policy) else ""


def _with_names(answer: Answer) -> Sequence[Answer]:
    if not answer.tag:
        return answer.items
    return [Answer("eq", (None, value), name) for value, name in zip(answer.items, answer.tag)]


def _matrices(p: Answer, g: Answer, policy: Policy) -> str:
    if len(p.items) != len(g.items):
        return ""
    pairs = zip(p.items, g.items)
    return "matrix" if all(all_in_order(*rows, policy) for rows in pairs) else ""


def _vectors(p: Answer, g: Answer, policy: Policy) -> str:
    """A matrix of one row or column beside a tuple."""
    matrix, vector = (p, g) if p.kind == "matrix" else (g, p)
    rows = matrix.items
    cells = [cell for row in rows for cell in row]
    is_vector = len(cells) in (len(rows), len(rows[0]))
    return "vector" if is_vector and all_in_order(cells, vector.items, policy) else ""


def _tagged(p: Answer, g: Answer, policy: Policy) -> str:
    """Texts, bases, chains, and values of names."""
    return p.kind if p.tag == g.tag and all_in_order(p.items, g.items, policy) else ""


# ---------------------------------------------------------------- ratios and times


def _quotient(*parts: Answer) -> Answer | None:
    """a:b as the number a/b."""
    if len(parts) != 2 or any(part.kind != "expr" for part in parts):
        return None
    return expression(("/", parts[0].node, parts[1].node))


def _ratios(p: Answer, g: Answer, policy: Policy) -> str:
    """Members in proportion to the first."""
    p_quotients = [_quotient(p.items[0], item) for item in p.items[1:]]
    g_quotients = [_quotient(g.items[0], item) for item in g.items[1:]]
    if None in p_quotients or None in g_quotients:
        return ""
    return "ratio" if all_in_order(p_quotients, g_quotients, policy) else ""


def _ratio_and_number(p: Answer, g: Answer, policy: Policy) -> str:
    """2:3 is 2/3, but 3:1 is not 3."""
    number = p if p.kind == "expr" else g
    if is_whole(number.node):
        return ""
    p = _quotient(*p.items) if p.kind == "ratio" else p
    g = _quotient(*g.items) if g.kind == "ratio" else g
    return same(p, g, policy) if p and g else ""


def _times(p: Answer, g: Answer, policy: Policy) -> str:
    """Times of day; 15:10 may be a ratio, and what agrees only as a ratio is neither equal nor unequal."""
    both_times = p.kind == g.kind
    if both_times and _is_same_time(p.tag, g.tag, policy):
        return "time"
    if not p.items or not g.items:
        return ""
    label = same(_as_ratio(p), _as_ratio(g), policy)
    if label and both_times:
        raise Unread("times or ratios")
    return label


def _is_same_time(p: Time, g: Time, policy: Policy) -> bool:
    if (p.hour, p.minute) != (g.hour, g.minute):
        return False
    if not p.half_is_given and not g.half_is_given:
        return p.hour_as_written == g.hour_as_written  # without "am" or "pm" 1:20 is not 13:20
    may_be_missing = policy.units == "drop" and "" in (p.half, g.half)
    return p.half == g.half or may_be_missing


def _as_ratio(answer: Answer) -> Answer:
    return replace(answer, kind="ratio") if answer.kind == "time" else answer


# ---------------------------------------------------------------- numbers and expressions


def _scalars(p: Answer, g: Answer, policy: Policy) -> str:
    """Two numbers or expressions under the conventions for units, percent signs, degrees and rounding."""
    units = {p.unit, g.unit}
    if "deg" in units and units & {"fahrenheit", "celsiu"}:
        units = {"deg"}
    if "%" in units and len(units) == 2:
        return _percent(p, g, policy) if "" in units else ""
    modulus = _MODULUS.fullmatch(p.unit) if len(units) == 1 else None
    if modulus and not symbols(("-", p.node, g.node)):
        return _congruent(p.node, g.node, int(modulus.group(1)))
    label = ""
    if len(units) == 1 or ("" in units and policy.units == "drop"):
        label = equal(p.node, g.node)
    if not label and units == {"deg", ""}:
        label = equal(*(degrees(one.node) if one.unit else one.node for one in (p, g)))
    if not label and policy.rounded_digits:
        label = _rounded(p, g, policy.rounded_digits)
    return label


def _percent(p: Answer, g: Answer, policy: Policy) -> str:
    """A percentage beside a bare number: as many hundredths, or as many without the sign."""
    if policy.percent == "sign":
        return equal(p.node, g.node)
    is_either = policy.percent == "either"
    if is_either and (g.unit or symbols(g.node) or abs(real(g.node)) > 1):
        label = equal(p.node, g.node)
        if label:
            return label
    return equal(*(("/", one.node, Fraction(100)) if one.unit else one.node for one in (p, g)))


def _congruent(p: Node, g: Node, modulus: int) -> str:
    quotient = ("/", ("-", p, g), Fraction(modulus))
    return "congruent" if equal(quotient, Fraction(round(real(quotient)))) else ""


def _rounded(p: Answer, g: Answer, n_digits: int) -> str:
    """A decimal of at least so many digits that is gold, rounded."""
    decimal = _DECIMAL.fullmatch(str(p.tag))
    if not decimal or symbols(g.node):
        return ""
    whole, places = decimal.groups()
    if len((whole + places).lstrip("0")) < n_digits:
        return ""
    difference = abs(real(("-", p.node, g.node)))
    return "rounded decimal" if difference * 2 * 10 ** len(places) <= 1 else ""


# ---------------------------------------------------------------- which kinds can be equal

_RULES = {  # of prediction and gold, in either order; an "eq" beside any other kind is `_named`
    _equations: "eq eq",
    _relations: "rel rel",
    _intervals: "interval interval, interval tuple, union union",
    _times: "time time, time ratio, time expr",
    _ratios: "ratio ratio",
    _ratio_and_number: "ratio expr",
    _matrices: "matrix matrix",
    _vectors: "matrix tuple",
    _assigned_list: "assign list",
    _tuples: "assign tuple, list tuple, tuple tuple",
    _sets: "set set",
    _lists: "list list, list set",
    _lone_member: "set expr, list expr, set tuple",
    _scalars: "expr expr",
    _tagged: "text text, base base, chain chain, assign assign",
}
_COMPARERS: dict[frozenset[str], Comparer] = {}
for _comparer, _pairs in _RULES.items():
    for _pair in _pairs.split(", "):
        _COMPARERS[frozenset(_pair.split())] = _comparer
