"""Sampling: exactly the wanted keys, whatever dies on the way; and the transformers engine's own streams."""

import shutil
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch

from wcse_lib import store
from wcse_lib.sample import drawing as sampling
from wcse_lib.sample import identity
from wcse_lib.sample.drawing import Opened
from wcse_lib.sample.engines import Decoding, Output, Request, open_engine
from wcse_lib.sample.engines.picking import uniform
from wcse_lib.sample.prompts import check_bos, load_tokenizer, prompt_ids
from wcse_lib.store import StudyError, read_samples
from wcse_lib.study import Machine, Prompt, sample_seed, weights_mark

PROBLEMS = pd.DataFrame(
    {
        "problem_id": [f"p{i}" for i in range(7)],
        "question": [f"Ann has {i} pens." for i in range(7)],
    }
)


class FakeTokenizer:
    chat_template = None
    bos_token_id = eos_token_id = None

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


def run(
    folder,
    engine,
    n=3,
    problems=PROBLEMS,
    temperature=0.7,
    prompt=None,
    seed=0,
    tokenizer=FakeTokenizer,
    shard=None,
):
    prompt, tokenizer = prompt or Prompt(style="plain"), tokenizer and tokenizer()
    how = Decoding(temperature)
    return sampling.draw(
        folder,
        "wc",
        problems,
        n,
        Opened(engine, "fake", tokenizer),
        prompt=prompt,
        decoding=how,
        seed=seed,
        model="m",
        shard=shard,
    )


def test_draws_every_key_once_with_its_own_seed(tmp_path):
    rows = run(tmp_path, FakeEngine())
    assert (
        list(rows.columns[:10])
        == "author problem_id sample_index seed text n_prompt_tokens n_tokens finish_reason engine model".split()
    )
    assert set(zip(rows["problem_id"], rows["sample_index"])) == {
        (p, i) for p in PROBLEMS["problem_id"] for i in range(3)
    }
    assert len(set(rows["seed"])) == 21
    assert all(
        r.seed == sample_seed(0, "m", r.problem_id, r.sample_index) for r in rows.itertuples()
    )


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


class FailingEngine(FakeEngine):
    """Fails for some keys."""

    def __init__(self, fails):
        super().__init__()
        self.fails = fails

    def generate(self, requests, sampling):
        for output in super().generate(requests, sampling):
            failed = output.key[1:] in self.fails
            yield Output(output.key, "", -1, -1, "error", "HTTP 500") if failed else output


def test_failed_samples_are_rows_until_they_are_drawn(tmp_path):
    rows = run(tmp_path, FailingEngine({("p1", 0), ("p3", 2)}))
    assert (
        len(rows) == 21
        and list(rows.loc[rows["finish_reason"] == "error", "error"]) == ["HTTP 500"] * 2
    )
    second = FailingEngine({("p1", 0)})
    rows = run(tmp_path, second)
    assert (
        sorted(second.drawn) == [("wc", "p1", 0), ("wc", "p3", 2)]
        and (rows["finish_reason"] == "error").sum() == 1
    )
    cut = FailingEngine({("p1", 0)})
    cut.dies_after = 0
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, cut)
    assert (
        len(read_samples(tmp_path)) == 20
    )  # the old failure is gone, the sample undone, all others there
    pd.testing.assert_frame_equal(
        run(tmp_path, FakeEngine()), run(tmp_path / "whole", FakeEngine())
    )
    assert not list(tmp_path.glob("part-errors*"))


def test_numbers_of_samples_by_problem(tmp_path):
    n = {"p0": 1, "p2": 5, "p6": 2}
    rows = run(tmp_path, FakeEngine(), n=n)
    assert rows["problem_id"].value_counts().to_dict() == n
    grown = FakeEngine()
    assert len(run(tmp_path, grown, n=n | {"p0": 3, "p1": 1})) == 11 and len(grown.drawn) == 3
    assert len(run(tmp_path, FakeEngine(), n={"p2": 2})) == 2


def test_shards_beside_each_other_make_the_same_rows(tmp_path):
    whole = run(tmp_path / "whole", FakeEngine())
    for i in (2, 0):
        run(tmp_path / "cut", FailingEngine({("p2", 1)}), shard=(i, 3))
    assert set(read_samples(tmp_path / "cut")["problem_id"]) == {"p0", "p2", "p3", "p5", "p6"}
    last = FakeEngine()
    pd.testing.assert_frame_equal(run(tmp_path / "cut", last), whole)
    assert len(last.drawn) == 2 * 3 + 1


