"""Two files of samples compared: the numbers of the study that they stand for, and files as people have them."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from bs4 import BeautifulSoup
from files_of_samples import N_PROBLEMS, compared, rows_of, write

from wcse_lib import analyze, pipeline, plan, report
from wcse_lib.cli import main
from wcse_lib.start import Prices, Question, compare_files
from wcse_lib.start.comparison import _names
from wcse_lib.store import StudyError, read_json
from wcse_lib.study import check_study, load_study, read_yaml


@pytest.fixture(scope="module")
def equal_numbers(tmp_path_factory):
    """Four samples of each problem in one file, two of them right, against three samples, one of them right."""
    return compared(tmp_path_factory.mktemp("equal"), rows_of(4, 2), rows_of(3, 1))


@pytest.fixture(scope="module")
def equal_cost(tmp_path_factory):
    """A sample of b costs a third of one of a."""
    folder = tmp_path_factory.mktemp("cost")
    prices = Prices(per_sample=(0.003, 0.001))
    return compared(folder, rows_of(2, 1), rows_of(4, 2), prices=prices)


def value(run, quantity: str, arm: str) -> float:
    rows = analyze.read_tables(run.path("06", "tables"))["explanation"]
    return float(rows.query("quantity == @quantity and arm == @arm")["value"].iloc[0])


def test_equal_numbers_are_compared(equal_numbers):
    run = equal_numbers.run
    assert [arm.samples for arm in run.plan.arms.values()] == [{"equal_count": 3}] * 2
    # every third problem has one right sample fewer: of b none
    assert value(run, "coverage", "a") == 1
    assert value(run, "coverage", "b") == pytest.approx(2 / 3)
    assert value(run, "pass_at_1", "a") == pytest.approx((1 + 2 + 2) / 9)


def test_equal_cost_is_compared(equal_cost):
    study = equal_cost.run.study
    assert study.budget.match == "price"
    assert [arm.samples["equal_cost"] for arm in equal_cost.run.plan.arms.values()] == [1, 3]


def test_01_shows_what_samples_cost_by_the_piece(equal_cost):
    picture = plan.explore(equal_cost.run, report.explored, interactive=False)
    assert "USD" in picture.data


def test_the_spent_usd_are_those_of_the_samples(equal_cost):
    ledger = analyze.read_tables(equal_cost.run.path("06", "tables")).get("ledger")
    assert (
        ledger is None or not (ledger["unit"] == "usd").any()
    )  # no token is known: nothing is told


def test_prices_of_tokens_count_each_files_own_lengths(tmp_path):
    long = [row | {"n_tokens": 90} for row in rows_of(2, 1)]
    short = [row | {"n_tokens": 30} for row in rows_of(4, 2)]
    prices = Prices(per_million_tokens=(5.0, 5.0))
    run = compared(tmp_path, long, short, prices=prices).run
    assert [arm.samples["equal_cost"] for arm in run.plan.arms.values()] == [1, 3]
    ledger = analyze.read_tables(run.path("06", "tables"))["ledger"]
    spent = ledger[ledger["unit"] == "usd"].set_index("who")["spent"]
    assert spent.to_dict() == pytest.approx(dict.fromkeys("ab", N_PROBLEMS * 90 * 5e-6))


@pytest.mark.parametrize("answered", ["equal_numbers", "equal_cost"])
def test_the_params_file_is_that_very_study_and_can_be_planned(answered, request, capsys):
    answered = request.getfixturevalue(answered)
    assert load_study(answered.params) == answered.run.study
    outputs = str(answered.run.folder.parent)
    assert main(["plan", str(answered.params), "--outputs", outputs]) == 0
    assert "missing   nothing" in capsys.readouterr().out
    assert main(["status", str(answered.params), "--outputs", outputs]) == 0
    assert "all done" in capsys.readouterr().out


def test_the_students_that_the_params_file_shows_can_be_added(equal_numbers):
    lines = equal_numbers.params.read_text().splitlines()
    shown = [line.removeprefix("# ") for line in lines if re.match(r"# \w+: ", line)]
    data = read_yaml(equal_numbers.params)
    held_out = write(equal_numbers.run.folder / "more.yaml", [])
    held_out.write_text("\n".join(shown))
    more = read_yaml(held_out)
    data["dataset"] |= more.pop("dataset")
    assert set(more) == {"students", "training", "controls"}
    assert check_study(data | more, "params").students


def test_the_page_answers_first_and_holds_one_figure_and_one_table(equal_numbers):
    page = equal_numbers.page.read_text()
    soup = BeautifulSoup(page, "html.parser")
    answer = read_json(equal_numbers.run.path("06", "answer.json"))
    assert soup.select_one(".headline").text == answer["headline"]
    assert len(soup.select("figure.plot")) == len(soup.select("table")) == 1
    heads = [cell.text for cell in soup.select("th")]
    assert len(heads) == 8
    assert not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
    assert str(equal_numbers.run.folder) not in page


def test_every_difference_has_an_interval_and_its_problems(equal_numbers):
    soup = BeautifulSoup(equal_numbers.page.read_text(), "html.parser")
    rows = [[cell.text for cell in row.select("td")] for row in soup.select("tbody tr")]
    assert len(rows) == 7
    for row in rows:
        assert re.fullmatch(r"[+−][\d.]+ \[[+−][\d.]+, [+−][\d.]+\]", row[5]), row
        assert row[7].isdigit()
        assert row[0] in equal_numbers.text and row[5] in equal_numbers.text


def test_one_sample_a_problem_has_a_figure_too(tmp_path):
    page = compared(tmp_path, rows_of(1, 1), rows_of(1, 0)).page.read_text()
    assert "<b>The two files.</b>" in page


# ---------------------------------------------------------------------- files as people have them


def test_lists_of_samples_a_byte_order_mark_and_other_names(tmp_path, equal_numbers):
    """The same samples written otherwise give the same numbers."""
    rows = rows_of(4, 2, ("Problem", "final answer", "output"))
    first = write(tmp_path / "a.jsonl", rows, mark="\ufeff")
    lists: dict[str, list[str]] = {}
    for row in rows_of(3, 1):
        lists.setdefault(row["question"], []).append(row["response"])
    frame = pd.DataFrame({"query": lists.keys(), "samples": lists.values()})
    frame.to_parquet(tmp_path / "b.parquet")
    asked = Question((first, tmp_path / "b.parquet"))
    run = compare_files(asked, tmp_path / "out" / "study", tell=lambda line: None).run
    for arm in "ab":
        for quantity in ("coverage", "pass_at_1", "solutions_per_solved_problem"):
            assert value(run, quantity, arm) == value(equal_numbers.run, quantity, arm)


def test_csv_and_a_file_of_gold_answers(tmp_path):
    rows = rows_of(2, 1)
    gold = pd.DataFrame(rows)[["question", "gold"]].drop_duplicates()
    gold.to_csv(tmp_path / "gold.csv", index=False)
    for name in "ab":
        pd.DataFrame(rows).drop(columns="gold").to_csv(tmp_path / f"{name}.csv", index=False)
    paths = tmp_path / "a.csv", tmp_path / "b.csv"
    with pytest.raises(StudyError, match=r"a\.csv and .*b\.csv: .*gold.*--gold COLUMN.*--problems"):
        compare_files(Question(paths), tmp_path / "study", tell=lambda line: None)
    asked = Question(paths, gold=tmp_path / "gold.csv")
    run = compare_files(asked, tmp_path / "study", tell=lambda line: None).run
    assert value(run, "coverage", "a") == pytest.approx(2 / 3)


def test_different_problems_are_counted_and_only_shared_ones_compared(tmp_path):
    first, second = rows_of(2, 1)[:40], rows_of(2, 1)[20:]
    answered = compared(tmp_path, first, second)
    assert "a has 20 problems and b has 20 problems; compared are the 10" in answered.text
    assert answered.run.plan.n_problems["train"] == 10


def test_files_without_a_shared_problem_are_refused(tmp_path):
    rows = rows_of(1, 1)
    with pytest.raises(
        StudyError, match=r"no question .*in both.*a\.jsonl has 15, such as “What is"
    ):
        compared(tmp_path, rows[:15], rows[15:])
    assert not (tmp_path / "out").exists()


def test_problems_whose_gold_answers_differ_are_left_out(tmp_path):
    second = rows_of(2, 1)
    for row in second[:4]:
        row["gold"] = "99"
    second[4]["gold"] = second[5]["gold"] = "4.0"  # the same as 4
    answered = compared(tmp_path, rows_of(2, 1), second)
    assert "2 problems that both have are left out: with gold answers that differ" in answered.text
    assert answered.run.plan.n_problems["train"] == N_PROBLEMS - 2


def test_repeated_rows_and_empty_samples_are_told(tmp_path):
    first = rows_of(2, 1)
    first += first[:3]
    second = [*rows_of(2, 1), {"question": "What is 0 + 2?", "gold": "2", "response": " "}]
    text = " ".join(compared(tmp_path, first, second).text.split())
    assert "3 rows of a equal an earlier row in everything" in text
    assert "Not compared of b's 61 samples: 1 without a text" in text


def test_few_short_problems_are_told_and_can_be_left_out(tmp_path):
    first = rows_of(3, 1)[2:]  # one sample of the first problem
    answered = compared(tmp_path, first, rows_of(3, 1))
    text = " ".join(answered.text.split())
    assert "1 of 30 problems have fewer than 3 samples of a, some only 1: --samples 3" in text
    run = compared(tmp_path / "again", first, rows_of(3, 1), samples=[3]).run
    assert run.plan.n_problems["train"] == 29
    assert run.arm("a").samples == {"equal_count": 3}


def test_problems_are_joined_by_id_where_a_file_has_no_questions(tmp_path):
    first = [row | {"id": row["question"][8:-5]} for row in rows_of(2, 1)]
    second = [{"id": int(row["id"]), "response": row["response"]} for row in first]
    run = compared(tmp_path, first, second).run
    assert value(run, "coverage", "a") == value(run, "coverage", "b") == pytest.approx(2 / 3)
    problems = (run.folder / "problems.jsonl").read_text().splitlines()
    assert json.loads(problems[0])["question"] == "What is 0 + 2?"


def test_two_columns_of_one_file(tmp_path):
    rows = [
        {
            "question": a["question"],
            "gold": a["gold"],
            "x": {"out": a["response"]},
            "y": b["response"],
        }
        for a, b in zip(rows_of(1, 1), rows_of(1, 1))
    ]
    path = write(tmp_path / "both.jsonl", rows)
    asked = Question((path, path), {"text": ["x.out", "y"]}, names=["x", "y"])
    run = compare_files(asked, tmp_path / "study", tell=lambda line: None).run
    assert value(run, "coverage", "x") == value(run, "coverage", "y")
    with pytest.raises(StudyError, match=r"both\.jsonl: stands twice.*--text"):
        compare_files(Question((path, path), {"text": ["y"]}, names=["x", "y"]))


@pytest.mark.parametrize(
    ("paths", "more", "names"),
    [
        (("x/Llama-3.1.jsonl", "y/Qwen (7B).csv"), {}, ["llama-3_1", "qwen_7b"]),
        (("se/samples.jsonl", "wc/samples.jsonl"), {}, ["se", "wc"]),
        (("a.jsonl", "a.jsonl"), {"named": {"text": ["se.out", "wc.out"]}}, ["se_out", "wc_out"]),
        (("a.jsonl", "b.jsonl"), {"names": ["Old", "New"]}, ["old", "new"]),
    ],
)
def test_files_are_called_by_what_tells_them_apart(paths, more, names):
    assert _names(Question(tuple(map(Path, paths)), **more)) == names


REFUSED = [
    (dict(prices=Prices(per_sample=(1.0,))), "one for each file is needed"),
    (dict(prices=Prices((1.0, 1.0), (1.0, 1.0))), "prices are of one kind"),
    (dict(prices=Prices(per_sample=(1.0, 0.0))), "each must be above 0"),
    (dict(prices=Prices(per_sample=(1.0, 0.1))), r"b\.jsonl: one sample of a costs as much as 10"),
    (dict(prices=Prices(per_million_tokens=(1.0, 1.0))), r"a\.jsonl: no column .*--n-tokens"),
    (dict(samples=[5]), r"--samples: no problem has so many.*at most a 2, b 2"),
    (dict(names=["x", "y", "z"]), "name: given 3 times"),
]


@pytest.mark.parametrize(("asked", "words"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_does_not_go_together_is_named_before_anything_is_written(tmp_path, asked, words):
    with pytest.raises(StudyError, match=words):
        compared(tmp_path, rows_of(2, 1), rows_of(2, 1), **asked)
    assert not (tmp_path / "out").exists()


# ---------------------------------------------------------------------- again, and on the command line


def test_again_with_other_columns_and_never_over_more_than_a_comparison(tmp_path):
    rows = [row | {"other": "#### 1"} for row in rows_of(2, 1)]
    first = compared(tmp_path, rows, rows_of(2, 1))
    second = compared(tmp_path, rows, rows_of(2, 1), named={"text": ["other", "response"]})
    assert value(second.run, "coverage", "a") == 0
    params = first.params.read_text()
    first.params.write_text(params.replace("seed: 0", "seed: 1") + "seed: 5\n")
    with pytest.raises(StudyError, match="more than a comparison"):
        compared(tmp_path, rows, rows_of(2, 1))


def test_the_command_takes_files_or_folders(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "b"):
        write(tmp_path / f"{name}.jsonl", rows_of(2, 1))
    assert main(["compare", "a.jsonl", "b.jsonl"]) == 0
    out = capsys.readouterr().out
    assert "a: a.jsonl: samples in `response`, question in `question`, gold answer in `gold`" in out
    assert "wcse run outputs/a-b/params.yaml\n" in out
    assert pipeline.show_status("outputs/a-b/params.yaml", "outputs").count("complete") == 6
    assert main(["compare", "outputs", "a.jsonl"]) != 0
    assert main(["compare", "outputs/a-b", "outputs/a-b"]) != 0
    assert "--out FOLDER" in capsys.readouterr().err
    assert main(["compare", "outputs/a-b", "outputs/a-b", "--gold", "x"]) != 0
    assert "--gold: is for two files of samples" in capsys.readouterr().err
