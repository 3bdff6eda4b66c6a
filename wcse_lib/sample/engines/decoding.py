"""Continuous batching over transformers' own forward pass: prompts are read once, finished samples leave at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import groupby

import numpy as np

from wcse_lib.sample.engines import Decoding, Request

PREFILL_TOKENS = {
    "cpu": 4096,
    "cuda": 8192,
}  # prompt tokens that are read in one forward pass, at most
CACHE_BYTES = {
    "cpu": 2 << 30,
    "cuda": 16 << 30,
}  # at most for keys and values, unless a batch size is given
SLOTS = {"cpu": 96, "cuda": 512}  # more rows at once do not pay on one CPU core


def decode(
    model,
    requests: list[Request],
    sampling: Decoding,
    eos: set[int],
    n_slots: int | None = None,
    stopped: Callable | None = None,
    step: Callable | None = None,
) -> Iterator[tuple[Request, list[int]]]:
    """Yield every request with its sampled token ids (the end token included), as soon as it is finished.

    Args: model: a causal language model whose layers all attend to everything (see `suits`); n_slots: samples in work
    at once, by memory when None; stopped: takes the last token ids of every row, says which rows hold a stop string;
    step: the model's `stepper`.
    Every row keeps its own place in one preallocated cache; the samples of one problem share the reading of its prompt.
    """
    import torch

    queue = sorted(
        requests, key=lambda r: (len(r.prompt_ids), r.prompt_ids)
    )  # the samples of a problem side by side
    if not queue:
        return
    length = len(queue[-1].prompt_ids) + sampling.max_tokens
    n = min(len(queue), n_slots or slots(model, length))
    device, ends = model.device, np.array(sorted(eos), np.int64)
    prompts, prompt, step = _read(model, queue, n), (None, []), step or stepper(model)
    held: list[Request | None] = [None] * n
    seeds, n_prompt, n_out = np.zeros(n, np.uint64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    tokens = np.zeros(
        (n, sampling.max_tokens + 1), np.int64
    )  # the prompt's last token, then the sample's
    free, active, at = list(range(n)), np.zeros(n, bool), 0
    with torch.inference_mode():
        keys, values = _cache_of(model, n, length)
        while at < len(queue) or active.any():
            if at < len(queue) and (len(free) >= max(1, n // 8) or not active.any()):
                new, at = queue[at : at + len(free)], at + len(free)
                rows, free = np.array(free[: len(new)]), free[len(new) :]
                prompt = _fill(new, rows, keys, values, prompts, prompt)
                for row, request in zip(rows, new):
                    held[row], tokens[row, 0] = request, request.prompt_ids[-1]
                seeds[rows], n_out[rows], active[rows] = [r.seed for r in new], 0, True
                n_prompt[rows] = [len(r.prompt_ids) for r in new]
            elif (
                at >= len(queue) and 1 < active.sum() <= len(active) // 2
            ):  # the rest in fewer rows; one would compile anew
                live = np.flatnonzero(active)
                index = torch.from_numpy(live).to(device)
                keys, values = ([x.index_select(0, index) for x in part] for part in (keys, values))
                held = [held[i] for i in live]
                seeds, n_prompt, n_out, tokens, active = (
                    a[live] for a in (seeds, n_prompt, n_out, tokens, active)
                )
                free = []
            scores = step(
                tokens[np.arange(len(held)), n_out],
                np.where(active, n_prompt + n_out - 1, 0),
                keys,
                values,
            )
            picked = pick(scores, sampling, seeds, n_out).cpu().numpy()
            rows = np.flatnonzero(active)
            n_out[rows] += 1
            tokens[rows, n_out[rows]] = picked[rows]
            done = (picked[:, None] == ends).any(axis=1) | (n_out >= sampling.max_tokens)
            if stopped is not None:
                done[rows] |= stopped(tokens[rows], n_out[rows])
            for row in np.flatnonzero(done & active):
                yield held[row], tokens[row, 1 : n_out[row] + 1].tolist()
                active[row], held[row] = False, None
                free.append(int(row))


def pick(scores, sampling: Decoding, seeds: np.ndarray, position: np.ndarray | int):
    """One token per row: the likeliest at temperature 0, else drawn by the row's own stream at its position.

    Temperature and top-p are transformers' own; the draw inverts the cumulative distribution in double precision.
    """
    import torch
    from transformers.generation.logits_process import TemperatureLogitsWarper, TopPLogitsWarper

    if sampling.temperature == 0:
        return scores.argmax(-1)
    scores = TemperatureLogitsWarper(float(sampling.temperature))(None, scores.float())
    index = None
    if 0 < sampling.top_k < scores.shape[1]:
        index = scores.topk(sampling.top_k).indices.sort().values
        scores = scores.gather(1, index)
    if sampling.top_p < 1:
        scores = TopPLogitsWarper(sampling.top_p)(None, scores)
    cumulative = torch.softmax(scores.double(), dim=-1).cumsum(-1)
    target = (
        torch.from_numpy(uniform(seeds, position)).to(scores.device)[:, None] * cumulative[:, -1:]
    )
    place = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[1] - 1)
    return (place if index is None else index.gather(1, place))[:, 0]


def uniform(seeds: np.ndarray, position: np.ndarray | int) -> np.ndarray:
    """One number in [0, 1) per seed and position: SplitMix64's finaliser over both (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = seeds + (np.asarray(position).astype(np.uint64) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15
        )
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(11)).astype(np.float64) / float(1 << 53)


