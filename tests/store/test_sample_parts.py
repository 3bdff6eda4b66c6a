"""Samples survive kills, full disks and hostile texts, and come back sorted by key."""

import time

import pytest
from studies import sample_row as row

from wcse_lib import store
from wcse_lib.store import SampleWriter, StudyError, read_samples


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


def test_large_seeds_and_prices_come_back(tmp_path):
    with SampleWriter(tmp_path) as writer:
        writer.add(row(0, seed=2**63 - 1, usd=0.25))
        writer.add(row(1, seed=2**53 + 1))
    rows = read_samples(tmp_path)
    assert rows["seed"].tolist() == [2**63 - 1, 2**53 + 1]
    assert rows["usd"].isna().tolist() == [False, True]


def test_a_folder_without_samples_is_a_table_without_rows(tmp_path):
    counting = "SELECT count(*) AS n, sum(n_tokens) AS n_tokens FROM samples WHERE text = ''"
    counted = store.query(counting, samples=store.sample_table(tmp_path))
    assert counted["n"].tolist() == [0]
    with SampleWriter(tmp_path) as writer:
        writer.add(row(0, text=""))
    counted = store.query(counting, samples=store.sample_table(tmp_path))
    assert counted["n_tokens"].tolist() == [2]


def test_a_part_of_another_version_is_not_called_damaged(tmp_path):
    with SampleWriter(tmp_path) as writer:
        writer.add(row(0))
    with pytest.raises(StudyError, match=r"part-00000.parquet: no column 'n_thoughts'; .*version"):
        read_samples(tmp_path, ["problem_id", "n_thoughts"])


def test_a_full_disk_stops_the_next_sample_and_not_only_the_last(tmp_path, monkeypatch):
    def full(*_) -> None:
        raise StudyError("could not be written (No space left on device)")

    monkeypatch.setattr("wcse_lib.store.samples._write_samples", full)
    with (
        pytest.raises(StudyError, match="No space left"),
        SampleWriter(tmp_path, every_seconds=0.01) as writer,
    ):
        writer.add(row(0))
        while not writer.is_late:
            time.sleep(0.01)
        writer.add(row(1))
        raise AssertionError("another sample was taken")


def test_texts_that_are_no_unicode_lose_no_row(tmp_path):
    with SampleWriter(tmp_path) as writer:
        writer.add(row(0) | {"text": "a\udc80", "error": "said \udc80"})
    assert read_samples(tmp_path)["error"].tolist() == ["said ?"]
