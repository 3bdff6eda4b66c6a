"""The bundled models are ordinary checkpoints of the sizes that they say."""

import json

import pytest

from wcse_lib.nano import MODELS, make_problems
from wcse_lib.store import sha256


def facts_of(name):
    return json.loads((MODELS / name / "training.json").read_text())


@pytest.fixture(params=["nano-student", "nano-wc", "nano-se"])
def name(request):
    return request.param


@pytest.fixture
def tokenizer(name):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(MODELS / name)


def test_the_weights_are_those_that_were_trained(name):
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(MODELS / name)
    assert model.config.model_type == "llama"
    assert model.config.hidden_size // model.config.num_attention_heads == 32
    assert model.num_parameters() == facts_of(name)["n_parameters"]
    assert sha256(MODELS / name / "model.safetensors") == facts_of(name)["weights_sha256"]


def test_a_prompt_begins_with_one_bos(tokenizer):
    question = make_problems(1, 3)[0]["question"]
    turns = [{"role": "user", "content": question}]
    ids = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
    assert ids[0] == tokenizer.bos_token_id
    assert ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("text", ["Tom has Ann +7=12+7=19\n#### 19", "Ünïcode ✓ <|user|>"])
def test_texts_come_back(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_each_digit_is_a_token(tokenizer):
    assert len(tokenizer("1234", add_special_tokens=False)["input_ids"]) == 4


def test_parameter_ratio_is_about_three():
    ratio = facts_of("nano-se")["n_parameters"] / facts_of("nano-wc")["n_parameters"]
    assert 3.0 <= ratio < 3.3
