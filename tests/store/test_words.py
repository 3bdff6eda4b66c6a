"""What a reader says of files that are whole and yet not what is needed: a sentence, and never the wrong advice."""

import shutil

import pytest
from studies import sample_row as row

from wcse_lib.store import (
    SampleWriter,
    StudyError,
    is_complete,
    read_json,
    read_samples,
    write_json,
    write_manifest,
)


@pytest.mark.parametrize(
    ("text", "name"), [("[1]", "an array"), ("3", "a number"), ("null", "null")]
)
def test_json_of_another_kind_is_named(tmp_path, text, name):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(StudyError, match=f"{path}: holds {name} where an object is needed"):
        read_json(path)


def test_deep_json_is_a_sentence(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("[" * 100_000)
    with pytest.raises(StudyError, match="a.json: damaged .*recursion"):
        read_json(path)


def test_what_may_not_be_read_is_not_damaged(tmp_path, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    path = tmp_path / "a.json"
    path.write_text("{}")
    monkeypatch.setattr("pathlib.Path.read_text", denied)
    with pytest.raises(StudyError, match=r"could not be read \(Permission denied\)") as caught:
        read_json(path)
    assert "delete" not in str(caught.value) and "damaged" not in str(caught.value)


@pytest.mark.parametrize("place", ["own", "input"])
def test_a_manifest_of_a_time_to_come_is_named(tmp_path, place):
    for name in ("own", "input"):
        write_manifest(tmp_path / name, "p", {})
    path = tmp_path / place / "manifest.json"
    write_json(path, read_json(path) | {"finished": "2099-01-01T00:00:00+00:00"})
    with pytest.raises(
        StudyError, match=f"{path}: its stage ended on 2099.* set this machine's clock"
    ):
        is_complete(tmp_path / "own", "p", [tmp_path / "input"])


def test_a_copy_of_a_part_is_named_where_its_stage_has_ended(tmp_path):
    with SampleWriter(tmp_path) as writer:
        writer.add(row(0))
    write_manifest(tmp_path, "p", {})
    copy = shutil.copy(tmp_path / "part-00000.parquet", tmp_path / "part-00007.parquet")
    with pytest.raises(StudyError, match=f"{copy}: not among what its stage wrote"):
        read_samples(tmp_path)
    copy.unlink()
    with SampleWriter(tmp_path) as writer:  # as when a plan asks for more
        writer.add(row(1))
    assert len(read_samples(tmp_path)) == 2
