"""Sampling in batches, at their lower price: files of requests, sent once, waited for, and collected; all resumable."""

from __future__ import annotations

import json
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator
from dataclasses import dataclass, field
from operator import itemgetter
from pathlib import Path

from wcse_lib.sample.engines import Decoding, Key, Output, Request
from wcse_lib.sample.engines.batch_records import PARTS, Batch, Line, Records
from wcse_lib.sample.engines.batch_results import Reader, Results, odd_in_words
from wcse_lib.sample.engines.batch_service import BatchService, MaybeStarted
from wcse_lib.sample.engines.failures import (
    EndpointDown,
    EndpointRefused,
    Failure,
    pause_after,
    server_words,
)
from wcse_lib.sample.engines.remedies import remedy
from wcse_lib.sample.engines.replies import call_arguments, error_rows, highest_price
from wcse_lib.sample.engines.spending import Spending, SpendingLimit
from wcse_lib.study import Endpoint

CHAT, PLAIN = "/v1/chat/completions", "/v1/completions"
ENDED = ("completed", "expired", "cancelled", "failed")
SPELT = {"canceled": "cancelled", "succeeded": "completed"}
SECONDS_PER_HOUR = 3600.0
LINE_BYTES = 200  # of a line beside its body, at most
LONGER, LONGEST = 1.5, 10  # each pause than the one before, and than the first at most


class BatchesStopped(ValueError):
    """Batches have not ended in time, or were cancelled, or failed as a whole: run again to go on."""


@dataclass
class _Work:
    """What one call of `generate` has still to do."""

    decoding: Decoding
    wanted: dict[Key, Request]  # that have no row yet
    queue: deque[Request]  # that are to be sent
    waiting: list[Batch]  # that were sent and have not ended
    n_sent: Counter = field(default_factory=Counter)  # by key, in this call
    n_failures: int = 0  # looks in a row that failed
    faults: list[ValueError] = field(default_factory=list)  # for which nothing more is sent


