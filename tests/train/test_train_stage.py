"""04 as a whole: learning rates, likelihoods, exports, curves and the table of reports."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from studies import lay_examples, taught_study

from wcse_lib import budget, pipeline
from wcse_lib import train as training
from wcse_lib.evaluate import stage as evaluation
from wcse_lib.plan import make_plan
from wcse_lib.sample import HFEngine, Positions, load_tokenizer
from wcse_lib.sample.engines import Output
from wcse_lib.store import KEY, StudyError, read_json, read_parquet, write_json
from wcse_lib.study import Amounts, Machine, Run, resolve_model
from wcse_lib.train import fit, gradients, rows, stage
from wcse_lib.train.encode import MASKED
from wcse_lib.train.gradients import DIMENSION
from wcse_lib.train.rows import encoded_rows, write_rows

STUDENT = "small.se.high"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One student trained at two learning rates, of which the first is far too high."""
    how = {"amount": {"low": 1, "high": 2}, "batch_size": 8, "n_checkpoints": 2, "max_tokens": 256}
    folder = tmp_path_factory.mktemp("made")
    made = lay_examples(folder, training=how | {"warmup": 0.0})
    plan = read_json(made.path("01", "plan.json"))
    plan["students"][STUDENT]["learning_rate"] = [10.0, 1e-4]
    write_json(made.path("01", "plan.json"), plan)
    run = Run(made.folder)
    table = training.train_students(run, [STUDENT], Machine(threads=1, dtype="float32"))
    return run, table.iloc[0]


@pytest.fixture
def report(trained):
    return read_json(trained[0].path("04", STUDENT, "report.json"))


def rows_of(run: Run, student: str) -> list[dict]:
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    return list(encoded_rows(run, student, tokenizer, lambda dropped: None))


def test_of_several_learning_rates_validation_chooses(trained, report):
    _, row = trained
    first, second = report["rates"]
    assert (first["learning_rate"], second["learning_rate"]) == (10.0, 1e-4)
    assert second["accuracy"] > (first["accuracy"] or 0)
    assert report["learning_rate"] == row.learning_rate == 1e-4
    assert row.validation_accuracy == second["accuracy"]
    assert report["spent_flops"] == 2 * 6 * report["n_parameters"] * report["n_tokens"]


def test_validation_stops_where_arms_do(tmp_path, monkeypatch):
    run = lay_examples(tmp_path, sampling={"max_tokens": 80, "stop": ["###"]})
    asked = []

    def generate(engine, requests, decoding):
        asked.append(decoding.stop)
        return [Output(request.key, "#### 1", 1, 1, "stop") for request in requests]

    monkeypatch.setattr(HFEngine, "generate", generate)
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    with stage.Validator(str(run.folder), STUDENT) as validate:
        live = SimpleNamespace(config=SimpleNamespace(get_text_config=SimpleNamespace))
        validate(live, tokenizer, 1)
    assert asked == [("###",)]


def test_rows_that_the_model_cannot_hold_are_left_out_and_counted(tmp_path, monkeypatch):
    run = lay_examples(tmp_path)
    monkeypatch.setattr(rows, "read_positions", lambda model: Positions(60, "n_positions"))
    dropped = []
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    kept = list(encoded_rows(run, STUDENT, tokenizer, dropped.append))
    lengths = [len(row["input_ids"]) for row in kept]
    assert max(lengths) <= 60 < run.study.training.max_tokens
    assert set(pd.concat(dropped)["reason"]) == {"longer than 60 tokens"}


def test_what_a_training_leaves(trained):
    run, row = trained
    left = {file.name for file in run.path("04", STUDENT).iterdir()}
    files = {"report.json", "training.json", "manifest.json", "contents.json"}
    assert left == {"model", "dropped.parquet", "fit.parquet", "fit.json", *files}
    assert training.checks(run, [STUDENT], pd.DataFrame([row]))["n_students"] == 1


def test_fit_is_the_base_models(trained):
    import torch
    from transformers import AutoModelForCausalLM

    run, _ = trained
    found = read_parquet(run.path("04", STUDENT, "fit.parquet"))
    rows = rows_of(run, STUDENT)
    assert found[KEY].to_dict("records") == [{name: row[name] for name in KEY} for row in rows]
    base = resolve_model("nano-student")
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    for row, one in list(zip(rows, found.itertuples()))[::5]:
        ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
        logs = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1)
        at = (labels[1:] != MASKED).nonzero()[:, 0]
        expected = logs[at, labels[1:][at]].sum().item()
        assert one.log_likelihood == pytest.approx(expected, abs=1e-3)
        assert one.n_tokens == len(at)
        places = [
            1 + int((logs[place] > logs[place, labels[1:][place]]).sum()) for place in at.tolist()
        ]
        assert one.rank == sum(min(place, 100) for place in places)


