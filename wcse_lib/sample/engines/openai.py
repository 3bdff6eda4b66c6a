"""Sampling from any OpenAI-compatible endpoint: bounded concurrency, patient retries, a hard spending limit."""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import random
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from typing import NamedTuple
from urllib.parse import urlsplit

from wcse_lib.sample.engines import Decoding, Output, Request
from wcse_lib.sample.engines.replies import (
    call_arguments,
    calls_of,
    most_prompt_tokens,
    read_reply,
)
from wcse_lib.sample.engines.spending import Spending, SpendingLimit
from wcse_lib.study import Endpoint, Machine

TRY_AGAIN = (408, 409, 425, 429)  # refusals that may pass; other 4xx do not
MOST_DOUBLINGS = 6  # of the pause between tries


class EndpointDown(ValueError):
    """`max_failures` calls in a row failed; their samples are error rows, the rest is undone."""


def open_engine(
    model: str, machine: Machine, adapter: str | None = None, spending: Spending | None = None
) -> OpenAIEngine:
    """Open an endpoint as the machine file says; without `spending` no price is known and nothing was spent before.

    Raises ValueError for a missing key (a server on this machine needs none), a limit without prices, an adapter.
    """
    if adapter:
        raise ValueError(f"adapter: {adapter}: an endpoint serves {model!r} as it is; leave it out")
    return OpenAIEngine(model, machine, spending or Spending(limit_usd=machine.limit_usd))


class _Result(NamedTuple):
    """What became of one call."""

    outputs: list[Output]
    undone: list[Request]
    success: bool


class OpenAIEngine:
    """Makes its calls from a thread with a loop of its own, so it also works where a notebook's loop runs.

    Servers take seeds of 31 to 64 bits, so `seed % 2**31` is sent; honouring it is their affair. `n_per_call` > 1 asks
    for neighbouring samples of one problem together and the prompt is billed once: the seed is that of the first,
    `n_tokens` is unknown (`usage` has only the sum), `usd` an equal share of the bill (cache discounts left out). A
    count that is missing or impossible in `usage` is -1 with a note in `error`; nothing is estimated.
    """

    def __init__(self, model: str, endpoint: Endpoint, spending: Spending):
        if spending.limit_usd is not None and not spending.has_prices:
            raise ValueError(
                f"limit_usd: {spending.limit_usd} needs both prices: write arms.<name>.usd_per_million_tokens and "
                f"usd_per_million_prompt_tokens into the params file, or a row for {model!r} with input and output "
                "into the price table (budget.prices)"
            )
        self.spending = spending
        self._model, self._endpoint = model, endpoint
        self._api_key = _read_key(endpoint)
        self._quiet_until = 0.0  # no call starts before: a server asked all of them to wait
        self._client = _open_client(endpoint, self._api_key)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]:
        """Yield samples as they come; calls that fail for good become error rows.

        Raises SpendingLimit or EndpointDown when not all could be drawn, after what was drawn.
        """
        for request in requests:
            if not (request.messages or request.prompt_ids or request.text):
                raise ValueError(
                    f"request {request.key} has neither messages nor prompt_ids nor text"
                )
        calls = deque(calls_of(requests, self._endpoint.n_per_call))
        running: set[Future] = set()
        n_failures = 0  # in a row
        try:
            while True:
                if n_failures < self._endpoint.max_failures:
                    self._start_calls(calls, running, decoding)
                if not running:
                    break
                for finished in wait(running, return_when=FIRST_COMPLETED).done:
                    running.remove(finished)
                    result = finished.result()
                    if result.success:
                        n_failures = 0
                    elif result.outputs:
                        n_failures += 1
                    calls.extendleft([request] for request in reversed(result.undone))
                    yield from result.outputs
        finally:  # the reader stopped early, or was interrupted
            for future in running:
                future.cancel()
        if calls:
            raise self._reason_of_undone(calls, decoding, n_failures)

    def _start_calls(
        self, calls: deque[list[Request]], running: set[Future], decoding: Decoding
    ) -> None:
        """Start as many calls as concurrency and the limit allow."""
        while calls and len(running) < self._endpoint.concurrency:
            price = self.highest_price(calls[0], decoding)
            if not self.spending.reserve(price):
                return
            work = self._draw(calls.popleft(), decoding, price)
            running.add(asyncio.run_coroutine_threadsafe(work, self._loop))

    def highest_price(self, call: list[Request], decoding: Decoding) -> float:
        """Upper bound of what a call may cost, in USD; 0 where no prices are known."""
        n_tokens = len(call) * decoding.max_tokens
        return self.spending.cost(most_prompt_tokens(call[0]), n_tokens) or 0.0

    def _reason_of_undone(
        self, calls: deque[list[Request]], decoding: Decoding, n_failures: int
    ) -> ValueError:
        n_undone = sum(len(call) for call in calls)
        if n_failures >= self._endpoint.max_failures:
            return EndpointDown(
                f"{self._endpoint.base_url}: {n_failures} calls in a row failed (the rows say why), "
                f"{n_undone} samples are undone: run again when it answers"
            )
        price = self.highest_price(calls[0], decoding)
        return SpendingLimit(
            f"limit_usd: {self.spending.limit_usd}: {self.spending.spent_usd:.6f} USD are spent, the next call may "
            f"cost {price:.6f}, {n_undone} samples are undone: raise the limit and run again"
        )

    async def _draw(self, call: list[Request], decoding: Decoding, price: float) -> _Result:
        """One call with its retries. `price` was reserved for the first try; what it has cost is settled at the end."""
        reserved, spent, n_tries = price, 0.0, 0
        try:
            while True:
                await self._wait_while_quiet()
                n_tries += 1
                try:
                    outputs, bill = await self._post(call, decoding)
                except Exception as error:
                    failure = error
                else:
                    spent += price if bill is None else bill
                    return _Result(outputs, call[len(outputs) :], success=True)

                maybe_billed = _maybe_billed(failure)
                if maybe_billed:
                    spent += price
                pause = self._pause(failure, n_tries)
                if pause is None or n_tries > self._endpoint.max_retries:
                    return _Result(self._error_rows(call, failure, n_tries), [], success=False)
                if maybe_billed:  # the next try may be billed once more
                    if not self.spending.reserve(price):
                        return _Result([], call, success=False)
                    reserved += price
                await asyncio.sleep(pause)
        except asyncio.CancelledError:
            spent = reserved  # the server may bill what nobody reads
            raise
        finally:
            self.spending.settle(reserved, spent)

    async def _wait_while_quiet(self) -> None:
        seconds = max(0.0, self._quiet_until - time.monotonic())
        await asyncio.sleep(seconds * random.uniform(1, 1.1))

    async def _post(
        self, call: list[Request], decoding: Decoding
    ) -> tuple[list[Output], float | None]:
        """One try: the outputs and the bill."""
        is_chat = call[0].messages is not None
        service = self._client.chat.completions if is_chat else self._client.completions
        arguments = call_arguments(self._model, call, decoding, self._endpoint)
        asked = service.with_raw_response.create(**arguments)
        response = await asyncio.wait_for(asked, self._endpoint.timeout_seconds)
        return read_reply(json.loads(response.text), call, decoding.max_tokens, self.spending)

    def _pause(self, error: Exception, n_tries: int) -> float | None:
        """Seconds until the next try; None when another try cannot help."""
        status = getattr(error, "status_code", 500)
        asked_for = _retry_after(error)
        if status < 500 and status not in TRY_AGAIN:
            return None
        if asked_for > self._endpoint.timeout_seconds:
            return None
        if status == 429:  # the other calls hold back too
            self._quiet_until = max(self._quiet_until, time.monotonic() + asked_for)
        doubled = self._endpoint.backoff_seconds * 2 ** min(n_tries - 1, MOST_DOUBLINGS)
        return max(asked_for, doubled * random.uniform(0.5, 1.5))

    def _error_rows(self, call: list[Request], error: Exception, n_tries: int) -> list[Output]:
        reason = f"{type(error).__name__}: {error}"
        if error.__cause__:
            reason += f" ({type(error.__cause__).__name__})"
        if isinstance(error, TimeoutError):
            reason = f"no answer within {self._endpoint.timeout_seconds} seconds"
        if self._api_key:
            reason = reason.replace(self._api_key, "***")
        reason = f"{reason[:500]} (try {n_tries})"
        return [Output(request.key, "", -1, -1, "error", reason) for request in call]

    def close(self) -> None:
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()


