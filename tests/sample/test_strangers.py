"""Hostile checkpoints: the code that lies beside their weights is never run, and nothing advises to run it."""

import ast
import shutil
import subprocess
import sys

import pytest
from conftest import ROOT

from wcse_lib.sample import load_tokenizer, prompt_ids, read_positions
from wcse_lib.sample.engines import open_engine
from wcse_lib.store import StudyError, read_json, write_json
from wcse_lib.study import Machine, Prompt
from wcse_lib.train.models import load_untrained

MODULE = "open({marker!r}, 'w').write('was run')\nclass Evil: pass\n"
OWN = {"AutoConfig": "own.Evil", "AutoModelForCausalLM": "own.Evil"}
OPENED_BY = ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer", "FastLanguageModel", "LLM")


@pytest.fixture
def hostile(tmp_path, tiny_model):
    """A checkpoint of an unknown family, whose config and tokenizer name classes of a module beside them."""
    folder = shutil.copytree(tiny_model, tmp_path / "hostile")
    (folder / "own.py").write_text(MODULE.format(marker=str(tmp_path / "marker")))
    config = read_json(folder / "config.json")
    write_json(folder / "config.json", config | {"model_type": "evil", "auto_map": OWN})
    config = read_json(folder / "tokenizer_config.json")
    own = {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["own.Evil", "own.Evil"]}}
    write_json(folder / "tokenizer_config.json", config | own)
    yield str(folder)
    assert not (tmp_path / "marker").exists(), "its code was run"


@pytest.mark.parametrize(
    "opens",
    [
        load_tokenizer,
        load_untrained,
        lambda model: open_engine("hf", model, Machine(device="cpu")),
    ],
)
def test_no_code_of_a_checkpoint_is_run_nor_is_it_advised(hostile, opens):
    with pytest.raises(StudyError, match="code of its own, which the kit never runs") as caught:
        opens(hostile)
    assert "trust_remote_code" not in str(caught.value)


class Planted:
    """What a pickle runs when it is opened."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return open, (self.marker, "w")


def only_pickled(folder) -> None:
    import torch

    (folder / "model.safetensors").unlink()
    torch.save({"weight": Planted(folder / "marker")}, folder / "pytorch_model.bin")


def shards_elsewhere(folder) -> None:
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    index = {"metadata": {}, "weight_map": {"lm_head.weight": "../../../../etc/passwd"}}
    write_json(folder / "model.safetensors.index.json", index)


def torn(folder) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def deep_config(folder) -> None:
    (folder / "config.json").write_text("[" * 100_000)


def long_header(folder) -> None:
    path = folder / "model.safetensors"
    path.write_bytes((2**62).to_bytes(8, "little") + path.read_bytes()[8:])


def adapter_on_a_base_elsewhere(folder) -> None:
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": "evil/base"})


def with_config(**changes):
    def change(folder) -> None:
        path = folder / "config.json"
        write_json(path, read_json(path) | changes)

    return change


@pytest.mark.parametrize(
    "change",
    [
        only_pickled,
        shards_elsewhere,
        torn,
        deep_config,
        long_header,
        adapter_on_a_base_elsewhere,
        with_config(vocab_size=10**11),
        with_config(num_attention_heads=0),
        with_config(dtype="os.system"),
    ],
)
def test_weights_of_another_kind_are_refused_and_nothing_is_run(tmp_path, tiny_model, change):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    change(folder)
    refusals = "cannot be read|o file named|No such file|an adapter|other shapes"
    with pytest.raises((StudyError, OSError), match=refusals):
        open_engine("hf", str(folder), Machine(device="cpu"))
    assert not (folder / "marker").exists()


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.popen('id').read() }}",
        "{% include '/etc/passwd' %}",
        "{% for i in range(10 ** 12) %}x{% endfor %}",
    ],
)
def test_a_hostile_chat_template_is_refused(tmp_path, tiny_model, template):
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "chat_template.jinja").write_text(template + "{{ messages[0].content }}")
    with pytest.raises(ValueError, match="the model's chat template refuses this conversation"):
        prompt_ids(load_tokenizer(str(folder)), "Why?", Prompt())


def test_the_length_of_a_hostile_checkpoint_is_read_without_its_code(hostile):
    assert read_positions(hostile).n == 256


def test_whatever_opens_a_checkpoint_says_that_no_code_is_run():
    for path in (ROOT / "wcse_lib").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func).removesuffix(".from_pretrained")
            opens = called in OPENED_BY and (
                called == "LLM" or "from_pretrained" in ast.unparse(node.func)
            )
            if opens:
                given = [ast.unparse(keyword.value) for keyword in node.keywords if not keyword.arg]
                assert {"NO_CODE", "options"} & set(given), f"{path.name}: {ast.unparse(node)}"


def test_a_shard_has_no_standard_input():
    code = "from wcse_lib.sample import close_input; close_input(); print(repr(input()))"
    ended = subprocess.run(
        [sys.executable, "-c", code], input="y\n", capture_output=True, text=True, cwd=ROOT
    )
    assert ended.returncode and "EOFError" in ended.stderr and "'y'" not in ended.stdout
