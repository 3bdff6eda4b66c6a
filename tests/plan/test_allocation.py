"""Mixes and adaptive arms: whole totals, nested budgets, the same decisions after a kill, and a ledger that stays
matched."""

import hashlib

import numpy as np
import pandas as pd
import pytest
from studies import verdict_rows

from wcse_lib import plan as planning
from wcse_lib.analyze import outcome
from wcse_lib.analyze.samples import read_arms
from wcse_lib.budget import allocate, ledger
from wcse_lib.plan import expected
from wcse_lib.sample import uneven
from wcse_lib.store import (
    KEY,
    SampleWriter,
    StudyError,
    read_parquet,
    read_samples,
    write_json,
    write_manifest,
    write_parquet,
)
from wcse_lib.study import Adaptive, AdaptiveArm, MixedArm, Run, check_study
from wcse_lib.verdicts import judged_rows
from wcse_lib.verify import judgement_rows


def study_of(name="mixed", n=40, samples=None, budget=None, **more):
    """A nano study of se, wc, a half-and-half mix and an adaptive arm of wc."""
    arms = {
        "se": {"model": "nano-se"},
        "wc": {"model": "nano-wc"},
        "mix": {"mix": {"se": 0.5, "wc": 0.5}},
        "adaptive": {"adaptive": {"of": "wc", "first": 2}},
    }
    data = {
        "study": name,
        "dataset": {"name": "nano", "n_train": n, "levels": [1, 2]},
        "arms": arms,
        "budget": {
            "reference": "se",
            "samples": samples or {"low": 1, "high": 5},
            **(budget or {}),
        },
    }
    return check_study(data | more, "test")


def chance(problem_id: str, model: str) -> float:
    """A problem's made-up success rate: some are never solved."""
    u = int(hashlib.sha256(problem_id.encode()).hexdigest()[:8], 16) / 2**32
    return max(0.0, u - 0.15) * (1.0 if model == "nano-se" else 0.7)


def drawn(run: Run, arm: str, n, author: str | None = None) -> pd.DataFrame:
    """What an engine would do: the samples that are not there yet, right or wrong by a seed of their own."""
    author, folder = author or arm, run.path("02", author or arm)
    problems, have = read_parquet(run.path("01", "train.parquet")), read_samples(folder, KEY)
    have, spec = set(zip(have["problem_id"], have["sample_index"])), run.study.arms[arm]
    with SampleWriter(folder) as writer:
        for row in problems.itertuples():
            for i in range(n if isinstance(n, int) else n[row.problem_id]):
                if (row.problem_id, i) not in have:
                    u = (
                        int(
                            hashlib.sha256(f"{spec.model}{row.problem_id}{i}".encode()).hexdigest()[
                                :8
                            ],
                            16,
                        )
                        / 2**32
                    )
                    text = row.reference if u < chance(row.problem_id, spec.model) else "#### 99999"
                    writer.add(
                        {
                            "author": author,
                            "problem_id": row.problem_id,
                            "sample_index": i,
                            "seed": 0,
                            "text": text,
                            "n_prompt_tokens": 20,
                            "n_tokens": 10 + i % 3,
                            "finish_reason": "stop",
                            "engine": "hf",
                            "model": spec.model,
                            "prompt_hash": "",
                            "error": "",
                            "usd": None,
                        }
                    )
    rows = read_samples(folder)
    count = n if isinstance(n, int) else rows["problem_id"].map(n)
    return rows[rows["sample_index"] < count].reset_index(drop=True)


def fill(run: Run, arms=None) -> None:
    """02 and 03 of the arms, plain ones first."""
    problems = read_parquet(run.path("01", "train.parquet"))
    for arm in arms or run.study.order:
        spec = run.study.arms[arm]
        if isinstance(spec, MixedArm):
            rows = uneven.draw_mix(run, arm)
        elif isinstance(spec, AdaptiveArm):
            rows = uneven.draw_adaptive(run, arm, lambda n: drawn(run, "wc", n, arm))  # noqa: B023
        else:
            rows = drawn(run, arm, max(run.arm(arm).samples.values()))
        verdicts = verdict_rows(rows, problems, "auto")
        write_parquet(run.path("03", arm, "verdicts.parquet"), verdicts)
        judgements = judgement_rows(rows, verdicts, problems, "exact")
        write_parquet(run.path("03", arm, "judgements.parquet"), judgements)
        judged = judged_rows(rows, verdicts, judgements, run.study.seed)
        write_parquet(run.path("03", arm, "judged.parquet"), judged)
        write_parquet(
            run.path("03", arm, "examples.parquet"),
            rows[KEY].head(0).assign(budget="", recipe="main"),
        )
        each = 0.5 if arm == "se" else 0.1
        write_manifest(
            run.path("02", arm),
            run.plan_id,
            {"seconds": each * len(rows), "seconds_per_sample": each},
        )
        write_manifest(run.path("03", arm), run.plan_id, {})


