"""What a pilot's counts tell of larger budgets: coverage to expect, what to buy, which differences could be seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from itertools import product

import numpy as np
import pandas as pd
from scipy import optimize, stats
from scipy.special import betaincinv, betaln, expit, gammaln

# A population of success rates is a Beta(a, b), with or without a share `zero` of problems never solved. Priors lie
# over x, the logit of its mean, and y = log(a + b): normal (mean, spread) in a range; over zero: 2·(1 - zero).
PRIOR = {"x": (0.0, 2.5, -6.0, 6.0), "y": (0.7, 1.5, -3.0, 5.7)}
P_ZERO = 0.6  # prior chance that some problems are never solved; with 0.6 intervals keep their level (see benchmarks/)


def _pilot(n, c) -> tuple[np.ndarray, np.ndarray]:
    """Checked counts over problems: samples and correct samples."""
    n, c = np.atleast_1d(n), np.atleast_1d(c)
    if n.ndim != 1 or n.shape != c.shape or len(n) < 2:
        raise ValueError(
            f"n, c of shapes {n.shape}, {c.shape}: one count per problem, of two or more problems, needed"
        )
    if not ((n == np.floor(n)) & (c == np.floor(c)) & (n >= 1) & (c >= 0) & (c <= n)).all():
        raise ValueError(
            "n, c: whole counts with n >= 1 and 0 <= c <= n are needed; drop problems without samples"
        )
    return n.astype(int), c.astype(int)


def _log_moments(x, y, pairs) -> np.ndarray:
    """log E[p^c (1-p)^(n-c)] of the Betas (x, y) [points] for pairs (n, c): [points, pairs]."""
    s, (n, c) = np.exp(y)[:, None], np.asarray(pairs, float).T
    a, b = expit(x)[:, None] * s, expit(-x)[:, None] * s
    return betaln(a + c, b + n - c) - betaln(a, b)


def _log_likelihood(log_moments, zero, pairs, counts) -> np.ndarray:
    """[points, zeros]; the share `zero` of problems that are never solved can only explain c = 0."""
    seen = pairs[:, 1] > 0
    out = (log_moments[:, seen] @ counts[seen])[:, None] + counts[seen].sum() * np.log1p(-zero)
    return out + sum(
        counts[j] * np.log(zero + (1 - zero) * np.exp(log_moments[:, [j]]))
        for j in np.flatnonzero(~seen)
    )


@dataclass(frozen=True)
class Posterior:
    """Populations that could have given the pilot, as weighted points [points]."""

    x: np.ndarray
    y: np.ndarray
    zero: np.ndarray
    weight: np.ndarray

    def coverage(self, k: float) -> np.ndarray:
        """coverage@k of every point [points]; k may be a fraction."""
        return (1 - self.zero) * -np.expm1(_log_moments(self.x, self.y, [(k, 0)])[:, 0])

    def rates(self, size: int, rng, false_positives=None, n_rates: int = 128) -> np.ndarray:
        """Draws of populations [size, n_rates]: a row holds equally likely success rates, ascending; rates of sound
        solutions where `false_positives` (n_false, n_judged) are given."""
        chosen = rng.choice(len(self.x), size, p=self.weight)
        x, y, zero = (v[chosen, None] for v in (self.x, self.y, self.zero))
        u = ((np.arange(n_rates) + 0.5) / n_rates - zero) / (1 - zero)
        rates = betaincinv(expit(x) * np.exp(y), expit(-x) * np.exp(y), np.clip(u, 0, 1)) * (u > 0)
        false, judged = false_positives or (0, 0)
        return (
            rates * (1 - rng.beta(false + 0.5, judged - false + 0.5, (size, 1)))
            if judged
            else rates
        )


def posterior(n, c) -> Posterior:
    """Bayesian fit to pilot counts `n`, `c` [problems], on grids that zoom in; priors are PRIOR and P_ZERO.

    Raises ValueError for counts that cannot be, or fewer than two problems.
    """
    pairs, counts = np.unique(np.stack(_pilot(n, c), axis=1), axis=0, return_counts=True)
    parts = [_grid(zeros, pairs, counts) for zeros in (False, True)]
    x, y, zero, log = (np.concatenate(part) for part in zip(*parts))
    weight = np.exp(log - log.max())
    return Posterior(x, y, zero, weight / weight.sum())


def _grid(zeros: bool, pairs, counts):
    """x, y, zero and log posterior mass [points], over the box that holds all but exp(-10) of the peak."""
    box, sizes = (
        np.array([PRIOR["x"][2:], PRIOR["y"][2:], (0.0, 1.0)]),
        np.array([21, 21, 31 if zeros else 1]),
    )
    for _ in range(8):
        x, y = (
            v.ravel()
            for v in np.meshgrid(*(np.linspace(*ends, 21) for ends in box[:2]), indexing="ij")
        )
        zero = box[2, 0] + (np.arange(31) + 0.5) / 31 * np.diff(box[2]) if zeros else np.zeros(1)
        log = _log_likelihood(_log_moments(x, y, pairs), zero, pairs, counts) + zeros * np.log(
            2 - 2 * zero
        )
        log = (
            log
            + sum(stats.norm.logpdf(v, *PRIOR[name][:2]) for name, v in (("x", x), ("y", y)))[
                :, None
            ]
        )
        near, step = log > log.max() - 10, np.diff(box)[:, 0] / np.maximum(sizes - [1, 1, 0], 1)
        kept = x[near.any(1)], y[near.any(1)], zero[near.any(0)]
        new = np.array(
            [
                (max(v.min() - d, low), min(v.max() + d, high))
                for v, d, (low, high) in zip(kept, step, box)
            ]
        )
        if np.prod(np.diff(new) / np.diff(box)) > 0.3:
            break
        box = new if zeros else np.vstack([new[:2], box[2]])
    log = log + np.log((P_ZERO if zeros else 1 - P_ZERO) * np.prod(step))
    return [v.ravel() for v in np.broadcast_arrays(x[:, None], y[:, None], zero, log)]


def _interval(draws, level: float, weight=None) -> list:
    """[mean, low, high] of one-dimensional, possibly weighted draws."""
    weight, order = (
        np.full(len(draws), 1 / len(draws)) if weight is None else weight,
        np.argsort(draws),
    )
    below = np.cumsum(weight[order]) - weight[order] / 2
    return [
        float(weight @ draws),
        *np.interp([(1 - level) / 2, (1 + level) / 2], below, draws[order]),
    ]


def _frame(ks, draws, level: float) -> pd.DataFrame:
    return pd.DataFrame(
        [[k, *_interval(d, level)] for k, d in zip(ks, draws)],
        columns=["k", "value", "low", "high"],
    )


def forecast_coverage(
    n,
    c,
    ks: Sequence[float],
    seed=0,
    level=0.95,
    n_problems=None,
    false_positives: tuple | None = None,
) -> pd.DataFrame:
    """coverage@k to expect at every k of `ks` from a pilot's counts `n`, `c` [problems]: [k, value, low, high].

    `value` is the posterior mean; the interval carries the pilot's sampling error over problems and samples, and doubt
    about the kind of population. `n_problems`: for a study of that many new problems (wider), not for the population.
    `false_positives` (n_false, n_judged) discounts unsound samples, evenly over problems: too kind where they gather on
    hard ones. Nominal 95 % intervals from 50 × 8 hold the truth 93 to 98 % of times where rates are Beta-like down to 0
    or never solved; they lie too low where few rates are near 0: logit-normal 78 % at k = 100, two groups of rates 0.5
    and 0.02 even 15 % (benchmarks/forecast_calibration.py, 2,000 studies each).
    """
    fit, rng = posterior(n, c), np.random.default_rng(seed)
    if n_problems is None and not false_positives:
        rows = [[k, *_interval(fit.coverage(k), level, fit.weight)] for k in ks]
        return pd.DataFrame(rows, columns=["k", "value", "low", "high"])
    draws = _covered(fit.rates(2000, rng, false_positives), ks)
    return _frame(
        ks, draws if n_problems is None else rng.binomial(n_problems, draws) / n_problems, level
    )


def _covered(rates, ks) -> np.ndarray:
    """coverage@k [ks, draws] of rates [draws, problems]."""
    return np.stack([1 - ((1 - rates) ** k).mean(1) for k in ks])


def forecast_unique(
    n, c, groups: Sequence[Sequence[int]], ks: Sequence[int], seed=0, level=0.95, n_problems=None
) -> pd.DataFrame:
    """Distinct correct solutions among k samples, mean over all problems: [k, value, low, high].

    `groups`: for every problem how often each of its distinct correct solutions came (they add up to c). Distinct ones
    among t correct follow the two-parameter partition of Ewens and Pitman (Pitman 1995), one for all problems; t
    follows the coverage forecast. `n_problems`: as in `forecast_coverage`. ValueError when groups do not add up to c.
    """
    n, c = _pilot(n, c)
    if len(groups) != len(c) or any(
        sum(g) != total or min(g, default=1) < 1 for g, total in zip(groups, c)
    ):
        raise ValueError(
            "groups: one list per problem, of positive counts that add up to its correct samples"
        )
    d, theta = (
        v.ravel() for v in np.meshgrid(np.linspace(0.02, 0.98, 25), np.geomspace(0.05, 200, 25))
    )
    log = np.zeros(len(d))
    for g in (np.asarray(g)[:, None] for g in groups if len(g)):
        log += np.log(theta + np.arange(1, len(g))[:, None] * d).sum(0) + (
            gammaln(g - d) - gammaln(1 - d)
        ).sum(0)
        log -= gammaln(theta + g.sum()) - gammaln(theta + 1)
    rng, size, t = np.random.default_rng(seed), 400, np.arange(max(ks) + 1)
    rates = np.clip(
        posterior(n, c).rates(size, rng, None, 48), 1e-9, 1 - 1e-9
    )  # scipy's pmf overflows nearer the ends
    mass = np.exp(log - log.max())
    chosen = rng.choice(len(d), size, p=mass / mass.sum())
    mean, square = _distinct(d[chosen], theta[chosen], max(ks))
    draws = []
    for k in ks:
        chance = stats.binom.pmf(t[: k + 1], k, rates[..., None]).mean(1)
        expected, squared = ((chance * moment[:, : k + 1]).sum(1) for moment in (mean, square))
        error = np.sqrt((squared - expected**2) / n_problems) if n_problems else 0.0
        draws.append(np.maximum(expected + error * rng.standard_normal(size), 0.0))
    return _frame(ks, draws, level)


def _distinct(d, theta, most: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and mean square [draws, 0 … most] of how many distinct ones are among t: the next is new with a chance of
    (theta + d·distinct) / (theta + t)."""
    mean, square = np.zeros((2, len(d), most + 1))
    for t in range(most):
        mean[:, t + 1] = mean[:, t] + (theta + d * mean[:, t]) / (theta + t)
        more = theta * (2 * mean[:, t] + 1) + d * (2 * square[:, t] + mean[:, t])
        square[:, t + 1] = square[:, t] + more / (theta + t)
    return mean, square


