"""Stories: short word problems of one and two steps, for pretrained models that are too small for GSM8K.

A story is about one kind of thing, and every sentence after the first changes or compares a number. Its solution is a
sentence a step, each with an equation that the arithmetic judge can read, and the answer:

    Ann has 5 pens. Ben gives Ann 3 pens. Ann sells 2 pens. How many pens does Ann have now?
    Ann has 5 + 3 = 8 pens. Ann has 8 - 2 = 6 pens. The answer is 6.
"""

from __future__ import annotations

import hashlib
import operator
import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

NAMES = (
    "Ann Ben Carla David Emma Frank Grace Henry Ivy Jack Kate Liam Mary Nina Oscar Paul Rosa Sam Tina Victor"
).split()
THINGS = (
    "apples balls books cards coins cookies cups eggs flowers hats keys marbles oranges pencils pens shells stamps "
    "stickers stones toys"
).split()
LEVELS = (1, 2)  # a level is the number of steps
LARGEST_GIVEN, LARGEST = 9, 30  # number in a question, number on the way to an answer
OPERATIONS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
N_TRIES = 10_000  # drawn in a row without a new question, before it is said that there are no more


@dataclass(frozen=True)
class Story:
    """What has been told so far, and whose number was worked out last."""

    name: str
    thing: str
    value: int
    told: tuple[str, ...]
    worked: tuple[str, ...] = ()
    ask: str = ""
    is_over: bool = False

    @property
    def question(self) -> str:
        return " ".join([*self.told, self.ask])

    @property
    def solution(self) -> str:
        return " ".join([*self.worked, f"The answer is {self.value}."])

    def step(self, told: str, worked: str, **changes) -> Story:
        return replace(self, told=(*self.told, told), worked=(*self.worked, worked), **changes)


Step = Callable[[Story, str, int], Story]  # a story, another name, a number: the story one step on


def _changes(told: str, sign: str, when: str) -> Step:
    def step(story: Story, other: str, n: int) -> Story:
        who, thing = story.name, story.thing
        value, equation = _reckoned(story, sign, n)
        return story.step(
            told.format(who=who, other=other, n=n, thing=thing),
            f"{who} has {equation}",
            value=value,
            ask=f"How many {thing} does {who} have {when}?",
        )

    return step


def _compares(words: str, sign: str) -> Step:
    """The story goes on with the other person's number."""

    def step(story: Story, other: str, n: int) -> Story:
        who, thing = story.name, story.thing
        value, equation = _reckoned(story, sign, n)
        return story.step(
            f"{other} has {words.format(n=n, thing=thing)} {who}.",
            f"{other} has {equation}",
            name=other,
            value=value,
            ask=f"How many {thing} does {other} have?",
        )

    return step


def _together(story: Story, other: str, n: int) -> Story:
    who, thing = story.name, story.thing
    value, equation = _reckoned(story, "+", n)
    return story.step(
        f"{other} has {n} {thing}.",
        f"Together they have {equation}",
        value=value,
        ask=f"How many {thing} do {who} and {other} have together?",
        is_over=True,
    )


def _reckoned(story: Story, sign: str, n: int) -> tuple[int, str]:
    """The number that comes out of the story's and n, and the equation with its thing."""
    value = OPERATIONS[sign](story.value, n)
    return value, f"{story.value} {sign} {n} = {value} {story.thing}."


STEPS: tuple[Step, ...] = (
    _changes("{who} buys {n} more {thing}.", "+", "now"),
    _changes("{other} gives {who} {n} {thing}.", "+", "now"),
    _changes("Then {who} finds {n} {thing}.", "+", "now"),
    _changes("{who} gives {n} {thing} to {other}.", "-", "left"),
    _changes("Then {who} loses {n} {thing}.", "-", "left"),
    _changes("{who} sells {n} {thing}.", "-", "left"),
    _compares("{n} more {thing} than", "+"),
    _compares("{n} fewer {thing} than", "-"),
    _compares("{n} times as many {thing} as", "*"),
    _together,
)


def make_stories(
    n: int, seed: int | str, levels: Collection[int] = LEVELS, skip: Collection[str] = ()
) -> list[dict]:
    """n problems with distinct questions, none of them in `skip`: problem_id, question, answer, level, reference.

    The same seed gives the same problems; levels alternate. Raises ValueError for a level that does not exist, and when
    there are no more questions.

    >>> make_stories(1, 0, [1])[0]["reference"]
    'Ann has 3 + 4 = 7 apples. The answer is 7.'
    """
    if unknown := set(levels) - set(LEVELS):
        raise ValueError(f"level {min(unknown)}: stories have levels {LEVELS[0]} and {LEVELS[-1]}")
    stream, wanted = random.Random(f"stories:{seed}"), sorted(set(levels))
    seen, rows = set(skip), []
    n_tries = 0
    while len(rows) < n:
        level = wanted[len(rows) % len(wanted)]
        story = _draw(stream, level)
        n_tries += 1
        if story is None or story.question in seen:
            if n_tries > N_TRIES:
                raise ValueError(f"there are no more stories of level {level} than {len(seen)}")
            continue
        n_tries = 0
        seen.add(story.question)
        rows.append(_row(story, level))
    return rows


def _draw(stream: random.Random, n_steps: int) -> Story | None:
    """A story of so many steps; None where the one that was drawn has a number that it may not have."""
    names = stream.sample(NAMES, n_steps + 1)
    value, thing = stream.randint(2, LARGEST_GIVEN), stream.choice(THINGS)
    story = Story(names[0], thing, value, (f"{names[0]} has {value} {thing}.",))
    for other in names[1:]:
        if story.is_over:
            return None
        story = stream.choice(STEPS)(story, other, stream.randint(2, LARGEST_GIVEN))
        if not 1 <= story.value <= LARGEST:
            return None
    return story


def _row(story: Story, level: int) -> dict:
    digest = hashlib.sha256(story.question.encode()).hexdigest()
    return {
        "problem_id": f"story-{digest[:12]}",
        "question": story.question,
        "answer": str(story.value),
        "level": str(level),
        "reference": story.solution,
    }
