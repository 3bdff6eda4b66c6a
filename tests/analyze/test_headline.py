"""For whom the headline says that a difference holds, made of rows by hand."""

from itertools import product

import pandas as pd
import pytest

from wcse_lib.analyze import PRIMARY_METRIC
from wcse_lib.analyze.headline import headline, headline_rows
from wcse_lib.analyze.significance import FAMILIES, with_holm, with_primary
from wcse_lib.analyze.words import excluded_words
from wcse_lib.study import Primary

OVERALL = "all students"


def row(base, value, is_significant, budget="high", primary=False):
    facts = {"arm_a": "wc", "arm_b": "se", "budget": budget, "base": base, "value": value}
    p_holm = 0.03 if is_significant else 0.4
    return facts | {"is_significant": is_significant, "primary": primary, "p_holm": p_holm}


def said(*of_bases, overall=(0.04, True)):
    rows = pd.DataFrame([row(OVERALL, *overall)])
    names = ["small", "wc", "se"]
    own = [row(name, *of_base) for name, of_base in zip(names, of_bases)]
    return headline(rows, pd.DataFrame(own))


LEAD = "At the budget “high” wc gave a better training set than se, "
AVERAGE = "on average over the 3 students of this study (small, wc and se)"


def test_of_many_arms_the_best_are_named_and_the_rest_counted():
    """Six arms, each better than all after it: 15 pairs at two budgets."""
    rows = []
    for (i, a), (j, b) in product(enumerate("abcdef"), repeat=2):
        if i < j:
            for budget in ("low", "high"):
                rows.append(row(OVERALL, 0.1, True, budget) | {"arm_a": a, "arm_b": b})
    text = headline(pd.DataFrame(rows), pd.DataFrame(columns=list(rows[0])))
    assert text == (
        "At every budget (“low” and “high”) a gave a better training set than each of the other 5 arms, and b than"
        " c, d, e and f, and c than d, e and f, for student all students, the only one that learnt from both. 6 more"
        " differences are shown; the table of differences has them."
    )


@pytest.mark.parametrize(
    ("of_bases", "text"),
    [
        (
            [(0.04, True), (0.05, True), (0.03, True)],
            f"{LEAD}for each of the 3 students of this study (small, wc and se).",
        ),
        (
            [(0.12, True), (0.01, False), (-0.01, False)],
            f"{LEAD}for student small, and so {AVERAGE}; for students wc and se alone no difference could be shown"
            " (se with the opposite sign).",
        ),
        (
            [(0.05, False), (0.05, False), (0.02, False)],
            f"{LEAD}{AVERAGE}; for none of them alone could a difference be shown.",
        ),
        (
            [(0.2, True), (0.01, False), (-0.09, True)],
            f"{LEAD}for student small, and so {AVERAGE}; for student wc alone no difference could be shown; for student"
            " se the opposite was shown.",
        ),
    ],
    ids=["each", "one", "none", "contradicted"],
)
def test_the_headline_names_the_students_for_whom_it_holds(of_bases, text):
    assert said(*of_bases) == text


def test_a_single_students_difference_needs_half_the_level_where_the_mean_shows_none():
    """It is a second family of tests beside that of the means."""
    rows = pd.DataFrame([row(OVERALL, 0.01, False)])
    own = pd.DataFrame([row("small", 0.2, True), row("wc", -0.1, False)])
    none = (
        "No difference between the arms' training sets could be shown at any budget, on average over the 2 students of"
        " this study (small and wc)."
    )
    assert headline(rows, own) == none
    own.loc[0, "p_holm"] = 0.02
    alone = (
        "At the budget “high”, for student small by itself, wc gave a better training set than se."
    )
    assert headline(rows, own) == f"{none} {alone}"


def test_a_single_students_differences_between_many_arms_are_one_sentence():
    pairs = [("se", "wc"), ("se", "hot"), ("cool", "wc")]
    arms = [{"arm_a": better, "arm_b": worse} for better, worse in pairs]
    rows = pd.DataFrame([row(OVERALL, 0.01, False) | pair for pair in arms])
    own = pd.DataFrame([row("small", 0.2, True) | pair | {"p_holm": 0.01} for pair in arms])
    assert headline(rows, own).endswith(
        " At the budget “high”, for student small by itself, se gave a better training set than wc and hot; cool than"
        " wc."
    )


def test_what_is_excluded_stands_beside_what_is_not_shown():
    """The largest of all, rounded up: that all are smaller errs no more often than one of the tests."""
    rows = [row(OVERALL, 0.0, False, budget) for budget in ("low", "high")]
    table = pd.DataFrame(rows).assign(excluded=[0.0301, 0.0412])
    text = headline(table, pd.DataFrame([row("small", 0.0, False), row("wc", 0.0, False)]))
    assert text.endswith("(small and wc); differences of more than 4.2 points are excluded.")


