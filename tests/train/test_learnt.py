"""Token accuracy on training rows, against a count by hand."""

from types import SimpleNamespace

from tiny import make_base, make_rows, written

from wcse_lib.train.encode import MASKED
from wcse_lib.train.learnt import token_accuracy


class Parrot:
    """A model that finds that token likeliest which follows by one."""

    device = "cpu"

    def __call__(self, input_ids):
        import torch

        logits = torch.nn.functional.one_hot(input_ids + 1, 200).float()
        return SimpleNamespace(logits=logits)


def test_the_share_of_trained_tokens_that_the_model_would_say(tmp_path):
    rows = make_rows(make_base(tmp_path / "base"), n=30)
    n_right = n_trained = 0
    for row in rows:
        for before, label in zip(row["input_ids"], row["labels"][1:]):
            n_right += label == before + 1
            n_trained += label != MASKED
    found = token_accuracy(Parrot(), written(rows, tmp_path / "rows.arrow"), 8)
    assert 0 < n_right < n_trained and found == n_right / n_trained
