"""What 01 and the dry run say of draws of their own: how many samples, what they cost, and files that hold too few."""

import json

import pytest
from mixed_study import taught
from studies import taught_study

from wcse_lib import plan
from wcse_lib.plan.extra_draws import what_draws_cost
from wcse_lib.plan.preview import look_ahead
from wcse_lib.plan.problems import load_problems
from wcse_lib.sample import generate
from wcse_lib.store import StudyError
from wcse_lib.study import Dataset, Machine

DATASET = {"name": "nano", "n_train": 6, "n_held_out": 5, "levels": [1]}


def training(**changes):
    return {"seeds": [0, 1, 2], "amount": {"low": 1, "high": 2}} | changes


def test_plan_counts_the_samples_of_all_draws(three_draws, mixed):
    table = plan.arms_table(three_draws).set_index(["arm", "budget"])
    assert set(table["n_draws"]) == {3}
    assert table.loc[("se", "high"), "n_samples"] == 24 * 5 * 3
    assert table.loc[("se", "high"), "samples_per_problem"] == 5
    for arm in ("wc", "mix"):
        assert table.loc[(arm, "high"), "part_of_budget"] == pytest.approx(1, abs=0.01)
    once = plan.arms_table(mixed).set_index(["arm", "budget"])
    assert once.loc[("se", "high"), "n_samples"] == 40 * 5


def test_planned_amounts_are_those_of_all_draws(tmp_path):
    arms = {name: {"model": f"nano-{name}", "tokens_per_sample": 20.0} for name in ("se", "wc")}
    planned = {}
    for draws in ("own", "shared"):
        study = taught_study(study=draws, arms=arms, training=training(draws=draws))
        run = plan.make_plan(study, tmp_path)
        planned[draws] = run.arm("wc").planned["high"]
        assert run.arm("wc").samples == {"low": 1, "high": 2}
    assert planned["shared"].tokens == 30 * 2 * 20
    assert planned["own"].tokens == 3 * planned["shared"].tokens
    assert planned["own"].flops == 3 * planned["shared"].flops


def test_the_dry_run_says_what_draws_cost():
    machine = Machine()
    text = look_ahead(taught_study(training=training()), machine).text
    assert "samples a problem low 1, high 2 in each of 3 draws" in text
    (line,) = [line for line in text.splitlines() if line.startswith("draws ")]
    assert "Each of 3 training seeds learns from a draw of its own" in line
    assert "sampling is" in line and "of both" in line
    text = look_ahead(taught_study(training=training(draws="shared")), machine).text
    (line,) = [line for line in text.splitlines() if line.startswith("draws ")]
    assert "these training sets, not of the generators" in line
    assert "draws " not in look_ahead(taught_study(), machine).text


def test_the_plan_says_what_draws_cost(three_draws, tmp_path):
    assert what_draws_cost(three_draws) in plan.limits(three_draws)
    assert "every arm's budget is drawn 3 times" in what_draws_cost(three_draws)
    shared = plan.make_plan(taught("shared", draws="shared"), tmp_path)
    assert "the same samples" in what_draws_cost(shared)


def imported(folder, n_each, **keys):
    """A study whose reference arm is a file with so many samples of each problem."""
    problems, _ = load_problems(Dataset(**DATASET), 1)
    path = folder / "se.jsonl"
    with open(path, "w") as file:
        for problem_id, n in zip(problems["train"]["problem_id"], n_each, strict=True):
            for i in range(n):
                file.write(json.dumps({"id": problem_id, "out": f"#### {i}"}) + "\n")
    columns = {"text": "out", "problem_id": "id"}
    arms = {"se": {"engine": "import", "path": str(path), "columns": columns}}
    return taught_study(seed=1, dataset=DATASET, arms=arms, training=training(**keys))


def test_a_file_that_holds_enough_is_cut_into_draws(tmp_path):
    run = plan.make_plan(imported(tmp_path, [6, 6, 6, 6, 6, 9]), tmp_path)
    rows = generate(run, "se", Machine())
    assert len(rows) == 6 * 2 * 3
    of_draw = run.rows_of_budget(rows, "se", "high", draw=2)
    assert sorted(of_draw["text"].unique()) == ["#### 4", "#### 5"]


def test_a_file_that_holds_too_few_is_refused_with_the_remedy(tmp_path):
    study = imported(tmp_path, [6, 6, 6, 6, 5, 5])
    said = r"arms\.se\.path: 2 of 6 training problems have fewer than the 6 samples.*training\.draws: shared"
    with pytest.raises(StudyError, match=said):
        plan.make_plan(study, tmp_path)
    found = look_ahead(study, Machine())
    assert found.is_lacking
    assert "missing   arms.se.path: 2 of 6" in found.text
    shared = imported(tmp_path, [6, 6, 6, 6, 5, 5], draws="shared")
    assert plan.make_plan(shared, tmp_path).arm("se").samples["high"] == 2
