"""Vectors of texts: as the checkpoint's own files say, each made once, and paid within the limit."""

import json
import shutil

import numpy as np
import pytest
import torch
from endpoint_server import Server
from transformers import AutoModel, AutoTokenizer

from wcse_lib.sample import vectors_of
from wcse_lib.sample.engines import pooling
from wcse_lib.sample.engines.failures import EndpointDown, EndpointRefused
from wcse_lib.sample.engines.pooling import LocalEmbedder, read_pooling
from wcse_lib.sample.engines.spending import SpendingLimit
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, Price

TEXTS = ["What is 1 + 2?", "Tom has 12 marbles and buys 7 more. How many has he?", "Add 3 and 4."]
KEY = "sk-of-the-vectors-0123456789"
POOLING = {
    "type": "sentence_transformers.models.Pooling",
    "path": "1_Pooling",
}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "wcse" / "vectors"


def as_sentence_transformer(tiny_model, folder, pooling_config, kinds=("Transformer", "Pooling")):
    """A copy of the tiny checkpoint with the files of sentence-transformers."""
    shutil.copytree(tiny_model, folder)
    modules = [POOLING | {"type": f"sentence_transformers.models.{kind}"} for kind in kinds]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling_config))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 7}))
    return folder


# --- local


@pytest.mark.parametrize("mode", ["mean", "cls", "lasttoken"])
def test_a_vector_is_pooled_as_the_files_say_whatever_else_is_in_the_batch(
    tiny_model, tmp_path, mode
):
    names = {"mean": "mean_tokens", "cls": "cls_token", "lasttoken": "lasttoken"}
    config = {f"pooling_mode_{name}": name == names[mode] for name in names.values()}
    folder = as_sentence_transformer(tiny_model, tmp_path / "st", config)
    found = vectors_of(TEXTS, str(folder), "local", Machine())
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    for text, row in zip(TEXTS, found.rows):
        ids = tokenizer(text, return_tensors="pt", truncation=True, max_length=7)["input_ids"]
        assert ids.shape[1] == 7
        with torch.no_grad():
            hidden = model(ids).last_hidden_state[0]
        by_hand = {"mean": hidden.mean(0), "cls": hidden[0], "lasttoken": hidden[-1]}[mode].numpy()
        assert row == pytest.approx(by_hand / np.linalg.norm(by_hand), abs=2e-3)
    assert found.n_tokens == 21 and found.made_by["mode"] == mode
    assert "model.safetensors" in found.made_by["files"]


def test_a_language_model_s_folder_is_averaged(tiny_model):
    assert read_pooling(tiny_model) == pooling.Pooling("mean", None, "")


@pytest.mark.parametrize(
    ("config", "kinds", "words"),
    [
        ({"pooling_mode": "mean"}, ("Transformer", "Pooling", "Dense"), "asks for Dense"),
        ({"pooling_mode": "max"}, ("Transformer", "Pooling"), "pools by max"),
        (
            {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
            ("Transformer", "Pooling"),
            "mean and cls",
        ),
    ],
)
def test_what_is_not_done_here_is_refused(tiny_model, tmp_path, config, kinds, words):
    folder = as_sentence_transformer(tiny_model, tmp_path / "st", config, kinds)
    with pytest.raises(StudyError, match=words):
        LocalEmbedder(str(folder), Machine())


def test_batches_hold_every_text_once_and_no_more_tokens_than_allowed():
    lengths = [3, 9, 1, 30, 7, 2]
    batches = list(pooling.batches(lengths, 20))
    assert sorted(sum(batches, [])) == list(range(6)) and batches[0] == [3]
    assert all(len(batch) * lengths[batch[0]] <= 20 for batch in batches[1:])


# --- each made once


def test_vectors_are_made_once(tiny_model, cache, monkeypatch):
    first = vectors_of([*TEXTS, TEXTS[0]], str(tiny_model), "local", Machine())
    assert (first.rows[0] == first.rows[3]).all() and len(list(cache.rglob("*.parquet"))) == 1

    made = []
    plain = LocalEmbedder.vectors

    def counting(self, texts):
        made.extend(texts)
        return plain(self, texts)

    monkeypatch.setattr(LocalEmbedder, "vectors", counting)
    again = vectors_of(["One more?", *TEXTS], str(tiny_model), "local", Machine())
    assert made == ["One more?"] and (again.rows[1:] == first.rows[:3]).all()
    assert again.n_tokens > first.n_tokens > 0

    (part, *_) = cache.rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-20])
    torn = vectors_of(TEXTS, str(tiny_model), "local", Machine())
    assert len(made) >= 1 and (torn.rows == first.rows[:3]).all()


def test_what_came_before_a_failure_is_kept(tiny_model, monkeypatch, cache):
    monkeypatch.setattr(pooling, "TOKENS_AT_ONCE", 1)
    plain = LocalEmbedder._pooled
    n = []

    def failing(self, rows):
        n.append(len(rows))
        if len(n) == 3:
            raise KeyboardInterrupt
        return plain(self, rows)

    monkeypatch.setattr(LocalEmbedder, "_pooled", failing)
    with pytest.raises(KeyboardInterrupt):
        vectors_of(TEXTS, str(tiny_model), "local", Machine())
    vectors_of(TEXTS, str(tiny_model), "local", Machine())
    assert len(n) == 4


