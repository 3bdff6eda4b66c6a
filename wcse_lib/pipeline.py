"""Run a whole study headlessly: every notebook in order, resuming at the first stage that is not complete."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
import typer

from wcse_lib.plan import (
    expand,
    in_all,
    is_grid,
    limits,
    packages,
    pilot_study,
    previews,
    try_study,
    varied_keys,
)
from wcse_lib.progress import Step, changed_files, is_done, status, steps
from wcse_lib.store import StudyError, locked, visible, write_json
from wcse_lib.study import (
    STAGES,
    Machine,
    Run,
    Study,
    add_machine_time,
    load_machine,
    load_study,
    machine_time,
    notebook_path,
    read_yaml,
    resolve,
    write_yaml,
)

LESS = "lower batch_size (or gpu_memory_utilization) in the machine file"
DIED = "the kernel died, most often for want of memory: lower batch_size in the machine file"
HINTS = {  # by a part of an error's name or message
    "DeadKernelError": DIED,
    "Kernel died": DIED,  # before its first cell
    "out of memory": LESS,
    "can't allocate memory": LESS,  # PyTorch's, on a CPU
    "MemoryError": LESS,
    "No space left": "free some disk space, then run again",
    "Read-only file system": "choose another folder by --outputs, or unlock this one",
    "timed out during startup": (
        "Ray did not start in time: lower workers in the machine file, or run again on an idle machine"
    ),
}
KERNEL_ARGUMENTS = [
    "--IPKernelApp.log_level=50",
    "--HistoryManager.hist_file=:memory:",
    # registered first, so called last: by then all is flushed, and taking PyTorch apart takes seconds
    "--IPKernelApp.exec_lines=__import__('atexit').register(__import__('os')._exit, 0);",
]
SLOWEST_START = 600  # seconds in which a kernel has to answer, also from a slow disk


# ---------------------------------------------------------------------- a study, a grid of studies


def run(params: str, machine: str = "", outputs: str = "outputs", until: str = "") -> Path:
    """Run a study (or all studies of a grid file) to its report, or up to a stage. Returns the folder of the report.

    Raises StudyError for bad parameters before any compute, for a folder in use, and for a failed step, whose
    `failed.json` then names cell and cause.
    """
    last = _stage_named(until) if until else STAGES[-1]
    _check_home()
    load_machine(machine)
    if not is_grid(params):
        return _run_study(load_study(params), params, machine, outputs, last)
    folders = []
    for name, study in expand(params, outputs).items():
        print(f"== {name}", flush=True)
        folders.append(_run_study(study, _written(study, outputs), machine, outputs, last))
    if last < STAGES[-1]:
        return resolve(outputs)
    from wcse_lib.report import compare

    folder = resolve(outputs) / read_yaml(resolve(params))["study"]
    compare(folders, folder, varied_keys(params))
    print(f"comparison: {folder}", flush=True)
    return folder


def _run_study(study: Study, params: str, machine: str, outputs: str, last: str) -> Path:
    folder = resolve(outputs) / study.study
    started = time.monotonic()
    if study.pilot and not study.pilot.folder:
        pilot = pilot_study(study)
        print(f"== {pilot.study}", flush=True)
        if not (resolve(outputs) / pilot.study / "01_plan" / "plan.json").exists():
            try_study(study)  # the pilot has no students, and is paid for before 01 sees them
        # 01 needs all of the pilot
        _run_study(pilot, _written(pilot, outputs), machine, outputs, "03_verify")
    todo = [step for step in steps(study) if step.stage <= last]
    _check_packages(folder, study, todo, params, load_machine(machine))
    for sentence in changed_files(folder, study):
        print(sentence, flush=True)
    with locked(folder):
        _check_cluster(folder, study, todo, load_machine(machine))
        for step in todo:
            if is_done(folder, study, step):
                print(f"{step}: complete", flush=True)
                continue
            clock = time.monotonic()
            print(f"{step}: running", flush=True)
            _execute(folder, step, _parameters(study, step, params, machine, outputs), machine)
            print(f"{step}: done in {time.monotonic() - clock:.0f} s", flush=True)
            if step.stage == "01_plan":
                for sentence in limits(Run(folder)):
                    print(f"  {sentence}", flush=True)
        if last == STAGES[-1]:
            from wcse_lib.report import write_report

            path = write_report(folder)
            print(f"report: {path} (whole run {time.monotonic() - started:.0f} s)", flush=True)
    return folder


def _check_home() -> None:
    """Kernels, caches of models and figures need a home. Raises StudyError where nothing names one: in a container, by
    a user of no name."""
    try:
        Path.home()
    except RuntimeError as error:
        raise StudyError(
            f"HOME is not set, and this machine knows no user {os.getuid()}; name a folder that you may write to, as "
            "in: HOME=/tmp/me wcse run ..."
        ) from error


def _check_packages(
    folder: Path, study: Study, todo: list[Step], params: str, machine: Machine
) -> None:
    """Packages that drawing and training need are asked for before samples are paid for. Raises StudyError naming
    those lacking."""
    from wcse_lib.sample import not_installed

    waiting = {step.stage for step in todo if not is_done(folder, study, step)}
    sources: set[str] = set()
    if waiting & {"02_generate", "03_verify"}:
        sources = study.engines
    elif "05_evaluate" in waiting:
        sources = {"local"}
    if lacking := not_installed(sources, machine):
        raise StudyError(
            f"not installed here, and needed to draw samples: {', '.join(lacking)}; install them (docs/running.md), or "
            "name another engine in the machine file or the params"
        )
    if "04_finetune" not in waiting:
        return
    if lacking := packages(study, machine):
        raise StudyError(
            f"not installed here, and needed for the training: {', '.join(lacking)}; install them, "
            f"or change training in {params}"
        )


def _check_cluster(folder: Path, study: Study, todo: list[Step], machine: Machine) -> None:
    """Nodes that are to train or test students must see their folder, before samples are paid for."""
    from wcse_lib.sample import check_shared

    of_students = [step for step in todo if step.stage in ("04_finetune", "05_evaluate")]
    if not all(is_done(folder, study, step) for step in of_students):
        check_shared(folder, machine)


def _written(study: Study, outputs: str) -> str:
    """The path of a derived study's own params file, beside its results."""
    path = resolve(outputs) / study.study / "params.yaml"
    write_yaml(path, study.model_dump(mode="json", exclude_defaults=True))
    return str(path)


