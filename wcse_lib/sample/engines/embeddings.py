"""Vectors of texts from any OpenAI-compatible endpoint's /embeddings, within a hard spending limit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from wcse_lib.sample.engines.failures import ErrorInReply, Failure, Unreadable, error_in
from wcse_lib.sample.engines.service import Service
from wcse_lib.sample.engines.spending import Spending, SpendingLimit
from wcse_lib.study import Endpoint

TEXTS_A_CALL = 32  # the fewest that a common server takes at most


class EmbeddingService(Service):
    """An endpoint's /embeddings, one call after the other. `extra_body` is not sent: it is for samples."""

    def __init__(self, model: str, endpoint: Endpoint, spending: Spending):
        spending.check(model)
        super().__init__(model, endpoint)
        self.spending = spending
        self.identity = {"engine": "openai", "model": model}
        self._billed_failures = 0  # of the call that is made now
        self._dimension: int | None = None

    def vectors(self, texts: Sequence[str]) -> Iterator[tuple[range, np.ndarray, float]]:
        """Yield, call by call, places in `texts`, their vectors (float32 [texts, dimension]) and their tokens together.

        Raises SpendingLimit before a call that could go over `limit_usd`, and what `Service` raises.
        """
        for start in range(0, len(texts), TEXTS_A_CALL):
            places = range(start, min(start + TEXTS_A_CALL, len(texts)))
            rows, n_tokens = self._call([texts[place] for place in places])
            yield places, rows, n_tokens

    def _call(self, texts: list[str]) -> tuple[np.ndarray, float]:
        """One call with its tries, each of which may be billed."""
        n_bytes = sum(len(text.encode()) for text in texts)  # a token has at least one byte
        price_of_try = self.spending.cost(n_bytes, 0) or 0.0
        reserved = price_of_try * (1 + self._endpoint.max_retries)
        if not self.spending.reserve(reserved):
            raise SpendingLimit(
                f"limit_usd: {self.spending.limit_usd}: {self.spending.spent_usd:.6f} USD are spent on vectors, the "
                f"next call with all its tries may cost {reserved:.6f}: raise it and run again; what came is kept"
            )
        self._billed_failures, n_tokens = 0, 0.0
        service = self._client.embeddings.with_raw_response
        try:
            rows, n_tokens = self.ask(
                "POST /embeddings",
                lambda: service.create(model=self._model, input=texts, encoding_format="float"),
                lambda body: self._read(body, len(texts)),
            )
        finally:
            spent = self._billed_failures * price_of_try + (self.spending.cost(n_tokens, 0) or 0.0)
            self.spending.settle(reserved, spent)
        return rows, n_tokens

    def note_failure(self, failure: Failure) -> None:
        self._billed_failures += failure.maybe_billed

    def _read(self, body: Any, n: int) -> tuple[np.ndarray, float]:
        """The n vectors of an answer in the order of the texts, and the tokens that it bills (0: it tells none)."""
        entries = body.get("data") if isinstance(body, dict) else None
        if not isinstance(entries, list):
            if said := error_in(body):
                raise ErrorInReply(said)
            raise Unreadable(f"no vectors in the answer: {str(body)[:200]}")
        try:
            by_place = {entry["index"]: entry["embedding"] for entry in entries}
            with np.errstate(over="ignore"):  # becomes infinite, which is refused below
                rows = np.array([by_place[place] for place in range(n)], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise Unreadable(
                f"not the vectors of {n} texts: {type(error).__name__}: {error}"
            ) from None
        if rows.ndim != 2 or not np.isfinite(rows).all() or not np.any(rows, axis=1).all():
            raise Unreadable(
                f"vectors of shape {rows.shape}, some of them empty, zero or not finite"
            )
        self._dimension = self._dimension or rows.shape[1]
        if rows.shape[1] != self._dimension:
            raise Unreadable(
                f"vectors of {rows.shape[1]} numbers, after others of {self._dimension}"
            )
        usage = body.get("usage")
        n_tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        is_count = isinstance(n_tokens, int) and not isinstance(n_tokens, bool) and n_tokens >= 0
        return rows, float(n_tokens) if is_count else 0.0
