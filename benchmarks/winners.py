"""How often does the answer name a winner among equal arms, and find a better one? Thousands of simulated studies.

    python benchmarks/winners.py [--quick] [--studies 600] [--problems 500]

The students are not the method's own model: each problem has a difficulty, an affinity to each base and arm and a
wobble in each draw (logits), each drawn training set and each seed shifts all problems, and every answer is a coin of
its own. Bases of one arm, budget and seed learn from one draw, so that most of their luck is shared. Printed are: false
winners (nominal 5 %); power beside the rule that the kit had until 2026-11-28 (flips of signs over problems, intervals
by each comparison's own seeds); whether the difference that 01 promises to find in 80 % of studies is found in 80 %.
"""

import argparse
import sys
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np
import pandas as pd
from scipy import optimize, special

from wcse_lib import intervals
from wcse_lib.analyze.significance import is_significant
from wcse_lib.luck import SeedLuck, nested, nested_p, pooled_luck
from wcse_lib.plan import power

ASSUMED = 0.013  # the default of power.seed_sd_points
MEASURED = (1.1, 0.4)  # points of luck between draws and between seeds, on nano
CLEARLY_NOT = 0.2  # a p above which the interval need not be worked out


@dataclass(frozen=True)
class World:
    """What is simulated: sizes of a study, and luck in points of one student's accuracy.

    `shared`: the part of the luck's variance that all bases of a draw share. `by_budget`: by how much the luck of the
    first budget is multiplied, and that of the last divided.
    """

    n_seeds: int
    luck: float
    n_arms: int = 2
    n_budgets: int = 2
    n_bases: int = 1
    n_problems: int = 500
    shared: float = MEASURED[0] ** 2 / (MEASURED[0] ** 2 + MEASURED[1] ** 2)
    by_budget: float = 1.0
    difficulty: float = 1.5
    of_base: float = 0.7
    of_arm: float = 0.4
    of_draw: float = 0.5
    middle: float = -0.5

    def logits(self, rng: np.random.Generator, effect: float = 0.0) -> np.ndarray:
        """[base, arm, budget, seed, problem]; `effect` is a logit more for the first arm."""
        n = self.n_problems
        bases, arms, budgets, seeds = self.n_bases, self.n_arms, self.n_budgets, self.n_seeds
        logits = self.middle + self.difficulty * rng.normal(size=n)
        logits = logits + self.of_base * rng.normal(size=(bases, 1, 1, 1, n))
        logits = logits + self.of_arm * rng.normal(size=(1, arms, 1, 1, n))
        logits = logits + self.of_draw * rng.normal(size=(1, arms, budgets, seeds, n))
        sizes = np.geomspace(self.by_budget, 1 / self.by_budget, budgets)[:, None, None]
        draws = np.sqrt(self.shared) * rng.normal(size=(1, arms, budgets, seeds, 1))
        own = np.sqrt(1 - self.shared) * rng.normal(size=(bases, arms, budgets, seeds, 1))
        logits = logits + (draws + own) * sizes * self.luck / 100 / self.slope
        logits[:, 0] += effect
        return logits

    def answers(self, rng: np.random.Generator, effect: float = 0.0) -> np.ndarray:
        """0/1 answers [base, arm, budget, seed, problem]."""
        chances = special.expit(self.logits(rng, effect))
        return (rng.random(chances.shape) < chances).astype(float)

    @property
    def _typical(self) -> np.ndarray:
        """Logits of many problems without luck."""
        parts = (self.difficulty, self.of_base, self.of_arm, self.of_draw)
        spread = np.sqrt(np.square(parts).sum())
        return self.middle + spread * special.ndtri((np.arange(4000) + 0.5) / 4000)

    @property
    def slope(self) -> float:
        """Accuracy gained for a logit more on every problem."""
        chances = special.expit(self._typical)
        return float((chances * (1 - chances)).mean())

    def logit_of(self, effect: float) -> float:
        """The logit that moves accuracy by `effect` (a share)."""
        typical = self._typical

        def missing(logit: float) -> float:
            return (special.expit(typical + logit) - special.expit(typical)).mean() - effect

        return float(optimize.brentq(missing, -5, 5))


# ------------------------------------------------------------------------------------------------ the two rules


def comparisons(answers: np.ndarray) -> list[np.ndarray]:
    """[problem, seed] differences of means over bases, for each pair of arms at each budget."""
    of_arms = answers.mean(0)
    pairs = list(combinations(range(of_arms.shape[0]), 2))
    found = []
    for budget, (a, b) in product(range(of_arms.shape[1]), pairs):
        found.append((of_arms[a, budget] - of_arms[b, budget]).T)
    return found


