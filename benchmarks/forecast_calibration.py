"""Do 95 % forecast intervals hold the truth 95 times in 100? Thousands of simulated pilots, one row per population.

    python benchmarks/forecast_calibration.py [--studies 2000] [--verdicts outputs/nano/03_verify] [population ...]
    python benchmarks/forecast_calibration.py --studies 500 mixes unique

Every study draws 50 problems from a population of success rates, 8 samples each, and forecasts coverage@30 and @100 of
that population (not of the 50). "below" and "above": how often the truth lay under or over the interval. Real success
rates: each arm's verdicts in --verdicts become a population (its problems' observed rates, at 30 samples or more).
"mixes": coverage of 5 se and 15 wc samples, of two arms whose rates are tied by a copula of that correlation. "unique":
distinct correct solutions of 12 and 30 samples. Both forecast what a study of 300 (unique: 60 too) new problems finds.
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import betaincinv, betaln, expit, ndtr

from wcse_lib.forecast import forecast_coverage, forecast_mix, forecast_unique

KS = (30, 100)
NANO_LEVELS = np.array([0.8, 0.55, 0.3, 0.12, 0.04])  # mean rates of five equally common levels


def beta_coverage(a, b, k):
    return -np.expm1(betaln(a, b + k) - betaln(a, b))


def beta(a, b, zero=0.0):
    """The same Beta(a, b) in every study, `zero` of problems never solved."""

    def draw(rng, studies, problems):
        rates = rng.beta(a, b, (studies, problems)) * (rng.random((studies, problems)) >= zero)
        return rates, np.tile([(1 - zero) * beta_coverage(a, b, k) for k in KS], (studies, 1))

    return draw


def betas(most_zero):
    """Another Beta in every study: mean 0.1 to 0.7, a + b 0.6 to 6, and up to `most_zero` of problems never solved."""

    def draw(rng, studies, problems):
        mean, size = (
            rng.uniform(0.1, 0.7, (studies, 1)),
            np.exp(rng.uniform(np.log(0.6), np.log(6), (studies, 1))),
        )
        zero, a, b = (
            rng.uniform(min(0.05, most_zero), most_zero, (studies, 1)),
            mean * size,
            (1 - mean) * size,
        )
        rates = rng.beta(a, b, (studies, problems)) * (rng.random((studies, problems)) >= zero)
        return rates, np.hstack([(1 - zero) * beta_coverage(a, b, k) for k in KS])

    return draw


def levels(concentration):
    """Five levels of difficulty, Beta within each: no single Beta fits."""

    def draw(rng, studies, problems):
        mean = rng.choice(NANO_LEVELS, (studies, problems))
        truth = [
            beta_coverage(NANO_LEVELS * concentration, (1 - NANO_LEVELS) * concentration, k).mean()
            for k in KS
        ]
        return rng.beta(mean * concentration, (1 - mean) * concentration), np.tile(
            truth, (studies, 1)
        )

    return draw


def fixed(rates):
    """Problems drawn from a list of known rates."""
    rates = np.asarray(rates, float)

    def draw(rng, studies, problems):
        truth = [(1 - (1 - rates) ** k).mean() for k in KS]
        return rng.choice(rates, (studies, problems)), np.tile(truth, (studies, 1))

    return draw


POPULATIONS = {
    "beta": betas(0.0),
    "mixture with zeros": betas(0.4),
    "nano-like levels": levels(8),
    "Beta(0.4, 0.8)": beta(0.4, 0.8),
    "Beta(0.2, 0.6)": beta(0.2, 0.6),
    "Beta(1, 2)": beta(1, 2),
    "Beta(2, 1)": beta(2, 1),
    "Beta(0.5, 3)": beta(0.5, 3),
    "Beta(2, 3), 15 % zeros": beta(2, 3, 0.15),
    "Beta(0.5, 0.8), 10 % zeros": beta(0.5, 0.8, 0.1),
    "logit-normal(-1, 2)": fixed(
        expit(-1 + 2 * np.random.default_rng(0).standard_normal(1_000_000))
    ),
    "half 0.5, half 0.02": fixed([0.5, 0.02]),
}


def calibration(draw, studies: int, problems: int = 50, samples: int = 8, seed: int = 0):
    """Rows of k, held (share of intervals that hold the truth), below, above, width, bias over simulated studies."""
    rng = np.random.default_rng(seed)
    rates, truth = draw(rng, studies, problems)
    correct = rng.binomial(samples, rates)
    n = np.full(problems, samples)
    frames = [forecast_coverage(n, c, KS)[["value", "low", "high"]].to_numpy() for c in correct]
    value, low, high = np.moveaxis(np.array(frames), 2, 0)
    below, above = truth < low, truth > high
    rows = {
        "k": KS,
        "truth": truth.mean(0),
        "held": 1 - (below | above).mean(0),
        "below": below.mean(0),
        "above": above.mean(0),
        "width": (high - low).mean(0),
        "bias": (value - truth).mean(0),
    }
    return pd.DataFrame(rows)


def tied(tie, size, rng):
    """Rates of two arms [2, size], Beta(0.6, 1.2) and Beta(0.6, 1.8), tied by a Gaussian copula of correlation `tie`."""
    z, own = rng.standard_normal((2, size))
    return betaincinv(0.6, [[1.2], [1.8]], ndtr([z, tie * z + np.sqrt(1 - tie**2) * own]))


def mixes(
    tie, studies: int, problems: int = 50, samples: int = 8, n: int = 300, seed: int = 0
) -> dict:
    """How often the interval of a mix holds what a study of `n` new problems finds, and lies over or under it."""
    rng, ks, n_samples, rows = (
        np.random.default_rng(seed),
        {"se": 5, "wc": 15},
        np.full(problems, samples),
        [],
    )
    for study in range(studies):
        seen, new = (tied(tie, size, rng) for size in (problems, n))
        pilots = {arm: (n_samples, rng.binomial(samples, p)) for arm, p in zip(ks, seen)}
        found = (rng.random(n) > ((1 - new) ** np.array([[5], [15]])).prod(0)).mean()
        rows.append((found, *forecast_mix(pilots, ks, n, study)))
    return judged(rows)


def distinct(count, d, theta, rng) -> list[int]:
    """Sizes of the groups of equal ones among `count` solutions, by Ewens' and Pitman's partition."""
    sizes: list[int] = []
    for _ in range(count):
        weights = np.array([*(s - d for s in sizes), theta + d * len(sizes)])
        i = rng.choice(len(weights), p=weights / weights.sum())
        sizes[i:] = [sizes[i] + 1, *sizes[i + 1 :]] if i < len(sizes) else [1]
    return sizes


def unique(
    k, n, studies: int, problems: int = 50, samples: int = 8, seed: int = 0, d=0.4, theta=3.0
) -> dict:
    """Likewise of distinct correct solutions among k samples."""
    rng, n_samples, rows = np.random.default_rng(seed), np.full(problems, samples), []
    for study in range(studies):
        seen, new = rng.beta(0.6, 1.8, problems), rng.beta(0.6, 1.8, n)
        groups = [distinct(c, d, theta, rng) for c in rng.binomial(samples, seen)]
        found = np.mean([len(distinct(c, d, theta, rng)) for c in rng.binomial(k, new)])
        table = forecast_unique(n_samples, list(map(sum, groups)), groups, [k], study, n_problems=n)
        rows.append((found, *table[["value", "low", "high"]].iloc[0]))
    return judged(rows)


def judged(rows) -> dict:
    """held, below, above, width, bias of rows of (found, value, low, high)."""
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verdicts", type=Path, help="a 03_verify folder")
    parser.add_argument("population", nargs="*", help=f"of: {', '.join([*POPULATIONS, *OTHERS])}")
    args = parser.parse_args()
    populations = {
        name: POPULATIONS[name] for name in args.population or POPULATIONS if name in POPULATIONS
    }
    for path in sorted(args.verdicts.glob("*/verdicts.parquet")) if args.verdicts else ():
        table = (
            pd.read_parquet(path)
            .groupby("problem_id")["verdict"]
            .agg(n="size", c=lambda v: (v == "correct").sum())
        )
        if (table["n"] >= 30).all():
            populations[f"real: {path.parent.name}"] = fixed(table["c"] / table["n"])
        else:
            print(
                f"{path}: left out, fewer than 30 samples per problem tell too little of its rates"
            )
    print("population                      k   truth   held  below  above  width    bias")
    for name, draw in populations.items():
        for row in calibration(draw, args.studies, seed=args.seed).to_dict("records"):
            show(f"{name:28} {row['k']:4}", row)
    for kind in (
        OTHERS if not args.population else [name for name in args.population if name in OTHERS]
    ):
        for name, held in OTHERS[kind].items():
            show(f"{name:33}", held(args.studies, seed=args.seed))


def show(name, row):
    flag = "" if 0.93 <= row["held"] <= 0.97 else "  <- not 93 to 97 %"
    print(
        f"{name} {row['truth']:7.3f} {row['held']:6.3f} {row['below']:6.3f} {row['above']:6.3f} "
        f"{row['width']:6.3f} {row['bias']:+7.3f}{flag}",
        flush=True,
    )


if __name__ == "__main__":
    main()
