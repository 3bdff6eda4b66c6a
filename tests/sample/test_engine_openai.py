"""The endpoint engine against a misbehaving server on loopback."""

import asyncio
import socket
import threading
import time

import pytest
from endpoint_server import USAGE, Server, answer, answering

from wcse_lib.sample.engines import Decoding, Request, open_engine
from wcse_lib.sample.engines.failures import EndpointDown, EndpointRefused
from wcse_lib.sample.engines.spending import Spending, SpendingLimit
from wcse_lib.study import Machine

pytest.importorskip("openai", reason="the openai client is not installed (extra: api)")

KEY = "sk-very-secret-0123456789"
FAST = {"backoff_seconds": 0.01, "timeout_seconds": 5.0, "concurrency": 4}
DECODING = Decoding(max_tokens=8)


def priced(**amounts) -> Spending:
    """One token, one dollar."""
    return Spending(price_in=1e6, price_out=1e6, **amounts)


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    opened = []

    def start(behave=answering, spending=None, **keys):
        server = Server(behave)
        machine = Machine(**FAST | {"base_url": server.url} | keys)
        engine = open_engine("openai", "some-model", machine, spending=spending)
        opened.extend([engine, server])
        return engine, server

    yield start
    for each in opened:
        each.close()


def chat(n, problem="p") -> list[Request]:
    messages = [{"role": "user", "content": problem}]
    return [Request(("se", problem, i), [], 2**62 + i, messages) for i in range(n)]


def draw(engine, requests, decoding=DECODING) -> list:
    outputs = list(engine.generate(requests, decoding))
    assert KEY not in repr(outputs)
    assert len({output.key for output in outputs}) == len(outputs)
    return sorted(outputs, key=lambda output: output.key)


def reasons(outputs) -> set[str]:
    return {output.finish_reason for output in outputs}


def slow(number, body):
    time.sleep(0.05)
    return answer(body)


