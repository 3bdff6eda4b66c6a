"""Continuous batching over transformers' own forward pass: prompts are read once, finished samples leave at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from wcse_lib.engines import Request, Sampling

PREFILL_TOKENS = 8192  # prompt tokens that are read in one forward pass
CACHE_BYTES = {"cpu": 2 << 30, "cuda": 16 << 30}  # at most for keys and values, unless a batch size is given
SLOTS = {"cpu": 96, "cuda": 512}  # more rows at once do not pay on one CPU core


def decode(
    model, requests: list[Request], sampling: Sampling, eos: set[int], n_slots: int | None = None, stopped=None
) -> Iterator[tuple[Request, list[int]]]:
    """Yield every request with its sampled token ids (the end token included), as soon as it is finished.

    Args: model: a causal language model whose layers all attend to everything (see `suits`); n_slots: samples in work
    at once, by memory when None; stopped: takes the last token ids of every row, says which rows hold a stop string.
    Every row keeps its own place in one preallocated cache; the samples of one problem share the reading of its prompt.
    """
    import torch

    queue = sorted(requests, key=lambda r: (len(r.prompt_ids), r.prompt_ids))  # the samples of a problem side by side
    if not queue:
        return
    length = len(queue[-1].prompt_ids) + sampling.max_tokens
    n = min(len(queue), n_slots or slots(model, length))
    keys, values = _cache_of(model, n, length)
    device = keys[0].device
    held: list[Request | None] = [None] * n
    seeds, n_prompt, n_out = np.zeros(n, np.uint64), np.zeros(n, np.int64), np.zeros(n, np.int64)
    tokens = np.zeros((n, sampling.max_tokens + 1), np.int64)  # the prompt's last token, then the sample's
    free, active, at = list(range(n)), np.zeros(n, bool), 0
    with torch.inference_mode():
        while at < len(queue) or active.any():
            if at < len(queue) and (len(free) >= max(1, n // 8) or not active.any()):
                new, at = queue[at : at + len(free)], at + len(free)
                rows, free = np.array(free[: len(new)]), free[len(new) :]
                _read(model, new, rows, keys, values)
                for row, request in zip(rows, new):
                    held[row], tokens[row, 0] = request, request.prompt_ids[-1]
                seeds[rows], n_out[rows], active[rows] = [r.seed for r in new], 0, True
                n_prompt[rows] = [len(r.prompt_ids) for r in new]
            elif at >= len(queue) and active.sum() <= len(active) // 2:  # the rest in fewer rows
                live = np.flatnonzero(active)
                index = torch.from_numpy(live).to(device)
                keys, values = ([x.index_select(0, index) for x in part] for part in (keys, values))
                held = [held[i] for i in live]
                seeds, n_prompt, n_out, tokens, active = (a[live] for a in (seeds, n_prompt, n_out, tokens, active))
                free = []
            scores = _step(model, keys, values, tokens[np.arange(len(held)), n_out], np.where(active, n_prompt + n_out - 1, 0))
            picked = pick(scores, sampling, seeds, n_out).cpu().numpy()
            rows = np.flatnonzero(active)
            n_out[rows] += 1
            tokens[rows, n_out[rows]] = picked[rows]
            done = np.isin(picked, list(eos)) | (n_out >= sampling.max_tokens)
            if stopped is not None:
                done[rows] |= stopped(tokens[rows], n_out[rows])
            for row in np.flatnonzero(done & active):
                yield held[row], tokens[row, 1 : n_out[row] + 1].tolist()
                active[row], held[row] = False, None
                free.append(int(row))


def pick(scores, sampling: Sampling, seeds: np.ndarray, position: np.ndarray | int):
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
    target = torch.from_numpy(uniform(seeds, position)).to(scores.device)[:, None] * cumulative[:, -1:]
    place = torch.searchsorted(cumulative, target, right=True).clamp(max=scores.shape[1] - 1)
    return (place if index is None else index.gather(1, place))[:, 0]


def uniform(seeds: np.ndarray, position: np.ndarray | int) -> np.ndarray:
    """One number in [0, 1) per seed and position: SplitMix64's finaliser over both (Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        z = seeds + (np.asarray(position).astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
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
            _read(model, requests, np.arange(2), keys, values)
            last = np.array([len(r.prompt_ids) for r in requests])
            _step(model, keys, values, np.array([r.prompt_ids[-1] for r in requests]), last - 1)
            found = _step(model, keys, values, np.array([ids[-1] for ids in texts]), last)
            whole = [model(input_ids=torch.tensor([ids], device=found.device)).logits[0, -1] for ids in texts]
    except (TypeError, ValueError, AttributeError, IndexError, RuntimeError):
        return False
    tolerance = 1e-3 if model.dtype == torch.float32 else 5e-2
    return all(bool((a - b).abs().max() <= tolerance * b.abs().max()) for a, b in zip(found, whole))


