"""The text of a sample's tokens: without special ones, but with the tags of its thoughts."""

from __future__ import annotations

from typing import Any

from wcse_lib.answers import is_thought_tag


def thought_tags(tokenizer: Any) -> dict[int, str]:
    """The special tokens that open or close thoughts ([THINK] of Magistral), by id."""
    tags = {}
    for token_id, token in tokenizer.added_tokens_decoder.items():
        if token.special and is_thought_tag(token.content):
            tags[token_id] = token.content
    return tags


def text_of(tokenizer: Any, ids: list[int], tags: dict[int, str]) -> str:
    """Tokens as text; special ones are left out unless they are among the tags."""
    parts, start = [], 0
    for place, token_id in enumerate(ids):
        if token_id in tags:
            parts += [_plain(tokenizer, ids[start:place]), tags[token_id]]
            start = place + 1
    return "".join([*parts, _plain(tokenizer, ids[start:])])


def _plain(tokenizer: Any, ids: list[int]) -> str:
    return tokenizer.decode(ids, skip_special_tokens=True)
