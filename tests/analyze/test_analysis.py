"""Analysis from files alone: a synthetic study with uneven arms, recipes, seeds and transfer, and OpenAI's solutions."""

import json
import subprocess
import sys
from functools import partial
from itertools import product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from studies import write_plan

from wcse_lib import intervals, metrics
from wcse_lib.analyze import stage as analysis
from wcse_lib.analyze import words as explanation
from wcse_lib.store import tables as store_tables
from wcse_lib.store.records import (
    KEY,
    StudyError,
    iter_samples,
    write_json,
    write_manifest,
    write_parquet,
)
from wcse_lib.study import Run, check_study
from wcse_lib.verify import stage as verification

BUDGETS = {"low": {"se": 1, "wc": 3, "ada": 1}, "high": {"se": 4, "wc": 12, "ada": 4}}
RATE = {"se": 0.5, "wc": 0.4, "ada": 0.5}
GAIN = {
    ("se", "main"): 0.0,
    ("wc", "main"): 0.3,
    ("se", "equal"): 0.02,
    ("wc", "equal"): 0.02,
    ("se", "one"): 0.0,
    ("wc", "one"): 0.3,
    ("pooled", "main"): 0.3,
    ("ada", "main"): 0.0,
    ("ada", "equal"): 0.0,
    ("ada", "one"): 0.0,
}
STUDY = {
    "study": "synthetic",
    "dataset": {"name": "nano", "n_train": 60, "n_held_out": 200, "levels": [1, 2]},
    "arms": {
        "se": {"model": "nano-se"},
        "wc": {"model": "nano-wc"},
        "ada": {"adaptive": {"of": "se"}},
    },
    "budget": {"reference": "se", "samples": {"low": 1, "high": 4}},
    "controls": {"pooled": True},
    "recipes": {
        "equal": {"n_examples": "equal", "budgets": ["high"]},
        "one": {"per_problem": 1, "budgets": ["high"]},
    },
    "students": {
        "small": {"model": "nano-student"},
        "wc": {"model": "nano-wc", "arms": ["se", "wc"]},
    },
    "evaluation": {"n_samples": 4, "top_k": 3, "maj_k": [1, 4]},
}


