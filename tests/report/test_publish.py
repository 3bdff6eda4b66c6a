"""Dataset folders: the examples and nothing else, read back by `datasets`, with a card that says where they come
from."""

import re

import pandas as pd
import pytest
import yaml
from studies import finished_study

from wcse_lib.analyze import stage as analysis
from wcse_lib.report import publish
from wcse_lib.store import KEY, StudyError
from wcse_lib.study import Run


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    run = Run(finished_study(tmp_path_factory.mktemp("out") / "tiny", seeds=(0,)))
    run.path("06", "tables").mkdir(parents=True)
    analysis.ledger_table(run).to_csv(run.path("06", "tables", "ledger.csv"), index=False)
    return run


def test_folders_read_back_as_the_examples_of_their_arm_budget_and_recipe(study, tmp_path):
    from datasets import load_dataset

    folders = publish.publish_study(study, tmp_path / "data")
    assert len(folders) == 3 * 2 * 3 and {"tiny-wc-low", "tiny-se-high-one"} <= {
        f.name for f in folders
    }
    data = load_dataset(str(tmp_path / "data" / "tiny-wc-low"), cache_dir=str(tmp_path / "cache"))[
        "train"
    ].to_pandas()
    own = pd.read_parquet(study.path("03", "wc", "examples.parquet")).query(
        "budget == 'low' and recipe == 'main'"
    )
    assert sorted(zip(data["problem_id"], data["sample_index"])) == sorted(
        zip(own["problem_id"], own["sample_index"])
    )
    assert (
        list(data.columns) == list(publish.MEANINGS)
        and set(data["model"]) == {"nano-wc"}
        and set(data["answer"]) == {"7"}
    )
    judged = pd.read_parquet(study.path("03", "wc", "judgements.parquet")).merge(own[KEY], on=KEY)
    assert data["sound"].sum() == judged["sound"].sum()
    before = {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}
    publish.publish_study(study, tmp_path / "data")
    assert before == {p: p.read_bytes() for p in (tmp_path / "data").rglob("*") if p.is_file()}


def test_the_card_tells_the_source(study, tmp_path):
    folder = next(f for f in publish.publish_study(study, tmp_path) if f.name == "tiny-wc-high-one")
    _, front, text = (folder / "README.md").read_text().split("---\n", 2)
    front = yaml.safe_load(front)
    assert (
        front["configs"][0]["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
        and front["license"] == "unknown"
    )
    rows = pd.read_parquet(folder / "data/train.parquet")
    rate = (~rows["sound"].astype(bool)).mean()
    share = f"{rate:.1%} of {len(rows):,} judged examples are unsound (95 % interval over problems "
    for needed in (
        share,
        "recipe one",
        "'per_problem': 1",
        study.plan_id,
        "| v |",
        "12 samples a problem",
        f"{len(rows):,} for",
    ):
        assert needed in text, needed
    assert str(study.folder.parent) not in text + (folder / "plan.json").read_text()
    assert (folder / "ledger.csv").read_text().startswith("who,stage") and study.plan_id in (
        folder / "plan.json"
    ).read_text()


@pytest.mark.parametrize(
    ("engines", "with_settings", "imported"),
    [(["import"], False, True), (["hf"], True, False), (["hf", "import"], True, True)],
)
def test_the_card_of_imported_samples_claims_no_settings(study, engines, with_settings, imported):
    problems = pd.DataFrame({"n": [2, 1], "n_judged": [2, 1], "n_unsound": [1, 0]})
    published = publish.Published(
        study.folder, "low", "main", problems, ["m"], engines, verifier=[], judge=["human"]
    )
    card = publish.card(study, "wc", published)
    assert ("| Sampling |" in card) == with_settings
    assert ("not known here" in card) == imported
    assert re.search(
        r"33\.3% of 3 judged examples are unsound "
        r"\(95 % interval over problems \d+\.\d% to \d+\.\d%; judge: human\)",
        card,
    )


def test_what_breaks_a_row_of_the_card_or_reads_as_markup_is_escaped(study):
    problems = pd.DataFrame({"n": [1], "n_judged": [0], "n_unsound": [0]})
    published = publish.Published(
        study.folder, "low", "main", problems, ["a|b\n<script>"], ["hf"], [], []
    )
    card = publish.card(study, "wc", published)
    assert "| Written by | a\\|b &lt;script> |" in card
    assert "not judged" in card


def test_an_unfinished_study_is_refused(tmp_path):
    folder = finished_study(tmp_path / "open", seeds=(0,), recipes=False)
    with pytest.raises(StudyError, match="tables: no tables there; run the study to its end"):
        publish.publish_study(Run(folder), tmp_path / "d")
