"""Rows on disk: Parquet parts and JSON written whole or not at all, read back with their keys checked."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

KEY = ["author", "problem_id", "sample_index"]
SAMPLE_COLUMNS = {
    "author": "string",
    "problem_id": "string",
    "sample_index": "int64",
    "seed": "int64",
    "text": "string",
    "n_prompt_tokens": "int64",
    "n_tokens": "int64",
    "finish_reason": "string",
    "engine": "string",
    "model": "string",
    "prompt_hash": "string",
    "error": "string",
    "usd": "double",
}
PIECE = 20_000  # rows that are held at a time where there may be millions


class StudyError(ValueError):
    """Something in a study's files or parameters is wrong; the message names the file, the key and the remedy."""


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[BinaryIO]:
    """Write beside the target, flush to the disk, then rename: a reader sees the old file or the new one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # a file system turned read-only
            temporary.unlink(missing_ok=True)
        if not isinstance(error, OSError):
            raise
        raise StudyError(
            f"{path}: could not be written ({error.strerror}); free or unlock the disk, then run again"
        ) from error


def _replace(path: Path, write) -> None:
    with _replacing(path) as file:
        write(file)


def write_json(path: Path, data: dict | list) -> None:
    """Write JSON atomically (UTF-8, indented; NaN is refused)."""
    write_text(path, json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write text atomically as UTF-8."""
    _replace(path, lambda file: file.write(text.encode("utf-8", "replace")))


def read_json(path: Path) -> dict:
    """Read a JSON object. Raises StudyError naming the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StudyError(f"{path}: not there; run the stage that writes it first") from None
    except (ValueError, OSError) as error:
        raise StudyError(f"{path}: damaged ({error}); delete it and run its stage again") from error


def write_parquet(path: Path, frame: pd.DataFrame) -> None:
    """Write a frame atomically as one Parquet file."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.Table.from_pandas(frame, preserve_index=False)
    _replace(path, lambda file: pq.write_table(table, file, write_page_checksum=True))


@contextlib.contextmanager
def parquet_writer(path: Path, columns: dict[str, str]) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that adds a frame with these columns (name: string, int64, double or boolean) to one Parquet file, which
    is there, whole, when the block ends without an error."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {
        "string": pa.string(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "boolean": pa.bool_(),
    }
    nullable = pd.DataFrame(
        {name: pd.Series(dtype=kind) for name, kind in columns.items() if kind == "boolean"}
    )
    metadata = pa.Schema.from_pandas(
        nullable, preserve_index=False
    ).metadata  # so that None does not come back as an object
    schema = pa.schema([(name, types[kind]) for name, kind in columns.items()], metadata)
    with (
        _replacing(path) as file,
        pq.ParquetWriter(file, schema, write_page_checksum=True) as writer,
    ):

        def add(frame: pd.DataFrame) -> None:
            if len(frame):
                table = pa.Table.from_pandas(frame[list(columns)], schema, preserve_index=False)
                writer.write_table(table, row_group_size=PIECE)

        yield add


def read_parquet(
    path: Path, columns: list[str] | None = None, filters: list[tuple] | None = None
) -> pd.DataFrame:
    """Read one Parquet file, or those of its rows that match all `filters` (column, operator, value).

    Raises StudyError naming the file when it is missing or damaged.
    """
    import pyarrow.parquet as pq

    with _reading(path):
        table = pq.read_table(
            path,
            columns=columns,
            filters=filters,
            partitioning=None,
            page_checksum_verification=True,
        )
        return table.to_pandas()


