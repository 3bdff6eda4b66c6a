"""A folder's samples are of one model, prompt, setting and question for each id."""

import shutil

import numpy as np
import pytest
from sample_fakes import PROBLEMS, drawn

from wcse_lib.sample.drawing import draw, opened
from wcse_lib.sample.engines import Decoding
from wcse_lib.sample.identity import claim
from wcse_lib.store import StudyError, read_json, write_json
from wcse_lib.study import Machine, Prompt, weights_mark


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


def test_other_weights_under_the_same_name_are_refused(tmp_path):
    from safetensors.numpy import save_file

    marks = []
    for value in (0.0, 1.0):
        save_file({"a": np.full(700_000, value, np.float32)}, tmp_path / "model.safetensors")
        marks.append(weights_mark(str(tmp_path)))
    claim(tmp_path / "arm", {"weights": marks[0]})
    claim(tmp_path / "arm", {"weights": marks[0]})
    with pytest.raises(StudyError, match="weights: .* there, .* now"):
        claim(tmp_path / "arm", {"weights": marks[1]})


def test_models_that_are_not_here_have_no_mark():
    assert weights_mark("org/model") == ""


def test_another_tokenizer_in_the_same_folder_is_refused(tmp_path, tiny_model):
    """As after a conversion whose end token was mended: the weights and the prompt's text are the same."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")

    def draw_a_sample() -> None:
        machine, problems = Machine(device="cpu"), PROBLEMS.head(1)
        settings = {"prompt": Prompt(), "decoding": Decoding(max_tokens=2), "seed": 0, "model": "m"}
        with opened(tmp_path / "arm", str(folder), machine) as source:
            draw(tmp_path / "arm", "wc", problems, 1, source, **settings)

    draw_a_sample()
    draw_a_sample()
    path = folder / "tokenizer_config.json"
    config = read_json(path)
    write_json(path, config | {"eos_token": config["pad_token"]})
    with pytest.raises(StudyError, match="tokenizer: .* there, .* now"):
        draw_a_sample()


def test_what_an_earlier_version_did_not_note_is_noted_now(tmp_path):
    claim(tmp_path, {"model": "m"})
    claim(tmp_path, {"model": "m", "tokenizer": "a"})
    with pytest.raises(StudyError, match="tokenizer: 'a' there, 'b' now"):
        claim(tmp_path, {"model": "m", "tokenizer": "b"})
