"""Room 03: every row accounted for by every recipe, judges of all kinds, code that is run, and memory that stays
flat."""

import json
import random
import subprocess
import sys
import textwrap
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from studies import verdict_rows, write_plan

from wcse_lib import plan as planning
from wcse_lib.answers import Checker
from wcse_lib.sample import cluster
from wcse_lib.sample import stage as generation
from wcse_lib.sample.engines import Output
from wcse_lib.store import (
    KEY,
    SampleWriter,
    StudyError,
    iter_samples,
    read_json,
    read_samples,
    write_parquet,
)
from wcse_lib.store import tables as store_tables
from wcse_lib.study import Machine, Run, Verification, check_study, write_yaml
from wcse_lib.verify import judges_of, labelling
from wcse_lib.verify import samples as pieces
from wcse_lib.verify import stage as verification

ROW = {
    "seed": 1,
    "n_prompt_tokens": 9,
    "n_tokens": 9,
    "finish_reason": "stop",
    "engine": "hf",
    "model": "m",
    "prompt_hash": "",
    "error": "",
    "usd": None,
}


def sample(author, problem, index, text, **more):
    return {
        "author": author,
        "problem_id": problem,
        "sample_index": index,
        "text": text,
        **ROW,
        **more,
    }


def make_run(folder, samples, problems, seed=0, **study):
    """A run folder as rooms 01 and 02 leave it: two arms (`se` with a third of the samples of `wc`)."""
    columns = {"question": "question", "answer": "answer"}
    data = {
        "study": "t",
        "seed": seed,
        "dataset": {"name": "files", "train": "x.jsonl", "columns": columns},
        "arms": {
            "se": {"model": "a", "n_parameters": 3.0},
            "wc": {"model": "b", "n_parameters": 1.0},
        },
        "budget": {"reference": "se", "samples": {"low": 1, "high": 2}},
        **study,
    }
    arms = {"se": {"samples": {"low": 1, "high": 2}}, "wc": {"samples": {"low": 3, "high": 6}}}
    plan = {
        "study": check_study(data, "test").model_dump(mode="json"),
        "arms": arms,
        "students": {},
        "plan_id": "p",
    }
    write_plan(folder, plan)
    frame = pd.DataFrame(problems, columns=["problem_id", "question", "answer", "tests"])
    write_parquet(folder / "01_plan" / "train.parquet", frame.assign(level="", solution=""))
    for author in {row["author"] for row in samples}:
        with SampleWriter(folder / "02_generate" / author, every_rows=7) as writer:
            for row in samples:
                if row["author"] == author:
                    writer.add(row)
    return Run(folder)


PROBLEMS = [(f"p{i:02d}", f"What is {i}+1?", str(i + 1), "") for i in range(12)]


def sums(n_per_problem=6, author="wc"):
    """Samples whose answer and whose sums are right or wrong independently; some cut off, failed, empty or repeated."""
    rng, rows = random.Random(5), []
    for i, (problem, *_) in enumerate(PROBLEMS):
        for j in range(n_per_problem):
            sound, right = rng.random() < 0.7, rng.random() < 0.6
            step = f"{i}+1={i + 1}" if sound else f"{i}+1={i + 3}"
            text = f"{rng.choice(['So', 'Thus', 'Now'])} {step}.\n#### {i + 1 if right else i + 7}"
            more = rng.choices(
                [
                    {},
                    {"finish_reason": "length"},
                    {"finish_reason": "error", "error": "E"},
                    {"text": "  "},
                ],
                [20, 1, 1, 1],
            )[0]
            rows.append(sample(author, problem, j, text) | more)
    rng.shuffle(rows)
    return rows


def verify(run, arm="wc"):
    verified = verification.verify(run, arm, Machine())
    folder = run.path("03", arm)
    tables = {p.stem: pd.read_parquet(p) for p in folder.glob("*.parquet")}
    verification.checks(run, arm, verified)
    return verified, tables