def crossing(pilots: Mapping[str, tuple], costs: Mapping[str, float], budgets, seed=0) -> dict:
    """Where two arms' forecast coverage curves cross, over `budgets` (cost per problem, ascending).

    `pilots`: {arm: (n, c)}; `costs`: of one sample. Returns value (median), low, high: the budget from which the lead
    no longer changes; p_crossing: the chance that it changes in the range; p_ahead [budgets]: the chance that the
    second arm leads. Pilots count as independent: where they share problems, this is cautious.
    """
    rng, budgets = np.random.default_rng(seed), np.asarray(budgets, float)
    first, second = (
        _covered(posterior(*p).rates(1000, rng), budgets / costs[arm]) for arm, p in pilots.items()
    )
    change = (second > first)[1:] != (second > first)[:-1]
    last = budgets[1:][len(change) - 1 - np.argmax(change[::-1, change.any(0)], axis=0)]
    low, value, high = np.quantile(last, [0.025, 0.5, 0.975]) if len(last) else [np.nan] * 3
    chances = {"p_crossing": change.any(0).mean(), "p_ahead": (second > first).mean(1)}
    return {"value": value, "low": low, "high": high, **chances}


def recommend(
    pilots: Mapping[str, tuple],
    costs: Mapping[str, float],
    budget: float,
    seed=0,
    false_positives: Mapping[str, tuple] | None = None,
) -> pd.DataFrame:
    """The arm to buy for `budget` (cost per problem): rows of arm, k, value, low, high, p_best, the best arm first.

    `p_best` is the chance that the arm's coverage at its k is the highest: how sure the recommendation is.
    `false_positives`: {arm: (n_false, n_judged)} compares sound coverage. Raises ValueError for an unaffordable arm.
    """
    rng, rows, draws, false_positives = np.random.default_rng(seed), [], [], false_positives or {}
    for arm, counts in pilots.items():
        k = _affordable(arm, costs[arm], budget)
        draws.append(
            _covered(posterior(*counts).rates(2000, rng, false_positives.get(arm)), [k])[0]
        )
        rows.append([arm, k, *_interval(draws[-1], 0.95)])
    table = pd.DataFrame(rows, columns=["arm", "k", "value", "low", "high"])
    table["p_best"] = [(np.argmax(draws, axis=0) == i).mean() for i in range(len(rows))]
    return table.sort_values("p_best", ascending=False, ignore_index=True)


