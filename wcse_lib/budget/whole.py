"""Whole samples waste a part of a budget: counts near the wanted ones that waste less, for people to choose."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

from wcse_lib.budget.buying import bought
from wcse_lib.study import PlannedArm, PlannedDrawn, Study

MOST_UNUSED = 0.05  # of a budget, by any arm
NEAR = 2.0  # proposed budgets are at most so many times larger or smaller than the wanted one


@dataclass(frozen=True)
class Counts:
    """What a budget buys of every arm when so many samples of `reference` make it, and the most that an arm wastes."""

    reference: str
    samples: dict[str, int]
    unused: float
    cost: float

    @property
    def n(self) -> int:
        return self.samples[self.reference]


def counts(costs: Mapping[str, float], reference: str, n: int) -> Counts:
    """What n samples of the reference arm buy of each arm, given what a sample of each costs, in one unit.

    >>> counts({"se": 1.993, "wc": 1.0}, "wc", 8).samples
    {'se': 4, 'wc': 8}
    """
    money = n * costs[reference]
    samples = {name: bought(Fraction(money), Fraction(each)) for name, each in costs.items()}
    least = min(samples[name] * each for name, each in costs.items())
    return Counts(reference, samples, 1 - least / money, money)


def better_counts(costs: Mapping[str, float], reference: str, n: int) -> Counts | None:
    """Of the counts that waste less than MOST_UNUSED, those whose budget is nearest to n samples of `reference`.

    Any arm may become the reference; of equally near ones the more frugal are taken. None where there are none near.
    """
    wanted, found = n * costs[reference], []
    for name, each in costs.items():
        fewest, most = math.ceil(wanted / NEAR / each), math.floor(wanted * NEAR / each)
        found += [counts(costs, name, m) for m in range(max(1, fewest), most + 1)]
    frugal = [one for one in found if one.unused < MOST_UNUSED]
    return min(
        frugal,
        key=lambda one: (round(abs(math.log(one.cost / wanted)), 2), one.unused),
        default=None,
    )


def proposals(study: Study, arms: Mapping[str, PlannedArm]) -> list[str]:
    """A sentence for every budget of which a drawn arm's whole samples waste MOST_UNUSED or more: counts that do not.

    None where a sample's cost is not one number: budgets matched by examples or coverage, prompts charged once.
    """
    terms = study.budget
    if terms.match not in ("flops", "price", "seconds") or terms.prompt_tokens in (
        "once",
        "cached",
    ):
        return []
    drawn = {name: arm for name, arm in arms.items() if isinstance(arm, PlannedDrawn)}
    if len(drawn) < 2 or terms.reference not in drawn:
        return []
    costs = {name: 1 / arm.exchange_ratio for name, arm in drawn.items()}
    sentences = []
    for budget_name, n in terms.samples.items():
        if counts(costs, terms.reference, n).unused < MOST_UNUSED:
            continue
        better = better_counts(costs, terms.reference, n)
        if better is not None:
            sentences.append(_sentence(budget_name, better))
    return sentences


def _sentence(budget_name: str, better: Counts) -> str:
    each = ", ".join(f"{name} {n}" for name, n in better.samples.items())
    return (
        f"The budget “{budget_name}” is used better by other counts: budget.reference: {better.reference} with "
        f"budget.samples.{budget_name}: {better.n} buys {each}, and no arm leaves more than "
        f"{100 * better.unused:.1f} % unused."
    )
