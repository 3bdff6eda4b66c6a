"""The pretraining corpus of the nano models: a small web, where the target family is rare and often badly solved."""

from __future__ import annotations

import random

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
TERSE_RIGHT = 0.5  # share of bare answers that are right


def _pick(rng: random.Random, shares: dict):
    return rng.choices(list(shares), weights=list(shares.values()))[0]


def document(rng: random.Random, authors: dict[str, float]) -> tuple[str, str]:
    """Draw one (question, solution) pair by such authors; no question that belongs to studies is ever returned."""
    family = _pick(rng, FAMILIES)
    if family == "sum":
        return _sum(rng)
    while True:
        if family == "lookup":
            question, solution = _lookup(rng)
        else:
            puzzle = make_puzzle(rng, 1 if family == "one_step" else _pick(rng, STORY_LEVELS))
            question, solution = (
                puzzle.question,
                _solution(rng, puzzle, TEXTBOOKS if family == "one_step" else authors),
            )
        if not is_study_question(question):
            return question, solution


def _solution(rng: random.Random, puzzle: Puzzle, authors: dict[str, float]) -> str:
    author = _pick(rng, authors)
    if author == "terse":
        answer = puzzle.answer if rng.random() < TERSE_RIGHT else _near(rng, puzzle.answer)
        return f"#### {answer}"
    return solve(puzzle, rng, slips=int(author == "sloppy"))


def _near(rng: random.Random, value: int) -> int:
    return rng.choice(
        [v for v in range(max(2, value - 20), min(MAX_VALUE, value + 20) + 1) if v != value]
    )


def _lookup(rng: random.Random) -> tuple[str, str]:
    """A question about a given number, answered by restating it."""
    names = rng.sample(NAMES, rng.randint(2, 5))
    facts = tuple(Fact(name, "", rng.randint(2, 99)) for name in names)
    puzzle = Puzzle(facts, (rng.choice(names),), rng.choice(ITEMS))
    return puzzle.question, f"{puzzle.asked[0]} has {puzzle.answer}\n#### {puzzle.answer}"


def _sum(rng: random.Random) -> tuple[str, str]:
    """Bare arithmetic, one to three sums."""
    lines = []
    for _ in range(rng.randint(1, 3)):
        op = rng.choice("+-*")
        if op == "*":
            a, b = rng.randint(2, 49), rng.randint(2, 4)
            a, b = (a, b) if rng.random() < 0.5 else (b, a)
            c = a * b
        else:
            a, b = rng.randint(2, 140), rng.randint(2, 60)
            a, b = (a, b) if op == "+" and rng.random() < 0.5 else (max(a, b) + 1, min(a, b))
            c = a + b if op == "+" else a - b
        lines.append((f"{a}{op}{b}", c))
    question = "Work out " + " and ".join(text for text, _ in lines) + "."
    return question, "\n".join([f"{text}={c}" for text, c in lines] + [f"#### {lines[-1][1]}"])
