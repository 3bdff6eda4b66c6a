"""Sampling: exactly the wanted keys, whatever dies on the way; and the transformers engine's own streams."""

import numpy as np
import pandas as pd
import pytest

from wcse_lib import records, sampling
from wcse_lib.engines import Output, Request, Sampling
from wcse_lib.engines.hf import HFEngine, uniform
from wcse_lib.prompts import check_bos, load_tokenizer, prompt_ids
from wcse_lib.records import StudyError, read_samples
from wcse_lib.study import Prompt, sample_seed

PROBLEMS = pd.DataFrame({"problem_id": [f"p{i}" for i in range(7)], "question": [f"Ann has {i} pens." for i in range(7)]})


class FakeTokenizer:
    chat_template = None
    bos_token_id = None

    def __call__(self, text, **_):
        return {"input_ids": [ord(c) for c in text]}


class FakeEngine:
    """Echoes its seed; dies after `dies_after` samples."""

    def __init__(self, dies_after=None):
        self.dies_after, self.drawn = dies_after, []

    def generate(self, requests, sampling):
        for request in reversed(requests):  # any order is allowed
            if self.dies_after is not None and len(self.drawn) == self.dies_after:
                raise KeyboardInterrupt
            self.drawn.append(request.key)
            yield Output(request.key, f"text {request.seed}", len(request.prompt_ids), 3, "stop")

    def close(self):
        pass


def run(folder, engine, n=3, problems=PROBLEMS, temperature=0.7, prompt=None, seed=0):
    prompt = prompt or Prompt(style="plain")
    return sampling.draw(folder, "wc", problems, n, engine, FakeTokenizer(), prompt, Sampling(temperature), seed, "m", "fake")


def test_draws_every_key_once_with_its_own_seed(tmp_path):
    rows = run(tmp_path, FakeEngine())
    assert list(rows.columns[:10]) == "author problem_id sample_index seed text n_prompt_tokens n_tokens finish_reason engine model".split()
    assert set(zip(rows["problem_id"], rows["sample_index"])) == {(p, i) for p in PROBLEMS["problem_id"] for i in range(3)}
    assert len(set(rows["seed"])) == 21
    assert all(r.seed == sample_seed(0, "m", r.problem_id, r.sample_index) for r in rows.itertuples())


@pytest.mark.parametrize("dies_after", [0, 1, 5, 20])
def test_resumes_by_key_after_a_death(tmp_path, dies_after):
    undisturbed = run(tmp_path / "whole", FakeEngine())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", FakeEngine(dies_after))
    flushed = read_samples(tmp_path / "cut")
    second = FakeEngine()
    resumed = run(tmp_path / "cut", second)
    assert len(flushed) == dies_after and len(second.drawn) == 21 - dies_after
    pd.testing.assert_frame_equal(resumed, undisturbed)
    third = FakeEngine()
    run(tmp_path / "cut", third)
    assert third.drawn == []


def test_more_samples_and_more_problems_add_rows_only(tmp_path):
    first = run(tmp_path, FakeEngine(), n=2, problems=PROBLEMS.head(4))
    engine = FakeEngine()
    grown = run(tmp_path, engine, n=3)
    assert len(grown) == 21 and len(engine.drawn) == 21 - 8
    kept = grown.merge(first, on=["author", "problem_id", "sample_index"])
    assert (kept["text_x"] == kept["text_y"]).all() and len(kept) == 8


@pytest.mark.parametrize("other", [{"temperature": 1.0}, {"seed": 1}, {"prompt": Prompt(style="plain", template="Q {question}")}])
def test_rows_drawn_otherwise_never_mix(tmp_path, other):
    run(tmp_path, FakeEngine())
    with pytest.raises(StudyError, match="holds samples drawn otherwise"):
        run(tmp_path, FakeEngine(), **other)


def test_torn_and_doubled_parts_are_named(tmp_path):
    run(tmp_path, FakeEngine())
    part = next(tmp_path.glob("part-*.parquet"))
    (tmp_path / "part-00009.parquet").write_bytes(part.read_bytes())
    with pytest.raises(StudyError, match="stands there twice"):
        read_samples(tmp_path)
    (tmp_path / "part-00009.parquet").write_bytes(part.read_bytes()[:-40])
    with pytest.raises(StudyError, match="part-00009.parquet: damaged"):
        read_samples(tmp_path)


def test_a_half_written_part_is_never_seen(tmp_path):
    (tmp_path / ".part-00000.parquet.1.tmp").write_bytes(b"PAR1 torn")
    assert len(run(tmp_path, FakeEngine())) == 21
    assert not list(tmp_path.glob(".part*"))


def test_missing_rows_are_counted(tmp_path):
    run(tmp_path, FakeEngine(), n=2)
    with pytest.raises(StudyError, match="7 samples of wc are missing"):
        sampling.complete(tmp_path, "wc", PROBLEMS, 3)


