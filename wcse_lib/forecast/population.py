"""Populations of success rates that could have given a pilot's counts: the library, weighted by their likelihood."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from wcse_lib.forecast.library import RATES, SEED, chances, library, log_chances

LEAST_WEIGHT = 1e-6  # of the likeliest: lighter populations are left out
N_EFFECTIVE = 60  # populations that must count; a larger pilot's are moved towards it
N_MOVED, N_STEPS = 400, 100  # of such populations, and of the steps that each is moved


def check_pilot(n, c) -> tuple[np.ndarray, np.ndarray]:
    """Samples and correct samples [problems] as whole numbers. Raises ValueError for counts that cannot be."""
    n, c = np.atleast_1d(n), np.atleast_1d(c)
    if n.ndim != 1 or n.shape != c.shape or len(n) < 2:
        raise ValueError(
            f"n, c of shapes {n.shape}, {c.shape}: one count per problem, of two or more problems, needed"
        )
    are_whole = (n == np.floor(n)) & (c == np.floor(c))
    if not (are_whole & (n >= 1) & (c >= 0) & (c <= n)).all():
        raise ValueError(
            "n, c: whole counts with n >= 1 and 0 <= c <= n are needed; drop problems without samples"
        )
    return n.astype(int), c.astype(int)


def distinct_pairs(n, c) -> tuple[np.ndarray, np.ndarray]:
    """The different (n, c) [pairs, 2], and how many problems have each [pairs]."""
    rows = np.stack(check_pilot(n, c), axis=1)
    return np.unique(rows, axis=0, return_counts=True)


@dataclass(frozen=True)
class Posterior:
    """Populations that could have given the pilot: `shares` [populations, RATES] of their problems at every rate, and
    `weight` [populations], which sums to 1."""

    shares: np.ndarray
    weight: np.ndarray

    def coverage(self, k: float) -> np.ndarray:
        """coverage@k of every population [populations]; k may be a fraction."""
        return covered(self.shares, [k])[0]

    def drawn(self, size: int, rng) -> np.ndarray:
        """Shares [size, RATES] of populations drawn by their weights."""
        return self.shares[rng.choice(len(self.weight), size, p=self.weight)]

    def rates(self, size: int, rng, n_rates: int = 128) -> np.ndarray:
        """Draws of populations as equally likely rates, ascending: [size, n_rates]."""
        below = np.cumsum(self.drawn(size, rng), axis=1, dtype=float)
        below /= below[:, -1:]
        middles = (np.arange(n_rates) + 0.5) / n_rates
        # one search for all rows: each row's shares lie between its number and the next
        row = np.arange(size)[:, None]
        found = np.searchsorted((below + row).ravel(), (middles + row).ravel())
        return RATES[found.reshape(size, n_rates) - row * len(RATES)]

    def expected_rates(self, n, c) -> np.ndarray:
        """The rate to expect of problems after c of n correct samples: [problems]."""
        rows = np.stack([n, c], axis=1)
        pairs, place = np.unique(rows, axis=0, return_inverse=True)
        each = [self._expected_rate(*pair) for pair in pairs]
        return np.array(each)[place.ravel()]

    def _expected_rate(self, n: int, c: int) -> float:
        chance = chances(n, np.array([c]))[:, 0]
        total = self.shares @ chance
        mean = self.shares @ (chance * RATES) / np.maximum(total, 1e-30)
        return float(self.weight @ mean)


def covered(shares: np.ndarray, ks, sound: np.ndarray | float = 1.0) -> np.ndarray:
    """coverage@k [ks, populations] of populations [populations, RATES]; `sound`: the part of correct samples that
    counts, one for all or of each population [populations, 1]."""
    missed = []
    for k in ks:
        chance = (1 - RATES * sound) ** k
        missed.append((shares * chance).sum(1) if chance.ndim > 1 else shares @ chance)
    return 1 - np.stack(missed)


def posterior(n, c) -> Posterior:
    """The library's populations, weighted by the likelihood of pilot counts `n`, `c` [problems].

    n may differ between problems, and may have depended on what came before (more samples of unsolved problems): the
    likelihood is the same product of p^c (1-p)^(n-c). Where the pilot is so large that hardly one population of the
    library is like it, those that are most like it are moved towards it. Raises ValueError for counts that cannot be,
    or fewer than two problems.
    """
    pairs, counts = distinct_pairs(n, c)
    log_likelihood = np.zeros(len(library()))
    for n_samples in np.unique(pairs[:, 0]):
        alike = pairs[:, 0] == n_samples
        log_likelihood += log_chances(n_samples, pairs[alike, 1]) @ counts[alike]
    log_likelihood -= log_likelihood.max()
    power = 1.0
    while _n_effective(weight := np.exp(power * log_likelihood)) < N_EFFECTIVE:
        power *= 0.8
    kept = weight > LEAST_WEIGHT
    found = Posterior(library()[kept], weight[kept] / weight[kept].sum())
    return found if power == 1 else _moved(found, pairs, counts)


def _n_effective(weight: np.ndarray) -> float:
    """Kish's effective number of populations."""
    return weight.sum() ** 2 / (weight**2).sum()


def _moved(near: Posterior, pairs: np.ndarray, counts: np.ndarray) -> Posterior:
    """Populations drawn from those `near` a pilot, each moved by the EM algorithm towards problems that are weighted
    anew (Rubin's bootstrap): what the pilot tells follows it, and what it does not tell stays as it was drawn."""
    rng = np.random.default_rng(SEED)
    shares = near.drawn(N_MOVED, rng) + 1e-9
    chance = np.hstack([chances(n, np.array([c])) for n, c in pairs])
    weight = rng.gamma(counts, size=(N_MOVED, len(counts)))
    weight /= weight.sum(1, keepdims=True)
    for _ in range(N_STEPS):
        shares = shares * ((weight / (shares @ chance)) @ chance.T)
    return Posterior(shares, np.full(N_MOVED, 1 / N_MOVED))
