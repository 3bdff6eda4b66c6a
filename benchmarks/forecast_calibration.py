"""Do 95 % forecast intervals, and bounds, hold the truth? Simulated pilots of many populations of success rates.

    python benchmarks/forecast_calibration.py [--studies 300] [--verdicts outputs/nano/03_verify] [population ...]
    python benchmarks/forecast_calibration.py --studies 500 mixes unique

Every study draws 50 problems from a population and 400 samples: `even`, 8 of each, or `adaptive`, 4 of each and the
rest shared by problems that these leave unsolved. From them it forecasts coverage@30 and @100 of the population (not of
the 50), and its bounds. "held": how often an interval holds the truth. Times are of the processor, not of the clock.
Four populations (CHOSEN) were written down before any forecast of them was looked at.

Real success rates: each arm's verdicts in --verdicts become a population (its problems' observed rates, at 30 samples
or more). "mixes": coverage of 5 se and 15 wc samples, of two arms whose rates are tied by a copula of that correlation.
"unique": distinct correct solutions of 12 and 30 samples. Both forecast what a study of 300 (unique: 60 too) new
problems finds.
"""

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import nnls
from scipy.special import betaincinv, expit, ndtr

from wcse_lib.forecast import coverage_bounds, forecast_coverage, forecast_mix, forecast_unique

KS = (30, 100)
N_PROBLEMS, N_SAMPLES, N_FIRST, N_MOST = 50, 8, 4, 64
N_TRUTH = 1_000_000  # problems that stand for a whole population
# The paper's coverage on MATH in %, read from its figures (± 0.1): at k = 1 … 10, of 9B also at 3, 6 … 30.
MATH_27B = [32.7, 43.4, 49.5, 53.4, 56.3, 58.7, 60.6, 62.1, 63.5, 64.7]
MATH_9B = [27.0, 37.3, 43.2, 47.2, 50.2, 52.6, 54.6, 56.3, 57.7, 59.0]
MATH_9B_3K = [43.1, 52.7, 57.7, 61.1, 63.6, 65.6, 67.1, 68.4, 69.6, 70.6]


# A population is a function of a random generator and a number of problems: their success rates.


def beta(a: float, b: float, zero: float = 0.0):
    """Beta(a, b), with a share `zero` of problems that are never solved."""
    return lambda rng, size: rng.beta(a, b, size) * (rng.random(size) >= zero)


def logit_normal(mean: float, spread: float):
    return lambda rng, size: expit(rng.normal(mean, spread, size))


def groups(rates, shares=None):
    """A few rates, of these shares (else equal ones)."""
    return lambda rng, size: rng.choice(rates, size, p=shares)


def levels(means, concentration: float):
    """Equally common levels of difficulty, Beta within each."""

    def draw(rng, size):
        mean = rng.choice(means, size)
        return rng.beta(mean * concentration, (1 - mean) * concentration)

    return draw


def published(ks, percent):
    """The rates, and their shares, whose coverage is nearest to a published curve."""
    rates = np.concatenate([[0.0], expit(np.linspace(-9, 6, 200))])
    curve = 1 - (1 - rates) ** np.array(ks)[:, None]
    must_sum = np.full((1, len(rates)), 100.0)
    shares, _ = nnls(np.vstack([curve, must_sum]), np.append(np.array(percent) / 100, 100.0))
    return groups(rates, shares / shares.sum())


def two_ranges(rng, size):
    """Half of the rates anywhere below 0.1, half between 0.6 and 0.9."""
    is_hard = rng.random(size) < 0.5
    return np.where(is_hard, rng.uniform(0.0, 0.1, size), rng.uniform(0.6, 0.9, size))


def log_uniform(rng, size):
    """Every order of magnitude from 0.001 to 0.5 alike."""
    return np.exp(rng.uniform(np.log(0.001), np.log(0.5), size))


