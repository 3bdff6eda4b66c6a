"""Vectors of texts from a local checkpoint: its last hidden states, pooled as its own files say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from wcse_lib.sample.engines.hf import set_threads
from wcse_lib.sample.positions import read_positions
from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.sample.strangers import NO_CODE, opening
from wcse_lib.store import StudyError, read_json
from wcse_lib.study import Machine, checkpoint_files

TOKENS_AT_ONCE = 8_192  # of a batch, padding counted: bounds its memory
POOLED = ("mean", "cls", "lasttoken")
DONE_HERE = ("Transformer", "Pooling", "Normalize")  # sentence-transformers' modules
FILES = ["*.safetensors", "*.json", "*.txt", "*.model"]  # of a hub's checkpoint


class Pooling(NamedTuple):
    """How a checkpoint makes one vector of a text: pooled how, of at most how many tokens, after which words."""

    mode: str = "mean"
    most_tokens: int | None = None
    prompt: str = ""


class LocalEmbedder:
    """A checkpoint folder or hub id in this process.

    A folder of sentence-transformers' form (`modules.json`) is pooled and cut as its files say; of any other, such as a
    language model's, the mean of the last hidden states is taken. Raises StudyError for a form that is not known here.
    """

    def __init__(self, model: str, machine: Machine):
        folder = _fetched(model)
        self.pooling = read_pooling(Path(folder))
        set_threads(machine.threads)
        self.tokenizer = load_tokenizer(folder)
        self.model = _load(folder, machine)
        files = checkpoint_files(folder)
        self.identity = {
            "engine": "local",
            "dtype": machine.dtype or "float32",
            **self.pooling._asdict(),
            "files": files,
        }
        limits = [self.pooling.most_tokens, self.tokenizer.model_max_length]
        if positions := read_positions(folder, may_fetch=False):
            limits.append(positions.n)
        self.most_tokens = min(limit for limit in limits if limit)

    def vectors(self, texts: Sequence[str]) -> Iterator[tuple[list[int], np.ndarray, float]]:
        """Yield, batch by batch, places in `texts`, their vectors (float32 [texts, dimension]) and the number of their
        tokens; texts of like length come together."""
        ids = []
        for text in texts:
            encoded = self.tokenizer(
                self.pooling.prompt + text, truncation=True, max_length=self.most_tokens
            )
            ids.append(encoded["input_ids"] or [0])  # a text that is no token
        for places in batches([len(row) for row in ids], TOKENS_AT_ONCE):
            rows = [ids[place] for place in places]
            yield places, self._pooled(rows), float(sum(map(len, rows)))

    def _pooled(self, rows: list[list[int]]) -> np.ndarray:
        import torch

        longest = max(map(len, rows))
        shown = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros_like(shown)
        for place, row in enumerate(rows):
            shown[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1
        shown, mask = shown.to(self.model.device), mask.to(self.model.device)
        with torch.inference_mode():
            hidden = self.model(input_ids=shown, attention_mask=mask).last_hidden_state.float()
        if self.pooling.mode == "cls":
            pooled = hidden[:, 0]
        elif self.pooling.mode == "lasttoken":
            last = mask.sum(1) - 1
            pooled = hidden[torch.arange(len(rows)), last]
        else:
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return pooled.cpu().numpy()

    def close(self) -> None:
        self.model = None


def read_pooling(folder: Path) -> Pooling:
    """How a checkpoint's own files say that a vector is made. Raises StudyError for what the kit does not do."""
    if not (folder / "modules.json").is_file():
        return Pooling()
    modules = read_json(folder / "modules.json", list)
    kinds = {str(module.get("type", "")).rpartition(".")[2]: module for module in modules}
    if unknown := [kind for kind in kinds if kind not in DONE_HERE]:
        raise StudyError(
            f"{folder}: modules.json asks for {', '.join(unknown)}, and only {', '.join(DONE_HERE)} are done here; "
            "take a model without it, or serve this one and write engine: openai"
        )
    mode = "mean"
    if "Pooling" in kinds:
        path = folder / kinds["Pooling"].get("path", "") / "config.json"
        mode = _mode(read_json(path), path)
    own = folder / "sentence_bert_config.json"
    most_tokens = read_json(own).get("max_seq_length") if own.is_file() else None
    own = folder / "config_sentence_transformers.json"
    settings = read_json(own) if own.is_file() else {}
    prompts = settings.get("prompts") or {}
    return Pooling(mode, most_tokens, prompts.get(settings.get("default_prompt_name")) or "")


def _mode(config: dict, path: Path) -> str:
    """The one way of pooling that a configuration asks for, in either spelling of it."""
    asked = [
        name.removeprefix("pooling_mode_").removesuffix("_tokens").removesuffix("_token")
        for name, is_on in config.items()
        if name.startswith("pooling_mode_") and is_on is True
    ]
    if config.get("pooling_mode"):
        asked = [config["pooling_mode"]]
    if len(asked) != 1 or asked[0] not in POOLED:
        raise StudyError(
            f"{path}: pools by {' and '.join(map(str, asked)) or 'nothing'}; done here: one of {', '.join(POOLED)}"
        )
    return asked[0]


def _fetched(model: str) -> str:
    """A model's folder; a hub's is fetched, without pickles and without code."""
    if Path(model).is_dir():
        return model
    from huggingface_hub import snapshot_download

    return snapshot_download(model, allow_patterns=FILES)


def _load(folder: str, machine: Machine) -> Any:
    import torch
    from transformers import AutoModel, logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    dtype = getattr(torch, machine.dtype or "float32")
    with opening(folder):
        model = AutoModel.from_pretrained(folder, dtype=dtype, use_safetensors=True, **NO_CODE)
    has_gpu = torch.cuda.is_available()
    return model.to(machine.device or ("cuda" if has_gpu else "cpu")).eval()


def batches(lengths: Sequence[int], tokens_at_once: int) -> Iterator[list[int]]:
    """Places of texts in batches of so many tokens, padding counted, the longest first, so that what is too much for
    the memory shows at once."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > tokens_at_once:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
