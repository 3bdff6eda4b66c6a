"""What tokens cost in USD: a sourced and dated price table, and the bill of a sample."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from wcse_lib.budget.numbers import check_not_negative, check_positive
from wcse_lib.store import StudyError
from wcse_lib.study import Price, read_yaml

NEEDED = {"model", "date", "source", "output"}  # keys of a row of the price table
OPTIONAL = {"input", "cached", "batch_discount"}


def usd(
    price: Mapping, n_tokens: float, n_prompt_tokens=0.0, n_cached_tokens=0.0, batch: bool = False
) -> float:
    """USD of `n_tokens` output and `n_prompt_tokens` input tokens, `n_cached_tokens` of these read from a cache.

    `price`: a row of the price table, USD per million tokens. Raises ValueError when it lacks a price that is needed.
    Leaves out cache writes and storage, surcharges for long prompts, minimum charges, taxes. Source: the row's own.

    >>> usd({"model": "m", "output": 8.0, "input": 2.0}, n_tokens=500, n_prompt_tokens=1000)
    0.006
    """
    n_uncached = n_prompt_tokens - n_cached_tokens
    check_not_negative(
        n_tokens=n_tokens, n_cached_tokens=n_cached_tokens, uncached_prompt_tokens=n_uncached
    )
    bought = {"output": n_tokens, "input": n_uncached, "cached": n_cached_tokens}
    total = 0.0
    for key, n in bought.items():
        if n:
            total += n * _price(price, key)
    discount = _price(price, "batch_discount") if batch else 0.0
    return total / 1e6 * (1 - discount)


def _price(price: Mapping, key: str) -> float:
    """One number of a row. Raises ValueError where it is missing or negative."""
    model = price.get("model")
    if price.get(key) is None:
        raise ValueError(f"{model}: its price row has no {key!r}; add it, with its source")
    check_not_negative(**{f"{model}: price {key!r}": price[key]})
    return price[key]


def read_price(path: str | Path, model: str, date: str | None = None) -> Price:
    """The newest row of `model` in a YAML price table (a list `prices`), on or before `date` (ISO) where given.

    Raises StudyError naming file, row and key for a bad row (negative, undated, unsourced, unknown key) and for a
    model without price.
    """
    rows = read_yaml(Path(path)).get("prices") or []
    for place, row in enumerate(rows, 1):
        _check_row(row, f"{path}: prices, row {place}")
    last = date or ""
    by_then = [row for row in rows if str(row["date"])[: len(last)] <= last]
    priced = [row for row in by_then if row["model"] == model]
    if not priced:
        known = ", ".join(sorted({row["model"] for row in rows})) or "nothing"
        raise StudyError(
            f"{path}: no price for {model!r} by {date or 'any date'}; add a sourced row. Priced: {known}"
        )
    newest = max(priced, key=lambda row: str(row["date"]))
    return Price(**newest | {"date": str(newest["date"])})


def _check_row(row: object, place: str) -> None:
    keys = set(row) if isinstance(row, dict) else set()
    wrong = NEEDED ^ (keys - OPTIONAL)
    if wrong:
        raise StudyError(f"{place}: {min(wrong)!r} is unknown, or needed and missing")
    known = {key: row[key] for key in OPTIONAL & keys if row[key] is not None}
    try:
        check_not_negative(output=row["output"], **known)
        check_positive(what_a_batch_still_costs=1 - known.get("batch_discount", 0))
        if not re.match(r"\d{4}-\d{2}", str(row["date"])) or not row["source"]:
            raise ValueError(
                f"date = {row['date']!r} (YYYY-MM or YYYY-MM-DD) and a source are needed"
            )
    except ValueError as error:
        raise StudyError(f"{place} ({row['model']}): {error}") from None
