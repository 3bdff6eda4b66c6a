"""The endpoint's key kept out of everything that comes back from a server, before it is shown or stored."""

from __future__ import annotations

import base64
import json
import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote

LEAST = 8  # characters of a key that is a secret: shorter ones, such as "EMPTY", may be words of a sample
HIDDEN = "***"
MOST_DIGITS = 100  # of a whole number of JSON


def without_key(value: Any, key: str) -> Any:
    """A value of JSON in whose texts, names too, the key is hidden: as it is, and as addresses, hexadecimal digits and
    base64 spell it, alone or within a longer text.

    >>> without_key({"sk-0123-4567": ["my key is sk-0123-4567", 1]}, "sk-0123-4567")
    {'***': ['my key is ***', 1]}
    """
    pattern = _pattern(key)
    return value if pattern is None else _hidden(value, pattern)


def lines_without_key(text: str, key: str) -> str:
    """The lines of a file of JSON lines without the key, also where JSON spells it by escapes; others as they came."""
    pattern = _pattern(key)
    if pattern is None:
        return text
    return "\n".join(_line_hidden(line, pattern) for line in text.split("\n"))


def number_of_json(digits: str) -> int | float:
    """A whole number of JSON; one of very many digits, which Python refuses, is infinite."""
    return int(digits) if len(digits) < MOST_DIGITS else float(digits)


@lru_cache
def _pattern(key: str) -> re.Pattern | None:
    if len(key) < LEAST:
        return None
    in_bytes = key.encode()
    spellings = [key, quote(key, safe=""), in_bytes.hex(), *_in_base64(in_bytes)]
    return re.compile("|".join(map(re.escape, dict.fromkeys(spellings))), re.IGNORECASE)


def _in_base64(key: bytes) -> list[str]:
    """The characters of base64 that only the key decides, by how many bytes stand before it, of which three are four
    characters."""
    found = []
    for n_before, n_of_others in ((0, 0), (1, 2), (2, 3)):
        n_whole = (n_before + len(key)) * 8 // 6
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.append(encode(bytes(n_before) + key).decode()[n_of_others:n_whole])
    return found


def _hidden(value: Any, pattern: re.Pattern) -> Any:
    if isinstance(value, str):
        return pattern.sub(HIDDEN, value)
    if isinstance(value, list):
        return [_hidden(part, pattern) for part in value]
    if isinstance(value, dict):
        return {_hidden(name, pattern): _hidden(part, pattern) for name, part in value.items()}
    return value


def _line_hidden(line: str, pattern: re.Pattern) -> str:
    line = pattern.sub(HIDDEN, line)
    if "\\" not in line:
        return line
    try:
        read = json.loads(line, parse_int=number_of_json)
    except (ValueError, RecursionError):
        return line
    clean = _hidden(read, pattern)
    return line if clean == read else json.dumps(clean)
