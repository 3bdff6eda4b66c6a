"""One example as token ids and labels: only the completion and its end token are trained."""

from __future__ import annotations

import html
from itertools import takewhile
from typing import Any

MASKED = -100  # the label that the cross-entropy ignores


def end_token(tokenizer: Any, style: str = "chat") -> int:
    """The id of the token that ends an assistant's turn.

    That is the first special token that the chat template sets after the answer (Gemma's <end_of_turn>, Llama's
    <|eot_id|>, Qwen's <|im_end|>); in `plain` prompts, and where there is none, EOS. Raises ValueError where there is
    no EOS either.
    """
    if style == "chat" and tokenizer.chat_template:
        question = {"role": "user", "content": "question"}
        answer = {"role": "assistant", "content": "ANSWER"}
        text = tokenizer.apply_chat_template([question, answer], tokenize=False)
        after_answer = text.rpartition("ANSWER")[2]
        special = _special_ids(tokenizer)
        for token_id in tokenizer(after_answer, add_special_tokens=False)["input_ids"]:
            if token_id in special:
                return token_id
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the tokenizer has no EOS and its chat template ends no turn: no student could learn to stop"
        )
    return tokenizer.eos_token_id


def _special_ids(tokenizer: Any) -> set[int]:
    """Ids of special tokens that could end a turn."""
    special = set(tokenizer.all_special_ids)
    for token_id, token in tokenizer.added_tokens_decoder.items():
        if token.special:
            special.add(token_id)
    return special - {tokenizer.bos_token_id, tokenizer.unk_token_id}


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
    last = tokenizer.eos_token_id if end_id is None else end_id
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
    """Raise ValueError for a row that is torn, all masked or unended, or whose prompt has not one BOS.

    The BOS must stand in front; more are allowed further inside where the chat template marks turns with that token.
    """
    ids, labels, bos_id = row["input_ids"], row["labels"], tokenizer.bos_token_id
    n_prompt = len(list(takewhile(lambda label: label == MASKED, labels)))
    n_bos = ids[:n_prompt].count(bos_id)
    n_leading = len(list(takewhile(lambda token_id: token_id == bos_id, ids)))
    in_template = str(tokenizer.bos_token) in str(tokenizer.chat_template)
    marks_turns = in_template or bos_id == tokenizer.eos_token_id
    fault = ""
    if not ids or len(ids) != len(labels):
        fault = f"empty or torn, {len(ids)} tokens and {len(labels)} labels"
    elif n_prompt == len(labels):
        fault = f"all {n_prompt} labels are masked, so nothing would be learnt from it"
    elif labels[n_prompt:] != ids[n_prompt:]:
        fault = "its labels differ from the tokens after the prompt"
    elif labels[-1] != end_id:
        fault = f"end token {end_id} is not trained, so the student would not learn to stop"
    elif bos_id is not None and (n_leading != 1 or (n_bos != 1 and not marks_turns)):
        fault = f"prompt with {n_bos} BOS ({bos_id}), {n_leading} of them at its start; wanted: one, at the start"
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
