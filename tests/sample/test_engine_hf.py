"""The transformers engine: the model's own distribution, the same samples in every batch, and memory that runs out."""

import shutil

import pytest
import torch
from sample_fakes import PROBLEMS
from scipy.stats import chisquare

from wcse_lib.sample.engines import Decoding, Request, open_engine
from wcse_lib.sample.prompts import prompt_ids
from wcse_lib.study import Machine, Prompt, sample_seed


@pytest.fixture(scope="module")
def engine(tiny_model):
    return open_engine("hf", str(tiny_model), Machine(device="cpu"))


def requests_of(engine, n: int) -> list[Request]:
    """n samples of every problem."""
    requests = []
    for problem_id, question in PROBLEMS.itertuples(index=False):
        ids = prompt_ids(engine.tokenizer, question, Prompt())
        for i in range(n):
            seed = sample_seed(0, "m", problem_id, i)
            requests.append(Request(("a", problem_id, i), ids, seed))
    return requests


def texts_of(outputs) -> dict[tuple, str]:
    return {output.key: output.text for output in outputs}


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


def test_a_missing_gpu_is_named(tiny_model):
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="device: cuda stands in the machine file"):
        open_engine("hf", str(tiny_model), Machine(device="cuda"))


def test_samples_do_not_depend_on_the_batch(engine):
    """But for a last bit, which may differ between batch shapes."""
    requests, decoding = requests_of(engine, 3), Decoding(max_tokens=12)
    whole = texts_of(engine.generate(requests, decoding))
    assert len(whole) == len(requests)
    assert len(set(whole.values())) > 15
    same = 0
    for request in requests[:6]:
        (alone,) = engine.generate([request], decoding)
        same += alone.text == whole[request.key]
    assert same >= 5


@pytest.mark.parametrize("stop", [(), ("e", "the")])
def test_batches_of_generate_draw_what_continuous_batching_draws(engine, monkeypatch, stop):
    requests, decoding = requests_of(engine, 3), Decoding(max_tokens=12, stop=stop)
    found = {}
    for continuous in (True, False):
        monkeypatch.setattr(engine, "suits", continuous)
        found[continuous] = {o.key: o for o in engine.generate(requests, decoding)}
    same = sum(found[True][key] == found[False][key] for key in found[True])
    assert same >= len(requests) - 1


def test_draws_from_the_models_distribution(engine):
    """First tokens of many samples of one prompt against the model's own softmax at that temperature."""
    ids = prompt_ids(engine.tokenizer, "Ann has 3 pens.", Prompt())
    n = 3000
    requests = [Request(("a", "p", i), ids, sample_seed(0, "m", "p", i)) for i in range(n)]
    decoding = Decoding(temperature=0.5, top_k=5, max_tokens=1)
    texts = [output.text for output in engine.generate(requests, decoding)]
    with torch.inference_mode():
        top = torch.topk(engine.model(torch.tensor([ids])).logits[0, -1], 5)
    expected = torch.softmax(top.values.double() / 0.5, 0).numpy() * n
    names = [engine.tokenizer.decode([i], skip_special_tokens=True) for i in top.indices]
    observed = [texts.count(name) for name in names]
    assert sum(observed) == n
    assert chisquare(observed, expected * n / expected.sum()).pvalue > 1e-4


def test_greedy_equals_generate_and_counts_tokens(engine):
    requests, end_id = requests_of(engine, 1), engine.tokenizer.eos_token_id
    outputs = engine.generate(requests, Decoding(temperature=0, max_tokens=8))
    by_key = {output.key: output for output in outputs}
    for request in requests[:3]:
        n_prompt, output = len(request.prompt_ids), by_key[request.key]
        whole = engine.model.generate(
            torch.tensor([request.prompt_ids]),
            max_new_tokens=8,
            do_sample=False,
            attention_mask=torch.ones(1, n_prompt, dtype=torch.long),
        )
        ids = whole[0, n_prompt:]
        assert output.text == engine.tokenizer.decode(ids, skip_special_tokens=True)
        assert output.n_tokens == len(ids)
        assert output.n_prompt_tokens == n_prompt
        assert output.finish_reason == ("stop" if ids[-1] == end_id else "length")


ERRORS = {
    "cuda": torch.OutOfMemoryError("Tried to allocate 20.00 GiB"),
    "cpu": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    "python": MemoryError(),
}


