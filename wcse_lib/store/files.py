"""Files: written whole or not at all, read back or named, and folders held by one process at a time."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from wcse_lib.store import contents
from wcse_lib.store.errors import StudyError

if TYPE_CHECKING:
    import filelock

NAMES_OF_JSON = {
    dict: "an object",
    list: "an array",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}
POLL_SECONDS = 0.2  # between two looks at a lock that another process holds


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside the target, flush to the disk, then rename: a reader sees the old file or the new one whole.

    Raises StudyError naming the file where the disk refuses it; nothing of a failed attempt stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        contents.forget(path)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a file system turned read-only
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise StudyError(
            f"{path}: could not be written ({error.strerror}); free or unlock the disk, then run again"
        ) from error


@contextlib.contextmanager
def reading(path: Path, damage: tuple[type[Exception], ...] = (), anew: str = "") -> Iterator[None]:
    """Raise StudyError for what goes wrong in the block that reads `path`: missing, unreadable, changed or damaged.

    Changed is what does not fit the list of its folder (`contents`). Damage is a ValueError, an OSError that the
    system did not send, or one of `damage`; `anew` ends the remedy.
    """
    try:
        contents.check(path)
        yield
    except StudyError:
        raise
    except FileNotFoundError:
        raise StudyError(f"{path}: not there; run the stage that writes it first") from None
    except (ValueError, OSError, *damage) as error:
        # A number of the system means that the disk or the rights refuse a file, which may be whole.
        if isinstance(error, OSError) and error.errno:
            raise StudyError(
                f"{path}: could not be read ({os.strerror(error.errno)}); "
                "check the disk and your rights to the file, then run again"
            ) from error
        raise StudyError(
            f"{path}: damaged ({error}); delete it and run its stage again{anew}"
        ) from error


def write_json(path: Path, data: dict | list) -> None:
    """Write JSON whole or not at all (UTF-8, indented; NaN is refused)."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text whole or not at all, as UTF-8."""
    with replacing(path) as file:
        file.write(text.encode("utf-8", "replace"))


def read_json(path: Path, kind: type = dict) -> Any:
    """Read a JSON object, or (kind: list) an array.

    Raises StudyError naming the file when it is missing, unreadable, damaged or holds something else.
    """
    with reading(path, (RecursionError,)):
        data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, kind):
        raise StudyError(
            f"{path}: holds {NAMES_OF_JSON[type(data)]} where {NAMES_OF_JSON[kind]} is needed: it is no file of this "
            "kit, or of another version; put the right one back, or delete it and call `wcse run` again"
        )
    return data


def encodable(text: str) -> str:
    """Lone surrogates cannot be stored as UTF-8; they become the replacement character."""
    return text.encode("utf-8", "replace").decode()


def remove(path: Path) -> None:
    """Remove one of the kit's own files, if it is there."""
    contents.forget(path)
    path.unlink(missing_ok=True)


def write_contents(folder: Path) -> None:
    """List what a folder holds, so that later changes by anything but the kit are named (`contents`)."""
    write_json(folder / contents.NAME, contents.list_of(folder))


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock", wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a folder alone; the lock goes with its process, so a killed one leaves none.

    Raises StudyError naming the process that holds it, after `wait_seconds` (an orphaned kernel needs one to notice).
    """
    import filelock

    # A file system without locks is refused: a lock of another kind would outlive its process.
    lock = filelock.FileLock(
        folder / name, timeout=wait_seconds, poll_interval=POLL_SECONDS, fallback_to_soft=False
    )
    try:
        _take(lock, folder)
        yield
    finally:
        lock.release()


def _take(lock: filelock.FileLock, folder: Path) -> None:
    """Acquire the lock and write into its file who holds it, for the message to those who come too late."""
    import filelock

    lock_file = Path(lock.lock_file)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
        now = datetime.now(UTC).isoformat(timespec="seconds")
        lock_file.write_text(f"process {os.getpid()}, since {now}")
    except filelock.Timeout as error:
        holder = lock_file.read_text() or "a process that does not say its name"
        raise StudyError(
            f"{folder}: in use by another run ({holder}); wait for it, or stop it"
        ) from error
    except OSError as error:
        raise StudyError(
            f"{folder}: cannot be written ({error.strerror}); "
            "free or unlock the disk, or choose another folder"
        ) from error
