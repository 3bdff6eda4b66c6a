"""Continuous batching over transformers' own forward pass: prompts are read once, finished samples leave at once."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import NamedTuple

import numpy as np

from wcse_lib.sample.engines import Decoding, Request
from wcse_lib.sample.engines.picking import pick

PREFILL_TOKENS = {"cpu": 4096, "cuda": 8192}  # of prompts read in one forward pass, at most
CACHE_BYTES = {"cpu": 2 << 30, "cuda": 16 << 30}  # of keys and values, unless rows are given
FULL, SLIDING = "full_attention", "sliding_attention"  # kinds of layers, as configs name them
MOST_ROWS = {"cpu": 96, "cuda": 512}  # more at once do not pay on one CPU core


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
    once, by memory when None; stopped: takes the tokens [rows, length] and lengths [rows] of samples, says which
    of them hold a stop string; step: the model's `stepper`.
    Every row keeps its own place in one preallocated cache; the samples of one problem share the reading of its prompt.
    """
    import torch

    # The samples of a problem stand side by side.
    waiting = deque(sorted(requests, key=lambda r: (len(r.prompt_ids), r.prompt_ids)))
    if not waiting:
        return
    length = len(waiting[-1].prompt_ids) + decoding.max_tokens
    n_rows = min(len(waiting), n_rows or rows_that_fit(model, length))
    prompts = _Prompts(model, list(waiting), n_rows)
    step = step or stepper(model)
    ends = np.array(sorted(end_ids), np.int64)
    with torch.inference_mode():
        rows = _Rows(model, n_rows, length, decoding.max_tokens)
        while waiting or rows.active.any():
            if waiting and rows.have_room():
                rows.take(waiting, prompts)
            elif not waiting and rows.are_mostly_free():
                rows.drop_free()
            logits = step(rows.last_tokens(), rows.positions(), rows.keys, rows.values)
            rows.append(pick(logits, decoding, rows.seeds, rows.n_new).cpu().numpy())
            for row in rows.finished(ends, stopped):
                yield rows.release(row)


class _Rows:
    """The samples in work, one a row: their tokens so far, and the keys and values of all that came before."""

    def __init__(self, model, n_rows: int, length: int, max_tokens: int):
        import torch

        self.requests: list[Request | None] = [None] * n_rows
        self.seeds = np.zeros(n_rows, np.uint64)
        self.n_prompt = np.zeros(n_rows, np.int64)
        self.n_new = np.zeros(n_rows, np.int64)
        # A row's tokens: the prompt's last, then the sample's.
        self.tokens = np.zeros((n_rows, max_tokens + 1), np.int64)
        self.active = np.zeros(n_rows, bool)
        self.free = list(range(n_rows))

        # One tensor [rows, heads, length, head size] a layer.
        shape = _cache_shape(model)
        size = (n_rows, shape.n_heads, length, shape.head_size)
        like = {"dtype": model.dtype, "device": model.device}
        self.keys = [torch.zeros(size, **like) for _ in range(shape.n_layers)]
        self.values = [torch.zeros(size, **like) for _ in range(shape.n_layers)]

    def have_room(self) -> bool:
        """Whether to take new samples: an eighth of the rows at a time, as reading prompts one by one costs more."""
        return len(self.free) >= max(1, len(self.requests) // 8) or not self.active.any()

    def take(self, waiting: deque[Request], prompts: _Prompts) -> None:
        """Put waiting samples into all free rows."""
        n = min(len(self.free), len(waiting))
        new = [waiting.popleft() for _ in range(n)]
        rows, self.free = self.free[:n], self.free[n:]
        for ids, group in groupby(zip(rows, new), key=lambda pair: pair[1].prompt_ids[:-1]):
            same_prompt = [row for row, _ in group]
            for layer, (keys, values) in enumerate(prompts.read(ids)):
                self.keys[layer][same_prompt, :, : len(ids)] = keys
                self.values[layer][same_prompt, :, : len(ids)] = values
        for row, request in zip(rows, new):
            self.requests[row] = request
            self.tokens[row, 0] = request.prompt_ids[-1]
        self.seeds[rows] = [request.seed for request in new]
        self.n_prompt[rows] = [len(request.prompt_ids) for request in new]
        self.n_new[rows] = 0
        self.active[rows] = True

    def are_mostly_free(self) -> bool:
        """Whether half of the rows are idle; a single row is not worth it, as it would be compiled anew."""
        return 1 < self.active.sum() <= len(self.active) // 2

    def drop_free(self) -> None:
        """Go on with the active rows only."""
        import torch

        live = np.flatnonzero(self.active)
        index = torch.from_numpy(live).to(self.keys[0].device)
        self.keys = [keys.index_select(0, index) for keys in self.keys]
        self.values = [values.index_select(0, index) for values in self.values]
        self.requests = [self.requests[row] for row in live]
        for name in ("seeds", "n_prompt", "n_new", "tokens", "active"):
            setattr(self, name, getattr(self, name)[live])
        self.free = []

    def last_tokens(self) -> np.ndarray:
        return self.tokens[np.arange(len(self.requests)), self.n_new]

    def positions(self) -> np.ndarray:
        """Of the last tokens in their texts; of idle rows 0, where nothing is harmed."""
        return np.where(self.active, self.n_prompt + self.n_new - 1, 0)

    def append(self, picked: np.ndarray) -> None:
        rows = np.flatnonzero(self.active)
        self.n_new[rows] += 1
        self.tokens[rows, self.n_new[rows]] = picked[rows]

    def finished(self, ends: np.ndarray, stopped: Callable | None) -> np.ndarray:
        """Active rows whose last token ends them, or whose length or text does."""
        rows = np.flatnonzero(self.active)
        n_new = self.n_new[rows]
        last = self.tokens[rows, n_new]
        done = (last[:, None] == ends).any(axis=1) | (n_new >= self.tokens.shape[1] - 1)
        if stopped is not None:
            done |= stopped(self.tokens[rows], n_new)
        return rows[done]

    def release(self, row: int) -> tuple[Request, list[int]]:
        """Free a row; returns its request and the sample's token ids."""
        request = self.requests[row]
        self.requests[row] = None
        self.active[row] = False
        self.free.append(int(row))
        return request, self.tokens[row, 1 : self.n_new[row] + 1].tolist()


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

        kind, bytes_a_token = _kind(self._model), _cache_shape(self._model).bytes_a_token
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


class _CacheShape(NamedTuple):
    n_layers: int
    n_heads: int
    head_size: int
    bytes_a_token: int  # keys and values of all layers


def _cache_shape(model) -> _CacheShape:
    config = model.config.get_text_config()
    n_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None)
    head_size = head_size or config.hidden_size // config.num_attention_heads
    n_layers = config.num_hidden_layers
    bytes_a_token = 2 * n_layers * n_heads * head_size * model.dtype.itemsize
    return _CacheShape(n_layers, n_heads, head_size, bytes_a_token)


