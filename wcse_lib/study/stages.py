"""How each stage works: prompts, sampling, verification, curation, training, evaluation, controls."""

from __future__ import annotations

import datetime as dates
from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from wcse_lib.answers import Policy
from wcse_lib.study.fields import Count, Name, Positive, Seed, Strict, Style, Text


class Sampling(Strict):
    """How arms sample."""

    temperature: Annotated[float, Field(ge=0, le=5)] = 0.7  # 0 is greedy
    # 0: off; left out: 3 for local models, and not sent to endpoints, of which many refuse it
    top_k: Annotated[int, Field(ge=0)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0  # 1: off
    max_tokens: Count = 512  # a sample that is longer is cut there and has no answer
    # texts that end a sample of an arm or a student (05 and validation, too), beside the style's own
    stop: list[Text] = []
    # more samples of an arm that failed, are empty or were cut end 02 with an error; 1: never
    max_failed_share: Annotated[float, Field(ge=0, le=1)] = 0.5

    @property
    def local_top_k(self) -> int:
        """Of local models: the paper's where the params file names none."""
        return 3 if self.top_k is None else self.top_k


class Prompt(Strict):
    """The text that a model is shown: its chat template, or a plain text with optional worked examples before it."""

    # the model's chat template, or a plain text
    style: Literal["chat", "plain"] = "chat"
    template: str = "{question}"  # the user's turn, or the plain text
    # worked examples: math_4shot, gsm8k_8shot, or a text file, with {question} at its end
    shots: str | None = None
    system: str | None = None  # chat: a system message
    answer_style: Style = "auto"  # how final answers are read out of samples
    # samples hold a <think> part: max_tokens covers it, students do not learn it
    thinking: bool = False
    # what chat templates that print today's date are given for it: a study has one prompt
    date: str = "2026-01-01"

    @field_validator("date", mode="before")
    @classmethod
    def _is_a_day(cls, value: Any) -> str:
        if isinstance(value, str):
            value = dates.date.fromisoformat(value)
        if type(value) is not dates.date:
            raise ValueError("must be a day such as 2026-07-26")
        return value.isoformat()

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

    model: Text  # checkpoint folder, hub id or endpoint model name
    # local: the machine file says which engine
    engine: Literal["local", "openai"] = "local"
    n_per_arm: Count | None = None  # judge a random part of the correct samples; all when left out
    max_tokens: Count = 512  # of its judgement
    temperature: Annotated[float, Field(ge=0, le=5)] = 0.0  # 0: greedy


class Verification(Strict):
    """How samples are judged."""

    # final answer | run the problem's tests | reasoning-gym's scorer | a program that you write
    by: Literal["answer", "tests", "task", "program"] = "answer"
    # by: program: a Python file that defines verify(answer, row), or one that comes with the kit:
    # sql, instructions, tool_call
    path: Text | None = None
    # by: program: what `verify` is given: text, all that a sample says after its thoughts; answer, its
    # final answer as prompt.answer_style reads it
    reads: Literal["text", "answer"] = "text"
    # auto: exact for nano, else arithmetic
    judge: Literal["auto", "exact", "arithmetic", "model", "human", "none"] = "auto"
    model_judge: ModelJudge | None = None  # also judge by a model
    # where reasonable people differ: see answers.POLICY_TABLE
    policy: dict[str, bool | int | str] = {}
    seconds: Positive = 5.0  # per sample: symbolic comparison, test run or program

    @model_validator(mode="after")
    def _check(self):
        if self.judge == "model" and self.model_judge is None:
            raise ValueError("model_judge: needed for judge: model")
        if self.judge == "none" and self.model_judge:
            raise ValueError("model_judge: of no use with judge: none; leave one of them out")
        if (self.by == "program") != (self.path is not None):
            raise ValueError("path: needed for by: program, and only there")
        if self.reads != "text" and self.by != "program":
            raise ValueError("reads: only for by: program")
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

    # which samples are admitted: gold, correct ones; judge, those judged sound; none, all
    filter: Literal["gold", "judge", "none"] = "gold"
    # one sample a problem of those that are equal by
    unique: Literal["none", "text", "normalised", "equations"] = "text"
    per_problem: Count | None = None  # at most so many of a problem; all when left out
    # only the first n samples a problem; reference: number-matched
    n_samples: Count | Literal["reference"] | None = None
    n_problems: Count | None = None  # only so many problems
    # exactly so many; equal: as many as the arm with fewest
    n_examples: Count | Literal["equal"] | None = None
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
    # of a problem's right samples, `per_problem` of those that fit the student best before training, by rank-surprisal
    # ratio or by likelihood; random, any of them: the control. As many by each rule
    pick: Literal["rsr", "likelihood", "random"] | None = None
    pooled: bool = False  # pick from the samples of all arms together, for one student

    @model_validator(mode="after")
    def _check_pick(self):
        if self.pick is None:
            if self.pooled:
                raise ValueError("pooled: needs pick: rsr, likelihood or random")
            return self
        if self.per_problem is None:
            raise ValueError(
                "per_problem: missing; pick needs it, so that every rule picks as many: write 1 or more"
            )
        if self.filter == "none" or self.noise:
            raise ValueError(
                "pick: chooses among right samples; write filter: gold or judge, and leave noise out"
            )
        if self.n_examples is not None:
            raise ValueError(
                "n_examples: leave it out with pick, which gives every rule as many examples"
            )
        return self


class Student(Strict):
    """A base model that is finetuned on arms' examples."""

    model: Text  # nano name, checkpoint folder or hub id
    arms: list[Name] | None = None  # all when left out
    learning_rate: Positive | list[Positive] | None = None  # instead of training.learning_rate


class Training(Strict):
    """How students are finetuned; every arm of a budget gets the same steps (or epochs, or tokens)."""

    # who trains
    backend: Literal["trl", "unsloth"] = "trl"
    # all weights, or an adapter
    method: Literal["full", "lora", "qlora"] = "full"
    # what `amount` counts
    mode: Literal["steps", "epochs", "tokens"] = "steps"
    amount: dict[Name, Positive] = {"low": 600, "high": 6000}  # by budget
    batch_size: Count = 32  # rows a step; halved with gradients accumulated where memory lacks
    # of several, validation chooses; when left out 1e-5 for full (as in the paper), 2e-4 for lora
    # and qlora (Unsloth's notebooks')
    learning_rate: Positive | Annotated[list[Positive], Field(min_length=1)] | None = None
    optimizer: Text = "adamw_torch"  # a name that transformers knows
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.05  # share of the steps
    # of the learning rate
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "linear"
    weight_decay: Annotated[float, Field(ge=0)] = 0.0  # AdamW's
    packing: bool = False  # rows end to end instead of padded; each sees itself alone (trl)
    gradient_checkpointing: bool = False  # less memory, more time
    n_checkpoints: Count = 10  # equally spaced; validation chooses among them
    max_tokens: Count = 2048  # prompt and completion; longer rows are dropped and counted
    # students are shown the prompt's worked examples, too; false: they learn the form from their rows, and only their
    # untouched bases are tested with the examples
    shots: bool = True
    # rows in memory at a time, a divisor of batch_size; 0: all of it
    micro_batch_size: Annotated[int, Field(ge=0)] = 0
    lora_rank: Count = 16  # of lora and qlora
    lora_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0  # likewise
    lora_alpha: Positive | None = None  # the rank when left out
    lora_targets: list[str] | None = None  # all linear layers when left out
    # lora: also leave the adapter merged into its base, which can be an arm's or student's model
    merged: bool = False
    report_to: list[str] = []  # trackio, wandb, mlflow, tensorboard: whatever is installed
    # a student is trained once with each
    seeds: Annotated[list[Seed], Field(min_length=1)] = [0]
    # what the seeds' students learn from: own, a draw of every arm's samples for each seed; shared,
    # one for all, which says nothing of the luck of the drawn training set
    draws: Literal["own", "shared"] = "own"
    # how often the answer may be looked at while seeds are added: p values are multiplied by it, and later looks show
    # nothing new
    looks: Count = 1

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
    """Students that show whether the study could see a fault in the data, and students of other data."""

    # trained on an arm's examples, this share of them with the answers of other problems; 0: none
    planted: Annotated[float, Field(ge=0, le=1)] = 1.0
    reference: bool = True  # trained on the problems' reference solutions
    wrong: bool = False  # trained on their own wrong samples (students that are arms too)
    pooled: bool = False  # trained on all arms' examples of a budget together
