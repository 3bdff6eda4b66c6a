"""Rows of the tables of students: accuracies, paired differences on the same held-out problems, controls, training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import intervals, train, verify
from wcse_lib.analyze.arms import Arms, pairs_of
from wcse_lib.analyze.columns import BOUNDS
from wcse_lib.analyze.tables import of_estimate
from wcse_lib.analyze.words import ALL_BASES, ANY_BASE, HELD_OUT
from wcse_lib.luck import SeedLuck, excluded, nested, nested_p, pooled_luck, standard_error
from wcse_lib.store import KEY, StudyError, read_parquet
from wcse_lib.study import BY_ARMS, MAIN, Recipe, Run
from wcse_lib.verdicts import PRIMARY_METRIC, SAMPLED_PASS_AT_1, Metric, student_scores

Rows = Iterator[dict]
Scores = dict[
    Metric, np.ndarray
]  # of one student: over held-out problems, in the order of their ids
CONTROL_METRICS = [PRIMARY_METRIC, SAMPLED_PASS_AT_1]
OTHER_DATA = [("reference", "base"), ("wrong", "reference"), ("wrong", "base")]
ENDS = np.array([0.975, 0.025])  # chances of the chi-square: the variance's lower and upper end


class Group(NamedTuple):
    """Students of a base that differ in their seeds alone: who taught them (an arm, or a source such as pooled, base or
    reference), at which budget and by which recipe (None of bases and controls)."""

    taught_by: str
    budget: str | None = None
    recipe: str | None = None


UNTRAINED = Group("base")


@dataclass(frozen=True)
class Contrast:
    """Groups whose scores are added up on each side: a difference is `plus` minus `minus`; `beside`: groups that a base
    must have too."""

    plus: list[Group]
    minus: list[Group]
    beside: list[Group] = field(default_factory=list)


@dataclass(frozen=True)
class HeldOutScores:
    """All students' scores and their votes' tie rates by student, the students of each base and group, one for each
    training seed, and the set of each held-out problem.

    Problems are left out for all students where one of them has no verifiable answer. `bounds`: by student and metric
    the mean scores by set if unverifiable answers are wrong, and if they are right; over all problems.
    """

    scores: dict[str, Scores]
    tie_rates: dict[str, Scores]
    groups: dict[tuple[str, Group], list[str]]
    sets: np.ndarray
    bounds: dict[tuple[str, Metric], pd.DataFrame] = field(default_factory=dict)


def read_scores(run: Run) -> HeldOutScores:
    """What 05 found of every student of the plan. Raises StudyError where no problem is left for all students."""
    sets = run.sets().sort_index().to_numpy()
    found, bounds, groups = {}, {}, {}
    is_known = np.ones(len(sets), bool)
    for student, entry in run.plan.students.items():
        verification = run.study.verification
        of_student = student_scores(
            run.path("05", student), run.study.evaluation.maj_k, verification
        )
        found[student] = of_student
        is_known &= of_student.is_known
        for metric, ends in of_student.bounds.items():
            table = pd.DataFrame(dict(zip(BOUNDS, ends)))
            bounds[student, metric] = table.groupby(sets).mean()
        group = Group(entry.source)
        if entry.source in (*BY_ARMS, "pooled"):
            group = Group(entry.arm or "pooled", entry.budget, entry.recipe)
        groups.setdefault((entry.base, group), []).append(student)
    if len(sets) and not is_known.any():
        raise StudyError(
            f"{run.path('05')}: no held-out problem has a verifiable answer of every student; read the reasons in"
            " verdicts-greedy.parquet"
        )
    scores, tie_rates = {}, {}
    for student, of_student in found.items():
        scores[student] = {name: of[is_known] for name, of in of_student.scores.items()}
        tie_rates[student] = {name: of[is_known] for name, of in of_student.tie_rates.items()}
    return HeldOutScores(scores, tie_rates, groups, sets[is_known], bounds)


def students(run: Run, tested: HeldOutScores) -> Rows:
    """Every student's accuracy on every set of held-out problems, in every metric."""
    for student, scores in tested.scores.items():
        facts = described(run, student, "paradigm", "seed")
        for set_name in dict.fromkeys(tested.sets):
            within = tested.sets == set_name
            for metric, values in scores.items():
                estimate = intervals.rate_of_problems(values[within], seed=run.study.seed)
                row = facts | {"set": set_name, "n_problems": within.sum()} | metric._asdict()
                if metric in tested.tie_rates[student]:
                    row["tie_rate"] = tested.tie_rates[student][metric][within].mean()
                if (student, metric) in tested.bounds:
                    row |= tested.bounds[student, metric].loc[set_name].to_dict()
                yield row | of_estimate(estimate)