LISTED = {
    "Beta(0.4, 0.8)": beta(0.4, 0.8),
    "Beta(0.5, 3)": beta(0.5, 3),
    "Beta(2, 3), 15 % zeros": beta(2, 3, 0.15),
    "Beta(0.5, 0.8), 30 % zeros": beta(0.5, 0.8, 0.3),
    "logit-normal(-1, 2)": logit_normal(-1, 2),
    "logit-normal(-3, 1)": logit_normal(-3, 1),
    "half 0.5, half 0.02": groups([0.5, 0.02]),
    "half 0.6, half 0.05": groups([0.6, 0.05]),
    "0.7, 0.2, 0.01 (40, 30, 30 %)": groups([0.7, 0.2, 0.01], [0.4, 0.3, 0.3]),
    "five levels": levels([0.8, 0.55, 0.3, 0.12, 0.04], 8),
    "MATH 9B's curve": published([*range(1, 11), *range(3, 31, 3)], MATH_9B + MATH_9B_3K),
    "MATH 27B's curve": published(range(1, 11), MATH_27B),
}
CHOSEN = {
    "0.9, 0.3, 0.1, 0.03, 0.01": groups([0.9, 0.3, 0.1, 0.03, 0.01]),
    "Beta(0.15, 0.25)": beta(0.15, 0.25),
    "half 0 to 0.1, half 0.6 to 0.9": two_ranges,
    "log-uniform 0.001 to 0.5": log_uniform,
}
POPULATIONS = LISTED | CHOSEN


# ------------------------------------------------------------------------------------------------ pilots


def even(rates, rng):
    """n and c [problems]."""
    n = np.full(len(rates), N_SAMPLES)
    return n, rng.binomial(n, rates)


def adaptive(rates, rng):
    """Four samples of each problem, and what is left shared by the unsolved, at most N_MOST of one problem."""
    n = np.full(len(rates), N_FIRST)
    c = rng.binomial(n, rates)
    unsolved = np.flatnonzero(c == 0)
    n_left = len(rates) * (N_SAMPLES - N_FIRST)
    if len(unsolved):
        more, rest = divmod(n_left, len(unsolved))
        n[unsolved] += more
        n[unsolved[:rest]] += 1
        n = np.minimum(n, N_MOST)
    return n, c + rng.binomial(n - N_FIRST, rates)


PILOTS = {"even": even, "adaptive": adaptive}


def calibration(population, studies: int, pilot=even, seed: int = 0) -> pd.DataFrame:
    """Forecasts and bounds of simulated studies beside the truth.

    Returns a row per k: truth, held, below (truth below the interval), above, width, bias; bounds_held, bounds_width;
    forecast_ms and bounds_ms, for both k together.
    """
    whole = population(np.random.default_rng([seed, 1]), N_TRUTH)
    truth = np.array([(1 - (1 - whole) ** k).mean() for k in KS])
    rng = np.random.default_rng(seed)
    forecasts, bounds, seconds = [], [], np.zeros(2)
    for _ in range(studies):
        n, c = pilot(population(rng, N_PROBLEMS), rng)
        start = time.process_time()
        forecasts.append(forecast_coverage(n, c, KS)[["value", "low", "high"]].to_numpy())
        middle = time.process_time()
        bounds.append(coverage_bounds(n, c, KS)[["least", "most"]].to_numpy())
        seconds += (middle - start, time.process_time() - middle)
    value, low, high = np.moveaxis(np.array(forecasts), 2, 0)
    least, most = np.moveaxis(np.array(bounds), 2, 0)
    below, above = truth < low, truth > high
    rows = {
        "k": KS,
        "truth": truth,
        "held": 1 - (below | above).mean(0),
        "below": below.mean(0),
        "above": above.mean(0),
        "width": (high - low).mean(0),
        "bias": (value - truth).mean(0),
        "bounds_held": ((least <= truth) & (truth <= most)).mean(0),
        "bounds_width": (most - least).mean(0),
        "forecast_ms": 1000 * seconds[0] / studies,
        "bounds_ms": 1000 * seconds[1] / studies,
    }
    return pd.DataFrame(rows)


# ------------------------------------------------------------------------------------------------ mixes, solutions


def tied(tie, size, rng):
    """Rates of two arms [2, size], Beta(0.6, 1.2) and Beta(0.6, 1.8), tied by a Gaussian copula of correlation
    `tie`."""
    z, own = rng.standard_normal((2, size))
    places = ndtr([z, tie * z + np.sqrt(1 - tie**2) * own])
    return betaincinv(0.6, [[1.2], [1.8]], places)


