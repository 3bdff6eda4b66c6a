"""The matrix of students: names, paradigms, recipes, seeds, and trainings that cannot be."""

import importlib.util

import pytest
from studies import taught_study

from wcse_lib import budget, pipeline
from wcse_lib.plan import students
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, PlannedStudent, resolve_model, settings_of, write_yaml

SIZES = {"big": 100.0, "small": 10.0, "api": None, "both": None, "again": 10.0}


def sized_arms(**changes):
    arms = {
        "big": {"model": "nano-se"},
        "small": {"model": "nano-student"},
        "api": {"model": "gpt", "engine": "openai"},
        "both": {"mix": {"big": 0.5, "small": 0.5}},
        "again": {"adaptive": {"of": "small"}},
    }
    sized = dict(zip(arms, SIZES.values()))
    wanted = taught_study(
        arms=arms,
        students={"mid": {"model": "nano-wc"}, "big": {"model": "nano-se"}},
        budget={"reference": "big", "samples": {"low": 1, "high": 2}, "match": "count"},
        **changes,
    )
    return wanted, sized


def test_paradigms_come_from_who_teaches_whom(monkeypatch):
    size = budget.read_model(resolve_model("nano-student"))
    of = {"nano-se": 100, "nano-wc": 50, "nano-student": 10}
    fake = {resolve_model(name): type(size)(n, n, n, 1, 1) for name, n in of.items()}
    monkeypatch.setattr(students.budget, "read_model", fake.get)
    found = students.list_students(*sized_arms(controls={"pooled": True, "wrong": True}))
    paradigms = {name: entry.paradigm for name, entry in found.items() if name.endswith(".low")}
    assert paradigms == {
        "mid.big.low": "kd",
        "mid.small.low": "w2s",
        "mid.api.low": "kd",
        "mid.both.low": "kd",
        "mid.again.low": "w2s",
        "mid.pooled.low": "kd",
        "big.big.low": "self",
        "big.small.low": "w2s",
        "big.api.low": "kd",
        "big.both.low": "self",
        "big.again.low": "w2s",
        "big.pooled.low": "kd",
    }
    assert all(
        found[name].paradigm is None
        for name in ("mid.base", "mid.planted", "mid.reference", "big.wrong")
    )
    assert "mid.wrong" not in found
    assert found["big.wrong"].arm == "big"


def test_a_student_of_an_earlier_round_teaches_itself():
    """In the second round of self-improvement the arm's model is a folder, yet still the student's own."""
    arms = {
        "se": {"model": "nano-se"},
        "wc": {"model": "outputs/r-round1/04_finetune/small.wc.high/model", "once": "small"},
    }
    sized = dict.fromkeys(arms, 1.0e9)
    found = students.list_students(
        taught_study(
            arms=arms, students={"small": {"model": "nano-student"}}, controls={"wrong": True}
        ),
        sized,
    )
    assert found["small.wc.high"].paradigm == "self"
    assert found["small.se.high"].paradigm == "kd"
    assert found["small.wrong"].arm == "wc"


@pytest.mark.parametrize(
    "training,message",
    [
        ({"backend": "unsloth", "packing": True}, "training.packing"),
        ({"amount": {"low": 0.4, "high": 2}}, "training.amount is 0.4"),
        ({"micro_batch_size": 3}, "training.micro_batch_size 3 does not divide"),
    ],
)
def test_a_training_that_cannot_be_is_refused_by_the_plan(training, message):
    arms = {"se": 2.0, "wc": 1.0}
    given = {
        "amount": {"low": 1, "high": 2},
        "batch_size": 8,
        "n_checkpoints": 1,
        "max_tokens": 256,
    }
    with pytest.raises(StudyError, match=message):
        students.list_students(taught_study(training=given | training), arms)


