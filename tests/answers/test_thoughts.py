"""Thoughts end where their tags say so, in the tags of every family; one that never ends leaves nothing."""

import pytest

from wcse_lib.answers import closed_thought, extract, opened_thought, without_thoughts
from wcse_lib.answers.thoughts import TAGS, may_have_tags
from wcse_lib.answers.words import ANSWER_TAGS, END_OF_TURN

PAIRS = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<THINK>", "</THINK>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought\n", "<channel|>"),
    (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
    ("analysis", "assistantfinal"),
    ("Here are my reasoning steps:\n", "[BEGIN FINAL RESPONSE]"),
]


@pytest.mark.parametrize("opening, closing", PAIRS)
def test_what_follows_a_thought_is_said(opening, closing):
    text = f"{opening}We try 7, so \\boxed{{7}}. No.{closing}\nIt is 8."
    assert without_thoughts(text) == "It is 8."
    assert extract(text) == "8"


@pytest.mark.parametrize("opening, closing", PAIRS[:-1])
def test_a_thought_that_never_ends_leaves_nothing(opening, closing):
    text = f"{opening}We try 7, so \\boxed{{7}}. Wait"
    assert without_thoughts(text) is None
    assert extract(text) is None


@pytest.mark.parametrize("opening, closing", PAIRS[:-2])
def test_a_prompt_may_open_the_thought(opening, closing):
    opened = opened_thought(f"<think> is a tag </think>. Question? {opening}\n")
    assert opening.strip().startswith(opened) and opened
    assert without_thoughts("We try 7, so \\boxed{7}. Wait", opened) is None
    assert without_thoughts(f"No, not 7.{closing}It is 8.", opened) == "It is 8."
    assert without_thoughts(f"{opening}No, not 7.{closing}It is 8.", opened) == "It is 8."
    assert without_thoughts(f"{closed_thought(opened)}It is 8.", opened) == "It is 8."


@pytest.mark.parametrize(
    "text, said",
    [
        ("No, not 7.</think>It is 8.", "It is 8."),  # the prompt opened it
        ("<think>a</think>b<think>c</think>d", "d"),
        ("<think>a</think>b<think>c", None),
        ("<think>a <reasoning>b</reasoning> c", None),  # another tag ends no thought
        ("<think>a</thinking>b", "b"),  # two names of one tag
        ("re.sub('<think>.*?</think>', '', s)", "re.sub('<think>.*?</think>', '', s)"),
        ("Put it between `<think>` tags.", "Put it between `<think>` tags."),
        ("The tag <think> opens one, so 12", "The tag <think> opens one, so 12"),
        ("Sure! <think>It is 7", None),
        ("It is 8.\n<reason>2 times 4</reason>\n", "It is 8."),
        ("<think>7?</think>\n", ""),
        ('<think time="3">It is 7', None),
        ('<think time="3">7?</think>It is 8', "It is 8"),
        ("analysis of 3 cases: 12", "analysis of 3 cases: 12"),
        ("a <b> and [c] of it", "a <b> and [c] of it"),
        ("", ""),
    ],
)
def test_which_tags_count(text, said):
    assert without_thoughts(text) == said


@pytest.mark.parametrize(
    "prompt, opened",
    [
        ("Assistant: <think>", "<think>"),
        ("<think>\n\n</think>\n\n", ""),
        ("Write <think> first. Assistant:", ""),
        ("Write\n<think>\nfirst.\nAssistant:", ""),
        ("Begin with\n<think><|end|><|start|>assistant\n", ""),
        ("Assistant: <think>\nOkay, so", "<think>"),
        ("<end_of_turn>\n<reason>", "<reason>"),
        ("<end_of_turn>\n<unused94>thought\n", "<unused94>thought"),
        ("", ""),
    ],
)
def test_only_the_end_of_a_prompt_opens_a_thought(prompt, opened):
    assert opened_thought(prompt) == opened


def test_who_does_not_think_closes_the_thought_of_the_prompt():
    assert closed_thought("[THINK]") == "\n[/THINK]\n\n"
    assert closed_thought("") == ""


def test_no_tag_of_any_table_is_overlooked():
    tags = [*END_OF_TURN, *(tag for pair in ANSWER_TAGS for tag in pair)]
    for opening, closing, names in TAGS:
        tags += [form.format(name) for name in names.split() for form in (opening, closing)]
    assert [tag for tag in tags if not may_have_tags(f"so {tag.lower()} 5")] == []
    assert [tag for tag in tags if not may_have_tags(tag)] == []


def test_signs_of_formulas_are_no_tags():
    assert not may_have_tags("Then 48/2 = <<48/2=24>>24, x<y and [asy] draw[1]; [/asy] in \\[x\\].")
