"""A look at real rows: a right sample, a right one with wrong reasoning, and a wrong one."""

from __future__ import annotations

import pandas as pd

from wcse_lib.store import visible


def three_kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """The first correct sample, correct one with unsound reasoning, and incorrect one, where there are such.

    Args: rows: `verdict`, `reason`, and `sound` and `judge_reason` (empty where not judged).
    Returns these rows with `kind` and `why`.
    """
    correct = rows[rows["verdict"] == "correct"]
    is_unsound = correct["sound"].isin([False])
    right = correct[~is_unsound].head(1).assign(kind="correct")
    lucky = correct[is_unsound].head(1).assign(kind="correct answer, unsound reasoning")
    wrong = rows[rows["verdict"] == "incorrect"].head(1).assign(kind="incorrect")
    lucky["reason"] = lucky["judge_reason"]
    firsts = pd.concat([right, lucky, wrong])
    return firsts.assign(why=firsts["reason"])


def as_text(rows: pd.DataFrame) -> str:
    """The rows of `three_kinds` as text; they have `question`, `answer` and `text` too."""
    blocks = []
    for row in rows.itertuples():
        head = f"--- {row.kind}: {row.why}\n{row.question}\n"
        blocks.append(f"{head}(gold: {row.answer}, extracted: {row.extracted})\n{row.text}")
    return visible("\n\n".join(blocks))
