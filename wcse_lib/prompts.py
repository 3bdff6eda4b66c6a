"""The one text a model is shown, as token ids with exactly one BOS: the same in sampling, training and evaluation."""

from __future__ import annotations

import hashlib
import json
from typing import Any


def messages(question: str, template: str) -> list[dict]:
    """The conversation that asks one question."""
    return [{"role": "user", "content": template.replace("{question}", question)}]


def prompt_ids(tokenizer: Any, question: str, style: str, template: str) -> list[int]:
    """Token ids of one prompt.

    Args: tokenizer: a transformers tokenizer; style: `chat` (its chat template) or `plain` (the template's text alone).
    Raises ValueError when the tokenizer has no chat template, or when the ids do not start with exactly one BOS
    although the tokenizer has one that it adds.
    """
    text = template.replace("{question}", question)
    if style == "chat":
        if not tokenizer.chat_template:
            raise ValueError("prompt.style: chat, but this tokenizer has no chat template; write prompt.style: plain")
        ids = tokenizer.apply_chat_template(
            messages(question, template), add_generation_prompt=True, tokenize=True, return_dict=False
        )
    else:
        ids = tokenizer(text, add_special_tokens=True)["input_ids"]
    check_bos(tokenizer, ids)
    return list(ids)


def check_bos(tokenizer: Any, ids: list[int]) -> None:
    """Raise ValueError unless the ids hold at most one BOS, at the start, and hold it where the tokenizer adds one."""
    bos = tokenizer.bos_token_id
    if bos is None or bos == tokenizer.eos_token_id:
        return
    n = list(ids).count(bos)
    wants = tokenizer("", add_special_tokens=True)["input_ids"][:1] == [bos]
    if n > 1 or (n == 1 and ids[0] != bos) or (n == 0 and wants):
        raise ValueError(
            f"a prompt must hold exactly one BOS ({tokenizer.bos_token!r}), at its start; this one has {n}: "
            "take the BOS out of the template, or out of the tokenizer's own post-processing"
        )


def prompt_hash(style: str, template: str, chat_template: str | None) -> str:
    """A short hash of everything that turns a question into a prompt; stands on every sample."""
    data = [style, template, chat_template if style == "chat" else None]
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:12]


def load_tokenizer(model: str) -> Any:
    """The tokenizer of a checkpoint folder or hub id."""
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model)