class BatchEngine:
    """Draws samples by a server's /files and /batches, each request a line with a seed of its own.

    A batch is written down before its file is sent, again before the server is asked to start it, and when the server
    has said its id. So a run that is killed at any moment is resumed: a batch whose id was not noted is looked for in
    the server's list, by the mark in its metadata or by its file, and is started only where the list still lacks it
    `batch.settle_seconds` after it was asked for. What cannot be kept: a server that accepts a batch and lists it later
    than that, or never, may get it twice.

    Results stay on disk as they came: samples in them are never bought again, whatever became of their rows. The limit
    counts what ended batches have cost and the most that the others can; a server that bills more than a
    request's bytes and `max_tokens` let expect passes it by that once, and is reckoned with from then on.
    """

    def __init__(self, model: str, endpoint: Endpoint, spending: Spending, folder: Path):
        if fault := endpoint.unfit_for_batches:
            raise ValueError(fault)
        spending.check(model)
        self.spending = spending
        self.tell: Callable[[str], object] = lambda text: None  # is given what is being waited for
        self._model, self._endpoint, self._terms = model, endpoint, endpoint.batch
        self._service = BatchService(model, endpoint)
        self._records = Records(folder)
        self._batches: list[Batch] | None = None
        self._excess_usd = 0.0  # by which a sample cost more than was expected

    # ------------------------------------------------------------------ what is drawn

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]:
        """Yield samples as batches end; requests that fail for good become error rows.

        Requests that a batch left undone for a cause that may pass (it expired, the server was busy) are sent again
        with the next one, `max_retries` times at most. Raises EndpointRefused, SpendingLimit, EndpointDown or
        BatchesStopped when not all could be drawn, after what was drawn.
        """
        for request in requests:
            if not (request.messages or request.prompt_ids or request.text):
                raise ValueError(
                    f"request {request.key} has neither messages nor prompt_ids nor text"
                )
        batches = self._open_records()
        work = _Work(decoding, {request.key: request for request in requests}, deque(), [])
        for batch in batches:
            if batch.is_ended and not work.wanted.keys().isdisjoint(batch.keys):
                yield from _rows(self._read(batch, decoding).whole, work)
        if not work.wanted:
            return

        self._service.check()
        work.waiting = [batch for batch in batches if not batch.is_ended]
        at_server = {key for batch in work.waiting for key in batch.keys}
        work.queue.extend(work.wanted[key] for key in work.wanted if key not in at_server)
        yield from self._send_and_collect(work)

    def _open_records(self) -> list[Batch]:
        """The batches of earlier runs, whose cost counts; read while the folder is held by this run."""
        if self._batches is None:
            self._batches = self._records.load()
            for batch in self._batches:
                if batch.is_ended:
                    self.spending.settle(0.0, batch.bill_usd)
                else:
                    self.spending.hold(batch.most_usd)
        return self._batches

    def _send_and_collect(self, work: _Work) -> Iterator[Output]:
        first_pause = pause = self._terms.poll_seconds
        deadline = time.monotonic() + SECONDS_PER_HOUR * self._terms.hours
        while True:
            self._send(work)
            if not work.waiting:
                break
            n_before = len(work.waiting)
            asked_pause = yield from self._collect_ended(work)
            if len(work.waiting) < n_before:  # there is room for more
                pause = first_pause
                continue
            if time.monotonic() > deadline:
                raise self._too_late(work)
            self._tell(work)
            time.sleep(max(asked_pause, pause * random.uniform(1, 1.1)))
            pause = min(LONGER * pause, LONGEST * first_pause)
        if work.faults:
            raise self._undone(work)

    def _collect_ended(self, work: _Work) -> Generator[Output, None, float]:
        """Yield the rows of batches that have ended; returns the longest pause that the server asks for."""
        longest = 0.0
        for batch in list(work.waiting):
            try:
                is_ended, asked_pause = self._look(batch)
            except EndpointDown:
                work.n_failures += 1
                if work.n_failures >= self._endpoint.max_failures:
                    raise
                continue
            work.n_failures = 0
            longest = max(longest, asked_pause)
            if is_ended:
                yield from self._collect(batch, work)
        return longest

    # ------------------------------------------------------------------ sending

    def _send(self, work: _Work) -> None:
        """Send as many batches as `at_once` and the limit allow; first those that a killed run had only planned."""
        for batch in list(work.waiting):
            if not batch.batch_id:
                self._start(batch, work, is_resumed=True)
        while work.queue and not work.faults and len(work.waiting) < self._terms.at_once:
            lines = self._next_lines(work)
            most = sum(line.most_usd for line in lines)
            if not self.spending.reserve(most):
                if not work.waiting:  # else one that ends may cost less than was set aside for it
                    work.faults.append(self._over_limit([line.key for line in lines], most))
                return
            path = PLAIN if work.queue[0].messages is None else CHAT
            batch = self._records.plan(path, lines, 1 + len(self._batches))
            self._batches.append(batch)
            work.waiting.append(batch)
            for _ in lines:
                work.n_sent[work.queue.popleft().key] += 1
            self._start(batch, work, is_resumed=False)

    def _next_lines(self, work: _Work) -> list[Line]:
        """The requests of the next batch, as many as its bounds allow. Raises ValueError for one that is too large."""
        lines: list[Line] = []
        n_bytes, most_bytes = 0, 1e6 * self._terms.megabytes
        for request in work.queue:
            line = self._line(request, work.decoding)
            n_bytes += len(json.dumps(line.body)) + LINE_BYTES
            if n_bytes > most_bytes or len(lines) == self._terms.requests:
                break
            lines.append(line)
        if not lines:
            _, problem_id, _ = work.queue[0].key
            raise ValueError(
                f"batch.megabytes: {self._terms.megabytes:g}: the request for problem {problem_id} alone is larger; "
                "raise it in the machine file"
            )
        return lines

    def _line(self, request: Request, decoding: Decoding) -> Line:
        body = call_arguments(self._model, [request], decoding, self._endpoint)
        body.update(body.pop("extra_body"))
        most = highest_price([request], decoding.max_tokens, self.spending) + self._excess_usd
        return Line(request.key, body, most)

    def _start(self, batch: Batch, work: _Work, is_resumed: bool) -> None:
        """Bring a planned batch to the server, once; where that is refused nothing more is sent."""
        self.tell(f"sending {batch.mark}")
        try:
            if not batch.file_id:
                batch.file_id = self._upload(batch, is_resumed)
                self._records.write(batch)
            entry = self._start_once(batch, is_resumed)
        except (EndpointRefused, SpendingLimit) as fault:
            if batch.asked_at:  # the server may have it
                raise
            work.faults.append(fault)
            work.waiting.remove(batch)
            self._batches.remove(batch)
            self._records.drop(batch)
            self.spending.settle(batch.most_usd, 0.0)
            undone = [work.wanted[key] for key in batch.keys if key in work.wanted]
            work.queue.extendleft(reversed(undone))
            return
        batch.batch_id, batch.status = entry["id"], _status(entry)
        self._records.write(batch)

    def _upload(self, batch: Batch, is_resumed: bool) -> str:
        """The id of the batch's file, which a killed run may have uploaded without noting it."""
        path = self._records.file(batch, "input")
        known = self._service.find_file(path.name) if is_resumed else None
        return known or self._service.upload(path.name, path.read_bytes())

    def _start_once(self, batch: Batch, is_resumed: bool) -> dict:
        """Ask the server to start a batch, unless it has it already from an earlier try, of this run or another."""
        failure = None
        for n_tries in range(1, 2 + self._endpoint.max_retries):
            if batch.asked_at and (found := self._find(batch)):
                return found
            batch.asked_at = 0.0
            # a limit may have been lowered since an earlier run planned this batch
            if is_resumed and not self.spending.is_within_limit:
                raise self._over_limit(batch.keys, batch.most_usd)
            batch.asked_at = time.time()
            self._records.write(batch)
            try:
                return self._service.start(batch.file_id, batch.path, batch.mark)
            except EndpointRefused:
                batch.asked_at = 0.0
                raise
            except MaybeStarted as error:
                failure = error.failure
                if error.surely_not:
                    batch.asked_at = 0.0
                    self._records.write(batch)
            time.sleep(pause_after(failure, n_tries, self._endpoint.backoff_seconds))
        raise EndpointDown(
            f"{self._endpoint.base_url}: POST /batches: {failure} (try {n_tries}). Whether it has started {batch.mark} "
            "is looked up by the next run, before it asks again: run again when it answers"
        )

    def _find(self, batch: Batch) -> dict | None:
        """The batch as the server's list has it; None once the list lacks it `settle_seconds` after that was asked."""
        settle = self._terms.settle_seconds
        seconds = min(settle, settle - (time.time() - batch.asked_at))  # a clock may be set back
        settled_at = time.monotonic() + seconds
        while True:
            left = settled_at - time.monotonic()
            if found := self._service.find_batch(batch.mark, batch.file_id):
                return found
            if left <= 0:
                return None
            self.tell(f"looking for {batch.mark} at the server")
            time.sleep(min(left, self._terms.poll_seconds))

    # ------------------------------------------------------------------ collecting

    def _look(self, batch: Batch) -> tuple[bool, float]:
        """Whether a batch has ended, after noting how it stands; and the pause that the server asks for."""
        try:
            entry, asked_pause = self._service.look(batch.batch_id)
        except EndpointRefused as refused:
            is_new = time.time() - batch.asked_at < self._terms.settle_seconds
            if refused.status == 404 and is_new:  # not yet known everywhere
                return False, 0.0
            raise EndpointRefused(
                f"{refused}. Batch {batch.name} was started with the key and address of an earlier run: take these "
                f"again, or, to give its {len(batch.keys)} requests up, delete {self._records.record(batch)}",
                refused.status,
            ) from None
        batch.status = _status(entry)
        counts = entry.get("request_counts")
        batch.n_completed = counts.get("completed") if isinstance(counts, dict) else None
        if batch.status not in ENDED:
            return False, asked_pause
        batch.said = _errors(entry)
        texts = {}
        for part in PARTS:
            file_id = entry.get(f"{part.removesuffix('s')}_file_id")
            if file_id:
                texts[part] = self._service.content(file_id)
        self._records.keep_results(batch, texts)
        return True, asked_pause

    def _collect(self, batch: Batch, work: _Work) -> Iterator[Output]:
        """The rows of a batch that has ended, and its bill; what it left undone is sent again where that may help."""
        results = self._read(batch, work.decoding)
        batch.bill_usd, batch.odd_lines = results.bill_usd, dict(results.odd_lines)
        self._records.write(batch)
        self.spending.settle(batch.most_usd, batch.bill_usd)
        self._excess_usd = max(self._excess_usd, results.excess_usd)
        work.waiting.remove(batch)
        if words := odd_in_words(batch.odd_lines):
            print(f"batch {batch.name}: {words}")
        yield from _rows(results.samples.values(), work)

        undone = results.failures | results.missing
        if batch.status in ("cancelled", "failed") or not results.samples:
            work.faults.append(self._fault_of(batch, undone))
        for key, failure in undone.items():
            request = work.wanted.get(key)
            if request is None:
                continue
            may_pass = not (work.faults or failure.stops)
            if may_pass and work.n_sent[key] <= self._endpoint.max_retries:
                work.queue.append(request)
            else:
                reason = f"{failure} (batch {batch.name}, {batch.status})"
                yield from _rows(error_rows([request], reason), work)

    def _read(self, batch: Batch, decoding: Decoding) -> Results:
        reader = Reader(decoding.max_tokens, self.spending, self._service.api_key)
        n_completed = 0 if batch.status == "failed" else batch.n_completed
        lines = self._records.results(batch)
        return reader.read(lines, self._records.requests(batch), n_completed)

    # ------------------------------------------------------------------ what is said

    def _tell(self, work: _Work) -> None:
        n_requests = sum(len(batch.keys) for batch in work.waiting)
        n_done = sum(batch.n_completed or 0 for batch in work.waiting)
        n_batches = f"{len(work.waiting)} batch{'es' if len(work.waiting) > 1 else ''}"
        self.tell(f"{n_batches} at the server, {n_done:,} of {n_requests:,} answered")

    def _over_limit(self, keys: Collection[Key], most_usd: float) -> SpendingLimit:
        spending = self.spending
        return SpendingLimit(
            f"limit_usd: {spending.limit_usd}: {spending.spent_usd:.6f} USD are spent; the next batch, "
            f"{_span(keys)}, may cost {most_usd:.6f} and is not sent: raise the limit, or lower batch.requests"
        )

    def _too_late(self, work: _Work) -> BatchesStopped:
        names = ", ".join(f"{batch.name} ({batch.status})" for batch in work.waiting)
        return BatchesStopped(
            f"batch.hours: {self._terms.hours:g} hours have passed and these have not ended: {names}. "
            f"{len(work.wanted):,} samples are undone: run again to go on waiting; nothing is sent twice"
        )

    def _fault_of(self, batch: Batch, undone: dict[Key, Failure]) -> ValueError:
        """What is wrong with a batch that ended without a sample, or was ended by somebody."""
        words = (
            f"batch {batch.name} of {self._endpoint.base_url} ({_span(batch.keys)}): {batch.status}"
        )
        if batch.status == "cancelled":
            return BatchesStopped(f"{words}; what it left undone has no sample")
        if batch.status == "failed":
            hint = "where the server's queue is full, lower batch.requests and batch.at_once"
            return BatchesStopped(f"{words}: {batch.said or 'no reason is given'}; {hint}")
        first = next(iter(undone.values()))
        what_to_do = remedy(first, self._model, self._endpoint, self._sent(batch))
        said = f"{words}, without any sample; the first request failed with {first}"
        kind = EndpointRefused if first.stops else BatchesStopped
        return kind(f"{said}. {what_to_do}" if what_to_do else said)

    def _sent(self, batch: Batch) -> dict:
        """The fields of a batch's calls."""
        with open(self._records.file(batch, "input"), encoding="utf-8") as lines:
            return json.loads(next(lines))["body"]

    def _undone(self, work: _Work) -> ValueError:
        """All that stopped this run, and how many samples it left."""
        words = "; ".join(dict.fromkeys(str(fault) for fault in work.faults))
        left = f"{len(work.queue):,} requests were not sent; run again to send all that failed or is undone"
        return type(work.faults[0])(f"{words}. {left}; what was drawn is kept")

    def use(self, adapter: str | None) -> None:
        """A server serves its model as it is: there is nothing to choose."""

    def close(self) -> None:
        self._service.close()


def _rows(outputs: Iterable[Output], work: _Work) -> Iterator[Output]:
    """Those of the outputs that are still wanted, which then are no more."""
    for output in outputs:
        if work.wanted.pop(output.key, None):
            yield output


def _span(keys: Collection[Key]) -> str:
    """Which requests a batch has, in words."""
    (_, first, _), (_, last, _) = itemgetter(0, -1)(list(keys))
    return f"{len(keys):,} requests from problem {first} to {last}"


def _status(entry: dict) -> str:
    word = str(entry.get("status") or "").lower()
    return SPELT.get(word, word)


def _errors(entry: dict) -> str:
    """Why a batch failed as a whole, in the server's words."""
    errors = entry.get("errors")
    listed = errors.get("data") if isinstance(errors, dict) else errors
    if not listed:
        return ""
    return server_words(json.dumps({"error": listed}))
