"""What a study will take: hand-computed from paces, from files of a finished 02, and unknown where nobody measured."""

import pandas as pd
import pytest

from wcse_lib.plan import in_all, make_plan
from wcse_lib.plan.outlook import ANALYSIS_SECONDS, NOTEBOOK_SECONDS, Outlook
from wcse_lib.plan.preview import look_ahead
from wcse_lib.plan.problems import load_problems
from wcse_lib.plan.speed import Trials, Tried, try_drawing
from wcse_lib.store import write_json
from wcse_lib.study import Machine, TrainingPace, check_study, load_study, resolve_model
from wcse_lib.train import try_training

PRICED = Machine(device="cpu", threads=1, usd_per_hour=3.6)


def study(**more):
    data = {
        "study": "s",
        "dataset": {"name": "nano", "n_train": 20, "n_validation": 5, "n_held_out": 10},
        "arms": {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
        "budget": {"reference": "se", "samples": {"low": 1, "high": 2}, "match": "count"},
        "students": {"small": {"model": "nano-student"}},
        "training": {"amount": {"low": 3, "high": 4}, "batch_size": 8, "n_checkpoints": 2},
        "evaluation": {"n_samples": 4, "maj_k": [1, 4]},
        "controls": {"planted": 0, "reference": False},
    }
    return check_study(data | more, "test")


class Known(Trials):
    """Trials whose results are given: seconds and tokens of a sample, by model."""

    PACES = {"nano-se": (0.5, 40.0), "nano-wc": (0.2, 20.0), "nano-student": (0.1, 50.0)}

    def _draw(self, study, problems, model):
        seconds, tokens = self.PACES[model]
        return Tried(model, 0.3, seconds, tokens, 1.2 * tokens, 0.01, 0.25, 1.0, 0.5, [("q", "a")])

    def _train(self, study, student, texts):
        assert texts == [("q", "a")] * 2
        return TrainingPace(0.001, 100.0, 7.0, 2.0)


def test_every_stage_is_what_its_paces_say(tmp_path):
    outlook = look_ahead(study(), PRICED, Known(PRICED), tmp_path).outlook
    drawn = 2 * 0.3 + 20 * 2 * (0.5 + 0.2) + 2 * (1.0 + 0.5)
    assert outlook.seconds["02"] == pytest.approx(drawn)
    assert outlook.seconds["03"] == pytest.approx(80 * 0.01)
    # four students: 2 arms x (3 and 4 steps of 8 rows of 100 tokens); two read their arm's 10 examples once before
    steps = 2 * (3 + 4) * 8 * 100 * 0.001
    likelihoods = 2 * 10 * 100 * 0.001 / 3
    validations = 4 * 2 * (0.3 + 5 * 0.1)
    assert outlook.seconds["04"] == pytest.approx(steps + 4 * 2.0 + likelihoods + validations + 7.0)
    # 10 problems x 5 answers, as long as the arm's correct ones (of the base its own), at 0.1 s
    # for 50 tokens; five sets of weights
    tokens = 50 + 1.2 * (2 * 40 + 2 * 20)
    assert outlook.seconds["05"] == pytest.approx(5 * 2 * 0.3 + 50 * tokens * 0.1 / 50 + 5 * 0.5)
    assert outlook.seconds["notebooks"] == pytest.approx(8 * NOTEBOOK_SECONDS + ANALYSIS_SECONDS)
    assert not outlook.is_most
    hours = outlook.total / 3600
    assert in_all([outlook], PRICED) == (
        f"in all    about {hours:.2g} core-hours, about {3.6 * hours:,.2f} USD, about {hours:.2g} hours on this machine"
    )


def test_workers_share_the_work_and_the_last_line_counts_their_cores(tmp_path):
    two = PRICED.model_copy(update={"workers": 2})
    one = look_ahead(study(), PRICED, Known(PRICED), tmp_path).outlook
    both = look_ahead(study(), two, Known(two), tmp_path).outlook
    assert both.seconds["02"] - 3.6 == pytest.approx((one.seconds["02"] - 3.6) / 2)
    hours = both.total / 3600
    assert f"{2 * hours:.2g} core-hours" in in_all([both], two)


def test_a_finished_02_is_taken_before_a_trial(tmp_path):
    run = make_plan(study(), tmp_path)
    facts = {"plan_id": run.plan_id, "n_samples": 40, "n_tokens": 400, "seconds_per_sample": 3.0}
    write_json(run.path("02", "se", "manifest.json"), facts)
    found = look_ahead(study(), PRICED, Known(PRICED), tmp_path)
    assert found.outlook.seconds["02"] == pytest.approx(40 * (3.0 + 0.2) + 0.3 + 3)
    assert "as fast as its 02 was" in found.text


def test_what_nobody_measured_is_unknown_and_a_bill_is_not(tmp_path):
    arms = {
        name: {
            "model": name,
            "engine": "openai",
            "n_parameters": 1e9,
            "usd_per_million_tokens": usd,
        }
        for name, usd in (("se", 10.0), ("wc", 1.0))
    }
    billed = study(arms=arms, students={}, sampling={"max_tokens": 100})
    found = look_ahead(billed, PRICED, Known(PRICED), tmp_path)
    assert "how fast se is was measured neither here nor by a pilot" in found.text
    bill = 40 * 100 * 11 / 1e6
    assert found.outlook.bill_usd == pytest.approx(bill) and found.outlook.total is None
    line = in_all([found.outlook], PRICED)
    assert line.startswith("in all    core-hours unknown, at most 0.04 USD of endpoints")
    assert line.endswith("hours unknown")
    known = Outlook({"02": 3600.0})
    assert "unknown of 1 of 2 studies" in in_all([known, found.outlook], PRICED)
    assert in_all([known, known], PRICED) == (
        "in all    about 2 core-hours, about 7.20 USD, about 2 hours on this machine"
    )
    no_price = Machine(device="cuda")
    assert in_all([known], no_price) == (
        "in all    about 1 GPU-hours, USD unknown (no usd_per_hour in the machine file), about 1 hours on this machine"
    )


def test_a_trial_draws_checks_and_trains_with_the_study_s_own_models(monkeypatch):
    monkeypatch.setattr("wcse_lib.plan.speed.SECONDS", 0.02)
    smoke = load_study("params/smoke.yaml")
    machine = Machine(device="cpu", threads=1, checkers=1)
    splits, _ = load_problems(smoke.dataset, smoke.seed, smoke.verification)
    tried = try_drawing(smoke, splits["train"], resolve_model("nano-student"), machine)
    assert tried.model == "nano-student" and 5 < tried.tokens_per_sample <= 80
    assert 5 < tried.tokens_per_correct <= 80
    assert tried.seconds_per_sample > 0 and 0 < tried.seconds_per_verdict < 1
    assert tried.texts and all(question and text for question, text in tried.texts)
    monkeypatch.setattr("wcse_lib.train.pace.STEPS", 2)
    from wcse_lib.plan.students import list_students

    students = list_students(smoke, {"se": 1.4e6, "wc": 5e5})
    student = next(one for one in students.values() if one.source == "arm")
    pace = try_training(smoke, student, tried.texts, machine)
    assert pace.seconds_per_token > 0 and 30 < pace.tokens_per_row < 256
    assert pace.beside_seconds > 0 and pace.start_seconds >= 0


def refuse(*_):
    raise ValueError("engine: vllm is not installed")


def test_what_cannot_be_tried_is_left_to_the_lines_that_name_what_is_missing(monkeypatch):
    smoke = load_study("params/smoke.yaml")
    trials = Trials(Machine(device="cpu", threads=1), try_training=None)
    problems = pd.DataFrame({"problem_id": ["p"], "question": ["q"]})
    assert trials.drawing(smoke, problems, "./nowhere") is None
    monkeypatch.setattr("wcse_lib.sample.cluster.engines.open_engine", refuse)
    assert trials.drawing(smoke, problems, "nano-wc") is None
    monkeypatch.setattr("wcse_lib.plan.speed.packages", lambda *_: ["unsloth"])
    from wcse_lib.plan.students import list_students

    student = next(iter(list_students(smoke, {"se": 1.4e6, "wc": 5e5}).values()))
    trials.try_training = pytest.fail
    assert trials.training(smoke, student, [("q", "t")]) is None
