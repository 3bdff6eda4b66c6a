"""Continuous batching draws what transformers' own generation draws, sample by sample."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from wcse_lib.nano import MODELS
from wcse_lib.nano.world import make_problems
from wcse_lib.sample.engines import Decoding, Request
from wcse_lib.sample.engines.continuous import decode, stepper, suits
from wcse_lib.sample.engines.picking import pick, uniform
from wcse_lib.sample.prompts import load_tokenizer, prompt_ids
from wcse_lib.study import Prompt

TINY = dict(
    vocab_size=64,
    hidden_size=32,
    intermediate_size=64,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    initializer_range=0.3,
    eos_token_id=1,
    pad_token_id=0,
)


needs_compiler = pytest.mark.skipif(
    not shutil.which(os.environ.get("CXX", "g++")), reason="torch.compile needs a C++ compiler"
)


@pytest.fixture(scope="module")
def nano():
    folder = str(MODELS / "nano-student")
    return AutoModelForCausalLM.from_pretrained(folder).eval(), load_tokenizer(folder)


def requests_of(tokenizer, n_problems, n):
    rows = make_problems(n_problems, "decoding", (1, 2, 3))
    return [
        Request(
            ("a", row["problem_id"], i),
            prompt_ids(tokenizer, row["question"], Prompt()),
            1000 * j + i,
        )
        for j, row in enumerate(rows)
        for i in range(n)
    ]


def test_a_sample_does_not_depend_on_its_neighbours(nano):
    model, tokenizer = nano
    requests, sampling = requests_of(tokenizer, 4, 3), Decoding(0.7, 3, 1.0, 30)
    alone = {
        r.key: next(decode(model, [r], sampling, {tokenizer.eos_token_id}))[1] for r in requests
    }
    for n_slots in (2, 5, 64):
        together = {
            r.key: ids
            for r, ids in decode(model, requests, sampling, {tokenizer.eos_token_id}, n_slots)
        }
        assert together == alone


def test_greedy_equals_generate(nano):
    model, tokenizer = nano
    for request, ids in decode(
        model,
        requests_of(tokenizer, 12, 1),
        Decoding(0.0, max_tokens=40),
        {tokenizer.eos_token_id},
        5,
    ):
        prompt = torch.tensor([request.prompt_ids])
        whole = model.generate(
            prompt, attention_mask=torch.ones_like(prompt), do_sample=False, max_new_tokens=40
        )
        assert whole[0, prompt.shape[1] :].tolist() == ids


def test_every_prompt_is_read_once_and_no_more_at_once_than_rows(nano):
    """So that fewer rows, after running out of memory, also need less for reading."""
    (model, tokenizer), seen = nano, []
    hook = model.register_forward_pre_hook(
        lambda _, args, named: seen.append(tuple(named["input_ids"].shape)), with_kwargs=True
    )
    list(
        decode(
            model,
            requests_of(tokenizer, 12, 2),
            Decoding(0.0, max_tokens=3),
            {tokenizer.eos_token_id},
            4,
        )
    )
    hook.remove()
    assert max(n for n, _ in seen) == 4 and sum(n for n, width in seen if width > 1) == 12


@needs_compiler
def test_compiled_steps_draw_the_same_samples(nano):
    """On all but a few samples, where a rounding of the last bit may turn a draw."""
    model, tokenizer = nano
    requests, sampling, eos = (
        requests_of(tokenizer, 20, 5),
        Decoding(0.7, 3, 1.0, 30),
        {tokenizer.eos_token_id},
    )
    plain = {r.key: ids for r, ids in decode(model, requests, sampling, eos, 24)}
    compiled = {
        r.key: ids
        for r, ids in decode(model, requests, sampling, eos, 24, step=stepper(model, compiled=True))
    }
    assert (
        plain.keys() == compiled.keys() and sum(plain[key] == compiled[key] for key in plain) >= 98
    )


@needs_compiler
@pytest.mark.slow
def test_code_that_another_processor_left_in_the_cache_is_not_taken(tmp_path):
    """Compiled for this processor first, then for one without its vectors, into one cache folder."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        __file__,
        "-k",
        test_compiled_steps_draw_the_same_samples.__name__,
    ]
    for capability in ({}, {"ATEN_CPU_CAPABILITY": "avx2"}, {"ATEN_CPU_CAPABILITY": "default"}):
        env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)} | capability
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{capability}: {done.stdout[-3000:]}"


