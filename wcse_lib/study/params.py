"""A study's parameters: what a params file may say, checked strictly before any compute, and where its files lie."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import shutil
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import pandas as pd
import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from wcse_lib.answers import STYLES, Policy
from wcse_lib.nano import MODELS
from wcse_lib.store import (
    StudyError,
    count_rows,
    is_complete,
    read_json,
    read_parquet,
    sha256,
    write_text,
)

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]
Count = Annotated[int, Field(ge=1)]
Positive = Annotated[float, Field(gt=0)]


def _known_style(value: str) -> str:
    if value not in STYLES:
        raise ValueError(f"no such answer style; styles are {', '.join(STYLES)}")
    return value


Style = Annotated[str, AfterValidator(_known_style)]
STAGES = ("01_plan", "02_generate", "03_verify", "04_finetune", "05_evaluate", "06_analyze")


class Strict(BaseModel):
    """No unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Columns(Strict):
    """Which fields of a file hold what; `a.b` reaches into nested objects, a list's items become lines."""

    question: str = "question"  # a field, or a text with fields in it: "{text}\n{test_list}"
    answer: str = "answer"  # the gold answer, or a text that it is read out of
    solution: str | None = None  # a reference solution, for the control students
    level: str | None = None  # difficulty, for dataset.levels and tables
    problem_id: str | None = None  # numbered by their place when left out
    tests: str | None = (
        None  # code tasks: tests to run after the answer's code; `answer` is then not read
    )
    entry_point: str | None = (
        None  # code tasks: the function's name, where tests define `check(candidate)` (HumanEval)
    )

    @model_validator(mode="after")
    def _check(self):
        if self.entry_point and not self.tests:
            raise ValueError("entry_point: goes with tests")
        return self


class Held(Strict):
    """A further held-out set that students are tested on, beside the dataset's own (transfer)."""

    path: Annotated[
        str, Field(min_length=1)
    ]  # a file (JSONL, CSV, Parquet), or a split of a hub's dataset
    hub: str | None = (
        None  # that dataset's hub id or folder; the study's own (path, config) when left out
    )
    config: str | None = None  # with hub
    columns: Columns | None = None  # the dataset's when left out
    answer_style: Style | None = None  # likewise
    n: Count | None = None  # so many of its problems; all when left out


class Dataset(Strict):
    """The problems: the nano lab's, rows of files, a datasets folder or hub id, or a reasoning-gym task."""

    name: Literal["nano", "files", "hub", "reasoning_gym"] = "nano"
    path: str | None = None  # hub: a hub id or a folder that `datasets.load_dataset` reads
    config: str | None = None  # hub: the dataset's configuration
    task: str | None = None  # reasoning_gym: the task's name
    options: dict[str, Any] = {}  # reasoning_gym: the task's own parameters
    train: str | None = (
        None  # files: path of the problems that arms sample on (JSONL, CSV, Parquet); hub: the split
    )
    held_out: str | None = None  # likewise, of the problems that students are tested on
    transfer: dict[Name, Held] = {}  # further held-out sets
    columns: Columns = Columns()  # which fields hold what
    answer_style: Style = "auto"  # how the gold answer is read out of the answer field
    n_train: Count | None = None  # all when left out
    n_validation: Annotated[int, Field(ge=0)] = 0  # taken from the end of the training problems
    n_held_out: Annotated[int, Field(ge=0)] | None = (
        None  # all when left out; nano and reasoning_gym: needed where there are students
    )
    shuffle: bool = False  # by the study's seed, before subsets are taken
    levels: list[int | str] | None = (
        None  # only these, as they stand in columns.level; nano: 1 to 4
    )
    decontaminate: bool = True  # leave out training problems that stand, nearly word for word, among the held-out ones
    ngram: Annotated[int, Field(ge=3)] = 13  # words in a row that make a training problem a copy

    @model_validator(mode="after")
    def _check(self):
        if self.name in ("files", "hub") and not self.train:
            raise ValueError(
                f"train: needed for name: {self.name} ({'a path' if self.name == 'files' else 'a split'})"
            )
        if self.name in ("nano", "reasoning_gym") and (
            self.train or self.held_out or self.transfer
        ):
            raise ValueError(
                "train, held_out, transfer: only for name: files or hub; this dataset draws its own problems"
            )
        if self.name in ("nano", "reasoning_gym") and self.n_train is None:
            raise ValueError(f"n_train: a number is needed for name: {self.name}")
        for key, name in {"path": "hub", "task": "reasoning_gym"}.items():
            if (self.name == name) != bool(getattr(self, key)):
                raise ValueError(f"{key}: needed for name: {name}, and only there")
        if self.levels is not None and self.name != "nano" and not self.columns.level:
            raise ValueError("levels: need columns.level, the field that holds a problem's level")
        if reserved := {"train", "validation", "held_out"} & set(self.transfer):
            raise ValueError(f"transfer.{min(reserved)}: this name is taken; choose another")
        for name, held in self.transfer.items():
            if held.columns and bool(held.columns.tests) != bool(self.columns.tests):
                raise ValueError(
                    f"transfer.{name}.columns.tests: needed where dataset.columns.tests is set, and only there"
                )
        if self.levels is not None and not self.levels:
            raise ValueError("levels: at least one level is needed; leave the key out to take all")
        if self.name == "nano" and not set(self.levels or []) <= {1, 2, 3, 4}:
            raise ValueError(f"levels = {self.levels}: the nano lab has levels 1 to 4")
        return self


