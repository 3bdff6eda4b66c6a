"""Rooms 04 and 05: the matrix of students, their examples, the refusals, learning rates, exports and results by set."""

import importlib.util
import shutil

import numpy as np
import pandas as pd
import pytest

from wcse_lib import budget, intervals, pipeline
from wcse_lib import plan as planning
from wcse_lib.evaluate import stage as evaluation
from wcse_lib.plan import students as matrix
from wcse_lib.sample.prompts import load_tokenizer
from wcse_lib.store.records import (
    KEY,
    SampleWriter,
    StudyError,
    read_json,
    read_parquet,
    write_json,
    write_manifest,
    write_parquet,
)
from wcse_lib.study import Machine, PlannedStudent, Run, check_study, resolve_model, write_yaml
from wcse_lib.train import stage as training
from wcse_lib.train import trainer as finetune

SIZES = {"big": 100.0, "small": 10.0, "api": None, "both": None, "again": 10.0}


def study(**changes):
    data = {
        "study": "made",
        "seed": 3,
        "dataset": {
            "name": "nano",
            "n_train": 30,
            "n_validation": 6,
            "n_held_out": 12,
            "levels": [1, 2],
        },
        "arms": {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
        "budget": {"reference": "se", "samples": {"low": 1, "high": 2}, "match": "count"},
        "students": {"small": {"model": "nano-student"}, "wc": {"model": "nano-wc"}},
        "training": {
            "amount": {"low": 1, "high": 2},
            "batch_size": 8,
            "n_checkpoints": 1,
            "max_tokens": 256,
        },
        "evaluation": {"n_samples": 2, "max_tokens": 40, "maj_k": [2]},
    }
    return check_study(data | changes, "test")


# ---- the matrix


def made_matrix(**changes):
    arms = {
        "big": {"model": "nano-se"},
        "small": {"model": "nano-student"},
        "api": {"model": "gpt", "engine": "openai"},
        "both": {"mix": {"big": 0.5, "small": 0.5}},
        "again": {"adaptive": {"of": "small"}},
    }
    sized = dict(zip(arms, SIZES.values()))
    wanted = study(
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
    monkeypatch.setattr(matrix.budget, "read_model", fake.get)
    found = matrix.list_students(*made_matrix(controls={"pooled": True}))
    paradigms = {name: entry["paradigm"] for name, entry in found.items() if name.endswith(".low")}
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
        found[name]["paradigm"] is None for name in ("mid.base", "mid.reference", "big.wrong")
    )
    assert "mid.wrong" not in found and found["big.wrong"]["arm"] == "big"  # mid samples nowhere


def test_a_student_of_an_earlier_round_teaches_itself():
    """In the second round of self-improvement the arm's model is a folder, yet still the student's own."""
    arms = {
        "se": {"model": "nano-se"},
        "wc": {"model": "outputs/r-round1/04_finetune/small.wc.high/model", "once": "small"},
    }
    sized = dict.fromkeys(arms, 1.0e9)
    found = matrix.list_students(
        study(arms=arms, students={"small": {"model": "nano-student"}}), sized
    )
    assert (
        found["small.wc.high"]["paradigm"] == "self" and found["small.se.high"]["paradigm"] == "kd"
    )
    assert found["small.wrong"]["arm"] == "wc"


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
        matrix.list_students(study(training=given | training), arms)


def test_packages_that_a_training_lacks_are_named_before_any_compute(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    data = study(
        training={
            "amount": {"low": 1, "high": 2},
            "method": "qlora",
            "backend": "unsloth",
            "report_to": ["wandb"],
        }
    )
    assert matrix.packages(data, Machine()) == ["bitsandbytes", "unsloth", "wandb"]
    write_yaml(tmp_path / "p.yaml", data.model_dump(mode="json", exclude_defaults=True))
    with pytest.raises(
        StudyError, match="not installed here.*: bitsandbytes, unsloth, wandb; install"
    ):
        pipeline.run(str(tmp_path / "p.yaml"), "", str(tmp_path))


def test_settings_take_the_methods_rate_and_a_seed_of_their_own():
    student = PlannedStudent(
        base="b", model="m", n_parameters=1, source="arm", amount=2, learning_rate=1e-3, seed=4
    )
    lora = study(training={"amount": {"low": 1, "high": 2}, "method": "lora"})
    assert (study().training.rate, lora.training.rate) == (1e-5, 2e-4)
    seeds = {
        matrix.settings(study(seed=s), student.model_copy(update={"seed": t}), Machine()).seed
        for s in (0, 3, 2**31 - 1)
        for t in (0, 407, 3407)
    }
    assert len(seeds) == 9 and all(0 <= seed < 2**32 for seed in seeds)
    with pytest.raises(StudyError, match="stands twice"):
        study(training={"amount": {"low": 1, "high": 2}, "seeds": [1, 1]})
    with pytest.raises(StudyError, match="evaluation.merged"):
        study(evaluation={"merged": True})


def test_names_recipes_and_seeds():
    recipes = {
        "one": {"per_problem": 1, "students": ["small"], "budgets": ["high"]},
        "raw": {"filter": "none"},
    }
    wanted = study(recipes=recipes, controls={"wrong": False})
    arms = {"se": 2.0, "wc": 1.0}
    found = matrix.list_students(wanted, arms)
    main = {f"{s}.{a}.{b}" for s in ("small", "wc") for a in ("se", "wc") for b in ("low", "high")}
    assert set(found) == (
        {"small.base", "wc.base", "small.reference", "wc.reference"}
        | main
        | {f"{name}.raw" for name in main}
        | {"small.se.high.one", "small.wc.high.one"}
    )
    assert found["wc.se.low.raw"]["recipe"] == "raw" and found["wc.se.low"]["recipe"] == "main"
    seeded = matrix.list_students(
        study(training={"amount": {"low": 1, "high": 2}, "seeds": [4, 5]}), arms
    )
    assert (
        "wc.base" in seeded
        and "wc.wc.low.s4" in seeded
        and seeded["wc.wrong.s5"]["seed"] == 5
        and "wc.wc.low" not in seeded
    )


def test_two_students_of_one_name_are_refused():
    arms = {"se": {"model": "nano-se"}, "pooled": {"model": "nano-wc"}}
    sized = dict.fromkeys(arms, 1.0)
    with pytest.raises(StudyError, match="small.pooled.low.*rename"):
        matrix.list_students(study(arms=arms, controls={"pooled": True}), sized)


# ---- a run made by hand: samples, verdicts and examples of both arms


def lay(tmp_path, **changes) -> Run:
    """se: 1 right sample of 8 problems at low, 2 at high; wc: of 20 problems; plus wrong samples of wc, the last unread."""
    run = planning.make_plan(study(**changes), tmp_path)
    problems = read_parquet(run.path("01", "train.parquet"))
    for arm, n in (("se", 8), ("wc", 20)):
        rows = problems.head(n)
        frames = []
        for recipe in ["main", *run.study.recipes]:
            for b, k in (("low", 1), ("high", 2)):
                one = [
                    rows.assign(sample_index=i, budget=b, recipe=recipe, text=rows["reference"])
                    for i in range(k)
                ]
                frames += [frame.assign(author=arm) for frame in one]
        write_parquet(
            run.path("03", arm, "examples.parquet"),
            pd.concat(frames)[[*KEY, "budget", "recipe", "text"]],
        )
    with SampleWriter(run.path("02", "wc")) as writer:
        for i, problem in enumerate(problems["problem_id"]):
            for j in range(2):
                writer.add(
                    {
                        "author": "wc",
                        "problem_id": problem,
                        "sample_index": j,
                        "seed": 0,
                        "text": f"wrong {i} #### 999",
                        "n_prompt_tokens": 1,
                        "n_tokens": 1,
                        "finish_reason": "stop",
                        "engine": "hf",
                        "model": "nano-wc",
                        "prompt_hash": "",
                        "error": "",
                        "usd": None,
                    }
                )
    ids = np.repeat(problems["problem_id"], 2)
    verdicts = pd.DataFrame(
        {
            "author": "wc",
            "problem_id": ids,
            "sample_index": [0, 1] * len(problems),
            "verdict": "incorrect",
        }
    )
    write_parquet(
        run.path("03", "wc", "verdicts.parquet"),
        verdicts.assign(extracted=["9", None] * len(problems)),
    )
    return run


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    recipes = {"equal": {"n_examples": "equal"}}
    training_ = {
        "amount": {"low": 1, "high": 2},
        "batch_size": 8,
        "n_checkpoints": 2,
        "max_tokens": 256,
        "warmup": 0.0,
    }
    return lay(
        tmp_path_factory.mktemp("made"),
        recipes=recipes,
        controls={"pooled": True},
        training=training_,
    )


def test_every_source_gives_its_examples(made):
    count = {}
    for name in (
        "small.se.low",
        "small.wc.high",
        "small.pooled.low",
        "small.pooled.high",
        "small.reference",
        "wc.wrong",
    ):
        frame, cut = training.examples_of(made, name)
        count[name] = len(frame)
        assert not len(cut) and not frame.duplicated(KEY).any() and list(frame) == [*KEY, "text"]
    n = len(read_parquet(made.path("01", "train.parquet")))
    assert count == {
        "small.se.low": 8,
        "small.wc.high": 40,
        "small.pooled.low": 28,
        "small.pooled.high": 56,
        "small.reference": n,
        "wc.wrong": n,
    }


def test_equal_counts_are_cut_by_key_and_counted(made, monkeypatch):
    few, none = training.examples_of(made, "small.se.high.equal")
    many, cut = training.examples_of(made, "small.wc.high.equal")
    assert len(few) == len(many) == 16 and not len(none) and len(cut) == 24
    read = training.read_parquet
    monkeypatch.setattr(
        training, "read_parquet", lambda *a: read(*a).sample(frac=1, random_state=1)
    )
    again, _ = training.examples_of(made, "small.wc.high.equal")
    assert set(again[KEY].itertuples(index=False)) == set(many[KEY].itertuples(index=False))
    monkeypatch.undo()
    rows, examples, dropped = training.encoded_rows(
        made, "small.wc.high.equal", load_tokenizer(resolve_model("nano-student"))
    )
    assert len(rows) == len(examples) == 16 and set(dropped["reason"]) == {
        "over the count of the arm with fewest examples"
    }


def test_no_examples_are_an_error(made, tmp_path):
    write_parquet(
        tmp_path / "03_verify/se/examples.parquet",
        read_parquet(made.path("03", "se", "examples.parquet")).head(0),
    )
    shutil.copytree(made.path("01"), tmp_path / "01_plan")
    with pytest.raises(StudyError, match="small.se.low: no examples"):
        training.examples_of(Run(tmp_path), "small.se.low")


# ---- refusals before the first step


@pytest.mark.parametrize("split", ["held_out", "validation"])
@pytest.mark.parametrize("column", ["problem_id", "question"])
def test_a_held_out_problem_among_the_examples_is_refused(made, tmp_path, split, column):
    shutil.copytree(made.folder, tmp_path / "made")
    run = Run(tmp_path / "made")
    others = read_parquet(run.path("01", f"{split}.parquet"))
    others.loc[others.index[-1], column] = read_parquet(run.path("01", "train.parquet"))[
        column
    ].iloc[0]
    write_parquet(run.path("01", f"{split}.parquet"), others)
    with pytest.raises(StudyError, match=f"1 training problems are {split} ones"):
        training.train_student(str(run.folder), "small.se.low", Machine(threads=1))
    assert not run.path("04", "small.se.low", "checkpoints").exists()


@pytest.mark.parametrize(
    "fault, reason",
    [
        (
            lambda row: {**row, "labels": [finetune.MASKED] * len(row["labels"])},
            "labels are masked",
        ),
        (lambda row: {name: ids[:-1] for name, ids in row.items()}, "end token .* is not trained"),
        (
            lambda row: {
                "input_ids": row["input_ids"][:1] + row["input_ids"],
                "labels": [finetune.MASKED] + row["labels"],
            },
            "2 BOS",
        ),
    ],
)
def test_planted_faults_are_refused_before_training(made, monkeypatch, fault, reason):
    encode = finetune.encode
    monkeypatch.setattr(finetune, "encode", lambda *args: fault(encode(*args)))
    monkeypatch.setattr(finetune, "train", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match=f"row 0: .*{reason}"):
        training.train_student(str(made.folder), "small.se.low", Machine(threads=1))


def test_long_examples_are_dropped_whole_and_counted(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "made")
    path = tmp_path / "made/03_verify/se/examples.parquet"
    examples = read_parquet(path)
    examples.loc[examples["problem_id"] == examples["problem_id"].iloc[0], "text"] = (
        "total is 1+1=2\n" * 100
    )
    write_parquet(path, examples)
    rows, kept, dropped = training.encoded_rows(
        Run(tmp_path / "made"), "small.se.high", load_tokenizer(resolve_model("nano-student"))
    )
    assert (
        len(rows) == len(kept) == 14
        and dropped["reason"].tolist() == ["longer than 256 tokens"] * 2
    )
    assert all(row["labels"][-1] == row["input_ids"][-1] != finetune.MASKED for row in rows)


def test_shown_rows_are_coloured(made):
    page = training.shown_rows(made, "small.se.low")
    assert (
        page.count("tokens, ") == 3 and "background:#ddd" in page and "background:#bde5b8" in page
    )


# ---- training, exports and results


@pytest.fixture(scope="module")
def trained(made):
    """One student trained at two learning rates, of which the first is far too high."""
    plan = read_json(made.path("01", "plan.json"))
    plan["students"]["small.se.high"]["learning_rate"] = [10.0, 1e-4]
    write_json(made.path("01", "plan.json"), plan)
    run = Run(made.folder)
    table = training.train_students(run, ["small.se.high"], Machine(threads=1, dtype="float32"))
    return run, table.iloc[0]


def test_of_several_learning_rates_validation_chooses(trained):
    run, row = trained
    report = read_json(run.path("04", "small.se.high", "report.json"))
    assert [one["learning_rate"] for one in report["rates"]] == [10.0, 1e-4]
    assert (
        report["learning_rate"] == row.learning_rate == 1e-4
        and row.validation_accuracy == report["rates"][1]["accuracy"]
    )
    assert report["rates"][1]["accuracy"] > (report["rates"][0]["accuracy"] or 0)
    assert report["spent_flops"] == 2 * 6 * report["n_parameters"] * report["n_tokens"]
    left = {f.name for f in run.path("04", "small.se.high").iterdir()}
    assert left == {
        "model",
        "report.json",
        "training.json",
        "dropped.parquet",
        "likelihood.parquet",
        "manifest.json",
    }
    assert training.checks(run, ["small.se.high"], pd.DataFrame([row]))["n_students"] == 1


def test_likelihoods_are_the_base_models(trained):
    import torch
    from transformers import AutoModelForCausalLM

    run, base = trained[0], resolve_model("nano-student")
    found = read_parquet(run.path("04", "small.se.high", "likelihood.parquet"))
    rows, examples, _ = training.encoded_rows(run, "small.se.high", load_tokenizer(base))
    assert found[KEY].equals(examples[KEY])
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for row, one in list(zip(rows, found.itertuples()))[::5]:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        logs = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1)
        at = (labels[1:] != finetune.MASKED).nonzero()[:, 0]
        assert one.log_likelihood == pytest.approx(
            logs[at, labels[1:][at]].sum().item(), abs=1e-3
        ) and one.n_tokens == len(at)


def test_likelihoods_that_another_budgets_student_told_are_taken(trained, monkeypatch):
    run, asked = trained[0], []
    rows, examples, _ = training.encoded_rows(
        run, "small.se.low", load_tokenizer(resolve_model("nano-student"))
    )
    monkeypatch.setattr(
        finetune, "log_likelihoods", lambda _, rows: asked.extend(rows) or [0.0] * len(rows)
    )
    found = training._likelihoods(run, "small.se.low", rows, examples)
    both = found.merge(read_parquet(run.path("04", "small.se.high", "likelihood.parquet")), on=KEY)
    assert found[KEY].equals(examples[KEY]) and len(both) and len(asked) == len(found) - len(both)
    assert both["log_likelihood_x"].equals(both["log_likelihood_y"]) and both["n_tokens_x"].equals(
        both["n_tokens_y"]
    )


def test_a_student_can_be_exported_and_be_a_model(trained, tmp_path):
    run = trained[0]
    out = training.export(run, "small.se.high", tmp_path / "hub")
    text = (out / "README.md").read_text()
    report = read_json(run.path("04", "small.se.high", "report.json"))
    for fact in (
        "nano-student",
        "arm `se`",
        "budget `high`",
        report["data_sha256"],
        run.plan_id,
        "| epochs | ",
    ):
        assert fact in text
    assert str(tmp_path) not in text and "Greedy pass@1" not in text
    assert (
        budget.read_model(out).n_parameters
        == budget.read_model(resolve_model("nano-student")).n_parameters
    )
    changed = study(
        study="second",
        arms={"se": {"model": "nano-se"}, "wc": {"model": str(out)}},
        students={"it": {"model": str(out)}},
    )
    second = planning.make_plan(changed, tmp_path)
    assert (
        second.student("it.wc.low")["paradigm"] == "self"
        and second.student("it.wrong")["arm"] == "wc"
    )
    for refused, name in ((out, "small.se.high"), (tmp_path / "new", "small.wc.high")):
        with pytest.raises(StudyError, match="exists|train small.wc.high first"):
            training.export(run, name, refused)


def test_curves_and_the_confound_are_told(trained, made):
    run = trained[0]
    curves = training.curves(run, ["small.se.high"])
    assert (
        curves["step"].tolist() == [1, 2]
        and curves["accuracy"].notna().all()
        and curves["loss"].notna().all()
    )
    for name, epochs in (
        ("small.se.low", 4.0),
        ("small.wc.low", 1.6),
    ):  # as equal steps would have left them
        report = read_json(run.path("04", "small.se.high", "report.json"))
        write_json(run.path("04", name, "report.json"), report | {"epochs": epochs, "steps": 10})
    table = training.reports(run, ["small.se.low", "small.wc.low"]).set_index("student")
    assert table["times_repeated"].to_dict() == {"small.se.low": 2.5, "small.wc.low": 1.0}
    assert table["steps_at_equal_epochs"].to_dict() == {"small.se.low": 4, "small.wc.low": 10}


def test_results_by_set(made, tmp_path):
    shutil.copytree(made.folder, tmp_path / "made")
    run = Run(tmp_path / "made")
    problems = read_parquet(run.path("01", "held_out.parquet"))
    problems["set"] = ["held_out"] * 8 + ["other"] * 4
    write_parquet(run.path("01", "held_out.parquet"), problems)
    ids, folder = problems["problem_id"], run.path("05", "small.base")
    greedy = pd.DataFrame({"author": "s", "problem_id": ids, "sample_index": 0, "extracted": "1"})
    greedy["verdict"] = ["correct"] * 3 + ["incorrect"] * 5 + ["correct"] * 4
    sampled = pd.concat([greedy.assign(sample_index=i) for i in (0, 1)])
    sampled.loc[sampled["sample_index"] == 1, ["verdict", "extracted"]] = ["incorrect", None]
    right = sampled[sampled["verdict"] == "correct"]
    for name, frame in (("verdicts-greedy", greedy), ("verdicts-sampled", sampled)):
        write_parquet(folder / f"{name}.parquet", frame)
    judged = right[KEY].assign(
        sound=pd.array([False] + [True] * 6, "boolean"), judge="exact", reason=""
    )
    write_parquet(folder / "judgements-sampled.parquet", judged)
    write_manifest(folder, run.plan_id, {})
    table = evaluation.evaluate(run, ["small.base"], Machine()).set_index(["set", "metric"])
    assert table.loc[("held_out", "greedy pass@1"), ["n", "value"]].tolist() == [8, 3 / 8]
    assert table.loc[("held_out", "greedy pass@1"), "low"] == pytest.approx(
        intervals.wilson(3, 8).low
    )
    assert (
        table.loc[("other", "greedy pass@1"), "value"] == 1
        and table.loc[("other", "sampled pass@1"), "value"] == 0.5
    )
    assert table.loc[("held_out", "false-positive rate"), ["n", "value"]].tolist() == [3, 1 / 3]
    assert (
        table.loc[("held_out", "false-positive rate"), "low"]
        == intervals.ratio([1, 0, 0], [1, 1, 1], seed=run.study.seed).low
    )
    assert table.loc[("held_out", "maj@2"), "value"] == 3 / 8  # unread answers do not vote
    assert (
        "37.5"
        in evaluation.shown(table.reset_index()).loc[("held_out", "small.base"), "greedy pass@1"]
    )
    assert evaluation.checks(run, ["small.base"], table.reset_index())["n_samples"] == 36
    write_parquet(folder / "verdicts-sampled.parquet", sampled.head(20))
    with pytest.raises(AssertionError, match="missing"):
        evaluation.checks(run, ["small.base"], table.reset_index())


# ---- a real pretrained model on real problems, through the notebooks


@pytest.mark.engines
def test_smollm_learns_from_gsm8k_through_the_notebooks(smollm, real_data, tmp_path):
    """SmolLM2-135M with LoRA for twelve steps: the loss falls, the adapter is saved, tested as such, and exported."""
    data = {
        "name": "files",
        "train": str(real_data / "gsm8k_train.jsonl"),
        "held_out": str(real_data / "gsm8k_test.jsonl"),
        "n_train": 60,
        "n_held_out": 4,
        "answer_style": "gsm8k",
        "columns": {"question": "question", "answer": "answer", "solution": "answer"},
    }
    wanted = {
        "study": "smollm",
        "dataset": data,
        "arms": {
            "gold": {
                "model": "gsm8k",
                "engine": "import",
                "path": data["train"],
                "n_parameters": 1e9,
                "columns": {"question": "question", "text": "answer"},
            }
        },
        "budget": {"reference": "gold", "samples": {"one": 1}, "match": "count"},
        "prompt": {"answer_style": "gsm8k"},
        "students": {"smollm": {"model": smollm}},
        "controls": {"reference": False, "wrong": False},
        "training": {
            "method": "lora",
            "lora_rank": 8,
            "merged": True,
            "amount": {"one": 12},
            "batch_size": 4,
            "warmup": 0.1,
            "learning_rate": 2e-3,
            "n_checkpoints": 2,
            "max_tokens": 180,
        },
        "evaluation": {"n_samples": 2, "max_tokens": 48, "maj_k": [2]},
    }
    write_json(tmp_path / "params.yaml", wanted)
    write_json(tmp_path / "cpu.yaml", {"device": "cpu", "dtype": "bfloat16", "threads": 1})
    folder = pipeline.run(
        str(tmp_path / "params.yaml"), str(tmp_path / "cpu.yaml"), str(tmp_path), "05_evaluate"
    )
    run, student = Run(folder), "smollm.gold.one"
    report = read_json(run.path("04", student, "report.json"))
    loss = [value for _, value, _ in report["loss_curve"]]
    assert len(loss) == 12 and np.mean(loss[-3:]) < np.mean(loss[:3]) - 0.1, loss
    assert (
        report["n_dropped_long"] == 60 - report["n_examples"]
        and report["n_trained_parameters"] < report["n_parameters"] / 50
    )
    assert (run.path("04", student, "model") / "adapter_model.safetensors").exists()
    assert evaluation.model_of(run, student) == (smollm, str(run.path("04", student, "model")))
    table = evaluation.results(run, ["smollm.base", student])
    assert evaluation.checks(run, ["smollm.base", student], table)["n_samples"] == 2 * 4 * 3
    assert (
        "Greedy pass@1 on 4"
        in (training.export(run, student, tmp_path / "hub") / "README.md").read_text()
    )
    merged = run.path("04", student, "merged")
    assert budget.read_model(merged).n_parameters == budget.read_model(smollm).n_parameters
