"""How large a model is, counted in its checkpoint without reading a weight."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open

from wcse_lib.store import StudyError
from wcse_lib.study import ModelSize

BUFFER = re.compile(r"inv_freq$|masked_bias$")
ATTENTION_MASK = re.compile(r"att(ntio)?n\.bias$")  # a mask where it has more than one dimension
EMBEDDING = re.compile(r"(embed_\w+|\w+_embeddings|wte|wpe|lm_head|shared)\.weight$")
# layers that guess further tokens: engines leave them aside
UNUSED = re.compile(r"^(model\.)?mtp\.")
WEIGHT_TYPE = re.compile(r"F|BF|I8")
TOKENIZERS = (
    "tokenizer.json",
    "tokenizer.model",
    "spiece.model",
    "vocab.json",
    "vocab.txt",
    "tekken.json",
)
PACKED_TYPES = ("U8", "I32", "U32")  # of quantised checkpoints: several weights in one number


class Uncounted(StudyError):
    """A checkpoint that is whole as far as can be seen, but whose parameters cannot be counted."""


def read_model(path_or_id: str | Path) -> ModelSize:
    """Sizes from `config.json` and the headers of the safetensors file(s); no weight is read.

    Args: path_or_id: a checkpoint folder (one file, or shards with their index), else a hub id. Raises StudyError (a
    ValueError) naming file and remedy: missing, damaged, truncated or packed (quantised) checkpoints, no connection.
    """
    name, folder = str(path_or_id), Path(path_or_id).expanduser()
    if not folder.is_dir():
        return _read_hub(name)
    config = _checked(_read_json, folder / "config.json")
    files = {"model.safetensors"}
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = set(_checked(_read_json, index).get("weight_map", {}).values())
    tensors = {}
    for file in sorted(files):
        tensors |= _checked(_read_header, folder / file)
    return _count(config, tensors, name)


def check_tokenizer(path_or_id: str | Path) -> None:
    """Raises StudyError for a checkpoint folder that holds no tokenizer; of a hub id nothing is asked."""
    folder = Path(path_or_id).expanduser()
    is_folder = folder.is_dir()
    if is_folder and not any((folder / name).is_file() for name in TOKENIZERS):
        raise StudyError(
            f"{folder}: no tokenizer in it ({' or '.join(TOKENIZERS[:2])}); save the tokenizer beside "
            "the weights, as its save_pretrained does"
        )


def _read_hub(name: str) -> ModelSize:
    try:
        import huggingface_hub as hub

        config = _checked(_read_json, Path(hub.hf_hub_download(name, "config.json")))
        files = hub.get_safetensors_metadata(name).files_metadata
    # no hub id, offline, gated, no safetensors: many classes, one remedy
    except Exception as error:
        why = f"{type(error).__name__}: {str(error)[:200]}"
        raise StudyError(
            f"{name}: no such folder, and the hub does not tell its size ({why}); check the name, go online, log in if "
            "it is gated, give a downloaded folder, or set the arm's n_parameters"
        ) from error
    tensors = {}
    for file in files.values():
        for tensor, entry in file.tensors.items():
            tensors[tensor] = (entry.dtype, entry.shape)
    return _count(config, tensors, name)


def _checked(read: Callable[[Path], dict], path: Path) -> dict:
    """What `read` finds in a file. Raises StudyError naming the file and the remedy."""
    try:
        return dict(read(path))
    except FileNotFoundError:
        raise StudyError(
            f"{path}: not there; save the model as safetensors, and merge an adapter into its base"
        ) from None
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise StudyError(
            f"{path}: unreadable ({error}); download or save the checkpoint again"
        ) from error


def _read_json(path: Path) -> dict:
    return json.loads(path.read_bytes())


def _read_header(path: Path) -> dict[str, tuple]:
    """(dtype, shape) of a safetensors file's tensors; the library checks them against the file's length."""
    tensors = {}
    with safe_open(path, "numpy") as file:
        for name in file.keys():
            entry = file.get_slice(name)
            tensors[name] = (entry.get_dtype(), entry.get_shape())
    return tensors


def _count(config: dict, tensors: Mapping[str, tuple], name: str) -> ModelSize:
    """Sizes from tensors {name: (dtype, shape)}; see `read_model`.

    Of routed experts a token passes as many as the config says; shared experts, routers and dense layers always.
    """
    text = config.get("text_config") or config
    tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings"))
    total = n_embedding = n_expert = 0
    for tensor, (dtype, shape) in tensors.items():
        if dtype in PACKED_TYPES and config.get("quantization_config"):
            raise Uncounted(
                f"{name}: {tensor} packs several weights into one number; name the unquantised checkpoint"
            )
        # a tied output layer is counted as the input embedding
        if not _is_weight(tensor, dtype, shape) or (tied and "lm_head." in tensor):
            continue
        n = math.prod(shape)
        total += n
        if ".experts." in tensor:
            n_expert += n
        if EMBEDDING.search(tensor):
            n_embedding += n
    if not total:
        raise StudyError(
            f"{name}: its safetensors hold no weights; download or save the checkpoint again"
        )
    n_active = total - n_expert
    if n_expert:
        n_experts = _needed(text, name, "num_local_experts", "num_experts", "n_routed_experts")
        n_passed = _needed(text, name, "num_experts_per_tok", "top_k_experts", "moe_top_k")
        n_active += round(n_expert * n_passed / n_experts)
    hidden = _needed(text, name, "hidden_size", "n_embd", "d_model")
    n_heads = _needed(text, name, "num_attention_heads", "n_head", "num_heads")
    return ModelSize(
        n_parameters=total,
        n_non_embedding=total - n_embedding,
        n_active=n_active,
        n_layers=_needed(text, name, "num_hidden_layers", "n_layer", "num_layers"),
        attention_width=n_heads * (text.get("head_dim") or hidden // n_heads),
    )


def _is_weight(tensor: str, dtype: str, shape: list[int]) -> bool:
    is_mask = ATTENTION_MASK.search(tensor) and len(shape) > 1
    if is_mask or BUFFER.search(tensor) or UNUSED.match(tensor):
        return False
    return WEIGHT_TYPE.match(dtype) is not None


def _needed(config: dict, name: str, *keys: str) -> int:
    """The first of `keys` that a config has; families of models name one thing differently."""
    for key in keys:
        if config.get(key):
            return config[key]
    raise Uncounted(f"{name}/config.json: {keys[0]} is needed, and is not there")
