"""Resumable sampling: exactly n samples of every problem, each with its own seed, written as they finish."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from wcse_lib.sample import cluster
from wcse_lib.sample.engines import Decoding, Engine, Output, Request
from wcse_lib.sample.prompts import messages, prompt_hash, prompt_ids, prompt_text, stops
from wcse_lib.store import (
    KEY,
    SampleWriter,
    StudyError,
    locked,
    read_json,
    read_samples,
    write_json,
)
from wcse_lib.study import Prompt, fingerprint, sample_seed

CHUNK = 50_000  # requests handed to the engine at once


def _same_questions(folder: Path, problems: pd.DataFrame) -> None:
    """Tie a folder to its problems' questions, so that an id that now means another question never joins its samples.

    Raises StudyError naming the first such problem.
    """
    path = folder / "questions.json"
    old, now = (
        read_json(path) if path.exists() else {},
        {p.problem_id: fingerprint(p.question) for p in problems.itertuples()},
    )
    if changed := [i for i in now if old.get(i, now[i]) != now[i]]:
        raise StudyError(
            f"{folder}: holds samples of other questions under the ids of {len(changed)} problems, such as {changed[0]}; give "
            "changed problems new ids (columns.problem_id), or delete that folder to draw anew"
        )
    if not now.items() <= old.items():
        write_json(path, old | now)


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


@contextlib.contextmanager
def opened(folder: Path, engine: str, model: str, machine: dict) -> Iterator[Engine]:
    """An engine that draws into a folder. What an endpoint has spent there before counts towards its limit: as it counted
    itself, which is noted ahead of every call, but no less than what the rows cost."""
    path = folder / "spending.json"
    if engine == "openai":
        noted = read_json(path)["usd"] if path.exists() else 0.0
        machine = machine | {
            "spent_usd": max(noted, float(read_samples(folder, [*KEY, "usd"])["usd"].sum()))
        }
    live = cluster.open_engine(engine, model, machine)
    try:
        if engine == "openai":
            live.note = lambda usd: write_json(path, {"usd": usd})
        yield live
    finally:
        if engine == "openai":
            write_json(path, {"usd": live.spent_usd})
        live.close()


def draw(
    folder: Path,
    author: str,
    problems: pd.DataFrame,
    n: int | Mapping[str, int],
    *,
    engine: Engine,
    tokenizer,
    prompt: Prompt,
    sampling: Decoding,
    seed: int,
    model: str,
    engine_name: str,
    weights: str = "",
    shard: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """Draw the samples `(author, problem, 0…n-1)` that the folder does not hold yet; returns all rows by key.

    Args: problems: `problem_id`, `question`; n: samples per problem, one number or by problem_id; tokenizer: None where
    the engine renders prompts itself; seed: the study's; model: as named in the study, and a mark of its `weights` where these are here; shard: `(i, k)` draws only every
    k-th problem from the i-th on, beside other processes, and returns nothing.
    Resumes by key: flushed samples are never drawn again, failed ones are, and a larger `n` or more problems add rows
    only. What fails again stays as a row with finish_reason `error` and its reason.
    """
    name = f"s{shard[0]}of{shard[1]}" if shard else ""
    with locked(
        folder, f".lock{name}", 10
    ):  # an orphaned kernel of a killed run lives a moment longer
        digest = prompt_hash(prompt, getattr(tokenizer, "chat_template", None))
        sampling = replace(sampling, stop=sampling.stop or stops(prompt))
        described = {**asdict(sampling), "stop": list(sampling.stop)}
        claim(
            folder,
            {
                "model": model,
                "weights": weights,
                "prompt_hash": digest,
                "seed": seed,
                "sampling": described,
            },
        )
        _same_questions(folder, problems)
        done = read_samples(folder, [*KEY, "finish_reason"])
        if not shard:
            done = done[done["finish_reason"] != "error"]
        have = set(zip(done["problem_id"], done["sample_index"]))
        wanted = list(problems.itertuples())[
            slice(shard[0], None, shard[1]) if shard else slice(None)
        ]
        count = counts(problems, n)
        todo = []
        for row in wanted:
            if missing := [
                i for i in range(count[row.problem_id]) if (row.problem_id, i) not in have
            ]:
                asked = _asked(tokenizer, row.question, prompt)
                seeds = (sample_seed(seed, model, row.problem_id, i) for i in missing)
                todo += [
                    Request((author, row.problem_id, i), seed=s, **asked)
                    for i, s in zip(missing, seeds)
                ]
        seeds, total = {r.key: r.seed for r in todo}, sum(count[row.problem_id] for row in wanted)
        every = (
            2.0 if engine_name == "openai" else 15.0
        )  # seconds: what is paid for by the sample must not be lost
        with (
            SampleWriter(folder, every_seconds=every, shard=name) as writer,
            progress(author, total, total - len(todo)) as bar,
        ):
            tokens = 0
            for start in range(0, len(todo), CHUNK):
                for out in engine.generate(todo[start : start + CHUNK], sampling):
                    writer.add(row_of(out, seeds[out.key], engine_name, model, digest))
                    tokens += max(0, out.n_tokens)
                    bar.update(1)
                    bar.set_postfix_str(
                        f"{tokens / max(1e-9, bar.format_dict['elapsed']):,.0f} tok/s",
                        refresh=False,
                    )
        return pd.DataFrame() if shard else complete(folder, author, problems, n)


def counts(problems: pd.DataFrame, n: int | Mapping[str, int]) -> dict[str, int]:
    """Samples wanted of each problem."""
    return {p: n if isinstance(n, int) else int(n.get(p, 0)) for p in problems["problem_id"]}


def _asked(tokenizer, question: str, prompt: Prompt) -> dict:
    """A request's prompt: token ids where there is a tokenizer, else what the engine renders itself."""
    chat = messages(question, prompt) if prompt.style == "chat" else None
    if tokenizer is not None:
        return {"prompt_ids": prompt_ids(tokenizer, question, prompt), "messages": chat}
    return {
        "prompt_ids": [],
        "messages": chat,
        "text": "" if chat else prompt_text(question, prompt),
    }


def row_of(out: Output, seed: int, engine_name: str, model: str, digest: str) -> dict:
    """A sample's row as it lies on disk."""
    author, problem_id, sample_index = out.key
    return {
        "author": author,
        "problem_id": problem_id,
        "sample_index": sample_index,
        "seed": seed,
        "text": out.text,
        "n_prompt_tokens": out.n_prompt_tokens,
        "n_tokens": out.n_tokens,
        "finish_reason": out.finish_reason,
        "engine": engine_name,
        "model": model,
        "prompt_hash": digest,
        "error": out.error,
        "usd": out.usd,
    }


def complete(
    folder: Path, author: str, problems: pd.DataFrame, n: int | Mapping[str, int]
) -> pd.DataFrame:
    """The rows `(author, problem, 0…n-1)` of a folder. Raises StudyError naming the first that is missing."""
    rows, count = read_samples(folder), counts(problems, n)
    rows = rows[rows["sample_index"] < rows["problem_id"].map(count).fillna(0)]
    if len(rows) != sum(count.values()):
        have = set(zip(rows["problem_id"], rows["sample_index"]))
        lost = next((p, i) for p, k in count.items() for i in range(k) if (p, i) not in have)
        raise StudyError(
            f"{folder}: {sum(count.values()) - len(rows)} samples of {author} are missing, the first {lost}; run the stage again"
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