def read_pieces(path: Path, columns: list[str] | None = None) -> Iterator[pd.DataFrame]:
    """What `read_parquet` gives, a few thousand rows at a time."""
    import pyarrow.parquet as pq

    with _reading(path), pq.ParquetFile(path, page_checksum_verification=True) as file:
        for batch in file.iter_batches(PIECE, columns=columns):
            yield batch.to_pandas()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError:
        raise StudyError(f"{path}: not there; run the stage that writes it first") from None
    except (
        pa.ArrowException,
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:  # pandas reads its own note
        raise StudyError(
            f"{path}: damaged ({error}); delete it and run its stage again: only its rows are made anew"
        ) from error


def problem_range_filter(rows: pd.DataFrame) -> list[tuple]:
    """Filters for `read_parquet` that give other files' rows of the problems of a piece, and of none far from them."""
    return [
        ("problem_id", ">=", rows["problem_id"].min()),
        ("problem_id", "<=", rows["problem_id"].max()),
    ]


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def read_samples(folder: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """All rows of a folder's parts, sorted by key. Raises StudyError when a key occurs twice or a part is damaged."""
    frames = [read_parquet(path, columns) for path in parts(folder)]
    if not frames:
        return pd.DataFrame(columns=columns or list(SAMPLE_COLUMNS))
    return _by_key(pd.concat(frames, ignore_index=True), folder)


def _by_key(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    keys = [c for c in KEY if c in frame]
    twice = frame.duplicated(keys)
    if len(keys) == len(KEY) and twice.any():
        raise StudyError(
            f"{folder}: sample {tuple(frame.loc[twice, KEY].iloc[0])} stands there twice; remove one part"
        )
    return frame.sort_values(keys, ignore_index=True)


def iter_samples(
    folder: Path, columns: list[str] | None = None, n_rows: int = PIECE
) -> Iterator[pd.DataFrame]:
    """What `read_samples` gives of one author, in the same order, in pieces of about `n_rows` rows and whole problems.

    Memory does not grow with the number of samples, but for their problems' ids. Raises StudyError as `read_samples`.
    """
    ids = [
        (path, read_parquet(path, ["problem_id"])["problem_id"].value_counts())
        for path in parts(folder)
    ]
    sizes = (
        pd.concat([n for _, n in ids] or [pd.Series(dtype="int64")])
        .groupby(level=0)
        .sum()
        .sort_index()
    )
    piece_of = (sizes.cumsum() - sizes) // n_rows
    held = [(path, set(piece_of[n.index])) for path, n in ids]
    for piece, problems in piece_of.groupby(piece_of):
        frames = (read_parquet(path, columns) for path, pieces in held if piece in pieces)
        yield _by_key(
            pd.concat([f[f["problem_id"].isin(problems.index)] for f in frames], ignore_index=True),
            folder,
        )


def sha256(path: Path) -> str:
    """A file's SHA-256, as `sha256sum` prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def count_rows(folder: Path) -> int:
    """Rows in a folder's parts, read from the files' footers; damaged parts count nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    n = 0
    for path in parts(folder):
        try:
            n += pq.read_metadata(path).num_rows
        except (pa.ArrowException, OSError):
            continue
    return n


@contextlib.contextmanager
def locked(folder: Path, name: str = ".lock", wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold a folder alone; the lock goes with its process, so a killed one leaves none.

    Raises StudyError naming the process that holds it, after `wait_seconds` (an orphaned kernel needs one to notice).
    """
    deadline = time.monotonic() + wait_seconds
    try:
        folder.mkdir(parents=True, exist_ok=True)
        opened = open(folder / name, "a+")
    except OSError as error:
        raise StudyError(
            f"{folder}: cannot be written ({error.strerror}); free or unlock the disk, or choose another folder"
        ) from error
    with opened as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if time.monotonic() < deadline:
                    time.sleep(0.2)
                    continue
                file.seek(0)
                who = file.read().strip() or "a process that does not say its name"
                raise StudyError(
                    f"{folder}: in use by another run ({who}); wait for it, or stop it"
                ) from error
        file.truncate(0)
        file.write(
            f"process {os.getpid()}, since {datetime.now(UTC).isoformat(timespec='seconds')}"
        )
        file.flush()
        yield


class SampleWriter:
    """Appends samples to a folder as Parquet parts; every flushed part is complete and survives a kill.

    Flushes every `every_rows` rows, and inside a `with` block every `every_seconds` seconds (also while nothing comes), and at its end, also after an error.
    Failed samples are there to be drawn again: a writer throws away those of the run before, and leaves its own in
    `part-errors.parquet` at the end of the block. Writers of one folder at the same time (`shard`) leave none.
    """

    def __init__(
        self, folder: Path, every_rows: int = 4096, every_seconds: float = 15.0, shard: str = ""
    ):
        self.folder, self.every_rows, self.every_seconds = folder, every_rows, every_seconds
        self.name = f"part-{shard}-" if shard else "part-"
        self.errors: Path | None = None if shard else folder / "part-errors.parquet"
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(f".{self.name}[0-9]*.tmp"):
            stale.unlink()
        if self.errors:
            self.errors.unlink(missing_ok=True)
        mine = folder.glob(f"{self.name}[0-9]*.parquet")
        self.number = 1 + max((int(p.stem.removeprefix(self.name)) for p in mine), default=-1)
        self.rows: list[dict] = []
        self.failed: list[dict] = []
        self.lock, self.ended = threading.RLock(), threading.Event()

    def add(self, row: dict) -> None:
        with self.lock:
            (self.failed if row["finish_reason"] == "error" else self.rows).append(row)
            if len(self.rows) >= self.every_rows:
                self.flush()

    def flush(self) -> None:
        with self.lock:
            if self.rows:
                _write_rows(self.folder / f"{self.name}{self.number:05d}.parquet", self.rows)
                self.number += 1
                self.rows = []

    def _now_and_then(self) -> None:
        while not self.ended.wait(self.every_seconds):
            with contextlib.suppress(
                StudyError
            ):  # it is tried again, and told, where the samples are drawn
                self.flush()

    def __enter__(self) -> SampleWriter:
        threading.Thread(target=self._now_and_then, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.flush()
        if self.failed and self.errors:
            _write_rows(self.errors, self.failed)


def _write_rows(path: Path, rows: list[dict]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64()}
    schema = pa.schema([(name, types[kind]) for name, kind in SAMPLE_COLUMNS.items()])
    table = pa.Table.from_pylist(
        [{**row, "text": encodable(row["text"])} for row in rows], schema=schema
    )
    _replace(path, lambda file: pq.write_table(table, file, write_page_checksum=True))


def encodable(text: str) -> str:
    """Lone surrogates cannot be stored as UTF-8; they become the replacement character."""
    return text.encode("utf-8", "replace").decode()


def write_manifest(folder: Path, plan_id: str, facts: dict) -> None:
    """Mark a stage as complete: written last, so that its existence means that all else is there."""
    (folder / "failed.json").unlink(missing_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    code = {"commit": found} if (found := commit()) else {}
    write_json(
        folder / "manifest.json",
        {"plan_id": plan_id, "finished": now, "machine": machine(), **code, **facts},
    )


def commit() -> str:
    """The git commit of the checkout that this package runs from, and whether its code was changed since; "" where there is none."""
    folder, git = Path(__file__).resolve().parents[2], shutil.which("git")
    asked = (
        ["rev-parse", "--show-toplevel"],
        ["rev-parse", "HEAD"],
        ["status", "--porcelain", "-uno", "--", "wcse_lib", "notebooks"],
    )
    told = [
        subprocess.run(
            [git, *words], cwd=folder, capture_output=True, text=True, timeout=60
        ).stdout.strip()
        for words in asked
        if git
    ]
    if (
        not told or not told[0] or Path(told[0]).resolve() != folder
    ):  # installed somewhere inside another repository
        return ""
    return told[1] + " with uncommitted changes" * bool(told[2])


def machine() -> str:
    """This machine in a line: processors, memory, GPUs, system."""
    info, nvidia = Path("/proc/cpuinfo"), shutil.which("nvidia-smi")
    names = re.findall(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else []
    parts = [
        f"{os.cpu_count()} × {names[0] if names else platform.processor() or platform.machine()}"
    ]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        parts.append(
            f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory"
        )
    query = [nvidia, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    gpus = (
        subprocess.run(query, capture_output=True, text=True, timeout=60).stdout.splitlines()
        if nvidia
        else []
    )
    return ", ".join([*parts, *(gpus or ["no GPU"]), platform.system()])


def is_complete(folder: Path, plan_id: str, inputs: Iterable[Path] = ()) -> bool:
    """Whether a stage's folder was finished under this plan, and not before a folder that it reads."""
    path = folder / "manifest.json"
    if not path.exists() or (manifest := read_json(path)).get("plan_id") != plan_id:
        return False
    read = [
        read_json(other / "manifest.json") for other in inputs if (other / "manifest.json").exists()
    ]
    return all(manifest.get("finished", "") >= other.get("finished", "") for other in read)


def check_tables(folder: Path, plan_id: str) -> None:
    """Raises StudyError where a study's tables are not there, or are of an earlier plan (published folders have no manifest)."""
    here = folder / "06_analyze"
    if not any(here.glob("tables/*")):
        raise StudyError(f"{here / 'tables'}: no tables there; run the study to its end first")
    if (here / "manifest.json").exists() and not is_complete(here, plan_id):
        raise StudyError(f"{here / 'tables'}: of an earlier plan; run the study to its end first")


def read_table(path: Path) -> Iterator[dict]:
    """Yield the rows of a JSONL, CSV or Parquet file (by its suffix), one at a time; CSV values are text.

    Raises StudyError naming the file, and the line or row where one is torn.
    """
    kind = Path(path).suffix.lower()
    readers = {
        ".jsonl": read_jsonl,
        ".json": read_jsonl,
        ".csv": _read_csv,
        ".parquet": _read_parquet_rows,
    }
    if kind not in readers:
        raise StudyError(f"{path}: cannot tell its form; files end in .jsonl, .csv or .parquet")
    return readers[kind](path)


def _read_csv(path: Path) -> Iterator[dict]:
    csv.field_size_limit(2**31 - 1)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            for row in reader:
                if None in row or None in row.values():
                    n = len(reader.fieldnames)
                    raise StudyError(
                        f"{path}, line {reader.line_num}: not {n} values as in the first line; mend the line"
                    )
                yield row
    except csv.Error as error:
        raise StudyError(
            f"{path}, line {reader.reader.line_num}: no valid CSV ({error}); mend the line"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}); check the path and that it is UTF-8 text"
        ) from error


def _read_parquet_rows(path: Path) -> Iterator[dict]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(4096):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise StudyError(
            f"{path}: cannot be read as Parquet ({error}); check the path, or write the file anew"
        ) from error


def read_jsonl(path: Path) -> Iterator[dict]:
    """Yield a JSONL file's objects. Raises StudyError naming file and line when one is torn or no object."""
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    try:
                        row = json.loads(line)
                    except ValueError as error:
                        raise StudyError(
                            f"{path}, line {number}: no valid JSON ({error}); mend or remove the line"
                        ) from error
                    if not isinstance(row, dict):
                        raise StudyError(
                            f"{path}, line {number}: a JSON object is needed, not {type(row).__name__}"
                        )
                    yield row
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(
            f"{path}: cannot be read ({error}); check the path and that it is UTF-8 text"
        ) from error


def field(row: dict, name: str, path: str | Path, number: int) -> Any:
    """The value of a (dotted) column. Raises StudyError naming file, line and the columns that are there."""
    value = row
    for part in name.split("."):
        if not isinstance(value, dict) or part not in value:
            raise StudyError(
                f"{path}, line {number}: no column {name!r}; columns are {', '.join(map(str, row))}"
            )
        value = value[part]
    return value
