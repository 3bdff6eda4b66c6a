"""What every engine takes and gives: requests in, finished samples out, in any order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from wcse_lib.sample.engines.spending import Spending
from wcse_lib.study import ENGINES, Machine

Key = tuple[str, str, int]  # author, problem_id, sample_index

# An engine's module is called like the engine, and has `open_engine(model, machine, adapters, spending)`.
MODULES = {name: f"{__name__}.{name}" for name in (*ENGINES, "openai")}


@dataclass(frozen=True)
class Request:
    """One sample to draw. `prompt_ids` hold exactly one BOS; engines that render prompts take `messages` or `text`."""

    key: Key
    prompt_ids: list[int]
    seed: int
    messages: list[dict] | None = None
    text: str = ""


@dataclass(frozen=True)
class Output:
    """One finished sample. `finish_reason` is stop, length or error (then `error` says why); unknown counts are -1.

    `is_kept` is of a failure that another call would not mend, such as a content filter's: it is not drawn again.
    """

    key: Key
    text: str
    n_prompt_tokens: int
    n_tokens: int
    finish_reason: str
    error: str = ""
    usd: float | None = None
    is_kept: bool = False
    n_cached_tokens: int = -1  # of the prompt, what an endpoint read from its cache
    n_reasoning_tokens: int = -1  # of `n_tokens`, an endpoint's hidden thought
    ids: tuple[int, ...] = ()  # the sample's tokens, what ended it included, where the engine is hf


@dataclass(frozen=True)
class Decoding:
    """How one request is decoded; temperature 0 is greedy, top_k 0 and top_p 1 are off."""

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()


class Engine(Protocol):
    """Draws samples from one model, or from adapters on top of it; yields each sample as soon as it is finished."""

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]: ...

    def use(self, adapter: str | None) -> None:
        """Draw from now on from this adapter, one of those that the engine was opened for; None: from the model."""

    def close(self) -> None: ...


def open_engine(
    engine: str,
    model: str,
    machine: Machine,
    adapters: Collection[str] = (),
    spending: Spending | None = None,
) -> Engine:
    """Open an engine by its name; it draws from the model until `use` names an adapter.

    Args: model: a checkpoint folder, hub id or endpoint model name; adapters: folders of LoRA adapters whose base is
    `model`, all that `use` will be given (local engines); spending: prices and limit (endpoints). Raises ValueError for
    an unknown engine, and where the engine cannot run the model.
    """
    if engine not in MODULES:
        raise ValueError(f"engine: {engine!r} is not one of {', '.join(MODULES)}")
    return import_module(MODULES[engine]).open_engine(model, machine, adapters, spending)


def open_batches(model: str, machine: Machine, spending: Spending, folder: Path) -> Engine:
    """Open a server's batch service; what is sent to it is noted in a folder, by which another run goes on.

    Raises ValueError for a missing key, a limit without prices, machine keys that do not go with batches.
    """
    return import_module(f"{__name__}.batch").BatchEngine(model, machine, spending, folder)
