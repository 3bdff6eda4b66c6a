"""A folder's samples are of one model, prompt, setting and question for each id."""

import shutil

import pytest
from sample_fakes import PROBLEMS, drawn

from wcse_lib.sample.drawing import draw, opened
from wcse_lib.sample.engines import Decoding
from wcse_lib.sample.identity import claim
from wcse_lib.store import StudyError, read_json, write_json
from wcse_lib.study import Machine, Prompt, checkpoint_files


@pytest.mark.parametrize(
    "other",
    [
        {"decoding": Decoding(1.0)},
        {"seed": 1},
        {"model": "n"},
        {"prompt": Prompt(style="plain", template="Q {question}")},
    ],
)
def test_rows_drawn_otherwise_never_mix(tmp_path, other):
    drawn(tmp_path)
    with pytest.raises(StudyError, match="holds samples drawn otherwise"):
        drawn(tmp_path, **other)


def test_an_id_that_now_means_another_question_is_refused(tmp_path):
    """As when a row was put before others in a file whose problems have no ids."""
    drawn(tmp_path)
    changed = PROBLEMS.replace({"question": {"Ann has 2 pens.": "Why?"}})
    words = r"other questions under the ids of 1 problems, such as p2.*columns.problem_id"
    with pytest.raises(StudyError, match=words):
        drawn(tmp_path, problems=changed)


def drawn_from(checkpoint, folder) -> None:
    machine, problems = Machine(device="cpu"), PROBLEMS.head(1)
    settings = {"prompt": Prompt(), "decoding": Decoding(max_tokens=2), "seed": 0, "model": "m"}
    with opened(folder, str(checkpoint), machine) as source:
        draw(folder, "wc", problems, 1, source, **settings)


def middle_of_weights_changed(checkpoint) -> str:
    path = checkpoint / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path.name


def end_token_changed(checkpoint) -> str:
    """As after a conversion whose end token was mended: the weights and the prompt's text are the same."""
    path = checkpoint / "tokenizer_config.json"
    config = read_json(path)
    write_json(path, config | {"eos_token": config["pad_token"]})
    return path.name


def config_changed(checkpoint) -> str:
    path = checkpoint / "config.json"
    write_json(path, read_json(path) | {"rms_norm_eps": 0.1})
    return path.name


def template_added(checkpoint) -> str:
    path = checkpoint / "chat_template.jinja"
    path.write_text("{{ messages[0].content }}")
    return path.name


@pytest.mark.parametrize(
    "change", [middle_of_weights_changed, end_token_changed, config_changed, template_added]
)
def test_another_checkpoint_in_the_same_folder_is_refused_by_its_file(tmp_path, tiny_model, change):
    checkpoint = shutil.copytree(tiny_model, tmp_path / "model")
    drawn_from(checkpoint, tmp_path / "arm")
    drawn_from(checkpoint, tmp_path / "arm")
    name = change(checkpoint)
    with pytest.raises(StudyError, match=rf"checkpoint's {name}: .* there, .* now"):
        drawn_from(checkpoint, tmp_path / "arm")


def test_hashes_are_found_once_for_a_files_state_and_never_kept_beside_it(
    tmp_path, monkeypatch, tiny_model
):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    names = {path.name for path in tiny_model.iterdir()}
    files = checkpoint_files(str(tiny_model))
    monkeypatch.setattr("wcse_lib.study.checkpoint.sha256", None)
    assert checkpoint_files(str(tiny_model)) == files
    assert {"model.safetensors", "config.json", "tokenizer.json"} <= files.keys() <= names
    assert {path.name for path in tiny_model.iterdir()} == names


def test_without_a_home_hashes_are_found_anew(tiny_model, monkeypatch):
    def nobody() -> None:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("pathlib.Path.home", nobody)
    assert checkpoint_files(str(tiny_model))


def test_of_models_that_are_not_here_nothing_is_known():
    assert checkpoint_files("org/model") == {}


def test_what_an_earlier_version_did_not_note_is_noted_now(tmp_path):
    claim(tmp_path, {"model": "m", "weights": "of an earlier version"})
    claim(tmp_path, {"model": "m", "checkpoint": {"a.bin": "1"}})
    with pytest.raises(StudyError, match="checkpoint's a.bin: '1' there, '2' now"):
        claim(tmp_path, {"model": "m", "checkpoint": {"a.bin": "2"}})