def _kind(model) -> str:
    return model.device.type if model.device.type in MOST_ROWS else "cpu"


def rows_that_fit(model, length: int) -> int:
    """How many samples of at most `length` tokens (with their prompts) are in work at once."""
    by_memory = CACHE_BYTES[_kind(model)] // (_cache_shape(model).bytes_a_token * length)
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
    step = stepper(model)
    rows = _Rows(model, len(texts), 8, 2)
    rows.take(deque(requests), _Prompts(model, requests, len(texts)))
    step(rows.last_tokens(), rows.positions(), rows.keys, rows.values)
    rows.append(np.array([ids[-1] for ids in texts]))
    return step(rows.last_tokens(), rows.positions(), rows.keys, rows.values)


def stepper(model, compiled: bool = False) -> Callable:
    """The function that gives logits [rows, vocabulary] after one more token in every row, each at its own position.

    Its arguments: the tokens and their positions, each [rows], and all layers' keys and values, which it extends.
    `compiled`: by torch.compile, for any number of rows and positions.
    """
    import torch
    from transformers import Cache

    class RowsCache(Cache):
        """The rows' keys and values, as transformers' layers ask for them."""

        def __init__(self, keys, values, positions, width):
            self.layers = []
            self.keys, self.values, self.positions, self.width = keys, values, positions, width
            self.rows = torch.arange(len(positions), device=positions.device)

        def update(self, new_keys, new_values, layer, *_, **__):
            keys, values = self.keys[layer], self.values[layer]
            keys[self.rows, :, self.positions] = new_keys[:, :, 0]
            values[self.rows, :, self.positions] = new_values[:, :, 0]
            return keys[:, :, : self.width], values[:, :, : self.width]

        def get_seq_length(self, *_):
            return self.width - 1

    def forward(ids, positions, columns, keys, values):
        mask = torch.zeros(len(ids), len(columns), dtype=model.dtype, device=ids.device)
        later = columns > positions[:, None]
        mask = mask.masked_fill(later, torch.finfo(model.dtype).min)
        return model(
            input_ids=ids[:, None],
            position_ids=positions[:, None],
            attention_mask=mask[:, None, None],
            past_key_values=RowsCache(keys, values, positions, len(columns)),
            use_cache=True,
        ).logits[:, -1]

    if compiled:
        kept_by_processor()
        forward = torch.compile(forward, dynamic=True)

    def step(tokens: np.ndarray, positions: np.ndarray, keys: list, values: list):
        device = keys[0].device
        ids = torch.from_numpy(tokens).to(device)
        columns = torch.arange(int(positions.max()) + 1, device=device)
        return forward(ids, torch.from_numpy(positions).to(device), columns, keys, values)

    return step


def kept_by_processor() -> None:
    """Have PyTorch keep compiled code apart by instruction set: what one processor's run left in the cache is taken by
    another's (a cluster's shared folder, a moved image), and gives wrong numbers there (2.13)."""
    import torch

    torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()