def _affordable(arm: str, cost: float, budget: float) -> int:
    if not cost > 0 or (k := int(budget / cost * (1 + 1e-12))) < 1:
        raise ValueError(
            f"{arm}: {budget:g} buys no sample at {cost:g}; raise the budget, or leave the arm out"
        )
    return k


@dataclass(frozen=True)
class Fit:
    """One population: Beta(a, b) success rates, and a share `zero` of problems that are never solved; `p_value`: of
    there being no such share (likelihood ratio, half a chi-square: Self and Liang 1987), NaN where not tested."""

    a: float
    b: float
    zero: float
    p_value: float = float("nan")

    def coverage(self, ks) -> np.ndarray:
        """coverage@k [ks]."""
        return (1 - self.zero) * -np.expm1(
            betaln(self.a, self.b + np.asarray(ks, float)) - betaln(self.a, self.b)
        )

    def rates(self, n, c, n_rates: int = 64) -> np.ndarray:
        """What to believe of each problem's rate after c of n: ascending quantiles [problems, n_rates]."""
        n, c = np.asarray(n)[:, None], np.asarray(c)[:, None]
        miss = (1 - self.zero) * np.exp(betaln(self.a, self.b + n) - betaln(self.a, self.b))
        none = np.where(c == 0, self.zero / (self.zero + miss), 0.0)
        u = ((np.arange(n_rates) + 0.5) / n_rates - none) / np.maximum(1 - none, 1e-9)
        return betaincinv(self.a + c, self.b + n - c, np.clip(u, 0, 1)) * (u > 0)