def test_what_a_conversation_sends(serve):
    engine, server = serve(extra_body={"chat_template_kwargs": {"x": 1}})
    draw(engine, chat(1), Decoding(0.5, 3, 0.9, 8, ("Q:",)))
    (call,) = server.calls
    assert call.path == "/v1/chat/completions"
    assert call.authorization == f"Bearer {KEY}"
    assert call.body == {
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


def test_what_is_off_is_not_sent(serve):
    engine, server = serve(max_tokens_name="max_completion_tokens")
    draw(engine, chat(1), Decoding(0.0, max_tokens=8))
    keys = {"model", "messages", "temperature", "seed", "max_completion_tokens"}
    assert server.calls[0].body.keys() == keys


def test_what_an_answer_gives(serve):
    engine, _ = serve(spending=priced())
    (output,) = draw(engine, chat(1))
    assert (output.n_prompt_tokens, output.n_tokens) == (3, 2)
    assert (output.finish_reason, output.error) == ("stop", "")
    assert output.usd == 5.0
    assert engine.spending.spent_usd == 5.0


def test_the_key_is_not_shown(serve):
    engine, _ = serve()
    assert KEY not in repr(engine)


def test_token_ids_use_completions(serve):
    engine, server = serve()
    (output,) = draw(engine, [Request(("wc", "p", 0), [1, 5, 6], 7)])
    assert server.calls[0].path == "/v1/completions"
    assert server.calls[0].body["prompt"] == [1, 5, 6]
    assert (output.text, output.n_prompt_tokens, output.usd) == ("text 7", 3, None)


def test_another_number_of_prompt_tokens_is_noted(serve):
    """The server says 3 where 2 were sent: perhaps a second BOS."""
    engine, _ = serve()
    (output,) = draw(engine, [Request(("wc", "p", 0), [1, 5], 7)])
    assert output.n_prompt_tokens == -1
    assert "usage" in output.error


def test_reasoning_is_joined(serve):
    engine, _ = serve(lambda i, body: answer(body, ["4"], end="length", reasoning_content="2+2"))
    (output,) = draw(engine, chat(1))
    assert output.text == "<think>2+2</think>4"
    assert output.finish_reason == "length"


def test_filtered_ends_are_errors(serve):
    engine, _ = serve(lambda i, body: answer(body, end="content_filter"))
    (output,) = draw(engine, chat(1))
    assert output.finish_reason == "error"
    assert "content_filter" in output.error


def test_429_storm_waits_as_long_as_it_is_asked_to(serve):
    def behave(i, body):
        return (429, {"error": "slow down"}, {"retry-after": "0.4"}) if i < 4 else answer(body)

    engine, server = serve(behave)
    outputs = draw(engine, chat(6))
    assert len(outputs) == 6
    assert reasons(outputs) == {"stop"}
    times = [call.time for call in server.calls]
    assert min(times[4:]) - max(times[:4]) > 0.3


TROUBLES = {
    "drip": (200, b" drip" * 20),
    "500": (500, {"error": f"oops {KEY}"}),
    "torn": (200, b'{"choices": [{"message": {"cont'),
    "half json": (200, {"choices": "x"}),
    "html": (200, "<html>"),
    "error in a 200": (200, {"error": {"code": 429}}),
    "no choices": (200, {"choices": []}),
    "odd content": (200, {"choices": [{"message": {"content": 12}}]}),
    "hang": (200, {}),
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_trouble_is_tried_again_and_may_have_been_billed(serve, trouble):
    is_over = threading.Event()

    def behave(i, body):
        if i > 1:
            return answer(body)
        if trouble == "hang":
            is_over.wait(2)
        return TROUBLES[trouble]

    seconds = 0.3 if trouble in ("hang", "drip") else 5.0
    engine, server = serve(behave, priced(), concurrency=1, timeout_seconds=seconds)
    (output,) = draw(engine, chat(1))
    is_over.set()
    assert output.finish_reason == "stop"
    assert len(server.calls) == 3
    costs_nothing = trouble in ("500", "error in a 200")
    maybe_billed = 0 if costs_nothing else 2 * engine.highest_price(chat(1), DECODING)
    assert engine.spending.spent_usd == 5.0 + maybe_billed


def test_failures_become_rows(serve):
    failure = 503, {"error": {"message": f"bad key {KEY}"}}
    engine, server = serve(lambda i, body: failure, max_retries=2)
    (output,) = draw(engine, chat(1))
    assert (output.finish_reason, output.text, output.n_tokens) == ("error", "", -1)
    assert "HTTP 503: bad key ***" in output.error
    assert len(server.calls) == 3


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 405, 413, 422, 501])
def test_a_refusal_stops_all_calls_with_the_servers_words(serve, status):
    refusal = status, {"error": f"No such thing as {KEY}"}
    engine, server = serve(lambda i, body: refusal if i else answer(body), concurrency=1)
    outputs = []
    with pytest.raises(EndpointRefused) as caught:
        for output in engine.generate(chat(50), DECODING):
            outputs.append(output)
    assert [output.finish_reason for output in outputs] == ["stop", "error"]
    assert len(server.calls) == 2
    message = str(caught.value)
    assert f"HTTP {status}: No such thing as ***" in message
    assert "48 more samples are undone" in message
    assert KEY not in message


def test_a_refusal_wakes_calls_that_wait_for_another_try(serve):
    def behave(i, body):
        return (503, {}) if i == 0 else (401, {"error": "no"})

    engine, server = serve(behave, backoff_seconds=60.0, concurrency=2)
    start = time.monotonic()
    with pytest.raises(EndpointRefused, match="HTTP 401: no"):
        draw(engine, chat(9))
    assert time.monotonic() - start < 20
    assert len(server.calls) <= 3


def test_too_long_a_wait_is_a_failure(serve):
    engine, server = serve(lambda i, body: (429, {}, {"retry-after": "3600"}))
    (output,) = draw(engine, chat(1))
    assert output.finish_reason == "error"
    assert len(server.calls) == 1


