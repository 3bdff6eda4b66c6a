"""One seed and one random order for every key, and short hashes of data."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def fingerprint(data: Any) -> str:
    """A short stable hash of JSON-able data."""
    return hashlib.sha256(
        json.dumps(data, sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()[:16]


def sample_seed(study_seed: int, model: str, problem_id: str, sample_index: int) -> int:
    """One 63-bit seed per sample, the same under resuming, sharding, more samples and more problems."""
    text = json.dumps([study_seed, model, problem_id, sample_index])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def rank(seed: int, *key: str | int) -> int:
    """A random but fixed place for a key: sorting by it gives one order, the same in every stage and on every
    machine."""
    return number_of(
        json.dumps([seed, *(part if isinstance(part, str) else int(part) for part in key)])
    )


def number_of(text: str) -> int:
    """63 bits that stand for a text."""
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1
