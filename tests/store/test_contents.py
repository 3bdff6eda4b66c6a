"""Whatever a stage wrote and anything but the kit has changed is named when it is read, with the way back."""

import os
import random
import shutil
import time

import pandas as pd
import pytest

from wcse_lib.store import (
    StudyError,
    is_complete,
    missing_files,
    query,
    read_json,
    read_parquet,
    read_pieces,
    remove,
    write_contents,
    write_json,
    write_manifest,
    write_parquet,
)
from wcse_lib.study import Run

N_CHANGES = 150


def flipped(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]


def longer(data: bytes, rng: random.Random) -> bytes:
    at = rng.randrange(len(data))
    return data[:at] + b" " + data[at:]


def another_digit(data: bytes, rng: random.Random) -> bytes:
    """An edit that stays valid: one digit is the next one."""
    places = [at for at, byte in enumerate(data) if chr(byte).isdigit()]
    at = rng.choice(places)
    return data[:at] + str((int(chr(data[at])) + 1) % 10).encode() + data[at + 1 :]


def read(folder) -> None:
    """The plan, the problems and the examples, as later stages read them."""
    run = Run(folder)
    run.complete("01")
    for split in ("train", "validation", "held_out"):
        path = run.path("01", f"{split}.parquet")
        read_parquet(path)
        query("SELECT count(*) AS n FROM problems", problems=path)
    for arm in ("se", "wc"):
        list(read_pieces(run.path("03", arm, "examples.parquet"), ["text"]))


def test_every_change_of_plan_problems_and_examples_is_named(three_draws, tmp_path):
    folder = shutil.copytree(three_draws.folder, tmp_path / "study")
    for place in ("01_plan", "03_verify/se", "03_verify/wc"):
        write_manifest(folder / place, three_draws.plan_id, {"n": 1})
    read(folder)
    paths = [folder / "01_plan" / f"{split}.parquet" for split in ("train", "held_out")]
    paths += [folder / "01_plan" / name for name in ("plan.json", "manifest.json", "contents.json")]
    paths.append(folder / "03_verify/wc/examples.parquet")
    rng = random.Random(0)
    for number in range(N_CHANGES):
        path, change = paths[number % len(paths)], rng.choice([flipped, longer, another_digit])
        data = path.read_bytes()
        path.write_bytes(change(data, rng))
        with pytest.raises(StudyError, match=f"{path}: changed since .* `wcse run` again"):
            read(folder)
        path.write_bytes(data)
    read(folder)


def test_what_is_deleted_makes_its_stage_incomplete_and_what_the_kit_writes_anew_is_no_change(
    tmp_path,
):
    frame = pd.DataFrame({"a": [1]})
    write_parquet(tmp_path / "a.parquet", frame)
    write_json(tmp_path / "b.json", {"a": 1})
    write_manifest(tmp_path, "p", {})
    assert is_complete(tmp_path, "p")
    write_json(tmp_path / "b.json", {"a": 2})
    assert read_json(tmp_path / "b.json") == {"a": 2}
    write_contents(tmp_path)
    remove(tmp_path / "b.json")
    assert is_complete(tmp_path, "p")
    write_contents(tmp_path)
    assert not missing_files(tmp_path)
    (tmp_path / "a.parquet").unlink()
    assert missing_files(tmp_path) == ["a.parquet"]


def test_a_time_that_is_set_back_hides_no_change(tmp_path):
    path = tmp_path / "b.json"
    write_json(path, {"a": 1})
    write_contents(tmp_path)
    assert read_json(path) == {"a": 1}
    state = path.stat()
    time.sleep(0.02)  # a disk's clock ticks in milliseconds
    path.write_text(path.read_text().replace("1", "2"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    with pytest.raises(StudyError, match="changed since"):
        read_json(path)


def test_a_folder_of_an_earlier_version_is_read_without_a_list(tmp_path):
    write_json(tmp_path / "b.json", {"a": 1})
    (tmp_path / "b.json").write_text('{"a": 3}')
    assert read_json(tmp_path / "b.json") == {"a": 3}
