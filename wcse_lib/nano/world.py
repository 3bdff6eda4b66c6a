"""Nano problems: seeded arithmetic word problems with many valid solution chains, and their exact soundness checker.

A problem is a set of people who each have a number of things. Some numbers are given, the others follow from them
(more than, fewer than, times, together). The question asks for one person's number or for a total of several.
A solution is a list of equations, one a line, and a final answer:

    Tom has Ann +7=12+7=19
    Eva has 2*Tom =2*19=38
    total is Eva +Tom =38+19=57
    #### 57

Everything the checker needs stands in the question's text, so it judges any text about any nano problem.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass
from functools import lru_cache
from graphlib import TopologicalSorter

NAMES = (
    "Ann Ben Cleo Dan Eva Finn Gus Hana Ivan Jade Kai Lena Max Nora Omar Pia Quin Rosa Sam Tom Uma Vic Wes Zoe"
).split()
ITEMS = "pens cups books coins shells keys stamps cards nuts beads maps rings".split()
MAX_VALUE = 199
LEVELS = (1, 2, 3, 4)

_TEXTS = {  # operation of a fact: its sentence
    "": "{name} has {number} {item}.",
    "+": "{name} has {number} {item} more than {left} has.",
    "-": "{name} has {number} {item} fewer than {left} has.",
    "*": "{name} has {number} times as many {item} as {left} has.",
    "&": "{name} has as many {item} as {left} and {right} have together.",
}
_GROUPS = {key: rf"(?P<{key}>\w+)" for key in ("name", "item", "left", "right")}
_GROUPS["number"] = r"(?P<number>\d{1,6})"
_FACTS = {
    op: re.compile(text.replace(".", r"\.").format(**_GROUPS), re.ASCII)
    for op, text in _TEXTS.items()
}
_ASK = re.compile(
    r"How many (?P<item>\w+) (?:does (?P<one>\w+) have|do (?P<many>\w+(?: and \w+)+) have in total)\?",
    re.ASCII,
)
_TERM = r"(?:\d{1,6}|[A-Za-z]+ )"
_STEP = re.compile(
    rf"(?P<head>\w+ has|total is) (?P<x>{_TERM})(?P<op>[-+*])(?P<y>{_TERM})="
    r"(?P<a>\d{1,6})(?P<op2>[-+*])(?P<b>\d{1,6})=(?P<c>\d{1,6})",
    re.ASCII,
)
_RESTATED = re.compile(r"(?P<name>\w+) has (?P<c>\d{1,6})", re.ASCII)
_FINAL = re.compile(r"#### (?P<answer>\d{1,6})", re.ASCII)
_APPLY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}
Terms = tuple[str, str, str]  # left, operator, right, where left and right are names or numbers


@dataclass(frozen=True)
class Fact:
    """One person's number: `given` alone, or `op` applied to a reference person and a number or a second person."""

    name: str
    op: str  # "" (given), "+", "-", "*" with a number, "&" for two people together
    number: int = 0
    refs: tuple[str, ...] = ()

    def text(self, item: str) -> str:
        refs = dict(zip(("left", "right"), self.refs))
        return _TEXTS[self.op].format(name=self.name, number=self.number, item=item, **refs)

    def value(self, known: dict[str, int]) -> int:
        if self.op == "":
            return self.number
        if self.op == "&":
            return known[self.refs[0]] + known[self.refs[1]]
        return _APPLY[self.op](known[self.refs[0]], self.number)

    def terms(self) -> Terms:
        """The step that works this fact out."""
        if self.op == "&":
            return self.refs[0], "+", self.refs[1]
        return self.refs[0], self.op, str(self.number)


