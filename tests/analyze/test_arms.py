"""Tables of arms against counts by hand: uneven arms, numbers at k, judges, and OpenAI's solutions."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from studies import STUDY, finished_study, judge_only

from wcse_lib import intervals, metrics
from wcse_lib.analyze import analyze, answer, arms
from wcse_lib.analyze.words import ANSWERED
from wcse_lib.store import KEY, read_parquet, write_manifest, write_parquet
from wcse_lib.study import Run
from wcse_lib.verify import false_positives


def known_rows(run, arm):
    """An arm's samples with their verdicts, without unverifiable ones."""
    files = [run.path("02", arm, "part-00000.parquet"), run.path("03", arm, "verdicts.parquet")]
    rows = pd.read_parquet(files[0]).merge(pd.read_parquet(files[1]), on=KEY)
    rows["correct"] = rows["verdict"] == "correct"
    return rows[rows["verdict"] != "unverifiable"]


def by_problem(rows, column):
    return [list(values) for _, values in rows.groupby("problem_id")[column]]


def test_budgets_of_uneven_arms_are_what_was_allotted(synthetic_study, synthetic_tables):
    """The adaptive arm: at `low` half of the problems got no sample and count as unsolved."""
    rows = known_rows(synthetic_study, "ada")
    odd = rows["problem_id"].str[1:].astype(int) % 2 == 1
    low = rows[odd & (rows["sample_index"] < 2)]
    solved = low["correct"].groupby(low["problem_id"]).any()
    quality = synthetic_tables["quality"].set_index(["arm", "budget"]).loc[("ada", "low")]
    assert quality["coverage"] == pytest.approx(solved.sum() / 60)
    assert quality["n_samples"] == len(low)


def test_curves_of_adaptive_arms_use_equal_first_parts(synthetic_study, synthetic_tables):
    """The first two samples, which every problem got; of t000 one of them can be verified, so that all problems allow
    k = 1 alone."""
    rows = known_rows(synthetic_study, "ada")
    first = rows[rows["sample_index"] < 2]
    curve = synthetic_tables["coverage"].query("arm == 'ada'").set_index("k")["value"]
    assert list(curve.index) == [1]
    assert curve[1] == pytest.approx(first.groupby("problem_id")["correct"].mean().mean())


def test_coverage_comes_from_the_rows(synthetic_study, synthetic_tables):
    rows = known_rows(synthetic_study, "wc")
    n, n_correct = rows.groupby("problem_id").size(), rows.groupby("problem_id")["correct"].sum()
    coverage = synthetic_tables["coverage"].query("arm == 'wc'").set_index("k")["value"]
    assert list(coverage.index) == list(range(1, n.min() + 1))
    expected = [metrics.coverage_at_k(n, n_correct, k) for k in coverage.index]
    assert np.allclose(coverage, expected)
    is_sound = rows["correct"] & (rows["sample_index"] % 3 != 0)
    n_sound = is_sound.groupby(rows["problem_id"]).sum()
    sound_coverage = (
        synthetic_tables["sound_coverage"].query("arm == 'wc' and k == 5")["value"].item()
    )
    assert sound_coverage == pytest.approx(metrics.coverage_at_k(n, n_sound, 5))


def test_diversity_comes_from_the_rows(synthetic_study, synthetic_tables):
    rows = known_rows(synthetic_study, "wc")
    rows["equations"] = rows["text"].map(metrics.equation_key)
    table = synthetic_tables["diversity"].query(
        "arm == 'wc' and budget == 'low' and kind == 'equations'"
    )
    table = table.set_index("average")
    n, n_correct = rows.groupby("problem_id").size(), rows.groupby("problem_id")["correct"].sum()
    pass_at_1, coverage = (metrics.coverage_at_k(n, n_correct, k) for k in (1, 3))
    kinds = rows[rows["correct"]].groupby(["problem_id", "equations"]).size()
    place = n.index.get_indexer(kinds.index.get_level_values(0))
    unique = metrics.diversity_per_problem(n.to_numpy(), place, kinds, 3).mean()
    assert table.loc["all", "value"] == pytest.approx(unique)
    assert table.loc["solved", "value"] == pytest.approx(unique / coverage)
    assert table.loc["solved", "identity"] == pytest.approx(3 * pass_at_1 / coverage)


