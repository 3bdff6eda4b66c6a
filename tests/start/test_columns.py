"""Columns of files of samples: guessed by their names, or named."""

import pytest
from files_of_samples import write

from wcse_lib.start.columns import FileColumns, guess_columns
from wcse_lib.store import StudyError

GUESSED = [
    (["question", "answer", "response"], FileColumns("response", "question", "answer")),
    (["problem", "solution"], FileColumns("solution", "problem")),
    (["prompt", "completion", "ground_truth"], FileColumns("completion", "prompt", "ground_truth")),
    (["Question", "Model Output", "Gold"], FileColumns("Model Output", "Question", "Gold")),
    (["instruction", "input", "output"], FileColumns("output", "instruction")),
    (["id", "text", "target"], FileColumns("text", None, "target", "id")),
    (
        ["problem", "generations", "numTokens", "finishReason"],
        FileColumns("generations", "problem", n_tokens="numTokens", finish_reason="finishReason"),
    ),
]


@pytest.mark.parametrize(("names", "expected"), GUESSED, ids=lambda value: str(value)[:30])
def test_usual_names_are_known(tmp_path, names, expected):
    path = write(tmp_path / "a.jsonl", [dict.fromkeys(names, "1")])
    assert guess_columns(path, {}) == expected


def test_a_named_column_comes_first_and_may_be_dotted(tmp_path):
    row = {"question": "q", "text": "no", "model": {"out": "yes"}, "answer": "1"}
    found = guess_columns(write(tmp_path / "a.jsonl", [row]), {"text": "model.out", "gold": None})
    assert found.text == "model.out"
    assert found.gold == "answer"


def test_a_column_of_later_rows_is_found(tmp_path):
    path = write(
        tmp_path / "a.jsonl", [{"question": "q", "text": "t"}, {"question": "q", "gold": "1"}]
    )
    assert guess_columns(path, {}).gold == "gold"


@pytest.mark.parametrize(
    ("row", "named", "words"),
    [
        ({"question": "q", "stuff": "t"}, {}, "samples.*--text COLUMN.*has question, stuff"),
        ({"text": "t", "gold": "1"}, {}, "questions, or ids.*--question COLUMN or --problem-id"),
        (
            {"Frage": "q", "Antwort": "t", "Ergebnis": "1"},
            {},
            "samples.*--text.*questions.*--question.*gold answers.*--gold.*has Frage, Antwort, Ergebnis",
        ),
        ({"question": "q", "text": "t"}, {"gold": "lable"}, "no column 'lable'; columns are"),
    ],
)
def test_what_is_missing_is_named_with_file_and_option(tmp_path, row, named, words):
    path = write(tmp_path / "a.jsonl", [row])
    with pytest.raises(StudyError, match=rf"a\.jsonl.*{words}"):
        guess_columns(path, named)


def test_an_empty_file_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"a\.jsonl: it is empty"):
        guess_columns(write(tmp_path / "a.jsonl", []), {})
