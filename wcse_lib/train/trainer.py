"""Fine-tune one student on ready rows, with TRL or Unsloth, resumably; which rows is the caller's affair."""

from __future__ import annotations

import gc
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from wcse_lib import budget
from wcse_lib.sample import load_tokenizer
from wcse_lib.store import differences, read_json, reading, remove, write_json
from wcse_lib.study import Settings, checkpoint_files
from wcse_lib.train.attempt import (
    NO_MEMORY,
    Diverged,
    Training,
    batches,
    best_step,
    measured,
    run_attempt,
)
from wcse_lib.train.models import merge, open_backend, with_dtype
from wcse_lib.train.sharded import WHOLE_STATE, check_checkpoint, check_gpus, run_sharded

# files of a checkpoint that only resuming needs
RESUMING = (
    "optimizer.pt",
    "optimizer.bin",
    WHOLE_STATE,
    "scheduler.pt",
    "scaler.pt",
    "rng_state*.pth",
    "trainer_state.json",
    "training_args.bin",
)


Attempt = Callable[[Any, int, Path | None], tuple[list[dict[str, Any]], dict[str, Any]]]


class AnyTraining(Protocol):
    """What a training has, whatever it learns from: rows that are ready, or what the student writes meanwhile."""

    base_model: str | Path
    settings: Settings
    folder: Path
    end_id: int | None

    @property
    def data_sha256(self) -> str: ...

    def checkpoint(self, step: int) -> Path: ...


def train(training: Training, renew: bool = False) -> dict[str, Any]:
    """Train a student, leave it in `folder/model`, return the train report.

    Of the checkpoints the best by `validate` is kept, the earliest of equals (of several learning rates too, the
    first); without it, the last. Called again after a kill it goes on from the latest whole checkpoint, after success
    it returns the saved report. Running out of memory halves the micro batch. FLOPs are budget.training_flops, tokens
    without padding, of all rates that came to an end; planned ones at the rows' mean length; validation and steps
    repeated after a kill are left out. Raises ValueError: a row too long, another training in the folder (unless
    `renew`: then that is thrown away), a loss or gradient that is not finite (with step and learning rate).
    """
    settings, longest = training.settings, training.rows.lengths.max()
    check_packages(settings)
    if longest > settings.max_tokens:
        n = len(training.rows.lengths)
        raise ValueError(f"{n} rows of up to {longest} tokens; limit {settings.max_tokens}")
    open_backend(settings.backend)
    training = replace(training, settings=with_dtype(settings))
    check_gpus(training.n_processes)
    finished = claim(training, renew)
    if finished:
        return finished
    if isinstance(settings.learning_rate, tuple):
        return _train_at_rates(training)
    return _train_at_one_rate(training)


def check_packages(settings: Settings) -> None:
    """Raises ValueError naming the packages that a training needs and that are not installed here."""
    missing = settings.missing()
    if missing:
        raise ValueError(
            f"{', '.join(missing)}: not installed; install it, or choose another backend, method or report_to"
        )


def identity_of(training: AnyTraining) -> dict[str, Any]:
    """What makes a training this one; how its steps are made (micro batch, compiled) is left out."""
    settings = replace(training.settings, micro_batch_size=0, report_to=(), compile=False)
    text = json.dumps(asdict(settings), sort_keys=True)
    return {
        "base_model": str(training.base_model),
        "base_files": checkpoint_files(str(training.base_model)),
        "data_sha256": training.data_sha256,
        "settings_sha256": hashlib.sha256(text.encode()).hexdigest(),
    }


def claim(training: AnyTraining, renew: bool = False) -> dict[str, Any] | None:
    """Tie the folder to this training; returns the report where it is finished already.

    Raises ValueError where the folder holds another training, unless `renew`.
    """
    folder, identity = training.folder, identity_of(training)
    report, rates, checkpoints = (folder / name for name in ("report.json", "rates", "checkpoints"))
    begun = report.exists() or rates.exists() or latest_checkpoint(checkpoints)[0]
    known = read_json(folder / "training.json") if begun else identity
    # an earlier version of the kit noted no files
    if changes := differences(known, {key: identity[key] for key in known if key in identity}):
        if not renew:
            raise ValueError(
                f"{folder} holds another training ({changes}): delete it or choose another folder"
            )
        print(
            f"{folder.name}: its base, examples or settings are others than before ({changes}); trained anew",
            flush=True,
        )
        # The report first: without it nothing counts as finished.
        remove(report)
        remove(folder / "training.json")
        _delete(folder, "model", "merged", "checkpoints", "rates")
    if report.exists():
        _delete(folder, "checkpoints", "rates")
        return read_json(report)
    write_json(folder / "training.json", identity)
    return None