@pytest.fixture(scope="module")
def mixed(tmp_path_factory) -> Run:
    run = planning.make_plan(study_of(), tmp_path_factory.mktemp("out"))
    fill(run)
    return run


# ------------------------------------------------------------------------------------------------ mixes


def test_totals_are_whole_and_budgets_nest():
    problems = [f"p{i}" for i in range(101)]
    counts = allocate.mix_counts(
        {"low": {"a": 0.5, "b": 1.51}, "high": {"a": 5.25, "b": 15.1}}, problems, seed=3
    )
    totals = counts.groupby(["budget", "part"])["n"].sum()
    for (b, part), mean in {
        ("low", "a"): 0.5,
        ("low", "b"): 1.51,
        ("high", "a"): 5.25,
        ("high", "b"): 15.1,
    }.items():
        assert abs(totals[b, part] - 101 * mean) <= 0.5 + 1e-6
    wide = counts.pivot(index=["part", "problem_id"], columns="budget", values="n")
    assert (wide["low"] <= wide["high"]).all() and wide.loc["a", "low"].isin([0, 1]).all()
    both = counts[counts["budget"] == "low"].groupby("problem_id")["n"].sum()
    assert both.between(2, 3).all()  # rounded against each other
    other = allocate.mix_counts({"low": {"a": 0.5, "b": 1.51}}, problems, seed=4)
    assert not other["n"].equals(counts[counts["budget"] == "low"]["n"].reset_index(drop=True))


def test_a_mix_is_made_of_its_parts_first_samples(mixed):
    rows, counts = (
        read_samples(mixed.path("02", "mix")),
        read_parquet(mixed.path("02", "mix", "allocation.parquet")),
    )
    assert set(rows["author"]) == {"mix"} and set(rows["model"]) == {"nano-se", "nano-wc"}
    assert (
        rows.groupby("problem_id")["sample_index"].max() + 1 == rows.groupby("problem_id").size()
    ).all()
    ratio = mixed.arm("wc").exchange_ratio
    for b, n in mixed.study.budget.samples.items():
        mine = mixed.rows_of_budget(rows, "mix", b)
        cost = mine["model"].map({"nano-se": ratio, "nano-wc": 1.0}).sum()
        assert cost == pytest.approx(40 * n * ratio, rel=0.01), (
            "a mix spends the reference arm's budget within 1 %"
        )
        share = (mine["model"] == "nano-se").sum() * ratio / cost
        assert share == pytest.approx(0.5, abs=0.01)
        assert counts[counts["budget"] == b]["n"].sum() == len(mine)
        for part in (
            "se",
            "wc",
        ):  # as texts per problem, the mix holds exactly the part's first samples
            own = mine[mine["model"] == f"nano-{part}"].groupby("problem_id")["text"].apply(list)
            source = read_samples(mixed.path("02", part)).groupby("problem_id")["text"].apply(list)
            assert all(texts == source[p][: len(texts)] for p, texts in own.items())
    low, high = (
        set(map(tuple, mixed.rows_of_budget(rows, "mix", b)[KEY].to_numpy()))
        for b in ("low", "high")
    )
    assert low < high


def test_arms_that_draw_from_others_are_older_than_what_they_read(mixed):
    assert mixed.inputs("02_generate", "mix") == [mixed.path("02", "se"), mixed.path("02", "wc")]
    assert mixed.inputs("02_generate", "adaptive") == [mixed.path("02", "wc")] and not mixed.inputs(
        "02_generate", "wc"
    )


def test_the_plans_table_has_every_kind_of_arm(mixed):
    table = planning.arms_table(mixed).set_index(["arm", "budget"])
    assert set(table.index.get_level_values("arm")) == {"se", "wc", "mix", "adaptive"}
    assert (table.loc["adaptive", "n_samples"] == table.loc["wc", "n_samples"]).all() and table[
        "matched"
    ].all()


def test_a_mix_needs_its_parts(tmp_path):
    run = planning.make_plan(study_of(), tmp_path)
    fill(run, ["se"])
    with pytest.raises(
        StudyError, match="02_generate/wc: .* samples that mix needs are missing; draw wc first"
    ):
        uneven.draw_mix(run, "mix")


# ------------------------------------------------------------------------------------------------ adaptive arms


