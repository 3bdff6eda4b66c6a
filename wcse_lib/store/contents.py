"""The SHA-256 of every file that a stage has written, kept beside them: what is changed since is named when it is read.

The list is made where a stage ends (and by 01 as soon as the plan is there). While the kit writes a listed file anew
there is no list; what anything else changes (a hand, a disk) does not fit it.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from pathlib import Path

from wcse_lib.store.errors import StudyError

NAME = "contents.json"
LISTED = ("*.json", "*.parquet")
# Notes that go on after a stage has ended.
NOTES = (NAME, "failed.json", "machine_time.json")


def list_of(folder: Path) -> dict:
    """The list of a folder as it is now: `files` (name: SHA-256), and the `sha256` of these."""
    paths = [path for pattern in LISTED for path in folder.glob(pattern)]
    files = {}
    for path in sorted(paths):
        if path.name not in NOTES and not path.name.startswith("."):
            files[path.name] = _hash_of(path, *_state(path))
    return {"files": files, "sha256": _own_hash(files)}


def check(path: Path) -> bool:
    """Whether a file is listed, and so is what its stage wrote; False where no list names it.

    Raises StudyError naming the file, and the way back, where it has been changed since, or the list itself.
    """
    wanted = listed(path.parent).get(path.name)
    if wanted is None or not path.exists():
        return False
    if _hash_of(path, *_state(path)) != wanted:
        raise StudyError(
            f"{path}: changed since its stage wrote it ({path.parent / NAME} has another SHA-256 of it), by a hand or "
            "a disk; put it back from a copy, or delete it and call `wcse run` again: its stage makes it anew"
        )
    return True


def forget(path: Path) -> None:
    """Drop the list of a folder before one of its listed files is written anew or removed by the kit."""
    if path.name in _names(path.parent):
        (path.parent / NAME).unlink(missing_ok=True)


def drop(folder: Path) -> None:
    """Drop the list of a folder that gets further files."""
    (folder / NAME).unlink(missing_ok=True)


def check_all(folder: Path) -> None:
    """Compare all listed files of a folder. Raises StudyError naming the first that is gone or was changed."""
    for name in missing_files(folder):
        raise StudyError(f"{folder / name}: gone; call `wcse run` again: its stage makes it anew")
    for name in listed(folder):
        check(folder / name)


def missing_files(folder: Path) -> list[str]:
    """The listed files of a folder that are gone."""
    return [name for name in listed(folder) if not (folder / name).exists()]


def listed(folder: Path) -> dict[str, str]:
    """The listed files (name: SHA-256); none where a stage has not ended or is of an earlier version of the kit."""
    path = folder / NAME
    try:
        state = _state(path)
    except OSError:
        return {}
    return _read(path, *state)


def sha256(path: Path) -> str:
    """A file's SHA-256, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _names(folder: Path) -> set[str]:
    """The names that a list has, were it damaged."""
    try:
        return set(listed(folder))
    except StudyError:
        return {path.name for pattern in LISTED for path in folder.glob(pattern)}


def _state(path: Path) -> tuple[int, int, int]:
    """What a file that is written anew does not keep: its number on the disk, its size, and when it was last changed
    (a time that nobody can set back)."""
    state = os.stat(path)
    return state.st_ino, state.st_size, state.st_ctime_ns


@lru_cache(maxsize=10_000)
def _hash_of(path: Path, *state: int) -> str:
    return sha256(path)


@lru_cache(maxsize=1_000)
def _read(path: Path, *state: int) -> dict[str, str]:
    try:
        data = json.loads(path.read_bytes())
        files = data["files"]
        is_whole = data["sha256"] == _own_hash(files)
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole:
        raise StudyError(
            f"{path}: changed since it was written, so what it lists cannot be compared; delete it and call "
            "`wcse run` again: what the stages have made stays"
        )
    return files


def _own_hash(files: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
