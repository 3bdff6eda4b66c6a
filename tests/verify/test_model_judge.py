"""A model as judge: how it is asked and read, what it costs, and how people's labels correct it."""

import pandas as pd
import pytest
from small_study import PROBLEMS, make_run, sums, verify

from wcse_lib.sample import engines
from wcse_lib.sample.engines import Output
from wcse_lib.store import KEY, StudyError, read_json, read_samples
from wcse_lib.study import Machine, write_yaml
from wcse_lib.verify import labelling, model_judge
from wcse_lib.verify import stage as verification


def judgement_in(text):
    return model_judge.read_judgement(text, "stop")[0]


def test_rubric_and_reading():
    told, blind = model_judge.rubric(), model_judge.rubric(gold_known=False)
    assert told.count("{question}") == blind.count("{question}") == 1
    assert "{" not in told.replace("{question}", "")
    assert "which is right" in told
    assert "right" not in blind.split("Rubric")[0].replace("right or wrong", "")
    case = model_judge.case(" What is {solution}?\n", "It is {question}: $\\frac{1}{2}$ ")
    assert case == "Problem:\nWhat is {solution}?\n\nSolution:\nIt is {question}: $\\frac{1}{2}$"
    assert judgement_in("Step 1 follows.\nJudgement: SOUND") is True
    assert judgement_in("**Judgment: flawed.**") is False
    assert judgement_in("Judgement: SOUND\nNo, wait.\nJudgement: FLAWED") is False
    assert judgement_in("Judgement: SOUND or FLAWED") is None
    assert judgement_in("It looks sound to me") is None
    assert judgement_in(told) is None
    assert model_judge.read_judgement("Judgement: FLAWED", "stop") == (
        False,
        "the judge said FLAWED",
    )
    assert model_judge.read_judgement("Judgement: SOUND", "length") == (
        None,
        "the judge was cut off at max_tokens",
    )
    assert model_judge.read_judgement("", "error", "HTTP 500") == (
        None,
        "the judge failed: HTTP 500",
    )
    assert model_judge.read_judgement("I see\nno flaw.", "stop")[1].endswith(
        "neither SOUND nor FLAWED, but ends: I see no flaw."
    )


class Judge:
    """An engine that says FLAWED where a sum is wrong, and forgets its last line now and then."""

    opened, asked = 0, []

    def __init__(self, engine, model, machine, adapters=(), spending=None):
        Judge.opened += 1
        Judge.machine, Judge.price_out = machine, spending.price_out
        Judge.spent_before = spending.spent_usd
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
    monkeypatch.setattr(engines, "open_engine", Judge)
    return Judge


MODEL = {"judge": "model", "model_judge": {"model": "big", "engine": "openai"}}


def test_a_model_judges_correct_samples_once_at_a_cost(tmp_path, fake):
    run = make_run(tmp_path, sums(), PROBLEMS, verification=MODEL)
    verified, t = verify(run)
    correct = t["verdicts"].query("verdict == 'correct'")
    assert len(t["judgements"]) == len(correct)
    assert set(t["judgements"]["judge"]) == {"model"}
    assert set(t["other_judgements"]["judge"]) == {"arithmetic"}
    assert not t["judgements"].duplicated(KEY).any()
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
    assert set(undecided["problem_id"]) == {"p03"}
    assert undecided["reason"].str.contains("neither SOUND nor FLAWED, but ends: .*I wonder").all()
    both = t["judgements"].merge(t["other_judgements"], on=KEY).dropna()
    assert len(both) > 20
    assert (both["sound_x"] == both["sound_y"]).all()
    assert verified.false_positives["judge"].tolist() == ["arithmetic", "model"]
    again, _ = verify(run)  # nothing new to ask
    assert fake.opened == 1
    assert len(fake.asked) == n
    pd.testing.assert_frame_equal(again.false_positives, verified.false_positives)


def test_what_the_model_said_last_stands_on_the_judged_rows(tmp_path, fake):
    _, t = verify(make_run(tmp_path, sums(), PROBLEMS, verification=MODEL))
    own = t["judged"][t["judged"]["judge"].notna()].reset_index(drop=True)
    by_model = t["judgements"].sort_values(KEY, ignore_index=True)
    assert own[KEY].equals(by_model[KEY])
    assert set(own["judge"]) == {"model"}
    assert own["sound"].equals(by_model["sound"])
    assert (own["is_judged"] == own["sound"].notna()).all()


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
    assert len(t["judgements"]) == len(usable)
    assert not any("which is right" in text for text in fake.asked)
    high = (
        t["examples"]
        .query("budget == 'high'")
        .merge(t["judgements"], on=KEY)
        .merge(t["verdicts"], on=KEY)
    )
    assert high["sound"].all()
    assert len(high) == t["judgements"]["sound"].sum()
    assert (high["verdict"] == "incorrect").any()
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
        assert fake.machine.api_key_variable is None
        assert fake.machine.limit_usd == 3.0
        assert fake.price_out == 2.0
        assert fake.spent_before == spent