class SampleColumns(Strict):
    """Which fields of an imported file hold what."""

    text: str = "text"  # the sample
    question: str | None = None  # joins a row to its problem by the question's text …
    problem_id: str | None = None  # … or by its id
    n_tokens: str | None = None  # its length; counted by `tokenizer` when left out
    sample_index: str | None = (
        None  # a problem's samples in this order; the file's order when left out
    )
    finish_reason: str | None = (
        None  # length marks a truncated sample; all others count as finished
    )


class Adaptive(Strict):
    """An arm that spends another arm's budget unevenly over the problems, by what its first samples say."""

    of: Name  # the arm whose model and budget it has
    rule: Literal["difficulty", "stop"] = (
        "difficulty"  # shares follow the failure rate (DART-Math) | stop at `correct`
    )
    first: Count = 2  # samples of every problem before anything is decided
    correct: Count = 4  # stop: enough correct samples of a problem


class ArmParams(Strict):
    """One generator at its share of the budget; or a mix of other arms, or an adaptive arm, at the same budget."""

    model: str | None = None  # nano name, checkpoint folder, hub id or endpoint model name
    engine: Literal["local", "openai", "import"] = (
        "local"  # local: the machine file says which engine
    )
    path: str | None = None  # import: a JSONL, CSV or Parquet file
    columns: SampleColumns | None = None  # import
    tokenizer: str | None = None  # import: counts the tokens where the file does not
    mix: dict[Name, Positive] | Literal["best"] | None = (
        None  # budget shares of other arms; best: by the pilot's forecast
    )
    adaptive: Adaptive | None = None  # spend another arm's budget unevenly over problems
    once: Name | None = (
        None  # the student that this model became in an earlier round of self-improvement
    )
    temperature: Annotated[float, Field(ge=0, le=5)] | None = (
        None  # instead of sampling.temperature
    )
    n_parameters: Positive | None = None  # where no checkpoint can be read
    n_active_parameters: Positive | None = None  # of a mixture of experts: what one token uses
    usd_per_million_tokens: Positive | None = (
        None  # output price, for match: price; else from params/prices.yaml
    )
    usd_per_million_prompt_tokens: Annotated[float, Field(ge=0)] | None = (
        None  # input price; goes with the key above
    )
    tokens_per_sample: Positive | None = (
        None  # for budget.lengths: measured, where there is no pilot
    )

    @model_validator(mode="after")
    def _check(self):
        if sum(x is not None for x in (self.model, self.mix, self.adaptive)) != 1:
            raise ValueError("exactly one of model, mix and adaptive is needed")
        if (self.engine == "import") != bool(self.path):
            raise ValueError("path: needed with engine: import, and only there")
        if self.engine == "import" and not (
            self.columns and (self.columns.question or self.columns.problem_id)
        ):
            raise ValueError(
                "columns: an imported arm needs columns.text and columns.question or columns.problem_id"
            )
        if self.usd_per_million_prompt_tokens is not None and self.usd_per_million_tokens is None:
            raise ValueError(
                "usd_per_million_prompt_tokens: goes with usd_per_million_tokens; give both, or neither to take the price table's"
            )
        return self