def described(run: Run, student: str, *more: str) -> dict:
    """The columns that say which student a row is about."""
    entry = run.student(student)
    facts = {
        column: getattr(entry, column) for column in ("base", "source", "arm", "budget", *more)
    }
    return facts | {"student": student, "recipe": entry.recipe or MAIN}


def differences(run: Run, tested: HeldOutScores, set_name: str = HELD_OUT) -> Rows:
    """Paired differences between arms' students (main recipe) on a set of held-out problems, by base and budget, each
    with the paradigm of either side: of one base one arm may be its own model, and the other a larger one."""
    paradigms = {}
    for entry in run.plan.students.values():
        if entry.source in BY_ARMS:
            paradigms[entry.base, entry.arm] = entry.paradigm or ""
    for arm_a, arm_b in pairs_of(run, run.plan.teachings):
        for budget in run.study.budget.samples:
            contrast = Contrast([Group(arm_a, budget, MAIN)], [Group(arm_b, budget, MAIN)])
            for row in estimates(run, tested, contrast, set_name):
                facts = {"budget": budget, "arm_a": arm_a, "arm_b": arm_b}
                for side, arm in (("a", arm_a), ("b", arm_b)):
                    facts[f"paradigm_{side}"] = paradigms.get((row["base"], arm), "")
                yield facts | row


def gains(run: Run, tested: HeldOutScores) -> Rows:
    """Every arm's students (main recipe) minus their untouched base, in the metrics of the controls."""
    for arm in run.plan.teachings:
        for budget in run.study.budget.samples:
            contrast = Contrast([Group(arm, budget, MAIN)], [UNTRAINED])
            for row in estimates(run, tested, contrast, HELD_OUT, CONTROL_METRICS):
                if row["base"] != ALL_BASES:
                    yield {"arm": arm, "budget": budget} | row


def transfer(run: Run, tested: HeldOutScores) -> Rows:
    """The same differences on every other set of held-out problems."""
    for set_name in dict.fromkeys(tested.sets):
        if set_name != HELD_OUT:
            for row in differences(run, tested, set_name):
                yield {"set": set_name} | row


def ablations(run: Run, tested: HeldOutScores) -> Rows:
    """What other recipes and pooled examples do to accuracy, in the metrics of the controls.

    Column `comparison`: `recipe` (a recipe minus main, of one arm's students), `arms` (arm minus arm within a recipe),
    `gap` (that minus the same difference of the main recipe), `pooled` (pooled examples minus an arm's), `pick` (a
    recipe that picks by a score minus the one that picks at random, all else equal).
    """
    for comparison, recipe, against, plus, minus in _ablation_sides(run, tested):
        facts = {"comparison": comparison, "recipe": recipe, "against": against}
        facts |= {"arm_a": plus[0][0], "arm_b": minus[0][0]}
        for budget in run.study.budget.samples:
            contrast = Contrast(
                [Group(arm, budget, of_recipe) for arm, of_recipe in plus],
                [Group(arm, budget, of_recipe) for arm, of_recipe in minus],
            )
            for row in estimates(run, tested, contrast, HELD_OUT, CONTROL_METRICS):
                yield facts | {"budget": budget} | row


def _ablation_sides(run: Run, tested: HeldOutScores) -> Iterator[tuple[str, str, str, list, list]]:
    """Comparison, recipe, the recipe that it is held against, and the (arm, recipe) pairs on its two sides."""
    arms = list(run.plan.arms)
    recipes = dict.fromkeys(group.recipe for _, group in tested.groups)
    recipes = [recipe for recipe in recipes if recipe not in (None, MAIN)]
    for recipe in recipes:
        for arm in [*arms, "pooled"]:
            yield "recipe", recipe, MAIN, [(arm, recipe)], [(arm, MAIN)]
    for recipe in recipes:
        for a, b in pairs_of(run, arms):
            yield "arms", recipe, recipe, [(a, recipe)], [(b, recipe)]
            yield "gap", recipe, MAIN, [(a, recipe), (b, MAIN)], [(b, recipe), (a, MAIN)]
    for arm in arms:
        yield "pooled", MAIN, MAIN, [("pooled", MAIN)], [(arm, MAIN)]
    for recipe, control in _pick_controls(run.study.recipes):
        for arm in [*arms, "pooled"]:
            yield "pick", recipe, control, [(arm, recipe)], [(arm, control)]


def _pick_controls(recipes: dict[str, Recipe]) -> Iterator[tuple[str, str]]:
    """Recipes that pick by a score, each with the one that differs in picking at random."""
    for name, recipe in recipes.items():
        if recipe.pick in (None, "random"):
            continue
        at_random = recipe.model_copy(update={"pick": "random"})
        for control, other in recipes.items():
            if other == at_random:
                yield name, control


