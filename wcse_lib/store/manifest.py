"""The manifest, a stage's last file: under which plan, when, on which machine and by which code it was finished."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

from wcse_lib.store.errors import StudyError
from wcse_lib.store.files import read_json, write_contents, write_json

NAME = "manifest.json"
ROOT = Path(__file__).resolve().parents[2]  # the checkout, where this package runs from one


def write_manifest(folder: Path, plan_id: str, facts: dict) -> None:
    """Mark a stage as complete: written last, so that its existence means that all else is there."""
    (folder / "failed.json").unlink(missing_ok=True)
    manifest = finished(plan_id) | {"of": folder.name, "machine": machine()}
    if code := commit():
        manifest["commit"] = code
    write_json(folder / NAME, manifest | facts)
    write_contents(folder)


def finished(plan_id: str) -> dict[str, str]:
    """What says that something was finished now, under this plan; see `is_complete`."""
    return {"plan_id": plan_id, "finished": datetime.now(UTC).isoformat(timespec="seconds")}


def is_complete(folder: Path, plan_id: str, inputs: Iterable[Path] = (), name: str = NAME) -> bool:
    """Whether a stage's folder was finished under this plan, and not before a folder that it reads.

    `name`: of the file that says so, where that is one of a part of the stage. Raises StudyError for a folder that was
    made as another one, such as another arm's.
    """
    if not (folder / name).exists():
        return False
    manifest = read_json(folder / name)
    if manifest.get("plan_id") != plan_id:
        return False
    made_as = manifest.get("of", folder.name)
    if made_as != folder.name:
        raise StudyError(
            f"{folder}: was made as {made_as} (says {folder / name}), so its rows are not {folder.name}'s; rename it "
            "back, or delete it and call `wcse run` again: its stage makes it anew"
        )
    ended = _ended(folder / name)
    manifests = [other / NAME for other in inputs]
    return not any(_ended(path) > ended for path in manifests if path.exists())


def _ended(path: Path) -> str:
    """When a stage ended. Raises StudyError for a time that is to come, by which nothing could be told older."""
    ended = str(read_json(path).get("finished", ""))
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    if ended > tomorrow.isoformat(timespec="seconds"):
        raise StudyError(
            f"{path}: its stage ended on {ended}, says the file, and that is to come: set this machine's clock, or "
            "delete that file and call `wcse run` again: what was drawn and trained stays"
        )
    return ended


def check_tables(folder: Path, plan_id: str) -> None:
    """Raises StudyError where a study's tables are missing or of an earlier plan (published ones have none)."""
    analysis = folder / "06_analyze"
    tables = analysis / "tables"
    if not any(tables.glob("*")):
        raise StudyError(f"{tables}: no tables there; run the study to its end first")
    if (analysis / NAME).exists() and not is_complete(analysis, plan_id):
        raise StudyError(f"{tables}: of an earlier plan; run the study to its end first")


def commit() -> str:
    """The git commit of the checkout that this package runs from, and whether its code was changed since.

    "" where there is none, as where the package is installed somewhere inside another repository.
    """
    if not shutil.which("git"):
        return ""
    checkout = _output("git", "rev-parse", "--show-toplevel")
    if not checkout or Path(checkout).resolve() != ROOT:
        return ""
    revision = _output("git", "rev-parse", "HEAD")
    changes = _output("git", "status", "--porcelain", "-uno", "--", "wcse_lib", "notebooks")
    return f"{revision} with uncommitted changes" if changes else revision


def machine() -> str:
    """This machine in a line: processors, memory, GPUs, system."""
    described = [f"{os.cpu_count()} × {_processor()}"]
    if "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        n_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        described.append(f"{n_bytes / 2**30:.0f} GiB memory")
    gpus = []
    if shutil.which("nvidia-smi"):
        query = ["--query-gpu=name,memory.total", "--format=csv,noheader"]
        gpus = _output("nvidia-smi", *query).splitlines()
    described += gpus or ["no GPU"]
    return ", ".join([*described, platform.system()])


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        name = re.search(r"model name\s*:\s*(.+)", info.read_text())
        if name:
            return name[1]
    return platform.processor() or platform.machine()


def _output(*command: str) -> str:
    """What a command prints in this package's checkout; "" where it fails."""
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    return run.stdout.strip()