class Budget(Strict):
    """What arms may spend: the reference arm's samples per problem at each named budget, and how others are matched."""

    reference: Name  # the arm whose samples are counted in `samples`
    samples: Annotated[dict[Name, Count], Field(min_length=1)] = {
        "low": 1,
        "high": 10,
    }  # samples a problem of the reference arm, at each budget by name
    match: Literal["flops", "price", "seconds", "count", "examples", "coverage"] = "flops"
    parameters: Literal["all", "non_embedding"] = "all"
    lengths: Literal["equal", "measured"] = (
        "equal"  # the paper's rule | the pilot's mean tokens of each arm
    )
    # charge prompts: not | once a problem | with every sample | in full once and then from a cache (USD: at that price)
    prompt_tokens: Literal["none", "once", "each", "cached"] = "none"
    attention: bool = False  # add attention FLOPs
    prices: str = "params/prices.yaml"  # a dated price table, for arms without a price of their own
    price_date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")] | None = (
        None  # as of then; newest when left out
    )
    batch: bool = False  # at the price table's batch discount

    @field_validator("samples")
    @classmethod
    def _rising(cls, samples: dict[str, int]) -> dict[str, int]:
        """From the smallest to the largest, however the file orders them: controls and figures take the last for the largest."""
        return dict(sorted(samples.items(), key=lambda item: item[1]))


class Pilot(Strict):
    """A small study of the same arms, sampled first, from which 01 forecasts (without students)."""

    n_problems: Annotated[int, Field(ge=10)] = 50  # training problems that it takes
    n_samples: Annotated[int, Field(ge=2)] = 8  # of every problem and arm
    folder: str | None = (
        None  # a finished study's folder whose samples of the same arms serve instead
    )


class Power(Strict):
    """What 01 assumes when it says which differences the study could see."""

    correlation: Annotated[float, Field(gt=-1, lt=1)] = (
        0.5  # of two students' answers to the same problems; of two arms', a pilot tells
    )
    rate: Annotated[float, Field(gt=0, lt=1)] = (
        0.5  # of success: 0.5 is the hardest case; of arms, a pilot tells
    )
    seed_sd_points: Annotated[float, Field(ge=0)] = (
        1.0  # spread of a student's accuracy over training seeds
    )


class Sampling(Strict):
    """How arms sample."""

    temperature: Annotated[float, Field(ge=0, le=5)] = 0.7  # 0 is greedy
    top_k: Annotated[int, Field(ge=0)] = 3  # 0: off
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # 1: off
    max_tokens: Count = 512  # a sample that is longer is cut there and has no answer
    stop: list[
        Annotated[str, Field(min_length=1)]
    ] = []  # texts that end a sample, beside the prompt style's own


class Prompt(Strict):
    """The text that a model is shown: its chat template, or a plain text with optional worked examples before it."""

    style: Literal["chat", "plain"] = "chat"
    template: str = "{question}"  # the user's turn, or the plain text
    shots: str | None = (
        None  # worked examples: math_4shot, gsm8k_8shot, or a text file, with {question} at its end
    )
    system: str | None = None  # chat: a system message
    answer_style: Style = "auto"  # how final answers are read out of samples
    thinking: bool = (
        False  # samples hold a <think> part: max_tokens covers it, students do not learn it
    )

    @field_validator("template")
    @classmethod
    def _has_question(cls, value: str) -> str:
        if value.count("{question}") != 1:
            raise ValueError("must contain {question} exactly once")
        return value

    @model_validator(mode="after")
    def _check(self):
        if self.system is not None and self.style == "plain":
            raise ValueError("system: only for style: chat; a plain text has no system message")
        return self


