"""FLOPs, price, seconds and USD side by side, and the warning where they disagree."""

import pytest

from wcse_lib import plan as planning
from wcse_lib.budget import ledger
from wcse_lib.plan import true_cost
from wcse_lib.store import SampleWriter, StudyError, write_json, write_manifest
from wcse_lib.study import Machine, add_machine_time, check_study, machine_time, on_machine

LOCAL = {"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}}
BILLED = {
    "se": {"model": "big", "engine": "openai", "n_parameters": 30e9, "n_active_parameters": 3e9}
    | {"usd_per_million_tokens": 10.0, "usd_per_million_prompt_tokens": 2.0},
    "wc": {"model": "small", "engine": "openai", "n_parameters": 6e9}
    | {"usd_per_million_tokens": 1.0, "usd_per_million_prompt_tokens": 0.5},
}
DEAR = Machine(usd_per_hour=3.6, watts=1000)  # 0.001 USD a second


def planned(tmp_path, arms, measured, machine=DEAR, **budget):
    """A plan whose arms were measured so: (tokens, prompt tokens, seconds) of a sample."""
    study = {"study": "s", "dataset": {"name": "nano", "n_train": 12}, "arms": arms}
    terms = {"reference": "se", "samples": {"low": 10}, **budget}
    run = planning.make_plan(check_study(study | {"budget": terms}, "f"), tmp_path, machine)
    keys = ("tokens_per_sample", "prompt_tokens", "seconds_per_sample")
    facts = {arm: dict(zip(keys, values)) for arm, values in measured.items()}
    arms = {name: arm.model_copy(update=facts[name]) for name, arm in run.plan.arms.items()}
    run.plan = run.plan.model_copy(update={"arms": arms})
    return run


def test_machine_time_has_a_price_per_million_tokens(tmp_path):
    run = planned(tmp_path, LOCAL, {"se": (100, 20, 0.5), "wc": (50, 20, 0.4)})
    table = true_cost.true_cost_table(run).set_index("arm")
    assert table.loc["se", "tokens_per_second"] == pytest.approx(200)
    assert table.loc["se", "usd_per_sample"] == pytest.approx(0.0005)
    assert table["usd_per_million_tokens"].to_dict() == pytest.approx({"se": 5.0, "wc": 8.0})
    assert table.loc["wc", "samples for one, by seconds"] == pytest.approx(1.25)
    assert table.loc["wc", "samples for one, by USD"] == pytest.approx(1.25)
    assert "samples for one, by price" not in table
    sizes = {name: arm.n_parameters for name, arm in run.plan.arms.items()}
    by_flops = sizes["se"] * 120 / (sizes["wc"] * 70)  # the pilot knows the prompts, so they count
    assert table.loc["wc", "samples for one, by FLOPs"] == pytest.approx(by_flops)


def test_two_gpus_halve_what_a_sample_costs(tmp_path):
    machine = Machine(usd_per_hour=3.6, tensor_parallel_size=2)
    run = planned(tmp_path, LOCAL, {"se": (100, 20, 0.5), "wc": (50, 20, 0.4)}, machine)
    table = true_cost.true_cost_table(run).set_index("arm")
    assert table.loc["se", "usd_per_sample"] == pytest.approx(0.00025)
    assert table.loc["se", "tokens_per_second"] == pytest.approx(400)


def test_an_endpoint_is_paid_by_its_bill_which_holds_prompts_and_experts_count_as_active(tmp_path):
    measured = {"se": (100, 200, 1.0), "wc": (50, 300, 1.0)}
    run = planned(tmp_path, BILLED, measured, prompt_tokens="none")
    table = true_cost.true_cost_table(run).set_index("arm")
    assert table.loc["se", "usd_per_sample"] == pytest.approx((100 * 10 + 200 * 2) / 1e6)
    assert table.loc["wc", "usd_per_million_tokens"] == pytest.approx((50 * 1 + 300 * 0.5) / 50)
    assert table["price_per_million_tokens"].to_dict() == {"se": 10.0, "wc": 1.0}
    assert table.loc["wc", "samples for one, by FLOPs"] == pytest.approx(3e9 * 100 / (6e9 * 50))
    exchange = planning.exchange_table(run).set_index("cost model")["wc"]
    assert exchange["active"] == pytest.approx(1.0)
    assert exchange["flops"] == pytest.approx(10.0)
    assert exchange["usd"] == pytest.approx(1400 / 200)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        ((0.5, 0.6), "they name different winners"),  # 0.83 by seconds, above 1 by FLOPs
        ((0.5, 0.4), "their exchange ratios differ by"),  # 1.25
    ],
)
def test_the_first_sentence_warns_where_cost_models_disagree(tmp_path, seconds, words):
    run = planned(tmp_path, LOCAL, {"se": (100, 20, seconds[0]), "wc": (50, 20, seconds[1])})
    (sentence,) = true_cost.disagreements(run)
    assert words in sentence and f"{seconds[0] / seconds[1]:.3g} by seconds" in sentence
    assert true_cost.opening(run)[0].startswith("**The cost models disagree about wc")


