"""Sampling from any OpenAI-compatible endpoint: bounded concurrency, patient retries, a hard spending limit."""

from __future__ import annotations

import asyncio
import email.utils
import json
import math
import os
import random
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, wait
from itertools import groupby
from threading import Lock, Thread
from urllib.parse import urlsplit

from pydantic import Field

from wcse_lib.sample.engines import Decoding, Output, Request
from wcse_lib.study import Endpoint

AHEAD = 20  # calls whose price is noted ahead, so that not every call writes a file; but at most …
SHARE = 0.01  # … this share of the limit, which a killed run may leave unused
ENDS = {
    "stop": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "length": "length",
    "max_tokens": "length",
}


class SpendingLimit(ValueError):
    """The next call could go over `limit_usd`: what was started has been yielded, the rest is undone."""


class EndpointDown(ValueError):
    """`max_failures` calls in a row failed; their samples are error rows, the rest is undone."""


class Options(Endpoint, extra="ignore"):
    """An endpoint's machine keys, its prices, and what was spent before; other keys are left alone."""

    usd_per_million_in: float | None = Field(None, ge=0)
    usd_per_million_out: float | None = Field(None, ge=0)
    spent_usd: float = Field(0, ge=0)  # before this engine was opened; counts towards the limit


def open_engine(model: str, machine: dict) -> ApiEngine:
    """Open an endpoint; `machine` may hold any field of Options.

    Raises ValueError for a missing key (a server on this machine needs none), a limit without prices, a bad value.
    """
    return ApiEngine(model, Options(**machine))


