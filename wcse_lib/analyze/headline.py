"""The headline of a study with students: which arm made the better training set, at which budget, and for whom."""

from __future__ import annotations

import pandas as pd

from wcse_lib.analyze.significance import is_overall_row, is_significant
from wcse_lib.analyze.words import ALL_BASES, join_some, join_words, named_students, rounded_up
from wcse_lib.verdicts import PRIMARY_METRIC

COMPARISON = ["arm_a", "arm_b", "budget"]
# Level of single students' differences that stand in the headline beside the means: half, since they are a second
# family of tests.
ALONE = 0.025
# What one screen has room for: arms named as the better ones, and students by themselves.
MOST_BETTER, MOST_ALONE = 3, 3
NAMED_BEFORE = "The plan named this comparison before anything was drawn; all others are secondary."
NOTHING = pd.DataFrame(columns=[*COMPARISON, "base", "value", "low", "high", "p", "p_holm"])


def headline_rows(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """The rows that the answer is about, students' greedy pass@1 over all bases, with `is_significant`.

    They are corrected together (`p_holm`), so that of equal arms one is called better in about 5 % of studies, however
    many arms and budgets there are; another study has other problems and other training seeds (`luck.nested_p`). A
    comparison that the plan names as `primary` comes first, and is tested by itself.
    """
    rows = _compared(tables)
    rows = rows[is_overall_row(rows) | rows["primary"]]
    return rows.sort_values("primary", ascending=False, kind="stable")


def rows_of_bases(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Each base's own rows beside those over several bases, with `is_significant`; they are a family of their own."""
    rows = _compared(tables)
    return rows[~is_overall_row(rows)]


def _compared(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    rows = PRIMARY_METRIC.rows(tables["differences"]) if "differences" in tables else NOTHING
    is_primary = rows["primary"].astype(bool) if "primary" in rows else False
    return rows.assign(is_significant=is_significant(rows), primary=is_primary)


def headline(rows: pd.DataFrame, of_bases: pd.DataFrame) -> str:
    """Which arm gave the better training set and for which students, from `headline_rows` and `rows_of_bases`."""
    if rows.empty:
        return "This study has one arm: there is nothing to compare."
    if rows["primary"].any():
        return f"{_of_primary(rows[rows['primary']], of_bases)} {NAMED_BEFORE}"
    significant = rows[rows["is_significant"]]
    if significant.empty:
        none = "No difference between the arms' training sets could be shown at any budget"
        none = f"{none}{_over(rows, of_bases)}{_excluded(rows)}."
        return " ".join([none, *_alone(rows, of_bases)])
    sentences = _found(significant, of_bases, list(dict.fromkeys(rows["budget"])))
    if len(significant) < len(rows):
        sentences.append("Otherwise no difference could be shown.")
    return " ".join(sentences + _alone(rows[~rows["is_significant"]], of_bases))


def _found(significant: pd.DataFrame, of_bases: pd.DataFrame, budgets: list[str]) -> list[str]:
    """What is shown, a sentence for the same budgets and students: who taught better than whom. Of many arms those that
    teach better than most are named, and what is left is counted."""
    budgets_of: dict[tuple[str, str, str], list[str]] = {}
    for row in significant.itertuples():
        finding = (*_better_first(row), whom(row, of_bases))
        budgets_of.setdefault(finding, []).append(row.budget)
    worse_by_better: dict[tuple[tuple[str, ...], str], dict[str, list[str]]] = {}
    for (better, worse, students), own in budgets_of.items():
        same_place = worse_by_better.setdefault((tuple(own), students), {})
        same_place.setdefault(better, []).append(worse)

    arms = {*significant["arm_a"], *significant["arm_b"]}
    sentences, n_left, room = [], len(significant), MOST_BETTER
    for (own, students), found in sorted(worse_by_better.items(), key=_n_pairs, reverse=True):
        named = dict(sorted(found.items(), key=_n_worse, reverse=True)[:room])
        if not named:
            break
        room -= len(named)
        n_left -= len(own) * sum(map(len, named.values()))
        at = _at(list(own), set(own) == set(budgets))
        sentences.append(f"{at} {_taught_better(named, len(arms))}, {students}.")
    if n_left:
        sentences.append(f"{n_left} more differences are shown; the table of differences has them.")
    return sentences


def _n_pairs(place_and_found: tuple) -> int:
    return sum(map(len, place_and_found[1].values()))


def _n_worse(better_and_worse: tuple[str, list[str]]) -> int:
    return len(better_and_worse[1])


def _taught_better(worse_by_better: dict[str, list[str]], n_arms: int) -> str:
    """
    >>> _taught_better({"a": ["b", "c"], "b": ["c"]}, 3)
    'a gave a better training set than b and c, and b than c'
    """
    clauses, verb = [], "gave a better training set than"
    for better, worse in worse_by_better.items():
        is_best = n_arms > 3 and len(worse) == n_arms - 1
        named = f"each of the other {len(worse)} arms" if is_best else join_some(worse)
        clauses.append(f"{better} {verb} {named}")
        verb = "than"
    return ", and ".join(clauses)


def _better_first(row) -> tuple[str, str]:
    """The arms of a difference, the better one first."""
    return (row.arm_a, row.arm_b) if row.value > 0 else (row.arm_b, row.arm_a)


def _alone(rows: pd.DataFrame, of_bases: pd.DataFrame) -> list[str]:
    """Single students for whom a difference is clear where the mean over all, these rows, shows none."""
    worse_by_better: dict[tuple[str, str], dict[str, list[str]]] = {}
    for row in rows.itertuples():
        own = own_rows(row, of_bases)
        for one in own[own["is_significant"] & (own["p_holm"] < ALONE)].itertuples():
            better, worse = _better_first(one)
            of_student = worse_by_better.setdefault((one.budget, one.base), {})
            of_student.setdefault(better, []).append(worse)
    sentences = []
    for (budget, base), of_student in worse_by_better.items():
        clauses, verb = [], "gave a better training set than"
        for better, worse in of_student.items():
            clauses.append(f"{better} {verb} {join_words(worse)}")
            verb = "than"
        found = "; ".join(clauses)
        sentences.append(f"{_at([budget], False)}, for student {base} by itself, {found}.")
    n_left = len(sentences) - MOST_ALONE
    if n_left > 0:
        more = f"{n_left} more students by themselves show a difference; the table has them."
        return [*sentences[:MOST_ALONE], more]
    return sentences


def _of_primary(rows: pd.DataFrame, of_bases: pd.DataFrame) -> str:
    """What is found of the one comparison that the plan names, alone or over all students."""
    (row,) = rows.itertuples()
    if row.is_significant:
        better, worse = _better_first(row)
        found = f"{better} gave a better training set than {worse}"
        return f"{_at([row.budget], False)} {found}, {whom(row, of_bases)}."
    is_of_all = row.base == ALL_BASES
    whose = _over(rows, of_bases) if is_of_all else f", for student {row.base}"
    return (
        f"{_at([row.budget], False)} no difference between {row.arm_a}'s and {row.arm_b}'s training sets could be"
        f" shown{whose}{_excluded(rows)}."
    )


def _excluded(rows: pd.DataFrame) -> str:
    """What is excluded of all rows, as a clause. All of it at once errs no more often than each test, at 5 %."""
    if "excluded" not in rows or rows["excluded"].isna().any():
        return ""
    return f"; differences of more than {rounded_up(rows['excluded'].max())} points are excluded"


def _at(budgets: list[str], is_every: bool) -> str:
    named = join_words([f"“{budget}”" for budget in budgets])
    if len(budgets) == 1:
        return f"At the budget {named}"
    return f"At every budget ({named})" if is_every else f"At the budgets {named}"


def _over(rows: pd.DataFrame, of_bases: pd.DataFrame) -> str:
    """Over which students the rows are means."""
    if of_bases.empty:
        return f", for {named_students(list(dict.fromkeys(rows['base'])))}"
    return f", on average over {_students(list(dict.fromkeys(of_bases['base'])))}"


def _students(bases: list[str]) -> str:
    return f"the {len(bases)} students of this study ({join_words(bases)})"


def whom(row, of_bases: pd.DataFrame) -> str:
    """For which students a shown difference over all bases holds, by each base's own row.

    A base's own difference counts as shown after Holm's correction among the rows of single bases. All students are
    those of this study, and no others.
    """
    own = own_rows(row, of_bases)
    if row.base != ALL_BASES and len(own):
        return f"for student {row.base}"
    if own.empty:
        return f"for student {row.base}, the only one that learnt from both"
    is_same_sign = own["value"] * row.value > 0
    shown = list(own.loc[own["is_significant"] & is_same_sign, "base"])
    contradicted = list(own.loc[own["is_significant"] & ~is_same_sign, "base"])
    unsettled = own[~own["is_significant"]]
    opposite = list(unsettled.loc[unsettled["value"] * row.value < 0, "base"])
    everybody = _students(list(own["base"]))
    if len(shown) == len(own):
        return f"for each of {everybody}"
    found = f"on average over {everybody}"
    if shown:
        found = f"for {named_students(shown)}, and so {found}"
    if len(unsettled) == len(own):
        found += "; for none of them alone could a difference be shown"
    elif len(unsettled):
        alone = named_students(list(unsettled["base"]))
        found += f"; for {alone} alone no difference could be shown"
    if opposite:
        found += f" ({join_words(opposite)} with the opposite sign)"
    if contradicted:
        found += f"; for {named_students(contradicted)} the opposite was shown"
    return found


def own_rows(row, of_bases: pd.DataFrame) -> pd.DataFrame:
    """The rows of single bases of the same comparison."""
    is_same = of_bases["budget"] == row.budget
    is_same &= (of_bases["arm_a"] == row.arm_a) & (of_bases["arm_b"] == row.arm_b)
    return of_bases[is_same]