class ModelJudge(Strict):
    """A model that judges the reasoning of samples, at a cost that stands on the ledger."""

    model: Annotated[str, Field(min_length=1)]  # checkpoint folder, hub id or endpoint model name
    engine: Literal["local", "openai"] = "local"
    n_per_arm: Count | None = None  # judge a random part of the correct samples; all when left out
    max_tokens: Count = 512  # of its judgement
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0  # 0: greedy


class Verification(Strict):
    """How samples are judged."""

    by: Literal["answer", "tests", "task"] = (
        "answer"  # final answer | run the problem's tests | reasoning-gym's scorer
    )
    judge: Literal["auto", "exact", "arithmetic", "model", "human", "none"] = (
        "auto"  # auto: exact for nano, else arithmetic
    )
    model_judge: ModelJudge | None = None  # also judge by a model
    policy: dict[
        str, bool | int | str
    ] = {}  # where reasonable people differ: see answers.POLICY_TABLE
    seconds: Positive = 5.0  # per sample: symbolic comparison or test run

    @model_validator(mode="after")
    def _check(self):
        if self.judge == "model" and self.model_judge is None:
            raise ValueError("model_judge: needed for judge: model")
        if self.judge == "none" and self.model_judge:
            raise ValueError("model_judge: of no use with judge: none; leave one of them out")
        if unknown := set(self.policy) - set(names := [field.name for field in fields(Policy)]):
            raise ValueError(
                f"policy.{min(unknown)}: no such policy; policies are {', '.join(names)}"
            )
        if self.policy and self.by != "answer":
            raise ValueError("policy: only for by: answer")
        Policy(**self.policy)
        return self


class Curation(Strict):
    """Which samples become examples."""

    filter: Literal["gold", "judge", "none"] = "gold"
    unique: Literal["none", "text", "normalised", "equations"] = "text"
    per_problem: Count | None = None  # at most so many of a problem; all when left out
    n_samples: Count | Literal["reference"] | None = (
        None  # only the first n samples a problem; reference: number-matched
    )
    n_problems: Count | None = None  # only so many problems
    n_examples: Count | Literal["equal"] | None = (
        None  # exactly so many; equal: as many as the arm with fewest
    )
    noise: Annotated[float, Field(ge=0, lt=1)] = 0.0  # share of wrong examples

    @model_validator(mode="after")
    def _check(self):
        if self.noise and self.filter == "none":
            raise ValueError("noise: needs filter: gold or judge, which tell right from wrong")
        return self


class Recipe(Curation):
    """A further way of choosing examples from the same samples: an ablation with students of its own."""

    students: list[Name] | None = None  # all when left out
    budgets: list[Name] | None = None  # all when left out


class Student(Strict):
    """A base model that is finetuned on arms' examples."""

    model: Annotated[str, Field(min_length=1)]  # nano name, checkpoint folder or hub id
    arms: list[Name] | None = None  # all when left out
    learning_rate: Positive | list[Positive] | None = None  # instead of training.learning_rate


