"""The controls' verdict in worlds where it is known: a reduced version of benchmarks/planted.py."""

import importlib.util
from functools import cache
from pathlib import Path

import pytest

PLANTED = Path(__file__).parents[2] / "benchmarks" / "planted.py"
N_STUDIES = 80


@cache
def benchmark():
    spec = importlib.util.spec_from_file_location("planted_worlds", PLANTED)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize("world", list(benchmark().WORLDS))
def test_verdicts_are_what_the_world_is(world):
    """Three standard errors under 95 %; that it is 95 needs the benchmark's 500 studies."""
    shares = benchmark().right_verdicts(world, N_STUDIES, n_seeds=3)
    assert shares["right"] >= 0.95 - 3 * (0.95 * 0.05 / N_STUDIES) ** 0.5


def test_the_rule_before_is_contradicted_where_wrong_samples_teach():
    shares = benchmark().right_verdicts("wrong teaches", 5, n_seeds=2)
    assert shares["before"] < 0.5 < shares["sight"]
