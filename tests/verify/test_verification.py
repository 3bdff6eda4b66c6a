"""Room 03: rows accounted for by every recipe, judged rows that say what all files say, memory that stays flat."""

import random
import subprocess
import sys
from functools import partial

import pandas as pd
import pytest
from small_study import PROBLEMS, make_run, sample, sums, verify
from studies import write_plan

from wcse_lib.metrics import SAMENESS
from wcse_lib.store import (
    KEY,
    SampleWriter,
    StudyError,
    iter_samples,
    read_json,
    read_parquet,
    read_samples,
    write_json,
)
from wcse_lib.store import tables as store_tables
from wcse_lib.study import Machine, Run, rank
from wcse_lib.verdicts import JUDGED
from wcse_lib.verify import samples as pieces
from wcse_lib.verify import stage as verification


def test_pieces_are_the_whole(tmp_path):
    run = make_run(tmp_path, sums(), PROBLEMS)
    whole, pieces = (
        read_samples(run.path("02", "wc")),
        list(iter_samples(run.path("02", "wc"), n_rows=10)),
    )
    assert len(pieces) > 4
    assert all(len(p) < 17 for p in pieces)
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), whole)
    assert list(iter_samples(tmp_path / "nothing")) == []
    with SampleWriter(run.path("02", "wc")) as writer:
        writer.add(sums()[0])
    with pytest.raises(StudyError, match="twice"):
        list(iter_samples(run.path("02", "wc")))


def test_the_bar_of_03_ends_at_the_samples_that_there_are(tmp_path, capsys):
    """A file may hold more samples of a problem than the plan uses, or fewer, and samples of other problems."""
    more = [sample("se", PROBLEMS[0][0], index, "#### 1") for index in range(9)]
    stranger = [sample("se", "of-no-problem", 0, "#### 1")]
    run = make_run(
        tmp_path, [*more, *stranger, sample("wc", PROBLEMS[0][0], 0, "#### 1")], PROBLEMS
    )
    for arm, n in {"se": 9, "wc": 1}.items():
        assert pieces.count_planned_samples(run, arm) == n
        verification.verify(run, arm, Machine(checkers=1))
        assert f"{n}/{n}" in capsys.readouterr().out


def test_judged_rows_say_what_all_files_say(tmp_path):
    """One row for every sample, by key, with the verdict, the own judge's judgement and the numbers of its text."""
    _, t = verify(make_run(tmp_path, sums(), PROBLEMS))
    judged = t["judged"]
    assert list(judged) == list(JUDGED)
    assert judged[KEY].equals(t["verdicts"][KEY])
    for column in ("verdict", "extracted", "reason"):
        assert judged[column].equals(t["verdicts"][column]), column

    own = judged[judged["judge"].notna()].reset_index(drop=True)
    assert own[KEY].equals(t["judgements"][KEY])
    assert own["sound"].equals(t["judgements"]["sound"])
    assert own["judge_reason"].equals(t["judgements"]["reason"])
    assert (
        judged["is_judged"] == judged["judge"].notna()
    ).all()  # arithmetic finds no fault where it has no equation

    samples = read_samples(tmp_path / "02_generate" / "wc")
    assert judged["finish_reason"].equals(samples["finish_reason"])
    assert judged["is_blank"].tolist() == (samples["text"].str.strip() == "").tolist()
    assert judged["rank"].tolist() == [
        rank(0, *key) for key in samples[KEY].itertuples(index=False)
    ]
    for name, key in SAMENESS.items():
        numbers = judged.groupby(samples["text"].map(key))[f"same_{name}"].nunique()
        assert (numbers == 1).all(), name
        assert judged[f"same_{name}"].nunique() == len(numbers), name


