"""The endpoint engine against a misbehaving server on loopback."""

import asyncio
import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from wcse_lib.sample.engines import Decoding, Request, open_engine
from wcse_lib.sample.engines.openai import EndpointDown
from wcse_lib.sample.engines.spending import Spending, SpendingLimit
from wcse_lib.study import Machine

pytest.importorskip("openai", reason="the openai client is not installed (extra: api)")

KEY = "sk-very-secret-0123456789"
FAST = {"backoff_seconds": 0.01, "timeout_seconds": 5, "concurrency": 4}
PRICES = {"price_in": 1e6, "price_out": 1e6}  # one token, one dollar
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def answer(body, texts=None, usage=USAGE, end="stop", **message):
    texts = texts or [f"text {body['seed']}"] * body.get("n", 1)
    if "messages" in body:
        choices = [
            {"message": {"content": text, **message}, "finish_reason": end} for text in texts
        ]
    else:
        choices = [{"text": text, "finish_reason": end} for text in texts]
    return 200, {"choices": choices} | ({} if usage is None else {"usage": usage})


class Server(ThreadingHTTPServer):
    """Calls `behave(number, body)` for its n-th request; it returns (status, JSON or bytes[, headers])."""

    daemon_threads = True

    def __init__(self, behave):
        super().__init__(("127.0.0.1", 0), Handler)
        self.behave, self.seen, self.lock = behave, [], threading.Lock()
        self.now, self.most = 0, 0
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        server = self.server
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with server.lock:
            number = len(server.seen)
            server.seen.append(
                (self.path, body, self.headers.get("authorization"), time.monotonic())
            )
            server.now += 1
            server.most = max(server.most, server.now)
        try:
            status, content, *headers = server.behave(number, body)
        finally:
            with server.lock:
                server.now -= 1
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in (headers[0] if headers else {}).items():
            self.send_header(name, value)
        self.send_header("content-type", "application/json")
        self.send_header(
            "connection", "close"
        )  # told, so that no client reuses a closed connection and pays twice
        self.send_header(
            "content-length", str(len(content) + 50 * content.endswith(b"cont"))
        )  # torn
        self.end_headers()
        for i in range(len(content)) if content.startswith(b" drip") else ():
            self.wfile.write(content[i : i + 1])
            time.sleep(0.1)
        self.wfile.write(content)
        self.close_connection = True

    def log_message(self, *args):
        pass


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    opened = []

    def start(behave, spending=None, **keys):
        server = Server(behave)
        url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        machine = Machine(**FAST | {"base_url": url} | keys)
        engine = open_engine("openai", "some-model", machine, spending=spending)
        opened.extend([engine.close, server.shutdown, server.server_close])
        return engine, server

    yield start
    for close in opened:
        close()


def chat(n, problem="p"):
    return [
        Request(("se", problem, i), [], 2**62 + i, [{"role": "user", "content": problem}])
        for i in range(n)
    ]


def draw(engine, requests, **sampling):
    outputs = list(engine.generate(requests, Decoding(max_tokens=8, **sampling)))
    assert KEY not in repr(outputs)
    return sorted(outputs, key=lambda o: o.key)


def test_chat_request_and_row(serve):
    engine, server = serve(
        lambda i, body: answer(body),
        Spending(**PRICES),
        extra_body={"chat_template_kwargs": {"x": 1}},
    )
    (output,) = draw(engine, chat(1), temperature=0.5, top_k=3, top_p=0.9, stop=("Q:",))
    path, body, authorization, _ = server.seen[0]
    assert path == "/v1/chat/completions" and authorization == f"Bearer {KEY}"
    assert body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": "p"}],
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "stop": ["Q:"],
        "seed": 2**62 % 2**31,
        "max_tokens": 8,
        "chat_template_kwargs": {"x": 1},
    }
    assert (output.n_prompt_tokens, output.n_tokens, output.finish_reason, output.error) == (
        3,
        2,
        "stop",
        "",
    )
    assert output.usd == engine.spending.spent_usd == 5.0
    assert KEY not in repr(engine)


def test_raw_prompt_uses_completions(serve):
    engine, server = serve(lambda i, body: answer(body))
    (output,) = draw(engine, [Request(("wc", "p", 0), [1, 5, 6], 7)])
    assert server.seen[0][0] == "/v1/completions" and server.seen[0][1]["prompt"] == [1, 5, 6]
    assert (output.text, output.n_prompt_tokens, output.usd) == ("text 7", 3, None)
    (output,) = draw(
        engine, [Request(("wc", "p", 0), [1, 5], 7)]
    )  # the server says 3: perhaps a second BOS
    assert output.n_prompt_tokens == -1 and "usage" in output.error