def _parameters(study: Study, step: Step, params: str, machine: str, outputs: str) -> dict:
    """What a step's notebook is given."""
    if step.stage == "01_plan":
        return {"params": params, "outputs": outputs, "machine": machine}
    given = {"folder": str(Path(outputs) / study.study)}
    if step.stage != "06_analyze":
        given["machine"] = machine
    if step.arm:
        given["arm"] = step.arm
    return given


def _stage_named(text: str) -> str:
    """The stage that a number, a name or both name."""
    for stage in STAGES:
        if text in (stage, *stage.split("_")):
            return stage
    raise StudyError(f"--until {text}: no such stage; stages are {', '.join(STAGES)}")


# ---------------------------------------------------------------------- one notebook


def _execute(study_folder: Path, step: Step, parameters: dict, machine: str) -> None:
    """Run a step's notebook. Raises StudyError when it fails, or ends without a manifest."""
    folder = step.folder(study_folder)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "failed.json").unlink(missing_ok=True)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if load_machine(machine).device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # before an import in the kernel looks for a GPU
    notebook = folder / f"{step.stage}.ipynb"
    stop, began, before = _Stop(), time.monotonic(), _seconds_noted(folder)
    try:
        _execute_notebook(notebook_path(step.stage), notebook, parameters)
    except Exception as error:  # papermill's, jupyter's and the disk's: each has its own sentence
        if stop.asked:
            raise KeyboardInterrupt from error
        _fail(folder, step, error)
    finally:
        stop.done()
        # the stage has noted its work itself; what remains is the kernel's start and end, and looking at tables
        rest = time.monotonic() - began - (_seconds_noted(folder) - before)
        add_machine_time(folder, load_machine(machine), max(0.0, rest))
    if not (folder / "manifest.json").exists():
        raise StudyError(f"{step}: the notebook ended without a manifest; see {notebook}")


