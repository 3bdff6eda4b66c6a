"""A server that repeats the key, in any place of its answers: it is neither shown nor stored."""

import base64
import json

import pytest
from batch_server import BatchServer, good_line, line_of
from endpoint_server import USAGE, Server, answer
from sample_arms import planned

from wcse_lib.sample import generate
from wcse_lib.sample.engines import Decoding, Request, open_engine
from wcse_lib.sample.engines.keys import lines_without_key, without_key
from wcse_lib.store import read_samples
from wcse_lib.study import Machine

pytest.importorskip("openai", reason="the openai client is not installed (extra: api)")

KEY = "planted/0123.4567"  # of no form that is known, and with a character that JSON may escape
FAST = {"backoff_seconds": 0.01, "timeout_seconds": 5.0, "max_retries": 0}
ESCAPED = json.dumps(KEY).replace("/", "\\/").replace("p", "\\u0070")


def choice(**message) -> tuple:
    content = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": USAGE}
    return 200, content


PLACES = {
    "text": lambda body: answer(body, texts=[f"my key is {KEY}."]),
    "text by escapes": lambda body: (
        200,
        json.dumps(answer(body, texts=["x"])[1]).replace('"x"', ESCAPED).encode(),
    ),
    "thought": lambda body: choice(content="1", reasoning_content=f"{KEY} is the key"),
    "refusal": lambda body: choice(content=None, refusal=f"not with {KEY}"),
    "finish_reason": lambda body: answer(body, end=f"odd {KEY}"),
    "value of usage": lambda body: answer(body, usage={"prompt_tokens": KEY}),
    "name in usage": lambda body: answer(body, usage={KEY: 1}),
    "a part's type": lambda body: choice(content=[{"type": f"image {KEY}", "url": KEY}]),
    "error in a 200": lambda body: (200, {"error": {"message": f"key{KEY}", "code": KEY}}),
    "error in a choice": lambda body: (200, {"choices": [{"error": {"message": KEY}}]}),
    "error's body": lambda body: (401, {"error": {"message": f"wrong key {KEY}", "type": KEY}}),
    "redirect": lambda body: (307, b"", {"location": f"https://x.example/?key={KEY}"}),
    "web page": lambda body: (200, f"<html><body>{KEY}</body></html>".encode()),
    "no JSON": lambda body: (200, f"invalid {KEY}".encode()),
    "other keys": lambda body: (200, {KEY: KEY}),
}


@pytest.mark.parametrize("place", PLACES)
def test_no_answer_shows_the_key(monkeypatch, place):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server = Server(lambda number, body: PLACES[place](body))
    engine = open_engine("openai", "m", Machine(**FAST | {"base_url": server.url}))
    request = Request(("se", "p", 0), [], 1, [{"role": "user", "content": "?"}])
    seen = []
    try:
        for output in engine.generate([request], Decoding(max_tokens=8)):
            seen.append(repr(output))
    except ValueError as error:
        seen.append(str(error))
    finally:
        engine.close()
        server.close()
    assert seen and "0123.4567" not in "".join(seen)
    assert "***" in "".join(seen)


def test_no_file_of_a_batch_holds_the_key(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)

    def line(custom_id: str, body: dict) -> str:
        place = int(custom_id.rsplit("-", 1)[1])
        told = [
            json.dumps(good_line(custom_id, body, texts=[f"it is {KEY}"])),
            json.dumps(good_line(custom_id, body, texts=["x"])).replace('"x"', ESCAPED),
            json.dumps(line_of(custom_id, 400, {"error": {"message": KEY}})),
            f"torn {KEY}",
        ]
        return told[place % len(told)]

    server = BatchServer(line)
    arm = {"model": "m", "engine": "batch"}
    run = planned(tmp_path, arm, n=2, n_train=6)
    soon = {"requests": 12, "poll_seconds": 0.01, "settle_seconds": 0.2}
    try:
        generate(run, "wc", Machine(**FAST | {"base_url": server.url, "batch": soon}))
    finally:
        server.close()
    rows = read_samples(run.path("02", "wc"))
    assert (rows["text"] == "it is ***").sum() == 3 and (rows["text"] == "***").sum() == 3
    assert not rows["error"].str.contains("0123").any()
    for path in run.folder.rglob("*"):
        assert not (path.is_file() and b"0123.4567" in path.read_bytes()), path


def test_short_keys_that_hide_nothing_leave_samples_as_they_are():
    line = '{"text": "an EMPTY set"}'
    assert lines_without_key(line, "EMPTY") == line


@pytest.mark.parametrize("before", ["", "u", "u:", "user", "Basic "])
@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
def test_base64_of_a_text_with_the_key_shows_none_of_its_inner_part(before, encode):
    """A server that answers with the header by which it was asked."""
    header = encode(f"{before}{KEY} and more".encode()).decode()
    shown = without_key({"header": header}, KEY)["header"]
    kept, hidden, _ = shown.partition("***")
    assert hidden
    padding = "=" * (-len(kept) % 4)
    known = base64.b64decode(kept + padding if len(kept) % 4 != 1 else kept[:-1])
    assert KEY[:2].encode() not in known


def test_hexadecimal_digits_of_the_key_are_hidden():
    assert without_key(f"x{KEY.encode().hex().upper()}y", KEY) == "x***y"
