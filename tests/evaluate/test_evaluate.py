"""Room 05: verdicts of samples in pieces, results by set of held-out problems, a look at rows."""

import numpy as np
import pandas as pd
import pytest
from studies import lay_examples, sample_row

from wcse_lib import intervals
from wcse_lib.evaluate import stage as evaluation
from wcse_lib.store import (
    KEY,
    SampleWriter,
    iter_samples,
    read_parquet,
    write_manifest,
    write_parquet,
)
from wcse_lib.study import Machine
from wcse_lib.verdicts import verifier

BASE = "small.base"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Held-out problems of two sets: 8 and 4."""
    run = lay_examples(tmp_path_factory.mktemp("made"))
    path = run.path("01", "held_out.parquet")
    write_parquet(path, read_parquet(path).assign(set=["held_out"] * 8 + ["other"] * 4))
    return run


@pytest.fixture(scope="module")
def results(run):
    """Of a base that greedily solves 3 of 8 and 4 of 4; of its two samples the first is as good, the second has no
    answer. One of the correct samples is unsound."""
    problems, folder = read_parquet(run.path("01", "held_out.parquet")), run.path("05", BASE)
    keys = pd.DataFrame({"author": "s", "problem_id": problems["problem_id"], "sample_index": 0})
    greedy = keys.assign(extracted="1", reason="")
    greedy["verdict"] = ["correct"] * 3 + ["incorrect"] * 5 + ["correct"] * 4
    second = keys.assign(sample_index=1, extracted=None, reason="", verdict="incorrect")
    correct = greedy.loc[greedy["verdict"] == "correct", KEY]
    sound = pd.array([False] + [True] * 6, "boolean")
    judged = correct.assign(sound=sound, judge="exact", reason="")
    write_parquet(folder / "verdicts-greedy.parquet", greedy)
    write_parquet(folder / "verdicts-sampled.parquet", pd.concat([greedy, second]))
    write_parquet(folder / "judgements-sampled.parquet", judged)
    write_manifest(folder, run.plan_id, {})
    return evaluation.evaluate(run, [BASE], Machine())


def test_students_stop_where_arms_do(tmp_path):
    """Else a base that goes on after its answer scores 0, and any training beats it by stopping."""
    shots = tmp_path / "mine.txt"
    shots.write_text("Ask: 1+1\nSay: 2\n\nAsk: {question}\nSay:")
    prompt = {"style": "plain", "shots": str(shots)}
    made = lay_examples(tmp_path / "out", sampling={"stop": ["\n\n", "###"]}, prompt=prompt)
    stops = {decoding.stop for _, decoding in evaluation.decodings(made).values()}
    assert stops == {("\nAsk:", "\n\n", "###")}


@pytest.mark.parametrize(
    "set_name, metric, decoding, n, value",
    [
        ("held_out", "pass@k", "greedy", 8, 3 / 8),
        ("held_out", "pass@k", "sampled", 8, 3 / 16),
        ("held_out", "maj@k", "sampled", 8, 3 / 8),  # samples without an answer do not vote
        ("held_out", "false_positive_rate", "sampled", 3, 1 / 3),
        ("other", "pass@k", "greedy", 4, 1.0),
        ("other", "pass@k", "sampled", 4, 0.5),
    ],
)
def test_results_by_set(results, set_name, metric, decoding, n, value):
    table = results.set_index(["set", "metric", "decoding"])
    row = table.loc[(set_name, metric, decoding)]
    assert (row.n, row.value, row.unit, row.student) == (n, value, "%", BASE)


def test_k_is_a_column(results):
    assert results["k"].tolist() == [1, 1, 2, pd.NA] * 2


def test_intervals_are_over_problems(run, results):
    table = results[results["set"] == "held_out"].set_index(["metric", "decoding"])
    seed = run.study.seed
    assert table.loc[("pass@k", "greedy"), "low"] == pytest.approx(intervals.wilson(3, 8).low)
    sampled = intervals.bootstrap([0.5] * 3 + [0.0] * 5, seed=seed)
    assert table.loc[("pass@k", "sampled"), "high"] == sampled.high
    unsound = intervals.ratio([1, 0, 0], [1, 1, 1], seed=seed)
    assert table.loc[("false_positive_rate", "sampled"), "low"] == unsound.low


def test_results_in_words(results):
    cells = evaluation.shown(results)
    assert list(cells) == ["greedy pass@1", "sampled pass@1", "maj@2", "false-positive rate"]
    assert cells.index.tolist() == [("held_out", BASE), ("other", BASE)]
    assert cells.loc[("held_out", BASE), "greedy pass@1"].startswith("37.5 [")
    assert cells.loc[("held_out", BASE), "greedy pass@1"].endswith("], n = 8")


def test_checks_count_the_samples(run, results):
    assert evaluation.checks(run, [BASE], results)["n_samples"] == 36


@pytest.mark.parametrize("fault, reason", [("lost", "missing"), ("twice", "stand there twice")])
def test_lost_or_repeated_samples_are_an_error(run, results, fault, reason):
    path = run.path("05", BASE, "verdicts-sampled.parquet")
    table = read_parquet(path)
    order = np.arange(len(table) - 1)
    write_parquet(path, table.iloc[order if fault == "lost" else np.r_[order, 0]])
    with pytest.raises(AssertionError, match=reason):
        evaluation.checks(run, [BASE], results)
    write_parquet(path, table)


# ---- verdicts of samples


@pytest.fixture(scope="module")
def drawn(run):
    """Four samples of each held-out problem, of which the study asks for two; in each second text is a thought."""
    problems = read_parquet(run.path("01", "held_out.parquet"))
    with SampleWriter(run.path("05", "wc.base", "sampled")) as writer:
        for problem in problems.itertuples():
            texts = [
                f"total is 1+1=2\n#### {problem.answer}",
                "<think>so</think>#### 999",
                "x",
                "x",
            ]
            for i, text in enumerate(texts):
                key = {"author": "wc.base", "problem_id": problem.problem_id}
                writer.add(sample_row(i, **key, text=text))
    style = run.study.prompt.answer_style
    with verifier(style, 1, run.study.verification) as check:
        facts = evaluation.verify_samples(run, "wc.base", "sampled", check)
    return facts


def test_samples_that_the_study_asks_for_are_verified(run, drawn):
    verdicts = read_parquet(run.path("05", "wc.base", "verdicts-sampled.parquet"))
    assert drawn == {"n_samples": 24, "n_tokens": 48, "n_prompt_tokens": 24}
    assert verdicts["sample_index"].tolist() == [0, 1] * 12
    assert verdicts["verdict"].tolist() == ["correct", "incorrect"] * 12
    assert verdicts["extracted"].tolist()[1::2] == ["999"] * 12


def test_pieces_change_no_verdict(run, drawn, monkeypatch):
    files = ["verdicts-sampled.parquet", "judgements-sampled.parquet"]
    before = [read_parquet(run.path("05", "wc.base", name)) for name in files]
    few = lambda folder, columns: iter_samples(folder, columns, n_rows=5)  # noqa: E731
    monkeypatch.setattr(evaluation, "iter_samples", few)
    with verifier(run.study.prompt.answer_style, 1, run.study.verification) as check:
        assert evaluation.verify_samples(run, "wc.base", "sampled", check) == drawn
    for name, table in zip(files, before):
        pd.testing.assert_frame_equal(read_parquet(run.path("05", "wc.base", name)), table)


def test_three_rows_tell_of_their_samples(run, drawn):
    text = evaluation.three_rows(run, "wc.base")
    assert text.count("--- ") == 2
    assert "correct answer, unsound reasoning" in text
    assert "<think>so</think>#### 999" in text