def test_clusters_of_reworded_solutions_are_counted_on_demand(
    synthetic_study, synthetic_tables, tmp_path
):
    """The three ways to write a solution share few words: each is a cluster of its own."""
    folder = finished_study(tmp_path / "words", (0,), study=STUDY | {"students": {}, "recipes": {}})
    table = analyze(Run(folder), ngrams=True)["diversity"]
    values = table.set_index(["arm", "budget", "average", "kind"])["value"].unstack("kind")
    assert "n-grams" not in set(synthetic_tables["diversity"]["kind"])
    assert values.loc["ada", "n-grams"].isna().all()  # an adaptive arm's are not read again
    values = values.drop(index="ada")
    assert np.allclose(values["n-grams"], values["equations"])


def test_votes_and_lengths_come_from_the_rows(synthetic_study, synthetic_tables):
    rows = known_rows(synthetic_study, "wc")
    answers, verdicts = by_problem(rows, "extracted"), by_problem(rows, "correct")
    vote = synthetic_tables["arm_votes"].query("arm == 'wc' and k == 4").iloc[0]
    assert vote["value"] == pytest.approx(metrics.majority_at_k(answers, verdicts, 4))
    assert 0 < vote["tie_rate"] < 1
    agreement = synthetic_tables["self_agreement"].set_index("arm").loc["wc", "value"]
    assert agreement == pytest.approx(np.nanmean(metrics.self_agreement(answers)))
    samples = read_parquet(synthetic_study.path("02", "wc", "part-00000.parquet"))
    lengths = synthetic_tables["lengths"].set_index(["arm", "verdict"]).loc[("wc", "all")]
    assert lengths["value"] == pytest.approx(samples["n_tokens"].mean())
    assert lengths["n_samples"] == len(samples)


def test_false_positives_by_judge(synthetic_study, synthetic_tables):
    rows = known_rows(synthetic_study, "wc").query("correct and sample_index < 3")
    rates = synthetic_tables["false_positives"].set_index(["arm", "budget", "judge"])
    exact = rates.loc[("wc", "low", "exact")]
    assert exact["n"] == len(rows)
    assert exact["n_false"] == (rows["sample_index"] == 0).sum()
    # undecided: nothing found, which for this judge counts as passed
    arithmetic = rates.loc[("wc", "low", "arithmetic")]
    assert arithmetic["n"] == len(rows)
    assert arithmetic["n_false"] == 0


@pytest.fixture(scope="module")
def judged_by_a_model(tmp_path_factory):
    """A study without students whose model judge finds two thirds of the flaws, and its tables."""
    folder = tmp_path_factory.mktemp("out") / "model"
    run = Run(finished_study(folder, study=STUDY | {"students": {}, "recipes": {}}))
    path = run.path("03", "wc", "other_judgements.parquet")
    by_model = read_parquet(run.path("03", "wc", "judgements.parquet")).assign(judge="model")
    by_model["sound"] = by_model["sound"] | (by_model["sample_index"] % 9 == 0)
    write_parquet(path, pd.concat([read_parquet(path), by_model], ignore_index=True))
    return run, analyze(run)


def test_a_models_rate_stands_raw_and_corrected(judged_by_a_model):
    _, tables = judged_by_a_model
    rates = tables["false_positives"].query("arm == 'wc' and budget == 'high'")
    rates = rates.set_index(["judge", "corrected_by"])
    raw, corrected = rates.loc["model", ""], rates.loc["model", "exact"]
    assert raw["value"] < raw["high"] < corrected["low"] < corrected["value"]
    assert corrected["value"] == pytest.approx(rates.loc[("exact", ""), "value"])
    assert corrected["n"] == rates.loc[("exact", ""), "n"]


def test_03_and_06_give_the_same_rates(judged_by_a_model):
    run, tables = judged_by_a_model
    columns = ["value", "low", "high"]
    keys = ["judge", "corrected_by"]
    here = tables["false_positives"].query("arm == 'wc' and budget == 'high'").set_index(keys)
    there = false_positives(run, "wc").set_index(keys)
    for judge in (("exact", ""), ("arithmetic", ""), ("model", "exact")):
        assert here.loc[judge, columns].tolist() == there.loc[judge, columns].tolist()


def test_notes_say_which_rate_is_corrected(judged_by_a_model):
    run, tables = judged_by_a_model
    notes = answer(run, tables)["notes"]
    assert any("a model's, uncorrected for its own errors" in note for note in notes)
    assert any("(model, corrected by exact)" in note for note in notes)


def test_without_students_samples_are_compared_and_corrected(judged_by_a_model):
    """Coverage, sound coverage, examples and false positives of three pairs at two budgets: one family."""
    _, tables = judged_by_a_model
    rows = tables["arm_differences"].dropna(subset="p")
    assert set(rows["quantity"]) == set(ANSWERED)
    assert len(rows) == 24
    assert np.allclose(rows["p_holm"], intervals.holm(rows["p"].to_numpy()))


