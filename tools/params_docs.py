"""Write docs/params.md from the comments of the fields: python tools/params_docs.py [--check]

Every key's meaning is the comment beside or above its field in wcse_lib/study; `--check` writes nothing and fails where
the page on disk is another.
"""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from wcse_lib import study
from wcse_lib.study import (
    AdaptiveArm,
    Batches,
    Budget,
    Columns,
    Controls,
    Curation,
    Dataset,
    DrawnArm,
    Evaluation,
    Held,
    ImportedArm,
    Machine,
    Meaning,
    MixedArm,
    ModelJudge,
    OnPolicyArm,
    Pilot,
    Power,
    Primary,
    Prompt,
    Recipe,
    SampleColumns,
    Sampling,
    Student,
    Study,
    Training,
    Verification,
)

PAGE = Path(__file__).parents[1] / "docs" / "params.md"
SECTIONS: dict[str, type[BaseModel]] = {
    "Study: the top of a params file": Study,
    "dataset": Dataset,
    "dataset.columns": Columns,
    "dataset.transfer.NAME": Held,
    "dataset.meaning": Meaning,
    "prompt": Prompt,
    "arms.NAME: an arm whose samples are drawn": DrawnArm,
    "arms.NAME: an arm whose samples are imported": ImportedArm,
    "arms.NAME.columns (imported)": SampleColumns,
    "arms.NAME: a mix of other arms": MixedArm,
    "arms.NAME: an adaptive arm": AdaptiveArm,
    "arms.NAME.adaptive": study.Adaptive,
    "arms.NAME: an on-policy arm": OnPolicyArm,
    "arms.NAME.on_policy": study.OnPolicy,
    "budget": Budget,
    "pilot": Pilot,
    "primary": Primary,
    "power": Power,
    "sampling": Sampling,
    "verification": Verification,
    "verification.model_judge": ModelJudge,
    "curation": Curation,
    "recipes.NAME: the keys of curation, and": Recipe,
    "students.NAME": Student,
    "training": Training,
    "evaluation": Evaluation,
    "controls": Controls,
    "The machine file": Machine,
    "The machine file's batch": Batches,
}
HEAD = """# Every key

What a params file and a machine file may say, with the default (— where a value is needed) and what it
means. This page is written by `python tools/params_docs.py` from the comments of the classes in
`wcse_lib/study/`. `wcse plan params/<study>.yaml` checks a file. Any other key, type or value is refused
with file, key and what is allowed.
"""
FIELD = re.compile(r"^    (\w+): .*?(?:  # (.*))?$")
COMMENT = re.compile(r"^    # (.*)$")


def comments_of(kind: type[BaseModel]) -> dict[str, str]:
    """Field -> the comment beside it, or the lines of comment above it."""
    meanings: dict[str, str] = {}
    above: list[str] = []
    for line in inspect.getsource(kind).splitlines():
        if comment := COMMENT.match(line):
            above.append(comment[1])
        elif field := FIELD.match(line):
            meanings[field[1]] = field[2] or " ".join(above)
            above = []
        else:
            above = []
    return meanings


def meaning_of(kind: type[BaseModel], name: str) -> str:
    """A field's comment, in the class that declares it. Raises ValueError where it has none."""
    for declared_in in kind.__mro__:
        if issubclass(declared_in, BaseModel) and name in declared_in.__dict__.get(
            "__annotations__", {}
        ):
            meaning = comments_of(declared_in).get(name)
            if meaning:
                return meaning
    raise ValueError(f"{kind.__name__}.{name}: a comment is needed that says what it means")


def choices_of(annotation: Any) -> list[str]:
    """The values of a `Literal` somewhere inside an annotation."""
    if get_origin(annotation) is Literal:
        return [str(value) for value in get_args(annotation)]
    found: list[str] = []
    for part in get_args(annotation):
        found += choices_of(part)
    return found


def row(kind: type[BaseModel], name: str) -> str:
    field = kind.model_fields[name]
    default = "—"
    if isinstance(field.default, BaseModel):
        default = "see below"
    elif field.default is not PydanticUndefined:
        default = f"`{field.default!r}`"
    elif field.default_factory is not None:
        default = "of this machine"
    meaning = meaning_of(kind, name).replace("|", "·")
    choices = choices_of(field.annotation)
    if choices:
        meaning += f" (one of {', '.join(f'`{choice}`' for choice in choices)})"
    return f"| `{name}` | {default} | {meaning} |"


def page() -> str:
    parts = [HEAD]
    for title, kind in SECTIONS.items():
        names = list(kind.model_fields)
        if kind is Recipe:
            names = [name for name in names if name not in Curation.model_fields]
        rows = [row(kind, name) for name in names]
        summary = inspect.getdoc(kind) or ""
        table = ["| key | default | meaning |", "| --- | --- | --- |", *rows]
        parts.append("\n".join([f"## {title}", "", summary, "", *table]) + "\n")
    return "\n".join(parts)


def main(arguments: list[str]) -> int:
    text = page()
    if "--check" not in arguments:
        PAGE.write_text(text)
        return 0
    if PAGE.read_text() != text:
        print(f"{PAGE.name} is not what the fields say; run python tools/params_docs.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
