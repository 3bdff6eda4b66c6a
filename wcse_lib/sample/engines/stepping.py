"""One more token for many samples at once, by a model's own forward pass over pages of keys and values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from wcse_lib.sample.engines.compiling import Compiling
from wcse_lib.sample.engines.pages import Places, Store, Table

ATTENTION = "wcse_pages"  # the name under which transformers' layers find `attend`


class Seen(NamedTuple):
    """What stands for a layer's keys, or its values: those of pages in use, [pages, heads, tokens, head size]."""

    prompts: Any
    own: Any
    places: Places


def attend(module, query, keys, values, attention_mask, scaling=None, softcap=None, **_):
    """Attention of one token a row to its prompt and to its own tokens, in one softmax.

    Rows that share a page ask it together: it is read once, for all of them.
    """
    import torch

    places = keys.places
    n_rows, n_query_heads, _, size = query.shape
    n_heads = keys.own.shape[1]
    query = query.reshape(n_rows, n_heads, -1, size) * (size**-0.5 if scaling is None else scaling)
    to_prompts = _scores(query, keys.prompts, places.prompts)
    scores = torch.cat([to_prompts, _scores(query, keys.own, places.own)], -1)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    shares = torch.softmax(scores + places.hidden, -1).to(query.dtype)
    n_columns = to_prompts.shape[-1]
    output = _sums(shares[..., :n_columns], values.prompts, places.prompts)
    output = output + _sums(shares[..., n_columns:], values.own, places.own)
    return output.view(n_rows, 1, n_query_heads, size), None


def _scores(query, keys, table: Table):
    """Of queries [rows, heads, repeats, head size] and all tokens of their pages, [rows, heads, repeats, tokens]."""
    n_rows, n_heads, n_repeats, _ = query.shape
    found = _products(query.index_select(0, table.rows), keys.mT, table)
    of_rows = found.index_select(0, table.answers.flatten())
    return (
        of_rows.view(n_rows, -1, n_heads, n_repeats, keys.shape[2])
        .permute(0, 2, 3, 1, 4)
        .flatten(3)
    )


def _sums(shares, values, table: Table):
    """The values of pages, weighted by shares [rows, heads, repeats, tokens], for each row."""
    import torch

    by_page = shares.unflatten(-1, (-1, values.shape[2])).permute(0, 3, 1, 2, 4).flatten(0, 1)
    found = _products(by_page.index_select(0, table.turns), values, table)
    return torch.nn.functional.embedding_bag(table.answers, found, mode="sum")


def _products(asked, of_pages, table: Table):
    """[pages * lanes, heads, repeats, n] times [pages, heads, n, m], as [pages * lanes, heads * repeats * m]."""
    n_pages, n_heads = of_pages.shape[:2]
    by_lane = asked.unflatten(0, (n_pages, table.n_lanes))
    together = by_lane.transpose(1, 2).flatten(2, 3).flatten(0, 1)
    found = together.bmm(of_pages.flatten(0, 1))
    by_lane = found.view(n_pages, n_heads, table.n_lanes, -1).transpose(1, 2)
    return by_lane.reshape(n_pages * table.n_lanes, -1)


def stepper(model, compiling: Compiling | None = None) -> Callable:
    """The function that gives logits [rows, vocabulary] after one more token in each of some branches, its rows.

    Its arguments: the tokens, the branches, the numbers of their own tokens before, each [rows], and the store of keys
    and values, which it extends. `compiling`: which of the steps are compiled, for any number of rows and pages; none
    where it is left out.
    """
    import torch
    from transformers import AttentionInterface, Cache

    AttentionInterface.register(ATTENTION, attend)
    config = model.config.get_text_config()

    class PagesCache(Cache):
        """The pages in use, as transformers' layers ask for them and `attend` takes them."""

        def __init__(self, places: Places, keys: tuple, values: tuple):
            self.layers = []
            self.places, self.keys, self.values = places, keys, values

        def update(self, new_keys, new_values, layer, *_, **__):
            return self.seen(new_keys, self.keys, layer), self.seen(new_values, self.values, layer)

        def seen(self, new, pages: tuple, layer: int) -> Seen:
            prompts, own = (layers[layer] for layers in pages)
            size = own.shape[-1]
            own.view(-1, size).index_copy_(0, self.places.new, new.reshape(-1, size))
            n_prompts, n_own = self.places.prompts.n_pages, self.places.own.n_pages
            return Seen(prompts[:n_prompts], own[:n_own], self.places)

        def get_seq_length(self, *_):
            return self.places.hidden.shape[-1] - 1

    def forward(ids, places, keys, values):
        return model(
            input_ids=ids[:, None],
            position_ids=places.positions[:, None],
            past_key_values=PagesCache(places, keys, values),
            use_cache=True,
        ).logits[:, -1]

    compiling = compiling or Compiling(False)

    def step(tokens: np.ndarray, branches: np.ndarray, n_new: np.ndarray, store: Store):
        compiling.begin(len(tokens))
        n_rows = len(tokens)
        # Compiled code takes a size of 1 for a case of its own.
        least = 2 if compiling.is_on else 1
        if n_rows < least:
            tokens, branches, n_new = (np.repeat(one, least) for one in (tokens, branches, n_new))
        ids = torch.from_numpy(tokens).to(store.own.device)
        places = store.places(branches, n_new, least)
        keys = store.prompts.keys, store.own.keys
        values = store.prompts.values, store.own.values
        inputs = ids, places, keys, values
        usual = config._attn_implementation
        config._attn_implementation = ATTENTION
        try:
            logits = compiling.either(
                lambda: forward(*inputs),
                lambda: compiling.compiled(forward, dynamic=True)(*inputs),
            )
        finally:
            config._attn_implementation = usual
        return logits[:n_rows]

    return step