def test_no_warning_where_they_agree_within_a_fifth_or_one_alone_is_known(tmp_path):
    run = planned(tmp_path, LOCAL, {"se": (50, 20, 0.1), "wc": (50, 20, 0.1)})
    sizes = {name: arm.n_parameters for name, arm in run.plan.arms.items()}
    seconds = 0.1 * sizes["se"] / sizes["wc"]
    for factor, is_told in ((1.0, False), (1.19, False), (1.21, True)):
        facts = {"se": (50, 20, seconds * factor), "wc": (50, 20, 0.1)}
        assert bool(true_cost.disagreements(planned(tmp_path, LOCAL, facts))) == is_told
    unknown = planned(tmp_path, LOCAL, {"se": (None,) * 3, "wc": (None,) * 3}, None)
    assert not true_cost.disagreements(unknown)
    assert true_cost.opening(unknown)[0].startswith("**s**")


def test_a_finished_02_is_what_was_measured(tmp_path):
    run = planned(tmp_path, LOCAL, {"se": (None,) * 3, "wc": (None,) * 3})
    row = {"seed": 0, "text": "x", "finish_reason": "stop", "engine": "hf", "model": "m"}
    row |= {"prompt_hash": "", "error": "", "usd": None}
    for arm, n_tokens, seconds in (("se", 100, 0.5), ("wc", 50, 0.4)):
        with SampleWriter(run.path("02", arm)) as writer:
            for i in range(2):
                key = {"author": arm, "problem_id": "p", "sample_index": i}
                writer.add(row | key | {"n_tokens": n_tokens + 10 * i, "n_prompt_tokens": 20})
        facts = {"n_samples": 2, "seconds_per_sample": seconds}
        write_manifest(run.path("02", arm), run.plan_id, facts)
    table = true_cost.true_cost_table(run).set_index("arm")
    assert table["tokens_per_sample"].to_dict() == {"se": 105, "wc": 55}
    assert table["usd_per_million_tokens"]["se"] == pytest.approx(500 / 105)
    assert table.loc["wc", "samples for one, by seconds"] == pytest.approx(1.25)
    sizes = {name: arm.n_parameters for name, arm in run.plan.arms.items()}
    by_flops = sizes["se"] * 105 / (sizes["wc"] * 55)  # the plan knew no prompts, and charges none
    assert table.loc["wc", "samples for one, by FLOPs"] == pytest.approx(by_flops)


def test_one_unknown_length_makes_all_equal(tmp_path):
    run = planned(tmp_path, LOCAL, {"se": (100, 20, 0.5), "wc": (None, 20, 0.4)})
    table = true_cost.true_cost_table(run).set_index("arm")
    sizes = {name: arm.n_parameters for name, arm in run.plan.arms.items()}
    assert table.loc["wc", "samples for one, by FLOPs"] == pytest.approx(sizes["se"] / sizes["wc"])


def test_the_ledger_sets_planned_machine_time_beside_spent(tmp_path):
    run = planned(tmp_path, LOCAL, {"se": (100, 20, 0.5), "wc": (50, 20, 0.4)})
    for arm in ("se", "wc"):
        write_json(run.path("02", arm, "manifest.json"), {})
    add_machine_time(run.path("02", "se"), DEAR, 60.0)
    add_machine_time(run.path("02", "se"), DEAR, 6.0)
    add_machine_time(run.path("03", "se"), Machine(), 5.0)
    table = ledger.ledger_table(run).query("kind == 'machine'")
    table = table.set_index(["who", "stage", "unit"])[["planned", "spent"]]
    drawn = table.loc["se", "02_generate"]
    seconds = 12 * 10 * 0.5
    assert drawn["spent"].to_dict() == pytest.approx(
        {"seconds": 66, "usd": 0.066, "kwh": 0.066 / 3.6}
    )
    assert drawn["planned"].to_dict() == pytest.approx(
        {"seconds": seconds, "usd": seconds / 1000, "kwh": seconds / 3600}
    )
    assert table.loc["se", "03_verify"]["spent"].to_dict() == {"seconds": 5.0}
    assert "wc" not in table.index, "nothing was noted of it"


def test_time_counts_when_a_stage_fails_and_usd_is_unknown_where_one_run_had_no_price(tmp_path):
    with pytest.raises(RuntimeError), on_machine(tmp_path, DEAR):
        raise RuntimeError
    first = machine_time(tmp_path)
    assert first.seconds >= 0 and first.usd == pytest.approx(first.seconds / 1000)
    add_machine_time(tmp_path, Machine(), 2.0)
    both = machine_time(tmp_path)
    assert both.seconds == pytest.approx(first.seconds + 2) and both.usd is None
    assert machine_time(tmp_path / "other") is None
    (tmp_path / "machine_time.json").write_text('[{"hours": 3}]')
    with pytest.raises(StudyError, match=r"machine_time\.json: damaged; delete it"):
        machine_time(tmp_path)
