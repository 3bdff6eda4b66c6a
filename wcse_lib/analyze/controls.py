"""What the control students say: whether the study could see a fault in the data."""

from __future__ import annotations

import pandas as pd

from wcse_lib.analyze.words import join_words
from wcse_lib.verdicts import PRIMARY_METRIC


def controls_hold(tables: dict[str, pd.DataFrame]) -> list[str]:
    """Whether the controls separate good data from bad.

    Students of reference solutions must lie above those of wrong samples, or where there are none of these, above their
    bases. Every base must pass, so that their number needs no correction.
    """
    if "controls" not in tables:
        return []
    rows = PRIMARY_METRIC.rows(tables["controls"])
    tested = rows[rows["comparison"] == "wrong_minus_reference"]
    passed = tested["high"] < 0
    without_wrong = sorted(set(rows["base"]) - set(tested["base"]))
    if tested.empty:
        tested = rows[rows["comparison"] == "reference_minus_base"]
        passed = tested["low"] > 0
        without_wrong = []
    if tested.empty:
        return []
    note = ""
    if without_wrong:
        bases = join_words(without_wrong)
        note = f" No wrong samples to learn from were drawn for {bases}, whose model is no arm."
    failed = list(tested.loc[~passed, "base"])
    if failed:
        bases = join_words(failed)
        return [
            f"The controls do not separate good data from bad for {bases}: there this study cannot tell.{note}"
        ]
    bases = join_words(list(tested["base"]))
    return [
        f"The controls separate good data from bad for every student that has them ({bases}).{note}"
    ]