class Training(Strict):
    """How students are finetuned; every arm of a budget gets the same steps (or epochs, or tokens)."""

    backend: Literal["trl", "unsloth"] = "trl"
    method: Literal["full", "lora", "qlora"] = "full"
    mode: Literal["steps", "epochs", "tokens"] = "steps"
    amount: dict[Name, Positive] = {"low": 600, "high": 6000}  # by budget
    batch_size: Count = 32  # rows a step; halved with gradients accumulated where memory lacks
    # of several, validation chooses; when left out 1e-5 for full (as in the paper), 2e-4 for lora and qlora (Unsloth's notebooks')
    learning_rate: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
    optimizer: Annotated[str, Field(min_length=1)] = "adamw_torch"  # a name that transformers knows
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05  # share of the steps
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = (
        "linear"  # of the learning rate
    )
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # AdamW's
    packing: bool = False  # rows end to end instead of padded; each sees itself alone (trl)
    gradient_checkpointing: bool = False  # less memory, more time
    n_checkpoints: Count = 10  # equally spaced; validation chooses among them
    max_tokens: Count = 2048  # prompt and completion; longer rows are dropped and counted
    micro_batch_size: Annotated[int, Field(ge=0)] = (
        0  # rows in memory at a time, a divisor of batch_size; 0: all of it
    )
    lora_rank: Count = 16  # of lora and qlora
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # likewise
    lora_alpha: Positive | None = None  # the rank when left out
    lora_targets: list[str] | None = None  # all linear layers when left out
    merged: bool = False  # lora: also leave the adapter merged into its base, which can be an arm's or student's model
    report_to: list[str] = []  # trackio, wandb, mlflow, tensorboard: whatever is installed
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)] = [
        0
    ]  # a student is trained once with each

    @property
    def rate(self) -> float | list[float]:
        return self.learning_rate or (1.0e-5 if self.method == "full" else 2.0e-4)

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("a seed stands twice: each names a student of its own")
        return seeds


class Evaluation(Strict):
    """How students are tested on held-out problems: one greedy sample, and `n_samples` drawn ones."""

    n_samples: Count = 8  # drawn of every held-out problem, beside the greedy one
    temperature: Annotated[float, Field(gt=0, le=5)] = 0.7  # of the drawn ones
    top_k: Annotated[int, Field(ge=0)] = 0  # 0: off
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # 1: off
    max_tokens: Count = 512  # longer answers are cut, and count as wrong
    maj_k: list[Count] = [1, 4, 8]  # k of maj@k and pass@k
    merged: bool = False  # test an adapter merged into its base (training.merged) instead of both

    @model_validator(mode="after")
    def _check(self):
        if any(k > self.n_samples for k in self.maj_k):
            raise ValueError(f"maj_k: k may not exceed n_samples = {self.n_samples}")
        return self


class Controls(Strict):
    """Students that show whether the study can tell good data from bad, and baselines."""

    reference: bool = True  # trained on the problems' reference solutions
    wrong: bool = True  # trained on their own wrong samples (students that are arms too)
    pooled: bool = False  # trained on all arms' examples of a budget together


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


class Endpoint(Strict):
    """How an endpoint is called (arms and judges with `engine: openai`)."""

    base_url: str = "https://api.openai.com/v1"  # of any OpenAI-compatible server
    api_key_variable: str | None = (
        "OPENAI_API_KEY"  # name of the environment variable; null: no key is sent
    )
    concurrency: Count = 8  # calls at a time
    timeout_seconds: Positive = (
        600.0  # of one call, all in all; also the longest Retry-After waited for
    )
    max_retries: Annotated[int, Field(ge=0)] = 6  # of one call
    backoff_seconds: Annotated[float, Field(ge=0)] = (
        1.0  # before the first retry, doubled at each up to 64-fold, with jitter
    )
    max_failures: Count = 20  # so many failed calls in a row, and the endpoint counts as down
    n_per_call: Count = 1  # samples of one problem asked for together
    max_tokens_name: str = "max_tokens"  # newer OpenAI models want max_completion_tokens
    extra_body: dict[str, Any] = {}  # sent along with every call
    limit_usd: Positive | None = (
        None  # hard stop of one arm's spending, over all its runs; a judge's likewise
    )


