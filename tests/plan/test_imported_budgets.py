"""01 reads the files of imported arms: what they hold is planned, and a budget that they do not meet is said."""

import json
import re

import pytest

from wcse_lib import pipeline
from wcse_lib.analyze.words import bought_words
from wcse_lib.budget import unspent
from wcse_lib.plan import make_plan
from wcse_lib.plan.preview import look_ahead
from wcse_lib.plan.problems import load_problems
from wcse_lib.sample import checks, generate
from wcse_lib.store import StudyError, read_samples
from wcse_lib.study import Dataset, Machine, check_study, write_yaml

N = 6
DATASET = {"name": "nano", "n_train": N, "levels": [1]}


def import_file(folder, name, n_each, **keys):
    """A file with so many samples of each problem, and the arm that reads it."""
    problems, _ = load_problems(Dataset(**DATASET), 0)
    path = folder / f"{name}.jsonl"
    with open(path, "w") as file:
        for problem_id, n in zip(problems["train"]["problem_id"], n_each):
            for i in range(n):
                file.write(json.dumps({"id": problem_id, "out": f"{i}"}) + "\n")
    columns = {"text": "out", "problem_id": "id"}
    return {"engine": "import", "path": str(path), "columns": columns} | keys


def params(folder, se, wc, budgets=(1, 10)):
    arms = {"se": import_file(folder, "se", se), "wc": import_file(folder, "wc", wc)}
    return {
        "study": "t",
        "dataset": DATASET,
        "arms": arms,
        "budget": {
            "reference": "se",
            "samples": {"low": budgets[0], "high": budgets[1]},
            "match": "count",
        },
    }


@pytest.fixture
def short(tmp_path):
    """Two samples a problem in one file, an uneven rest in the other; ten are planned."""
    study = check_study(params(tmp_path, [2] * N, [6, 6, 6, 6, 3, 0]), "test")
    return make_plan(study, tmp_path / "out")


def test_the_plan_holds_what_is_there(short):
    assert short.plan.arms["se"].samples == {"low": 1, "high": 2}
    assert short.plan.n_samples("se", "high") == 2
    assert short.plan.n_samples("wc", "high") == pytest.approx(4.5)
    assert short.plan.arms["se"].budget_used == {"low": 1.0, "high": pytest.approx(0.2)}
    assert short.plan.arms["wc"].n_short == {"low": 1, "high": N}


def test_a_budget_that_is_not_met_is_said(short):
    told = list(unspent(short.plan.arms))
    assert told[0].startswith(
        "The budget “high” is not met by se: its file holds 2 of the 10 samples"
    )
    assert "20 % of the budget" in told[0]
    assert "holds 4.5 of the 10" in told[2]
    assert "on average (at most 6; 6 problems have too few" in told[2]
    assert len(told) == 3


def test_the_status_says_it(short):
    assert "limit: The budget “high” is not met by se" in pipeline.status(short.folder)


def test_samples_are_as_many_as_the_file_holds(short):
    found = generate(short, "wc", Machine())
    facts = checks(short, "wc", found)
    assert (facts["n_samples"], facts["n_samples_planned"]) == (27, 10 * N)


def test_the_answer_says_it(short):
    words = bought_words(short, "wc", "se", "high")
    assert words == "4.5 against 2 samples a problem; this budget is not met by wc and se"


def test_a_dry_run_says_it(tmp_path):
    seen = look_ahead(check_study(params(tmp_path, [2] * N, [10] * N), "test"), Machine())
    assert "limit     The budget “high” is not met by se" in seen.text
    assert "high 2" in seen.text
    assert not seen.is_lacking


@pytest.fixture
def mixed(tmp_path):
    """A mix of both files: five samples of each are to be had of a problem, two and up to five are there."""
    data = params(tmp_path, [2] * N, [6, 6, 6, 0, 3, 1])
    data["arms"]["mix"] = {"mix": {"se": 0.5, "wc": 0.5}}
    run = make_plan(check_study(data, "test"), tmp_path / "out")
    for arm in ("se", "wc", "mix"):
        checks(run, arm, generate(run, arm, Machine()))
    return run


@pytest.mark.parametrize("budget", ["low", "high"])
def test_a_mix_is_planned_as_its_files_hold_it(mixed, budget):
    rows = read_samples(mixed.path("02", "mix"))
    n = len(mixed.rows_of_budget(rows, "mix", budget))
    assert mixed.plan.n_samples("mix", budget) == pytest.approx(n / N)


