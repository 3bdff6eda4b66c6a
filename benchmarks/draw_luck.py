"""How much of a student's accuracy is the luck of the drawn training set, and how much that of the training seed?

    python benchmarks/draw_luck.py [--draws 8] [--seeds 3] [--folder outputs/draw_luck]

The nano study at its high budget, with its smallest base alone and 600 held-out problems. One study draws the samples
of all draws; then each draw is a study of its own, whose samples are a block of them that no other draw has. Every
draw trains a student of each arm with every seed. Greedy accuracy is tested on the same problems throughout. Finished
parts are not done again.

Components are of an analysis of variance: draws, seeds within draws, both crossed with problems. What is said of draws
and seeds is beyond the test's own part, which is that of having tested on these problems.
"""

import argparse
import itertools
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from wcse_lib import evaluate, plan, sample, train, verify
from wcse_lib.store import (
    KEY,
    parts,
    read_json,
    read_parquet,
    read_samples,
    write_json,
    write_manifest,
    write_parquet,
)
from wcse_lib.study import Run, Study, load_machine, load_study

ARMS = ("se", "wc")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--draws", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", default="outputs/draw_luck")
    args = parser.parse_args()
    folder = Path(args.folder).resolve()
    pool = draw_all(folder, args.draws)
    accurate = []
    for draw in range(args.draws):
        accurate.append(one_draw(folder, pool, draw, args.seeds))
        by_seed = 100 * accurate[-1].mean(axis=2).round(4)
        print(f"draw {draw}: {dict(zip(ARMS, by_seed.tolist()))}", flush=True)
    scores = np.stack(accurate).astype(int)
    np.save(folder / "correct.npy", scores)
    by_arm = dict(zip(ARMS, np.moveaxis(scores, 1, 0)))
    by_arm["wc - se"] = by_arm["wc"] - by_arm["se"]
    table = pd.DataFrame({name: components(correct) for name, correct in by_arm.items()})
    table.to_csv(folder / "components.csv")
    print(table.to_string(float_format="{:.4g}".format))


def study_of(name: str, n_samples: int, n_seeds: int) -> Study:
    """Nano at the high budget, with the smallest base, without controls."""
    data = load_study("params/nano.yaml").model_dump(mode="json")
    data["study"] = name
    data["dataset"]["n_held_out"] = 600
    data["budget"]["samples"] = {"high": n_samples}
    data["students"] = {"small": data["students"]["small"]}
    # each study is one draw, for all of its seeds
    data["training"] |= {"seeds": list(range(n_seeds)), "draws": "shared"}
    data["controls"] = {"planted": 0, "reference": False, "wrong": False}
    data["evaluation"] |= {"n_samples": 1, "maj_k": [1]}
    return Study.model_validate(data)


def draw_all(folder: Path, n_draws: int) -> Run:
    """The samples of all draws, in one study."""
    n_samples = load_study("params/nano.yaml").budget.samples["high"]
    run = plan.make_plan(study_of("pool", n_draws * n_samples, 1), folder)
    for arm in ARMS:
        if not run.complete("02", arm):
            found = sample.generate(run, arm, load_machine(""))
            write_manifest(run.path("02", arm), run.plan_id, sample.checks(run, arm, found))
    return run


def one_draw(folder: Path, pool: Run, draw: int, n_seeds: int) -> np.ndarray:
    """Which held-out problems each student of a draw answers correctly: bool [arms, seeds, problems]."""
    n_samples = load_study("params/nano.yaml").budget.samples["high"]
    run = plan.make_plan(study_of(f"draw_{draw}", n_samples, n_seeds), folder)
    for arm in ARMS:
        if not run.complete("02", arm):
            copy_block(pool, run, arm, draw)
        if not run.complete("03", arm):
            verified = verify.verify(run, arm, load_machine(""))
            facts = verify.checks(run, arm, verified)
            write_manifest(run.path("03", arm), run.plan_id, facts)
    correct = []
    for arm, seed in itertools.product(ARMS, range(n_seeds)):
        correct.append(tested(run, f"small.{arm}.high.s{seed}"))
    return np.stack(correct).reshape(len(ARMS), n_seeds, -1)


