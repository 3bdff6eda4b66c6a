"""What a checkpoint is: the SHA-256 of all its weights, its tokenizer, its configs and its chat templates."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from wcse_lib.store import StudyError, read_json, sha256, write_json

FILES = (
    "*.safetensors",
    "*.index.json",
    "*.bin",
    "*.gguf",
    "config.json",
    "generation_config.json",
    "adapter_config.json",
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "additional_chat_templates/*",
)
OF_TRAINING = ("training_args.bin",)
SHOWN = 16  # hexadecimal digits that are noted of each


def checkpoint_files(model: str) -> dict[str, str]:
    """The files of a checkpoint that decide what it says, by name: the first 16 digits of each one's SHA-256.

    Args: model: a folder, or a hub id whose files are in the hub's cache; of anything else nothing is known: {}. Every
    byte is read, once for each path, size and time of change: what was found is kept in the user's cache folder.
    """
    folder = _folder_of(model)
    if folder is None:
        return {}
    known = _Known()
    found = {}
    for pattern in FILES:
        for path in folder.glob(pattern):
            if path.is_file() and path.name not in OF_TRAINING:
                found[path.relative_to(folder).as_posix()] = known.sha256(path)[:SHOWN]
    known.keep()
    return dict(sorted(found.items()))


def _folder_of(model: str) -> Path | None:
    """Where a model's files lie on this machine."""
    if Path(model).is_dir():
        return Path(model)
    from huggingface_hub import try_to_load_from_cache

    with contextlib.suppress(ValueError, OSError):  # no name of a hub; no cache
        config = try_to_load_from_cache(model, "config.json")
        if isinstance(config, str):
            return Path(config).parent
    return None


class _Known:
    """Hashes that were found before, by path, size and time; in no checkpoint's folder, which may be read-only."""

    def __init__(self) -> None:
        self.path = cache_folder() and cache_folder() / "sha256.json"
        self.entries: dict = {}
        self.is_new = False
        if self.path and self.path.exists():
            with contextlib.suppress(StudyError):  # a damaged cache is made anew
                self.entries = read_json(self.path)

    def sha256(self, path: Path) -> str:
        state = path.stat()
        key = f"{path.resolve()} {state.st_size} {state.st_ctime_ns}"
        if not isinstance(self.entries.get(key), str):
            self.entries[key] = sha256(path)
            self.is_new = True
        return self.entries[key]

    def keep(self) -> None:
        if self.is_new and self.path:
            with contextlib.suppress(
                StudyError, OSError
            ):  # no place for a cache: they are found anew
                write_json(self.path, self.entries)


def cache_folder() -> Path | None:
    """The user's cache folder for this kit; None where there is no home."""
    if set_by_user := os.environ.get("XDG_CACHE_HOME"):
        return Path(set_by_user) / "wcse"
    with contextlib.suppress(RuntimeError):
        return Path.home() / ".cache" / "wcse"
    return None
