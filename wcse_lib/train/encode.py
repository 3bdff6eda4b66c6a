"""One example as token ids and labels: only the completion and its end token are trained."""

from __future__ import annotations

import html
from itertools import takewhile
from typing import Any

from wcse_lib.sample import bos_fault, end_token

MASKED = -100  # the label that the cross-entropy ignores


def encode(
    tokenizer: Any,
    prompt_ids: list[int],
    completion: str,
    max_tokens: int,
    end_id: int | None = None,
    before: str = "",
) -> dict[str, list[int]] | None:
    """A row, `input_ids` and `labels` (prompt −100, completion and end token trained), or None above `max_tokens`.

    Special tokens spelt out in the completion stay text, those `before` it (what ends an opened thought) are tokens and
    trained too; `end_id` is the EOS unless given. A long row is for the caller
    to count, never cut: that would teach to stop midway.
    """
    encoded = tokenizer(completion, add_special_tokens=False, split_special_tokens=True)
    last = end_token(tokenizer, "plain") if end_id is None else end_id
    closing = tokenizer(before, add_special_tokens=False)["input_ids"] if before else []
    trained = [*closing, *encoded["input_ids"], last]
    if len(prompt_ids) + len(trained) > max_tokens:
        return None
    masked = [MASKED] * len(prompt_ids)
    return {"input_ids": [*prompt_ids, *trained], "labels": masked + trained}


def n_trained(row: dict[str, Any]) -> int:
    """How many tokens of a row are trained."""
    return len(row["labels"]) - row["labels"].count(MASKED)


def check_row(row: dict, number: int, tokenizer: Any, end_id: int) -> None:
    """Raise ValueError for a row that is torn, all masked or unended, or whose prompt's BOS is not as in sampling."""
    ids, labels = row["input_ids"], row["labels"]
    n_prompt = len(list(takewhile(lambda label: label == MASKED, labels)))
    fault = ""
    if not ids or len(ids) != len(labels):
        fault = f"empty or torn, {len(ids)} tokens and {len(labels)} labels"
    elif n_prompt == len(labels):
        fault = f"all {n_prompt} labels are masked, so nothing would be learnt from it"
    elif labels[n_prompt:] != ids[n_prompt:]:
        fault = "its labels differ from the tokens after the prompt"
    elif labels[-1] != end_id:
        fault = f"end token {end_id} is not trained, so the student would not learn to stop"
    else:
        fault = bos_fault(tokenizer, ids[:n_prompt])
    if fault:
        raise ValueError(f"row {number}: {fault}")


def coloured(rows: list[dict], tokenizer: Any) -> str:
    """HTML that shows rows token by token: grey is masked, green is trained; hover for id and label."""
    parts = []
    for number, row in enumerate(rows):
        n_tokens = len(row["labels"])
        parts.append(f"<p>row {number}: {n_tokens} tokens, {n_trained(row)} trained</p>")
        for token_id, label in zip(row["input_ids"], row["labels"]):
            parts.append(_coloured_token(tokenizer.decode([token_id]), token_id, label))
    return f"<div style='font-family:monospace'>{''.join(parts)}</div>"


def _coloured_token(token: str, token_id: int, label: int) -> str:
    text = html.escape(token).replace("\n", "⏎<br>").replace(" ", "&nbsp;")
    colour = "#ddd" if label == MASKED else "#bde5b8"
    title = f"id {token_id}, label {label}"
    return f"<span style='background:{colour}' title='{title}'>{text}</span><wbr>"
