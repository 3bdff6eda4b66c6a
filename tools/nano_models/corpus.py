"""The pretraining corpus of the nano models: a small web, where the target family is rare and often badly solved."""

from __future__ import annotations

import random
from typing import TypeVar

from wcse_lib.nano.world import (
    ITEMS,
    MAX_VALUE,
    NAMES,
    Fact,
    Puzzle,
    is_study_question,
    make_puzzle,
    solve,
)

# Share of documents by family. Only `story` is the family that studies ask about.
FAMILIES = {"story": 0.75, "one_step": 0.07, "lookup": 0.08, "sum": 0.10}
STORY_LEVELS = {1: 0.30, 2: 0.30, 3: 0.25, 4: 0.15}
# Who wrote a story's solution: worked out carefully, worked out with one slip that is carried on, or only an answer.
# A model reads textbooks first and the web afterwards, so what it can do and what it tends to do come apart.
TEXTBOOKS = {"careful": 1.0}
WEB = {"careful": 0.42, "sloppy": 0.25, "terse": 0.33}
# The generators read on, as instruction-tuned models do: mostly worked solutions, good and bad.
POLISH = {"careful": 0.50, "sloppy": 0.23, "terse": 0.27}
WEB_SHARE = 0.25  # of the training before polishing, its last part
TERSE_RIGHT = 0.5  # share of bare answers that are right
MIX = {  # the above, as `training.json` says it
    "families": FAMILIES,
    "story_levels": STORY_LEVELS,
    "textbooks": TEXTBOOKS,
    "web": WEB,
    "polish": POLISH,
    "web_share": WEB_SHARE,
    "right_share_of_bare_answers": TERSE_RIGHT,
}

Kind = TypeVar("Kind", str, int)


def document(rng: random.Random, authors: dict[str, float]) -> tuple[str, str]:
    """Draw one (question, solution) pair by such authors; no question that belongs to studies is ever returned."""
    family = _pick(rng, FAMILIES)
    draw = {"sum": _sum, "lookup": _lookup, "one_step": _one_step}.get(family)
    while True:
        question, solution = draw(rng) if draw else _story(rng, authors)
        if family == "sum" or not is_study_question(question):
            return question, solution


def _pick(rng: random.Random, shares: dict[Kind, float]) -> Kind:
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def _story(rng: random.Random, authors: dict[str, float]) -> tuple[str, str]:
    puzzle = make_puzzle(rng, _pick(rng, STORY_LEVELS))
    return puzzle.question, _solution(rng, puzzle, authors)


def _one_step(rng: random.Random) -> tuple[str, str]:
    puzzle = make_puzzle(rng, 1)
    return puzzle.question, _solution(rng, puzzle, TEXTBOOKS)


def _solution(rng: random.Random, puzzle: Puzzle, authors: dict[str, float]) -> str:
    author = _pick(rng, authors)
    if author != "terse":
        return solve(puzzle, rng, slips=1 if author == "sloppy" else 0)
    right = rng.random() < TERSE_RIGHT
    return f"#### {puzzle.answer if right else _near(rng, puzzle.answer)}"


def _near(rng: random.Random, value: int) -> int:
    near = range(max(2, value - 20), min(MAX_VALUE, value + 20) + 1)
    return rng.choice([other for other in near if other != value])


def _lookup(rng: random.Random) -> tuple[str, str]:
    """A question about a given number, answered by restating it."""
    names = rng.sample(NAMES, rng.randint(2, 5))
    facts = tuple(Fact(name, "", rng.randint(2, 99)) for name in names)
    puzzle = Puzzle(facts, (rng.choice(names),), rng.choice(ITEMS))
    return puzzle.question, f"{puzzle.asked[0]} has {puzzle.answer}\n#### {puzzle.answer}"


def _sum(rng: random.Random) -> tuple[str, str]:
    """Bare arithmetic, one to three sums."""
    operations = [_operation(rng) for _ in range(rng.randint(1, 3))]
    question = " and ".join(text for text, _ in operations)
    lines = [f"{text}={result}" for text, result in operations]
    lines.append(f"#### {operations[-1][1]}")
    return f"Work out {question}.", "\n".join(lines)


def _operation(rng: random.Random) -> tuple[str, int]:
    """An operation's text and its result."""
    op = rng.choice("+-*")
    if op == "*":
        a, b = rng.randint(2, 49), rng.randint(2, 4)
        if rng.random() >= 0.5:
            a, b = b, a
        return f"{a}*{b}", a * b
    a, b = rng.randint(2, 140), rng.randint(2, 60)
    if op == "-" or rng.random() >= 0.5:
        a, b = max(a, b) + 1, min(a, b)
    return f"{a}{op}{b}", a + b if op == "+" else a - b
