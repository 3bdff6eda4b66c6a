"""How well examples fit an untrained student: how likely it finds their tokens, and how high it ranks them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from wcse_lib import budget, intervals
from wcse_lib.store import KEY, parquet_writer, problem_range_filter, read_parquet, write_json
from wcse_lib.study import Amounts, Run, resolve_model
from wcse_lib.train.encode import MASKED
from wcse_lib.train.models import load_untrained
from wcse_lib.train.rows import TrainingRows
from wcse_lib.verdicts import KEY_COLUMNS

PIECE = 20_000  # rows whose keys are held at a time
MEASURED = ["log_likelihood", "rank"]  # of an example, summed over its trained tokens
COLUMNS = {**KEY_COLUMNS, "n_tokens": "int64"} | dict.fromkeys(MEASURED, "double")
UNBOUNDED = (-np.inf, np.inf)
HIGHEST_RANK = 100  # that is told from higher ones
SAME = ("model", "source", "arm", "recipe", "seed")  # so that only the budget differs


class Score(NamedTuple):
    """A measure of how a set of examples fits a student: a ratio of two of `sums_by_problem`'s sums.

    `sign` is 1 where more fits better, -1 where less does.
    """

    words: str
    numerator: str
    denominator: str
    unit: str
    sign: int

    @property
    def better(self) -> str:
        """Which value fits better, in a word."""
        return "higher" if self.sign > 0 else "lower"

    def value(self, sums: pd.DataFrame, seed: int) -> intervals.Estimate:
        """The score of some examples, from `sums_by_problem`."""
        return intervals.ratio(*self._ratio(sums), seed=seed, bounds=UNBOUNDED)

    def difference(self, a: pd.DataFrame, b: pd.DataFrame, seed: int) -> intervals.Estimate:
        """The score of `a` minus that of `b`, paired by problem; one of them may lack problems of the other."""
        a, b = a.align(b, fill_value=0.0)
        sums = self._ratio(a), self._ratio(b)
        return intervals.paired_ratio_difference(*sums, seed=seed, bounds=UNBOUNDED)

    def _ratio(self, sums: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        return sums[self.numerator].to_numpy(), sums[self.denominator].to_numpy()


SCORES = {
    "log_likelihood": Score("log-likelihood", "log_likelihood", "n_tokens", "nats per token", 1),
    "rank_surprisal_ratio": Score(
        "rank–surprisal ratio", "mean_rank", "mean_surprisal", "ranks per nat", -1
    ),
}


def sums_by_problem(examples: pd.DataFrame) -> pd.DataFrame:
    """By problem_id the sums over examples (rows of `fit.parquet`) that SCORES divide.

    `mean_rank` and `mean_surprisal` add up the examples' means over their tokens: a data set's rank-surprisal ratio is
    that of the means over examples (arXiv 2601.14249).
    """
    n_tokens = examples["n_tokens"]
    parts = examples.assign(
        mean_rank=examples["rank"] / n_tokens,
        mean_surprisal=-examples["log_likelihood"] / n_tokens,
    )
    columns = ["log_likelihood", "n_tokens", "mean_rank", "mean_surprisal"]
    return parts.groupby("problem_id")[columns].sum().astype(float)


def write_fit(run: Run, student: str, rows: TrainingRows) -> None:
    """Write `fit.parquet`: of every example KEY, its trained tokens, and what `fit_of` measures under the base model.

    What another budget's student has found already is taken from there. 16 bytes a row are held in memory. What it
    took goes to `fit.json`, for the ledger.
    """
    one = run.student(student)
    files = _files_of_others(run, student)
    keys = rows.data.select_columns(KEY).with_format("pandas")
    values = np.concatenate([_known(piece, files) for piece in keys.iter(PIECE)])
    unknown = np.flatnonzero(np.isnan(values).any(1))
    values[unknown], spent = fit_of(one.model, one.n_parameters, rows, unknown)
    write_json(run.path("04", student, "fit.json"), spent.model_dump(exclude_none=True))
    with parquet_writer(run.path("04", student, "fit.parquet"), COLUMNS) as add:
        for i, piece in enumerate(keys.iter(PIECE)):
            part = slice(i * PIECE, (i + 1) * PIECE)
            found = pd.DataFrame(values[part], columns=MEASURED, index=piece.index)
            add(piece.assign(n_tokens=rows.n_trained[part]).join(found))


def _known(keys: pd.DataFrame, files: list[Path]) -> np.ndarray:
    """What the files hold of some examples, (n, MEASURED); NaN where none does."""
    values = np.full((len(keys), len(MEASURED)), np.nan)
    for file in files:
        known = read_parquet(file, [*KEY, *MEASURED], problem_range_filter(keys))
        found = keys.merge(known, "left", KEY, validate="one_to_one")[MEASURED]
        values = np.where(np.isnan(values), found, values)
    return values


def _files_of_others(run: Run, student: str) -> list[Path]:
    one, files = run.student(student), []
    for name, other in run.plan.students.items():
        same = all(getattr(one, key) == getattr(other, key) for key in SAME)
        if name != student and same and run.complete("04", name):
            files.append(run.path("04", name, "fit.parquet"))
    return [file for file in files if file.exists()]


def fit_of(
    model: str,
    n_parameters: float,
    rows: TrainingRows,
    chosen: np.ndarray,
    batch_tokens: int = 1024,
) -> tuple[np.ndarray, Amounts]:
    """Log probability (nats) and rank of the trained tokens of the chosen rows under an untrained model, summed,
    (n, MEASURED), and what that took.

    A token's rank is one more than the number of tokens that the model finds likelier, at most HIGHEST_RANK
    (arXiv 2601.14249). `chosen` are row numbers, (n,). Rows of like length share a batch of about `batch_tokens`.
    """
    start = time.perf_counter()
    live = load_untrained(resolve_model(model))
    lengths = rows.lengths[chosen]
    longest_first = np.argsort(lengths, kind="stable")[::-1]
    values, n_done = np.zeros((len(chosen), len(MEASURED))), 0
    while n_done < len(chosen):
        n_rows = max(1, batch_tokens // int(lengths[longest_first[n_done]]))
        places = longest_first[n_done : n_done + n_rows]
        values[places] = _of_batch(live, rows.data[chosen[places].tolist()])
        n_done += len(places)
    n_tokens = int(lengths.sum())
    flops = budget.sampling_flops(n_parameters, n_tokens)
    return values, Amounts(tokens=n_tokens, flops=flops, seconds=time.perf_counter() - start)


def _of_batch(live: Any, batch: dict[str, list[list[int]]]) -> np.ndarray:
    """`batch`: `input_ids` and `labels`, the longest row first."""
    import torch

    ids = torch.tensor(_padded(batch["input_ids"], 0), device=live.device)
    labels = torch.tensor(_padded(batch["labels"], MASKED), device=live.device)[:, 1:]
    is_trained = labels != MASKED
    with torch.inference_mode():
        logits = live(input_ids=ids).logits[:, :-1].float()
        of_label = logits.gather(2, labels.clamp(min=0)[:, :, None])
        log_probability = of_label[:, :, 0] - logits.logsumexp(2)
        rank = 1 + (logits > of_label).sum(2)
        values = torch.stack([log_probability, rank.clamp(max=HIGHEST_RANK)], dim=2)
        return (values * is_trained[:, :, None]).sum(1).double().cpu().numpy()


def _padded(rows: list[list[int]], fill: int) -> list[list[int]]:
    """Padding stands on the right, where no earlier token sees it."""
    width = len(rows[0])
    return [row + [fill] * (width - len(row)) for row in rows]
