"""A folder's samples are of one model, prompt, setting and question for each id."""

import numpy as np
import pytest
from sample_fakes import PROBLEMS, drawn

from wcse_lib.sample.engines import Decoding
from wcse_lib.sample.identity import claim
from wcse_lib.store import StudyError
from wcse_lib.study import Prompt, weights_mark


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
