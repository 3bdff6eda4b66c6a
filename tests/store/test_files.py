"""Files are whole or not there; damage, rights and full disks are named; a folder is held by one process."""

import json
import os
import subprocess
import sys
import time

import pytest

from wcse_lib.store import StudyError, locked, read_json, sha256, write_json
from wcse_lib.store.files import reading


def test_half_written_json_names_the_file(tmp_path):
    path = tmp_path / "plan.json"
    path.write_text('{"a": ')
    with pytest.raises(StudyError, match=r"plan\.json: damaged \(.*delete it and run its stage"):
        read_json(path)


def test_missing_json_names_the_file(tmp_path):
    with pytest.raises(StudyError, match=r"plan\.json: not there; run the stage"):
        read_json(tmp_path / "plan.json")


@pytest.mark.parametrize(
    ("number", "words"), [(13, "Permission denied"), (5, "Input/output error"), (24, "Too many")]
)
def test_what_the_system_refuses_is_not_called_damaged(tmp_path, number, words):
    with pytest.raises(StudyError, match=rf"could not be read \({words}.*rights") as caught:
        with reading(tmp_path / "plan.json"):
            raise OSError(number, "as the system says")
    assert "delete" not in str(caught.value)


def test_a_kill_between_write_and_rename_leaves_the_old_file(tmp_path, monkeypatch):
    write_json(tmp_path / "a.json", {"old": 1})
    monkeypatch.setattr(os, "replace", lambda *_: os._exit(9))
    child = os.fork()
    if child == 0:
        write_json(tmp_path / "a.json", {"new": 1})
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 9
    assert read_json(tmp_path / "a.json") == {"old": 1}


def test_the_hash_is_that_of_sha256sum(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"wcse" * 100_000)
    printed = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True)
    assert sha256(path) == printed.stdout.split()[0]


HOLDER = """
import sys, time
from pathlib import Path
from wcse_lib.store import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_holder_of_a_folder_is_named(tmp_path, holder):
    for _ in range(2):  # those who come too late do not rub the name out
        with pytest.raises(StudyError, match=rf"in use by .*process {holder.pid}, since 20"):
            with locked(tmp_path):
                pass


def test_a_lock_goes_with_its_process(tmp_path, holder):
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        assert f"process {os.getpid()}, since" in (tmp_path / ".lock").read_text()


def test_a_lock_is_waited_for(tmp_path, holder):
    start = time.monotonic()
    with pytest.raises(StudyError, match="in use"), locked(tmp_path, wait_seconds=0.5):
        pass
    assert time.monotonic() - start > 0.5
    holder.kill()
    with locked(tmp_path, wait_seconds=10):
        pass


def test_a_process_does_not_hold_a_folder_twice(tmp_path):
    with locked(tmp_path):
        with pytest.raises(StudyError, match="in use by another run .process"), locked(tmp_path):
            pass
        with locked(tmp_path, ".lock-of-a-shard"):
            pass
    with locked(tmp_path):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text(json.dumps({}))
    with pytest.raises(StudyError, match="file/study: cannot be written .*choose another folder"):
        with locked(tmp_path / "file" / "study"):
            pass


def test_a_full_disk_is_named_and_leaves_nothing(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StudyError, match="x.json: could not be written .No space left"):
        write_json(tmp_path / "x.json", {})
    assert not list(tmp_path.iterdir())