def copy_block(pool: Run, run: Run, arm: str, draw: int) -> None:
    """Give a draw its block of the pool's samples, numbered from 0."""
    source, target = pool.path("02", arm), run.path("02", arm)
    n = run.arm(arm).samples["high"]
    rows = read_samples(source)
    block = rows[rows["sample_index"] // n == draw]
    block = block.assign(sample_index=block["sample_index"] % n)
    assert len(block) == n * run.plan.n_problems["train"], f"{arm}: draw {draw} is not whole"
    for old in parts(target):
        old.unlink()
    write_parquet(target / "part-00000.parquet", block)
    for name in ("identity.json", "questions.json", "drawing.json"):
        write_json(target / name, read_json(source / name))
    found = sample.generate(run, arm, load_machine(""))
    assert found[[*KEY, "seed"]].equals(block[[*KEY, "seed"]].reset_index(drop=True))
    write_manifest(target, run.plan_id, sample.checks(run, arm, found))


def tested(run: Run, student: str) -> np.ndarray:
    """Which held-out problems a student answers correctly, greedily: bool [problems]."""
    if not run.complete("04", student):
        train.train_students(run, [student], load_machine(""))
    if not run.complete("05", student):
        evaluate.evaluate(run, [student], load_machine(""))
    rows = read_parquet(run.path("05", student, "verdicts-greedy.parquet"))
    return (rows.sort_values("problem_id")["verdict"] == "correct").to_numpy()


def components(correct: np.ndarray) -> dict[str, float]:
    """Variance components of accuracy, as standard deviations in points, with F and p.

    Args: correct: [draws, seeds, problems], 0 or 1, or differences of such. The model is y = problem + draw + seed
    within draw, with draw × problem and seed × problem. `draw_f` compares draws with seeds; `draw_f_beyond_test` also
    takes the draw × problem part off both, by Satterthwaite's degrees of freedom; so does `seed_f` with seed × problem.
    """
    values = 100.0 * correct.astype(float)
    n_draws, n_seeds, n = values.shape
    by_problem = values.mean(axis=(0, 1))
    by_draw = values.mean(axis=(1, 2))
    by_seed = values.mean(axis=2)
    by_draw_problem = values.mean(axis=1)

    # sums of squares, a mean square for each source
    ms_draw = n * n_seeds * by_draw.var(ddof=1)
    ms_seed = n * ((by_seed - by_draw[:, None]) ** 2).sum() / (n_draws * (n_seeds - 1))
    crossed = by_draw_problem - by_draw[:, None] - by_problem + values.mean()
    ms_draw_problem = n_seeds * (crossed**2).sum() / ((n_draws - 1) * (n - 1))
    within = values - by_seed[:, :, None] - by_draw_problem[:, None] + by_draw[:, None, None]
    ms_seed_problem = (within**2).sum() / (n_draws * (n_seeds - 1) * (n - 1))

    # what their expectations say of each source
    seed_variance = (ms_seed - ms_seed_problem) / n
    draw_variance = (ms_draw - ms_seed - ms_draw_problem + ms_seed_problem) / (n * n_seeds)

    df_draw, df_seed = n_draws - 1, n_draws * (n_seeds - 1)
    seed_f = ms_seed / ms_seed_problem
    draw_f = ms_draw / ms_seed
    beyond = (ms_draw + ms_seed_problem) / (ms_seed + ms_draw_problem)
    df_above = _satterthwaite([(ms_draw, df_draw), (ms_seed_problem, df_seed * (n - 1))])
    df_below = _satterthwaite([(ms_seed, df_seed), (ms_draw_problem, df_draw * (n - 1))])
    return {
        "mean": values.mean(),
        "draw_sd": _root(draw_variance),
        "seed_sd": _root(seed_variance),
        "sd_of_draws": by_draw.std(ddof=1),
        "draw_f": draw_f,
        "draw_p": stats.f.sf(draw_f, df_draw, df_seed),
        "draw_f_beyond_test": beyond,
        "draw_p_beyond_test": stats.f.sf(beyond, df_above, df_below),
        "seed_f": seed_f,
        "seed_p": stats.f.sf(seed_f, df_seed, df_seed * (n - 1)),
    }


def _satterthwaite(mean_squares: list[tuple[float, float]]) -> float:
    """Degrees of freedom of a sum of mean squares, each given with its own."""
    total = sum(square for square, _ in mean_squares)
    return total**2 / sum(square**2 / df for square, df in mean_squares)


def _root(variance: float) -> float:
    """A standard deviation; an estimate below 0 counts as 0."""
    return float(np.sqrt(max(0.0, variance)))


if __name__ == "__main__":
    main()