class ApiEngine:
    """Makes its calls from a thread with a loop of its own, so it also works where a notebook's loop runs.

    Servers take seeds of 31 to 64 bits, so `seed % 2**31` is sent; honouring it is their affair. `n_per_call` > 1 asks
    for neighbouring samples of one problem together and the prompt is billed once: the seed is that of the first,
    `n_tokens` is unknown (`usage` has only the sum), `usd` an equal share of the bill (cache discounts left out). A
    count that is missing or impossible in `usage` is -1 with a note in `error`; nothing is estimated.
    """

    def __init__(self, model: str, options: Options):
        self._model, self._o, self._lock = model, options, Lock()
        prices = options.usd_per_million_in, options.usd_per_million_out
        self._prices = None if None in prices else [price / 1e6 for price in prices]
        if options.limit_usd is not None and not self._prices:
            keys = "arms.<name>.usd_per_million_tokens and usd_per_million_prompt_tokens into the params file"
            where = f"{keys}, or a row for {model!r} with input and output into the price table (budget.prices)"
            raise ValueError(f"limit_usd: {options.limit_usd} needs both prices: write {where}")
        self.spent_usd, self._reserved, self._quiet_until = options.spent_usd, 0.0, 0.0
        self.note: Callable[[float], None] = lambda usd: (
            None
        )  # told ahead what may be spent, for when nobody lives to tell
        self._noted = options.spent_usd
        self._key = _read_key(options)
        try:
            from openai import AsyncOpenAI
        except ImportError as error:
            raise ValueError(
                "engine: 'openai' needs the openai client: pip install -e '.[api]'"
            ) from error
        once = {
            "max_retries": 0,
            "timeout": options.timeout_seconds,
        }  # retries are made here, where the limit is known
        self._client = AsyncOpenAI(base_url=options.base_url, api_key=self._key or "none", **once)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def generate(self, requests: list[Request], sampling: Decoding) -> Iterator[Output]:
        """Yield samples as they come; calls that fail for good become error rows. May raise this module's errors."""
        if empty := [r.key for r in requests if not (r.messages or r.prompt_ids or r.text)]:
            raise ValueError(f"request {empty[0]} has neither messages nor prompt_ids nor text")
        calls, flying, failures, price = deque(_calls(requests, self._o.n_per_call)), {}, 0, 0.0
        try:
            while calls or flying:
                while (
                    calls and len(flying) < self._o.concurrency and failures < self._o.max_failures
                ):
                    price = self._worst(calls[0], sampling)
                    if not self._reserve(price):
                        break
                    work = self._draw(calls[0], sampling, price)
                    flying[asyncio.run_coroutine_threadsafe(work, self._loop)] = calls.popleft()
                if not flying:
                    break
                for done in wait(flying, return_when=FIRST_COMPLETED).done:
                    del flying[done]
                    outputs, undone, success = done.result()
                    failures = 0 if success else failures + bool(outputs)
                    calls.extendleft([request] for request in reversed(undone))
                    yield from outputs
        finally:  # the reader stopped early, or was interrupted
            for future in flying:
                future.cancel()
        n_left = sum(map(len, calls))
        if calls and failures >= self._o.max_failures:
            why = (
                f"{failures} calls in a row failed (the rows say why), {n_left} samples are undone"
            )
            raise EndpointDown(f"{self._o.base_url}: {why}: run again when it answers")
        if calls:
            why = f"{self.spent_usd:.6f} USD are spent, the next call may cost {price:.6f}, {n_left} samples are undone"
            raise SpendingLimit(
                f"limit_usd: {self._o.limit_usd}: {why}: raise the limit and run again"
            )

    async def _draw(self, call: list[Request], sampling: Decoding, price: float):
        """One call with its retries: (outputs, requests that are still undone, success)."""
        held, spent, tries = price, 0.0, 0
        try:
            while True:
                await asyncio.sleep(
                    max(0.0, self._quiet_until - time.monotonic()) * random.uniform(1, 1.1)
                )
                try:
                    body = await asyncio.wait_for(
                        self._post(call, sampling), self._o.timeout_seconds
                    )
                    outputs, bill = self._read(call, body, sampling)
                    spent += price if bill is None else bill
                    return outputs, call[len(outputs) :], True
                except Exception as error:
                    tries += 1
                    pause, reason, billed = (
                        self._pause(error, tries),
                        self._say(error),
                        _maybe_billed(error),
                    )
                spent += price if billed else 0.0
                if pause is None or tries > self._o.max_retries:
                    return (
                        [
                            Output(r.key, "", -1, -1, "error", f"{reason} (try {tries})")
                            for r in call
                        ],
                        [],
                        False,
                    )
                if billed and not self._reserve(price):
                    return [], call, False
                held += price if billed else 0.0
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            spent = held  # the server may bill what nobody reads
            raise
        finally:
            with self._lock:
                self._reserved -= held
                self.spent_usd += spent

    async def _post(self, call: list[Request], sampling: Decoding) -> dict:
        first, chat = call[0], call[0].messages is not None
        door = self._client.chat.completions if chat else self._client.completions
        body = {"messages": first.messages} if chat else {"prompt": first.prompt_ids or first.text}
        body |= {
            "model": self._model,
            "temperature": sampling.temperature,
            "seed": first.seed % 2**31,
        }
        body |= {"n": len(call)} if len(call) > 1 else {}
        wanted = {"top_k": sampling.top_k, "top_p": sampling.top_p % 1, "stop": list(sampling.stop)}
        wanted[self._o.max_tokens_name if chat else "max_tokens"] = sampling.max_tokens
        # What is off is not sent: some servers refuse the very names. top_k is outside OpenAI's API, but widely known.
        extra = self._o.extra_body | {name: value for name, value in wanted.items() if value}
        return json.loads((await door.with_raw_response.create(**body, extra_body=extra)).text)

    def _read(
        self, call: list[Request], body: dict, sampling: Decoding
    ) -> tuple[list[Output], float | None]:
        """Outputs of the choices that came, and the bill in USD (None: unknown); ValueError for a torn answer."""
        if (
            not isinstance(body, dict)
            or not isinstance(body.get("choices"), list)
            or not body["choices"]
        ):
            raise ValueError(f"no choices in the answer: {body}")
        choices = body["choices"][: len(call)]
        texts = [_text(choice) for choice in choices]
        n_prompt, n_tokens, note = _usage(
            body, call[0], any(texts), len(choices) * sampling.max_tokens
        )
        bill = (
            None
            if note or not self._prices
            else n_prompt * self._prices[0] + n_tokens * self._prices[1]
        )
        if len(choices) > 1:
            n_tokens, note = (
                -1,
                note or "n_tokens unknown: usage has only the sum over n_per_call samples",
            )
        ends = [choice.get("finish_reason") for choice in choices]
        notes = [note if end in ENDS else f"the server ended it with {end!r}" for end in ends]
        share, counts = bill and bill / len(choices), (n_prompt, n_tokens)
        rows = zip(call, texts, ends, notes)
        return [
            Output(r.key, text, *counts, ENDS.get(end, "error"), why, share)
            for r, text, end, why in rows
        ], bill

    def _worst(self, call: list[Request], sampling: Decoding) -> float:
        """Upper bound of a call's price in USD: a token has at least one byte; 16 more tokens per message."""
        text = sum(
            len(json.dumps(m, ensure_ascii=False).encode()) + 16 for m in call[0].messages or []
        )
        text = text or (len(call[0].text.encode()) + 16 if call[0].text else 0)
        n_in, n_out = text or len(call[0].prompt_ids), len(call) * sampling.max_tokens
        return n_in * self._prices[0] + n_out * self._prices[1] if self._prices else 0.0

    def _reserve(self, usd: float) -> bool:
        with self._lock:
            fits = (
                self._o.limit_usd is None
                or self.spent_usd + self._reserved + usd <= self._o.limit_usd
            )
            self._reserved += usd if fits else 0.0
            if (most := self.spent_usd + self._reserved) > self._noted:
                limit = math.inf if self._o.limit_usd is None else self._o.limit_usd
                self._noted = most + min(AHEAD * usd, SHARE * limit)
                self.note(self._noted)
            return fits

    def _pause(self, error: Exception, tries: int) -> float | None:
        """Seconds until the next try; None when another try cannot help."""
        status, asked = getattr(error, "status_code", 500), _retry_after(error)
        if (status < 500 and status not in (408, 409, 425, 429)) or asked > self._o.timeout_seconds:
            return None
        if status == 429:  # the other calls hold back too
            self._quiet_until = max(self._quiet_until, time.monotonic() + asked)
        return max(
            asked, self._o.backoff_seconds * 2 ** min(tries - 1, 6) * random.uniform(0.5, 1.5)
        )

    def _say(self, error: Exception) -> str:
        text = f"{type(error).__name__}: {error}" + (
            f" ({type(error.__cause__).__name__})" if error.__cause__ else ""
        )
        if isinstance(error, TimeoutError):
            text = f"no answer within {self._o.timeout_seconds} seconds"
        return (text.replace(self._key, "***") if self._key else text)[:500]

    def close(self) -> None:
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()


