"""Decides, exactly where possible and always in bounded time, whether an extracted answer equals gold.

Guards, in order; the first that can decide does, and says so: identity after normalisation; exact integers and
rationals (never floats); structured types (lists, tuples, sets, intervals, matrices, bases, times, ratios, units);
values to 240 digits, at several points when there are variables. What they leave is for math-verify (`checker.py`).
`policy.py` states all choices on which reasonable people differ.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from fractions import Fraction
from functools import reduce
from itertools import product
from math import gcd

from wcse_lib.answers.answer import Answer, Time, as_interval, by_name, expression
from wcse_lib.answers.chemistry import is_chemical, read_chemical
from wcse_lib.answers.evaluation import restart
from wcse_lib.answers.expressions import parse
from wcse_lib.answers.nodes import Unread, is_whole, replaced, symbols
from wcse_lib.answers.notation import key, normalise, without_marks
from wcse_lib.answers.policy import Policy
from wcse_lib.answers.quantities import same_quantity
from wcse_lib.answers.reading import MAX_ANSWER, UNREADABLE, read
from wcse_lib.answers.values import proportional
from wcse_lib.answers.words import SCALE_LETTERS

ASK = "ask"  # the verdict of guards that cannot decide where math-verify may
Comparer = Callable[[Answer, Answer, Policy], str]
Decision = tuple[bool | None | str, str]  # (True, False, None for unverifiable or ASK; reason)

_CHOICE = re.compile(
    r"(?:(?i:option|choice|answer)\s+)?"
    r"(?:\(([a-j])\)|\(?([A-J])(?:\)?|[).:]\s+((?!and\b|or\b|[,;&+*/^=<>])(?:(?!\b[A-J]\b).)*)))"
)
_FUNCTION = re.compile(r"(\\?[A-Za-z]+)\(([a-z])\)")
_METRES = re.compile(r"(-?[\d.,]+) ?m ?\^ ?\{?([23])\}?")
_POINT = re.compile(r"[ABC]'? ?(\(.*\))")
_QUANTITY = re.compile(r"(-?[\d.,]+(?:[eE]-?\d+| ?\* ?10 ?\^ ?\{? ?-?\d+ ?\}?)?) ?([A-Za-zΩμ].*)")
_SPAN = re.compile(r"([\d.,]+)[:-]([\d.,]+) ?(.*)")
_SCALED = re.compile(  # 1.5M, $20k; a small m only after money
    r"((?:US|C|A)?[$€£¥]?-?\d[\d.,]*) ?(?<! )([KkMBT]|(?<=[$€£].)m|(?<=[$€£]..)m|(?<=[$€£]...)m)( [a-z]{2,}.*)?"
)
_CHOSEN = re.compile(r"([CA]) ?_ ?\{? ?(\d+) ?\}? ?\^ ?\{? ?(\d+) ?\}?")
_POWERLESS = re.compile(r"(?<![A-Za-z\\])([A-Za-z])(\d+)")  # x2
_BRACELESS = re.compile(r"_ ?(\d)(\d+)")  # x_12
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
        verdict = None if _may_mean(p_text, g, policy) else False
        return _unread(verdict, "prediction cannot be parsed", error, g)
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
    if other.kind in ("list", "set", "tuple") and not re.search(r",0\d", text):
        with suppress(Unread):
            yield read(text, is_number=False)
        point = _POINT.fullmatch(text)
        if point and other.kind == "tuple":
            yield read(point.group(1))
    elif is_chemical(other):
        yield from filter(None, [read_chemical(text)])
    elif other.kind == "text":
        yield from _as_product(text, answer)
    elif other.kind == "range":
        yield from _as_range(text)
    elif other.kind == "expr" and symbols(other.node):
        yield from _as_product(text, answer)
    elif other.kind == "expr":
        yield from _as_number(text, other, policy)


def _may_mean(text: str, gold: Answer, policy: Policy) -> bool:
    """Whether a text that lost braces or signs may be gold: `x_12`, and `x2` as 2x, x^2 or x_2."""
    texts = set()
    for index, power in product((r"_{\1\2}", r"_{\1}*\2"), (r"\1*\2", r"\1^{\2}", r"\1_{\2}")):
        texts.add(_POWERLESS.sub(power, _BRACELESS.sub(index, text)))
    for meant in texts - {text}:
        with suppress(*UNREADABLE):
            if same(read(meant), gold, policy):
                return True
    return False


def _as_range(text: str) -> Iterator[Answer]:
    """`5 to 10`, which is normalised as a ratio, as a range."""
    match = _SPAN.fullmatch(text)
    if match:
        low, high, unit = match.groups()
        yield read(f"{low}-{high}" + (f" “{unit}”" if unit and "“" not in unit else unit))


def _as_product(text: str, answer: Answer) -> Iterator[Answer]:
    """`xyz`, which may be a word, and `2 mg`, which may be a quantity, as products of letters."""
    if answer.kind == "text" and re.fullmatch("[a-z]{3}", text):
        yield expression(reduce(lambda a, b: ("*", a, b), text))
    if answer.kind == "expr" and answer.unit and "“" not in text:
        with suppress(Unread):
            yield expression(parse(text))


def _as_number(text: str, other: Answer, policy: Policy) -> Iterator[Answer]:
    """Readings of a text beside a number."""
    area = _METRES.fullmatch(text)
    if area:  # beside a number `5 m^2` is an area, beside `m` a term
        yield read(f"{area.group(1)} “m”^{area.group(2)}")
    quantity = _QUANTITY.fullmatch(text)
    if quantity and other.unit and "“" not in text:
        yield read(f"{quantity.group(1)} “{quantity.group(2)}”")
    scaled = _SCALED.fullmatch(text)
    if scaled:
        number, letter, noun = scaled.groups()
        yield read(f"{number} {SCALE_LETTERS[letter.upper()]}{noun or ''}")
    chosen = _CHOSEN.fullmatch(text)
    if chosen:
        name, n, k = chosen.groups()
        orders = rf"*{k}!" if name == "A" else ""
        yield read(rf"\binom{{{n}}}{{{k}}}{orders}")
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
    label = same(p.value, g.value, policy) if p.tag and p.tag == g.tag else ""
    if label:
        return label
    if p.node is not None and g.node is not None:
        return "eq" if proportional(p.node, g.node) else ""
    p_function, g_function = (_FUNCTION.fullmatch(one.tag or "") for one in (p, g))
    if not p_function or not g_function or p_function.group(1) != g_function.group(1):
        return ""
    # W(x) = x + 1 and W(n) = n + 1: the argument's name means nothing
    variable = {p_function.group(2): g_function.group(2)}
    return same(_renamed(p.value, variable), g.value, policy)


def _renamed(answer: Answer, names: dict[str, str]) -> Answer:
    """A number or expression with other variables."""
    if answer.kind != "expr":
        return answer
    return replace(answer, items=(replaced(answer.node, names),))


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
        return _assigned_in_order(p, g, policy)
    p_items, g_items = _with_names(p), _with_names(g)
    return "list" if all_in_any_order(p_items, g_items, policy) else ""


def _assigned_in_order(p: Answer, g: Answer, policy: Policy) -> str:
    """Values of several names beside values without: as written; by the alphabet alone they may be meant or not."""
    if all_in_order(p.items, g.items, policy):
        return "assign"
    p, g = (by_name(one) if one.kind == "assign" else one for one in (p, g))
    if all_in_order(p.items, g.items, policy):
        raise Unread("values of names in another order")
    return ""


def _assigned_number(p: Answer, g: Answer, policy: Policy) -> str:
    """x = y = 1 beside 1."""
    assigned, number = (p, g) if p.kind == "assign" else (g, p)
    values = assigned.items
    return "assign" if all_in_order(values, [number] * len(values), policy) else ""


def _assignments(p: Answer, g: Answer, policy: Policy) -> str:
    return _tagged(by_name(p), by_name(g), policy)


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


def _pieces(p: Answer, g: Answer, policy: Policy) -> str:
    """Pieces of a function, in any order, with their conditions."""
    if len(p.items) != len(g.items):
        return ""
    for row in p.items:
        if not any(all_in_order(row, other, policy) for other in g.items):
            return ""
    return "pieces"


def _dates(p: Answer, g: Answer, policy: Policy) -> str:
    """Dates; 03/05/2024 may be in March or in May."""
    if p.tag.days == g.tag.days:
        is_clear = len(p.tag.days) == 1
        return "date" if is_clear or p.tag.as_written == g.tag.as_written else ""
    if p.tag.days & g.tag.days:
        raise Unread("the order of day and month")
    return ""


def _ranges(p: Answer, g: Answer, policy: Policy) -> str:
    return "range" if all_in_order(p.items, g.items, policy) else ""


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
    """Times of day; 15:10 may be a ratio, and what agrees only as one that is not sure is neither equal nor unequal."""
    both_times = p.kind == g.kind
    if both_times and _is_same_time(p.tag, g.tag, policy):
        return "time"
    if not p.items or not g.items:
        return ""
    label = same(_as_ratio(p), _as_ratio(g), policy)
    if label and (both_times or not _is_sure_ratio(p, g)):
        raise Unread("times or ratios")
    return label


def _is_sure_ratio(p: Answer, g: Answer) -> bool:
    """Whether what may be a time is a ratio beside another answer: 3:10 beside 3/10, but not 10:30 beside 1/3."""
    time, other = (p, g) if p.kind == "time" else (g, p)
    if other.kind == "ratio":
        return True
    parts = [int(part.node) for part in time.items]
    is_as_written = list(map(int, re.findall(r"\d+", str(other.tag)))) == parts
    return is_as_written or gcd(*parts) == 1


def _is_same_time(p: Time, g: Time, policy: Policy) -> bool:
    if (p.hour, p.minute) != (g.hour, g.minute):
        return False
    if not p.half_is_given and not g.half_is_given:
        return p.hour_as_written == g.hour_as_written  # without "am" or "pm" 1:20 is not 13:20
    may_be_missing = policy.units == "drop" and "" in (p.half, g.half)
    return p.half == g.half or may_be_missing


def _as_ratio(answer: Answer) -> Answer:
    return replace(answer, kind="ratio") if answer.kind == "time" else answer


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
    _assigned_in_order: "assign tuple",
    _assigned_number: "assign expr",
    _assignments: "assign assign",
    _tuples: "list tuple, tuple tuple",
    _pieces: "pieces pieces",
    _dates: "date date",
    _ranges: "range range",
    _sets: "set set",
    _lists: "list list, list set",
    _lone_member: "set expr, list expr, set tuple",
    same_quantity: "expr expr",
    _tagged: "text text, base base, chain chain",
}
_COMPARERS: dict[frozenset[str], Comparer] = {}
for _comparer, _pairs in _RULES.items():
    for _pair in _pairs.split(", "):
        _COMPARERS[frozenset(_pair.split())] = _comparer