def mixes(tie, studies: int, n: int = 300, seed: int = 0) -> dict:
    """How often the interval of a mix holds what a study of `n` new problems finds, and lies over or under it."""
    rng, ks, rows = np.random.default_rng(seed), {"se": 5, "wc": 15}, []
    for study in range(studies):
        seen = tied(tie, N_PROBLEMS, rng)
        new = tied(tie, n, rng)
        pilots = {arm: even(rates, rng) for arm, rates in zip(ks, seen)}
        missed = ((1 - new) ** np.array([[5], [15]])).prod(0)
        found = (rng.random(n) > missed).mean()
        rows.append((found, *forecast_mix(pilots, ks, n, study)))
    return judged(rows)


def distinct(count, d, theta, rng) -> list[int]:
    """Sizes of the groups of equal ones among `count` solutions, by Ewens' and Pitman's partition."""
    sizes: list[int] = []
    for _ in range(count):
        weights = np.array([*(s - d for s in sizes), theta + d * len(sizes)])
        i = rng.choice(len(weights), p=weights / weights.sum())
        if i == len(sizes):
            sizes.append(0)
        sizes[i] += 1
    return sizes


def unique(k, n, studies: int, seed: int = 0, d=0.4, theta=3.0) -> dict:
    """Likewise of distinct correct solutions among k samples."""
    rng, rows = np.random.default_rng(seed), []
    for study in range(studies):
        n_samples, n_correct = even(rng.beta(0.6, 1.8, N_PROBLEMS), rng)
        groups_seen = [distinct(c, d, theta, rng) for c in n_correct]
        new = rng.binomial(k, rng.beta(0.6, 1.8, n))
        found = np.mean([len(distinct(c, d, theta, rng)) for c in new])
        table = forecast_unique(n_samples, n_correct, groups_seen, [k], study, n_problems=n)
        rows.append((found, *table[["value", "low", "high"]].iloc[0]))
    return judged(rows)


def judged(rows) -> dict:
    """truth, held, below, above, width, bias of rows of (found, value, low, high)."""
    found, value, low, high = np.array(rows).T
    below, above = (found < low).mean(), (found > high).mean()
    return {
        "truth": found.mean(),
        "held": 1 - below - above,
        "below": below,
        "above": above,
        "width": (high - low).mean(),
        "bias": (value - found).mean(),
    }


OTHERS = {
    "mixes": {f"mix, rates tied {tie:g}": partial(mixes, tie) for tie in (0, 0.5, 0.9, 1)},
    "unique": {
        f"unique at {k}, n = {n}": partial(unique, k, n) for k in (12, 30) for n in (60, 300)
    },
}


# ------------------------------------------------------------------------------------------------ the program


def observed(folder: Path) -> dict:
    """Populations of the arms' observed rates, in a 03_verify folder."""
    found = {}
    for path in sorted(folder.glob("*/verdicts.parquet")):
        verdicts = pd.read_parquet(path)
        is_correct = verdicts["verdict"] == "correct"
        by_problem = is_correct.groupby(verdicts["problem_id"])
        if by_problem.size().min() < 30:
            print(f"{path}: left out, under 30 samples per problem tell too little of its rates")
            continue
        found[f"real: {path.parent.name}"] = groups(by_problem.mean().to_numpy())
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verdicts", type=Path, help="a 03_verify folder")
    parser.add_argument("population", nargs="*", help=f"of: {', '.join([*POPULATIONS, *OTHERS])}")
    args = parser.parse_args()
    asked = args.population or [*POPULATIONS, *OTHERS]
    populations = {name: POPULATIONS[name] for name in asked if name in POPULATIONS}
    if args.verdicts:
        populations |= observed(args.verdicts)
    titles = "population pilot k truth held below above width bias bounds_held bounds_width"
    print(titles.replace(" ", ", "), "ms of a forecast, of bounds", sep=", ")
    for name, population in populations.items():
        for kind, pilot in PILOTS.items():
            table = calibration(population, args.studies, pilot, args.seed)
            for row in table.to_dict("records"):
                show(f"{name:32} {kind:9} {row.pop('k'):4}", row)
    for kind in asked:
        for name, held in OTHERS.get(kind, {}).items():
            show(f"{name:47}", held(args.studies, seed=args.seed))


def show(name: str, row: dict) -> None:
    numbers = " ".join(f"{value:7.3f}" for value in row.values())
    print(name, numbers, flush=True)


if __name__ == "__main__":
    main()
