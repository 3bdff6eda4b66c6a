"""Continuous batching over transformers' own forward pass: prompts are read once, finished samples leave at once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby

import numpy as np

from wcse_lib.sample.engines import Decoding, Request
from wcse_lib.sample.engines.pages import Store, cache_shape
from wcse_lib.sample.engines.picking import pick
from wcse_lib.sample.engines.stepping import stepper

PREFILL_TOKENS = {"cpu": 4096, "cuda": 8192}  # of prompts read in one forward pass, at most
CACHE_BYTES = {"cpu": 2 << 30, "cuda": 16 << 30}  # of keys and values, unless rows are given
FULL, SLIDING = "full_attention", "sliding_attention"  # kinds of layers, as configs name them
MOST_ROWS = {"cpu": 256, "cuda": 512}  # samples; more at once do not pay on one CPU core


def decode(
    model,
    requests: list[Request],
    decoding: Decoding,
    end_ids: set[int],
    n_rows: int | None = None,
    stopped: Callable | None = None,
    step: Callable | None = None,
) -> Iterator[tuple[Request, list[int]]]:
    """Yield every request with its sampled token ids (the end token included), as soon as it is finished.

    Args: model: a causal language model that `suits`, and whose `reach` no sample exceeds; n_rows: samples in work at
    once, by memory when None; stopped: takes the tokens [samples, length] and lengths [samples] of samples, says which
    of them hold a stop string; step: the model's `stepper`.
    Samples of one problem share its prompt, and as long as they have drawn the same tokens all the work.
    """
    import torch

    if not requests:
        return
    # The samples of a problem stand side by side.
    queue = sorted(requests, key=lambda r: (len(r.prompt_ids), r.prompt_ids))
    length = len(queue[-1].prompt_ids) + decoding.max_tokens
    n_rows = n_rows or rows_that_fit(model, length)
    waiting = deque(_taken_together(queue, n_rows))
    n_rows = min(len(queue), n_rows)
    prompts = _Prompts(model, queue, n_rows)
    step = step or stepper(model)
    ends = np.array(sorted(end_ids), np.int64)
    with torch.inference_mode():
        work = _Work(model, n_rows, decoding.max_tokens)
        while waiting or len(work.samples):
            work.take(waiting, prompts)
            branches, tokens, n_new, rows = work.rows()
            logits = step(tokens, branches, n_new, work.store)
            of_samples = logits.index_select(0, torch.from_numpy(rows).to(logits.device))
            work.append(pick(of_samples, decoding, *work.streams()).cpu().numpy())
            yield from work.release(work.finished(ends, stopped))
            work.part()


def _taken_together(queue: list[Request], n_rows: int) -> Iterator[list[Request]]:
    """A problem's samples, at most an eighth of those in work at once: when so many are done, the next can begin."""
    most = max(1, n_rows // 8)
    for _, group in groupby(queue, key=lambda request: request.prompt_ids):
        samples = list(group)
        for start in range(0, len(samples), most):
            yield samples[start : start + most]


class _Work:
    """The samples in work, each in a branch: all that have drawn the same tokens of one problem, one row of a step.

    Where the tokens of a branch's samples differ, it parts.
    """

    def __init__(self, model, n_samples: int, max_tokens: int):
        # By place, of which there are as many as samples may be in work.
        self.requests: list[Request | None] = [None] * n_samples
        self.seeds = np.zeros(n_samples, np.uint64)
        self.n_new = np.zeros(n_samples, np.int64)
        # A sample's tokens: its prompt's last, then its own.
        self.tokens = np.zeros((n_samples, max_tokens + 1), np.int64)
        self.branches = np.zeros(n_samples, np.int64)
        self.samples = np.zeros(0, np.int64)  # places in use
        self.store = Store(model, n_samples, max_tokens)

    def take(self, waiting: deque[list[Request]], prompts: _Prompts) -> None:
        """Begin waiting samples where an eighth of the places is free, as reading prompts one by one costs more."""
        n_places = len(self.requests)
        if n_places - len(self.samples) < max(1, n_places // 8):
            return
        free = np.setdiff1d(np.arange(n_places), self.samples)
        while waiting and len(waiting[0]) <= len(free):
            new = waiting.popleft()
            self._begin(free[: len(new)], new, prompts)
            free = free[len(new) :]

    def _begin(self, places: np.ndarray, new: list[Request], prompts: _Prompts) -> None:
        *read, last = new[0].prompt_ids
        self.branches[places] = self.store.open(prompts.read(read))
        for place, request in zip(places, new):
            self.requests[place] = request
        self.seeds[places] = [request.seed for request in new]
        self.tokens[places, 0] = last
        self.n_new[places] = 0
        self.samples = np.concatenate([self.samples, places])

    def rows(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Of each branch its number, its last token and that token's place among its own; of each sample its row."""
        branches, first, rows = np.unique(
            self.branches[self.samples], return_index=True, return_inverse=True
        )
        sample = self.samples[first]
        n_new = self.n_new[sample]
        return branches, self.tokens[sample, n_new], n_new, rows

    def streams(self) -> tuple[np.ndarray, np.ndarray]:
        """The samples' seeds, and the positions of their next tokens."""
        return self.seeds[self.samples], self.n_new[self.samples]

    def append(self, picked: np.ndarray) -> None:
        self.n_new[self.samples] += 1
        self.tokens[self.samples, self.n_new[self.samples]] = picked

    def finished(self, ends: np.ndarray, stopped: Callable | None) -> np.ndarray:
        """Of each sample, whether its last token ends it, or its length or text does."""
        n_new = self.n_new[self.samples]
        last = self.tokens[self.samples, n_new]
        done = (last[:, None] == ends).any(axis=1) | (n_new >= self.tokens.shape[1] - 1)
        if stopped is not None:
            done |= stopped(self.tokens[self.samples], n_new)
        return done

    def release(self, done: np.ndarray) -> list[tuple[Request, list[int]]]:
        """Let these samples go; returns their requests and token ids."""
        leaving, self.samples = self.samples[done], self.samples[~done]
        ended = np.setdiff1d(self.branches[leaving], self.branches[self.samples])
        if len(ended):
            self.store.close(ended)
        ids = [self.tokens[place, 1 : self.n_new[place] + 1].tolist() for place in leaving]
        return list(zip([self.requests[place] for place in leaving], ids))

    def part(self) -> None:
        """Give samples of one branch whose last tokens differ branches of their own."""
        branches = self.branches[self.samples]
        last = self.tokens[self.samples, self.n_new[self.samples]]
        pairs, group = np.unique(np.stack([branches, last]), axis=1, return_inverse=True)
        # The first of a branch's tokens keeps it.
        is_new = np.append(False, pairs[0, 1:] == pairs[0, :-1])
        if is_new.any():
            pairs[0, is_new] = self.store.fork(pairs[0, is_new])
            self.branches[self.samples] = pairs[0, group]


class _Prompts:
    """Reads the prompts of a queue in its order, all but their last tokens, equal neighbours once.

    Several are read in one forward pass, those to come among them: short prompts one by one cost as much as long ones.
    """

    def __init__(self, model, queue: list[Request], most_at_once: int):
        self._model, self._most_at_once = model, most_at_once
        all_ids = (request.prompt_ids[:-1] for request in queue)
        self._passes = self._read_passes(ids for ids, _ in groupby(all_ids))
        self._ids: list[int] | None = None
        self._layers: list = []

    def read(self, ids: list[int]) -> list:
        """Keys and values [heads, length, head size] of every layer; the queue's next prompt, or the last one again."""
        if ids != self._ids:
            self._ids, self._layers = next(self._passes)
        return self._layers

    def _read_passes(self, prompts: Iterable[list[int]]) -> Iterator[tuple[list[int], list]]:
        import torch
        from transformers import DynamicCache

        kind, bytes_a_token = _kind(self._model), cache_shape(self._model).bytes_a_token
        budget = min(PREFILL_TOKENS[kind], CACHE_BYTES[kind] // 16 // bytes_a_token)
        for batch in _prompts_of_passes(prompts, self._most_at_once, budget):
            cache = DynamicCache()
            width = max(len(ids) for ids in batch)
            if width:
                # Padding stands on the right, where no earlier token can see it.
                padded = [ids + [0] * (width - len(ids)) for ids in batch]
                tensor = torch.tensor(padded, device=self._model.device)
                self._model(
                    input_ids=tensor, past_key_values=cache, use_cache=True, logits_to_keep=1
                )
            for row, ids in enumerate(batch):
                end = len(ids)
                layers = [
                    (layer.keys[row, :, :end], layer.values[row, :, :end]) for layer in cache.layers
                ]
                yield ids, layers


def _prompts_of_passes(
    prompts: Iterable[list[int]], most: int, n_tokens: int
) -> Iterator[list[list[int]]]:
    """Neighbours that are read together: at most so many, and at most so many tokens with their padding."""
    batch: list[list[int]] = []
    width = 0
    for ids in prompts:
        width = max(width, len(ids))
        if batch and (len(batch) == most or (len(batch) + 1) * width > n_tokens):
            yield batch
            batch, width = [], len(ids)
        batch.append(ids)
    yield batch


def _kind(model) -> str:
    return model.device.type if model.device.type in MOST_ROWS else "cpu"


def rows_that_fit(model, length: int) -> int:
    """How many samples of at most `length` tokens (with their prompts) are in work at once."""
    by_memory = CACHE_BYTES[_kind(model)] // (cache_shape(model).bytes_a_token * length)
    return max(1, min(MOST_ROWS[_kind(model)], by_memory))


def reach(model) -> float:
    """The longest text, in tokens, in which every layer attends to all that came before: of sliding windows their size,
    infinite without any, and 0 where a layer does something else (chunks, states)."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    kinds_of_layers = set(getattr(config, "layer_types", None) or ())
    if not kinds_of_layers and window:  # as Mistral's: every layer has it
        kinds_of_layers = {SLIDING}
    if kinds_of_layers - {FULL, SLIDING}:
        return 0
    return (window or 0) if SLIDING in kinds_of_layers else math.inf


def suits(model) -> bool:
    """Whether this decoding is right for a model within its `reach`: the logits after a step by step reading equal
    those of one whole pass (tried on two short texts of unequal length)."""
    import torch

    texts = [[5, 3, 4, 6, 3], [7, 4, 3]]
    if max(map(len, texts)) > reach(model):
        return False
    try:
        with torch.inference_mode():
            by_steps = _logits_by_steps(model, texts)
            device = by_steps.device
            at_once = [
                model(input_ids=torch.tensor([ids], device=device)).logits[0, -1] for ids in texts
            ]
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
    for a, b in zip(by_steps, at_once):
        is_close = (a - b).abs().max() <= tolerance * b.abs().max()  # False for NaN
        if not is_close:
            return False
    return True


def _logits_by_steps(model, texts: list[list[int]]):
    """Logits after each text, whose last two tokens are read one by one."""
    requests = [Request(("", "", i), ids[:-1], 0) for i, ids in enumerate(texts)]
    prompts = _Prompts(model, requests, len(texts))
    store, step = Store(model, len(texts), 2), stepper(model)
    branches = np.array([store.open(prompts.read(ids[:-2])) for ids in texts])
    for n_new, place in enumerate((-2, -1)):
        tokens = np.array([ids[place] for ids in texts])
        logits = step(tokens, branches, np.full(len(texts), n_new), store)
    return logits
