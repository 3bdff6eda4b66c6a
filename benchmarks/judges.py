"""Do corrected false-positive rates hold the truth 95 times in 100, and how wide are they? One row per kind of judge.

    python benchmarks/judges.py [--studies 2000] [--against 50]

Every study has 200 problems with 1 to some 40 correct samples each (geometric, mean 8); a problem's rate of flawed ones
and the judge's own rates there are drawn from betas, so that samples and errors cluster. Labels are drawn at random, or
as the panel does: more of what the judge flags. "held": share of studies whose 95 % interval holds the rate of the
population of problems; "below", "above": the truth lies there. "against": the mean width of Rogan and Gladen's (1978)
estimate from as many random labels, with percentiles of Bayesian-bootstrap draws over problems (what the kit had
before), in `--against` studies of each cell; "ratio": of the mean widths.
"""

import argparse
from itertools import product

import numpy as np
import pandas as pd

from wcse_lib.verify.labelling import n_flagged
from wcse_lib.verify.rates import corrected_rate

N_PROBLEMS, MEAN_SAMPLES = 200, 8
RATES = (0.05, 0.1, 0.2, 0.3)
JUDGES = ((0.95, 0.99), (0.9, 0.95), (0.8, 0.9), (0.7, 0.7), (0.6, 0.9), (0.5, 0.97))
LABELS = (50, 100, 200)
CELLS = 4  # flawed and flagged, sound and flagged, flawed and passed, sound and passed


def judged(rng, rate, sensitivity, specificity):
    """Samples [CELLS, problems] of one study by what they are and what the judge says."""
    n = rng.geometric(1 / MEAN_SAMPLES, N_PROBLEMS)
    flawed = rng.binomial(n, rng.beta(3 * rate, 3 * (1 - rate), N_PROBLEMS))
    sensitivities = rng.beta(9 * sensitivity, 9 * (1 - sensitivity), N_PROBLEMS)
    specificities = rng.beta(19 * specificity, 19 * (1 - specificity), N_PROBLEMS)
    caught = rng.binomial(flawed, sensitivities)
    passed = rng.binomial(n - flawed, specificities)
    return np.array([caught, n - flawed - passed, flawed - caught, passed])


def labelled(rng, samples, n_labels, by_verdict):
    """Which of these samples get a label [CELLS, problems]."""
    if not by_verdict:
        drawn = rng.multivariate_hypergeometric(samples.ravel(), n_labels, method="marginals")
        return drawn.reshape(samples.shape)
    by_kind = samples.reshape(2, -1)
    n_flawed = n_flagged(n_labels, *by_kind.sum(1))
    drawn = []
    for kind, n in zip(by_kind, (n_flawed, n_labels - n_flawed)):
        drawn.append(rng.multivariate_hypergeometric(kind, n, method="marginals"))
    return np.concatenate(drawn).reshape(samples.shape)


def interval(samples, labels):
    """The kit's: low, high."""
    flagged = samples[:2].sum(0), samples.sum(0)
    of_flagged, of_passed = (labels[0], labels[:2].sum(0)), (labels[2], labels[2:].sum(0))
    _, low, high = corrected_rate(flagged, of_flagged, of_passed)
    return low, high


def rogan_gladen(rng, samples, labels, n_draws=5000):
    """The earlier one's: low, high; half a mean problem at each end of every rate."""
    pairs = [
        (samples[:2].sum(0), samples.sum(0)),
        (labels[0], labels[[0, 2]].sum(0)),
        (labels[3], labels[[1, 3]].sum(0)),
    ]
    weights = rng.standard_exponential((n_draws, N_PROBLEMS))
    rates = []
    for part, whole in pairs:
        size = whole[whole > 0].mean() if whole.any() else 1.0
        ends = rng.standard_gamma(0.5, (2, n_draws)) * size
        rates.append((weights @ part + ends[0]) / (weights @ whole + ends.sum(0)))
    flagged, sensitivity, specificity = rates
    information = sensitivity + specificity - 1
    is_known = information > 0
    draws = rng.random(n_draws)  # a draw in which the judge is no better than chance says nothing
    behind = (flagged + specificity - 1)[is_known] / information[is_known]
    draws[is_known] = np.clip(behind, 0, 1)
    return np.quantile(draws, [0.025, 0.975])


def cell(rate, judge, n_labels, by_verdict, n_studies, n_against, seed):
    """One row of the table."""
    ends, earlier = np.zeros((n_studies, 2)), np.zeros((n_against, 2))
    for study in range(n_studies):
        rng = np.random.default_rng([seed, study, int(1000 * rate), int(1000 * sum(judge))])
        samples = judged(rng, rate, *judge)
        labels = labelled(rng, samples, n_labels, by_verdict)
        ends[study] = interval(samples, labels)
        if study < n_against:
            at_random = labels if not by_verdict else labelled(rng, samples, n_labels, False)
            earlier[study] = rogan_gladen(rng, samples, at_random)
    ends = ends[~np.isnan(ends).any(1)]
    below, above = (ends[:, 0] > rate).mean(), (ends[:, 1] < rate).mean()
    width = np.diff(ends).mean()
    row = {"rate": rate, "sensitivity": judge[0], "specificity": judge[1], "labels": n_labels}
    row |= {"drawn": "by verdict" if by_verdict else "random", "studies": len(ends)}
    row |= {"held": 100 * (1 - below - above), "below": 100 * below, "above": 100 * above}
    row["width"] = 100 * width
    if n_against:
        row["against"] = 100 * np.diff(earlier).mean()
        row["ratio"] = width / np.diff(earlier).mean()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000, help="of each cell")
    parser.add_argument("--against", type=int, default=50, help="studies by Rogan and Gladen")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rows = []
    for rate, judge, by_verdict, n_labels in product(RATES, JUDGES, (False, True), LABELS):
        facts = (rate, judge, n_labels, by_verdict)
        rows.append(cell(*facts, args.studies, args.against, args.seed))
        print(pd.DataFrame(rows[-1:]).round(3).to_string(index=False, header=len(rows) == 1))
    table = pd.DataFrame(rows)
    print(table.groupby(["drawn", "labels"])[["held", "width", "ratio"]].describe().T.to_string())


if __name__ == "__main__":
    main()