def suits(model) -> bool:
    """Whether this decoding is right for a model: every layer attends to all that came before, and the logits after a
    step by step reading equal those of one whole pass (tried on two short texts of unequal length)."""
    import torch

    config = model.config.get_text_config()
    if any(kind != "full_attention" for kind in getattr(config, "layer_types", None) or []):
        return False
    texts = [[5, 3, 4, 6, 3], [7, 4, 3]]
    requests = [Request(("", "", i), ids[:-1], 0) for i, ids in enumerate(texts)]
    try:
        with torch.inference_mode():
            keys, values = _cache_of(model, 2, 8)
            _fill(requests, np.arange(2), keys, values, _read(model, requests, 2), (None, []))
            last = np.array([len(r.prompt_ids) for r in requests])
            step = stepper(model)
            step(np.array([r.prompt_ids[-1] for r in requests]), last - 1, keys, values)
            found = step(np.array([ids[-1] for ids in texts]), last, keys, values)
            whole = [
                model(input_ids=torch.tensor([ids], device=found.device)).logits[0, -1]
                for ids in texts
            ]
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
    return all(bool((a - b).abs().max() <= tolerance * b.abs().max()) for a, b in zip(found, whole))


def _cache_of(model, n: int, length: int) -> tuple[list, list]:
    """Zeroed keys and values, one tensor [rows, heads, length, head size] a layer."""
    import torch

    layers, heads, size = _shape(model)
    make = [
        torch.zeros(n, heads, length, size, dtype=model.dtype, device=model.device)
        for _ in range(2 * layers)
    ]
    return make[:layers], make[layers:]


def _shape(model) -> tuple[int, int, int]:
    c = model.config.get_text_config()
    heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    return (
        c.num_hidden_layers,
        heads,
        getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads,
    )


