"""Reads a normalised answer into its tree: lists, sets, tuples, intervals, matrices, equations and inequalities.

A reader is a pattern and a function of its match in a text: it gives an answer, or None for the next one. Another
notation is another reader.
"""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from functools import lru_cache

from wcse_lib.answers.absolute import interval_of_absolute
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
from wcse_lib.answers.chemistry import read_chemical
from wcse_lib.answers.evaluation import real
from wcse_lib.answers.expressions import MAX_DEPTH, parse
from wcse_lib.answers.labels import read_label
from wcse_lib.answers.nodes import (
    Unread,
    determinant,
    has_minus,
    is_variable,
    negative,
    symbols,
)
from wcse_lib.answers.notation import AND, OR, PLAIN_NUMBER, ROW, key, without_marks
from wcse_lib.answers.numerals import joined_digits
from wcse_lib.answers.phrases import read_phrase
from wcse_lib.answers.scalars import read_scalar, read_words
from wcse_lib.answers.values import equal
from wcse_lib.answers.words import CONSTANTS, FUNCTIONS

MAX_ANSWER = 2_000  # characters of an answer; longer ones are never read
MAX_DETERMINANT = 4  # rows
# What `read` and the comparison of what it read may raise on strange texts.
UNREADABLE = (Unread, RecursionError, ArithmeticError, ValueError, LookupError, TypeError)

_WORD_OF_LIST = re.compile(r"“\s*(and|or)\s*”|(?<![A-Za-z\\])(and|or)(?![A-Za-z])")
_SEPARATOR = f"[,;{AND}{OR}{ROW}]"
_RELATION = r"\\(?:le|ge|ne|approx)(?![a-z])|[=<>]"
_CUP, _CAP = r"\\cup(?![a-z])", r"\\cap(?![a-z])"
_UNEQUAL = re.compile(r"[a-z] ?\\ne ")

