"""A grid file stands for several studies: every one checked before anything runs."""

import pytest
import yaml
from conftest import ROOT

from wcse_lib.plan.grid import expand, is_grid, varied_keys
from wcse_lib.store import StudyError
from wcse_lib.study import load_study, write_yaml


def write(tmp_path, **data):
    path = tmp_path / "grid.yaml"
    path.write_text(
        yaml.safe_dump({"study": "g", "base": "params/nano.yaml", **data}, sort_keys=False)
    )
    return path


def test_grid_and_cases_combine(tmp_path):
    path = write(
        tmp_path,
        set={"evaluation.n_samples": 8},
        grid={"seed": [0, 1], "training.amount": [{"low": 2, "high": 3}]},
        cases={
            "cool": {"arms.se.temperature": 0.4},
            "hot": {"arms.se.temperature": 1.2, "prompt.template": "Q {question}"},
        },
    )
    studies = expand(path)
    assert is_grid(path) and not is_grid("params/nano.yaml")
    varied = ["seed", "training.amount", "arms.se.temperature", "prompt.template"]
    assert varied_keys(path) == varied
    assert list(studies) == [f"g-{c}-seed{s}-amount2-3" for c in ("cool", "hot") for s in (0, 1)]
    hot = studies["g-hot-seed1-amount2-3"]
    assert (hot.study, hot.seed, hot.arms["se"].temperature, hot.evaluation.n_samples) == (
        "g-hot-seed1-amount2-3",
        1,
        1.2,
        8,
    )
    assert hot.arms["se"].model == "nano-se" and hot.prompt.template == "Q {question}"
    base = load_study("params/nano.yaml")
    assert hot.arms["wc"] == base.arms["wc"] and hot.dataset == base.dataset


@pytest.mark.parametrize("start", ["base", "last"])
@pytest.mark.parametrize("method,folder", [("full", "model"), ("lora", "merged")])
def test_rounds_sample_with_the_last_student(tmp_path, start, method, folder):
    base = yaml.safe_load(open("params/nano.yaml")) | {
        "training": {"amount": {"low": 1, "high": 1}, "method": method}
    }
    (tmp_path / "base.yaml").write_text(yaml.safe_dump(base))
    path = write(
        tmp_path,
        base=str(tmp_path / "base.yaml"),
        rounds=3,
        arm="wc",
        student="wc",
        budget="high",
        start=start,
    )
    assert varied_keys(path) == ["arms.wc.model"]
    studies = expand(path, "out")
    assert [s.arms["wc"].model for s in studies.values()] == [
        "nano-wc",
        f"out/g-round1/04_finetune/wc.wc.high/{folder}",
        f"out/g-round2/04_finetune/wc.wc.high/{folder}",
    ]
    assert all(s.training.merged == (method == "lora") for s in studies.values())
    trained = [s.students["wc"].model for s in studies.values()]
    assert (trained == ["nano-wc"] * 3) == (start == "base")


@pytest.mark.parametrize(
    "data,message",
    [
        ({}, "either grid and cases, or rounds"),
        ({"grid": {"seed": [0]}, "rounds": 2}, "either grid and cases, or rounds"),
        ({"rounds": 2}, "arm, student and budget"),
        ({"gird": {"seed": [0]}}, "did you mean 'grid'"),
        ({"grid": {"seed": ["x"]}}, "study g-seedx: seed = 'x'"),
        ({"cases": {"a": {"arms.xl.temperature": 1.0}}}, "study g-a: arms.xl"),
        ({"cases": {"a": {"title.x": 1}}}, "title.x: 'title' holds"),
        ({"cases": {"a": {"seed": 1}}, "base": "params/none.yaml"}, "none.yaml: cannot be read"),
    ],
)
def test_bad_grid_files_are_refused(tmp_path, data, message):
    with pytest.raises(StudyError, match=message):
        expand(write(tmp_path, **data))


def test_labels_that_read_alike_are_refused_and_long_ones_shortened(tmp_path):
    base = ROOT / "params/smoke.yaml"
    path = tmp_path / "g.yaml"
    write_yaml(
        path, {"study": "g", "base": str(base), "grid": {"arms.wc.model": ["org/a.b", "org/a_b"]}}
    )
    with pytest.raises(StudyError, match="two studies would be called"):
        expand(path)
    models = [f"organisation/some-model-with-a-long-name-{i}" for i in range(2)]
    write_yaml(
        path, {"study": "g", "base": str(base), "grid": {"arms.wc.model": models, "seed": [0, 1]}}
    )
    studies = expand(path)
    assert len(studies) == 4 and all(
        len(name) <= 41 and study.study == name for name, study in studies.items()
    )


def test_a_derived_study_is_written_and_read_back_equal(tmp_path):
    for name, study in expand(write(tmp_path, grid={"seed": [3]})).items():
        write_yaml(
            tmp_path / name / "params.yaml", study.model_dump(mode="json", exclude_defaults=True)
        )
        assert load_study(tmp_path / name / "params.yaml") == study