def test_fit_that_another_budgets_student_found_are_taken(trained, monkeypatch, tmp_path):
    run, asked = trained[0], []
    rows = write_rows(rows_of(run, "small.se.low"), tmp_path / "rows.arrow")

    def none(model, n_parameters, rows, chosen, keeps_gradient):
        asked.extend(chosen)
        found = np.zeros((keeps_gradient.sum(), DIMENSION))
        return fit.Measured(np.zeros((len(chosen), 2)), found, Amounts(tokens=0))

    monkeypatch.setattr(fit, "fit_of", none)
    fit.write_fit(run, "small.se.low", rows)
    low, high = (
        read_parquet(run.path("04", name, "fit.parquet")) for name in ("small.se.low", STUDENT)
    )
    both = low.merge(high, on=KEY)
    assert low["sample_index"].tolist() == rows.data["sample_index"][:]
    assert 0 < len(both) == len(low) - len(asked)
    assert both["log_likelihood_x"].equals(both["log_likelihood_y"])
    assert both["n_tokens_x"].equals(both["n_tokens_y"])
    assert np.array_equal(np.stack(both["gradient_x"]), np.stack(both["gradient_y"]))


def test_gradients_are_kept_of_the_first_examples_alone(trained, monkeypatch, tmp_path):
    run = trained[0]
    rows = write_rows(rows_of(run, STUDENT), tmp_path / "rows.arrow")
    monkeypatch.setattr(gradients, "N_EXAMPLES", 3)
    found, _ = fit.measure("nano-student", 1, rows)
    first = np.argsort(gradients.places(found))[:3]
    assert set(np.flatnonzero(found["gradient"].notna())) == set(first)
    assert found["log_likelihood"].notna().all()
    whole = read_parquet(run.path("04", STUDENT, "fit.parquet"))["gradient"]
    for place in first:
        assert found["gradient"][place] == pytest.approx(whole[place], rel=1e-4, abs=1e-4)


def test_an_export_has_a_card(trained, report, tmp_path):
    run, _ = trained
    out = training.export(run, STUDENT, tmp_path / "hub")
    text = (out / "README.md").read_text()
    facts = ["nano-student", "arm `se`", "budget `high`", "| epochs | ", "tags:\n- wcse"]
    for fact in [*facts, report["data_sha256"], run.plan_id]:
        assert fact in text
    assert str(tmp_path) not in text
    assert "Greedy pass@1" not in text


@pytest.mark.parametrize(
    "name, student, reason",
    [("", STUDENT, "exists"), ("new", "small.wc.high", "train small.wc.high first")],
)
def test_an_export_is_refused(trained, tmp_path, name, student, reason):
    with pytest.raises(StudyError, match=reason):
        training.export(trained[0], student, tmp_path / name)


def test_an_export_can_be_a_model(trained, tmp_path):
    out = training.export(trained[0], STUDENT, tmp_path / "hub")
    size = budget.read_model(resolve_model("nano-student")).n_parameters
    assert budget.read_model(out).n_parameters == size
    arms = {"se": {"model": "nano-se"}, "wc": {"model": str(out)}}
    more = {"students": {"it": {"model": str(out)}}, "controls": {"wrong": True}}
    changed = taught_study(study="second", arms=arms, **more)
    second = make_plan(changed, tmp_path)
    assert second.student("it.wc.low").paradigm == "self"
    assert second.student("it.wrong").arm == "wc"


def test_curves_have_a_row_per_step(trained, report):
    curves = training.curves(trained[0], [STUDENT])
    assert curves["step"].tolist() == [1, 2]
    assert curves["accuracy"].tolist() == [accuracy for _, accuracy in report["validation_curve"]]
    assert curves["loss"].notna().all()


def test_repetition_stands_beside_equal_steps(trained, report):
    run, _ = trained
    for name, epochs in (("small.se.low", 4.0), ("small.wc.low", 1.6)):
        equal_steps = {"epochs": epochs, "steps": 10}
        write_json(run.path("04", name, "report.json"), report | equal_steps)
    table = training.reports(run, ["small.se.low", "small.wc.low"]).set_index("student")
    assert table["times_repeated"].to_dict() == {"small.se.low": 2.5, "small.wc.low": 1.0}
    assert table["steps_at_equal_epochs"].to_dict() == {"small.se.low": 4, "small.wc.low": 10}


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
        "controls": {"planted": 0, "reference": False},
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
    # in single precision: processors without bfloat16 emulate it, ten times slower
    write_json(tmp_path / "cpu.yaml", {"device": "cpu", "dtype": "float32", "threads": 1})
    folder = pipeline.run(
        str(tmp_path / "params.yaml"), str(tmp_path / "cpu.yaml"), str(tmp_path), "05_evaluate"
    )
    run, student = Run(folder), "smollm.gold.one"
    report = read_json(run.path("04", student, "report.json"))
    loss = [value for _, value, _ in report["loss_curve"]]
    assert len(loss) == 12 and np.mean(loss[-3:]) < np.mean(loss[:3]) - 0.1, loss
    assert report["n_dropped_long"] == 60 - report["n_examples"]
    assert report["n_trained_parameters"] < report["n_parameters"] / 50
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
