"""Sampling with transformers `generate`, on CPU or GPU, with one random stream per sample."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wcse_lib.engines import Output, Request, Sampling


def open_engine(model: str, machine: dict) -> HFEngine:
    """Load a checkpoint folder or hub id. Machine keys: dtype, device, batch_size, adapter."""
    return HFEngine(model, machine)


class HFEngine:
    """Batched `generate` over prompts sorted by length.

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
        dtype = machine.get("dtype") or ("bfloat16" if self.device == "cuda" else "float32")
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype)).to(self.device).eval()
        if adapter := machine.get("adapter"):
            from peft import PeftModel

            self.model = PeftModel.from_pretrained(self.model, adapter).eval()
        self.batch_size = int(machine.get("batch_size") or 256)

    @classmethod
    def around(cls, model, tokenizer, batch_size: int = 256) -> HFEngine:
        """An engine over a live model, such as a student in training."""
        self = cls.__new__(cls)
        self.model, self.tokenizer, self.batch_size = model, tokenizer, batch_size
        self.device = str(model.device)
        return self

    def generate(self, requests: list[Request], sampling: Sampling) -> Iterator[Output]:
        todo = sorted(requests, key=lambda r: len(r.prompt_ids))  # neighbours in length share a batch: little padding
        while todo:
            batch = todo[: self.batch_size]
            try:
                done = self._batch(batch, sampling)
            except (MemoryError, RuntimeError) as error:
                if "out of memory" not in str(error).lower() or self.batch_size == 1:
                    raise
                self.batch_size = max(1, len(batch) // 2)
                print(f"out of memory: batch size lowered to {self.batch_size}")
                self._free()
                continue
            yield from done
            todo = todo[len(batch) :]

    def _batch(self, batch: list[Request], sampling: Sampling) -> list[Output]:
        import torch

        eos = self._eos()
        pad = self._pad()
        width = max(len(r.prompt_ids) for r in batch)
        # Left padding: every row's next token is its last column. transformers derives positions from the mask.
        ids = torch.tensor([[pad] * (width - len(r.prompt_ids)) + r.prompt_ids for r in batch], device=self.device)
        mask = torch.tensor([[0] * (width - len(r.prompt_ids)) + [1] * len(r.prompt_ids) for r in batch])
        seeds = np.array([r.seed for r in batch], dtype=np.uint64)
        with torch.inference_mode():
            full = self.model.generate(
                input_ids=ids,
                attention_mask=mask.to(self.device),
                generation_config=self._config(sampling),
                logits_processor=_processors(sampling, seeds, width),
                **({"stop_strings": list(sampling.stop), "tokenizer": self.tokenizer} if sampling.stop else {}),
            )
        return [
            self._output(request, row, sampling, eos)
            for request, row in zip(batch, full[:, width:].tolist(), strict=True)
        ]

    def _output(self, request: Request, row: list[int], sampling: Sampling, eos: set[int]) -> Output:
        end = next((i for i, t in enumerate(row) if t in eos), None)
        n_tokens = len(row) if end is None else end + 1
        reason = "length" if end is None else "stop"
        text = self.tokenizer.decode(row[:end], skip_special_tokens=True)
        cut = [text.index(stop) for stop in sampling.stop if stop in text]
        if cut:
            text, reason = text[: min(cut)], "stop"
            if end is None:  # the pads behind a stop string are no tokens of the sample
                while n_tokens and row[n_tokens - 1] == self._pad():
                    n_tokens -= 1
        return Output(request.key, text, len(request.prompt_ids), n_tokens, reason)

    def _pad(self) -> int:
        return self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else min(self._eos())

    def _eos(self) -> set[int]:
        known = self.model.generation_config.eos_token_id
        ids = known if isinstance(known, list) else [known]
        return {i for i in [*ids, self.tokenizer.eos_token_id] if i is not None}

    def _config(self, sampling: Sampling):
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

        if self.device == "cuda":
            torch.cuda.empty_cache()

    def close(self) -> None:
        self.model = None
        self._free()


def set_threads(n: int | None) -> None:
    """Use `n` CPU threads for each operation of this process; None leaves it to PyTorch."""
    if n:
        import torch

        torch.set_num_threads(n)


def _processors(sampling: Sampling, seeds: np.ndarray, prompt_length: int):
    """Temperature, top-k and top-p as transformers has them, then a draw by each row's own stream."""
    import torch
    from transformers import LogitsProcessor, LogitsProcessorList
    from transformers.generation.logits_process import (
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    class DrawByRow(LogitsProcessor):
        def __call__(self, input_ids, scores):
            u = uniform(seeds, input_ids.shape[1] - prompt_length)
            cumulative = torch.softmax(scores.double(), dim=-1).cumsum(-1)
            target = torch.from_numpy(u).to(scores.device)[:, None] * cumulative[:, -1:]
            token = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[1] - 1)
            return torch.full_like(scores, -torch.inf).scatter(1, token, 0.0)

    if sampling.temperature == 0:
        return LogitsProcessorList()
    steps: list = [TemperatureLogitsWarper(float(sampling.temperature))]
    if sampling.top_k:
        steps.append(TopKLogitsWarper(sampling.top_k))
    if sampling.top_p < 1:
        steps.append(TopPLogitsWarper(sampling.top_p))
    return LogitsProcessorList([*steps, DrawByRow()])


def uniform(seeds: np.ndarray, position: int) -> np.ndarray:
    """One number in [0, 1) per seed and position: SplitMix64's finaliser over both (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = seeds + np.uint64(position + 1) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)