def test_reasoning_is_joined_and_ends_are_named(serve):
    engine, _ = serve(lambda i, body: answer(body, ["4"], end="length", reasoning_content="2+2"))
    (output,) = draw(engine, chat(1))
    assert output.text == "<think>2+2</think>4" and output.finish_reason == "length"
    engine, _ = serve(lambda i, body: answer(body, end="content_filter"))
    (output,) = draw(engine, chat(1))
    assert output.finish_reason == "error" and "content_filter" in output.error


def test_429_storm_waits_as_told(serve):
    def behave(i, body):
        return (429, {"error": "slow down"}, {"retry-after": "0.4"}) if i < 4 else answer(body)

    engine, server = serve(behave)
    outputs = draw(engine, chat(6))
    assert [o.finish_reason for o in outputs] == ["stop"] * 6 and len({o.key for o in outputs}) == 6
    times = [seen[3] for seen in server.seen]
    assert min(times[4:]) - max(times[:4]) > 0.3


@pytest.mark.parametrize(
    "trouble", ["500", "torn", "half json", "html", "no choices", "odd content", "hang", "drip"]
)
def test_trouble_is_tried_again(serve, trouble):
    done = threading.Event()

    def behave(i, body):
        if i > 1:
            return answer(body)
        if trouble == "hang":
            done.wait(2)
        return {
            "drip": (200, b" drip" * 20),
            "500": (500, {"error": f"oops {KEY}"}),
            "torn": (200, b'{"choices": [{"message": {"cont'),
            "half json": (200, {"choices": "x"}),
            "html": (200, "<html>"),
            "no choices": (200, {"error": {"code": 429}}),
            "odd content": (200, {"choices": [{"message": {"content": ["a"]}}]}),
        }.get(trouble, answer(body))

    engine, server = serve(
        behave,
        Spending(**PRICES),
        concurrency=1,
        timeout_seconds=0.3 if trouble in ("hang", "drip") else 5,
    )
    (output,) = draw(engine, chat(1))
    done.set()
    assert output.finish_reason == "stop" and len(server.seen) == 3
    worst = engine.highest_price(chat(1), Decoding(max_tokens=8))
    assert engine.spending.spent_usd == 5.0 + (
        0 if trouble == "500" else 2 * worst
    )  # what may have been billed, counts


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (401, 1), (404, 1), (503, 3)])
def test_failures_become_rows(serve, status, tries):
    engine, server = serve(
        lambda i, body: (status, {"error": {"message": f"bad key {KEY}"}}), max_retries=2
    )
    (output,) = draw(engine, chat(1))
    assert (output.finish_reason, output.text, output.n_tokens) == ("error", "", -1)
    assert str(status) in output.error and "***" in output.error and len(server.seen) == tries


def test_too_long_a_wait_is_a_failure(serve):
    engine, server = serve(lambda i, body: (429, {}, {"retry-after": "3600"}))
    (output,) = draw(engine, chat(1))
    assert output.finish_reason == "error" and len(server.seen) == 1


