"""Nano problems: seeded arithmetic word problems with many valid solution chains, and their exact soundness checker.

A problem is a set of people who each have a number of things. Some numbers are given, the others follow from them
(more than, fewer than, times, together). The question asks for one person's number or for a total of several.
A solution is a list of equations, one a line, and a final answer:

    Tom has 12+7=19
    Eva has 19*2=38
    total is 19+38=57
    #### 57

Everything the checker needs stands in the question's text, so it judges any text about any nano problem.
"""

from __future__ import annotations

import hashlib
import random
import re
from dataclasses import dataclass

NAMES = "Ann Ben Cleo Dan Eva Finn Gus Hana Ivan Jade Kai Lena Max Nora Omar Pia Quin Rosa Sam Tom Uma Vic Wes Zoe".split()
ITEMS = "pens cups books coins shells keys stamps cards nuts beads maps rings".split()
MAX_VALUE = 199
LEVELS = (1, 2, 3, 4, 5)

_FACT = re.compile(
    r"(?P<name>\w+) has (?:(?P<given>\d+) (?P<i0>\w+)"
    r"|(?P<diff>\d+) (?P<i1>\w+) (?P<sign>more|fewer) than (?P<ref>\w+) has"
    r"|(?P<factor>\d+) times as many (?P<i2>\w+) as (?P<base>\w+) has"
    r"|as many (?P<i3>\w+) as (?P<left>\w+) and (?P<right>\w+) have together)\."
)
_ASK = re.compile(r"How many (?P<item>\w+) (?:does (?P<one>\w+) have|do (?P<many>\w+(?: and \w+)+) have in total)\?")
_STEP = re.compile(r"(?P<name>\w+) has (?P<a>\d+)(?P<op>[-+*])(?P<b>\d+)=(?P<c>\d+)")
_SUM = re.compile(r"total is (?P<a>\d+)\+(?P<b>\d+)=(?P<c>\d+)")
_RESTATED = re.compile(r"(?P<name>\w+) has (?P<c>\d+)")
_FINAL = re.compile(r"#### (?P<answer>\d+)")
_APPLY = {"+": lambda a, b: a + b, "-": lambda a, b: a - b, "*": lambda a, b: a * b}


@dataclass(frozen=True)
class Fact:
    """One person's number: `given` alone, or `op` applied to a reference person and a number or a second person."""

    name: str
    op: str  # "" (given), "+", "-", "*" with a number, "&" for two people together
    number: int = 0
    refs: tuple[str, ...] = ()

    def text(self, item: str) -> str:
        if self.op == "":
            return f"{self.name} has {self.number} {item}."
        if self.op == "&":
            return f"{self.name} has as many {item} as {self.refs[0]} and {self.refs[1]} have together."
        if self.op == "*":
            return f"{self.name} has {self.number} times as many {item} as {self.refs[0]} has."
        return f"{self.name} has {self.number} {item} {'more' if self.op == '+' else 'fewer'} than {self.refs[0]} has."

    def value(self, known: dict[str, int]) -> int:
        if self.op == "":
            return self.number
        if self.op == "&":
            return known[self.refs[0]] + known[self.refs[1]]
        return _APPLY[self.op](known[self.refs[0]], self.number)

    def equation(self, known: dict[str, int]) -> tuple[int, str, int]:
        """Operands and operator of this fact's step, in the text's order."""
        if self.op == "&":
            return known[self.refs[0]], "+", known[self.refs[1]]
        return known[self.refs[0]], self.op, self.number


@dataclass(frozen=True)
class Puzzle:
    """Facts (in the text's order), the people asked for, and the thing counted."""

    facts: tuple[Fact, ...]
    asked: tuple[str, ...]
    item: str

    @property
    def question(self) -> str:
        text = " ".join(f.text(self.item) for f in self.facts)
        if len(self.asked) == 1:
            return f"{text} How many {self.item} does {self.asked[0]} have?"
        return f"{text} How many {self.item} do {' and '.join(self.asked)} have in total?"

    @property
    def values(self) -> dict[str, int]:
        known: dict[str, int] = {}
        while len(known) < len(self.facts):
            ready = [f for f in self.facts if f.name not in known and all(r in known for r in f.refs)]
            if not ready:
                raise ValueError("the facts refer to each other in a circle or to nobody")
            known.update({f.name: f.value(known) for f in ready})
        return known

    @property
    def answer(self) -> int:
        values = self.values
        return sum(values[name] for name in self.asked)

    @property
    def needed(self) -> set[str]:
        """Names of the people whose number must be worked out (given ones left out)."""
        by_name = {f.name: f for f in self.facts}
        todo, seen = list(self.asked), set()
        while todo:
            name = todo.pop()
            if name not in seen:
                seen.add(name)
                todo.extend(by_name[name].refs)
        return {name for name in seen if by_name[name].op}

    @property
    def level(self) -> int:
        """Number of steps that the shortest sound solution has."""
        return len(self.needed) + len(self.asked) - 1


