"""Chat templates that drop, change or misplace what they are given, print the day, or end turns in odd ways."""

import datetime

import pytest
from made_tokenizers import CLOSE, END, OPEN, TURNS, made_tokenizer

from wcse_lib.sample.chat import end_token, template_text
from wcse_lib.sample.prompts import prompt_hash, prompt_ids
from wcse_lib.study import Prompt

QUESTION = 'Is 3 < x,\nfor "x" & 4?'
SYSTEM = "Answer in one Word."


def shown(tokenizer, prompt=None, question=QUESTION) -> str:
    return tokenizer.decode(prompt_ids(tokenizer, question, prompt or Prompt()))


# ---- what the template is given, and shows

PARTS = "{% for m in messages %}<|open|>{{ m.role }} {{ m.content[0]['text'] }}{% endfor %}"
EVERY_PART = (
    "{% for m in messages %}<|open|>{{ m.role }} "
    "{% for c in m.content %}{% if c.type == 'text' %}{{ c.text }}{% endif %}{% endfor %}{% endfor %}"
)
EITHER = (
    "{% for m in messages %}{% if m.content is string %}{{ m.content }}{% else %}"
    "{{ raise_exception('no parts') }}{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("template", [TURNS, PARTS, EVERY_PART, EITHER, {"default": PARTS}])
@pytest.mark.parametrize("system", [None, SYSTEM])
def test_contents_are_given_as_the_template_wants_them(template, system):
    text = shown(made_tokenizer(template), Prompt(system=system))
    assert text.count(QUESTION) == 1
    assert (SYSTEM in text) == bool(system)


DROPS = {
    "no question": "{% for m in messages %}<|open|>{{ m.role }}<|close|>{% endfor %}",
    "another role": "{% for m in messages if m.role == 'human' %}{{ m.content }}{% endfor %}",
    "other keys": "{% for m in messages %}{{ m['value'] }}{% endfor %}",
    "first line": "{% for m in messages %}{{ m.content.split('\n')[0] }}{% endfor %}",
    "a beginning": "{% for m in messages %}{{ m.content[:10] }}{% endfor %}",
    "small letters": "{% for m in messages %}{{ m.content | lower }}{% endfor %}",
    "markup": "{% for m in messages %}{{ m.content | e }}{% endfor %}",
    "tags": "{% for m in messages %}{{ m.content | striptags }}{% endfor %}",
    "JSON": "{% for m in messages %}{{ m | tojson }}{% endfor %}",
    "only system": "{% for m in messages if m.role == 'system' %}{{ m.content }}{% endfor %}",
}


@pytest.mark.parametrize("name", DROPS)
def test_a_question_that_is_not_shown_as_it_is_is_refused(name):
    with pytest.raises(ValueError, match="does not show what the user says as it is.*style: plain"):
        shown(made_tokenizer(DROPS[name]))


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}",
        "{{ messages[-1].content }}",
        "{% for m in messages %}{% if m.role == 'system' %}You help.{% else %}{{ m.content }}{% endif %}{% endfor %}",
    ],
)
def test_a_system_message_that_is_not_shown_is_refused(template):
    tokenizer = made_tokenizer(template)
    assert QUESTION in shown(tokenizer)
    with pytest.raises(ValueError, match="what the system says.*leave prompt.system out"):
        shown(tokenizer, Prompt(system=SYSTEM))


def test_a_list_as_python_writes_it_is_no_system_message():
    template = "{% for m in messages %}{{ m.content if m.role == 'system' else m.content[0].text }}{% endfor %}"
    with pytest.raises(ValueError, match="does not show what the"):
        shown(made_tokenizer(template), Prompt(system=SYSTEM))


def test_what_a_template_does_to_one_question_only_is_refused_there():
    tokenizer = made_tokenizer("{% for m in messages %}{{ m.content[:200] }}{% endfor %}")
    assert "4?" in shown(tokenizer)
    with pytest.raises(ValueError, match="does not show what the user says"):
        shown(tokenizer, question="many words " * 30 + "are they?")


def test_trimming_is_no_change():
    tokenizer = made_tokenizer("{% for m in messages %}{{ m.content | trim }}{% endfor %}")
    assert shown(tokenizer, question="  1 + 1 = ? \n") == "1 + 1 = ?"


def test_a_template_of_chance_is_refused():
    template = TURNS + "{{ range(100000) | random }}"
    with pytest.raises(ValueError, match="another prompt of the same question every time"):
        shown(made_tokenizer(template))


# ---- the day

DAYS = {
    "date": "{{ strftime_now('%d %b %Y') }}",
    "time": "{{ strftime_now('%H:%M:%S') }}",
    "kept": "{% set today = strftime_now('%Y-%m-%d') %}{{ today }}",
    "asked for": "{% if strftime_now is defined %}{{ strftime_now('%j') }}{% endif %}",
}


class Tomorrow(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2031, 5, 6, 7, 8, 9)