def _fit(x, p_value=float("nan")) -> Fit:
    s, zero = np.exp(x[1]), expit(x[2]) if len(x) > 2 else 0.0
    return Fit(float(expit(x[0]) * s), float(expit(-x[0]) * s), float(zero), p_value)


def _minimise(loss: Callable, zero: bool):
    """Best (logit mean, log(a + b)[, logit zero]) of two starts."""
    ends, starts = [(-9, 9), (-4, 9), (-9, 9)], ((-1.5, 0.5, -2.0), (0.5, 0.5, -2.0))
    runs = (
        optimize.minimize(loss, s[: 2 + zero], method="L-BFGS-B", bounds=ends[: 2 + zero])
        for s in starts
    )
    return min(runs, key=lambda run: run.fun)


def fit_pilot(n, c, alpha: float = 0.05) -> Fit:
    """Maximum-likelihood beta-binomial of counts `n`, `c` [problems]; a share of never-solved problems is kept only
    where the likelihood-ratio test rejects its absence at `alpha` (1: always, 0: never)."""
    pairs, counts = np.unique(np.stack(_pilot(n, c), axis=1), axis=0, return_counts=True)

    def loss(x):
        moments = _log_moments(x[:1], x[1:2], pairs)
        return -_log_likelihood(
            moments, expit(x[2:]) if len(x) > 2 else np.zeros(1), pairs, counts
        ).item()

    plain, mixed = _minimise(loss, False), _minimise(loss, True)
    p_value = 0.5 * float(stats.chi2.sf(max(0.0, 2 * (plain.fun - mixed.fun)), 1))
    return _fit(mixed.x if p_value < alpha else plain.x, p_value)


