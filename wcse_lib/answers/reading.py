"""Reads a normalised answer into its tree. A reader takes a text and returns an answer, or None: the next one's turn."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from wcse_lib.answers import scalars
from wcse_lib.answers.answer import Answer, assignment, expression, spread
from wcse_lib.answers.expressions import (
    MAX_DEPTH,
    Unread,
    has_minus,
    is_variable,
    negative,
    parse,
    symbols,
)
from wcse_lib.answers.intervals import (
    REAL_LINE,
    as_interval,
    in_order,
    joined,
    line_without,
    of_chain,
    without_variable,
)
from wcse_lib.answers.notation import AND, OR, PLAIN_NUMBER, ROW, key, without_marks
from wcse_lib.answers.values import equal
from wcse_lib.answers.words import FUNCTIONS, MIXED_UNITS

MAX_ANSWER = 2_000  # characters of an answer; longer ones are never read
# What `read` and the comparison of what it read may raise on strange texts.
UNREADABLE = (Unread, RecursionError, ArithmeticError, ValueError, LookupError, TypeError)
_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_AND_WORD = re.compile(r"“\s*and\s*”|(?<![A-Za-z\\])and(?![A-Za-z])")
_OR_WORD = re.compile(r"“\s*or\s*”|(?<![A-Za-z\\])or(?![A-Za-z])")
_BRACKETS = r"[()\[\]{}]"
_LIST = f"[,;{AND}{OR}]"
_RELATION = r"\\(?:le|ge|ne|approx)(?![a-z])|[=<>]"
_UNEQUAL = re.compile(r"[a-z] ?\\ne ")
_MEMBER = re.compile(r"(?!.{0,30}\\not)([A-Za-z\\_\d, ()]{1,30}?)\\in(?![a-z])(.*)")
_SET_BUILDER = re.compile(r"\\\{\s*[a-z]\s*(?:\\in \\reals\s*)?[|:](.*)\\\}")
_ALL_BUT = re.compile(r"\\reals\s*(?:\\setminus|-)\s*\\\{(.*)\\\}")
_ALL_REALS = re.compile(r"“?all real(?: number)?s”?", re.I)
_MATRIX = re.compile(
    r"\\begin\{([pbB]?matrix|smallmatrix|array)\}\s*(?:\{[lcr| ]*\})?(.*)\\end\{\1\}"
)
_BRACKETED = re.compile(r"(\\?[({]|\[)(.*?)(\\?[)}]|\])")

# What may stand left of "=" as the name of an answer.
_ARGUMENT = r"(?:\d+|[A-Za-z]|[A-Z]+|\\[a-z]+) ?"
_ARGUMENTS = rf"{_ARGUMENT}(?:(?:[,|]|\\c[au]p) ?{_ARGUMENT})*"
_LETTERS = r"(?:[A-Za-z]|\\[a-z]+ ?|[A-Z]{2,}|“[^”]*”|[A-Z][a-z]{2,})(?:_(?:\w|\{\w+\}))?'?"
_NAME = (
    r"\|[A-Z]{2}\||\[[A-Z]{3,}\]"  # |AB|, [ABC]
    r"|[fghFG] ?\^ ?\{-1\} ?\([^()=]*\)"  # inverses
    rf"|\\(?:{'|'.join(FUNCTIONS)}) ?\([^()=]*\)"
    # f(x+1), not x(x+1); P(A), d(A,B)
    rf"|{_LETTERS}(?:(?<=([fghpqFGHPQ'])) ?\((?![^()=]*\1)[^()=]*\)| ?\({_ARGUMENTS}\))?"
)
_IS_NAME = re.compile(_NAME)
_IS_NAME_OR_NAMES = re.compile(rf"{_NAME}|\([^()]*,[^()]*\)")


def split(text: str, separators: str = _LIST, seen: list[str] | None = None) -> list[str]:
    """Parts between separators (a regex) outside brackets; `seen` collects these. Raises Unread when unbalanced."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"{separators}|{_BRACKETS}", text):
        token = match.group()
        if token in "([{":
            depth += 1
        elif token in ")]}":
            depth -= 1
        elif depth == 0:
            parts.append(text[start : match.start()].strip())
            start = match.end()
            if seen is not None:
                seen.append(token)
        if not 0 <= depth <= MAX_DEPTH:
            raise Unread("unbalanced or too many brackets")
    if depth:
        raise Unread("unbalanced brackets")
    return [*parts, text[start:].strip()]


# ---------------------------------------------------------------- lists


@lru_cache(2048)
def read(text: str, joined_digits: bool = True) -> Answer:
    """Reads a normalised answer; a list splits at commas, semicolons, "and" and "or" outside brackets. Raises Unread.

    With `joined_digits`, `1,234` is a number, otherwise a list.

    >>> [part.node for part in read("1, 2").items]
    [Fraction(1, 1), Fraction(2, 1)]
    """
    if PLAIN_NUMBER.fullmatch(text):
        return expression(Fraction(text), text)
    if joined_digits:
        text = _THOUSANDS.sub(_join_digits, text)
    text = _OR_WORD.sub(OR, _AND_WORD.sub(AND, text))
    separators: list[str] = []
    parts = [part for part in split(text, seen=separators) if part]
    if not parts:
        raise Unread("empty")
    if len(parts) == 1:
        return read_part(parts[0])
    unequal = _UNEQUAL.match(parts[0])
    if unequal and OR not in separators:
        values = [part.removeprefix(unequal.group()) for part in parts]
        if not any(re.search(_RELATION, value) for value in values):
            return line_without(in_order(list(map(scalars.read_scalar, values))))
    return _several(spread(map(read_part, parts)), separators)