@dataclass(frozen=True)
class Puzzle:
    """Facts (in the text's order), the people asked for, and the thing counted."""

    facts: tuple[Fact, ...]
    asked: tuple[str, ...]
    item: str

    @property
    def question(self) -> str:
        text = " ".join(fact.text(self.item) for fact in self.facts)
        if len(self.asked) == 1:
            return f"{text} How many {self.item} does {self.asked[0]} have?"
        return f"{text} How many {self.item} do {' and '.join(self.asked)} have in total?"

    @property
    def by_name(self) -> dict[str, Fact]:
        return {fact.name: fact for fact in self.facts}

    @property
    def given(self) -> dict[str, int]:
        """The numbers that the text states."""
        return {fact.name: fact.number for fact in self.facts if not fact.op}

    @property
    def values(self) -> dict[str, int]:
        """Everybody's number. Raises ValueError where facts refer to each other in a circle, KeyError to nobody."""
        known: dict[str, int] = {}
        by_name = self.by_name
        for name in TopologicalSorter({fact.name: fact.refs for fact in self.facts}).static_order():
            known[name] = by_name[name].value(known)
        return known

    @property
    def answer(self) -> int:
        values = self.values
        return sum(values[name] for name in self.asked)

    @property
    def needed(self) -> set[str]:
        """Names of the people whose number must be worked out (given ones left out)."""
        by_name = self.by_name
        todo = list(self.asked)
        seen = set()
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo.extend(by_name[name].refs)
        return seen - self.given.keys()

    @property
    def level(self) -> int:
        """Number of steps that the shortest sound solution has."""
        return len(self.needed) + len(self.asked) - 1


@lru_cache(maxsize=1024)
def parse(question: str) -> Puzzle | None:
    """Read a nano question back into its facts; `None` for a text that is no nano problem."""
    facts, asks = [], []
    for sentence in re.split(r"(?<=[.?])", question):
        sentence = sentence.strip()
        ask, fact = _ASK.fullmatch(sentence), _fact(sentence)
        if ask:
            asks.append(ask)
        elif fact:
            facts.append(fact)
        elif sentence:
            return None
    if len(asks) != 1:
        return None
    one, many = asks[0]["one"], asks[0]["many"]
    asked = (one,) if one else tuple(many.split(" and "))
    puzzle = Puzzle(tuple(facts), asked, asks[0]["item"])
    names = puzzle.by_name.keys()
    if len(names) < len(facts) or len(set(asked)) < len(asked) or not names >= set(asked):
        return None
    try:
        _ = puzzle.values
    except (ValueError, KeyError):
        return None
    return puzzle


def _fact(sentence: str) -> Fact | None:
    for op, pattern in _FACTS.items():
        match = pattern.fullmatch(sentence)
        if match:
            groups = match.groupdict()
            refs = [groups[side] for side in ("left", "right") if side in groups]
            return Fact(groups["name"], op, int(groups.get("number", 0)), tuple(refs))
    return None


def make_puzzle(rng: random.Random, level: int) -> Puzzle:
    """Draw a puzzle that needs exactly `level` steps, with 0 to 2 distractors and its facts in shuffled order."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
    while True:
        puzzle = _draw_puzzle(rng, level)
        if puzzle and puzzle.level == level and puzzle.answer <= MAX_VALUE:
            return puzzle


def _draw_puzzle(rng: random.Random, level: int) -> Puzzle | None:
    """A puzzle of about this level; None where the draw allows none."""
    n_asked = rng.choice([1, 1, 2, 2, 3])
    n_derived = level - (n_asked - 1)
    if n_derived < 0:
        return None
    n_given = rng.randint(1, 3)
    if n_given + n_derived < n_asked:
        return None
    n_distractors = rng.choice([0, 0, 1, 1, 2])
    names = rng.sample(NAMES, n_given + n_derived + n_distractors)
    facts: list[Fact] = []
    values: dict[str, int] = {}
    for name in names:
        fact = _draw_fact(rng, name, values, given=len(facts) < n_given)
        facts.append(fact)
        values[name] = fact.value(values)
    if min(values.values()) < 2 or max(values.values()) > MAX_VALUE:
        return None
    asked = tuple(rng.sample(names, n_asked))
    rng.shuffle(facts)
    return Puzzle(tuple(facts), asked, rng.choice(ITEMS))


def _draw_fact(rng: random.Random, name: str, values: dict[str, int], given: bool) -> Fact:
    """A fact about the next person, given or derived from the people before."""
    if given:
        return Fact(name, "", rng.randint(2, 60))
    op = rng.choice("++--**&&" if len(values) > 1 else "++--**")
    if op == "&":
        return Fact(name, "&", 0, tuple(rng.sample(sorted(values), 2)))
    ref = rng.choice(sorted(values))
    largest = {"+": 40, "*": 4, "-": max(2, min(40, values[ref] - 2))}
    return Fact(name, op, rng.randint(2, largest[op]), (ref,))


def is_study_question(question: str) -> bool:
    """One question in eight, chosen by its hash, belongs to studies; the models' pretraining never sees those."""
    return hashlib.sha256(question.encode()).digest()[0] % 8 == 0


