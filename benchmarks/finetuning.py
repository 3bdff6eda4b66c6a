"""CPU finetuning against plain padded TRL on the same rows, batch, steps and optimiser, in one run: speed and
held-out loss.

    python benchmarks/finetuning.py [--model nano-wc] [--steps 60] [--seeds 3]

TRL pads every batch of shuffled rows to its longest; ours sorts rows by length within pools first. `as it comes` is TRL
with its own defaults for gradient checkpointing and bfloat16. TRL 1.15's own loss is a Triton kernel, so on a CPU all
four take the model's loss. CPU seconds of the steps alone, loading and saving left out. `ours, compiled` is the
machine key `compile`: what the compiling takes is told apart, by a short training before.
"""

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from wcse_lib.plan.problems import load_problems
from wcse_lib.sample.prompts import load_tokenizer, prompt_ids
from wcse_lib.study import Dataset, Prompt, Settings, resolve_model
from wcse_lib.train.attempt import Training
from wcse_lib.train.encode import encode
from wcse_lib.train.fit import measure
from wcse_lib.train.rows import TOKENS, TrainingRows, write_rows
from wcse_lib.train.trainer import train


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--model", default="nano-wc")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    base = resolve_model(args.model)
    tokenizer = load_tokenizer(base)
    problems = load_problems(Dataset(n_train=500, n_validation=100, n_held_out=1), 0)[0]
    rows, held = (encoded(tokenizer, problems[split]) for split in ("train", "validation"))
    n = rows.lengths
    print(
        f"{args.model}: {len(n)} rows of {n.min()} to {n.max()} tokens (mean {n.mean():.0f}), batch 32"
    )
    print(f"held-out loss before: {loss_of(base, held):.4f}")
    ways = {
        "ours": ours,
        "ours, compiled": lambda *a: ours(*a, compiled=True),
        "plain padded TRL": plain,
        "TRL as it comes": lambda *a: plain(*a, gradient_checkpointing=True, bf16=True),
    }
    clock = time.process_time()
    ours(base, rows, 12, 0, Path(tempfile.mkdtemp()), compiled=True)
    print(f"12 steps with all the compiling: {time.process_time() - clock:.0f} CPU-seconds")
    seconds, losses = ({way: [] for way in ways} for _ in range(2))
    for seed in range(args.seeds):
        for way, run in ways.items():  # by turns, so that a busy machine troubles all alike
            out = Path(tempfile.mkdtemp())
            spent = run(base, rows, args.steps, seed, out)
            seconds[way].append(spent / args.steps)
            losses[way].append(loss_of(out / "model", held))
            shutil.rmtree(out)
    for way in ways:
        each = np.array(seconds[way])
        ratio = np.array(seconds["plain padded TRL"]) / each
        print(
            f"{way:18} {each.mean():.4f} CPU-s a step, {ratio.mean():.2f} times as fast as plain "
            f"padded TRL (seeds {ratio.round(2).tolist()}); "
            f"held-out loss {np.mean(losses[way]):.4f} ± {np.std(losses[way]):.4f}"
        )


def encoded(tokenizer, problems) -> TrainingRows:
    rows = []
    for problem in problems.itertuples():
        prompt = prompt_ids(tokenizer, problem.question, Prompt())
        row = encode(tokenizer, prompt, problem.reference, 256)
        key = {"author": "gold", "problem_id": problem.problem_id, "sample_index": 0}
        rows.append(row | key)
    return write_rows(rows, Path(tempfile.mkdtemp()) / "rows.arrow")


def ours(base, rows, steps, seed, out, compiled=False) -> float:
    settings = Settings(
        method="full",
        training="steps",
        amount=steps,
        learning_rate=1e-3,
        warmup=0.05,
        weight_decay=0.0,
        optimizer="adamw_torch",
        seed=seed,
        max_tokens=256,
        n_checkpoints=1,
        dtype="float32",
        compile=compiled,
    )
    ticks = []

    def tick(*_) -> None:
        ticks.append(time.process_time())

    train(Training(base, rows, settings, out, progress=tick))
    return (ticks[-1] - ticks[0]) * steps / (steps - 1)


def plain(base, rows, steps, seed, out, gradient_checkpointing=False, bf16=False) -> float:
    import torch
    from datasets import disable_progress_bars
    from transformers import AutoModelForCausalLM, Trainer, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    disable_progress_bars()
    ticks = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_, **__):
            ticks.append(time.process_time())

    class Padded(SFTTrainer):
        def compute_loss(self, model, inputs, **rest):
            return Trainer.compute_loss(self, model, {**inputs, "use_cache": False}, **rest)

    args = SFTConfig(
        output_dir=str(out),
        max_steps=steps,
        per_device_train_batch_size=32,
        learning_rate=1e-3,
        warmup_steps=0.05,
        optim="adamw_torch",
        seed=seed,
        use_cpu=True,
        max_length=256,
        save_strategy="no",
        report_to="none",
        bf16=bf16,
        gradient_checkpointing=gradient_checkpointing,
        logging_steps=1,
        disable_tqdm=True,
    )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    trainer = Padded(
        model=model,
        processing_class=load_tokenizer(base),
        train_dataset=rows.data.select_columns(TOKENS),
        args=args,
        callbacks=[Clock()],
    )
    trainer.log = lambda *_, **__: None
    trainer.train()
    model.save_pretrained(out / "model")
    return (ticks[-1] - ticks[0]) * steps / (steps - 1)


def loss_of(model, rows) -> float:
    """Mean loss per trained token."""
    found, _ = measure(model, 1, rows)
    return -found["log_likelihood"].sum() / found["n_tokens"].sum()


if __name__ == "__main__":
    main()
