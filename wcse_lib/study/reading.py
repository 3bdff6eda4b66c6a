"""Params and machine files: read, checked, and every fault named with its key."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from wcse_lib.store import StudyError, write_text
from wcse_lib.study.arms import KINDS_OF_ARM
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
        faults: dict[tuple, str] = {}
        for fault in error.errors():
            # a value of a union fails once for every member: the first says enough
            faults.setdefault(_without_members(fault["loc"]), _sentence(kind, where, fault))
        raise StudyError("\n".join(faults.values())) from None


# Names that pydantic gives the members of a union: they are part of an error's place and no key of the file.
MEMBER = re.compile(r"(arm-|constrained-|list\[|dict\[|literal\[|(int|float|str|bool)$)")


def _without_members(place: tuple) -> tuple:
    return tuple(part for part in place if not MEMBER.match(str(part)))


def _sentence(kind: type[Strict], where: str, fault: dict) -> str:
    """One of pydantic's faults as a sentence that names file, key, value and what is allowed."""
    key = ".".join(map(str, _without_members(fault["loc"])))
    value, type_of_fault = fault.get("input"), fault["type"]
    message = fault["msg"].removeprefix("Value error, ")
    if type_of_fault == "extra_forbidden":
        return f"{where}: {key}: unknown key; {_known_keys(kind, fault['loc'])}"
    if type_of_fault in ("value_error", "kind_of_arm"):
        return f"{where}: {key}: {message}" if key else f"{where}: {message}"
    if type_of_fault == "missing":
        return f"{where}: {key}: this key is missing"
    hint = ""
    if type_of_fault in ("float_type", "int_type") and _reads_as_number(value):
        hint = " (YAML reads this as text: write a number as 2.0e+15, without quotes)"
    return f"{where}: {key} = {value!r}: {message[0].lower()}{message[1:]}{hint}"


def _reads_as_number(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _known_keys(kind: Any, place: tuple) -> str:
    """A hint for an unknown key: the nearest of the keys that are known at its place, or all of them."""
    *parents, unknown = place
    for part in parents:
        fields = getattr(kind, "model_fields", {})
        if part in KINDS_OF_ARM:
            kind = KINDS_OF_ARM[part]
        elif part in fields:
            kind = _model_in(fields[part].annotation)
        # else a name inside a mapping of models, which stands for any of them
    known = list(getattr(kind, "model_fields", {}))
    nearest = difflib.get_close_matches(str(unknown), known, 1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"


def _model_in(annotation: Any) -> Any:
    """The model class somewhere inside an annotation such as `dict[Name, Recipe]` or `Columns | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for found in map(_model_in, get_args(annotation)) if found), None)
