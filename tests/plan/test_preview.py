"""A dry run says what a study would do, cost and need, and neither writes nor fetches anything."""

import json
import re
from importlib import import_module

import pandas as pd
import pytest
from conftest import ROOT

from wcse_lib import pipeline
from wcse_lib.plan.grid import expand, is_grid
from wcse_lib.plan.preview import preview, previews
from wcse_lib.plan.trial import authors
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, check_study, load_machine, load_study, read_yaml

STUDIES = sorted(
    p
    for p in ROOT.glob("params/**/*.yaml")
    if p.parent.name != "machine" and p.name != "prices.yaml"
)


def test_numbers_are_the_plan_s():
    text = preview(load_study("params/nano.yaml"), Machine(tflops=0.01))
    assert "240 train, 60 validation, 300 held out" in text
    assert "wc (nano-wc): samples a problem low 3, high 30" in text
    tokens = 240 * 30 * 80
    assert f"at most {tokens:,} tokens, {tokens * 2 * 484320:.2g} FLOPs" in text
    assert "18 trained, 21 tested" in text and "missing   nothing" in text
    assert re.search(r"time .* [\d.]+ (h|min), .*\(at 0.01 TFLOP/s\)", text)


@pytest.mark.parametrize("path", STUDIES, ids=lambda p: str(p.relative_to(ROOT / "params")))
def test_every_params_file_can_be_previewed_offline(path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    studies = expand(path) if is_grid(path) else {"": load_study(path)}
    name, study = next(iter(studies.items()))
    text = preview(study, Machine())
    assert text.startswith(f"study     {study.study}") and "students" in text or not study.students
    assert all(arm in text for arm in study.arms)


def test_what_is_not_here_is_missing_and_no_error(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    data = read_yaml(ROOT / "params/nano.yaml")
    data["arms"]["wc"] = {"model": "some/model", "n_parameters": 1.0e9}
    data["arms"]["se"] = {
        "model": "big",
        "engine": "openai",
        "n_parameters": 3.0e9,
        "usd_per_million_tokens": 10.0,
    }
    text = preview(check_study(data, "f"), Machine(dtype="bfloat16"))
    assert "model some/model: not on this machine; fetched from the hub when it runs" in text
    assert "environment variable OPENAI_API_KEY" in text
    assert "weights 2 GB" in text
    assert f"{240 * 10 * 80 * 10 / 1e6:,.2f} USD" in text


@pytest.fixture
def nothing_installed(monkeypatch, tmp_path):
    """A machine file that needs vLLM and Ray where neither is."""
    monkeypatch.setattr("wcse_lib.sample.cluster.find_spec", lambda name: None)
    path = tmp_path / "vllm.yaml"
    path.write_text("{engine: vllm, device: cpu, workers: 2, tflops: 1.0}")
    return path


def test_engines_that_are_not_installed_are_missing(nothing_installed):
    (look,) = previews([load_study("params/smoke.yaml")], load_machine(nothing_installed))
    for package in ("ray", "vllm"):
        assert f"missing   package {package}, for drawing samples" in look.text
    assert look.is_lacking


def test_a_run_asks_for_engines_before_it_plans(nothing_installed, tmp_path):
    with pytest.raises(StudyError, match="needed to draw samples: ray, vllm; install them"):
        pipeline.run("params/smoke.yaml", str(nothing_installed), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_pilots_folder_that_is_not_there_is_missing():
    data = read_yaml(ROOT / "params/nano.yaml") | {"pilot": {"folder": "outputs/nowhere"}}
    (look,) = previews([check_study(data, "f")], Machine(tflops=0.01))
    assert re.search(
        "missing   pilot.folder: .*nowhere: .* not there; run that study to", look.text
    )
    assert look.is_lacking


def test_an_arm_in_batches_is_told_at_their_price_and_in_their_number(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    data = read_yaml(ROOT / "params/nano.yaml")
    data["arms"]["se"] = {
        "model": "big",
        "engine": "batch",
        "n_parameters": 3.0e9,
        "usd_per_million_tokens": 10.0,
        "batch_discount": 0.5,
    }
    machine = Machine(batch={"requests": 1000}, n_per_call=2)
    text = preview(check_study(data, "f"), machine)
    (arm,) = [line for line in text.splitlines() if line.startswith("arm       se")]
    usd = 240 * 10 * 80 * 10 / 1e6 / 2
    assert f"{usd:,.4g} USD without prompts at the batch price, 2,400 requests in 3 batches" in arm
    assert (
        "batches   https://api.openai.com/v1: of 1,000 requests and 90 MB at most, 8 at a" in text
    )
    assert "environment variable OPENAI_API_KEY" in text
    assert "missing   machine file, n_per_call: 2: each request of a batch is one sample" in text


@pytest.mark.parametrize("model", ["./not-there", "outputs/models/not-there"])
def test_a_model_s_folder_that_is_not_there_is_missing(model):
    data = read_yaml(ROOT / "params/nano.yaml")
    data["arms"]["wc"] = {"model": model}
    text = preview(check_study(data, "f"), Machine())
    assert f"missing   arms.wc: model '{model}': no such folder" in text


def test_an_uneven_budget_at_an_endpoint_is_billed_as_its_parent_s():
    data = read_yaml(ROOT / "params/nano.yaml")
    data["arms"]["wc"] = {
        "model": "small",
        "engine": "openai",
        "n_parameters": 1.0e5,
        "usd_per_million_tokens": 2.0,
    }
    data["arms"]["wc-uneven"] = {"adaptive": {"of": "wc"}}
    lines = preview(check_study(data, "f"), Machine()).splitlines()
    billed = [re.search(r"[\d.,]+ USD", line) for line in lines if "arm       wc" in line]
    assert len(billed) == 2 and billed[0].group() == billed[1].group()


def test_held_out_problems_that_are_not_there_stop_no_trial_of_prompts():
    """A program may leave out every held-out problem, and files may have none: the dry run tells that elsewhere."""
    study = load_study("params/nano.yaml")
    problem = {"problem_id": "a", "question": "one and one?", "reference": ""}
    train = pd.DataFrame([problem])
    splits = {"train": train, "held_out": train.iloc[:0], "validation": train.iloc[:0]}
    assert all(author.first_question for author in authors(study, splits))
    data = read_yaml(ROOT / "params/nano.yaml")
    data["dataset"] = {"name": "files", "train": "train.csv", "n_held_out": 9}
    with pytest.raises(StudyError, match=r"dataset\.held_out: students need .* name a file"):
        check_study(data, "f")


def test_a_study_of_unknown_problems_is_told_by_the_problem(monkeypatch):
    """Prices and sizes are known where only the dataset is not here; a part of the sum is not called the whole."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    text = preview(load_study("params/math_gemini.yaml"), Machine())
    assert (
        re.search(r"arm       se .*tokens a problem.*USD a problem", text) and "in all" not in text
    )
    data = read_yaml(ROOT / "params/nano.yaml") | {
        "training": {"amount": {"low": 1, "high": 2}, "mode": "epochs"}
    }
    assert "without prompts, training, whose epochs" in preview(check_study(data, "f"), Machine())


def test_dry_run_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pipeline.os, "environ", dict(pipeline.os.environ))
    assert pipeline.main(["params/smoke.yaml", "--dry-run", "--outputs", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "arm       se" in out and not list(tmp_path.iterdir())
    assert re.search(
        r"\n(in all    about .* core-hours, USD unknown .*, about .* hours on this machine)\n$", out
    )
    assert re.search(r"time      02 .*, 03 .*, 04 .*, 05 .*, notebooks .*nano-wc by hf", out)
    assert pipeline.main(["params/smoke.yaml", "--status", "--outputs", str(tmp_path)]) == 0
    assert "nothing planned yet" in capsys.readouterr().out


def test_all_studies_of_a_grid_end_in_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pipeline.os, "environ", dict(pipeline.os.environ))
    machine = tmp_path / "machine.yaml"
    machine.write_text("tflops: 0.01\nusd_per_hour: 3600.0\ndevice: cpu\nthreads: 1\n")
    grid = "params/nano/grids/seeds.yaml"
    pipeline.main([grid, "--dry-run", "--machine", str(machine), "--outputs", str(tmp_path)])
    *texts, last = capsys.readouterr().out.rstrip().splitlines()
    studies = expand(grid)
    looks = previews(list(studies.values()), Machine(tflops=0.01), tmp_path)
    seconds = sum(look.outlook.total for look in looks)
    assert len(studies) > 1 and not any(line.startswith("in all") for line in texts)
    assert last == (
        f"in all    at most {seconds / 3600:.2g} core-hours, at most {seconds:,.2f} USD, "
        f"at most {seconds / 3600:.2g} hours on this machine"
    )


def test_a_figure_in_the_machine_file_is_taken_and_nothing_tried(monkeypatch):
    module = import_module("wcse_lib.plan.preview")  # whose name in the package is its function
    monkeypatch.setattr(module, "Trials", None)  # a call would fail
    (look,) = previews([load_study("params/smoke.yaml")], Machine(tflops=0.01))
    assert "at 0.01 TFLOP/s" in look.text and look.outlook.is_most


def test_what_the_plan_would_refuse_or_leave_out_is_told_before(tmp_path):
    rows = [{"question": f"{i} + {i}?", "answer": str(2 * i) if i > 2 else None} for i in range(20)]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "h.jsonl").write_text('{"question": "1 + 2?", "answer": "3"}\n')
    data = read_yaml(ROOT / "params/nano.yaml")
    data["dataset"] = {
        "name": "files",
        "train": str(tmp_path / "t.jsonl"),
        "held_out": str(tmp_path / "h.jsonl"),
    }
    text = preview(check_study(data, "f"), Machine())
    assert "controls.reference: the training problems have no solutions" in text
    text = preview(check_study(data | {"controls": {"reference": False}}, "f"), Machine())
    assert (
        "left out  3 of train: no answer can be read from the answer field" in text
        and "17 train" in text
    )
