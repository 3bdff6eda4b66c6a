"""What one call sends to an OpenAI-compatible endpoint, and what the answer says."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any, NamedTuple

from wcse_lib.answers import without_thoughts
from wcse_lib.sample.engines import Decoding, Output, Request
from wcse_lib.sample.engines.endings import Ending, ending
from wcse_lib.sample.engines.failures import ErrorInReply, Unreadable, error_in
from wcse_lib.sample.engines.spending import Spending
from wcse_lib.study import Endpoint

TOKENS_A_MESSAGE = 16  # that a server's template adds, at most …
TEMPLATE_TOKENS = 2_000  # … but for a system message of its own, which some add unasked
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")  # a message's fields
TEXTS = "text thinking thought content parts summary value markdown".split()  # of a part
BY_THE_WAY = (
    "id",
    "index",
    "role",
    "signature",
    "format",
    "language",
)  # texts that a part has beside its own
REASONS = (
    "finishreason stopreason donereason nativefinishreason finishdetails".split()
)  # a choice's keys, folded
KEPT = (Ending.FILTERED, Ending.TOOL)  # another call would end as this one did


def calls_of(requests: list[Request], n_per_call: int) -> Iterator[list[Request]]:
    """Neighbours with the same prompt, at most `n_per_call` together."""
    for _, group in groupby(requests, key=lambda r: (r.messages, r.prompt_ids, r.text)):
        same_prompt = list(group)
        for start in range(0, len(same_prompt), n_per_call):
            yield same_prompt[start : start + n_per_call]


def call_arguments(model: str, call: list[Request], decoding: Decoding, endpoint: Endpoint) -> dict:
    """Arguments of the client's `create`; `seed` is the first sample's low 31 bits, which all servers take.

    What is off is not sent, as some servers refuse the very names; nor is what `extra_body` names with null.
    """
    first = call[0]
    fields = dict(endpoint.extra_body)
    fields |= {"temperature": decoding.temperature, "seed": first.seed % 2**31}
    if first.messages is not None:
        asked = {"messages": first.messages}
        fields[endpoint.max_tokens_name] = decoding.max_tokens
    else:
        asked = {"prompt": first.prompt_ids or first.text}
        fields["max_tokens"] = decoding.max_tokens
    if len(call) > 1:
        fields["n"] = len(call)
    if decoding.top_k:
        fields["top_k"] = decoding.top_k
    if decoding.top_p < 1:
        fields["top_p"] = decoding.top_p
    if decoding.stop:
        fields["stop"] = list(decoding.stop)

    left_out = [name for name, value in endpoint.extra_body.items() if value is None]
    sent = {name: value for name, value in fields.items() if name not in left_out}
    return {"model": model, **asked, "extra_body": sent}


def most_prompt_tokens(request: Request) -> int:
    """Upper bound of a prompt's length: a token has at least one byte."""
    if request.messages:
        texts = [json.dumps(message, ensure_ascii=False) for message in request.messages]
        return sum(len(text.encode()) + TOKENS_A_MESSAGE for text in texts)
    if request.text:
        return len(request.text.encode()) + TOKENS_A_MESSAGE
    return len(request.prompt_ids)


def highest_price(call: list[Request], max_tokens: int, spending: Spending) -> float:
    """Upper bound of what a call may cost, in USD; 0 where no prices are known."""
    return spending.cost(most_prompt_tokens(call[0]), len(call) * max_tokens) or 0.0


# ---------------------------------------------------------------------- what came


def error_rows(call: list[Request], reason: str, is_kept: bool = False) -> list[Output]:
    """A failed sample for each request of a call that brought nothing."""
    return [Output(request.key, "", -1, -1, "error", reason, is_kept=is_kept) for request in call]


def read_reply(
    body: Any, call: list[Request], max_tokens: int, spending: Spending
) -> tuple[list[Output], float | None]:
    """Outputs of the choices that came, which may be fewer than were asked for, and the bill in USD (None: unknown).

    Several samples of one call share its bill; their `n_tokens` is unknown, as `usage` has only the sum. Raises
    ErrorInReply for an error that holds no sample, Unreadable for an answer that is neither.
    """
    if isinstance(body, list) and len(body) == 1:
        (body,) = body
    choices = _readable_choices(body)[: len(call)]
    texts = [choice.text + choice.thought for choice in choices]
    usage = _read_usage(body.get("usage"), call[0], any(texts), len(choices), max_tokens)

    is_known = -1 not in (usage.n_prompt_tokens, usage.n_tokens)
    bill = None
    if is_known:
        n_cached = max(0, usage.n_cached_tokens)
        bill = spending.cost(usage.n_prompt_tokens, usage.n_tokens, n_cached)
    share = None if bill is None else bill / len(choices)
    if len(choices) > 1:
        note = usage.note or "n_tokens unknown: usage has only the sum over n_per_call samples"
        usage = usage._replace(n_tokens=-1, n_reasoning_tokens=-1, note=note)

    outputs = []
    for request, choice in zip(call, choices):
        outputs.append(_output(request, choice, usage, max_tokens, share))
    return outputs, bill


