"""Fine-tune one student on ready examples, with TRL or Unsloth, resumably; which examples is the caller's affair."""

from __future__ import annotations

import gc
import hashlib
import html
import json
import math
import os
import resource
import shutil
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from importlib import metadata, util
from pathlib import Path

import numpy as np

from wcse_lib.records import read_json, write_json

MASKED = -100  # the label that the cross-entropy ignores
POOL = 16  # batches whose rows are sorted by length together, so that a batch holds little padding
CHOICES = {
    "backend": ("trl", "unsloth"), "method": ("full", "lora", "qlora"), "training": ("steps", "epochs", "tokens"),
    "dtype": ("auto", "float32", "bfloat16"), "schedule": ("linear", "cosine", "constant", "constant_with_warmup"),
    "packing": (False,),  # packed rows would see each other
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """How one student is trained; nothing is left to a library's default (LoRA's defaults: Unsloth's notebooks).

    `training` says what `amount` counts: optimiser steps, epochs (a fraction is allowed) or tokens (prompt and
    completion, no padding). `warmup` below 1 is a share of the steps, else their number. `micro_batch_size` 0 means
    the whole batch. dtype "bfloat16" computes in bfloat16, yet full fine-tuning keeps float32 weights while it runs (a
    step of 1e-6 would vanish in bfloat16); "auto" is bfloat16 on a GPU, else float32. Raises ValueError with the field.
    """

    method: str
    training: str
    amount: float
    learning_rate: float
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
    n_checkpoints: int = 10  # validations, equally spaced
    lora_rank: int = 16
    lora_alpha: float = 16
    lora_dropout: float = 0.0
    lora_targets: tuple[str, ...] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    merge: bool = False  # also write the adapter merged into its base, in 16 bit
    dtype: str = "auto"
    gradient_checkpointing: bool = False
    group_by_length: bool = True
    packing: bool = False
    save_seconds: float = 300.0  # between checkpoints to resume from
    report_to: str = "none"

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if name in CHOICES and value not in CHOICES[name]:
                raise ValueError(f"{name} is {value!r}: choose from {CHOICES[name]}")
            if (
                name in ("amount", "learning_rate", "batch_size", "max_tokens", "n_checkpoints", "lora_rank")
                and value <= 0
            ):
                raise ValueError(f"{name} is {value!r}: it must be above 0")
        if self.micro_batch_size and self.batch_size % self.micro_batch_size:
            raise ValueError(f"micro_batch_size {self.micro_batch_size} does not divide batch_size {self.batch_size}")


def encode(tokenizer, prompt_ids: list[int], completion: str, max_tokens: int, end_id: int | None = None):
    """One row: `input_ids` and `labels` (prompt −100, completion and end token trained), or None above `max_tokens`.

    `prompt_ids` are the very ids that the student is asked with later; `completion` is tokenised as plain text (special
    tokens spelt out in it stay text) and closed with `end_id` (default: the tokenizer's EOS). Long rows are for the
    caller to count: a cut solution would teach to stop midway.
    """
    end_id = tokenizer.eos_token_id if end_id is None else end_id
    tail = [*tokenizer(completion, add_special_tokens=False, split_special_tokens=True)["input_ids"], end_id]
    if len(prompt_ids) + len(tail) > max_tokens:
        return None
    return {"input_ids": [*prompt_ids, *tail], "labels": [MASKED] * len(prompt_ids) + tail}


def check_rows(rows: list[dict], tokenizer, end_id: int | None = None) -> None:
    """Raise ValueError naming the first bad row: empty, all masked, end token untrained, labels astray, not one BOS.

    A BOS further inside a prompt is refused too, unless the chat template marks turns with that token.
    """
    if not rows:
        raise ValueError("no rows to train on: every example was filtered out or too long")
    end_id = tokenizer.eos_token_id if end_id is None else end_id
    bos_id = tokenizer.bos_token_id
    marks_turns = bos_id == tokenizer.eos_token_id or str(tokenizer.bos_token) in str(tokenizer.chat_template)
    for i, row in enumerate(rows):
        ids, labels = row["input_ids"], row["labels"]
        n_prompt = next((j for j, label in enumerate(labels) if label != MASKED), len(labels))
        n_bos, n_leading = ids[:n_prompt].count(bos_id), next((j for j, x in enumerate(ids) if x != bos_id), len(ids))
        for bad, reason in (
            (not ids or len(ids) != len(labels), f"empty or torn, {len(ids)} tokens and {len(labels)} labels"),
            (n_prompt == len(labels), f"all {len(labels)} labels are masked, so nothing would be learnt from it"),
            (labels[n_prompt:] != ids[n_prompt:], "labels differ from the tokens after the prompt"),
            (labels[-1:] != [end_id], f"end token {end_id} is not trained, so the student would not learn to stop"),
            (bos_id is not None and (n_leading != 1 or (n_bos != 1 and not marks_turns)),
             f"prompt with {n_bos} BOS ({bos_id}), {n_leading} of them at its start; wanted one, there"),
        ):  # fmt: skip
            if bad:
                raise ValueError(f"row {i}: {reason}")


def coloured(rows: list[dict], tokenizer, n: int = 3) -> str:
    """HTML that shows the first `n` rows token by token: grey is masked, green is trained; hover for id and label."""
    parts = ["<p><span style='background:#ddd'>masked</span> <span style='background:#bde5b8'>trained</span></p>"]
    for i, row in enumerate(rows[:n]):
        parts.append(
            f"<p>row {i}: {len(row['labels'])} tokens, {len(row['labels']) - row['labels'].count(MASKED)} trained</p><p>"
        )
        for token, label in zip(row["input_ids"], row["labels"]):
            text = html.escape(tokenizer.decode([token])).replace("\n", "⏎<br>").replace(" ", "&nbsp;")
            colour = "#ddd" if label == MASKED else "#bde5b8"
            parts.append(f"<span title='id {token}, label {label}' style='background:{colour}'>{text}</span><wbr>")
        parts.append("</p>")
    return f"<div style='font-family:monospace'>{''.join(parts)}</div>"


def batches(lengths, settings: Settings) -> list[np.ndarray]:
    """Row indices of every optimiser step, from the seed alone: the same for any micro batch, backend or restart.

    `lengths` are tokens per row, (n,). Each epoch is a permutation; batches run on over its end, and only the very last
    may be smaller. Rows are sorted by length within pools no larger than an epoch, then the batches are shuffled.
    """
    lengths, size, amount = np.asarray(lengths), settings.batch_size, settings.amount
    n, rng = len(lengths), np.random.default_rng(settings.seed)
    count = {"steps": round(amount) * size, "epochs": round(amount * n)}.get(settings.training)
    n_epochs = math.ceil(count / n if count else amount / lengths.sum())
    stream = np.concatenate([rng.permutation(n) for _ in range(max(1, n_epochs))])
    if count is None:  # up to and with the row that reaches the amount of tokens
        count = int(np.searchsorted(np.cumsum(lengths[stream]), amount)) + 1
    stream = stream[: max(1, count)]
    steps, pool = [], size * max(1, min(POOL, n // size))
    for i in range(0, len(stream), pool):
        part = stream[i : i + pool]
        if settings.group_by_length:
            part = part[np.argsort(lengths[part], kind="stable")]
        cut = [part[j : j + size] for j in range(0, len(part), size)]
        order = rng.permutation(len(part) // size).tolist()
        steps += [cut[j] for j in order] + cut[len(order) :]
    return steps


def open_backend(backend: str) -> None:
    """Import the backend. Unsloth patches what is imported after it, so call this first of all in the process."""
    if backend == "unsloth":
        os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", tempfile.mkdtemp(prefix="unsloth-"))
        os.environ.setdefault("UNSLOTH_DISABLE_AUTO_PADDING_FREE", "1")
        os.environ.setdefault("UNSLOTH_DISABLE_STATISTICS", "1")
        import unsloth  # noqa: F401


def train(
    base_model: str | Path,
    rows: list[dict],
    settings: Settings,
    out: Path,
    validate: Callable | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    n_dropped_long: int = 0,
) -> dict:
    """Train a student from `base_model` on encoded `rows`, leave it in `out/model`, return the train report.

    `validate(model, tokenizer, step) -> accuracy` sees the live model (eval mode, no gradients) at equally spaced steps;
    the weights of the best are kept, ties to the earliest; without it, the last. `progress(step, n_steps, loss)` is
    called every step. Called again after a kill it goes on from the latest sound checkpoint, after success it returns
    the saved report. Running out of memory halves the micro batch. FLOPs are 6·P·tokens: P parameters with embeddings,
    tokens without padding; attention, validation, repeated steps and LoRA's cheaper backward are left out. ValueError:
    a row too long, another training in `out`, or a loss or gradient not finite (with step and learning rate).
    """
    out, notes = Path(out), []
    if settings.backend == "unsloth" and "transformers" in sys.modules and "unsloth" not in sys.modules:
        notes.append("transformers was imported before unsloth, whose speed-ups may be off: call open_backend first")
    open_backend(settings.backend)
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    on_gpu = torch.cuda.is_available()
    if settings.dtype == "auto":
        settings = replace(settings, dtype="bfloat16" if on_gpu and torch.cuda.is_bf16_supported() else "float32")
    lengths = np.array([len(row["input_ids"]) for row in rows])
    if not rows or lengths.max() > settings.max_tokens:
        raise ValueError(
            f"{len(rows)} rows, up to {max(lengths, default=0)} tokens; wanted some, <= {settings.max_tokens}"
        )
    own = {k: v for k, v in asdict(settings).items() if k not in ("micro_batch_size", "save_seconds", "report_to")}
    digest = hashlib.sha256(json.dumps(own, sort_keys=True).encode())
    for row in rows:
        digest.update(json.dumps(row, sort_keys=True).encode())
    identity = {"base_model": str(base_model), "rows_and_settings": digest.hexdigest()}
    if (out / "training.json").exists() and (old := read_json(out / "training.json")) != identity:
        raise ValueError(f"{out} holds another training ({old}, not {identity}): delete it or choose another folder")
    if (out / "model").exists():
        return read_json(out / "report.json")
    write_json(out / "training.json", identity)
    logging.disable_progress_bar()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    tokenizer, plan = AutoTokenizer.from_pretrained(base_model), batches(lengths, settings)
    micro, micro_batches = settings.micro_batch_size or settings.batch_size, []
    while True:
        resume, step = _latest(out)
        micro_batches.append((step, micro))
        notes += [f"resumed at step {step}"] if resume else []
        try:
            history, n_parameters = _run(
                base_model, tokenizer, rows, plan, settings, micro, out, resume, validate, progress
            )
            break
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if "out of memory" not in str(error).lower() or micro == 1:
                raise
        micro = max(d for d in range(1, micro // 2 + 1) if settings.batch_size % d == 0)
        notes.append(f"out of memory: micro batch now {micro}, accumulated {settings.batch_size // micro} times")
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()

    order, seconds = np.concatenate(plan), history[-1]["seconds"]
    n_tokens, flops = int(lengths[order].sum()), 6 * n_parameters * int(lengths[order].sum())
    process_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    report = {
        **identity, "backend": settings.backend, "settings": asdict(settings), "n_parameters": n_parameters,
        "n_examples": len(rows), "n_dropped_long": n_dropped_long, "n_tokens": n_tokens,
        "n_trained_tokens": n_tokens - int(np.array([row["labels"].count(MASKED) for row in rows])[order].sum()),
        "steps": len(plan), "epochs": len(order) / len(rows), "seconds": seconds, "tokens_per_second": n_tokens / seconds,
        "validation_seconds": sum(h.get("validation_seconds", 0.0) for h in history),
        "peak_memory_bytes": torch.cuda.max_memory_allocated() if on_gpu else process_peak,
        "loss_curve": [(h["step"], h["loss"], h["learning_rate"]) for h in history if "loss" in h],
        "validation_curve": [(h["step"], h["accuracy"]) for h in history if "accuracy" in h],
        "best_step": _best(history) or len(plan), "planned_flops": flops, "spent_flops": flops,
        "micro_batches": micro_batches, "notes": notes,
        "versions": {p: metadata.version(p) if util.find_spec(p) else None
                     for p in ("torch", "transformers", "trl", "peft", "unsloth")},
    }  # fmt: skip
    best = out / f"best-{report['best_step']}"
    if settings.merge and settings.method != "full":
        merge(base_model, best, out / "merged")
    write_json(out / "report.json", report)
    os.replace(best, out / "model")
    for folder in [out / "checkpoints", *out.glob("best-*")]:
        shutil.rmtree(folder, ignore_errors=True)
    return read_json(out / "report.json")


def merge(base_model: str | Path, adapter: Path, out: Path, dtype: str = "bfloat16") -> None:
    """Write `base_model` with the PEFT `adapter` merged in as an ordinary 16-bit folder, for engines without LoRA."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base_model, dtype=torch.float32), adapter)
    _save(model.merge_and_unload().to(getattr(torch, dtype)), AutoTokenizer.from_pretrained(adapter), out)


def _run(base_model, tokenizer, rows, plan, settings, micro, out, resume, validate, progress):
    """One attempt at the whole training: its log history and the base model's number of parameters."""
    import torch

    model, n_parameters = _load(base_model, settings)
    from datasets import Dataset  # with TRL after the backend, so that Unsloth has patched them
    from transformers import PrinterCallback, Trainer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    on_gpu, unsloth, half = torch.cuda.is_available(), settings.backend == "unsloth", settings.dtype == "bfloat16"
    if not on_gpu and not unsloth:  # TRL's own loss is a Triton kernel, so on a CPU take the model's
        SFTTrainer = type("SFTTrainer", (SFTTrainer,), {"compute_loss": Trainer.compute_loss})
    cast, n_steps, n = torch.bfloat16 if half and settings.method == "full" else None, len(plan), settings.n_checkpoints
    checkpoints = {round(i * n_steps / n) for i in range(1, n + 1)} if validate else set()

    class Watch(TrainerCallback):
        """Checks each loss, validates, keeps the best and asks for checkpoints; its memory is the log history."""

        def on_train_begin(self, args, state, control, **kwargs):
            self.saved = time.monotonic()
            self.start = self.saved - (state.log_history[-1]["seconds"] if state.log_history else 0.0)

        def on_log(self, args, state, control, logs=None, model=None, **kwargs):
            if "loss" not in logs:
                return
            step, now = state.global_step, time.monotonic()
            for name in ("loss", "grad_norm"):
                if not math.isfinite(logs.get(name, 0.0)):
                    raise ValueError(f"{name} is {logs[name]} at step {step}, learning rate {logs['learning_rate']:g}")
            state.log_history[-1]["seconds"] = now - self.start
            if step in checkpoints:
                model.for_inference() if unsloth else model.eval()
                with torch.random.fork_rng(), torch.no_grad():
                    entry = {"step": step, "accuracy": float(validate(model, tokenizer, step))}
                model.for_training(settings.gradient_checkpointing) if unsloth else model.train()
                entry |= {"seconds": now - self.start, "validation_seconds": time.monotonic() - now}
                state.log_history.append(entry)
                if _best(state.log_history) == step:
                    _save(model, tokenizer, out / f"best-{step}", cast)
                self.start += time.monotonic() - now
            if step < n_steps and time.monotonic() - self.saved >= settings.save_seconds:
                control.should_save, self.saved = True, time.monotonic()
            if progress:
                progress(step, n_steps, logs["loss"])

        def on_save(self, args, state, control, **kwargs):
            for folder in out.glob("best-*"):  # the checkpoint just written knows a better one
                if folder.name != f"best-{_best(state.log_history)}":
                    shutil.rmtree(folder)

    args = SFTConfig(
        output_dir=str(out / "checkpoints"), max_steps=n_steps, per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // micro, learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule, warmup_steps=settings.warmup, weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm, optim=settings.optimizer, seed=settings.seed, data_seed=settings.seed,
        bf16=half, fp16=False, use_cpu=not on_gpu, gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False}, max_length=settings.max_tokens, packing=False,
        padding_free=False, shuffle_dataset=False, train_sampling_strategy="sequential", loss_type="nll",
        dataset_kwargs={"skip_prepare_dataset": True}, completion_only_loss=False, assistant_only_loss=False,
        remove_unused_columns=False, dataloader_num_workers=0, dataloader_pin_memory=on_gpu, dataloader_drop_last=False,
        logging_strategy="steps", logging_steps=1, logging_nan_inf_filter=False, eval_strategy="no", save_strategy="no",
        save_total_limit=2, save_only_model=False, report_to=settings.report_to, disable_tqdm=True, push_to_hub=False,
    )  # fmt: skip
    data = Dataset.from_dict({name: [row[name] for row in rows] for name in ("input_ids", "labels")})
    trainer = SFTTrainer(model=model, processing_class=tokenizer, train_dataset=data.select(np.concatenate(plan)),
                         callbacks=[Watch()], args=args)  # fmt: skip
    trainer.remove_callback(PrinterCallback)
    trainer.create_model_card = lambda *args, **kwargs: None
    trainer.train(resume_from_checkpoint=resume)
    if not checkpoints:
        _save(trainer.model, tokenizer, out / f"best-{n_steps}", cast)
    return [h for h in trainer.state.log_history if "seconds" in h], n_parameters


def _load(base_model, settings: Settings):
    """The model to train, with fresh adapters unless the method is full, and the number of its base's parameters."""
    import torch

    full, four_bit, recompute = settings.method == "full", settings.method == "qlora", settings.gradient_checkpointing
    half = settings.dtype == "bfloat16"
    dtype = torch.bfloat16 if half and not full else torch.float32
    lora = dict(r=settings.lora_rank, lora_alpha=settings.lora_alpha, lora_dropout=settings.lora_dropout,
                target_modules=list(settings.lora_targets), bias="none")  # fmt: skip
    if settings.backend == "unsloth":
        from unsloth import FastLanguageModel

        load = {"dtype": dtype, "use_gradient_checkpointing": "unsloth" if recompute else False}
        if full and half and torch.cuda.is_available():  # its GPU loader's words for float32 weights under bfloat16
            load |= {"dtype": torch.bfloat16, "float32_mixed_precision": True}
        model, _ = FastLanguageModel.from_pretrained(
            str(base_model), max_seq_length=settings.max_tokens, load_in_4bit=four_bit, full_finetuning=full, **load
        )
        n_parameters = model.num_parameters()
        if not full:
            model = FastLanguageModel.get_peft_model(
                model, **lora, use_gradient_checkpointing=load["use_gradient_checkpointing"], random_state=settings.seed
            )
    else:
        from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
        from transformers import AutoModelForCausalLM, BitsAndBytesConfig

        quantised = {
            "quantization_config": BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=dtype,
            )
        }
        model = AutoModelForCausalLM.from_pretrained(base_model, dtype=dtype, **quantised if four_bit else {})
        n_parameters = model.num_parameters()
        if four_bit:
            model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=recompute)
        if not full:
            torch.manual_seed(settings.seed)
            model = get_peft_model(model, LoraConfig(**lora, task_type="CAUSAL_LM"))
    model.config.use_cache = False
    return model, n_parameters


def _save(model, tokenizer, folder: Path, cast=None) -> None:
    """Write model and tokenizer to `folder` in one step: a temporary folder, flushed to disk, then renamed."""
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    caching, model.config.use_cache = model.config.use_cache, True
    state = {"state_dict": {k: v.to(cast) for k, v in model.state_dict().items()}} if cast else {}
    model.save_pretrained(temporary, **state)
    tokenizer.save_pretrained(temporary)
    model.config.use_cache = caching
    if cast:
        config = json.loads((temporary / "config.json").read_text())
        write_json(temporary / "config.json", {**config, "dtype": str(cast).removeprefix("torch.")})
    for file in temporary.iterdir():
        with open(file, "rb") as f:
            os.fsync(f.fileno())
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)


def _latest(out: Path) -> tuple[str | None, int]:
    """The newest whole checkpoint and its step; broken ones, left by a kill while writing, are deleted.

    Whole: its state parses, its weights open, its archives pass their CRC, and the best model it knows still exists.
    """
    from safetensors import SafetensorError, safe_open

    for step in sorted((int(f.name[11:]) for f in out.glob("checkpoints/checkpoint-*")), reverse=True):
        folder = out / "checkpoints" / f"checkpoint-{step}"
        try:
            best = _best(read_json(folder / "trainer_state.json")["log_history"])
            weights = [safe_open(file, "numpy") for file in folder.glob("*.safetensors")]
            torn = [zipfile.ZipFile(folder / f"{name}.pt").testzip() for name in ("optimizer", "scheduler")]
            if weights and not any(torn) and (best is None or (out / f"best-{best}").exists()):
                return str(folder), step
        except (OSError, ValueError, KeyError, SafetensorError, zipfile.BadZipFile):
            pass
        shutil.rmtree(folder)
    return None, 0


def _best(history: list[dict]) -> int | None:
    """The step of the highest validation accuracy, the earliest of equals."""
    return min(((-h["accuracy"], h["step"]) for h in history if "accuracy" in h), default=(0, None))[1]