def test_endpoints_get_conversations_or_text_and_no_ids(tmp_path):
    class Seen(FakeEngine):
        def generate(self, requests, sampling):
            self.seen = [(r.prompt_ids, r.messages, r.text) for r in requests]
            self.stop = sampling.stop
            return super().generate(requests, sampling)

    chat, plain = Seen(), Seen()
    how = {"n": 1, "problems": PROBLEMS.head(1), "tokenizer": None}
    run(tmp_path / "chat", chat, prompt=Prompt(system="Be brief."), **how)
    told = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Ann has 0 pens."},
    ]
    assert chat.seen == [([], told, "")] and chat.stop == ()
    run(tmp_path / "plain", plain, prompt=Prompt(style="plain", shots="gsm8k_8shot"), **how)
    ((ids, none, text),) = plain.seen
    assert (
        ids == []
        and none is None
        and text.endswith("\n\nQ: Ann has 0 pens.\nA:")
        and plain.stop == ("\nQ:",)
    )


KILLED = """
import sys, time
from pathlib import Path
import pandas as pd
from wcse_lib import store
from wcse_lib.sample import drawing as sampling
from wcse_lib.sample.engines import Decoding
from wcse_lib.sample import open_engine
from wcse_lib.study import Machine, Prompt
records.SampleWriter.__init__.__defaults__ = (8, 15.0, "")
model, folder, n = sys.argv[1], records.Path(sys.argv[2]), int(sys.argv[3])
ids, questions = zip(*((f"p{i}", f"Ann has {i} pens.") for i in range(n)))
problems = pd.DataFrame({"problem_id": ids, "question": questions})
engine = open_engine("hf", model, Machine(device="cpu", batch_size=8, threads=1))
sampling.draw(folder, "wc", problems, 4, sampling.Opened(engine, "hf", engine.tokenizer),
              prompt=Prompt(), decoding=Decoding(max_tokens=24), seed=0, model="tiny")
"""


def test_kill_in_the_middle_of_transformers(tiny_model, tmp_path):
    command = [sys.executable, "-c", KILLED, str(tiny_model), str(tmp_path)]
    writer = subprocess.Popen([*command, "200"], stdout=subprocess.DEVNULL)
    while writer.poll() is None and len(store.parts(tmp_path)) < 3:
        time.sleep(0.005)
    writer.kill()
    assert writer.wait() == -9, "it ended before it could be killed"
    flushed = read_samples(tmp_path)
    assert 24 <= len(flushed) < 800
    subprocess.run([*command, "200"], check=True, stdout=subprocess.DEVNULL)
    rows = read_samples(tmp_path)
    assert len(rows) == 800 and rows.merge(
        flushed, on=[*store.KEY, "seed", "text", "n_tokens"]
    ).shape[0] == len(flushed)


@pytest.mark.parametrize(
    "other",
    [{"temperature": 1.0}, {"seed": 1}, {"prompt": Prompt(style="plain", template="Q {question}")}],
)
def test_rows_drawn_otherwise_never_mix(tmp_path, other):
    run(tmp_path, FakeEngine())
    with pytest.raises(StudyError, match="holds samples drawn otherwise"):
        run(tmp_path, FakeEngine(), **other)


def test_an_id_that_now_means_another_question_is_refused(tmp_path):
    """As when a row was put before others in a file whose problems have no ids."""
    run(tmp_path, FakeEngine())
    with pytest.raises(
        StudyError,
        match=r"other questions under the ids of 1 problems, such as p2.*columns.problem_id",
    ):
        run(
            tmp_path,
            FakeEngine(),
            problems=PROBLEMS.assign(
                question=PROBLEMS["question"].where(PROBLEMS["problem_id"] != "p2", "Why?")
            ),
        )


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    from safetensors.numpy import save_file

    marks = []
    for value in (0.0, 1.0):
        save_file({"a": np.full(700_000, value, np.float32)}, tmp_path / "model.safetensors")
        marks.append(weights_mark(str(tmp_path)))
    assert marks[0] != marks[1] and weights_mark("org/model") == ""
    identity.claim(tmp_path / "arm", {"weights": marks[0]})
    with pytest.raises(StudyError, match="weights: .* there, .* asked for"):
        identity.claim(tmp_path / "arm", {"weights": marks[1]})


def test_only_safetensors_are_loaded(tmp_path, tiny_model):
    """Pickled weights run code when they are read."""
    from transformers import AutoModelForCausalLM

    folder = shutil.copytree(tiny_model, tmp_path / "pickled")
    live = AutoModelForCausalLM.from_pretrained(folder)
    for path in folder.glob("*.safetensors"):
        path.unlink()
    torch.save(live.state_dict(), folder / "pytorch_model.bin")
    with pytest.raises(OSError, match="safetensors"):
        open_engine("hf", str(folder), Machine(device="cpu"))


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
    with store.SampleWriter(tmp_path) as writer:
        for i, text in enumerate(["\0", "\ud800 lone", "<script>", "x" * 1_000_000, ""]):
            writer.add(sampling.row_of(Output(("a", "p", i), text, 1, 1, "stop"), 0, "e", "m", "h"))
    rows = read_samples(tmp_path)
    assert len(rows) == 5 and rows["text"][1] == "? lone" and len(rows["text"][3]) == 1_000_000


def test_disk_full_is_told(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StudyError, match="x.json: could not be written .No space left"):
        store.write_json(tmp_path / "x.json", {})
    assert not list(tmp_path.iterdir())