def test_pieces_are_the_whole(tmp_path):
    run = make_run(tmp_path, sums(), PROBLEMS)
    whole, pieces = (
        read_samples(run.path("02", "wc")),
        list(iter_samples(run.path("02", "wc"), n_rows=10)),
    )
    assert len(pieces) > 4 and all(len(p) < 17 for p in pieces)
    pd.testing.assert_frame_equal(pd.concat(pieces, ignore_index=True), whole)
    assert list(iter_samples(tmp_path / "nothing")) == []
    with SampleWriter(run.path("02", "wc")) as writer:
        writer.add(sums()[0])
    with pytest.raises(StudyError, match="twice"):
        list(iter_samples(run.path("02", "wc")))


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
        assert flow["samples", ""] == n * 12 and flow["examples", ""] == len(part)
        assert out["reason"].value_counts().to_dict() == flow["dropped"].to_dict()
    e = (
        t["examples"]
        .merge(t["verdicts"], on=KEY)
        .merge(t["judgements"][[*KEY, "sound"]], on=KEY, how="left")
    )
    at = {r: e[(e["recipe"] == r) & (e["budget"] == "high")] for r in ["main", *recipes]}
    assert set(t["examples"].query("recipe in ['same', 'five']")["budget"]) == {"high"}
    assert (at["main"]["verdict"] == "correct").all() and at["one"]["problem_id"].is_unique
    assert (
        at["same"]["sample_index"].max() == 1
        and at["few"]["sample_index"].max() == 1
        and at["few"]["problem_id"].nunique() <= 4
    )
    assert len(at["five"]) == 5 and len(at["eq"]) == len(at["main"])
    assert (at["noisy"]["verdict"] == "incorrect").mean() == pytest.approx(0.25, abs=0.03)
    assert (
        at["judged"]["sound"].all() and (at["judged"]["verdict"] == "incorrect").any()
    )  # no gold answer was looked at
    usable = [r for r in texts.values() if r["finish_reason"] == "stop" and r["text"].strip()]
    assert len(at["all"]) == len(usable)
    assert len(t["judgements"]) == 72 and set(t["judgements"]["judge"]) == {
        "arithmetic"
    }  # a filter needs all of them
    row = verified.false_positives.query("judge == 'arithmetic'").iloc[0]
    correct = (t["verdicts"]["verdict"] == "correct").sum()
    assert (
        row["n"] == correct < 72 and "lower bound" in row["reading"]
    )  # but only correct ones can be false positives


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
    assert (
        lenient["verdict"].tolist() == ["correct", "correct", "incorrect"]
        and strict["verdict"].tolist()[0] == "incorrect"
    )
    run = make_run(tmp_path / "c", [sample("wc", "other", 0, "#### 5")], PROBLEMS)
    with pytest.raises(StudyError, match="no sample of this plan's problems"):
        verification.verify(run, "wc", Machine())


class Judge:
    """An engine that says FLAWED where a sum is wrong, and forgets its last line now and then."""

    opened, asked = 0, []

    def __init__(self, engine, model, machine, adapter=None, spending=None):
        Judge.opened += 1
        Judge.machine, Judge.price_out, Judge.spent_before = (
            machine,
            spending.price_out,
            spending.spent_usd,
        )
        spending.settle(0.0, 0.5)

    def generate(self, requests, sampling):
        for i, request in enumerate(requests):
            Judge.asked.append(text := request.messages[-1]["content"])
            i = int(request.messages[-1]["content"].split("What is ")[1].split("+")[0])
            said = (
                "Judgement: " + ("SOUND" if f"{i}+1={i + 1}." in text else "FLAWED")
                if i != 3
                else "I wonder."
            )
            yield Output(request.key, f"Let me see.\n{said}", 100, 7, "stop", usd=0.01)

    def close(self):
        pass


@pytest.fixture
def fake(monkeypatch):
    Judge.opened, Judge.asked = 0, []
    monkeypatch.setattr(cluster, "open_engine", Judge)
    return Judge


MODEL = {"judge": "model", "model_judge": {"model": "big", "engine": "openai"}}