def _join_digits(match: re.Match) -> str:
    """Digit groups joined, except inside brackets whose only commas they are (`(1,234)` is a pair)."""
    before = match.string[: match.start()]
    n_open = len(re.findall(r"[(\[]|\\\{", before)) - len(re.findall(r"[)\]]|\\\}", before))
    if n_open > 0 and not re.search(r",\s|;|,0\d", match.string):
        return match.group()
    return match.group().replace(",", "")


def _several(items: tuple[Answer, ...], separators: list[str]) -> Answer:
    """What several answers are together."""
    kinds = [item.kind for item in items]
    first = items[0]
    # n = 2, 3, 4: the first name is every value's
    if first.kind == "eq" and first.tag and not {"eq", "interval"} & set(kinds[1:]):
        items = (first, *(Answer("eq", (None, item), first.tag) for item in items[1:]))
        kinds = ["eq"] * len(items)
    if set(kinds) == {"eq"} and all(item.tag for item in items):
        names = [item.tag for item in items]
        letters = {name.partition("_")[0] for name in names}
        if len(set(names)) == len(names) and len(letters) > 1:
            return assignment(names, tuple(item.value for item in items))
    if set(kinds) == {"interval"}:
        return joined(items, AND in separators, OR in separators)
    if set(kinds) == {"eq", "interval"} and OR in separators:
        return _points_and_intervals(items)
    units = {item.unit for item in items}
    if len(units) == len(items) and any(units <= together for together in MIXED_UNITS):
        raise Unread("one quantity in several units")
    return Answer("list", items)


def _points_and_intervals(items: tuple[Answer, ...]) -> Answer:
    """x = 1 or x > 2, if they are of one variable."""
    variables = {item.tag if item.kind == "eq" else item.unit for item in items}
    if len(variables) > 1:
        return Answer("list", items)
    pieces = [Answer("set", item.items[1:]) if item.kind == "eq" else item for item in items]
    return Answer("union", tuple(pieces))


# ---------------------------------------------------------------- between two commas


def read_part(text: str) -> Answer:
    """Reads what stands between two commas."""
    for reader in _READERS:
        answer = reader(text)
        if answer is not None:
            return answer
    return read_plain(text)


def read_plain(text: str) -> Answer:
    """Reads what has no brackets and relations."""
    words = without_marks(text).strip()
    for reader in _PLAIN_READERS:
        answer = reader(text, words)
        if answer is not None:
            return answer
    parts = split(text, ":")
    if len(parts) > 1:
        return Answer("ratio", tuple(map(read_part, parts)))
    return scalars.read_scalar(text)


def _membership(text: str) -> Answer | None:
    match = _MEMBER.match(text)
    if not match:
        return None
    inside = read(match.group(2).strip())
    is_set = inside.kind in ("interval", "union", "set")
    return replace(inside, unit=match.group(1).strip()) if is_set else inside


def _set_builder(text: str) -> Answer | None:
    match = _SET_BUILDER.fullmatch(text)
    return without_variable(read(match.group(1).strip())) if match else None


def _relation(text: str) -> Answer | None:
    relations: list[str] = []
    sides = split(text, _RELATION, relations)
    return _related(sides, relations) if relations else None


def _union(text: str) -> Answer | None:
    parts = split(text, r"\\cup(?![a-z])")
    if len(parts) == 1:
        return None
    return Answer("union", tuple(as_interval(read_part(part)) for part in parts))


def _reals(text: str) -> Answer | None:
    if text == "\\reals" or _ALL_REALS.fullmatch(text):
        return REAL_LINE
    match = _ALL_BUT.fullmatch(text)
    if not match:
        return None
    return line_without(in_order(list(map(scalars.read_scalar, split(match.group(1))))))


def _matrix(text: str) -> Answer | None:
    match = _MATRIX.fullmatch(text)
    if not match:
        return None
    rows = [row for row in match.group(2).split(ROW) if row.strip()]
    return Answer("matrix", tuple(tuple(map(read_part, split(row, "&"))) for row in rows))


def _bracketed(text: str) -> Answer | None:
    match = _BRACKETED.fullmatch(text)
    if not match:
        return None
    opening, inside, closing = match.groups()
    try:
        parts = split(inside)
    except Unread:
        return None  # (a)(b)
    items = tuple(read_part(part) for part in parts if part)
    return _in_brackets(opening, items, closing)


