"""Shared by all tests: where the project and the real data lie, and a tiny checkpoint."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


@pytest.fixture
def root(monkeypatch) -> Path:
    """The project's root, as the current folder."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture
def real_data() -> Path:
    if not DATA.is_dir():
        pytest.skip("no ../shared/data beside the project: real GSM8K and MATH rows are not here")
    return DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A random Llama with the nano tokenizer: an ordinary checkpoint folder of a few hundred kB."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from wcse_lib.nano.pretrain import make_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    tokenizer = make_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=256, tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
