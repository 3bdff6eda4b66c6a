"""Curation: chooses which samples become examples, and gives every other one the reason why it did not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable

import pandas as pd

from wcse_lib.metrics import equation_key, normalised_key
from wcse_lib.records import KEY

FILTERS = ("gold", "judge", "none")
UNIQUE = {"none": None, "text": str.strip, "normalised": normalised_key, "equations": equation_key}


def stand_ins(frame: pd.DataFrame, unique: Iterable[str], seed: int) -> pd.DataFrame:
    """All that `select` needs of the texts, in fixed size, so that it can choose among millions of samples.

    Returns `frame` without `text`, with `blank`, `place` (the random order) and for each way of uniqueness a number
    that equal texts share (`same_equations`, …).
    """
    text = frame["text"].fillna("")
    new = {"blank": text.str.strip() == "", "place": [_rank(seed, *key) for key in frame[KEY].itertuples(index=False)]}
    for kind in set(unique) - {"none"}:
        new[f"same_{kind}"] = [_number(str(UNIQUE[kind](one))) for one in text]
    return frame.drop(columns="text").assign(**new)


def select(
    frame: pd.DataFrame, *, filter: str = "gold", unique: str = "text", per_problem: int | None = None,
    n_examples: int | None = None, n_problems: int | None = None, n_samples: int | None = None, noise: float = 0.0,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:  # fmt: skip
    """Split samples into examples and dropped rows; what is chosen depends on the keys and the seed, not on the order.

    Args: frame: one row per sample with KEY columns, `text` (or its `stand_ins`), `verdict`, for filter="judge" also
    `sound` (bool or None), and where known `extracted` and `finish_reason`; several authors are one pool. In this order:
      n_samples: only each problem's first n samples;
      n_problems: only the first n problems, in a random order that a larger n extends and that is the same for arms
        with the same seed and problems;
      filter: "gold" admits correct samples, "judge" those judged sound whatever the gold answer, "none" all;
      unique: one sample per problem of those equal by text, normalised words or equation sequence;
      per_problem: at most so many per problem (1: exactly one for every solved problem);
      noise: this share of the examples are wrong ones; without `n_examples` they take the place of right ones;
      n_examples: exactly so many in all (to give arms equal counts).
    Wrong samples pass `unique` and `per_problem` by themselves.
    Returns (examples: the admitted rows of `frame`, sorted by key; dropped: KEY columns and `reason`); the two together
    hold every row once. Raises ValueError for a bad option, a missing column, a repeated key or too few samples.
    """
    counts = {"per_problem": per_problem, "n_examples": n_examples, "n_problems": n_problems, "n_samples": n_samples}
    _check(frame, filter, unique, counts, noise)
    rows = frame.sort_values(KEY, kind="stable").reset_index(drop=True)
    light = rows if "place" in rows else stand_ins(rows, [unique], seed)
    reason = pd.Series("", index=rows.index, dtype=object)

    def drop(mask, why) -> None:
        mask = mask & (reason == "")
        reason[mask] = why[mask] if isinstance(why, pd.Series) else why

    if n_samples is not None:
        drop(rows["sample_index"] >= n_samples, f"beyond the first {n_samples} samples")
    if n_problems is not None:
        first = sorted(rows["problem_id"].unique(), key=lambda problem: _rank(seed, problem))[:n_problems]
        drop(~rows["problem_id"].isin(first), f"beyond the first {n_problems} problems")
    if "finish_reason" in rows:
        drop(rows["finish_reason"] == "error", "the sample failed")
        drop(rows["finish_reason"] == "length", "truncated")
    drop(light["blank"], "empty")

    right, wrong, why_not = _pools(rows, filter)
    drop(~right & ~wrong, why_not)
    if not noise:
        drop(wrong, why_not)
    if "extracted" in rows:
        drop(wrong & rows["extracted"].isna(), "wrong, and without a final answer")

    by_rank = light.assign(right=right).sort_values("place", kind="stable")
    if unique != "none":
        alive = by_rank[reason[by_rank.index] == ""]
        same = alive.duplicated(["problem_id", "right", f"same_{unique}"])
        drop(_at(rows, alive.index[same]), f"duplicate ({unique})")
    if per_problem is not None:
        alive = by_rank[reason[by_rank.index] == ""]
        nth = alive.groupby(["problem_id", "right"]).cumcount()
        drop(_at(rows, alive.index[nth >= per_problem]), f"over {per_problem} per problem")

    alive = by_rank[reason[by_rank.index] == ""]
    pools = {"right": alive.index[alive["right"]], "wrong": alive.index[~alive["right"]]}
    total = n_examples if n_examples is not None else len(pools["right"])
    n_wrong = round(noise * total)
    for name, n in {"right": total - n_wrong, "wrong": n_wrong}.items():
        if n > len(pools[name]):
            raise ValueError(f"{n} {name} examples are needed, {len(pools[name])} samples are left for them: "
                             f"lower n_examples = {n_examples} or noise = {noise}, or draw more samples")  # fmt: skip
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


def _rank(seed: int, *key) -> int:
    """A random but fixed place for a key."""
    return _number(json.dumps([seed, *(k if isinstance(k, str) else int(k) for k in key)]))


def _number(text: str) -> int:
    """63 bits that stand for a text."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big") >> 1


def _check(frame, filter, unique, counts, noise) -> None:
    if filter not in FILTERS:
        raise ValueError(f"filter = {filter!r}: one of {', '.join(FILTERS)} is needed")
    if unique not in UNIQUE:
        raise ValueError(f"unique = {unique!r}: one of {', '.join(UNIQUE)} is needed")
    for name, value in counts.items():
        if value is not None and (value < 1 or value != int(value)):
            raise ValueError(f"{name} = {value!r}: a whole number from 1 on, or None, is needed")
    if not 0 <= noise < 1:
        raise ValueError(f"noise = {noise!r}: a share from 0 to below 1 is needed")
    if noise and filter == "none":
        raise ValueError("noise needs a filter that tells right from wrong: filter = 'gold' or 'judge'")
    needed = [*KEY, *(["text"] if "place" not in frame else []), *{"gold": ["verdict"], "judge": ["sound"], "none": []}[filter]]
    if missing := [column for column in needed if column not in frame]:
        raise ValueError(f"the frame lacks the columns {missing}, which filter = {filter!r} needs")
    if (repeated := frame.duplicated(KEY)).any():
        raise ValueError(f"the key {frame.loc[repeated, KEY].iloc[0].tolist()} stands twice")
