"""Run a whole study headlessly: every notebook in order, resuming at the first stage that is not complete."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import psutil

import wcse_lib
from wcse_lib import plan as planning
from wcse_lib.budget import unspent
from wcse_lib.plan import expand, is_grid, packages, preview
from wcse_lib.store import StudyError, count_rows, is_complete, locked, read_json, write_json
from wcse_lib.study import (
    STAGES,
    Run,
    Study,
    load_machine,
    load_study,
    named_files,
    read_yaml,
    resolve,
    write_yaml,
)

NOTEBOOKS = Path(wcse_lib.__file__).parents[1] / "notebooks"
AHEAD = 2  # kernels that start before their turn: the step between two long ones is often short
MODULES = dict(zip(STAGES, ("plan", "sample", "verify", "train", "evaluate", "analyze")))
LESS = "lower batch_size (or gpu_memory_utilization) in the machine file"
DIED = "the kernel died, most often for want of memory: lower batch_size in the machine file"
HINTS = {
    "DeadKernelError": DIED,
    "Kernel died": DIED,  # before its first cell
    "out of memory": LESS,
    "can't allocate memory": LESS,  # PyTorch's, on a CPU
    "MemoryError": LESS,
    "No space left": "free some disk space, then run again",
    "Read-only file system": "choose another folder by --outputs, or unlock this one",
    "timed out during startup": "Ray did not start in time: lower workers in the machine file, or run again on an idle machine",
}


def steps(study: Study) -> list[tuple[str, str | None]]:
    """The study's steps in order: (stage, arm or None). Students share one kernel; a study without any skips 04, 05."""
    out: list[tuple[str, str | None]] = [("01_plan", None)]
    for arm in study.order:
        out += [("02_generate", arm), ("03_verify", arm)]
    if study.students:
        out += [("04_finetune", None), ("05_evaluate", None)]
    return [*out, ("06_analyze", None)]


def is_done(folder: Path, study: Study, stage: str, arm: str | None) -> bool:
    """Whether a step's manifest was written under this very study and its files as they are now, and not before a step that it reads."""
    path = folder / "01_plan" / "plan.json"
    plan = read_json(path) if path.exists() else {}
    if plan.get("study") != json.loads(json.dumps(study.model_dump())):
        return False
    return (stage != STAGES[0] or plan.get("files") == named_files(study)) and Run(folder).complete(
        stage, arm or ""
    )


def run(params: str, machine: str = "", outputs: str = "outputs", until: str = "") -> Path:
    """Run a study (or all studies of a grid file) to its report, or up to a stage. Returns the folder of the report.

    Raises StudyError for bad parameters before any compute, for a folder in use, and for a failed step, whose
    `failed.json` then names cell and cause.
    """
    last = _stage(until) if until else STAGES[-1]
    load_machine(machine)
    if not is_grid(params):
        return _run(load_study(params), params, machine, outputs, last)
    studies = expand(params, outputs)
    folders = []
    for name, study in studies.items():
        print(f"== {name}", flush=True)
        folders.append(_run(study, _written(study, outputs), machine, outputs, last))
    if last < STAGES[-1]:
        return resolve(outputs)
    from wcse_lib.report import compare

    folder = resolve(outputs) / read_yaml(resolve(params))["study"]
    compare(folders, folder)
    print(f"comparison: {folder}", flush=True)
    return folder


