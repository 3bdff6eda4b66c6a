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
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib import budget
from wcse_lib.sample import kept_by_processor
from wcse_lib.store import read_json, write_json
from wcse_lib.study import Settings

MASKED = -100  # the label that the cross-entropy ignores
POOL = 16  # batches whose rows are sorted by length together, so that a batch holds little padding
NO_MEMORY = (
    "out of memory",
    "allocate memory",
    "ALLOC_FAILED",
)  # in messages of CUDA, the CPU's allocator, cuBLAS
RESUMING = (
    "optimizer.pt",
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "trainer_state.json",
    "training_args.bin",
)


class Diverged(ValueError):
    """A loss or gradient that is no number; the message says at which step and learning rate."""


def end_token(tokenizer, style: str = "chat") -> int:
    """The id of the token that ends an assistant's turn: the first special one that the chat template sets after the
    answer (Gemma's <end_of_turn>, Llama's <|eot_id|>, Qwen's <|im_end|>), else, and in `plain` prompts, EOS."""
    if style == "chat" and tokenizer.chat_template:
        turns = [
            {"role": "user", "content": "question"},
            {"role": "assistant", "content": "ANSWER"},
        ]
        after = tokenizer.apply_chat_template(turns, tokenize=False).rpartition("ANSWER")[2]
        special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        special = (special | {*tokenizer.all_special_ids}) - {
            tokenizer.bos_token_id,
            tokenizer.unk_token_id,
        }
        if found := [
            i for i in tokenizer(after, add_special_tokens=False)["input_ids"] if i in special
        ]:
            return found[0]
    if tokenizer.eos_token_id is None:
        raise ValueError(
            "the tokenizer has no EOS and its chat template ends no turn: no student could learn to stop"
        )
    return tokenizer.eos_token_id


def encode(
    tokenizer, prompt_ids: list[int], completion: str, max_tokens: int, end_id: int | None = None
):
    """A row, `input_ids` and `labels` (prompt −100, completion and end token trained), or None above `max_tokens`.

    Special tokens spelt out in the completion stay text; `end_id` is the EOS unless given. A long row is for the caller
    to count, never cut: that would teach to stop midway.
    """
    end_id = tokenizer.eos_token_id if end_id is None else end_id
    tail = [
        *tokenizer(completion, add_special_tokens=False, split_special_tokens=True)["input_ids"],
        end_id,
    ]
    row = {"input_ids": [*prompt_ids, *tail], "labels": [MASKED] * len(prompt_ids) + tail}
    return row if len(row["labels"]) <= max_tokens else None


def check_rows(rows: list[dict], tokenizer, end_id: int | None = None) -> None:
    """Raise ValueError naming the first row that is torn, all masked, unended, or whose prompt has not one BOS.

    The BOS must stand in front; more are allowed further inside where the chat template marks turns with that token.
    """
    if not rows:
        raise ValueError("no rows to train on: every example was filtered out or too long")
    end_id, bos_id = tokenizer.eos_token_id if end_id is None else end_id, tokenizer.bos_token_id
    marks_turns = bos_id == tokenizer.eos_token_id or str(tokenizer.bos_token) in str(
        tokenizer.chat_template
    )
    for i, row in enumerate(rows):
        ids, labels = row["input_ids"], row["labels"]
        n_prompt = next((j for j, label in enumerate(labels) if label != MASKED), len(labels))
        n_bos, n_leading = (
            ids[:n_prompt].count(bos_id),
            next((j for j, x in enumerate(ids) if x != bos_id), len(ids)),
        )
        faults = {
            f"empty or torn, {len(ids)} tokens and {len(labels)} labels": not ids
            or len(ids) != len(labels),
            f"all {len(labels)} labels are masked, so nothing would be learnt from it": n_prompt
            == len(labels),
            "its labels differ from the tokens after the prompt": labels[n_prompt:]
            != ids[n_prompt:],
            f"end token {end_id} is not trained, so the student would not learn to stop": labels[
                -1:
            ]
            != [end_id],
            f"prompt with {n_bos} BOS ({bos_id}), {n_leading} of them at its start; wanted one, there": bos_id
            is not None
            and (n_leading != 1 or (n_bos != 1 and not marks_turns)),
        }
        if any(faults.values()):
            raise ValueError(
                f"row {i}: {next(reason for reason, found in faults.items() if found)}"
            )


