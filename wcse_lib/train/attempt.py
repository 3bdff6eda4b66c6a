"""One attempt at a whole training, by TRL's trainer."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wcse_lib.sample import Compiling
from wcse_lib.study import Settings
from wcse_lib.train.encode import MASKED
from wcse_lib.train.learnt import token_accuracy
from wcse_lib.train.models import load_model
from wcse_lib.train.rows import TrainingRows, in_order

# in messages of CUDA, the CPU's allocator, cuBLAS
NO_MEMORY = ("out of memory", "allocate memory", "ALLOC_FAILED")
LIBRARIES = ("torch", "transformers", "trl", "peft", "unsloth")
POOL = 16  # batches whose rows are sorted by length together, so that a batch holds little padding
ROWS_AS_THEY_ARE = dict(  # for the trainer: they are encoded and in order already
    packing=False,
    padding_free=False,
    shuffle_dataset=False,
    train_sampling_strategy="sequential",
    dataset_kwargs={"skip_prepare_dataset": True},
    completion_only_loss=False,
    remove_unused_columns=False,
    loss_type="nll",
)
LOGS_AND_CHECKPOINTS = dict(  # the callback asks for checkpoints
    logging_steps=1,
    logging_nan_inf_filter=False,
    save_strategy="no",
    save_total_limit=2,
    disable_tqdm=True,
)


class Diverged(ValueError):
    """A loss or gradient that is no number; the message says at which step and learning rate."""


@dataclass(frozen=True)
class Training:
    """One training: from which weights, on which rows, how, in which folder, and who watches it.

    `validate(model, tokenizer, step) -> accuracy` sees the live model (eval mode, no gradients) at each checkpoint;
    `progress(step, n_steps, loss)` is called every step. The student's tokenizer takes `end_id` for its EOS: engines
    stop there.
    """

    base_model: str | Path
    rows: TrainingRows
    settings: Settings
    folder: Path
    validate: Callable[[Any, Any, int], float] | None = None
    progress: Callable[[int, int, float], None] | None = None
    n_dropped_long: int = 0  # for the report
    end_id: int | None = None
    n_processes: int = 1  # that train it together, each with a share of the weights (`sharded`)

    @property
    def data_sha256(self) -> str:
        return self.rows.sha256

    def checkpoint(self, step: int) -> Path:
        return self.folder / "checkpoints" / f"checkpoint-{step}"


def batches(lengths: np.ndarray, settings: Settings) -> list[np.ndarray]:
    """Row indices of every optimiser step, from the seed alone: the same for any micro batch, backend or restart.

    `lengths` are tokens per row, (n,). Each epoch is a permutation; batches run on over its end, and only the very last
    may be smaller. Rows are sorted by length within pools no larger than an epoch, then the batches are shuffled.
    """
    lengths, size = np.asarray(lengths), settings.batch_size
    rng = np.random.default_rng(settings.seed)
    order = _row_order(lengths, settings, rng)
    n_in_pool = size * max(1, min(POOL, len(lengths) // size))
    steps = []
    for start in range(0, len(order), n_in_pool):
        pool = order[start : start + n_in_pool]
        by_length = pool[np.argsort(lengths[pool], kind="stable")]
        cut = [by_length[i : i + size] for i in range(0, len(pool), size)]
        # Only whole batches are shuffled: a smaller one stays the last.
        n_whole = len(pool) // size
        steps += [cut[i] for i in rng.permutation(n_whole).tolist()]
        steps += cut[n_whole:]
    return steps


def _row_order(lengths: np.ndarray, settings: Settings, rng: np.random.Generator) -> np.ndarray:
    """Row indices in epochs, as many as the training amounts to."""
    n_rows, epochs, by_tokens = len(lengths), settings.amount, settings.training == "tokens"
    if settings.training == "steps":
        epochs = round(settings.amount) * settings.batch_size / n_rows
    elif by_tokens:
        epochs = settings.amount / lengths.sum()
    order = np.concatenate([rng.permutation(n_rows) for _ in range(math.ceil(epochs))])
    n_wanted = max(1, round(epochs * n_rows))
    if by_tokens:  # up to and with the row that reaches the amount
        n_wanted = int(np.searchsorted(np.cumsum(lengths[order]), settings.amount)) + 1
    return order[:n_wanted]


class Watch:
    """Checks every loss and validates at checkpoints; what must outlive a kill goes into the trainer's log history."""

    def __init__(self, training: Training, tokenizer: Any, n_steps: int):
        self.training, self.tokenizer, self.n_steps = training, tokenizer, n_steps
        n = training.settings.n_checkpoints
        self.checkpoint_steps = {round(i * n_steps / n) for i in range(1, n + 1)}
        self.start = 0.0
        self.is_over = False  # whether nothing is left to do, before the last step

    def begin(self, state: Any) -> None:
        """Start the clock, which goes on where a killed attempt's checkpoint left it."""
        seconds_before = state.log_history[-1]["seconds"] if state.log_history else 0.0
        self.start = time.monotonic() - seconds_before

    def seconds(self) -> float:
        """Of the training so far, without validation."""
        return time.monotonic() - self.start

    def after_step(self, state: Any, logs: dict[str, float], model: Any) -> None:
        """Raises Diverged for a loss or gradient that is not finite."""
        step = state.global_step
        for name in ("loss", "grad_norm"):
            value, rate = logs.get(name, 0.0), logs["learning_rate"]
            if not math.isfinite(value):
                raise Diverged(f"{name} is {value} at step {step}, learning rate {rate:g}")
        state.log_history[-1]["seconds"] = self.seconds()
        if self.is_checkpoint(step) and self.training.validate:
            self._validate(state, model)
        if self.training.progress:
            self.training.progress(step, self.n_steps, logs["loss"])

    def is_checkpoint(self, step: int) -> bool:
        """Whether the model is validated and kept after this step."""
        return step in self.checkpoint_steps

    def _validate(self, state: Any, model: Any) -> None:
        import torch

        began, settings, entry = time.monotonic(), self.training.settings, state.log_history[-1]
        unsloth = settings.backend == "unsloth"
        model.for_inference() if unsloth else model.eval()
        with torch.random.fork_rng(), torch.no_grad():
            accuracy = self.training.validate(model, self.tokenizer, state.global_step)
        model.for_training(settings.gradient_checkpointing) if unsloth else model.train()
        entry["accuracy"] = float(accuracy)
        # The trainer deletes old checkpoints, but spares this one.
        best = self.training.checkpoint(best_step(state.log_history))
        state.best_model_checkpoint = str(best)
        # Validation is no part of the training's seconds.
        entry["validation_seconds"] = time.monotonic() - began
        self.start += entry["validation_seconds"]


