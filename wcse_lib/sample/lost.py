"""Samples that cannot be right (failed, empty, truncated): too many of them stop a stage before the next one starts."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from wcse_lib.answers import without_thoughts
from wcse_lib.store import StudyError

# White space, marks of no width, and the special tokens that end texts and turns.
NOTHING = re.compile(
    r"(?:[\s\u00ad\u200b-\u200f\u2060\ufeff]|<[|｜][^|｜<>\s]*[|｜]>|</?(?:s|bos|eos|pad|end_of_turn)>)*"
)


def is_empty(rows: pd.DataFrame) -> pd.Series:
    """Which samples ended without a word, be it that they have thought."""
    return (rows["finish_reason"] == "stop") & rows["text"].map(_says_nothing).astype(bool)


def _says_nothing(text: str) -> bool:
    said = without_thoughts(text)
    return said is not None and bool(NOTHING.fullmatch(said))


def check_lost_share(
    rows: pd.DataFrame,
    folder: Path,
    most: float,
    truncated_count: bool = True,
    n_blank: int = 0,
) -> None:
    """Raise StudyError, with counts by kind, where more than a share `most` of the samples of a folder are lost.

    Args: rows: `finish_reason`, `text`, `error`; truncated_count: False counts only failed and empty ones; n_blank:
    rows of an imported file that have no text, and so are not among `rows`.
    """
    lost = {"failed": rows["finish_reason"] == "error", "empty": is_empty(rows)}
    if truncated_count:
        lost["truncated at max_tokens"] = rows["finish_reason"] == "length"
    counts = {kind: int(is_lost.sum()) for kind, is_lost in lost.items()}
    counts["empty"] += n_blank
    n_lost, n = sum(counts.values()), len(rows) + n_blank
    if n_lost <= most * n:
        return
    by_kind = ", ".join(f"{count:,} {kind}" for kind, count in counts.items() if count)
    errors = rows.loc[lost["failed"], "error"]
    first = f"; the first failed with: {errors.iloc[0]}" if len(errors) else ""
    raise StudyError(
        f"{folder}: {n_lost:,} of {n:,} samples ({n_lost / n:.0%}) are lost ({by_kind}), more than "
        f"sampling.max_failed_share = {most:g}{first}. Run again to draw failed ones anew; look at the prompt where "
        "they are empty, raise max_tokens where they were cut; or, to go on with what there is, raise "
        "sampling.max_failed_share"
    )
