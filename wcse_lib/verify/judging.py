"""Samples judged by the judges that need no model, and a look at what they say."""

from __future__ import annotations

import pandas as pd

from wcse_lib.store import KEY
from wcse_lib.verdicts import judged
from wcse_lib.verify import judges


def judgement_rows(
    samples: pd.DataFrame,
    verdicts: pd.DataFrame,
    problems: pd.DataFrame,
    judge: str,
    every: bool = False,
) -> pd.DataFrame:
    """The reasoning of every correct sample (or `every` one) judged by `exact` (nano problems) or `arithmetic`."""
    if not every:
        samples = samples.merge(verdicts.loc[verdicts["verdict"] == "correct", KEY], on=KEY)
    if judge == "exact":
        question = problems.set_index("problem_id")["question"].loc[samples["problem_id"]]
        results = [judges.exact(q, text) for q, text in zip(question, samples["text"])]
    else:
        results = [judges.arithmetic(text) for text in samples["text"]]
    return judged(samples, judge, results)


def three_kinds(rows: pd.DataFrame) -> pd.DataFrame:
    """The first correct sample, correct one with unsound reasoning, and incorrect one, where there are such.

    Args: rows: `verdict`, `reason`, and `sound` and `judge_reason` (empty where not judged). Returns them with `kind`, `why`.
    """
    correct, unsound = rows["verdict"] == "correct", rows["sound"].isin([False])
    kinds = {
        "correct": (correct & ~unsound, "reason"),
        "correct answer, unsound reasoning": (correct & unsound, "judge_reason"),
        "incorrect": (rows["verdict"] == "incorrect", "reason"),
    }
    first = {kind: (rows[mask].head(1), why) for kind, (mask, why) in kinds.items()}
    return pd.concat([row.assign(kind=kind, why=row[why]) for kind, (row, why) in first.items()])


def tell(rows: pd.DataFrame) -> str:
    """The rows of `three_kinds` as text; they have `question`, `answer` and `text` too."""
    return "\n\n".join(
        f"--- {r.kind}: {r.why}\n{r.question}\n(gold: {r.answer}, extracted: {r.extracted})\n{r.text}"
        for r in rows.itertuples()
    )
