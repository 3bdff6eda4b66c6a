"""Ctrl-C in the first moment, while Python still imports."""

import subprocess
import sys

# Ctrl-C as soon as the named module is looked for
CODE = """
import os, signal, sys
from wcse_lib import __main__ as command

class CtrlC:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, CtrlC())
sys.argv = ["wcse", "--help"]
sys.exit(command.main())
"""


def ended(module: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)], capture_output=True, text=True
    )


def test_ctrl_c_during_imports_is_no_traceback():
    for module in ("wcse_lib.cli", "typer"):
        run = ended(module)
        assert (run.returncode, run.stdout, run.stderr) == (130, "", "stopped\n")


def test_without_ctrl_c_it_is_the_command():
    run = ended("a module that nobody imports")
    assert run.returncode == 0 and "Usage: wcse" in run.stdout