def make_study(folder, seeds=(0, 1), recipes=True, study=STUDY):
    """A finished study's files: wc's students are better by 0.3 but where examples are of equal number, and each number
    of the arms can be counted by hand."""
    rng = np.random.default_rng(5)
    study = study | {
        "study": folder.name,
        "training": {"seeds": list(seeds), "amount": {"low": 2.0, "high": 4.0}},
    }
    study = study if recipes else study | {"recipes": {}}
    train = pd.DataFrame(
        {
            "problem_id": [f"t{i:03d}" for i in range(60)],
            "question": "q",
            "answer": "7",
            "reference": "",
            "level": [str(1 + i % 2) for i in range(60)],
            "tests": "",
        }
    )
    held = pd.DataFrame(
        {
            "problem_id": [f"h{i:03d}" for i in range(300)],
            "question": "q",
            "answer": "7",
            "reference": "",
            "level": "1",
            "tests": "",
            "set": ["held_out"] * 200 + ["far"] * 100,
        }
    )
    arms = {
        a: {
            "model": {"se": "nano-se", "wc": "nano-wc"}.get(a),
            "n_parameters": {"se": 3e6, "wc": 1e6}.get(a),
            "price": None,
            "planned_flops_per_token": {"se": 6e6, "wc": 2e6}.get(a),
            "tokens_per_sample": 11.0,
            "samples": {b: k[a] for b, k in BUDGETS.items()},
            "budget_used": dict.fromkeys(BUDGETS, 1.0),
        }
        for a in RATE
    }
    students = {}
    for base in study["students"]:
        entry = {
            "base": base,
            "model": "nano-student",
            "arm": None,
            "budget": None,
            "recipe": "main",
            "seed": None,
        }
        students[f"{base}.base"] = entry | {"source": "base", "paradigm": None}
        for seed in seeds:
            students[f"{base}.reference.s{seed}"] = entry | {
                "source": "reference",
                "budget": "high",
                "paradigm": None,
                "seed": seed,
            }
            for arm, recipe, b in product([*RATE, "pooled"], ["main", *study["recipes"]], BUDGETS):
                if (recipe == "main" or (arm != "pooled" and b == "high")) and (base, arm) != (
                    "wc",
                    "ada",
                ):
                    source = (
                        {"source": "pooled"} if arm == "pooled" else {"source": "arm", "arm": arm}
                    )
                    name = ".".join(
                        [base, arm, b, *([recipe] if recipe != "main" else []), f"s{seed}"]
                    )
                    students[name] = (
                        entry
                        | source
                        | {"budget": b, "recipe": recipe, "paradigm": "kd", "seed": seed}
                    )
    plan = {
        "study": json.loads(check_study(study, "here").model_dump_json()),
        "arms": arms,
        "students": students,
        "plan_id": "0123456789abcdef",
        "n_problems": {"train": 60, "validation": 0, "held_out": 300},
        "versions": {"python": "3.11"},
    }
    write_plan(folder, plan)
    write_parquet(folder / "01_plan/train.parquet", train)
    write_parquet(folder / "01_plan/held_out.parquet", held)
    easy = dict(zip(train["problem_id"], rng.beta(0.6, 0.6, 60)))
    for arm, rate in RATE.items():
        n = {"se": [4] * 60, "wc": [12] * 60, "ada": [2 + 4 * (i % 2) for i in range(60)]}[arm]
        rows = pd.DataFrame(
            [(arm, p, i) for p, k in zip(train["problem_id"], n) for i in range(k)], columns=KEY
        )
        right = rng.random(len(rows)) < np.clip(
            rows["problem_id"].map(easy) + rate - 0.5, 0.02, 0.98
        )
        texts = [
            f"{1 + i % 3}+{6 - i % 3}=7 #### 7" if r else f"#### {i % 2}"
            for r, i in zip(right, rows["sample_index"])
        ]
        write_parquet(
            folder / f"02_generate/{arm}/part-00000.parquet",
            rows.assign(
                seed=1,
                text=texts,
                n_prompt_tokens=5,
                n_tokens=rng.integers(3, 20, len(rows)),
                finish_reason="stop",
                engine="hf",
                model="nano-wc" if arm == "wc" else "nano-se",
                prompt_hash="",
                error="",
                usd=np.nan,
            ),
        )
        verdict = np.where(right, "correct", "incorrect").astype(object)
        verdict[
            (rows["problem_id"] == "t000").to_numpy() & (rows["sample_index"] == 1).to_numpy()
        ] = "unverifiable"
        extracted = ["7" if r else str(i % 2) for r, i in zip(right, rows["sample_index"])]
        write_parquet(
            folder / f"03_verify/{arm}/verdicts.parquet",
            rows.assign(extracted=extracted, verdict=verdict, reason="", verifier="v"),
        )
        correct = rows[verdict == "correct"]
        sound = pd.array((correct["sample_index"] % 3 != 0).to_numpy(), "boolean")
        write_parquet(
            folder / f"03_verify/{arm}/judgements.parquet",
            correct.assign(sound=sound, judge="exact", reason=""),
        )
        other = correct.assign(
            sound=pd.array([None] * len(correct), "boolean"), judge="arithmetic", reason=""
        )
        write_parquet(folder / f"03_verify/{arm}/other_judgements.parquet", other)
        examples = [
            correct[correct["sample_index"] < BUDGETS[b][arm]].assign(budget=b, recipe=r)
            for b in BUDGETS
            for r in ("main", *study["recipes"])
        ]
        write_parquet(
            folder / f"03_verify/{arm}/examples.parquet", pd.concat(examples).assign(text="x")
        )
        write_parquet(
            folder / f"03_verify/{arm}/flow.parquet",
            pd.DataFrame(
                [
                    {
                        "arm": arm,
                        "budget": "high",
                        "recipe": "main",
                        "step": "samples",
                        "n": len(rows),
                        "reason": "",
                    }
                ]
            ),
        )
        write_json(
            folder / f"02_generate/{arm}/manifest.json",
            {
                "plan_id": plan["plan_id"],
                "finished": "2026-11-23T02:15:00",
                "machine": "2 × abacus",
            },
        )
    allocation = pd.DataFrame(
        [("low", p, i % 2 * 2) for i, p in enumerate(train["problem_id"])]
        + [("high", p, 2 + i % 2 * 4) for i, p in enumerate(train["problem_id"])],
        columns=["budget", "problem_id", "n"],
    )
    write_parquet(folder / "02_generate/ada/allocation.parquet", allocation)
    hard = rng.random(300)
    for name, entry in students.items():
        gain = GAIN.get(
            (entry["arm"] or entry["source"], entry["recipe"]),
            0.2 if entry["source"] == "reference" else 0.0,
        )
        right = hard < 0.3 + gain + 0.01 * rng.normal()
        keys = held[["problem_id"]].assign(author=name, sample_index=0)[KEY]
        word = lambda r: np.where(r, "correct", "incorrect")  # noqa: E731
        write_parquet(
            folder / f"05_evaluate/{name}/verdicts-greedy.parquet",
            keys.assign(extracted="7", verdict=word(right)),
        )
        rows = keys.loc[keys.index.repeat(4)].assign(sample_index=np.tile(range(4), 300))
        drawn = np.repeat(right, 4) ^ (rng.random(1200) < 0.1)
        write_parquet(
            folder / f"05_evaluate/{name}/verdicts-sampled.parquet",
            rows.assign(extracted=np.where(drawn, "7", "1"), verdict=word(drawn)),
        )
        judged = rows[drawn].assign(
            sound=pd.array(rng.random(drawn.sum()) < 0.8, "boolean"), judge="exact", reason=""
        )
        write_parquet(folder / f"05_evaluate/{name}/judgements-sampled.parquet", judged)
        if entry["source"] != "base":
            write_json(
                folder / f"04_finetune/{name}/report.json",
                {
                    "loss_curve": [[1, 0.5, 0.0], [2, 0.4, 0.0]],
                    "epochs": 2.0 if entry["arm"] == "wc" else 6.0,
                    "n_examples": 90,
                    "n_dropped_long": 0,
                    "planned_flops": 1e9,
                    "spent_flops": 1e9,
                    "validation_curve": [],
                    "n_tokens": 100,
                    "best_step": 2,
                    "steps": 2,
                    "seconds": 1.0,
                },
            )
        if entry["source"] == "arm":
            own = pd.read_parquet(folder / f"03_verify/{entry['arm']}/examples.parquet")
            own = own[(own["budget"] == entry["budget"]) & (own["recipe"] == entry["recipe"])][KEY]
            likely = {"wc": -0.5, "se": -1.0, "ada": -1.0}[entry["arm"]] * 10 + rng.normal(
                size=len(own)
            ) * 0.1
            write_parquet(
                folder / f"04_finetune/{name}/likelihood.parquet",
                own.assign(log_likelihood=likely, n_tokens=10),
            )
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Run(make_study(tmp_path_factory.mktemp("out") / "synthetic"))