def luck_seen(answers: np.ndarray, assumed: float) -> SeedLuck:
    """The study's luck as 06 pools it: over arms and budgets, of means over bases."""
    of_arms = answers.mean(0)
    groups = of_arms.reshape(-1, *of_arms.shape[2:])
    return pooled_luck([group.T for group in groups]) or SeedLuck(assumed**2)


def shown(answers: np.ndarray, assumed: float = ASSUMED, seed: int = 0) -> pd.DataFrame:
    """The study's comparisons with `is_significant`, by the kit's own functions."""
    luck = luck_seen(answers, assumed).times(2 / answers.shape[3])
    rows = []
    for differences in comparisons(answers):
        values = differences.mean(1)
        p, low, high = nested_p(values, luck), -1.0, 1.0
        if p < CLEARLY_NOT:
            _, low, high = nested(values, luck, seed=seed)
        rows.append({"value": values.mean(), "low": low, "high": high, "p": p})
    return judged(rows)


def shown_before(answers: np.ndarray, seed: int = 0) -> pd.DataFrame:
    """The same by the rule that the kit had: p knows nothing of seeds, the interval only this comparison's."""
    rng = np.random.default_rng(seed)
    rows = []
    for differences in comparisons(answers):
        values, n_seeds = differences.mean(1), differences.shape[1]
        p, low, high = intervals.paired_p(values, 0 * values, 2000, seed), -1.0, 1.0
        if p < CLEARLY_NOT:
            shift = 0.0
            if n_seeds > 1:
                own = pooled_luck([differences]).times(1 / n_seeds)
                shift = own.sd * rng.standard_t(n_seeds - 1, 2000)
            _, low, high = intervals.bootstrap(values, seed=seed, bounds=(-1, 1), shift=shift)
        rows.append({"value": values.mean(), "low": low, "high": high, "p": p})
    return judged(rows)


