"""Sampling from any OpenAI-compatible endpoint: bounded concurrency, patient retries, a hard spending limit."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Collection, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from threading import Thread
from typing import NamedTuple

from wcse_lib.sample.engines import Decoding, Output, Request
from wcse_lib.sample.engines.client import open_client, read_key
from wcse_lib.sample.engines.failures import (
    EndpointDown,
    EndpointRefused,
    Failure,
    pause_after,
    read_body,
    read_failure,
)
from wcse_lib.sample.engines.remedies import remedy
from wcse_lib.sample.engines.replies import (
    call_arguments,
    calls_of,
    error_rows,
    highest_price,
    read_reply,
)
from wcse_lib.sample.engines.spending import Spending, SpendingLimit
from wcse_lib.study import Endpoint, Machine


def open_engine(
    model: str,
    machine: Machine,
    adapters: Collection[str] = (),
    spending: Spending | None = None,
) -> OpenAIEngine:
    """Open an endpoint as the machine file says; without `spending` no price is known and nothing was spent before.

    Raises ValueError for a missing key, a limit without prices, an adapter.
    """
    if adapters:
        named = ", ".join(adapters)
        raise ValueError(
            f"adapters: {named}: an endpoint serves {model!r} as it is; leave them out"
        )
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
        spending.check(model)
        self.spending = spending
        self._model, self._endpoint = model, endpoint
        self._api_key = read_key(endpoint)
        self._quiet_until = 0.0  # no call starts before: a server asked all of them to wait
        self._refusal = ""  # what is said once a call is refused as all others would be
        self._refused = asyncio.Event()  # wakes calls that wait for another try
        self._last_failure = ""
        self._unread_usd = 0.0  # what calls without a readable answer may have cost, at most
        self._excess_usd = (
            0.0  # by which a call cost more than its prompt and max_tokens let expect
        )
        self._client = open_client(endpoint, self._api_key)
        self._loop = asyncio.new_event_loop()
        self._thread = Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]:
        """Yield samples as they come; calls that fail for good become error rows.

        Raises EndpointRefused, SpendingLimit or EndpointDown when not all could be drawn, after what was drawn.
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
                if n_failures < self._endpoint.max_failures and not self._refusal:
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
        if calls or self._refusal:
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
        return highest_price(call, decoding.max_tokens, self.spending) + self._excess_usd

    def _note_excess(self, call: list[Request], decoding: Decoding, bill: float) -> None:
        """Expect of the calls to come what this one has cost, such as for a server's own system message."""
        expected = self.highest_price(call, decoding) - self._excess_usd
        self._excess_usd = max(self._excess_usd, bill - expected)

    def _reason_of_undone(
        self, calls: deque[list[Request]], decoding: Decoding, n_failures: int
    ) -> ValueError:
        n_undone = sum(len(call) for call in calls)
        if self._refusal:
            return EndpointRefused(
                f"{self._refusal}. {n_undone} more samples are undone; what was drawn is kept"
            )
        if n_failures >= self._endpoint.max_failures:
            return EndpointDown(
                f"{self._endpoint.base_url}: {n_failures} calls in a row failed, the last with "
                f"{self._last_failure}. {n_undone} samples are undone: run again when it answers"
            )
        return SpendingLimit(self._over_limit(self.highest_price(calls[0], decoding), n_undone))

    def _over_limit(self, price: float, n_undone: int) -> str:
        """What was spent, and on what, where the limit leaves no other call."""
        words = (
            f"limit_usd: {self.spending.limit_usd}: {self.spending.spent_usd:.6f} USD are spent, the next call may "
            f"cost {price:.6f}, {n_undone} samples are undone: "
        )
        if not self._unread_usd:
            return f"{words}raise the limit and run again"
        return (
            f"{words}of what is spent up to {self._unread_usd:.6f} went for calls whose answers could not be read, the "
            f"last with {self._last_failure}. See to that first; then raise the limit and run again"
        )

    async def _draw(self, call: list[Request], decoding: Decoding, price: float) -> _Result:
        """One call with its retries. `price` was reserved for the first try; what it has cost is settled at the end."""
        reserved, spent, n_tries = price, 0.0, 0
        try:
            while True:
                await self._wait_while_quiet()
                if self._refusal:
                    return _Result([], call, success=False)
                n_tries += 1
                try:
                    outputs, bill = await self._post(call, decoding)
                except Exception as error:
                    failure = read_failure(error, self._api_key, self._endpoint.timeout_seconds)
                else:
                    spent += price if bill is None else bill
                    self._note_excess(call, decoding, bill or 0.0)
                    return _Result(outputs, call[len(outputs) :], _has_sample(outputs))

                if failure.maybe_billed:
                    spent += price
                    self._unread_usd += price
                if failure.is_filter:
                    return _Result(error_rows(call, str(failure), is_kept=True), [], success=True)
                pause = self._pause(failure, n_tries)
                if pause is None or n_tries > self._endpoint.max_retries:
                    return self._failed(call, decoding, failure, n_tries)
                if failure.maybe_billed:  # the next try may be billed once more
                    if not self.spending.reserve(price):
                        return self._failed(call, decoding, failure, n_tries)
                    reserved += price
                await self._sleep(pause)
        except asyncio.CancelledError:
            spent = reserved  # the server may bill what nobody reads
            raise
        finally:
            self.spending.settle(reserved, spent)

    def _failed(
        self, call: list[Request], decoding: Decoding, failure: Failure, n_tries: int
    ) -> _Result:
        """Give a call up; all of them, where the server refuses what they have in common."""
        sent = call_arguments(self._model, call, decoding, self._endpoint)
        what_to_do = remedy(failure, self._model, self._endpoint, sent)
        self._last_failure = f"{failure}. {what_to_do}" if what_to_do else str(failure)
        if failure.stops and not self._refusal:
            _, problem_id, _ = call[0].key
            self._refusal = (
                f"{self._endpoint.base_url} refuses {self._model!r} (asked for problem {problem_id}): "
                f"{self._last_failure}"
            )
            self._refused.set()
        rows = error_rows(call, f"{self._last_failure} (try {n_tries})")
        return _Result(rows, [], success=False)

    async def _sleep(self, seconds: float) -> None:
        """Wait, but not on once all calls are refused."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._refused.wait(), seconds)

    async def _wait_while_quiet(self) -> None:
        seconds = self._quiet_until - time.monotonic()
        if seconds > 0:
            await self._sleep(seconds * random.uniform(1, 1.1))

    async def _post(
        self, call: list[Request], decoding: Decoding
    ) -> tuple[list[Output], float | None]:
        """One try: the outputs and the bill."""
        is_chat = call[0].messages is not None
        service = self._client.chat.completions if is_chat else self._client.completions
        arguments = call_arguments(self._model, call, decoding, self._endpoint)
        asked = service.with_raw_response.create(**arguments)
        response = await asyncio.wait_for(asked, self._endpoint.timeout_seconds)
        body = read_body(response.text, self._api_key)
        return read_reply(body, call, decoding.max_tokens, self.spending)

    def _pause(self, failure: Failure, n_tries: int) -> float | None:
        """Seconds until the next try; None when another try cannot help."""
        asked_for = failure.retry_after
        if failure.stops or asked_for > self._endpoint.timeout_seconds:
            return None
        if failure.status == 429:  # the other calls hold back too
            self._quiet_until = max(self._quiet_until, time.monotonic() + asked_for)
        return pause_after(failure, n_tries, self._endpoint.backoff_seconds)

    def close(self) -> None:
        if self._loop.is_running():
            asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(10)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(10)
            self._loop.close()


def _has_sample(outputs: list[Output]) -> bool:
    """Whether an answer holds a sample, or a failure that is this one prompt's own."""
    return any(output.finish_reason != "error" or output.is_kept for output in outputs)
