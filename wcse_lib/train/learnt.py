"""How much of its training rows a student knows by heart."""

from __future__ import annotations

from typing import Any

import numpy as np

from wcse_lib.train.encode import MASKED
from wcse_lib.train.rows import TOKENS, TrainingRows

MOST_ROWS = 512  # that are read


def token_accuracy(model: Any, rows: TrainingRows, n_at_once: int) -> float:
    """The share of the trained tokens of some rows that a live model finds likeliest, given those before them.

    Near 1 it has memorised them, and more epochs teach little (arXiv 2602.11149 stops there). At most MOST_ROWS rows
    are read, evenly spaced, `n_at_once` in memory at a time.
    """
    import torch

    n_rows = len(rows.lengths)
    chosen = np.unique(np.linspace(0, n_rows - 1, min(n_rows, MOST_ROWS)).round().astype(int))
    by_length = chosen[np.argsort(rows.lengths[chosen], kind="stable")]
    n_right = n_trained = 0
    with torch.no_grad():
        for start in range(0, len(by_length), n_at_once):
            batch = rows.data.select_columns(TOKENS)[by_length[start : start + n_at_once]]
            width = max(map(len, batch["labels"]))
            ids = torch.tensor(_padded(batch["input_ids"], width, 0), device=model.device)
            labels = torch.tensor(_padded(batch["labels"], width, MASKED), device=model.device)
            # padding stands on the right, where no earlier token sees it
            likeliest = model(input_ids=ids).logits[:, :-1].argmax(-1)
            is_trained = labels[:, 1:] != MASKED
            n_right += int(((likeliest == labels[:, 1:]) & is_trained).sum())
            n_trained += int(is_trained.sum())
    return n_right / n_trained


def _padded(rows: list[list[int]], width: int, fill: int) -> list[list[int]]:
    return [row + [fill] * (width - len(row)) for row in rows]