def _calls(requests: list[Request], n: int) -> Iterator[list[Request]]:
    """Neighbours with the same prompt, at most n together."""
    for _, same in groupby(requests, key=lambda r: (r.messages, r.prompt_ids, r.text)):
        same = list(same)
        yield from (same[i : i + n] for i in range(0, len(same), n))


def _text(choice: dict) -> str:
    """The answer, after the reasoning that some servers send apart, as <think>…</think>."""
    message = choice.get("message") or {"content": choice["text"]}
    thought, content = (
        message.get("reasoning_content") or message.get("reasoning") or "",
        message.get("content") or "",
    )
    if not isinstance(content, str) or not isinstance(thought, str):
        raise ValueError(f"the content is no text: {message}")
    return f"<think>{thought}</think>{content}" if thought else content


def _usage(body: dict, request: Request, any_text: bool, most: int) -> tuple[int, int, str]:
    """(n_prompt_tokens, n_tokens, note): a count that is missing or cannot be true is -1, and the note says so."""
    usage = body["usage"] if isinstance(body.get("usage"), dict) else {}
    n_in, n_out, total = (usage.get(f"{kind}_tokens") for kind in ("prompt", "completion", "total"))
    known = 0 if request.messages else len(request.prompt_ids)
    n_in = n_in if type(n_in) is int and n_in > 0 and (not known or n_in == known) else -1
    n_out = n_out if type(n_out) is int and any_text <= n_out <= most else -1
    if total is not None and -1 not in (n_in, n_out) and total != n_in + n_out:
        n_out = -1
    return (
        n_in,
        n_out,
        f"usage missing or impossible: {body.get('usage')}"[:200] if -1 in (n_in, n_out) else "",
    )


def _retry_after(error: Exception) -> float:
    """Seconds that the server asks for, as a number or an HTTP date; 0 when it does not say."""
    asked = getattr(getattr(error, "response", None), "headers", {}).get("retry-after") or ""
    try:
        date = email.utils.parsedate_tz(asked)
        seconds = email.utils.mktime_tz(date) - time.time() if date else float(asked)
    except ValueError:
        return 0.0
    return max(0.0, seconds)


def _maybe_billed(error: Exception) -> bool:
    """Time-outs and torn answers may be billed; refusals and connections that never stood are not."""
    never_stood = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")
    return not never_stood and not hasattr(error, "status_code")


def _read_key(options: Options) -> str:
    url, name = urlsplit(options.base_url), options.api_key_variable
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query:
        raise ValueError(
            "base_url: must be http(s)://host[:port]/path, without user, password or query"
        )
    key = os.environ.get(name, "").strip() if name else ""
    if name and not key and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(
            f"api_key_variable: the environment variable {name} is not set; {url.hostname} wants a key"
        )
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"api_key_variable: the value of {name} has characters that no header can hold"
        )
    return key