def test_a_mix_that_is_not_met_is_said(mixed):
    assert "mix" in " ".join(unspent(mixed.plan.arms))
    assert mixed.plan.arms["mix"].budget_used["high"] == pytest.approx(31 / 60)
    words = bought_words(mixed, "mix", "se", "high")
    assert words == "5.17 against 2 samples a problem; this budget is not met by mix and se"


def test_a_full_file_meets_its_budgets(tmp_path):
    run = make_plan(check_study(params(tmp_path, [10] * N, [12] * N), "test"), tmp_path / "out")
    assert list(unspent(run.plan.arms)) == []
    assert run.plan.arms["wc"].held == {}


def test_an_imported_arm_needs_no_model(tmp_path):
    run = make_plan(check_study(params(tmp_path, [10] * N, [10] * N), "test"), tmp_path / "out")
    assert {name: arm.model for name, arm in run.plan.arms.items()} == {"se": "se", "wc": "wc"}
    named = params(tmp_path, [1] * N, [1] * N)["arms"]["se"] | {"model": "theirs"}
    study = check_study(params(tmp_path, [1] * N, [1] * N) | {"arms": {"se": named}}, "test")
    assert study.arms["se"].model == "theirs"


def broken(folder, what):
    """A study that lacks something, and how a dry run names it."""
    data = params(folder, [1] * N, [1] * N, (1, 1))
    arm = data["arms"]["wc"]
    if what == "path":
        arm["path"] = str(folder / "nowhere.jsonl")
        return data, r"arms\.wc\.path: .*nowhere\.jsonl: cannot be read"
    if what == "column":
        arm["columns"] = {"text": "output", "problem_id": "id"}
        return data, r"arms\.wc\.path: .*line 1: no column 'output'; columns are id, out"
    if what == "join":
        arm["columns"] = {"text": "out", "problem_id": "out"}
        return data, r"arms\.wc\.path: .*no row belongs to a problem .*check arms\.wc\.columns"
    if what == "lost":
        path = folder / "wc.jsonl"
        path.write_text(path.read_text().replace('"out"', '"end": "MAX_TOKENS", "out"'))
        arm["columns"] = arm["columns"] | {"finish_reason": "end"}
        return data, r"arms\.wc\.path: .*6 of 6 samples .*are lost \(6 truncated"
    if what == "tokenizer":
        (folder / "m").mkdir()
        arm["tokenizer"] = str(folder / "m")
        return data, r"model .*m: .*tokenizer"
    if what == "counts":
        data["budget"]["match"] = "flops"
        for each in data["arms"].values():
            each["n_parameters"] = 1.0e6
        return data, r"arms\.wc: 6 of 6 imported samples have no token count.*match: flops"
    if what == "price":
        data["budget"]["match"] = "price"
        return data, r"arms\.wc\.usd_per_million_tokens: needed for budget\.match: price"
    if what == "seconds":
        data["budget"]["match"] = "seconds"
        return (
            data,
            "budget.match = seconds: how long a sample of .* takes is not known; add a pilot",
        )
    data["arms"]["wc"] = {"model": str(folder / "empty"), "n_parameters": 1.0e6}
    (folder / "empty").mkdir()
    return data, r"empty.*config\.json: not there"


BROKEN = ["path", "column", "join", "lost", "tokenizer", "counts", "price", "seconds", "model"]


@pytest.mark.parametrize("what", BROKEN)
def test_a_dry_run_names_what_a_run_would_stop_for(tmp_path, capsys, what, monkeypatch):
    monkeypatch.setattr(pipeline.os, "environ", dict(pipeline.os.environ))
    data, message = broken(tmp_path, what)
    write_yaml(tmp_path / "p.yaml", data)
    assert pipeline.main([str(tmp_path / "p.yaml"), "--dry-run"]) == 1
    told = capsys.readouterr().out
    assert "missing   nothing" not in told
    assert re.search(f"missing   .*{message}", told), told


def test_a_hubs_tokenizer_is_told_and_stops_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pipeline.os, "environ", dict(pipeline.os.environ))
    data = params(tmp_path, [1] * N, [1] * N, (1, 1))
    data["arms"]["wc"]["tokenizer"] = "nobody/nothing"
    write_yaml(tmp_path / "p.yaml", data)
    assert pipeline.main([str(tmp_path / "p.yaml"), "--dry-run"]) == 0
    assert "missing   tokenizer of nobody/nothing: not on this machine" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["path", "column", "join", "counts", "price"])
def test_the_plan_refuses_it(tmp_path, what):
    data, message = broken(tmp_path, what)
    with pytest.raises(StudyError, match=message.partition(": ")[2]):
        make_plan(check_study(data, "test"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
