"""What a notebook is given from outside, held against the parameters that it declares."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import TypeAdapter, ValidationError

from wcse_lib.store import StudyError

INJECTED = "# Parameters"  # how the cell begins into which papermill puts what it is given
PAPERMILL = ("PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH")  # its own, where it is asked for them
KINDS = {  # of a declared type: in words, and how papermill is given one
    str: ("a text", "-r {name} TEXT"),
    bool: ("True or False", "-p {name} True"),
    int: ("a whole number", "-p {name} 50"),
    list[str]: ("a list of texts", '-y "{name}: [a, b]"'),
}


def check_parameters(namespace: Mapping[str, Any], keys: Iterable[str] = ()) -> None:
    """Refuse what papermill gave a notebook and the notebook does not declare, and values of another type.

    Args: namespace: the notebook's globals(), where its annotated parameters and its executed cells (`In`) stand; keys:
    further names that it takes, of any type. Raises StudyError naming every fault.
    """
    declared = _declared(namespace)
    known = [*declared, *keys]
    faults = []
    for name in _injected(namespace):
        if name not in [*known, *PAPERMILL]:
            nearest = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {nearest[0]!r}? " if nearest else ""
            faults.append(
                f"{name}: no parameter of this notebook; {hint}its parameters are {', '.join(declared)}"
            )
    for name, kind in declared.items():
        value = namespace.get(name)
        if name in keys or kind not in KINDS or _is_of(kind, value):
            continue
        words, example = KINDS[kind]
        faults.append(
            f"{name} = {value!r}: {words} is needed; papermill takes it as {example.format(name=name)}"
        )
    if faults:
        raise StudyError("\n".join(faults))


def _declared(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The annotated names of a notebook, which are its parameters, and their types."""
    if "__annotate__" in namespace:  # Python 3.14 works them out when asked
        return namespace["__annotate__"](1)
    return dict(namespace.get("__annotations__", {}))


def _injected(namespace: Mapping[str, Any]) -> list[str]:
    """The names that papermill's own cell sets; none where a person runs the notebook."""
    names = []
    for cell in namespace.get("In", ()):
        for statement in ast.parse(cell).body if cell.startswith(INJECTED) else ():
            names += [ast.unparse(target) for target in getattr(statement, "targets", ())]
    return names


def _is_of(kind: Any, value: Any) -> bool:
    try:
        TypeAdapter(kind).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True
