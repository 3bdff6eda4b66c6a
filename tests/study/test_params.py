"""Every params file says something valid, has a nano twin of its structure, and every twin runs to a report."""

import re
import subprocess
import sys

import pytest

from wcse_lib.plan.grid import expand, is_grid
from wcse_lib.plan.problems import load_problems
from wcse_lib.store import StudyError
from wcse_lib.study import MADE_HERE, STAGES, MixedArm, Study, check_study, load_study

from conftest import ROOT  # isort: skip

OWN = {
    "nano",
    "smoke",
    "nano_mix",
    "nano_seeds",
    "nano_fit",
    "nano_tuned",
    "nano_on_policy",
    "nano_few",
    "gsm8k_openai",
    "real",
    "real_0.5b",
}  # small already: they are their own twins
STUDIES = sorted(p.stem for p in (ROOT / "params").glob("*.yaml") if p.stem not in OWN | {"prices"})
GRIDS = sorted(p.stem for p in (ROOT / "params/grids").glob("*.yaml"))
TWINS = sorted(p.stem for p in (ROOT / "params/nano").glob("*.yaml"))


def structure(study: Study) -> dict:
    """What makes a study the experiment that it is, whatever its models, sizes and numbers."""
    made = {name: type(arm) for name, arm in study.arms.items() if name not in study.plain_arms}
    mixes = [arm.mix for arm in study.arms.values() if isinstance(arm, MixedArm)]
    return {
        "arms": list(study.arms),
        "made of other arms": made,
        "best mix": "best" in mixes,
        "budget": (
            study.budget.reference,
            list(study.budget.samples),
            study.budget.match,
            study.budget.lengths,
        ),
        "pilot": study.pilot is not None,
        "prompt": (study.prompt.style, study.prompt.shots is not None),
        "verification": study.verification.by,
        "filters": [study.curation.filter, *(r.filter for r in study.recipes.values())],
        "curation": (study.curation.n_examples, study.curation.per_problem),
        "recipes": {n: sorted(r.model_fields_set) for n, r in study.recipes.items()},
        "students": list(study.students),
        "rates": isinstance(study.training.learning_rate, list),
        "seeds": len(study.training.seeds),
        "controls": study.controls,
        "transfer": list(study.dataset.transfer),
        "decontaminate": study.dataset.decontaminate or study.dataset.name in MADE_HERE,
        "validation": study.dataset.n_validation > 0,
    }


def differing(own: Study, twin: Study) -> dict:
    a, b = structure(own), structure(twin)
    own_way = (
        {"filters"} if own.dataset.name == "reasoning_gym" else set()
    )  # nano models solve none of its tasks
    return {key: (a[key], b[key]) for key in a if a[key] != b[key] and key not in own_way}


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_a_twin_of_its_structure(root, name):
    own, twin = load_study(f"params/{name}.yaml"), load_study(f"params/nano/{name}.yaml")
    assert (own.study, twin.study) == (name, f"nano_{name}")
    assert differing(own, twin) == {}


@pytest.mark.parametrize("name", GRIDS)
def test_every_grid_has_a_twin_of_its_structure(root, name):
    own, twin = expand(f"params/grids/{name}.yaml"), expand(f"params/nano/grids/{name}.yaml")
    assert [f"nano_{study}" for study in own] == list(twin) and len(own) > 1
    for a, b in zip(own.values(), twin.values()):
        assert differing(a, b) == {}


def test_the_real_pair_of_a_hub_is_the_study_of_the_small_one(root):
    """Only models, their sizes and names differ: anybody with a hub changes two lines."""
    small, larger = (load_study(f"params/{name}.yaml") for name in ("real", "real_0.5b"))
    assert differing(small, larger) == {} and small.training == larger.training
    assert (small.prompt, small.sampling) == (larger.prompt, larger.sampling)
    assert small.dataset == larger.dataset and small.evaluation == larger.evaluation
    for study in (small, larger):
        assert [student.model for student in study.students.values()] == [
            study.arms[name].model for name in study.students
        ]