def test_examples_a_problem_come_from_the_rows(judged_by_a_model):
    run, tables = judged_by_a_model
    n = {}
    for arm in ("wc", "se"):
        rows = read_parquet(run.path("03", arm, "examples.parquet"))
        n[arm] = (rows["budget"] == "high").sum()
    rows = tables["arm_differences"].query("quantity == 'examples_per_problem'")
    row = rows.query("arm_a == 'wc' and arm_b == 'se' and budget == 'high'").iloc[0]
    assert row["value"] == pytest.approx((n["wc"] - n["se"]) / 60)
    assert row["low"] > 0


def test_partly_judged_arms_have_no_sound_coverage_and_the_reader_learns_it(tmp_path):
    folder = finished_study(tmp_path / "part", seeds=(0,), recipes=False)
    judge_only(folder, "wc", read_parquet(folder / "03_verify/wc/judgements.parquet").iloc[::2])
    run = Run(folder)
    tables = analyze(run)
    assert set(tables["sound_coverage"]["arm"]) == {"se", "ada"}
    assert "sound_coverage" not in set(tables["explanation"].query("arm == 'wc'")["quantity"])
    found = answer(run, tables)
    assert any("all of whose correct samples were judged" in note for note in found["not_run"])
    assert any("No ablations" in note for note in found["not_run"])
    assert any("This study cannot tell apart" in sentence for sentence in found["why"])


def test_openai_solutions_give_the_published_accuracies(root, real_data, tmp_path):
    """Real data: each arm's pass@1 is the share of OpenAI's own `is_correct` to within one of 660 problems, and the
    difference with its interval is the paired one of the official labels."""
    from wcse_lib.plan import make_plan
    from wcse_lib.sample import generate
    from wcse_lib.study import Machine, load_study
    from wcse_lib.verify import verify

    run = make_plan(load_study("params/gsm8k_openai.yaml"), tmp_path)
    for arm in run.plan.arms:
        generate(run, arm, Machine())
        write_manifest(run.path("02", arm), run.plan_id, {})
        verify(run, arm, Machine())
    tables = analyze(run)
    lines = (real_data / "gsm8k_openai_model_solutions.jsonl").read_text().splitlines()
    labels = {}
    for arm, model in (("se", "175b_finetuning"), ("wc", "6b_finetuning")):
        labels[arm] = np.array([json.loads(line)[model]["is_correct"] for line in lines], float)
    quality = tables["quality"].set_index("arm")
    for arm, official in labels.items():
        assert quality.loc[arm, "n_samples"] == len(lines) == 660
        assert abs(quality.loc[arm, "n_correct"] - official.sum()) <= 1
    row = tables["arm_differences"].query("quantity == 'pass_at_1'").iloc[0]
    ones = np.ones(len(lines))
    want = intervals.paired_ratio_difference((labels["wc"], ones), (labels["se"], ones), seed=0)
    assert (row["value"], row["low"], row["high"]) == pytest.approx(tuple(want), abs=0.006)
    rates = tables["false_positives"].query("judge == 'arithmetic'").set_index("arm")
    assert (rates["n"] == quality["n_correct"]).all()
    assert (rates["value"] > 0.005).all()
    assert answer(run, tables)["paper"] == "GSM8K"


def test_fit_divides_means_over_tokens_by_problem(synthetic_study, tmp_path):
    """Two examples of one problem and one of another: means over tokens first, then over examples."""
    rows = pd.DataFrame(
        {
            "author": "wc",
            "problem_id": ["a", "a", "b"],
            "sample_index": [0, 1, 0],
            "n_tokens": [10, 5, 2],
            "log_likelihood": [-10.0, -10.0, -1.0],
            "rank": [20.0, 20.0, 2.0],
        }
    )
    folder = tmp_path / "synthetic"
    shutil.copytree(synthetic_study.folder, folder)
    for file in folder.glob("04_finetune/small.wc.high*/fit.parquet"):
        write_parquet(file, rows)
    sums = arms.read_fits(Run(folder))["small", "wc", "high"]
    assert sums.loc["a"].to_dict() == {
        "log_likelihood": -20.0,
        "n_tokens": 15.0,
        "mean_rank": 6.0,
        "mean_surprisal": 3.0,
        "gradient_share": 0.0,
        "n_gradients": 0.0,
    }
    ratio = sums["mean_rank"].sum() / sums["mean_surprisal"].sum()
    assert ratio == pytest.approx((2 + 4 + 1) / 3 / ((1 + 2 + 0.5) / 3))
