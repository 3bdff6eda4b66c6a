"""Judgements: whether the reasoning of a sample holds, one row a sample and judge."""

from __future__ import annotations

import pandas as pd

from wcse_lib.store import KEY

JUDGEMENT_COLUMNS = [*KEY, "sound", "judge", "reason"]


def judged(
    samples: pd.DataFrame, judge: str, results: list[tuple[bool | None, str]]
) -> pd.DataFrame:
    """Judgement rows (JUDGEMENT_COLUMNS) of samples and their (sound, reason) pairs."""
    said = {"sound": [sound for sound, _ in results], "reason": [reason for _, reason in results]}
    rows = (
        samples[KEY]
        .assign(sound=pd.array(said["sound"], "boolean"), judge=judge)
        .astype({"judge": "string"})
    )
    return rows.assign(reason=pd.array(said["reason"], "string")).reset_index(drop=True)


def decided(judgements: pd.DataFrame) -> pd.Series:
    """Which judgements count: an undecided one does not, but where `arithmetic` has nothing to check, no fault is found,
    so that its rate is a lower bound."""
    return judgements["sound"].notna() | (judgements["judge"] == "arithmetic")