def slots(model, length: int) -> int:
    """How many samples of at most `length` tokens (with their prompts) are in work at once."""
    layers, heads, size = _shape(model)
    a_row = 2 * layers * heads * size * length * model.dtype.itemsize
    return max(1, min(SLOTS[_kind(model)], CACHE_BYTES[_kind(model)] // a_row))


def _kind(model) -> str:
    return model.device.type if model.device.type in SLOTS else "cpu"


def _read(model, queue: list[Request], most: int) -> Iterator[tuple[list[int], list]]:
    """Yield every prompt of the queue, but for its last token, with its keys and values of every layer; equal neighbours
    once. Up to `most` are read in one pass, those to come among them: short prompts one by one cost as much as long ones."""
    import torch
    from transformers import DynamicCache

    prompts = [ids for ids, _ in groupby(r.prompt_ids[:-1] for r in queue)]
    layers, heads, size = _shape(model)
    kind, a_token = _kind(model), 2 * layers * heads * size * model.dtype.itemsize
    budget, at = min(PREFILL_TOKENS[kind], CACHE_BYTES[kind] // 16 // a_token), 0
    while at < len(prompts):
        width, n = len(prompts[at]), 1
        while (
            n < most
            and at + n < len(prompts)
            and (n + 1) * max(width, len(prompts[at + n])) <= budget
        ):
            width, n = max(width, len(prompts[at + n])), n + 1
        part, at = prompts[at : at + n], at + n
        read = DynamicCache()
        if width:
            # Padding stands on the right, where no earlier token can see it.
            ids = torch.tensor([[*p, *[0] * (width - len(p))] for p in part], device=model.device)
            model(input_ids=ids, past_key_values=read, use_cache=True, logits_to_keep=1)
        for i, p in enumerate(part):
            yield (
                p,
                [
                    (layer.keys[i, :, : len(p)], layer.values[i, :, : len(p)])
                    for layer in read.layers
                ],
            )


def _fill(
    new: list[Request], rows: np.ndarray, keys: list, values: list, prompts: Iterator, prompt: tuple
) -> tuple:
    """Put the prompts of new requests into the given rows; returns the last one, whose samples may go on in the next call."""
    for ids, group in groupby(zip(rows, new), lambda pair: pair[1].prompt_ids[:-1]):
        prompt, to = prompt if prompt[0] == ids else next(prompts), [int(row) for row, _ in group]
        for k, v, (ks, vs) in zip(keys, values, prompt[1]):
            k[to, :, : len(ids)], v[to, :, : len(ids)] = ks, vs
    return prompt


def kept_by_processor() -> None:
    """Have PyTorch keep compiled code apart by instruction set: what one processor's run left in the cache is taken by
    another's (a cluster's shared folder, a moved image), and gives wrong numbers there (2.13)."""
    import torch

    torch.compiler.config.cache_key_tag = torch.backends.cpu.get_cpu_capability()


def stepper(model, compiled: bool = False) -> Callable:
    """The function that gives logits [rows, vocabulary] after one more token in every row, each at its own position.

    Its arguments: the tokens and their positions, each (rows,), and all layers' keys and values, which it extends.
    `compiled`: by torch.compile, for any number of rows and positions.
    """
    import torch
    from transformers import Cache

    class Slots(Cache):
        def __init__(self, keys, values, at, width):
            self.layers = []
            self.keys, self.values, self.at, self.width = keys, values, at, width
            self.rows = torch.arange(len(at), device=at.device)

        def update(self, k, v, layer, *_, **__):
            for known, new in ((self.keys[layer], k), (self.values[layer], v)):
                known[self.rows, :, self.at] = new[:, :, 0]
            return self.keys[layer][:, :, : self.width], self.values[layer][:, :, : self.width]

        def get_seq_length(self, *_):
            return self.width - 1

    def forward(ids, at, columns, keys, values):
        mask = torch.zeros(len(ids), len(columns), dtype=model.dtype, device=ids.device)
        mask = mask.masked_fill(columns > at[:, None], torch.finfo(model.dtype).min)
        return model(
            input_ids=ids[:, None],
            position_ids=at[:, None],
            attention_mask=mask[:, None, None],
            past_key_values=Slots(keys, values, at, len(columns)),
            use_cache=True,
        ).logits[:, -1]

    if compiled:
        kept_by_processor()
        forward = torch.compile(forward, dynamic=True)

    def step(tokens: np.ndarray, position: np.ndarray, keys: list, values: list):
        ids, at = (torch.from_numpy(x).to(keys[0].device) for x in (tokens, position))
        return forward(
            ids, at, torch.arange(int(position.max()) + 1, device=at.device), keys, values
        )

    return step
