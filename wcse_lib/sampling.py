"""Resumable sampling: exactly n samples of every problem, each with its own seed, written as they finish."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from wcse_lib.engines import Engine, Output, Request, Sampling
from wcse_lib.prompts import messages, prompt_hash, prompt_ids
from wcse_lib.records import SampleWriter, StudyError, read_json, read_samples, write_json
from wcse_lib.study import Prompt, sample_seed

CHUNK = 50_000  # requests handed to the engine at once


def claim(folder: Path, identity: dict) -> None:
    """Tie a folder to what its samples were drawn from; rows of another model, prompt or setting never join them.

    Raises StudyError naming what differs when the folder holds samples of another identity.
    """
    path = folder / "identity.json"
    if path.exists():
        old = read_json(path)
        differs = [
            f"{k}: {old.get(k)!r} there, {identity.get(k)!r} asked for"
            for k in sorted(old | identity)
            if old.get(k) != identity.get(k)
        ]
        if differs:
            raise StudyError(
                f"{folder}: holds samples drawn otherwise ({'; '.join(differs)}); give the study another name, or delete that folder to draw anew"
            )
    else:
        write_json(path, identity)


def draw(
    folder: Path,
    author: str,
    problems: pd.DataFrame,
    n: int,
    engine: Engine,
    tokenizer,
    prompt: Prompt,
    sampling: Sampling,
    seed: int,
    model: str,
    engine_name: str,
) -> pd.DataFrame:
    """Draw the samples `(author, problem, 0…n-1)` that the folder does not hold yet; returns all rows by key.

    Args: problems: `problem_id`, `question`; n: samples per problem; seed: the study's; model: as named in the study.
    Resumes by key: flushed samples are never drawn again, and a larger `n` or more problems add rows only.
    """
    style, template = prompt.style, prompt.template
    digest = prompt_hash(style, template, getattr(tokenizer, "chat_template", None))
    claim(
        folder,
        {
            "model": model,
            "prompt_hash": digest,
            "seed": seed,
            "sampling": {**asdict(sampling), "stop": list(sampling.stop)},
        },
    )
    done = read_samples(folder, ["author", "problem_id", "sample_index"])
    have = set(zip(done["problem_id"], done["sample_index"]))
    todo = [
        Request((author, row.problem_id, i), ids, sample_seed(seed, model, row.problem_id, i), chat)
        for row in problems.itertuples()
        if any((row.problem_id, i) not in have for i in range(n))
        for ids, chat in [(prompt_ids(tokenizer, row.question, style, template), messages(row.question, template))]
        for i in range(n)
        if (row.problem_id, i) not in have
    ]
    seeds = {r.key: r.seed for r in todo}
    with SampleWriter(folder) as writer, progress(author, len(problems) * n, len(problems) * n - len(todo)) as bar:
        tokens = 0
        for start in range(0, len(todo), CHUNK):
            for out in engine.generate(todo[start : start + CHUNK], sampling):
                writer.add(row_of(out, seeds[out.key], engine_name, model, digest))
                tokens += max(0, out.n_tokens)
                bar.update(1)
                bar.set_postfix_str(f"{tokens / max(1e-9, bar.format_dict['elapsed']):,.0f} tok/s", refresh=False)
    return complete(folder, author, problems, n)


def row_of(out: Output, seed: int, engine_name: str, model: str, digest: str) -> dict:
    """A sample's row as it lies on disk."""
    author, problem_id, sample_index = out.key
    return {
        "author": author, "problem_id": problem_id, "sample_index": sample_index, "seed": seed, "text": out.text,
        "n_prompt_tokens": out.n_prompt_tokens, "n_tokens": out.n_tokens, "finish_reason": out.finish_reason,
        "engine": engine_name, "model": model, "prompt_hash": digest, "error": out.error, "usd": out.usd,
    }  # fmt: skip


def complete(folder: Path, author: str, problems: pd.DataFrame, n: int) -> pd.DataFrame:
    """The rows `(author, problem, 0…n-1)` of a folder. Raises StudyError naming the first that is missing."""
    rows = read_samples(folder)
    rows = rows[rows["problem_id"].isin(set(problems["problem_id"])) & (rows["sample_index"] < n)]
    if len(rows) != len(problems) * n:
        have = set(zip(rows["problem_id"], rows["sample_index"]))
        lost = next((p, i) for p in problems["problem_id"] for i in range(n) if (p, i) not in have)
        raise StudyError(
            f"{folder}: {len(problems) * n - len(rows)} samples of {author} are missing, the first {lost}; run the stage again"
        )
    return rows.reset_index(drop=True)


def progress(label: str, total: int, initial: int = 0) -> tqdm:
    """A progress bar on standard output, so that it reads well in JupyterLab, in terminals and in reports."""
    return tqdm(
        desc=label,
        total=total,
        initial=initial,
        file=sys.stdout,
        mininterval=1.0,
        unit=" samples",
        dynamic_ncols=False,
        ncols=100,
    )