def judged(rows: list[dict]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    corrected = intervals.holm(table["p"]) if len(table) > 1 else np.nan
    table = table.assign(p_holm=corrected)
    return table.assign(is_significant=is_significant(table))


# ------------------------------------------------------------------------------------------------ many studies


def false_winners(world: World, n_studies: int, assumed: float | None = None) -> float:
    """Share of studies of equal arms whose answer names a winner; `assumed` luck (a share) is the true one if None."""
    assumed = world.luck / 100 if assumed is None else assumed
    n_false = 0
    for study in range(n_studies):
        answers = world.answers(np.random.default_rng([study, 21]))
        n_false += shown(answers, assumed, study)["is_significant"].any()
    return n_false / n_studies


def found(world: World, effect: float, n_studies: int) -> tuple[float, float]:
    """Share of studies in which the better first arm is shown at the first budget: by the kit, and by the old rule."""
    logit = world.logit_of(effect)
    n_found, n_before = 0, 0
    for study in range(n_studies):
        answers = world.answers(np.random.default_rng([study, 22]), logit)
        now, before = shown(answers, world.luck / 100, study), shown_before(answers, study)
        n_found += now["is_significant"][0] and now["value"][0] > 0
        n_before += before["is_significant"][0] and before["value"][0] > 0
    return n_found / n_studies, n_before / n_studies


def correlation(pairs: np.ndarray, others: np.ndarray) -> float:
    return float(np.corrcoef(pairs.ravel(), others.ravel())[0, 1])


def promised(world: World, n_comparisons: int) -> float:
    """The difference (a share) that 01 promises to find with 80 %, its assumptions being this world's true ones."""
    one = replace(world, n_problems=200_000, luck=0.0, n_seeds=2, n_bases=1)
    answers = one.answers(np.random.default_rng(23))[0]
    first, second = answers[0], answers[1]
    of_seeds = correlation(first[0, 0], first[0, 1])
    of_arms = correlation(first[0, 0], second[0, 0])
    students = power.Students(
        n_seeds=world.n_seeds,
        n_bases=world.n_bases,
        n_groups=world.n_arms * world.n_budgets,
        seed_sd=world.luck / 100,
        seed_correlation=of_seeds,
    )
    return power.minimum_detectable_effect(
        world.n_problems,
        float(answers.mean()),
        alpha=0.05 / n_comparisons,
        paired_correlation=of_arms,
        students=students,
    )


def found_at_promise(world: World, n_studies: int) -> dict:
    """What is promised for one comparison alone and corrected for all, and how often that is found at the first budget.

    The effect stands at the first budget alone: where all differ, Holm's correction finds each more often.
    """
    n_comparisons = world.n_budgets * world.n_arms * (world.n_arms - 1) // 2
    row = {}
    for name, n in (("alone", 1), ("corrected", n_comparisons)):
        effect = promised(world, n)
        logit, n_found = world.logit_of(effect), 0
        for study in range(n_studies):
            rng = np.random.default_rng([study, 24])
            logits = world.logits(rng)
            logits[:, 0, 0] += logit
            chances = special.expit(logits)
            table = shown((rng.random(chances.shape) < chances) * 1.0, world.luck / 100, study)
            is_found = table["is_significant"][0]
            if name == "alone":
                excludes_zero = (table["low"] > 0) | (table["high"] < 0)
                is_found = excludes_zero[0] and table["p"][0] < 0.05
            n_found += is_found
        row |= {f"{name}_points": 100 * effect, f"{name}_found": 100 * n_found / n_studies}
    return row


# ------------------------------------------------------------------------------------------------ what is printed


def facts(world: World) -> dict:
    return {
        "seeds": world.n_seeds,
        "luck": world.luck,
        "arms": world.n_arms,
        "budgets": world.n_budgets,
        "bases": world.n_bases,
    }


def show(rows: list[dict]) -> None:
    print(pd.DataFrame(rows).to_string(index=False, float_format=lambda x: f"{x:.1f}"), flush=True)


def equal_arms(quick: bool, n_problems: int, n_studies: int) -> None:
    """False winners over the grid, then where an assumption of the method fails."""
    lucks, arms, bases = ((1, 3), (4,), (3,)) if quick else ((0.5, 1, 2, 3), (2, 4), (1, 3))
    budgets = (2,) if quick else (1, 2)
    rows = []
    for n_arms, n_budgets, n_bases, luck, n_seeds in product(
        arms, budgets, bases, lucks, (1, 2, 3, 5)
    ):
        world = World(n_seeds, luck, n_arms, n_budgets, n_bases, n_problems)
        rows.append(facts(world) | {"false_winners": 100 * false_winners(world, n_studies)})
    print("False winners, %; one seed: the true luck is assumed")
    table = pd.DataFrame(rows)
    keys = ["arms", "budgets", "bases", "luck"]
    print(table.pivot(index=keys, columns="seeds", values="false_winners").round(1).to_string())
    print(table.groupby("seeds")["false_winners"].describe().round(1).to_string(), flush=True)
    print("\nOne seed, 1.3 points assumed")
    rows = []
    for luck, n_bases in product(lucks, bases):
        world = World(1, luck, 2, 2, n_bases, n_problems)
        rows.append(
            facts(world) | {"false_winners": 100 * false_winners(world, n_studies, ASSUMED)}
        )
    show(rows)
    print(
        "\nLuck that bases do not share, or share wholly; luck twice as large at the first budget as at the last"
    )
    rows = []
    for n_seeds, shared, by_budget in product((2, 3, 5), (0.0, 1.0), (1.0, 2**0.5)):
        world = World(n_seeds, 2, 2, 2, 3, n_problems, shared, by_budget)
        row = facts(world) | {"shared": shared, "ratio of budgets": by_budget**2}
        rows.append(row | {"false_winners": 100 * false_winners(world, n_studies)})
    show(rows)


def better_arms(quick: bool, n_problems: int, n_studies: int) -> None:
    """Power at planted differences, beside that of the old rule, which names more false winners."""
    lucks, bases, effects = ((1,), (3,), (5,)) if quick else ((0.5, 1, 2), (1, 3), (3, 5))
    rows = []
    for luck, n_bases, effect, n_seeds in product(lucks, bases, effects, (1, 2, 3, 5)):
        world = World(n_seeds, luck, 2, 2, n_bases, n_problems)
        now, before = found(world, effect / 100, n_studies)
        rows.append(facts(world) | {"effect": effect, "found": 100 * now, "old rule": 100 * before})
    print("\nFound, %, at a true difference in points")
    show(rows)


def promises(quick: bool, n_problems: int, n_studies: int) -> None:
    """Whether the promised difference is found in 80 %."""
    lucks, bases, arms = ((1,), (3,), (2,)) if quick else ((1, 2), (1, 3), (2, 4))
    rows = []
    for n_arms, luck, n_bases, n_seeds in product(arms, lucks, bases, (1, 2, 3, 5)):
        world = World(n_seeds, luck, n_arms, 2, n_bases, n_problems)
        rows.append(facts(world) | found_at_promise(world, n_studies))
    print("\nThe difference promised with 80 %, and how often it is found, %")
    show(rows)


PARTS = {"equal": equal_arms, "better": better_arms, "promise": promises}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=600)
    parser.add_argument("--problems", type=int, default=500)
    parser.add_argument("--part", choices=PARTS, help="one part alone")
    parser.add_argument("--quick", action="store_true", help="few cells of 200 studies")
    arguments = parser.parse_args()
    n = 200 if arguments.quick else arguments.studies
    for name, part in PARTS.items():
        if arguments.part in (None, name):
            part(arguments.quick, arguments.problems, n)
    sys.exit(0)