def _run(study: Study, params: str, machine: str, outputs: str, last: str) -> Path:
    folder = resolve(outputs) / study.study
    started = time.monotonic()
    if study.pilot and not study.pilot.folder:
        pilot = planning.pilot_study(study)
        print(f"== {pilot.study}", flush=True)
        _run(pilot, _written(pilot, outputs), machine, outputs, "03_verify")  # 01 needs all of it
    todo, kernels = [step for step in steps(study) if step[0] <= last], {}
    untrained = any(
        stage == "04_finetune" and not is_done(folder, study, stage, arm) for stage, arm in todo
    )
    if untrained and (lacking := packages(study, load_machine(machine))):
        raise StudyError(
            f"not installed here, and needed for the training: {', '.join(lacking)}; install them, or change training in {params}"
        )
    with locked(folder):
        try:
            for i, (stage, arm) in enumerate(todo):
                label = f"{stage} {arm or ''}".strip()
                if is_done(folder, study, stage, arm):
                    print(f"{label}: complete", flush=True)
                    continue
                clock = time.monotonic()
                print(f"{label}: running", flush=True)
                for near in todo[i : i + 1 + AHEAD]:
                    if near not in kernels or not kernels[near].alive():
                        kernels[near] = _Kernel(study, machine, *near)
                given = _parameters(stage, arm, params, machine, outputs, study)
                try:
                    _execute(folder, stage, arm, given, label, kernels[stage, arm])
                except _NeverStarted:  # as where another process took its port
                    kernels[stage, arm].close()
                    kernels[stage, arm] = _Kernel(study, machine, stage, arm)
                    _execute(folder, stage, arm, given, label, kernels[stage, arm], last=True)
                kernels.pop((stage, arm)).close()
                print(f"{label}: done in {time.monotonic() - clock:.0f} s", flush=True)
                if (
                    stage == STAGES[0]
                ):  # before anything is drawn: what this study could not show, and which arms spend less than their share
                    opened = Run(folder)
                    print(
                        *(
                            f"  {told}"
                            for told in [
                                *planning.power_sentences(opened),
                                *unspent(opened.plan["arms"]),
                            ]
                        ),
                        sep="\n",
                        flush=True,
                    )
        finally:
            for kernel in kernels.values():
                kernel.close()
        if last == STAGES[-1]:
            from wcse_lib.report import write_report

            path = write_report(folder)
            print(f"report: {path} (whole run {time.monotonic() - started:.0f} s)", flush=True)
    return folder


def _written(study: Study, outputs: str) -> str:
    """The path of a derived study's own params file, beside its results."""
    path = resolve(outputs) / study.study / "params.yaml"
    write_yaml(path, study.model_dump(mode="json", exclude_defaults=True))
    return str(path)


def _parameters(
    stage: str, arm: str | None, params: str, machine: str, outputs: str, study: Study
) -> dict:
    if stage == "01_plan":
        return {"params": params, "outputs": outputs}
    run_folder = str(Path(outputs) / study.study)
    if stage == "06_analyze":
        return {"folder": run_folder}
    return {"folder": run_folder, "machine": machine} | ({"arm": arm} if arm else {})


SPENT = {
    "n_samples": "samples",
    "n_tokens": "tokens",
    "spent_flops": "FLOPs of training",
    "seconds": "seconds of drawing and training",
    "usd": "USD",
}


class _Kernel:
    """A step's kernel, started while earlier steps run: by its turn it has imported what takes long."""

    def __init__(self, study: Study, machine: str, stage: str, arm: str | None) -> None:
        from jupyter_client import AsyncKernelManager
        from jupyter_core.utils import run_sync

        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self.manager, self.idle, self._sync, where = (
            AsyncKernelManager(kernel_name="python3"),
            True,
            run_sync,
            load_machine(machine),
        )
        self.manager.shutdown_wait_time = (
            60  # seconds before a kernel that ends is killed: Ray takes some of them
        )
        # Registered first, so called last: by then all is flushed, and taking PyTorch apart takes a second.
        lines = ["__import__('atexit').register(__import__('os')._exit, 0);"]
        lines += [
            f"__import__({module!r}, fromlist=[{name!r}]);"
            for module, name in _imports(study, where.engine, stage, arm)
        ]
        lines += [
            "__import__('gc').freeze();"
        ]  # what is imported stays; each training's end would look through all of it
        options = [f"--IPKernelApp.exec_lines={line}" for line in lines] + [
            "--IPKernelApp.log_level=50",
            "--HistoryManager.hist_file=:memory:",
        ]
        hidden = (
            {"CUDA_VISIBLE_DEVICES": ""} if where.device == "cpu" else {}
        )  # before an import looks for a GPU
        run_sync(self.manager.start_kernel)(extra_arguments=options, env=os.environ | hidden)

    def alive(self) -> bool:
        return self._sync(self.manager.is_alive)()

    def close(self) -> None:
        with contextlib.suppress(
            Exception
        ):  # of a kernel that never spoke: its failure has been told
            self._sync(self.manager.shutdown_kernel)(now=self.idle)


class _NeverStarted(Exception):
    """A kernel that died before its first cell."""


