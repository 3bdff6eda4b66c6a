"""One token a row: greedy, among the top k or p, and by streams that are uniform and apart."""

import numpy as np
import pytest
import torch

from wcse_lib.sample.engines import Decoding
from wcse_lib.sample.engines.picking import pick, uniform

SCORES = torch.tensor([[0.0, 3.0, 1.0, 2.0]]).repeat(4000, 1)
SEEDS = np.arange(4000, dtype=np.uint64) * np.uint64(2**40)


@pytest.mark.parametrize(
    ("decoding", "tokens"),
    [
        (Decoding(0.0), {1}),
        (Decoding(5.0, 2), {1, 3}),
        (Decoding(1.0, 0, 0.6), {1}),
        (Decoding(5.0), {0, 1, 2, 3}),
    ],
)
def test_picked_tokens(decoding, tokens):
    assert set(pick(SCORES, decoding, SEEDS, 0).tolist()) == tokens


def test_shares_are_the_softmax():
    share = (pick(SCORES, Decoding(1.0, 2), SEEDS, 0) == 1).float().mean().item()
    assert abs(share - 1 / (1 + np.exp(-1))) < 4 * np.sqrt(0.2 / 4000)


@pytest.fixture(scope="module")
def numbers():
    """Of 2,000 streams at 50 positions."""
    seeds = np.arange(2000, dtype=np.uint64)
    return np.array([uniform(seeds, position) for position in range(50)])


def test_numbers_lie_in_the_unit_interval(numbers):
    assert numbers.min() >= 0
    assert numbers.max() < 1
    assert abs(numbers.mean() - 0.5) < 0.01


def test_no_number_comes_twice(numbers):
    assert len(np.unique(numbers)) == numbers.size


def test_streams_are_independent(numbers):
    assert abs(np.corrcoef(numbers[:20, :50].T) - np.eye(50)).max() < 0.9


def test_each_row_may_have_a_position_of_its_own(numbers):
    seeds, positions = np.arange(50, dtype=np.uint64), np.arange(50)
    assert uniform(seeds, positions).tolist() == np.diag(numbers).tolist()