def test_dead_port_and_the_rest_is_undone(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
    machine = Machine(**FAST, base_url=url, max_retries=1, max_failures=5)
    spending = Spending(**PRICES, limit_usd=1e6)
    engine, outputs = open_engine("openai", "m", machine, spending=spending), []
    with pytest.raises(EndpointDown, match="undone"):
        for output in engine.generate(chat(50), Decoding(max_tokens=8)):
            outputs.append(output)
    engine.close()
    assert 5 <= len(outputs) <= 5 + FAST["concurrency"] and {o.finish_reason for o in outputs} == {
        "error"
    }
    assert "ConnectError" in outputs[0].error and engine.spending.spent_usd == 0


@pytest.mark.parametrize(
    "usage",
    [
        None,
        {},
        [],
        {"prompt_tokens": 3},
        USAGE | {"completion_tokens": 9},
        USAGE | {"completion_tokens": 0},
        USAGE | {"completion_tokens": "2"},
        USAGE | {"prompt_tokens": -3},
        USAGE | {"total_tokens": 50},
    ],
)
def test_bad_usage_is_unknown(serve, usage):
    engine, _ = serve(lambda i, body: answer(body, usage=usage), Spending(**PRICES))
    (output,) = draw(engine, chat(1))
    assert output.finish_reason == "stop" and output.text and output.usd is None
    assert -1 in (output.n_prompt_tokens, output.n_tokens) and "usage" in output.error
    assert engine.spending.spent_usd == engine.highest_price(chat(1), Decoding(max_tokens=8))


def test_spending_limit_is_never_crossed(serve):
    engine, server = serve(
        lambda i, body: time.sleep(0.02) or answer(body),
        Spending(**PRICES, limit_usd=500, spent_usd=100),
    )
    worst = engine.highest_price(chat(1), Decoding(max_tokens=8))
    assert worst > 5
    outputs = []
    with pytest.raises(SpendingLimit, match="limit_usd: 500") as caught:
        for output in engine.generate(chat(200), Decoding(max_tokens=8)):
            outputs.append(output)
    assert (
        engine.spending.spent_usd
        == 100 + 5 * len(outputs)
        <= 500
        < engine.spending.spent_usd + worst
    )
    assert len(server.seen) == len(outputs) and f"{200 - len(outputs)} samples" in str(caught.value)
    assert {o.finish_reason for o in outputs} == {"stop"}


def test_spending_limit_holds_with_torn_answers(serve):
    engine, server = serve(
        lambda i, body: (200, b"{"),
        Spending(**PRICES, limit_usd=300),
        concurrency=3,
        max_retries=50,
    )
    worst = engine.highest_price(chat(1), Decoding(max_tokens=8))
    with pytest.raises(SpendingLimit):
        draw(engine, chat(20))
    assert (
        len(server.seen) == 300 // worst and engine.spending.spent_usd == len(server.seen) * worst
    )


def test_n_per_call(serve):
    engine, server = serve(
        lambda i, body: answer(body, [f"{i}-{j}" for j in range(body.get("n", 1))]), n_per_call=3
    )
    outputs = draw(engine, chat(4, "a") + chat(3, "b"))
    assert [seen[1].get("n") for seen in server.seen].count(3) == 2 and len(server.seen) == 3
    assert len({o.key for o in outputs}) == len({o.text for o in outputs}) == 7
    engine, server = serve(lambda i, body: answer(body), Spending(**PRICES), n_per_call=4)
    outputs = draw(engine, chat(4))
    assert {o.n_tokens for o in outputs} == {-1} and sum(
        o.usd for o in outputs
    ) == engine.spending.spent_usd == 5


def test_server_that_ignores_n_is_asked_again(serve):
    engine, server = serve(lambda i, body: answer(body, ["one"]), n_per_call=4)
    outputs = draw(engine, chat(4))
    assert [o.finish_reason for o in outputs] == ["stop"] * 4 and len({o.key for o in outputs}) == 4
    assert [seen[1].get("n", 1) for seen in server.seen] == [4, 1, 1, 1]


def test_concurrency_is_bounded_and_reached(serve):
    engine, server = serve(lambda i, body: time.sleep(0.05) or answer(body), concurrency=3)
    assert len(draw(engine, chat(12))) == 12 and server.most == 3


def test_reader_may_stop_and_loop_may_run(serve):
    engine, server = serve(lambda i, body: time.sleep(0.05) or answer(body), concurrency=2)

    async def inside_a_running_loop():
        outputs = engine.generate(chat(50), Decoding(max_tokens=8))
        next(outputs)
        outputs.close()
        return draw(engine, chat(3))

    assert len(asyncio.run(inside_a_running_loop())) == 3 and len(server.seen) < 10


@pytest.mark.parametrize(
    ("machine", "word"),
    [
        ({"base_url": "https://example.org/v1"}, "OPENAI_API_KEY"),
        ({"base_url": "https://example.org/v1", "api_key_variable": "OTHER_KEY"}, "OTHER_KEY"),
        ({"base_url": f"http://user:{KEY}@127.0.0.1/v1"}, "base_url"),
        ({"base_url": "127.0.0.1:8000"}, "base_url"),
        ({"base_url": "http://127.0.0.1/v1", "limit_usd": 3}, "usd_per_million"),
        ({"base_url": "http://127.0.0.1/v1", "concurrency": 0}, "concurrency"),
        ({"base_url": "http://127.0.0.1/v1", "limit_usd": float("nan")}, "limit_usd"),
        ({"base_url": "http://127.0.0.1/v1", "api_key_variable": "BAD_KEY"}, "BAD_KEY"),
    ],
)
def test_bad_options(monkeypatch, machine, word):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("BAD_KEY", KEY + "\né")
    with pytest.raises(ValueError, match=word) as caught:
        open_engine("openai", "m", Machine(**machine))
    assert KEY not in str(caught.value)


def test_request_without_prompt(serve):
    engine, _ = serve(lambda i, body: answer(body))
    with pytest.raises(ValueError, match="neither messages nor prompt_ids"):
        draw(engine, [Request(("se", "p", 0), [], 1)])
