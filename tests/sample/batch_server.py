"""A batch service on loopback: /files and /batches as OpenAI documents them, with whatever faults a test asks for."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from endpoint_server import answer

EXPIRED = {"code": "batch_expired", "message": "The request was not executed in time"}


class BatchServer(ThreadingHTTPServer):
    """Answers the requests of a batch when it has been looked at `n_looks` times.

    Hooks: `line(custom_id, body)` gives a request's line of the output file (a dict, or a text as it is), None for a
    request that expired, and "" for none at all; `before(what, number)` and `after(what, number)` are called around
    every call (what: "POST /files" …), and the former may answer in its place: (status, JSON or text).
    """

    daemon_threads = True

    def __init__(self, line: Callable | None = None, n_looks: int = 1, is_metadata_kept=True):
        super().__init__(("127.0.0.1", 0), Handler)
        self.line, self.n_looks, self.is_metadata_kept = (
            line or good_line,
            n_looks,
            is_metadata_kept,
        )
        self.before: Callable = lambda what, number: None
        self.after: Callable = lambda what, number: None
        self.final = "completed"
        self.is_due: Callable = lambda batch_id: True  # whether a batch may end at all
        self.lock = threading.RLock()
        self.files: dict[str, tuple[str, str]] = {}  # id: name, text
        self.batches: dict[str, dict] = {}
        self.looks: dict[str, int] = {}
        self.calls: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def close(self):
        self.shutdown()
        self.server_close()

    def handle_error(self, request, client_address):
        pass  # a client that was killed

    def requests(self) -> list[dict]:
        """Every request of every batch that was started."""
        sent = []
        for batch in self.batches.values():
            _, text = self.files[batch["input_file_id"]]
            sent += [json.loads(line) for line in text.splitlines()]
        return sent

    # ------------------------------------------------------------------ what it does

    def keep(self, name: str, text: str) -> dict:
        file_id = f"file-{len(self.files)}"
        self.files[file_id] = name, text
        return {"id": file_id, "object": "file", "filename": name, "purpose": "batch"}

    def start(self, asked: dict) -> dict:
        batch_id = f"batch_{len(self.batches)}"
        batch = {
            "id": batch_id,
            "object": "batch",
            "endpoint": asked["endpoint"],
            "input_file_id": asked["input_file_id"],
            "completion_window": asked["completion_window"],
            "created_at": int(time.time()),
            "status": "validating",
            "metadata": asked.get("metadata") if self.is_metadata_kept else None,
        }
        self.batches[batch_id] = batch
        self.looks[batch_id] = 0
        return batch

    def look(self, batch_id: str) -> dict:
        batch = self.batches[batch_id]
        self.looks[batch_id] += 1
        is_ripe = self.looks[batch_id] >= self.n_looks and self.is_due(batch_id)
        if is_ripe and "request_counts" not in batch:
            self.finish(batch)
        return batch

    def finish(self, batch: dict) -> None:
        """Write the results of all requests, whatever the final status is to be."""
        _, text = self.files[batch["input_file_id"]]
        output, errors = [], []
        for line in text.splitlines():
            asked = json.loads(line)
            told = self.line(asked["custom_id"], asked["body"])
            if told is None:
                told = {"custom_id": asked["custom_id"], "response": None, "error": EXPIRED}
            is_error = isinstance(told, dict) and not is_good(told)
            (errors if is_error else output).append(told)
        batch["status"] = self.final
        n_answered = sum(told != "" for told in output)
        batch["request_counts"] = {"total": 0, "completed": n_answered, "failed": len(errors)}
        if output:
            batch["output_file_id"] = self.keep("output", _lines(output))["id"]
        if errors:
            batch["error_file_id"] = self.keep("errors", _lines(errors))["id"]


def is_good(line: dict) -> bool:
    return (line.get("response") or {}).get("status_code") == 200


def good_line(custom_id: str, body: dict, **more) -> dict:
    _, content = answer(body, **more)
    return line_of(custom_id, 200, content)


def line_of(custom_id: str, status: int, body) -> dict:
    response = {"status_code": status, "request_id": "r", "body": body}
    return {
        "id": f"batch_req_{custom_id}",
        "custom_id": custom_id,
        "response": response,
        "error": None,
    }


def _lines(entries: list) -> str:
    texts = [entry if isinstance(entry, str) else json.dumps(entry) for entry in entries]
    return "".join(f"{text}\n" for text in texts if text)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.reply(b"")

    def do_POST(self):
        self.reply(self.rfile.read(int(self.headers["content-length"])))

    def reply(self, sent: bytes):
        server, url = self.server, urlsplit(self.path)
        what = f"{self.command} {url.path.removeprefix('/v1')}"
        with server.lock:
            number = len(server.calls)
            server.calls.append(what)
            answered = server.before(what, number)
            status, content = answered or (200, self.answer(what, sent, parse_qs(url.query)))
        server.after(what, number)
        text = content if isinstance(content, str) else json.dumps(content)
        data = text.encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("connection", "close")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
        self.close_connection = True

    def answer(self, what: str, sent: bytes, query: dict):
        server = self.server
        if what == "POST /files":
            head, _, rest = sent.partition(b'filename="')
            name, _, rest = rest.partition(b'"')
            _, _, rest = rest.partition(b"\r\n\r\n")
            text, _, _ = rest.partition(b"\r\n--")
            return server.keep(name.decode(), text.decode())
        if what == "GET /files":
            listed = [
                {"id": file_id, "filename": name} for file_id, (name, _) in server.files.items()
            ]
            return paged(listed, query)
        if what.startswith("GET /files/"):
            _, text = server.files[what.split("/")[2]]
            return text
        if what == "POST /batches":
            return server.start(json.loads(sent))
        if what == "GET /batches":
            return paged(list(server.batches.values())[::-1], query)
        return server.look(what.split("/")[2])

    def log_message(self, *args):
        pass


def paged(entries: list[dict], query: dict) -> dict:
    """At most two entries of a list, so that clients have to turn pages."""
    after = query.get("after", [""])[0]
    ids = [entry["id"] for entry in entries]
    start = ids.index(after) + 1 if after in ids else 0
    page = entries[start : start + 2]
    return {"object": "list", "data": page, "has_more": start + 2 < len(entries)}
