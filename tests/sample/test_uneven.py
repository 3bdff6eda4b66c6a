"""Mixes and adaptive arms: what they copy and draw, and the same decisions after a kill."""

import pandas as pd
import pytest
from mixed_study import chance, drawn, fill, study_of

from wcse_lib import plan
from wcse_lib.sample import uneven
from wcse_lib.store import KEY, StudyError, read_parquet, read_samples


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


def test_a_mix_needs_its_parts(tmp_path):
    run = plan.make_plan(study_of(), tmp_path)
    fill(run, ["se"])
    with pytest.raises(
        StudyError, match="02_generate/wc: .* samples that mix needs are missing; draw wc first"
    ):
        uneven.draw_mix(run, "mix")


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
    run = plan.make_plan(study_of(), tmp_path)
    fill(run, ["se", "wc"])
    calls = 0

    def dying(n):
        nonlocal calls
        calls += 1
        few = {p: k for p, k in list(n.items())[:25]} | {p: [] for p in list(n)[25:]}
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