@pytest.fixture(scope="module")
def tables(study):
    return analysis.analyze(study)


def rows_of(run, arm):
    files = [run.path("02", arm, "part-00000.parquet"), run.path("03", arm, "verdicts.parquet")]
    return pd.read_parquet(files[0]).merge(pd.read_parquet(files[1]), on=KEY)


def test_every_table_is_there_tidy_and_within_its_interval(study, tables):
    assert set(tables) >= set(
        "quality coverage sound_coverage diversity false_positives levels lengths self_agreement arm_votes flow arm_differences "
        "explanation students differences ablations transfer controls student_false_positives training ledger".split()
    )
    assert analysis.checks(study, tables)["n_tables"] == len(tables)
    for name, frame in tables.items():
        file = pd.read_csv(study.path("06", "tables", f"{name}.csv"))
        assert len(file) == len(frame) and list(file.columns) == list(frame.columns)


def test_pieces_give_the_tables_of_the_whole(study, tables, monkeypatch):
    monkeypatch.setattr(analysis, "iter_samples", partial(iter_samples, n_rows=50))
    monkeypatch.setattr(store_tables, "PIECE", 70)
    before = {path.name: path.read_bytes() for path in study.path("06", "tables").iterdir()}
    for name, frame in analysis.analyze(study).items():
        pd.testing.assert_frame_equal(frame, tables[name])
    assert before == {path.name: path.read_bytes() for path in study.path("06", "tables").iterdir()}