def _open_client(endpoint: Endpoint, api_key: str):
    try:
        from openai import AsyncOpenAI
    except ImportError as error:
        message = "engine: 'openai' needs the openai client: pip install -e '.[api]'"
        raise ValueError(message) from error
    return AsyncOpenAI(
        base_url=endpoint.base_url,
        api_key=api_key or "none",
        timeout=endpoint.timeout_seconds,
        max_retries=0,  # retries are made here, where the limit is known
    )


def _read_key(endpoint: Endpoint) -> str:
    """The key that the environment holds; empty where none is needed. Raises ValueError, without the key's value."""
    url, variable = urlsplit(endpoint.base_url), endpoint.api_key_variable
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query:
        raise ValueError(
            "base_url: must be http(s)://host[:port]/path, without user, password or query"
        )
    if not variable:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key and url.hostname not in ("localhost", "127.0.0.1", "::1"):
        raise ValueError(
            f"api_key_variable: the environment variable {variable} is not set; {url.hostname} wants a key"
        )
    if not (key.isascii() and key.isprintable()):
        raise ValueError(
            f"api_key_variable: the value of {variable} has characters that no header can hold"
        )
    return key


def _retry_after(error: Exception) -> float:
    """Seconds that the server asks for, as a number or an HTTP date; 0 when it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    asked_for = headers.get("retry-after") or ""
    try:
        date = email.utils.parsedate_tz(asked_for)
        seconds = email.utils.mktime_tz(date) - time.time() if date else float(asked_for)
    except ValueError:
        return 0.0
    return max(0.0, seconds)


def _maybe_billed(error: Exception) -> bool:
    """Time-outs and torn answers may be billed; refusals and connections that never stood are not."""
    never_stood = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")
    return not never_stood and not hasattr(error, "status_code")
