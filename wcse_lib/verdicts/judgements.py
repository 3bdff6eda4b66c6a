"""Judgements: whether the reasoning of a sample holds, and the one row per sample that later stages read."""

from __future__ import annotations

import pandas as pd

from wcse_lib.metrics import SAMENESS
from wcse_lib.store import KEY
from wcse_lib.study import number_of, rank
from wcse_lib.verdicts.check import KEY_COLUMNS

# One row per sample and judge: the record of what each judge decided.
JUDGEMENTS = KEY_COLUMNS | {"sound": "boolean", "judge": "string", "reason": "string"}

SAMPLE_FACTS = {  # as in 02
    "n_tokens": "int64",
    "n_prompt_tokens": "int64",
    "finish_reason": "string",
    "model": "string",
    "usd": "double",
}
# One row per sample: all that later stages ask of it, but its text.
JUDGED = {
    **KEY_COLUMNS,
    **SAMPLE_FACTS,
    # by the verifier
    "verdict": "string",
    "extracted": "string",
    "reason": "string",
    # by the study's own judge, missing where it was not asked; `is_judged` is the rule of `decided`
    "judge": "string",
    "sound": "boolean",
    "is_judged": "boolean",
    "judge_reason": "string",
    # of the text: nothing but white space, its place in the seeded order, and a number that equal texts share
    "is_blank": "boolean",
    "rank": "int64",
    **{f"same_{name}": "int64" for name in SAMENESS},
}


def as_judgements(
    samples: pd.DataFrame, judge: str, results: list[tuple[bool | None, str]]
) -> pd.DataFrame:
    """Judgement rows (columns JUDGEMENTS) of samples and their (sound, reason) pairs."""
    sound = [is_sound for is_sound, _ in results]
    reasons = [reason for _, reason in results]
    rows = samples[KEY].reset_index(drop=True)
    rows["sound"] = pd.array(sound, "boolean")
    rows["judge"] = pd.Series(judge, rows.index, dtype="string")
    rows["reason"] = pd.array(reasons, "string")
    return rows


def decided(judgements: pd.DataFrame) -> pd.Series:
    """Which judgements count: those that say sound or unsound, and all of `arithmetic`.

    Where `arithmetic` has nothing to check it finds no fault, so that its rate is a lower bound.
    """
    return judgements["sound"].notna() | (judgements["judge"] == "arithmetic")


def judged_rows(
    samples: pd.DataFrame, verdicts: pd.DataFrame, judgements: pd.DataFrame | None, seed: int
) -> pd.DataFrame:
    """One row per sample (columns JUDGED), in the samples' order.

    Args: samples: KEY columns, SAMPLE_FACTS and `text`; verdicts: one row for each sample; judgements: of the study's
    own judge, at most one row for each sample, or None; seed: the study's, for `rank`.
    Raises pandas.errors.MergeError where a key stands twice.
    """
    verdicts = verdicts[[*KEY, "verdict", "extracted", "reason"]]
    rows = samples[[*KEY, *SAMPLE_FACTS]].merge(verdicts, on=KEY, validate="one_to_one")
    rows["is_blank"] = (samples["text"].str.strip() == "").to_numpy()
    rows["rank"] = [rank(seed, *key) for key in rows[KEY].itertuples(index=False)]
    for name, key_of in SAMENESS.items():
        numbers = {text: number_of(key_of(text)) for text in samples["text"].unique()}
        rows[f"same_{name}"] = samples["text"].map(numbers).to_numpy()
    if judgements is None:
        judgements = as_judgements(samples.head(0), "", [])
    return with_judgements(rows, judgements)


def with_judgements(rows: pd.DataFrame, judgements: pd.DataFrame) -> pd.DataFrame:
    """Judged rows with these judgements in place of the ones that they have."""
    own = judgements[[*KEY, "judge", "sound"]].assign(
        is_judged=decided(judgements), judge_reason=judgements["reason"]
    )
    rows = rows.drop(columns=["judge", "sound", "is_judged", "judge_reason"], errors="ignore")
    rows = rows.merge(own, on=KEY, how="left", validate="one_to_one")
    rows["is_judged"] = rows["is_judged"].isin([True])
    return rows[list(JUDGED)]