def test_n_per_arm_and_a_changed_judge(tmp_path, fake):
    part = {"judge": "auto", "model_judge": {"model": "big", "engine": "openai", "n_per_arm": 10}}
    run = make_run(tmp_path, sums(), PROBLEMS, verification=part)
    _, t = verify(run)
    assert set(t["judgements"]["judge"]) == {"arithmetic"}
    assert len(t["other_judgements"]) == 10
    other = {**part, "model_judge": {**part["model_judge"], "model": "bigger"}}
    with pytest.raises(StudyError, match="big' there, 'bigger' now"):
        verify(make_run(tmp_path, [], PROBLEMS, verification=other))


@pytest.mark.parametrize(
    ("text", "finish_reason", "kind"), [("", "stop", "empty"), ("", "error", "failed")]
)
def test_a_judge_that_says_nothing_stops_03_with_the_share(
    tmp_path, fake, monkeypatch, text, finish_reason, kind
):
    def say_nothing(self, requests, decoding):
        for request in requests:
            yield Output(request.key, text, 9, 0, finish_reason, "HTTP 500: down")

    monkeypatch.setattr(fake, "generate", say_nothing)
    run = make_run(tmp_path, sums(), PROBLEMS, verification=MODEL)
    with pytest.raises(StudyError, match=rf"judge: (\d+) of \1 samples \(100%\) are lost.* {kind}"):
        verify(run)


def test_a_filtered_judgement_is_undecided_and_not_paid_again(tmp_path, fake, monkeypatch):
    good = fake.generate

    def refuse_first(self, requests, decoding):
        first, *others = requests
        yield Output(first.key, "", 9, 2, "error", "the model refused: no", is_kept=True)
        yield from good(self, others, decoding)

    monkeypatch.setattr(fake, "generate", refuse_first)
    run = make_run(tmp_path, sums(), PROBLEMS, verification=MODEL)
    _, t = verify(run)
    reasons = t["judgements"].loc[t["judgements"]["sound"].isna(), "reason"]
    assert "the judge failed: the model refused: no" in set(reasons)
    verify(run)
    assert fake.opened == 1


def test_labels_enter_on_the_next_run_and_correct_the_model(tmp_path, fake):
    run = make_run(tmp_path, sums(), PROBLEMS, verification=MODEL)
    _, t = verify(run)
    box = verification.panel(run, "Ann", 8)
    key_box, view = box.children[3].children[4], box.children[2]
    for _ in range(8):
        i = int(view.value.split("What is ")[1].split("+")[0])
        key_box.value = "s" if f"{i}+1={i + 1}." in view.value else "f"
    given = labelling.load(run.path("03", "labels.jsonl"))
    assert len(given) == 8
    assert set(given["author"]) == {"wc"}
    verified, t = verify(run)
    human = (
        t["other_judgements"]
        .query("judge == 'human'")
        .merge(t["other_judgements"].query("judge == 'arithmetic'"), on=KEY)
    )
    assert len(human) == 8
    assert (human["sound_x"] == human["sound_y"]).all()
    judges = verified.false_positives.set_index(["judge", "corrected_by"])
    assert judges.loc[("human", ""), "n"] == 8
    assert "flags" in judges.loc[("model", "human"), "reading"]
    mine = verify(make_run(tmp_path, [], PROBLEMS, verification={"judge": "human"}))[1]
    assert len(mine["judgements"]) == 8
    assert set(mine["judgements"]["judge"]) == {"human"}
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
    assert len(t["judgements"]) > 5
    assert t["judgements"]["sound"].isna().all()
    assert t["judgements"]["reason"].str.contains("judge").all()
    cost, n = read_json(run.path("03", "se", "judge.json")), len(t["judgements"])
    assert cost["n_parameters"] > 1e6
    assert cost["flops"] == 2.0 * cost["n_parameters"] * (
        cost["n_tokens"] + cost["n_prompt_tokens"]
    )
    assert cost["n_prompt_tokens"] > 100 * cost["n_samples"]
    assert 0 < cost["n_samples"] <= n
    assert cost["usd"] is None
    row = verified.false_positives.set_index("judge").loc["model"]
    assert row["n"] == 0
    assert row["n_undecided"] == n
    assert "nothing decided" in row["reading"]
