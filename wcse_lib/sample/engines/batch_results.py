"""What the result files of a batch say: for every request a sample or a failure, and what all of them have cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from wcse_lib.sample.engines import Key, Output, Request
from wcse_lib.sample.engines.failures import (
    ErrorInReply,
    Failure,
    Unreadable,
    failure_of_line,
    read_body,
    read_failure,
)
from wcse_lib.sample.engines.replies import error_rows, highest_price, read_reply
from wcse_lib.sample.engines.spending import Spending

NO_JSON = "no JSON"
UNKNOWN_ID = "of an unknown custom_id"
REPEATED = "of a custom_id that came before"


@dataclass
class Results:
    """By key a sample, or why there is none (`missing`: no line tells of it); the bill; odd lines by kind."""

    samples: dict[Key, Output] = field(default_factory=dict)
    failures: dict[Key, Failure] = field(default_factory=dict)
    missing: dict[Key, Failure] = field(default_factory=dict)
    bill_usd: float = 0.0
    odd_lines: Counter = field(default_factory=Counter)
    excess_usd: float = 0.0  # by which a sample cost more than its prompt and max_tokens let expect

    @property
    def whole(self) -> list[Output]:
        """Samples that are not to be drawn again."""
        return [
            each for each in self.samples.values() if each.finish_reason != "error" or each.is_kept
        ]


@dataclass(frozen=True)
class Reader:
    """How lines are read: as the answers of single calls are."""

    max_tokens: int
    spending: Spending
    api_key: str

    def read(
        self, lines: Iterable[str], asked: Mapping[str, Request], n_completed: int | None
    ) -> Results:
        """What the lines of a batch's results give for its requests.

        The first sample of a request counts, else its first failure. Failures are not billed, but for answers that are
        torn; of requests without a line as many count as billed as the server says to have answered
        (`n_completed`; all of them where it does not say), each with the most that it can cost.

        Args: asked: the batch's requests by custom_id.
        """
        results = Results()
        answers = self._answers(lines, asked, results.odd_lines)
        for custom_id, request in asked.items():
            for answer in answers.get(custom_id, []):
                self._enter(answer, request, results)
        missing = [request for request in asked.values() if not _is_told(request, results)]
        results.missing = {request.key: _no_line(results.odd_lines) for request in missing}
        results.bill_usd += self._bill_of_missing(missing, len(results.samples), n_completed)
        return results

    def _answers(
        self, lines: Iterable[str], asked: Mapping[str, Request], odd_lines: Counter
    ) -> dict[str, list[dict]]:
        """The lines by custom_id; those that belong to no request are counted by kind."""
        answers: dict[str, list[dict]] = {}
        for line in lines:
            if not line.strip():
                continue
            try:
                answer = read_body(line, self.api_key)
            except (Unreadable, ErrorInReply):
                answer = None
            if not isinstance(answer, dict):
                odd_lines[NO_JSON] += 1
                continue
            custom_id = str(answer.get("custom_id"))
            if custom_id not in asked:
                odd_lines[UNKNOWN_ID] += 1
                continue
            before = answers.setdefault(custom_id, [])
            odd_lines[REPEATED] += bool(before)
            before.append(answer)
        return answers

    def _enter(self, answer: dict, request: Request, results: Results) -> None:
        """Enter what a line says of a request that has no sample yet."""
        if request.key in results.samples:
            return
        most = highest_price([request], self.max_tokens, self.spending)
        read = self._read_answer(answer, request)
        if isinstance(read, Failure) and read.is_filter:
            # this one prompt is refused, and would be again
            (row,) = error_rows([request], str(read), is_kept=True)
            read = row, 0.0
        if isinstance(read, Failure):
            is_first = results.failures.setdefault(request.key, read) is read
            results.bill_usd += most if is_first and read.maybe_billed else 0.0
            return
        sample, bill = read
        failed = results.failures.pop(request.key, None)
        if failed and failed.maybe_billed:  # a request is billed once
            results.bill_usd -= most
        results.samples[request.key] = sample
        results.bill_usd += most if bill is None else bill
        results.excess_usd = max(results.excess_usd, (bill or 0.0) - most)

    def _read_answer(self, answer: dict, request: Request) -> tuple[Output, float | None] | Failure:
        response = answer.get("response")
        if not isinstance(response, dict) or not response:
            return failure_of_line(
                answer.get("error") or "neither response nor error", None, self.api_key
            )
        body, status = response.get("body", response), response.get("status_code", 200)
        try:
            if isinstance(body, str):
                body = read_body(body, self.api_key)
            if status != 200:
                known = status if isinstance(status, int) else None
                return failure_of_line(body, known, self.api_key)
            (sample,), bill = read_reply(body, [request], self.max_tokens, self.spending)
        except (Unreadable, ErrorInReply) as error:
            return read_failure(error, self.api_key, 0.0)
        return sample, bill

    def _bill_of_missing(
        self, missing: list[Request], n_samples: int, n_completed: int | None
    ) -> float:
        prices = sorted(highest_price([each], self.max_tokens, self.spending) for each in missing)
        if n_completed is None:
            return sum(prices)
        n_unseen = max(0, n_completed - n_samples)
        return sum(prices[len(prices) - min(n_unseen, len(prices)) :])


def _is_told(request: Request, results: Results) -> bool:
    return request.key in results.samples or request.key in results.failures


def _no_line(odd_lines: Mapping[str, int]) -> Failure:
    """Why a request has no line, as far as odd lines can tell."""
    words = "no line of the batch's results is of this request"
    if said := odd_in_words(odd_lines):
        words += f" ({said})"
    return Failure(words)


def odd_in_words(odd_lines: Mapping[str, Any]) -> str:
    """
    >>> odd_in_words({"no JSON": 2, "of an unknown custom_id": 0})
    'of its lines 2 are no JSON'
    """
    kinds = [f"{n} are {kind}" for kind, n in odd_lines.items() if n]
    return f"of its lines {', '.join(kinds)}" if kinds else ""