def _seconds_noted(folder: Path) -> float:
    """Machine time that a step has noted so far; a notebook of several arms is run for one of them here."""
    noted = machine_time(folder)
    return noted.seconds if noted else 0.0


def _execute_notebook(source: Path, target: Path, parameters: dict) -> None:
    """Run a notebook in a kernel of its own, once more where the kernel died before its first cell (as where another
    process took its port)."""
    import papermill
    from jupyter_client import AsyncKernelManager

    class PatientKernelManager(AsyncKernelManager):
        shutdown_wait_time = 60.0  # seconds before a kernel that ends is killed: Ray takes some

    for attempt in (1, 2):
        try:
            papermill.execute_notebook(
                source,
                target,
                parameters=parameters,
                kernel_name="python3",
                kernel_manager_class=PatientKernelManager,
                extra_arguments=KERNEL_ARGUMENTS,
                start_timeout=SLOWEST_START,
                progress_bar=False,
                stdout_file=_Live(),
                request_save_on_cell_execute=True,
            )
            return
        except RuntimeError as error:
            # RuntimeError itself is what jupyter_client raises before anything ran
            if type(error) is not RuntimeError or attempt == 2:
                raise


def _fail(folder: Path, step: Step, error: Exception) -> None:
    """Stamp a failed step and say what to do; papermill's own notebook may claim that all went well."""
    name = getattr(error, "ename", type(error).__name__)
    message = getattr(error, "evalue", str(error))
    cell = getattr(error, "exec_count", None)
    hint = next((hint for sign, hint in HINTS.items() if sign in f"{name} {message}"), "")
    facts = {
        "step": str(step),
        "cell": cell,
        "error": name,
        "message": message,
        "hint": hint,
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    with contextlib.suppress(StudyError):  # a full disk
        write_json(folder / "failed.json", facts)
    where = f"cell {cell}: " if cell else ""
    sentence = f"{step} failed: {where}{name}: {message}"
    raise StudyError(f"{sentence}\nhint: {hint}" if hint else sentence) from error


class _Stop:
    """Ctrl-C while a notebook runs: the kernel is interrupted, so that it writes what it has, and killed if it
    will not."""

    SECONDS = 10

    def __init__(self) -> None:
        self.asked, self.timer, self.before = False, None, None
        if threading.current_thread() is threading.main_thread():
            self.before = signal.signal(signal.SIGINT, self)

    def __call__(self, *_) -> None:
        children = psutil.Process().children()
        kernels = [child for child in children if "ipykernel" in " ".join(child.cmdline())]
        if self.asked or not kernels:
            self._kill()
            raise KeyboardInterrupt
        self.asked = True
        for kernel in kernels:
            kernel.send_signal(signal.SIGINT)
        self.timer = threading.Timer(self.SECONDS, self._kill)
        self.timer.start()

    def _kill(self) -> None:
        for child in psutil.Process().children():
            child.kill()

    def done(self) -> None:
        if self.timer:
            self.timer.cancel()
        if self.before is not None:
            signal.signal(signal.SIGINT, self.before)


class _Live:
    """Passes a kernel's progress bars on to the terminal: every change on a screen, now and then in a log."""

    SECONDS = 20  # between two lines of a log

    def __init__(self) -> None:
        self.last = 0.0

    def write(self, text: str) -> None:
        bar = text.replace("\n", "\r").rstrip("\r").rsplit("\r", 1)[-1]
        if "it/s" not in bar and "%|" not in bar:
            return
        if sys.stdout.isatty():
            sys.stdout.write(f"\r  {bar}")
        elif time.monotonic() - self.last > self.SECONDS:
            sys.stdout.write(f"  {bar}\n")
            self.last = time.monotonic()
        sys.stdout.flush()

    def flush(self) -> None:
        pass


# ---------------------------------------------------------------------- looking at studies


def look(params: str, machine: str, outputs: str) -> int:
    """Print the plan of a study, or of all studies of a grid file (`plan.previews`), and last what they take in all.

    Nothing is written or fetched. Returns the exit status: 1 where a run here would stop for want of something.
    """
    from wcse_lib.train import try_training

    where = load_machine(machine)
    if where.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    looks = previews(_studies(params, outputs), where, outputs, try_training)
    print("\n\n".join(look.text for look in looks))
    print(in_all([look.outlook for look in looks], where))
    return int(any(look.is_lacking for look in looks))


def show_status(params: str, outputs: str) -> str:
    """The status of a study, or of all studies of a grid file, as text."""
    studies = _studies(params, outputs)
    return "\n\n".join(status_of(resolve(outputs) / study.study, study) for study in studies)


def _studies(params: str, outputs: str) -> list[Study]:
    """The study of a params file, or all studies of a grid file; nothing is fetched from here on."""
    os.environ.update(HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    return [*expand(params, outputs).values()] if is_grid(params) else [load_study(params)]


def status_of(folder: Path, study: Study) -> str:
    """The status of a study's folder, and whether it was planned with the parameters that the study has now."""
    if not (folder / "01_plan" / "plan.json").exists():
        return f"{folder}: nothing planned yet; next: 01_plan"
    if is_done(folder, study, Step("01_plan")):
        return f"{folder}\n{status(folder)}"
    changed = f"{folder}: planned with other parameters or files than there are now"
    return "\n".join([changed, *changed_files(folder, study), status(folder, is_planned_anew=True)])


# ---------------------------------------------------------------------- the command

Params = Annotated[
    str, typer.Argument(help="A study's file, such as params/nano.yaml, or a grid of studies.")
]
MachineFile = Annotated[
    str, typer.Option("--machine", help="Where it runs, such as params/machine/cpu.yaml.")
]
Outputs = Annotated[str, typer.Option(help="Folder that gets the study's folder.")]
Until = Annotated[str, typer.Option(help=f"Stop after this stage: {', '.join(STAGES)}.")]

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(help=__doc__)
def _command(
    params: Params,
    machine: MachineFile = "",
    outputs: Outputs = "outputs",
    until: Until = "",
    status: Annotated[bool, typer.Option("--status", help="Only show what is done.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show the plan.")] = False,
) -> None:
    if status:
        print(show_status(params, outputs))
    elif dry_run:
        raise typer.Exit(look(params, machine, outputs))
    else:
        run_or_stop(params, machine, outputs, until)


def run_or_stop(params: str, machine: str, outputs: str, until: str) -> None:
    """`run`, with Ctrl-C as an end that is told."""
    try:
        run(params, machine, outputs, until)
    except KeyboardInterrupt:
        print("stopped; call again to go on from here", file=sys.stderr)
        raise typer.Exit(130) from None


def exit_code(command: Callable, arguments: list[str] | None) -> int:
    """Run a command. What it refuses is a sentence on standard error and a code other than 0, and no traceback."""
    try:
        command(args=arguments)
    except SystemExit as end:
        return int(end.code or 0)
    except (StudyError, OSError) as error:
        print(visible(str(error)), file=sys.stderr)
        return 1
    return 0


def main(arguments: list[str] | None = None) -> int:
    """`python -m wcse_lib.pipeline …`, which stays beside `wcse run`, `wcse plan` and `wcse status`."""
    return exit_code(app, arguments)


if __name__ == "__main__":
    sys.exit(main())
