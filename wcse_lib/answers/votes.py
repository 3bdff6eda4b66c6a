"""The class of equal answers that a text belongs to, so that votes of one meaning count together."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

from wcse_lib.answers.answer import Answer
from wcse_lib.answers.equal import decide
from wcse_lib.answers.evaluation import UNDEFINED, evaluator, restart
from wcse_lib.answers.nodes import Node, Unread, of_whole_numbers, replaced, symbols
from wcse_lib.answers.notation import PLAIN_NUMBER, key, normalise
from wcse_lib.answers.policy import DEFAULT, Policy
from wcse_lib.answers.reading import MAX_ANSWER, UNREADABLE, read
from wcse_lib.answers.values import points

SHOWN_DIGITS = 25  # of values, which are the same at all points in one class
MOST_COMPARED = 32  # classes of one problem; time grows with its square


def pooled(
    answers: Sequence[str],
    names: Sequence[str],
    n_votes: Sequence[int],
    policy: Policy = DEFAULT,
) -> list[int]:
    """For each of a problem's different answers the place of the answer that stands for its class.

    Answers of one name are alike. Then classes are joined as the checker's guards would, were one of them gold, as
    right answers are pooled: first the one that gathers most votes. Beyond MOST_COMPARED the rarest are told apart by
    their names alone. `n_votes`: how often each answer was given.

    >>> answers = ["0.5", "5 m", "50%", "500 cm"]
    >>> pooled(answers, names=answers, n_votes=[1, 1, 1, 2])
    [0, 1, 0, 1]
    """
    by_name = defaultdict(list)
    for place, name in enumerate(names):
        by_name[name].append(place)
    votes = {}
    for places in by_name.values():
        votes[places[0]] = sum(n_votes[place] for place in places)

    stands_for = {place: place for place in votes}
    compared = sorted(votes, key=votes.get, reverse=True)[:MOST_COMPARED]
    equals = {place: {place} for place in compared}
    for one, other in combinations(compared, 2):
        if _are_equal(answers[one], answers[other], policy):
            equals[one].add(other)
            equals[other].add(one)
    left = {place for place in compared if len(equals[place]) > 1}
    while left:
        gathered = {place: sum(votes[other] for other in equals[place] & left) for place in left}
        chosen = min(left, key=lambda place: (-gathered[place], place))
        stands_for |= dict.fromkeys(equals[chosen] & left, chosen)
        left -= equals[chosen]

    found = [0] * len(answers)
    for places in by_name.values():
        for place in places:
            found[place] = stands_for[places[0]]
    return found


def _are_equal(answer: str, other: str, policy: Policy) -> bool:
    """Whether two answers of different names are equal; two plain numbers are not, but for rounding."""
    are_plain = PLAIN_NUMBER.fullmatch(answer) and PLAIN_NUMBER.fullmatch(other)
    if are_plain and policy.rounded_digits is None:
        return False
    return decide(other, answer, policy)[0] is True


def class_name(text: str) -> str:
    r"""One name for all spellings of an answer; a unit stays, since only its problem tells whether it may be dropped.

    >>> class_name(r"x = 5\text{ cm}"), class_name("5 centimeters"), class_name("2, 1") == class_name("1 and 2")
    ('5 cm', '5 cm', True)
    """
    if PLAIN_NUMBER.fullmatch(text):
        return str(Fraction(text))
    if len(text) > MAX_ANSWER:
        return text
    plain = normalise(text)
    restart()
    try:
        return _name(read(plain))
    except UNREADABLE:
        return key(plain)


def _name(answer: Answer) -> str:
    unit = f" {answer.unit}" if answer.unit else ""
    if answer.kind == "expr":
        return _value(answer.node) + unit
    if answer.kind == "eq":
        return (
            f"0 = {_up_to_a_factor(answer.node)}" if answer.value is None else _name(answer.value)
        )
    if answer.kind == "text":
        return str(answer.tag)
    if answer.kind == "rel":
        return f"0 {answer.tag} {_up_to_a_factor(answer.node, has_sign=True)}"
    names = list(map(_member, answer.items))
    if answer.kind in ("set", "union"):
        names = list(set(names))
    if answer.kind in ("list", "set", "union"):
        return f"{{{', '.join(sorted(names))}}}"
    if answer.kind in ("tuple", "assign"):
        return f"({', '.join(names)})"
    return f"{answer.kind} {answer.tag} {', '.join(names)}{unit}"


def _member(item: object) -> str:
    """The name of an item: an answer, a row of a matrix, or a node."""
    if isinstance(item, Answer):
        return _name(item)
    if item and isinstance(item, tuple) and isinstance(item[0], Answer):
        return f"({', '.join(map(_name, item))})"
    return _up_to_a_factor(item)


def _value(node: Node) -> str:
    """A rational as it is; of other expressions their variables and their values at some points."""
    if isinstance(node, Fraction) or node in ("∞", "-∞"):
        return str(node)
    machine, names = evaluator(), symbols(node)
    shown = sorted(names)
    for at in points(names, of_whole_numbers(node)):
        try:
            value = machine.value(node, at)
        except UNDEFINED:
            shown.append("undefined")
            continue
        if isinstance(value, Fraction) and not names:
            return str(value)
        shown.append(machine.mp.nstr(machine.lift(value), SHOWN_DIGITS))
    return "≈" + " ".join(shown)


def _up_to_a_factor(node: Node, has_sign: bool = False) -> str:
    """One side of an equation, or of an inequality with its sign, as a multiple of its own value at a point."""
    if not isinstance(node, tuple):
        return str(node)
    size = replaced(node, points(symbols(node))[0])
    if has_sign:
        size = ("abs", size)
    try:
        return _value(("/", node, size))
    except (*UNDEFINED, Unread):
        return str(node)