def test_a_model_judges_correct_samples_once_at_a_cost(tmp_path, fake):
    run = make_run(tmp_path, sums(), PROBLEMS, verification=MODEL)
    verified, t = verify(run)
    correct = t["verdicts"].query("verdict == 'correct'")
    assert len(t["judgements"]) == len(correct) and set(t["judgements"]["judge"]) == {"model"}
    assert (
        set(t["other_judgements"]["judge"]) == {"arithmetic"}
        and not t["judgements"].duplicated(KEY).any()
    )
    texts = correct.merge(read_samples(run.path("02", "wc")), on=KEY)
    assert (
        len(fake.asked) == texts["text"].nunique() < len(texts)
    )  # equal solutions are judged once
    assert all("which is right" in text for text in fake.asked)
    cost = read_json(run.path("03", "wc", "judge.json"))
    n = len(fake.asked)
    assert cost == {
        "model": "big",
        "n_samples": n,
        "n_tokens": 7 * n,
        "n_prompt_tokens": 100 * n,
        "n_parameters": None,
        "flops": None,
        "usd": pytest.approx(0.01 * n),
    }
    undecided = t["judgements"][t["judgements"]["sound"].isna()]
    assert (
        set(undecided["problem_id"]) == {"p03"}
        and undecided["reason"].str.contains("neither SOUND nor FLAWED, but ends: .*I wonder").all()
    )
    both = t["judgements"].merge(t["other_judgements"], on=KEY).dropna()
    assert len(both) > 20 and (both["sound_x"] == both["sound_y"]).all()
    assert verified.false_positives["judge"].tolist() == ["arithmetic", "model"]
    again, _ = verify(run)  # nothing new to ask
    assert fake.opened == 1 and len(fake.asked) == n
    pd.testing.assert_frame_equal(again.false_positives, verified.false_positives)


def test_without_gold_the_model_judges_everything_and_is_not_told(tmp_path, fake):
    run = make_run(
        tmp_path,
        sums(),
        PROBLEMS,
        verification=MODEL,
        curation={"filter": "judge", "unique": "none"},
    )
    verified, t = verify(run)
    usable = [r for r in sums() if r["finish_reason"] == "stop" and r["text"].strip()]
    assert len(t["judgements"]) == len(usable) and not any(
        "which is right" in text for text in fake.asked
    )
    high = (
        t["examples"]
        .query("budget == 'high'")
        .merge(t["judgements"], on=KEY)
        .merge(t["verdicts"], on=KEY)
    )
    assert (
        high["sound"].all()
        and len(high) == t["judgements"]["sound"].sum()
        and (high["verdict"] == "incorrect").any()
    )
    row = verified.false_positives.query("judge == 'model'").iloc[0]
    assert row["n"] + row["n_undecided"] == (t["verdicts"]["verdict"] == "correct").sum()


def test_a_judges_endpoint_is_called_as_the_machine_file_says(tmp_path, fake):
    """No key where none is to be sent, the price of the study's date, and one limit over all its runs."""
    prices = tmp_path / "prices.yaml"
    row = {"model": "big", "source": "a page"}
    write_yaml(
        prices,
        {
            "prices": [
                row | {"date": "2026-01", "output": 2.0, "input": 1.0},
                row | {"date": "2026-09", "output": 9.0, "input": 9.0},
            ]
        },
    )
    part = {"judge": "auto", "model_judge": {"model": "big", "engine": "openai", "n_per_arm": 5}}
    for n, spent in ((5, 0.0), (10, 0.5)):
        part["model_judge"]["n_per_arm"] = n
        budget = {
            "reference": "se",
            "samples": {"low": 1, "high": 2},
            "prices": str(prices),
            "price_date": "2026-03",
        }
        run = make_run(
            tmp_path, [] if spent else sums(), PROBLEMS, verification=part, budget=budget
        )
        verification.verify(
            run,
            "wc",
            Machine(api_key_variable=None, limit_usd=3.0, base_url="http://localhost:1/v1"),
        )
        assert fake.machine.api_key_variable is None and fake.machine.limit_usd == 3.0
        assert fake.price_out == 2.0 and fake.spent_before == spent