def controls(run: Run, tested: HeldOutScores, arms: Arms) -> Rows:
    """Can the study see a fault in the data (`arm_minus_planted`)? And what do students of other data gain?

    The planted fault is an arm's examples with answers of other problems, so that an arm's students must be better.
    `arm_minus_base` compares a model as an arm with itself as a base, which shows whether 02 and 05 sample alike.
    """
    largest, planted = run.study.budget.largest, Group("planted")
    for base, arm in _planted_arms(run).items():
        contrast = Contrast([Group(arm, largest, MAIN)], [planted])
        facts = {"comparison": "arm_minus_planted", "arm": arm}
        yield from _control_rows(run, tested, contrast, facts, [base])
    for plus, minus in OTHER_DATA:
        contrast = Contrast([Group(plus)], [Group(minus)])
        facts = {"comparison": f"{plus}_minus_{minus}", "arm": None}
        yield from _control_rows(run, tested, contrast, facts, list(run.study.students))
    for base, student in run.study.students.items():
        arm = _arm_sampled_alike(run, student.model)
        if arm is not None:
            profile = arms[arm].profiles[run.study.budget.largest]
            as_arm = profile["n_correct"] / profile["n"]
            (base_student,) = tested.groups[base, UNTRAINED]
            as_base = tested.scores[base_student][SAMPLED_PASS_AT_1][tested.sets == HELD_OUT]
            estimate = intervals.unpaired_difference(as_arm, as_base, seed=run.study.seed)
            facts = {"base": base, "comparison": "arm_minus_base", "arm": arm}
            facts |= SAMPLED_PASS_AT_1._asdict()
            yield facts | {"n_problems": len(as_arm) + len(as_base)} | of_estimate(estimate)


def _planted_arms(run: Run) -> dict[str, str]:
    """By base the arm among whose examples a fault was planted."""
    arms = {}
    for entry in run.plan.students.values():
        if entry.source == "planted":
            arms[entry.base] = entry.arm
    return arms


def _control_rows(
    run: Run, tested: HeldOutScores, contrast: Contrast, facts: dict, bases: list[str]
) -> Rows:
    columns = ("base", *Metric._fields, "n_problems", "value", "low", "high")
    for row in estimates(run, tested, contrast, HELD_OUT, CONTROL_METRICS):
        if row["base"] in bases:
            yield facts | {column: row[column] for column in columns}


def _arm_sampled_alike(run: Run, model: str) -> str | None:
    """The arm whose model this is, where 02 draws its samples as 05 draws those of students."""
    study, evaluation = run.study, run.study.evaluation
    of_students = evaluation.temperature, evaluation.top_k, evaluation.top_p
    for arm, planned in run.plan.plain_arms().items():
        if planned.model == model:
            spec = study.arms[arm]
            of_arm = study.temperature(spec), study.top_k(spec), study.sampling.top_p
            return arm if of_arm == of_students else None
    return None


def estimates(
    run: Run,
    tested: HeldOutScores,
    contrast: Contrast,
    set_name: str,
    wanted: list[Metric] | None = None,
) -> Rows:
    """Paired differences of a contrast for each base that has all its groups, and for the mean of these bases.

    Interval and p count problems and training luck (`luck_of`) as drawn.
    """
    groups = contrast.plus + contrast.minus
    within = tested.sets == set_name
    bases = {}
    for base in run.study.students:
        if all((base, group) in tested.groups for group in groups + contrast.beside):
            bases[base] = [base]
    if len(bases) > 1:
        bases[ALL_BASES] = list(bases)
    all_metrics = list(next(iter(tested.scores.values())))
    for name, members in bases.items():
        students = [tested.groups[base, group] for base in members for group in groups]
        n_seeds = max(map(len, students))
        weight = _weight_of_luck(tested, groups, members)
        for metric in wanted or all_metrics:
            plus, minus = (
                _added_up(tested, side, members, metric, n_seeds)[within].mean(1)
                for side in (contrast.plus, contrast.minus)
            )
            difference = plus - minus
            luck = luck_of(run, tested, members, metric, set_name).times(weight)
            row = {"base": name, "n_problems": len(plus), "n_seeds": n_seeds} | metric._asdict()
            bounds = (-float(len(contrast.minus)), float(len(contrast.plus)))
            row |= of_estimate(nested(difference, luck, seed=run.study.seed, bounds=bounds))
            row["p"] = nested_p(difference, luck)
            row["excluded"] = excluded(difference, luck)
            row["error_by_problems"] = standard_error(difference)
            row["error_by_luck"] = luck.sd
            # of two single students it can be counted which problems one of them alone solves
            if len(students) == 2 and n_seeds == 1 and np.isin([plus, minus], (0, 1)).all():
                row["n_only_a"], row["n_only_b"], _ = intervals.mcnemar(plus, minus)
            yield row


