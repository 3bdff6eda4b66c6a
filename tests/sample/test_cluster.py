"""Ray: four workers give what one process gives, and a lost worker costs nothing but time."""

import os
import signal
import sys
import threading
import time
from importlib.util import find_spec

import pandas as pd
import pytest

from wcse_lib import plan as planning
from wcse_lib.evaluate import stage as evaluation
from wcse_lib.nano import MODELS
from wcse_lib.sample import cluster
from wcse_lib.sample import stage as generation
from wcse_lib.store import KEY, SampleWriter, read_samples
from wcse_lib.study import Machine, Run, check_study
from wcse_lib.train import stage as training
from wcse_lib.verify import stage as verification

HAS_RAY = find_spec("ray") is not None
needs_ray = pytest.mark.skipif(
    not HAS_RAY, reason="ray is not installed (make test-engines installs it)"
)


def nano(folder, name, n=4, n_train=24) -> Run:
    data = {
        "study": name,
        "dataset": {"name": "nano", "n_train": n_train, "levels": [1, 2, 3]},
        "arms": {"wc": {"model": "nano-wc"}},
        "budget": {"reference": "wc", "samples": {"one": n}},
        "sampling": {"max_tokens": 80},
    }
    return planning.make_plan(check_study(data, "t"), folder)


def process(_):
    return os.getpid()


def meets(place):
    """Wait until three others are here, too."""
    folder, name = place
    (folder / name).touch()
    until = time.monotonic() + 120
    while len(list(folder.iterdir())) < 4 and time.monotonic() < until:
        time.sleep(0.05)
    return os.getpid(), len(list(folder.iterdir()))


def fails(text):
    raise KeyError(text)


def dies_once(path):
    if not os.path.exists(path):
        open(path, "w").close()
        os.kill(os.getpid(), signal.SIGKILL)
    return "done"


@pytest.mark.skipif(HAS_RAY, reason="ray is installed")
def test_missing_ray_says_what_to_install():
    with pytest.raises(ValueError, match="pip install"):
        cluster.open_engine("hf", "nano-wc", Machine(workers=2))


def test_one_worker_is_a_plain_loop():
    assert list(cluster.map_tasks(process, [1, 2], Machine())) == [
        (1, os.getpid()),
        (2, os.getpid()),
    ]
    with pytest.raises(KeyError, match="x"):
        list(cluster.map_tasks(fails, ["x"], Machine()))


@pytest.fixture(scope="module")
def ray():
    import ray

    ray.cloudpickle.register_pickle_by_value(
        sys.modules[__name__]
    )  # workers cannot import this file
    yield ray
    ray.shutdown()


@pytest.mark.engines
@needs_ray
def test_tasks_run_beside_each_other_and_survive_their_workers(ray, tmp_path):
    machine, folder = Machine(workers=4, threads=1), tmp_path / "here"
    folder.mkdir()
    met = dict(cluster.map_tasks(meets, [(folder, name) for name in "abcd"], machine))
    assert {name for _, name in met} == set("abcd") and {n for _, n in met.values()} == {4}
    pids = [pid for pid, _ in met.values()] + [
        pid for _, pid in cluster.map_tasks(process, range(6), machine)
    ]
    assert len(set(pids)) == 10 and os.getpid() not in pids, "every task has a process of its own"
    assert list(cluster.map_tasks(dies_once, [str(tmp_path / "died")], machine)) == [
        (str(tmp_path / "died"), "done")
    ]
    with pytest.raises(KeyError, match="x"):
        list(cluster.map_tasks(fails, ["x"], machine))
    assert not ray.is_initialized(), "a kernel that ends would wait for it"


