"""Which numbers can be counts, sizes, prices or costs."""

from __future__ import annotations

import math
from numbers import Integral, Real


def check_positive(**values: object) -> None:
    """Raises ValueError naming the first value that is no finite number above 0."""
    for name, value in values.items():
        if not _is_finite(value) or value <= 0:
            raise ValueError(f"{name} = {value!r}: a finite number above 0 is needed")


def check_not_negative(**values: object) -> None:
    """Raises ValueError naming the first value that is no finite number of at least 0."""
    for name, value in values.items():
        if not _is_finite(value) or value < 0:
            raise ValueError(f"{name} = {value!r}: a finite number of at least 0 is needed")


def check_count(**values: object) -> None:
    """Raises ValueError naming the first value that is no whole number above 0."""
    for name, value in values.items():
        if not _is_finite(value) or not isinstance(value, Integral) or value <= 0:
            raise ValueError(f"{name} = {value!r}: a whole number above 0 is needed")


def _is_finite(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