def _imports(study: Study, engine: str, stage: str, arm: str | None) -> list[tuple[str, str]]:
    """(module, name in it) for what a stage will import anyway; nothing that an engine or Unsloth wants to go before."""
    out = [("wcse_lib", MODULES[stage])]
    samples = stage == "05_evaluate" or (
        stage == "02_generate" and study.arms[arm].engine == "local"
    )
    if engine == "hf" and samples:
        out += [("transformers", "AutoModelForCausalLM"), ("transformers", "LlamaForCausalLM")]
    if stage == "04_finetune" and study.training.backend == "trl":
        out += [
            ("transformers", "AutoModelForCausalLM"),
            ("transformers", "LlamaForCausalLM"),
            ("trl", "SFTTrainer"),
        ]
    if stage == "06_analyze":
        out += [
            ("wcse_lib", "report"),
            ("matplotlib.backends", "backend_svg"),
            ("matplotlib.backends", "backend_agg"),
        ]
    return out


def _execute(
    folder: Path,
    stage: str,
    arm: str | None,
    parameters: dict,
    label: str,
    kernel: _Kernel,
    last: bool = False,
) -> None:
    import papermill

    here = folder / stage / (arm or "")
    here.mkdir(parents=True, exist_ok=True)
    (here / "failed.json").unlink(missing_ok=True)
    stop, kernel.idle = _Stop(), False
    try:
        papermill.execute_notebook(
            NOTEBOOKS / f"{stage}.ipynb",
            here / f"{stage}.ipynb",
            parameters=parameters,
            km=kernel.manager,
            kernel_name="python3",
            start_timeout=600,  # what is imported ahead counts, and may come from a slow disk
            progress_bar=False,
            stdout_file=_Live(),
            request_save_on_cell_execute=True,
        )
    except (papermill.PapermillExecutionError, RuntimeError, OSError) as error:
        if stop.asked:
            raise KeyboardInterrupt from error
        if (
            type(error) is RuntimeError and not last
        ):  # what jupyter_client raises, before anything ran
            raise _NeverStarted from error
        _fail(here, label, error)
    finally:
        stop.done()
    if not (here / "manifest.json").exists():
        raise StudyError(
            f"{label}: the notebook ended without a manifest; see {here / f'{stage}.ipynb'}"
        )


class _Stop:
    """Ctrl-C while a notebook runs: the kernel is interrupted, so that it writes what it has, and killed if it will not."""

    SECONDS = 10

    def __init__(self) -> None:
        self.asked, self.timer = False, None
        self.before = (
            signal.signal(signal.SIGINT, self)
            if threading.current_thread() is threading.main_thread()
            else None
        )

    def __call__(self, *_) -> None:
        kernels = [p for p in psutil.Process().children() if "ipykernel" in " ".join(p.cmdline())]
        if self.asked or not kernels:
            self._kill()
            raise KeyboardInterrupt
        self.asked = True
        for kernel in kernels:
            kernel.send_signal(signal.SIGINT)
        self.timer = threading.Timer(self.SECONDS, self._kill)
        self.timer.start()

    def _kill(self) -> None:
        for kernel in psutil.Process().children():
            kernel.kill()

    def done(self) -> None:
        if self.timer:
            self.timer.cancel()
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


def _fail(here: Path, label: str, error: Exception) -> None:
    """Stamp a failed step and say what to do; papermill's own notebook may claim that all went well."""
    name, value = (
        getattr(error, "ename", type(error).__name__),
        getattr(error, "evalue", str(error)),
    )
    cell = getattr(error, "exec_count", None)
    hint = next((h for sign, h in HINTS.items() if sign in f"{name} {value}"), "")
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with contextlib.suppress(StudyError):  # a full disk
        write_json(
            here / "failed.json",
            {
                "step": label,
                "cell": cell,
                "error": name,
                "message": value,
                "hint": hint,
                "when": now,
            },
        )
    where = f"cell {cell}: " if cell else ""
    raise StudyError(
        f"{label} failed: {where}{name}: {value}" + (f"\nhint: {hint}" if hint else "")
    ) from error


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


def _stage(text: str) -> str:
    found = [s for s in STAGES if s == text or s.split("_")[0] == text or s.split("_")[1] == text]
    if not found:
        raise StudyError(f"--until {text}: no such stage; stages are {', '.join(STAGES)}")
    return found[0]


