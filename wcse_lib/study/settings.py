"""How one student is trained: every setting, checked; and how fast that was seen to be."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal, NamedTuple

from wcse_lib.store import StudyError
from wcse_lib.study.machine import Machine
from wcse_lib.study.params import Study
from wcse_lib.study.plan import PlannedStudent

CHOICES = {
    "backend": ("trl", "unsloth"),
    "method": ("full", "lora", "qlora"),
    "training": ("steps", "epochs", "tokens"),
    "dtype": ("auto", "float32", "bfloat16"),
    "schedule": ("linear", "cosine", "constant", "constant_with_warmup"),
}
SAME_KEYS = (  # of `study.training` and of Settings
    "method",
    "backend",
    "batch_size",
    "micro_batch_size",
    "max_tokens",
    "warmup",
    "schedule",
    "weight_decay",
    "optimizer",
    "n_checkpoints",
    "lora_rank",
    "lora_dropout",
    "gradient_checkpointing",
    "packing",
)
POSITIVE = ("amount", "batch_size", "max_tokens", "n_checkpoints", "lora_rank")


@dataclass(frozen=True)
class Settings:
    """How one student is trained; nothing is left to a library's default (LoRA's defaults: Unsloth's notebooks).

    `training` says what `amount` counts: optimiser steps, epochs (a fraction is allowed) or tokens (prompt and
    completion, no padding). `warmup` below 1 is a share of the steps, else their number. `micro_batch_size` 0 means
    the whole batch. dtype "bfloat16" computes in bfloat16, yet full fine-tuning keeps float32 weights (a step of 1e-6
    would vanish in bfloat16); "auto" is bfloat16 on a GPU, else float32. Of several learning rates validation chooses.
    `packing` lays the rows of a micro batch end to end instead of padding them; each still sees itself alone, so the
    steps and losses stay the same. Raises ValueError naming the field.
    """

    method: str
    training: str
    amount: float
    learning_rate: float | tuple[float, ...]
    backend: str = "trl"
    batch_size: int = 32
    micro_batch_size: int = 0
    max_tokens: int = 2048
    warmup: float = 5
    schedule: str = "linear"
    weight_decay: float = 0.001
    max_grad_norm: float = 1.0
    optimizer: str = "adamw_torch_fused"
    seed: int = 3407
    n_checkpoints: int = 10  # equally spaced; each is validated and can be resumed from
    lora_rank: int = 16
    lora_alpha: float = 16
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ()  # layers by name; none: all linear ones
    merge: bool = False  # also write the adapter merged into its base, in 16 bit
    dtype: str = "auto"
    gradient_checkpointing: bool = False
    packing: bool = False
    # by torch.compile; "auto": where a trial says that it pays; backend trl only, as Unsloth compiles by itself
    compile: bool | Literal["auto"] = False
    report_to: tuple[str, ...] = ()  # trackio, wandb, mlflow, tensorboard

    def __post_init__(self) -> None:
        for name, choices in CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name} is {value!r}: choose {choices}")
        for name in POSITIVE:
            value = getattr(self, name)
            if value <= 0:
                raise ValueError(f"{name} is {value!r}: choose a number above 0")
        if min(self.learning_rates) <= 0:
            raise ValueError(f"learning_rate is {self.learning_rate!r}: choose a number above 0")
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(
                f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}"
            )
        if self.packing and self.backend == "unsloth":
            raise ValueError(
                "packing is True: only backend trl is known to keep packed rows from seeing each other"
            )
        if self.training == "steps" and self.amount < 1:
            raise ValueError(f"amount is {self.amount!r}: at least one step is needed")

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates to try, mostly one."""
        rate = self.learning_rate
        return rate if isinstance(rate, tuple) else (rate,)

    def missing(self) -> list[str]:
        """Packages that such a training needs and that are not installed here."""
        needed = list(self.report_to)
        if self.backend == "unsloth":
            needed.append("unsloth")
        if self.method == "qlora":
            needed.append("bitsandbytes")
        return [name for name in needed if importlib.util.find_spec(name) is None]


class TrainingPace(NamedTuple):
    """What training takes: seconds of a token, tokens of a row, and seconds beside the steps: once for the packages
    (`start`), and for each student (`beside`: loading, the trainer, a checkpoint)."""

    seconds_per_token: float
    tokens_per_row: float
    start_seconds: float
    beside_seconds: float


def _check_shares(study: Study, n: int) -> None:
    """Raises StudyError naming the key of what does not go with several GPUs for one student."""
    if n == 1:
        return
    how, key = study.training, f"gpus_per_student: {n}"
    if how.backend != "trl" or how.method == "qlora":
        raise StudyError(
            f"training.backend: {how.backend}, method: {how.method}: with {key} in the machine file students are "
            "trained by backend trl, method full or lora; change these, or leave gpus_per_student out"
        )
    if study.on_policy_arms:
        raise StudyError(
            f"{key}: students of {', '.join(study.on_policy_arms)} (on_policy) write while they learn, for which one "
            "GPU has to hold them; leave gpus_per_student out"
        )
    if how.batch_size % n:
        raise StudyError(
            f"training.batch_size: {how.batch_size}: with {key} in the machine file every step's rows are dealt to {n} "
            f"GPUs: choose a number of GPUs that divides it, or a batch_size that {n} divides"
        )


def settings_of(study: Study, student: PlannedStudent, machine: Machine) -> Settings:
    """The finetuning settings of one student. Raises StudyError naming the key of what cannot be."""
    training, rate = study.training, student.learning_rate
    _check_shares(study, machine.gpus_per_student)
    if isinstance(rate, list):
        rate = tuple(rate) if len(rate) > 1 else rate[0]
    own = {
        "training": training.mode,
        "amount": student.amount,
        "seed": (1_000_003 * study.seed + student.seed) % 2**32,
        "learning_rate": rate,
        "merge": training.merged,
        "dtype": machine.dtype or "auto",
        "compile": machine.compile,
        "lora_alpha": training.lora_alpha or training.lora_rank,
        "lora_targets": tuple(training.lora_targets or ()),
        "report_to": tuple(training.report_to),
    }
    same = {key: getattr(training, key) for key in SAME_KEYS}
    try:
        return Settings(**own, **same)
    except ValueError as error:
        raise StudyError(f"training.{error}") from None
