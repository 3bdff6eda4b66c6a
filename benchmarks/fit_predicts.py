"""Do scores of fit, known before any training, rank arms as their students' accuracy does?

    python benchmarks/fit_predicts.py outputs/nano_fit [--times 2000]

Reads a finished study (params/nano_fit.yaml: eight arms at one cost, three students, three draws). For every quantity
of 06's table `explanation`: the rank correlation (Spearman) over arms of its value with the accuracy of the arms'
students, for each base student and on average. Intervals of 95 % are of these arms: held-out problems and each arm's
draws are resampled. `p` is of other arms: all orders of the arms are as likely (an exact permutation test, the same
order for all students), two-sided. `chosen`: accuracy of the arm that the quantity would choose minus that of all arms
on average, in points; `best` is that of the best arm. Signs are as people expect: a higher log-likelihood, coverage or
number of examples is better, a lower rank-surprisal ratio, gradient score, false-positive rate or number of
repetitions.
"""

import argparse
from itertools import permutations
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from wcse_lib.analyze.students import Group, HeldOutScores, read_scores
from wcse_lib.analyze.words import Quantity
from wcse_lib.study import MAIN, Run
from wcse_lib.train import SCORES
from wcse_lib.verdicts import PRIMARY_METRIC, SAMPLED_PASS_AT_1, Metric

LESS_IS_BETTER = {
    Quantity.FALSE_POSITIVE_RATE,
    Quantity.DUPLICATES,
    Quantity.REPEATED_EXAMPLES,
    Quantity.EPOCHS,
    *(name for name, score in SCORES.items() if score.sign < 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder")
    parser.add_argument("--times", type=int, default=2000, help="resamples of an interval")
    args = parser.parse_args()
    run = Run(Path(args.folder))
    tested = read_scores(run)
    predictors, bases = predicted(run), list(run.study.students)
    for metric in (PRIMARY_METRIC, SAMPLED_PASS_AT_1):
        correct = accuracies(run, tested, metric)
        described = f"{metric.metric} (k = {metric.k}), {metric.decoding}, {correct.shape[-1]} held-out problems"
        means = pd.DataFrame(100 * correct.mean((2, 3)), bases, list(run.plan.arms))
        print(f"\n{described}: accuracy of each arm's students, %\n{means.round(1).to_string()}")
        print(f"rank correlation of one draw with the other draws: {between_draws(correct):.2f}")
        rows = {}
        for quantity, values in predictors.items():
            rows[quantity] = row_of(bases, values, correct, args.times)
        table = pd.DataFrame.from_dict(rows, orient="index")
        print(table.round(3).to_string(na_rep="–"))
        table.to_csv(Path(args.folder) / f"fit_predicts_{metric.decoding}.csv")


def predicted(run: Run) -> dict[str, np.ndarray]:
    """By quantity its values (students, arms), more being better; without those that are the same for all arms."""
    table = pd.read_csv(run.path("06", "tables", "explanation.csv"))
    found = {}
    for quantity, rows in table.groupby("quantity", sort=False):
        values = np.empty((len(run.study.students), len(run.plan.arms)))
        for i, base in enumerate(run.study.students):
            is_of_base = rows["base"].fillna("").isin(["", base])
            by_arm = rows[is_of_base].set_index("arm")["value"]
            values[i] = by_arm.reindex(list(run.plan.arms))
        if not np.isnan(values).any() and (np.ptp(values, axis=1) > 0).all():
            found[quantity] = -values if quantity in LESS_IS_BETTER else values
    return found


def accuracies(run: Run, tested: HeldOutScores, metric: Metric) -> np.ndarray:
    """Scores (students, arms, draws, held-out problems)."""
    (budget,) = run.study.budget.samples
    by_base = []
    for base in run.study.students:
        by_arm = []
        for arm in run.plan.arms:
            names = tested.groups[base, Group(arm, budget, MAIN)]
            by_arm.append([tested.scores[name][metric] for name in names])
        by_base.append(by_arm)
    return np.array(by_base)


def row_of(bases: list[str], values: np.ndarray, correct: np.ndarray, times: int) -> dict:
    """What a quantity's values (students, arms) tell of the scores `correct`, of each base student and on average."""
    means = correct.mean((2, 3))
    by_base = correlations(values, means)
    low, high = interval(values, correct, times)
    chosen = np.take_along_axis(means, values.argmax(1)[:, None], 1)[:, 0]
    row = dict(zip(bases, by_base))
    row |= {"average": by_base.mean(), "low": low, "high": high, "p": exact_p(values, means)}
    row["chosen"] = 100 * (chosen - means.mean(1)).mean()
    row["best"] = 100 * (means.max(1) - means.mean(1)).mean()
    return row


def correlations(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Spearman's rank correlation along the last axis; 0 where one side is the same throughout."""
    ranks = [rankdata(side, axis=-1) for side in (a, b)]
    ranks_a, ranks_b = (side - side.mean(-1, keepdims=True) for side in ranks)
    products = (ranks_a * ranks_b).sum(-1)
    sizes = np.sqrt((ranks_a**2).sum(-1) * (ranks_b**2).sum(-1))
    return np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0)


def interval(values: np.ndarray, correct: np.ndarray, times: int) -> np.ndarray:
    """95 % of the average correlation, with held-out problems and each arm's draws resampled.

    Resampled accuracies are noisier than those that were found, and so rank less alike: the interval is reflected at
    the estimate (the basic bootstrap), which takes this out.
    """
    rng = np.random.default_rng(0)
    n_students, n_arms, n_draws, n_problems = correct.shape
    found = np.empty(times)
    for i in range(times):
        weights = rng.multinomial(n_problems, np.full(n_problems, 1 / n_problems)) / n_problems
        by_draw = correct @ weights
        draws = rng.integers(n_draws, size=(n_students, n_arms, n_draws))
        means = np.take_along_axis(by_draw, draws, 2).mean(2)
        found[i] = correlations(values, means).mean()
    estimate = correlations(values, correct.mean((2, 3))).mean()
    return np.clip(2 * estimate - np.quantile(found, [0.975, 0.025]), -1, 1)


def exact_p(values: np.ndarray, means: np.ndarray) -> float:
    """Share of all orders of the arms whose average correlation is at least as far from 0."""
    orders = np.array(list(permutations(range(values.shape[1]))))
    of_orders = correlations(values[None], means[:, orders].swapaxes(0, 1)).mean(1)
    observed = abs(correlations(values, means).mean())
    return float((np.abs(of_orders) >= observed - 1e-12).mean())


def between_draws(correct: np.ndarray) -> float:
    """How well one draw's accuracies rank the arms as the mean of the others does: no score can be asked for more."""
    by_draw = correct.mean(3)
    found = []
    for draw in range(by_draw.shape[2]):
        others = np.delete(by_draw, draw, axis=2).mean(2)
        found.append(correlations(by_draw[:, :, draw], others).mean())
    return float(np.mean(found))


if __name__ == "__main__":
    main()
