"""What opening engines costs: LoRA students and their bases, tested with one opening each and with one a base.

    python benchmarks/openings.py [--engine vllm] [--rank 16] [--problems 100]

The students are the bundled models with random adapters, as if 04 had trained them: what is measured does not depend on
what they learnt. 05 tests them twice in this process: each student by a call of its own, which opens an engine for it,
and all by one call. Greedy answers must be the same both times. Wall seconds depend on what else the machine does,
CPU-seconds of this process less.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pandas as pd

from wcse_lib import evaluate, plan
from wcse_lib.sample import load_tokenizer
from wcse_lib.store import read_json, read_samples, write_json
from wcse_lib.study import Machine, Run, check_study, resolve_model


def made_study(folder: Path, n_problems: int, rank: int) -> Run:
    """A study after 04: two bases, each with four students that are random adapters of this rank."""
    study = {
        "study": "openings",
        "dataset": {"name": "nano", "n_train": 40, "n_held_out": n_problems, "levels": [1]},
        "arms": {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
        "budget": {"reference": "se", "samples": {"low": 1, "high": 4}},
        "students": {"small": {"model": "nano-student"}, "wc": {"model": "nano-wc"}},
        "training": {"method": "lora", "lora_rank": rank, "amount": {"low": 1, "high": 2}},
        "controls": {"planted": 0, "reference": False},
        "evaluation": {"n_samples": 2, "max_tokens": 60, "maj_k": [2]},
    }
    run = plan.make_plan(check_study(study, "openings"), folder)
    for seed, (name, student) in enumerate(run.plan.students.items()):
        if student.source != "base":
            add_adapter(resolve_model(student.model), run.path("04", name, "model"), seed, rank)
            write_json(run.path("04", name, "training.json"), {"seed": seed})
    return run


def add_adapter(model: str, folder: Path, seed: int, rank: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(seed)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(
        r=rank, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(AutoModelForCausalLM.from_pretrained(model), config).save_pretrained(folder)
    load_tokenizer(model).save_pretrained(folder)


def tested(run: Run, machine: Machine, calls: list[list[str]]) -> dict:
    """What 05 took in so many calls, each for some students."""
    start, cpu = time.monotonic(), time.process_time()
    for students in calls:
        evaluate.evaluate(run, students, machine)
    openings = read_json(run.path("05", "openings.json"))
    return {
        "openings": len(openings),
        "seconds to open": sum(opening["seconds"] for opening in openings),
        "seconds": time.monotonic() - start,
        "CPU-seconds": time.process_time() - cpu,
    }


def greedy(run: Run) -> pd.Series:
    tables = [read_samples(run.path("05", student, "greedy")) for student in run.plan.students]
    return pd.concat(tables).set_index(["author", "problem_id"])["text"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", default="vllm", choices=["vllm", "hf"])
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--problems", type=int, default=100)
    args = parser.parse_args()
    machine = Machine(
        engine=args.engine, device="cpu", threads=1, max_model_len=512, kv_cache_gib=0.5
    )
    rows, texts = {}, []
    with tempfile.TemporaryDirectory() as folder:
        for way in ("one a student", "one a base"):
            run = made_study(Path(folder) / way.replace(" ", "-"), args.problems, args.rank)
            students = list(run.plan.students)
            calls = [[name] for name in students] if way == "one a student" else [students]
            rows[way] = tested(run, machine, calls)
            texts.append(greedy(run))
    same = (texts[0] == texts[1].loc[texts[0].index]).mean()
    print(pd.DataFrame(rows).T.round(1).to_string())
    print(f"{len(students)} students; greedy answers that are the same: {same:.2%}")


if __name__ == "__main__":
    main()
