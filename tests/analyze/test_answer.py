"""From tables to words: what the headline claims and how often wrongly, reasons, and what limits them."""

from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from wcse_lib.analyze import PRIMARY_METRIC, answer, students
from wcse_lib.analyze.headline import headline, headline_rows
from wcse_lib.analyze.reasons import reasons
from wcse_lib.analyze.significance import FAMILIES, is_significant, with_holm
from wcse_lib.analyze.students import Group, HeldOutScores, differences

HIGH = (
    "At the budget “high” wc gave a better training set than se, for each of the 2 students of this study (small and"
    " wc). Otherwise no difference could be shown."
)


@pytest.mark.parametrize("bases", [["small"], ["small", "wc"]])
def test_of_equal_arms_the_headline_names_a_better_one_in_5_percent_of_studies(bases, monkeypatch):
    """Four arms, two budgets, 300 problems, nothing to find: single intervals would name one in two of five studies."""
    monkeypatch.setattr(students, "nested", partial(students.nested, n_boot=300))
    arms, budgets = list("abcd"), ["low", "high"]
    budget = SimpleNamespace(samples=budgets, reference="a")
    no_luck = SimpleNamespace(seed_sd_points=0.0)
    params = SimpleNamespace(students=bases, seed=0, budget=budget, power=no_luck)
    run = SimpleNamespace(
        study=params,
        plan=SimpleNamespace(arms=arms, teachings=arms, students={}, plain_arms=lambda: arms),
    )
    n_named, n_single, n = 0, 0, 100 // len(bases)
    for i in range(n):
        rng = np.random.default_rng([i, 4])
        tested = HeldOutScores({}, {}, {}, np.full(300, "held_out"))
        for base, budget in product(bases, budgets):
            difficulty = rng.normal(size=300)
            for arm in arms:
                is_right = (difficulty + rng.normal(size=300) < -0.35).astype(float)
                student = f"{base}.{arm}.{budget}"
                tested.scores[student] = {PRIMARY_METRIC: is_right}
                tested.groups[base, Group(arm, budget, "main")] = [student]
        table = pd.DataFrame(differences(run, tested))
        rows = headline_rows({"differences": with_holm(table, FAMILIES["differences"])})
        assert len(rows) == 12
        n_named += not headline(rows, rows.head(0)).startswith("No difference")
        n_single += ((rows["low"] > 0) | (rows["high"] < 0)).any()
    assert n_named / n <= 0.11
    assert n_single / n > 0.25


def test_one_comparison_is_not_corrected():
    facts = dict(zip(PRIMARY_METRIC._fields, PRIMARY_METRIC))
    row = facts | {"base": "all students", "low": 0.01, "high": 0.2, "p": 0.06}
    one = with_holm(pd.DataFrame([row]), FAMILIES["differences"])
    assert one["p_holm"].isna().all()
    assert is_significant(one).all()


@pytest.fixture(scope="module")
def undone(synthetic_study, synthetic_tables):
    """The answer where the correction undoes one comparison with the reference arm, and another one."""
    table = synthetic_tables["differences"].copy()
    main = PRIMARY_METRIC.rows(table).query("arm_a == 'wc'")
    table.loc[main.index[main["arm_b"] == "ada"], "p_holm"] = 0.2
    table.loc[main.index[(main["arm_b"] == "se") & (main["budget"] == "low")], "p_holm"] = 0.08
    return answer(synthetic_study, synthetic_tables | {"differences": table})


def test_the_headline_leaves_out_what_correction_undoes(undone):
    assert undone["headline"] == HIGH


def test_the_sentences_say_what_correction_undoes(undone):
    text = " ".join(undone["sentences"])
    doubt = "the interval excludes zero, but corrected for 6 comparisons p = 0.08, so the sign is not settled"
    others = (
        "The other 2 comparisons, of arms other than se, are not settled and stand in the table."
    )
    assert doubt in text
    assert others in text
    assert "These are 6 comparisons" in text
    assert "wc minus ada" not in text