# --- endpoints


def vector_of(text: str) -> list[float]:
    return [1.0 + len(text), 2.0, -3.0]


def embedding(number, body):
    """A good answer, its entries in another order than the texts."""
    assert body["encoding_format"] == "float"
    data = [{"index": i, "embedding": vector_of(text)} for i, text in enumerate(body["input"])]
    usage = {"prompt_tokens": 10 * len(data), "total_tokens": 10 * len(data)}
    return 200, {"data": data[::-1], "usage": usage}


@pytest.fixture
def served(monkeypatch):
    monkeypatch.setenv("VECTOR_KEY", KEY)
    servers = []

    def serve(behave=embedding, **keys):
        servers.append(Server(behave))
        keys = {"api_key_variable": "VECTOR_KEY", "backoff_seconds": 0.0, "max_retries": 2} | keys
        return servers[-1], Machine(base_url=servers[-1].url, extra_body={"top_k": 3}, **keys)

    yield serve
    for server in servers:
        server.close()


def test_an_endpoint_s_vectors_come_in_order_and_are_paid_once(served):
    server, machine = served()
    texts = ["x" * n for n in range(1, 71)]
    found = vectors_of(texts, "embed-small", "openai", machine)
    assert [len(call.body["input"]) for call in server.calls] == [32, 32, 6]
    assert {call.path for call in server.calls} == {"/v1/embeddings"}
    assert all("top_k" not in call.body for call in server.calls)
    for text, row in zip(texts, found.rows):
        wanted = np.array(vector_of(text))
        assert row == pytest.approx(wanted / np.linalg.norm(wanted), abs=1e-3)
    assert found.n_tokens == 700 and found.made_by == {"engine": "openai", "model": "embed-small"}
    again = vectors_of(texts, "embed-small", "openai", machine)
    assert len(server.calls) == 3 and again.n_tokens == 700


def test_a_limit_stops_before_the_call_that_could_pass_it_and_keeps_what_came(served):
    server, machine = served(limit_usd=0.00035)
    price = Price(model="embed-small", input=1.0, output=0.0)
    texts = [f"{n:02d}" for n in range(64)]  # 64 bytes a call, three tries: 0.000192 USD at most
    with pytest.raises(SpendingLimit, match="0.000320 USD are spent on vectors.*raise it"):
        vectors_of(texts, "embed-small", "openai", machine, price)
    assert len(server.calls) == 1
    vectors_of(texts, "embed-small", "openai", machine, price)
    assert [len(call.body["input"]) for call in server.calls] == [32, 32]
    with pytest.raises(ValueError, match="limit_usd: 0.00035 needs both prices"):
        vectors_of(["new"], "embed-small", "openai", machine)


BAD = {
    "too few": {"data": [{"index": 0, "embedding": [1.0]}]},
    "no numbers": {"data": [{"index": i, "embedding": ["a", "b"]} for i in range(3)]},
    "zero": {"data": [{"index": i, "embedding": [0.0, 0.0]} for i in range(3)]},
    "ragged": {"data": [{"index": i, "embedding": [1.0] * (i + 1)} for i in range(3)]},
    "infinite": {"data": [{"index": i, "embedding": [1e39, 1.0]} for i in range(3)]},
    "a chat": {"choices": []},
    "a list": [],
}


@pytest.mark.parametrize("name", BAD)
def test_an_answer_that_holds_no_vectors_is_not_taken(served, name):
    server, machine = served(lambda number, body: (200, BAD[name]), limit_usd=1.0)
    with pytest.raises(EndpointDown, match="POST /embeddings: .*try 3"):
        vectors_of(TEXTS, "embed-small", "openai", machine, Price(model="e", input=1.0, output=0.0))
    assert len(server.calls) == 3


def test_vectors_of_another_length_are_not_taken(served):
    def changing(number, body):
        numbers = [1.0] * (3 + number)
        data = [{"index": i, "embedding": numbers} for i in range(len(body["input"]))]
        return 200, {"data": data}

    _, machine = served(changing, max_retries=0)
    with pytest.raises(EndpointDown, match="vectors of 4 numbers, after others of 3"):
        vectors_of([str(n) for n in range(40)], "embed-small", "openai", machine)


def test_a_refusal_says_what_to_do_and_nothing_of_the_key(served):
    def refusing(number, body):
        return 401, {"error": {"message": f"Incorrect API key provided: {KEY}"}}

    server, machine = served(refusing)
    with pytest.raises(EndpointRefused, match="Check the key: it is read from VECTOR_KEY") as error:
        vectors_of(TEXTS, "embed-small", "openai", machine)
    assert KEY not in str(error.value) and len(server.calls) == 1


def test_a_busy_server_is_asked_again(served):
    def busy(number, body):
        return (503, {"error": "busy"}) if number == 0 else embedding(number, body)

    server, machine = served(busy)
    assert len(vectors_of(TEXTS, "embed-small", "openai", machine).rows) == 3
    assert len(server.calls) == 2