def fit_curve(ks, coverage) -> Fit:
    """Least-squares population of a published curve, coverage (shares) at `ks`; without never-solved problems (on a few
    rounded points such a share is mostly noise: with k = 1 to 4 of the paper's curves it spoils k = 30)."""
    ks, coverage = np.asarray(ks, float), np.asarray(coverage, float)
    if (
        ks.shape != coverage.shape
        or len(ks) < 2
        or not ((ks > 0) & (coverage > 0) & (coverage < 1)).all()
    ):
        raise ValueError(
            "fit_curve: two or more k > 0, each with a coverage between 0 and 1 (shares, not per cent)"
        )
    return _fit(_minimise(lambda x: 1e4 * ((_fit(x).coverage(ks) - coverage) ** 2).sum(), False).x)


def best_mix(
    pilots: Mapping[str, tuple], costs: Mapping[str, float], budget: float, seed=0
) -> pd.DataFrame:
    """Splits of `budget` (cost per problem) over arms, best forecast coverage first.

    `pilots`: {arm: (n, c)} on the same problems in the same order; see `_together`. Returns samples per arm, cost,
    value, low, high, p_beats_single (chance to beat every arm alone). At most 40 counts per arm are tried.
    """
    missed_by, (*others, last) = _together(pilots, seed), pilots
    most = {arm: _affordable(arm, costs[arm], budget) for arm in pilots}
    splits = []
    for ks in product(*(np.unique(np.linspace(0, most[arm], 40).astype(int)) for arm in others)):
        left = budget * (1 + 1e-12) - sum(k * costs[arm] for k, arm in zip(ks, others))
        if left >= 0:
            splits.append((*map(int, ks), int(left / costs[last])))
    table, draws = (
        pd.DataFrame(splits, columns=list(pilots)),
        1 - np.array([missed_by(ks) for ks in splits]),
    )
    single = (table > 0).sum(axis=1).to_numpy() == 1
    table["cost"] = table @ np.array([costs[arm] for arm in pilots])
    table["value"], (table["low"], table["high"]) = (
        draws.mean(1),
        np.quantile(draws, [0.025, 0.975], 1),
    )
    table["p_beats_single"] = (draws > draws[single].max(0)).mean(1)
    return table.sort_values(["value", "cost"], ascending=[False, True], ignore_index=True)


def forecast_mix(
    pilots: Mapping[str, tuple], ks: Mapping[str, float], n_problems: int, seed=0
) -> list[float]:
    """[value, low, high] (95 %) of the coverage of a mix of `ks` samples per arm (fractions allowed) in a study of
    `n_problems`. `pilots` hold the same problems; see `_together`."""
    draws = 1 - _together({arm: pilots[arm] for arm in ks}, seed, 1000)(ks.values())
    rng = np.random.default_rng([seed, 1])
    return [float(draws.mean()), *_interval(rng.binomial(n_problems, draws) / n_problems, 0.95)[1:]]