def test_dead_port_and_the_rest_is_undone():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
    keys = FAST | {"api_key_variable": None, "max_retries": 1, "max_failures": 5}
    machine = Machine(base_url=url, **keys)
    engine = open_engine("openai", "m", machine, spending=priced(limit_usd=1e6))
    outputs = []
    with pytest.raises(EndpointDown, match="no connection .*Check base_url.*undone"):
        for output in engine.generate(chat(50), DECODING):
            outputs.append(output)
    engine.close()
    assert 5 <= len(outputs) <= 5 + FAST["concurrency"]
    assert reasons(outputs) == {"error"}
    assert "ConnectError" in outputs[0].error
    assert engine.spending.spent_usd == 0


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
        USAGE | {"prompt_tokens": 10**30, "total_tokens": 10**30 + 2},
        USAGE | {"prompt_tokens": float("nan"), "total_tokens": float("nan")},
    ],
)
def test_bad_usage_is_unknown(serve, usage):
    engine, _ = serve(lambda i, body: answer(body, usage=usage), priced())
    (output,) = draw(engine, chat(1))
    assert output.finish_reason == "stop"
    assert output.text
    assert output.usd is None
    assert -1 in (output.n_prompt_tokens, output.n_tokens)
    assert "usage" in output.error
    assert engine.spending.spent_usd == engine.highest_price(chat(1), DECODING)


def test_spending_limit_is_never_crossed(serve):
    engine, server = serve(slow, priced(limit_usd=500, spent_usd=100))
    highest_price = engine.highest_price(chat(1), DECODING)
    assert highest_price > 5
    outputs = []
    with pytest.raises(SpendingLimit, match="limit_usd: 500") as caught:
        for output in engine.generate(chat(200), DECODING):
            outputs.append(output)
    spent = engine.spending.spent_usd
    assert spent == 100 + 5 * len(outputs)
    assert spent <= 500 < spent + highest_price
    assert len(server.calls) == len(outputs)
    assert f"{200 - len(outputs)} samples" in str(caught.value)
    assert reasons(outputs) == {"stop"}


def test_spending_limit_holds_with_torn_answers(serve):
    spending = priced(limit_usd=300)
    engine, server = serve(lambda i, body: (200, b"{"), spending, concurrency=3, max_retries=50)
    highest_price = engine.highest_price(chat(1), DECODING)
    with pytest.raises(SpendingLimit):
        draw(engine, chat(20))
    assert len(server.calls) == 300 // highest_price
    assert spending.spent_usd == len(server.calls) * highest_price


def test_what_may_be_spent_is_noted_ahead():
    noted = []
    spending = priced(limit_usd=1e6, note=noted.append)
    for _ in range(50):
        assert spending.reserve(7.0)
        assert noted[-1] >= spending.spent_usd + 7.0
        spending.settle(7.0, 5.0)
    assert len(noted) < 10


def test_neighbours_of_a_problem_are_asked_for_together(serve):
    def behave(i, body):
        return answer(body, [f"{i}-{j}" for j in range(body.get("n", 1))])

    engine, server = serve(behave, n_per_call=3)
    outputs = draw(engine, chat(4, "a") + chat(3, "b"))
    assert sorted(call.body.get("n", 1) for call in server.calls) == [1, 3, 3]
    assert len({output.text for output in outputs}) == 7


def test_samples_of_one_call_share_its_bill(serve):
    engine, _ = serve(spending=priced(), n_per_call=4)
    outputs = draw(engine, chat(4))
    assert {output.n_tokens for output in outputs} == {-1}
    assert {output.usd for output in outputs} == {5 / 4}
    assert engine.spending.spent_usd == 5


def test_server_that_ignores_n_is_asked_again(serve):
    engine, server = serve(lambda i, body: answer(body, ["one"]), n_per_call=4)
    outputs = draw(engine, chat(4))
    assert len(outputs) == 4
    assert reasons(outputs) == {"stop"}
    assert [call.body.get("n", 1) for call in server.calls] == [4, 1, 1, 1]


def test_concurrency_is_bounded_and_reached(serve):
    engine, server = serve(slow, concurrency=3)
    assert len(draw(engine, chat(12))) == 12
    assert server.most_at_once == 3


