"""Special tokens are no text, but those that open and close a thought stay in it."""

import pytest

from wcse_lib.sample import load_tokenizer
from wcse_lib.sample.engines.texts import text_of, thought_tags
from wcse_lib.study import resolve_model


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    tokenizer.add_special_tokens(
        {"additional_special_tokens": ["[THINK]", "[/THINK]", "<|im_end|>"]}
    )
    return tokenizer


@pytest.mark.parametrize(
    "text, kept",
    [
        ("[THINK]1+1=3[/THINK]1+1=2<|im_end|>", "[THINK]1+1=3[/THINK]1+1=2"),
        ("1+1=3[/THINK]1+1=2", "1+1=3[/THINK]1+1=2"),
        ("1+1=2<|im_end|>", "1+1=2"),
        ("", ""),
    ],
)
def test_tags_of_thoughts_stay_in_a_sample(tokenizer, text, kept):
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert text_of(tokenizer, ids, thought_tags(tokenizer)) == kept


def test_most_tokenizers_have_no_such_tags():
    assert thought_tags(load_tokenizer(resolve_model("nano-student"))) == {}
