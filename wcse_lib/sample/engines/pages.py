"""Keys and values of samples in work, in pages: a prompt's one page for all its samples, and those of what follows."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

OWN_TOKENS = 16  # of a page behind a prompt: what is read is rounded up to this
WIDTHS = 16  # the pages of prompts hold a multiple of this
SPREAD = 16  # pages that may lie idle among those in use, besides as many as are in use


class CacheShape(NamedTuple):
    n_layers: int
    n_heads: int
    head_size: int
    bytes_a_token: int  # keys and values of all layers


def cache_shape(model) -> CacheShape:
    """What a model keeps of every token."""
    config = model.config.get_text_config()
    n_heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    head_size = getattr(config, "head_dim", None)
    head_size = head_size or config.hidden_size // config.num_attention_heads
    n_layers = config.num_hidden_layers
    bytes_a_token = 2 * n_layers * n_heads * head_size * model.dtype.itemsize
    return CacheShape(n_layers, n_heads, head_size, bytes_a_token)


class Pages:
    """Keys and values of every layer, each [pages, heads, tokens, head size]. Page 0 stays zeros.

    Pages in use stand side by side: what a step reads is short, and a processor's caches hold it.
    """

    def __init__(self, model, n_pages: int, n_tokens: int):
        self.shape = cache_shape(model)
        self._like = {"dtype": model.dtype, "device": model.device}
        self.keys = self._zeros(n_pages, n_tokens)
        self.values = self._zeros(n_pages, n_tokens)

    def _zeros(self, n_pages: int, n_tokens: int) -> list:
        import torch

        size = (n_pages, self.shape.n_heads, n_tokens, self.shape.head_size)
        return [torch.zeros(size, **self._like) for _ in range(self.shape.n_layers)]

    @property
    def device(self):
        return self._like["device"]

    @property
    def n_tokens(self) -> int:
        return self.keys[0].shape[2]

    def write(self, page: int, layers: list) -> None:
        """Fill a page with keys and values, each [heads, tokens, head size], of every layer."""
        n_tokens = layers[0][0].shape[1]
        for (keys, values), all_keys, all_values in zip(layers, self.keys, self.values):
            all_keys[page, :, :n_tokens] = keys
            all_values[page, :, :n_tokens] = values

    def widen(self, n_tokens: int, n_in_use: int) -> None:
        """Have every page hold so many tokens at least; only the first pages are in use."""
        if n_tokens <= self.n_tokens:
            return
        n_pages, before = len(self.keys[0]), self.n_tokens
        for name in ("keys", "values"):
            wide = self._zeros(n_pages, -(-n_tokens // WIDTHS) * WIDTHS)
            for new, old in zip(wide, getattr(self, name)):
                new[:n_in_use, :, :before] = old[:n_in_use]
            setattr(self, name, wide)

    def copy(self, pages: np.ndarray, to: np.ndarray) -> None:
        import torch

        source, target = (torch.from_numpy(index).to(self.device) for index in (pages, to))
        for tensor in (*self.keys, *self.values):
            tensor.index_copy_(0, target, tensor.index_select(0, source))

    def compact(self, table: np.ndarray) -> np.ndarray:
        """Move a table's pages to the front where they are spread too far; returns the table with their new places."""
        in_use = np.unique(np.append(table, 0))
        if in_use[-1] < 2 * len(in_use) + SPREAD:
            return table
        self.copy(in_use, np.arange(len(in_use)))
        return np.searchsorted(in_use, table)


class Table(NamedTuple):
    """Which rows of a step ask which pages: the way from rows to pages and back.

    A page is asked in lanes, one for each row that shares it; a row's pages are counted in its own order.
    """

    rows: Any  # [pages * lanes] who asks, in each lane of each page; filled up with any row
    turns: Any  # [pages * lanes] rows * most + the page's place in its row's order
    answers: (
        Any  # [rows, most] pages * lanes + the row's lane; filled up with lanes of the empty page 0
    )
    n_lanes: int

    @property
    def n_pages(self) -> int:
        return len(self.rows) // self.n_lanes


class Places(NamedTuple):
    """Where the rows of one step look and write."""

    positions: Any  # [rows] of the new tokens in their texts
    new: Any  # [rows * heads] places of the new tokens among all that own pages hold
    hidden: Any  # [rows, 1, 1, columns] minus infinity at what a row does not see: its prompt's columns, then its own
    prompts: Table
    own: Table