def test_hostile_text_is_stored(tmp_path):
    with records.SampleWriter(tmp_path) as writer:
        for i, text in enumerate(["\0", "\ud800 lone", "<script>", "x" * 1_000_000, ""]):
            writer.add(sampling.row_of(Output(("a", "p", i), text, 1, 1, "stop"), 0, "e", "m", "h"))
    rows = read_samples(tmp_path)
    assert len(rows) == 5 and rows["text"][1] == "? lone" and len(rows["text"][3]) == 1_000_000


def test_disk_full_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(StudyError, match="x.json: could not be written .No space left"):
        records.write_json(tmp_path / "x.json", {})
    assert not list(tmp_path.iterdir())


def test_manifest_means_complete(tmp_path):
    assert not records.is_complete(tmp_path, "a")
    records.write_manifest(tmp_path, "a", {"n": 1})
    assert records.is_complete(tmp_path, "a") and not records.is_complete(tmp_path, "b")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StudyError, match="manifest.json: damaged"):
        records.is_complete(tmp_path, "a")


def test_uniform_streams_are_uniform_and_independent():
    u = np.array([uniform(np.arange(2000, dtype=np.uint64), t) for t in range(20)])
    assert 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(u[:, :50].T) - np.eye(50)).max() < 0.9
    assert len(np.unique(u)) == u.size


@pytest.fixture(scope="module")
def engine(tiny_model):
    return HFEngine(str(tiny_model), {"device": "cpu"})


def requests(tokenizer, n):
    ids = {p: prompt_ids(tokenizer, q, "chat", "{question}") for p, q in PROBLEMS.itertuples(index=False)}
    return [Request(("a", p, i), ids[p], sample_seed(0, "m", p, i)) for p in ids for i in range(n)]


def test_hf_samples_do_not_depend_on_the_batch(engine):
    todo = requests(engine.tokenizer, 3)
    whole = {o.key: o for o in engine.generate(todo, Sampling(max_tokens=12))}
    alone = {o.key: o for r in todo[:6] for o in engine.generate([r], Sampling(max_tokens=12))}
    assert len(whole) == len(todo)
    assert sum(whole[k].text == o.text for k, o in alone.items()) >= 5  # a last bit may differ between batch shapes
    assert len({o.text for o in whole.values()}) > 15


def test_hf_draws_from_the_models_distribution(engine):
    """First tokens of many samples of one prompt against the model's own softmax at that temperature (chi-square)."""
    import torch
    from scipy.stats import chisquare

    ids = prompt_ids(engine.tokenizer, "Ann has 3 pens.", "chat", "{question}")
    n = 3000
    todo = [Request(("a", "p", i), ids, sample_seed(0, "m", "p", i)) for i in range(n)]
    sampling = Sampling(temperature=0.5, top_k=5, max_tokens=1)
    texts = [o.text for o in engine.generate(todo, sampling)]
    with torch.inference_mode():
        top = torch.topk(engine.model(torch.tensor([ids])).logits[0, -1], 5)
    expected = torch.softmax(top.values.double() / 0.5, 0).numpy() * n
    names = [engine.tokenizer.decode([i], skip_special_tokens=True) for i in top.indices]
    observed = [texts.count(name) for name in names]
    assert sum(observed) == n
    assert chisquare(observed, expected * n / expected.sum()).pvalue > 1e-4


def test_hf_greedy_equals_generate_and_counts_tokens(engine):
    import torch

    todo = requests(engine.tokenizer, 1)
    outs = {o.key: o for o in engine.generate(todo, Sampling(temperature=0, max_tokens=8))}
    for r in todo[:3]:
        full = engine.model.generate(torch.tensor([r.prompt_ids]), max_new_tokens=8, do_sample=False, attention_mask=torch.ones(1, len(r.prompt_ids), dtype=torch.long))
        row = full[0, len(r.prompt_ids) :]
        assert outs[r.key].text == engine.tokenizer.decode(row, skip_special_tokens=True)
        assert outs[r.key].n_tokens == len(row) and outs[r.key].n_prompt_tokens == len(r.prompt_ids)
        assert outs[r.key].finish_reason == ("stop" if row[-1] == engine.tokenizer.eos_token_id else "length")


def test_hf_lowers_the_batch_when_memory_runs_out(tiny_model):
    engine = HFEngine(str(tiny_model), {"device": "cpu", "batch_size": 8})
    real = engine._batch

    def tight(batch, sampling):
        if len(batch) > 2:
            raise RuntimeError("CUDA out of memory")
        return real(batch, sampling)

    engine._batch = tight
    todo = requests(engine.tokenizer, 2)
    assert {o.key for o in engine.generate(todo, Sampling(max_tokens=2))} == {r.key for r in todo}
    assert engine.batch_size == 2


def test_exactly_one_bos(tiny_model):
    tokenizer = load_tokenizer(str(tiny_model))
    bos = tokenizer.bos_token_id
    assert prompt_ids(tokenizer, "Ann has 3 pens.", "chat", "{question}").count(bos) == 1
    with pytest.raises(ValueError, match="exactly one BOS"):
        check_bos(tokenizer, [bos, bos, 9])
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(ValueError, match="exactly one BOS"):
        prompt_ids(tokenizer, "x", "chat", "{question}")
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        prompt_ids(tokenizer, "x", "chat", "{question}")