def test_n_per_arm_and_a_changed_judge(tmp_path, fake):
    part = {"judge": "auto", "model_judge": {"model": "big", "engine": "openai", "n_per_arm": 10}}
    run = make_run(tmp_path, sums(), PROBLEMS, verification=part)
    _, t = verify(run)
    assert set(t["judgements"]["judge"]) == {"arithmetic"} and len(t["other_judgements"]) == 10
    other = {**part, "model_judge": {**part["model_judge"], "model": "bigger"}}
    with pytest.raises(StudyError, match="big' there, 'bigger' asked for"):
        verify(make_run(tmp_path, [], PROBLEMS, verification=other))


def test_labels_enter_on_the_next_run_and_correct_the_model(tmp_path, fake):
    run = make_run(tmp_path, sums(), PROBLEMS, verification=MODEL)
    _, t = verify(run)
    box = verification.panel(run, "Ann", 8)
    key_box, view = box.children[3].children[4], box.children[2]
    for _ in range(8):
        i = int(view.value.split("What is ")[1].split("+")[0])
        key_box.value = "s" if f"{i}+1={i + 1}." in view.value else "f"
    given = labelling.load(run.path("03", "labels.jsonl"))
    assert len(given) == 8 and set(given["author"]) == {"wc"}
    verified, t = verify(run)
    human = (
        t["other_judgements"]
        .query("judge == 'human'")
        .merge(t["other_judgements"].query("judge == 'arithmetic'"), on=KEY)
    )
    assert len(human) == 8 and (human["sound_x"] == human["sound_y"]).all()
    judges = verified.false_positives.set_index("judge")
    assert (
        judges.loc["human", "n"] == 8
        and "flags" in judges.loc["model, corrected by human", "reading"]
    )
    mine = verify(make_run(tmp_path, [], PROBLEMS, verification={"judge": "human"}))[1]
    assert len(mine["judgements"]) == 8 and set(mine["judgements"]["judge"]) == {"human"}
    assert (
        set(
            verify(make_run(tmp_path, [], PROBLEMS, verification={"judge": "none"}))[1][
                "other_judgements"
            ]["judge"]
        )
        == set()
    )


def test_a_nano_model_makes_a_poor_judge_and_that_is_said(tmp_path, root):
    run = make_run(
        tmp_path,
        sums(2, "se"),
        PROBLEMS,
        verification={"judge": "model", "model_judge": {"model": "nano-se", "max_tokens": 12}},
    )
    verified, t = verify(run, "se")
    assert (
        len(t["judgements"]) > 5
        and t["judgements"]["sound"].isna().all()
        and t["judgements"]["reason"].str.contains("judge").all()
    )
    cost, n = read_json(run.path("03", "se", "judge.json")), len(t["judgements"])
    assert cost["n_parameters"] > 1e6 and cost["flops"] == 2.0 * cost["n_parameters"] * (
        cost["n_tokens"] + cost["n_prompt_tokens"]
    )
    assert (
        cost["n_prompt_tokens"] > 100 * cost["n_samples"]
        and 0 < cost["n_samples"] <= n
        and cost["usd"] is None
    )
    row = verified.false_positives.set_index("judge").loc["model"]
    assert row["n"] == 0 and row["n_undecided"] == n and "nothing decided" in row["reading"]


