"""How likely an untrained model finds the examples that a student is to learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wcse_lib.store import KEY, parquet_writer, problem_range_filter, read_parquet
from wcse_lib.study import Run, resolve_model
from wcse_lib.train.encode import MASKED
from wcse_lib.train.models import load_untrained
from wcse_lib.train.rows import TrainingRows
from wcse_lib.verdicts import KEY_COLUMNS

PIECE = 20_000  # rows whose keys are held at a time
COLUMNS = {**KEY_COLUMNS, "n_tokens": "int64", "log_likelihood": "double"}
SAME = ("model", "source", "arm", "recipe", "seed")  # so that only the budget differs


def write_likelihoods(run: Run, student: str, rows: TrainingRows) -> None:
    """Write `likelihood.parquet`: of every example KEY, trained tokens, and log-likelihood (nats) under the base model.

    What another budget's student has found already is taken from there. 8 bytes a row are held in memory.
    """
    files = _files_of_others(run, student)
    keys = rows.data.select_columns(KEY).with_format("pandas")
    values = np.concatenate([_known(piece, files) for piece in keys.iter(PIECE)])
    unknown = np.flatnonzero(np.isnan(values))
    model = resolve_model(run.student(student).model)
    values[unknown] = log_likelihoods(model, rows, unknown)
    with parquet_writer(run.path("04", student, "likelihood.parquet"), COLUMNS) as add:
        for i, piece in enumerate(keys.iter(PIECE)):
            part = slice(i * PIECE, (i + 1) * PIECE)
            add(piece.assign(n_tokens=rows.n_trained[part], log_likelihood=values[part]))


def _known(keys: pd.DataFrame, files: list[Path]) -> np.ndarray:
    """The log-likelihoods that the files hold of some examples, (n,); NaN where none does."""
    values = np.full(len(keys), np.nan)
    for file in files:
        known = read_parquet(file, [*KEY, "log_likelihood"], problem_range_filter(keys))
        found = keys.merge(known, "left", KEY, validate="one_to_one")["log_likelihood"]
        values = np.where(np.isnan(values), found, values)
    return values


def _files_of_others(run: Run, student: str) -> list[Path]:
    one, files = run.student(student), []
    for name, other in run.plan.students.items():
        same = all(getattr(one, key) == getattr(other, key) for key in SAME)
        if name != student and same and run.complete("04", name):
            files.append(run.path("04", name, "likelihood.parquet"))
    return [file for file in files if file.exists()]


def log_likelihoods(
    model: str | Path, rows: TrainingRows, chosen: np.ndarray, batch_tokens: int = 1024
) -> np.ndarray:
    """Summed log probability (nats) of the trained tokens of the chosen rows under an untrained model, (n,).

    `chosen` are row numbers, (n,). Rows of like length share a batch of about `batch_tokens`.
    """
    live = load_untrained(model)
    lengths = rows.lengths[chosen]
    longest_first = np.argsort(lengths, kind="stable")[::-1]
    values, n_done = np.zeros(len(chosen)), 0
    while n_done < len(chosen):
        n_rows = max(1, batch_tokens // int(lengths[longest_first[n_done]]))
        places = longest_first[n_done : n_done + n_rows]
        values[places] = _of_batch(live, rows.data[chosen[places].tolist()])
        n_done += len(places)
    return values


def _of_batch(live: Any, batch: dict[str, list[list[int]]]) -> list[float]:
    """`batch`: `input_ids` and `labels`, the longest row first."""
    import torch

    ids = torch.tensor(_padded(batch["input_ids"], 0), device=live.device)
    labels = torch.tensor(_padded(batch["labels"], MASKED), device=live.device)
    with torch.inference_mode():
        logits = live(input_ids=ids).logits[:, :-1].float()
        loss = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), labels[:, 1:], ignore_index=MASKED, reduction="none"
        )
    return (-loss.sum(1)).tolist()


def _padded(rows: list[list[int]], fill: int) -> list[list[int]]:
    """Padding stands on the right, where no earlier token sees it."""
    width = len(rows[0])
    return [row + [fill] * (width - len(row)) for row in rows]
