"""Amounts that are planned or spent: tokens, FLOPs, seconds, USD and kWh, each of which may be unknown."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

UNITS = ("tokens", "prompt_tokens", "flops", "seconds", "usd", "kwh")


class Amounts(BaseModel):
    """What something costs, by unit; None where it is not known.

    Amounts add unit by unit, and a sum is known only where every part is. `Amounts.zero()` is where sums begin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: float | None = None  # of answers
    prompt_tokens: float | None = None  # as they are charged
    flops: float | None = None
    seconds: float | None = None  # of devices
    usd: float | None = None
    kwh: float | None = None

    @classmethod
    def zero(cls) -> Amounts:
        return cls(**dict.fromkeys(UNITS, 0.0))

    def __add__(self, other: Amounts) -> Amounts:
        added = {}
        for unit in UNITS:
            mine, theirs = getattr(self, unit), getattr(other, unit)
            if mine is not None and theirs is not None:
                added[unit] = mine + theirs
        return Amounts(**added)

    def times(self, factor: float) -> Amounts:
        """Every known amount multiplied."""
        known = {unit: getattr(self, unit) for unit in UNITS}
        return Amounts(**{unit: x * factor for unit, x in known.items() if x is not None})


def sum_of(parts: Iterable[Amounts]) -> Amounts:
    """The sum of amounts; a unit that one part does not know is unknown."""
    total = Amounts.zero()
    for part in parts:
        total += part
    return total
