"""01 knows which models' prompts open a thought, so that later stages read their samples from inside it."""

import shutil

import pytest
from studies import taught_study

from wcse_lib.plan import make_plan
from wcse_lib.sample import load_tokenizer
from wcse_lib.study import Run, resolve_model

TEMPLATE = (
    "{% for message in messages %}{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '\n<think>\n' }}{% endif %}"
)


@pytest.fixture
def thinker(tmp_path):
    """A checkpoint whose chat template opens the thought."""
    folder = tmp_path / "thinker"
    shutil.copytree(resolve_model("nano-wc"), folder)
    tokenizer = load_tokenizer(str(folder))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_the_plan_says_whose_prompts_open_a_thought(tmp_path, thinker):
    arms = {"se": {"model": "nano-se"}, "wc": {"model": thinker}}
    plan = Run(make_plan(taught_study(arms=arms), tmp_path / "out").folder).plan
    assert plan.opens_thought == {"arms.wc": "<think>"}
    assert plan.opened_thoughts("wc") == {thinker: "<think>"}
    assert plan.opened_thoughts("se") == {}
    assert plan.opened_thought("small.se.low") == ""


def test_a_plain_prompt_may_open_a_thought(tmp_path):
    prompt = {"style": "plain", "template": "{question}\nAssistant: <think>"}
    plan = make_plan(taught_study(prompt=prompt), tmp_path / "out").plan
    assert plan.opened_thoughts("se") == {"nano-se": "<think>"}
    assert plan.opened_thought("small.se.low") == "<think>"
