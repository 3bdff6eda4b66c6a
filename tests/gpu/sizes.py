"""Sizes of the GPU tests: a 1.5B model on a GPU, and a tiny one on a CPU, which tries the tests themselves."""

import gc
from dataclasses import dataclass
from pathlib import Path

import pytest
from tiny import SHAPE, make_base, special_ids

from wcse_lib.store import write_json
from wcse_lib.train.encode import encode

GIB = 2**30


@dataclass(frozen=True)
class Size:
    """A randomly initialised model of Qwen2's form and what is asked of it."""

    device: str
    dtype: str
    shape: dict
    n_tokens: int  # of a row in training, of an answer in sampling
    n_samples: int
    batches: tuple[int, ...]  # of plain `generate`
    loss_within: float  # in nats, of a bare loop's

    @property
    def is_gpu(self) -> bool:
        return self.device == "cuda"


FULL = Size(  # Qwen2.5-1.5B's configuration: 1.54 billion parameters
    "cuda",
    "bfloat16",
    dict(
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        vocab_size=151_936,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
    ),
    n_tokens=256,
    n_samples=1024,
    batches=(64, 128, 256, 512),
    loss_within=0.02,
)
TINY = Size(
    "cpu",
    "float32",
    SHAPE | dict(num_key_value_heads=1, vocab_size=256, max_position_embeddings=256),
    n_tokens=24,
    n_samples=24,
    batches=(8, 24),
    loss_within=1e-4,
)
BOTH = [
    pytest.param(FULL, marks=pytest.mark.gpu, id="gpu"),
    pytest.param(TINY, marks=pytest.mark.slow, id="cpu"),
]


def need_gpu(size: Size) -> None:
    """Skip, with the reason, what needs a GPU where there is none."""
    import torch

    if size.is_gpu and not torch.cuda.is_available():
        pytest.skip(f"PyTorch {torch.__version__} finds no CUDA GPU here, and this test is for one")


def free_memory() -> None:
    """Give back what a test's models held, before the next one measures or fills the memory."""
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def make_model(folder: Path, size: Size) -> str:
    """A random model in a folder, with a tokenizer of one token a character."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    tokenizer = make_base(folder)
    ids = special_ids(tokenizer)
    config = Qwen2Config(**size.shape, **ids)
    torch.manual_seed(0)
    with torch.device(size.device):
        model = Qwen2ForCausalLM(config)
    model.to(getattr(torch, size.dtype)).save_pretrained(folder)
    write_json(folder / "generation_config.json", ids)
    return str(folder)


def make_rows(tokenizer, size: Size, n: int) -> list[dict]:
    """Rows of exactly `n_tokens` tokens, four fifths of them trained."""
    n_prompt = size.n_tokens // 5
    rows = []
    for i in range(n):
        digits = "".join(str((i + 7 * j) % 10) for j in range(size.n_tokens))
        prompt = [1, *tokenizer(digits[: n_prompt - 1], add_special_tokens=False)["input_ids"]]
        answer = digits[n_prompt : size.n_tokens - 1]
        rows.append(encode(tokenizer, prompt, answer, size.n_tokens))
    return rows


def card(size: Size) -> str:
    """The device in words, with the versions that matter: what stands before every printed figure."""
    import platform

    import torch
    import transformers

    name = torch.cuda.get_device_name() if size.is_gpu else platform.processor() or "CPU"
    return f"{name}, torch {torch.__version__}, transformers {transformers.__version__}"
