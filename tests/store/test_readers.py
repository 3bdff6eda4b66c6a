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
        ("t.jsonl", b"[1]\n", r"item 1 of its array: a JSON object is needed, not int"),
        ("t.jsonl", b'{"a": 1}\n3\n', r"line 2: a JSON object is needed, not int"),
        ("t.jsonl", b'{"a": 1, "b": 2, "a": 3}\n', r"line 1: key 'a' stands twice"),
        ("t.jsonl", b'{"a": {"b": 2, "b": 3}}\n', r"line 1: key 'b' stands twice"),
        ("t.json", b'[\n {"a": 1},\n {"a": \n]\n', r"t\.json, line 4: no valid JSON"),
        ("t.json", b'[{"a": 1,\n "a": 2}]', r"t\.json, line 1: key 'a' stands twice"),
        ("t.json", b'{"x": [{"a": 1}], "y": [{"a": 2}]}', r"an object with arrays under x, y"),
        (
            "t.json",
            b'{"a": {"0": 1}, "b": {"0": 2}}',
            r"an object with keys a, b, and not one array",
        ),
        ("t.json", b"[" * 100_000, r"t\.json, line 1: no valid JSON \(maximum recursion"),
        ("t.csv", b"q,a,q\n1,2,3\n", r"t\.csv: column 'q' stands twice"),
        ("t.csv", b"q, a,a\n1,2,3\n", r"t\.csv: column 'a' stands twice"),
        ("t.csv", b"a,b\n1,2\n\xef\xbb\xbfa,b\n", r"line 3: the names of the columns again"),
        ("t.csv", b"a,b\n1,2\n3\n", r"t\.csv, line 3: not 2 values"),
        ("t.csv", b"a,b\n1,2,3\n", r"line 2: not 2 values"),
        ("t.csv", b'a,b\n"1,2\n', r"t\.csv, line 2: no valid CSV"),
        ("t.csv", b"a\n\xff\xfe\n", r"cannot be read .* UTF-8"),
        ("t.parquet", b"PAR1 torn", r"t\.parquet: cannot be read as Parquet"),
        ("t.xlsx", b"", r"files end in \.jsonl, \.json, \.csv, \.tsv or \.parquet"),
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


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32"]
MARKS = {"utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "name,text",
    [
        ("t.jsonl", '{"q": "drei × zwölf", "a": "36"}\n'),
        ("t.json", '[\n  {"q": "drei × zwölf", "a": "36"}\n]\n'),
        ("t.csv", "q,a\r\ndrei × zwölf,36\r\n"),
        ("t.tsv", "q\ta\ndrei × zwölf\t36\n"),
    ],
)
def test_a_byte_order_mark_says_the_encoding(tmp_path, name, text, encoding):
    (tmp_path / name).write_bytes(MARKS.get(encoding, b"") + text.encode(encoding))
    assert list(read_table(tmp_path / name)) == [{"q": "drei × zwölf", "a": "36"}]


TWO = [{"q": "1 + 1?", "a": 2}, {"q": "2 + 2?", "a": 4}]
CHAT = [{"prompt": [{"role": "user", "content": "1 + 1?"}], "a": 2}]


@pytest.mark.parametrize(
    "text,rows",
    [
        (json.dumps(TWO), TWO),
        (json.dumps(TWO, indent=2), TWO),
        ("\n\n" + json.dumps(TWO, indent=2), TWO),
        (json.dumps({"version": 2, "data": TWO}), TWO),
        (json.dumps({"data": TWO, "splits": ["a"]}, indent=4), TWO),
        ("\n".join(map(json.dumps, TWO)), TWO),
        ("\n".join(json.dumps(row, indent=1) for row in TWO), TWO),
        (json.dumps({"q": ["1 + 1?", "2 + 2?"], "a": [2, 4]}), TWO),
        (json.dumps({"q": ["1 + 1?", "2 + 2?"], "a": [2, 4]}, indent=1), TWO),
        ("\n\ufeff" + "\n\ufeff".join(map(json.dumps, TWO)), TWO),
        (json.dumps(TWO[0]), TWO[:1]),
        (json.dumps(CHAT[0]), CHAT),
        (json.dumps(CHAT[0], indent=1), CHAT),
        ("", []),
        ("[]", []),
        ("\n \n", []),
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".jsonl"])
def test_json_in_every_layout(tmp_path, text, rows, suffix):
    if suffix == ".jsonl" and text.startswith(('{"version', '{"q": [')):
        pytest.skip("one object a line is one row")
    path = tmp_path / f"t{suffix}"
    path.write_text(text, encoding="utf-8")
    assert list(read_table(path)) == rows


@pytest.mark.parametrize("text", ["q;a\n1,5?;2\n", "q\ta\n1,5?\t2\n", "sep=;\nq;a\n1,5?;2\n"])
def test_separators_of_spreadsheets(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    assert list(read_table(tmp_path / "t.csv")) == [{"q": "1,5?", "a": "2"}]


def test_parquet_columns_of_one_name_are_refused(tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(StudyError, match=r"t\.parquet: column 'a' stands twice"):
        list(read_table(tmp_path / "t.parquet"))


NESTED = {"prompt": [{"role": "user", "content": "1?"}], "reward.gold": "7", "raw": b"caf\xc3\xa9"}


@pytest.mark.parametrize(
    "name,value", [("prompt.0.content", "1?"), ("reward.gold", "7"), ("raw", "café")]
)
def test_columns_reach_into_lists_and_may_have_dots(name, value):
    assert field(NESTED, name, "f", 1) == value


def test_bytes_and_maps_inside_a_field_are_text_and_objects():
    row = {"chat": [[("role", b"user"), ("content", b"1?")]], "golds": [b"1", b"2"]}
    assert field(row, "chat", "f", 1) == [{"role": "user", "content": "1?"}]
    assert field(row, "chat.0.content", "f", 1) == "1?"
    assert field(row, "golds", "f", 1) == ["1", "2"]


@pytest.mark.parametrize(
    "name,message",
    [
        ("prompt.1.content", r"prompt is a list of 1, counted from 0"),
        ("prompt.0.text", r"prompt\.0 holds role, content"),
        ("raw.x", r"raw holds no further columns"),
        ("reward", r"columns are prompt, reward\.gold, raw"),
    ],
)
def test_a_missing_part_of_a_path_is_told(name, message):
    with pytest.raises(StudyError, match=message):
        field(NESTED, name, "f", 1)


def test_decimals_of_32_bits_are_as_they_were_written(tmp_path):
    frame = pd.DataFrame({"a": pd.array([0.1, 2.0, None], dtype="Float32"), "b": ["x", "y", "z"]})
    frame.to_parquet(tmp_path / "t.parquet")
    assert [row["a"] for row in read_table(tmp_path / "t.parquet")] == [0.1, 2.0, None]
