"""Curation: chooses which samples become examples, and gives every other one the reason why it did not."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd

from wcse_lib.metrics import UNIQUE
from wcse_lib.store import KEY

FILTERS = ("gold", "judge", "none")


def stand_ins(frame: pd.DataFrame, unique: Iterable[str], seed: int) -> pd.DataFrame:
    """All that `select` needs of the texts, in fixed size, so that it can choose among millions of samples.

    Returns `frame` without `text`, with `blank`, `place` (the random order) and for each way of uniqueness a number
    that equal texts share (`same_equations`, …).
    """
    text = frame["text"].fillna("")
    new = {
        "blank": text.str.strip() == "",
        "place": [_rank(seed, *key) for key in frame[KEY].itertuples(index=False)],
    }
    for kind in set(unique) - {"none"}:
        new[f"same_{kind}"] = [_number(str(UNIQUE[kind](one))) for one in text]
    return frame.drop(columns="text").assign(**new)


class Bounds(NamedTuple):
    """What of a choice hangs on all samples at once: the random places of the last problem, and of the last right and
    wrong sample, that are admitted."""

    problem: float = math.inf
    right: float = math.inf
    wrong: float = math.inf


def select(
    frame: pd.DataFrame,
    *,
    filter: str = "gold",
    unique: str = "text",
    per_problem: int | None = None,
    n_examples: int | None = None,
    n_problems: int | None = None,
    n_samples: int | None = None,
    noise: float = 0.0,
    seed: int = 0,
    bounds: Bounds | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
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
    Wrong samples pass `unique` and `per_problem` by themselves. A frame that is a piece of the whole (all samples of some
    problems) needs the `bounds` of the whole, from `last_problem` and `last_places`.
    Returns (examples: the admitted rows of `frame`, sorted by key; dropped: KEY columns and `reason`); the two together
    hold every row once. Raises ValueError for a bad option, a missing column, a repeated key or too few samples.
    """
    counts = {
        "per_problem": per_problem,
        "n_examples": n_examples,
        "n_problems": n_problems,
        "n_samples": n_samples,
    }
    _check(frame, filter, unique, counts, noise)
    rows = frame.sort_values(KEY, kind="stable").reset_index(drop=True)
    light = rows if "place" in rows else stand_ins(rows, [unique], seed)
    options = dict(
        filter=filter,
        unique=unique,
        per_problem=per_problem,
        n_problems=n_problems,
        n_samples=n_samples,
        noise=noise,
        seed=seed,
    )
    last = last_problem(rows["problem_id"], n_problems, seed) if bounds is None else bounds.problem
    bounds = bounds or Bounds(
        last, *last_places([left_places(light, last, **options)], n_examples, noise)
    )
    reason, right = _settled(light, last, **options)
    left = reason == ""
    for name, side, bound in (("right", right, bounds.right), ("wrong", ~right, bounds.wrong)):
        reason[left & side & (light["place"] > bound)] = (
            "over n_examples" if n_examples else f"over the share of {name} ones"
        )
    kept = reason == ""
    examples = rows[kept].reset_index(drop=True)
    dropped = rows.loc[~kept, KEY].assign(reason=reason[~kept]).reset_index(drop=True)
    assert len(examples) + len(dropped) == len(frame), "rows were lost in curation"
    return examples, dropped


def last_problem(problems: Iterable[str], n_problems: int | None, seed: int) -> float:
    """The place of the last of the first `n_problems` problems."""
    places = (
        sorted(_rank(seed, problem) for problem in set(problems)) if n_problems is not None else []
    )
    return (
        places[n_problems - 1] if n_problems is not None and n_problems <= len(places) else math.inf
    )


def left_places(light: pd.DataFrame, last: float, **options) -> tuple[np.ndarray, np.ndarray]:
    """Places of the right and of the wrong samples (`stand_ins` of whole problems) that `select` has left when it comes to
    `n_examples` and `noise`; `last`: the `last_problem`, `options` as of `select`."""
    reason, right = _settled(light, last, **options)
    return tuple(light.loc[(reason == "") & side, "place"].to_numpy() for side in (right, ~right))