MBPP = [  # (question, tests, solutions that pass, solutions that fail)
    (
        "the larger of two numbers",
        ["assert big(1, 2) == 2", "assert big(5, -1) == 5"],
        ["def big(a, b): return max(a, b)"],
        ["def big(a, b): return a"],
    ),
    (
        "the sum of squares up to n",
        ["assert sq(3) == 14", "assert sq(0) == 0"],
        ["def sq(n):\n    return sum(i * i for i in range(n + 1))"],
        ["def sq(n): return n * n"],
    ),
    (
        "whether a word is a palindrome",
        ["assert pal('abba')", "assert not pal('ab')"],
        ["pal = lambda s: s == s[::-1]"],
        ["pal = lambda s: True"],
    ),
    (
        "the n-th Fibonacci number",
        ["assert fib(10) == 55"],
        ["def fib(n, a=0, b=1):\n    return fib(n - 1, b, a + b) if n else a"],
        ["def fib(n):\n    while True: pass"],
    ),
    (
        "a list without repeats, in order",
        ["assert uniq([3, 1, 3]) == [3, 1]"],
        ["def uniq(x): return list(dict.fromkeys(x))"],
        ["def uniq(x): return sorted(set(x))"],
    ),
    (
        "count the vowels",
        ["assert vowels('banana') == 3"],
        ["def vowels(s): return sum(c in 'aeiou' for c in s)"],
        ["import os; os._exit(0)"],
    ),
    (
        "the greatest common divisor",
        ["assert gcd(12, 18) == 6"],
        ["from math import gcd"],
        ["def gcd(a, b): return 1"],
    ),
    (
        "reverse the words",
        ["assert rev('a b c') == 'c b a'"],
        ["def rev(s): return ' '.join(s.split()[::-1])"],
        ["def rev(s): return s[::-1]]"],
    ),
    (
        "the median of an odd list",
        ["assert med([3, 1, 2]) == 2"],
        ["def med(x): return sorted(x)[len(x) // 2]"],
        ["def med(x): return x[1]"],
    ),
    (
        "flatten one level",
        ["assert flat([[1], [2, 3]]) == [1, 2, 3]"],
        ["def flat(x): return [b for a in x for b in a]"],
        ["import sys; sys.exit(0)"],
    ),
]


def test_code_through_the_first_three_rooms(tmp_path):
    problems, samples = tmp_path / "mbpp.jsonl", tmp_path / "samples.jsonl"
    rows = [
        {"task_id": i, "text": f"Write {q}.", "code": good[0], "test_list": t}
        for i, (q, t, good, _) in enumerate(MBPP)
    ]
    problems.write_text(
        "".join(
            json.dumps({**row, "test_list": "\n".join(row["test_list"])}) + "\n" for row in rows
        )
    )
    written = [
        {"id": i, "out": f"Here it is:\n```python\n{code}\n```\nDone."}
        for i, (_, _, good, bad) in enumerate(MBPP)
        for code in [*good, *bad, *bad]
    ]
    samples.write_text(
        "".join(json.dumps(row) + "\n" for row in written)
        + json.dumps({"id": 0, "out": " "})
        + "\n"
    )
    columns = {
        "question": "text",
        "answer": "code",
        "solution": "code",
        "problem_id": "task_id",
        "tests": "test_list",
    }
    study = {
        "study": "code",
        "dataset": {"name": "files", "train": str(problems), "columns": columns},
        "arms": {
            "se": {
                "model": "somebody",
                "engine": "import",
                "path": str(samples),
                "n_parameters": 1.0e9,
                "columns": {"text": "out", "problem_id": "id"},
            }
        },
        "budget": {"reference": "se", "samples": {"all": 3}, "match": "count"},
        "verification": {"by": "tests", "seconds": 2.0},
    }
    run = planning.make_plan(check_study(study, "code"), tmp_path / "out")
    generation.generate(run, "se", Machine())
    verified = verification.verify(run, "se", Machine(workers=2))
    rows = pd.read_parquet(run.path("03", "se", "verdicts.parquet")).set_index(
        ["problem_id", "sample_index"]
    )
    for i in range(len(MBPP)):
        assert rows.loc[(str(i), 0), "verdict"] == "correct", rows.loc[(str(i), 0)]
        assert (rows.loc[[(str(i), 1), (str(i), 2)], "verdict"] == "incorrect").all()
        assert rows.loc[(str(i), 1), "reason"] == rows.loc[(str(i), 2), "reason"]
    assert "limit" in rows.loc[("3", 1), "reason"] or "killed" in rows.loc[("3", 1), "reason"]
    assert (
        rows.loc[("0", 0), "extracted"] == MBPP[0][2][0] + "\n"
        and rows["verifier"].str.startswith("wcse-tests/1 (").all()
    )
    examples = pd.read_parquet(run.path("03", "se", "examples.parquet"))
    assert len(examples) == 10 and judges_of(run.study) == [] and verified.false_positives.empty