def test_budgets_of_uneven_arms_are_what_was_allotted(study, tables):
    """The adaptive arm: at `low` half of the problems got no sample and count as unsolved; curves use equal first parts."""
    rows = rows_of(study, "ada")
    rows = rows[rows["verdict"] != "unverifiable"]
    odd = rows["problem_id"].str[1:].astype(int) % 2 == 1
    low = rows[odd & (rows["sample_index"] < 2)]
    solved = (low["verdict"] == "correct").groupby(low["problem_id"]).any()
    quality = tables["quality"].set_index(["arm", "budget"])
    assert quality.loc[("ada", "low"), "coverage"] == pytest.approx(solved.sum() / 60)
    assert quality.loc[("ada", "low"), "n_samples"] == len(low)
    curve = tables["coverage"].query("arm == 'ada'").set_index("k")["value"]
    first = rows[
        rows["sample_index"] < 1
    ]  # t000 has one sample of two that can be verified: every problem allows k = 1
    assert list(curve.index) == [1] and curve[1] == pytest.approx(
        (first["verdict"] == "correct").mean()
    )


def test_numbers_at_k_come_from_the_rows(study, tables):
    rows = rows_of(study, "wc")
    rows = rows[rows["verdict"] != "unverifiable"]
    right = (rows["verdict"] == "correct").groupby(rows["problem_id"])
    n, c = right.size(), right.sum()
    coverage = tables["coverage"].query("arm == 'wc'").set_index("k")["value"]
    assert list(coverage.index) == list(range(1, n.min() + 1))
    assert np.allclose(coverage, metrics.coverage_curve(n, c))
    sound = (rows["verdict"] == "correct") & (rows["sample_index"] % 3 != 0)
    want = metrics.coverage_at_k(n, sound.groupby(rows["problem_id"]).sum(), 5)
    assert tables["sound_coverage"].query("arm == 'wc' and k == 5")[
        "value"
    ].item() == pytest.approx(want)
    kinds, verdicts = (
        [list(p) for _, p in x.groupby(rows["problem_id"])]
        for x in (rows["text"].map(metrics.equation_key), rows["verdict"] == "correct")
    )
    div = (
        tables["diversity"]
        .query("arm == 'wc' and budget == 'low' and kind == 'equations'")
        .set_index("average")
    )
    for average in ("all", "solved"):
        assert div.loc[average, "value"] == pytest.approx(
            metrics.diversity_at_k(kinds, verdicts, 3, average)
        )
    assert div.loc["solved", "identity"] == pytest.approx(
        3 * metrics.coverage_at_k(n, c, 1) / metrics.coverage_at_k(n, c, 3)
    )
    answers = [list(p) for _, p in rows["extracted"].groupby(rows["problem_id"])]
    vote = tables["arm_votes"].query("arm == 'wc' and k == 4").iloc[0]
    assert (
        vote["value"] == pytest.approx(metrics.majority_at_k(answers, verdicts, 4))
        and 0 < vote["tie_rate"] < 1
    )
    agreement = tables["self_agreement"].set_index("arm").loc["wc", "value"]
    assert agreement == pytest.approx(np.nanmean(metrics.self_agreement(answers)))
    lengths = tables["lengths"].set_index(["arm", "verdict"])
    assert lengths.loc[("wc", "all"), "value"] == pytest.approx(
        rows_of(study, "wc")["n_tokens"].mean()
    )


def test_false_positives_by_judge(study, tables):
    rows = rows_of(study, "wc").query("verdict == 'correct' and sample_index < 3")
    table = tables["false_positives"].set_index(["arm", "budget", "judge"])
    exact = table.loc[("wc", "low", "exact")]
    assert exact["n"] == len(rows) and exact["n_false"] == (rows["sample_index"] == 0).sum()
    nothing = table.loc[
        ("wc", "low", "arithmetic")
    ]  # undecided: nothing found, which for this judge counts as passed
    assert nothing["n"] == len(rows) and nothing["n_false"] == 0


def test_a_models_rate_is_told_raw_and_corrected(tmp_path):
    """The model finds two thirds of the flaws, and 03 tells the same as 06."""
    run = Run(make_study(tmp_path / "model", study=STUDY | {"students": {}, "recipes": {}}))
    path = run.path("03", "wc", "other_judgements.parquet")
    said = pd.read_parquet(run.path("03", "wc", "judgements.parquet")).assign(judge="model")
    said["sound"] = said["sound"] | (said["sample_index"] % 9 == 0)
    write_parquet(path, pd.concat([pd.read_parquet(path), said], ignore_index=True))
    tables = analysis.analyze(run)
    found = tables["false_positives"].query("arm == 'wc' and budget == 'high'").set_index("judge")
    raw, right, exact = (
        found.loc[judge] for judge in ("model", "model, corrected by exact", "exact")
    )
    assert (
        raw["value"] < raw["high"] < right["low"] < right["value"] == pytest.approx(exact["value"])
        and right["n"] == exact["n"]
    )
    for judge in ("exact", "arithmetic", "model, corrected by exact"):
        row = verification.false_positives(run, "wc").set_index("judge").loc[judge]
        assert (
            row[["value", "low", "high"]].tolist()
            == found.loc[judge, ["value", "low", "high"]].tolist()
        )
    told = [note for note in explanation.answer(run, tables)["notes"] if "of wc at high" in note]
    assert any("(model judge, uncorrected for its own errors; " in note for note in told)
    assert any("(model, corrected by exact; " in note for note in told)
    samples = tables["arm_differences"].query(
        "metric == 'pass@1'"
    )  # by these a study without students is answered
    assert (
        np.allclose(samples["p_holm"], intervals.holm(samples["p"].to_numpy()))
        and len(samples) == 6
    )


