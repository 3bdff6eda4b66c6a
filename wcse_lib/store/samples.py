"""Samples on disk: one folder of Parquet parts per author, one row per sample, each key once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from wcse_lib.store import contents
from wcse_lib.store.errors import StudyError
from wcse_lib.store.files import encodable, remove
from wcse_lib.store.tables import PIECE, count_table_rows, empty_frame, parquet_writer, read_parquet

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
    # of an endpoint's prompt, what it read from its cache; of its answer, the hidden thought: -1 where it does not say
    "n_cached_tokens": "int64",
    "n_reasoning_tokens": "int64",
}
OF_ENDPOINTS = ("n_cached_tokens", "n_reasoning_tokens")

ERRORS = "part-errors.parquet"  # failed samples, which the next run draws again


def parts(folder: Path) -> list[Path]:
    """The files of a folder's samples. Raises StudyError for one that its stage, which has ended, did not write."""
    found = sorted(folder.glob("part-*.parquet"))
    listed = contents.listed(folder)
    for path in found if listed else ():
        if path.name not in listed:
            raise StudyError(
                f"{path}: not among what its stage wrote ({folder / contents.NAME}), such as a copy of another part; "
                "move it elsewhere"
            )
    return found


def sample_table(folder: Path) -> list[Path] | pd.DataFrame:
    """A folder's samples as a table for `query`: its parts, or a frame without rows where nothing was drawn yet."""
    return parts(folder) or empty_frame(SAMPLE_COLUMNS)


def count_rows(folder: Path) -> int:
    """Rows in a folder's parts, read from the files' footers; damaged parts count nothing."""
    return sum(count_table_rows(path) for path in parts(folder))


def read_samples(
    folder: Path, columns: list[str] | None = None, with_failed: bool = True
) -> pd.DataFrame:
    """All rows of a folder's parts, sorted by key. Raises StudyError when a key occurs twice or a part is damaged.

    Args: with_failed: False leaves out failed samples that the next run draws again.
    """
    paths = [path for path in parts(folder) if with_failed or path.name != ERRORS]
    frames = [read_parquet(path, columns) for path in paths]
    if not frames:
        return pd.DataFrame(columns=columns or list(SAMPLE_COLUMNS))
    return _by_key(_with_all_columns(pd.concat(frames, ignore_index=True), columns), folder)


def _with_all_columns(rows: pd.DataFrame, columns: list[str] | None) -> pd.DataFrame:
    """Rows with what endpoints say as unknown where parts of an earlier version have no such columns."""
    if columns is not None:
        return rows
    unknown = {name: -1 for name in OF_ENDPOINTS}
    rows = rows.assign(**{name: -1 for name in OF_ENDPOINTS if name not in rows})
    return rows.fillna(unknown).astype(dict.fromkeys(OF_ENDPOINTS, "int64"))


def iter_samples(
    folder: Path, columns: list[str] | None = None, n_rows: int = PIECE
) -> Iterator[pd.DataFrame]:
    """What `read_samples` returns, in the same order, in pieces of about `n_rows` rows and whole problems.

    Memory does not grow with the number of samples, but for their problems' ids. Raises StudyError as `read_samples`.
    """
    counts = {}
    for path in parts(folder):
        counts[path] = read_parquet(path, ["problem_id"])["problem_id"].value_counts()
    if not counts:
        return
    sizes = pd.concat(counts.values()).groupby(level=0).sum().sort_index()
    # Cut the sorted problems into pieces of `n_rows` rows, and note which pieces each part has rows of.
    piece_of = (sizes.cumsum() - sizes) // n_rows
    pieces_of_part = {path: set(piece_of[count.index]) for path, count in counts.items()}
    for piece, problems in piece_of.groupby(piece_of):
        frames = []
        for path, pieces in pieces_of_part.items():
            if piece in pieces:
                rows = read_parquet(path, columns)
                frames.append(rows[rows["problem_id"].isin(problems.index)])
        yield _by_key(pd.concat(frames, ignore_index=True), folder)


def _by_key(frame: pd.DataFrame, folder: Path) -> pd.DataFrame:
    keys = [column for column in KEY if column in frame]
    if keys == KEY:
        repeated = frame.loc[frame.duplicated(keys), keys]
        if len(repeated):
            key = tuple(repeated.iloc[0])
            raise StudyError(f"{folder}: sample {key} stands there twice; remove one part")
    return frame.sort_values(keys, ignore_index=True)


class SampleWriter:
    """Appends samples to a folder as Parquet parts; every flushed part is complete and survives a kill.

    Flushes every `every_rows` rows, and inside a `with` block every `every_seconds` seconds (also while nothing comes),
    and at its end, also after an error. Failed samples are there to be drawn again, unless they are added as kept: a
    writer throws away those of the run before, and leaves its own in `part-errors.parquet` at the end of the block.
    Writers of one folder at the same time (`shard`) leave none.
    """

    def __init__(
        self, folder: Path, every_rows: int = 4096, every_seconds: float = 15.0, shard: str = ""
    ):
        self.folder = folder
        self.every_rows = every_rows
        self.every_seconds = every_seconds
        self.prefix = f"part-{shard}-" if shard else "part-"
        self.rows: list[dict] = []
        self.failed: list[dict] = []
        self.lock = threading.RLock()
        self.ended = threading.Event()
        self.is_late = False  # a disk has refused a flush
        folder.mkdir(parents=True, exist_ok=True)
        # What a killed writer left half written, and what is to be drawn again
        for stale in folder.glob(f".{self.prefix}[0-9]*.tmp"):
            stale.unlink()
        self.errors: Path | None = None if shard else folder / ERRORS
        if self.errors:
            remove(self.errors)
        self.number = 1 + max(self._numbers(), default=-1)

    def _numbers(self) -> list[int]:
        """The numbers of the parts that this writer's folder holds already."""
        written = self.folder.glob(f"{self.prefix}[0-9]*.parquet")
        return [int(path.stem.removeprefix(self.prefix)) for path in written]

    def add(self, row: dict, is_kept: bool = False) -> None:
        with self.lock:
            if row["finish_reason"] == "error" and not is_kept:
                self.failed.append(row)
            else:
                self.rows.append(row)
            if len(self.rows) >= self.every_rows or self.is_late:
                self.flush()

    def flush(self) -> None:
        with self.lock:
            if self.rows:
                contents.drop(self.folder)
                _write_samples(self.folder / f"{self.prefix}{self.number:05d}.parquet", self.rows)
                self.number += 1
                self.rows = []
            self.is_late = False

    def _flush_regularly(self) -> None:
        while not self.ended.wait(self.every_seconds):
            try:
                self.flush()
            except (
                StudyError
            ):  # met again, and named, where the next sample is drawn: no more are paid for
                self.is_late = True

    def __enter__(self) -> SampleWriter:
        threading.Thread(target=self._flush_regularly, daemon=True).start()
        return self

    def __exit__(self, *_) -> None:
        self.ended.set()
        self.flush()
        if self.failed and self.errors:
            contents.drop(self.folder)
            _write_samples(self.errors, self.failed)


def _write_samples(path: Path, rows: list[dict]) -> None:
    unknown = dict.fromkeys(OF_ENDPOINTS, -1)
    storable = []
    for row in rows:
        texts = {name: encodable(value) for name, value in row.items() if isinstance(value, str)}
        storable.append(unknown | row | texts)
    with parquet_writer(path, SAMPLE_COLUMNS) as add:
        add(pd.DataFrame(storable, columns=list(SAMPLE_COLUMNS)))
