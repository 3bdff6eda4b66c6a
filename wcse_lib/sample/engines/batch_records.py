"""What was sent to a batch service, noted on disk before and after every step, so that nothing is sent twice."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple

from wcse_lib.sample.engines import Key, Request
from wcse_lib.store import read_json, write_json, write_text

PARTS = ("output", "errors")  # the files that a server writes: samples, and requests that failed


class Line(NamedTuple):
    """One request as a line of a batch's file, and what it may cost at most, in USD."""

    key: Key
    body: dict
    most_usd: float


@dataclass
class Batch:
    """One batch, and how far it has come: planned, its file uploaded, started at the server, ended and paid.

    `mark` names it here, its file there, and stands in its metadata there: by it a batch is found again whose id was
    not yet written down. Line i of its file is the request of `keys[i]`.
    """

    mark: str
    path: str  # of the service that its requests are for, such as /v1/chat/completions
    keys: list[Key]
    most_usd: float
    planned_at: float
    file_id: str = ""
    asked_at: float = 0.0  # when the server was last asked to start it; 0: never, or surely not
    batch_id: str = ""
    status: str = ""  # the server's last word
    said: str = ""  # why it failed as a whole
    n_completed: int | None = None  # requests that the server says to have answered
    bill_usd: float | None = None  # known once its results are here: then it is ended
    odd_lines: dict[str, int] = field(default_factory=dict)  # of its results, by kind

    @property
    def is_ended(self) -> bool:
        return self.bill_usd is not None

    @property
    def name(self) -> str:
        """How messages call it."""
        return self.batch_id or self.mark

    def id_of(self, place: int) -> str:
        """The custom_id of a line."""
        return f"{self.mark}-{place}"


class Records:
    """The batches of one arm, in a folder of their own: for each what was sent, how far it is, and what came."""

    def __init__(self, folder: Path):
        self.folder = folder

    def load(self) -> list[Batch]:
        """All batches, in the order in which they were planned; what a killed run left half written is removed."""
        batches = []
        for path in sorted(self.folder.glob("wcse-*.json")):
            data = read_json(path)
            data["keys"] = [tuple(key) for key in data["keys"]]
            batches.append(Batch(**data))
        planned = {self.file(batch, "input") for batch in batches}
        never_planned = set(self.folder.glob("*.input.jsonl")) - planned
        for stale in [*never_planned, *self.folder.glob(".wcse-*.tmp")]:
            stale.unlink()
        return batches

    def plan(self, path: str, lines: list[Line], number: int) -> Batch:
        """Write down a batch that is to be sent: first its file, then its record, which makes it count."""
        batch = Batch(
            mark=f"wcse-{number:05d}-{secrets.token_hex(8)}",
            path=path,
            keys=[line.key for line in lines],
            most_usd=sum(line.most_usd for line in lines),
            planned_at=time.time(),
        )
        sent = []
        for place, line in enumerate(lines):
            request = {"custom_id": batch.id_of(place), "method": "POST", "url": path}
            sent.append(json.dumps(request | {"body": line.body}) + "\n")
        write_text(self.file(batch, "input"), "".join(sent))
        self.write(batch)
        return batch

    def write(self, batch: Batch) -> None:
        write_json(self.record(batch), asdict(batch))

    def drop(self, batch: Batch) -> None:
        """Forget a batch that the server did not take."""
        self.record(batch).unlink(missing_ok=True)
        self.file(batch, "input").unlink(missing_ok=True)

    def requests(self, batch: Batch) -> dict[str, Request]:
        """What was asked, by custom_id, as the batch's file has it."""
        asked = {}
        for key, line in zip(batch.keys, self.file(batch, "input").read_text().split("\n")):
            sent = json.loads(line)
            asked[sent["custom_id"]] = _request(key, sent["body"])
        return asked

    def keep_results(self, batch: Batch, texts: dict[str, str]) -> None:
        """Write the server's files as they came, by part; what was paid for stays readable after it forgets them."""
        for part, text in texts.items():
            write_text(self.file(batch, part), text)

    def results(self, batch: Batch) -> list[str]:
        """The lines of its results, samples first."""
        lines = []
        for part in PARTS:
            path = self.file(batch, part)
            if path.exists():
                # not `splitlines`, which would also cut at separators that JSON allows within a text
                lines += path.read_text(encoding="utf-8").split("\n")
        return lines

    def file(self, batch: Batch, part: str) -> Path:
        """The file of a part: input, output or errors."""
        return self.folder / f"{batch.mark}.{part}.jsonl"

    def record(self, batch: Batch) -> Path:
        return self.folder / f"{batch.mark}.json"


def _request(key: Key, body: dict) -> Request:
    prompt = body.get("prompt", "")
    is_ids = isinstance(prompt, list)
    return Request(
        key,
        prompt_ids=prompt if is_ids else [],
        seed=body.get("seed", 0),
        messages=body.get("messages"),
        text="" if is_ids else prompt,
    )
