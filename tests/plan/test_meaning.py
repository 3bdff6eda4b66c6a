"""Decontamination by meaning: what is too near leaves with its reason, and how near that is comes from the data."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT

from wcse_lib import plan as planning
from wcse_lib.plan import meaning as by_meaning
from wcse_lib.plan.meaning import ByMeaning, nearest, quantile_above
from wcse_lib.sample import Vectors
from wcse_lib.store import StudyError, read_parquet
from wcse_lib.study import Machine, Meaning, Price, check_study, read_yaml

RNG = np.random.default_rng(0)


def units(n, dimension=20):
    rows = RNG.normal(size=(n, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float16)


def frame(prefix, n, **columns):
    ids = [f"{prefix}{i}" for i in range(n)]
    return pd.DataFrame({"problem_id": ids, "question": ids} | columns)


def compared(rows, held, sets, **keys):
    """(copies, nearest, facts) of problems and held-out ones with these vectors."""
    vectors = np.concatenate([rows, held])
    one = ByMeaning(
        Meaning(model="m", **keys),
        lambda texts: Vectors(vectors, {"engine": "local"}, 5000),
        Price(model="m", input=2.0, output=0.0),
    )
    found = one.compare(frame("t", len(rows)), frame("h", len(held), set=sets))
    return *found, one.facts


def test_the_nearest_is_found_in_pieces_too(monkeypatch):
    rows, others = units(50), units(30)
    cosines = rows.astype(np.float32) @ others.astype(np.float32).T
    for most in (10**7, 100, 1):
        monkeypatch.setattr(by_meaning, "MOST_COSINES", most)
        found = nearest(rows, others)
        assert (found.places == cosines.argmax(1)).all()
        assert found.cosines == pytest.approx(cosines.max(1))
        by_hand = [row[-1] - row[-4:-1].mean() for row in np.sort(cosines)]
        assert found.margins == pytest.approx(by_hand, abs=1e-5)
    assert len(nearest(rows[:0], others).places) == 0


def test_paraphrases_leave_and_the_nearest_others_are_shown():
    held, honest = units(300), units(500)
    planted = held[:20] + 0.02 * units(20)
    rows = np.concatenate([honest, planted / np.linalg.norm(planted, axis=1, keepdims=True)])
    copies, near, facts = compared(rows.astype(np.float16), held, "held_out")
    assert set(copies["problem_id"]) >= {f"t{i}" for i in range(500, 520)}
    assert set(copies["reason"]) == {"in meaning a copy of"}
    assert copies[copies["problem_id"] == "t503"]["held_out_id"].item() == "h3"
    n_honest = len(copies) - 20
    assert n_honest <= 15, "500 honest ones, of which 1 % may leave, and luck"
    assert facts.n_removed == len(copies) and facts.n_compared == 260 and facts.usd == 0.01
    assert copies["similarity"].iloc[0] > 0.99 and len(near) == by_meaning.SHOWN
    assert not set(near["problem_id"]) & set(copies["problem_id"])


@pytest.mark.parametrize("sets", [["a"] * 200, ["a"] * 120 + ["b"] * 80])
def test_the_share_of_honest_problems_that_leave_is_as_asked(sets):
    left = [len(compared(units(600), units(200), sets, false_share=0.05)[0]) for _ in range(20)]
    assert 0.035 < np.mean(left) / 600 < 0.065


def test_a_repeated_set_hides_no_paraphrase():
    """In each set alone the paraphrased problem has no like; in both together it would have one."""
    held = units(200)
    sets = ["held_out"] * 200 + ["again"] * 200
    rows = np.concatenate([held[:7], units(1000)])
    copies, _, _ = compared(rows, np.tile(held, (2, 1)), sets)
    assert set(copies["problem_id"]) >= {f"t{i}" for i in range(7)}


def test_a_threshold_of_one_s_own_is_taken():
    copies, _, facts = compared(units(5), units(5), "held_out", threshold=0.999)
    assert copies.empty and facts.threshold == 0.999 and facts.n_compared == 0


def test_what_is_too_few_to_compare_is_named():
    with pytest.raises(StudyError, match="dataset.meaning: again has 3 problems, and at least 4"):
        compared(units(50), units(9), ["held_out"] * 6 + ["again"] * 3)
    with pytest.raises(StudyError, match="dataset.meaning.threshold: needed with 4 training"):
        compared(units(4), units(5), "held_out")


def test_quantiles_are_of_the_next_draw():
    values = np.arange(1, 100)
    assert quantile_above(values, 0.01) == 99 and quantile_above(values[:10], 0.01) == 10


# --- a study


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    stories = [
        f"{name} has {n} marbles and finds {n + 2} more. How many are there in all?"
        for n, name in enumerate(["Tom", "Ann", "Eve", "Bob", "Sue", "Max", "Kim"], 3)
    ]
    for split, texts in {
        "train": [*stories[:3], "A train goes 60 miles an hour for 2 hours. How far?"],
        "held": [*stories[3:], "In all, how many are there? Tom finds 5 and has 3 marbles."],
    }.items():
        rows = [{"question": text, "answer": str(n)} for n, text in enumerate(texts)]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(lines)
    return {
        "study": "s",
        "dataset": {
            "name": "files",
            "train": f"{tmp_path}/train.jsonl",
            "held_out": f"{tmp_path}/held.jsonl",
            "ngram": 30,
            "meaning": {"model": "nano-student", "threshold": 0.1},
        },
        "arms": {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
        "budget": {"reference": "se", "samples": {"low": 1}},
        "prompt": {"style": "plain", "template": "{question}"},
    }


def test_what_it_was_done_with_stands_in_the_plan(data, tmp_path):
    run = planning.make_plan(check_study(data, "f.yaml"), tmp_path / "out", Machine(threads=1))
    facts = run.plan.meaning
    assert (
        facts.n_removed
        == run.plan.dropped_problems["train: in meaning a copy of a problem of held_out"]
    )
    assert 0 < facts.n_removed < 4 and facts.usd is None
    assert "model.safetensors" in facts.made_by["files"] and facts.made_by["mode"] == "mean"
    dropped = read_parquet(run.path("01", "dropped.parquet"))
    assert dropped["other"].str.startswith("p-").all()
    near = planning.near_duplicates(run)
    assert (near["reason"] == "near in meaning").sum() == 4 - facts.n_removed
    (sentence,) = [s for s in planning.limits(run) if s.startswith("by meaning")]
    assert "nano-student" in sentence and "the threshold is your own" in sentence

    again = planning.make_plan(check_study(data, "f.yaml"), tmp_path / "out", Machine(threads=1))
    assert again.plan.plan_id == run.plan.plan_id
    data["dataset"]["meaning"]["threshold"] = 0.1001
    other = planning.make_plan(check_study(data, "f.yaml"), tmp_path / "out", Machine(threads=1))
    assert other.plan.plan_id != run.plan.plan_id


def test_too_few_problems_promise_nothing(data, tmp_path):
    del data["dataset"]["meaning"]["threshold"]
    rows = [{"question": f"What is {n} + {n * n} - 1?", "answer": "1"} for n in range(30)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "train.jsonl").write_text(lines)
    run = planning.make_plan(check_study(data, "f.yaml"), tmp_path / "out")
    (sentence,) = [s for s in planning.limits(run) if s.startswith("by meaning")]
    assert "25 training problems are too few" in sentence and "99 would do" in sentence


def test_a_dry_run_makes_no_vectors_and_says_what_is_missing(data, monkeypatch):
    def fail(*args):
        raise AssertionError("a dry run made vectors")

    monkeypatch.setattr("wcse_lib.plan.meaning.vectors_of", fail)
    monkeypatch.delenv("VECTOR_KEY", raising=False)
    machine = Machine(api_key_variable="VECTOR_KEY", tflops=1.0)
    text = planning.preview(check_study(data, "f.yaml"), machine)
    assert "meaning   vectors of 9 problems by nano-student, in 01 and not in this dry run" in text
    data["dataset"]["meaning"] = {"model": "./nowhere"}
    assert "missing   model ./nowhere" in planning.preview(check_study(data, "f.yaml"), machine)
    data["dataset"]["meaning"] = {"model": "embed-small", "engine": "openai"}
    text = planning.preview(check_study(data, "f.yaml"), machine)
    assert "each is paid once, at most " in text
    assert "missing   the environment variable VECTOR_KEY" in text


def test_a_model_that_is_not_there_is_named_with_its_key(data, tmp_path):
    data["dataset"]["meaning"] = {"model": str(tmp_path)}
    with pytest.raises(StudyError, match="dataset.meaning.model"):
        planning.make_plan(check_study(data, "f.yaml"), tmp_path / "out")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"decontaminate": False}, "goes with decontaminate: true"),
        ({"held_out": None}, "needs held_out or transfer"),
        ({"meaning": {"model": "m", "threshold": 1.5}}, "threshold"),
        ({"meaning": {"model": "m", "false_share": 0.0}}, "false_share"),
        ({"meaning": {"model": "m", "engine": "vllm"}}, "engine"),
    ],
)
def test_what_does_not_go_together_is_refused(data, change, words):
    data["dataset"] |= change
    with pytest.raises(StudyError, match=words):
        check_study(data, "f.yaml")


def test_problems_that_are_made_here_have_no_paraphrases():
    study = read_yaml(ROOT / "params/nano.yaml")
    study["dataset"]["meaning"] = {"model": "nano-student"}
    with pytest.raises(StudyError, match="meaning: only for name: files or hub"):
        check_study(study, "f.yaml")
