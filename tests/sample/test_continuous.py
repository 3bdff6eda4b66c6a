"""Continuous batching draws what transformers' own generation draws, sample by sample."""

import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny import SHAPE
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from wcse_lib.nano import MODELS, make_problems
from wcse_lib.sample.engines import Decoding, Request, compiling
from wcse_lib.sample.engines.compiling import Compiling
from wcse_lib.sample.engines.continuous import decode, reach, suits
from wcse_lib.sample.engines.hf import HFEngine
from wcse_lib.sample.engines.stepping import stepper
from wcse_lib.sample.prompts import load_tokenizer, prompt_ids
from wcse_lib.study import Prompt

TINY = SHAPE | dict(
    vocab_size=64, num_attention_heads=4, initializer_range=0.3, eos_token_id=1, pad_token_id=0
)
FULL_ATTENTION = {
    "llama": (LlamaForCausalLM, LlamaConfig(**TINY)),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(**TINY)),
    "mistral": (MistralForCausalLM, MistralConfig(**TINY, sliding_window=None)),
}
WINDOW = 40
SLIDING = {
    "gemma2": (Gemma2ForCausalLM, Gemma2Config(**TINY, head_dim=8, sliding_window=WINDOW)),
    "gemma3": (Gemma3ForCausalLM, Gemma3TextConfig(**TINY, head_dim=8, sliding_window=WINDOW)),
    "mistral": (MistralForCausalLM, MistralConfig(**TINY, sliding_window=WINDOW)),
}
GREEDY = Decoding(0.0, max_tokens=30)
SAMPLED = Decoding(0.7, 3, 1.0, 30)

needs_compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler"
)


@pytest.fixture(scope="module")
def nano():
    """The model, and what gives n samples of some nano problems."""
    folder = str(MODELS / "nano-student")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)

    def requests_of(n_problems: int, n: int) -> list[Request]:
        requests = []
        for place, row in enumerate(make_problems(n_problems, "decoding", (1, 2, 3))):
            ids = prompt_ids(tokenizer, row["question"], Prompt())
            for i in range(n):
                requests.append(Request(("a", row["problem_id"], i), ids, 1000 * place + i))
        return requests

    model.ends = {tokenizer.eos_token_id}
    return model, requests_of


def samples(model, requests, decoding, **settings) -> dict[tuple, list[int]]:
    drawn = decode(model, requests, decoding, settings.pop("ends", model.ends), **settings)
    return {request.key: ids for request, ids in drawn}


def greedy_by_generate(model, ids: list[int]) -> list[int]:
    prompt = torch.tensor([ids])
    mask = torch.ones_like(prompt)
    whole = model.generate(prompt, attention_mask=mask, do_sample=False, max_new_tokens=30)
    return whole[0, len(ids) :].tolist()


class NoTokenizer:
    eos_token_id, pad_token_id, added_tokens_decoder = 1, 0, {}


def random_model(make, config):
    torch.manual_seed(0)
    return make(config).eval()


def draws_as_generate_does(model) -> None:
    prompts = [[2, 3, 4, 5, 6, 7], [9, 8], [11], [12, 13, 14]]
    requests = [Request(("a", str(i), 0), ids, i) for i, ids in enumerate(prompts)]
    for request, ids in decode(model, requests, GREEDY, {1}, 3):
        assert ids == greedy_by_generate(model, request.prompt_ids)


@pytest.mark.parametrize("n_rows", [2, 5, 64])
def test_a_sample_does_not_depend_on_its_neighbours(nano, n_rows):
    model, requests_of = nano
    requests, alone = requests_of(4, 3), {}
    for request in requests:
        alone |= samples(model, [request], SAMPLED)
    assert samples(model, requests, SAMPLED, n_rows=n_rows) == alone


def test_greedy_equals_generate(nano):
    model, requests_of = nano
    for request, ids in decode(model, requests_of(12, 1), GREEDY, model.ends, 5):
        assert ids == greedy_by_generate(model, request.prompt_ids)


@pytest.fixture
def shapes_read(nano):
    """[rows, width] of every forward pass of the nano model."""
    shapes = []

    def note(_, args, named):
        shapes.append(tuple(named["input_ids"].shape))

    hook = nano[0].register_forward_pre_hook(note, with_kwargs=True)
    yield shapes
    hook.remove()


def test_every_prompt_is_read_once_and_no_more_at_once_than_rows(nano, shapes_read):
    """So that fewer rows, after running out of memory, also need less for reading."""
    model, requests_of = nano
    samples(model, requests_of(12, 2), Decoding(0.0, max_tokens=3), n_rows=4)
    assert max(n_rows for n_rows, _ in shapes_read) == 4
    assert sum(n_rows for n_rows, width in shapes_read if width > 1) == 12


@needs_compiler
def test_compiled_steps_draw_the_same_samples(nano):
    """On all but a few samples, where a rounding of the last bit may turn a draw."""
    model, requests_of = nano
    requests = requests_of(20, 5)
    plain = samples(model, requests, SAMPLED, n_rows=24)
    step = stepper(model, Compiling(True))
    compiled = samples(model, requests, SAMPLED, n_rows=24, step=step)
    assert plain.keys() == compiled.keys()
    assert sum(plain[key] == compiled[key] for key in plain) >= 98