class _Choice(NamedTuple):
    text: str
    thought: str
    refusal: str
    reason: object  # why it ended, in the server's word
    unread: str  # what parts hold no text


def _readable_choices(body: Any) -> list[_Choice]:
    """The choices that hold a message or a text, and no error; at least one."""
    given = body.get("choices") if isinstance(body, dict) else None
    if not isinstance(given, list):
        given = []
    given = [choice for choice in given if isinstance(choice, dict)]
    errors = list(filter(None, map(_error_of, given)))
    choices = [_read_choice(choice) for choice in given if not _error_of(choice)]
    choices = [choice for choice in choices if choice is not None]
    if choices and not body.get("error"):
        return choices

    said = errors[0] if errors else error_in(body)
    if said is None:
        raise Unreadable(f"no choices in the answer: {body}")
    wrote = any(choice.text or choice.thought for choice in choices)
    raise ErrorInReply(said, maybe_billed=wrote)


def _error_of(choice: dict) -> Any:
    """The error that stands in a choice or in its message."""
    message = choice.get("message")
    return choice.get("error") or (isinstance(message, dict) and message.get("error"))


def _read_choice(choice: dict) -> _Choice | None:
    """A choice's parts; None where it has neither a message nor a text, or one that is no text."""
    message = choice.get("message") or choice.get("delta")
    if message is None and "text" in choice:
        message = choice["text"] or ""
    if isinstance(message, str | list):
        message = {"content": message}
    if not isinstance(message, dict):
        return None
    content = message.get("content")
    if not isinstance(content, str | list | dict | None):
        return None
    parts = list(_parts(content))
    thoughts = [_joined(message.get(name)) for name in THOUGHTS]
    thoughts.append(_text_of("thought", parts))
    refusal = _joined(message.get("refusal")) or _text_of("refusal", parts)
    return _Choice(
        text=_text_of("text", parts),
        thought=next(filter(None, thoughts), ""),
        refusal=refusal,
        reason=_reason(choice),
        unread=", ".join(part.text for part in parts if part.kind == "unread"),
    )


def _reason(choice: dict) -> object:
    """The server's word for how a choice ended, whatever the spelling of its key; None where it has none."""
    keys = {re.sub("[^a-z]", "", name.lower()): value for name, value in choice.items() if value}
    reasons = [keys.get(name) for name in REASONS]
    reason = next(filter(None, reasons), None)
    return reason.get("type") if isinstance(reason, dict) else reason


class _Part(NamedTuple):
    kind: str  # text, thought, refusal or unread
    text: str


def _parts(content: Any) -> Iterator[_Part]:
    """The parts of a content that is a list; of images, calls of tools and the like, which have no text, the type."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, str | int | float):
            yield _Part("text", _joined(part))
        elif isinstance(part, list):
            yield from _parts(part)
        elif isinstance(part, dict):
            kind = str(part.get("type") or "").lower()
            if "refusal" in kind or "refusal" in part:
                yield _Part("refusal", _joined(part.get("refusal") or part))
            elif any(word in kind for word in ("think", "reason", "thought")):
                yield _Part("thought", _joined(part))
            elif any(part.get(name) for name in ("thinking", "thought", "reasoning")):
                yield _Part("thought", _joined(part))
            elif not any(name in part for name in TEXTS) and not _only_text(part):
                yield _Part("unread", kind or ", ".join(part))
            else:
                yield _Part("text", _joined(part))


def _text_of(kind: str, parts: list[_Part]) -> str:
    return "".join(part.text for part in parts if part.kind == kind)


def _joined(value: Any) -> str:
    """The text of a value that may be a text, a number, a part with one of these in it, or a list of parts."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        return str(value)
    if isinstance(value, list):
        return "".join(_joined(part) for part in value)
    if isinstance(value, dict):
        for name in TEXTS:
            if written := _joined(value.get(name)):
                return written
        return _only_text(value)
    return ""


def _only_text(part: dict) -> str:
    """The one text of a part of text whose name is not known; "" where it has another type, or several texts."""
    kind = str(part.get("type") or "text").lower()
    others = [value for name, value in part.items() if name not in ("type", *BY_THE_WAY)]
    texts = [value for value in others if isinstance(value, str)]
    return texts[0] if len(texts) == 1 and "text" in kind else ""


class _End(NamedTuple):
    finish_reason: str
    said: str = ""
    is_kept: bool = False