def coloured(rows: list[dict], tokenizer, n: int = 3) -> str:
    """HTML that shows the first `n` rows token by token: grey is masked, green is trained; hover for id and label."""
    colours, parts = {True: "#ddd", False: "#bde5b8"}, []
    for i, row in enumerate(rows[:n]):
        labels = row["labels"]
        parts.append(
            f"<p>row {i}: {len(labels)} tokens, {len(labels) - labels.count(MASKED)} trained</p>"
        )
        for token, label in zip(row["input_ids"], labels):
            text = (
                html.escape(tokenizer.decode([token])).replace("\n", "⏎<br>").replace(" ", "&nbsp;")
            )
            style = (
                f"style='background:{colours[label == MASKED]}' title='id {token}, label {label}'"
            )
            parts.append(f"<span {style}>{text}</span><wbr>")
    return f"<div style='font-family:monospace'>{''.join(parts)}</div>"


def batches(lengths, settings: Settings) -> list[np.ndarray]:
    """Row indices of every optimiser step, from the seed alone: the same for any micro batch, backend or restart.

    `lengths` are tokens per row, (n,). Each epoch is a permutation; batches run on over its end, and only the very last
    may be smaller. Rows are sorted by length within pools no larger than an epoch, then the batches are shuffled.
    """
    lengths, size, amount = np.asarray(lengths), settings.batch_size, settings.amount
    n, rng = len(lengths), np.random.default_rng(settings.seed)
    epochs = {
        "steps": round(amount) * size / n,
        "epochs": amount,
        "tokens": amount / lengths.sum(),
    }[settings.training]
    stream, count = (
        np.concatenate([rng.permutation(n) for _ in range(math.ceil(epochs))]),
        max(1, round(epochs * n)),
    )
    if settings.training == "tokens":  # up to and with the row that reaches the amount
        count = int(np.searchsorted(np.cumsum(lengths[stream]), amount)) + 1
    stream = stream[:count]
    steps, pool = [], size * max(1, min(POOL, n // size))
    for i in range(0, len(stream), pool):
        part = stream[i : i + pool]
        part = part[np.argsort(lengths[part], kind="stable")]
        cut = [part[j : j + size] for j in range(0, len(part), size)]
        order = rng.permutation(len(part) // size).tolist()
        steps += [cut[j] for j in order] + cut[len(order) :]
    return steps


def open_backend(backend: str) -> None:
    """Import the backend. Unsloth patches what is imported after it, so call this first of all in the process."""
    if backend == "unsloth":
        ours = {"UNSLOTH_DISABLE_STATISTICS": "1", "UNSLOTH_DISABLE_AUTO_PADDING_FREE": "1"}
        os.environ.update(
            ours | {"UNSLOTH_COMPILE_LOCATION": tempfile.mkdtemp(prefix="unsloth-")} | os.environ
        )
        import unsloth  # noqa: F401


def train(
    base_model: str | Path,
    rows: list[dict],
    settings: Settings,
    out: Path,
    validate: Callable | None = None,
    progress: Callable[[int, int, float], None] | None = None,
    n_dropped_long: int = 0,
    end_id: int | None = None,
    renew: bool = False,
) -> dict:
    """Train a student from `base_model` on encoded `rows`, leave it in `out/model`, return the train report.

    `validate(model, tokenizer, step) -> accuracy` sees the live model (eval mode, no gradients) at each checkpoint; the
    best is kept, the earliest of equals (of several learning rates too, the first); without it, the last. The student's
    tokenizer takes `end_id` for its EOS: engines stop there. `progress(step, n_steps, loss)` is called every step.
    Called again after a kill it goes on from the latest whole checkpoint, after success it returns the saved report.
    Running out of memory halves the micro batch. FLOPs are budget.training_flops, tokens without padding, of all rates that came to an end;
    planned ones at the rows' mean length; validation and steps repeated after a kill are left out. Raises ValueError: a
    row too long, another training in `out` (unless `renew`: then that is thrown away), a loss or gradient that is not finite (with step and learning rate).
    """
    out, notes, rest = Path(out), [], (validate, progress, n_dropped_long, end_id)
    if missing := settings.missing():
        raise ValueError(
            f"{', '.join(missing)}: not installed; install it, or choose another backend, method or report_to"
        )
    open_backend(settings.backend)
    import torch
    from transformers import AutoTokenizer
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if on_gpu := torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if settings.dtype == "auto":
        settings = replace(
            settings, dtype="bfloat16" if on_gpu and torch.cuda.is_bf16_supported() else "float32"
        )
    lengths = np.array([len(row["input_ids"]) for row in rows])
    if not rows or lengths.max() > settings.max_tokens:
        raise ValueError(
            f"{len(rows)} rows of up to {max(lengths, default=0)} tokens; limit {settings.max_tokens}"
        )
    of_settings = asdict(replace(settings, micro_batch_size=0, report_to=(), compile=False))
    identity = {
        "base_model": str(base_model),
        "data_sha256": _digest(rows),
        "settings_sha256": _digest([of_settings]),
    }
    finished, latest = (out / "report.json").exists(), _latest(out / "checkpoints")[0]
    if (finished or latest or (out / "rates").exists()) and (
        old := read_json(out / "training.json")
    ) != identity:
        if renew:
            print(
                f"{out.name}: its examples or settings are others than before; trained anew",
                flush=True,
            )
            for name in (
                "report.json",
                "training.json",
            ):  # the report first: without it nothing counts as finished
                (out / name).unlink(missing_ok=True)
            for name in ("model", "merged", "checkpoints", "rates"):
                shutil.rmtree(out / name, ignore_errors=True)
            return train(base_model, rows, settings, out, *rest)
        raise ValueError(
            f"{out} holds another training ({old}, not {identity}): delete it or choose another folder"
        )
    if finished:
        for name in ("checkpoints", "rates"):
            shutil.rmtree(out / name, ignore_errors=True)
        return read_json(out / "report.json")
    write_json(out / "training.json", identity)
    if isinstance(settings.learning_rate, tuple):
        return _best_rate(base_model, rows, settings, out, identity, *rest)
    tokenizer, plan = AutoTokenizer.from_pretrained(base_model), batches(lengths, settings)
    if end_id not in (None, tokenizer.eos_token_id):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(end_id)
    micro, micro_batches = settings.micro_batch_size or settings.batch_size, []
    while True:
        resume, step = _latest(out / "checkpoints")
        micro_batches.append((step, micro))
        notes += [f"resumed at step {step}"] if resume else []
        try:
            history, *sizes = _run(
                base_model, tokenizer, rows, plan, settings, micro, out, resume, validate, progress
            )
            break
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if micro == 1 or not any(words in str(error) for words in NO_MEMORY):
                raise
        micro = max(d for d in range(1, micro // 2 + 1) if settings.batch_size % d == 0)
        notes.append(
            f"out of memory: micro batch now {micro}, accumulated {settings.batch_size // micro} times"
        )
        print(f"{out.name}: {notes[-1]}", flush=True)
        gc.collect()
        if on_gpu:
            torch.cuda.empty_cache()

    scores = [(h["step"], h["accuracy"]) for h in history if "accuracy" in h]
    kept = [
        (-accuracy, step)
        for step, accuracy in scores
        if (out / f"checkpoints/checkpoint-{step}").exists()
    ]
    best_step = min(kept)[1] if kept else len(plan)
    best = out / f"checkpoints/checkpoint-{best_step}"
    order, seconds = np.concatenate(plan), history[-1]["seconds"]
    n_tokens, n_masked = (
        int(lengths[order].sum()),
        np.array([row["labels"].count(MASKED) for row in rows])[order].sum(),
    )
    of = {"steps": settings.batch_size * lengths.mean(), "epochs": lengths.sum(), "tokens": 1}[
        settings.training
    ]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    report = {
        **identity,
        "backend": settings.backend,
        "settings": asdict(settings),
        "n_parameters": sizes[0],
        "n_trained_parameters": sizes[1],
        "n_examples": len(rows),
        "n_dropped_long": n_dropped_long,
        "n_tokens": n_tokens,
        "n_trained_tokens": n_tokens - int(n_masked),
        "steps": len(plan),
        "epochs": len(order) / len(rows),
        "seconds": seconds,
        "validation_seconds": sum(h.get("validation_seconds", 0.0) for h in history),
        "tokens_per_second": n_tokens / seconds,
        "peak_memory_bytes": torch.cuda.max_memory_allocated()
        if on_gpu
        else memory,  # else the process's, ever
        "loss_curve": [(h["step"], h["loss"], h["learning_rate"]) for h in history if "loss" in h],
        "validation_curve": scores,
        "best_step": best_step,
        "accuracy": dict(scores).get(best_step),
        "learning_rate": settings.learning_rate,
        "micro_batches": micro_batches,
        "notes": notes,
        "planned_flops": budget.training_flops(sizes[0], float(settings.amount * of), sizes[1]),
        "spent_flops": budget.training_flops(sizes[0], n_tokens, sizes[1]),
        "versions": {
            name: getattr(sys.modules.get(name), "__version__", None)
            for name in ("torch", "transformers", "trl", "peft", "unsloth")
        },
    }
    if settings.merge and settings.method != "full":
        merge(base_model, best, out / "merged")
    for folder in (".model", "model"):
        shutil.rmtree(out / folder, ignore_errors=True)
    shutil.copytree(best, out / ".model", ignore=shutil.ignore_patterns(*RESUMING))
    for file in (out / ".model").iterdir():
        with open(file, "rb") as f:
            os.fsync(f.fileno())
    os.replace(out / ".model", out / "model")
    write_json(out / "report.json", report)  # last: it says that the training is finished
    shutil.rmtree(out / "checkpoints")
    return read_json(out / "report.json")


def _best_rate(
    base_model, rows, settings: Settings, out: Path, identity: dict, validate, *rest
) -> dict:
    """Train at each learning rate and keep the best; the disk holds the best's and the current one's weights only."""
    if validate is None:
        raise ValueError(
            f"learning_rate is {settings.learning_rate}: several need validation problems to choose by"
        )
    reports, tried, best = {}, [], None
    for rate in dict.fromkeys(settings.learning_rate):
        here = out / "rates" / f"{rate:g}"
        facts = {"learning_rate": rate, "accuracy": None, "best_step": None, "note": ""}
        try:
            reports[here] = train(
                base_model, rows, replace(settings, learning_rate=rate), here, validate, *rest
            )
            tried.append({name: reports[here].get(name, value) for name, value in facts.items()})
        except Diverged as error:
            tried.append(facts | {"note": str(error)})
        if reports:
            best = max(
                reports, key=lambda folder: reports[folder]["accuracy"]
            )  # the first of equals
        for folder in out.glob("rates/*"):
            for weights in ("model", "merged", "checkpoints") if folder != best else ():
                shutil.rmtree(folder / weights, ignore_errors=True)
    if best is None:
        raise Diverged("; ".join(one["note"] for one in tried))
    summed = ("seconds", "validation_seconds", "planned_flops", "spent_flops")
    total = {name: sum(r[name] for r in reports.values()) for name in summed}
    for weights in ("model", "merged"):
        if (best / weights).exists():
            shutil.rmtree(out / weights, ignore_errors=True)
            os.replace(best / weights, out / weights)
    write_json(out / "report.json", reports[best] | identity | total | {"rates": tried})
    shutil.rmtree(out / "rates")
    return read_json(out / "report.json")


def _digest(parts: list) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True).encode())
    return digest.hexdigest()


def curves(report: dict) -> pd.DataFrame:
    """A train report's `step`, `loss`, `learning_rate` and, at checkpoints, validation `accuracy`."""
    frame = pd.DataFrame(report["loss_curve"], columns=["step", "loss", "learning_rate"])
    return frame.assign(
        accuracy=frame["step"].map(dict(map(tuple, report["validation_curve"]))).astype(float)
    )


def log_likelihoods(model: str | Path, rows: list[dict], batch_tokens: int = 1024) -> list[float]:
    """How likely an untrained model finds each row's trained tokens: their summed log probability in nats, (n,)."""
    import torch
    from transformers import AutoModelForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    dtype = torch.float32 if device == "cpu" else "auto"
    live = (
        AutoModelForCausalLM.from_pretrained(model, dtype=dtype, use_safetensors=True)
        .to(device)
        .eval()
    )
    out, todo = [0.0] * len(rows), sorted(range(len(rows)), key=lambda i: len(rows[i]["input_ids"]))
    while todo:
        width = len(rows[todo[-1]]["input_ids"])
        part = [todo.pop() for _ in range(min(len(todo), max(1, batch_tokens // width)))]
        padded = (
            [rows[i][name] + [fill] * (width - len(rows[i][name])) for i in part]
            for name, fill in (("input_ids", 0), ("labels", MASKED))
        )
        ids, labels = (torch.tensor(x, device=device) for x in padded)
        with torch.inference_mode():  # padding stands on the right, where no earlier token sees it
            logits = live(input_ids=ids).logits[:, :-1].float().transpose(1, 2)
            loss = torch.nn.functional.cross_entropy(
                logits, labels[:, 1:], ignore_index=MASKED, reduction="none"
            )
        for i, value in zip(part, (-loss.sum(1)).tolist()):
            out[i] = value
    return out


def merge(base_model: str | Path, adapter: Path, out: Path, dtype: str = "bfloat16") -> None:
    """Write `base_model` with the PEFT `adapter` merged in as an ordinary 16-bit folder, for engines without LoRA."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(adapter)
    base = AutoModelForCausalLM.from_pretrained(
        base_model, dtype=torch.float32, use_safetensors=True
    )
    model = PeftModel.from_pretrained(base, adapter)
    model = model.merge_and_unload().to(getattr(torch, dtype))
    ends = model.generation_config.eos_token_id
    ends = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    model.generation_config.eos_token_id = sorted(ends)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _run(base_model, tokenizer, rows, plan, settings, micro, out, resume, validate, progress):
    """One attempt at the whole training: its log history, the base model's parameters and how many are trained."""
    import torch

    model, n_parameters = _load(base_model, settings)
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    model.config.use_cache = True  # Unsloth turns it off, but the saved model is for generating
    from datasets import Dataset  # with TRL after the backend, so that Unsloth has patched them
    from transformers import PrinterCallback, Trainer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    on_gpu, unsloth, half = (
        torch.cuda.is_available(),
        settings.backend == "unsloth",
        settings.dtype == "bfloat16",
    )
    if (
        not on_gpu and not unsloth
    ):  # TRL's own loss is a Triton kernel, so on a CPU take the model's
        loss = {
            "compute_loss": lambda s, m, x, **k: Trainer.compute_loss(
                s, m, {**x, "use_cache": False}, **k
            )
        }
        SFTTrainer = type("SFTTrainer", (SFTTrainer,), loss)
    if settings.compile:
        kept_by_processor()
    n_steps, n, folder = len(plan), settings.n_checkpoints, out / "checkpoints"
    checkpoints = {round(i * n_steps / n) for i in range(1, n + 1)}

    class Watch(TrainerCallback):
        """Checks each loss, validates and asks for checkpoints; what must outlive a kill is in the log history."""

        def on_train_begin(self, args, state, control, **kwargs):
            self.start = time.monotonic() - (
                state.log_history[-1]["seconds"] if state.log_history else 0.0
            )

        def on_log(self, args, state, control, logs=None, model=None, **kwargs):
            if "loss" not in logs:
                return
            step, now, entry = state.global_step, time.monotonic(), state.log_history[-1]
            for name in ("loss", "grad_norm"):
                if not math.isfinite(logs.get(name, 0.0)):
                    raise Diverged(
                        f"{name} is {logs[name]} at step {step}, learning rate {logs['learning_rate']:g}"
                    )
            entry["seconds"] = now - self.start
            if step in checkpoints and validate:
                model.for_inference() if unsloth else model.eval()
                with torch.random.fork_rng(), torch.no_grad():
                    entry["accuracy"] = float(validate(model, tokenizer, step))
                model.for_training(settings.gradient_checkpointing) if unsloth else model.train()
                best = min(
                    (-h["accuracy"], h["step"]) for h in state.log_history if "accuracy" in h
                )[1]
                state.best_model_checkpoint = str(
                    folder / f"checkpoint-{best}"
                )  # which the trainer then spares
                entry["validation_seconds"] = time.monotonic() - now
                self.start += entry["validation_seconds"]
            control.should_save = step in checkpoints
            if progress:
                progress(step, n_steps, logs["loss"])

        def on_save(self, args, state, control, **kwargs):
            control.should_save = False  # else the end of the epoch would save the last step again

    args = SFTConfig(
        output_dir=str(folder),
        max_steps=n_steps,
        per_device_train_batch_size=micro,
        gradient_accumulation_steps=settings.batch_size // micro,
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.schedule,
        warmup_steps=settings.warmup,
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim=settings.optimizer,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=half,
        fp16=False,
        use_cpu=not on_gpu,
        gradient_checkpointing=settings.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        max_length=settings.max_tokens,
        packing=False,
        padding_free=False,
        shuffle_dataset=False,
        train_sampling_strategy="sequential",
        loss_type="nll",
        dataset_kwargs={"skip_prepare_dataset": True},
        completion_only_loss=False,
        assistant_only_loss=False,
        remove_unused_columns=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=on_gpu,
        dataloader_drop_last=False,
        logging_strategy="steps",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        save_total_limit=2,
        save_only_model=False,
        report_to=list(settings.report_to),
        run_name=out.name,
        disable_tqdm=True,
        push_to_hub=False,
        torch_compile=settings.compile and not unsloth,
    )
    data = Dataset.from_dict(
        {name: [row[name] for row in rows] for name in ("input_ids", "labels")}
    )
    data = data.select(np.concatenate(plan))  # in the order of training
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        train_dataset=data,
        callbacks=[Watch()],
        args=args,
        data_collator=_end_to_end if settings.packing else None,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.create_model_card = lambda *args, **kwargs: None
    trainer.train(resume_from_checkpoint=resume)
    return [h for h in trainer.state.log_history if "seconds" in h], n_parameters, n_trained


def _end_to_end(rows: list[dict]) -> dict:
    """A micro batch as one row without padding; positions that start anew tell attention where each row begins."""
    import torch

    flat = {
        name: torch.tensor([[x for row in rows for x in row[name]]])
        for name in ("input_ids", "labels")
    }
    return flat | {
        "position_ids": torch.tensor([[i for row in rows for i in range(len(row["input_ids"]))]])
    }


def _load(base_model, settings: Settings):
    """The model to train, with fresh adapters unless the method is full, and the number of its base's parameters."""
    import torch

    full, four_bit, recompute = (
        settings.method == "full",
        settings.method == "qlora",
        settings.gradient_checkpointing,
    )
    half, on_gpu = settings.dtype == "bfloat16", torch.cuda.is_available()
    dtype = torch.bfloat16 if half and not full else torch.float32
    lora = dict(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=list(settings.lora_targets) or "all-linear",
        bias="none",
    )
    if settings.backend == "unsloth":
        from unsloth import FastLanguageModel

        mixed = {
            "dtype": torch.bfloat16,
            "float32_mixed_precision": True,
        }  # float32 weights, as its GPU loader says it
        weights = mixed if full and half and on_gpu else {"dtype": dtype}
        again = {"use_gradient_checkpointing": "unsloth" if recompute else False}
        model, _ = FastLanguageModel.from_pretrained(
            str(base_model),
            max_seq_length=settings.max_tokens,
            load_in_4bit=four_bit,
            full_finetuning=full,
            use_safetensors=True,
            **weights,
            **again,
        )
        n_parameters = model.num_parameters()
        if not full:
            model = FastLanguageModel.get_peft_model(
                model, **lora, **again, random_state=settings.seed
            )
        return model, n_parameters
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    bits = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_use_double_quant": True}
    four = (
        {"quantization_config": BitsAndBytesConfig(**bits, bnb_4bit_compute_dtype=dtype)}
        if four_bit
        else {}
    )
    model = AutoModelForCausalLM.from_pretrained(
        base_model, dtype=dtype, use_safetensors=True, **four
    )
    n_parameters = model.num_parameters()
    if four_bit:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=recompute)
    if not full:
        torch.manual_seed(settings.seed)
        model = get_peft_model(model, LoraConfig(**lora, task_type="CAUSAL_LM"))
    return model, n_parameters


def _latest(checkpoints: Path) -> tuple[str | None, int]:
    """The newest checkpoint that opens and passes its CRC, and its step; torn ones, left by a kill, are deleted."""
    from safetensors import SafetensorError, safe_open

    for step in sorted((int(f.name[11:]) for f in checkpoints.glob("checkpoint-*")), reverse=True):
        folder = checkpoints / f"checkpoint-{step}"
        try:
            read_json(folder / "trainer_state.json")  # written last
            weights = [safe_open(file, "numpy") for file in folder.glob("*.safetensors")]
            if weights and not any(
                zipfile.ZipFile(folder / f"{x}.pt").testzip() for x in ("optimizer", "scheduler")
            ):
                return str(folder), step
        except (OSError, ValueError, SafetensorError, zipfile.BadZipFile):
            pass
        shutil.rmtree(folder)
    return None, 0
