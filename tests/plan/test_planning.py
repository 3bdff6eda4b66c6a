"""The plan: what every budget key buys, refusals before anything is written, pilots read, forecasts made and judged."""

import base64
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from mixed_study import chance, fill, study_of
from test_checkpoints import checkpoint as write_checkpoint

from wcse_lib import budget, forecast, report
from wcse_lib import plan as planning
from wcse_lib.analyze import outcome
from wcse_lib.analyze.samples import read_arms
from wcse_lib.budget import ledger, matching
from wcse_lib.nano import MODELS
from wcse_lib.plan import expected, explorer, pilot, power
from wcse_lib.store import StudyError, read_json, read_parquet, write_json, write_parquet
from wcse_lib.study import Run, check_study

GEMMA = {
    "se": {"model": "gemma-27b", "engine": "openai", "n_parameters": 27.0e9},
    "wc": {"model": "gemma-9b", "engine": "openai", "n_parameters": 9.0e9},
}


def plan(tmp_path, arms=GEMMA, samples=None, **budget) -> Run:
    data = {
        "study": "s",
        "dataset": {"name": "nano", "n_train": 12},
        "arms": arms,
        "budget": {"reference": "se", "samples": samples or {"low": 1, "high": 10}, **budget},
    }
    return planning.make_plan(check_study(data, "f.yaml"), tmp_path)


def bought(run: Run, arm="wc") -> dict:
    return run.plan.arms[arm].samples


# ------------------------------------------------------------------------------------------------ what budgets buy


def test_the_papers_exchange_ratios(root, tmp_path):
    assert bought(plan(tmp_path)) == {"low": 3, "high": 30}
    gemini = {
        "se": {"model": "gemini-1.5-pro", "engine": "openai"},
        "wc": {"model": "gemini-1.5-flash", "engine": "openai"},
    }
    run = plan(tmp_path / "g", gemini, {"one": 1}, match="price")
    assert bought(run) == {"one": 35}
    price = planning.exchange_table(run).set_index("cost model").loc["price"]
    assert (price["se"], price["wc"]) == (1, pytest.approx(35)) and 5 / price[
        "wc"
    ] == pytest.approx(0.15, abs=0.01)
    usd = planning.arms_table(
        plan(
            tmp_path / "d",
            {a: s | {"tokens_per_sample": 500} for a, s in gemini.items()},
            {"one": 1},
            match="price",
        )
    )
    flash = usd.set_index("arm")["planned_usd"]
    assert 5 * flash["wc"] / 35 / flash["se"] == pytest.approx(0.15, abs=0.01)


LENGTHS = {"se": {"tokens_per_sample": 300.0}, "wc": {"tokens_per_sample": 450.0}}
MEASURED = {a: GEMMA[a] | LENGTHS[a] for a in GEMMA}


