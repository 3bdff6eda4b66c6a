"""What students learn from where each training seed has a draw: examples of its own draw, whatever their source."""

import pandas as pd
import pytest
from mixed_study import fill, taught

from wcse_lib import plan
from wcse_lib.store import KEY, read_parquet
from wcse_lib.train import examples
from wcse_lib.verify.examples import write_examples

SEEDS = [4, 9, 2]


def examples_of(run, student):
    """Kept examples of a student, with their `draw` and `place`."""
    frame = pd.concat(examples.examples_of(run, student), ignore_index=True)
    frame = frame[~frame["is_cut"]]
    parts = []
    for arm, rows in frame.groupby("author"):
        draws, index = run.draws(arm), rows["sample_index"]
        parts.append(rows.assign(draw=draws.of(index), place=draws.place(index)))
    return pd.concat(parts)


@pytest.mark.parametrize(
    "lesson",
    [
        "se.high",
        "wc.low",
        "mix.high",
        "adaptive.high",
        "wc.high.first",
        "pooled.low",
        "wrong",
        "planted",
    ],
)
def test_a_seeds_students_learn_from_its_own_draw(three_draws, lesson):
    for draw, seed in enumerate(SEEDS):
        frame = examples_of(three_draws, f"wc.{lesson}.s{seed}")
        assert frame["draw"].unique().tolist() == [draw]
        if lesson.endswith(("first", "low")):
            assert frame["place"].max() < 3


def test_a_recipes_first_samples_are_each_draws(three_draws):
    for seed in SEEDS:
        frame = examples_of(three_draws, f"wc.wc.high.first.s{seed}")
        assert frame["place"].unique().tolist() == [0]


def test_examples_are_what_is_correct_and_new_in_a_draw(three_draws):
    judged = read_parquet(three_draws.path("03", "wc", "judged.parquet"))
    draws = three_draws.draws("wc")
    correct = judged[judged["verdict"] == "correct"]
    correct = correct.assign(draw=draws.of(correct["sample_index"]))
    n_new = correct.groupby(["draw", "problem_id"])["same_text"].nunique()
    for draw, seed in enumerate(SEEDS):
        assert len(examples_of(three_draws, f"wc.wc.high.s{seed}")) == n_new[draw].sum()


def test_equal_numbers_are_those_of_one_draw(three_draws):
    for seed in SEEDS:
        arms = ("se", "wc", "mix", "adaptive")
        sizes = {len(examples_of(three_draws, f"wc.{arm}.high.equal.s{seed}")) for arm in arms}
        alone = [len(examples_of(three_draws, f"wc.{arm}.high.s{seed}")) for arm in arms]
        assert sizes == {min(alone)}


def test_shared_seeds_learn_from_the_same(tmp_path):
    run = plan.make_plan(taught("shared", draws="shared"), tmp_path)
    fill(run)
    for arm in run.study.order:
        write_examples(run, arm)
    for lesson in ("wc.high", "mix.low", "adaptive.high", "wrong"):
        first, *others = [
            pd.concat(examples.examples_of(run, f"wc.{lesson}.s{seed}")) for seed in SEEDS
        ]
        for other in others:
            pd.testing.assert_frame_equal(first[KEY], other[KEY])
