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

NAMES = "Ann Ben Cleo Dan Eva Finn Gus Hana Ivan Jade Kai Lena Max Nora Omar Pia Quin Rosa Sam Tom Uma Vic Wes Zoe".split()
ITEMS = "pens cups books coins shells keys stamps cards nuts beads maps rings".split()
MAX_VALUE = 199
LEVELS = (1, 2, 3, 4)

_FACT = re.compile(
    r"(?P<name>\w+) has (?:(?P<given>\d{1,6}) (?P<i0>\w+)"
    r"|(?P<diff>\d{1,6}) (?P<i1>\w+) (?P<sign>more|fewer) than (?P<ref>\w+) has"
    r"|(?P<factor>\d{1,6}) times as many (?P<i2>\w+) as (?P<base>\w+) has"
    r"|as many (?P<i3>\w+) as (?P<left>\w+) and (?P<right>\w+) have together)\.",
    re.ASCII,
)
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

    def terms(self) -> tuple[str, str, str]:
        """This fact's step in terms of names and numbers: left, operator, right."""
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
        text = " ".join(f.text(self.item) for f in self.facts)
        if len(self.asked) == 1:
            return f"{text} How many {self.item} does {self.asked[0]} have?"
        return f"{text} How many {self.item} do {' and '.join(self.asked)} have in total?"

    @property
    def values(self) -> dict[str, int]:
        known: dict[str, int] = {}
        while len(known) < len(self.facts):
            ready = [
                f for f in self.facts if f.name not in known and all(r in known for r in f.refs)
            ]
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
            out.append(
                Fact(m["name"], "+" if m["sign"] == "more" else "-", int(m["diff"]), (m["ref"],))
            )
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
    return Fact(
        name, op, rng.randint(2, max(2, min(40, values[ref] - 2)) if op == "-" else 40), (ref,)
    )


def is_study_question(question: str) -> bool:
    """One question in eight, chosen by its hash, belongs to studies; the models' pretraining never sees those."""
    return hashlib.sha256(question.encode()).digest()[0] % 8 == 0


def make_problems(
    n: int, seed: int | str, levels: tuple[int, ...] = LEVELS, skip: frozenset[str] = frozenset()
) -> list[dict]:
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
                "reference": solve(puzzle, rng),
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

    def write(head: str, x: str, op: str, y: str) -> int:
        if op != "-" and rng.random() < 0.5:
            x, y = y, x
        a, b = (int(t) if t.isdigit() else known[t] for t in (x, y))
        c = _APPLY[op](a, b)
        if len(lines) in slip_at:
            c = _slip(rng, a, op, b, c)
        left, right = (t if t.isdigit() else f"{t} " for t in (x, y))
        lines.append(f"{head} {left}{op}{right}={a}{op}{b}={c}")
        return c

    while todo:
        name = rng.choice(sorted(n for n in todo if all(r in known for r in by_name[n].refs)))
        todo.remove(name)
        known[name] = write(f"{name} has", *by_name[name].terms())
    first, *others = rng.sample(puzzle.asked, len(puzzle.asked))
    result = known[first]
    for name in others:
        result = known["total"] = write("total is", first, "+", name)
        first = "total"
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
    summed: frozenset[str] = frozenset()  # the people whose numbers the running total holds
    lines = text.strip().split("\n")
    for line in lines[:-1]:
        if m := _STEP.fullmatch(line):
            head = m["head"].split()[0]
            terms = m["x"].strip(), m["op"], m["y"].strip()
            if m["head"] == "total is":
                people = [summed if t == "total" else frozenset([t]) for t in (terms[0], terms[2])]
                asked = all(p and p <= set(puzzle.asked) for p in people)
                follows = asked and terms[1] == "+" and not people[0] & people[1]
            else:
                follows = _follows(by_name.get(head), terms)
            reason = "does not follow from the question" if not follows else _fault(known, terms, m)
            if reason:
                return Soundness(False, f"{reason}: {line}")
            known[head] = int(m["c"])
            if m["head"] == "total is":
                summed = people[0] | people[1]
        elif m := _RESTATED.fullmatch(line):
            if known.get(m["name"]) != int(m["c"]):
                return Soundness(False, f"restates a number that is not known: {line}")
        else:
            return Soundness(False, f"not a step: {line[:60]}")
    final = _FINAL.fullmatch(lines[-1])
    if not final:
        return Soundness(False, "no final answer in the last line")
    wanted = (
        puzzle.asked[0]
        if len(puzzle.asked) == 1
        else "total"
        if summed == set(puzzle.asked)
        else None
    )
    if known.get(wanted) != int(final["answer"]):
        return Soundness(False, "the final answer does not follow from the steps")
    return Soundness(True, "")


def _follows(fact: Fact | None, terms: tuple[str, str, str]) -> bool:
    """Whether a step states its person's fact: the same terms, in either order where the operation allows it."""
    if fact is None or not fact.op:
        return False
    left, op, right = fact.terms()
    return terms == (left, op, right) or (op != "-" and terms == (right, op, left))


def _fault(known: dict[str, int], terms: tuple[str, str, str], m: re.Match) -> str:
    """What is wrong with a step's numbers, given what is known; empty when nothing is."""
    a, b = (int(t) if t.isdigit() else known.get(t) for t in (terms[0], terms[2]))
    if a is None or b is None:
        return "uses a number that is not known yet"
    put_in = int(m["a"]), int(m["b"])
    same = put_in == (a, b) or (m["op"] != "-" and put_in == (b, a))
    if not same or m["op"] != m["op2"]:
        return "puts in another number than the known one"
    return "" if _APPLY[m["op"]](a, b) == int(m["c"]) else "wrong arithmetic"