class Machine(Endpoint):
    """Where a stage runs; never part of a study's identity."""

    engine: Literal["hf", "vllm"] = "hf"  # what draws samples of local models
    device: Literal["cpu", "cuda"] | None = None  # the GPU where there is one
    device_map: Literal["auto"] | None = None  # hf: a model larger than one GPU, spread over all
    dtype: Literal["float32", "bfloat16", "float16"] | None = (
        None  # bfloat16 on a GPU, float32 on a CPU
    )
    batch_size: Count | None = None  # hf: rows at a time; found out when left out
    threads: Count | None = None  # CPU: of each worker; all cores when left out
    compile: bool = False  # hf, and training by TRL: torch.compile, which takes up to a minute and pays in longer runs
    tflops: Positive | None = None  # TFLOP/s that this machine reaches: --dry-run tells time by it
    workers: Count = 1  # engines that draw, and students in training, at a time; above 1 by Ray
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = (
        None  # vllm: share of a GPU that it takes
    )
    tensor_parallel_size: Count | None = None  # vllm: GPUs that share one model
    max_model_len: Count | None = None  # vllm: longest prompt and answer together, in tokens
    enforce_eager: bool | None = None  # vllm: no CUDA graphs; slower, opens faster
    kv_cache_gib: Positive | None = (
        None  # vllm: this much for the cache, instead of a share (CPU: 2)
    )
    max_num_seqs: Count | None = None  # vllm: samples drawn at a time
    checkers: Annotated[int, Field(ge=1)] = Field(
        default_factory=lambda: min(8, os.cpu_count() or 1)
    )  # processes that check answers and run tests
    address: str | None = (
        None  # Ray: an existing cluster's address; a local cluster is started when left out
    )
    gpus_per_worker: Annotated[float, Field(ge=0)] | None = (
        None  # Ray: GPUs that each of `workers` gets
    )

    @property
    def devices(self) -> float:
        """GPUs that are held while samples are drawn (on CPUs: workers)."""
        return self.workers * (self.gpus_per_worker or self.tensor_parallel_size or 1)

    @field_validator("compile")
    @classmethod
    def _compiler(cls, value: bool) -> bool:
        if value and not shutil.which(compiler := os.environ.get("CXX", "g++")):
            raise ValueError(
                f"there is no {compiler} here, which torch.compile needs: install a C++ compiler, or leave compile out"
            )
        return value


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


def project_root() -> Path:
    """The nearest folder upward from here that holds `notebooks/` and `params/`; else the current folder."""
    here = Path.cwd()
    return next(
        (
            d
            for d in [here, *here.parents]
            if (d / "notebooks").is_dir() and (d / "params").is_dir()
        ),
        here,
    )


def resolve(path: str | Path) -> Path:
    """A path as given when it is absolute or exists from here, else seen from the project's root."""
    path = Path(path).expanduser()
    return path if path.is_absolute() or path.exists() else project_root() / path


def resolve_model(model: str) -> str:
    """The folder of a bundled nano model or of a local checkpoint; any other text is taken as a hub id."""
    if (MODELS / model / "config.json").is_file():
        return str(MODELS / model)
    local = resolve(model)
    if local.is_dir():
        return str(local)
    if model.startswith((".", "/", "~")) or model.startswith("nano-"):
        raise StudyError(
            f"model {model!r}: no such folder and no bundled model; bundled: {', '.join(bundled())}"
        )
    return model


def weights_mark(model: str) -> str:
    """A short hash that other weights in the same local folder do not have; "" where there is no such folder.

    Of each safetensors file: name, size, and its first and last megabyte (tensors' names and shapes, some numbers).
    """
    folder, marks = Path(model), []
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else ():
        with open(path, "rb") as file:
            first = file.read(1 << 20)
            file.seek(max(0, path.stat().st_size - (1 << 20)))
            marks.append(
                [path.name, path.stat().st_size, hashlib.sha256(first + file.read()).hexdigest()]
            )
    return fingerprint(marks) if marks else ""


def bundled() -> list[str]:
    return sorted(p.parent.name for p in MODELS.glob("*/config.json"))


def named_files(study: Study) -> dict[str, str]:
    """SHA-256 of every local file that a study's parameters name and that is here: problems, imports, prompts, prices."""
    d = study.dataset
    paths = (
        [d.train, d.held_out, *(held.path for held in d.transfer.values())]
        if d.name == "files"
        else []
    )
    paths += [*(arm.path for arm in study.arms.values()), study.prompt.shots, study.budget.prices]
    out = {}
    for name in dict.fromkeys(filter(None, paths)):
        if (path := resolve(name)).is_file():
            out[name] = sha256(path)
    return out


