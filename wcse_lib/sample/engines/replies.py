"""What one call sends to an OpenAI-compatible endpoint, and what the answer says."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from wcse_lib.sample.engines import Decoding, Output, Request
from wcse_lib.sample.engines.spending import Spending
from wcse_lib.study import Endpoint

FINISH_REASONS = {  # of servers -> ours; all others are errors
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "length": "length",
    "max_tokens": "length",
}
TOKENS_A_MESSAGE = 16  # that a server's template adds, at most


def calls_of(requests: list[Request], n_per_call: int) -> Iterator[list[Request]]:
    """Neighbours with the same prompt, at most `n_per_call` together."""
    for _, group in groupby(requests, key=lambda r: (r.messages, r.prompt_ids, r.text)):
        same_prompt = list(group)
        for start in range(0, len(same_prompt), n_per_call):
            yield same_prompt[start : start + n_per_call]


def call_arguments(model: str, call: list[Request], decoding: Decoding, endpoint: Endpoint) -> dict:
    """Arguments of the client's `create`; `seed` is the first sample's low 31 bits, which all servers take."""
    first = call[0]
    arguments = {"model": model, "temperature": decoding.temperature, "seed": first.seed % 2**31}
    extra_body = dict(endpoint.extra_body)
    if first.messages is not None:
        arguments["messages"] = first.messages
        extra_body[endpoint.max_tokens_name] = decoding.max_tokens
    else:
        arguments["prompt"] = first.prompt_ids or first.text
        extra_body["max_tokens"] = decoding.max_tokens
    if len(call) > 1:
        arguments["n"] = len(call)

    # What is off is not sent: some servers refuse the very names. top_k is outside OpenAI's API, but widely known.
    if decoding.top_k:
        extra_body["top_k"] = decoding.top_k
    if decoding.top_p < 1:
        extra_body["top_p"] = decoding.top_p
    if decoding.stop:
        extra_body["stop"] = list(decoding.stop)
    return arguments | {"extra_body": extra_body}


def most_prompt_tokens(request: Request) -> int:
    """Upper bound of a prompt's length: a token has at least one byte."""
    if request.messages:
        texts = [json.dumps(message, ensure_ascii=False) for message in request.messages]
        return sum(len(text.encode()) + TOKENS_A_MESSAGE for text in texts)
    if request.text:
        return len(request.text.encode()) + TOKENS_A_MESSAGE
    return len(request.prompt_ids)


def read_reply(
    body: dict, call: list[Request], max_tokens: int, spending: Spending
) -> tuple[list[Output], float | None]:
    """Outputs of the choices that came, which may be fewer than were asked for, and the bill in USD (None: unknown).

    Several samples of one call share its bill; their `n_tokens` is unknown, as `usage` has only the sum. Raises
    ValueError (or what a wrong type raises) for an answer that is torn.
    """
    choices = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(choices, list) or not choices:
        raise ValueError(f"no choices in the answer: {body}")
    choices = choices[: len(call)]
    texts = [_text(choice) for choice in choices]
    n_prompt_tokens, n_tokens, note = _read_usage(
        body.get("usage"), call[0], any(texts), len(choices) * max_tokens
    )

    bill = None if note else spending.cost(n_prompt_tokens, n_tokens)
    share = None if bill is None else bill / len(choices)
    if len(choices) > 1:
        n_tokens = -1
        note = note or "n_tokens unknown: usage has only the sum over n_per_call samples"

    outputs = []
    for request, text, choice in zip(call, texts, choices):
        end = choice.get("finish_reason")
        finish_reason = FINISH_REASONS.get(end, "error")
        error = f"the server ended it with {end!r}" if finish_reason == "error" else note
        output = Output(request.key, text, n_prompt_tokens, n_tokens, finish_reason, error, share)
        outputs.append(output)
    return outputs, bill


def _text(choice: dict) -> str:
    """The answer, after the reasoning that some servers send apart, as <think>…</think>."""
    message = choice.get("message") or {"content": choice["text"]}
    content = message.get("content") or ""
    thought = message.get("reasoning_content") or message.get("reasoning") or ""
    if not isinstance(content, str) or not isinstance(thought, str):
        raise ValueError(f"the content is no text: {message}")
    return f"<think>{thought}</think>{content}" if thought else content


class _Usage(NamedTuple):
    n_prompt_tokens: int  # -1: missing, or cannot be true; then the note says so
    n_tokens: int
    note: str


def _read_usage(reported: object, request: Request, any_text: bool, most: int) -> _Usage:
    usage = reported if isinstance(reported, dict) else {}
    n_prompt_tokens = _count(usage.get("prompt_tokens"), 1, math.inf)
    n_tokens = _count(usage.get("completion_tokens"), int(any_text), most)
    total = usage.get("total_tokens")

    # A prompt sent as token ids has a known length; one more would be a second beginning-of-sequence token.
    if not request.messages and request.prompt_ids and n_prompt_tokens != len(request.prompt_ids):
        n_prompt_tokens = -1
    if -1 not in (n_prompt_tokens, n_tokens) and total not in (None, n_prompt_tokens + n_tokens):
        n_tokens = -1

    note = ""
    if -1 in (n_prompt_tokens, n_tokens):
        note = f"usage missing or impossible: {reported}"[:200]
    return _Usage(n_prompt_tokens, n_tokens, note)


def _count(value: object, least: int, most: float) -> int:
    """A whole number of that range; -1 for anything else."""
    return value if type(value) is int and least <= value <= most else -1
