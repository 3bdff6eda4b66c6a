"""Rows on disk: Parquet parts and JSON written whole or not at all, read back with their keys checked."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd

KEY = ["author", "problem_id", "sample_index"]
SAMPLE_COLUMNS = {
    "author": "string", "problem_id": "string", "sample_index": "int64", "seed": "int64", "text": "string",
    "n_prompt_tokens": "int64", "n_tokens": "int64", "finish_reason": "string", "engine": "string", "model": "string",
    "prompt_hash": "string", "error": "string", "usd": "double",
}  # fmt: skip


class StudyError(ValueError):
    """Something in a study's files or parameters is wrong; the message names the file, the key and the remedy."""


def _replace(path: Path, write) -> None:
    """Write beside the target, flush to the disk, then rename: a reader sees the old file or the new one whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise StudyError(
            f"{path}: could not be written ({error.strerror}); free or unlock the disk, then run again"
        ) from error


def write_json(path: Path, data: dict | list) -> None:
    """Write JSON atomically (UTF-8, indented; NaN is refused)."""
    text = json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
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
    _replace(path, lambda file: pq.write_table(table, file))


def read_parquet(path: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """Read one Parquet file. Raises StudyError naming the file when it is missing or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(path, columns=columns, partitioning=None).to_pandas()
    except FileNotFoundError:
        raise StudyError(f"{path}: not there; run the stage that writes it first") from None
    except (pa.ArrowException, OSError) as error:
        raise StudyError(
            f"{path}: damaged ({error}); delete it and run its stage again: only its rows are made anew"
        ) from error


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("part-*.parquet"))


def read_samples(folder: Path, columns: list[str] | None = None) -> pd.DataFrame:
    """All rows of a folder's parts, sorted by key. Raises StudyError when a key occurs twice or a part is damaged."""
    frames = [read_parquet(path, columns) for path in parts(folder)]
    if not frames:
        return pd.DataFrame(columns=columns or list(SAMPLE_COLUMNS))
    frame = pd.concat(frames, ignore_index=True)
    keys = [c for c in KEY if c in frame]
    twice = frame.duplicated(keys)
    if len(keys) == len(KEY) and twice.any():
        raise StudyError(f"{folder}: sample {tuple(frame.loc[twice, KEY].iloc[0])} stands there twice; remove one part")
    return frame.sort_values(keys, ignore_index=True)


class SampleWriter:
    """Appends samples to a folder as Parquet parts; every flushed part is complete and survives a kill.

    Flushes every `every_rows` rows or `every_seconds` seconds, and at the end of a `with` block, also after an error.
    """

    def __init__(self, folder: Path, every_rows: int = 4096, every_seconds: float = 15.0):
        self.folder, self.every_rows, self.every_seconds = folder, every_rows, every_seconds
        folder.mkdir(parents=True, exist_ok=True)
        for stale in folder.glob(".part-*.tmp"):
            stale.unlink()
        self.number = 1 + max((int(p.stem.split("-")[1]) for p in parts(folder)), default=-1)
        self.rows: list[dict] = []
        self.last = time.monotonic()

    def add(self, row: dict) -> None:
        self.rows.append(row)
        if len(self.rows) >= self.every_rows or time.monotonic() - self.last > self.every_seconds:
            self.flush()

    def flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.rows:
            types = {"string": pa.string(), "int64": pa.int64(), "double": pa.float64()}
            schema = pa.schema([(name, types[kind]) for name, kind in SAMPLE_COLUMNS.items()])
            rows = [{**row, "text": _encodable(row["text"])} for row in self.rows]
            table = pa.Table.from_pylist(rows, schema=schema)
            _replace(self.folder / f"part-{self.number:05d}.parquet", lambda file: pq.write_table(table, file))
            self.number += 1
            self.rows = []
        self.last = time.monotonic()

    def __enter__(self) -> SampleWriter:
        return self

    def __exit__(self, *_) -> None:
        self.flush()


def _encodable(text: str) -> str:
    """Lone surrogates cannot be stored as UTF-8; they become the replacement character."""
    return text.encode("utf-8", "replace").decode()


def write_manifest(folder: Path, plan_id: str, facts: dict) -> None:
    """Mark a stage as complete: written last, so that its existence means that all else is there."""
    (folder / "failed.json").unlink(missing_ok=True)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(folder / "manifest.json", {"plan_id": plan_id, "finished": now, **facts})


def is_complete(folder: Path, plan_id: str) -> bool:
    """Whether a stage's folder was finished under this plan."""
    path = folder / "manifest.json"
    return path.exists() and read_json(path).get("plan_id") == plan_id


def read_jsonl(path: Path) -> Iterable[dict]:
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
                        raise StudyError(f"{path}, line {number}: a JSON object is needed, not {type(row).__name__}")
                    yield row
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); check the path and that it is UTF-8 text") from error
