"""JupyterLab over a project's root, with 01 in front and without the news that Jupyter would ask about."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from wcse_lib.store import StudyError
from wcse_lib.study import project_root

FIRST = "notebooks/01_plan.ipynb"
CONFIG = Path(__file__).parent / "jupyter"


def lab_command(
    arguments: list[str], environment: Mapping[str, str] = os.environ
) -> tuple[list[str], dict[str, str]]:
    """The command that opens JupyterLab, with further arguments of its own, and the environment that it needs.

    Raises StudyError where no project is: a folder with `notebooks/` and `params/`, here or above.
    """
    root = project_root()
    if not (root / FIRST).is_file():
        raise StudyError(
            f"{root}: no {FIRST} here or above; call `wcse new FOLDER` and go there, or into the checkout"
        )
    opened = [f"--ServerApp.root_dir={root}", f"--LabApp.default_url=/lab/tree/{FIRST}"]
    paths = [str(CONFIG), environment.get("JUPYTER_CONFIG_PATH", "")]
    config_path = os.pathsep.join(path for path in paths if path)
    command = [sys.executable, "-m", "jupyterlab", *opened, *arguments]
    return command, {**environment, "JUPYTER_CONFIG_PATH": config_path}