@pytest.fixture(params=[True, False], ids=["continuous", "batches"])
def tight(request, tiny_model):
    """An engine that raises `tight.error` for more than `tight.most` rows."""
    engine = open_engine("hf", str(tiny_model), Machine(device="cpu", batch_size=8))
    engine.suits, engine.most = request.param, 2
    batch, step = engine._batch, engine.step

    def tight_batch(requests, *settings):
        if len(requests) > engine.most:
            raise engine.error
        return batch(requests, *settings)

    def tight_step(tokens, *settings):
        if len(tokens) > engine.most:
            raise engine.error
        return step(tokens, *settings)

    engine._batch, engine.step = tight_batch, tight_step
    return engine


@pytest.mark.parametrize("kind", ERRORS)
def test_the_batch_is_lowered_when_memory_runs_out(tight, kind, capsys):
    tight.error, requests = ERRORS[kind], requests_of(tight, 2)
    texts = texts_of(tight.generate(requests, Decoding(max_tokens=2)))
    assert texts.keys() == {request.key for request in requests}
    assert "batch size lowered to 2" in capsys.readouterr().out


def test_memory_that_does_not_hold_one_row_is_an_error(tight):
    tight.error, tight.most = MemoryError(), 0
    with pytest.raises(MemoryError):
        list(tight.generate(requests_of(tight, 2), Decoding(max_tokens=2)))


def test_other_errors_are_raised(tight):
    tight.error = RuntimeError("shapes differ")
    with pytest.raises(RuntimeError, match="shapes differ"):
        list(tight.generate(requests_of(tight, 2), Decoding(max_tokens=2)))


def make_adapter(model, folder, seed: int, rank: int = 4, template: str = "") -> str:
    """Random LoRA weights on a checkpoint; with a tokenizer of its own where a chat template is given."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(seed)
    base = AutoModelForCausalLM.from_pretrained(model)
    settings = LoraConfig(r=rank, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    get_peft_model(base, settings).save_pretrained(folder)
    if template:
        tokenizer = AutoTokenizer.from_pretrained(model)
        tokenizer.chat_template = template
        tokenizer.save_pretrained(folder)
    return str(folder)


def logits(model) -> torch.Tensor:
    with torch.inference_mode():
        return model(torch.tensor([[5, 6, 7]])).logits


@pytest.mark.parametrize("own_tokenizer", [True, False])
def test_an_adapter_stands_on_its_base(engine, tiny_model, tmp_path, own_tokenizer):
    """With the tokenizer of its folder, or its base's where that holds none."""
    template = "{{ messages[0].content }} my own" if own_tokenizer else ""
    adapter = make_adapter(tiny_model, tmp_path, 1, template=template)
    student = open_engine("hf", str(tiny_model), Machine(device="cpu"), [adapter])
    student.use(adapter)
    assert ("my own" in student.tokenizer.chat_template) == own_tokenizer
    assert not torch.equal(logits(student.model), logits(engine.model))
    outputs = student.generate(requests_of(student, 1), Decoding(max_tokens=2))
    assert len(list(outputs)) == len(PROBLEMS)


def test_adapters_are_swapped_on_one_loaded_base(engine, tiny_model, tmp_path, monkeypatch):
    """Each draws what it would draw alone, in any order, and the base is what it was."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    one = make_adapter(tiny_model, tmp_path / "one", 1, template="{{ messages[0].content }} 1")
    two = make_adapter(tiny_model, tmp_path / "two", 2, rank=8)
    alone = {None: logits(engine.model)}
    for adapter in (one, two):
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        alone[adapter] = logits(PeftModel.from_pretrained(base, adapter).eval())

    shared = open_engine("hf", str(tiny_model), Machine(device="cpu"), [one, two])
    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", None)  # it is not loaded again
    decoding, requests = Decoding(max_tokens=6), requests_of(engine, 1)
    drawn: dict[str | None, set] = {}
    for adapter in (None, one, one, two, None, one):
        shared.use(adapter)
        assert torch.equal(logits(shared.model), alone[adapter])
        texts = tuple(sorted(texts_of(shared.generate(requests, decoding)).items()))
        drawn.setdefault(adapter, set()).add(texts)
        assert ("1" in shared.tokenizer.chat_template) == (adapter == one)
    assert len(set.union(*drawn.values())) == len(drawn) == 3
