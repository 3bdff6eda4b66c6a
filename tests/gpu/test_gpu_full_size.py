"""vLLM beside transformers with a whole pretrained model, and adapters of one opened engine; see docs/one_gpu.md.

On a GPU the model is WCSE_GPU_MODEL, a hub id or a folder (Qwen/Qwen2.5-1.5B-Instruct when it is not set); the CPU's
twin tries the same test with a bundled model and vLLM's CPU build.
"""

import importlib.util
import os
import time
from dataclasses import dataclass

import pytest
from sizes import FULL, TINY, Size, card, need_gpu

from wcse_lib.nano import make_problems
from wcse_lib.sample.engines import Decoding, Request, open_engine
from wcse_lib.sample.prompts import load_tokenizer, prompt_ids
from wcse_lib.study import Machine, Prompt, resolve_model

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Case:
    size: Size
    model: str
    n_problems: int
    same: float  # the share of greedy answers that must begin alike
    strength: float  # of the random adapters: enough to change some answers

    @property
    def machine(self) -> dict:
        return {"device": self.size.device, "dtype": self.size.dtype}


GPU = Case(FULL, os.environ.get("WCSE_GPU_MODEL", "Qwen/Qwen2.5-1.5B-Instruct"), 100, 0.7, 0.05)
CPU = Case(TINY, "nano-wc", 20, 0.95, 0.5)


@pytest.fixture(
    params=[
        pytest.param(GPU, marks=pytest.mark.gpu, id="gpu"),
        pytest.param(CPU, marks=[pytest.mark.engines, pytest.mark.slow], id="cpu"),
    ]
)
def case(request):
    need_gpu(request.param.size)
    if importlib.util.find_spec("vllm") is None:
        pytest.skip("vllm is not installed")
    return request.param


def make_adapter(model: str, folder, rank: int, strength: float) -> str:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(rank)
    config = LoraConfig(r=rank, target_modules=TARGETS, task_type="CAUSAL_LM")
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    adapted = get_peft_model(base, config)
    for name, weights in adapted.named_parameters():
        if "lora_B" in name:  # zero as made; a small change of what the base says
            torch.nn.init.normal_(weights, std=strength)
    adapted.save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)
    return str(folder)


def begins_alike(texts: dict, others: dict) -> float:
    """The share of answers whose first eight words are the same."""
    same = [texts[key].split()[:8] == others[key].split()[:8] for key in texts]
    return sum(same) / len(same)


def test_one_vllm_engine_draws_what_transformers_draws(case, tmp_path):
    """Greedily, from the base and from two adapters of unlike ranks, with one opening of either engine."""
    model, answers, speed = resolve_model(case.model), {}, {}
    adapters = [make_adapter(model, tmp_path / f"r{rank}", rank, case.strength) for rank in (8, 32)]
    tokenizer, decoding = load_tokenizer(model), Decoding(0.0, max_tokens=64)
    requests = []
    for row in make_problems(case.n_problems, "full size", (1, 2)):
        ids = prompt_ids(tokenizer, row["question"], Prompt())
        requests.append(Request(("a", row["problem_id"], 0), ids, 0))
    limits = {"max_model_len": 1024, "gpu_memory_utilization": 0.6}
    if not case.size.is_gpu:
        limits = {"max_model_len": 1024, "kv_cache_gib": 0.5}
    # vLLM first: its own process wants a GPU that this one has not touched
    for name in ("vllm", "hf"):
        start = time.monotonic()
        engine = open_engine(name, model, Machine(engine=name, **case.machine, **limits), adapters)
        opening = time.monotonic() - start
        for adapter in (None, *adapters):
            engine.use(adapter)
            start = time.monotonic()
            outputs = list(engine.generate(requests, decoding))
            speed[name] = sum(o.n_tokens for o in outputs) / (time.monotonic() - start)
            answers[name, adapter] = {o.key: o.text for o in outputs}
        print(f"\n{card(case.size)}: {name} opened in {opening:.0f} s, {speed[name]:,.0f} tokens/s")
        engine.close()
    for adapter in (None, *adapters):
        same = begins_alike(answers["hf", adapter], answers["vllm", adapter])
        print(f"{adapter or 'base'}: {same:.0%} of greedy answers begin alike")
        assert same >= case.same
    for adapter in adapters:
        assert answers["vllm", adapter] != answers["vllm", None], "the adapter changes nothing"
