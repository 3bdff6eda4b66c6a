"""Reads a normalised answer into its tree: lists, sets, tuples, intervals, matrices, equations and inequalities.

A reader is a pattern and a function of its match in a text: it gives an answer, or None for the next one. Another
notation is another reader.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from wcse_lib.answers.answer import (
    REAL_LINE,
    Answer,
    as_interval,
    assignment,
    expression,
    interval_of_chain,
    joined,
    line_without,
    spread,
    without_variable,
)
from wcse_lib.answers.expressions import (
    MAX_DEPTH,
    Unread,
    has_minus,
    is_variable,
    negative,
    parse,
    symbols,
)
from wcse_lib.answers.notation import AND, OR, PLAIN_NUMBER, ROW, key
from wcse_lib.answers.scalars import read_scalar, read_words
from wcse_lib.answers.values import equal, real
from wcse_lib.answers.words import FUNCTIONS, MIXED_UNITS

MAX_ANSWER = 2_000  # characters of an answer; longer ones are never read
# What `read` and the comparison of what it read may raise on strange texts.
UNREADABLE = (Unread, RecursionError, ArithmeticError, ValueError, LookupError, TypeError)

_THOUSANDS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)")
_WORD_OF_LIST = re.compile(r"“\s*(and|or)\s*”|(?<![A-Za-z\\])(and|or)(?![A-Za-z])")
_SEPARATOR = f"[,;{AND}{OR}]"
_RELATION = r"\\(?:le|ge|ne|approx)(?![a-z])|[=<>]"
_CUP = r"\\cup(?![a-z])"
_UNEQUAL = re.compile(r"[a-z] ?\\ne ")

# What may stand left of "=" as the name of an answer.
_ARGUMENT = r"(?:\d+|[A-Za-z]|[A-Z]+|\\[a-z]+) ?"
_ARGUMENTS = rf"{_ARGUMENT}(?:(?:[,|]|\\c[au]p) ?{_ARGUMENT})*"
_LETTERS = r"(?:[A-Za-z]|\\[a-z]+ ?|[A-Z]{2,}|“[^”]*”|[A-Z][a-z]{2,})(?:_(?:\w|\{\w+\}))?'?"
_NAME_PATTERN = (
    r"\|[A-Z]{2}\||\[[A-Z]{3,}\]"  # |AB|, [ABC]
    r"|[fghFG] ?\^ ?\{-1\} ?\([^()=]*\)"  # inverses
    rf"|\\(?:{'|'.join(FUNCTIONS)}) ?\([^()=]*\)"
    # f(x+1), not x(x+1); P(A), d(A,B)
    rf"|{_LETTERS}(?:(?<=([fghpqFGHPQ'])) ?\((?![^()=]*\1)[^()=]*\)| ?\({_ARGUMENTS}\))?"
)
_NAME = re.compile(_NAME_PATTERN)
_NAMES = re.compile(r"\([^()]*,[^()]*\)")


def split(text: str, separators: str = _SEPARATOR, seen: list[str] | None = None) -> list[str]:
    """Parts between separators (a regex) outside brackets; `seen` collects these. Raises Unread when unbalanced."""
    parts, depth, start = [], 0, 0
    for match in re.finditer(rf"{separators}|[()\[\]{{}}]", text):
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
    text = _WORD_OF_LIST.sub(lambda match: AND if "and" in match.group() else OR, text)
    separators: list[str] = []
    parts = [part for part in split(text, seen=separators) if part]
    if not parts:
        raise Unread("empty")
    if len(parts) == 1:
        return _read_part(parts[0])
    unequal = _UNEQUAL.match(parts[0])
    if unequal and OR not in separators:
        values = [part.removeprefix(unequal.group()) for part in parts]
        if not any(re.search(_RELATION, value) for value in values):
            return _all_but(values)
    return _together(spread(map(_read_part, parts)), separators)


def _join_digits(match: re.Match) -> str:
    """Digit groups joined, except inside brackets whose only commas they are (`(1,234)` is a pair)."""
    before = match.string[: match.start()]
    n_open = len(re.findall(r"[(\[]|\\\{", before)) - len(re.findall(r"[)\]]|\\\}", before))
    is_pair = n_open > 0 and not re.search(r",\s|;|,0\d", match.string)
    return match.group() if is_pair else match.group().replace(",", "")


def _together(items: tuple[Answer, ...], separators: list[str]) -> Answer:
    """What several answers are as one."""
    first, kinds = items[0], {item.kind for item in items}
    # n = 2, 3, 4: the first name is every value's
    if first.kind == "eq" and first.tag and not {"eq", "interval"} & {i.kind for i in items[1:]}:
        return Answer("list", (first, *(Answer("eq", (None, i), first.tag) for i in items[1:])))
    if kinds == {"eq"} and all(item.tag for item in items):
        names = [item.tag for item in items]
        letters = {name.partition("_")[0] for name in names}
        if len(set(names)) == len(names) and len(letters) > 1:
            return assignment(names, [item.value for item in items])
    if kinds == {"interval"}:
        return joined(items, AND in separators, OR in separators)
    if kinds == {"eq", "interval"} and OR in separators:  # x = 1 or x > 2
        variables = {item.tag if item.kind == "eq" else item.unit for item in items}
        pieces = [Answer("set", i.items[1:]) if i.kind == "eq" else i for i in items]
        return Answer("union", tuple(pieces)) if len(variables) == 1 else Answer("list", items)
    units = {item.unit for item in items}
    if len(units) == len(items) and any(units <= mixed for mixed in MIXED_UNITS):
        raise Unread("one quantity in several units")
    return Answer("list", items)


# ---------------------------------------------------------------- readers of what stands between two commas


def _read_part(text: str) -> Answer:
    for pattern, reader in _READERS:
        match = pattern.search(text)
        answer = reader(match) if match else None
        if answer is not None:
            return answer
    return _read_plain(text)


def _read_plain(text: str) -> Answer:
    """Reads what has no brackets and relations."""
    answer = read_words(text)
    if answer is not None:
        return answer
    parts = split(text, ":")
    return Answer("ratio", tuple(map(_read_part, parts))) if len(parts) > 1 else read_scalar(text)


def _member(match: re.Match) -> Answer:
    inside = read(match.group(2).strip())
    is_set = inside.kind in ("interval", "union", "set")
    return replace(inside, unit=match.group(1).strip()) if is_set else inside


def _set_builder(match: re.Match) -> Answer:
    return without_variable(read(match.group(1).strip()))


def _relation(match: re.Match) -> Answer | None:
    relations: list[str] = []
    sides = split(match.string, _RELATION, relations)
    return _related(sides, relations) if relations else None


def _union(match: re.Match) -> Answer | None:
    parts = split(match.string, _CUP)
    if len(parts) == 1:
        return None
    return Answer("union", tuple(as_interval(_read_part(part)) for part in parts))


def _line_without(match: re.Match) -> Answer:
    return _all_but(split(match.group(1)))


def _all_but(texts: list[str]) -> Answer:
    """The real line without some numbers."""
    return line_without(sorted(map(read_scalar, texts), key=lambda point: real(point.node)))


def _matrix(match: re.Match) -> Answer:
    rows = [row for row in match.group(2).split(ROW) if row.strip()]
    return Answer("matrix", tuple(tuple(map(_read_part, split(row, "&"))) for row in rows))


def _bracketed(match: re.Match) -> Answer | None:
    """Tuples, intervals with their ends, sets, nested lists, and mere parentheses."""
    opening, inside, closing = match.groups()
    try:
        parts = split(inside)
    except Unread:
        return None  # (a)(b)
    items = tuple(_read_part(part) for part in parts if part)
    pair, kinds = opening + closing, [item.kind for item in items]
    if pair == "\\{\\}":
        return Answer("set", spread(items))
    if pair == "{}" and len(items) > 1:
        return Answer("list", spread(items))
    if len(items) == 1 and pair in ("()", "[]", "{}"):
        return items[0]
    if pair == "[]" and len(items) > 1 and set(kinds) <= {"interval", "tuple"}:
        return Answer("matrix", tuple(item.items for item in items))  # [[1,2],[3,4]]
    if pair == "()" and kinds.count("list") == 1:  # (\pm 1, 2)
        place = kinds.index("list")
        before, values, after = items[:place], items[place].items, items[place + 1 :]
        tuples = [Answer("tuple", (*before, value, *after)) for value in values]
        return Answer("list", tuple(tuples))
    if len(items) > 1 and (pair == "()" or (pair == "[]" and len(items) > 2)):
        return Answer("tuple", items)
    if len(items) == 2 and pair in ("[]", "[)", "(]"):
        return Answer("interval", items, (opening == "(", closing == ")"))
    raise Unread("empty or mixed brackets")


_READERS = (
    (re.compile(r"\A(?!.{0,30}\\not)([A-Za-z\\_\d, ()]{1,30}?)\\in(?![a-z])(.*)"), _member),
    (re.compile(r"\A\\\{\s*[a-z]\s*(?:\\in \\reals\s*)?[|:](.*)\\\}\Z"), _set_builder),
    (re.compile(_RELATION), _relation),
    (re.compile(_CUP), _union),
    (re.compile(r"\A\\reals\s*(?:\\setminus|-)\s*\\\{(.*)\\\}\Z"), _line_without),
    (re.compile(r"(?i)\A(?:\\reals|“?all real(?: number)?s”?)\Z"), lambda match: REAL_LINE),
    (
        re.compile(
            r"\A\\begin\{([pbB]?matrix|smallmatrix|array)\}\s*(?:\{[lcr| ]*\})?(.*)\\end\{\1\}\Z"
        ),
        _matrix,
    ),
    (re.compile(r"\A(\\?[({]|\[)(.*?)(\\?[)}]|\])\Z"), _bracketed),
    (re.compile(r"\A\\emptyset\Z"), lambda match: Answer("set")),
    (re.compile(r"\A\.+\Z"), lambda match: Answer("text", tag="...")),
)

# ---------------------------------------------------------------- equations and inequalities


def _related(sides: list[str], relations: list[str]) -> Answer:
    if "\\approx" in relations:
        return _rounded(sides, relations.index("\\approx"))
    if set(relations) != {"="}:
        return _inequality(sides, relations)
    left, right = sides[0], sides[-1]
    if len(sides) == 2 and _NAME.fullmatch(right) and not _NAME.fullmatch(left):
        left, right = right, left  # 3 = x
    if _NAME.fullmatch(left):
        return _named(left, read(right))
    if _NAMES.fullmatch(left):  # (a, b) = (1, 2)
        value = read(right)
        names = [name.strip() for name in left[1:-1].split(",")]
        if value.kind == "tuple" and len(names) == len(value.items) == len(set(names)):
            return assignment(names, value.items)
    nodes = [parse(side) for side in sides]
    if any(map(symbols, nodes)):
        return Answer("eq", (("-", nodes[0], nodes[-1]), None))
    if all(equal(node, nodes[-1]) for node in nodes):
        return expression(nodes[-1])  # 2 + 3 = 5
    raise Unread("false equation")


def _rounded(sides: list[str], place: int) -> Answer:
    """What follows an approximation sign is a rounding of what stands before it, and is left out."""
    if place == 0 and not _NAME.fullmatch(sides[0]):
        return read(sides[0] or sides[1])
    n_relations = max(place, 1)
    return _related(sides[: n_relations + 1], ["="] * n_relations)


def _named(name: str, value: Answer) -> Answer:
    """A value with its name; it is an equation too where the name is a variable and the value a bare expression."""
    is_letter = re.fullmatch(r"[A-Za-z]", name) and name not in "ei"
    is_equation = is_letter and value.kind == "expr" and not value.unit
    difference = ("-", name, value.node) if is_equation else None
    return Answer("eq", (difference, value), name.replace(" ", ""))


def _inequality(sides: list[str], relations: list[str]) -> Answer:
    """An interval when a side is a lone variable, else a relation of two sides, else a chain to be compared as text."""
    if set(relations) <= {">", "\\ge"}:
        sides = sides[::-1]
        relations = ["<" if sign == ">" else "\\le" for sign in reversed(relations)]
    words = [key(sides[0])]
    for relation, side in zip(relations, sides[1:]):
        words += [relation, key(side)]
    chain = Answer("chain", tag=" ".join(words))
    try:
        ends = [_read_plain(side) for side in sides]
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
    interval = interval_of_chain(ends, relations)
    if interval or len(ends) > 2:
        return interval or chain
    return Answer("rel", (("-", ends[1].node, ends[0].node),), relations[0])
