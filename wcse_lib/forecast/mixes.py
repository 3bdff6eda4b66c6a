"""What several arms cover together, from pilots on the same problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
from scipy import stats

from wcse_lib.forecast.arms import affordable
from wcse_lib.forecast.curves import summary
from wcse_lib.forecast.population import posterior

N_COUNTS = 40  # at most so many numbers of samples are tried of an arm
N_RATES = 128  # of a population


def best_mix(
    pilots: Mapping[str, tuple],
    costs: Mapping[str, float],
    budget: float,
    seed=0,
    first: Mapping[str, tuple] | None = None,
) -> pd.DataFrame:
    """Splits of `budget` (cost per problem) over arms, best forecast coverage first.

    `pilots`: {arm: (n, c)} on the same problems in the same order, and `first`: see `_missed_together`. Returns samples
    per arm, cost, value, low, high, p_beats_single (chance to beat every arm alone). At most N_COUNTS counts per arm
    are tried.
    """
    missed_by = _missed_together(pilots, first, seed)
    table = pd.DataFrame(_splits(pilots, costs, budget), columns=list(pilots))
    draws = 1 - np.array([missed_by(ks) for ks in table.itertuples(index=False)])
    is_single = (table > 0).sum(axis=1).to_numpy() == 1
    table["cost"] = table @ np.array([costs[arm] for arm in pilots])
    table["value"] = draws.mean(1)
    table["low"], table["high"] = np.quantile(draws, [0.025, 0.975], 1)
    table["p_beats_single"] = (draws > draws[is_single].max(0)).mean(1)
    return table.sort_values(["value", "cost"], ascending=[False, True], ignore_index=True)


def _splits(pilots: Mapping, costs: Mapping[str, float], budget: float) -> list[list[int]]:
    """Samples per arm [splits]: counts of all arms but the last, which gets what is left."""
    *others, last = pilots
    most = {arm: affordable(arm, costs[arm], budget) for arm in pilots}
    counts = []
    for arm in others:
        evenly = np.linspace(0, most[arm], N_COUNTS)
        counts.append(np.unique(evenly.astype(int)))
    splits = []
    for ks in product(*counts):
        spent = sum(k * costs[arm] for k, arm in zip(ks, others))
        left = budget * (1 + 1e-12) - spent
        if left >= 0:
            splits.append([*map(int, ks), int(left / costs[last])])
    return splits


def forecast_mix(
    pilots: Mapping[str, tuple],
    ks: Mapping[str, float],
    n_problems: int,
    seed=0,
    first: Mapping[str, tuple] | None = None,
) -> list[float]:
    """[value, low, high] (95 %) of the coverage of a mix of `ks` samples per arm (fractions allowed) in a study of
    `n_problems`. `pilots` and `first` hold the same problems; see `_missed_together`."""
    used = {arm: pilots[arm] for arm in ks}
    draws = 1 - _missed_together(used, first, seed, 1000)(ks.values())
    rng = np.random.default_rng([seed, 1])
    _, low, high = summary(rng.binomial(n_problems, draws) / n_problems)
    return [float(draws.mean()), low, high]


def _missed_together(
    pilots: Mapping[str, tuple], first: Mapping[str, tuple] | None, seed: int, size: int = 400
) -> Callable:
    """A function of samples per arm: the share of problems that stay unsolved, in populations of all arms [size].

    Each arm's populations are its own pilot's (`posterior`). Arms that met the same problems err alike: the populations
    that are drawn together are ranked alike (Gaussian copula, at the correlation of c / n). Within a population the
    arms' rates are tied by another copula, at the correlation of rates cleared of the noise of few samples, which each
    draw takes from problems weighted anew (Rubin's bootstrap).

    Args: first: {arm: (n, c)} of the samples whose number was fixed beforehand, where outcomes chose n in `pilots`:
    c / n is biased there, so correlations are of these.
    """
    if len({len(n) for n, _ in pilots.values()}) > 1:
        raise ValueError(
            "pilots must hold the same problems in the same order for every arm: join them by problem_id"
        )
    fixed = [(first or pilots)[arm] for arm in pilots]
    n, c = (np.array(counts, float) for counts in zip(*fixed))  # [arms, problems]
    n_problems = n.shape[1]
    rng = np.random.default_rng(seed)
    # which populations are drawn together: ranks [size, arms]
    alike, _ = _correlations(n, c, np.ones((1, n_problems)))
    ranks = _normals(alike, (1, size), rng)[0].argsort(0).argsort(0)
    # which rates belong to one problem: places [size, N_RATES, arms]
    _, tied = _correlations(n, c, rng.dirichlet(np.ones(n_problems), size))
    normals = _normals(tied, (size, N_RATES), rng)
    places = (stats.norm.cdf(normals) * N_RATES).astype(int)
    rates = []
    for i, counts in enumerate(pilots.values()):
        drawn = posterior(*counts).rates(size, rng, N_RATES)
        missed = ((1 - drawn) ** n.mean()).mean(1)
        ranked = drawn[np.argsort(missed)[ranks[:, i]]]
        rates.append(np.take_along_axis(ranked, places[..., i], 1))

    @cache
    def missed_by_arm(i: int, k: float) -> np.ndarray:
        return (1 - rates[i]) ** k

    def missed_by(ks) -> np.ndarray:
        missed = np.ones((size, N_RATES))
        for i, k in enumerate(ks):
            missed = missed * missed_by_arm(i, k)
        return missed.mean(1)

    return missed_by


def _correlations(n, c, weights) -> tuple[np.ndarray, np.ndarray]:
    """Correlations [draws, arms, arms] between arms of c / n, and of the rates behind it, under weights of problems."""
    weights = weights / weights.sum(1, keepdims=True)
    shares = c / n
    means = (weights @ shares.T)[:, :, None]
    centred = shares - means  # [draws, arms, problems]
    covariance = np.einsum("dp,dip,djp->dij", weights, centred, centred)
    covariance = covariance + 1e-6 * np.eye(len(n))
    spread = np.diagonal(covariance, axis1=1, axis2=2)
    # variance of c / n around its rate
    of_shares = c * (n - c) / (n * n * np.maximum(n - 1, 1))
    noise = weights @ of_shares.T
    seen = np.sqrt(np.maximum(spread, 1e-6))
    true = np.sqrt(np.maximum(spread - noise, 1e-6))
    seen = seen[:, :, None] * seen[:, None]
    true = true[:, :, None] * true[:, None]
    return covariance / seen, np.clip(covariance / true, -1, 1)


def _normals(correlations, size: tuple, rng) -> np.ndarray:
    """Standard normals [*size, arms] of these correlations [size[0], arms, arms], or of the nearest that can be."""
    values, vectors = np.linalg.eigh(correlations)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None]
    root /= np.linalg.norm(root, axis=2, keepdims=True)
    drawn = rng.standard_normal((*size, correlations.shape[1]))
    return drawn @ root.transpose(0, 2, 1)