@needs_compiler
@pytest.mark.slow
def test_a_trial_amid_the_work_draws_the_same_samples(nano, monkeypatch):
    monkeypatch.setattr(compiling, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(compiling, "LEAST_SECONDS", 0.0)
    model, requests_of = nano
    requests = requests_of(40, 5)
    plain = samples(model, requests, SAMPLED, n_rows=24)
    choice = Compiling("auto")
    choice.expect(len(requests))
    tried = {}
    step = stepper(model, choice)
    for request, ids in decode(model, requests, SAMPLED, model.ends, n_rows=24, step=step):
        tried[request.key] = ids
        choice.n_done += 1
    assert sum(plain[key] == tried[key] for key in plain) >= 196
    assert re.match(r"(not )?compiled, by a trial: \d+\.\d\d times as fast; \d+ s of", choice.note)


@needs_compiler
@pytest.mark.slow
def test_code_that_another_processor_left_in_the_cache_is_not_taken(tmp_path):
    """Compiled for this processor first, then for one without its vectors, into one cache folder."""
    name = test_compiled_steps_draw_the_same_samples.__name__
    command = [sys.executable, "-m", "pytest", __file__, "-k", name]
    for capability in ({}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"ATEN_CPU_CAPABILITY": "default"}):
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)} | capability
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{capability}: {done.stdout[-3000:]}"


def test_the_first_token_has_the_models_distribution(nano):
    """By chi-square; tokens that are expected fewer than five times are one class."""
    model, requests_of = nano
    (request,) = requests_of(1, 1)
    ids, n = request.prompt_ids, 3000
    requests = [Request(("a", "p", i), ids, i * 7919) for i in range(n)]
    drawn = samples(model, requests, Decoding(1.5, 0, 1.0, 1), ends=set(), n_rows=500)
    with torch.inference_mode():
        logits = model(torch.tensor([ids])).logits[0, -1]
    p = torch.softmax(logits / 1.5, -1).numpy()
    counts = np.bincount([first for (first,) in drawn.values()], minlength=len(p))
    is_big = p > 5 / n
    expected = np.append(p[is_big], p[~is_big].sum()) * n
    observed = np.append(counts[is_big], counts[~is_big].sum())
    chi2 = ((observed - expected) ** 2 / np.maximum(expected, 1e-9)).sum()
    assert chi2 < is_big.sum() + 4 * np.sqrt(2 * is_big.sum())


@pytest.mark.parametrize("kind", FULL_ATTENTION)
def test_architectures_with_full_attention_suit_and_agree(kind):
    model = random_model(*FULL_ATTENTION[kind])
    assert suits(model) and reach(model) == np.inf
    draws_as_generate_does(model)


@pytest.mark.parametrize("kind", SLIDING)
def test_sliding_windows_suit_as_long_as_texts_are_no_longer(kind, monkeypatch):
    model = random_model(*SLIDING[kind])
    assert suits(model) and reach(model) == WINDOW
    draws_as_generate_does(model)

    engine = HFEngine(model, tokenizer=NoTokenizer())
    monkeypatch.setattr(engine, "_output", lambda request, ids, *_: ids)
    steps, forward = [], engine.step
    monkeypatch.setattr(engine, "step", lambda *args: steps.append(1) or forward(*args))
    for n_prompt, is_continuous in ((WINDOW - 30, True), (WINDOW - 29, False)):
        steps.clear()
        prompt = [2 + i % 9 for i in range(n_prompt)]
        (ids,) = engine.generate([Request(("a", "p", 0), prompt, 0)], GREEDY)
        assert bool(steps) == is_continuous
        assert ids == greedy_by_generate(model, prompt)


def test_a_model_whose_steps_disagree_does_not_suit(nano):
    model, _ = nano

    class Wrong(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config = model, model.config
            self.dtype, self.device = model.dtype, model.device

        def forward(self, **inputs):
            inputs.pop("position_ids", None)
            outputs = self.inner(**inputs)
            if "attention_mask" in inputs:
                outputs.logits = outputs.logits.flip(-1)
            return outputs

    assert not suits(Wrong())


def test_without_an_end_a_sample_has_its_full_length(nano):
    model, requests_of = nano
    (ids,) = samples(model, requests_of(1, 1), GREEDY, ends=set()).values()
    assert len(ids) == 30


def test_a_sample_ends_where_a_stop_is_found(nano):
    model, requests_of = nano
    (whole,) = samples(model, requests_of(1, 1), GREEDY, ends=set()).values()

    def stopped(tokens, n_new):
        return tokens[np.arange(len(tokens)), n_new] == whole[4]

    (cut,) = samples(model, requests_of(1, 1), GREEDY, ends=set(), stopped=stopped).values()
    assert cut == whole[: whole.index(whole[4]) + 1]