def make_problems(
    n: int, seed: int | str, levels: tuple[int, ...] = LEVELS, skip: frozenset[str] = frozenset()
) -> list[dict]:
    """Draw `n` distinct study problems, levels in equal shares.

    Args: seed: any int or text; `skip`: questions to leave out (the other splits' questions).
    Returns: rows with `problem_id`, `question`, `answer` (text), `level` and `reference` (one sound reference
    solution).

    >>> [problem["level"] for problem in make_problems(3, seed=0)]
    ['1', '2', '3']
    """
    rng = random.Random(f"nano-problems:{seed}")
    rows: list[dict] = []
    seen = set(skip)
    while len(rows) < n:
        puzzle = make_puzzle(rng, levels[len(rows) % len(levels)])
        question = puzzle.question
        if question in seen or not is_study_question(question):
            continue
        seen.add(question)
        digest = hashlib.sha256(question.encode()).hexdigest()[:12]
        row = {
            "problem_id": f"nano-{digest}",
            "question": question,
            "answer": str(puzzle.answer),
            "level": str(puzzle.level),
            "reference": solve(puzzle, rng),
        }
        rows.append(row)
    return rows


def solve(puzzle: Puzzle, rng: random.Random, slips: int = 0) -> str:
    """Write one random solution: any topological order, either order of a commutative step, any order of the sum.

    `slips` > 0 plants that many wrong results, each carried on through the later steps.
    """
    by_name = puzzle.by_name
    known = puzzle.given
    todo = puzzle.needed
    n_steps = puzzle.level
    slip_at = set(rng.sample(range(n_steps), min(slips, n_steps)))
    lines: list[str] = []
    while todo:
        ready = [name for name in todo if known.keys() >= set(by_name[name].refs)]
        name = rng.choice(sorted(ready))
        todo.remove(name)
        slip = len(lines) in slip_at
        line, known[name] = _step(rng, f"{name} has", by_name[name].terms(), known, slip)
        lines.append(line)
    # The first person's number, or a running total over all who are asked for
    result, *others = rng.sample(puzzle.asked, len(puzzle.asked))
    for name in others:
        slip = len(lines) in slip_at
        line, known["total"] = _step(rng, "total is", (result, "+", name), known, slip)
        lines.append(line)
        result = "total"
    return "\n".join([*lines, f"#### {known[result]}"])


def _number(term: str, known: dict[str, int]) -> int | None:
    """What a term stands for; None for a name whose number is not known."""
    return int(term) if term.isdigit() else known.get(term)


def _step(
    rng: random.Random, head: str, terms: Terms, known: dict[str, int], slip: bool
) -> tuple[str, int]:
    """A step's line, its terms in random order where the operation allows it, and its result."""
    left, op, right = terms
    if op != "-" and rng.random() < 0.5:
        left, right = right, left
    a, b = _number(left, known), _number(right, known)
    result = _slip(rng, a, op, b) if slip else _APPLY[op](a, b)
    x, y = (term if term.isdigit() else f"{term} " for term in (left, right))
    return f"{head} {x}{op}{y}={a}{op}{b}={result}", result


