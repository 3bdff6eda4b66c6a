"""Several studies joined: pooled by hand, honest about few and dependent studies, one page without requests."""

import json
import re
import shutil
from itertools import product

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from made_report import ANSWER, EVIL
from made_report import make_study as make_report
from made_tables import made_tables
from scipy import stats

from wcse_lib.report import comparison
from wcse_lib.store import StudyError, read_json, write_json


def make(folder, seed, dataset="nano", problems="a", **frames):
    make_report(folder, **frames)
    plan = read_json(folder / "01_plan/plan.json")
    plan["study"] |= {"study": folder.name, "seed": seed}
    plan["plan_id"] = f"{folder.name}-{seed}"
    plan["study"]["dataset"]["name"] = dataset
    manifest = folder / "06_analyze/manifest.json"
    write_json(folder / "01_plan/plan.json", plan | {"problems_sha256": {"held_out": problems}})
    write_json(manifest, {"plan_id": plan["plan_id"]})
    return folder


def test_tables_of_an_earlier_plan_are_refused(tmp_path):
    folders = [make(tmp_path / name, seed=i) for i, name in enumerate("ab")]
    write_json(folders[1] / "06_analyze/manifest.json", {"plan_id": "earlier"})
    with pytest.raises(StudyError, match="b/06_analyze/tables: of an earlier plan"):
        comparison.compare(folders, tmp_path / "out")


