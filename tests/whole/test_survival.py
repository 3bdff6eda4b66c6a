"""Killed at random moments, whole or only its kernel, and called again: the study ends as if nothing had happened."""

import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import ROOT

from wcse_lib.store import KEY, parts, read_parquet, read_samples
from wcse_lib.study import load_study, read_yaml, write_yaml

PARAMS = ("params/smoke.yaml", "--machine", "params/machine/cpu.yaml")
N_KILLS = 20


def start(outputs, *more, params=PARAMS):
    command = [sys.executable, "-m", "wcse_lib.pipeline", *params, "--outputs", str(outputs), *more]
    return subprocess.Popen(
        command,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kernels(pid):
    """The processes in which a pipeline runs its notebooks, the one at work first."""
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(pid)], capture_output=True, text=True
    ).stdout
    return sorted(int(line.split()[0]) for line in found.splitlines() if "ipykernel" in line)


def flushed(outputs):
    """Every sample that stands whole on the disk, by key."""
    where = [identity.parent for identity in outputs.rglob("identity.json")]
    rows = [
        read_parquet(p, [*KEY, "text"]).assign(folder=str(f.relative_to(outputs)))
        for f in where
        for p in parts(f)
    ]
    keys = ["folder", *KEY]
    frame = pd.concat(rows) if rows else pd.DataFrame(columns=[*keys, "text"])
    assert not frame.duplicated(keys).any(), "a sample stands twice"
    return frame.set_index(keys)["text"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_killed_twenty_times(tmp_path):
    clock = time.monotonic()
    whole = start(tmp_path / "whole")
    text = whole.communicate()[0]
    assert whole.returncode == 0, text
    length, rng, outcomes = (
        time.monotonic() - clock,
        random.Random(os.environ.get("WCSE_KILL_SEED", "0")),
        [],
    )
    outputs = tmp_path / "killed"
    while len(outcomes) < N_KILLS:
        victim = start(outputs)
        deadline = time.monotonic() + rng.uniform(1, length / 3)
        while time.monotonic() < deadline and victim.poll() is None:
            time.sleep(0.05)
        if victim.poll() is not None:  # it came to its end: once more from the start
            assert victim.returncode == 0, victim.stdout.read()
            check(outputs, tmp_path / "whole")
            outputs = tmp_path / f"killed-{len(outcomes)}"
            continue
        before, only_kernel = flushed(outputs), len(outcomes) % 2 == 1 and kernels(victim.pid)
        if only_kernel:
            os.kill(only_kernel[0], signal.SIGKILL)
            text = victim.communicate(timeout=120)[0]
            if victim.returncode == 0:  # a kernel that had done its work and was about to go
                check(outputs, tmp_path / "whole")
                outcomes.append(
                    ("kernel, at its end", "the run went on to its end", len(flushed(outputs)))
                )
                outputs = tmp_path / f"killed-{len(outcomes)}"
                continue
            assert "the kernel died" in text or "ended without a manifest" in text, text
        else:
            os.killpg(victim.pid, signal.SIGKILL)
            victim.wait()
        after = flushed(outputs)
        assert after.reindex(before.index).equals(before), "a flushed sample was lost or drawn anew"
        stage = max((p.name for p in (outputs / "smoke").glob("0*")), default="before 01")
        outcomes.append(("kernel" if only_kernel else "all", stage, len(after)))
    last = start(outputs)
    text = last.communicate()[0]
    assert last.returncode == 0, text
    check(outputs, tmp_path / "whole")
    print(f"\n{N_KILLS} kills:", *outcomes, sep="\n")


def check(outputs, whole):
    """A study that was killed holds what the undisturbed one holds."""
    a, b = flushed(outputs).sort_index(), flushed(whole).sort_index()
    assert a.index.equals(b.index), "samples are missing or too many"
    study = load_study(ROOT / PARAMS[0])
    for arm in study.arms:
        folder = f"smoke/02_generate/{arm}"
        assert read_samples(outputs / folder)["text"].equals(
            read_samples(whole / folder)["text"]
        ), "a sample differs"
    for table in sorted((whole / "smoke/06_analyze/tables").glob("*.csv")):
        mine, theirs = pd.read_csv(outputs / table.relative_to(whole)), pd.read_csv(table)
        assert list(mine.columns) == list(theirs.columns) and len(mine) == len(theirs), table.name


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_an_on_policy_student_that_is_killed_ends_in_the_same_tables(tmp_path):
    """Killed after a checkpoint of the student that learns from what it writes, and called again; but for times."""
    data = read_yaml(ROOT / "params/nano/opd.yaml")
    data["training"] |= {"amount": {"high": 6}, "n_checkpoints": 3}
    params = tmp_path / "opd.yaml"
    write_yaml(params, data)
    command = (str(params), *PARAMS[1:])
    whole = start(tmp_path / "whole", params=command)
    text = whole.communicate()[0]
    assert whole.returncode == 0, text

    victim = start(tmp_path / "killed", params=command)
    student = tmp_path / "killed/nano_opd/04_finetune/q05.opd.high"
    while victim.poll() is None and not list(
        student.glob("checkpoints/checkpoint-*/trainer_state.json")
    ):
        time.sleep(0.02)
    assert victim.poll() is None, "it ended before it could be killed"
    os.killpg(victim.pid, signal.SIGKILL)
    victim.communicate()
    assert not (student / "manifest.json").exists()
    last = start(tmp_path / "killed", params=command)
    text = last.communicate()[0]
    assert last.returncode == 0, text

    tables = sorted((tmp_path / "whole/nano_opd/06_analyze/tables").glob("*.csv"))
    assert len(tables) > 10
    for table in tables:
        mine = tmp_path / "killed" / table.relative_to(tmp_path / "whole")
        pd.testing.assert_frame_equal(untimed(mine), untimed(table), obj=table.name)


def untimed(table):
    """A table without what a clock measured: columns of time, and rows in seconds."""
    rows = pd.read_csv(table)
    if "unit" in rows:
        rows = rows[rows["unit"] != "seconds"]
    return rows.drop(columns=[name for name in rows if name == "hours" or "seconds" in name])


def test_ctrl_c_stops_within_seconds_and_goes_on_later(tmp_path):
    victim = start(tmp_path)
    deadline = time.monotonic() + 240
    while (
        not (tmp_path / "smoke/02_generate/se/identity.json").exists()
        and time.monotonic() < deadline
    ):
        time.sleep(0.05)
    kernel, clock = kernels(victim.pid), time.monotonic()
    os.killpg(victim.pid, signal.SIGINT)
    text = victim.communicate(timeout=60)[0]
    assert victim.returncode == 130 and "call again" in text, text
    assert time.monotonic() - clock < 20
    assert kernel and not any(os.path.exists(f"/proc/{pid}") for pid in kernel), (
        "a kernel was left behind"
    )
    assert not (tmp_path / "smoke/02_generate/se/manifest.json").exists()
