"""What the plan expects of mixes and adaptive arms."""

import numpy as np
import pytest

from wcse_lib import plan
from wcse_lib.plan import expected
from wcse_lib.study import Adaptive


def test_the_plans_table_has_every_kind_of_arm(mixed):
    table = plan.arms_table(mixed).set_index(["arm", "budget"])
    assert set(table.index.get_level_values("arm")) == {"se", "wc", "mix", "adaptive"}
    assert (table.loc["adaptive", "n_samples"] == table.loc["wc", "n_samples"]).all() and table[
        "matched"
    ].all()


def test_the_gain_of_a_rule_is_what_playing_it_gives():
    """On known populations the simulated gain over an even spread is the one of the rule itself."""
    rng = np.random.default_rng(1)
    rates, n = rng.beta(0.5, 1, 800), np.full(800, 8)
    gains = expected._gains(
        Adaptive(of="wc", first=2), {"b": 6}, (n, rng.binomial(n, rates)), 400, seed=0
    )
    played = np.mean(
        [
            expected._played(Adaptive(of="wc", first=2), {"b": 6 * 800}, rates, rng)[0]
            for _ in range(10)
        ]
    )
    assert (
        gains["b"] == pytest.approx(played - (1 - (1 - rates) ** 6).mean(), abs=0.015)
        and gains["b"] > 0.01
    )
