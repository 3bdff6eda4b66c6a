"""Samples that somebody else drew: a JSONL file and a column map become the same rows that engines write."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from wcse_lib.problems import field
from wcse_lib.prompts import load_tokenizer
from wcse_lib.records import SampleWriter, StudyError, read_jsonl, read_samples, write_json
from wcse_lib.study import Arm, resolve, resolve_model


def import_samples(folder: Path, author: str, arm: Arm, problems: pd.DataFrame) -> dict[str, int]:
    """Write an imported arm's samples; a problem's rows get sample_index 0, 1, … in the file's order.

    Returns counts: rows, samples, and rows left out by reason. Token counts that the file lacks are counted with
    `arm.tokenizer` or set to -1, unknown. Raises StudyError when no row belongs to a problem or a column is missing.
    """
    path, columns = resolve(arm.path), arm.columns
    tokenizer = load_tokenizer(resolve_model(arm.tokenizer)) if arm.tokenizer else None
    if columns.problem_id:
        known = {p: p for p in problems["problem_id"]}
    else:
        known = dict(zip(problems["question"], problems["problem_id"]))
    counts = {"rows": 0, "samples": 0, "of no problem of this study": 0, "without a text": 0}
    index: dict[str, int] = {}
    rows = []
    for number, row in enumerate(read_jsonl(path), 1):
        counts["rows"] += 1
        problem_id = known.get(field(row, columns.problem_id or columns.question, path, number))
        text = field(row, columns.text, path, number)
        if problem_id is None or not isinstance(text, str):
            counts["of no problem of this study" if problem_id is None else "without a text"] += 1
            continue
        index[problem_id] = index.get(problem_id, -1) + 1
        n_tokens = -1
        if columns.n_tokens:
            n_tokens = int(field(row, columns.n_tokens, path, number))
        elif tokenizer:
            n_tokens = len(tokenizer(text, add_special_tokens=False)["input_ids"])
        rows.append({
            "author": author, "problem_id": problem_id, "sample_index": index[problem_id], "seed": -1, "text": text,
            "n_prompt_tokens": -1, "n_tokens": n_tokens, "finish_reason": "stop", "engine": "import",
            "model": arm.model, "prompt_hash": "", "error": "", "usd": None,
        })  # fmt: skip
    if not rows:
        raise StudyError(f"{path}: no row belongs to a problem of this study; check arms.{author}.columns ({counts})")
    counts["samples"] = len(rows)
    for old in folder.glob("part-*.parquet"):  # the file is the source: an import is always whole
        old.unlink()
    with SampleWriter(folder) as writer:
        for row in rows:
            writer.add(row)
    write_json(folder / "import.json", counts)
    assert len(read_samples(folder)) == counts["samples"]
    return counts
