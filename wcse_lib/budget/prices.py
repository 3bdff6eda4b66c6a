"""What tokens cost in USD: a sourced and dated price table, and the bill of a sample."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from wcse_lib.budget.numbers import check_not_negative
from wcse_lib.store import StudyError
from wcse_lib.study import Price, Share, Strict, Text, read_yaml, validate

NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def usd(
    price: Price, n_tokens: float, n_prompt_tokens=0.0, n_cached_tokens=0.0, batch: bool = False
) -> float:
    """USD of `n_tokens` output and `n_prompt_tokens` input tokens, `n_cached_tokens` of these read from a cache.

    `price`: USD per million tokens. Raises ValueError when it lacks one that is needed.
    Leaves out cache writes and storage, surcharges for long prompts, minimum charges, taxes. Source: the row's own.

    >>> usd(Price(model="m", output=8.0, input=2.0), n_tokens=500, n_prompt_tokens=1000)
    0.006
    """
    n_uncached = n_prompt_tokens - n_cached_tokens
    check_not_negative(
        n_tokens=n_tokens, n_cached_tokens=n_cached_tokens, uncached_prompt_tokens=n_uncached
    )
    bought = {"output": n_tokens, "input": n_uncached, "cached": n_cached_tokens}
    price = price.of_batches() if batch else price
    total = 0.0
    for key, n in bought.items():
        if n:
            total += n * _price(price, key)
    return total / 1e6


def _price(price: Price, key: str) -> float:
    """One number of a row. Raises ValueError where it is missing or negative."""
    amount = getattr(price, key)
    if amount is None:
        raise ValueError(f"{price.model}: its price row has no {key!r}; add it, with its source")
    check_not_negative(**{f"{price.model}: price {key!r}": amount})
    return amount


class _Row(Strict):
    """A row of the price table."""

    model: Text
    date: Annotated[str, BeforeValidator(str), Field(pattern=r"^\d{4}-\d{2}")]
    source: Text
    output: NotNegative
    input: NotNegative | None = None
    cached: NotNegative | None = None
    batch_discount: Share | None = None


def read_price(path: str | Path, model: str, date: str | None = None) -> Price:
    """The newest row of `model` in a YAML price table (a list `prices`), on or before `date` (ISO) where given.

    Raises StudyError naming file, row and key for a bad row (negative, undated, unsourced, unknown key) and for a
    model without price.
    """
    rows = []
    for place, row in enumerate(read_yaml(Path(path)).get("prices") or [], 1):
        rows.append(validate(_Row, row, f"{path}: prices, row {place}"))
    last = date or ""
    priced = [row for row in rows if row.model == model and row.date[: len(last)] <= last]
    if not priced:
        known = ", ".join(sorted({row.model for row in rows})) or "nothing"
        raise StudyError(
            f"{path}: no price for {model!r} by {date or 'any date'}; add a sourced row. Priced: {known}"
        )
    newest = max(priced, key=lambda row: row.date)
    return Price(**newest.model_dump())
