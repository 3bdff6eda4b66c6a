"""A folder to begin in: a params file of ten lines, tiny example data, and notebooks with these as their defaults."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from wcse_lib.nano import make_problems
from wcse_lib.store import StudyError, read_text, write_text
from wcse_lib.study import STAGES, kit

STUDY = "my_study"
TEMPLATE = Path(__file__).parent / f"{STUDY}.yaml"
N_PROBLEMS = {"problems": 24, "held_out": 16}  # of the example data, by file
LEVELS = (1, 2)
DEFAULTS = {"params/nano.yaml": f"params/{STUDY}.yaml", "outputs/nano": f"outputs/{STUDY}"}


def new_folder(folder: Path) -> str:
    """Write a folder in which a study runs at once; returns what to do there, as text.

    It holds `params/my_study.yaml`, `data/*.jsonl` (nano problems), `notebooks/`, and the price table and machine files
    of the kit. Raises StudyError where the folder is there and not empty.
    """
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise StudyError(
            f"{folder}: there is something already; name a folder that is not there yet"
        )
    write_text(folder / "params" / TEMPLATE.name, read_text(TEMPLATE))
    seen: frozenset[str] = frozenset()
    for name, n in N_PROBLEMS.items():
        problems = make_problems(n, f"{STUDY}:{name}", LEVELS, seen)
        seen |= {problem["question"] for problem in problems}
        lines = [
            json.dumps({key: problem[key] for key in ("question", "answer")})
            for problem in problems
        ]
        write_text(folder / "data" / f"{name}.jsonl", "\n".join(lines) + "\n")
    shutil.copytree(kit() / "params" / "machine", folder / "params" / "machine")
    shutil.copy(kit() / "params" / "prices.yaml", folder / "params")
    for stage in STAGES:
        notebook = read_text(kit() / "notebooks" / f"{stage}.ipynb")
        write_text(folder / "notebooks" / f"{stage}.ipynb", _with_own_defaults(notebook))
    return (
        f"{folder} is ready: write your problems, models and budget into params/{STUDY}.yaml. It runs as it is:\n"
        f"    cd {folder}\n"
        f"    wcse plan params/{STUDY}.yaml\n"
        f"    wcse run params/{STUDY}.yaml --machine params/machine/cpu.yaml\n"
        "    wcse lab    (the same, notebook by notebook)"
    )


def _with_own_defaults(notebook: str) -> str:
    """A notebook whose parameters name the folder's own study."""
    book = json.loads(notebook)
    (cell,) = (cell for cell in book["cells"] if "parameters" in cell["metadata"].get("tags", ()))
    lines = []
    for line in cell["source"]:
        for old, new in DEFAULTS.items():
            line = line.replace(old, new)
        lines.append(line)
    cell["source"] = lines
    return json.dumps(book, indent=1, ensure_ascii=False) + "\n"