def _cache_of(model, n: int, length: int) -> tuple[list, list]:
    """Zeroed keys and values, one tensor [rows, heads, length, head size] a layer."""
    import torch

    layers, heads, size = _shape(model)
    make = [torch.zeros(n, heads, length, size, dtype=model.dtype, device=model.device) for _ in range(2 * layers)]
    return make[:layers], make[layers:]


def _shape(model) -> tuple[int, int, int]:
    c = model.config.get_text_config()
    heads = getattr(c, "num_key_value_heads", None) or c.num_attention_heads
    return c.num_hidden_layers, heads, getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads


def slots(model, length: int) -> int:
    """How many samples of at most `length` tokens (with their prompts) are in work at once."""
    layers, heads, size = _shape(model)
    kind = model.device.type if model.device.type in SLOTS else "cpu"
    a_row = 2 * layers * heads * size * length * model.dtype.itemsize
    return max(1, min(SLOTS[kind], CACHE_BYTES[kind] // a_row))


def _read(model, new: list[Request], rows: np.ndarray, keys: list, values: list) -> None:
    """Put the keys and values of the prompts (but for their last token) into the given rows; equal prompts once."""
    import torch
    from transformers import DynamicCache

    users: dict[tuple, list[int]] = {}
    for row, request in zip(rows, new):
        users.setdefault(tuple(request.prompt_ids[:-1]), []).append(int(row))
    prompts = [p for p in users if p]
    size = max(1, PREFILL_TOKENS // max(map(len, prompts), default=1))
    for start in range(0, len(prompts), size):
        part = prompts[start : start + size]
        width = max(map(len, part))
        # Padding stands on the right, where no earlier token can see it.
        ids = torch.tensor([[*p, *[0] * (width - len(p))] for p in part], device=keys[0].device)
        read = DynamicCache()
        model(input_ids=ids, past_key_values=read, use_cache=True, logits_to_keep=1)
        to = torch.tensor([row for p in part for row in users[p]], device=ids.device)
        source = torch.tensor([i for i, p in enumerate(part) for _ in users[p]], device=ids.device)
        for layer, (k, v) in enumerate(zip(keys, values)):
            k[to, :, :width] = read.layers[layer].keys.index_select(0, source)
            v[to, :, :width] = read.layers[layer].values.index_select(0, source)


def _step(model, keys: list, values: list, tokens: np.ndarray, position: np.ndarray):
    """Logits [rows, vocabulary] after one more token in every row, each at its own position."""
    import torch
    from transformers import Cache

    device = keys[0].device
    at, rows = torch.from_numpy(position).to(device), torch.arange(len(position), device=device)
    width = int(position.max()) + 1

    class Slots(Cache):
        def __init__(self):
            self.layers = []

        def update(self, k, v, layer, *_, **__):
            keys[layer][rows, :, at], values[layer][rows, :, at] = k[:, :, 0], v[:, :, 0]
            return keys[layer][:, :, :width], values[layer][:, :, :width]

        def get_seq_length(self, *_):
            return width - 1

    mask = torch.zeros(len(position), width, dtype=model.dtype, device=device)
    mask.masked_fill_(torch.arange(width, device=device)[None] > at[:, None], torch.finfo(model.dtype).min)
    return model(
        input_ids=torch.from_numpy(tokens).to(device)[:, None],
        position_ids=at[:, None],
        attention_mask=mask[:, None, None],
        past_key_values=Slots(),
        use_cache=True,
    ).logits[:, -1]
