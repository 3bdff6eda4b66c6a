"""Which students a study trains and tests: bases, arms × budgets × recipes, and controls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from wcse_lib import budget
from wcse_lib.store import StudyError
from wcse_lib.study import (
    MAIN,
    ArmOfModel,
    Machine,
    MixedArm,
    ModelSize,
    Paradigm,
    PlannedStudent,
    Source,
    Study,
    resolve_model,
    settings_of,
)


class Lesson(NamedTuple):
    """What a student of a base is trained on."""

    source: Source
    arm: str | None
    budget: str
    recipe: str | None

    def name(self, base: str) -> str:
        """The student's name: `base.arm.budget[.recipe]`, or `base.source` of a control."""
        parts = [base, self.source]
        if self.source in ("arm", "on_policy", "pooled"):
            parts = [base, self.arm or "pooled", self.budget]
        if self.recipe not in (None, MAIN):
            parts.append(self.recipe)
        return ".".join(parts)


def list_students(
    study: Study,
    n_parameters: Mapping[str, float | None],
    sizes: Mapping[str, ModelSize] | None = None,
) -> dict[str, PlannedStudent]:
    """Every student to train or test, by name: `base.arm.budget[.recipe][.sSEED]`, and per base its controls.

    Args: n_parameters: of every plain arm's model, None where unknown; sizes: of the students' models, where they are
    known already. Raises StudyError when two students would have one name, or a training setting cannot be.
    """
    students: dict[str, PlannedStudent] = {}
    for base, spec in study.students.items():
        size = (sizes or {}).get(spec.model) or budget.read_model(resolve_model(spec.model))
        counted = size.n_parameters
        if study.budget.parameters == "non_embedding":
            counted = size.n_non_embedding
        common = {
            "base": base,
            "model": spec.model,
            "n_parameters": size.n_parameters,
            "learning_rate": spec.learning_rate or study.training.rate,
        }
        _add(students, f"{base}.base", PlannedStudent(**common, source="base"))
        for lesson in _lessons(study, base):
            teachers = _teachers(study, lesson)
            paradigm: Paradigm | None = "opd"
            if lesson.source != "on_policy":
                paradigm = _paradigm(study, spec.model, counted, teachers, n_parameters)
            for seed in study.training.seeds:
                student = PlannedStudent(
                    **common | _own_rate(study, lesson),
                    **lesson._asdict(),
                    paradigm=paradigm,
                    seed=seed,
                    amount=study.training.amount[lesson.budget],
                )
                settings_of(
                    study, student, Machine()
                )  # refused here, not when samples are paid for
                tail = f".s{seed}" if len(study.training.seeds) > 1 else ""
                _add(students, lesson.name(base) + tail, student)
    return students


def _own_rate(study: Study, lesson: Lesson) -> dict[str, float]:
    """The learning rate of an on-policy arm, where it has one."""
    rate = None
    if lesson.source == "on_policy":
        rate = study.on_policy_arms[lesson.arm].learning_rate
    return {} if rate is None else {"learning_rate": rate}


def _add(students: dict, name: str, student: PlannedStudent) -> None:
    if name in students:
        raise StudyError(
            f"two students would be called {name!r}: rename the arm, recipe or budget that reads like it"
        )
    students[name] = student


def _lessons(study: Study, base: str) -> Iterator[Lesson]:
    """What the students of a base are trained on: arms by the main recipe, by others, on-policy arms, then controls."""
    spec, controls = study.students[base], study.controls
    taught_by, on_policy = [], []
    for arm in study.taught_by(base):
        (on_policy if arm in study.on_policy_arms else taught_by).append(arm)
    for budget_name in study.budget.samples:
        for arm in taught_by:
            yield Lesson("arm", arm, budget_name, MAIN)
    for recipe_name, recipe in study.recipes.items():
        if recipe.students is not None and base not in recipe.students:
            continue
        for budget_name in study.budget.samples:
            if recipe.budgets is not None and budget_name not in recipe.budgets:
                continue
            if recipe.pooled:
                yield Lesson("pooled", None, budget_name, recipe_name)
                continue
            for arm in taught_by:
                yield Lesson("arm", arm, budget_name, recipe_name)
    for budget_name in study.budget.samples:
        for arm in on_policy:
            yield Lesson("on_policy", arm, budget_name, MAIN)
    if controls.pooled:
        for budget_name in study.budget.samples:
            yield Lesson("pooled", None, budget_name, MAIN)
    if controls.planted and taught_by:
        own = study.budget.reference
        arm = own if own in taught_by else taught_by[0]
        yield Lesson("planted", arm, study.budget.largest, MAIN)
    if controls.reference:
        yield Lesson("reference", None, study.budget.largest, None)
    own = _own_arm(study, spec.model)
    if controls.wrong and own is not None:
        yield Lesson("wrong", own, study.budget.largest, None)


def _own_arm(study: Study, model: str) -> str | None:
    """The arm whose model the student is."""
    return next((arm for arm in study.plain_arms if _teacher(study, arm) == model), None)


def _teacher(study: Study, arm: str) -> str:
    """A plain arm's model; the student's own where it is what that student became in an earlier round."""
    spec = study.arms[arm]
    return study.students[spec.once].model if spec.once in study.students else spec.model


def _teachers(study: Study, lesson: Lesson) -> list[str]:
    """The plain arms whose samples the examples are; all for pooled examples and a mix by forecast."""
    if lesson.source not in ("arm", "pooled"):
        return []
    if lesson.arm is None:
        return list(study.plain_arms)
    spec = study.arms[lesson.arm]
    if isinstance(spec, MixedArm):
        return list(study.plain_arms) if spec.mix == "best" else list(spec.mix)
    return [lesson.arm] if isinstance(spec, ArmOfModel) else [spec.adaptive.of]


def _paradigm(
    study: Study, model: str, counted: int, teachers: list[str], n_parameters: Mapping
) -> Paradigm | None:
    """The largest teacher counts: `kd` when it is another model no smaller than the student, or of unknown size; `self`
    when it is the student itself; else `w2s`."""
    others = [arm for arm in teachers if _teacher(study, arm) != model]
    for arm in others:
        if n_parameters[arm] is None or n_parameters[arm] >= counted:
            return "kd"
    if len(others) < len(teachers):
        return "self"
    return "w2s" if teachers else None


def packages(study: Study, machine: Machine) -> list[str]:
    """Packages that the study's training needs and that are not installed here. Raises StudyError as `settings_of`."""
    missing: set[str] = set()
    for amount in study.training.amount.values():
        any_student = PlannedStudent(
            base="",
            model="",
            n_parameters=1,
            learning_rate=study.training.rate,
            source="arm",
            seed=0,
            amount=amount,
        )
        missing.update(settings_of(study, any_student, machine).missing())
    return sorted(missing)
