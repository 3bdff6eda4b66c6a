"""How long a text a model can hold."""

from __future__ import annotations

from typing import Any, NamedTuple

# What families of models call it; the first that a config has.
NAMES = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")
TEXT_CONFIGS = ("text_config", "llm_config", "language_config")  # of models that also see or hear
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
    config = _text_config(model, local_files_only=not may_fetch)
    key = next((name for name in NAMES if config.get(name)), None)
    if key is None:
        return None
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
        return AutoConfig.from_pretrained(model, **options).get_text_config().to_dict()
    except Exception:  # of many classes: a family, or values, that this transformers does not know
        config, _ = PretrainedConfig.get_config_dict(model, **options)
        return next((config[name] for name in TEXT_CONFIGS if config.get(name)), config)
