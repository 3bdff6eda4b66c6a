"""Params and machine files: read, checked, and every fault named with its key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from wcse_lib.store import StudyError, write_text
from wcse_lib.study.fields import Strict
from wcse_lib.study.machine import Machine
from wcse_lib.study.params import Study
from wcse_lib.study.paths import resolve


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice."""


def _mapping(loader: _Loader, node: yaml.MappingNode, deep: bool = False) -> dict:
    seen = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=deep)
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key {key!r} stands twice", key_node.start_mark
            )
        seen.add(key)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping. Raises StudyError naming file and place for anything else."""
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); check the path") from error
    except (yaml.YAMLError, ValueError, TypeError) as error:
        raise StudyError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise StudyError(
            f"{path}: a mapping of keys to values is needed, found {type(data).__name__}"
        )
    return data


def write_yaml(path: Path, data: dict) -> None:
    """Write a params file that `read_yaml` reads back equal."""
    write_text(path, yaml.safe_dump(data, sort_keys=False, allow_unicode=True))


def check_study(data: dict, where: str) -> Study:
    """Validate a study. Raises StudyError with every fault: file, key, value and what is allowed."""
    return validate(Study, data, where)


def check_machine(data: dict, where: str = "machine") -> Machine:
    return validate(Machine, data, where)


def load_study(path: str | Path) -> Study:
    path = resolve(path)
    return check_study(read_yaml(path), str(path))


def load_machine(path: str | Path = "") -> Machine:
    """Read a machine file; the empty path is the default machine (transformers on CPU or the GPU that is there)."""
    return Machine() if not str(path) else check_machine(read_yaml(resolve(path)), str(path))


def validate(kind: type[Strict], data: dict, where: str):
    """A checked model. Raises StudyError with every fault: file, key, value and what is allowed."""
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        faults: dict[
            tuple, str
        ] = {}  # a value of a union fails once for every member: the first says enough
        for e in error.errors():
            faults.setdefault(_key(e["loc"]), _fault(kind, where, e))
        raise StudyError("\n".join(faults.values())) from None


def _key(loc: tuple) -> tuple:
    """An error's place without the names of a union's members."""
    return tuple(
        p
        for p in loc
        if not re.match(r"(constrained-|list\[|dict\[|literal\[|(int|float|str|bool)$)", str(p))
    )


def _fault(kind: type[Strict], where: str, error: dict) -> str:
    key = ".".join(str(part) for part in _key(error["loc"]))
    value = error.get("input")
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "extra_forbidden":
        known = _keys_at(kind, error["loc"][:-1])
        close = difflib.get_close_matches(str(error["loc"][-1]), known, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known keys: {', '.join(known)}"
        return f"{where}: {key}: unknown key; {hint}"
    if error["type"] == "value_error":
        return f"{where}: {key + ': ' if key else ''}{message}"
    if error["type"] == "missing":
        return f"{where}: {key}: this key is missing"
    hint = ""
    if isinstance(value, str) and error["type"] in ("float_type", "int_type"):
        try:
            float(value)
            hint = " (YAML reads this as text: write a number as 2.0e+15, without quotes)"
        except ValueError:
            pass
    return f"{where}: {key} = {value!r}: {message[0].lower() + message[1:]}{hint}"


def _keys_at(kind: Any, loc: tuple) -> list[str]:
    """The keys that a model knows at a place; a name inside a mapping of models stands for any of them."""
    for part in loc:
        known = getattr(kind, "model_fields", {})
        kind = _model_in(known[part].annotation) if part in known else kind
    return list(getattr(kind, "model_fields", {}))


def _model_in(annotation: Any) -> Any:
    """The model class somewhere inside an annotation such as `dict[Name, ArmParams]` or `Columns | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found), None)
