"""Params and machine files: read, checked, and every fault named with its key."""

from __future__ import annotations

import difflib
import math
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from wcse_lib.answers import Policy
from wcse_lib.store import StudyError, read_text, write_text
from wcse_lib.study.arms import KINDS_OF_ARM
from wcse_lib.study.fields import Strict
from wcse_lib.study.machine import Machine
from wcse_lib.study.params import Study
from wcse_lib.study.paths import resolve

MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Safe YAML in which a date or = stays the text that it is, and a merged mapping keeps what it had overridden."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Put merged keys before a mapping's own, which win; of several mappings the first wins.

        PyYAML 6.0.4's own way gives a key that was overridden in a merged mapping its older value again.
        """
        merged = [value for name, value in node.value if name.tag == MERGE]
        node.value = [pair for pair in node.value if pair[0].tag != MERGE]
        for value in merged:
            mappings = value.value if isinstance(value, yaml.SequenceNode) else [value]
            for mapping in mappings:
                if not isinstance(mapping, yaml.MappingNode):
                    problem = f"<< needs a mapping, or a list of them, not a {mapping.id}"
                    raise yaml.constructor.ConstructorError(problem, mapping.start_mark)
                self.flatten_mapping(mapping)
                node.value = mapping.value + node.value


def _is_taken(tag: str) -> bool:
    """Whether plain text may be of this kind: dates and a lone "=" stay text."""
    return not tag.endswith((":timestamp", ":value"))


_Loader.yaml_implicit_resolvers = {
    first: [resolver for resolver in resolvers if _is_taken(resolver[0])]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
MOST_VALUES = 100_000  # of a params file
WRITTEN_AS_READ = re.compile(r"true|false", re.I)  # of the words that YAML takes for a truth value
SECRET = re.compile(r"(?:KEY|TOKEN|SECRET|PASSWORD|CREDENTIALS?)$", re.I)  # how such variables end
LEAST_SECRET = 12  # characters of one; shorter values may be words
LEADING_ZERO = re.compile(r"[+-]?0[\d_]+")


def read_yaml(path: Path) -> dict:
    """Read a YAML mapping, as the file says it.

    Raises StudyError naming file, line and key for keys that stand twice and for what YAML reads otherwise than
    people write it (12:30, 010, .inf, and yes or no where no switch is), for a secret of the environment, and for
    anything that is no mapping.
    """
    text = read_text(path)
    _refuse_secrets(text, path)
    try:
        data = _load(text, path)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        if isinstance(error, StudyError):
            raise
        raise StudyError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, dict):
        raise StudyError(
            f"{path}: a mapping of keys to values is needed, found {type(data).__name__}"
        )
    return data


def _refuse_secrets(text: str, path: Path) -> None:
    """What a params or machine file says goes into plans, notebooks and reports, so that no key may stand there."""
    for name, value in os.environ.items():
        if SECRET.search(name) and len(value) >= LEAST_SECRET and value in text:
            raise StudyError(
                f"{path}: holds the value of the environment variable {name}, which would go into the plan and the "
                "report; leave it out: the kit reads keys from the environment (api_key_variable in the machine file)"
            )


def _load(text: str, path: Path) -> Any:
    loader = _Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        if _n_values(root, {}) > MOST_VALUES:
            raise StudyError(
                f"{path}: its aliases (*name) stand for more than {MOST_VALUES:,} values; write out what is meant"
            )
        # Before anything is made of the nodes: merging puts repeated keys into them.
        if faults := list(_surprises(root, (), set())):
            raise StudyError("\n".join(f"{path}, {fault}" for fault in faults))
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """How many values a node stands for, with all that its aliases stand for."""
    if id(node) not in known:
        known[id(node)] = 1  # should it hold itself
        parts: list[yaml.Node] = []
        if isinstance(node, yaml.SequenceNode):
            parts = node.value
        elif isinstance(node, yaml.MappingNode):
            parts = [part for pair in node.value for part in pair]
        known[id(node)] += sum(_n_values(part, known) for part in parts)
    return known[id(node)]


def _surprises(node: yaml.Node, key: tuple[str, ...], seen: set[int]) -> Iterator[str]:
    """Keys that stand twice, and values that YAML reads otherwise than they look."""
    if id(node) in seen:  # an alias: told where it is anchored
        return
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        is_text = node.style is not None and node.tag.endswith(":str")  # no !!int '12:30'
        if not is_text:
            yield from _surprise(node, key)
    elif isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield from _surprises(item, (*key, str(number)), seen)
    else:
        texts: list[Any] = []
        keys: list[Any] = []
        for name, value in node.value:
            key_read = _key_read(name)
            if name.value in texts or key_read in keys:
                place = f"line {name.start_mark.line + 1}"
                yield f"{place}: key {'.'.join((*key, name.value))!r} stands twice; remove one"
            texts.append(name.value)
            keys.append(key_read)
            if name.tag != MERGE:
                yield from _surprises(name, (*key, str(name.value)), seen)
            yield from _surprises(value, (*key, str(name.value)), seen)


def _key_read(name: yaml.Node) -> Any:
    """A key as Python knows it, to which 1, 1.0 and true are one; << and keys of several parts stay as they are."""
    if name.tag == MERGE or not isinstance(name, yaml.ScalarNode):
        return name.value
    return _Loader("").construct_object(name)


def _surprise(node: yaml.ScalarNode, key: tuple[str, ...]) -> Iterator[str]:
    """What is wrong with a plain word or number, if anything is."""
    text, kind = node.value, node.tag.rpartition(":")[2]
    is_number = kind in ("int", "float")
    remedy = ""
    if is_number and ":" in text:
        remedy = "YAML takes this for a number to the base of 60; write the number itself"
    elif kind in ("int", "str") and LEADING_ZERO.fullmatch(text):
        remedy = "YAML takes this for an octal number or a text; write the number without the zero"
    elif kind == "float" and not math.isfinite(float(text.lstrip("+-.").replace("_", ""))):
        remedy = "this is no finite number; write a number, or leave the key out"
    elif kind == "bool" and not WRITTEN_AS_READ.fullmatch(text) and key[-1:] not in _switches():
        remedy = "YAML takes this for true or false; write true or false where that is meant"
    if remedy:
        name = ".".join(key) or "a key"
        yield f'line {node.start_mark.line + 1}: {name} = {text}: {remedy}, or "{text}" in quotes for a text'


@cache
def _switches() -> frozenset[tuple[str]]:
    """The keys that are true or false, each as the last part of a place."""
    names = {field.name for field in fields(Policy) if field.type in (bool, "bool")}
    models: list[Any] = [Study, Machine]
    for model in models:  # grows while it is read
        for name, field in model.model_fields.items():
            if field.annotation is bool:
                names.add(name)
            models += [inner for inner in _models_in(field.annotation) if inner not in models]
    return frozenset((name,) for name in names)


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
        inner = getattr(kind, "model_fields", {})
        if part in KINDS_OF_ARM:
            kind = KINDS_OF_ARM[part]
        elif part in inner:
            kind = next(_models_in(inner[part].annotation), None)
        # else a name inside a mapping of models, which stands for any of them
    known = list(getattr(kind, "model_fields", {}))
    nearest = difflib.get_close_matches(str(unknown), known, 1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known keys: {', '.join(known)}"


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """The model classes inside an annotation such as `dict[Name, Recipe]` or `Columns | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
