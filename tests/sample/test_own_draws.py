"""02 where each training seed has a draw of its own: blocks of plain arms, mixes and adaptive arms draw by draw."""

import pandas as pd
import pytest
from mixed_study import chance, drawn, taught

from wcse_lib import plan
from wcse_lib.sample import uneven
from wcse_lib.store import read_parquet, read_samples


def rows_of(run, arm):
    """An arm's rows with `draw` and `place`."""
    rows, draws = read_samples(run.path("02", arm)), run.draws(arm)
    index = rows["sample_index"]
    return rows.assign(draw=draws.of(index), place=draws.place(index))


def n_by_draw(run, arm, budget):
    rows = run.rows_of_budget(rows_of(run, arm), arm, budget)
    return rows["draw"].value_counts().sort_index().to_dict()


@pytest.mark.parametrize("arm", ["se", "wc", "adaptive"])
@pytest.mark.parametrize("budget", ["low", "high"])
def test_every_draw_has_the_whole_budget(three_draws, arm, budget):
    n = 24 * three_draws.arm(arm).samples[budget]
    assert n_by_draw(three_draws, arm, budget) == {0: n, 1: n, 2: n}


def test_a_plain_arms_draws_are_blocks(three_draws):
    k = three_draws.arm("se").samples["high"]
    rows = rows_of(three_draws, "se")
    assert (rows["draw"] == rows["sample_index"] // k).all()
    assert rows.groupby("problem_id").size().unique().tolist() == [3 * k]
    low = three_draws.rows_of_budget(rows, "se", "low")
    assert sorted(low["sample_index"].unique()) == [0, k, 2 * k]
    of_one = three_draws.rows_of_budget(rows, "se", "low", draw=1)
    assert of_one["sample_index"].unique().tolist() == [k]


@pytest.mark.parametrize("draw", [0, 1, 2])
def test_a_mix_takes_from_its_parts_same_draw(three_draws, draw):
    mix = rows_of(three_draws, "mix")
    for budget in ("low", "high"):
        mine = three_draws.rows_of_budget(mix, "mix", budget, draw)
        assert len(mine) == pytest.approx(
            24 * sum(three_draws.arm("mix").parts[budget].values()), abs=1
        )
        for part in ("se", "wc"):
            source = rows_of(three_draws, part)
            source = source[source["draw"] == draw].sort_values(["problem_id", "place"])
            texts = source.groupby("problem_id")["text"].apply(list)
            own = mine[mine["model"] == f"nano-{part}"].sort_values(["problem_id", "place"])
            for problem_id, taken in own.groupby("problem_id")["text"].apply(list).items():
                assert taken == texts[problem_id][: len(taken)]


def test_an_adaptive_arm_copies_and_extends_each_draw_by_itself(three_draws):
    rows, k = rows_of(three_draws, "adaptive"), three_draws.arm("wc").samples["high"]
    source = rows_of(three_draws, "wc")
    both = rows.merge(source, on=["problem_id", "sample_index"], suffixes=("", "_of"))
    assert (both["text"] == both["text_of"]).all()
    assert (both["draw"] == both["draw_of"]).all()
    copied = rows["place"] < k
    assert len(both) == copied.sum()
    assert rows[~copied]["draw"].nunique() == 3, "every draw goes beyond what wc drew for it"
    table = read_parquet(three_draws.path("02", "adaptive", "allocation.parquet"))
    high = table[table["budget"] == "high"].pivot(index="problem_id", columns="draw", values="n")
    assert not high[0].equals(high[1]), "each draw decides by its own verdicts"
    solvable = pd.Series({p: chance(p, "nano-wc") for p in high.index})
    for draw in range(3):
        assert high.loc[solvable < 0.1, draw].mean() > high.loc[solvable > 0.5, draw].mean()


def test_the_first_draw_is_that_of_a_study_with_one(three_draws, tmp_path):
    one = plan.make_plan(taught("one", draws="shared"), tmp_path)
    for arm in ("se", "wc"):
        drawn(one, arm, one.draws(arm).n_in_blocks)
    for arm in ("mix", "adaptive"):
        draw = uneven.draw_mix if arm == "mix" else _adaptive
        draw(one, arm)
    for arm in ("se", "wc", "mix"):
        alone, first = rows_of(one, arm), rows_of(three_draws, arm)
        first = first[first["draw"] == 0].sort_values(["problem_id", "place"], ignore_index=True)
        same = ["problem_id", "place", "text", "model"]
        pd.testing.assert_frame_equal(alone[same], first[same])
    alone = read_parquet(one.path("02", "adaptive", "allocation.parquet"))
    assert alone["draw"].unique().tolist() == [0]


def _adaptive(run, arm):
    return uneven.draw_adaptive(run, arm, lambda wanted: drawn(run, "wc", wanted, arm))


def test_called_again_nothing_is_drawn(three_draws):
    before = {arm: read_samples(three_draws.path("02", arm)) for arm in ("mix", "adaptive")}

    def never(wanted):
        raise AssertionError("drawn again")

    uneven.draw_mix(three_draws, "mix")
    uneven.draw_adaptive(three_draws, "adaptive", never)
    for arm, rows in before.items():
        pd.testing.assert_frame_equal(read_samples(three_draws.path("02", arm)), rows)
