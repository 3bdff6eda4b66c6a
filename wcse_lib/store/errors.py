"""The one error that a person can mend, and what its messages list."""

from __future__ import annotations

from collections.abc import Mapping


class StudyError(ValueError):
    """Something in a study's files or parameters is wrong; the message names the file, the key and the remedy."""


def differences(there: Mapping, now: Mapping) -> str:
    """In what two records differ, key by key; empty where they are equal.

    >>> differences({"seed": 1, "model": "a"}, {"seed": 2, "model": "a"})
    'seed: 1 there, 2 now'
    """
    named = []
    for key in sorted({**there, **now}):
        if there.get(key) != now.get(key):
            named.append(f"{key}: {there.get(key)!r} there, {now.get(key)!r} now")
    return "; ".join(named)
