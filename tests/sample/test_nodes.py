"""Ray on two nodes of one machine, each with a file system of its own: who must see the study's folder, and a node that
is killed."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import psutil
import pytest

from wcse_lib import pipeline
from wcse_lib import plan as planning
from wcse_lib.sample import cluster
from wcse_lib.sample import stage as generation
from wcse_lib.store import KEY, SampleWriter, StudyError, read_json, read_samples
from wcse_lib.study import Machine, Run, check_study, write_yaml
from wcse_lib.train import stage as training
from wcse_lib.verify import stage as verification

ALONE = Machine(device="cpu", threads=1)


def may_unshare() -> bool:
    """Whether this user may give a process mounts of its own."""
    if not shutil.which("unshare"):
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode == 0


pytestmark = [
    pytest.mark.engines,
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed"),
    pytest.mark.skipif(not may_unshare(), reason="no right to a mount namespace"),
]


class Nodes:
    """A head, and nodes that see an empty folder where `hidden` is; every node has one CPU."""

    def __init__(self, folder: Path):
        self.hidden, self.shared = folder / "head_only", folder / "shared"
        self.hidden.mkdir()
        self.shared.mkdir()
        self.running = {}
        # Ray's sockets do not fit into pytest's long paths
        self.sockets = Path(
            subprocess.check_output(["mktemp", "-d", "/tmp/ray-XXXX"], text=True)[:-1]
        )
        self.port = 20000 + os.getpid() % 20000
        self.address = f"127.0.0.1:{self.port}"
        self.start(1, "--head", f"--port={self.port}", "--include-dashboard=false")

    def start(self, number: int, *options: str) -> None:
        """Start a node at 127.0.0.<number> and wait until it answers."""
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1"]
        command += [f"--node-ip-address=127.0.0.{number}", f"--temp-dir={self.sockets}", *options]
        if number > 1:
            hide = f"mount -t tmpfs none {self.hidden} && mount -t tmpfs none {self.sockets}"
            command = ["unshare", "-m", "sh", "-c", f'{hide} && exec "$@"', "sh", *command]
            command.append(f"--address={self.address}")
        mild = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
        log = (self.shared.parent / f"node{number}.log").open("w")
        self.running[number] = psutil.Popen(
            command, env=os.environ | mild, stdout=log, stderr=subprocess.STDOUT
        )
        until = time.monotonic() + 180
        while "Ray runtime started" not in Path(log.name).read_text():
            assert time.monotonic() < until, Path(log.name).read_text()
            time.sleep(0.2)

    def kill(self, number: int) -> None:
        """As if its plug were pulled: everything of a node at once."""
        node = self.running.pop(number)
        for process in [*node.children(recursive=True), node]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        node.wait(30)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    nodes = Nodes(tmp_path_factory.mktemp("nodes"))
    yield nodes
    for number in list(nodes.running):
        nodes.kill(number)
    shutil.rmtree(nodes.sockets, ignore_errors=True)


@pytest.fixture
def two(nodes):
    """Both nodes, the second one started anew where it was killed."""
    if 2 not in nodes.running:
        nodes.start(2)
    return nodes


def on(nodes: Nodes) -> Machine:
    return ALONE.model_copy(update={"workers": 2, "address": nodes.address, "batch_size": 16})


def study(name: str, n: int) -> dict:
    return {
        "study": name,
        "dataset": {"name": "nano", "n_train": 24, "n_held_out": 4, "levels": [1]},
        "arms": {"wc": {"model": "nano-wc"}},
        "budget": {"reference": "wc", "samples": {"one": n}},
        "sampling": {"max_tokens": 60},
        "curation": {"filter": "none"},
        "students": {"small": {"model": "nano-student"}},
        "controls": {"planted": 0},
        "training": {"amount": {"one": 40}, "batch_size": 8, "n_checkpoints": 4, "max_tokens": 256},
        "evaluation": {"n_samples": 2, "max_tokens": 60, "maj_k": [1]},
    }


def planned(folder: Path, name: str, n: int) -> Run:
    return planning.make_plan(check_study(study(name, n), "t"), folder)


def test_a_node_that_does_not_see_the_folder_is_named_before_any_work(two):
    params, machine = two.shared / "blind.yaml", two.shared / "machine.yaml"
    write_yaml(params, study("blind", 2))
    write_yaml(machine, on(two).model_dump(exclude_defaults=True))
    with pytest.raises(StudyError, match=r"blind: not seen by .* \(127\.0\.0\.2\): .*No such file"):
        pipeline.run(str(params), str(machine), str(two.hidden))
    assert [path.name for path in (two.hidden / "blind").iterdir()] == [".lock"], "work was begun"
    with pytest.raises(StudyError, match=r"\(127\.0\.0\.2\)"):
        run = planned(two.hidden, "by_hand", 2)
        training.train_students(run, [], on(two))
    cluster.check_shared(two.shared, on(two))
    assert not list(two.shared.glob(".shared*")), "the check leaves nothing"


def killed_when(nodes: Nodes, is_time) -> threading.Thread:
    """Kills the second node as soon as `is_time()`."""

    def wait_and_kill():
        while not is_time():
            time.sleep(0.02)
        nodes.kill(2)

    thread = threading.Thread(target=wait_and_kill, daemon=True)
    thread.start()
    return thread


def test_samples_need_no_shared_folder_and_a_killed_node_costs_none(two, tmp_path, monkeypatch):
    monkeypatch.setattr(SampleWriter.__init__, "__defaults__", (16, 15.0, ""))
    one = generation.generate(planned(tmp_path, "drawn", 20), "wc", ALONE)
    run, before = planned(two.hidden, "drawn", 20), []

    def has_begun() -> bool:
        if any(run.path("02", "wc").glob("part-*")):
            before.append(len(read_samples(run.path("02", "wc"))))
        return bool(before)

    thread = killed_when(two, has_begun)
    both = generation.generate(run, "wc", on(two))
    thread.join(30)
    assert before and before[0] < 400 and 2 not in two.running, "it was killed too late"
    assert len(both) == 480 and not both.duplicated(KEY).any()
    pd.testing.assert_frame_equal(both[[*KEY, "seed", "model"]], one[[*KEY, "seed", "model"]])
    assert (both["text"] == one["text"]).mean() > 0.95  # a last bit may differ between batch shapes


def student_on(node: psutil.Process) -> Path | None:
    """The folder of the student that is trained on a node: its rows are mapped into a process there."""
    for process in node.children(recursive=True):
        with contextlib.suppress(psutil.Error):
            for mapped in process.memory_maps():
                if mapped.path.endswith("rows.arrow"):
                    return Path(mapped.path).parent
    return None


def test_a_student_goes_on_where_its_killed_node_left_it(two, tmp_path):
    """Of two students in training, one on each node, both end as one process would have trained them."""
    alone, spread = planned(tmp_path, "students", 2), planned(two.shared, "students", 2)
    for run in (alone, spread):
        generation.generate(run, "wc", ALONE)
        verification.verify(run, "wc", ALONE)
    training.train_students(alone, [], ALONE)
    hit = []

    def has_kept_a_checkpoint() -> bool:
        folder = student_on(two.running[2])
        if folder and any(folder.glob("checkpoints/checkpoint-*/trainer_state.json")):
            hit.append(folder.name)
        return bool(hit)

    thread = killed_when(two, has_kept_a_checkpoint)
    training.train_students(spread, [], on(two))
    thread.join(30)
    assert hit and 2 not in two.running, "no student was in training there"
    for student in training.trained(alone, list(alone.plan.students)):
        reports = [read_json(run.path("04", student, "report.json")) for run in (alone, spread)]
        curves = [[loss for _, loss, _ in report["loss_curve"]] for report in reports]
        assert curves[1] == pytest.approx(curves[0], rel=1e-5), student
    notes = read_json(spread.path("04", hit[0], "report.json"))["notes"]
    assert notes and notes[0].startswith("resumed at step")
