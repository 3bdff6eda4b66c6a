"""Peak memory of every stage after generation, from a small study to a large one: it should hardly grow.

    python benchmarks/memory.py [--rows 100000 1000000 10000000] [--problems 5000] [--stages 03 04 06 publish]
    [--folder DIR]

Each study is made up: two arms with half of the rows each, short texts that hold a sum, in parts of the usual
size. More rows are more samples of the same problems; with `--per-problem N` they are more problems of N samples
in each arm. Every stage runs in a process of its own, whose peak is printed, and how much higher it is than at the
size before. 04 is what it reads and encodes before it trains. 05 is left out: it holds no more than the students'
own few held-out samples.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
from itertools import islice, product
from pathlib import Path

import pandas as pd

from wcse_lib import store
from wcse_lib.analyze import stage as analysis
from wcse_lib.report import publish
from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.study import Machine, Run, check_study, resolve_model
from wcse_lib.train import stage as training
from wcse_lib.verify import stage as verification

BUDGETS, ARMS, PART = ("low", "high"), ("se", "wc"), 4096
STUDENT = {
    "base": "small",
    "model": "nano-student",
    "source": "arm",
    "arm": "wc",
    "budget": "high",
    "recipe": "main",
    "seed": 0,
}


def make(folder: Path, n_rows: int, n_problems: int) -> None:
    """A study as 01 and 02 leave it; half of the answers and most of the sums are right, some texts are the same."""
    n = n_rows // len(ARMS) // n_problems
    study = {
        "study": folder.name,
        "dataset": {
            "name": "files",
            "train": "x.jsonl",
            "columns": {"question": "question", "answer": "answer"},
        },
        "arms": {arm: {"model": arm, "n_parameters": 1.0e9} for arm in ARMS},
        "recipes": {"one": {"per_problem": 1}},
        "budget": {"reference": "se", "samples": {"low": max(1, n // 2), "high": n}},
    }
    arm = {
        "n_parameters": 1.0e9,
        "planned_flops_per_token": 2.0e9,
        "price": None,
        "tokens_per_sample": 20.0,
    }
    plan = {
        "study": check_study(study, "here").model_dump(mode="json"),
        "plan_id": "0123456789abcdef",
        "students": {},
    }
    plan |= {
        "arms": {
            name: arm | {"model": name, "samples": study["budget"]["samples"]} for name in ARMS
        }
    }
    store.write_json(
        folder / "01_plan/plan.json",
        plan | {"n_problems": {"train": n_problems, "validation": 0, "held_out": 1}},
    )
    problems = [
        (f"p{i:07d}", f"What is {i}+1?", str(i + 1), "", "", "1") for i in range(n_problems + 1)
    ]
    frame = pd.DataFrame(
        problems, columns=["problem_id", "question", "answer", "tests", "reference", "level"]
    )
    for name, part in {
        "train": frame[:-1],
        "held_out": frame[-1:],
        "validation": frame[:0],
    }.items():
        store.write_parquet(folder / f"01_plan/{name}.parquet", part)
    rest = {
        "seed": 1,
        "n_prompt_tokens": 9,
        "finish_reason": "stop",
        "engine": "hf",
        "prompt_hash": "",
        "error": "",
        "usd": float("nan"),
    }
    for author in ARMS:
        rng, keys = random.Random(author), product(range(n_problems), range(n))
        for number, part in enumerate(iter(lambda: list(islice(keys, PART)), [])):  # noqa: B023
            rows = [(author, f"p{i:07d}", j, _text(i, rng), rng.randint(9, 40)) for i, j in part]
            frame = pd.DataFrame(rows, columns=[*store.KEY, "text", "n_tokens"]).assign(
                **rest, model=author
            )
            store.write_parquet(
                folder / f"02_generate/{author}/part-{number:05d}.parquet",
                frame[list(store.SAMPLE_COLUMNS)],
            )
        store.write_json(
            folder / f"02_generate/{author}/manifest.json", {"seconds_per_sample": 0.01}
        )


def _text(i: int, rng: random.Random) -> str:
    a, b = rng.randint(0, 99), rng.randint(0, 9)
    return f"{i}-{a}={i - a if b else i + a}, and {i - a}+{a + 1}={i + 1}.\n#### {i + 1 if rng.random() < 0.5 else b}"


def stage_03(run: Run) -> None:
    for arm in ARMS:
        verified = verification.verify(run, arm, Machine(workers=1))
        verification.three_rows(run, arm)
        verification.checks(run, arm, verified)


def stage_04(run: Run) -> None:
    run.plan["students"]["small"] = STUDENT
    training.encoded_rows(run, "small", load_tokenizer(resolve_model("nano-student")))


def stage_06(run: Run) -> None:
    analysis.checks(run, analysis.analyze(run))


def stage_publish(run: Run) -> None:
    publish.publish_study(run, run.folder / "published")


STAGES = {"03": stage_03, "04": stage_04, "06": stage_06, "publish": stage_publish}


def apart(stage: str, folder: Path, *more) -> tuple[float, float]:
    """CPU-seconds and peak MiB of a stage in a new process. Linux lets a new process begin at its parent's peak,
    so that the parent must do nothing big itself."""
    command = [sys.executable, __file__, "--run", stage, "--folder", str(folder), *map(str, more)]
    seconds, peak = subprocess.run(
        command, stdout=subprocess.PIPE, text=True, check=True
    ).stdout.split()[-2:]
    return float(seconds), int(peak) / 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--problems", type=int, default=5000)
    parser.add_argument("--per-problem", type=int)
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument(
        "--folder", type=Path, help="where the studies lie and stay; default: a temporary folder"
    )
    parser.add_argument("--run", choices=["make", *STAGES], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        make(args.folder, *args.rows, args.problems) if args.run == "make" else STAGES[args.run](
            Run(args.folder)
        )
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_utime + used.ru_stime, used.ru_maxrss)
        return
    peaks: dict[str, float] = {}
    print("stage", "rows", "cpu_seconds", "peak_mib", "ratio", sep="\t", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for n in sorted(args.rows):
            folder = (args.folder or Path(temporary)) / f"rows-{n}"
            if not (folder / "01_plan").exists():
                apart(
                    "make",
                    folder,
                    "--rows",
                    n,
                    "--problems",
                    n // len(ARMS) // args.per_problem if args.per_problem else args.problems,
                )
            for stage in args.stages:
                seconds, peak = apart(stage, folder)
                ratio = f"{peak / peaks[stage]:.2f}" if stage in peaks else ""
                peaks[stage] = peak
                print(stage, n, f"{seconds:.1f}", f"{peak:.0f}", ratio, sep="\t", flush=True)


if __name__ == "__main__":
    main()