@pytest.mark.engines
@needs_ray
def test_four_workers_give_the_rows_of_one_process_and_one_may_die(ray, tmp_path, monkeypatch):
    one = generation.generate(nano(tmp_path, "one"), "wc", Machine(device="cpu", threads=1))
    engine = cluster.open_engine(
        "hf",
        str(MODELS / "nano-wc"),
        Machine(device="cpu", threads=1, workers=4, batch_size=16),
    )
    close = engine.close
    monkeypatch.setattr(engine, "close", lambda: None)
    monkeypatch.setattr(cluster, "open_engine", lambda *_, **__: engine)
    four = generation.generate(nano(tmp_path, "four"), "wc", Machine())
    pd.testing.assert_frame_equal(four[[*KEY, "seed", "model"]], one[[*KEY, "seed", "model"]])
    assert (four["text"] == one["text"]).mean() > 0.95  # a last bit may differ between batch shapes

    run, killed = nano(tmp_path, "killed", n=20), []

    def kill_one():
        while not any(run.path("02", "wc").glob("part-*")):
            time.sleep(0.01)
        os.kill(engine.pids[1], signal.SIGKILL)
        killed.append(len(read_samples(run.path("02", "wc"))))

    monkeypatch.setattr(SampleWriter.__init__, "__defaults__", (16, 15.0, ""))
    thread = threading.Thread(target=kill_one, daemon=True)
    thread.start()
    rows = generation.generate(run, "wc", Machine())
    thread.join(10)
    assert killed and 0 < killed[0] < 400, "it was killed too late"
    assert (
        len(rows) == 480
        and not rows.duplicated(KEY).any()
        and set(rows["finish_reason"]) <= {"stop", "length"}
    )
    pids = engine.pids_now()
    assert [a == b for a, b in zip(pids, engine.pids)] == [True, False, True, True]
    close()


@pytest.mark.engines
@needs_ray
def test_what_cannot_run_is_told(ray, tmp_path):
    with pytest.raises(ValueError, match="cannot run '/no/such' on 2 workers"):
        cluster.open_engine("hf", "/no/such", Machine(workers=2, threads=1))
    with pytest.raises(ValueError, match="gpus_per_worker: 1: .* place for 0"):
        cluster.open_engine("hf", "nano-wc", Machine(workers=2, gpus_per_worker=1.0))
    ray.init(num_cpus=2, include_dashboard=False)
    with pytest.raises(ValueError, match="workers: 3 with threads: 1 .* place for 2"):
        cluster.open_engine("hf", "nano-wc", Machine(workers=3, threads=1))
    assert ray.is_initialized(), "a cluster that somebody else started is left alone"
    ray.shutdown()


@pytest.mark.engines
@needs_ray
def test_students_are_trained_and_tested_as_tasks(ray, tmp_path):
    """Two students on two workers; every one has its own process, and what each left is what one process would
    leave."""
    data = {
        "study": "students",
        "dataset": {"name": "nano", "n_train": 8, "n_held_out": 4, "levels": [1]},
        "arms": {"wc": {"model": "nano-wc"}},
        "budget": {"reference": "wc", "samples": {"one": 2}},
        "sampling": {"max_tokens": 60},
        "curation": {"filter": "none"},
        "students": {"small": {"model": "nano-student"}},
        "controls": {"planted": 0},
        "training": {"amount": {"one": 2}, "batch_size": 4, "n_checkpoints": 1, "max_tokens": 256},
        "evaluation": {"n_samples": 2, "max_tokens": 60, "maj_k": [1]},
    }
    run, machine = (
        planning.make_plan(check_study(data, "t"), tmp_path),
        Machine(device="cpu", threads=1),
    )
    generation.generate(run, "wc", machine)
    verification.verify(run, "wc", machine)
    two = machine.model_copy(update={"workers": 2})
    reports = training.train_students(run, [], two)
    assert (
        set(reports["student"]) == {"small.wc.one", "small.reference"}
        and reports["last_loss"].notna().all()
    )
    table = evaluation.evaluate(run, [], two)
    assert set(table["student"]) == {"small.base", "small.wc.one", "small.reference"}
    assert all(run.complete("05", name) for name in run.plan.students)
