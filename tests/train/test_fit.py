"""Rank, surprisal and gradient under an untrained model, held against their published definitions by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from wcse_lib.train import fit, gradients
from wcse_lib.train.encode import MASKED

VOCABULARY, WIDTH = 150, 12


class LastToken(torch.nn.Module):
    """A model whose logits depend on the last token alone."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = torch.nn.Embedding(VOCABULARY, WIDTH)
        self.head = torch.nn.Linear(WIDTH, VOCABULARY, bias=False)
        torch.nn.init.normal_(self.head.weight, std=0.7)

    def forward(self, input_ids):
        return SimpleNamespace(logits=self.head(self.embedding(input_ids)))

    def get_output_embeddings(self):
        return self.head


@pytest.fixture(scope="module")
def model():
    return LastToken()


@pytest.fixture(scope="module")
def rows():
    """Token ids and labels; the first two tokens are a prompt."""
    rng = np.random.default_rng(1)
    made = []
    for length in (12, 9, 4):
        ids = rng.integers(0, VOCABULARY, length).tolist()
        made.append((ids, [MASKED, MASKED, *ids[2:]]))
    return made


def read(model, rows):
    ids, labels = zip(*rows)
    return fit._Reader(model).read({"input_ids": list(ids), "labels": list(labels)})


def by_hand(model, ids, labels):
    """Of the published definition: rank among the hundred likeliest tokens, surprisal by logsumexp, summed."""
    logits = model(torch.tensor(ids)).logits.detach().numpy()
    ranks, surprisals = [], []
    for z, label in zip(logits, labels[1:]):
        if label == MASKED:
            continue
        likeliest = np.sort(z)[::-1][:100]
        ranks.append(min(1 + int((likeliest > z[label]).sum()), 100))
        surprisals.append(np.log(np.exp(z - z.max()).sum()) + z.max() - z[label])
    return -sum(surprisals), sum(ranks)


def test_ranks_and_surprisals_are_those_of_the_published_definition(model, rows):
    found, _ = read(model, rows)
    expected = [by_hand(model, ids, labels) for ids, labels in rows]
    assert found == pytest.approx(np.array(expected), abs=1e-4)
    assert any(rank > 100 for _, rank in expected), "several tokens, and clipped ranks among them"
    n_tokens = np.array([len(ids) - 2 for ids, _ in rows])
    ratios = []
    for sums in (found, np.array(expected)):
        surprisal, rank = (-sums[:, 0] / n_tokens).mean(), (sums[:, 1] / n_tokens).mean()
        ratios.append(rank / surprisal)
    assert ratios[0] == pytest.approx(ratios[1], rel=1e-6)


def test_a_tokens_rank_is_at_most_a_hundred(model):
    worst = int(model(torch.tensor([7])).logits.argmin())
    ((_, rank),), _ = read(model, [([7, worst], [MASKED, worst])])
    assert rank == 100


def test_gradients_are_autograds_of_the_mean_loss_projected_and_scaled_by_log_length(model, rows):
    of_tokens, of_hidden, of_both = gradients.projections(VOCABULARY, WIDTH)
    _, found = read(model, rows)
    for (ids, labels), projected in zip(rows, found):
        model.zero_grad()
        logits = model(torch.tensor(ids)).logits[:-1]
        torch.nn.functional.cross_entropy(logits, torch.tensor(labels[1:])).backward()
        whole = model.head.weight.grad.numpy()
        expected = (of_tokens.T @ whole @ of_hidden).reshape(-1) @ of_both
        assert projected == pytest.approx(expected * np.log(len(ids) - 2), rel=1e-3, abs=1e-4)


def test_a_projection_keeps_squared_lengths_in_the_mean(rows):
    of_tokens, of_hidden, of_both = gradients.projections(VOCABULARY, WIDTH)
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(200):
        whole = rng.normal(size=(VOCABULARY, WIDTH))
        projected = (of_tokens.T @ whole @ of_hidden).reshape(-1) @ of_both
        ratios.append((projected**2).sum() / (whole**2).sum())
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)