def test_what_correction_undoes_has_no_effect_to_explain(undone):
    assert len(undone["why"]) == 2
    first = undone["why"][0]
    assert first.startswith("At high wc's students are better than se's.")
    assert "At low, whether wc's or se's students are better is not settled" in first


def test_duplicates_explain_nothing_where_examples_hold_none(synthetic_study, synthetic_tables):
    rows, study = headline_rows(synthetic_tables), synthetic_study.study
    duplicates = "duplicates_among_correct"
    assert duplicates in set(synthetic_tables["arm_differences"]["quantity"])
    assert duplicates not in set(synthetic_tables["reasons"]["quantity"])
    curation = study.curation.model_copy(update={"unique": "none"})
    all_kept = study.model_copy(update={"curation": curation})
    assert duplicates in set(reasons(all_kept, synthetic_tables, rows)["quantity"])


def test_a_reason_speaks_for_the_arm_that_has_the_advantage(synthetic_tables):
    """Differences are of the same direction throughout, and less of a fault is better."""
    table = synthetic_tables["reasons"]
    shown = table[(table["low"] > 0) | (table["high"] < 0)]
    less_is_better = shown["quantity"].isin(
        ["false_positive_rate", "epochs", "rank_surprisal_ratio", "gradient_score"]
    )
    is_for_a = (shown["value"] > 0) ^ less_is_better
    winners = shown["arm_a"].where(is_for_a, shown["arm_b"])
    is_told = shown["speaks_for"] != ""
    assert (shown["speaks_for"] == winners)[is_told].all()
    assert (table.loc[(table["low"] <= 0) & (table["high"] >= 0), "speaks_for"] == "").all()


@pytest.fixture(scope="module")
def told(synthetic_study, synthetic_tables):
    return answer(synthetic_study, synthetic_tables)


def test_the_headline_names_arms_and_budgets(told):
    assert (
        "At every budget (“low” and “high”) wc gave a better training set than se"
        in told["headline"]
    )
    assert "Otherwise no difference could be shown." in told["headline"]
    # of the adaptive arm there is one base only
    assert "student small" in " ".join(told["sentences"])


def test_the_table_of_reasons_names_what_the_recipes_took_away(told, synthetic_tables):
    """Equal counts remove wc's lead, one correct a problem does not: counts explain it, diversity is not all of it."""
    rows = synthetic_tables["reasons"].query("arm_a == 'wc' and arm_b == 'se' and budget == 'high'")
    rows = rows.set_index("quantity")
    for counted in ("examples", "epochs"):
        assert rows.loc[counted, "recipe"] == "equal"
        assert rows.loc[counted, "finding"] == "at least part of the reason"
    assert rows.loc["solutions_per_solved_problem", "finding"] == "not all of the reason"
    of_student = rows[rows["base"] == "small"].loc["log_likelihood"]
    assert of_student["value"] == pytest.approx(0.5, abs=0.02)
    assert of_student["speaks_for"] == "wc"
    (text,) = [text for text in told["why"] if "wc's students are better than se's" in text]
    assert text.startswith("At low and high ")
    assert "At high at least part of the reason is examples and epochs." in text


def test_log_likelihoods_are_compared_under_each_base(synthetic_tables):
    rows = synthetic_tables["arm_differences"].query(
        "quantity == 'log_likelihood' and base == 'small'"
    )
    row = rows.query("arm_a == 'wc' and arm_b == 'se' and budget == 'high'").iloc[0]
    assert row["value"] == pytest.approx(0.5, abs=0.02)
    assert row["low"] > 0


def test_gradient_scores_are_in_both_tables(synthetic_tables):
    """wc's gradients are half as long, which is a quarter of the score."""
    scores = synthetic_tables["explanation"].query("quantity == 'gradient_score'")
    scores = scores.query("base == 'small' and budget == 'high'").set_index("arm")["value"]
    assert scores["wc"] / scores["se"] == pytest.approx(0.25, rel=0.2)
    differences = synthetic_tables["arm_differences"].query("quantity == 'gradient_score'")
    row = differences.query("arm_a == 'wc' and arm_b == 'se' and budget == 'high'").iloc[0]
    assert row["high"] < 0 and row["unit"] == "nats²"