def _together(
    pilots: Mapping[str, tuple], seed: int, size: int = 400, n_rates: int = 128
) -> Callable:
    """A function of samples per arm: the share of problems that stay unsolved, in populations of all arms [size].

    Each arm's populations are its own pilot's (`posterior`). Arms that met the same problems err alike: the populations
    that are drawn together are ranked alike (Gaussian copula, at the correlation of c / n). Within a population the
    arms' rates are tied by another copula, at the correlation of rates cleared of the noise of few samples, which each
    draw takes from problems weighted anew (Rubin's bootstrap).
    """
    if len({len(n) for n, _ in pilots.values()}) > 1:
        raise ValueError(
            "pilots must hold the same problems in the same order for every arm: join them by problem_id"
        )
    n, c = (np.array([np.asarray(p[i], float) for p in pilots.values()]) for i in (0, 1))
    rng = np.random.default_rng(seed)
    alike, _ = _correlations(n, c, np.ones((1, n.shape[1])))
    ranks = _normals(alike, (1, size), rng)[0].argsort(0).argsort(0)  # [size, arms]
    _, tied = _correlations(n, c, rng.dirichlet(np.ones(n.shape[1]), size))
    places = (stats.norm.cdf(_normals(tied, (size, n_rates), rng)) * n_rates).astype(
        int
    )  # [size, n_rates, arms]
    rates = []
    for i, pair in enumerate(pilots.values()):
        drawn = posterior(*pair).rates(size, rng, None, n_rates)
        drawn = drawn[np.argsort(((1 - drawn) ** n.mean()).mean(1))[ranks[:, i]]]
        rates.append(np.take_along_axis(drawn, places[..., i], 1))

    powers = cache(lambda arm, k: (1 - rates[arm]) ** k)
    return lambda ks: reduce(np.multiply, (powers(i, k) for i, k in enumerate(ks))).mean(1)


def _correlations(n, c, weights) -> tuple[np.ndarray, np.ndarray]:
    """Correlations between arms of c / n, and of the rates behind it, under weights over problems: [draws, arms, arms]."""
    weights = weights / weights.sum(1, keepdims=True)
    centred = c / n - (weights @ (c / n).T)[:, :, None]  # [draws, arms, problems]
    covariance = np.einsum("dp,dip,djp->dij", weights, centred, centred) + 1e-6 * np.eye(len(n))
    noise = (
        weights @ (c * (n - c) / (n * n * np.maximum(n - 1, 1))).T
    )  # variance of c/n around its rate
    spread = np.diagonal(covariance, axis1=1, axis2=2)
    seen, true = (np.sqrt(np.maximum(v, 1e-6)) for v in (spread, spread - noise))
    return covariance / (seen[:, :, None] * seen[:, None]), np.clip(
        covariance / (true[:, :, None] * true[:, None]), -1, 1
    )


def _normals(correlations, size: tuple, rng) -> np.ndarray:
    """Standard normals [*size, arms] of these correlations [size[0], arms, arms], or of the nearest that can be."""
    values, vectors = np.linalg.eigh(correlations)
    root = vectors * np.sqrt(np.maximum(values, 0))[:, None]
    root /= np.linalg.norm(root, axis=2, keepdims=True)
    return rng.standard_normal((*size, correlations.shape[1])) @ root.transpose(0, 2, 1)


def compare(forecast: pd.DataFrame, outcome: pd.DataFrame) -> pd.DataFrame:
    """Forecasts beside what then happened, one row per arm, budget and metric in both.

    Args: forecast: 01's table (arm, budget, k, metric, value, low, high, n); outcome: arm, budget, metric, outcome (as
    ledger.outcome gives it). Returns arm, budget, metric, k, value, low, high, n, outcome, inside.
    """
    table = forecast.merge(outcome, on=["arm", "budget", "metric"], validate="one_to_one")
    inside = table["outcome"].between(table["low"] - 1e-9, table["high"] + 1e-9)
    return table[["arm", "budget", "metric", "k", "value", "low", "high", "n", "outcome"]].assign(
        inside=inside
    )
