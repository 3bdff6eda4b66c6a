"""The transformers engine on a GPU: the CPU's distribution, rows that memory holds, and speed beside `generate`'s."""

import time

import numpy as np
import pytest
from scipy.stats import chisquare
from sizes import BOTH, GIB, card, free_memory, make_model, need_gpu

from wcse_lib.nano import MODELS, make_problems
from wcse_lib.sample.engines import Decoding, Request, open_engine
from wcse_lib.sample.engines import continuous as batching
from wcse_lib.sample.prompts import prompt_ids
from wcse_lib.study import Machine, Prompt, sample_seed

NANO = str(MODELS / "nano-wc")


@pytest.fixture(scope="module", params=BOTH)
def size(request):
    need_gpu(request.param)
    return request.param


@pytest.fixture(scope="module")
def engine(size, tmp_path_factory):
    """The random model, opened by the machine's own choices."""
    folder = make_model(tmp_path_factory.mktemp("gpu") / "model", size)
    opened = open_engine("hf", folder, Machine(device=size.device, dtype=size.dtype))
    assert opened.model.device.type == size.device
    yield opened
    opened.close()


def requests_of(size, n: int) -> list[Request]:
    """Prompts of unlike lengths, four samples of each."""
    rng, requests = np.random.default_rng(0), []
    for i in range(n):
        length = 8 + 5 * (i // 4 % 8)
        ids = [1, *(4 + (i // 4 + np.arange(length)) % 90).tolist()]
        requests.append(Request(("a", f"p{i // 4}", i % 4), ids, int(rng.integers(2**62))))
    return requests


def test_samples_are_those_of_the_cpu(size):
    """The nano model in float32 on both: the same streams of random numbers, so nearly the same texts."""
    there = open_engine("hf", NANO, Machine(device=size.device, dtype="float32"))
    here = open_engine("hf", NANO, Machine(device="cpu", dtype="float32"))
    requests = []
    for row in make_problems(20, "gpu", (1, 2)):
        ids = prompt_ids(here.tokenizer, row["question"], Prompt())
        for i in range(4):
            key = ("a", row["problem_id"], i)
            requests.append(Request(key, ids, sample_seed(0, "m", row["problem_id"], i)))
    for decoding in (Decoding(0.0, max_tokens=60), Decoding(0.7, max_tokens=60)):
        on_cpu = {o.key: o.text for o in here.generate(requests, decoding)}
        on_device = {o.key: o.text for o in there.generate(requests, decoding)}
        same = np.mean([on_cpu[key] == on_device[key] for key in on_cpu])
        print(
            f"\n{card(size)}: {same:.1%} of the texts at T = {decoding.temperature} are the CPU's"
        )
        assert len(on_device) == len(requests) and same > 0.9


def test_first_tokens_follow_the_cpus_softmax(size):
    """In the dtype that the device takes by itself, over 4,000 samples."""
    import torch

    there = open_engine("hf", NANO, Machine(device=size.device))
    here = open_engine("hf", NANO, Machine(device="cpu", dtype="float32"))
    ids, n = (
        prompt_ids(here.tokenizer, "Ann has 3 pens. Tom has 2 more pens than Ann.", Prompt()),
        4000,
    )
    requests = [Request(("a", "p", i), ids, sample_seed(0, "m", "p", i)) for i in range(n)]
    decoding = Decoding(temperature=1.0, top_k=5, max_tokens=1)
    texts = [output.text for output in there.generate(requests, decoding)]
    with torch.inference_mode():
        top = torch.topk(here.model(torch.tensor([ids])).logits[0, -1], 5)
    expected = n * torch.softmax(top.values.double(), 0).numpy()
    observed = [
        texts.count(here.tokenizer.decode([i], skip_special_tokens=True)) for i in top.indices
    ]
    is_often = expected > 5  # the rest together
    counts = np.array([*np.array(observed)[is_often], n - np.array(observed)[is_often].sum()])
    wanted = np.array([*expected[is_often], n - expected[is_often].sum()])
    wanted, counts = wanted[wanted > 0.5], counts[wanted > 0.5]
    # bfloat16 moves a logit by up to a hundredth of it
    assert np.abs(counts - wanted).max() < 0.05 * n
    if there.model.dtype == torch.float32:
        assert chisquare(counts, wanted * counts.sum() / wanted.sum()).pvalue > 1e-4


def test_rows_are_found_by_memory_and_speed_stands_beside_generate(size, engine):
    """All answers have one length here, which is plain `generate`'s best case: it must not be much faster."""
    import torch

    requests, decoding = requests_of(size, size.n_samples), Decoding(1.0, max_tokens=size.n_tokens)
    list(engine.generate(requests[:8], Decoding(1.0, max_tokens=4)))
    start = time.monotonic()
    n_tokens = sum(output.n_tokens for output in engine.generate(requests, decoding))
    ours = n_tokens / (time.monotonic() - start)
    assert engine.suits and engine.n_rows == batching.rows_that_fit(
        engine.model, max(len(r.prompt_ids) for r in requests) + size.n_tokens
    )
    plain = {}
    for batch in size.batches:
        padded = torch.full((batch, 44), 5, device=engine.model.device)
        options = dict(
            do_sample=True, max_new_tokens=size.n_tokens, eos_token_id=None, pad_token_id=0
        )
        start = time.monotonic()
        with torch.inference_mode():
            engine.model.generate(padded, attention_mask=torch.ones_like(padded), **options)
        plain[batch] = batch * size.n_tokens / (time.monotonic() - start)
    best = max(plain, key=plain.get)
    print(
        f"\n{card(size)}: {ours:,.0f} tokens/s at {engine.n_rows} rows, plain generate {plain[best]:,.0f} at its best"
        f" batch of {best}: {ours / plain[best]:.2f} times"
    )
    assert ours > 0.5 * plain[best]


def test_rows_are_lowered_when_memory_really_runs_out(size, engine, monkeypatch, capsys):
    """All of the card but two GiB is taken, and far more rows asked for than fit into the rest."""
    import torch

    if not size.is_gpu:
        pytest.skip("only a GPU's memory is filled: a full CPU takes the machine down")
    free_memory()
    free, _ = torch.cuda.mem_get_info()
    taken = torch.empty(free - 2 * GIB, dtype=torch.uint8, device="cuda")
    monkeypatch.setitem(batching.CACHE_BYTES, "cuda", 64 * GIB)
    monkeypatch.setitem(batching.MOST_ROWS, "cuda", 4096)
    requests = requests_of(size, 600)
    outputs = list(engine.generate(requests, Decoding(1.0, max_tokens=512)))
    del taken
    free_memory()
    assert {output.key for output in outputs} == {request.key for request in requests}
    assert len(outputs) == len(requests)
    assert "out of memory: batch size lowered" in capsys.readouterr().out
