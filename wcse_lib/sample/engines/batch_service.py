"""The calls that a batch service takes: files up and down, batches started, looked at and found again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from wcse_lib.sample.engines.failures import (
    EndpointRefused,
    ErrorInReply,
    Failure,
    Unreadable,
    error_in,
    read_body,
    read_failure,
    retry_after,
)
from wcse_lib.sample.engines.keys import lines_without_key
from wcse_lib.sample.engines.service import Service

MARK = "wcse"  # the key of our mark in a batch's metadata
WINDOW = "24h"  # the one completion window that all services take
PAGE = 100  # entries of a list at a time, the most that is allowed
NO_SERVICE = (404, 405, 501)


class MaybeStarted(Exception):
    """A call that starts a batch has failed; only where `surely_not` is the batch surely not started."""

    def __init__(self, failure: Failure):
        super().__init__(str(failure))
        self.failure = failure
        self.surely_not = failure.status == 429 or not failure.has_connected


class BatchService(Service):
    """One server's /files and /batches. Calls that fail are tried again, but not the one that starts a batch."""

    def check(self) -> None:
        """Raise EndpointRefused where batches are not taken or the key is wrong: before anything is sent."""
        batches = self._client.batches.with_raw_response
        try:
            self.ask("GET /batches", lambda: batches.list(limit=1), _entries)
        except EndpointRefused as error:
            if error.status not in NO_SERVICE:
                raise
            raise EndpointRefused(
                f"{self._endpoint.base_url} takes no batches ({error}); check base_url, or write engine: openai for "
                "the arm, which calls the server once for each sample"
            ) from None

    def upload(self, name: str, content: bytes) -> str:
        """Upload a batch's file; its id."""
        files = self._client.files.with_raw_response

        def send():
            return files.create(file=(name, content, "application/jsonl"), purpose="batch")

        return self.ask(f"POST /files of {name}", send, _entry)["id"]

    def find_file(self, name: str) -> str | None:
        """The id of an uploaded file of that name; None where no list has it, or files are not listed."""
        files = self._client.files.with_raw_response
        try:
            for entry in self._listed(
                "GET /files", lambda **page: files.list(purpose="batch", **page)
            ):
                if entry.get("filename") == name:
                    return entry["id"]
        except EndpointRefused:
            pass  # a file that is uploaded once more costs nothing
        return None

    def start(self, file_id: str, path: str, mark: str) -> dict:
        """Start a batch. Raises MaybeStarted where it cannot be told from the answer, EndpointRefused where not."""
        batches = self._client.batches.with_raw_response
        try:
            answer = batches.create(
                input_file_id=file_id,
                endpoint=path,
                completion_window=WINDOW,
                metadata={MARK: mark},
            )
            return _entry(read_body(answer.text, self.api_key))
        except Exception as error:
            failure = read_failure(error, self.api_key, self._endpoint.timeout_seconds)
        if failure.stops:
            raise self.refused("POST /batches", failure)
        raise MaybeStarted(failure)

    def find_batch(self, mark: str, file_id: str) -> dict | None:
        """The batch of that mark or that file, as the list has it; None where it has none."""
        batches = self._client.batches.with_raw_response
        for entry in self._listed("GET /batches", batches.list):
            metadata = entry.get("metadata") or {}
            if metadata.get(MARK) == mark or entry.get("input_file_id") == file_id:
                return entry
        return None

    def look(self, batch_id: str) -> tuple[dict, float]:
        """A batch as it stands, and the seconds that the server asks to wait before the next look; tried once."""
        batches = self._client.batches.with_raw_response
        asked: list[float] = []

        def send():
            answer = batches.retrieve(batch_id)
            asked.append(retry_after(answer.headers))
            return answer

        entry = self.ask(f"GET /batches/{batch_id}", send, _entry, n_tries=1)
        return entry, asked[-1]

    def content(self, file_id: str) -> str:
        """A file's text, without the key."""
        files = self._client.files.with_raw_response
        what = f"GET /files/{file_id}/content"
        text = self.ask(what, lambda: files.content(file_id), lambda text: text, is_json=False)
        return lines_without_key(text, self.api_key)

    def _listed(self, what: str, ask: Callable) -> Iterator[dict]:
        """All entries of a list, page by page."""
        seen: set[str] = set()
        page: dict = {"limit": PAGE}
        while True:
            body = self.ask(what, lambda page=page: ask(**page), lambda body: body)
            new = [entry for entry in _entries(body) if entry["id"] not in seen]
            yield from new
            # a server that knows no pages gives the same entries again
            if not new or not isinstance(body, dict) or not body.get("has_more"):
                return
            seen.update(entry["id"] for entry in new)
            page = {"limit": PAGE, "after": new[-1]["id"]}


def _entry(body: Any) -> dict:
    """A file or a batch that an answer holds. Raises ErrorInReply or Unreadable where it holds none."""
    if isinstance(body, dict) and isinstance(body.get("job"), dict):  # some servers wrap it so
        body = body["job"]
    if isinstance(body, dict) and isinstance(body.get("id"), str) and body["id"]:
        return body
    if said := error_in(body):
        raise ErrorInReply(said)
    raise Unreadable(f"neither file nor batch in the answer: {body}")


def _entries(body: Any) -> list[dict]:
    """The files or batches of a list. Raises ErrorInReply or Unreadable where an answer is none."""
    listed = body.get("data") if isinstance(body, dict) else body
    if isinstance(listed, list):
        return [entry for entry in listed if isinstance(entry, dict) and entry.get("id")]
    if said := error_in(body):
        raise ErrorInReply(said)
    raise Unreadable(f"no list in the answer: {body}")
