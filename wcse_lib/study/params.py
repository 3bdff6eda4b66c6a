"""A study: everything that a params file may say, checked strictly before any compute."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from wcse_lib.study.arms import (
    Adaptive,
    AdaptiveArm,
    ArmOfModel,
    ArmParams,
    Budget,
    DrawnArm,
    ImportedArm,
    MixedArm,
    OnPolicy,
    OnPolicyArm,
    Pilot,
    Power,
)
from wcse_lib.study.dataset import Dataset
from wcse_lib.study.fields import Name, Seed, Strict
from wcse_lib.study.machine import ENDPOINTS
from wcse_lib.study.primary import Primary, known
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
    seed: Seed = 0  # of problems, samples and training
    dataset: Dataset  # the problems
    prompt: Prompt = Prompt()  # what models are shown
    arms: Annotated[dict[Name, ArmParams], Field(min_length=1)]  # the generators
    budget: Budget  # what arms may spend, and how they are matched
    pilot: Pilot | None = None  # sampled first, for forecasts
    # the comparison that is the headline, named before anything is drawn; none: all are one family
    primary: Primary | None = None
    power: Power = Power()  # assumptions about what it could see
    sampling: Sampling = Sampling()  # how arms sample
    verification: Verification = Verification()  # how samples are judged
    curation: Curation = Curation()  # which samples become examples
    recipes: dict[Name, Recipe] = {}  # further ways of choosing: ablations
    students: dict[Name, Student] = {}  # base models to finetune; none: a study of samples alone
    training: Training = Training()  # how they are finetuned
    evaluation: Evaluation = Evaluation()  # how they are tested
    controls: Controls = Controls()  # students that show what the study can see

    @model_validator(mode="before")
    @classmethod
    def _imported_arms_have_names(cls, data: Any) -> Any:
        """An imported arm without a model is called by its own name in every table."""
        arms = data.get("arms") if isinstance(data, dict) else None
        if not isinstance(arms, dict):
            return data
        named = {}
        for name, arm in arms.items():
            is_import = isinstance(arm, dict) and arm.get("engine") == "import"
            given = {"model": name} if is_import and "mix" not in arm else {}
            named[name] = given | arm if given and arm.get("model") is None else arm
        return data | {"arms": named}

    @model_validator(mode="after")
    def _names_exist(self):
        """Arms, students and budgets that are named elsewhere must be there."""
        known("budget.reference", self.budget.reference, "arm", self.arms)
        for name, student in self.students.items():
            for arm in student.arms or []:
                known(f"students.{name}.arms", arm, "arm", self.arms)
        for name, recipe in self.recipes.items():
            for student in recipe.students or []:
                known(f"recipes.{name}.students", student, "student", self.students)
            for budget in recipe.budgets or []:
                known(f"recipes.{name}.budgets", budget, "budget", self.budget.samples)
            if recipe.pick and not self.students:
                raise ValueError(f"recipes.{name}.pick: needs students, whose fit it goes by")
            if recipe.pooled and len(self.plain_arms) < 2:
                raise ValueError(f"recipes.{name}.pooled: needs two arms with models of their own")
        if self.primary is not None:
            self.primary.check(self.arms, self.budget.samples, self.students)
        return self

    @model_validator(mode="after")
    def _students_can_be_trained_and_tested(self):
        if not self.students:
            return self
        if self.budget.first:
            raise ValueError("budget.first: is a pilot's, which has no students; write pilot.first")
        taught: set[str] = set()
        for student in self.students.values():
            taught.update(self.arms if student.arms is None else student.arms)
        if unnamed := set(self.arms) - taught:
            raise ValueError(
                f"arms.{min(unnamed)}: no student names this arm; name it or remove it"
            )
        if missing := set(self.budget.samples) - set(self.training.amount):
            raise ValueError(f"training.amount: no entry for budget {min(missing)!r}")
        self.dataset.check_held_out()
        rates = [student.learning_rate for student in self.students.values()]
        several = [rate for rate in [self.training.rate, *rates] if _is_several(rate)]
        if several and not self.dataset.n_validation:
            raise ValueError(
                "dataset.n_validation: several learning rates need validation problems to choose by"
            )
        return self

    @model_validator(mode="after")
    def _arms_can_be_drawn(self):
        for name, arm in self.arms.items():
            self._check_parts(name, arm)
            if self.budget.reference == name and not isinstance(arm, ArmOfModel):
                raise ValueError(f"budget.reference: {name!r} has no model of its own")
            if isinstance(arm, DrawnArm | AdaptiveArm) and self.temperature(arm) == 0:
                self._check_greedy(name)
            if isinstance(arm, DrawnArm):
                self._check_batches(name, arm)
        return self

    @model_validator(mode="after")
    def _students_can_be_scored(self):
        """An on-policy arm scores by a local model, and is paid what the students of that model's samples cost."""
        for name, spec in self.on_policy_arms.items():
            self._check_scorer(name, spec)
            for base, student in self.students.items():
                if name in self.taught_by(base) and spec.of not in self.taught_by(base):
                    raise ValueError(
                        f"students.{base}.arms: {name} may spend what learning from {spec.of}'s samples costs, so "
                        f"name {spec.of} too"
                    )
                rate = spec.learning_rate or student.learning_rate or self.training.rate
                if name in self.taught_by(base) and _is_several(rate):
                    raise ValueError(
                        f"arms.{name}.on_policy.learning_rate: one is needed, as several would each have a part of "
                        f"the budget of {base}"
                    )
        return self

    @model_validator(mode="after")
    def _forecasts_have_a_pilot(self):
        remedy = "add pilot: {n_problems: 50, n_samples: 8}"
        if self.pilot is not None:
            return self
        if self.budget.match in ("examples", "coverage"):
            raise ValueError(f"budget.match = {self.budget.match}: needs a pilot; {remedy}")
        for name, arm in self.arms.items():
            if isinstance(arm, MixedArm) and arm.mix == "best":
                raise ValueError(f"arms.{name}.mix: best needs a pilot; {remedy}")
        return self

    @model_validator(mode="after")
    def _samples_can_be_judged(self):
        by, judge = self.verification.by, self.verification.judge
        if (by == "task") != (self.dataset.name == "reasoning_gym"):
            raise ValueError(
                "verification.by: task goes with dataset.name: reasoning_gym, and only with it"
            )
        if by == "tests" and not self.dataset.columns.tests:
            raise ValueError("dataset.columns.tests: needed for verification.by: tests")
        if judge == "exact" and self.dataset.name != "nano":
            raise ValueError(
                "verification.judge: exact is for the nano lab; "
                "write arithmetic, model, human or none"
            )
        if by == "program" and self.dataset.columns.tests:
            raise ValueError(
                "dataset.columns.tests: goes with verification.by: tests; a program is given all columns"
            )
        has_own_judge = by in ("answer", "task") or self.dataset.name == "nano"
        judges_nothing = judge in ("none", "human") or (judge == "auto" and not has_own_judge)
        choices = {f"recipes.{name}": recipe for name, recipe in self.recipes.items()}
        for key, choice in {**choices, "curation": self.curation}.items():
            if choice.filter == "judge" and judges_nothing:
                raise ValueError(
                    f"{key}.filter: judge needs verification.judge: exact, arithmetic or model"
                )
        return self

    @model_validator(mode="after")
    def _merged_weights_are_made(self):
        makes_them = self.training.merged and self.training.method != "full"
        if self.evaluation.merged and not makes_them:
            raise ValueError(
                "evaluation.merged: needs training.merged: true, and training.method: lora or qlora"
            )
        return self

    @property
    def prompt_of_students(self) -> Prompt:
        """What trained students are shown, in training, validation and tests."""
        if self.training.shots:
            return self.prompt
        return self.prompt.model_copy(update={"shots": None})

    @property
    def n_draws(self) -> int:
        """How many times every arm's budgets are drawn: once for each training seed, or once for all."""
        is_own = self.students and self.training.draws == "own"
        return len(self.training.seeds) if is_own else 1

    def draw_of(self, seed: int) -> int:
        """The draw that a training seed's students learn from."""
        return self.training.seeds.index(seed) if self.n_draws > 1 else 0

    @property
    def order(self) -> list[str]:
        """The arms that have samples, as they have to be drawn: those that draw from others come after these."""
        return sorted(self.sampled_arms, key=lambda name: name not in self.plain_arms)

    @property
    def sampled_arms(self) -> dict[str, ArmParams]:
        """The arms that have samples: all but on-policy ones."""
        arms = self.arms.items()
        return {name: arm for name, arm in arms if not isinstance(arm, OnPolicyArm)}

    @property
    def on_policy_arms(self) -> dict[str, OnPolicy]:
        """The arms that write no samples, and score what students write."""
        arms = self.arms.items()
        return {name: arm.on_policy for name, arm in arms if isinstance(arm, OnPolicyArm)}

    def taught_by(self, base: str) -> list[str]:
        """The arms that teach the students of a base, in their order."""
        wanted = self.students[base].arms
        return [name for name in self.arms if wanted is None or name in wanted]

    @property
    def plain_arms(self) -> dict[str, DrawnArm | ImportedArm]:
        """The arms that have a model of their own: what mixes and adaptive arms draw from."""
        return {name: arm for name, arm in self.arms.items() if isinstance(arm, ArmOfModel)}

    @property
    def engines(self) -> set[str]:
        """What draws samples of arms, judge and students, and makes vectors at an endpoint: local, openai or batch;
        files draw none."""
        found = {arm.engine for arm in self.plain_arms.values()} - {"import"}
        if self.verification.model_judge:
            found.add(self.verification.model_judge.engine)
        if self.dataset.meaning and self.dataset.meaning.engine == "openai":
            found.add("openai")
        return found | {"local"} if self.students else found

    def rule_of(self, name: str) -> Adaptive | None:
        """How an arm's samples are spread over problems by what came before; None where all get alike."""
        arm = self.arms[name]
        if isinstance(arm, AdaptiveArm):
            return arm.adaptive
        if isinstance(arm, DrawnArm) and self.budget.first:
            return Adaptive(of=name, rule="unsolved", first=self.budget.first)
        return None

    def temperature(self, arm: ArmParams) -> float:
        own = arm.temperature if isinstance(arm, ArmOfModel) else None
        return self.sampling.temperature if own is None else own

    def top_k(self, arm: ArmParams) -> int:
        """As the params file says; else as in the paper, but off for endpoints, of which many refuse the name."""
        is_endpoint = isinstance(arm, DrawnArm) and arm.engine in ENDPOINTS
        is_off = is_endpoint and self.sampling.top_k is None
        return 0 if is_off else self.sampling.local_top_k

    def _check_parts(self, name: str, arm: ArmParams) -> None:
        """The arms that a mix or an adaptive arm draws from have models, and can be drawn."""
        parts: list[str] = []
        if isinstance(arm, MixedArm) and arm.mix != "best":
            parts = list(arm.mix)
        elif isinstance(arm, AdaptiveArm):
            parts = [arm.adaptive.of]
        for part in parts:
            if part not in self.plain_arms:
                known = ", ".join(self.plain_arms)
                raise ValueError(
                    f"arms.{name}: {part!r} is no arm with a model; such arms are {known}"
                )
        if not isinstance(arm, AdaptiveArm):
            return
        rule, parent = arm.adaptive, self.arms[arm.adaptive.of]
        if isinstance(parent, ImportedArm):
            raise ValueError(
                f"arms.{name}.adaptive.of: {rule.of!r} is imported, and cannot be drawn from"
            )
        if rule.rule == "likelihood" and parent.engine in ENDPOINTS:
            raise ValueError(
                f"arms.{name}.adaptive.rule: likelihood needs a local model, which says how likely every token is, and "
                f"{rule.of!r} is an endpoint's; take another rule"
            )

    def _check_scorer(self, name: str, spec: OnPolicy) -> None:
        key, scorer = f"arms.{name}.on_policy", self.arms.get(spec.of)
        if not (isinstance(scorer, DrawnArm) and scorer.engine == "local"):
            raise ValueError(
                f"{key}.of: {spec.of!r} is no arm with a local model, which alone says how likely every token is"
            )
        if not self.students:
            raise ValueError(
                f"{key}: scores what students write, and this study has none; remove it"
            )
        if self.training.backend != "trl":
            raise ValueError(f"{key}: goes with training.backend: trl alone; Unsloth was not tried")

    def _check_batches(self, name: str, arm: DrawnArm) -> None:
        if self.budget.batch and arm.engine == "openai":
            raise ValueError(
                f"budget.batch: {name} is drawn call by call, at the full price; write engine: batch "
                "for it, or leave budget.batch out"
            )
        if self.budget.match == "seconds" and arm.engine == "batch":
            raise ValueError(
                f"budget.match: seconds: {name} is drawn in batches, whose waiting says nothing of "
                "the machine; write engine: openai, or match otherwise"
            )

    def _check_greedy(self, name: str) -> None:
        if max(self.budget.samples.values()) > 1:
            raise ValueError(
                f"arms.{name}: temperature 0 draws the same sample every time, "
                "but budgets ask for several; raise it"
            )


def _is_several(rate: float | list[float] | None) -> bool:
    return isinstance(rate, list) and len(rate) > 1
