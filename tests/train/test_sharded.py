"""A student in training on several processes, which share its weights: as on one, also after a kill."""

import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from pydantic import ValidationError
from tiny import losses, make_base, make_rows, settings, trained

from wcse_lib import plan as planning
from wcse_lib.sample import stage as generation
from wcse_lib.store import StudyError, read_json
from wcse_lib.study import Machine, check_study
from wcse_lib.train import stage as training
from wcse_lib.verify import stage as verification

FOUR = Machine(device="cpu", threads=1, gpus_per_student=4)
HALF = "half.txt"  # what each of two processes holds, in numbers


def study(**how) -> dict:
    training = {"amount": {"one": 2}, "batch_size": 8, "n_checkpoints": 1, "max_tokens": 256}
    return {
        "study": "shared",
        "dataset": {
            "name": "nano",
            "n_train": 8,
            "n_held_out": 4,
            "n_validation": 4,
            "levels": [1],
        },
        "arms": {"wc": {"model": "nano-wc"}},
        "budget": {"reference": "wc", "samples": {"one": 2}},
        "sampling": {"max_tokens": 60},
        "curation": {"filter": "none"},
        "students": {"small": {"model": "nano-student"}},
        "controls": {"planted": 0, "reference": False},
        "training": training | how,
        "evaluation": {"n_samples": 2, "max_tokens": 60, "maj_k": [1]},
    }


@pytest.mark.parametrize(
    "how, words",
    [
        ({"batch_size": 6}, "batch_size: 6: .*gpus_per_student: 4.* that 4 divides"),
        ({"backend": "unsloth"}, "backend: unsloth"),
        ({"method": "qlora"}, "method: qlora"),
    ],
)
def test_what_several_gpus_cannot_do_is_told_first(how, words):
    with pytest.raises(StudyError, match=words):
        planning.packages(check_study(study(**how), "t"), FOUR)


def test_such_a_student_is_trained_alone():
    assert planning.packages(check_study(study(micro_batch_size=8), "t"), FOUR) == []
    with pytest.raises(ValidationError, match="gpus_per_student: 2: .* alone"):
        Machine(gpus_per_student=2, workers=2)


# ---- with processes


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tmp_path_factory.mktemp("sharded") / "base"


@pytest.fixture(scope="module")
def rows(base):
    return make_rows(make_base(base))


def numbers_held(model, tokenizer, step) -> float:
    """Writes down how many of a model's numbers this process holds, and draws from the live model."""
    from wcse_lib.sample import Decoding, HFEngine, Request

    tensors = list(model.parameters())
    n_held = sum(getattr(p, "_local_tensor", p).numel() for p in tensors)
    Path(model.config._name_or_path, HALF).write_text(f"{n_held} {sum(p.numel() for p in tensors)}")
    requests = [Request(("v", str(n), 0), [1, 20 + n, 4], 0) for n in range(5)]
    outputs = list(HFEngine(model, tokenizer).generate(requests, Decoding(0.0, max_tokens=6)))
    return float(sum(map(len, (output.text for output in outputs))))


def weights(report: dict, folder: Path) -> dict:
    from safetensors.numpy import load_file

    (file,) = (folder / "model").glob("*.safetensors")
    return load_file(file)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_two_processes_take_the_steps_of_one(base, rows, tmp_path, method):
    """The last of the 8 steps has 4 rows, one for each of its two processes' micro batches and two blank ones."""
    how = settings(method=method, training="epochs", amount=1.5, micro_batch_size=2)
    reports, kept = {}, {}
    for n in (1, 2):
        folder = tmp_path / f"{n}"
        reports[n] = trained(base, rows, how, folder, numbers_held, n_processes=n)
        kept[n] = weights(reports[n], folder)
    n_held, n_all = map(int, (base / HALF).read_text().split())
    assert n_held < 0.55 * n_all, "each process holds about half of the weights"
    assert losses(reports[2]) == pytest.approx(losses(reports[1]), abs=1e-5)
    for name, values in kept[1].items():
        assert kept[2][name] == pytest.approx(values, abs=1e-5), name
    same = ["steps", "epochs", "n_tokens", "spent_flops", "validation_curve", "best_step"]
    same += ["settings_sha256", "data_sha256", "n_parameters", "n_trained_parameters"]
    assert {key: reports[2][key] for key in same} == {key: reports[1][key] for key in same}
    assert reports[2]["token_accuracy"] == pytest.approx(reports[1]["token_accuracy"], abs=0.01)
    assert reports[2]["versions"]["trl"] and reports[2]["micro_batches"] == [[0, 2]]


