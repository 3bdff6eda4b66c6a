"""Tables of students against scores by hand: seeds, families of p values, recipes, sets, one rule for intervals."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from studies import finished_study

from wcse_lib import intervals
from wcse_lib.analyze import PRIMARY_METRIC, analyze, students
from wcse_lib.luck import SeedLuck, nested, nested_p, pooled_luck
from wcse_lib.study import Recipe, Run


def greedy(run, *students):
    """[problem] of each student: held-out problems come first in sorted order ('far' ones are h200 and up)."""
    scores = []
    for student in students:
        verdicts = pd.read_parquet(run.path("05", student, "verdicts-greedy.parquet"))
        verdicts = verdicts.sort_values("problem_id")
        scores.append((verdicts["verdict"] == "correct").to_numpy(float))
    return scores


def row_of(table, base, budget, arm_a="wc", arm_b="se", **facts):
    """The one row of a table that holds the primary metric of these."""
    rows = PRIMARY_METRIC.rows(table)
    wanted = {"base": base, "budget": budget, "arm_a": arm_a, "arm_b": arm_b} | facts
    for column, value in wanted.items():
        rows = rows[rows[column] == value]
    (row,) = rows.to_dict("records")
    return row


@pytest.fixture(scope="module")
def seeds_of_small(synthetic_study):
    """The greedy scores of wc's and se's students of base `small` at `high`, [problem, seed]."""
    students = [f"small.{arm}.high.s{seed}" for arm in ("wc", "se") for seed in (0, 1)]
    a0, a1, b0, b1 = greedy(synthetic_study, *students)
    return np.column_stack([a0, a1]), np.column_stack([b0, b1])


LESSONS = ("low", "high", "high.equal", "high.one")  # budgets and recipes of the study


def lucks(run, bases):
    """[problem, seed] of the mean over bases, and the draw that they learn from, for each arm with a model."""
    tables, draws = [], []
    for arm, lesson in product(("wc", "se"), LESSONS):
        names = [f"{{}}.{arm}.{lesson}.s{seed}" for seed in (0, 1)]
        of_bases = [np.column_stack(greedy(run, *(n.format(b) for n in names))) for b in bases]
        tables.append(np.mean(of_bases, axis=0)[:200])
        draws.append((arm, lesson.split(".")[0]))
    return tables, draws


def test_differences_count_the_luck_that_is_pooled_over_the_study(
    synthetic_study, synthetic_tables, seeds_of_small
):
    a, b = (scores[:200] for scores in seeds_of_small)
    of_bases = [lucks(synthetic_study, [base]) for base in ("small", "wc")]
    tables, draws = (sum(parts, []) for parts in zip(*of_bases))
    luck = pooled_luck(tables, draws)
    row = row_of(synthetic_tables["differences"], "small", "high")
    want = nested((a - b).mean(1), luck.times(1), seed=0)
    assert (row["value"], row["low"], row["high"]) == pytest.approx(tuple(want))
    assert row["p"] == pytest.approx(nested_p((a - b).mean(1), luck.times(1)))
    assert (row["n_problems"], row["n_seeds"]) == (200, 2)
    assert (
        luck.df == 4
    )  # two arms with models, two budgets: the recipes' and bases' draws are theirs


def test_the_mean_over_bases_has_the_luck_of_this_mean(synthetic_study, synthetic_tables):
    luck = pooled_luck(*lucks(synthetic_study, ["small", "wc"]))
    row = row_of(synthetic_tables["differences"], "all students", "high")
    assert row["error_by_luck"] == pytest.approx(luck.times(1).sd)
    found = PRIMARY_METRIC.rows(synthetic_tables["training_luck"])
    found = found[found["set"] == "held_out"].set_index("base")
    assert found.loc["all students", "value"] == pytest.approx(luck.sd)
    assert found["df"].tolist() == [4, 4] and not found["assumed"].any()


def test_a_difference_of_differences_moves_by_the_luck_of_four_groups(synthetic_tables):
    gap, arms = (
        row_of(synthetic_tables["ablations"], "small", "high", recipe="equal", comparison=name)
        for name in ("gap", "arms")
    )
    assert gap["error_by_luck"] == pytest.approx(np.sqrt(2) * arms["error_by_luck"])


def test_a_control_moves_by_the_luck_of_the_students_that_are_trained(tmp_path):
    """One seed: the assumed spread of 1.3 points, twice for two students, once for one held against its base."""
    tables = analyze(Run(finished_study(tmp_path / "one", seeds=(3,), recipes=False)))
    found = PRIMARY_METRIC.rows(tables["training_luck"])
    assert found["assumed"].all() and found["df"].isna().all()
    assert found[["value", "low", "high"]].to_numpy() == pytest.approx(0.013)
    row = row_of(tables["differences"], "all students", "high")
    assert row["error_by_luck"] == pytest.approx(0.013 * np.sqrt(2))


def test_the_difference_of_all_students_is_the_mean_over_bases(synthetic_tables):
    table = synthetic_tables["differences"]
    of_bases = [row_of(table, base, "high")["value"] for base in ("small", "wc")]
    assert row_of(table, "all students", "high")["value"] == pytest.approx(np.mean(of_bases))


@pytest.mark.parametrize("base, of_wc", [("small", "kd"), ("wc", "self")])
def test_a_difference_names_the_paradigm_of_either_side(synthetic_tables, base, of_wc):
    """wc − se of the base that is wc's own model: self-improvement against distillation."""
    for table, where in (("differences", {}), ("transfer", {"set": "far"})):
        row = row_of(synthetic_tables[table], base, "high", **where)
        assert (row["paradigm_a"], row["paradigm_b"]) == (of_wc, "kd")


