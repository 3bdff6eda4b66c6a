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


FILE = {"name": "files", "columns": {"problem_id": "id"}, "decontaminate": False}


def joined(folder: Path, ids: list, ids_of_samples: list, name="s.jsonl", **keys) -> dict:
    """What an import counts where problems and samples have these ids; one sample an id."""
    problems = [{"id": i, "question": f"{n}?", "answer": n} for n, i in enumerate(ids)]
    samples = [{"id": i, "out": "text"} | keys for i in ids_of_samples]
    write_file(folder / "p.jsonl", pd.DataFrame(problems, dtype=object))
    write_file(folder / name, pd.DataFrame(samples, dtype=object))
    columns = {"text": "out", "problem_id": "id"}
    arm = {"engine": "import", "path": str(folder / name), "columns": columns}
    run = planned(folder, arm, 1, n_train=None, dataset=FILE | {"train": str(folder / "p.jsonl")})
    generate(run, "wc", Machine())
    return read_json(run.path("02", "wc", "import.json"))


@pytest.mark.parametrize("ids", [[1.0, 2.0, 3], [1, 2, 3], ["1", "2.0", "3e0"]])
@pytest.mark.parametrize("name", ["s.jsonl", "s.csv"])
def test_one_id_joins_however_it_is_written(tmp_path, ids, name):
    assert joined(tmp_path, ids, [1, 2.0, "3.0"], name)["samples"] == 3


def test_samples_without_an_id_are_counted_with_that_reason(tmp_path):
    counts = joined(tmp_path, [1.0, 2.0, None], [1.0, 2.0, None, float("nan"), float("inf")])
    assert counts["without id"] == 3
    assert counts["samples"] == 2
    assert counts["rows"] == 5


def test_64_bit_ids_join_by_every_digit(tmp_path):
    big = 2**53
    assert joined(tmp_path, [big + 1, big + 2], [big + 2, big + 3])["samples"] == 1


@pytest.mark.parametrize(
    "text,message",
    [
        ({"a": "b"}, r"column 'out' holds an object with the keys a"),
        ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], r"2 turns"),
    ],
)
def test_samples_that_are_no_single_text_are_refused(tmp_path, text, message):
    with pytest.raises(StudyError, match=rf"s\.jsonl, line 1: .*{message}"):
        joined(tmp_path, [1], [1], out=text)


def test_a_list_of_samples_is_as_many_samples_in_their_order(tmp_path):
    rows = [{"id": 0, "out": ["a", " ", "c"], "n": [5, 6, 7]}, {"id": 0, "out": "d", "n": 8}]
    run, found = imported(tmp_path, rows, n=4, columns=COUNTED_LISTS)
    assert found["text"].tolist() == ["a", "c", "d"]
    assert found["n_tokens"].tolist() == [5, 7, 8]
    counts = read_json(run.path("02", "wc", "import.json"))
    assert (counts["rows"], counts["samples"], counts["without a text"]) == (4, 3, 1)


@pytest.mark.parametrize("n", [[5, 6], 11])
def test_what_stands_beside_a_list_of_samples_has_to_be_a_list_too(tmp_path, n):
    rows = [{"id": 0, "out": ["a", "b", "c"], "n": n}]
    with pytest.raises(
        StudyError, match=r"line 1: out holds 3 samples, so that n has to be a list"
    ):
        imported(tmp_path, rows, columns=COUNTED_LISTS)


def test_a_list_of_one_text_is_a_sample(tmp_path):
    assert joined(tmp_path, [1], [1], out=["a"])["samples"] == 1


COUNTED_LISTS = COLUMNS | {"n_tokens": "n"}
BLANKS = ["", None, "\n", "\u200b", "<think>hm</think>\n", "<|im_end|>"]


@pytest.mark.parametrize("blank", BLANKS)
def test_blank_rows_count_as_lost(tmp_path, blank):
    rows = []
    for p in range(6):
        rows += [{"id": p, "out": text} for text in ("So 2.", blank, blank, blank)]
    run, found = imported(tmp_path, rows, n=4)
    with pytest.raises(StudyError, match=r"18 of 24 samples \(75%\) are lost \(18 empty\)"):
        checks(run, "wc", found)


def test_a_sample_may_be_a_chat_of_its_one_turn(tmp_path):
    assert joined(tmp_path, [1], [1], out=[{"role": "assistant", "content": "a"}])["samples"] == 1
