"""Sampling with transformers, on CPU or GPU, with one random stream per sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wcse_lib.sample.engines import Decoding, Output, Request, decoding


def open_engine(model: str, machine: dict) -> HFEngine:
    """Load a checkpoint folder or hub id. Machine keys: dtype, device, device_map, batch_size, threads, compile, adapter,
    tokenizer (a folder; the model's when left out).

    Without a batch_size it is found: what the model's cache leaves room for (decoding.slots), or where batches of `generate`
    are drawn 256 at first, on a GPU doubled while memory lasts; halved when it does not.
    """
    return HFEngine(model, machine)


class HFEngine:
    """Continuous batching where the model allows it (see decoding.suits), else batches of `generate` by length.

    Every sample draws from its own counter-based stream (its seed and the token's position), so a row's randomness does
    not depend on the batch it sits in. Text can still differ in the last bit of a logit between batch shapes.
    """

    def __init__(self, model: str, machine: dict):
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer, logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        set_threads(machine.get("threads"))
        self.device = machine.get("device") or ("cuda" if torch.cuda.is_available() else "cpu")
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "device: cuda stands in the machine file, but PyTorch finds no CUDA here; leave it out, or install a CUDA build"
            )
        dtype = machine.get("dtype") or ("bfloat16" if self.device == "cuda" else "float32")
        self.tokenizer = AutoTokenizer.from_pretrained(machine.get("tokenizer") or model)
        spread = {"device_map": machine["device_map"]} if machine.get("device_map") else {}
        self.model = AutoModelForCausalLM.from_pretrained(
            model, dtype=getattr(torch, dtype), use_safetensors=True, **spread
        ).eval()
        self.model = self.model if spread else self.model.to(self.device)
        if adapter := machine.get("adapter"):
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, adapter).eval()
        self.batch_size, self.grows = (
            int(machine.get("batch_size") or 256),
            not machine.get("batch_size"),
        )
        self.continuous: bool | None = None  # found out at the first call
        self.step = decoding.stepper(self.model, bool(machine.get("compile")))

    @classmethod
    def around(cls, model, tokenizer, batch_size: int = 256) -> HFEngine:
        """An engine over a live model, such as a student in training."""
        self = cls.__new__(cls)
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.device, self.grows, self.continuous, self.step = str(model.device), True, None, None
        return self

    def generate(self, requests: list[Request], sampling: Decoding) -> Iterator[Output]:
        if self.continuous is None:
            self.continuous = decoding.suits(self.model)
        yield from (self._continuous if self.continuous else self._in_batches)(requests, sampling)

    def _continuous(self, requests: list[Request], sampling: Decoding) -> Iterator[Output]:
        todo, eos = {r.key: r for r in requests}, self._eos()
        length = max((len(r.prompt_ids) for r in requests), default=0) + sampling.max_tokens
        n_slots = decoding.slots(self.model, length) if self.grows else self.batch_size
        while todo:
            full = False
            try:
                for request, ids in decoding.decode(
                    self.model,
                    list(todo.values()),
                    sampling,
                    eos,
                    n_slots,
                    self._stopped(sampling),
                    self.step,
                ):
                    del todo[request.key]
                    yield self._output(request, ids, sampling, eos)
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or n_slots == 1:
                    raise
                full = True
            if full:  # not inside `except`: the error's traceback would keep the batch's memory
                n_slots = max(1, min(n_slots, len(todo)) // 2)
                print(f"out of memory: batch size lowered to {n_slots}")
                self._free()

    def _stopped(self, sampling: Decoding):
        """Says which rows of tokens end in a stop string; None where there is no such string."""
        if not sampling.stop:
            return None
        tail = max(len(s.encode()) for s in sampling.stop) + 1  # a token holds at least a byte

        def stopped(tokens: np.ndarray, n: np.ndarray) -> np.ndarray:
            ends = [row[max(1, k + 1 - tail) : k + 1].tolist() for row, k in zip(tokens, n)]
            texts = self.tokenizer.batch_decode(ends, skip_special_tokens=True)
            return np.array([any(s in text for s in sampling.stop) for text in texts], dtype=bool)

        return stopped

    def _in_batches(self, requests: list[Request], sampling: Decoding) -> Iterator[Output]:
        todo = sorted(
            requests, key=lambda r: len(r.prompt_ids)
        )  # neighbours in length share a batch: little padding
        while todo:
            batch = todo[: self.batch_size]
            try:
                done = self._batch(batch, sampling)
            except (MemoryError, RuntimeError) as error:
                if not _out_of_memory(error) or len(batch) == 1:
                    raise
                done = None
            if (
                done is None
            ):  # not inside `except`: the error's traceback would keep the batch's memory
                self.batch_size, self.grows = max(1, len(batch) // 2), False
                print(f"out of memory: batch size lowered to {self.batch_size}")
                self._free()
                continue
            yield from done
            todo = todo[len(batch) :]
            if (
                self.grows
                and self.device.startswith("cuda")
                and len(batch) == self.batch_size < 4096
            ):
                self.batch_size *= 2

    def _batch(self, batch: list[Request], sampling: Decoding) -> list[Output]:
        import torch

        eos = self._eos()
        pad = self._pad()
        width = max(len(r.prompt_ids) for r in batch)
        # Left padding: every row's next token is its last column. transformers derives positions from the mask.
        ids = torch.tensor(
            [[pad] * (width - len(r.prompt_ids)) + r.prompt_ids for r in batch], device=self.device
        )
        mask = torch.tensor(
            [[0] * (width - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in batch]
        )
        seeds = np.array([r.seed for r in batch], dtype=np.uint64)
        with torch.inference_mode():
            full = self.model.generate(
                input_ids=ids,
                attention_mask=mask.to(self.device),
                generation_config=self._config(sampling),
                logits_processor=_processors(sampling, seeds, width),
                **(
                    {"stop_strings": list(sampling.stop), "tokenizer": self.tokenizer}
                    if sampling.stop
                    else {}
                ),
            )
        return [
            self._output(request, row, sampling, eos)
            for request, row in zip(batch, full[:, width:].tolist(), strict=True)
        ]

    def _output(
        self, request: Request, row: list[int], sampling: Decoding, eos: set[int]
    ) -> Output:
        end = next((i for i, t in enumerate(row) if t in eos), None)
        n_tokens = len(row) if end is None else end + 1
        reason = "length" if end is None else "stop"
        text = self.tokenizer.decode(row[:end], skip_special_tokens=True)
        cut = [text.index(stop) for stop in sampling.stop if stop in text]
        if cut:
            text, reason = text[: min(cut)], "stop"
            n_tokens = (
                len(row) if end is None else end
            )  # the pads behind a stop string are no tokens of the sample
            while n_tokens and row[n_tokens - 1] == self._pad():
                n_tokens -= 1
        return Output(request.key, text, len(request.prompt_ids), n_tokens, reason)

    def _pad(self) -> int:
        return (
            self.tokenizer.pad_token_id
            if self.tokenizer.pad_token_id is not None
            else min(self._eos())
        )

    def _eos(self) -> set[int]:
        known = self.model.generation_config.eos_token_id
        ids = known if isinstance(known, list) else [known]
        return {i for i in [*ids, self.tokenizer.eos_token_id] if i is not None}

    def _config(self, sampling: Decoding):
        from transformers import GenerationConfig

        # Never the checkpoint's own sampling defaults: what a study says is what is done.
        return GenerationConfig(
            do_sample=False,
            max_new_tokens=sampling.max_tokens,
            eos_token_id=sorted(self._eos()),
            pad_token_id=self._pad(),
        )

    def _free(self) -> None:
        import torch

        if self.device.startswith("cuda"):
            torch.cuda.empty_cache()

    def close(self) -> None:
        self.model = self.step = None
        self._free()


def _out_of_memory(error: Exception) -> bool:
    import torch

    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or any(
        w in str(error).lower() for w in words
    )


def set_threads(n: int | None) -> None:
    """Use `n` CPU threads for each operation of this process; None leaves it to PyTorch."""
    if n:
        import torch

        torch.set_num_threads(n)


def _processors(sampling: Decoding, seeds: np.ndarray, prompt_length: int):
    """A draw by each row's own stream."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList

    class DrawByRow(LogitsProcessor):
        def __call__(self, input_ids, scores):
            token = decoding.pick(scores, sampling, seeds, input_ids.shape[1] - prompt_length)
            return torch.full_like(scores, -torch.inf).scatter(1, token[:, None], 0.0)

    return LogitsProcessorList([DrawByRow()] if sampling.temperature else [])