def _delete(folder: Path, *names: str) -> None:
    for name in names:
        shutil.rmtree(folder / name, ignore_errors=True)


def latest_checkpoint(checkpoints: Path) -> tuple[Path | None, int]:
    """The newest checkpoint that opens and passes its CRC, and its step; torn ones, left by a kill, are deleted."""
    found = {}
    for folder in checkpoints.glob("checkpoint-*"):
        found[int(folder.name.removeprefix("checkpoint-"))] = folder
    for step in sorted(found, reverse=True):
        if _is_whole(found[step]):
            return found[step], step
        shutil.rmtree(found[step])
    return None, 0


def _is_whole(checkpoint: Path) -> bool:
    from safetensors import SafetensorError, safe_open

    weights = list(checkpoint.glob("*.safetensors"))
    # what may not be read is not torn
    for path in checkpoint.iterdir():
        with reading(path):
            path.open("rb").close()
    try:
        read_json(checkpoint / "trainer_state.json")  # written last
        for file in weights:
            safe_open(file, "numpy")
        optimiser = "optimizer.bin" if (checkpoint / WHOLE_STATE).exists() else "optimizer.pt"
        zipped = [checkpoint / optimiser, checkpoint / "scheduler.pt"]
        for path in [*zipped, *checkpoint.glob(WHOLE_STATE)]:
            if zipfile.ZipFile(path).testzip():
                return False
    except (OSError, ValueError, SafetensorError, zipfile.BadZipFile):
        return False
    return bool(weights)


def _train_at_rates(training: Training) -> dict[str, Any]:
    """Train at each learning rate and keep the best; the disk holds the best's and the current one's weights only."""
    folder, rates = training.folder, training.settings.learning_rate
    if training.validate is None:
        raise ValueError(f"learning_rate is {rates}: several need validation problems to choose by")
    tried, reports = [], {}
    for rate in dict.fromkeys(rates):
        here, note = folder / "rates" / f"{rate:g}", ""
        settings = replace(training.settings, learning_rate=rate)
        part = replace(training, folder=here, settings=settings)
        try:
            reports[here] = claim(part) or _train_at_one_rate(part)
        except Diverged as error:
            note = str(error)
        report = reports.get(here, {"accuracy": None, "best_step": None})
        chosen = {name: report[name] for name in ("accuracy", "best_step")}
        tried.append({"learning_rate": rate, **chosen, "note": note})
        # The first of equals stays the best.
        best = max(reports, key=lambda one: reports[one]["accuracy"], default=None)
        for other in folder.glob("rates/*"):
            if other != best:
                _delete(other, "model", "merged", "checkpoints")
    if best is None:
        raise Diverged("; ".join(one["note"] for one in tried))
    for weights in ("model", "merged"):
        if (best / weights).exists():
            _delete(folder, weights)
            os.replace(best / weights, folder / weights)
    report = reports[best] | identity_of(training) | {"rates": tried}
    for name in ("seconds", "validation_seconds", "planned_flops", "spent_flops"):
        report[name] = sum(one[name] for one in reports.values())
    write_json(folder / "report.json", report)
    _delete(folder, "rates")
    return read_json(folder / "report.json")


def _train_at_one_rate(training: Training) -> dict[str, Any]:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    steps = batches(training.rows.lengths, training.settings)
    run = run_attempt if training.n_processes == 1 else run_sharded

    def attempt(tokenizer: Any, micro: int, checkpoint: Path | None) -> tuple[list, dict]:
        check_checkpoint(checkpoint, training.n_processes)
        return run(training, tokenizer, steps, micro, checkpoint)

    history, facts = within_memory(training, attempt, training.n_processes)
    return keep(training, _report(training, steps, history, facts))


def keep(training: AnyTraining, report: dict[str, Any]) -> dict[str, Any]:
    """Leave the chosen checkpoint as the model, and last the report; returns it."""
    settings, folder = training.settings, training.folder
    best = training.checkpoint(report["best_step"])
    if settings.merge and settings.method != "full":
        merge(training.base_model, best, folder / "merged")
    _save_model(best, folder)
    write_json(folder / "report.json", report)  # last: it says that the training is finished
    shutil.rmtree(folder / "checkpoints")
    return read_json(folder / "report.json")


