"""Tables that people bring read the same in every form, row by row; a torn row is named."""

import json

import pandas as pd
import pytest

from wcse_lib.store import StudyError, field, read_table

ROWS = [{"q": f"What is {i} × {i}?", "a": f"So {i}, {i}.\n#### {i * i}"} for i in range(1, 31)]


@pytest.mark.parametrize("form", [".jsonl", ".csv", ".parquet"])
def test_a_table_reads_the_same_in_every_form(tmp_path, form):
    path = tmp_path / f"t{form}"
    if form == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif form == ".csv":
        pd.DataFrame(ROWS).to_csv(path, index=False)
    else:
        pd.DataFrame(ROWS).to_parquet(path)
    assert list(read_table(path)) == ROWS


@pytest.mark.parametrize(
    "name,data,message",
    [
        ("t.jsonl", b'{"a": 1}\n{"a": \n', r"t\.jsonl, line 2: no valid JSON"),
        ("t.jsonl", b"[1]\n", r"line 1: a JSON object is needed"),
        ("t.csv", b"a,b\n1,2\n3\n", r"t\.csv, line 3: not 2 values"),
        ("t.csv", b"a,b\n1,2,3\n", r"line 2: not 2 values"),
        ("t.csv", b'a,b\n"1,2\n', r"t\.csv, line 2: no valid CSV"),
        ("t.csv", b"a\n\xff\xfe\n", r"cannot be read .* UTF-8"),
        ("t.parquet", b"PAR1 torn", r"t\.parquet: cannot be read as Parquet"),
        ("t.xlsx", b"", r"files end in \.jsonl, \.csv or \.parquet"),
    ],
)
def test_a_torn_table_is_refused_with_its_place(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(StudyError, match=message):
        list(read_table(tmp_path / name))


def test_tables_stream(tmp_path):
    """The first row is had before the last, torn one is met."""
    path = tmp_path / "t.jsonl"
    path.write_text('{"a": 1}\n' * 3 + "torn")
    assert next(read_table(path)) == {"a": 1}


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(StudyError, match=r"none\.csv: cannot be read .*check the path"):
        list(read_table(tmp_path / "none.csv"))


@pytest.mark.parametrize("name", ["gold", "answer.gold", "answer.final.gold"])
def test_a_missing_column_names_those_that_are_there(name):
    row = {"question": "?", "answer": {"final": "4"}}
    with pytest.raises(
        StudyError, match=rf"f.csv, line 3: no column '{name}'; .* question, answer"
    ):
        field(row, name, "f.csv", 3)
