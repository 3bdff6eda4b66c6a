"""What samples say after their thoughts: all that verdicts, judges and students are shown of them."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from wcse_lib.answers import without_thoughts


def spoken(samples: pd.DataFrame, opened: str | Mapping[str, str] = "") -> pd.DataFrame:
    """The samples with what they say after their thoughts for `text`, and `in_thought`: whose last one never ends.

    Args: samples: `text`; opened: the tag that opens a thought at the end of the prompts, or such tags by `model`,
    then a column of the samples. The text of a sample that never stops thinking is empty.
    """
    tags = opened
    if not isinstance(opened, str):
        tags = samples["model"].map(opened).fillna("") if opened else ""
    opened_by_row = pd.Series(tags, index=samples.index, dtype=object)
    texts = [without_thoughts(text, tag) for text, tag in zip(samples["text"], opened_by_row)]
    in_thought = [text is None for text in texts]
    said = pd.array([text or "" for text in texts], "string")
    return samples.assign(text=said, in_thought=pd.array(in_thought, "bool"))