def parts() -> list[psutil.Process]:
    return [one for one in psutil.Process().children() if "spawn_main" in " ".join(one.cmdline())]


@pytest.mark.slow
def test_a_killed_process_ends_the_others_and_costs_no_step(base, rows, tmp_path):
    def kill_one(step, n_steps, loss):
        if step == 8:
            parts()[-1].kill()

    plain = trained(base, rows, settings(), tmp_path / "plain")
    out = tmp_path / "out"
    with pytest.raises(RuntimeError, match="process 2 of the 2 .* killed by signal 9.*Run again"):
        trained(base, rows, settings(), out, None, kill_one, n_processes=2)
    assert not parts(), "the others were left"
    with pytest.raises(StudyError, match="on several GPUs, and this one is on one"):
        trained(base, rows, settings(), out)
    report = trained(base, rows, settings(), out, n_processes=2)
    assert report["notes"] == ["resumed at step 6"]
    assert losses(report) == pytest.approx(losses(plain), abs=1e-5)
    for name, values in weights(plain, tmp_path / "plain").items():
        assert weights(report, out)[name] == pytest.approx(values, abs=1e-5), name
    assert {path.name for path in out.iterdir()} == {"model", "report.json", "training.json"}


SCRIPT = """
import os, signal, sys, tiny
from pathlib import Path
def stop(step, n_steps, loss):
    print(step, flush=True)
    if step == 2:
        os.kill(os.getpid(), signal.SIGKILL)
if __name__ == "__main__":
    base, out = map(Path, sys.argv[1:])
    rows = tiny.make_rows(tiny.make_base(base))
    tiny.trained(base, rows, tiny.settings(amount=100000), out, None, stop, n_processes=2)
"""


@pytest.mark.slow
def test_processes_end_with_the_one_that_began_them(tmp_path):
    script = tmp_path / "begins.py"
    script.write_text(SCRIPT)
    path = f"{Path(__file__).parent}:{Path(__file__).parents[2]}"
    command = [sys.executable, script, tmp_path / "base", tmp_path / "out"]
    done = subprocess.run(command, env={"PYTHONPATH": path, "PATH": "/usr/bin"}, timeout=300)
    assert done.returncode == -9
    until = time.monotonic() + 30
    while left := [one for one in psutil.process_iter() if belongs(one, str(tmp_path))]:
        assert time.monotonic() < until, left
        time.sleep(0.2)


def belongs(process: psutil.Process, path: str) -> bool:
    """Whether a process has one of a training's files mapped."""
    try:
        return any(one.path.startswith(path) for one in process.memory_maps())
    except psutil.Error:
        return False


@pytest.mark.slow
def test_a_study_trains_its_student_so(tmp_path):
    """From a study's folder, with its own validation: one report, as if one process had trained."""
    one = Machine(device="cpu", threads=1)
    reports = []
    for machine in (one, one.model_copy(update={"gpus_per_student": 2})):
        folder = tmp_path / f"{machine.gpus_per_student}"
        run = planning.make_plan(check_study(study(), "t"), folder)
        generation.generate(run, "wc", one)
        verification.verify(run, "wc", one)
        training.train_students(run, [], machine)
        assert run.complete("04", "small.wc.one")
        reports.append(read_json(run.path("04", "small.wc.one", "report.json")))
    assert losses(reports[1]) == pytest.approx(losses(reports[0]), abs=1e-5)
    assert reports[1]["accuracy"] == reports[0]["accuracy"] is not None
    assert reports[1]["validation_curve"] == reports[0]["validation_curve"]
