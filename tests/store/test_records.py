"""Files are whole or not there; damage is named."""

import os
import random
import subprocess

import pandas as pd
import pytest

from wcse_lib.store import records
from wcse_lib.store.records import (
    SampleWriter,
    StudyError,
    read_json,
    read_parquet,
    read_samples,
    write_json,
    write_parquet,
)

FRAME = pd.DataFrame(
    {
        "author": "a",
        "problem_id": [f"p{i}" for i in range(200)],
        "sample_index": 0,
        "text": [f"text {i} ✓" for i in range(200)],
    }
)


def row(i, **more):
    return {
        "author": "a",
        "problem_id": "p",
        "sample_index": i,
        "seed": i,
        "text": f"t{i}",
        "n_prompt_tokens": 1,
        "n_tokens": 2,
        "finish_reason": "stop",
        "engine": "hf",
        "model": "m",
        "prompt_hash": "h",
        "error": "",
        "usd": None,
        **more,
    }


@pytest.mark.parametrize("seed", range(40))
def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path, seed):
    path, rng = tmp_path / "f.parquet", random.Random(seed)
    write_parquet(path, FRAME)
    data = bytearray(path.read_bytes())
    place = rng.randrange(4, len(data))
    if seed % 2:
        data[place] ^= 1 << rng.randrange(8)
    else:
        del data[place:]
    path.write_bytes(data)
    try:
        read = read_parquet(path)
    except StudyError as error:
        assert str(path) in str(error) and "damaged" in str(error)
    else:  # a bit of the footer that says nothing, such as who wrote the file
        pd.testing.assert_frame_equal(read, FRAME, check_dtype=False)


def test_half_written_json_names_the_file(tmp_path):
    write_json(tmp_path / "plan.json", {"a": 1})
    text = (tmp_path / "plan.json").read_text()
    (tmp_path / "plan.json").write_text(text[: len(text) // 2])
    with pytest.raises(StudyError, match=r"plan\.json: damaged"):
        read_json(tmp_path / "plan.json")


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True
    ).returncode:
        pytest.skip("mounting needs rights that this user lacks")
    yield folder
    subprocess.run(["umount", "-l", folder])


def test_a_full_disk_loses_nothing_that_was_written(small_disk):
    text = random.Random(0).randbytes(60_000).hex()
    with pytest.raises(
        StudyError, match=r"part-\d+\.parquet: could not be written \(No space left"
    ):
        with SampleWriter(small_disk, every_rows=1) as writer:
            for i in range(40):
                writer.add(row(i, text=f"{i} {text[i:]}"))
    rows = read_samples(small_disk)
    assert 3 < len(rows) < 40 and list(rows["sample_index"]) == list(range(len(rows)))
    assert not list(small_disk.glob(".*.tmp"))
    (
        small_disk / "part-00000.parquet"
    ).unlink()  # room again: writing goes on after the last number
    with SampleWriter(small_disk) as writer:
        writer.add(row(99))
    assert 99 in set(read_samples(small_disk)["sample_index"])


def test_a_read_only_folder_is_named(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StudyError, match=r"plan\.json: could not be written \(Read-only"):
        write_json(small_disk / "plan.json", {})


def test_a_kill_between_write_and_rename_leaves_the_old_file(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"old": 1})
    monkeypatch.setattr(records.os, "replace", lambda *_: os._exit(9))
    if (pid := os.fork()) == 0:
        write_json(tmp_path / "a.json", {"new": 1})
    assert os.waitpid(pid, 0)[1] >> 8 == 9
    assert read_json(tmp_path / "a.json") == {"old": 1}


def test_failed_rows_wait_apart_and_are_replaced(tmp_path):
    with SampleWriter(tmp_path) as writer:
        writer.add(row(0))
        writer.add(row(1, finish_reason="error", error="timeout"))
    assert list(read_samples(tmp_path)["finish_reason"]) == ["stop", "error"]
    with SampleWriter(tmp_path) as writer:
        writer.add(row(1))
    assert list(read_samples(tmp_path)["finish_reason"]) == ["stop", "stop"]


@pytest.mark.parametrize("text", ["\ud800 lone", "\0", "\u202e", "x" * 1_000_000, ""])
def test_hostile_texts_come_back(tmp_path, text):
    with SampleWriter(tmp_path) as writer:
        writer.add(row(0, text=text))
    assert read_samples(tmp_path)["text"][0] == text.encode("utf-8", "replace").decode()


def test_a_file_written_and_read_in_pieces_is_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "PIECE", 4)
    ids, sound = [f"p{i // 3}" for i in range(18)], pd.array([True, None, False] * 6, "boolean")
    frame, path = (
        pd.DataFrame({"problem_id": ids, "n": range(18), "sound": sound}),
        tmp_path / "rows.parquet",
    )
    with records.parquet_writer(
        path, {"problem_id": "string", "n": "int64", "sound": "boolean"}
    ) as add:
        for part in (frame[:5], frame[:0], frame[5:]):
            add(part)
            assert not path.exists()
    pd.testing.assert_frame_equal(read_parquet(path), frame)
    pieces = list(records.read_pieces(path, ["n", "sound"]))
    assert (
        len(pieces) == 5
        and pd.concat(pieces)["n"].tolist() == list(range(18))
        and pieces[0]["sound"].dtype == "boolean"
    )
    near = read_parquet(path, ["n"], records.problem_range_filter(frame[4:8]))
    assert near["n"].tolist() == list(range(3, 9))
    with pytest.raises(KeyboardInterrupt), records.parquet_writer(path, {"n": "int64"}) as add:
        add(frame[["n"]])
        raise KeyboardInterrupt
    pd.testing.assert_frame_equal(read_parquet(path), frame)
    assert [p.name for p in tmp_path.iterdir()] == ["rows.parquet"]
    with pytest.raises(StudyError, match="not there"):
        list(records.read_pieces(tmp_path / "none.parquet"))


def test_the_recorded_commit_is_the_packages_own(tmp_path, monkeypatch):
    """Not that of the folder where the command was started, nor of a repository that merely holds the installed package."""
    git = ["git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@b"]
    for place in ("wcse_lib", "env/wcse_lib"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "records.py").write_text("")
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "first"]):
        subprocess.run([*git, *words], check=True)
    head = subprocess.run(
        [*git, "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout.strip()
    monkeypatch.setattr(records, "__file__", str(tmp_path / "env/wcse_lib/records.py"))
    assert records.commit() == ""
    monkeypatch.setattr(records, "__file__", str(tmp_path / "wcse_lib/records.py"))
    records.write_manifest(tmp_path / "a", "p", {})
    assert records.read_json(tmp_path / "a/manifest.json")["commit"] == head
    (tmp_path / "wcse_lib/records.py").write_text("changed")
    assert records.commit() == head + " with uncommitted changes"