@pytest.mark.parametrize("rule", ["difficulty", "stop"])
def test_every_total_is_spent_and_hard_problems_get_more(rule):
    rng = np.random.default_rng(0)
    rates = np.repeat([0.9, 0.5, 0.05], 60)
    seen, right = np.zeros(180, int), np.zeros(180, int)

    def draw(n):
        assert (n >= seen).all()
        right[:] += rng.binomial(n - seen, rates)
        seen[:] = n
        return right.copy()

    spec = Adaptive(of="wc", rule=rule, first=2, correct=3)
    out = allocate.decide(spec, {"high": 180 * 12, "low": 180 * 3}, 180, draw)
    assert {b: n.sum() for b, n in out.items()} == {"low": 540, "high": 2160}
    assert (out["low"] <= out["high"]).all() and out["low"].min() >= 2
    easy, middle, hard = out["high"].reshape(3, 60).mean(1)
    assert easy < middle < hard, "the harder, the more samples"
    if rule == "stop":  # an easy problem is not drawn from after it has enough
        assert out["high"][:60].max() < 12 and out["high"].max() <= allocate.MOST * 12 + 3


def test_a_budget_below_the_first_samples_is_spread_evenly():
    out = allocate.decide(Adaptive(of="wc", first=4), {"low": 50}, 50, lambda n: np.zeros(50, int))
    assert (out["low"] == 1).all()


def test_stop_asks_for_more_when_all_have_enough():
    out = allocate.decide(
        Adaptive(of="wc", rule="stop", correct=1, first=1), {"b": 100}, 20, lambda n: n.copy()
    )
    assert out["b"].sum() == 100 and np.ptp(out["b"]) == 0


def test_adaptive_arm_copies_what_its_arm_drew(mixed):
    rows, source = read_samples(mixed.path("02", "adaptive")), read_samples(mixed.path("02", "wc"))
    table = read_parquet(mixed.path("02", "adaptive", "allocation.parquet"))
    for b in ("low", "high"):
        total = 40 * mixed.arm("wc").samples[b]
        assert (
            table[table["budget"] == b]["n"].sum()
            == total
            == len(mixed.rows_of_budget(rows, "adaptive", b))
        )
    both = rows.merge(source, on=KEY[1:], suffixes=("", "_of"))
    assert (both["text"] == both["text_of"]).all() and len(both) > 0.5 * len(rows)
    assert rows["sample_index"].max() >= mixed.arm("wc").samples["high"], (
        "hard problems go beyond what wc drew"
    )
    n = table[table["budget"] == "high"].set_index("problem_id")["n"]
    solvable = pd.Series({p: chance(p, "nano-wc") for p in n.index})
    assert n[solvable < 0.1].mean() > 1.3 * n[solvable > 0.5].mean()


def test_a_killed_adaptive_arm_decides_the_same(mixed, tmp_path):
    run = planning.make_plan(study_of(), tmp_path)
    fill(run, ["se", "wc"])
    calls = 0

    def dying(n):
        nonlocal calls
        calls += 1
        few = {p: k for p, k in list(n.items())[:25]} | {p: 0 for p in list(n)[25:]}
        drawn(run, "wc", few, "adaptive")
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            uneven.draw_adaptive(run, "adaptive", dying)
    uneven.draw_adaptive(run, "adaptive", lambda n: drawn(run, "wc", n, "adaptive"))
    assert calls == 2
    paths = [r.path("02", "adaptive") for r in (run, mixed)]
    pd.testing.assert_frame_equal(*(read_parquet(p / "allocation.parquet") for p in paths))
    pd.testing.assert_frame_equal(*(read_samples(p) for p in paths))


# ------------------------------------------------------------------------------------------------ ledger and outcome


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
    run = planning.make_plan(study_of(), tmp_path)
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


def test_outcome_counts_problems_without_a_sample(mixed):
    out = outcome.outcomes(mixed, read_arms(mixed)).set_index(["arm", "budget", "metric"])[
        "outcome"
    ]
    verdicts = read_parquet(mixed.path("03", "mix", "verdicts.parquet"))
    solved = (
        mixed.rows_of_budget(verdicts, "mix", "low")
        .query("verdict == 'correct'")["problem_id"]
        .nunique()
    )
    assert out["mix", "low", "coverage"] == solved / 40
    assert out["wc", "high", "sound_coverage"] <= out["wc", "high", "coverage"]


def test_the_gain_of_a_rule_is_what_playing_it_gives():
    """On known populations the simulated gain over an even spread is the one of the rule itself."""
    rng = np.random.default_rng(1)
    rates, n = rng.beta(0.5, 1, 800), np.full(800, 8)
    gains = expected._gains(
        Adaptive(of="wc", first=2), {"b": 6}, (n, rng.binomial(n, rates)), 400, seed=0
    )
    played = np.mean(
        [
            expected._played(Adaptive(of="wc", first=2), {"b": 6 * 800}, rates, rng)[0]
            for _ in range(10)
        ]
    )
    assert (
        gains["b"] == pytest.approx(played - (1 - (1 - rates) ** 6).mean(), abs=0.015)
        and gains["b"] > 0.01
    )
