"""Peak memory, time and disk of every stage after generation, from a small study to a large one: memory should hardly
grow.

    python benchmarks/memory.py [--rows 100000 1000000 10000000] [--problems 5000] [--stages 04 05] [--folder DIR]
    python benchmarks/memory.py --texts ../shared/data/math_test_half.jsonl      disk of samples with real solutions

Each study is made up: two arms with half of the rows each, and a student with as many held-out samples as both, in
parts of the usual size; short texts hold a sum. More rows are more samples of the same problems; with `--per-problem N`
they are more problems of N samples. Every stage runs in a process of its own, whose peak is printed, how much higher
it is than at the size before, and in `disk_bytes` what it wrote, for each row. 02 draws one arm, half of the rows, by
an engine that takes no time; 04 is what it reads and encodes before it trains, 05 what follows its sampling.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from studies import write_plan

from wcse_lib import store
from wcse_lib.analyze import stage as analysis
from wcse_lib.evaluate import stage as evaluation
from wcse_lib.report import publish
from wcse_lib.sample import Decoding, Opened, Output, Request, load_tokenizer
from wcse_lib.sample import draw as draw_samples
from wcse_lib.study import Machine, Prompt, Run, resolve_model
from wcse_lib.train import rows as training
from wcse_lib.verdicts import verifier
from wcse_lib.verify import stage as verification

ARMS, PART = ("se", "wc"), 4096
STUDENT, BASE = "small.wc.high", "small.base"
REPORT = {"epochs": 1.0, "n_examples": 1, "loss_curve": [[1, 0.0, 0.0]], "validation_curve": []}
REST = {"seed": 1, "n_prompt_tokens": 9, "prompt_hash": "", "finish_reason": "stop"}
REST |= {"engine": "hf", "error": "", "usd": float("nan")}
REST |= {"n_cached_tokens": -1, "n_reasoning_tokens": -1}
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
    for i in problems:
        keys += [(i, sample_index) for sample_index in range(n)]
        while len(keys) >= PART or (keys and i == problems[-1]):
            part, keys = keys[:PART], keys[PART:]
            rows = [(f"p{i:07d}", j, _text(i, rng), rng.randint(9, 40)) for i, j in part]
            frame = pd.DataFrame(rows, columns=["problem_id", "sample_index", "text", "n_tokens"])
            frame = frame.assign(**REST, author=author, model=author)[list(store.SAMPLE_COLUMNS)]
            store.write_parquet(folder / f"part-{number:05d}.parquet", frame)
            number += 1


def disk_of_texts(data: Path) -> None:
    """Print what samples take on the disk whose texts are the solutions in a file of JSON lines, one part of them."""
    rows = [json.loads(line) for line in data.read_text(encoding="utf-8").splitlines()]
    texts = pd.Series([row["solution"] for row in rows][:PART])
    frame = pd.DataFrame({"problem_id": [f"p{i:07d}" for i in range(len(texts))], "text": texts})
    frame = frame.assign(
        sample_index=0, n_tokens=texts.str.len() // 4, **REST, author="se", model="se"
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "part.parquet")
        store.write_parquet(path, frame[list(store.SAMPLE_COLUMNS)])
        per_sample = path.stat().st_size / len(texts)
    characters = texts.str.len().mean()
    print(
        f"{len(texts)} texts of {characters:.0f} characters: {per_sample:.0f} bytes a sample, "
        f"{per_sample / characters:.2f} a character"
    )


def _text(i: int, rng: random.Random) -> str:
    a, b = rng.randint(0, 99), rng.randint(0, 9)
    difference = i - a if b else i + a
    answer = i + 1 if rng.random() < 0.5 else b
    return f"{i}-{a}={difference}, and {i - a}+{a + 1}={i + 1}.\n#### {answer}"


class Instant:
    """An engine that costs nothing: what is left of 02 is the kit's own."""

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]:
        rng = random.Random(0)
        for number, request in enumerate(requests):
            yield Output(
                request.key, _text(number % 5000, rng), len(request.prompt_ids), 20, "stop"
            )

    def close(self) -> None:
        pass


def stage_02(run: Run) -> None:
    problems = store.read_parquet(run.path("01", "train.parquet"))
    source = Opened(Instant(), "hf", load_tokenizer(resolve_model("nano-wc")))
    n, how = run.arm("se").samples["high"], {"prompt": Prompt(), "decoding": Decoding(), "seed": 0}
    draw_samples(run.folder / "02_drawn", "se", problems, n, source, model="se", **how)


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
    "02": stage_02,
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


def bytes_in(folder: Path, stage: str) -> int:
    """What the files of a stage take, such as of 03, and of "publish" what it writes."""
    own = folder.glob(f"{stage}*/**/*")
    return sum(path.stat().st_size for path in own if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=Path, help="print what samples with these solutions take")
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--problems", type=int, default=5000)
    parser.add_argument("--per-problem", type=int)
    parser.add_argument("--stages", nargs="+", default=list(STAGES), choices=STAGES)
    parser.add_argument(
        "--folder", type=Path, help="where the studies lie and stay; default: a temporary folder"
    )
    parser.add_argument("--run", choices=["make", *STAGES], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.texts:
        disk_of_texts(args.texts)
        return
    if args.run:
        make(args.folder, *args.rows, args.problems) if args.run == "make" else STAGES[args.run](
            Run(args.folder)
        )
        used = resource.getrusage(resource.RUSAGE_SELF)
        print(used.ru_utime + used.ru_stime, used.ru_maxrss)
        return
    peaks: dict[str, float] = {}
    print("stage", "rows", "cpu_seconds", "peak_mib", "ratio", "disk_bytes", sep="\t", flush=True)
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
                before = bytes_in(folder, stage)
                seconds, peak = apart(stage, folder)
                wrote = (bytes_in(folder, stage) - before) / n
                ratio = f"{peak / peaks[stage]:.2f}" if stage in peaks else ""
                peaks[stage] = peak
                numbers = (f"{seconds:.1f}", f"{peak:.0f}", ratio, f"{wrote:.0f}")
                print(stage, n, *numbers, sep="\t", flush=True)


if __name__ == "__main__":
    main()