def fingerprint(data: Any) -> str:
    """A short stable hash of JSON-able data."""
    return hashlib.sha256(
        json.dumps(data, sort_keys=True, ensure_ascii=False).encode()
    ).hexdigest()[:16]


def sample_seed(study_seed: int, model: str, problem_id: str, sample_index: int) -> int:
    """One 63-bit seed per sample, the same under resuming, sharding, more samples and more problems."""
    text = json.dumps([study_seed, model, problem_id, sample_index])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


class Run:
    """An opened study folder: its plan, and where each stage's files lie."""

    def __init__(self, folder: str | Path):
        self.folder = resolve(folder)
        self.plan = read_json(self.folder / "01_plan" / "plan.json")
        self.study = check_study(self.plan["study"], str(self.folder / "01_plan" / "plan.json"))

    @property
    def plan_id(self) -> str:
        return self.plan["plan_id"]

    def path(self, stage: str, *names: str) -> Path:
        """A stage's folder (by number or full name), or a file or folder in it."""
        full = next(s for s in STAGES if s.startswith(stage))
        return self.folder.joinpath(full, *names)

    def inputs(self, stage: str, name: str = "") -> list[Path]:
        """The folders, each with a manifest, that a stage (of an arm or a student, where it has one) reads."""
        verified = [self.path("03", arm) for arm in self.plan["arms"]]
        tested = [self.path("05")] if self.plan["students"] else verified
        if stage.startswith("02"):
            return [self.path("02", part) for part in self.parts(name)]
        return {
            "03": [self.path("02", name)],
            "04": verified,
            "05": [self.path("04", name)],
            "06": tested,
        }.get(stage[:2], [])

    def complete(self, stage: str, name: str = "") -> bool:
        """Whether a stage (of an arm or a student) was finished under this plan, after what it reads, and holds all its samples."""
        folder = self.path(stage, name)
        if not is_complete(folder, self.plan_id, self.inputs(stage, name)):
            return False
        return not stage.startswith("02") or count_rows(folder) >= read_json(
            folder / "manifest.json"
        ).get("n_samples", 0)

    def parts(self, arm: str) -> list[str]:
        """The arms that a mix or an adaptive arm draws from; none of any other arm."""
        spec = self.study.arms[arm]
        return [spec.adaptive.of] if spec.adaptive else list(self.arm(arm).get("mix", {}))

    def shares(self, arm: str, budget: str) -> dict[str, float]:
        """Samples per problem at a budget, by the arm whose model draws them."""
        plan = self.arm(arm)
        return (
            plan["parts"][budget]
            if "parts" in plan
            else {(self.parts(arm) or [arm])[0]: plan["samples"][budget]}
        )

    def sets(self) -> pd.Series:
        """Held-out problem -> its set (transfer sets have names of their own)."""
        problems = read_parquet(self.path("01", "held_out.parquet"))
        return (
            pd.Series(problems.get("set", "held_out"), problems.index)
            .set_axis(problems["problem_id"])
            .astype(object)
        )

    def rows_of_budget(self, rows: pd.DataFrame, arm: str, budget: str) -> pd.DataFrame:
        """Those of an arm's rows (KEY columns and more) that belong to a budget.

        A problem's first n samples: the same n for all problems, or where the arm spends unevenly (mix, adaptive) what
        `02_generate/<arm>/allocation.parquet` (budget, problem_id, n) gives each.
        """
        n, path = self.arm(arm)["samples"][budget], self.path("02", arm, "allocation.parquet")
        if path.exists():
            table = read_parquet(path)
            table = table[table["budget"] == budget].set_index("problem_id")["n"]
            n = rows["problem_id"].map(table).fillna(0)
        return rows[rows["sample_index"] < n]

    def arm(self, name: str) -> dict:
        return self._named("arms", name)

    def student(self, name: str) -> dict:
        return self._named("students", name)

    def _named(self, kind: str, name: str) -> dict:
        if name not in self.plan[kind]:
            raise StudyError(
                f"{self.folder}: {name!r} is not among the plan's {kind}: {', '.join(self.plan[kind])}"
            )
        return self.plan[kind][name]
