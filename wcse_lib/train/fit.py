"""How well examples fit an untrained student: how likely and how high it finds their tokens, and where they pull it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import budget
from wcse_lib.store import (
    KEY,
    finished,
    is_complete,
    parquet_writer,
    problem_range_filter,
    read_parquet,
    write_json,
)
from wcse_lib.study import Amounts, Run, resolve_model
from wcse_lib.train import gradients
from wcse_lib.train.encode import MASKED
from wcse_lib.train.models import load_untrained
from wcse_lib.train.rows import TrainingRows
from wcse_lib.verdicts import KEY_COLUMNS

PIECE = 20_000  # rows whose keys are held at a time
MEASURED = ["log_likelihood", "rank"]  # of an example, summed over its trained tokens
COLUMNS = {**KEY_COLUMNS, "n_tokens": "int64"} | dict.fromkeys(MEASURED, "double")
COLUMNS |= {"gradient": "floats"}  # of the first examples by `gradients.places`; of others none
HIGHEST_RANK = 100  # that is told from higher ones
SPENT = "fit.json"  # written last: what it took, for the ledger


class Measured(NamedTuple):
    """What `fit_of` found: `values`, (n, MEASURED); `gradients`, (n_kept, gradients.DIMENSION); and what that took."""

    values: np.ndarray
    gradients: np.ndarray
    spent: Amounts


def write_fit(
    run: Run, student: str, rows: TrainingRows, n_gradients: int = gradients.N_EXAMPLES
) -> None:
    """Write `fit.parquet`: of every example what `measure` returns, with at most so many gradients.

    What students of the same model have found already is taken from there, and nothing is read again that was read
    before the process was killed. 24 bytes a row are held in memory. What it took goes to SPENT.
    """
    if _is_measured(run, student):
        return
    one = run.student(student)
    files = _files_of_others(run, student)
    keys = rows.data.select_columns(KEY).with_format("pandas")
    known = pd.concat([_known(piece, files) for piece in keys.iter(PIECE)], ignore_index=True)
    found, spent = _completed(known, one.model, one.n_parameters, rows, n_gradients)
    with parquet_writer(run.path("04", student, "fit.parquet"), COLUMNS) as add:
        for i, piece in enumerate(keys.iter(PIECE)):
            part = slice(i * PIECE, (i + 1) * PIECE)
            piece = piece.assign(n_tokens=rows.n_trained[part])
            add(piece.join(found.iloc[part].set_axis(piece.index)))
    noted = finished(run.plan_id) | spent.model_dump(exclude_none=True)
    write_json(run.path("04", student, SPENT), noted)


def measure(model: str, n_parameters: float, rows: TrainingRows) -> tuple[pd.DataFrame, Amounts]:
    """How rows fit an untrained model: KEY, `n_tokens`, MEASURED and `gradient` of every one; and what that took.

    `gradient` is None but for the first gradients.N_EXAMPLES by `gradients.places`. `scores.scores_of` compares sets of
    such rows.
    """
    keys = rows.data.select_columns(KEY).to_pandas()
    known = _known(keys, [])
    found, spent = _completed(known, model, n_parameters, rows, gradients.N_EXAMPLES)
    return keys.assign(n_tokens=rows.n_trained).join(found), spent


def _known(keys: pd.DataFrame, files: list[Path]) -> pd.DataFrame:
    """What the files hold of some examples: MEASURED and `gradient`, missing where none has it."""
    nothing = dict.fromkeys(MEASURED, np.nan) | {"gradient": None}
    known = pd.DataFrame(nothing, index=keys.index).astype({"gradient": object})
    for file in files:
        held = read_parquet(file, [*KEY, *known], problem_range_filter(keys))
        found = keys.merge(held, "left", KEY, validate="one_to_one").set_axis(keys.index)
        known = known.where(known.notna(), found[known.columns])
    return known


def _completed(
    known: pd.DataFrame, model: str, n_parameters: float, rows: TrainingRows, n_gradients: int
) -> tuple[pd.DataFrame, Amounts]:
    """The known MEASURED and `gradient` of all rows, with what was missing read by the model; and what that took."""
    is_first = _are_first(rows, n_gradients)
    is_missing = known[MEASURED].isna().any(axis=1) | (is_first & known["gradient"].isna())
    read = np.flatnonzero(is_missing)
    if not len(read):
        return known.assign(gradient=known["gradient"].where(is_first, None)), Amounts()
    values, found, spent = fit_of(model, n_parameters, rows, read, is_first[read])
    known.loc[read, MEASURED] = values
    kept = read[is_first[read]]
    known.loc[kept, "gradient"] = pd.Series(list(found), kept, dtype=object)
    # a smaller budget's student may have kept gradients of examples that are not among the first here
    known["gradient"] = known["gradient"].where(is_first, None)
    return known, spent


def _are_first(rows: TrainingRows, n_gradients: int) -> np.ndarray:
    """Which rows' gradients are kept, (n,)."""
    pieces = rows.data.select_columns(KEY).with_format("pandas").iter(PIECE)
    order = np.argsort(np.concatenate([gradients.places(piece) for piece in pieces]), kind="stable")
    is_first = np.zeros(len(order), bool)
    is_first[order[:n_gradients]] = True
    return is_first


