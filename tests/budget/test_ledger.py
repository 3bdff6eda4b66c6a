"""The ledger of mixes, adaptive arms, lost samples and judges."""

import numpy as np
import pandas as pd
import pytest
from mixed_study import fill, study_of

from wcse_lib import plan
from wcse_lib.budget import ledger
from wcse_lib.store import SampleWriter, read_parquet, read_samples, write_json, write_parquet


def test_ledger_charges_copies_and_stays_matched(mixed):
    table = ledger.ledger_table(mixed).set_index(["who", "kind", "budget", "unit"])
    samples = {a: read_samples(mixed.path("02", a)) for a in mixed.plan.arms}
    for arm in mixed.plan.arms:
        for b in ("low", "high"):
            mine = mixed.rows_of_budget(samples[arm], arm, b)
            assert table.loc[(arm, "sampling", b, "tokens"), "spent"] == mine["n_tokens"].sum() > 0
            each = mine["model"].map(
                {a.model: 2.0 * a.n_parameters for a in mixed.plan.plain_arms().values()}
            )
            assert table.loc[(arm, "sampling", b, "flops"), "spent"] == pytest.approx(
                (each * mine["n_tokens"]).sum()
            )
            assert table.loc[(arm, "prompt", b, "tokens"), "spent"] == 20 * len(mine)
    high = (
        table.xs("flops", level="unit")
        .xs("sampling", level="kind")
        .xs("high", level="budget")["planned"]
    )
    assert high["mix"] == pytest.approx(high["se"], rel=0.01) and high["adaptive"] == high["wc"]
    assert pd.isna(table.loc[("se", "sampling", "high", "flops"), "matched"]), (
        "its planned length is its own"
    )
    assert pd.notna(table.loc[("wc", "sampling", "high", "flops"), "matched"])
    assert table.loc[("se", "sampling", "high", "seconds"), "spent"] == 0.5 * 40 * 5
    models = samples["mix"]["model"].value_counts()
    seconds = table.loc[("mix", "sampling", "high", "seconds"), "spent"]
    assert seconds == pytest.approx(0.5 * models["nano-se"] + 0.1 * models["nano-wc"])


def test_lost_samples_and_judges_stand_on_the_ledger(mixed, tmp_path):
    run = plan.make_plan(study_of(), tmp_path)
    fill(run)
    rows = read_samples(run.path("02", "se"))
    for old in run.path("02", "se").glob("part-*.parquet"):
        old.unlink()
    with SampleWriter(run.path("02", "se")) as writer:
        for i, row in enumerate(rows.assign(usd=None).to_dict("records")):
            writer.add(row | {"finish_reason": "length" if i % 10 == 0 else "stop"})
    write_json(
        run.path("03", "se", "judge.json"),
        {"n_tokens": 100, "n_prompt_tokens": 900, "flops": 5e9, "usd": None},
    )
    table = ledger.ledger_table(run).set_index(["who", "kind", "budget", "unit"])
    assert (
        table.loc[("se", "truncated", "high", "tokens"), "spent"]
        == rows.iloc[::10]["n_tokens"].sum()
    )
    assert not table.loc[("se", "truncated", "high", "tokens"), "matched"]
    assert table.loc[("se", "judge", "", "tokens"), "planned"] == 0 and np.isnan(
        table.loc[("se", "judge", "", "tokens"), "ratio"]
    )
    sampling = table.loc[("se", "sampling", "high", "tokens")]
    assert sampling["ratio"] == pytest.approx(sampling["spent"] / sampling["planned"])
    assert (
        table.loc[("se", "judge", "", "tokens"), "spent"] == 1000
        and ("se", "judge", "", "usd") not in table.index
    )