def test_partly_judged_arms_have_no_sound_coverage_and_the_reader_is_told(tmp_path):
    folder = make_study(tmp_path / "part", seeds=(0,), recipes=False)
    path = folder / "03_verify/wc/judgements.parquet"
    write_parquet(path, pd.read_parquet(path).iloc[::2])
    run = Run(folder)
    tables = analysis.analyze(run)
    assert set(tables["sound_coverage"]["arm"]) == {"se", "ada"}
    assert "sound coverage" not in set(tables["explanation"].query("arm == 'wc'")["quantity"])
    answer = explanation.answer(run, tables)
    assert any("all of whose correct samples were judged" in note for note in answer["not_run"])
    assert any("No ablations" in note for note in answer["not_run"])
    assert any("This study cannot tell apart" in sentence for sentence in answer["why"])


def greedy(run, *names):
    frames = [
        pd.read_parquet(run.path("05", name, "verdicts-greedy.parquet")).sort_values("problem_id")
        for name in names
    ]
    return [(frame["verdict"] == "correct").to_numpy(float) for frame in frames]


def test_student_differences_take_seeds_as_nested_in_problems(study, tables):
    """Held-out problems come first in sorted order ('far' ones are h200 and up)."""
    row = (
        tables["differences"]
        .query(
            "base == 'small' and budget == 'high' and metric == 'greedy pass@1' and arm_a == 'wc' and arm_b == 'se'"
        )
        .iloc[0]
    )
    a0, a1, z0, z1 = (
        x[:200]
        for x in greedy(study, *(f"small.{arm}.high.s{s}" for arm in ("wc", "se") for s in (0, 1)))
    )
    want = intervals.nested(np.column_stack([a0 - z0, a1 - z1]), seed=0, bounds=(-1.0, 1.0))
    assert (
        (row["value"], row["low"], row["high"]) == pytest.approx(tuple(want))
        and row["n_problems"] == 200
        and row["n_seeds"] == 2
    )
    assert row["p"] == intervals.paired_p((a0 + a1) / 2, (z0 + z1) / 2)
    both = (
        tables["differences"]
        .query("budget == 'high' and metric == 'greedy pass@1' and arm_a == 'wc' and arm_b == 'se'")
        .set_index("base")["value"]
    )
    assert both["all students"] == pytest.approx((both["small"] + both["wc"]) / 2)
    far = (
        tables["transfer"]
        .query(
            "base == 'small' and budget == 'high' and metric == 'greedy pass@1' and arm_a == 'wc' and arm_b == 'se'"
        )
        .iloc[0]
    )
    a0, a1, z0, z1 = (
        x[200:]
        for x in greedy(study, *(f"small.{arm}.high.s{s}" for arm in ("wc", "se") for s in (0, 1)))
    )
    assert far["set"] == "far" and far["value"] == pytest.approx((a0 + a1 - z0 - z1).mean() / 2)
    assert set(tables["students"]["set"]) == {"held_out", "far"} and "pass@4" in set(
        tables["students"]["metric"]
    )


def test_one_seed_gives_mcnemar(tmp_path):
    run = Run(make_study(tmp_path / "one", seeds=(3,), recipes=False))
    tables = analysis.analyze(run)
    row = (
        tables["differences"]
        .query(
            "base == 'wc' and budget == 'low' and metric == 'greedy pass@1' and arm_a == 'wc' and arm_b == 'se'"
        )
        .iloc[0]
    )
    a, z = (x[:200] for x in greedy(run, "wc.wc.low.s3", "wc.se.low.s3"))
    assert (row["n_only_a"], row["n_only_b"], row["p"]) == intervals.mcnemar(a, z)
    table = tables["differences"].query("metric == 'greedy pass@1'")
    answers = (
        (table["base"] == "all students") | (table["arm_a"] == "ada") | (table["arm_b"] == "ada")
    )  # of ada there is one base
    assert answers.sum() == 6 and (~answers).sum() == 4
    for family in (table[answers], table[~answers]):
        assert np.allclose(family["p_holm"], intervals.holm(family["p"].to_numpy()))