# What may stand left of "=" as the name of an answer.
_ARGUMENT = r"(?:\d+|[A-Za-z]|[A-Z]+|\\[a-z]+) ?"
_ARGUMENTS = rf"{_ARGUMENT}(?:(?:[,|]|\\c[au]p) ?{_ARGUMENT})*"
_INDEX = r"_(?:\w|“[^”]*”|\\[a-z]+|\{[^{}]*\})"
_LETTERS = rf"(?:[A-Za-z]|p[HK]|\\[a-z]+ ?|[A-Z]{{2,}}|“[^”]*”|[A-Z][a-z]{{2,}})(?:{_INDEX})?'?"
_POINTS = rf"[A-Z]+(?:{_INDEX})?"
_NAME_PATTERN = (
    r"\|[A-Z]{2}\||\[[A-Z]{3,}\]|m ?[A-Z]+"  # |AB|, [ABC], m ABC for the size of an angle
    rf"|[a-z]!|{_LETTERS}(?: ?: ?{_LETTERS})+|\\frac ?\{{{_POINTS}\}} ?\{{{_POINTS}\}}"  # n!, AB:BC
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
    for match in re.finditer(rf"\\(?:begin|end)\b|{separators}|[()\[\]{{}}]", text):
        token = match.group()
        if token in ("(", "[", "{", "\\begin"):
            depth += 1
        elif token in (")", "]", "}", "\\end"):
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
def read(text: str, is_number: bool = True) -> Answer:
    """Reads a normalised answer; a list splits at commas, semicolons, "and" and "or" outside brackets. Raises Unread.

    What is no formula is read first: dates, ranges, numbers in words. With `is_number`, `1,234` and `2 h, 30 min` are
    one number, otherwise a list.

    >>> [part.node for part in read("1, 2").items]
    [Fraction(1, 1), Fraction(2, 1)]
    """
    if PLAIN_NUMBER.fullmatch(text):
        return expression(Fraction(text), text)
    answer = read_label(text)
    if answer is None and is_number:
        answer = read_phrase(text)
    if answer is not None:
        return answer
    try:
        return _read_formula(text, is_number)
    except Unread:
        answer = read_chemical(text)
        if answer is None:
            raise
        return answer


def _read_formula(text: str, is_number: bool = True) -> Answer:
    if is_number:
        text = joined_digits(text)
    text = _WORD_OF_LIST.sub(lambda match: AND if "and" in match.group() else OR, text)
    solutions = _solutions(text)
    if solutions:
        return solutions
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
    return _together(spread(map(_read_member, parts)), separators)


def _solutions(text: str) -> Answer | None:
    """Several solutions of several names, as p=5, q=2; p=7, q=2."""
    if "=" not in text or not re.search(f"[;{OR}{ROW}]", text):
        return None
    groups = [group for group in split(text, f"[;{OR}{ROW}]") if group]
    members = [[part for part in split(group) if part] for group in groups]
    if len(groups) < 2 or min(map(len, members)) < 2:
        return None
    answers = tuple(_together(spread(map(_read_part, parts)), []) for parts in members)
    return Answer("list", answers) if all(one.kind == "assign" for one in answers) else None


def _read_member(text: str) -> Answer:
    """A member of a list without brackets, which may be a range or score."""
    return read_label(text) or _read_part(text)


def _together(items: tuple[Answer, ...], separators: list[str]) -> Answer:
    """What several answers are as one. Points and equations given twice count once; numbers may be a sequence."""
    if all(item.kind in ("tuple", "eq", "assign") for item in items):
        items = tuple(dict.fromkeys(items))
        if len(items) == 1:
            return items[0]
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
    inside = _read_formula(match.group(2).strip())
    is_set = inside.kind in ("interval", "union", "set")
    return replace(inside, unit=match.group(1).strip()) if is_set else inside


def _set_builder(match: re.Match) -> Answer:
    return without_variable(_read_formula(match.group(1).strip()))


def _relation(match: re.Match) -> Answer | None:
    relations: list[str] = []
    sides = split(match.string, _RELATION, relations)
    return _related(sides, relations) if relations else None


def _union(match: re.Match) -> Answer | None:
    parts = split(match.string, _CUP)
    if len(parts) == 1:
        return None
    members = [as_interval(_read_part(part)) for part in parts]
    if all(member.kind == "set" for member in members):
        return Answer("set", tuple(item for member in members for item in member.items))
    return Answer("union", tuple(members))


def _intersection(match: re.Match) -> Answer | None:
    """What sets of numbers have in common."""
    parts = split(match.string, _CAP)
    if len(parts) == 1:
        return None
    sets = [_read_part(part) for part in parts]
    if any(one.kind != "set" for one in sets):
        raise Unread("an intersection of other than finite sets", ask=True)
    common = sets[0].items
    for other in sets[1:]:
        common = tuple(one for one in common if _is_member(one, other.items))
    return Answer("set", common)


def _is_member(one: Answer, others: tuple[Answer, ...]) -> bool:
    for other in others:
        if one == other or (one.kind == other.kind == "expr" and equal(one.node, other.node)):
            return True
    return False


def _line_without(match: re.Match) -> Answer:
    return _all_but(split(match.group(1)))


def _all_but(texts: list[str]) -> Answer:
    """The real line without some numbers."""
    return _line_but(spread(map(read_scalar, texts)))


def _line_but(points: tuple[Answer, ...]) -> Answer:
    if len(points) > 1:
        points = tuple(sorted(points, key=lambda point: real(point.node)))
    return line_without(points)


def _rows(text: str) -> list[list[str]]:
    """The cells of the rows of a table."""
    return [split(row, "&") for row in split(text, ROW) if row.strip()]


def _matrix(match: re.Match) -> Answer:
    is_determinant = match.group(1) or match.group(2) == "vmatrix"
    rows = [tuple(map(_read_part, cells)) for cells in _rows(match.group(3))]
    if match.group(4):
        rows = list(zip(*rows))
    if not is_determinant:
        return Answer("matrix", tuple(rows))
    is_square = all(len(row) == len(rows) <= MAX_DETERMINANT for row in rows)
    if not is_square or any(cell.kind != "expr" for row in rows for cell in row):
        raise Unread("a determinant of other than a small square of numbers", ask=True)
    return expression(determinant([[cell.node for cell in row] for row in rows]))


def _transposed(match: re.Match) -> Answer:
    """A row in parentheses as a column."""
    members = _read_part(match.group(1)).items
    return Answer("matrix", tuple((member,) for member in members))


def _point(match: re.Match) -> Answer:
    """A point with its name: A(1,2), not the distributions N and U."""
    return _read_part(match.group(1))


def _cases(match: re.Match) -> Answer:
    """Rows of a brace: a system of equations, or the pieces of a function with their conditions."""
    rows = [[cell.strip(" ,.") for cell in cells] for cells in _rows(match.group(1))]
    cells = [cell for row in rows for cell in row if cell]
    is_system = all(re.search(_RELATION, cell) for cell in cells)
    if is_system or max(map(len, rows)) == 1:
        return _read_formula(AND.join(cells))
    if any(len(row) != 2 for row in rows):
        raise Unread("pieces without their conditions")
    return Answer("pieces", tuple((_read_part(value), _condition(text)) for value, text in rows))


def _condition(text: str) -> Answer:
    plain = re.sub(r"^(?:“? ?(?:if|for|when|where)\b ?”?)+|^“(?=[^”]*$)", "", text).strip()
    if without_marks(plain).lower() in ("otherwise", "else", "elsewhere"):
        return Answer("text", tag="otherwise")
    return _read_formula(plain)


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
    (re.compile(_CAP), _intersection),
    (re.compile(r"\A\\reals\s*(?:\\setminus|-)\s*\\\{(.*)\\\}\Z"), _line_without),
    (re.compile(r"(?i)\A(?:\\reals|“?all real(?: number)?s”?)\Z"), lambda match: REAL_LINE),
    (re.compile(r"\A\\begin\{cases\}(.*)\\end\{cases\}\Z"), _cases),
    (
        re.compile(
            r"\A(\\det ?)?\(? ?\\begin\{([pbBv]?matrix|smallmatrix|array)\} ?(?:\{[lcr| ]*\})?(.*)"
            r"\\end\{\2\} ?\)?( ?\^ ?(?:\{ ?)?(?:“?[Tt]”?|\\top|\\intercal)(?: ?\})?)?\Z"
        ),
        _matrix,
    ),
    (re.compile(r"\A(\([^()]*,[^()]*\)) ?\^ ?\{? ?(?:“?[Tt]”?|\\top) ?\}?\Z"), _transposed),
    (re.compile(r"\A[ABD-MO-TV-Z]'? ?(\([^()]*,[^()]*\))\Z"), _point),
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
    if len(sides) > 2 and all(re.fullmatch("[A-Za-z]", side) for side in sides[:-1]):
        value = _read_formula(right)  # x = y = 1
        return assignment(sides[:-1], [value] * (len(sides) - 1))
    if _NAME.fullmatch(left):
        return _named(left, _read_formula(right))
    if _NAMES.fullmatch(left):  # (a, b) = (1, 2)
        value = _read_formula(right)
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
    if place == 0 and (sides[0] in CONSTANTS or not _NAME.fullmatch(sides[0])):
        return _read_formula(sides[0] or sides[1])
    n_relations = max(place, 1)
    return _related(sides[: n_relations + 1], ["="] * n_relations)


def _named(name: str, value: Answer) -> Answer:
    """A value with its name; it is an equation too where the name is a variable and the value a bare expression."""
    is_letter = re.fullmatch(rf"(?:[A-Za-z]|[A-Z]{{2}})(?:{_INDEX})?", name) and name not in "ei"
    difference = None
    if is_letter and value.kind == "expr" and not value.unit:
        node = value.node
        if len(name) == 1 and re.fullmatch("[A-Z]{2}", str(node)):
            node = ("*", node[0], node[1])  # U = IR, not AB = BC
        difference = ("-", parse(name), node)
    return Answer("eq", (difference, value), _plain_name(name))


def _plain_name(name: str) -> str:
    """One spelling of a name: without spaces, and braces round its index."""
    return re.sub(r"_\{([^{}]*)\}", r"_\1", without_marks(name).replace(" ", ""))


def _inequality(sides: list[str], relations: list[str]) -> Answer:
    """An interval when a side is a lone variable, else a relation of two sides, else a chain to be compared as text."""
    if set(relations) <= {">", "\\ge"}:
        sides = sides[::-1]
        relations = ["<" if sign == ">" else "\\le" for sign in reversed(relations)]
    try:
        ends = [_read_plain(side) for side in sides]
    except Unread:
        ends = []
    if relations == ["\\ne"] and ends and is_variable(ends[0].items[0]):
        return _line_but(spread(ends[1:]))
    if not ends or any(end.kind != "expr" for end in ends):
        words = [key(sides[0])]
        for relation, side in zip(relations, sides[1:]):
            words += [relation, key(side)]
        return Answer("chain", tag=" ".join(words))
    chain = Answer("chain", tuple(ends), tuple(relations))
    if len(ends) > 3:
        return chain
    around = interval_of_absolute(ends, relations)
    if around:
        return around
    if len(ends) == 2 and any(has_minus(end.node) for end in ends):
        ends = [expression(negative(end.node)) for end in reversed(ends)]  # -x > -1
    if not set(relations) <= {"<", "\\le"}:
        return chain
    interval = interval_of_chain(ends, relations)
    if interval or len(ends) > 2:
        return interval or chain
    return Answer("rel", (("-", ends[1].node, ends[0].node),), relations[0])
