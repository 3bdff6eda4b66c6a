"""What a field of somebody's table says: an id or a level by one name, a text, the words of a chat's one turn."""

from __future__ import annotations

import ast
import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np

from wcse_lib.store.errors import StudyError
from wcse_lib.store.files import encodable
from wcse_lib.store.readers import field

# How programs write a value that is not there into a column of text.
NO_NAME = {
    "",
    "nan",
    "NaN",
    "None",
    "null",
    "NULL",
    "<NA>",
    "NaT",
    "N/A",
    "#N/A",
    "n/a",
    "inf",
    "-inf",
    "Infinity",
    "-Infinity",
}
# How a text begins that spells a list of texts, or objects as JSON, Python or NumPy print them.
SPELT = re.compile(
    r"""\s*(?:array\(\s*\[|(?:\[\s*\{?|\{)\s*["']|\[\s*[-+.\d]+(?:\s+[-+.\d]+)+\s*\])"""
)
# NumPy's `array([2, 3], dtype=…)` is Python's `([2, 3])`; then come texts, signs and words.
TOKEN = re.compile(
    r"""array\(|,\s*dtype=[^)]*\)|[bBuU]?"(?:[^"\\]|\\.)*"|[bBuU]?'(?:[^'\\]|\\.)*'|"""
    r"""[^\s\[\]{}(),:'"]+|\S""",
    re.DOTALL,
)
# A whole number as programs print it; `1e2` is as likely three hexadecimal digits.
WHOLE = re.compile(r"[+-]?(0|[1-9]\d*)(\.\d*([eE][+-]?\d{1,2})?|[eE](0|[+-]\d{1,2}))?")
MOST_EXACT = 2**53  # the whole numbers of a float that are not rounded
TURNS = (("role", "content"), ("from", "value"))  # who speaks, and what
USER, ASSISTANT = ("user", "human"), ("assistant", "gpt", "model")
SYSTEM = ("system", "developer")
SCALARS = (str, int, float, Decimal, date, time, timedelta, UUID)


class NotText(StudyError):
    """A value that a row cannot be used with; the row is left out with this reason."""


def is_missing(value: Any) -> bool:
    """Whether a field holds nothing: null, NaN or an infinity."""
    if isinstance(value, float | Decimal):
        return not math.isfinite(value)
    return value is None


@dataclass(frozen=True)
class TableRow:
    """A row of somebody's table, with what a message needs to name it; columns may be dotted."""

    values: dict
    path: str | Path
    number: int

    def value(self, column: str) -> Any:
        return field(self.values, column, self.path, self.number)

    def name(self, column: str) -> str:
        """An id or a level; see `name_of`."""
        with self._named():
            return name_of(self.value(column), column)

    def words(self, column: str, speakers: tuple[str, ...] = USER + ASSISTANT) -> str:
        """A text; see `words_of`."""
        with self._named():
            return words_of(self.value(column), column, speakers)

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Put file and row before what is refused."""
        try:
            yield
        except NotText:
            raise
        except StudyError as error:
            place = f"{self.path}, line {self.number}: "
            raise StudyError(f"{place}{str(error).removeprefix(place)}") from None


def name_of(value: Any, column: str) -> str:
    """An id or a level as text, the same for 1, 1.0, "1.0" and 1e0, and for é as one sign and as two; empty where it
    is missing.

    Raises StudyError for lists and objects, and for decimals too large to hold every digit.

    >>> name_of(1.0, "id"), name_of(9007199254740993, "id"), name_of(float("nan"), "id")
    ('1', '9007199254740993', '')
    """
    if is_missing(value):
        return ""
    if not isinstance(value, SCALARS):
        raise StudyError(f"column {column!r} {_held(value)}; an id or level is a text or a number")
    if isinstance(value, float) and abs(value) >= MOST_EXACT:
        raise StudyError(
            f"column {column!r} = {value!r}: a decimal number of this size has lost digits; write "
            "the column as whole numbers or as text"
        )
    text = str(_short(value)).strip()
    if text in NO_NAME:
        return ""
    if text in ("True", "False", "TRUE", "FALSE"):
        return text.lower()
    if WHOLE.fullmatch(text) and Decimal(text) == int(Decimal(text)):
        return str(int(Decimal(text)))
    return unicodedata.normalize("NFC", encodable(text))


def _short(value: Any) -> Any:
    """A value, or the short decimal that one of 32 bits was meant as: 0.1, and not 0.10000000149."""
    if isinstance(value, float) and not value.is_integer() and float(np.float32(value)) == value:
        return np.float32(value)
    return value


def words_of(value: Any, column: str, speakers: tuple[str, ...] = USER + ASSISTANT) -> str:
    """A field as text: a list's items become lines, and a chat of one turn that turn's words.

    Args: speakers: whose turn it may be. Raises NotText for bytes that are no UTF-8 and StudyError, naming the column
    and what it holds, for objects, for chats of several turns and for what is no text at all.

    >>> words_of([{"role": "user", "content": "2 + 2?"}], "prompt")
    '2 + 2?'
    """
    if isinstance(value, str):
        value = read_spelt(value, lambda spelt: is_chat(_turns(spelt))) or value
    if is_missing(value):
        return ""
    if isinstance(value, bytes):
        raise NotText(f"column {column!r} holds bytes that are no UTF-8 text")
    if isinstance(value, SCALARS):
        return _written(value)
    turns = _turns(value)
    if is_chat(turns):
        return _words_of_chat(turns, column, speakers)
    if is_parts(value):
        return "\n".join(part["text"] for part in value)
    if isinstance(value, list) and all(is_missing(item) or _is_scalar(item) for item in value):
        return "\n".join(words_of(item, column) for item in value)
    raise StudyError(
        f"column {column!r} {_held(value)}; name what is meant, {_paths(value, column)}"
    )


def folded(question: str) -> str:
    """A question as compared with others: case and white space do not count."""
    return " ".join(question.lower().split())


def read_spelt(text: str, is_wanted: Callable[[Any], bool]) -> Any:
    """What a text spells in JSON or Python, where `is_wanted` says so; else None."""
    if not SPELT.match(text):
        return None
    for read, spelt in ((json.loads, text), (ast.literal_eval, _as_python(text))):
        try:
            value = read(spelt)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if is_wanted(value):
            return value
    return None


def _as_python(text: str) -> str:
    """What Python or NumPy print, as Python reads it: NumPy puts no commas between items, and names its arrays.

    >>> _as_python("array(['2' '3'], dtype=object)")
    "( [ '2' , '3' ] )"
    """
    spelt: list[str] = []
    follows_item = False
    for token in TOKEN.findall(text):
        if token == "array(" or token.endswith(")"):
            token = token[-1]
        if follows_item and token not in tuple(",:)]}"):
            spelt.append(",")
        spelt.append(token)
        follows_item = token not in tuple(",:([{")
    return " ".join(spelt)


def is_chat(value: Any) -> bool:
    """Whether a value is a list of turns, each with its speaker and words."""
    return isinstance(value, list) and bool(value) and all(_speech(turn) for turn in value)


def is_parts(value: Any) -> bool:
    """Whether a value is a list of texts as chats spell them: {"type": "text", "text": …}."""
    return isinstance(value, list) and bool(value) and all(_is_part(item) for item in value)


def _is_part(item: Any) -> bool:
    if not isinstance(item, Mapping) or not isinstance(item.get("text"), str):
        return False
    return {key for key, value in item.items() if value is not None} <= {"type", "text"}


# ---------------------------------------------------------------------- chats


def _speech(turn: Any) -> tuple[str, Any] | None:
    """A turn's speaker and words; None where it is no turn."""
    for speaker, words in TURNS if isinstance(turn, Mapping) else ():
        if isinstance(turn.get(speaker), str) and words in turn:
            return turn[speaker].lower(), turn[words]
    return None


