"""Did any arm's data help? Every student of an arm against its untouched base, in words."""

from __future__ import annotations

import pandas as pd

from wcse_lib.analyze.significance import is_significant
from wcse_lib.analyze.words import difference_words, named_students, rounded_up
from wcse_lib.verdicts import PRIMARY_METRIC


def gain_sentences(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Which bases became better by an arm's examples, then the best arm of each base; nothing without students.

    That no arm helped is a finding of its own: it never makes a difference between arms, or the want of one, unclear.
    """
    if "gains" not in tables:
        return []
    rows = PRIMARY_METRIC.rows(tables["gains"])
    rows = rows.assign(is_significant=is_significant(rows))
    sentences = [_summary(rows)]
    sentences += [_of_base(base, own) for base, own in rows.groupby("base", sort=False)]
    if len(rows) > 1:
        sentences.append(
            "The best of several students looks better than it is: a gain or loss counts as shown only where p,"
            f" corrected for all {len(rows)} of them (Holm), is below 0.05 too."
        )
    return sentences


def _summary(rows: pd.DataFrame) -> str:
    better = rows[rows["is_significant"] & (rows["value"] > 0)]
    worse = rows[rows["is_significant"] & (rows["value"] < 0)]
    bases = list(dict.fromkeys(rows["base"]))
    helped = [base for base in bases if base in set(better["base"])]
    others = [base for base in bases if base not in helped]
    harmed = [base for base in bases if base in set(worse["base"])]
    if not helped:
        summary = f"No arm's examples were shown to make {named_students(bases)} better than the untouched base"
    else:
        summary = f"An arm's examples made {named_students(helped)} better than the untouched base"
    if helped and others:
        summary += f"; for {named_students(others)} no arm's examples were shown to help"
    if harmed:
        summary += f"; some made {named_students(harmed)} worse"
    return f"{summary}."


def _of_base(base: str, own: pd.DataFrame) -> str:
    """The best arm's student of a base, and how many of its students are shown to differ from it."""
    best = next(own.sort_values("value", ascending=False).itertuples())
    n_better = int((own["is_significant"] & (own["value"] > 0)).sum())
    n_worse = int((own["is_significant"] & (own["value"] < 0)).sum())
    counts = f"{n_better} of {len(own)} shown to be better"
    if n_worse:
        counts += f", {n_worse} to be worse"
    elif not n_better and "excluded" in own:
        counts += (
            f", and changes of more than {rounded_up(own['excluded'].max())} points are excluded"
        )
    return (
        f"Student {base}: the best of its arms' students is {best.arm}'s at “{best.budget}”,"
        f" {difference_words(best, ' ({low} to {high}')}, 95 % interval) from the base; {counts}."
    )
