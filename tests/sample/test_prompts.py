"""Prompts: one BOS in every model family's form, worked examples, system messages, thinking."""

import pytest
from conftest import ROOT
from made_tokenizers import made_tokenizer

from wcse_lib import answers
from wcse_lib.sample.prompts import (
    check_bos,
    load_tokenizer,
    messages,
    prompt_hash,
    prompt_ids,
    prompt_text,
    shots,
    stops,
)
from wcse_lib.store import StudyError, read_table
from wcse_lib.study import Prompt

FAMILIES = {  # name: BOS, whether the tokenizer adds it, further special tokens, chat template of that form
    "llama3": (
        "<|begin_of_text|>",
        True,
        ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        "{{ bos_token }}{% for m in messages %}{{ '<|start_header_id|>' + m.role + "
        "'<|end_header_id|>\n\n' + m.content + '<|eot_id|>' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    ),
    "gemma2": (
        "<bos>",
        True,
        ["<start_of_turn>", "<end_of_turn>"],
        "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not "
        "supported') }}{% endif %}"
        "{% for m in messages %}{{ '<start_of_turn>' + m.role + '\n' + m.content + '<end_of_turn>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}",
    ),
    "qwen2.5": (
        None,
        False,
        ["<|im_start|>", "<|im_end|>"],
        "{% if messages[0].role != 'system' %}{{ '<|im_start|>system\nYou help.<|im_end|>\n' }}{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    "qwen3": (
        None,
        False,
        ["<|im_start|>", "<|im_end|>", "<think>", "</think>"],
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% if enable_thinking is "
        "defined and not enable_thinking %}"
        "{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}",
    ),
    "smollm2": (
        "<|im_start|>",
        False,
        ["<|im_end|>"],
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    ),
    "mistral": (
        "<s>",
        True,
        ["[INST]", "[/INST]"],
        "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}{{ '[INST] ' + m.content + "
        "' [/INST]' }}{% endif %}{% endfor %}",
    ),
}
QUESTION = "Ann has 3 pens and buys 4. How many?"


def family(name):
    """A byte-level tokenizer with the special tokens, post-processing and template of a model family."""
    bos, adds_bos, special, template = FAMILIES[name]
    return made_tokenizer(template, special, bos=bos, adds_bos=adds_bos)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("style", ["chat", "plain"])
def test_exactly_one_bos(name, style):
    tokenizer, bos = family(name), FAMILIES[name][0]
    ids = prompt_ids(tokenizer, QUESTION, Prompt(style=style))
    text = tokenizer.decode(ids)
    assert QUESTION in text and text.count(QUESTION) == 1
    if name == "smollm2":  # its BOS is the marker of a turn
        assert ids.count(tokenizer.bos_token_id) == (2 if style == "chat" else 0)
        with pytest.raises(ValueError, match="exactly one BOS"):
            check_bos(tokenizer, ids[:1] * 2 if style == "chat" else [tokenizer.bos_token_id] * 2)
        return
    if bos:
        assert ids[0] == tokenizer.bos_token_id and ids.count(ids[0]) == 1 and text.startswith(bos)
    if style == "chat":
        special = [i for i in ids if tokenizer.convert_ids_to_tokens(i) in FAMILIES[name][2]]
        assert len(special) >= 2, "the template's markers must be single tokens, not text"
        rendered = tokenizer.apply_chat_template(
            messages(QUESTION, Prompt()), tokenize=False, add_generation_prompt=True
        )
        if bos:  # a template's text, tokenized as text, gets a second BOS
            with pytest.raises(ValueError, match="exactly one BOS"):
                check_bos(tokenizer, tokenizer(rendered)["input_ids"])
            with pytest.raises(ValueError, match="exactly one BOS"):
                prompt_ids(tokenizer, QUESTION, Prompt(style="plain", template=bos + "{question}"))
            tokenizer.chat_template = tokenizer.chat_template.replace("{{ bos_token }}", "")
            with pytest.raises(ValueError, match="exactly one BOS"):
                prompt_ids(tokenizer, QUESTION, Prompt())


def test_tokenizers_that_add_a_second_bos_are_refused(tiny_model):
    tokenizer = load_tokenizer(str(tiny_model))
    bos = tokenizer.bos_token_id
    assert prompt_ids(tokenizer, QUESTION, Prompt()).count(bos) == 1
    with pytest.raises(ValueError, match="exactly one BOS"):
        check_bos(tokenizer, [bos, bos, 9])
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    with pytest.raises(ValueError, match="exactly one BOS"):
        prompt_ids(tokenizer, QUESTION, Prompt())


def test_a_chat_needs_a_template(tiny_model):
    tokenizer = load_tokenizer(str(tiny_model))
    tokenizer.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        prompt_ids(tokenizer, QUESTION, Prompt())


def test_system_messages():
    prompt = Prompt(system="Be brief.")
    assert "You help." in family("qwen2.5").decode(
        prompt_ids(family("qwen2.5"), QUESTION, Prompt())
    )
    text = family("qwen2.5").decode(prompt_ids(family("qwen2.5"), QUESTION, prompt))
    assert "Be brief." in text and "You help." not in text
    with pytest.raises(ValueError, match="System role not supported.*leave prompt.system out"):
        prompt_ids(family("gemma2"), QUESTION, prompt)
    with pytest.raises(ValueError, match="only for style: chat"):
        Prompt(style="plain", system="Be brief.")


def test_thinking_is_asked_for():
    tokenizer = family("qwen3")
    off, on = (
        tokenizer.decode(prompt_ids(tokenizer, QUESTION, Prompt(thinking=t))) for t in (False, True)
    )
    assert off == on + "<think>\n\n</think>\n\n"


@pytest.mark.parametrize(
    ("name", "n", "style"), [("gsm8k_8shot", 8, "gsm8k"), ("math_4shot", 4, "math")]
)
def test_bundled_examples(name, n, style):
    """As many as they say, each with an answer that the checker reads, in the form that answers shall have."""
    prompt = Prompt(style="plain", shots=name)
    text = shots(prompt)
    start, middle = ("Q: ", "\nA: ") if style == "gsm8k" else ("Problem:\n", "\n\nSolution:\n")
    examples = text.split(start)[1:-1]
    assert len(examples) == n and text.count("{question}") == 1
    for example in examples:
        solution = example.split(middle)[1].strip()
        assert (
            ("\n#### " in solution)
            if style == "gsm8k"
            else solution.endswith("$. I hope it is correct.")
        )
        assert answers.extract(solution) is not None
    assert prompt_text(QUESTION, prompt).endswith(start + QUESTION + middle.rstrip())
    (stop,) = stops(prompt)
    assert (
        stop in prompt_text(QUESTION, prompt)
        and f"It is 7.\n\n{start}".partition(stop)[0].strip() == "It is 7."
    )
    assert stops(Prompt(shots=name)) == () and stops(Prompt(style="plain")) == ()


def test_arithmetic_of_the_bundled_examples():
    from wcse_lib.verify.arithmetic import judge_arithmetic

    for name in ("gsm8k_8shot", "math_4shot"):
        assert judge_arithmetic(shots(Prompt(style="plain", shots=name)))[0] is not False


def test_bundled_examples_are_no_test_problems(real_data):
    """Our own writing: no worked example shares thirteen words in a row with a GSM8K or MATH problem."""
    grams = set()
    for name in ("gsm8k_8shot", "math_4shot"):
        words = shots(Prompt(style="plain", shots=name)).split()
        grams |= {tuple(words[i : i + 13]) for i in range(len(words) - 12)}
    for file, key in (
        ("gsm8k_test.jsonl", "question"),
        ("gsm8k_train.jsonl", "question"),
        ("math_test_half.jsonl", "problem"),
    ):
        for row in read_table(real_data / file):
            words = row[key].split()
            assert not grams & {tuple(words[i : i + 13]) for i in range(len(words) - 12)}, row[key]


def test_own_examples(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("Frage: 1+1?\nAntwort: 2\n\nFrage: {question}\nAntwort:\n")
    prompt = Prompt(style="plain", shots=str(path), template="{question} (kurz)")
    assert prompt_text("2+2?", prompt) == "Frage: 1+1?\nAntwort: 2\n\nFrage: 2+2? (kurz)\nAntwort:"
    assert stops(prompt) == ("\nFrage:",)
    path.write_text("1+1=2")
    assert (
        prompt_text("a {question} b", prompt) == "1+1=2\n\na {question} b (kurz)"
        and stops(prompt) == ()
    )
    path.write_text("{question} {question}")
    with pytest.raises(StudyError, match="2 times"):
        shots(prompt)
    with pytest.raises(StudyError, match="bundled: gsm8k_8shot, math_4shot"):
        shots(Prompt(shots="no_such_file"))


def test_the_studys_stops_come_after_the_styles_own():
    """One set of stops for arms, students and validation: each text once, in a fixed order."""
    shown = Prompt(style="plain", shots="gsm8k_8shot")
    (own,) = stops(shown)
    assert stops(shown, ["###", own, "###", "\n\n"]) == (own, "###", "\n\n")
    assert stops(Prompt(), ["###"]) == ("###",)


def test_the_hash_covers_everything(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text("1+1=2")
    kinds = [
        Prompt(),
        Prompt(style="plain"),
        Prompt(template="Q {question}"),
        Prompt(system="Be brief."),
        Prompt(thinking=True),
        Prompt(system="Be brief.", thinking=True),
        Prompt(shots="gsm8k_8shot"),
        Prompt(shots="math_4shot"),
        Prompt(shots=str(path)),
    ]
    hashes = [prompt_hash(p, "template") for p in kinds]
    path.write_text("1+1=3")
    hashes += [
        prompt_hash(kinds[-1], "template"),
        prompt_hash(Prompt(), "another template"),
        prompt_hash(Prompt(), None),
    ]
    assert len(set(hashes)) == len(hashes)
    assert prompt_hash(Prompt(style="plain"), "a") == prompt_hash(Prompt(style="plain"), "b")


def test_examples_travel_with_the_package():
    assert "shots/*.txt" in (ROOT / "pyproject.toml").read_text()