@pytest.mark.parametrize("name", DAYS)
def test_a_template_that_prints_today_gives_one_prompt_for_the_whole_study(name, monkeypatch):
    tokenizer = made_tokenizer(DAYS[name] + TURNS)
    ids = prompt_ids(tokenizer, QUESTION, Prompt())
    monkeypatch.setattr("transformers.utils.chat_template_utils.datetime", Tomorrow)
    assert prompt_ids(tokenizer, QUESTION, Prompt()) == ids
    assert "2031" not in tokenizer.decode(ids)


def test_the_day_is_the_studys_and_part_of_the_prompts_hash():
    template = DAYS["date"] + TURNS
    tokenizer, other = made_tokenizer(template), Prompt(date="2024-07-26")
    assert shown(tokenizer, other).startswith("26 Jul 2024")
    assert prompt_hash(Prompt(), template) != prompt_hash(other, template)
    assert prompt_hash(Prompt(), TURNS) == prompt_hash(other, TURNS)


def test_a_clock_that_transformers_does_not_have_is_refused():
    with pytest.raises(ValueError, match="refuses this conversation: 'datetime' is undefined"):
        shown(made_tokenizer("{{ datetime.now().year }}" + TURNS))


@pytest.mark.parametrize("date", ["today", "2026-13-01", "26.7.2026", 20260726])
def test_a_day_has_one_form(date):
    with pytest.raises(ValueError):
        Prompt(date=date)


def test_a_day_may_stand_in_yaml_without_quotes():
    assert Prompt(date=datetime.date(2026, 7, 26)).date == "2026-07-26"


# ---- the end of a turn

ASKS = "{% if add_generation_prompt %}<|open|>assistant\n{% endif %}"
BEGIN = "{% for m in messages %}"
ENDINGS = {
    "after every turn": (TURNS, CLOSE),
    "letters changed": (TURNS.replace("m.content", "m.content | upper"), CLOSE),
    "letters changed, small": (TURNS.replace("m.content", "m.content | lower"), CLOSE),
    "in title case": (TURNS.replace("m.content", "m.content | title"), CLOSE),
    "in parts": (TURNS.replace("m.content", "m.content[0]['text']"), CLOSE),
    "no mark": (BEGIN + "<|open|>{{ m.role }}\n{{ m.content }}\n{% endfor %}" + ASKS, END),
    "no mark, and always asks": (
        BEGIN + "<|open|>{{ m.role }}\n{{ m.content }}\n{% endfor %}<|open|>assistant\n",
        END,
    ),
    "a mark for each role, and always asks": (
        BEGIN
        + "{{ '<|open|>' if m.role == 'user' else '<|close|>' }}{{ m.content }}{% endfor %}<|close|>",
        END,
    ),
    "a mark between turns": (BEGIN + "{{ m.content }}<|close|>{% endfor %}", CLOSE),
    "words of its own first": (
        "You help.<|close|>" + BEGIN + "{{ m.content }}<|close|>{% endfor %}",
        CLOSE,
    ),
    "no answers": (
        BEGIN + "{% if m.role == 'user' %}<|open|>{{ m.content }}{% endif %}{% endfor %}",
        END,
    ),
    "one question only": (
        "{% if messages | length > 2 %}{{ raise_exception('one') }}{% endif %}" + TURNS,
        CLOSE,
    ),
    "another mark at the very end": (
        BEGIN + "<|open|>{{ m.role }}{{ m.content }}"
        "{{ '<|return|>' if loop.last and m.role == 'assistant' else '<|close|>' }}{% endfor %}"
        + ASKS,
        "<|return|>",
    ),
    "EOS itself": (BEGIN + "<|open|>{{ m.content }}{{ eos_token }}{% endfor %}" + ASKS, END),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_an_answer_ends_with_what_the_template_sets_and_never_with_an_opener(name):
    template, token = ENDINGS[name]
    tokenizer = made_tokenizer(template, [OPEN, CLOSE, "<|return|>"])
    assert end_token(tokenizer) == tokenizer.convert_tokens_to_ids(token)
    assert end_token(tokenizer, "plain") == tokenizer.convert_tokens_to_ids(END)


@pytest.mark.parametrize("style", ["chat", "plain"])
def test_an_eos_that_opens_turns_is_refused_where_nothing_else_ends_them(style):
    """As transformers 5.17 reads SmolLM2's out of a GGUF file."""
    unended = BEGIN + "<|open|>{{ m.role }}\n{{ m.content }}{% endfor %}" + ASKS
    tokenizer = made_tokenizer(unended, eos=OPEN, bos=OPEN)
    with pytest.raises(ValueError, match="EOS, '<|open|>', opens turns.*eos_token"):
        end_token(tokenizer, style)
    assert end_token(made_tokenizer(eos=OPEN, bos=OPEN)) != tokenizer.eos_token_id


def test_a_bos_that_is_eos_may_end_turns():
    ended = BEGIN + "{{ m.content }}{{ eos_token }}{% endfor %}"
    tokenizer = made_tokenizer(ended, bos=END)
    assert end_token(tokenizer) == end_token(tokenizer, "plain") == tokenizer.eos_token_id


def test_of_several_templates_the_default_counts():
    assert template_text(made_tokenizer({"default": "a", "tool_use": "b"})) == "a"
    assert template_text(made_tokenizer(None)) == ""
