"""Is the controls' verdict what the world is? Simulated studies of worlds where it is known, a line for each.

    python benchmarks/planted.py [--studies 500] [--seeds 3] [world ...]

Every study has one base and students of two arms, of a planted fault, of reference solutions and of wrong samples. A
problem has a difficulty and a length, which go together; an answer is cut with a chance that grows with the length and
is the student's, and what is cut is wrong; else it is right with a chance that is the problem's and the student's.
Students of one lesson differ by luck of 0.5 to 2 points (standard deviation, drawn for each study) and by how well each
problem suits them. The verdict is the kit's, from the tables that it would write of these scores. A study is right
where the fault was seen in a world where it costs something that so many problems can show, and unseen elsewhere; and
where what is said of each arm's gain (only stopping, more, not known, or none of these) is true of the world. "named":
how often more than "not known" was said of both arms' gains. "before": how often the rule that was used before (wrong
samples below reference solutions) said the sight that the world is.
"""

import argparse
import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
from scipy.special import expit

from wcse_lib.analyze.controls import Learnt, gains_by_stopping, planted_faults
from wcse_lib.analyze.endings import stopping
from wcse_lib.analyze.students import UNTRAINED, Group, HeldOutScores, controls
from wcse_lib.analyze.words import HELD_OUT
from wcse_lib.study import MAIN, check_study
from wcse_lib.verdicts import PRIMARY_METRIC, SAMPLED_PASS_AT_1

ARMS = ("se", "wc")
BUDGET = "high"
ONLY_STOPPING = (Learnt.STOPPING, Learnt.UNKNOWN)  # what is true of students that learnt no more


@dataclasses.dataclass(frozen=True)
class World:
    """What students become, in logits from their base: `arm` and the other lessons; `base_cut` and `student_cut` are
    logits of being cut at a middling length; and the verdicts that are right of it."""

    arm: float = 0.5
    planted: float = -0.7
    reference: float = 0.6
    wrong: float = -0.6
    base_cut: float = -4.0
    student_cut: float = -5.0
    n_problems: int = 300
    sees: bool = True
    learnt: tuple = (None,)


WORLDS = {
    "ordinary": World(),
    "reference below base": World(reference=-0.5),
    "wrong teaches": World(reference=0.2, wrong=0.5),
    "wrong teaches, harm by half": World(reference=0.2, wrong=0.5, planted=-0.2, arm=0.6),
    "only stopping": World(
        arm=0.0, reference=0.0, base_cut=0.0, learnt=ONLY_STOPPING, n_problems=1000
    ),
    "only stopping, 300": World(arm=0.0, reference=0.0, base_cut=0.0, learnt=ONLY_STOPPING),
    "stopping and more": World(arm=1.0, base_cut=-0.5, n_problems=500, learnt=(Learnt.MORE,)),
    "base never stops": World(base_cut=9.0, learnt=(Learnt.UNKNOWN,)),
    "data do not help": World(arm=0.0, reference=0.0, wrong=0.0),
    "data harm": World(arm=-0.3, reference=-0.4, wrong=-0.3, planted=-1.2),
    "nothing is learnt": World(arm=0.0, planted=0.0, reference=0.0, wrong=0.0, sees=False),
    "too small": World(arm=0.1, planted=0.0, n_problems=30, sees=False),
    "planted teaches as well": World(arm=0.5, planted=0.5, sees=False),
}


def study_of(n_seeds, n_problems):
    """A run with this many held-out problems, as far as the verdict reads it."""
    params = {
        "study": "simulated",
        "dataset": {"name": "nano", "n_train": 1, "n_held_out": 300},
        "budget": {"reference": ARMS[0], "samples": {BUDGET: 10}},
        "students": {"small": {"model": "nano-student"}},
    }
    params["arms"] = {arm: {"model": f"nano-{arm}"} for arm in ARMS}
    params["training"] = {"amount": {BUDGET: 90}, "seeds": list(range(n_seeds))}
    study = check_study(params, "simulation")
    planted = SimpleNamespace(source="planted", base="small", arm=ARMS[0])
    drawn = {arm: SimpleNamespace(model=f"nano-{arm}") for arm in ARMS}
    plan = SimpleNamespace(
        students={"small.planted": planted}, arms=drawn, plain_arms=lambda: drawn
    )
    sets = pd.Series(HELD_OUT, index=range(n_problems))
    return SimpleNamespace(study=study, plan=plan, sets=lambda: sets)


