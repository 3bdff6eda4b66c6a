"""What of a study's wall time is neither sampling nor training: kernels, imports, loading, verification, figures,
the report.

    python benchmarks/overhead.py [--params params/nano.yaml] [--machine params/machine/cpu.yaml] [--cells]
    python benchmarks/overhead.py --folder outputs/nano [--cells]

Runs the study through the pipeline in a new folder and times it, or reads a finished folder (whose notebooks must
have run in one go). A new run also tells the CPU-seconds of all its processes together. Per step: the notebook's wall
time, from before its kernel starts until after it has stopped, as papermill noted it; seconds of sampling (02, 05) and
of training with its validation (04), as the stages noted them; the rest, and its share of the whole. `--cells` also
lists where each notebook's time went, cell by cell. On a busy machine all of it stretches alike, so the shares say more
than the seconds.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

from wcse_lib.pipeline import steps
from wcse_lib.store import read_json
from wcse_lib.study import Run, load_study

ROOT = Path(__file__).parents[1]
AIM = 0.10


def run(params: str, machine: str) -> tuple[Path, float]:
    """A study's folder, and the wall seconds of the whole pipeline, start of Python to report."""
    outputs = tempfile.mkdtemp(prefix="overhead-")
    command = [
        sys.executable,
        "-m",
        "wcse_lib.pipeline",
        params,
        "--machine",
        machine,
        "--outputs",
        outputs,
    ]
    clock = time.monotonic()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    seconds = time.monotonic() - clock
    if done.returncode:
        sys.exit(done.stderr)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)  # of the pipeline and its kernels
    print(f"CPU-seconds of all its processes: {used.ru_utime + used.ru_stime:.0f}")
    return Path(outputs) / load_study(params).study, seconds


def noted(opened: Run, stage: str, arm: str | None) -> tuple[float, float]:
    """Seconds of sampling and of training (with validation) that a step noted."""
    if stage == "02_generate":
        return read_json(opened.path("02", arm, "manifest.json")).get("seconds", 0.0), 0.0
    if stage == "04_finetune":
        reports = [read_json(path) for path in opened.path("04").glob("*/report.json")]
        return 0.0, sum(r["seconds"] + r["validation_seconds"] for r in reports)
    if stage == "05_evaluate":
        manifests = [read_json(path) for path in opened.path("05").glob("*/manifest.json")]
        parts = [m[decoding] for m in manifests for decoding in ("greedy", "sampled")]
        if lost := [part for part in parts if "seconds" not in part]:
            sys.exit(
                f"{opened.folder}: {len(lost)} tests of students noted no seconds; run 05 anew"
            )
        return sum(part["seconds"] for part in parts), 0.0
    return 0.0, 0.0


def notebook(opened: Run, stage: str, arm: str | None) -> dict:
    return json.loads(
        opened.path(stage, *[arm] * bool(arm), f"{stage}.ipynb").read_text(encoding="utf-8")
    )


def cells(book: dict) -> list[tuple[str, float]]:
    """Seconds of each part of an executed notebook: kernel start, every cell by its first line, kernel stop."""
    whole, out, last = book["metadata"]["papermill"], [], None
    for cell in (c for c in book["cells"] if c["cell_type"] == "code"):
        times = cell["metadata"]["papermill"]
        if not out:
            out.append(("(kernel start)", apart(whole["start_time"], times["start_time"])))
        lines = [
            line
            for line in "".join(cell["source"]).splitlines()
            if line and not line.startswith(("opened = ", "#"))
        ]
        out.append((lines[0][:100] if lines else "(parameters)", times["duration"]))
        last = times["end_time"]
    out.append(("(kernel stop)", apart(last, whole["end_time"])))
    return [*out, ("(between cells)", whole["duration"] - sum(seconds for _, seconds in out))]


def apart(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", default="params/nano.yaml")
    parser.add_argument("--machine", default="params/machine/cpu.yaml")
    parser.add_argument("--folder", help="read this finished study instead of running one")
    parser.add_argument("--cells", action="store_true")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    folder, whole = (Path(args.folder), None) if args.folder else run(args.params, args.machine)
    opened = Run(folder)
    books = {step: notebook(opened, *step) for step in steps(opened.study)}
    walls = {step: book["metadata"]["papermill"]["duration"] for step, book in books.items()}
    report = folder / "report.html"
    if whole is None:
        # from the first kernel to the report; the pipeline's own imports before it are not known
        start = next(iter(books.values()))["metadata"]["papermill"]["start_time"]
        whole = report.stat().st_mtime - datetime.fromisoformat(start).timestamp()
        if not sum(walls.values()) <= whole <= 1.2 * sum(walls.values()) + 60:
            print("this folder did not run in one go: the whole is the sum of its notebooks")
            whole = sum(walls.values())
    print("step\twall\tsampling\ttraining\trest\trest's share of the whole")
    spent = 0.0
    for (stage, arm), wall in walls.items():
        sampling, training = noted(opened, stage, arm)
        spent += sampling + training
        print(row(f"{stage} {arm or ''}".strip(), wall, sampling, training, whole))
    print(row("between notebooks, report", whole - sum(walls.values()), 0.0, 0.0, whole))
    print(
        row(
            "whole", whole, *(sum(noted(opened, *step)[i] for step in walls) for i in (0, 1)), whole
        )
    )
    share = 1 - spent / whole
    print(
        f"neither sampling nor training: {share:.1%} of {whole:.0f} s (aim: at most {AIM:.0%}: "
        f"{'met' if share <= AIM else 'missed'}); "
        + (
            ""
            if args.folder
            else f"load average before and after {load:.1f} and {os.getloadavg()[0]:.1f}; "
        )
        + str(folder)
    )
    for (stage, arm), book in books.items() if args.cells else ():
        for what, seconds in cells(book):
            if seconds >= 0.05:
                print(f"{stage} {arm or ''}\t{seconds:.2f}\t{what}")


def row(name: str, wall: float, sampling: float, training: float, whole: float) -> str:
    rest = wall - sampling - training
    return f"{name}\t{wall:.1f}\t{sampling:.1f}\t{training:.1f}\t{rest:.1f}\t{rest / whole:.1%}"


if __name__ == "__main__":
    main()
