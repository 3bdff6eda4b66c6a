"""A full or read-only disk is named and loses nothing that was written."""

import random
import subprocess

import pytest
from studies import sample_row as row

from wcse_lib.store import SampleWriter, StudyError, read_samples, write_json


@pytest.fixture
def small_disk(tmp_path):
    """A file system of one megabyte."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounting = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder]
    if subprocess.run(mounting, capture_output=True).returncode:
        pytest.skip("mounting needs rights that this user lacks")
    yield folder
    subprocess.run(["umount", "-l", folder])


def test_a_read_only_folder_is_named(small_disk):
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(StudyError, match=r"plan\.json: could not be written \(Read-only"):
        write_json(small_disk / "plan.json", {})


def test_a_full_disk_loses_nothing_that_was_written(small_disk):
    text = random.Random(0).randbytes(60_000).hex()
    full = r"part-\d+\.parquet: could not be written \(No space left"
    with pytest.raises(StudyError, match=full), SampleWriter(small_disk, every_rows=1) as writer:
        for i in range(40):
            writer.add(row(i, text=f"{i} {text[i:]}"))
    rows = read_samples(small_disk)
    assert 3 < len(rows) < 40
    assert list(rows["sample_index"]) == list(range(len(rows)))
    assert not list(small_disk.glob(".*.tmp"))
    # With room again, writing goes on after the last number.
    (small_disk / "part-00000.parquet").unlink()
    with SampleWriter(small_disk) as writer:
        writer.add(row(99))
    assert 99 in set(read_samples(small_disk)["sample_index"])