def test_manifest_means_complete(tmp_path):
    assert not store.is_complete(tmp_path, "a")
    store.write_manifest(tmp_path, "a", {"n": 1})
    assert store.is_complete(tmp_path, "a") and not store.is_complete(tmp_path, "b")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(StudyError, match="manifest.json: damaged"):
        store.is_complete(tmp_path, "a")


def test_uniform_streams_are_uniform_and_independent():
    u = np.array([uniform(np.arange(2000, dtype=np.uint64), t) for t in range(20)])
    assert 0 <= u.min() and u.max() < 1 and abs(u.mean() - 0.5) < 0.01
    assert abs(np.corrcoef(u[:, :50].T) - np.eye(50)).max() < 0.9
    assert len(np.unique(u)) == u.size


@pytest.fixture(scope="module")
def engine(tiny_model):
    return open_engine("hf", str(tiny_model), Machine(device="cpu"))


def requests(tokenizer, n):
    ids = {p: prompt_ids(tokenizer, q, Prompt()) for p, q in PROBLEMS.itertuples(index=False)}
    return [Request(("a", p, i), ids[p], sample_seed(0, "m", p, i)) for p in ids for i in range(n)]


def test_hf_samples_do_not_depend_on_the_batch(engine):
    todo = requests(engine.tokenizer, 3)
    whole = {o.key: o for o in engine.generate(todo, Decoding(max_tokens=12))}
    alone = {o.key: o for r in todo[:6] for o in engine.generate([r], Decoding(max_tokens=12))}
    assert len(whole) == len(todo)
    assert (
        sum(whole[k].text == o.text for k, o in alone.items()) >= 5
    )  # a last bit may differ between batch shapes
    assert len({o.text for o in whole.values()}) > 15


def test_hf_draws_from_the_models_distribution(engine):
    """First tokens of many samples of one prompt against the model's own softmax at that temperature (chi-square)."""
    import torch
    from scipy.stats import chisquare

    ids = prompt_ids(engine.tokenizer, "Ann has 3 pens.", Prompt())
    n = 3000
    todo = [Request(("a", "p", i), ids, sample_seed(0, "m", "p", i)) for i in range(n)]
    sampling = Decoding(temperature=0.5, top_k=5, max_tokens=1)
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
    outs = {o.key: o for o in engine.generate(todo, Decoding(temperature=0, max_tokens=8))}
    for r in todo[:3]:
        full = engine.model.generate(
            torch.tensor([r.prompt_ids]),
            max_new_tokens=8,
            do_sample=False,
            attention_mask=torch.ones(1, len(r.prompt_ids), dtype=torch.long),
        )
        row = full[0, len(r.prompt_ids) :]
        assert outs[r.key].text == engine.tokenizer.decode(row, skip_special_tokens=True)
        assert outs[r.key].n_tokens == len(row) and outs[r.key].n_prompt_tokens == len(r.prompt_ids)
        assert outs[r.key].finish_reason == (
            "stop" if row[-1] == engine.tokenizer.eos_token_id else "length"
        )


@pytest.mark.parametrize("continuous", [True, False])
@pytest.mark.parametrize("kind", ["cuda", "cpu", "python", "other"])
def test_hf_lowers_the_batch_when_memory_runs_out(tiny_model, kind, continuous, capsys):
    import torch

    error = {
        "cuda": torch.OutOfMemoryError("Tried to allocate 20.00 GiB"),
        "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
        "python": MemoryError(),
        "other": RuntimeError("shapes differ"),
    }[kind]
    engine = open_engine("hf", str(tiny_model), Machine(device="cpu", batch_size=8))
    engine.continuous, batch, step = continuous, engine._batch, engine.step

    def tight_batch(requests, *how):
        if len(requests) > 2:
            raise error
        return batch(requests, *how)

    def tight_step(tokens, position, keys, values):
        if len(tokens) > 2:
            raise error
        return step(tokens, position, keys, values)

    engine._batch, engine.step = tight_batch, tight_step
    todo = requests(engine.tokenizer, 2)
    if kind == "other":
        with pytest.raises(RuntimeError, match="shapes differ"):
            list(engine.generate(todo, Decoding(max_tokens=2)))
        return
    assert {o.key for o in engine.generate(todo, Decoding(max_tokens=2))} == {r.key for r in todo}
    assert "batch size lowered to 2" in capsys.readouterr().out


def test_exactly_one_bos(tiny_model):
    tokenizer = load_tokenizer(str(tiny_model))
    bos = tokenizer.bos_token_id
    assert prompt_ids(tokenizer, "Ann has 3 pens.", Prompt()).count(bos) == 1
    with pytest.raises(ValueError, match="exactly one BOS"):
        check_bos(tokenizer, [bos, bos, 9])
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(ValueError, match="exactly one BOS"):
        prompt_ids(tokenizer, "x", Prompt())
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        prompt_ids(tokenizer, "x", Prompt())
