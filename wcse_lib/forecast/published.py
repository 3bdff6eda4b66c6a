"""A population that fits a published curve of coverage, of which no counts are known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import optimize
from scipy.special import betaln, expit

STARTS = ((-1.5, 0.5), (0.5, 0.5))  # logit of the mean a / (a + b), and log(a + b)
RANGES = ((-9, 9), (-4, 9))


@dataclass(frozen=True)
class Fit:
    """A population whose success rates are Beta(a, b)."""

    a: float
    b: float

    def coverage(self, ks) -> np.ndarray:
        """coverage@k [ks]."""
        ks = np.asarray(ks, float)
        log_miss = betaln(self.a, self.b + ks) - betaln(self.a, self.b)
        return -np.expm1(log_miss)


def fit_curve(ks, coverage) -> Fit:
    """The Beta whose coverage is nearest, by least squares, to a published curve: `coverage` (shares) at `ks`.

    Raises ValueError for fewer than two points, and for a coverage that is not between 0 and 1.
    """
    ks, coverage = np.asarray(ks, float), np.asarray(coverage, float)
    fits = ks.shape == coverage.shape and len(ks) >= 2
    if not fits or not ((ks > 0) & (coverage > 0) & (coverage < 1)).all():
        raise ValueError(
            "fit_curve: two or more k > 0, each with a coverage between 0 and 1 (shares, not per cent)"
        )

    def loss(point) -> float:
        errors = _beta(point).coverage(ks) - coverage
        return 1e4 * (errors**2).sum()

    runs = [optimize.minimize(loss, start, method="L-BFGS-B", bounds=RANGES) for start in STARTS]
    return _beta(min(runs, key=lambda run: run.fun).x)


def _beta(point) -> Fit:
    size = np.exp(point[1])
    return Fit(float(expit(point[0]) * size), float(expit(-point[0]) * size))
