"""A study: everything that a params file may say, checked strictly before any compute."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from wcse_lib.study.arms import ArmParams, Budget, Pilot, Power
from wcse_lib.study.dataset import Dataset
from wcse_lib.study.fields import Name, Strict
from wcse_lib.study.stages import (
    Controls,
    Curation,
    Evaluation,
    Prompt,
    Recipe,
    Sampling,
    Student,
    Training,
    Verification,
)


class Study(Strict):
    """Everything that a params file may say."""

    study: Name  # names the output folder
    title: str = ""  # the question, as the report's heading
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0  # of problems, samples and training
    dataset: Dataset  # the problems
    prompt: Prompt = Prompt()  # what models are shown
    arms: Annotated[dict[Name, ArmParams], Field(min_length=1)]  # the generators
    budget: Budget  # what arms may spend, and how they are matched
    pilot: Pilot | None = None  # sampled first, for forecasts
    power: Power = Power()  # assumptions about what it could see
    sampling: Sampling = Sampling()  # how arms sample
    verification: Verification = Verification()  # how samples are judged
    curation: Curation = Curation()  # which samples become examples
    recipes: dict[Name, Recipe] = {}  # further ways of choosing: ablations
    students: dict[Name, Student] = {}  # base models to finetune; none: a study of samples alone
    training: Training = Training()  # how they are finetuned
    evaluation: Evaluation = Evaluation()  # how they are tested
    controls: Controls = Controls()  # students that show whether the study can tell

    @model_validator(mode="after")
    def _check(self):
        if self.budget.reference not in self.arms:
            raise ValueError(
                f"budget.reference: {self.budget.reference!r} is no arm; arms are {', '.join(self.arms)}"
            )
        for name, student in self.students.items():
            for arm in student.arms or []:
                if arm not in self.arms:
                    raise ValueError(
                        f"students.{name}.arms: {arm!r} is no arm; arms are {', '.join(self.arms)}"
                    )
        named = {
            arm
            for s in self.students.values()
            for arm in (s.arms if s.arms is not None else self.arms)
        }
        if self.students and set(self.arms) - named:
            raise ValueError(
                f"arms.{min(set(self.arms) - named)}: no student names this arm; name it or remove it"
            )
        if self.students and (missing := set(self.budget.samples) - set(self.training.amount)):
            raise ValueError(f"training.amount: no entry for budget {min(missing)!r}")
        if self.budget.match in ("examples", "coverage") and self.pilot is None:
            raise ValueError(
                f"budget.match = {self.budget.match}: needs a pilot; add pilot: {{n_problems: 50, n_samples: 8}}"
            )
        if self.students and not self.dataset.n_held_out and not self.dataset.held_out:
            raise ValueError("dataset.n_held_out: students need held-out problems")
        for name, arm in self.arms.items():
            self._check_arm(name, arm)
        for name, recipe in self.recipes.items():
            for key, known in (("students", self.students), ("budgets", self.budget.samples)):
                for value in getattr(recipe, key) or []:
                    if value not in known:
                        raise ValueError(
                            f"recipes.{name}.{key}: {value!r} is not among {', '.join(known) or 'none'}"
                        )
        rates = [self.training.rate, *(s.learning_rate for s in self.students.values())]
        if (
            any(isinstance(rate, list) and len(rate) > 1 for rate in rates)
            and not self.dataset.n_validation
        ):
            raise ValueError(
                "dataset.n_validation: several learning rates need validation problems to choose by"
            )
        if self.budget.batch and (
            live := [name for name, arm in self.arms.items() if arm.engine == "openai"]
        ):
            raise ValueError(
                f"budget.batch: {live[0]} is drawn call by call, at the full price; only imported samples can have been bought in batches"
            )
        if self.evaluation.merged and not (self.training.merged and self.training.method != "full"):
            raise ValueError(
                "evaluation.merged: needs training.merged: true, and training.method: lora or qlora"
            )
        if (self.verification.by == "task") != (self.dataset.name == "reasoning_gym"):
            raise ValueError(
                "verification.by: task goes with dataset.name: reasoning_gym, and only with it"
            )
        if self.verification.by == "tests" and not self.dataset.columns.tests:
            raise ValueError("dataset.columns.tests: needed for verification.by: tests")
        if self.verification.judge == "exact" and self.dataset.name != "nano":
            raise ValueError(
                "verification.judge: exact is for the nano lab; write arithmetic, model, human or none"
            )
        needs_judge = [f"recipes.{n}" for n, r in self.recipes.items() if r.filter == "judge"]
        needs_judge += ["curation"] * (self.curation.filter == "judge")
        no_judge = "none", "human", *(["auto"] if self.verification.by == "tests" else [])
        if needs_judge and self.verification.judge in no_judge:
            raise ValueError(
                f"{needs_judge[0]}.filter: judge needs verification.judge: exact, arithmetic or model"
            )
        return self

    @property
    def order(self) -> list[str]:
        """The arms as they have to be drawn: those that draw from others come after these."""
        return sorted(self.arms, key=lambda name: self.arms[name].model is None)

    def temperature(self, arm: ArmParams) -> float:
        return self.sampling.temperature if arm.temperature is None else arm.temperature

    def _check_arm(self, name: str, arm: ArmParams) -> None:
        plain = [n for n, a in self.arms.items() if a.model is not None]
        parts = (
            list(arm.mix)
            if isinstance(arm.mix, dict)
            else [arm.adaptive.of]
            if arm.adaptive
            else []
        )
        if lost := [part for part in parts if part not in plain]:
            raise ValueError(
                f"arms.{name}: {lost[0]!r} is no arm with a model; such arms are {', '.join(plain)}"
            )
        if isinstance(arm.mix, dict) and abs(sum(arm.mix.values()) - 1) > 1e-6:
            raise ValueError(
                f"arms.{name}.mix: the shares sum to {sum(arm.mix.values()):g}; they must sum to 1"
            )
        if arm.mix == "best" and self.pilot is None:
            raise ValueError(
                f"arms.{name}.mix: best needs a pilot; add pilot: {{n_problems: 50, n_samples: 8}}"
            )
        if arm.adaptive and self.arms[arm.adaptive.of].engine == "import":
            raise ValueError(
                f"arms.{name}.adaptive.of: {arm.adaptive.of!r} is imported, and cannot be drawn from"
            )
        if self.budget.reference == name and arm.model is None:
            raise ValueError(f"budget.reference: {name!r} has no model of its own")
        if (
            self.temperature(arm) == 0
            and arm.engine != "import"
            and any(n > 1 for n in self.budget.samples.values())
        ):
            raise ValueError(
                f"arms.{name}: temperature 0 draws the same sample every time, but budgets ask for several; raise it"
            )