def parse(question: str) -> Puzzle | None:
    """Read a nano question back into its facts; `None` for a text that is no nano problem."""
    facts, asks = list(_FACT.finditer(question)), list(_ASK.finditer(question))
    if not facts or len(asks) != 1:
        return None
    if re.sub(r"\s", "", _ASK.sub("", _FACT.sub("", question))):
        return None
    ask = asks[0]
    out = []
    for m in facts:
        if m["given"]:
            out.append(Fact(m["name"], "", int(m["given"])))
        elif m["diff"]:
            out.append(Fact(m["name"], "+" if m["sign"] == "more" else "-", int(m["diff"]), (m["ref"],)))
        elif m["factor"]:
            out.append(Fact(m["name"], "*", int(m["factor"]), (m["base"],)))
        else:
            out.append(Fact(m["name"], "&", 0, (m["left"], m["right"])))
    asked = (ask["one"],) if ask["one"] else tuple(ask["many"].split(" and "))
    puzzle = Puzzle(tuple(out), asked, ask["item"])
    names = [f.name for f in out]
    if len(set(names)) < len(names) or len(set(asked)) < len(asked) or not set(asked) <= set(names):
        return None
    try:
        _ = puzzle.values
    except ValueError:
        return None
    return puzzle


def make_puzzle(rng: random.Random, level: int) -> Puzzle:
    """Draw a puzzle that needs exactly `level` steps, with 0 to 2 distractors and its facts in shuffled order."""
    if level not in LEVELS:
        raise ValueError(f"level must be one of {LEVELS}, got {level!r}")
    while True:
        n_asked = rng.choice([1, 1, 2, 2, 3])
        n_derived = level - (n_asked - 1)
        if n_derived < 0:
            continue
        n_given = rng.randint(1, 3)
        if n_given + n_derived < n_asked:
            continue
        names = rng.sample(NAMES, n_given + n_derived + rng.choice([0, 0, 1, 1, 2]))
        facts: list[Fact] = []
        values: dict[str, int] = {}
        for i, name in enumerate(names):
            fact = _draw_fact(rng, name, values, given=i < n_given)
            facts.append(fact)
            values[name] = fact.value(values)
        if not all(2 <= v <= MAX_VALUE for v in values.values()):
            continue
        asked = tuple(rng.sample(names, n_asked))
        rng.shuffle(facts)
        puzzle = Puzzle(tuple(facts), asked, rng.choice(ITEMS))
        if puzzle.level == level and puzzle.answer <= MAX_VALUE:
            return puzzle


def _draw_fact(rng: random.Random, name: str, values: dict[str, int], given: bool) -> Fact:
    op = "" if given else rng.choice("++--**&&" if len(values) > 1 else "++--**")
    if op == "":
        return Fact(name, "", rng.randint(2, 60))
    if op == "&":
        return Fact(name, "&", 0, tuple(rng.sample(sorted(values), 2)))
    ref = rng.choice(sorted(values))
    if op == "*":
        return Fact(name, "*", rng.randint(2, 4), (ref,))
    return Fact(name, op, rng.randint(2, max(2, min(40, values[ref] - 2)) if op == "-" else 40), (ref,))


def is_study_question(question: str) -> bool:
    """One question in eight, chosen by its hash, belongs to studies; the models' pretraining never sees those."""
    return hashlib.sha256(question.encode()).digest()[0] % 8 == 0


def make_problems(n: int, seed: int | str, levels: tuple[int, ...] = LEVELS, skip: frozenset[str] = frozenset()) -> list[dict]:
    """Draw `n` distinct study problems, levels in equal shares.

    Args: seed: any int or text; `skip`: questions to leave out (the other splits' questions).
    Returns: rows with `problem_id`, `question`, `answer` (text), `level` and `solution` (one sound reference solution).
    """
    rng = random.Random(f"nano-problems:{seed}")
    rows, seen = [], set(skip)
    while len(rows) < n:
        puzzle = make_puzzle(rng, levels[len(rows) % len(levels)])
        question = puzzle.question
        if question in seen or not is_study_question(question):
            continue
        seen.add(question)
        digest = hashlib.sha256(question.encode()).hexdigest()[:12]
        rows.append(
            {
                "problem_id": f"nano-{digest}",
                "question": question,
                "answer": str(puzzle.answer),
                "level": str(puzzle.level),
                "solution": solve(puzzle, rng),
            }
        )
    return rows


