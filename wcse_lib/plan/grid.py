"""One file that stands for several studies: a grid, named cases, or rounds of self-improvement."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from wcse_lib.store import StudyError
from wcse_lib.study import (
    Count,
    Name,
    Strict,
    Study,
    check_study,
    fingerprint,
    read_yaml,
    resolve,
    validate,
)

LONGEST = 41  # characters of a study's name


class Grid(Strict):
    """What a grid file may say; dotted keys such as `arms.se.temperature` reach into the base study."""

    study: Name  # the first part of every study's name
    base: str  # the params file that all studies start from
    title: str = ""
    set: dict[str, Any] = {}  # keys that all studies change
    grid: dict[str, list[Any]] = {}  # every combination of these values
    cases: dict[Name, dict[str, Any]] = {}  # named changes, combined with the grid
    # self-improvement: each round samples with the student of the round before
    rounds: Count | None = None
    arm: Name | None = None  # rounds: the arm that samples
    student: Name | None = None  # rounds: the student that takes its place
    budget: Name | None = None  # rounds: the budget at which that student was trained
    # rounds: students are trained from the base each time, or go on
    start: Literal["base", "last"] = "base"

    @model_validator(mode="after")
    def _check(self):
        if bool(self.rounds) == bool(self.grid or self.cases):
            raise ValueError("either grid and cases, or rounds, is needed")
        if self.rounds and not (self.arm and self.student and self.budget):
            raise ValueError("rounds: arm, student and budget say who samples in the next round")
        return self


def is_grid(path: str | Path) -> bool:
    """Whether a params file stands for several studies."""
    return "base" in read_yaml(resolve(path))


def varied_keys(path: str | Path) -> list[str]:
    """The keys in which a grid file's studies differ, such as `seed` or `arms.se.temperature`."""
    spec = validate(Grid, read_yaml(resolve(path)), str(path))
    keys = list(spec.grid)
    for change in spec.cases.values():
        keys += change
    if spec.rounds:
        keys.append(f"arms.{spec.arm}.model")
    return list(dict.fromkeys(keys))


def expand(path: str | Path, outputs: str | Path = "outputs") -> dict[str, Study]:
    """The studies of a grid file by name, in the order in which they have to run.

    Args: outputs: where studies' folders lie; a round's generator is the student in the folder of the round before.
    Raises StudyError for a bad grid file, and for every study that its changes make invalid, naming both.
    """
    where = str(path)
    spec = validate(Grid, read_yaml(resolve(path)), where)
    base = read_yaml(resolve(spec.base))
    changes = _rounds(spec, base, Path(outputs)).items() if spec.rounds else _combinations(spec)
    titled = {"title": spec.title} if spec.title else {}
    studies = {}
    for label, change in changes:
        name = _study_name(spec.study, label)
        if name in studies:
            raise StudyError(
                f"{where}: two studies would be called {name!r}; write them as cases, which have names"
            )
        data = _changed(base, {**spec.set, **change}, where)
        studies[name] = check_study({**data, "study": name, **titled}, f"{where}, study {name}")
    return studies


def _study_name(study: str, label: str) -> str:
    """The study's name with its label; a long one ends in a hash of the label."""
    name = f"{study}-{label}"
    if len(name) <= LONGEST:
        return name
    return f"{name[: LONGEST - 7]}-{fingerprint(label)[:6]}"


def _combinations(spec: Grid) -> Iterator[tuple[str, dict]]:
    """A label and the changes of every case with every combination of the grid's values."""
    for case, change in (spec.cases or {"": {}}).items():
        for values in product(*spec.grid.values()):
            changes = dict(zip(spec.grid, values))
            labels = [_label(key, value) for key, value in changes.items()]
            yield "-".join([case, *labels] if case else labels), {**change, **changes}


def _rounds(spec: Grid, base: dict, outputs: Path) -> dict[str, dict]:
    """The changes of every round: the arm samples with the student of the round before."""
    training = base.get("training") or {}
    is_adapter = training.get("method", "full") != "full"
    # a whole model is needed to sample from
    every_round = {"training.merged": True} if is_adapter else {}
    rounds: dict[str, dict] = {"round1": every_round}
    student = f"{spec.student}.{spec.arm}.{spec.budget}"
    for number in range(2, spec.rounds + 1):
        trained = outputs / f"{spec.study}-round{number - 1}" / "04_finetune" / student
        model = str(trained / ("merged" if is_adapter else "model"))
        changes = {f"arms.{spec.arm}.model": model, f"arms.{spec.arm}.once": spec.student}
        if spec.start == "last":
            changes[f"students.{spec.student}.model"] = model
        rounds[f"round{number}"] = {**every_round, **changes}
    return rounds


def _label(key: str, value: Any) -> str:
    text = "-".join(map(str, value.values())) if isinstance(value, dict) else str(value)
    return re.sub(r"[^a-z0-9_-]+", "_", f"{key.rsplit('.', 1)[-1]}{text}".lower()).strip("_")


def _changed(data: dict, changes: dict[str, Any], where: str) -> dict:
    """A copy of nested mappings with dotted keys set."""
    for dotted, value in changes.items():
        first, _, rest = dotted.partition(".")
        inner = data.get(first) or {}
        if rest and not isinstance(inner, dict):
            raise StudyError(f"{where}: {dotted}: {first!r} holds {inner!r}, which has no keys")
        data = {**data, first: _changed(inner, {rest: value}, where) if rest else value}
    return data