def simulated(world, rng, n_seeds):
    """Scores and endings of the students of one study in this world."""
    n = world.n_problems
    difficulty, own_length = rng.normal(size=n), rng.normal(size=n)
    length = 0.5 * difficulty + np.sqrt(0.75) * own_length
    ability = rng.uniform(-0.8, 0.6) - 1.5 * difficulty
    chance = expit(ability)
    luck = rng.uniform(0.005, 0.02) / (chance * (1 - chance)).mean()
    tested = HeldOutScores({}, {}, {}, np.full(n, "held_out"))
    found = {}

    def test(name, group, shift, cut):
        suits = 0.6 * rng.normal(size=n)
        is_cut = rng.random(n) < expit(cut + length)
        is_right = (rng.random(n) < expit(ability + shift + suits)) & ~is_cut
        tested.scores[name] = {PRIMARY_METRIC: is_right * 1.0, SAMPLED_PASS_AT_1: is_right * 1.0}
        tested.groups.setdefault(("small", group), []).append(name)
        counts = {"n": 1, "n_cut": is_cut * 1, "n_right": is_right * 1}
        counts = pd.DataFrame(counts | {"n_right_ended": is_right * 1}, index=range(n))
        found[name] = {"greedy": counts}

    test("small.base", UNTRAINED, 0.0, world.base_cut)
    lessons = {arm: Group(arm, BUDGET, MAIN) for arm in ARMS}
    lessons |= {source: Group(source) for source in ("planted", "reference", "wrong")}
    for lesson, group in lessons.items():
        shift = getattr(world, "arm" if lesson in ARMS else lesson)
        for seed in range(n_seeds):
            test(f"small.{lesson}.s{seed}", group, shift + luck * rng.normal(), world.student_cut)
    return tested, found


def verdicts(run, tested, found):
    """Of a study, whether the fault was seen, what each arm's students learnt, and what the rule before says."""
    table = pd.DataFrame(controls(run, tested, {}))
    arms = {at: names for at, names in tested.groups.items() if at[1].taught_by in ("base", *ARMS)}
    of_arms = dataclasses.replace(tested, groups=arms)
    tables = {"controls": table}
    if rows := list(stopping(run, of_arms, found)):
        tables["stopping"] = pd.DataFrame(rows)
    (is_seen,) = planted_faults(tables)["is_seen"]
    gains = gains_by_stopping(tables).set_index("taught_by")["learnt"]
    learnt = [gains.get(arm) for arm in ARMS]
    before = PRIMARY_METRIC.rows(table).set_index("comparison")
    return bool(is_seen), learnt, bool(before.loc["wrong_minus_reference", "high"] < 0)


def right_verdicts(name, n_studies, n_seeds, seed=0):
    """Shares of studies of a world: the sight is right, what was learnt is right, both; named; and the rule before."""
    world = WORLDS[name]
    run = study_of(n_seeds, world.n_problems)
    rows = []
    for i in range(n_studies):
        rng = np.random.default_rng([seed, i, list(WORLDS).index(name)])
        tested, found = simulated(world, rng, n_seeds)
        is_seen, learnt, before = verdicts(run, tested, found)
        sight = is_seen == world.sees
        stops = all(said in world.learnt for said in learnt)
        row = {"sight": sight, "learnt": stops, "right": sight and stops}
        row["named"] = all(said in (Learnt.STOPPING, Learnt.MORE) for said in learnt)
        rows.append(row | {"before": before == world.sees})
    return pd.DataFrame(rows).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("world", nargs="*", help=f"of: {', '.join(WORLDS)}")
    args = parser.parse_args()
    print(f"{args.studies} studies a world, {args.seeds} training seeds")
    print(f"{'world':28} sight  learnt  right  named  before")
    for name in args.world or WORLDS:
        shares = right_verdicts(name, args.studies, args.seeds)
        flag = "" if shares["right"] >= 0.95 else "  <- below 95 %"
        words = "  ".join(
            f"{shares[column]:.3f}" for column in ("sight", "learnt", "right", "named")
        )
        print(f"{name:28} {words}  {shares['before']:.3f}{flag}", flush=True)


if __name__ == "__main__":
    main()