def _slip(rng: random.Random, a: int, op: str, b: int) -> int:
    """A wrong result of the kind that people make: off by a little, a digit off, or the wrong operation."""
    right = _APPLY[op](a, b)
    options = [right + difference for difference in (-10, -2, -1, 1, 2, 10)]
    options += [_APPLY[other](a, b) for other in "+-*" if other != op]
    return rng.choice([value for value in options if 0 < value <= MAX_VALUE and value != right])


@dataclass(frozen=True)
class Soundness:
    """Whether every step of a solution follows, and if not, the first reason why it does not."""

    sound: bool
    reason: str


def check(question: str, text: str) -> Soundness:
    """Decide exactly whether a solution's reasoning is sound, whatever its final answer.

    Sound means: every line is a step that follows from the question's facts and from earlier lines alone; its
    arithmetic is right; the final answer is the last line and is the number asked for, itself derived or given.
    A correct answer with `sound=False` is a false positive. Raises ValueError when `question` is no nano problem.

    >>> question = "Ann has 12 pens. Tom has 7 pens more than Ann has. How many pens does Tom have?"
    >>> check(question, "Tom has Ann +7=12+7=20\\n#### 20").reason
    'wrong arithmetic: Tom has Ann +7=12+7=20'
    """
    puzzle = parse(question)
    if puzzle is None:
        raise ValueError(f"not a nano problem: {question[:80]!r}")
    known = puzzle.given
    summed: frozenset[str] = frozenset()  # the people whose numbers the running total holds
    *lines, last = text.strip().split("\n")
    for line in lines:
        step, restated = _STEP.fullmatch(line), _RESTATED.fullmatch(line)
        if restated and known.get(restated["name"]) != int(restated["c"]):
            return Soundness(False, f"restates a number that is not known: {line}")
        if not step and not restated:
            return Soundness(False, f"not a step: {line[:60]}")
        if step:
            head = step["head"].split()[0]
            terms = step["x"].strip(), step["op"], step["y"].strip()
            if step["head"] == "total is":
                people = _added(terms, summed, puzzle.asked)
                follows, summed = bool(people), people
            else:
                follows = _states(puzzle.by_name.get(head), terms)
            fault = _fault(known, terms, step) if follows else "does not follow from the question"
            if fault:
                return Soundness(False, f"{fault}: {line}")
            known[head] = int(step["c"])
    final = _FINAL.fullmatch(last)
    if not final:
        return Soundness(False, "no final answer in the last line")
    wanted = puzzle.asked[0]
    if len(puzzle.asked) > 1:
        wanted = "total" if summed == set(puzzle.asked) else None
    if known.get(wanted) != int(final["answer"]):
        return Soundness(False, "the final answer does not follow from the steps")
    return Soundness(True, "")


def _added(terms: Terms, summed: frozenset[str], asked: tuple[str, ...]) -> frozenset[str]:
    """The people whose numbers this total holds; none where it does not add people who are asked for, each once."""
    left, right = (summed if terms[i] == "total" else frozenset([terms[i]]) for i in (0, 2))
    people = left | right
    if terms[1] != "+" or not left or not right or left & right or not people <= set(asked):
        return frozenset()
    return people


def _states(fact: Fact | None, terms: Terms) -> bool:
    """Whether a step states its person's fact: the same terms, in either order where the operation allows it."""
    if fact is None or not fact.op:
        return False
    left, op, right = fact.terms()
    return terms == (left, op, right) or (op != "-" and terms == (right, op, left))


def _fault(known: dict[str, int], terms: Terms, step: re.Match) -> str:
    """What is wrong with a step's numbers, given what is known; empty when nothing is."""
    left, op, right = terms
    a, b = _number(left, known), _number(right, known)
    if a is None or b is None:
        return "uses a number that is not known yet"
    put_in = int(step["a"]), int(step["b"])
    same = put_in == (a, b) or (op != "-" and put_in == (b, a))
    if not same or step["op2"] != op:
        return "puts in another number than the known one"
    return "" if _APPLY[op](a, b) == int(step["c"]) else "wrong arithmetic"
