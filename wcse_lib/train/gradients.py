"""Gradients of a student's output layer, projected to few numbers, and the score in the manner of GRACE made of them.

The score is that of arXiv 2511.02833: under the second moment of some examples' gradients, how large are those of
others? What differs: the gradient is of the output layer alone, which needs no backward pass; it is projected in two
steps, first its rows and columns; and the spread of the score over problems is known from the same sums.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from wcse_lib.store import KEY
from wcse_lib.study import rank

DIMENSION = 64  # of a projected gradient
SKETCH = 32  # rows, and columns, that a gradient is projected to first
N_EXAMPLES = 1024  # of a student's, at most, whose gradients are kept
N_FOLDS = 10  # of problems
SMOOTHING = 1e-3  # of the second moment, whose eigenvalues sum to 1
SEED = 0  # one projection for all arms: only then can they be compared


def projections(n_tokens: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The random signs that project a gradient of the output layer, (n_tokens, width), to DIMENSION numbers.

    Returns: of its rows, (n_tokens, SKETCH); of its columns, (width, SKETCH); of what is left, (SKETCH², DIMENSION).
    Each keeps squared lengths in the mean (Johnson and Lindenstrauss 1984; signs: Achlioptas 2003).
    """
    rng = np.random.default_rng(SEED)
    shapes = ((n_tokens, SKETCH), (width, SKETCH), (SKETCH * SKETCH, DIMENSION))
    return tuple(_signs(rng, shape) for shape in shapes)


def _signs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.choice(np.array([-1, 1], np.float32), shape) / np.float32(np.sqrt(shape[1]))


def places(keys: pd.DataFrame) -> np.ndarray:
    """An order of examples by their KEY alone, (n,): gradients are of the first ones, whatever else a student has."""
    found = [rank(SEED, "gradient", *key) for key in keys[KEY].itertuples(index=False)]
    return np.array(found, dtype=np.int64)


def shares(gradients: np.ndarray, problems: np.ndarray) -> np.ndarray:
    """What each example adds to the score, (n,): the score is their mean; NaN where all are of one problem.

    Args: gradients: (n, d); problems: (n,) labels, of which each is in one of N_FOLDS folds.
    In the mean over held-out examples, the score is h' M⁻¹ h, with h an example's gradient and M the second moment of
    the other folds' gradients scaled to length 1, plus SMOOTHING / d on its diagonal. Added to what an example has when
    it is held out is how the score changes with its weight among the others. These changes sum to 0, and with them a
    bootstrap of the shares over problems is, to first order, one of the score (infinitesimal jackknife, Efron 1982).
    """
    n, d = gradients.shape
    codes = np.unique(problems, return_inverse=True)[1]
    fold = codes % N_FOLDS
    if n == 0 or not codes.any():
        return np.full(n, np.nan)
    lengths = np.linalg.norm(gradients, axis=1, keepdims=True)
    directions = gradients / np.maximum(lengths, 1e-12)
    found = np.zeros(n)
    for one in range(fold.max() + 1):
        is_held = fold == one
        held, others = gradients[is_held], directions[~is_held]
        moment = others.T @ others / len(others)
        inverse = np.linalg.inv(moment + SMOOTHING / d * np.eye(d))
        found[is_held] += _forms(held, inverse)
        # what more weight on one of the others takes from the score
        taken = _forms(others, inverse @ (held.T @ held) @ inverse)
        found[~is_held] -= (taken - taken.mean()) / len(others)
    return found


def _forms(vectors: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The quadratic form of every row, (n,)."""
    return ((vectors @ matrix) * vectors).sum(1)
