"""Peak memory of every stage after generation, from a small study to a large one: it should hardly grow.

    python benchmarks/memory.py [--rows 100000 1000000 10000000] [--problems 5000] [--stages 04 05] [--folder DIR]

Each study is made up: two arms with half of the rows each, and a student with as many held-out samples as both, in
parts of the usual size; short texts hold a sum. More rows are more samples of the same problems; with `--per-problem N`
they are more problems of N samples. Every stage runs in a process of its own, whose peak is printed, and how much
higher it is than at the size before. 04 is what it reads and encodes before it trains, 05 what follows its sampling.
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from studies import write_plan

from wcse_lib import store
from wcse_lib.analyze import stage as analysis
from wcse_lib.evaluate import stage as evaluation
from wcse_lib.report import publish
from wcse_lib.sample import load_tokenizer
from wcse_lib.study import Machine, Run, resolve_model
from wcse_lib.train import rows as training
from wcse_lib.verdicts import verifier
from wcse_lib.verify import stage as verification

ARMS, PART = ("se", "wc"), 4096
STUDENT, BASE = "small.wc.high", "small.base"
REPORT = {"epochs": 1.0, "n_examples": 1, "loss_curve": [[1, 0.0, 0.0]], "validation_curve": []}
COST = {"n_tokens": 1, "steps": 1, "planned_flops": 1.0, "spent_flops": 1.0, "seconds": 1.0}


def make(folder: Path, n_rows: int, n_problems: int) -> None:
    """A study as 01, 02 and the sampling of 05 leave it; half of the answers and most of the sums are right."""
    n = n_rows // len(ARMS) // n_problems
    samples = {"low": max(1, n // 2), "high": n}
    columns = {"question": "question", "answer": "answer"}
    study = {
        "study": folder.name,
        "dataset": {"name": "files", "train": "x.jsonl", "columns": columns, "n_held_out": 1},
        "arms": {arm: {"model": arm, "n_parameters": 1.0e9} for arm in ARMS},
        "recipes": {"one": {"per_problem": 1, "students": []}},
        "budget": {"reference": "se", "samples": samples},
        "students": {"small": {"model": "nano-student"}},
        "evaluation": {"n_samples": 2 * n, "maj_k": [8]},
    }
    known = {"n_parameters": 1.0e9, "planned_flops_per_token": 2.0e9, "tokens_per_sample": 20.0}
    student = {"base": "small", "model": "nano-student", "seed": 0}
    taught = {"source": "arm", "arm": "wc", "budget": "high", "recipe": "main"}
    sizes = {"train": n_problems, "validation": 0, "held_out": n_problems}
    plan = {
        "study": study,
        "n_problems": sizes,
        "arms": {arm: known | {"model": arm, "samples": samples} for arm in ARMS},
        "students": {BASE: student | {"source": "base"}, STUDENT: student | taught},
    }
    write_plan(folder, plan)
    for split, first in (("train", 0), ("held_out", n_problems), ("validation", n_problems)):
        numbers = range(first, first + sizes[split])
        problems = pd.DataFrame({"problem_id": [f"p{i:07d}" for i in numbers]}, dtype="str")
        problems["question"] = [f"What is {i}+1?" for i in numbers]
        problems["answer"] = [str(i + 1) for i in numbers]
        problems = problems.assign(tests="", reference="", level="1")
        store.write_parquet(folder / f"01_plan/{split}.parquet", problems)
    for arm in ARMS:
        draw(folder / "02_generate" / arm, arm, range(n_problems), n)
        manifest = folder / "02_generate" / arm / "manifest.json"
        store.write_json(manifest, {"seconds_per_sample": 0.01})
    held_out = range(n_problems, 2 * n_problems)
    for student in (BASE, STUDENT):
        for decoding, n_drawn in (("greedy", 1), ("sampled", 2 * n if student == BASE else 8)):
            draw(folder / "05_evaluate" / student / decoding, student, held_out, n_drawn)
    store.write_json(folder / "04_finetune" / STUDENT / "report.json", REPORT | COST)


def draw(folder: Path, author: str, problems: range, n: int) -> None:
    """Samples in parts of the usual size."""
    rng, keys, number = random.Random(author), [], 0
    rest = {"author": author, "model": author, "seed": 1, "n_prompt_tokens": 9, "prompt_hash": ""}
    rest |= {"finish_reason": "stop", "engine": "hf", "error": "", "usd": float("nan")}
    for i in problems:
        keys += [(i, sample_index) for sample_index in range(n)]
        while len(keys) >= PART or (keys and i == problems[-1]):
            part, keys = keys[:PART], keys[PART:]
            rows = [(f"p{i:07d}", j, _text(i, rng), rng.randint(9, 40)) for i, j in part]
            frame = pd.DataFrame(rows, columns=["problem_id", "sample_index", "text", "n_tokens"])
            frame = frame.assign(**rest)[list(store.SAMPLE_COLUMNS)]
            store.write_parquet(folder / f"part-{number:05d}.parquet", frame)
            number += 1


def _text(i: int, rng: random.Random) -> str:
    a, b = rng.randint(0, 99), rng.randint(0, 9)
    difference = i - a if b else i + a
    answer = i + 1 if rng.random() < 0.5 else b
    return f"{i}-{a}={difference}, and {i - a}+{a + 1}={i + 1}.\n#### {answer}"


def stage_03(run: Run) -> None:
    for arm in ARMS:
        verified = verification.verify(run, arm, Machine(workers=1))
        verification.three_rows(run, arm)
        verification.checks(run, arm, verified)


def stage_04(run: Run) -> None:
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    folder = run.path("04", STUDENT)
    with store.parquet_writer(folder / "dropped.parquet", training.DROPPED) as drop:
        rows = training.encoded_rows(run, STUDENT, tokenizer, drop)
        training.write_rows(rows, folder / "rows.arrow")


def stage_05(run: Run) -> None:
    with verifier("auto", 1, run.study.verification) as check:
        for student in run.plan.students:
            for decoding in evaluation.decodings(run):
                evaluation.verify_samples(run, student, decoding, check)
    table = evaluation.results(run, [BASE])
    evaluation.three_rows(run, BASE)
    evaluation.checks(run, [BASE], table)


def stage_06(run: Run) -> None:
    analysis.checks(run, analysis.analyze(run))


def stage_publish(run: Run) -> None:
    publish.publish_study(run, run.folder / "published")


STAGES = {
    "03": stage_03,
    "04": stage_04,
    "05": stage_05,
    "06": stage_06,
    "publish": stage_publish,
}


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