def solve(puzzle: Puzzle, rng: random.Random, slips: int = 0) -> str:
    """Write one random solution: any topological order, either order of a commutative step, any order of the sum.

    `slips` > 0 plants that many wrong results, each carried on through the later steps.
    """
    by_name = {f.name: f for f in puzzle.facts}
    known = {f.name: f.number for f in puzzle.facts if not f.op}
    todo = set(puzzle.needed)
    n_steps = len(todo) + len(puzzle.asked) - 1
    slip_at = set(rng.sample(range(n_steps), min(slips, n_steps)))
    lines: list[str] = []

    def write(head: str, a: int, op: str, b: int) -> int:
        if op != "-" and rng.random() < 0.5:
            a, b = b, a
        c = _APPLY[op](a, b)
        if len(lines) in slip_at:
            c = _slip(rng, a, op, b, c)
        lines.append(f"{head} {a}{op}{b}={c}")
        return c

    while todo:
        name = rng.choice(sorted(n for n in todo if all(r in known for r in by_name[n].refs)))
        todo.remove(name)
        known[name] = write(f"{name} has", *by_name[name].equation(known))
    result = known[puzzle.asked[0]]
    if len(puzzle.asked) > 1:
        order = rng.sample(puzzle.asked, len(puzzle.asked))
        result = known[order[0]]
        for name in order[1:]:
            result = write("total is", result, "+", known[name])
    return "\n".join([*lines, f"#### {result}"])


def _slip(rng: random.Random, a: int, op: str, b: int, c: int) -> int:
    """A wrong result of the kind that people make: off by a little, a digit off, or the wrong operation."""
    options = [c + d for d in (-10, -2, -1, 1, 2, 10)] + [_APPLY[o](a, b) for o in "+-*" if o != op]
    return rng.choice([x for x in options if 0 < x <= MAX_VALUE and x != c])


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
    """
    puzzle = parse(question)
    if puzzle is None:
        raise ValueError(f"not a nano problem: {question[:80]!r}")
    by_name = {f.name: f for f in puzzle.facts}
    known = {f.name: f.number for f in puzzle.facts if not f.op}
    sums: set[tuple[int, frozenset[str]]] = set()  # partial totals reached so far: value and who is in it
    lines = [line.strip() for line in text.strip().split("\n")]
    for line in lines[:-1]:
        if m := _SUM.fullmatch(line):
            a, b, c = int(m["a"]), int(m["b"]), int(m["c"])
            if a + b != c:
                return Soundness(False, f"wrong arithmetic: {line}")
            reached = _sums_reached(puzzle, known, sums, a, b)
            if not reached:
                return Soundness(False, f"adds numbers that are not two known parts of the total: {line}")
            sums |= {(c, people) for people in reached}
        elif m := _STEP.fullmatch(line):
            reason = _step_fault(by_name.get(m["name"]), known, m)
            if reason:
                return Soundness(False, f"{reason}: {line}")
            known[m["name"]] = int(m["c"])
        elif m := _RESTATED.fullmatch(line):
            if known.get(m["name"]) != int(m["c"]):
                return Soundness(False, f"restates a number that is not known: {line}")
        else:
            return Soundness(False, f"not a step: {line[:60]}")
    final = _FINAL.fullmatch(lines[-1])
    if not final:
        return Soundness(False, "no final answer in the last line")
    answer = int(final["answer"])
    if len(puzzle.asked) == 1:
        derived = known.get(puzzle.asked[0]) == answer
    else:
        derived = (answer, frozenset(puzzle.asked)) in sums
    return Soundness(True, "") if derived else Soundness(False, "the final answer does not follow from the steps")


def _sums_reached(puzzle, known, sums, a: int, b: int) -> list[frozenset[str]]:
    """The sets of asked people whose partial total `a+b` can be, given what is known."""
    parts = {(known[n], frozenset([n])) for n in puzzle.asked if n in known} | sums
    left, right = [p for v, p in parts if v == a], [p for v, p in parts if v == b]
    return [x | y for x in left for y in right if not x & y]


def _step_fault(fact: Fact | None, known: dict[str, int], m: re.Match) -> str:
    """Why a person's step does not follow; empty when it does."""
    a, op, b, c = int(m["a"]), m["op"], int(m["b"]), int(m["c"])
    if fact is None:
        return "nobody of that name"
    if not fact.op:
        return "works out a number that was given"
    if not all(ref in known for ref in fact.refs):
        return "uses a number that is not known yet"
    want_a, want_op, want_b = fact.equation(known)
    same = (a, b) == (want_a, want_b) or (op != "-" and (b, a) == (want_a, want_b))
    if op != want_op or not same:
        return "does not follow from the fact"
    if _APPLY[op](a, b) != c:
        return "wrong arithmetic"
    return ""
