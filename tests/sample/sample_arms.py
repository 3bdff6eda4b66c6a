"""Studies of one arm that 02 draws, and a drawing that is killed."""

import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
from conftest import ROOT

from wcse_lib.plan import make_plan
from wcse_lib.store import parts, read_samples
from wcse_lib.study import Run, check_study


def planned(folder: Path, arm: dict, n=2, match="count", n_train=6, **more) -> Run:
    """A nano study whose only arm draws n samples of each problem."""
    data = {
        "study": "t",
        "dataset": {"name": "nano", "n_train": n_train, "levels": [1]},
        "arms": {"wc": arm},
        "budget": {"reference": "wc", "samples": {"one": n}, "match": match},
        "sampling": {"max_tokens": 8},
    }
    return make_plan(check_study(data | more, "test"), folder / "out")


SLOWLY = """
import os, sys, time
from wcse_lib import sample, store
from wcse_lib.study import Run, load_machine
store.SampleWriter.__init__.__defaults__ = (4, 15.0, "")
at_once = os.fsync
def fsync(file):
    time.sleep(0.03)
    at_once(file)
os.fsync = fsync
sample.generate(Run(sys.argv[1]), "wc", load_machine(sys.argv[2]))
"""


def killed(run: Run, machine: Path | str = "", after: int = 3) -> pd.DataFrame:
    """Start drawing in another process, kill it after a few parts, and return what lies on disk then."""
    folder = run.path("02", "wc")
    command = [sys.executable, "-c", SLOWLY, str(run.folder), str(machine)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    while process.poll() is None and len(parts(folder)) < after:
        time.sleep(0.005)
    process.kill()
    assert process.wait() == -9, "it ended before it could be killed"
    return read_samples(folder)
