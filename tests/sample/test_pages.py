"""Samples of one problem share their prompt's page, and a row as long as they have drawn the same tokens."""

import numpy as np
import pytest
import torch
from test_continuous import TINY, random_model
from transformers import LlamaConfig, LlamaForCausalLM

from wcse_lib.sample.engines import Decoding, Request
from wcse_lib.sample.engines.continuous import decode
from wcse_lib.sample.engines.pages import OWN_TOKENS, Pages, Store

PROMPTS = [[2, 3, 4, 5, 6, 7], [9, 8]]
N_SAMPLES = 6


@pytest.fixture(scope="module")
def model():
    return random_model(LlamaForCausalLM, LlamaConfig(**TINY))


def rows_of_steps(model, decoding: Decoding) -> list[int]:
    """How many rows each step had that drew several samples of both prompts."""
    n_rows = []

    def note(_, args, named):
        shape = named["input_ids"].shape
        if "position_ids" in named:  # a step, not the reading of prompts
            n_rows.append(shape[0])

    hook = model.register_forward_pre_hook(note, with_kwargs=True)
    requests = [
        Request(("a", str(prompt), i), PROMPTS[prompt], 100 * prompt + i)
        for prompt in range(len(PROMPTS))
        for i in range(N_SAMPLES)
    ]
    drawn = list(decode(model, requests, decoding, set(), n_rows=8 * N_SAMPLES))
    hook.remove()
    assert len(drawn) == len(requests)
    return n_rows


def test_equal_samples_are_one_row(model):
    assert set(rows_of_steps(model, Decoding(0.0, max_tokens=20))) == {len(PROMPTS)}


def test_samples_part_where_their_tokens_differ(model):
    n_rows = rows_of_steps(model, Decoding(1.0, max_tokens=20))
    assert n_rows[0] == len(PROMPTS)
    assert n_rows == sorted(n_rows)
    assert n_rows[-1] > 5 * len(PROMPTS)


def filled(pages: Pages) -> Pages:
    """Every page's numbers are its own."""
    for tensor in (*pages.keys, *pages.values):
        tensor += torch.arange(len(tensor))[:, None, None, None]
    return pages


def test_pages_that_are_spread_too_far_move_to_the_front(model):
    pages = filled(Pages(model, 200, 4))
    table = np.array([[150, 3], [7, 0]])
    moved = pages.compact(table)
    assert moved.tolist() == [[3, 1], [2, 0]]
    assert pages.keys[0][:4, 0, 0, 0].tolist() == [0, 3, 7, 150]
    assert pages.compact(moved) is moved


def test_wider_pages_hold_what_they_held(model):
    pages = filled(Pages(model, 5, 4))
    pages.widen(40, n_in_use=3)
    assert pages.n_tokens == 48
    assert pages.values[1][:, 0, 3, 0].tolist() == [0, 1, 2, 0, 0]


def test_a_fork_remembers_the_same_in_pages_of_its_own(model):
    store = Store(model, 4, 3 * OWN_TOKENS)
    shape = store.own.shape
    read = torch.ones(shape.n_heads, 5, shape.head_size)
    branch = np.array([store.open([(read, read)] * shape.n_layers)])
    for n_new in (0, OWN_TOKENS):
        store.places(branch, np.array([n_new]))
    filled(store.own)
    (fork,) = store.fork(branch)
    assert store.prompt_pages[fork] == store.prompt_pages[branch]
    assert store.n_read[fork] == 5
    old, new = store.own_pages[branch[0], :2], store.own_pages[fork, :2]
    assert not set(old) & {0, *new}
    assert store.own.keys[0][new, 0, 0, 0].tolist() == old.tolist()

    store.close(branch)
    assert store.prompt_pages[fork] > 0
    assert store.own_pages[branch].max() == 0
