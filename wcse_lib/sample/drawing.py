"""Resumable sampling: exactly n samples of every problem, each with its own seed, written as they finish."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from wcse_lib.sample import cluster, engines
from wcse_lib.sample.engines import Decoding, Engine, Output, Request
from wcse_lib.sample.engines.spending import Spending
from wcse_lib.sample.identity import claim, claim_questions
from wcse_lib.sample.prompts import (
    load_tokenizer,
    messages,
    prompt_hash,
    prompt_ids,
    prompt_text,
    stops,
)
from wcse_lib.store import (
    KEY,
    SampleWriter,
    StudyError,
    locked,
    read_json,
    read_samples,
    write_json,
)
from wcse_lib.study import (
    ENDPOINTS,
    Machine,
    Price,
    Prompt,
    checkpoint_files,
    resolve_model,
    sample_seed,
)

CHUNK = 50_000  # requests handed to a local engine at once
LOCK_SECONDS = 10  # an orphaned kernel of a killed run lives a moment longer
FLUSH_SECONDS = 15.0  # between files; of an endpoint, whose samples are paid for one by one …
FLUSH_SECONDS_ENDPOINT = 1.0  # … so that a kill takes a second's samples at most


@dataclass(frozen=True)
class Opened:
    """A model that is ready to draw."""

    engine: Engine
    engine_name: str
    tokenizer: Any = None  # None where an endpoint renders prompts itself
    # what its checkpoint's files hold, by name, and its adapter's; empty where they are not here
    checkpoint: Mapping[str, str] = field(default_factory=dict)

    @property
    def how_compiled(self) -> str:
        """Whether PyTorch compiled the model, and why, in a sentence; "" where the engine has no say in it."""
        return self.engine.how_compiled() if hasattr(self.engine, "how_compiled") else ""


@contextlib.contextmanager
def opened_once(
    model: str, machine: Machine, adapters: Collection[str] = ()
) -> Iterator[Callable[[str | None], Opened]]:
    """A checkpoint, opened once by the machine's engine for itself and all LoRA adapters on top of it.

    Yields a function that takes one of the `adapters` (folders with their tokenizers), or None for the checkpoint
    itself, and gives what draws from it; what it gave before draws from there no more.
    """
    checkpoint, name = resolve_model(model), machine.engine
    with contextlib.closing(cluster.open_engine(name, checkpoint, machine, adapters)) as engine:

        def take(adapter: str | None) -> Opened:
            if adapters:
                engine.use(adapter)
            folder = adapter or checkpoint
            files = checkpoint_files(checkpoint)
            for file, digest in checkpoint_files(adapter).items() if adapter else ():
                files[f"adapter/{file}"] = digest
            return Opened(engine, name, load_tokenizer(folder), files)

        yield take


@contextlib.contextmanager
def opened(
    folder: Path,
    model: str,
    machine: Machine,
    *,
    engine: str = "local",
    price: Price | None = None,
) -> Iterator[Opened]:
    """A model that draws into a folder.

    Args: engine: as the params file names it: local (a checkpoint, by the machine's engine) or one of ENDPOINTS; price:
    an endpoint's for single calls, where known. What it has spent on this folder before counts towards
    `machine.limit_usd`.
    """
    if engine == "local":
        with opened_once(model, machine) as take:
            yield take(None)
    elif engine == "batch":
        spending = _spending(price.of_batches() if price else None, machine.limit_usd)
        batches = engines.open_batches(model, machine, spending, folder / "batches")
        with contextlib.closing(batches):
            yield Opened(batches, engine)
    else:
        with _calls(folder, model, machine, price) as calls:
            yield Opened(calls, engine)


def _spending(price: Price | None, limit_usd: float | None, **amounts) -> Spending:
    prices = {}
    if price:
        prices = {"price_in": price.input, "price_out": price.output, "price_cached": price.cached}
    return Spending(**prices, limit_usd=limit_usd, **amounts)


@contextlib.contextmanager
def _calls(folder: Path, model: str, machine: Machine, price: Price | None) -> Iterator[Engine]:
    """An endpoint that is called sample by sample. What it has spent is noted in `spending.json` ahead of every call;
    it is no less than what the rows cost."""
    path = folder / "spending.json"

    def note(usd: float) -> None:
        write_json(path, {"usd": usd})

    noted = read_json(path)["usd"] if path.exists() else 0.0
    cost_of_rows = float(read_samples(folder, [*KEY, "usd"])["usd"].sum())
    spent_usd = max(noted, cost_of_rows)
    spending = _spending(price, machine.limit_usd, spent_usd=spent_usd, note=note)
    # Called from this process: `concurrency`, not `workers`, spreads the calls of an endpoint.
    engine = engines.open_engine("openai", model, machine, spending=spending)
    try:
        yield engine
    finally:
        note(spending.spent_usd)
        engine.close()


def draw(
    folder: Path,
    author: str,
    problems: pd.DataFrame,
    n: int | Mapping[str, Collection[int]],
    source: Opened,
    *,
    prompt: Prompt,
    decoding: Decoding,
    seed: int,
    model: str,
    shard: tuple[int, int] | None = None,
) -> pd.DataFrame:
    """Draw the samples `(author, problem, 0…n-1)` that the folder does not hold yet; returns all rows by key.

    Args: problems: `problem_id`, `question`; n: samples of every problem, or by problem_id the indices of its samples;
    decoding: the prompt's own stops are added to its; seed: the study's; model: as named in the study (samples of
    another checkpoint under that name never join); shard: `(i, k)` draws only every k-th problem from the i-th on,
    beside other processes, and returns nothing.
    Resumes by key: flushed samples are never drawn again, failed ones are, and a larger `n` or more problems add rows
    only. What fails again stays as a row with finish_reason `error` and its reason; a failure that another call would
    not mend (a content filter's) is not drawn again.
    """
    decoding = replace(decoding, stop=stops(prompt, decoding.stop))
    digest = prompt_hash(prompt, getattr(source.tokenizer, "chat_template", None))
    identity = {
        "model": model,
        "checkpoint": dict(source.checkpoint),
        "prompt_hash": digest,
        "seed": seed,
        "sampling": asdict(decoding) | {"stop": list(decoding.stop)},
    }
    shard_name = f"s{shard[0]}of{shard[1]}" if shard else ""
    with locked(folder, f".lock{shard_name}", LOCK_SECONDS):
        _refuse_other_shares(folder, shard)
        claim(folder, identity)
        claim_questions(folder, problems)

        mine = problems.iloc[shard[0] :: shard[1]] if shard else problems
        wanted = indices(mine, n)
        missing = _missing(folder, wanted, draws_failed=shard is None)
        requests = _requests(author, mine, missing, source.tokenizer, prompt, seed, model)

        # A row is written as soon as its sample is finished.
        is_paid = source.engine_name in ENDPOINTS
        seconds = FLUSH_SECONDS_ENDPOINT if is_paid else FLUSH_SECONDS
        at_once = max(1, len(requests)) if is_paid else CHUNK
        seeds = {request.key: request.seed for request in requests}
        with SampleWriter(folder, every_seconds=seconds, shard=shard_name) as writer:
            total = sum(map(len, wanted.values()))
            for output in _drawn(source.engine, requests, decoding, author, total, at_once):
                row = row_of(output, seeds[output.key], source.engine_name, model, digest)
                writer.add(row, output.is_kept)
        if shard:
            return pd.DataFrame()
        return complete(folder, author, problems, n)


def _refuse_other_shares(folder: Path, shard: tuple[int, int] | None) -> None:
    """Raise StudyError while other processes draw other shares of the folder's problems, which overlap with ours."""
    for path in folder.glob(".lock*"):
        share = re.fullmatch(r"\.lock(s\d+of(\d+))?", path.name)
        is_ours = share and (shard and share[2] == str(shard[1]) or not (shard or share[1]))
        if not share or is_ours:
            continue
        try:
            with locked(folder, path.name):
                pass
        except StudyError as error:
            shown = f"in {share[2]} shards" if share[1] else "as a whole"
            raise StudyError(
                f"{error}. It is drawn {shown}: the same samples would be drawn twice"
            ) from None


def indices(
    problems: pd.DataFrame, n: int | Mapping[str, Collection[int]]
) -> dict[str, Collection[int]]:
    """The sample indices wanted of each problem."""
    if isinstance(n, int):
        return {problem_id: range(n) for problem_id in problems["problem_id"]}
    return {problem_id: n.get(problem_id, ()) for problem_id in problems["problem_id"]}


def _missing(
    folder: Path, wanted: Mapping[str, Collection[int]], draws_failed: bool
) -> dict[str, list[int]]:
    """Sample indices of every problem that the folder does not hold; failed samples are missing, too, but not for a
    shard: their file is the whole folder's."""
    rows = read_samples(folder, KEY, with_failed=not draws_failed)
    held = set(zip(rows["problem_id"], rows["sample_index"]))
    missing = {}
    for problem_id, own in wanted.items():
        missing[problem_id] = [i for i in own if (problem_id, i) not in held]
    return missing


def _requests(
    author: str,
    problems: pd.DataFrame,
    missing: Mapping[str, list[int]],
    tokenizer,
    prompt: Prompt,
    seed: int,
    model: str,
) -> list[Request]:
    """One request for every missing sample, with a seed of its own."""
    requests = []
    for problem_id, question in zip(problems["problem_id"], problems["question"]):
        if not missing[problem_id]:
            continue
        shown = _shown(tokenizer, question, prompt)
        for sample_index in missing[problem_id]:
            key = author, problem_id, sample_index
            own_seed = sample_seed(seed, model, problem_id, sample_index)
            requests.append(Request(key, seed=own_seed, **shown))
    return requests


def _shown(tokenizer, question: str, prompt: Prompt) -> dict:
    """A request's prompt: token ids where there is a tokenizer, else what the engine renders itself."""
    is_chat = prompt.style == "chat"
    shown = {"prompt_ids": [], "messages": messages(question, prompt) if is_chat else None}
    if tokenizer is not None:
        shown["prompt_ids"] = prompt_ids(tokenizer, question, prompt)
    elif not is_chat:
        shown["text"] = prompt_text(question, prompt)
    return shown


def _drawn(
    engine: Engine,
    requests: list[Request],
    decoding: Decoding,
    author: str,
    total: int,
    at_once: int,
) -> Iterator[Output]:
    """The engine's outputs, under a progress bar that shows the speed, or what an engine is waiting for.

    Args: at_once: requests handed to the engine together.
    """
    n_tokens = 0
    with progress(author, total, total - len(requests)) as bar:
        if hasattr(engine, "tell"):  # batches, for which one may wait hours
            engine.tell = bar.set_postfix_str
        if hasattr(engine, "expect"):
            engine.expect(len(requests))
        for start in range(0, len(requests), at_once):
            for output in engine.generate(requests[start : start + at_once], decoding):
                yield output
                n_tokens += max(0, output.n_tokens)
                bar.update(1)
                speed = n_tokens / max(1e-9, bar.format_dict["elapsed"])
                bar.set_postfix_str(f"{speed:,.0f} tok/s", refresh=False)


def progress(label: str, total: int, initial: int = 0, unit: str = "samples") -> tqdm:
    """A progress bar on standard output, so that it reads well in JupyterLab, in terminals and in reports."""
    return tqdm(
        desc=label,
        total=total,
        initial=initial,
        file=sys.stdout,
        mininterval=1.0,
        unit=f" {unit}",
        dynamic_ncols=False,
        ncols=100,
    )


def row_of(output: Output, seed: int, engine_name: str, model: str, digest: str) -> dict:
    """A sample's row as it lies on disk."""
    author, problem_id, sample_index = output.key
    return {
        "author": author,
        "problem_id": problem_id,
        "sample_index": sample_index,
        "seed": seed,
        "text": output.text,
        "n_prompt_tokens": output.n_prompt_tokens,
        "n_tokens": output.n_tokens,
        "finish_reason": output.finish_reason,
        "engine": engine_name,
        "model": model,
        "prompt_hash": digest,
        "error": output.error,
        "usd": output.usd,
        "n_cached_tokens": output.n_cached_tokens,
        "n_reasoning_tokens": output.n_reasoning_tokens,
    }


def complete(
    folder: Path, author: str, problems: pd.DataFrame, n: int | Mapping[str, Collection[int]]
) -> pd.DataFrame:
    """The wanted rows of a folder (`n` as in `draw`). Raises StudyError naming the first that is missing."""
    wanted = indices(problems, n)
    rows = read_samples(folder)
    keys = zip(rows["problem_id"], rows["sample_index"])
    is_wanted = [sample_index in wanted.get(problem_id, ()) for problem_id, sample_index in keys]
    rows = rows[is_wanted].reset_index(drop=True)
    n_missing = sum(map(len, wanted.values())) - len(rows)
    if n_missing:
        held = set(zip(rows["problem_id"], rows["sample_index"]))
        for problem_id, own in wanted.items():
            for sample_index in own:
                if (problem_id, sample_index) not in held:
                    raise StudyError(
                        f"{folder}: {n_missing} samples of {author} are missing, the first "
                        f"{(problem_id, sample_index)}; run the stage again"
                    )
    return rows
