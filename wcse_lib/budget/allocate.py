"""How a budget is shared out unevenly over problems: whole counts for mixes, rounds for adaptive arms."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from wcse_lib import forecast
from wcse_lib.study import Adaptive

# "stop", "unsolved" and "reset" give no problem more than this many times the mean: some are never solved
MOST = 8
SCALE = 0.2  # nats a token, of the rule "likelihood"


def mix_counts(
    parts: Mapping[str, Mapping[str, float]], problem_ids: Sequence[str], seed: int
) -> pd.DataFrame:
    """Samples that a mix takes from its parts: rows of budget, part, problem_id, n.

    Args: parts: {budget: {part: mean samples per problem}}. A mean's fraction becomes whole samples at random but fixed
    places, so that totals are exact to half a sample and a larger mean only adds; every other part is rounded the other
    way round: a problem that gets more of one gets less of the next.
    """
    keys = [hashlib.sha256(f"{seed}:{problem}".encode()).hexdigest() for problem in problem_ids]
    place = (np.argsort(np.argsort(keys)) + 0.5) / len(keys)
    frames = []
    for budget, means in parts.items():
        for i, (part, mean) in enumerate(means.items()):
            carry = place if i % 2 == 0 else 1 - place
            n = np.floor(mean + carry + 1e-9).astype(int)
            rows = {"budget": budget, "part": part, "problem_id": list(problem_ids), "n": n}
            frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


def next_counts(spec: Adaptive, n: np.ndarray, seen: np.ndarray, total: int) -> np.ndarray:
    """Samples per problem after one more round, from n drawn [problems] and what was seen of them: never fewer,
    together at most `total`. Seen are the correct ones (n,), or for likelihood how surprising the first sample is.

    difficulty: the samples so far are doubled (or `total` is reached), shared out in proportion to the failure
    rate that the forecast expects of each problem (Prop2Diff of DART-Math, arXiv 2407.13690). stop: every problem
    short of `correct` correct samples gets what it lacks; when none is left, one more correct sample is asked for.
    unsolved: problems without a correct sample share all that is left; where none is left, all do. reset: each of them
    gets one more, round by round, so that no sample is spent on a problem that is solved meanwhile (arXiv 2601.21522).
    likelihood: at once, by the first sample's mean surprisal s (nats a token): p = exp(-s / SCALE), and one sample
    after another goes to the problem where it adds most to the sum of 1 - (1 - p)^n (arXiv 2605.26849).
    """
    if spec.rule == "likelihood":
        return _where_it_adds_most(seen, n, total)
    c = seen
    if spec.rule == "difficulty":
        expected = forecast.posterior(n, c).expected_rates(n, c)
        weights = np.maximum(1 - expected, 1e-6)
        return _shared_out(weights, n, min(total, 2 * int(n.sum())))
    if spec.rule == "unsolved":
        return _to_the_unsolved(n, c, total)
    if spec.rule == "reset":
        return _one_to_each_unsolved(n, c, total)
    wanted = spec.correct
    most = MOST * total / len(n)
    is_short = (c < wanted) & (n < most)
    while not is_short.any():
        wanted += 1
        is_short = (c < wanted) & (n < most)
    lack = np.where(is_short, wanted - c, 0)
    if n.sum() + lack.sum() <= total:
        return n + lack
    return _rounded(n + lack * (total - n.sum()) / lack.sum(), n, total)


def _to_the_unsolved(n: np.ndarray, c: np.ndarray, total: int) -> np.ndarray:
    most = MOST * total // len(n)
    is_open = (c == 0) & (n < most)
    left = total - n.sum()
    if not is_open.any():
        return _rounded(n + left / len(n), n, total)
    shared = n + np.where(is_open, left / is_open.sum(), 0.0)
    wanted = np.where(is_open, np.minimum(shared, most), n)
    return _rounded(wanted, n, min(total, round(wanted.sum())))


def _one_to_each_unsolved(n: np.ndarray, c: np.ndarray, total: int) -> np.ndarray:
    """One more sample of every unsolved problem while the total lasts, those with fewest first; of all solved ones the
    rest is shared by all."""
    most = MOST * total // len(n)
    unsolved = np.flatnonzero((c == 0) & (n < most))
    left = total - n.sum()
    if not len(unsolved):
        return _rounded(n + left / len(n), n, total)
    fewest_first = unsolved[np.argsort(n[unsolved], kind="stable")]
    counts = n.copy()
    counts[fewest_first[:left]] += 1
    return counts


def _where_it_adds_most(surprisals: np.ndarray, n: np.ndarray, total: int) -> np.ndarray:
    """One sample after another to the problem with the largest p (1 - p)^n."""
    # far from 0 and 1, so that logarithms are finite
    chances = np.clip(np.exp(-surprisals / SCALE), 1e-12, 1 - 1e-12)
    log_miss = np.log1p(-chances)
    counts = n.copy()
    log_gain = np.log(chances) + counts * log_miss
    waiting = [(-gain, problem) for problem, gain in enumerate(log_gain)]
    heapq.heapify(waiting)
    for _ in range(total - int(n.sum())):
        negative_gain, problem = waiting[0]
        counts[problem] += 1
        heapq.heapreplace(waiting, (negative_gain - log_miss[problem], problem))
    return counts


def _shared_out(weights: np.ndarray, n: np.ndarray, total: int) -> np.ndarray:
    """`total` samples in proportion to weights; problems that hold more than their share keep it, and the rest is
    shared by the others."""
    free = np.ones(len(n), bool)
    while True:
        left = total - n[~free].sum()
        exact = np.where(free, weights / weights[free].sum() * left, n)
        over = free & (exact < n)
        if not over.any():
            return _rounded(exact, n, total)
        free &= ~over


def _rounded(exact: np.ndarray, least: np.ndarray, total: int) -> np.ndarray:
    """Whole counts that sum to `total`: rounded down, then one more where most was cut off."""
    counts = np.maximum(np.floor(exact + 1e-9).astype(int), least)
    counts[np.argsort(counts - exact, kind="stable")[: total - counts.sum()]] += 1
    return counts


def decide(
    spec: Adaptive,
    totals: Mapping[str, int],
    shape: int | tuple[int, int],
    draw: Callable,
    surprisals: Callable | None = None,
) -> dict[str, np.ndarray]:
    """Samples per problem at every budget, each total spent exactly; a larger budget goes on from a smaller.

    Args: shape: of all counts, [problems] or [draws, problems], where each draw spends every total by itself; draw:
    takes samples per problem and returns how many of those are correct: from engines, from rows on disk after a kill,
    or simulated; equal answers give equal decisions. surprisals: for the rule likelihood, the mean surprisal of every
    problem's first sample, once these are drawn.
    """
    n, out = np.zeros(shape, int), {}
    for budget, total in sorted(totals.items(), key=lambda item: item[1]):
        n = np.maximum(n, min(spec.first, total // n.shape[-1]))
        while (c := draw(n)) is not None and (n.sum(axis=-1) < total).any():
            seen = surprisals() if spec.rule == "likelihood" else c
            n = _next_of_draws(spec, n, seen, total)
        out[budget] = n
    return out


def _next_of_draws(spec: Adaptive, n: np.ndarray, seen: np.ndarray, total: int) -> np.ndarray:
    """The next counts of every draw; one that has spent its total stays as it is."""
    rows = []
    for n_of_draw, seen_of_draw in zip(np.atleast_2d(n), np.atleast_2d(seen)):
        is_spent = n_of_draw.sum() >= total
        rows.append(n_of_draw if is_spent else next_counts(spec, n_of_draw, seen_of_draw, total))
    return np.reshape(rows, n.shape)
