"""A student's encoded rows: made in pieces, kept in a file that is mapped into memory, not held there."""

from __future__ import annotations

import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from wcse_lib.answers import closed_thought, without_thoughts
from wcse_lib.sample import end_token, prompt_ids, read_positions
from wcse_lib.store import KEY, StudyError, read_parquet
from wcse_lib.study import Run, resolve_model
from wcse_lib.train.encode import MASKED, check_row, encode, n_trained
from wcse_lib.train.examples import examples_of
from wcse_lib.verdicts import KEY_COLUMNS

TOKENS = ["input_ids", "labels"]
DROPPED = {**KEY_COLUMNS, "reason": "string"}
CUT = "over the count of the arm with fewest examples"
NO_ANSWER = "nothing after its thinking"
LONG = "longer than {} tokens"


@dataclass(frozen=True)
class TrainingRows:
    """Rows in a file: `data` (a datasets.Dataset with TOKENS and KEY), and 8 bytes a row in memory.

    `lengths` and `n_trained` are tokens per row, (n,); `sha256` is of all ids and labels.
    """

    data: Any
    lengths: np.ndarray
    n_trained: np.ndarray
    sha256: str


def write_rows(rows: Iterable[dict], path: Path) -> TrainingRows:
    """Write rows (dicts of TOKENS and KEY) to an Arrow file. Raises ValueError when there are none."""
    from datasets import Dataset, Features, Sequence, Value
    from datasets.arrow_writer import ArrowWriter

    types = {name: Value(kind) for name, kind in KEY_COLUMNS.items()}
    types |= {name: Sequence(Value("int32")) for name in TOKENS}
    digest, lengths, trained = hashlib.sha256(), array("i"), array("i")
    path.parent.mkdir(parents=True, exist_ok=True)
    with ArrowWriter(path=str(path), features=Features(types)) as writer:
        for row in rows:
            writer.write(row)
            tokens = {name: row[name] for name in TOKENS}
            digest.update(json.dumps(tokens, sort_keys=True).encode())
            lengths.append(len(row["labels"]))
            trained.append(n_trained(row))
        writer.finalize()
    if not lengths:
        raise ValueError("no rows to train on: every example was filtered out or too long")
    data = Dataset.from_file(str(path))
    return TrainingRows(data, np.array(lengths), np.array(trained), digest.hexdigest())


def in_order(data: Any, steps: list[np.ndarray], n_at_once: int) -> Any:
    """The rows (`TrainingRows.data`) of all steps one after the other, TOKENS alone.

    Behind a smaller last step stand rows of which nothing is trained, so that `n_at_once` divides their number.
    """
    from datasets import Dataset, concatenate_datasets

    rows = data.select_columns(TOKENS).select(np.concatenate(steps))
    n_blank = -len(rows) % n_at_once
    if not n_blank:
        return rows
    blank = {"input_ids": [[0, 0]] * n_blank, "labels": [[MASKED, MASKED]] * n_blank}
    return concatenate_datasets([rows, Dataset.from_dict(blank, features=rows.features)])


def encoded_rows(
    run: Run,
    student: str,
    tokenizer: Any,
    drop: Callable[[pd.DataFrame], None],
    pieces: Iterable[pd.DataFrame] | None = None,
) -> Iterator[dict]:
    """A student's training rows, dicts of TOKENS and KEY. What is dropped goes to `drop`: KEY columns and `reason`.

    `pieces` are other examples than those of `examples_of`, in the same columns.
    Refuses a held-out or validation problem among the examples, by its id or its very question (StudyError), and
    whatever `check_row` refuses (ValueError).
    """
    questions = _questions(run, "train")
    leaks = {split: _leaked(questions, run, split) for split in ("held_out", "validation")}
    prompt = run.prompt_of(student)
    end_id = end_token(tokenizer, prompt.style)
    max_tokens = row_limit(run, student)
    # where the prompt has opened a thought, the student learns to end it at once
    before = closed_thought(run.plan.opened_thought(student))
    n_rows = 0
    for examples in examples_of(run, student) if pieces is None else pieces:
        ids = examples.loc[~examples["is_cut"], "problem_id"].unique()
        for split, leaked in leaks.items():
            found = leaked.intersection(ids)
            if len(found):
                raise StudyError(
                    f"{student}: {len(found)} training problems are {split} ones, such as {found[0]}"
                )
        prompts = {}
        for problem_id in ids:
            prompts[problem_id] = prompt_ids(tokenizer, questions[problem_id], prompt)
        rows, dropped = _encode_piece(examples, prompts, tokenizer, max_tokens, end_id, before)
        for number, row in enumerate(rows, n_rows):
            check_row(row, number, tokenizer, end_id)
        n_rows += len(rows)
        drop(dropped)
        yield from rows


def row_limit(run: Run, student: str) -> int:
    """The most tokens of a row: `training.max_tokens`, or what the student's model can hold where that is less."""
    positions = read_positions(resolve_model(run.student(student).model))
    wanted = run.study.training.max_tokens
    return min(wanted, positions.n) if positions else wanted


def _questions(run: Run, split: str) -> pd.Series:
    problems = read_parquet(run.path("01", f"{split}.parquet"), ["problem_id", "question"])
    return problems.set_index("problem_id")["question"]


def _leaked(questions: pd.Series, run: Run, split: str) -> pd.Index:
    """Ids of training problems that are problems of `split` too, by id or question."""
    others = _questions(run, split)
    same = questions.index.isin(others.index) | questions.isin(others).to_numpy()
    return questions.index[same]


def _encode_piece(
    examples: pd.DataFrame,
    prompts: dict,
    tokenizer: Any,
    max_tokens: int,
    end_id: int,
    before: str,
) -> tuple[list[dict], pd.DataFrame]:
    rows, reasons = [], []
    for example in examples.itertuples():
        if example.is_cut:
            reasons.append(CUT)
            continue
        completion = without_thoughts(example.text)
        if not completion:
            reasons.append(NO_ANSWER)
            continue
        prompt = prompts[example.problem_id]
        row = encode(tokenizer, prompt, completion, max_tokens, end_id, before)
        if row is None:
            reasons.append(LONG.format(max_tokens))
        else:
            reasons.append("")
            rows.append(row | {name: getattr(example, name) for name in KEY})
    noted = examples[KEY].assign(reason=pd.Series(reasons, dtype="str"))
    return rows, noted[noted["reason"] != ""]