@pytest.mark.parametrize("n_rows", [20_000, 13])
def test_every_recipe_accounts_for_every_row(tmp_path, monkeypatch, n_rows):
    monkeypatch.setattr(pieces, "iter_samples", partial(iter_samples, n_rows=n_rows))
    monkeypatch.setattr(store_tables, "PIECE", n_rows)
    recipes = {
        "one": {"per_problem": 1, "unique": "equations"},
        "same": {"n_samples": "reference", "budgets": ["high"]},
        "few": {"n_problems": 4, "n_samples": 2},
        "judged": {"filter": "judge"},
        "noisy": {"noise": 0.25, "unique": "none"},
        "all": {"filter": "none", "unique": "none"},
        "five": {"n_examples": 5, "budgets": ["high"]},
        "eq": {"n_examples": "equal"},
    }
    verified, t = verify(make_run(tmp_path, sums(), PROBLEMS, recipes=recipes))
    texts = {(r["problem_id"], r["sample_index"]): r for r in sums()}
    for (budget, recipe), part in t["examples"].groupby(["budget", "recipe"]):  # noqa: B007 (used in queries)
        out = t["dropped"].query("budget == @budget and recipe == @recipe")
        n = {"low": 3, "high": 6}[budget]
        assert sorted([*part[KEY].values.tolist(), *out[KEY].values.tolist()]) == sorted(
            ["wc", p, i] for p, *_ in PROBLEMS for i in range(n)
        )
        assert all(
            row.text == texts[row.problem_id, row.sample_index]["text"] for row in part.itertuples()
        )
        flow = verified.flow.query("budget == @budget and recipe == @recipe").set_index(
            ["step", "reason"]
        )["n"]
        assert flow["samples", ""] == n * 12
        assert flow["examples", ""] == len(part)
        assert out["reason"].value_counts().to_dict() == flow["dropped"].to_dict()
    e = (
        t["examples"]
        .merge(t["verdicts"], on=KEY)
        .merge(t["judgements"][[*KEY, "sound"]], on=KEY, how="left")
    )
    at = {r: e[(e["recipe"] == r) & (e["budget"] == "high")] for r in ["main", *recipes]}
    assert set(t["examples"].query("recipe in ['same', 'five']")["budget"]) == {"high"}
    assert (at["main"]["verdict"] == "correct").all()
    assert at["one"]["problem_id"].is_unique
    assert at["same"]["sample_index"].max() == 1
    assert at["few"]["sample_index"].max() == 1
    assert at["few"]["problem_id"].nunique() <= 4
    assert len(at["five"]) == 5
    assert len(at["eq"]) == len(at["main"])
    assert (at["noisy"]["verdict"] == "incorrect").mean() == pytest.approx(0.25, abs=0.03)
    # no gold answer was looked at
    assert at["judged"]["sound"].all()
    assert (at["judged"]["verdict"] == "incorrect").any()
    usable = [r for r in texts.values() if r["finish_reason"] == "stop" and r["text"].strip()]
    assert len(at["all"]) == len(usable)
    # a filter needs all of them
    assert len(t["judgements"]) == 72
    assert set(t["judgements"]["judge"]) == {"arithmetic"}
    row = verified.false_positives.query("judge == 'arithmetic'").iloc[0]
    correct = (t["verdicts"]["verdict"] == "correct").sum()
    # but only correct ones can be false positives
    assert row["n"] == correct < 72
    assert "lower bound" in row["reading"]


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (
            {"recipes": {"rough": {"noise": 0.9}}},
            r"recipes\.rough: wc at budget \w+: \d+ wrong examples are needed",
        ),
        (
            {"curation": {"n_examples": 1000}},
            r"curation: wc at budget low: 1000 right examples are needed",
        ),
    ],
)
def test_a_recipe_that_cannot_be_followed_says_so(tmp_path, study, said):
    right = [row for row in sums() if row["text"].strip()]
    for row in right[5:]:  # hardly a wrong one
        i = int(row["problem_id"][1:])
        row["text"] = f"{row['sample_index']}: {i}+1={i + 1}\n#### {i + 1}"
    with pytest.raises(StudyError, match=said):
        verify(make_run(tmp_path, right, PROBLEMS, **study))


@pytest.mark.parametrize(
    ("study", "said"),
    [
        (
            {"verification": {"policy": {"unit": "strict"}}},
            "policy.unit: no such policy; policies are units, percent, decimal_comma",
        ),
        (
            {"verification": {"policy": {"units": "loose"}}},
            "Policy.units is 'loose'; choose one of",
        ),
        ({"verification": {"policy": {"decimal_comma": 1}}}, "Policy.decimal_comma is 1"),
        ({"verification": {"policy": {"rounded_digits": True}}}, "Policy.rounded_digits is True"),
        (
            {"verification": {"judge": "none", "model_judge": {"model": "m"}}},
            "model_judge: of no use",
        ),
        ({"recipes": {"x": {"filter": "none", "noise": 0.1}}}, "noise: needs filter"),
    ],
)
def test_a_study_that_makes_no_sense_is_refused(tmp_path, study, said):
    with pytest.raises(StudyError, match=said):
        make_run(tmp_path, [], PROBLEMS, **study)