def test_packages_that_a_training_lacks_are_named_before_any_compute(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    data = taught_study(
        training={
            "amount": {"low": 1, "high": 2},
            "method": "qlora",
            "backend": "unsloth",
            "report_to": ["wandb"],
        }
    )
    assert students.packages(data, Machine()) == ["bitsandbytes", "unsloth", "wandb"]
    write_yaml(tmp_path / "p.yaml", data.model_dump(mode="json", exclude_defaults=True))
    with pytest.raises(
        StudyError, match="not installed here.*: bitsandbytes, unsloth, wandb; install"
    ):
        pipeline.run(str(tmp_path / "p.yaml"), "", str(tmp_path))


def test_settings_take_the_methods_rate_and_a_seed_of_their_own():
    student = PlannedStudent(
        base="b", model="m", n_parameters=1, source="arm", amount=2, learning_rate=1e-3, seed=4
    )
    lora = taught_study(training={"amount": {"low": 1, "high": 2}, "method": "lora"})
    assert (taught_study().training.rate, lora.training.rate) == (1e-5, 2e-4)
    seeds = {
        settings_of(taught_study(seed=s), student.model_copy(update={"seed": t}), Machine()).seed
        for s in (0, 3, 2**31 - 1)
        for t in (0, 407, 3407)
    }
    assert len(seeds) == 9
    assert all(0 <= seed < 2**32 for seed in seeds)
    with pytest.raises(StudyError, match="stands twice"):
        taught_study(training={"amount": {"low": 1, "high": 2}, "seeds": [1, 1]})
    with pytest.raises(StudyError, match="evaluation.merged"):
        taught_study(evaluation={"merged": True})


def test_names_recipes_and_seeds():
    recipes = {
        "one": {"per_problem": 1, "students": ["small"], "budgets": ["high"]},
        "raw": {"filter": "none"},
    }
    wanted = taught_study(recipes=recipes)
    arms = {"se": 2.0, "wc": 1.0}
    found = students.list_students(wanted, arms)
    main = {f"{s}.{a}.{b}" for s in ("small", "wc") for a in ("se", "wc") for b in ("low", "high")}
    assert set(found) == (
        {"small.base", "wc.base", "small.reference", "wc.reference", "small.planted", "wc.planted"}
        | main
        | {f"{name}.raw" for name in main}
        | {"small.se.high.one", "small.wc.high.one"}
    )
    assert found["wc.se.low.raw"].recipe == "raw"
    assert found["wc.se.low"].recipe == "main"
    seeded = students.list_students(
        taught_study(
            training={"amount": {"low": 1, "high": 2}, "seeds": [4, 5]}, controls={"wrong": True}
        ),
        arms,
    )
    assert "wc.base" in seeded
    assert "wc.wc.low.s4" in seeded
    assert seeded["wc.wrong.s5"].seed == 5
    assert "wc.wc.low" not in seeded


@pytest.mark.parametrize("taught_by, arm", [(["se", "wc"], "se"), (None, "se"), (["wc"], "wc")])
def test_a_fault_is_planted_among_the_examples_of_the_reference_arm(taught_by, arm):
    """And where a student does not learn from that arm, among those of the first that it learns from."""
    bases = {
        "small": {"model": "nano-student", "arms": taught_by},
        "wc": {"model": "nano-wc", "arms": ["se"]},
    }
    found = students.list_students(taught_study(students=bases), {"se": 2.0, "wc": 1.0})
    planted, taught = found["small.planted"], found[f"small.{arm}.high"]
    assert (planted.source, planted.paradigm) == ("planted", None)
    same = {"source": "arm", "paradigm": taught.paradigm}
    assert planted.model_copy(update=same) == taught


def test_no_dose_no_student():
    found = students.list_students(taught_study(controls={"planted": 0}), {"se": 2.0, "wc": 1.0})
    assert not [name for name in found if "planted" in name]


def test_two_students_of_one_name_are_refused():
    arms = {"se": {"model": "nano-se"}, "pooled": {"model": "nano-wc"}}
    sized = dict.fromkeys(arms, 1.0)
    with pytest.raises(StudyError, match="small.pooled.low.*rename"):
        students.list_students(taught_study(arms=arms, controls={"pooled": True}), sized)