def test_transfer_is_the_difference_on_another_set(synthetic_tables, seeds_of_small):
    a, b = (scores[200:] for scores in seeds_of_small)
    row = row_of(synthetic_tables["transfer"], "small", "high", set="far")
    assert row["value"] == pytest.approx((a - b).mean())
    assert set(synthetic_tables["students"]["set"]) == {"held_out", "far"}


def test_every_metric_has_columns_of_its_own(synthetic_tables):
    found = set(
        synthetic_tables["students"][["metric", "decoding", "k"]].itertuples(index=False, name=None)
    )
    sampled = {("pass@k", 1), ("pass@k", 4), ("maj@k", 1), ("maj@k", 4)}
    assert found == {("pass@k", "greedy", 1)} | {(name, "sampled", k) for name, k in sampled}


def test_05_and_06_give_one_interval_for_one_quantity(synthetic_study, synthetic_tables):
    """Greedy pass@1 is 0 or 1 on a problem: Wilson's interval; sampled pass@1 and votes are means: the bootstrap."""
    from wcse_lib.evaluate.stage import results

    keys = ["student", "set", "metric", "decoding", "k"]
    of_05 = results(synthetic_study, ["small.wc.high.s0"])
    both = of_05.merge(synthetic_tables["students"], on=keys, suffixes=("_05", "_06"))
    n_sets = of_05["set"].nunique()
    assert len(both) == 3 * n_sets
    for column in ("value", "low", "high"):
        assert both[f"{column}_05"].to_numpy() == pytest.approx(both[f"{column}_06"].to_numpy())


def test_one_seed_gives_counts_and_two_families_of_p(tmp_path):
    run = Run(finished_study(tmp_path / "one", seeds=(3,), recipes=False))
    table = PRIMARY_METRIC.rows(analyze(run)["differences"])
    row = row_of(table, "wc", "low")
    a, b = (scores[:200] for scores in greedy(run, "wc.wc.low.s3", "wc.se.low.s3"))
    assert (row["n_only_a"], row["n_only_b"]) == intervals.mcnemar(a, b)[:2]
    assert row["p"] == pytest.approx(nested_p(a - b, SeedLuck(2 * 0.013**2)))
    # of the adaptive arm there is one base, whose rows speak for all students
    of_ada = (table["arm_a"] == "ada") | (table["arm_b"] == "ada")
    answers = of_ada | (table["base"] == "all students")
    assert (answers.sum(), (~answers).sum()) == (6, 4)
    for family in (table[answers], table[~answers]):
        assert np.allclose(family["p_holm"], intervals.holm(family["p"].to_numpy()))


def test_ablations_hold_the_difference_of_differences(synthetic_tables):
    main = row_of(synthetic_tables["differences"], "small", "high")["value"]
    arms, gap = (
        row_of(
            synthetic_tables["ablations"], "small", "high", recipe="equal", comparison=comparison
        )["value"]
        for comparison in ("arms", "gap")
    )
    assert gap == pytest.approx(arms - main)
    assert gap < -0.15


def test_pooled_examples_are_compared_with_each_arms(synthetic_tables):
    row = row_of(
        synthetic_tables["ablations"], "small", "high", arm_a="pooled", comparison="pooled"
    )
    assert row["value"] > 0.2


def test_rules_that_pick_are_held_against_the_recipe_that_picks_at_random_alone():
    recipes = {
        "main_like": Recipe(per_problem=2),
        "rsr": Recipe(pick="rsr", per_problem=2),
        "other": Recipe(pick="rsr", per_problem=1),
        "routed": Recipe(pick="likelihood", per_problem=2, pooled=True),
        "any": Recipe(pick="random", per_problem=2),
        "any_routed": Recipe(pick="random", per_problem=2, pooled=True),
    }
    found = list(students._pick_controls(recipes))
    assert found == [("rsr", "any"), ("routed", "any_routed")]
