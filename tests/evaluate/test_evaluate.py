"""Room 05: results by set of held-out problems."""

import pandas as pd
import pytest
from studies import lay_examples

from wcse_lib import intervals
from wcse_lib.evaluate import stage as evaluation
from wcse_lib.store import KEY, read_parquet, write_manifest, write_parquet
from wcse_lib.study import Machine


def test_results_by_set(tmp_path):
    run = lay_examples(tmp_path)
    problems = read_parquet(run.path("01", "held_out.parquet"))
    problems["set"] = ["held_out"] * 8 + ["other"] * 4
    write_parquet(run.path("01", "held_out.parquet"), problems)
    ids, folder = problems["problem_id"], run.path("05", "small.base")
    greedy = pd.DataFrame({"author": "s", "problem_id": ids, "sample_index": 0, "extracted": "1"})
    greedy["verdict"] = ["correct"] * 3 + ["incorrect"] * 5 + ["correct"] * 4
    sampled = pd.concat([greedy.assign(sample_index=i) for i in (0, 1)])
    sampled.loc[sampled["sample_index"] == 1, ["verdict", "extracted"]] = ["incorrect", None]
    right = sampled[sampled["verdict"] == "correct"]
    for name, frame in (("verdicts-greedy", greedy), ("verdicts-sampled", sampled)):
        write_parquet(folder / f"{name}.parquet", frame)
    judged = right[KEY].assign(
        sound=pd.array([False] + [True] * 6, "boolean"), judge="exact", reason=""
    )
    write_parquet(folder / "judgements-sampled.parquet", judged)
    write_manifest(folder, run.plan_id, {})
    table = evaluation.evaluate(run, ["small.base"], Machine()).set_index(["set", "metric"])
    assert table.loc[("held_out", "greedy pass@1"), ["n", "value"]].tolist() == [8, 3 / 8]
    assert table.loc[("held_out", "greedy pass@1"), "low"] == pytest.approx(
        intervals.wilson(3, 8).low
    )
    assert (
        table.loc[("other", "greedy pass@1"), "value"] == 1
        and table.loc[("other", "sampled pass@1"), "value"] == 0.5
    )
    assert table.loc[("held_out", "false-positive rate"), ["n", "value"]].tolist() == [3, 1 / 3]
    assert (
        table.loc[("held_out", "false-positive rate"), "low"]
        == intervals.ratio([1, 0, 0], [1, 1, 1], seed=run.study.seed).low
    )
    assert table.loc[("held_out", "maj@2"), "value"] == 3 / 8  # unread answers do not vote
    assert (
        "37.5"
        in evaluation.shown(table.reset_index()).loc[("held_out", "small.base"), "greedy pass@1"]
    )
    assert evaluation.checks(run, ["small.base"], table.reset_index())["n_samples"] == 36
    write_parquet(folder / "verdicts-sampled.parquet", sampled.head(20))
    with pytest.raises(AssertionError, match="missing"):
        evaluation.checks(run, ["small.base"], table.reset_index())
