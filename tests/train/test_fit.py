"""Rank and surprisal under an untrained model, held against the published definition, worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wcse_lib.train import fit
from wcse_lib.train.encode import MASKED

VOCABULARY = 150


class Table:
    """A model whose logits depend on the last token alone: a row of a table."""

    device = "cpu"

    def __init__(self):
        self.logits = np.random.default_rng(0).normal(size=(VOCABULARY, VOCABULARY)) * 2

    def __call__(self, input_ids):
        return SimpleNamespace(logits=torch.tensor(self.logits)[input_ids])


def by_hand(model, ids, labels):
    """Of the published definition: rank among the hundred likeliest tokens, surprisal by logsumexp, summed."""
    ranks, surprisals = [], []
    for before, label in zip(ids, labels[1:]):
        if label == MASKED:
            continue
        z = model.logits[before]
        likeliest = np.sort(z)[::-1][:100]
        ranks.append(min(1 + int((likeliest > z[label]).sum()), 100))
        surprisals.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[label])
    return -sum(surprisals), sum(ranks)


def test_ranks_and_surprisals_are_those_of_the_published_definition():
    model, rng = Table(), np.random.default_rng(1)
    rows = []
    for length in (12, 9, 4):
        ids = rng.integers(0, VOCABULARY, length).tolist()
        rows.append((ids, [MASKED, MASKED, *ids[2:]]))
    batch = {"input_ids": [ids for ids, _ in rows], "labels": [labels for _, labels in rows]}
    found = fit._of_batch(model, batch)
    expected = [by_hand(model, ids, labels) for ids, labels in rows]
    assert found == pytest.approx(np.array(expected), abs=1e-4)
    assert any(rank > 100 for _, rank in expected), "several tokens, and clipped ranks among them"


def test_a_tokens_rank_is_at_most_a_hundred():
    model = Table()
    worst = int(model.logits[7].argmin())
    ((_, rank),) = fit._of_batch(model, {"input_ids": [[7, worst]], "labels": [[MASKED, worst]]})
    assert rank == 100
