"""`training.shots: false`: students are trained, validated and tested without the worked examples that arms and
untouched bases are shown."""

from types import SimpleNamespace

import pytest
from studies import lay_examples

from wcse_lib.evaluate import stage as evaluation
from wcse_lib.plan.trial import authors
from wcse_lib.sample import HFEngine, load_tokenizer
from wcse_lib.sample.engines import Output
from wcse_lib.study import Machine, resolve_model
from wcse_lib.train import stage
from wcse_lib.train.encode import MASKED
from wcse_lib.train.rows import encoded_rows

STUDENT, BASE = "small.se.high", "small.base"
EXAMPLE = "Ann has 1 pens. How many pens does Ann have?\n#### 1"


@pytest.fixture(params=[False, True], ids=["without", "with"])
def taught(request, tmp_path):
    """A study whose students are shown the arms' worked example or not, and which of the two."""
    shots = tmp_path / "shots.txt"
    shots.write_text(EXAMPLE)
    how = {"amount": {"low": 1, "high": 2}, "max_tokens": 256, "shots": request.param}
    prompt = {"style": "plain", "shots": str(shots)}
    return lay_examples(tmp_path / "out", prompt=prompt, training=how), request.param


@pytest.fixture
def asked(monkeypatch):
    """The prompts that an engine is given, as texts."""
    texts, tokenizer = [], load_tokenizer(resolve_model("nano-student"))

    def generate(engine, requests, decoding):
        for request in requests:
            texts.append(tokenizer.decode(request.prompt_ids))
            yield Output(request.key, "#### 1", 1, 1, "stop")

    monkeypatch.setattr(HFEngine, "generate", generate)
    return texts


def has_example(texts: list[str]) -> set[bool]:
    return {"Ann has 1 pens" in text for text in texts}


def test_rows_and_validation(taught, asked):
    run, with_shots = taught
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    prompts = []
    for row in encoded_rows(run, STUDENT, tokenizer, lambda dropped: None):
        prompts.append(tokenizer.decode(row["input_ids"][: row["labels"].count(MASKED)]))
    assert has_example(prompts) == {with_shots}
    with stage.Validator(str(run.folder), STUDENT) as validate:
        live = SimpleNamespace(config=SimpleNamespace(get_text_config=SimpleNamespace))
        validate(live, tokenizer, 1)
    assert has_example(asked) == {with_shots}


def test_an_untouched_base_is_always_shown_the_examples(taught, asked):
    run, with_shots = taught
    machine = Machine(threads=1, dtype="float32", checkers=1)
    evaluation.test_together(run.folder, [BASE], machine)
    assert has_example(asked) == {True}
    assert run.prompt_of(BASE) == run.study.prompt
    assert (run.prompt_of(STUDENT) == run.study.prompt) == with_shots


def test_both_prompts_are_tried_before_anything_is_paid(taught):
    run, with_shots = taught
    shown = {author.key: author.prompt.shots is not None for author in authors(run.study, {})}
    bases = {} if with_shots else {"students.small.base": True}
    expected = {"arms.se": True, "arms.wc": True, "students.small": with_shots, **bases}
    assert {key: shown[key] for key in expected} == expected
    assert ("students.small.base" in shown) != with_shots