def test_all_draws_stand_on_the_ledger_once(three_draws):
    table = ledger.ledger_table(three_draws).set_index(["who", "kind", "budget", "unit"])
    for arm in three_draws.plan.arms:
        rows = read_samples(three_draws.path("02", arm))
        for budget, n in three_draws.arm(arm).samples.items():
            own = three_draws.rows_of_budget(rows, arm, budget)
            spent = table.loc[(arm, "sampling", budget, "tokens"), "spent"]
            assert spent == own["n_tokens"].sum()
            assert table.loc[(arm, "prompt", budget, "tokens"), "spent"] == 20 * len(own)
            if arm in ("se", "wc"):
                assert len(own) == 24 * n * 3
    tokens = table.xs("tokens", level="unit").xs("sampling", level="kind")
    assert tokens["ratio"].between(0.9, 1.1).all(), "as many draws are planned as are spent"
    seconds = table.loc[("se", "sampling", "high", "seconds")]
    assert seconds["spent"] == 0.5 * 24 * 5 * 3


def test_a_prompt_charged_once_is_charged_once_a_draw(three_draws):
    rows = ledger._samples_of(three_draws, "se").groupby("budget")[["first_prompts"]].sum()
    assert rows["first_prompts"].to_dict() == {"low": 24 * 3 * 20, "high": 24 * 3 * 20}


def test_cached_prompts_and_hidden_thoughts_stand_on_the_ledger_at_their_prices(tmp_path):
    arms = {name: {"model": name, "engine": "openai", "n_parameters": 1e9} for name in ("se", "wc")}
    prices = tmp_path / "prices.yaml"
    row = "{date: 2026-09, source: s, input: 2.0, output: 10.0"
    prices.write_text(f"prices:\n  - {row}, cached: 0.5, model: se}}\n  - {row}, model: wc}}\n")
    study = study_of("billed", n=10, budget={"prices": str(prices)}, arms=arms)
    run = plan.make_plan(study, tmp_path)
    for arm in arms:
        drawn = pd.DataFrame(drawn_rows(run, arm))
        with SampleWriter(run.path("02", arm)) as writer:
            for row in drawn.to_dict("records"):
                writer.add(row)
        write_json(run.path("02", arm, "manifest.json"), {})
    table = ledger.ledger_table(run).set_index(["who", "kind", "budget", "unit"])["spent"]
    n = 10 * 5
    assert table["se", "cached", "high", "tokens"] == 8 * n
    assert table["se", "cached", "high", "usd"] == pytest.approx(8 * n * 0.5 / 1e6)
    assert table["wc", "cached", "high", "usd"] == pytest.approx(8 * n * 2.0 / 1e6)
    assert table["se", "reasoning", "high", "tokens"] == 3 * n
    assert table["se", "reasoning", "high", "usd"] == pytest.approx(3 * n * 10.0 / 1e6)


def drawn_rows(run, arm):
    """Every sample of an endpoint's arm: 20 prompt tokens, 8 of them cached, and 10 of an answer, 3 of them hidden."""
    counts = {"n_prompt_tokens": 20, "n_cached_tokens": 8, "n_tokens": 10, "n_reasoning_tokens": 3}
    how = {
        "finish_reason": "stop",
        "engine": "openai",
        "model": arm,
        "prompt_hash": "",
        "error": "",
    }
    for problem in read_parquet(run.path("01", "train.parquet"))["problem_id"]:
        for i in range(run.draws(arm).n_in_blocks):
            key = {"author": arm, "problem_id": problem, "sample_index": i, "seed": 0, "text": "x"}
            yield key | counts | how | {"usd": 0.0001}


def test_samples_of_an_earlier_version_say_nothing_of_caches(mixed):
    table = ledger.ledger_table(mixed)
    assert not table["kind"].isin(["cached", "reasoning"]).any()
    (part, *_) = mixed.path("02", "se").glob("part-*.parquet")
    old = read_parquet(part).drop(columns=["n_cached_tokens", "n_reasoning_tokens"])
    whole = read_parquet(part)
    write_parquet(part, old)
    try:
        pd.testing.assert_frame_equal(ledger.ledger_table(mixed), table)
        assert read_samples(mixed.path("02", "se"))["n_cached_tokens"].eq(-1).all()
    finally:
        write_parquet(part, whole)
