"""Parquet files are whole or not there, read whole, in pieces or by SQL; damage and missing columns are named."""

import os
import random
import subprocess
import sys
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from conftest import ROOT

from wcse_lib import store
from wcse_lib.store import StudyError, tables

ROWS = pd.DataFrame(
    {
        "problem_id": [f"p{i // 4}" for i in range(40)],
        "n_tokens": range(40),
        "sound": pd.array([True, None, False, True] * 10, "boolean"),
    }
)


@pytest.mark.parametrize("seed", range(40))
def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path, seed):
    path, rng = tmp_path / "f.parquet", random.Random(seed)
    frame = ROWS[["problem_id", "n_tokens"]].assign(text=[f"text {i} ✓" for i in range(40)])
    store.write_parquet(path, frame)
    data = bytearray(path.read_bytes())
    place = rng.randrange(4, len(data))
    if seed % 2:
        data[place] ^= 1 << rng.randrange(8)
    else:
        del data[place:]
    path.write_bytes(data)
    try:
        read = store.read_parquet(path)
    except StudyError as error:
        assert f"{path}: damaged" in str(error)
    else:  # a bit of the footer that says nothing, such as who wrote the file
        pd.testing.assert_frame_equal(read, frame, check_dtype=False)


@pytest.fixture
def rows_file(tmp_path, monkeypatch):
    """ROWS, written in three pieces; read in pieces of 16."""
    monkeypatch.setattr(tables, "PIECE", 16)
    path = tmp_path / "rows.parquet"
    kinds = {"problem_id": "string", "n_tokens": "int64", "sound": "boolean"}
    with store.parquet_writer(path, kinds) as add:
        for piece in (ROWS[:25], ROWS[:0], ROWS[25:]):
            add(piece)
            assert not path.exists()
    return path


def test_a_file_written_in_pieces_is_the_whole(rows_file):
    pd.testing.assert_frame_equal(store.read_parquet(rows_file), ROWS)


def test_a_file_read_in_pieces_is_the_whole(rows_file):
    pieces = list(store.read_pieces(rows_file, ["n_tokens", "sound"]))
    assert len(pieces) == 3
    assert pieces[0]["sound"].dtype == "boolean"
    assert pd.concat(pieces)["n_tokens"].tolist() == list(range(40))


def test_rows_near_a_piece_are_those_of_its_problems(rows_file):
    near = store.problem_range_filter(ROWS[5:9])
    assert store.read_parquet(rows_file, ["n_tokens"], near)["n_tokens"].tolist() == [*range(4, 12)]


def test_an_interrupted_writer_leaves_the_old_file(rows_file):
    with pytest.raises(KeyboardInterrupt), store.parquet_writer(rows_file, {"n": "int64"}) as add:
        add(pd.DataFrame({"n": [1]}))
        raise KeyboardInterrupt
    pd.testing.assert_frame_equal(store.read_parquet(rows_file), ROWS)
    assert [path.name for path in rows_file.parent.iterdir()] == ["rows.parquet"]


@pytest.mark.parametrize(
    "read",
    [
        lambda path: store.read_parquet(path, ["problem_id", "usd"]),
        lambda path: store.read_parquet(path, ["problem_id"], [("usd", ">", 0)]),
        lambda path: list(store.read_pieces(path, ["usd"])),
        lambda path: store.query("SELECT usd FROM rows", rows=path),
    ],
)
def test_a_missing_column_is_not_called_damage(rows_file, read):
    with pytest.raises(
        StudyError,
        match=r"rows\.parquet: no column 'usd'; columns are problem_id, n_tokens, sound: "
        "the file is of another version of the kit; run its stage again",
    ):
        read(rows_file)


@pytest.mark.parametrize(
    "read",
    [
        store.read_parquet,
        lambda path: list(store.read_pieces(path)),
        lambda path: store.query("SELECT * FROM rows", rows=path),
    ],
)
def test_a_missing_file_is_named(tmp_path, read):
    with pytest.raises(StudyError, match=r"none\.parquet: not there"):
        read(tmp_path / "none.parquet")


@pytest.fixture
def part_files(tmp_path):
    paths = [tmp_path / f"part-[{i}]*.parquet" for i in range(2)]  # names that are patterns, too
    store.write_parquet(paths[0], ROWS[:25])
    store.write_parquet(paths[1], ROWS[25:])
    return paths


def test_a_query_joins_files_and_frames(part_files):
    levels = pd.DataFrame({"problem_id": ["p0", "p9"], "level": ["1", "2"]})
    sql = """
        SELECT level, sum(n_tokens) AS n_tokens, bool_and(sound) AS sound
        FROM samples JOIN levels USING (problem_id) GROUP BY level ORDER BY level
    """
    joined = store.query(sql, samples=part_files, levels=levels)
    expected = pd.DataFrame(
        {"level": ["1", "2"], "n_tokens": [6, 150], "sound": pd.array([False] * 2, "boolean")}
    )
    pd.testing.assert_frame_equal(joined, expected)