def test_twins_stand_for_studies_only(root):
    assert set(TWINS) == set(STUDIES) and {
        p.stem for p in (root / "params/nano/grids").glob("*.yaml")
    } == set(GRIDS)
    assert not any(is_grid(f"params/{name}.yaml") for name in STUDIES)


def test_the_study_that_readme_shows_is_valid(root, tmp_path):
    (shown,) = re.findall(r"```yaml\n(.*?)```", (root / "README.md").read_text(), re.S)
    (tmp_path / "mine.yaml").write_text(shown)
    study = load_study(tmp_path / "mine.yaml")
    assert list(study.arms) == ["se", "wc", "old"] and list(study.students) == ["small"]


@pytest.mark.parametrize("name", STUDIES)
def test_studies_are_short_and_say_what_they_show_and_cost(root, name):
    lines = (root / f"params/{name}.yaml").read_text().splitlines()
    comment = "\n".join(line for line in lines if line.startswith("#"))
    assert (
        len(lines) <= 40
        and len(comment) > 100
        and re.search(r"(?m)^# Costs: .*docs/studies\.md", comment)
    )
    assert load_study(f"params/{name}.yaml").title.endswith("?")


def test_the_table_of_studies_names_every_file(root):
    """docs/studies.md: experiment, file, key and twin; nothing is missing there, and nothing there is missing here."""
    table = (root / "docs/studies.md").read_text()
    named = set(re.findall(r"params/((?:grids/)?[a-z0-9_]+)\.yaml", table))
    assert named - OWN == set(STUDIES) | {f"grids/{name}" for name in GRIDS}


@pytest.mark.parametrize("name", TWINS)
def test_twins_have_usable_problems(root, name):
    study = load_study(f"params/nano/{name}.yaml")
    if study.dataset.name == "reasoning_gym":
        pytest.importorskip(
            "reasoning_gym", reason="reasoning-gym is not installed (pip install -e '.[gym]')"
        )
    splits, _ = load_problems(study.dataset, study.seed)
    assert len(splits["train"]) >= 8 and len(splits["held_out"]) >= 4
    assert set(splits["held_out"]["set"]) == {"held_out", *study.dataset.transfer}


def run(path, outputs):
    command = [
        sys.executable,
        "-m",
        "wcse_lib.pipeline",
        path,
        "--machine",
        "params/machine/cpu.yaml",
        "--outputs",
        str(outputs),
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]


@pytest.mark.slow
@pytest.mark.parametrize("name", TWINS)
def test_twins_run_to_a_report(root, tmp_path, name):
    study = load_study(f"params/nano/{name}.yaml")
    if study.dataset.name == "reasoning_gym":
        pytest.importorskip(
            "reasoning_gym", reason="reasoning-gym is not installed (pip install -e '.[gym]')"
        )
    run(f"params/nano/{name}.yaml", tmp_path)
    folder = tmp_path / study.study
    assert (folder / "report.html").stat().st_size > 10_000
    for stage in STAGES:
        arms = study.arms if stage in ("02_generate", "03_verify") else [""]
        assert all((folder / stage / arm / "manifest.json").exists() for arm in arms), stage


@pytest.mark.slow
@pytest.mark.timeout(3600)  # several studies, on a busy machine
@pytest.mark.parametrize("name", GRIDS)
def test_twin_grids_run_to_reports(root, tmp_path, name):
    run(f"params/nano/grids/{name}.yaml", tmp_path)
    for study in expand(f"params/nano/grids/{name}.yaml", tmp_path):
        assert (tmp_path / study / "report.html").stat().st_size > 10_000


def test_more_problems_than_can_be_made_are_refused_at_once():
    data = {
        "study": "t",
        "dataset": {"name": "nano", "n_train": 10**13},
        "arms": {"wc": {"model": "nano-wc"}},
        "budget": {"reference": "wc", "samples": {"one": 1}},
    }
    with pytest.raises(StudyError, match="n_train: at most 1,000,000 problems are made"):
        check_study(data, "t.yaml")