def _turns(value: Any) -> Any:
    """A chat as a list of turns, also where it is one turn, or one list for the speakers and one for the words."""
    if not isinstance(value, Mapping):
        return value
    for speaker, words in TURNS:
        if isinstance(value.get(speaker), list) and isinstance(value.get(words), list):
            pairs = zip(value[speaker], value[words])
            return [{speaker: name, words: text} for name, text in pairs]
    return [value] if _speech(value) else value


def _words_of_chat(turns: list[dict], column: str, speakers: tuple[str, ...]) -> str:
    spoken = [_speech(turn) for turn in turns]
    if len(spoken) == 1 and spoken[0][0] in speakers:
        return words_of(spoken[0][1], f"{column}.0.content", ())
    names = [name for name, _ in spoken]
    places = [i for i, name in enumerate(names) if name in speakers]
    remedy = "write the text as a column of its own"
    if places:
        _, words = next(pair for pair in TURNS if pair[1] in turns[places[-1]])
        remedy = f"name the turn that is meant, as {column}.{places[-1]}.{words}"
    if set(names) & set(SYSTEM):
        remedy += ", and say a system text in prompt.system"
    raise StudyError(
        f"column {column!r} holds a chat of {len(names)} turns ({', '.join(names[:6])}), and one "
        f"turn of {speakers[0] if speakers else 'text'} is needed; {remedy}"
    )


# ---------------------------------------------------------------------- other values


def _is_scalar(value: Any) -> bool:
    return isinstance(value, SCALARS)


def _written(value: Any) -> str:
    """A single value as text; a whole decimal number as a whole one."""
    if isinstance(value, float) and value == int(value) and abs(value) < MOST_EXACT:
        value = int(value)
    if isinstance(value, Decimal):
        value = format(value.normalize(), "f")
    return encodable(str(value))  # JSON can hold lone surrogates


def _held(value: Any) -> str:
    """What a column holds that is no single value."""
    if isinstance(value, Mapping):
        return f"holds an object with the keys {', '.join(map(str, value))}"
    if isinstance(value, list):
        inner = value[0] if value else None
        return f"holds a list of {len(value)}, whose first item {_held(inner)}"
    return f"holds {'nothing' if value is None else f'a {type(value).__name__}'}"


def _paths(value: Any, column: str) -> str:
    """How a part of a value is named."""
    if isinstance(value, Mapping):
        return f"as {column}.{next(iter(value), 'key')}, or mend the column"
    if isinstance(value, list) and value:
        return _paths(value[0], f"{column}.0")
    return f"as {column} where that is a text"
