"""A study without students: what it is answered by, what it cannot tell, and how often it errs."""

import numpy as np
import pandas as pd
import pytest
from studies import STUDY, finished_study

from wcse_lib import intervals
from wcse_lib.analyze import analyze, answer
from wcse_lib.analyze.data_alone import CANNOT_TELL, data_headline, data_rows, data_sentences
from wcse_lib.analyze.samples import read_arms
from wcse_lib.analyze.significance import FAMILIES, with_holm
from wcse_lib.analyze.words import ANSWERED, QUANTITY_WORDS
from wcse_lib.store import read_parquet, write_parquet
from wcse_lib.study import Run


@pytest.fixture(scope="module")
def data_study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "data"
    run = Run(finished_study(folder, study=STUDY | {"students": {}, "recipes": {}}))
    tables = analyze(run)
    return run, tables, answer(run, tables)


def test_it_says_what_it_cannot_tell_and_names_no_better_training_set(data_study):
    _, _, said = data_study
    assert said["headline"].endswith(CANNOT_TELL)
    assert "training set" not in said["headline"]
    assert said["gains"] == []


def test_of_one_arm_there_is_nothing_to_tell(data_study):
    run, _, _ = data_study
    rows = data_rows({})
    assert "one arm" in data_headline(rows)
    assert "minus" not in " ".join(data_sentences(run, rows))


def test_it_is_answered_by_coverage_examples_and_false_positives(data_study):
    _, tables, said = data_study
    assert "At the budget “low” wc solves more by sound reasoning" in said["headline"]
    assert "gives more examples" in said["headline"]
    assert "pass@1" not in said["headline"] + " ".join(said["sentences"])
    assert "There were 24 comparisons" in " ".join(said["sentences"])


def test_of_many_pairs_it_tells_what_was_shown_and_where_the_others_are(data_study):
    _, tables, said = data_study
    rows = data_rows(tables)
    assert len(rows.groupby(["arm_a", "arm_b"])) > 1
    in_points = rows[rows["quantity"] == "coverage"]
    for row in in_points.to_dict("records"):
        pair = f"{row['arm_a']} minus {row['arm_b']}"
        told = [sentence for sentence in said["sentences"] if pair in sentence]
        told = [sentence for sentence in told if f"“{row['budget']}”" in sentence]
        is_told = any(f"{100 * row['value']:+.1f} points" in sentence for sentence in told)
        assert is_told == row["is_significant"], row
    assert "Those that are not settled are in the table" in " ".join(said["sentences"])


def test_of_two_arms_every_difference_is_told(data_study):
    run, tables, _ = data_study
    rows = data_rows(tables)
    rows = rows[(rows["arm_a"] == "wc") & (rows["arm_b"] == "se")]
    text = " ".join(data_sentences(run, rows))
    for row in rows[rows["quantity"] == "coverage"].to_dict("records"):
        assert f"{100 * row['value']:+.1f} points".replace("-", "−") in text
    assert "not settled are in the table" not in text


def test_false_positives_rest_on_what_the_arm_that_solved_fewer_has(data_study):
    run, tables, said = data_study
    arms = read_arms(run)
    n_solved = [(arms[arm].profiles["low"]["n_judged"] > 0).sum() for arm in ("wc", "se")]
    assert n_solved[0] != n_solved[1]
    rows = tables["arm_differences"].query("arm_a == 'wc' and arm_b == 'se' and budget == 'low'")
    n_problems = rows.set_index("quantity")["n_problems"]
    assert n_problems["false_positive_rate"] == min(n_solved) < n_problems["coverage"]
    few = f"{min(n_solved)} problems in the arm that has fewer"
    (sentence,) = [
        part for part in said["sentences"] if "budget “low”" in part and "wc minus se" in part
    ]
    assert f"; {few}) in {QUANTITY_WORDS['false_positive_rate']}" in sentence


def row(quantity, value, is_significant, budget="high"):
    facts = {"arm_a": "wc", "arm_b": "se", "budget": budget, "quantity": quantity, "value": value}
    return facts | {"is_significant": is_significant}


def test_each_arm_gets_what_was_shown_for_it():
    rows = [
        row("coverage", 0.1, True),
        row("examples_per_problem", 2.0, True),
        row("false_positive_rate", 0.05, True),
        row("sound_coverage", 0.01, False),
    ]
    assert data_headline(pd.DataFrame(rows)) == (
        "At the budget “high” wc covers more problems and gives more examples than se; se has fewer false positives"
        f" than wc; otherwise no difference could be shown. {CANNOT_TELL}"
    )


def test_arms_that_are_better_than_the_same_share_a_clause():
    rows = []
    for arm in ("wc", "mix"):
        rows.append(row("coverage", 0.1, True) | {"arm_a": arm})
        rows.append(row("false_positive_rate", 0.1, True) | {"arm_a": arm})
    assert data_headline(pd.DataFrame(rows)) == (
        "At the budget “high” wc and mix cover more problems than se; se has fewer false positives than wc and mix."
        f" {CANNOT_TELL}"
    )


def test_budgets_of_one_finding_share_a_sentence():
    rows = [row("coverage", 0.1, True, budget) for budget in ("low", "high")]
    text = data_headline(pd.DataFrame(rows))
    assert text == f"At the budgets “low” and “high” wc covers more problems than se. {CANNOT_TELL}"


def test_reasoning_that_nobody_judged_is_said_to_be_unknown(tmp_path):
    study = STUDY | {"students": {}, "recipes": {}, "verification": {"judge": "none"}}
    run = Run(finished_study(tmp_path / "unjudged", study=study))
    for arm in run.plan.arms:
        path = run.path("03", arm, "judged.parquet")
        judged = read_parquet(path)
        judged["judge"], judged["is_judged"] = None, False
        write_parquet(path, judged)
    said = answer(run, analyze(run))
    assert "false positives are not known" in " ".join(said["sentences"])


def test_of_equal_arms_it_names_a_difference_in_5_percent_of_studies():
    """Two budgets, four quantities: single tests would name one in a third of studies."""
    rng = np.random.default_rng(8)
    n_named, n_single, n = 0, 0, 200
    for _ in range(n):
        rows = []
        for budget in ("low", "high"):
            rates = rng.beta(0.8, 0.8, 150)
            correct = rng.binomial(8, rates, (2, 150))
            false = rng.binomial(correct, 0.3)
            ones = np.ones(150)
            pairs = [
                [(of_arm > 0, ones) for of_arm in correct],
                [(of_arm > 0, ones) for of_arm in correct - false],
                [(of_arm, ones) for of_arm in np.minimum(correct, 4)],
                list(zip(false, correct)),
            ]
            for quantity, (a, b) in zip(ANSWERED, pairs):
                p = intervals.paired_ratio_p(a, b, n_draws=400)
                found = row(quantity, a[0].sum() - b[0].sum(), True, budget)
                rows.append(found | {"base": "", "p": p, "low": 1, "high": 2})
        table = with_holm(pd.DataFrame(rows), FAMILIES["arm_differences"])
        n_named += data_rows({"arm_differences": table})["is_significant"].any()
        n_single += (table["p"] < 0.05).any()
    assert n_named / n <= 0.08
    assert n_single / n > 0.15
