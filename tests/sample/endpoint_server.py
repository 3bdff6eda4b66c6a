"""An OpenAI-compatible server on loopback that behaves as a test says."""

import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


class Call(NamedTuple):
    path: str
    body: dict
    authorization: str | None
    time: float


def answer(body, texts=None, usage=USAGE, end="stop", **message):
    """A good answer: one text a sample, which tells the seed."""
    texts = texts or [f"text {body['seed']}"] * body.get("n", 1)
    choices = []
    for text in texts:
        shown = {"text": text}
        if "messages" in body:
            shown = {"message": {"content": text, **message}}
        choices.append(shown | {"finish_reason": end})
    content = {"choices": choices}
    if usage is not None:
        content["usage"] = usage
    return 200, content


def answering(number, body):
    return answer(body)


class Server(ThreadingHTTPServer):
    """Calls `behave(number, body)` for its n-th request; it returns (status, JSON or bytes[, headers])."""

    daemon_threads = True

    def __init__(self, behave: Callable = answering):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave, self.lock = behave, threading.Lock()
        self.calls: list[Call] = []
        self.n_now = self.most_at_once = 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def handle_error(self, request, client_address):
        pass

    def close(self):
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        key = self.headers.get("authorization")
        with server.lock:
            number = len(server.calls)
            server.calls.append(Call(self.path, body, key, time.monotonic()))
            server.n_now += 1
            server.most_at_once = max(server.most_at_once, server.n_now)
        try:
            status, content, *headers = server.behave(number, body)
        finally:
            with server.lock:
                server.n_now -= 1
        if not isinstance(content, bytes):
            content = json.dumps(content).encode()
        missing = 50 if content.endswith(b"cont") else 0  # a torn answer
        self.send_response(status)
        for name, value in (headers[0] if headers else {}).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        # So that no client uses a closed connection again and pays twice.
        self.send_header("connection", "close")
        self.send_header("content-length", str(len(content) + missing))
        self.end_headers()
        if content.startswith(b" drip"):
            for byte in content:
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *args):
        pass