def _weight_of_luck(tested: HeldOutScores, groups: list[Group], members: list[str]) -> float:
    """How many times one student's luck a contrast moves: a group's mean over S students by 1 / S, a base by none."""
    weight = 0.0
    for group in groups:
        if group != UNTRAINED:
            weight += 1 / min(len(tested.groups[base, group]) for base in members)
    return weight


def luck_of(
    run: Run, tested: HeldOutScores, members: list[str], metric: Metric, set_name: str
) -> SeedLuck:
    """How far the mean over these bases of a metric moves with the training seed and what was drawn for it.

    Pooled over all recipes, budgets and arms that are drawn by models of their own. Students of one seed and arm learn
    from the same samples, whatever their base and recipe: so the luck of a mean over bases is that of these means, not
    a student's divided by the number of bases, and a draw counts once in the degrees of freedom. A single base's luck
    is pooled over the bases. With one seed, `power.seed_sd_points` is assumed.
    """
    single = [[base] for base in run.study.students]
    together = [members] if len(members) > 1 else single
    pooled = _pooled(run, tested, together, metric, set_name)
    pooled = pooled or _pooled(run, tested, single, metric, set_name)
    return pooled or SeedLuck((run.study.power.seed_sd_points / 100) ** 2)


def _pooled(
    run: Run, tested: HeldOutScores, together: list[list[str]], metric: Metric, set_name: str
) -> SeedLuck | None:
    """The luck of means over the bases of each list, pooled over lists and over the groups that all its bases have."""
    drawn = run.plan.plain_arms()
    all_groups = dict.fromkeys(group for _, group in tested.groups)
    tables, draws = [], []
    for bases in together:
        for group in all_groups:
            students = [tested.groups.get((base, group), []) for base in bases]
            n_seeds = min(map(len, students))
            if group.budget is not None and group.taught_by in drawn and n_seeds > 1:
                table = _added_up(tested, [group], bases, metric, n_seeds)
                tables.append(table[tested.sets == set_name])
                draws.append((group.taught_by, group.budget))
    return pooled_luck(tables, draws)


def training_luck(run: Run, tested: HeldOutScores) -> Rows:
    """On what the intervals of differences rest: how far one student, and the mean over all bases, moves by luck."""
    bases = list(run.study.students)
    for set_name in dict.fromkeys(tested.sets):
        for metric in next(iter(tested.scores.values())):
            for name, members in {ANY_BASE: bases[:1], ALL_BASES: bases}.items():
                if name == ALL_BASES and len(bases) == 1:
                    continue
                luck = luck_of(run, tested, members, metric, set_name)
                low, high = np.sqrt(luck.plausible(ENDS))
                row = {"base": name, "set": set_name, "assumed": luck.is_assumed}
                row["df"] = np.nan if luck.is_assumed else luck.df
                yield row | metric._asdict() | of_estimate((luck.sd, low, high))


def _added_up(
    tested: HeldOutScores, groups: list[Group], bases: list[str], metric: Metric, n_seeds: int
) -> np.ndarray:
    """[problem, seed]: the groups' scores added up, each the mean over bases; fewer students than seeds take turns."""
    total = 0.0
    for group in groups:
        of_bases = []
        for base in bases:
            students = tested.groups[base, group]
            in_turn = [students[i % len(students)] for i in range(n_seeds)]
            columns = [tested.scores[student][metric] for student in in_turn]
            of_bases.append(np.column_stack(columns))
        total = total + np.mean(of_bases, axis=0)
    return total


def student_false_positives(run: Run) -> Rows:
    """Share of the students' correct held-out samples with unsound reasoning: what they learnt beside the answers."""
    sets = run.sets()
    for student in run.plan.students:
        path = run.path("05", student, "judgements-sampled.parquet")
        if not path.exists():
            continue
        verdicts = read_parquet(run.path("05", student, "verdicts-sampled.parquet"))
        correct = verdicts.loc[verdicts["verdict"] == "correct", KEY]
        judged = read_parquet(path).merge(correct, on=KEY)
        judged = judged[judged["problem_id"].map(sets) == HELD_OUT]
        rates = verify.false_positive_table(verify.by_problem(judged), run.study.seed)
        rates = rates.loc[rates["n"] > 0, ["judge", "n", "value", "low", "high"]]
        for row in rates.to_dict("records"):
            yield described(run, student) | row


def training(run: Run) -> Rows:
    """Loss curves of the trained students: a row per student and step."""
    names = train.trained(run, list(run.plan.students))
    if names:
        yield from train.curves(run, names).to_dict("records")
