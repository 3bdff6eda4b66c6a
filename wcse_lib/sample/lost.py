"""Samples that cannot be right (failed, empty, truncated): too many of them stop a stage before the next one starts."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from wcse_lib.store import StudyError


def is_empty(rows: pd.DataFrame) -> pd.Series:
    """Which samples ended without a word."""
    return (rows["finish_reason"] == "stop") & (rows["text"].str.strip() == "")


def check_lost_share(
    rows: pd.DataFrame, folder: Path, most: float, truncated_count: bool = True
) -> None:
    """Raise StudyError, with counts by kind, where more than a share `most` of the samples of a folder are lost.

    Args: rows: `finish_reason`, `text`, `error`; truncated_count: False counts only failed and empty ones.
    """
    lost = {"failed": rows["finish_reason"] == "error", "empty": is_empty(rows)}
    if truncated_count:
        lost["truncated at max_tokens"] = rows["finish_reason"] == "length"
    counts = {kind: int(is_lost.sum()) for kind, is_lost in lost.items()}
    n_lost = sum(counts.values())
    if n_lost <= most * len(rows):
        return
    by_kind = ", ".join(f"{n:,} {kind}" for kind, n in counts.items() if n)
    errors = rows.loc[lost["failed"], "error"]
    first = f"; the first failed with: {errors.iloc[0]}" if len(errors) else ""
    raise StudyError(
        f"{folder}: {n_lost:,} of {len(rows):,} samples ({n_lost / len(rows):.0%}) are lost ({by_kind}), more than "
        f"sampling.max_failed_share = {most:g}{first}. Run again to draw failed ones anew; look at the prompt where "
        "they are empty, raise max_tokens where they were cut; or, to go on with what there is, raise "
        "sampling.max_failed_share"
    )
