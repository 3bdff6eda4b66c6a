"""Which differences count as shown: p values corrected for their number, and the rows that they are about."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wcse_lib import intervals
from wcse_lib.analyze.words import ALL_BASES
from wcse_lib.study import Primary
from wcse_lib.verdicts import PRIMARY_METRIC, Metric

COMPARED = ["set", "comparison", "recipe", "arm", "arm_a", "arm_b", "budget", *Metric._fields]
FAMILIES = {  # table with p values -> the columns within whose values they are corrected
    "arm_differences": [],
    "gains": ["metric", "decoding", "k"],
    "differences": ["metric", "decoding", "k"],
    "transfer": ["metric", "decoding", "k", "set"],
    "ablations": ["metric", "decoding", "k", "comparison"],
    "split": ["metric", "decoding", "k", "part"],
}


def is_overall_row(table: pd.DataFrame) -> pd.Series:
    """Which rows speak for all students of a comparison.

    These are the rows over all bases, and a base's own row where it is the only base. The answer is made of them.
    """
    over_all = table["base"] == ALL_BASES
    comparison = [table[column] for column in COMPARED if column in table]
    return over_all | ~over_all.groupby(comparison).transform("any")


def is_significant(table: pd.DataFrame) -> pd.Series:
    """Which differences count as shown: their interval excludes zero, and where several were compared, so that there is
    a p corrected for their number, this is below 0.05 too."""
    excludes_zero = (table["low"] > 0) | (table["high"] < 0)
    return excludes_zero & ~(table["p_holm"] >= 0.05)


def with_primary(table: pd.DataFrame, primary: Primary | None) -> pd.DataFrame:
    """Adds the flag `primary`, where a plan names one comparison: it is a family of its own."""
    if primary is None:
        return table
    rows = PRIMARY_METRIC.rows(table)
    is_it = rows["arm_a"].isin(primary.arms) & rows["arm_b"].isin(primary.arms)
    is_it &= rows["budget"] == primary.budget
    is_it &= is_overall_row(rows) if primary.base is None else rows["base"] == primary.base
    return table.assign(primary=table.index.isin(rows.index[is_it]))


def with_holm(table: pd.DataFrame, columns: list[str], n_looks: int = 1) -> pd.DataFrame:
    """Adds `p_holm`: p corrected for the number of comparisons in its family, and of looks at it.

    Within each value of `columns` the rows that speak for all students are one family, over arms and budgets, and the
    single bases beside them another: whoever reads only the answer made as many comparisons as the answer has, not as
    the table has. A `primary` row belongs to no family of others, and rows without a p to none. NaN where nothing is to
    be corrected.
    """
    table = table.assign(p_holm=np.nan)
    tested = table[table["p"].notna()]
    is_primary = tested["primary"] if "primary" in tested else pd.Series(False, tested.index)
    families = [tested[column] for column in columns]
    for _, family in tested.groupby([*families, is_overall_row(tested), is_primary]):
        if len(family) * n_looks > 1:
            p = np.minimum(1.0, n_looks * family["p"].to_numpy())
            table.loc[family.index, "p_holm"] = intervals.holm(p)
    return table