class Store:
    """What branches remember: their prompts' pages and their own.

    A branch, a number, is a sequence of tokens behind a prompt; branches may share a prompt's page, which is never 0.
    """

    def __init__(self, model, n_branches: int, max_tokens: int):
        most = max(2, -(-max_tokens // OWN_TOKENS))
        self.prompts = Pages(model, n_branches + 1, WIDTHS)
        self.own = Pages(model, n_branches * most + 1, OWN_TOKENS)
        self.n_read = np.zeros(n_branches, np.int64)  # tokens of prompts
        self.prompt_pages = np.zeros(n_branches, np.int64)
        self.own_pages = np.zeros((n_branches, most), np.int64)  # filled up with 0

    def open(self, layers: list) -> int:
        """A new branch behind a prompt's keys and values, each [heads, tokens, head size], of every layer."""
        (branch,) = self._free_branches(1)
        (page,) = _unused(self.prompt_pages, 1)
        n_read = layers[0][0].shape[1]
        self.prompts.widen(n_read, self.prompt_pages.max() + 1)
        self.prompts.write(page, layers)
        self.prompt_pages[branch] = page
        self.n_read[branch] = n_read
        return branch

    def fork(self, branches: np.ndarray) -> np.ndarray:
        """As many new branches that remember the same."""
        new = self._free_branches(len(branches))
        self.prompt_pages[new] = self.prompt_pages[branches]
        self.n_read[new] = self.n_read[branches]
        own = self.own_pages[branches]
        copies = np.zeros_like(own)
        copies[own > 0] = _unused(self.own_pages, np.count_nonzero(own))
        self.own_pages[new] = copies
        self.own.copy(own[own > 0], copies[own > 0])
        return new

    def close(self, branches: np.ndarray) -> None:
        """Forget these branches."""
        self.prompt_pages[branches] = 0
        self.own_pages[branches] = 0
        self.prompt_pages = self.prompts.compact(self.prompt_pages)
        self.own_pages = self.own.compact(self.own_pages)

    def _free_branches(self, n: int) -> np.ndarray:
        return np.flatnonzero(self.prompt_pages == 0)[:n]

    def places(self, branches: np.ndarray, n_new: np.ndarray, least: int = 1) -> Places:
        """For one more token in each of these branches, its rows, behind so many of its own, [rows].

        `least`: own pages and lanes that the tables have at least.
        """
        import torch

        order, offset = np.divmod(n_new, OWN_TOKENS)
        begin = self.own_pages[branches, order] == 0
        self.own_pages[branches[begin], order[begin]] = _unused(self.own_pages, begin.sum())
        own_pages, prompt_pages = self.own_pages[branches], self.prompt_pages[branches]
        n_read = self.n_read[branches]

        n_heads = self.own.shape.n_heads
        page = own_pages[np.arange(len(branches)), order]
        heads = page[:, None] * n_heads + np.arange(n_heads)
        new = heads * OWN_TOKENS + offset[:, None]

        own_pages = np.ascontiguousarray(own_pages[:, : max(least, order.max() + 1)])
        of_prompts = np.arange(self.prompts.n_tokens) >= n_read[:, None]
        of_own = np.arange(own_pages.shape[1] * OWN_TOKENS) > n_new[:, None]
        is_hidden = np.concatenate([of_prompts, of_own], axis=1)
        hidden = np.where(is_hidden, np.float32(-np.inf), np.float32(0))

        def tensor(array: np.ndarray):
            return torch.from_numpy(array).to(self.own.device)

        def on_device(table: Table) -> Table:
            return Table(*map(tensor, table[:3]), table.n_lanes)

        return Places(
            tensor(n_read + n_new),
            tensor(new.reshape(-1)),
            tensor(hidden[:, None, None]),
            on_device(shared_table(prompt_pages, least)),
            on_device(own_table(own_pages)),
        )


def _unused(table: np.ndarray, n: int) -> np.ndarray:
    """The first pages, but 0, that a table of pages in use does not hold."""
    in_use = np.zeros(table.size + n + 1, bool)
    in_use[table] = True
    in_use[0] = True
    return np.flatnonzero(~in_use)[:n]


def shared_table(pages: np.ndarray, least: int = 1) -> Table:
    """Of rows with one page each, [rows], which several may share, in as many lanes at least.

    >>> shared_table(np.array([2, 1, 2])).rows.tolist()
    [0, 0, 1, 0, 0, 2]
    """
    n_rows, counts = len(pages), np.bincount(pages)
    by_page = np.argsort(pages, kind="stable")
    lanes = np.empty(n_rows, np.int64)
    lanes[by_page] = np.arange(n_rows) - np.repeat(np.cumsum(counts) - counts, counts)
    n_lanes = max(least, counts.max())
    answers = pages * n_lanes + lanes
    rows = np.zeros(len(counts) * n_lanes, np.int64)
    rows[answers] = np.arange(n_rows)
    return Table(rows, rows, answers[:, None], int(n_lanes))


def own_table(pages: np.ndarray) -> Table:
    """Of rows with several pages each, [rows, most], where 0 is none, and no page is shared.

    >>> own_table(np.array([[1, 3], [2, 0]])).turns.tolist()
    [0, 0, 2, 1]
    """
    rows, order = np.nonzero(pages)
    turns = np.zeros(pages.max() + 1, np.int64)
    turns[pages[rows, order]] = rows * pages.shape[1] + order
    return Table(turns // pages.shape[1], turns, pages, 1)
