"""One example as ids and labels: masks, end tokens, refusals, and the coloured page."""

import pytest
from tiny import BOS, EOS, make_base, make_rows

from wcse_lib.train.encode import MASKED, check_row, coloured, encode, end_token


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("encode") / "base"


@pytest.fixture(scope="module")
def tokenizer(base):
    return make_base(base)


@pytest.fixture
def chat(tokenizer, base):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base)


def test_encode_masks_the_prompt_and_trains_the_end(tokenizer):
    prompt = [BOS, 20, 21]
    row = encode(tokenizer, prompt, "ab", 10)
    assert row["input_ids"][:3] == prompt
    assert row["labels"][:3] == [MASKED] * 3
    assert row["labels"][3:] == row["input_ids"][3:]
    assert row["labels"][-1] == EOS
    assert len(row["labels"]) == 6


def test_a_row_above_max_tokens_is_none(tokenizer):
    assert encode(tokenizer, [BOS, 20, 21], "ab", 6) is not None
    assert encode(tokenizer, [BOS, 20, 21], "ab", 5) is None


def test_special_tokens_spelt_out_in_a_completion_stay_text(tokenizer):
    labels = encode(tokenizer, [BOS], "x<eos>y<bos>", 64)["labels"]
    assert labels.count(EOS) == 1
    assert BOS not in labels
    assert tokenizer.decode(labels[1:-1]) == "x<eos>y<bos>"


def test_good_rows_pass(tokenizer):
    for row in make_rows(tokenizer):
        check_row(row, 0, tokenizer, EOS)


@pytest.mark.parametrize(
    "row, reason",
    [
        ({"input_ids": [BOS, BOS, 20, EOS], "labels": [MASKED, MASKED, 20, EOS]}, "2 BOS"),
        ({"input_ids": [BOS, 20, BOS, 20, EOS], "labels": [MASKED] * 3 + [20, EOS]}, "2 BOS"),
        ({"input_ids": [BOS, 20, EOS], "labels": [MASKED] * 3}, "all 3 labels are masked"),
        ({"input_ids": [BOS, 20, 21], "labels": [MASKED, 20, 21]}, "end token 2 is not trained"),
        ({"input_ids": [BOS, 20, EOS], "labels": [MASKED, 20, MASKED]}, "differ"),
        ({"input_ids": [BOS, 20, EOS], "labels": [MASKED, EOS]}, "torn"),
        ({"input_ids": [], "labels": []}, "empty"),
    ],
)
def test_bad_rows_are_refused_by_number_and_reason(tokenizer, row, reason):
    with pytest.raises(ValueError, match=f"row 2: .*{reason}"):
        check_row(row, 2, tokenizer, EOS)


def test_a_row_has_the_bos_that_sampling_gives_its_prompt(tokenizer, base):
    """Without BOS where the tokenizer adds none; with it where it adds one: the rule of `prompt_ids`."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    row = {"input_ids": [20, 21, EOS], "labels": [MASKED, 21, EOS]}
    check_row(row, 0, tokenizer, EOS)
    adding = AutoTokenizer.from_pretrained(base)
    bos = TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", BOS)])
    adding.backend_tokenizer.post_processor = bos
    with pytest.raises(ValueError, match="row 2: .*0 BOS.*begins every text with it"):
        check_row(row, 2, adding, EOS)


def test_a_bos_that_marks_turns_may_recur_but_not_lead_twice(chat):
    chat.chat_template = "{% for m in messages %}<bos>{{ m['content'] }}{% endfor %}"
    recurring = {"input_ids": [BOS, 20, BOS, 21, EOS], "labels": [MASKED] * 3 + [21, EOS]}
    check_row(recurring, 0, chat, EOS)
    leading = {"input_ids": [BOS, BOS, 21, EOS], "labels": [MASKED] * 2 + [21, EOS]}
    with pytest.raises(ValueError, match="2 of them at its start"):
        check_row(leading, 0, chat, EOS)


def test_coloured_shows_masks_and_escapes_text(tokenizer):
    row = encode(tokenizer, [BOS, *tokenizer("<b>&")["input_ids"]], "a\nb", 64)
    page = coloured([row], tokenizer)
    assert "&lt;" in page
    assert "&amp;" in page
    assert "<b>" not in page
    assert "9 tokens, 4 trained" in page
    assert page.count("label -100") == 5
    assert f"id {EOS}, label {EOS}" in page


# ---- the end of a turn

GEMMA = "{% for m in messages %}<turn>{{ m['role'] }}\n{{ m['content'] | trim }}<end_turn>\n{% endfor %}"
LLAMA = "{% for m in messages %}<turn>{{ m['role'] }}<turn>{{ m['content'] }}<end_turn>{% endfor %}"
MISTRAL = "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
NONE = "{% for m in messages %}{{ m['content'] }}\n{% endfor %}"


@pytest.mark.parametrize(
    "template, token",
    [(GEMMA, "<end_turn>"), (LLAMA, "<end_turn>"), (MISTRAL, "<eos>"), (NONE, "<eos>")],
)
def test_the_end_token_is_the_one_that_the_template_sets(chat, template, token):
    chat.add_special_tokens({"additional_special_tokens": ["<turn>", "<end_turn>"]})
    chat.chat_template = template
    assert end_token(chat) == chat.convert_tokens_to_ids(token)
    assert end_token(chat, "plain") == EOS


def test_without_any_end_token_nothing_can_be_learnt(chat):
    chat.chat_template, chat.eos_token = NONE, None
    with pytest.raises(ValueError, match="no EOS"):
        end_token(chat)