def status(folder: Path) -> str:
    """What is done, what it took, what failed and what is next, as text."""
    opened = Run(folder)
    lines, waiting, spent = [], [], Counter()
    for stage, arm in steps(opened.study):
        here, label = folder / stage / (arm or ""), f"{stage} {arm or ''}".strip()
        state = "not yet"
        if opened.complete(stage, arm or ""):
            manifest = read_json(here / "manifest.json")
            for facts in (
                [manifest, *map(read_json, here.glob("*/manifest.json"))] if not arm else [manifest]
            ):
                spent.update(_amounts(facts))
            counts = [
                f"{v:,.4g} {k}" if isinstance(v, float) else f"{v:,} {k}"
                for k, v in manifest.items()
                if k in ("n_samples", "n_tokens", "n_correct", "n_students", "seconds")
            ]
            state = f"complete {', '.join(counts)}"
        elif is_complete(here, opened.plan_id):
            state = (
                "out of date: what it reads was made anew after it, or some of its files are gone"
            )
        elif rows := count_rows(here):
            state = f"under way: {rows:,} samples on disk"
        if (here / "failed.json").exists():
            failed = read_json(here / "failed.json")
            state = (
                f"failed: {failed['error']}: {failed['message']}"
                + f" ({failed['hint']})" * bool(failed.get("hint"))
            )
        waiting += [label] * (not state.startswith("complete"))
        lines.append(f"{label:<28} {state}")
    told = [
        f"{spent[k]:,.4g} {words}" if k == "spent_flops" else f"{spent[k]:,.0f} {words}"
        for k, words in SPENT.items()
        if spent[k]
    ]
    lines += [f"spent so far: {', '.join(told)}"] * bool(told)
    lines.append(
        f"next: {waiting[0]}" if waiting else f"all done; report: {folder / 'report.html'}"
    )
    return "\n".join(lines)


def _amounts(facts: dict) -> Counter:
    """What a manifest says was spent, those of its parts (a student's greedy and drawn samples) added up."""
    found = Counter({k: facts[k] for k in SPENT if isinstance(facts.get(k), (int, float))})
    for part in facts.values():
        found += _amounts(part) if isinstance(part, dict) else Counter()
    return found


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m wcse_lib.pipeline",
        description=__doc__,
        epilog="Call it again after a stop: it goes on from there.",
    )
    parser.add_argument(
        "params", help="a study's file, such as params/nano.yaml, or a grid of studies"
    )
    parser.add_argument(
        "--machine",
        default="",
        help="where it runs, such as params/machine/cpu.yaml (default: this machine)",
    )
    parser.add_argument(
        "--outputs",
        default="outputs",
        help="folder that gets the study's folder (default: outputs)",
    )
    parser.add_argument(
        "--until", default="", metavar="STAGE", help=f"stop after this stage: {', '.join(STAGES)}"
    )
    parser.add_argument(
        "--status",
        action="store_true",
        help="only show what is done, what it took and what is next",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="only show plan, cost, memory, time and what is missing",
    )
    args = parser.parse_args(argv)
    try:
        if args.status or args.dry_run:
            os.environ.update(
                HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1"
            )  # looks at what is here, fetches nothing
            machine = load_machine(args.machine)
            studies = (
                expand(args.params, args.outputs)
                if is_grid(args.params)
                else {"": load_study(args.params)}
            )
            told = [
                _status_of(resolve(args.outputs) / study.study, study)
                if args.status
                else preview(study, machine)
                for study in studies.values()
            ]
            print("\n\n".join(told))
        else:
            run(args.params, args.machine, args.outputs, args.until)
    except (StudyError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped; call again to go on from here", file=sys.stderr)
        return 130
    return 0


def _status_of(folder: Path, study: Study) -> str:
    if not (folder / "01_plan" / "plan.json").exists():
        return f"{folder}: nothing planned yet; next: 01_plan"
    if not is_done(folder, study, "01_plan", None):
        return f"{folder}: planned with other parameters or files than there are now; next: 01_plan\n{status(folder)}"
    return f"{folder}\n{status(folder)}"


if __name__ == "__main__":
    sys.exit(main())