def last_places(
    found: Iterable[tuple[np.ndarray, np.ndarray]], n_examples: int | None, noise: float
) -> tuple[float, float]:
    """The last places of right and of wrong samples to admit, from the `left_places` of all pieces. Raises ValueError
    where there are too few."""
    pools = dict(zip(("right", "wrong"), map(np.concatenate, zip(*found))))
    total = n_examples if n_examples is not None else len(pools["right"])
    n_wrong, last = round(noise * total), []
    for name, n in {"right": total - n_wrong, "wrong": n_wrong}.items():
        if n > len(pools[name]):
            raise ValueError(
                f"{n} {name} examples are needed, {len(pools[name])} samples are left for them: "
                f"lower n_examples = {n_examples} or noise = {noise}, or draw more samples"
            )
        last.append(np.partition(pools[name], n - 1)[n - 1] if n else -1)
    return tuple(last)


def _settled(
    light, last: float, *, filter, unique, per_problem, n_problems, n_samples, noise, seed, **_
) -> tuple[pd.Series, pd.Series]:
    """Why rows are dropped that their own problem's rows (and the last problem's place) rule out, and which are right."""
    reason = pd.Series("", index=light.index, dtype=object)

    def drop(mask, why) -> None:
        mask = mask & (reason == "")
        reason[mask] = why[mask] if isinstance(why, pd.Series) else why

    if n_samples is not None:
        drop(light["sample_index"] >= n_samples, f"beyond the first {n_samples} samples")
    if last < math.inf:
        beyond = {problem: _rank(seed, problem) > last for problem in light["problem_id"].unique()}
        drop(
            light["problem_id"].map(beyond).astype(bool), f"beyond the first {n_problems} problems"
        )
    if "finish_reason" in light:
        drop(light["finish_reason"] == "error", "the sample failed")
        drop(light["finish_reason"] == "length", "truncated")
    drop(light["blank"], "empty")

    right, wrong, why_not = _pools(light, filter)
    drop(~right & ~wrong, why_not)
    if not noise:
        drop(wrong, why_not)
    if "extracted" in light:
        drop(wrong & light["extracted"].isna(), "wrong, and without a final answer")

    by_rank = light.assign(right=right).sort_values("place", kind="stable")
    if unique != "none":
        alive = by_rank[reason[by_rank.index] == ""]
        same = alive.duplicated(["problem_id", "right", f"same_{unique}"])
        drop(_at(light, alive.index[same]), f"duplicate ({unique})")
    if per_problem is not None:
        alive = by_rank[reason[by_rank.index] == ""]
        nth = alive.groupby(["problem_id", "right"]).cumcount()
        drop(_at(light, alive.index[nth >= per_problem]), f"over {per_problem} per problem")
    return reason, right


def _pools(rows: pd.DataFrame, filter: str) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Which rows the filter calls right and which wrong, and the reason that keeps a row out."""
    if filter == "none":
        everything = pd.Series(True, index=rows.index)
        return everything, ~everything, pd.Series("", index=rows.index)
    if filter == "gold":
        return (
            rows["verdict"] == "correct",
            rows["verdict"] == "incorrect",
            rows["verdict"].astype(object),
        )
    right = rows["sound"].isin([True])
    wrong = rows["sound"].isin([False])
    why = right.map({True: "judged sound", False: "not judged"}).astype(object)
    return right, wrong, why.mask(wrong, "judged unsound")


def _at(rows: pd.DataFrame, index) -> pd.Series:
    return pd.Series(rows.index.isin(index), index=rows.index)


def _rank(seed: int, *key) -> int:
    """A random but fixed place for a key."""
    return _number(json.dumps([seed, *(k if isinstance(k, str) else int(k) for k in key)]))


def _number(text: str) -> int:
    """63 bits that stand for a text."""
    return (
        int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:8], "big")
        >> 1
    )


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
        raise ValueError(
            "noise needs a filter that tells right from wrong: filter = 'gold' or 'judge'"
        )
    needed = [
        *KEY,
        *(["text"] if "place" not in frame else []),
        *{"gold": ["verdict"], "judge": ["sound"], "none": []}[filter],
    ]
    if missing := [column for column in needed if column not in frame]:
        raise ValueError(f"the frame lacks the columns {missing}, which filter = {filter!r} needs")
    if (repeated := frame.duplicated(KEY)).any():
        raise ValueError(f"the key {frame.loc[repeated, KEY].iloc[0].tolist()} stands twice")