@pytest.mark.parametrize(
    ("margin", "text"),
    [
        (None, "(two one-sided tests, 5 %)"),
        (5.0, "equivalent by the plan's margin of 5"),
        (3.0, "not shown to be equivalent by the plan's margin of 3"),
    ],
)
def test_a_margin_of_the_plan_is_judged(margin, text):
    (difference,) = pd.DataFrame([row(OVERALL, 0.0, False) | {"excluded": 0.0412}]).itertuples()
    clause = excluded_words(difference, margin)
    assert clause.startswith("differences of more than 4.2 points are excluded")
    assert clause.endswith(text)


def test_budgets_with_one_finding_share_a_sentence():
    rows = [row(OVERALL, 0.04, True, budget) for budget in ("low", "high")]
    rows.append(row(OVERALL, -0.02, True, "huge"))
    own = []
    for budget, sign in (("low", 1), ("high", 1), ("huge", -1)):
        own += [row(base, sign * 0.04, True, budget) for base in ("small", "wc")]
    each = "for each of the 2 students of this study (small and wc)."
    assert headline(pd.DataFrame(rows), pd.DataFrame(own)) == (
        f"At the budgets “low” and “high” wc gave a better training set than se, {each}"
        f" At the budget “huge” se gave a better training set than wc, {each}"
    )


def test_one_arm_has_nothing_to_compare():
    nothing = pd.DataFrame(columns=["base"])
    assert headline(nothing, nothing).startswith("This study has one arm")


NAMED = " The plan named this comparison before anything was drawn; all others are secondary."


@pytest.mark.parametrize(
    ("base", "is_shown", "text"),
    [
        (
            OVERALL,
            True,
            f"{LEAD}for student small, and so on average over the 2 students of this study (small and wc); for student"
            " wc alone no difference could be shown.",
        ),
        ("small", True, f"{LEAD}for student small."),
        (
            OVERALL,
            False,
            "At the budget “high” no difference between wc's and se's training sets could be shown, on average over"
            " the 2 students of this study (small and wc).",
        ),
        (
            "small",
            False,
            "At the budget “high” no difference between wc's and se's training sets could be shown, for student small.",
        ),
    ],
    ids=["mean", "one student", "mean not shown", "one student not shown"],
)
def test_a_primary_comparison_is_the_headline_whatever_else_was_shown(base, is_shown, text):
    rows = [row(base, 0.04, is_shown, primary=True), row(OVERALL, 0.3, True, budget="low")]
    own = [row("small", 0.1, True, primary=base == "small"), row("wc", 0.01, False)]
    assert headline(pd.DataFrame(rows), pd.DataFrame(own)) == text + NAMED


@pytest.fixture(scope="module")
def differences():
    """Two pairs of arms at two budgets, over all students and of two of them, each with p = 0.02."""
    rows = []
    for arm_a, budget, base in product(("wc", "ada"), ("low", "high"), (OVERALL, "small", "wc")):
        facts = {"arm_a": arm_a, "arm_b": "se", "budget": budget, "base": base, "p": 0.02}
        rows.append(facts | PRIMARY_METRIC._asdict() | {"value": 0.1, "low": 0.01, "high": 0.2})
    return pd.DataFrame(rows)


@pytest.mark.parametrize(("base", "n_secondary"), [(None, 3), ("small", 4)])
def test_a_primary_comparison_is_tested_by_itself_and_the_others_among_themselves(
    differences, base, n_secondary
):
    primary = Primary(arms=["se", "wc"], budget="high", base=base)
    table = with_holm(with_primary(differences, primary), FAMILIES["differences"])
    rows = headline_rows({"differences": table})
    first, others = rows.iloc[0], rows.iloc[1:]
    assert first["base"] == (base or OVERALL)
    assert first[["arm_a", "budget", "primary"]].tolist() == ["wc", "high", True]
    assert pd.isna(first["p_holm"]) and first["is_significant"]
    assert len(others) == n_secondary
    assert others["p_holm"].tolist() == pytest.approx([0.02 * n_secondary] * n_secondary)


def test_looks_that_the_plan_allows_multiply_every_p(differences):
    primary = Primary(arms=["wc", "se"], budget="high")
    table = with_holm(with_primary(differences, primary), FAMILIES["differences"], n_looks=2)
    rows = headline_rows({"differences": table})
    assert rows["p_holm"].tolist() == pytest.approx([0.04, 0.12, 0.12, 0.12])