def test_rows_come_back_as_read_parquet_gives_them(part_files):
    rows = store.query("SELECT * FROM samples", samples=part_files)
    pd.testing.assert_frame_equal(rows, ROWS)


def test_one_missing_number_makes_no_floats():
    rows = store.query("SELECT * FROM (VALUES (1), (NULL)) AS t(i)")
    assert rows["i"].dtype == "Int64"
    assert rows["i"].tolist() == [1, pd.NA]


def test_sums_and_products_are_plain_numbers():
    rows = store.query("SELECT sum(i) AS total, 0.5 * max(i) AS half FROM range(4) AS t(i)")
    assert rows.dtypes.astype(str).to_dict() == {"total": "int64", "half": "float64"}


def test_pieces_are_the_whole(part_files, monkeypatch):
    monkeypatch.setattr(tables, "PIECE", 16)
    pieces = list(store.query_pieces("SELECT * FROM samples", samples=part_files))
    assert [len(piece) for piece in pieces] == [16, 16, 8]
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), ROWS)


def test_a_query_sees_no_table_of_another_one(part_files, monkeypatch):
    monkeypatch.setattr(tables, "PIECE", 16)
    pieces = store.query_pieces("SELECT * FROM samples", samples=part_files)
    next(pieces)
    other = store.query("SELECT * FROM samples", samples=ROWS.head(3))
    assert len(other) == 3 and len(next(pieces)) > 3, "two at a time, of one name"
    pieces.close()
    for how in ("abandoned", "finished"):
        with pytest.raises(duckdb.CatalogException, match="samples"):
            store.query("SELECT * FROM samples")
        assert len(store.query("SELECT * FROM rows", rows=ROWS)) == len(ROWS), how


def test_what_queries_write_goes_with_their_process(part_files, tmp_path):
    code = (
        "import tempfile\n"
        "from pathlib import Path\n"
        "from wcse_lib import store\n"
        f"print(len(store.query('SELECT * FROM samples', samples=Path({str(part_files[0])!r}))))\n"
        "print(len(list(Path(tempfile.gettempdir()).glob('wcse-sql-*'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert done.stdout.split()[1] == "1"
    assert not list(tmp_path.glob("wcse-sql-*"))


def test_a_column_that_older_parts_lack_is_missing_there(part_files):
    store.write_parquet(part_files[0], ROWS[["problem_id"]])
    rows = store.query("SELECT count(n_tokens) AS n, count(*) AS m FROM t", t=part_files)
    assert rows.values.tolist() == [[15, 55]]


def test_no_files_at_all_are_named():
    with pytest.raises(StudyError, match="samples: no files to read"):
        store.query("SELECT 1 FROM samples", samples=[])


def test_a_flipped_bit_is_noticed_although_duckdb_would_not(tmp_path):
    path = tmp_path / "rows.parquet"
    store.write_parquet(path, ROWS)
    assert len(store.query("SELECT * FROM rows", rows=path)) == 40  # kept for this state alone
    data = bytearray(path.read_bytes())
    data[60] ^= 4
    path.write_bytes(data)
    with pytest.raises(StudyError, match=r"rows\.parquet: damaged"):
        store.query("SELECT * FROM rows", rows=path)


@pytest.mark.parametrize("seed", range(40))
def test_a_query_over_a_flipped_file_says_so_or_needs_it_not(tmp_path, seed):
    path, rng = tmp_path / "rows.parquet", random.Random(seed)
    store.write_parquet(path, ROWS)
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)
    try:
        rows = store.query("SELECT problem_id, n_tokens, sound FROM rows", rows=path)
    except StudyError as error:
        assert str(path) in str(error)
    else:
        pd.testing.assert_frame_equal(rows, ROWS)


def test_what_finds_no_room_names_the_temporary_folder(monkeypatch):
    monkeypatch.setitem(tables.SETTINGS, "memory_limit", "1MB")
    tables._idle_databases.cache_clear()  # which have the limit of before
    with pytest.raises(
        StudyError, match="sorted or joined there .*; free that disk, or set TMPDIR"
    ):
        store.query("SELECT hash(i) AS h FROM range(400_000) AS t(i) ORDER BY h")


def test_a_query_sees_its_tables_alone():
    outside = pd.DataFrame({"i": [1]})
    assert len(outside) == 1
    with pytest.raises(duckdb.CatalogException):
        store.query("SELECT * FROM outside")


def test_a_large_sort_goes_to_the_disk(tmp_path, monkeypatch):
    monkeypatch.setitem(tables.SETTINGS, "memory_limit", "30MB")
    sql = "SELECT hash(i) AS h, repeat('x', 100) AS text FROM range(400_000) AS t(i) ORDER BY h"
    n_rows = sum(len(piece) for piece in store.query_pieces(sql))
    assert n_rows == 400_000


def test_every_part_is_a_path_of_its_own(part_files):
    rows = store.query("SELECT * FROM one", one=Path(part_files[1]))
    assert len(rows) == 15