def best_step(history: list[dict[str, Any]]) -> int:
    """The step of the highest validation accuracy, the earliest of equals."""
    validated = [entry for entry in history if "accuracy" in entry]
    return min(validated, key=lambda entry: (-entry["accuracy"], entry["step"]))["step"]


def run_attempt(
    training: Training, tokenizer: Any, steps: list[np.ndarray], micro: int, checkpoint: Path | None
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Train from a checkpoint, or from the start, to the last step.

    Args: steps: row indices of every step; micro: rows in memory at a time. Returns a log entry per step, and facts:
    how many parameters the base has and how many were trained, whether steps were compiled, and the last weights'
    `token_accuracy`. Raises Diverged, and RuntimeError where memory does not suffice.
    """
    from transformers import PrinterCallback  # this module's heavy imports come after the backend

    settings = training.settings
    model, n_parameters = load_model(training.base_model, settings)
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.config.use_cache = True  # Unsloth turns it off, but the saved model is for generating
    watch = Watch(training, tokenizer, len(steps))
    # Unsloth compiles by itself; several processes could choose differently
    may_compile = settings.backend != "unsloth" and training.n_processes == 1
    compiling = Compiling(settings.compile if may_compile else False, watch.seconds)
    compiling.expect(len(steps))
    n_at_once = micro * training.n_processes if training.n_processes > 1 else 1
    trainer = _trainer_class(settings, compiling)(
        model=model,
        processing_class=tokenizer,
        train_dataset=in_order(training.rows.data, steps, n_at_once),
        callbacks=[callback_of(watch)],
        args=_config(training, len(steps), micro),
        data_collator=_end_to_end if settings.packing else None,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.create_model_card = lambda *args, **kwargs: None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    history = [entry for entry in trainer.state.log_history if "seconds" in entry]
    model.for_inference() if settings.backend == "unsloth" else model.eval()
    facts = {"n_parameters": n_parameters, "n_trained_parameters": n_trained}
    if may_compile:
        facts["how_compiled"] = compiling.note
    return history, facts | {"token_accuracy": token_accuracy(model, training.rows, micro)}


def _trainer_class(settings: Settings, compiling: Compiling) -> type:
    """TRL's trainer, which compiles steps or not; on a CPU with the model's own loss, as TRL's is a Triton kernel."""
    import torch
    from transformers import Trainer
    from trl import SFTTrainer

    class ChoosingTrainer(SFTTrainer):
        def training_step(self, model, inputs, *rest):
            make = super().training_step
            if not compiling.is_on and not compiling.is_open:
                return make(model, inputs, *rest)
            # of the micro batches of a step
            is_first = next(p for p in model.parameters() if p.requires_grad).grad is None
            if is_first:
                compiling.n_done = self.state.global_step
                compiling.begin(inputs["input_ids"].numel())

            def compiled():
                try:
                    return make(compiling.compiled(model), inputs, *rest)
                except Exception:
                    if is_first:  # then the step can be made anew
                        model.zero_grad()
                    raise

            return compiling.either(lambda: make(model, inputs, *rest), compiled)

    class CPUTrainer(ChoosingTrainer):
        def compute_loss(self, model, inputs, **kwargs):
            changed = {**inputs, "use_cache": False} | _without_prompts(inputs["labels"])
            return Trainer.compute_loss(self, model, changed, **kwargs)

    has_kernels = torch.cuda.is_available() or settings.backend == "unsloth"
    return ChoosingTrainer if has_kernels else CPUTrainer


def _without_prompts(labels: Any) -> dict[str, Any]:
    """Inputs that spare a model the logits of a batch's first tokens, which are prompts in every row."""
    is_trained = (labels != MASKED).any(0)
    # The token before the first trained one predicts it; rows of which nothing is trained need one for the loss.
    start = max(0, int(is_trained.int().argmax()) - 1) if is_trained.any() else labels.shape[1] - 2
    return {"labels": labels[:, start:], "logits_to_keep": labels.shape[1] - start}


def callback_of(watch: Watch) -> Any:
    """The trainer's callback: it passes on to `watch`, and asks for checkpoints."""
    from transformers import TrainerCallback

    class Hooks(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            watch.begin(state)

        def on_log(self, args, state, control, logs=None, model=None, **kwargs):
            if "loss" in logs:
                watch.after_step(state, logs, model)
                control.should_save = watch.is_checkpoint(state.global_step)
                if watch.is_over:
                    control.should_training_stop = True

        def on_save(self, args, state, control, **kwargs):
            control.should_save = False  # else the end of the epoch would save the last step again

    return Hooks()


def _config(training: Training, n_steps: int, micro: int) -> Any:
    from trl import SFTConfig

    return SFTConfig(
        max_length=training.settings.max_tokens,
        **arguments_of(training.settings, training.folder, n_steps, micro, training.n_processes),
        **ROWS_AS_THEY_ARE,
    )


def arguments_of(
    settings: Settings, folder: Path, n_steps: int, n_rows: int, n_processes: int = 1
) -> dict[str, Any]:
    """What any trainer of transformers is given for so many steps, `n_rows` in the memory of each process at a time."""
    import torch

    on_gpu = torch.cuda.is_available()
    optimiser = dict(
        max_steps=n_steps,
        per_device_train_batch_size=n_rows,
        gradient_accumulation_steps=settings.batch_size // (n_rows * n_processes),
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=settings.optimizer,
        seed=settings.seed,
        data_seed=settings.seed,
    )
    device = dict(
        bf16=settings.dtype == "bfloat16",
        use_cpu=not on_gpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        fsdp=n_processes > 1,
        dataloader_pin_memory=on_gpu,
    )
    output = dict(
        output_dir=str(folder / "checkpoints"),
        run_name=folder.name,
        report_to=list(settings.report_to),
    )
    return output | optimiser | device | LOGS_AND_CHECKPOINTS


def _end_to_end(rows: list[dict[str, list[int]]]) -> dict[str, Any]:
    """A micro batch as one row without padding; positions that start anew tell attention where each row begins."""
    import torch

    packed: dict[str, list[int]] = {"input_ids": [], "labels": [], "position_ids": []}
    for row in rows:
        packed["input_ids"] += row["input_ids"]
        packed["labels"] += row["labels"]
        packed["position_ids"] += range(len(row["input_ids"]))
    return {name: torch.tensor([values]) for name, values in packed.items()}


def measured() -> dict[str, Any]:
    """Of this process: the versions of what trained, and the bytes that it took (of the GPU, else of the memory)."""
    import torch

    versions = {}
    for name in LIBRARIES:
        versions[name] = getattr(sys.modules.get(name), "__version__", None)
    # of the process, ever (macOS counts bytes, Linux KiB)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if torch.cuda.is_available():
        memory = torch.cuda.max_memory_allocated()
    elif sys.platform != "darwin":
        memory *= 1024
    return {"versions": versions, "peak_memory_bytes": memory}