def _files_of_others(run: Run, student: str) -> list[Path]:
    """What students of the same model have measured: an example is the same to each of them."""
    model, files = run.student(student).model, []
    for name, other in run.plan.students.items():
        if name != student and other.model == model and _is_measured(run, name):
            files.append(run.path("04", name, "fit.parquet"))
    return files


def _is_measured(run: Run, student: str) -> bool:
    return is_complete(run.path("04", student), run.plan_id, run.inputs("04", student), SPENT)


def fit_of(
    model: str,
    n_parameters: float,
    rows: TrainingRows,
    chosen: np.ndarray,
    keeps_gradient: np.ndarray,
    batch_tokens: int = 1024,
) -> Measured:
    """Log probability (nats) and rank of the trained tokens of the chosen rows under an untrained model, summed, and
    the projected gradient of its output layer for those rows that keep it.

    A token's rank is one more than the number of tokens that the model finds likelier, at most HIGHEST_RANK
    (arXiv 2601.14249). A gradient is that of the mean loss of a row's trained tokens, times the logarithm of their
    number (arXiv 2511.02833). Args: chosen: row numbers, (n,); keeps_gradient: (n,). Rows of like length share a batch
    of about `batch_tokens`. The FLOPs are the forward pass's, without the projection.
    """
    start = time.perf_counter()
    live = load_untrained(resolve_model(model))
    reader = _Reader(live)
    lengths = rows.lengths[chosen]
    longest_first = np.argsort(lengths, kind="stable")[::-1]
    place_of_gradient = np.cumsum(keeps_gradient) - 1
    values = np.zeros((len(chosen), len(MEASURED)))
    found = np.zeros((int(keeps_gradient.sum()), gradients.DIMENSION), np.float32)
    n_done = 0
    while n_done < len(chosen):
        n_rows = max(1, batch_tokens // int(lengths[longest_first[n_done]]))
        places = longest_first[n_done : n_done + n_rows]
        values[places], projected = reader.read(rows.data[chosen[places].tolist()])
        is_kept = keeps_gradient[places]
        found[place_of_gradient[places[is_kept]]] = projected[is_kept]
        n_done += len(places)
    n_tokens = int(lengths.sum())
    flops = budget.sampling_flops(n_parameters, n_tokens)
    spent = Amounts(tokens=n_tokens, flops=flops, seconds=time.perf_counter() - start)
    return Measured(values, found, spent)


class _Reader:
    """A model that reads rows: what it finds of their tokens, and where they would pull its output layer."""

    def __init__(self, live: Any):
        import torch

        self.live = live
        self.hidden: Any = None  # what the output layer was last given, (rows, tokens, width)
        head = live.get_output_embeddings()
        head.register_forward_pre_hook(self._keep)
        made = gradients.projections(*head.weight.shape)
        self.of_tokens, self.of_hidden, self.of_both = (
            torch.from_numpy(one).to(head.weight.device) for one in made
        )

    def _keep(self, head: Any, given: tuple) -> None:
        self.hidden = given[0]

    def read(self, batch: dict[str, list[list[int]]]) -> tuple[np.ndarray, np.ndarray]:
        """Of every row MEASURED, and its projected gradient. `batch`: `input_ids`, `labels`, the longest row first."""
        import torch

        device = self.of_tokens.device
        ids = torch.tensor(_padded(batch["input_ids"], 0), device=device)
        labels = torch.tensor(_padded(batch["labels"], MASKED), device=device)[:, 1:]
        is_trained = (labels != MASKED)[:, :, None]
        labels = labels.clamp(min=0)
        with torch.inference_mode():
            logits = self.live(input_ids=ids).logits[:, :-1].float()
            of_label = logits.gather(2, labels[:, :, None])
            log_probability = of_label - logits.logsumexp(2, keepdim=True)
            rank = 1 + (logits > of_label).sum(2, keepdim=True)
            values = torch.cat([log_probability, rank.clamp(max=HIGHEST_RANK)], dim=2)
            values = (values * is_trained).sum(1).double()
            # the loss's gradient in the logits is the probabilities less 1 at the label
            errors = logits.softmax(2) @ self.of_tokens - self.of_tokens[labels]
            hidden = self.hidden[:, :-1].float() @ self.of_hidden
            sketch = (errors * is_trained).transpose(1, 2) @ hidden
            n_trained = is_trained.sum((1, 2))[:, None]
            projected = (sketch.flatten(1) / n_trained) @ self.of_both * n_trained.log()
        return values.cpu().numpy(), projected.cpu().numpy()


def _padded(rows: list[list[int]], fill: int) -> list[list[int]]:
    """Padding stands on the right, where no earlier token sees it."""
    width = len(rows[0])
    return [row + [fill] * (width - len(row)) for row in rows]
