"""What an endpoint may cost and has cost: an amount is reserved before a call and settled after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock

CALLS_AHEAD = (
    20  # calls whose price is noted ahead, so that not every call writes a file; but at most …
)
SHARE_AHEAD = 0.01  # … this share of the limit, which a killed run may leave unused


class SpendingLimit(ValueError):
    """The next call could go over `limit_usd`: what was started has been yielded, the rest is undone."""


@dataclass
class Spending:
    """Prices, limit and bill of one endpoint; several threads may use it at once.

    Args: price_in, price_out: USD per million prompt and output tokens, None where unknown; price_cached: of prompt
    tokens read from a cache, which cost as others where it is None; limit_usd: a hard stop; spent_usd: what was spent
    before counts, too; note: is given, before calls are made, what may be spent after them, so that a killed run's bill
    is known.
    """

    price_in: float | None = None
    price_out: float | None = None
    limit_usd: float | None = None
    spent_usd: float = 0.0
    note: Callable[[float], None] | None = None
    price_cached: float | None = None

    def __post_init__(self):
        self._reserved = 0.0
        self._noted = self.spent_usd
        self._lock = Lock()

    @property
    def has_prices(self) -> bool:
        return self.price_in is not None and self.price_out is not None

    def check(self, model: str) -> None:
        """Raise ValueError where there is a limit, but no prices to keep it by."""
        if self.limit_usd is not None and not self.has_prices:
            raise ValueError(
                f"limit_usd: {self.limit_usd} needs both prices: write arms.<name>.usd_per_million_tokens and "
                f"usd_per_million_prompt_tokens into the params file, or a row for {model!r} with input and output "
                "into the price table (budget.prices)"
            )

    def cost(self, n_prompt_tokens: int, n_tokens: int, n_cached_tokens: int = 0) -> float | None:
        """USD of so many tokens, `n_cached_tokens` of the prompt's from a cache; None where a price is unknown."""
        if not self.has_prices:
            return None
        price_cached = self.price_in if self.price_cached is None else self.price_cached
        prompt = (n_prompt_tokens - n_cached_tokens) * (self.price_in / 1e6)
        return prompt + n_cached_tokens * (price_cached / 1e6) + n_tokens * (self.price_out / 1e6)

    def reserve(self, usd: float) -> bool:
        """Set an amount aside, unless it could go over the limit."""
        limit = math.inf if self.limit_usd is None else self.limit_usd
        with self._lock:
            most = self.spent_usd + self._reserved + usd
            if most > limit:
                return False
            self._reserved += usd
            if most > self._noted:
                self._noted = most + min(CALLS_AHEAD * usd, SHARE_AHEAD * limit)
                if self.note:
                    self.note(self._noted)
            return True

    def hold(self, usd: float) -> None:
        """Set an amount aside that was committed before, whatever the limit."""
        with self._lock:
            self._reserved += usd

    @property
    def is_within_limit(self) -> bool:
        """Whether all that is spent and set aside keeps to the limit."""
        return self.limit_usd is None or self.spent_usd + self._reserved <= self.limit_usd

    def settle(self, reserved: float, spent: float) -> None:
        """Give back what was set aside for a call, and add what it has cost."""
        with self._lock:
            self._reserved -= reserved
            self.spent_usd += spent