@pytest.mark.parametrize("bases", [["small"], ["small", "wc"]])
def test_of_equal_arms_the_headline_names_a_better_one_in_5_percent_of_studies(bases, monkeypatch):
    """Four arms at two budgets, 300 problems, no true difference: single intervals would name one in two of five studies."""
    monkeypatch.setattr(intervals, "nested", partial(intervals.nested, n_boot=300))
    monkeypatch.setattr(intervals, "paired_p", partial(intervals.paired_p, n_draws=2000))
    arms, budgets, index = list("abcd"), ["low", "high"], [f"h{i}" for i in range(300)]
    spec = SimpleNamespace(
        students=bases, seed=0, budget=SimpleNamespace(samples=budgets, reference="a")
    )
    run, sets = (
        SimpleNamespace(study=spec, plan={"arms": arms, "students": {}}),
        pd.Series("held_out", index),
    )
    named, single, n = 0, 0, 100 // len(bases)
    for i in range(n):
        rng, groups = np.random.default_rng([i, 4]), {}
        for base, b in product(bases, budgets):
            hard = rng.normal(size=300)
            for arm in arms:
                right = (hard + rng.normal(size=300) < -0.35).astype(float)
                groups[base, arm, b, "main"] = [pd.DataFrame({"greedy pass@1": right}, index)]
        rows = explanation.primary(
            {"differences": analysis._differences(run, groups, sets, ["held_out"])}
        )
        assert len(rows) == 12
        named += not explanation.headline(rows, "training set").startswith("No difference")
        single += ((rows["low"] > 0) | (rows["high"] < 0)).any()
    assert named / n <= 0.11 and single / n > 0.25


def test_one_comparison_is_not_corrected_and_what_correction_undoes_is_told(study, tables):
    one = analysis._holm(
        [{"base": "all students", "metric": "greedy pass@1", "low": 0.01, "high": 0.2, "p": 0.06}],
        ["metric"],
    )
    assert one["p_holm"].isna().all() and explanation.settled(one).all()
    table = tables["differences"].copy()
    main = table["metric"] == "greedy pass@1"
    table.loc[main & (table["arm_a"] == "wc") & (table["arm_b"] == "ada"), "p_holm"] = 0.2
    table.loc[
        main & (table["arm_a"] == "wc") & (table["arm_b"] == "se") & (table["budget"] == "low"),
        "p_holm",
    ] = 0.08
    answer = explanation.answer(study, tables | {"differences": table})
    assert (
        answer["headline"]
        == "It depends: the better training set came from wc rather than se at the budget “high”; elsewhere no difference could be shown."
    )
    assert (
        "the interval excludes zero, but corrected for 6 comparisons p = 0.08, so the sign is not settled"
        in answer["paragraph"]
    )
    assert (
        "The other 2 comparisons, of arms other than se, are not settled and stand in the table."
        in answer["paragraph"]
    )
    assert (
        "These are 6 comparisons" in answer["paragraph"]
        and "wc minus ada" not in answer["paragraph"]
    )
    assert (
        len(answer["why"]) == 4
        and "whether wc's or se's students are better is not settled" in answer["why"][0]
    )


def test_duplicates_explain_nothing_where_examples_hold_none(study, tables):
    rows, text = explanation.primary(tables), "fewer duplicates"
    assert "duplicates among correct" in set(tables["arm_differences"]["metric"])
    assert not any(text in told for told in explanation.why(study.study, tables, rows))
    kept = study.study.model_copy(
        update={"curation": study.study.curation.model_copy(update={"unique": "none"})}
    )
    assert any(text in told for told in explanation.why(kept, tables, rows))


