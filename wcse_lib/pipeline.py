"""Run a whole study headlessly: every notebook in order, resuming at the first stage that is not complete."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import wcse_lib
from wcse_lib.records import StudyError, is_complete, read_json, write_json
from wcse_lib.study import STAGES, Run, Study, load_machine, load_study, resolve

NOTEBOOKS = Path(wcse_lib.__file__).parents[1] / "notebooks"
HINTS = {
    "DeadKernelError": "the kernel died, most often for want of memory: lower batch_size in the machine file",
    "out of memory": "lower batch_size (or gpu_memory_utilization) in the machine file",
    "No space left": "free some disk space",
}


def steps(study: Study) -> list[tuple[str, str | None]]:
    """The study's steps in order: (stage, arm or None). Students share one kernel; a study without any skips 04, 05."""
    out: list[tuple[str, str | None]] = [("01_plan", None)]
    for arm in study.arms:
        out += [("02_generate", arm), ("03_verify", arm)]
    if study.students:
        out += [("04_finetune", None), ("05_evaluate", None)]
    return [*out, ("06_analyze", None)]


def is_done(folder: Path, study: Study, stage: str, arm: str | None) -> bool:
    """Whether a step's manifest was written under this very study."""
    plan = folder / "01_plan" / "plan.json"
    if not plan.exists() or read_json(plan)["study"] != json.loads(json.dumps(study.model_dump())):
        return False
    return is_complete(folder / stage / (arm or ""), read_json(plan)["plan_id"])


def run(params: str, machine: str = "", outputs: str = "outputs", until: str = "") -> Path:
    """Run a study to its report, or up to a stage. Returns the study's folder.

    Raises StudyError for bad parameters before any compute, for a folder in use, and for a failed step, whose
    `failed.json` then names cell and cause.
    """
    study = load_study(params)
    load_machine(machine)
    last = _stage(until) if until else STAGES[-1]
    folder = resolve(outputs) / study.study
    started = time.monotonic()
    with _lock(folder):
        for stage, arm in steps(study):
            if stage > last:
                break
            label = f"{stage} {arm or ''}".strip()
            if is_done(folder, study, stage, arm):
                print(f"{label}: complete", flush=True)
                continue
            clock = time.monotonic()
            print(f"{label}: running", flush=True)
            _execute(folder, stage, arm, _parameters(stage, arm, params, machine, outputs, study), label)
            print(f"{label}: done in {time.monotonic() - clock:.0f} s", flush=True)
        if last == STAGES[-1]:
            from wcse_lib.report import write_report

            path = write_report(folder)
            print(f"report: {path} (whole run {time.monotonic() - started:.0f} s)", flush=True)
    return folder


def _parameters(stage: str, arm: str | None, params: str, machine: str, outputs: str, study: Study) -> dict:
    if stage == "01_plan":
        return {"params": params, "outputs": outputs}
    run_folder = str(Path(outputs) / study.study)
    if stage == "06_analyze":
        return {"folder": run_folder}
    return {"folder": run_folder, "machine": machine} | ({"arm": arm} if arm else {})


def _execute(folder: Path, stage: str, arm: str | None, parameters: dict, label: str) -> None:
    import papermill
    from nbclient.exceptions import DeadKernelError

    here = folder / stage / (arm or "")
    here.mkdir(parents=True, exist_ok=True)
    (here / "failed.json").unlink(missing_ok=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        papermill.execute_notebook(
            NOTEBOOKS / f"{stage}.ipynb",
            here / f"{stage}.ipynb",
            parameters=parameters,
            kernel_name="python3",
            progress_bar=False,
            stdout_file=_Live(),
            request_save_on_cell_execute=True,
            extra_arguments=["--IPKernelApp.log_level=50"],
        )
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        _fail(here, label, error)
    if not (here / "manifest.json").exists():
        raise StudyError(f"{label}: the notebook ended without a manifest; see {here / f'{stage}.ipynb'}")


def _fail(here: Path, label: str, error: Exception) -> None:
    """Stamp a failed step and say what to do; papermill's own notebook may claim that all went well."""
    name, value = getattr(error, "ename", type(error).__name__), getattr(error, "evalue", str(error))
    cell = getattr(error, "exec_count", None)
    hint = next((h for sign, h in HINTS.items() if sign in f"{name} {value}"), "")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    write_json(
        here / "failed.json", {"step": label, "cell": cell, "error": name, "message": value, "hint": hint, "when": now}
    )
    where = f"cell {cell}: " if cell else ""
    raise StudyError(f"{label} failed: {where}{name}: {value}" + (f"\nhint: {hint}" if hint else "")) from error


class _Live:
    """Passes a kernel's progress bars on to the terminal: every change on a screen, now and then in a log."""

    def __init__(self) -> None:
        self.last = 0.0

    def write(self, text: str) -> None:
        bar = text.replace("\n", "\r").rstrip("\r").rsplit("\r", 1)[-1]
        screen = sys.stdout.isatty()
        if "it/s" not in bar and "%|" not in bar:
            return
        if screen:
            sys.stdout.write(f"\r  {bar}")
        elif time.monotonic() - self.last > 20:
            sys.stdout.write(f"  {bar}\n")
            self.last = time.monotonic()
        sys.stdout.flush()

    def flush(self) -> None:
        pass


@contextmanager
def _lock(folder: Path) -> Iterator[None]:
    """One pipeline per study folder; the lock goes with its process, so a killed one leaves none."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            raise StudyError(
                f"{folder}: in use by another run ({file.read().strip()}); wait for it, or stop it"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()}, since {datetime.now(UTC).isoformat(timespec='seconds')}")
        file.flush()
        yield


def _stage(text: str) -> str:
    found = [s for s in STAGES if s == text or s.split("_")[0] == text or s.split("_")[1] == text]
    if not found:
        raise StudyError(f"--until {text}: no such stage; stages are {', '.join(STAGES)}")
    return found[0]


def status(folder: Path) -> str:
    """What is done, what failed and what is next, as text."""
    opened = Run(folder)
    lines = []
    for stage, arm in steps(opened.study):
        here = folder / stage / (arm or "")
        state = "complete" if is_complete(here, opened.plan_id) else "not yet"
        if (here / "failed.json").exists():
            failed = read_json(here / "failed.json")
            state = f"failed: {failed['error']}: {failed['message']}"
        lines.append(f"{stage} {arm or '':<12} {state}")
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m wcse_lib.pipeline", description=__doc__)
    parser.add_argument("params", help="the study's file, such as params/nano.yaml")
    parser.add_argument(
        "--machine", default="", help="where it runs, such as params/machine/cpu.yaml (default: this machine)"
    )
    parser.add_argument("--outputs", default="outputs", help="folder that gets the study's folder (default: outputs)")
    parser.add_argument("--until", default="", metavar="STAGE", help=f"stop after this stage: {', '.join(STAGES)}")
    parser.add_argument("--status", action="store_true", help="only show what is done and what is next")
    args = parser.parse_args(argv)
    try:
        if args.status:
            print(status(resolve(args.outputs) / load_study(args.params).study))
        else:
            run(args.params, args.machine, args.outputs, args.until)
    except StudyError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; call again to go on from here", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
