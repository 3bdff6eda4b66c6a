"""Texts as vectors of length 1, by a local model or an endpoint; kept in the user's cache: none is made twice."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from wcse_lib.sample.drawing import progress
from wcse_lib.sample.engines.embeddings import EmbeddingService
from wcse_lib.sample.engines.pooling import LocalEmbedder
from wcse_lib.sample.engines.spending import Spending
from wcse_lib.store import StudyError, read_parquet, write_parquet
from wcse_lib.study import Machine, Price, cache_folder, fingerprint, resolve_model

TEXTS_A_FILE = 1024  # an endpoint's are kept sooner, after every call, since they are paid


@dataclass(frozen=True)
class Vectors:
    """Vectors of some texts, float16 [texts, dimension]; what made them, and the tokens that they took whenever that
    was."""

    rows: np.ndarray
    made_by: dict[str, Any]
    n_tokens: int


def vectors_of(
    texts: Sequence[str], model: str, engine: str, machine: Machine, price: Price | None = None
) -> Vectors:
    """The vectors of texts, of which those are made that the cache does not hold.

    Args: engine: local (checkpoint folder or hub id) or openai; price: an endpoint's, needed for `machine.limit_usd`,
    which holds for what is made now. Raises StudyError for a model that cannot be used so, ValueError for an endpoint
    that refuses, is down or would cost more.
    """
    if engine == "local":
        source = LocalEmbedder(resolve_model(model), machine)
        kept_for = source.identity
    else:
        spending = Spending(price.input if price else None, 0.0, machine.limit_usd)
        source = EmbeddingService(model, machine, spending)
        kept_for = source.identity | {"base_url": machine.base_url}
    cache = _Cache(kept_for)
    marks = [hashlib.sha256(text.encode()).hexdigest()[:32] for text in texts]
    missing = {mark: text for mark, text in zip(marks, texts) if mark not in cache.places}
    with contextlib.closing(source), progress("vectors", len(missing), unit="texts") as bar:
        _make(source, missing, cache, 1 if engine == "openai" else TEXTS_A_FILE, bar)
    rows, n_tokens = cache.take(marks)
    return Vectors(rows, source.identity, round(n_tokens))


def _make(source: Any, missing: dict[str, str], cache: _Cache, texts_a_file: int, bar: Any) -> None:
    marks = list(missing)
    made: list[tuple[list[str], np.ndarray, float]] = []
    try:
        for places, rows, n_tokens in source.vectors(list(missing.values())):
            rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
            made.append(([marks[place] for place in places], rows.astype(np.float16), n_tokens))
            bar.update(len(rows))
            if sum(len(batch) for batch, _, _ in made) >= texts_a_file:
                cache.add(made)
                made = []
    finally:  # what came before a failure is kept
        cache.add(made)


class _Cache:
    """Vectors by the text's hash, in memory and in parts under the user's cache folder, a folder for each model."""

    def __init__(self, kept_for: dict):
        root = cache_folder()
        self.folder = root / "vectors" / fingerprint(kept_for) if root else None
        self.rows: list[np.ndarray] = []  # a file's, or a batch's
        self.places: dict[str, tuple[int, int]] = {}
        self.n_tokens: dict[str, float] = {}
        for path in sorted(self.folder.glob("*.parquet")) if self.folder else ():
            with contextlib.suppress(StudyError, ValueError, KeyError):  # damaged: made anew
                frame = read_parquet(path)
                rows = np.frombuffer(b"".join(frame["vector"]), np.float16)
                self._enter(frame["text"], rows.reshape(len(frame), -1), frame["n_tokens"])

    def add(self, made: list[tuple[list[str], np.ndarray, float]]) -> None:
        if not made:
            return
        marks = [mark for batch, _, _ in made for mark in batch]
        rows = np.concatenate([rows for _, rows, _ in made])
        shares = np.concatenate([np.full(len(batch), n / len(batch)) for batch, _, n in made])
        self._enter(marks, rows, shares)
        if self.folder:
            columns = {"text": marks, "vector": [row.tobytes() for row in rows], "n_tokens": shares}
            with contextlib.suppress(StudyError, OSError):  # no place for a cache
                write_parquet(self.folder / f"{fingerprint(marks)}.parquet", pd.DataFrame(columns))

    def _enter(self, marks: Sequence[str], rows: np.ndarray, n_tokens: Sequence[float]) -> None:
        for place, (mark, n) in enumerate(zip(marks, n_tokens)):
            self.places[mark] = len(self.rows), place
            self.n_tokens[mark] = n
        self.rows.append(rows)

    def take(self, marks: Sequence[str]) -> tuple[np.ndarray, float]:
        """The vectors of texts, by their hashes, and the tokens of all different ones."""
        rows = [self.rows[part][place] for part, place in (self.places[mark] for mark in marks)]
        n_tokens = sum(self.n_tokens[mark] for mark in dict.fromkeys(marks))
        return np.stack(rows) if rows else np.zeros((0, 1), np.float16), n_tokens