def _save_model(checkpoint: Path, folder: Path) -> None:
    """Copy a checkpoint to `folder/model`, which is there whole or not at all."""
    _delete(folder, ".model", "model")
    copy = folder / ".model"
    shutil.copytree(checkpoint, copy, ignore=shutil.ignore_patterns(*RESUMING))
    for path in copy.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    os.replace(copy, folder / "model")


def within_memory(
    training: AnyTraining, attempt: Attempt, n_processes: int = 1
) -> tuple[list, dict]:
    """Attempts with ever smaller micro batches, each from the latest checkpoint, until one finds memory enough.

    Args: attempt: trains with a tokenizer, so many rows in the memory of each process, from a checkpoint if there is
    one. Returns the log entries of all steps, and facts for the report.
    """
    import torch

    tokenizer = load_tokenizer(training.base_model)
    if training.end_id not in (None, tokenizer.eos_token_id):
        tokenizer.eos_token = tokenizer.convert_ids_to_tokens(training.end_id)
    batch_size = training.settings.batch_size // n_processes
    micro = _divisor(batch_size, training.settings.micro_batch_size or batch_size)
    micro_batches, notes = [], []
    while True:
        checkpoint, step = latest_checkpoint(training.folder / "checkpoints")
        micro_batches.append((step, micro))
        if checkpoint:
            notes.append(f"resumed at step {step}")
        try:
            history, sizes = attempt(tokenizer, micro, checkpoint)
            return history, sizes | {"micro_batches": micro_batches, "notes": notes}
        except RuntimeError as error:  # torch.OutOfMemoryError is one
            if micro == 1 or not any(words in str(error) for words in NO_MEMORY):
                raise
        # Not inside `except`: the error's traceback would keep the memory.
        micro = _divisor(batch_size, micro // 2)
        note = f"out of memory: micro batch now {micro}, accumulated {batch_size // micro} times"
        notes.append(note)
        print(f"{training.folder.name}: {note}", flush=True)
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is at most `most`."""
    return max(n for n in range(1, min(number, most) + 1) if number % n == 0)


def _report(
    training: Training, steps: list[np.ndarray], history: list[dict], facts: dict[str, Any]
) -> dict[str, Any]:
    rows, seen = training.rows, np.concatenate(steps)
    n_tokens, seconds = int(rows.lengths[seen].sum()), history[-1]["seconds"]
    size, n_trained = facts["n_parameters"], facts["n_trained_parameters"]
    amounts = {
        "n_examples": len(rows.lengths),
        "n_dropped_long": training.n_dropped_long,
        "n_tokens": n_tokens,
        "n_trained_tokens": int(rows.n_trained[seen].sum()),
        "epochs": len(seen) / len(rows.lengths),
        "tokens_per_second": n_tokens / seconds,
    }
    flops = {
        "planned_flops": budget.training_flops(size, _planned_tokens(training), n_trained),
        "spent_flops": budget.training_flops(size, n_tokens, n_trained),
    }
    return how_it_went(training, history) | facts | amounts | flops


def how_it_went(training: AnyTraining, history: list[dict]) -> dict[str, Any]:
    """What every train report holds: what was trained, how long, with what losses, and which checkpoint was chosen."""
    n_steps = history[-1]["step"]
    # Validation chooses among the checkpoints that are still on the disk.
    validated = [entry for entry in history if "accuracy" in entry]
    kept = [entry for entry in validated if training.checkpoint(entry["step"]).exists()]
    best = best_step(kept) if kept else n_steps
    accuracies = {entry["step"]: entry["accuracy"] for entry in validated}
    settings = training.settings
    amounts = {
        "steps": n_steps,
        "seconds": history[-1]["seconds"],
        "validation_seconds": sum(entry.get("validation_seconds", 0.0) for entry in history),
    }
    curves = {
        "loss_curve": [(entry["step"], entry["loss"], entry["learning_rate"]) for entry in history],
        "validation_curve": list(accuracies.items()),
        "best_step": best,
        "accuracy": accuracies.get(best),
        "learning_rate": settings.learning_rate,
    }
    how = {"backend": settings.backend, "settings": asdict(settings)}
    return identity_of(training) | how | measured() | amounts | curves


def _planned_tokens(training: Training) -> float:
    """Tokens that the training amounts to, at the rows' mean length."""
    settings, lengths = training.settings, training.rows.lengths
    if settings.training == "steps":
        return float(settings.amount * (settings.batch_size * lengths.mean()))
    if settings.training == "epochs":
        return float(settings.amount * lengths.sum())
    return float(settings.amount)
