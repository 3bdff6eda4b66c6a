"""This machine's folders taken out of what a study shows to others."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from pathlib import Path

from wcse_lib.study import project_root

HOME_OF_ANYONE = re.compile(r"(?<![\w.~-])(/home/|/Users/|[A-Z]:\\+Users\\+)[^/\\\s\"']+")
ABSOLUTE = re.compile(r"(?<![^\s\"'(\[=>`])(/[^/\s\"'<>]+)(?:/[^/\s\"'<>]+)*/([^/\s\"'<>]+)")
WHOLLY_ABSOLUTE = re.compile(r"([A-Z]:)?[/\\][^\n]{,300}")


def shortener(folder: Path) -> Callable[[str], str]:
    """A function that puts for this machine's folders what they mean to a reader elsewhere.

    The folder above the study, the project's root and the home become their names, "." and "~"; of a path that lies in
    none of them only the last name stays.
    """
    meanings = {
        str(folder.parent): folder.parent.name,
        str(project_root().resolve()): ".",
    }
    with contextlib.suppress(RuntimeError):  # a user without a home
        meanings[str(Path.home())] = "~"
    places = [place for place in sorted(meanings, key=len, reverse=True) if len(place) > 1]
    known = re.compile(rf"(?<![\w.~/-])({'|'.join(map(re.escape, places))})(?![\w-])")

    def meaning(match: re.Match) -> str:
        return meanings[match[1]]

    def last_name(match: re.Match) -> str:
        # "km /h/…" begins like a path, but there is no such folder
        return f"…/{match[2]}" if Path(match[1]).is_dir() else match[0]

    def shorten(text: str) -> str:
        text = known.sub(meaning, text)
        text = HOME_OF_ANYONE.sub("~", text)
        return ABSOLUTE.sub(last_name, text)

    return shorten


def without_paths(data, folder: Path):
    """JSON-able data of a study without this machine's folders and the keys that were left out."""
    return map_text(data, shortener(folder.resolve()))


def map_text(data, shorten: Callable[[str], str]):
    """JSON-able data with its texts shortened, without keys whose value is None."""
    if isinstance(data, dict):
        kept = {key: value for key, value in data.items() if value is not None}
        return {key: map_text(value, shorten) for key, value in kept.items()}
    if isinstance(data, list):
        return [map_text(value, shorten) for value in data]
    if not isinstance(data, str):
        return data
    text = shorten(data)
    # What is still an absolute path keeps its last name only.
    return f"…/{Path(text).name}" if WHOLLY_ABSOLUTE.fullmatch(text) else text
