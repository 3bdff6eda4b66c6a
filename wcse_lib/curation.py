"""Curation: chooses which samples become examples, and gives every other one the reason why it did not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable

import pandas as pd

from wcse_lib.metrics import equation_key, normalised_key
from wcse_lib.records import KEY

FILTERS = ("gold", "judge", "none")
UNIQUE: dict[str, Callable[[str], object] | None] = {
    "none": None,
    "text": str.strip,
    "normalised": normalised_key,
    "equations": equation_key,
}


def select(
    frame: pd.DataFrame,
    *,
    filter: str = "gold",
    unique: str = "text",
    per_problem: int | None = None,
    n_examples: int | None = None,
    n_problems: int | None = None,
    noise: float = 0.0,
    only_wrong: bool = False,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split samples into examples and dropped rows; what is chosen depends on the keys and the seed, not on the order.

    Args: frame: one row per sample with KEY columns, `text`, `verdict`, for filter="judge" also `sound` (bool or None),
    and where known `extracted` and `finish_reason`; several authors are one pool. In this order:
      n_problems: only the first n problems, in a random order that a larger n extends and that is the same for arms
        with the same seed and problems;
      filter: "gold" admits correct samples, "judge" those judged sound whatever the gold answer, "none" all;
      only_wrong: a control: admits what the filter calls wrong, if it has a final answer, and nothing else;
      unique: one sample per problem of those equal by text, normalised words or equation sequence;
      per_problem: at most so many per problem (1: exactly one for every solved problem);
      noise: this share of the examples are wrong ones; without `n_examples` they take the place of right ones;
      n_examples: exactly so many in all (to give arms equal counts).
    Wrong samples pass `unique` and `per_problem` by themselves.
    Returns (examples: the admitted rows of `frame`, sorted by key; dropped: KEY columns and `reason`); the two together
    hold every row once. Raises ValueError for a bad option, a missing column, a repeated key or too few samples.
    """
    _check(frame, filter, unique, per_problem, n_examples, n_problems, noise, only_wrong)
    rows = frame.sort_values(KEY, kind="stable").reset_index(drop=True)
    rank = pd.Series([_rank(seed, *key) for key in rows[KEY].itertuples(index=False)], index=rows.index, dtype=object)
    reason = pd.Series("", index=rows.index, dtype=object)

    def drop(mask, why) -> None:
        mask = mask & (reason == "")
        reason[mask] = why[mask] if isinstance(why, pd.Series) else why

    if n_problems is not None:
        first = sorted(rows["problem_id"].unique(), key=lambda problem: _rank(seed, problem))[:n_problems]
        drop(~rows["problem_id"].isin(first), f"beyond the first {n_problems} problems")
    if "finish_reason" in rows:
        drop(rows["finish_reason"] == "error", "the sample failed")
        drop(rows["finish_reason"] == "length", "truncated")
    drop(rows["text"].isna() | (rows["text"].fillna("").str.strip() == ""), "empty")

    right, wrong, why_not = _pools(rows, filter)
    drop(~right & ~wrong, why_not)
    if only_wrong:
        drop(right, "right, and only wrong ones are wanted")
    elif not noise:
        drop(wrong, why_not)
    if "extracted" in rows:
        drop(wrong & rows["extracted"].isna(), "wrong, and without a final answer")

    by_rank = rows.assign(right=right, rank=rank).sort_values("rank", kind="stable")
    if make_key := UNIQUE[unique]:
        alive = by_rank[reason[by_rank.index] == ""]
        alive = alive.assign(same=[make_key(text) for text in alive["text"]])
        drop(_at(rows, alive.index[alive.duplicated(["problem_id", "right", "same"])]), f"duplicate ({unique})")
    if per_problem is not None:
        alive = by_rank[reason[by_rank.index] == ""]
        nth = alive.groupby(["problem_id", "right"]).cumcount()
        drop(_at(rows, alive.index[nth >= per_problem]), f"over {per_problem} per problem")

    alive = by_rank[reason[by_rank.index] == ""]
    pools = {"right": alive.index[alive["right"]], "wrong": alive.index[~alive["right"]]}
    total = n_examples if n_examples is not None else len(pools["wrong" if only_wrong else "right"])
    n_wrong = total if only_wrong else round(noise * total)
    for name, n in {"right": total - n_wrong, "wrong": n_wrong}.items():
        if n > len(pools[name]):
            raise ValueError(
                f"{n} {name} examples are needed, {len(pools[name])} samples are left for them: "
                f"lower n_examples = {n_examples} or noise = {noise}, or draw more samples"
            )
        drop(_at(rows, pools[name][n:]), "over n_examples" if n_examples else f"over the share of {name} ones")

    kept = reason == ""
    examples = rows[kept].reset_index(drop=True)
    dropped = rows.loc[~kept, KEY].assign(reason=reason[~kept]).reset_index(drop=True)
    assert len(examples) + len(dropped) == len(frame), "rows were lost in curation"
    return examples, dropped


def _pools(rows: pd.DataFrame, filter: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Which rows the filter calls right and which wrong, and the reason that keeps a row out."""
    if filter == "none":
        everything = pd.Series(True, index=rows.index)
        return everything, ~everything, pd.Series("", index=rows.index)
    if filter == "gold":
        return rows["verdict"] == "correct", rows["verdict"] == "incorrect", rows["verdict"].astype(object)
    right = rows["sound"].eq(True).fillna(False).astype(bool)
    wrong = rows["sound"].eq(False).fillna(False).astype(bool)
    why = right.map({True: "judged sound", False: "not judged"}).astype(object)
    return right, wrong, why.mask(wrong, "judged unsound")


def _at(rows: pd.DataFrame, index) -> pd.Series:
    return pd.Series(rows.index.isin(index), index=rows.index)


def _rank(seed: int, *key) -> str:
    """A random but fixed place for a key."""
    text = json.dumps([seed, *(k if isinstance(k, str) else int(k) for k in key)])
    return hashlib.sha256(text.encode()).hexdigest()


def _check(frame, filter, unique, per_problem, n_examples, n_problems, noise, only_wrong) -> None:
    if filter not in FILTERS:
        raise ValueError(f"filter = {filter!r}: one of {', '.join(FILTERS)} is needed")
    if unique not in UNIQUE:
        raise ValueError(f"unique = {unique!r}: one of {', '.join(UNIQUE)} is needed")
    for name, value in {"per_problem": per_problem, "n_examples": n_examples, "n_problems": n_problems}.items():
        if value is not None and (value < 1 or value != int(value)):
            raise ValueError(f"{name} = {value!r}: a whole number from 1 on, or None, is needed")
    if not 0 <= noise < 1:
        raise ValueError(f"noise = {noise!r}: a share from 0 to below 1 is needed; see also only_wrong")
    if (noise or only_wrong) and filter == "none":
        raise ValueError("noise and only_wrong need a filter that tells right from wrong: filter = 'gold' or 'judge'")
    if noise and only_wrong:
        raise ValueError("noise and only_wrong exclude each other")
    needed = [*KEY, "text", *{"gold": ["verdict"], "judge": ["sound"], "none": []}[filter]]
    if missing := [column for column in needed if column not in frame]:
        raise ValueError(f"the frame lacks the columns {missing}, which filter = {filter!r} needs")
    if (repeated := frame.duplicated(KEY)).any():
        raise ValueError(f"the key {frame.loc[repeated, KEY].iloc[0].tolist()} stands twice")