def test_ablations_hold_the_difference_of_differences(study, tables):
    at = "base == 'small' and budget == 'high' and metric == 'greedy pass@1' and recipe == 'equal' and arm_a == 'wc'"
    table = tables["ablations"].query(at).set_index(["comparison", "arm_b"])["value"]
    main = (
        tables["differences"]
        .query(
            "base == 'small' and budget == 'high' and metric == 'greedy pass@1' and arm_a == 'wc' and arm_b == 'se'"
        )["value"]
        .item()
    )
    assert (
        table["gap", "se"] == pytest.approx(table["arms", "se"] - main)
        and table["gap", "se"] < -0.15
    )
    pooled = tables["ablations"].query(
        "comparison == 'pooled' and base == 'small' and budget == 'high' and metric == 'greedy pass@1' and arm_b == 'se'"
    )
    assert pooled["value"].item() > 0.2


def test_why_names_what_the_recipes_took_away(study, tables):
    """Equal counts remove wc's lead, one correct a problem does not: counts explain it, diversity is not all of it."""
    answer = explanation.answer(study, tables)
    assert (
        "wc rather than se at the budget “low”" in answer["headline"]
        and "elsewhere no difference" in answer["headline"]
    )
    assert "student small" in answer["paragraph"]  # of the adaptive arm there is one base only
    text = next(
        s for s in answer["why"] if "wc's students are better at high" in s and "“equal”" in s
    )
    assert "at least part of the reason is more examples and fewer epochs over them" in text
    assert (
        "the difference stands, so that not all of the reason is more different solutions" in text
    )
    likely = (
        tables["arm_differences"]
        .query(
            "metric == 'log-likelihood under small' and arm_a == 'wc' and arm_b == 'se' and budget == 'high'"
        )
        .iloc[0]
    )
    assert likely["value"] == pytest.approx(0.5, abs=0.02) and likely["low"] > 0
    assert "higher log-likelihood under small (+0.50 nats per token" in text


def test_unfinished_stages_are_named(study, tmp_path):
    folder = make_study(tmp_path / "torn", seeds=(0,), recipes=False)
    (folder / "03_verify/wc/verdicts.parquet").unlink()
    with pytest.raises(StudyError, match=r"03_verify/wc/verdicts.parquet: not there"):
        analysis.analyze(Run(folder))


def test_it_takes_seconds_and_no_model(tmp_path):
    """No heavy package is loaded, and a study of this size takes a few CPU seconds."""
    folder = make_study(tmp_path / "quick", seeds=(0,), recipes=False)
    code = "import sys, time; from wcse_lib import analyze; from wcse_lib.study import Run\n"
    code += f"analyze.analyze(Run({str(folder)!r})); print(time.process_time(), sorted({{'torch', 'transformers', 'matplotlib'}} & set(sys.modules)))"
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split(" ", 1)
    assert out[1].strip() == "[]" and float(out[0]) < 20


def test_openai_solutions_give_the_published_accuracies(root, real_data, tmp_path):
    """Real data: each arm's pass@1 is the share of OpenAI's own `is_correct` to within one of 660 problems, and the
    difference with its interval is the paired one of the official labels."""
    from wcse_lib.plan import stage as planning
    from wcse_lib.sample import stage as generation
    from wcse_lib.study import Machine, load_study
    from wcse_lib.verify import stage as verification

    run = planning.make_plan(load_study("params/gsm8k_openai.yaml"), tmp_path)
    for arm in run.plan["arms"]:
        generation.generate(run, arm, Machine())
        write_manifest(run.path("02", arm), run.plan_id, {})
        verification.verify(run, arm, Machine())
    tables = analysis.analyze(run)
    lines = [json.loads(line) for line in open(real_data / "gsm8k_openai_model_solutions.jsonl")]
    se, wc = (
        np.array([line[model]["is_correct"] for line in lines], float)
        for model in ("175b_finetuning", "6b_finetuning")
    )
    quality = tables["quality"].set_index("arm")
    for arm, official in (("se", se), ("wc", wc)):
        assert quality.loc[arm, "n_samples"] == len(lines) == 660
        assert abs(quality.loc[arm, "n_correct"] - official.sum()) <= 1
    row = tables["arm_differences"].query("metric == 'pass@1'").iloc[0]
    want = intervals.nested((wc - se)[:, None], seed=0, bounds=(-1, 1))
    assert (row["value"], row["low"], row["high"]) == pytest.approx(tuple(want), abs=0.006)
    positives = tables["false_positives"].query("judge == 'arithmetic'").set_index("arm")
    assert (positives["n"] == quality["n_correct"]).all() and (positives["value"] > 0.005).all()
    assert explanation.answer(run, tables)["paper"] == "GSM8K"
