"""One server, called one call at a time: tried again while waiting can help, and refused in words where it cannot."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

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
from wcse_lib.study import Endpoint


class Service:
    """A server's calls. Raises ValueError for a missing key, EndpointRefused for what waiting cannot mend,
    EndpointDown after `max_retries` tries."""

    def __init__(self, model: str, endpoint: Endpoint):
        self._model, self._endpoint = model, endpoint
        self.api_key = read_key(endpoint)
        self._client = open_client(endpoint, self.api_key, is_async=False)

    def ask(
        self,
        what: str,
        send: Callable,
        read: Callable[[Any], Any],
        n_tries: int | None = None,
        is_json: bool = True,
    ) -> Any:
        """One answer, after as many tries as it takes and is allowed."""
        n_allowed = n_tries or 1 + self._endpoint.max_retries
        for n in range(1, n_allowed + 1):
            try:
                text = send().text
                return read(read_body(text, self.api_key) if is_json else text)
            except Exception as error:
                failure = read_failure(error, self.api_key, self._endpoint.timeout_seconds)
            self.note_failure(failure)
            if failure.stops:
                raise self.refused(what, failure)
            if n < n_allowed:
                time.sleep(pause_after(failure, n, self._endpoint.backoff_seconds))
        raise EndpointDown(f"{self._endpoint.base_url}: {what}: {failure} (try {n_allowed})")

    def note_failure(self, failure: Failure) -> None:
        """What a service that bills does at a failed try; others do nothing."""

    def refused(self, what: str, failure: Failure) -> EndpointRefused:
        what_to_do = remedy(failure, self._model, self._endpoint, {})
        words = f"{self._endpoint.base_url}: {what}: {failure}"
        said = f"{words}. {what_to_do}" if what_to_do else words
        return EndpointRefused(said, failure.status)

    def close(self) -> None:
        self._client.close()
