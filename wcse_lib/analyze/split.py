"""Why arms' students differ: because one learns from more examples, or because another author wrote as many."""

from __future__ import annotations

from collections.abc import Iterator

from wcse_lib.analyze.arms import pairs_of
from wcse_lib.analyze.students import CONTROL_METRICS, Contrast, Group, HeldOutScores, estimates
from wcse_lib.analyze.words import HELD_OUT, Portion
from wcse_lib.study import MAIN, Run


def split(run: Run, tested: HeldOutScores) -> Iterator[dict]:
    """Every difference between arms, and the two parts that it is the sum of, each with its own interval.

    A recipe that gives every arm as many examples (`n_examples: equal`) leaves what another author does; what it takes
    away is what more examples do. No rows without such a recipe.
    """
    for recipe, choice in run.study.recipes.items():
        if choice.n_examples != "equal":
            continue
        for arm_a, arm_b in pairs_of(run, run.plan.arms):
            for budget in run.study.budget.samples:
                facts = {"budget": budget, "arm_a": arm_a, "arm_b": arm_b, "recipe": recipe}
                a, b = Group(arm_a, budget, MAIN), Group(arm_b, budget, MAIN)
                a_cut, b_cut = (group._replace(recipe=recipe) for group in (a, b))
                contrasts = {
                    Portion.WHOLE: Contrast([a], [b], beside=[a_cut, b_cut]),
                    Portion.EXAMPLES: Contrast([a, b_cut], [b, a_cut]),
                    Portion.AUTHOR: Contrast([a_cut], [b_cut]),
                }
                for part, contrast in contrasts.items():
                    for row in estimates(run, tested, contrast, HELD_OUT, CONTROL_METRICS):
                        yield facts | {"part": part} | row