@pytest.mark.parametrize(
    ("arms", "budget", "wanted"),
    [
        (GEMMA, {"match": "count"}, 10),
        (MEASURED, {"lengths": "measured"}, 20),
        (MEASURED, {"lengths": "equal"}, 30),
        ({**GEMMA, "wc": GEMMA["wc"] | {"n_active_parameters": 3.0e9}}, {}, 90),
        (
            {a: GEMMA[a] | {"usd_per_million_tokens": p} for a, p in (("se", 8.0), ("wc", 2.0))},
            {"match": "price"},
            40,
        ),
        (
            {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
            {"parameters": "non_embedding"},
            31,
        ),
    ],
)
def test_each_key_changes_the_match(tmp_path, arms, budget, wanted):
    run = plan(tmp_path, arms, **budget)
    assert bought(run)["high"] == wanted
    assert run.plan.arms["se"].samples["high"] == 10
    used = run.plan.arms["wc"].budget_used["high"]
    assert (
        used <= 1 + 1e-9
        and planning.arms_table(run)
        .set_index(["arm", "budget"])
        .get("part_of_budget")["wc", "high"]
        == used
    )


def test_unspent_budget_is_flagged(tmp_path):
    arms = {**GEMMA, "wc": GEMMA["wc"] | {"n_parameters": 14.0e9}}
    run = plan(tmp_path, arms)
    table = planning.arms_table(run).set_index(["arm", "budget"])
    told = planning.checks(run)["not_matched"]
    assert (
        told[0]
        == "wc uses 52 % of the budget “low” (samples a problem: 1): there the arms are not matched."
        and len(told) == 2
    )
    assert planning.checks(plan(tmp_path / "even"))["not_matched"] == []
    assert (
        table.loc[("wc", "low"), "samples_per_problem"] == 1
        and not table.loc[("wc", "low"), "matched"]
    )
    assert table.loc[("wc", "low"), "part_of_budget"] == pytest.approx(14 / 27)


def test_any_number_of_arms_and_budgets(tmp_path):
    arms = GEMMA | {
        "mid": {"model": "m", "engine": "openai", "n_parameters": 13.5e9},
        "mix": {"mix": {"se": 0.25, "mid": 0.25, "wc": 0.5}},
    }
    run = plan(tmp_path, arms, {"one": 1, "three": 3, "nine": 9})
    assert bought(run) == {"one": 3, "three": 9, "nine": 27} and bought(run, "mid") == {
        "one": 2,
        "three": 6,
        "nine": 18,
    }
    assert run.plan.arms["mix"].parts["nine"] == pytest.approx({"se": 2.25, "mid": 4.5, "wc": 13.5})
    assert run.plan.arms["mix"].budget_used["nine"] == pytest.approx(1)
    flops = planning.arms_table(
        plan(
            tmp_path / "l",
            {a: s | ({} if "mix" in s else {"tokens_per_sample": 100.0}) for a, s in arms.items()},
        )
    )
    assert flops[flops["budget"] == "high"]["planned_flops"].round(-6).nunique() == 1


BAD = {
    "no price": (
        {},
        {"match": "price"},
        r"arms\.se\.usd_per_million_tokens: .*prices\.yaml: no price for 'gemma-27b'.*add a sourced row",
    ),
    "no sizes": (
        {"wc": {"model": "m", "engine": "openai"}},
        {},
        r"arms\.wc\.n_parameters: needed for budget\.match: flops",
    ),
    "no lengths": (
        {},
        {"lengths": "measured"},
        r"arms\.se\.tokens_per_sample: .*add a pilot, or set it",
    ),
    "no prompts": (
        MEASURED,
        {"prompt_tokens": "each"},
        r"budget\.prompt_tokens = each: .*add a pilot",
    ),
    "no seconds": ({}, {"match": "seconds"}, r"budget\.match = seconds: .*add a pilot"),
    "no pilot": ({}, {"match": "coverage"}, r"budget\.match = coverage: needs a pilot"),
    "under one sample": (
        {"wc": GEMMA["wc"] | {"n_parameters": 99.0e9}},
        {},
        r"budget\.samples = .*wc: the budget buys 0 samples",
    ),
    "no price file": (
        {},
        {"match": "price", "prices": "nowhere.yaml"},
        r"nowhere\.yaml: cannot be read",
    ),
    "no such date": (
        {"se": {"model": "gemini-1.5-pro", "engine": "openai"}},
        {"match": "price", "price_date": "2020-01"},
        r"no price for 'gemini-1.5-pro' by 2020-01",
    ),
    "no attention": (MEASURED, {"attention": True}, r"budget\.prompt_tokens = known: the prompts"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_not_known_is_refused_before_anything_is_written(root, tmp_path, name):
    arms, budget, message = BAD[name]
    with pytest.raises(StudyError, match=message):
        plan(tmp_path / "out", GEMMA | arms, **budget)
    assert not (tmp_path / "out").exists()


def test_negative_prices_and_damaged_checkpoints(tmp_path, monkeypatch):
    (tmp_path / "p.yaml").write_text(
        "prices:\n- {model: gemma-27b, date: '2026-01', source: x, output: -3.0}\n"
    )
    with pytest.raises(StudyError, match=r"p\.yaml: prices, row 1: output = -3.0"):
        plan(tmp_path / "out", match="price", prices=str(tmp_path / "p.yaml"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(StudyError, match=r"model\.safetensors: unreadable .*again"):
        plan(tmp_path / "out", GEMMA | {"wc": {"model": str(model)}})
    assert not (tmp_path / "out").exists()
    for key in ("usd_per_million_tokens", "tokens_per_sample", "n_parameters"):
        with pytest.raises(StudyError, match=rf"arms\.wc\.{key} = 0"):
            plan(tmp_path / "out", GEMMA | {"wc": GEMMA["wc"] | {key: 0.0}})


NO_WEIGHTS = shutil.ignore_patterns("config.json", "*.safetensors")


def checkpoint(folder, **config):
    """A checkpoint of 2,000 parameters, 1,000 of them embeddings, with nano's tokenizer."""
    keys = {
        "num_hidden_layers": 1,
        "hidden_size": 10,
        "num_attention_heads": 2,
        "tie_word_embeddings": True,
        **config,
    }
    write_checkpoint(
        folder,
        keys,
        {"model.embed_tokens.weight": [100, 10], "model.layers.0.mlp.weight": [10, 100]},
    )
    shutil.copytree(MODELS / "nano-wc", folder, ignore=NO_WEIGHTS, dirs_exist_ok=True)
    return {"model": str(folder)}


def test_typed_sizes_have_to_agree_with_checkpoints(root, tmp_path):
    arm = checkpoint(tmp_path / "m")
    typed = plan(tmp_path / "o", {"se": arm | {"n_parameters": 2100.0}, "wc": arm}).arm("se")
    assert typed.n_parameters == 2100.0
    assert typed.n_active_parameters is None
    for key, value in {"n_parameters": 9.0e9, "n_active_parameters": 500.0}.items():
        with pytest.raises(
            StudyError, match=rf"arms\.se\.{key} = {value:,.0f}: the checkpoint .*m holds 2,000"
        ):
            plan(tmp_path / "out", {"se": arm | {key: value}, "wc": arm})
    with pytest.raises(
        StudyError,
        match=r"arms\.se\.n_parameters = 9,000,000,000: the checkpoint .*nano-se holds 1,462,560",
    ):
        plan(tmp_path / "out", {"se": {"model": "nano-se", "n_parameters": 9.0e9}, "wc": arm})
    with pytest.raises(StudyError, match="arms.se.n_parameters = 2,000: .*holds 1,000"):
        plan(
            tmp_path / "out",
            {"se": arm | {"n_parameters": 2000.0}, "wc": arm},
            parameters="non_embedding",
        )
    with pytest.raises(
        StudyError, match="n_active_parameters: 28,000,000,000 are more than its 27,000,000,000"
    ):
        plan(tmp_path / "out", GEMMA | {"se": GEMMA["se"] | {"n_active_parameters": 28.0e9}})
    (tmp_path / "m" / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(StudyError, match=r"model\.safetensors: unreadable .*again"):
        plan(tmp_path / "out", {"se": arm | {"n_parameters": 2000.0}, "wc": GEMMA["wc"]})
    odd = checkpoint(
        tmp_path / "odd", num_attention_heads=None
    )  # of a kind that nothing is known of: the typed size stands
    run = plan(tmp_path / "p", {"se": odd | {"n_parameters": 3.0e10}, "wc": GEMMA["wc"]})
    assert run.arm("se").n_parameters == 3e10
    with pytest.raises(StudyError, match="num_attention_heads"):
        plan(tmp_path / "out", {"se": odd, "wc": GEMMA["wc"]})
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------------ pilots and forecasts


def piloted(tmp_path, name="fore", **more) -> tuple:
    """A study with a pilot that has been drawn; and the study itself."""
    study = study_of(name, n=200, pilot={"n_problems": 40, "n_samples": 8}, **more)
    run = planning.make_plan(planning.pilot_study(study), tmp_path)
    fill(run)
    return study, run


@pytest.fixture(scope="module")
def forecast_run(tmp_path_factory) -> Run:
    study, small = piloted(tmp_path_factory.mktemp("out"))
    run = planning.make_plan(study, small.folder.parent)
    fill(run)
    return run


def test_the_pilot_is_the_studys_own_first_problems(tmp_path):
    study = study_of(
        n=200,
        pilot={"n_problems": 40, "n_samples": 8},
        students={"s": {"model": "nano-student"}},
        training={"amount": {"low": 1, "high": 1}},
        dataset={"name": "nano", "n_train": 200, "n_validation": 5, "n_held_out": 9},
        recipes={"one": {"per_problem": 1}},
    )
    small = planning.pilot_study(study)
    assert (
        small.study == "mixed-pilot"
        and list(small.arms) == ["se", "wc"]
        and not small.students
        and not small.recipes
        and not small.pilot
    )
    runs = [
        planning.make_plan(s, tmp_path)
        for s in (small, study_of(n=200, dataset=study.dataset.model_dump()))
    ]
    few, many = (read_parquet(r.path("01", "train.parquet"))["problem_id"].tolist() for r in runs)
    assert few == many[:40] and bought(runs[0]) == {"pilot": 8}
    assert (
        planning.pilot_study(
            study_of(n=20, pilot={"n_problems": 40, "n_samples": 8})
        ).dataset.n_train
        == 20
    )


def test_a_missing_or_unfinished_or_other_pilot_is_refused(tmp_path):
    study = study_of(n=100, pilot={"n_problems": 40, "n_samples": 8})
    with pytest.raises(StudyError, match="mixed-pilot: the pilot is not there; .*--until 01_plan"):
        planning.make_plan(study, tmp_path)
    run = planning.make_plan(planning.pilot_study(study), tmp_path)
    fill(run, ["se"])
    with pytest.raises(StudyError, match="02_generate/wc: the pilot is not complete"):
        planning.make_plan(study, tmp_path)
    other = study_of(n=100, pilot={"n_problems": 40, "n_samples": 8}, sampling={"temperature": 0.9})
    with pytest.raises(
        StudyError, match=r"drawn otherwise \(sampling.temperature: 0.7 there, 0.9 now"
    ):
        planning.make_plan(other, tmp_path)
    assert not (tmp_path / "mixed").exists()


def test_a_pilot_without_a_token_is_refused(tmp_path):
    study, run = piloted(tmp_path)
    path = run.path("03", "se", "judged.parquet")
    write_parquet(path, read_parquet(path).assign(n_tokens=0))
    with pytest.raises(StudyError, match=r"arms\.se: its 320 pilot samples hold no token at all"):
        planning.make_plan(study, tmp_path)


def test_the_pilot_measures_what_budgets_need(tmp_path):
    study, run = piloted(tmp_path)
    found = pilot.read_pilot(run.folder, study)
    assert found["se"].counts["n"].eq(8).all() and len(found["se"].counts) == 40
    assert found["se"].counts["c"].sum() > found["wc"].counts["c"].sum() > 0
    assert (found["se"].seconds_per_sample, found["wc"].seconds_per_sample) == (
        pytest.approx(0.5),
        pytest.approx(0.1),
    )
    assert found["wc"].prompt_tokens == 20 and 10 <= found["wc"].tokens_per_sample <= 12
    assert all(sum(g) == c for g, c in zip(found["wc"].groups, found["wc"].counts["c"]))
    assert found["se"].false == (
        0,
        found["se"].counts["c"].sum(),
    )  # its correct texts are reference solutions
    by = {}
    for name, b in {
        "seconds": {"match": "seconds"},
        "coverage": {"match": "coverage"},
        "examples": {"match": "examples"},
        "prompts": {"prompt_tokens": "each", "lengths": "measured"},
        "attention": {"attention": True},
    }.items():
        asked = study_of("fore", budget=b, pilot={"n_problems": 40})
        known = {a: budget.describe(asked, a).model_copy(update=found[a].measured()) for a in found}
        curves = expected.matching_curves(asked, found)
        arms, _ = matching.match_arms(asked, known, 40, curves)
        by[name], p = arms["wc"].samples["high"], {a: known[a].n_parameters for a in known}
    assert by["seconds"] == 25 and 5 < by["coverage"] < 40 and 5 < by["examples"] < 40
    curve = [
        forecast.forecast_coverage(*found[a].pair, [k])["value"].item()
        for a, k in (("se", 5), ("wc", by["coverage"]), ("wc", by["coverage"] - 1))
    ]
    assert curve[1] >= curve[0] - 5e-3 and curve[2] < curve[0] + 5e-3
    assert by["prompts"] == int(
        5
        * p["se"]
        * (20 + found["se"].tokens_per_sample)
        / (p["wc"] * (20 + found["wc"].tokens_per_sample))
    )


@pytest.fixture(scope="module")
def unsolved_first(tmp_path_factory) -> tuple:
    """A study with an adaptive pilot that has been drawn; and the pilot."""
    study = study_of(
        "more", n=200, samples={"high": 10}, pilot={"n_problems": 40, "n_samples": 8, "first": 4}
    )
    run = planning.make_plan(planning.pilot_study(study), tmp_path_factory.mktemp("adaptive"))
    fill(run)
    return study, run


def test_an_adaptive_pilot_costs_as_much_and_draws_where_nothing_is_solved(unsolved_first):
    study, run = unsolved_first
    for name, arm in pilot.read_pilot(run.folder, study).items():
        n, c = arm.pair
        assert n.sum() == 320, name
        assert set(n[n > 4] > 8) == {True}, "problems that four samples solve get no more"
        assert arm.first["n"].eq(4).all()
        solved_at_once = arm.first["c"] > 0
        assert arm.counts.loc[solved_at_once, "n"].eq(4).all()
        assert (n[~solved_at_once] > 8).all()
        assert c.sum() > arm.first["c"].sum()


def test_means_of_an_adaptive_pilot_are_of_the_samples_that_all_problems_got(unsolved_first):
    study, run = unsolved_first
    found = pilot.read_pilot(run.folder, study)["wc"]
    rows = read_parquet(run.path("03", "wc", "judged.parquet"))
    first = rows[rows["sample_index"] < 4]
    is_right = first["verdict"] == "correct"
    assert found.pass_at_1 == pytest.approx(is_right.mean())
    assert found.pass_at_1 != pytest.approx((found.counts["c"] / found.counts["n"]).mean())
    assert found.tokens_per_sample == pytest.approx(first["n_tokens"].mean())
    assert found.false == (0, is_right.sum())
    assert found.sound[0].tolist() == [4] * 40
    assert found.spent.tokens == rows["n_tokens"].sum()
    pairs, of_first = pilot.joined(pilot.read_pilot(run.folder, study))
    assert pairs["wc"][0].sum() == 320
    assert of_first["wc"][0].tolist() == [4] * 40


def test_forecasts_from_an_adaptive_pilot_hold_what_then_came_within_bounds(unsolved_first):
    study, small = unsolved_first
    run = planning.make_plan(study, small.folder.parent)
    table = planning.read_forecast(run).query("metric == 'coverage'").set_index("arm")
    k = table["k"]
    assert k["wc"] == 30 > 24 > k["se"]
    assert table["least"].notna().tolist() == [name == "wc" for name in table.index]
    problems = read_parquet(run.path("01", "train.parquet"))["problem_id"]
    for name in ("se", "wc"):
        rates = np.array([chance(problem, f"nano-{name}") for problem in problems])
        truth = (1 - (1 - rates) ** k[name]).mean()
        assert table.loc[name, "low"] < truth < table.loc[name, "high"]
    assert table.loc["wc", "least"] < truth < table.loc["wc", "most"]


def test_a_pilot_whose_first_samples_are_all_is_refused():
    with pytest.raises(StudyError, match=r"pilot.*first: 8 of 8 samples leave none"):
        study_of("none", pilot={"n_problems": 40, "n_samples": 8, "first": 8})


def test_what_a_model_judge_cost_in_the_pilot_counts(tmp_path):
    prices = {
        a: {
            "model": f"nano-{a}",
            "usd_per_million_tokens": p,
            "usd_per_million_prompt_tokens": p / 2,
        }
        for a, p in (("se", 8.0), ("wc", 2.0))
    }
    judge = {"judge": "model", "model_judge": {"model": "nano-se"}}
    study, run = piloted(tmp_path, "judged", arms=prices, verification=judge)
    for arm in ("se", "wc"):
        write_json(
            run.path("03", arm, "judge.json"),
            {"model": "nano-se", "n_samples": 90, "n_tokens": 9, "flops": 3.2e9, "usd": 0.0064},
        )
    how = {"arms": prices, "n": 20, "pilot": {"n_problems": 40}}
    asked = study_of(
        "judged", **how, verification=judge, budget={"match": "price", "prompt_tokens": "each"}
    )
    known = pilot.read_pilot(run.folder, asked)
    assert known["se"].judge == {
        "flops": pytest.approx(1e7),
        "usd": pytest.approx(2e-5),
    }  # of 320 samples drawn
    plain = study_of("judged", **how, budget={"match": "price", "prompt_tokens": "each"})
    plans = {}
    for name, study in {"judged": asked, "plain": plain}.items():
        arms = {
            a: budget.describe(study, a).model_copy(update=found.measured())
            for a, found in known.items()
        }
        if name == "plain":
            arms = {a: arm.model_copy(update={"judge": None}) for a, arm in arms.items()}
        arms, _ = matching.match_arms(study, arms, 40)
        plans[name], each = (
            arms,
            {a: known[a].tokens_per_sample * p + 20 * p / 2 for a, p in (("se", 8.0), ("wc", 2.0))},
        )
    by = {name: arms["wc"].samples["high"] for name, arms in plans.items()}
    assert by == {
        "judged": int(5 * (each["se"] + 20) / (each["wc"] + 20)),
        "plain": int(5 * each["se"] / each["wc"]),
    }
    few = study_of(
        "judged",
        **how,
        verification={"judge": "model", "model_judge": {"model": "nano-se", "n_per_arm": 5}},
    )
    write_json(
        run.path("01", "plan.json"),
        run.plan.model_dump(mode="json")
        | {"study": few.model_dump(mode="json") | {"study": "judged-pilot", "pilot": None}},
    )
    assert (
        pilot.read_pilot(run.folder, few)["se"].judge is None
    )  # a part of them tells nothing of a sample's cost


def test_another_finished_study_can_serve(tmp_path):
    study, run = piloted(tmp_path)
    other = study_of(
        "later", n=60, pilot={"folder": str(run.folder)}, sampling={"temperature": 1.0}
    )
    assert planning.make_plan(other, tmp_path / "elsewhere").plan.pilot["se"].n_samples == 320


def test_forecasts_hold_what_then_came(forecast_run):
    """Drawn from the same rates, pilot's intervals hold the outcome; the plan says what to buy and how sure it is."""
    table = planning.read_forecast(forecast_run)
    assert list(table.columns) == "arm budget k metric value low high least most n".split()
    assert set(table["arm"]) == {"se", "wc", "mix", "adaptive"}
    assert table["least"].isna().all(), "no budget is over three times the pilot's 8 samples"
    assert ((table["low"] <= table["value"]) & (table["value"] <= table["high"])).all()
    out = forecast.compare(table, outcome.outcomes(forecast_run, read_arms(forecast_run)))
    judged = out[out["metric"].isin(["coverage", "sound_coverage", "unique_correct_per_problem"])]
    assert len(judged) == 4 + 2 * 2 * 3 and judged["inside"].mean() >= 0.8
    truth = pd.Series(
        [
            chance(p, "nano-wc")
            for p in read_parquet(forecast_run.path("01", "train.parquet"))["problem_id"]
        ]
    )
    k = forecast_run.arm("wc").samples["high"]
    row = table.query("arm == 'wc' and budget == 'high' and metric == 'coverage'").iloc[0]
    assert row.k == k and row.low <= (1 - (1 - truth) ** k).mean() <= row.high
    told = " ".join(forecast_run.plan.forecast)
    assert re.search(
        r"At the budget “high” buy wc with k = 15: coverage \d+ % \(\d+ to \d+ %\) is expected",
        told,
    )
    assert "nominal 95 %" in told and "chance" in told


def test_the_pilots_cost_stands_on_plan_and_ledger(forecast_run):
    spent = forecast_run.plan.pilot["se"].spent
    rows = ledger.ledger_table(forecast_run).query("kind == 'pilot'").set_index(["who", "unit"])
    assert (
        rows.loc[("se", "tokens"), "spent"] == spent.tokens > 0
        and rows.loc[("se", "seconds"), "spent"] == 160
    )
    assert rows.loc[("se", "flops"), "spent"] == pytest.approx(
        2 * forecast_run.arm("se").n_parameters * spent.tokens
    )


def test_best_mix_takes_its_shares_from_the_forecast(tmp_path):
    study, run = piloted(tmp_path, "best")
    arms = {a: s.model_dump(exclude_defaults=True) for a, s in study.arms.items()}
    best = planning.make_plan(
        study_of(
            "best",
            n=200,
            pilot={"n_problems": 40, "n_samples": 8},
            arms=arms | {"mix": {"mix": "best"}},
        ),
        tmp_path,
    )
    shares = best.arm("mix").shares
    assert sum(shares.values()) == pytest.approx(1) and set(shares) <= {"se", "wc"}


# ---------------------------------------------------------------------- a study grows, and does not change


GROWN = [
    dict(n=50),
    dict(samples={"low": 1, "high": 9, "more": 12}),
    dict(curation={"unique": "none"}),
    dict(training={"batch_size": 4}),
    dict(verification={"judge": "none"}),
    dict(prompt={"answer_style": "gsm8k"}),
    dict(recipes={"x": {"per_problem": 1}}),
    dict(budget={"match": "count"}),
]
CHANGED = {
    "seed": dict(seed=2),
    "sampling.top_k": dict(sampling={"top_k": 9}),
    "prompt.shots": dict(prompt={"shots": "gsm8k_8shot"}),
    "prompt.thinking": dict(prompt={"thinking": True}),
    "dataset.levels": dict(dataset={"name": "nano", "n_train": 40, "levels": [1]}),
    "arms.se.temperature": dict(arms={"se": {"model": "nano-se", "temperature": 1.0}}),
    "arms.wc.model": dict(arms={"se": {"model": "nano-se"}, "wc": {"model": "nano-student"}}),
}


@pytest.mark.parametrize("more", GROWN, ids=lambda m: next(iter(m)))
def test_what_may_grow(tmp_path, more):
    planning.make_plan(study_of(), tmp_path)
    pilot.refuse_other(tmp_path / "mixed/01_plan/plan.json", study_of(**more))


@pytest.mark.parametrize("key", CHANGED)
def test_what_may_not_change(tmp_path, key):
    path = planning.make_plan(study_of(), tmp_path).path("01", "plan.json")
    before = path.read_text()
    with pytest.raises(StudyError, match=rf"drawn otherwise \(.*{key}: .* there, .* now"):
        planning.make_plan(study_of(**CHANGED[key]), tmp_path)
    assert path.read_text() == before


# ------------------------------------------------------------------------------------------------ for people


def test_power_is_said_before_anything_is_spent(forecast_run):
    table = planning.power_table(forecast_run).set_index("what")
    row = table.loc["coverage of arms"]
    assert row["n"] == 200 and row["correlation"] == pytest.approx(
        forecast_run.plan.pilot_correlation
    )
    assert row["paired_points"] == pytest.approx(
        100
        * power.minimum_detectable_effect(200, row["rate"], paired_correlation=row["correlation"])
    )
    assert any(
        "your 200 training problems, paired" in s and "cannot see 2 points" in s
        for s in planning.power_sentences(forecast_run)
    )
    big = {
        "dataset": {"name": "nano", "n_train": 12, "n_held_out": 30},
        "students": {"s": {"model": "nano-student"}},
    }
    three, one = (
        {"training": {"amount": {"low": 1, "high": 1}, "seeds": seeds}}
        for seeds in ([0, 1, 2], [0])
    )
    run = planning.make_plan(study_of("power", **big, **three), forecast_run.folder.parent)
    students = planning.power_table(run).set_index("what").loc["students"]
    assert students["n"] == 30 and students["headline_points"] > 0
    assert any(
        s.startswith("Students: ")
        and "(training seeds: 3; base students: 1; corrected for 12 tests; training" in s
        and "luck of 1.3 points, measured by 06 over the study)" in s
        for s in planning.power_sentences(run)
    )
    run = planning.make_plan(study_of("single", **big, **one), forecast_run.folder.parent)
    assert any("so that 06 assumes it too" in s for s in planning.power_sentences(run))
    assumed = {"power": {"correlation": 0.8, "rate": 0.3, "seed_sd_points": 2.5}}
    run = planning.make_plan(
        study_of("assumed", **big, **three, **assumed), forecast_run.folder.parent
    )
    row, coverage = (
        planning.power_table(run).set_index("what").loc[what]
        for what in ("students", "coverage of arms")
    )
    assert (row["rate"], row["correlation"], coverage["rate"], coverage["correlation"]) == (
        0.3,
        0.8,
        0.3,
        0.8,
    )
    # four arms, two with models, at two budgets: four groups pool their luck, twelve comparisons are corrected
    luck = power.Students(n_seeds=3, n_bases=1, n_groups=4, seed_sd=0.025)
    wanted = power.minimum_detectable_effect(
        30, 0.3, alpha=0.05 / 12, paired_correlation=0.8, students=luck
    )
    assert row["headline_points"] == pytest.approx(100 * wanted)
    told = " ".join(planning.power_sentences(run))
    assert "(correlation 0.8), at a rate of 0.3" in told and "luck of 2.5 points" in told


def test_the_papers_curves_and_our_forecast():
    table = planning.paper_curves(report.PAPER)
    assert (table["forecast"] - table["read"]).abs().max() < 0.009
    row = table.query("data == 'MATH' and model == '9B' and k == 30").iloc[0]
    assert row["flops_per_token"] == 2 * 9e9 * 30 and not row["fitted"] and row["read"] == 0.706
    assert report.svg(report.paper_forecast(table)).startswith("<?xml")


def test_the_explorer_draws_and_moves(forecast_run, monkeypatch):
    for key in ("JPY_SESSION_NAME", "VSCODE_PID", "COLAB_RELEASE_TAG"):
        monkeypatch.delenv(key, raising=False)
    still = planning.explore(forecast_run, report.explored)
    picture = base64.b64decode(
        re.search(r'<img [^>]*src="data:image/svg\+xml;base64,([^"]+)"', still.data)[1]
    )
    assert (
        b"<svg" in picture
        and "<svg" not in still.data
        and "samples of se a problem" in still.data
        and "Illustration" not in still.data
    )
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    sliders, shown = planning.explore(forecast_run, report.explored).children
    before = shown.value
    named = {s.description: s for s in sliders.children}
    assert len(named) == 2 + 2 * 2
    named["budget, samples of se"].value = 2.0
    assert shown.value != before and "A budget of 2.0 samples of se" in shown.value
    wc = lambda: float(re.search(r"<td>wc</td><td>([\d.]+)", shown.value)[1])  # noqa: E731
    few, length = wc(), named["wc: tokens per sample"].value
    named["wc: tokens per sample"].value *= 2
    # its prompts of 20 tokens, which the pilot measured, are charged too, and stay as long
    shorter, longer = length + 20, 2 * length + 20
    assert wc() == pytest.approx(few * shorter / longer, abs=0.11)
    assert planning.explore(forecast_run, report.explored, interactive=False).data == still.data


def test_what_was_left_out_is_counted_by_reason_and_near_duplicates_are_shown(tmp_path):
    for name, numbers in (("train", range(8)), ("held", (0, 1, 20))):
        text = (
            "Tom has {0} marbles and buys {0} more at the fair. He gives 4 of the blue ones to Ann. "
            "How many marbles are left over in the end?"
        )
        rows = [
            {
                "question": text.format(
                    f"{i} dozen red" if i < 2 or i > 8 else " ".join("abcdefgh"[i:] * 9)
                ),
                "answer": str(i),
            }
            for i in numbers
        ]
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(
                json.dumps(row) + "\n"
                for row in [*rows, {"question": f"What is {len(rows)} + 4?", "answer": "9"}]
            )
        )
    data = {
        "study": "s",
        "dataset": {
            "name": "files",
            "train": f"{tmp_path}/train.jsonl",
            "held_out": f"{tmp_path}/held.jsonl",
        },
        "arms": GEMMA,
        "budget": {"reference": "se", "samples": {"low": 1}},
    }
    run = planning.make_plan(check_study(data, "f.yaml"), tmp_path)
    assert run.plan.dropped_problems["train: a copy of a problem of held_out"] == 2
    assert read_parquet(run.path("01", "dropped.parquet"))["other"].str.startswith("p-").all()
    near = planning.near_duplicates(run)
    assert (
        run.plan.n_near_duplicates == len(near) >= 1
        and near.iloc[0]["question"] == "What is 8 + 4?"
    )
    assert len(planning.left_out(run)) == len(run.plan.dropped_problems) <= 2


def test_the_explorer_counts_as_the_plan_does(tmp_path, monkeypatch):
    """Prompts are part of what samples cost; prices can be moved wherever they are known."""
    arms = {
        a: {
            "model": f"nano-{a}",
            "usd_per_million_tokens": p,
            "usd_per_million_prompt_tokens": p,
            "tokens_per_sample": 11.0,
        }
        for a, p in (("se", 8.0), ("wc", 2.0))
    }
    study, small = piloted(
        tmp_path, "each", arms=arms, budget={"prompt_tokens": "each", "lengths": "measured"}
    )
    run = planning.make_plan(study, tmp_path)
    monkeypatch.setenv("JPY_SESSION_NAME", "x")
    sliders, shown = planning.explore(run, report.explored).children
    named, wc = (
        {s.description: s for s in sliders.children},
        lambda: float(re.search(r"<td>wc</td><td>([\d.]+)", shown.value)[1]),
    )
    assert (
        len(named) == 3 + 2 * 3
        and " FLOPs) buys" in shown.value
        and int(wc()) == bought(run)["high"]
    )
    flops = planning.arms_table(run).set_index(["arm", "budget"])["planned_flops"]["wc", "high"]
    each = 2 * run.arm("wc").n_parameters * (20 + run.arm("wc").tokens_per_sample)
    assert flops == pytest.approx(200 * bought(run)["high"] * each)
    named["cost in"].value = "USD"
    ratio = planning.exchange_table(run).set_index("cost model")["wc"]
    assert wc() == pytest.approx(5 * ratio["price"], abs=0.06) and " USD) buys" in shown.value
    before = wc()
    named["wc: USD per million tokens"].value = 4.0
    assert wc() < before
    assert (
        ratio["prompt·once"]
        == ratio["prompt·cached"]
        != pytest.approx(ratio["prompt·each"], rel=0.01)
    )


def test_the_table_of_cost_models_does_not_hang_on_the_plans_prompts(forecast_run):
    assert forecast_run.study.budget.prompt_tokens == "known"
    table = planning.exchange_table(forecast_run).set_index("cost model")
    tokens, p = (
        {a: getattr(forecast_run.arm(a), k) for a in ("se", "wc")}
        for k in ("tokens_per_sample", "n_parameters")
    )
    each = p["se"] * (tokens["se"] + 20) / (p["wc"] * (tokens["wc"] + 20))
    assert (
        table["wc"]["prompt·each"] == pytest.approx(each)
        and not table["leaves_out"].str.contains("buys 0").any()
    )


def test_crossings_of_curves():
    k = np.geomspace(1, 100, 40)
    frame = pd.concat(
        [
            pd.DataFrame({"arm": a, "cost": k * c, "value": 1 - (1 - p) ** k})
            for a, c, p in (("se", 3, 0.5), ("wc", 1, 0.3))
        ]
    )
    assert explorer._crossings(frame, "se") == []  # 0.3 for 1 beats 0.5 for 3 everywhere
    frame = pd.concat(
        [
            pd.DataFrame({"arm": a, "cost": k * c, "value": v})
            for a, c, v in (("se", 1, 0.6 * (1 - 0.5**k)), ("wc", 1, 1 - 0.9**k))
        ]
    )
    true = next(x for x in np.linspace(2, 50, 10_000) if 1 - 0.9**x > 0.6 * (1 - 0.5**x))
    assert explorer._crossings(frame, "se") == [pytest.approx(true, rel=0.03)]


def test_the_four_arm_study_says_what_it_does(root, tmp_path):
    from wcse_lib.study import load_study

    study = load_study("params/nano_mix.yaml")
    assert list(study.arms) == ["se", "wc", "mix", "adaptive"] and study.pilot.n_problems == 50
    assert (
        json.loads(json.dumps(planning.pilot_study(study).model_dump()))["study"]
        == "nano_mix-pilot"
    )
    assert (ROOT / "notebooks/01_plan.ipynb").read_text().count("plan.explore(") == 1
    assert read_json(
        planning.make_plan(planning.pilot_study(study), tmp_path).path("01", "plan.json")
    )["arms"]["wc"]["samples"] == {"pilot": 8}