@pytest.fixture(scope="module")
def joined(tmp_path_factory):
    root = tmp_path_factory.mktemp("out")
    folders = [
        make(root / f"s{i}", seed=i, dataset="nano" if i else EVIL, problems="ab"[i // 2])
        for i in range(3)
    ]
    return comparison.compare(folders, root / "joined"), root / "joined", folders


def test_every_difference_of_every_study_is_there_with_what_sets_studies_apart(joined):
    table, out, folders = joined
    for folder in folders:
        own = pd.read_csv(folder / "06_analyze/tables/differences.csv").query(
            "metric == 'pass@k' and decoding == 'greedy' and k == 1"
        )
        rows = table[(table["study"] == folder.name) & (table["metric"] == "greedy pass@1")]
        assert np.allclose(rows["value"], own["value"]) and len(own) == 6
    file = pd.read_csv(out / "comparison.csv")
    assert (
        set(file["seed"]) == {0, 1, 2}
        and file["dataset.name"].nunique() == 2
        and "sampling.top_k" not in file
    )
    accuracies = pd.read_csv(out / "accuracies.csv")
    assert set(accuracies["study"]) == {f.name for f in folders} and {
        "seed",
        "training_seed",
        "base",
        "arm",
        "budget",
        "value",
    } <= set(accuracies)
    assert {p.name for p in (out / "figures").iterdir()} == {"studies.svg", "studies.png"}


def test_the_page_stands_alone_and_says_what_is_not_independent(joined):
    page = (joined[1] / "comparison.html").read_text()
    assert (
        not re.search(r"""(?:src|href)=["'](?!#|data:)""", page)
        and page.count("<script>") == 1
        and EVIL not in page
    )
    assert page.count(ANSWER["headline"].replace("'", "&#39;")) == 3
    assert "not independent" in page and "over 3 studies" in page and "sign test p = " in page


def test_the_page_answers_first_under_the_title_that_all_studies_share(joined):
    soup = BeautifulSoup((joined[1] / "comparison.html").read_text(), "html.parser")
    assert (
        soup.h1.get_text()
        == "At this sampling budget, which generator made the better training set?"
    )
    headline = soup.h1.find_next("p").get_text()
    assert headline.startswith("Greedy pass@1, low: wc − se (small): largest in s")
    assert (
        "Shown by itself in 3 of 3 studies. That they differ from each other is not shown"
        in headline
    )
    picture = soup.select_one("figure.plot")
    assert picture.source["srcset"] != picture.img["src"]


def test_no_table_has_more_than_eight_columns_and_the_files_have_the_others(joined):
    soup = BeautifulSoup((joined[1] / "comparison.html").read_text(), "html.parser")
    heads = [[th.get_text() for th in table("th")] for table in soup("table")]
    assert len(heads) == 3
    assert max(map(len, heads)) <= 8
    assert "difference, points [95 % interval]" in heads[0]
    assert "dataset.name" in pd.read_csv(joined[1] / "comparison.csv")


def test_no_page_and_no_file_names_a_folder_of_this_machine(joined):
    for path in [*joined[1].glob("*.csv"), joined[1] / "comparison.html"]:
        assert str(joined[1].parent) not in path.read_text()


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    """Four studies: two temperatures with two seeds each."""
    root = tmp_path_factory.mktemp("grid")
    folders = []
    for temperature, seed in product((0.7, 1.2), (0, 1, 2)):
        folder = make(root / f"t{temperature}-s{seed}", seed=seed)
        plan = read_json(folder / "01_plan/plan.json")
        plan["study"]["sampling"]["temperature"] = temperature
        plan["study"]["dataset"]["path"] = str(root / "data.jsonl")
        plan["plan_id"] = folder.name
        write_json(folder / "01_plan/plan.json", plan)
        write_json(folder / "06_analyze/manifest.json", {"plan_id": folder.name})
        folders.append(folder)
    return folders


def test_nothing_is_pooled_over_what_sets_studies_apart_but_seeds(grid, tmp_path):
    comparison.compare(grid, tmp_path)
    pooled = pd.read_csv(tmp_path / "pooled.csv")
    assert set(pooled["setting"]) == {"temperature 0.7", "temperature 1.2"}
    assert set(pooled["n_studies"]) == {3}
    page = (tmp_path / "comparison.html").read_text()
    assert "largest in temperature 0.7 (3 studies)" in page
    assert "Together" not in page


def test_what_a_grid_varies_is_a_setting_even_where_it_repeats_elsewhere():
    names = ["dataset.name", "seed", "arms.se.model", "arms.wc.model"]
    for name in names:
        assert not comparison._is_setting(name, ())
    assert comparison._is_setting("arms.se.model", ["arms.se"])
    assert not comparison._is_setting("seed", ["seed"])


def test_settings_are_named_by_the_end_of_their_key_that_no_other_has():
    row = {"arms.se.temperature": 0.7, "arms.wc.temperature": 1.0, "budget.match": "price"}
    text = comparison._setting(row, list(row))
    assert text == "se.temperature 0.7, wc.temperature 1.0, match price"


def rows(values, half=0.04):
    values = np.array(values)
    facts = dict(who="students", metric="m", arm_a="wc", arm_b="se", budget="low", base="b")
    facts |= dict(setting="")
    return pd.DataFrame({**facts, "value": values, "low": values - half, "high": values + half})


def test_pooling_equals_the_formulas():
    y = np.array([0.10, 0.02, -0.06, 0.20])
    row = comparison.pool(rows(y)).iloc[0]
    error = 0.08 / 3.92
    tau2 = (
        y.var(ddof=1) - error**2
    )  # equal weights: DerSimonian and Laird's is the moment estimator
    assert row["value"] == pytest.approx(y.mean()) and row["tau"] == pytest.approx(np.sqrt(tau2))
    half = stats.t.ppf(0.975, 3) * np.sqrt((error**2 + tau2) / 4)
    assert (row["low"], row["high"]) == pytest.approx((y.mean() - half, y.mean() + half))
    assert (row["n_studies"], row["n_positive"]) == (4, 3) and row["p_sign"] == pytest.approx(
        stats.binomtest(3, 4).pvalue
    )
    assert comparison.pool(rows([0.1])).empty


def test_a_difference_of_nothing_but_rounding_has_no_sign():
    row = comparison.pool(rows([0.1, 0.3 - 0.1 - 0.2, 0.1 + 0.2 - 0.3])).iloc[0]
    assert (row["n_studies"], row["n_positive"]) == (3, 1) and row["p_sign"] == 1


def test_two_studies_are_counted_and_not_pooled():
    row = next(comparison.pool(rows([0.1, -0.02])).itertuples())
    assert (row.n_studies, row.n_positive) == (2, 1) and np.isnan(
        [row.value, row.low, row.high, row.p_sign]
    ).all()
    assert "too few" in comparison._sentence(row) and "1 of 2 positive" in comparison._sentence(row)


def test_pooled_intervals_cover():
    """1,000 simulated sets of 5 studies: nominal 95 % intervals hold the mean in at least 93 %, few and spread or
    alike."""
    rng = np.random.default_rng(0)
    for tau in (0.0, 0.05):
        sets = 0.03 + tau * rng.normal(size=(1000, 5)) + 0.02 * rng.normal(size=(1000, 5))
        table = pd.concat(
            [rows(y, half=0.02 * 1.96).assign(base=str(i)) for i, y in enumerate(sets)]
        )
        pooled = comparison.pool(table)
        assert ((pooled["low"] <= 0.03) & (pooled["high"] >= 0.03)).mean() >= 0.93


def test_studies_without_students_and_bad_folders(joined, tmp_path):
    empty = dict.fromkeys(made_tables())
    data = [
        make(tmp_path / n, i, **(empty | {"arm_differences": made_tables()["arm_differences"]}))
        for i, n in enumerate("ab")
    ]
    table = comparison.compare(data, tmp_path / "joined")
    assert set(table["who"]) == {"samples"} and "coverage" in set(table["metric"])
    forest = comparison._forest_rows(table[table["study"] != "pooled"], table.head(0))
    assert set(forest["metric"]) == {"coverage"}  # pass@1 answers nothing
    with pytest.raises(StudyError, match="two or more different"):
        comparison.compare([data[0], data[0]], tmp_path)
    copy = shutil.copytree(data[0], tmp_path / "copy")
    with pytest.raises(StudyError, match="one and the same plan"):
        comparison.compare([data[0], copy], tmp_path)
    with pytest.raises(StudyError, match="no tables there"):
        comparison.compare([data[0], make(tmp_path / "bare", 3, **empty)], tmp_path)
    with pytest.raises(StudyError, match="lost/01_plan/plan.json: not there"):
        comparison.compare([data[0], tmp_path / "lost"], tmp_path)
    assert json.loads((data[0] / "01_plan/plan.json").read_text())["study"]["study"] == "a"
