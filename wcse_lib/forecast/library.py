"""Populations of success rates of many shapes, drawn once: what could stand behind a pilot's counts.

A population is a row of shares: how many of its problems have each rate of RATES. Written so, every shape is treated
alike: the chance of c of n correct samples, and coverage@k, are sums over RATES.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from scipy import stats
from scipy.special import betainc, expit, ndtr

SEED = 20261129
# how many populations there are of each shape
N_BETAS, N_BETAS_AND_ZEROS, N_TWO_BETAS, N_TWO_BETAS_AND_ZEROS = 1600, 1600, 1600, 800
N_LOGIT_NORMALS, N_LOGIT_NORMALS_AND_ZEROS = 1200, 1200
N_POINTS = {2: 2000, 3: 2000, 4: 2000, 5: 2000}  # by their number of points
POINT_RANGE = (-6.0, 5.0)  # of the points' logits
# The rates: 0, which stands for all that are too small to matter, and evenly spread logits.
LOGITS = np.linspace(-9.5, 7.0, 300)
RATES = np.concatenate([[0.0], expit(LOGITS)])
_FIRST, _STEP = LOGITS[0], LOGITS[1] - LOGITS[0]
EDGES = np.append(LOGITS - _STEP / 2, np.inf)  # of the logits that a rate stands for
KEPT_UP_TO = 16  # samples of a problem: their tables are kept


@cache
def library() -> np.ndarray:
    """Shares [populations, RATES] of problems at every rate, the same in every process; a second to draw."""
    rng = np.random.default_rng(SEED)
    parts = [
        _betas(N_BETAS, rng),
        _with_zeros(_betas(N_BETAS_AND_ZEROS, rng), rng),
        _two_betas(N_TWO_BETAS, rng),
        _with_zeros(_two_betas(N_TWO_BETAS_AND_ZEROS, rng), rng),
        _logit_normals(N_LOGIT_NORMALS, rng),
        _with_zeros(_logit_normals(N_LOGIT_NORMALS_AND_ZEROS, rng), rng),
    ]
    parts += [_points(size, n_points, rng) for n_points, size in N_POINTS.items()]
    return np.concatenate(parts).astype(np.float32)


def _betas(size: int, rng) -> np.ndarray:
    """Betas of many means and spreads."""
    mean = expit(rng.normal(-0.5, 2.0, (size, 1)))
    total = np.exp(rng.normal(0.7, 1.3, (size, 1)))
    below = betainc(mean * total, (1 - mean) * total, expit(EDGES))
    return np.diff(below, prepend=0.0)


def _two_betas(size: int, rng) -> np.ndarray:
    part = rng.uniform(size=(size, 1))
    return part * _betas(size, rng) + (1 - part) * _betas(size, rng)


def _logit_normals(size: int, rng) -> np.ndarray:
    mean = rng.normal(-1.0, 2.0, (size, 1))
    spread = rng.uniform(0.3, 3.5, (size, 1))
    return np.diff(ndtr((EDGES - mean) / spread), prepend=0.0)


def _with_zeros(shares: np.ndarray, rng) -> np.ndarray:
    """The same populations with problems that are never solved."""
    never = rng.beta(1, 2, (len(shares), 1))
    mixed = (1 - never) * shares
    mixed[:, [0]] += never
    return mixed


def _points(size: int, n_points: int, rng) -> np.ndarray:
    """A few rates, of any shares."""
    low, high = np.searchsorted(LOGITS, POINT_RANGE)
    places = 1 + rng.integers(low, high, (size, n_points))
    shares = np.zeros((size, len(RATES)))
    rows = np.arange(size)[:, None]
    np.add.at(shares, (rows, places), rng.dirichlet(np.ones(n_points), size))
    return shares


def chances(n: int, c: np.ndarray) -> np.ndarray:
    """Chance of `c` [counts] of n correct samples at every rate: [RATES, counts]."""
    return stats.binom.pmf(c, n, RATES[:, None])


def log_chances(n: int, c: np.ndarray) -> np.ndarray:
    """log chance of `c` [counts] of n in every population of the library: [populations, counts]."""
    if n <= KEPT_UP_TO:
        return _table(n)[:, c]
    return _logs(n, c)


@cache
def _table(n: int) -> np.ndarray:
    return _logs(n, np.arange(n + 1))


def _logs(n: int, c: np.ndarray) -> np.ndarray:
    mean_chances = library() @ chances(n, c).astype(np.float32)
    return np.log(np.maximum(mean_chances, np.float32(1e-30)))