def test_reader_may_stop_and_loop_may_run(serve):
    engine, server = serve(slow, concurrency=2)

    async def inside_a_running_loop():
        outputs = engine.generate(chat(50), DECODING)
        next(outputs)
        outputs.close()
        return draw(engine, chat(3))

    assert len(asyncio.run(inside_a_running_loop())) == 3
    assert len(server.calls) < 10


@pytest.mark.parametrize(
    ("keys", "word"),
    [
        ({"base_url": "https://example.org/v1"}, "OPENAI_API_KEY"),
        ({}, "OPENAI_API_KEY is not set.*api_key_variable: null"),
        ({"base_url": "https://example.org/v1", "api_key_variable": "OTHER_KEY"}, "OTHER_KEY"),
        ({"base_url": f"http://user:{KEY}@127.0.0.1/v1"}, "base_url"),
        ({"base_url": "127.0.0.1:8000"}, "base_url"),
        ({"base_url": "http://127.0.0.1:x/v1"}, "base_url"),
        ({"limit_usd": 3.0}, "usd_per_million"),
        ({"concurrency": 0}, "concurrency"),
        ({"limit_usd": float("nan")}, "limit_usd"),
        ({"api_key_variable": "BAD_KEY"}, "BAD_KEY"),
    ],
)
def test_bad_keys_of_the_machine_are_named(monkeypatch, keys, word):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("BAD_KEY", KEY + "\né")
    with pytest.raises(ValueError, match=word) as caught:
        open_engine("openai", "m", Machine(**{"base_url": "http://127.0.0.1/v1"} | keys))
    assert KEY not in str(caught.value)


def test_an_endpoint_takes_no_adapter():
    with pytest.raises(ValueError, match="adapters: there"):
        open_engine("openai", "m", Machine(), adapters=["there"])


def test_request_without_prompt(serve):
    engine, _ = serve()
    with pytest.raises(ValueError, match="neither messages nor prompt_ids"):
        draw(engine, [Request(("se", "p", 0), [], 1)])


def test_what_a_server_adds_to_every_prompt_is_reserved_for_the_next_calls(serve):
    usage = {"prompt_tokens": 900, "completion_tokens": 2}
    spending = priced(limit_usd=4_000.0)
    engine, server = serve(lambda i, body: answer(body, usage=usage), spending, concurrency=1)
    with pytest.raises(SpendingLimit, match="next call may cost 9"):
        draw(engine, chat(10))
    assert spending.spent_usd == 902 * len(server.calls) == 902 * 4


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"])
def test_a_server_on_this_machine_is_reached_without_the_environments_proxy(
    serve, monkeypatch, variable
):
    monkeypatch.setenv(variable, "http://127.0.0.1:9")
    engine, server = serve()
    assert reasons(draw(engine, chat(1))) == {"stop"}


def test_a_proxy_that_cannot_be_reached_is_named_without_its_password(monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://ann:secret@127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    keys = FAST | {"api_key_variable": None, "max_retries": 0}
    engine = open_engine("openai", "m", Machine(base_url="http://model.example/v1", **keys))
    (output,) = draw(engine, chat(1))
    engine.close()
    assert "no connection" in output.error
    assert "HTTP_PROXY=http://***@127.0.0.1:9" in output.error
    assert "secret" not in output.error


@pytest.mark.parametrize("proxy", ["odd://ann:secret@host:1", "http://host:port"])
def test_a_proxy_that_cannot_be_is_named(monkeypatch, proxy):
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    machine = Machine(base_url="https://model.example/v1", api_key_variable=None)
    with pytest.raises(ValueError, match="HTTPS_PROXY=.*cannot go through it") as caught:
        open_engine("openai", "m", machine)
    assert "secret" not in str(caught.value)


def test_a_redirect_is_not_followed(serve):
    elsewhere = {"location": "https://elsewhere.example/v1/chat/completions"}
    engine, server = serve(lambda i, body: (307, b"", elsewhere))
    with pytest.raises(
        EndpointRefused, match="it points to https://elsewhere.example.*as base_url"
    ):
        draw(engine, chat(1))
    assert len(server.calls) == 1