HUMANEVAL = (
    "import math\n\ndef helper(x):\n    return x + 1\n\n"
    'def area(r: float) -> float:\n    """The area of a circle."""\n'
)
CHECK = "METADATA = {}\n\n\ndef check(candidate):\n    assert abs(candidate(1) - 3.14159) < 1e-3\n"


@pytest.mark.parametrize("tests", [CHECK, CHECK + "\ncheck(area)\n"])
@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("    return math.pi * r * r\n", "correct"),  # a base model goes on
        (
            "```python\ndef area(r):\n    return math.pi * r ** 2\n```",
            "correct",
        ),  # a chat model writes it anew
        ("    return 3 * r\n", "incorrect"),
        ("```python\ndef area(r):\n    return 1\n```", "incorrect"),
        ("", "incorrect"),
    ],
)
def test_humaneval_style_problems(text, tests, verdict):
    problems = pd.DataFrame(
        [("h", HUMANEVAL, "", tests)], columns=["problem_id", "question", "answer", "tests"]
    )
    row = verdict_rows(
        pd.DataFrame([sample("a", "h", 0, text)]), problems, "auto", 1, Verification(by="tests")
    ).iloc[0]
    assert row["verdict"] == verdict, row["reason"]
    assert text or row["reason"] == "no code"


def test_scorers_run_in_a_process_that_can_be_killed(tmp_path, monkeypatch):
    (tmp_path / "my_scorer.py").write_text(
        textwrap.dedent("""
        import os
        def score(answer, entry):
            while entry == "loop": pass
            if entry == "die": os._exit(1)
            if entry == "raise": raise KeyError(answer)
            return answer == entry, f"score {answer == entry:g}"
    """)
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    from my_scorer import score

    with Checker(workers=2, limit_seconds=0.5, ask=score) as checker:
        golds = ["5", "6", "die", "5", "raise", "loop", "5"]
        got = [row[1:] for row in checker.check_many(["#### 5"] * 7, golds)]
    assert got[0] == got[3] == got[6] == ("correct", "score 1") and got[1] == (
        "incorrect",
        "score 0",
    )
    assert [v for v, _ in got[2:6:1] if v == "unverifiable"] == ["unverifiable"] * 3
    assert (
        got[2][1] == "undecided: score died"
        and got[4][1] == "undecided: KeyError in score"
        and got[5][1] == "timeout"
    )


def test_reasoning_gym_scores_its_own_answers():
    gym = pytest.importorskip("reasoning_gym")
    entries = list(gym.create_dataset("chain_sum", seed=1, size=3))
    tests = [json.dumps({"task": "chain_sum", "options": {}, "entry": entry}) for entry in entries]
    problems = pd.DataFrame(
        {"problem_id": ["a", "b", "c"], "question": "", "answer": "", "tests": tests}
    )
    texts = [f"<answer>{entries[0]['answer']}</answer>", "<answer>none</answer>", ""]
    rows = pd.DataFrame([sample("x", p, 0, text) for p, text in zip("abc", texts)])
    got = verdict_rows(rows, problems, "auto", 1, Verification(by="task"))
    assert got["verdict"].tolist() == ["correct", "incorrect", "incorrect"]


MEASURE = """
import sys, resource
sys.path.insert(0, {tests!r})
from pathlib import Path
from test_verification import big_run
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
        code = MEASURE.format(tests=str(Path(__file__).parent), folder=str(folder))
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        peak.append(int(done.stdout) / 1024)
    assert peak[1] <= 1.2 * peak[0], f"{peak} MB at 21,000 and 210,000 samples"
