"""Imported arms: files of every kind, with every row accounted for."""

import json
from pathlib import Path

import pandas as pd
import pytest
from sample_arms import killed, planned

from wcse_lib.plan.problems import load_problems
from wcse_lib.sample import checks, generate, losses
from wcse_lib.store import KEY, StudyError, parts, read_json, write_parquet
from wcse_lib.study import Dataset, Machine, Run

COLUMNS = {"text": "out", "problem_id": "id"}


def write_file(path: Path, frame: pd.DataFrame) -> None:
    if path.suffix == ".jsonl":
        lines = [json.dumps(row) + "\n" for row in frame.to_dict("records")]
        path.write_text("".join(lines))
    elif path.suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        write_parquet(path, frame)


def imported(
    folder: Path, rows: list[dict], kind="jsonl", n=2, match="count", columns=COLUMNS, **keys
) -> tuple[Run, pd.DataFrame]:
    """A study whose arm is a file of these rows; a number as `id` is the place of a problem."""
    path = folder / f"samples.{kind}"
    arm = {"model": "theirs", "engine": "import", "path": str(path), "n_parameters": 1.0e9}
    folder.mkdir(exist_ok=True)
    problems, _ = load_problems(Dataset(n_train=6, levels=[1]), 0)
    ids = list(problems["train"]["problem_id"])
    frame = pd.DataFrame(rows)
    frame["id"] = [ids[place] if isinstance(place, int) else place for place in frame["id"]]
    write_file(path, frame)
    run = planned(folder, arm | {"columns": columns} | keys, n, match)
    return run, generate(run, "wc", Machine())


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_files_of_every_kind(tmp_path, kind):
    rows = []
    for i in range(2):
        for p in range(6):
            text, end = f'text {p} {i}\nwith, "marks"', "length" if p == 1 else "stop"
            rows.append({"id": p, "out": text, "n": 3 + p, "end": end})
    columns = COLUMNS | {"n_tokens": "n", "finish_reason": "end"}
    run, found = imported(tmp_path, rows, kind, match="flops", columns=columns)
    assert len(found) == 12
    assert set(found["sample_index"]) == {0, 1}
    assert not found.duplicated(KEY).any()
    assert (found["finish_reason"] == "length").sum() == 2
    assert set(found["n_tokens"]) == set(range(3, 9))
    assert found["text"].str.contains('with, "marks"').all()
    assert set(found["model"]) == {"theirs"}
    assert checks(run, "wc", found)["n_truncated"] == 2


@pytest.fixture
def odd_file(tmp_path):
    """Three samples of five problems where two are planned, out of order, and four rows that are none."""
    rows = []
    for p in range(5):
        rows += [{"id": p, "out": f"{p} {i}", "at": i} for i in (3, 1, 2)]
    rows += [
        {"id": 0, "out": "again", "at": 3},
        {"id": "nobody", "out": "x", "at": 0},
        {"id": 1, "out": " ", "at": 0},
        {"id": 1, "out": None, "at": 9},
    ]
    return imported(tmp_path, rows, columns=COLUMNS | {"sample_index": "at"})


def test_every_row_of_a_file_is_accounted_for(odd_file):
    run, found = odd_file
    assert read_json(run.path("02", "wc", "import.json")) == {
        "rows": 19,
        "samples": 15,
        "of a key that came before": 1,
        "of no problem of this study": 1,
        "without a text": 2,
        "more than planned, left unused": 5,
        "planned, but not in the file": 2,
    }
    assert losses(run, "wc", found)["n"].sum() == 4 + 5 + 2


def test_samples_come_in_the_order_of_their_column(odd_file):
    _, found = odd_file
    assert len(found) == 10
    assert list(found["text"][:2].str[2:]) == ["1", "2"]


def test_an_import_done_again_is_the_same(odd_file):
    run, found = odd_file
    pd.testing.assert_frame_equal(generate(run, "wc", Machine()), found)


WITHOUT_COUNTS = [{"id": p, "out": "Tom has 1+1=2"} for p in range(6)]


def test_unknown_token_counts_refuse_compute_matching(tmp_path):
    words = "6 of 6 imported samples have no token count.*match: flops.*arms.wc.tokenizer"
    with pytest.raises(StudyError, match=words):
        imported(tmp_path, WITHOUT_COUNTS, n=1, match="flops")


def test_a_tokenizer_counts_the_tokens(tmp_path):
    _, found = imported(tmp_path, WITHOUT_COUNTS, n=1, match="flops", tokenizer="nano-wc")
    assert (found["n_tokens"] > 3).all()


def test_a_tokenizer_that_is_not_here_is_named(tmp_path):
    with pytest.raises(StudyError, match="arms.wc.tokenizer: 'no/such' cannot be loaded"):
        imported(tmp_path, WITHOUT_COUNTS, n=1, tokenizer="no/such")


def test_unknown_token_counts_are_counted(tmp_path):
    run, found = imported(tmp_path, WITHOUT_COUNTS, n=1)
    assert checks(run, "wc", found)["n_samples_without_token_count"] == 6


COUNTED = COLUMNS | {"n_tokens": "len"}


@pytest.mark.parametrize(
    ("row", "columns", "word"),
    [
        ({"id": "nobody", "out": "x"}, COLUMNS, "no row belongs to a problem"),
        ({"id": 0, "out": "x"}, COUNTED, "no column 'len'"),
        ({"id": 0, "out": "x", "len": "many"}, COUNTED, "line 1: len = 'many'"),
        ({"id": 0, "out": "x", "len": -1}, COUNTED, "line 1: len = -1"),
    ],
)
def test_bad_imports_are_named(tmp_path, row, columns, word):
    with pytest.raises(StudyError, match=word):
        imported(tmp_path, [row], columns=columns)


def test_kill_in_the_middle_of_an_import(tmp_path):
    rows = []
    for p in range(6):
        rows += [{"id": p, "out": f"{p} {i}"} for i in range(10)]
    run, whole = imported(tmp_path, rows, n=10)
    for part in parts(run.path("02", "wc")):
        part.unlink()
    assert 12 <= len(killed(run)) < 60
    pd.testing.assert_frame_equal(generate(run, "wc", Machine()), whole)


def test_ends_are_read_in_any_servers_word(tmp_path):
    words = ["MAX_TOKENS", "end_turn", "SAFETY", "", "model_length", "COMPLETE"]
    rows = [{"id": p, "out": "text", "end": word} for p, word in enumerate(words)]
    _, found = imported(tmp_path, rows, n=1, columns=COLUMNS | {"finish_reason": "end"})
    assert sorted(found["finish_reason"]) == ["error", "length", "length", "stop", "stop", "stop"]
    failed = found[found["finish_reason"] == "error"]
    assert failed["error"].tolist() == [
        "the file says it ended with 'SAFETY': a content filter or a refusal"
    ]