def test_a_thought_that_never_ends_is_no_answer_and_nothing_to_learn(tmp_path):
    texts = [
        "Suppose it were \\boxed{1}, which I doubt. Let me",  # in the thought that the template opened
        "Suppose it were \\boxed{7}. No.</think>\n#### 1",
        "<think>Suppose so.</think>\n#### 1",
        "[THINK]It is \\boxed{1}",
    ]
    samples = [sample("se", "p00", i, text, model="a") for i, text in enumerate(texts)]
    run = make_run(tmp_path, samples, PROBLEMS[:1], curation={"unique": "none"})
    write_json(
        run.path("01", "plan.json"),
        read_json(run.path("01", "plan.json")) | {"opens_thought": {"arms.se": "<think>"}},
    )
    verification.verify(Run(tmp_path), "se", Machine())
    verdicts = read_parquet(run.path("03", "se", "verdicts.parquet"))
    assert verdicts["verdict"].tolist() == ["incorrect", "correct", "correct", "incorrect"]
    assert verdicts["reason"].tolist()[::3] == ["its thought never ends"] * 2
    dropped = read_parquet(run.path("03", "se", "dropped.parquet"))
    assert dropped.loc[dropped["sample_index"] == 0, "reason"].iloc[-1] == "its thought never ends"
    examples = read_parquet(run.path("03", "se", "examples.parquet"))
    assert set(examples["text"]) == {"#### 1"}


def test_policy_and_missing_samples(tmp_path):
    rows = [
        sample("wc", "p04", 0, "#### 5 cm"),
        sample("wc", "p05", 0, "#### 6"),
        sample("wc", "p06", 0, "no idea"),
    ]
    lenient = verify(make_run(tmp_path / "a", rows, PROBLEMS))[1]["verdicts"]
    strict = verify(
        make_run(tmp_path / "b", rows, PROBLEMS, verification={"policy": {"units": "strict"}})
    )[1]["verdicts"]
    assert lenient["verdict"].tolist() == ["correct", "correct", "incorrect"]
    assert strict["verdict"].tolist()[0] == "incorrect"
    run = make_run(tmp_path / "c", [sample("wc", "other", 0, "#### 5")], PROBLEMS)
    with pytest.raises(StudyError, match="no sample of this plan's problems"):
        verification.verify(run, "wc", Machine())


MEASURE = """
import resource
from pathlib import Path
from wcse_lib.verify import stage as verification
from wcse_lib.study import Machine, Run
verification.verify(Run(Path({folder!r})), "wc", Machine())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def big_run(folder, n_problems, n_words=30):
    """Thirty samples of each problem, of about 600 characters each, in parts of the usual size."""
    problems = [(f"p{i:06d}", f"What is {i}+1?", str(i + 1), "") for i in range(n_problems)]
    run = make_run(
        folder, [], problems, budget={"reference": "se", "samples": {"low": 10, "high": 10}}
    )
    rng = random.Random(0)
    with SampleWriter(run.path("02", "wc"), every_seconds=1e9) as writer:
        for i, (problem, *_) in enumerate(problems):
            for j in range(30):
                filler = " ".join(str(rng.random()) for _ in range(n_words))
                writer.add(
                    sample(
                        "wc",
                        problem,
                        j,
                        f"{filler}\n{i}+1={i + 1}\n#### {i + 1 if rng.random() < 0.5 else 0}",
                    )
                )
    plan = read_json(folder / "01_plan" / "plan.json")
    plan["arms"]["wc"]["samples"] = {"low": 10, "high": 30}
    write_plan(folder, plan)


@pytest.mark.slow
@pytest.mark.parametrize("n_words", [2, 30])
def test_memory_does_not_grow_with_the_samples(tmp_path, n_words):
    peak = []
    for n in (700, 7_000):
        big_run(folder := tmp_path / str(n), n, n_words)
        code = MEASURE.format(folder=str(folder))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        peak.append(int(done.stdout) / 1024)
    assert peak[1] <= 1.2 * peak[0], f"{peak} MB at 21,000 and 210,000 samples"
