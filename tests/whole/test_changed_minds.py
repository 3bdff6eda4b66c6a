"""A study that grows keeps its samples; one that would mix incompatible rows is refused. No key reaches an output."""

import copy
import json
import os

import pytest

from wcse_lib import pipeline, store
from wcse_lib import plan as planning
from wcse_lib.pipeline import Step
from wcse_lib.sample import stage as generation
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, check_study

STUDY = {
    "study": "minds",
    "dataset": {"name": "nano", "n_train": 4, "n_validation": 2, "n_held_out": 4, "levels": [1]},
    "arms": {"se": {"model": "nano-student"}},
    "budget": {"reference": "se", "samples": {"low": 1, "high": 2}},
    "sampling": {"temperature": 0.7, "top_k": 3, "max_tokens": 16},
}


def drawn(tmp_path, machine=None, **changes):
    data = copy.deepcopy(STUDY)
    for dotted, value in changes.items():
        at, *path = dotted.split("__")
        inner = data
        for key in (at, *path)[:-1]:
            inner = inner.setdefault(key, {})
        inner[(at, *path)[-1]] = value
    run = planning.make_plan(check_study(data, "f"), tmp_path)
    return generation.generate(run, "se", machine or Machine(device="cpu", threads=1)), run


def parts(run):
    return {
        p.name: (p.stat().st_mtime_ns, p.read_bytes())
        for p in run.path("02", "se").glob("part-*.parquet")
    }


def test_more_samples_and_problems_and_another_machine_make_no_old_sample_again(tmp_path):
    first, run = drawn(tmp_path)
    old = parts(run)
    grown, run = drawn(
        tmp_path,
        Machine(device="cpu", threads=2, batch_size=3),
        dataset__n_train=7,
        budget__samples={"low": 1, "high": 5},
    )
    assert len(grown) == 7 * 5 and not grown.duplicated(["problem_id", "sample_index"]).any()
    assert all(parts(run)[name] == old[name] for name in old), "an old part was written again"
    both = first.merge(grown, on=["author", "problem_id", "sample_index"])
    assert (
        len(both) == len(first)
        and (both["text_x"] == both["text_y"]).all()
        and (both["seed_x"] == both["seed_y"]).all()
    )
    fewer, run = drawn(tmp_path, dataset__n_train=4, budget__samples={"low": 1, "high": 2})
    assert fewer["text"].tolist() == first["text"].tolist()


def test_a_changed_file_is_planned_anew(tmp_path):
    path, columns = tmp_path / "p.jsonl", {"question": "q", "answer": "a", "problem_id": "id"}
    path.write_text(
        "".join(
            json.dumps({"id": f"p{i}", "q": f"What is {i}+1?", "a": i + 1}) + "\n"
            for i in range(20)
        )
    )
    data = {
        "study": "t",
        "dataset": {"name": "files", "train": str(path), "columns": columns},
        "arms": {"wc": {"model": "nano-wc"}},
        "budget": {"reference": "wc", "samples": {"one": 1}},
    }
    study = check_study(data, "t")
    run = planning.make_plan(study, tmp_path)
    store.write_manifest(run.path("01"), run.plan_id, {})
    assert pipeline.is_done(run.folder, study, Step("01_plan"))
    with open(path, "a") as file:
        file.write(json.dumps({"id": "p20", "q": "What is 20+1?", "a": 21}) + "\n")
    assert not pipeline.is_done(
        run.folder, study, Step("01_plan")
    ) and "next: 01_plan" in pipeline.status_of(run.folder, study)
    assert planning.make_plan(study, tmp_path).plan_id != run.plan_id


@pytest.mark.parametrize(
    "change,message",
    [
        ({"sampling__temperature": 0.9}, r"sampling\.temperature: 0\.7 there, 0\.9 now"),
        ({"prompt__template": "Q: {question}"}, "prompt"),
        ({"seed": 3}, "seed: 0 there, 3 now"),
        ({"dataset__levels": [1, 2]}, "levels"),
        ({"arms__se__model": "nano-wc"}, "nano-student.*nano-wc"),
        ({"arms__se__temperature": 0.3}, "temperature"),
    ],
)
def test_what_would_mix_rows_is_refused_and_named(tmp_path, change, message):
    drawn(tmp_path)
    with pytest.raises(StudyError, match=message):
        drawn(tmp_path, **change)


def test_what_leaves_samples_as_they_are_is_allowed(tmp_path):
    first, _ = drawn(tmp_path)
    again, _ = drawn(
        tmp_path,
        title="other",
        curation__per_problem=1,
        verification__judge="none",
        recipes={"one": {"per_problem": 1}},
    )
    assert again.equals(first)


def test_a_key_in_the_environment_reaches_no_file(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", planted := "sk-planted-9f31c2")
    monkeypatch.setenv("HF_TOKEN", planted)
    _, run = drawn(tmp_path)
    for folder, _, files in os.walk(tmp_path):
        for name in files:
            with open(os.path.join(folder, name), "rb") as file:
                assert planted.encode() not in file.read(), name


def test_a_student_whose_examples_changed_is_trained_and_tested_anew(tmp_path, capsys):
    """A changed budget must neither stop at the old student nor take its samples for the new one's."""
    from wcse_lib.evaluate import stage as evaluation
    from wcse_lib.train import stage as training
    from wcse_lib.verify import stage as verification

    def river(n):
        changes = {
            "students": {"small": {"model": "nano-student"}},
            "controls": {"planted": 0, "reference": False},
            "dataset__n_train": 8,
            "budget__samples": {"high": n},
            "training": {
                "amount": {"high": 2},
                "batch_size": 4,
                "n_checkpoints": 1,
                "max_tokens": 256,
            },
            "evaluation": {"n_samples": 2, "max_tokens": 16, "maj_k": [1]},
            "sampling__max_tokens": 80,
        }
        machine = Machine(device="cpu", threads=1)
        _, run = drawn(tmp_path, machine, **changes)
        verification.verify(run, "se", machine)
        training.train_students(run, [], machine)
        evaluation.evaluate(run, [], machine)
        folder = run.path("04", "small.se.high")
        return (folder / "training.json").read_text(), run.path(
            "05", "small.se.high", "weights.json"
        ).read_text()

    first = river(6)
    assert first[0] == first[1] and "anew" not in capsys.readouterr().out
    second = river(12)
    out = capsys.readouterr().out
    assert first[0] != second[0] == second[1]
    assert "trained anew" in out and "tested anew" in out
