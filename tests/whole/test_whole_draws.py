"""The whole river with two training seeds, each on a draw of its own; called again it draws nothing."""

import json
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT

from wcse_lib.store import read_samples
from wcse_lib.study import Run, load_study, sample_seed, write_yaml
from wcse_lib.train.examples import examples_of

pytestmark = pytest.mark.dag
K = {"se": 2, "wc": 6}
STUDENTS = ["small.se.high", "small.wc.high", "small.planted"]


def call(params, outputs):
    machine = "params/machine/cpu.yaml"
    command = [sys.executable, "-m", "wcse_lib.pipeline", params, "--machine", machine]
    done = subprocess.run(
        [*map(str, command), "--outputs", str(outputs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The smoke study at one budget with one student, and what the pipeline printed."""
    folder = tmp_path_factory.mktemp("two_draws")
    data = load_study(ROOT / "params/smoke.yaml").model_dump(mode="json", exclude_unset=True)
    data["study"] = "two_draws"
    data["budget"]["samples"] = {"high": 2}
    data["students"] = {"small": {"model": "nano-student"}}
    data["training"] |= {"seeds": [5, 0], "amount": {"high": 3}}
    data["controls"] = {"reference": False}
    params = folder / "two_draws.yaml"
    write_yaml(params, data)
    printed = call(params, folder)
    return Run(folder / "two_draws"), params, printed


def test_every_arm_is_drawn_once_for_each_seed(finished):
    run, _, printed = finished
    assert "every arm's budget is drawn 2 times" in printed
    for arm, k in K.items():
        rows = read_samples(run.path("02", arm))
        assert (
            rows.groupby("problem_id")["sample_index"].apply(list).tolist()
            == [list(range(2 * k))] * 24
        )
        model = f"nano-{arm}"
        for row in rows.head(2 * k).itertuples():
            assert row.seed == sample_seed(1, model, row.problem_id, row.sample_index)


def test_students_learnt_from_their_own_draw(finished):
    run, _, _ = finished
    for lesson in STUDENTS:
        arm = "wc" if lesson == "small.wc.high" else "se"
        for draw, seed in enumerate((5, 0)):
            student = f"{lesson}.s{seed}"
            keys = pd.concat(examples_of(run, student))
            assert set(keys["sample_index"] // K[arm]) == {draw}
            report = json.loads(run.path("04", student, "report.json").read_text())
            n_dropped = len(pd.read_parquet(run.path("04", student, "dropped.parquet")))
            assert report["n_examples"] == len(keys) - n_dropped


def test_ledger_and_tables_count_both_draws(finished):
    run, _, _ = finished
    tables = run.path("06", "tables")
    ledger = pd.read_csv(tables / "ledger.csv").query("kind == 'sampling' and unit == 'tokens'")
    spent = ledger.set_index("who")["spent"]
    quality = pd.read_csv(tables / "quality.csv").set_index("arm")
    for arm, k in K.items():
        rows = read_samples(run.path("02", arm))
        assert spent[arm] == rows["n_tokens"].sum()
        assert quality.loc[arm, "n_samples"] + quality.loc[arm, "n_unverifiable"] == 24 * k
    assert ledger["ratio"].between(0.6, 1.6).all(), "as many draws are planned as are spent"
    notes = json.loads(run.path("06", "answer.json").read_text())["notes"]
    assert any("were drawn 2 times" in note for note in notes)


def test_called_again_nothing_is_drawn(finished):
    run, params, _ = finished
    files = [file for arm in K for file in run.path("02", arm).glob("part-*.parquet")]
    before = {file: file.stat().st_mtime_ns for file in files}
    call(params, run.folder.parent)
    assert {file: file.stat().st_mtime_ns for file in files} == before