def _in_brackets(opening: str, items: tuple[Answer, ...], closing: str) -> Answer:
    """Tuples, intervals with their ends, sets, nested lists, and mere parentheses."""
    pair = opening + closing
    if pair == "\\{\\}":
        return Answer("set", spread(items))
    if pair == "{}" and len(items) > 1:
        return Answer("list", spread(items))
    if len(items) == 1 and pair in ("()", "[]", "{}"):
        return items[0]
    kinds = [item.kind for item in items]
    if pair == "[]" and len(items) > 1 and set(kinds) <= {"interval", "tuple"}:
        return Answer("matrix", tuple(item.items for item in items))  # [[1,2],[3,4]]
    if pair == "()" and kinds.count("list") == 1:
        return _tuples(items, kinds.index("list"))
    if len(items) > 1 and (pair == "()" or (pair == "[]" and len(items) > 2)):
        return Answer("tuple", items)
    if len(items) == 2 and pair in ("[]", "[)", "(]"):
        return Answer("interval", items, (opening == "(", closing == ")"))
    raise Unread("empty or mixed brackets")


def _tuples(items: tuple[Answer, ...], place: int) -> Answer:
    """(\\pm 1, 2): a tuple for each value of the list that stands at a place."""
    tuples = []
    for value in items[place].items:
        tuples.append(Answer("tuple", (*items[:place], value, *items[place + 1 :])))
    return Answer("list", tuple(tuples))


def _empty_or_dots(text: str) -> Answer | None:
    if text == "\\emptyset":
        return Answer("set")
    return Answer("text", tag="...") if set(text) == {"."} else None


_READERS = (
    _membership,
    _set_builder,
    _relation,
    _union,
    _reals,
    _matrix,
    _bracketed,
    _empty_or_dots,
)
_PLAIN_READERS = (
    scalars.read_time,
    scalars.read_based,
    scalars.read_number_word,
    scalars.read_letter,
    scalars.read_words,
    scalars.read_dated,
)

# ---------------------------------------------------------------- equations and inequalities


def _related(sides: list[str], relations: list[str]) -> Answer:
    if "\\approx" in relations:
        return _rounded(sides, relations.index("\\approx"))
    if set(relations) != {"="}:
        return _inequality(sides, relations)
    left, right = sides[0], sides[-1]
    if len(sides) == 2 and _IS_NAME.fullmatch(right) and not _IS_NAME.fullmatch(left):
        left, right = right, left  # 3 = x
    value = read(right) if _IS_NAME_OR_NAMES.fullmatch(left) else None
    if value and left[0] == "(":
        names = [name.strip() for name in left[1:-1].split(",")]
        if value.kind == "tuple" and len(names) == len(value.items) == len(set(names)):
            return assignment(names, value.items)
    elif value:
        return _named(left, value)
    return _equation(sides)


def _rounded(sides: list[str], place: int) -> Answer:
    """What follows an approximation sign is a rounding of what stands before it, and is left out."""
    if place == 0 and not _IS_NAME.fullmatch(sides[0]):
        return read(sides[0] or sides[1])
    n_relations = max(place, 1)
    return _related(sides[: n_relations + 1], ["="] * n_relations)


def _named(name: str, value: Answer) -> Answer:
    """A value with its name; it is an equation too where the name is a variable and the value a bare expression."""
    is_variable = re.fullmatch(r"[A-Za-z]", name) and name not in "ei"
    is_bare = value.kind == "expr" and not value.unit
    difference = ("-", name, value.node) if is_variable and is_bare else None
    return Answer("eq", (difference, value), name.replace(" ", ""))


def _equation(sides: list[str]) -> Answer:
    nodes = [parse(side) for side in sides]
    if any(map(symbols, nodes)):
        return Answer("eq", (("-", nodes[0], nodes[-1]), None))
    if all(equal(node, nodes[-1]) for node in nodes):
        return expression(nodes[-1])  # 2 + 3 = 5
    raise Unread("false equation")


def _inequality(sides: list[str], relations: list[str]) -> Answer:
    """An interval when a side is a lone variable, else a relation of two sides, else a chain to be compared as text."""
    if set(relations) <= {">", "\\ge"}:
        sides = sides[::-1]
        relations = ["<" if sign == ">" else "\\le" for sign in reversed(relations)]
    chain = _chain(sides, relations)
    try:
        ends = [read_plain(side) for side in sides]
    except Unread:
        return chain
    if len(ends) > 3 or any(end.kind != "expr" for end in ends):
        return chain
    if len(ends) == 2 and any(has_minus(end.node) for end in ends):
        ends = [expression(negative(end.node)) for end in reversed(ends)]  # -x > -1
    if relations == ["\\ne"] and is_variable(ends[0].node):
        return line_without(ends[1:])
    if not set(relations) <= {"<", "\\le"}:
        return chain
    found = of_chain(ends, relations)
    if found:
        return found
    if len(ends) > 2:
        return chain
    return Answer("rel", (("-", ends[1].node, ends[0].node),), relations[0])


def _chain(sides: list[str], relations: list[str]) -> Answer:
    """Inequalities as text."""
    words = [key(sides[0])]
    for relation, side in zip(relations, sides[1:]):
        words += [relation, key(side)]
    return Answer("chain", tag=" ".join(words))