def _how_it_ended(choice: _Choice, n_tokens: int, max_tokens: int) -> _End:
    """How a choice ended. What the model or a limit ended is a sample. What a filter, a refusal or a call of a tool
    ended is a failure that is kept, as another call would end so too; what the server broke off is drawn again. An end
    that is missing or not known here is a stop, or a cut where `max_tokens` are used up."""
    end = ending(choice.reason)
    if choice.refusal and not choice.text:
        return _End("error", f"the model refused: {choice.refusal[:200]}", is_kept=True)
    if end in (Ending.STOP, Ending.LENGTH):
        return _End(str(end))
    said = f"the server ended it with {choice.reason!r}: {end}"
    if end in (Ending.MISSING, Ending.UNKNOWN):
        taken_as = "length" if n_tokens >= max_tokens else "stop"
        return _End(taken_as, f"{said}, taken as {taken_as}")
    return _End("error", said, is_kept=end in KEPT)


def _output(
    request: Request, choice: _Choice, usage: _Usage, max_tokens: int, usd: float | None
) -> Output:
    end = _how_it_ended(choice, usage.n_tokens, max_tokens)
    unread = choice.unread and f"parts without a text: {choice.unread}"
    text = choice.text
    if choice.thought and without_thoughts(text) == text:
        text = f"<think>{choice.thought}</think>{text}"
    return Output(
        request.key,
        text,
        usage.n_prompt_tokens,
        usage.n_tokens,
        end.finish_reason,
        "; ".join(filter(None, [end.said, unread, usage.note])),
        usd,
        is_kept=end.is_kept,
        n_cached_tokens=usage.n_cached_tokens,
        n_reasoning_tokens=usage.n_reasoning_tokens,
    )


# ---------------------------------------------------------------------- what it cost


class _Usage(NamedTuple):
    n_prompt_tokens: int  # -1: missing, or cannot be true; then the note says so
    n_tokens: int
    n_cached_tokens: int  # of the prompt; -1: not said, or cannot be true
    n_reasoning_tokens: int  # of n_tokens; likewise
    note: str


def _read_usage(
    reported: object, request: Request, any_text: bool, n_choices: int, max_tokens: int
) -> _Usage:
    """The counts of a call. Nothing enters that cannot be: more prompt tokens than the prompt has bytes (and a server's
    template may add), more tokens than `max_tokens` allows, for the answer and for a thought counted beside it."""
    usage = reported if isinstance(reported, dict) else {}
    hidden = _detail(usage, ("completion_tokens", "output_tokens"), "reasoning_tokens")
    allowed = n_choices * max_tokens
    n_reasoning_tokens = _count(hidden, 0, allowed)
    n_hidden = max(0, n_reasoning_tokens)
    n_prompt_tokens = _count(
        usage.get("prompt_tokens", usage.get("input_tokens")),
        1,
        most_prompt_tokens(request) + TEMPLATE_TOKENS,
    )
    written = usage.get("completion_tokens", usage.get("output_tokens"))
    n_tokens = _count(written, int(any_text), allowed + n_hidden)

    # A prompt sent as token ids has a known length; one more would be a second beginning-of-sequence token.
    if not request.messages and request.prompt_ids and n_prompt_tokens != len(request.prompt_ids):
        n_prompt_tokens = -1
    if -1 not in (n_prompt_tokens, n_tokens):
        total = usage.get("total_tokens")
        if total == n_prompt_tokens + n_tokens + n_hidden:
            n_tokens += n_hidden  # a thought that is counted beside the answer
        elif total not in (None, n_prompt_tokens + n_tokens):
            n_tokens = -1

    if n_reasoning_tokens > n_tokens:
        n_reasoning_tokens = -1
    cached = _detail(usage, ("prompt_tokens", "input_tokens"), "cached_tokens")
    if cached is None:
        cached = usage.get("prompt_cache_hit_tokens")  # DeepSeek's name
    n_cached_tokens = _count(cached, 0, n_prompt_tokens)
    note = ""
    if -1 in (n_prompt_tokens, n_tokens):
        note = f"usage missing or impossible: {reported}"[:200]
    return _Usage(n_prompt_tokens, n_tokens, n_cached_tokens, n_reasoning_tokens, note)


def _detail(usage: dict, counts: tuple[str, ...], name: str) -> object:
    """What the details of one of these counts say by a name; None where there are none."""
    for count in counts:
        details = usage.get(f"{count}_details")
        if isinstance(details, dict) and details.get(name) is not None:
            return details[name]
    return None


def _count(value: object, least: int, most: float) -> int:
    """A whole number of that range; -1 for anything else."""
    is_number = type(value) is int or (type(value) is float and math.isfinite(value))
    return int(value) if is_number and value == int(value) and least <= value <= most else -1
