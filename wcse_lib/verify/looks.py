"""A look at real rows: a right sample, a right one with wrong reasoning, and a wrong one."""

from __future__ import annotations

import pandas as pd


def three_kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """The first correct sample, correct one with unsound reasoning, and incorrect one, where there are such.

    Args: rows: `verdict`, `reason`, and `sound` and `judge_reason` (empty where not judged).
    Returns these rows with `kind` and `why`.
    """
    is_correct = rows["verdict"] == "correct"
    is_unsound = rows["sound"].isin([False])
    kinds = [
        ("correct", is_correct & ~is_unsound, "reason"),
        ("correct answer, unsound reasoning", is_correct & is_unsound, "judge_reason"),
        ("incorrect", rows["verdict"] == "incorrect", "reason"),
    ]
    firsts = []
    for kind, mask, reason in kinds:
        first = rows[mask].head(1)
        firsts.append(first.assign(kind=kind, why=first[reason]))
    return pd.concat(firsts)


def as_text(rows: pd.DataFrame) -> str:
    """The rows of `three_kinds` as text; they have `question`, `answer` and `text` too."""
    blocks = []
    for row in rows.itertuples():
        head = f"--- {row.kind}: {row.why}\n{row.question}\n"
        blocks.append(f"{head}(gold: {row.answer}, extracted: {row.extracted})\n{row.text}")
    return "\n\n".join(blocks)
