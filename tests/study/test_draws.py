"""Which draw a sample belongs to: a rule that loses no index, the same for numbers, columns and SQL."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from studies import taught_study

from wcse_lib.store import query
from wcse_lib.study import Draws

SHAPES = st.builds(Draws, st.integers(1, 7), st.integers(1, 12))


@given(SHAPES, st.integers(0, 400))
def test_every_index_has_one_place_in_one_draw(draws, index):
    draw, place = draws.of(index), draws.place(index)
    assert 0 <= draw < draws.n
    assert draws.index(draw, place) == index


@given(SHAPES, st.integers(0, 6), st.integers(0, 60))
def test_every_place_of_a_draw_has_one_index(draws, draw, place):
    draw %= draws.n
    index = draws.index(draw, place)
    assert (draws.of(index), draws.place(index)) == (draw, place)


def test_of_one_draw_a_place_is_an_index():
    indices = np.arange(50)
    draws = Draws(1, 10)
    assert (draws.of(indices) == 0).all()
    assert (draws.place(indices) == indices).all()


@pytest.mark.parametrize("draws", [Draws(1, 4), Draws(3, 4), Draws(5, 1)])
def test_columns_and_sql_say_the_same(draws):
    rows = pd.DataFrame({"sample_index": np.arange(40)})
    found = query(f"SELECT sample_index, {draws.sql} FROM rows ORDER BY sample_index", rows=rows)
    for name, rule in (("draw", draws.of), ("place", draws.place)):
        expected = [rule(index) for index in range(40)]
        assert found[name].tolist() == expected
        assert rule(rows["sample_index"]).tolist() == expected
        assert rule(rows["sample_index"].to_numpy()).tolist() == expected


def training(**changes):
    return {"amount": {"low": 1, "high": 2}} | changes


def test_each_training_seed_has_a_draw_where_students_are_trained():
    three = taught_study(training=training(seeds=[4, 9, 2]))
    assert three.n_draws == 3
    assert [three.draw_of(seed) for seed in (4, 9, 2)] == [0, 1, 2]
    assert taught_study().n_draws == 1
    shared = taught_study(training=training(seeds=[4, 9, 2], draws="shared"))
    assert shared.n_draws == 1
    assert [shared.draw_of(seed) for seed in (4, 9, 2)] == [0, 0, 0]
    assert taught_study(training=training(seeds=[4, 9, 2]), students={}).n_draws == 1
