"""How long a text a model can hold."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from wcse_lib.sample.strangers import NO_CODE

# What families of models call it; the first that a config has.
NAMES = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "max_seq_len",
    "max_seq_length",
    "max_sequence_length",
    "seq_length",
    "max_target_positions",
    "max_context_length",
    "context_length",
    "model_max_length",
)
# Parts of the config of a model that also sees or hears; what it sees and hears has limits of its own.
OF_TEXT = re.compile(r"(text|llm|lm|language|decoder|generator)(_model)?(_config)?")
OF_SENSES = re.compile(r"vision|visual|vit|image|video|audio|speech|talker|wav|encoder|quanti")
# Rotary positions that reach further than they were trained by `factor`; other kinds have it in their limit.
STRETCHED = ("linear", "dynamic", "ntk", "yarn")


class Positions(NamedTuple):
    """The most tokens of prompt and sample together, and the key of config.json that says so."""

    n: int
    key: str


def read_positions(model: str, may_fetch: bool = True) -> Positions | None:
    """A checkpoint's positions, learned or rotary; None where its config sets no limit. A sliding window is none.

    Args: model: a folder or hub id. Raises OSError where it has no config.
    """
    whole = _text_config(model, local_files_only=not may_fetch)
    config = next((part for part in _parts(whole) if _key(part)), None)
    if config is None:
        return None
    key = _key(config)
    limit = int(config[key])
    scaling = config.get("rope_parameters") or config.get("rope_scaling") or {}
    of_layers = [value for value in scaling.values() if isinstance(value, dict)]
    for rope in of_layers or [scaling]:
        kind = rope.get("rope_type") or rope.get("type")
        if kind in STRETCHED and rope.get("factor"):
            trained = rope.get("original_max_position_embeddings") or config[key]
            limit = max(limit, int(trained * rope["factor"]))
    return Positions(limit, key)


def _text_config(model: str, **options: bool) -> dict[str, Any]:
    """The part of a config that is about text, with its family's defaults where transformers knows the family."""
    from transformers import AutoConfig, PretrainedConfig

    try:
        config = AutoConfig.from_pretrained(model, **options, **NO_CODE)
        return config.get_text_config().to_dict()
    except Exception:  # of many classes: a family, or values, that this transformers does not know
        return PretrainedConfig.get_config_dict(model, **options)[0]


def _parts(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A config and those inside it, however deep: first what is about text, last what may be (thinker_config)."""
    of_text, others = [], []
    for name, part in config.items():
        if not isinstance(part, dict):
            continue
        if OF_TEXT.fullmatch(name):
            of_text.append(part)
        elif name.endswith("_config") and not OF_SENSES.search(name):
            others.append(part)
    for part in of_text:
        yield from _parts(part)
    yield config
    for part in others:
        yield from _parts(part)


def _key(config: dict[str, Any]) -> str | None:
    """The key that sets a limit; 0 and -1 set none."""
    for name in NAMES:
        limit = config.get(name)
        if isinstance(limit, int | float) and 0 < limit < math.inf:
            return name
    return None
