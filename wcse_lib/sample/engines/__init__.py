"""What every engine takes and gives: requests in, finished samples out, in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

Key = tuple[str, str, int]  # author, problem_id, sample_index


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
    """One finished sample. `finish_reason` is stop, length or error (then `error` says why); unknown counts are -1."""

    key: Key
    text: str
    n_prompt_tokens: int
    n_tokens: int
    finish_reason: str
    error: str = ""
    usd: float | None = None


@dataclass(frozen=True)
class Decoding:
    """How samples are drawn; temperature 0 is greedy, top_k 0 and top_p 1 are off."""

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 1.0
    max_tokens: int = 512
    stop: tuple[str, ...] = ()


class Engine(Protocol):
    """Draws samples from one model; yields each as soon as it is finished."""

    def generate(self, requests: list[Request], sampling: Decoding) -> Iterator[Output]: ...

    def close(self) -> None: ...


def open_engine(engine: str, model: str, machine: dict[str, Any]) -> Engine:
    """Open `hf`, `vllm` or `openai` for a checkpoint folder, hub id or endpoint model name."""
    if engine == "hf":
        from wcse_lib.sample.engines import hf as door
    elif engine == "vllm":
        from wcse_lib.sample.engines import vllm as door
    elif engine == "openai":
        from wcse_lib.sample.engines import api as door
    else:
        raise ValueError(f"engine: {engine!r} is not one of hf, vllm, openai")
    return door.open_engine(model, machine)