def test_distribution_of_the_first_token_is_the_model_s(nano):
    model, tokenizer = nano
    (request,) = requests_of(tokenizer, 1, 1)
    requests = [Request(("a", "p", i), request.prompt_ids, i * 7919) for i in range(3000)]
    drawn = np.array(
        [ids[0] for _, ids in decode(model, requests, Decoding(1.5, 0, 1.0, 1), set(), 500)]
    )
    with torch.inference_mode():
        p = torch.softmax(model(torch.tensor([request.prompt_ids])).logits[0, -1] / 1.5, -1).numpy()
    counts = np.bincount(drawn, minlength=len(p))
    big = p > 5 / 3000
    expected = np.append(p[big], p[~big].sum()) * 3000
    chi2 = (
        ((np.append(counts[big], counts[~big].sum()) - expected) ** 2) / np.maximum(expected, 1e-9)
    ).sum()
    assert chi2 < big.sum() + 4 * np.sqrt(2 * big.sum())


@pytest.mark.parametrize("kind", ["llama", "qwen2", "mistral"])
def test_architectures_with_full_attention_suit_and_agree(kind):
    torch.manual_seed(0)
    config, make = {
        "llama": (LlamaConfig(**TINY), LlamaForCausalLM),
        "qwen2": (Qwen2Config(**TINY), Qwen2ForCausalLM),
        "mistral": (MistralConfig(**TINY, sliding_window=None), MistralForCausalLM),
    }[kind]
    model = make(config).eval()
    assert suits(model)
    prompts = [[2, 3, 4, 5, 6, 7], [9, 8], [11], [12, 13, 14]]
    requests = [Request(("a", str(i), 0), p, i) for i, p in enumerate(prompts)]
    for request, ids in decode(model, requests, Decoding(0.0, max_tokens=12), {1}, 3):
        whole = model.generate(
            torch.tensor([request.prompt_ids]),
            do_sample=False,
            max_new_tokens=12,
            attention_mask=torch.ones(1, len(request.prompt_ids)),
        )
        assert whole[0, len(request.prompt_ids) :].tolist() == ids


def test_sliding_windows_do_not_suit():
    assert not suits(Gemma2ForCausalLM(Gemma2Config(**TINY, head_dim=8, sliding_window=4)).eval())


def test_a_model_whose_steps_disagree_does_not_suit(nano):
    model, _ = nano

    class Wrong(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.config, self.dtype, self.device = (
                model,
                model.config,
                model.dtype,
                model.device,
            )

        def forward(self, **inputs):
            inputs.pop("position_ids", None)
            out = self.inner(**inputs)
            if "attention_mask" in inputs:
                out.logits = out.logits.flip(-1)
            return out

    assert not suits(Wrong())


def test_stop_and_length(nano):
    model, tokenizer = nano
    (request,) = requests_of(tokenizer, 1, 1)
    ((_, free),) = decode(model, [request], Decoding(0.0, max_tokens=30), set())
    assert len(free) == 30
    ((_, cut),) = decode(
        model,
        [request],
        Decoding(0.0, max_tokens=30),
        set(),
        stopped=lambda rows, n: rows[np.arange(len(rows)), n] == free[4],
    )
    assert cut == free[: free.index(free[4]) + 1]


def test_top_k_top_p_and_greedy_picks():
    scores = torch.tensor([[0.0, 3.0, 1.0, 2.0]]).repeat(4000, 1)
    seeds = np.arange(4000, dtype=np.uint64) * np.uint64(2**40)
    assert set(pick(scores, Decoding(0.0), seeds, 0).tolist()) == {1}
    assert set(pick(scores, Decoding(5.0, 2), seeds, 0).tolist()) == {1, 3}
    assert set(pick(scores, Decoding(1.0, 0, 0.6), seeds, 0).tolist()) == {1}
    share = (pick(scores, Decoding(1.0, 2), seeds, 0) == 1).float().mean().item()
    assert abs(share - 1 / (1 + np.exp(-1))) < 4 * np.sqrt(0.2 / 4000)


def test_streams_are_uniform_and_apart():
    u = np.concatenate(
        [uniform(np.arange(1000, dtype=np.uint64), np.full(1000, k)) for k in range(50)]
    )
    assert (
        0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.01 and len(np.unique(u)) == len(u)
    )
