"""Random Llamas of a few hundred kB, rows for them, and trainings of them that take a second."""

from pathlib import Path

import numpy as np

from wcse_lib.study import Settings
from wcse_lib.train.attempt import Training
from wcse_lib.train.encode import encode
from wcse_lib.train.rows import TrainingRows, write_rows
from wcse_lib.train.trainer import train

BOS, EOS = 1, 2
SPECIAL = ("bos", "eos", "pad")
SHAPE = dict(
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=2,
    num_key_value_heads=2,
    max_position_embeddings=128,
    tie_word_embeddings=True,
)


def make_llama(folder: Path, tokenizer, **changes) -> None:
    """A random Llama of this tokenizer as a checkpoint folder; `changes` are of its shape."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(vocab_size=len(tokenizer), **SHAPE | special_ids(tokenizer) | changes)
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def special_ids(tokenizer) -> dict[str, int]:
    """A tokenizer's ids as a config names them."""
    return {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id") for name in SPECIAL}


def make_base(folder: Path):
    """A random Llama with one token per character; returns its tokenizer."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    names = ["<pad>", "<bos>", "<eos>", "<unk>", *map(chr, range(32, 127)), "\n"]
    vocabulary = {name: i for i, name in enumerate(names)}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    core.decoder = decoders.Fuse()
    special = dict(pad_token="<pad>", bos_token="<bos>", eos_token="<eos>", unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, **special)
    make_llama(folder, tokenizer)
    return tokenizer


def make_rows(tokenizer, n: int = 40) -> list[dict]:
    """Sums with their results, one to five times."""
    rng, rows = np.random.default_rng(0), []
    for _ in range(n):
        a, b = rng.integers(0, 99, 2)
        prompt = [BOS, *tokenizer(f"{a}+{b}=", add_special_tokens=False)["input_ids"]]
        rows.append(encode(tokenizer, prompt, f"{a + b} " * rng.integers(1, 6), 64))
    return rows


def written(rows: list[dict], path: Path) -> TrainingRows:
    """Rows on disk, as the trainer takes them."""
    keyed = []
    for number, row in enumerate(rows):
        keyed.append(row | {"author": "a", "problem_id": "p", "sample_index": number})
    return write_rows(keyed, path)


def settings(**changes) -> Settings:
    fields = dict(method="full", training="steps", amount=12, learning_rate=3e-3, batch_size=8)
    fields |= dict(max_tokens=64, n_checkpoints=4, dtype="float32")
    return Settings(**fields | changes)


def trained(base: Path, rows: list[dict], how: Settings, folder: Path, *watchers, **more) -> dict:
    """The report of a training; `watchers`: validate, progress."""
    on_disk = written(rows, folder.with_name(f"{folder.name}.arrow"))
    return train(Training(base, on_disk, how, folder, *watchers, **more))


def losses(report: dict) -> list[float]:
    return [loss for _, loss, _ in report["loss_curve"]]
