"""Sampling with transformers, on CPU or GPU, with one random stream per sample."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Literal

import numpy as np

from wcse_lib.sample.engines import Decoding, Output, Request
from wcse_lib.sample.engines.compiling import Compiling
from wcse_lib.sample.engines.continuous import decode, reach, rows_that_fit, suits
from wcse_lib.sample.engines.padded import generate_batch
from wcse_lib.sample.engines.spending import Spending
from wcse_lib.sample.engines.stepping import stepper
from wcse_lib.sample.engines.texts import text_of, thought_tags
from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.sample.strangers import NO_CODE, opening
from wcse_lib.study import Machine

FIRST_BATCH, LARGEST_BATCH = 256, 4096  # rows, where batches grow by themselves
BY_GENERATE = "not compiled: transformers' own `generate` draws from this model"
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")


def open_engine(
    model: str,
    machine: Machine,
    adapters: Collection[str] = (),
    spending: Spending | None = None,
) -> HFEngine:
    """Load a checkpoint folder or hub id with its tokenizer; adapters are laid on it when they are used.

    Machine keys: dtype, device, device_map, batch_size, threads, compile. Without a batch_size it is found: what the
    model's cache leaves room for, or where batches of `generate` are drawn 256 at first, on a GPU doubled while memory
    lasts; halved when it does not. Raises ValueError for a GPU that is not there.
    """
    set_threads(machine.threads)
    tokenizer = load_tokenizer(model)
    return HFEngine(load_model(model, machine), tokenizer, machine.batch_size, machine.compile)


def load_model(model: str, machine: Machine):
    import torch
    from transformers import AutoModelForCausalLM, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    has_gpu = torch.cuda.is_available()
    device = machine.device or ("cuda" if has_gpu else "cpu")
    if device == "cuda" and not has_gpu:
        raise ValueError(
            "device: cuda stands in the machine file, but PyTorch finds no CUDA here; leave it out, or install a "
            "CUDA build"
        )
    dtype = machine.dtype or ("bfloat16" if device == "cuda" else "float32")
    options = {"dtype": getattr(torch, dtype), "use_safetensors": True, **NO_CODE}
    if machine.device_map:
        options["device_map"] = machine.device_map
    with opening(model):
        live = AutoModelForCausalLM.from_pretrained(model, **options)
    if not machine.device_map:
        live = live.to(device)
    return live.eval()


def set_threads(n: int | None) -> None:
    """Use `n` CPU threads for each operation of this process; None leaves it to PyTorch."""
    if n:
        import torch

        torch.set_num_threads(n)


class HFEngine:
    """Continuous batching where the model and the length of texts allow it (see `continuous.suits` and `reach`), else
    batches of `generate` by length.

    Takes a live model, such as a student in training, and its tokenizer; batch_size: samples at a time, found out
    when None. Every sample draws from its own counter-based stream (its seed and the token's position), so a row's
    randomness does not depend on the batch it sits in. Text can still differ in the last bit of a logit between batch
    shapes.
    """

    def __init__(
        self,
        model,
        tokenizer,
        batch_size: int | None = None,
        compiles: bool | Literal["auto"] = False,
    ):
        self.model, self.adapter = model, None
        self.base_tokenizer = tokenizer
        self._take(tokenizer)
        self.compiles = compiles
        self.batch_size = batch_size
        self.n_rows = batch_size or FIRST_BATCH
        self.grows = batch_size is None
        self.suits: bool | None = None  # continuous batching; found out at the first call
        self.is_continuous = False  # of the last call
        self.compiling = Compiling(compiles)
        self.step = stepper(model, self.compiling)

    def use(self, adapter: str | None) -> None:
        """Lay this adapter on the loaded model in place of the one before, with the tokenizer of its folder if it holds
        one; None: take it off."""
        if adapter == self.adapter:
            return
        if self.adapter:
            self.model = self.model.unload()
        tokenizer = self.base_tokenizer
        if adapter:
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, adapter).eval()
            if (Path(adapter) / "tokenizer_config.json").exists():
                tokenizer = load_tokenizer(adapter)
        self._take(tokenizer)
        self.adapter = adapter
        self.compiling = Compiling(self.compiles)
        self.step = stepper(self.model, self.compiling)

    def _take(self, tokenizer) -> None:
        self.tokenizer, self.tags = tokenizer, thought_tags(tokenizer)

    def expect(self, n_samples: int) -> None:
        """So many will be asked for, in one call of `generate` or in several: it says whether compiling may pay."""
        self.compiling.expect(n_samples)

    def how_compiled(self) -> str:
        """Whether this model's steps were compiled, and why, in a sentence; "" where it has drawn nothing."""
        if not self.compiling.n_done:
            return ""
        return self.compiling.note if self.is_continuous else BY_GENERATE

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]:
        """Yield one Output per request, with fewer rows at a time when memory runs out."""
        longest_prompt = max((len(request.prompt_ids) for request in requests), default=0)
        length = longest_prompt + decoding.max_tokens
        self.is_continuous = self._is_continuous(length)
        draw = self._continuously if self.is_continuous else self._in_batches
        if self.is_continuous and self.batch_size is None:
            self.n_rows = rows_that_fit(self.model, length)
        end_ids = self._end_ids()
        undone = {request.key: request for request in requests}
        while undone:
            try:
                for request, ids in draw(list(undone.values()), decoding, end_ids):
                    del undone[request.key]
                    self.compiling.n_done += 1
                    yield self._output(request, ids, decoding, end_ids)
            except (MemoryError, RuntimeError) as error:
                if not _is_out_of_memory(error) or min(self.n_rows, len(undone)) == 1:
                    raise
            if undone:  # not inside `except`: the error's traceback would keep the batch's memory
                self.n_rows = min(self.n_rows, len(undone)) // 2
                self.grows = False
                print(f"out of memory: batch size lowered to {self.n_rows}")
                self._free()

    def _is_continuous(self, length: int) -> bool:
        """Whether texts of at most this length are drawn by continuous batching."""
        if self.suits is None:
            self.suits = suits(self.model)
        return self.suits and length <= reach(self.model)

    def _continuously(
        self, requests: list[Request], decoding: Decoding, end_ids: set[int]
    ) -> Iterator[tuple[Request, list[int]]]:
        stopped = self._stop_finder(decoding)
        return decode(self.model, requests, decoding, end_ids, self.n_rows, stopped, self.step)

    def _stop_finder(self, decoding: Decoding) -> Callable | None:
        """Says which samples end in a stop string; None where there is no such string."""
        if not decoding.stop:
            return None
        # A token holds at least a byte, so that a stop string lies within so many last tokens.
        n_tail = max(len(stop.encode()) for stop in decoding.stop) + 1

        def stopped(tokens: np.ndarray, n_new: np.ndarray) -> np.ndarray:
            tails = [row[max(1, n + 1 - n_tail) : n + 1].tolist() for row, n in zip(tokens, n_new)]
            texts = self.tokenizer.batch_decode(tails, skip_special_tokens=True)
            has_stop = [any(stop in text for stop in decoding.stop) for text in texts]
            return np.array(has_stop, dtype=bool)

        return stopped

    def _in_batches(
        self, requests: list[Request], decoding: Decoding, end_ids: set[int]
    ) -> Iterator[tuple[Request, list[int]]]:
        # Neighbours in length share a batch: little padding.
        requests = sorted(requests, key=lambda request: len(request.prompt_ids))
        start = 0
        while start < len(requests):
            batch = requests[start : start + self.n_rows]
            start += len(batch)
            yield from zip(batch, self._batch(batch, decoding, end_ids), strict=True)
            may_grow = self.grows and self.model.device.type == "cuda"
            if may_grow and len(batch) == self.n_rows < LARGEST_BATCH:
                self.n_rows *= 2

    def _batch(
        self, batch: list[Request], decoding: Decoding, end_ids: set[int]
    ) -> list[list[int]]:
        pad_id = self._pad_id(end_ids)
        return generate_batch(self.model, self.tokenizer, batch, decoding, end_ids, pad_id)

    def _output(
        self, request: Request, ids: list[int], decoding: Decoding, end_ids: set[int]
    ) -> Output:
        """The text up to the first end token or stop string; tokens count up to and with what ended the sample."""
        end = next((place for place, token in enumerate(ids) if token in end_ids), None)
        n_tokens = len(ids) if end is None else end + 1
        finish_reason = "length" if end is None else "stop"
        text = text_of(self.tokenizer, ids[:end], self.tags)
        stops = [text.index(stop) for stop in decoding.stop if stop in text]
        if stops:
            text, finish_reason = text[: min(stops)], "stop"
            # The padding behind a stop string is no part of the sample.
            n_tokens = len(ids) if end is None else end
            while n_tokens and ids[n_tokens - 1] == self._pad_id(end_ids):
                n_tokens -= 1
        own_ids = tuple(ids[:n_tokens])
        return Output(
            request.key, text, len(request.prompt_ids), n_tokens, finish_reason, ids=own_ids
        )

    def _end_ids(self) -> set[int]:
        known = self.model.generation_config.eos_token_id
        ids = known if isinstance(known, list) else [known]
        return {i for i in [*ids, self.tokenizer.eos_token_id] if i is not None}

    def _pad_id(self, end_ids: set[int]) -> int:
        pad_id = self.tokenizer.pad_token_id
        return min(end_ids) if pad_id is None else pad_id

    def _free(self) -> None:
        import torch

        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def close(self) -> None:
        self.model = self.step = None
        self._free()


def _is_out_of_memory(error: Exception) -> bool:
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return any(words in str(error).lower() for words in OUT_OF_MEMORY)
