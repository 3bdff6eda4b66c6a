"""Seeds that are added after a look: what is corrected, what a late look may show, and which changes are a look."""

import shutil

import pandas as pd
import pytest
from studies import STUDY, write_plan

from wcse_lib.analyze import PRIMARY_METRIC, analyze, answer
from wcse_lib.analyze.looks import read_looks, record_look
from wcse_lib.analyze.significance import is_significant
from wcse_lib.store import read_json, write_json
from wcse_lib.study import Run

PRIMARY = {"arms": ["wc", "se"], "budget": "high", "base": None}
FOUND = "differences|all students|wc|se|high|pass@k|greedy|1"


def planned(folder, n_seeds, looks=1, held_out="a", **changes) -> Run:
    """The plan, in the folder of earlier ones, with so many training seeds."""
    training = {"seeds": list(range(n_seeds)), "looks": looks, "amount": {"low": 1, "high": 2}}
    problems = {"train": 0, "validation": 0, "held_out": 300}
    arms = {arm: {"model": f"nano-{arm}", "samples": {"low": 1, "high": 4}} for arm in ("se", "wc")}
    arms["ada"] = {"samples": {"low": 1, "high": 4}}
    plan = {"study": STUDY | {"training": training} | changes, "arms": arms}
    plan |= {"problems_sha256": {"held_out": held_out}, "n_problems": problems}
    write_plan(folder, plan)
    return Run(folder)


def table(value=0.1, p=0.001):
    """One difference of all students, shown or not, as 06 has it after Holm's correction."""
    row = {"base": "all students", "paradigm_a": "", "paradigm_b": "", "budget": "high"}
    row |= {"arm_a": "wc", "arm_b": "se"}
    row |= PRIMARY_METRIC._asdict() | {"value": value, "p_holm": p, "p": p}
    return {"differences": pd.DataFrame([row | {"low": value - 0.05, "high": value + 0.05}])}


def look(run, **found):
    """What a look at these numbers shows, recorded."""
    looks = read_looks(run)
    tables = looks.spend(table(**found))
    record_look(run, looks, tables)
    return looks, bool(is_significant(tables["differences"]).item())


def test_a_late_look_shows_nothing_new(tmp_path):
    assert look(planned(tmp_path, 2), value=0.02, p=0.2)[1] is False
    looks, is_shown = look(planned(tmp_path, 3))
    assert not is_shown
    (sentence,) = looks.sentences()
    assert "with 2 training seeds and 300 held-out problems, now with 3 training seeds" in sentence
    assert "its plan allowed one look" in sentence


def test_a_late_look_still_shows_what_an_allowed_one_did(tmp_path):
    assert look(planned(tmp_path, 2))[1]
    assert look(planned(tmp_path, 3))[1]
    # seen with the other sign it is new
    assert not look(planned(tmp_path, 4), value=-0.1)[1]


def test_allowed_looks_may_show_something_new(tmp_path):
    assert not look(planned(tmp_path, 2, looks=2), value=0.02, p=0.2)[1]
    looks, is_shown = look(planned(tmp_path, 3, looks=2))
    assert is_shown
    (sentence,) = looks.sentences()
    assert "This is look 2 of the 2 that the plan allows" in sentence
    assert look(planned(tmp_path, 4, looks=2))[0].is_late


def test_more_looks_are_not_to_be_had_after_the_first(tmp_path):
    look(planned(tmp_path, 2))
    looks, _ = look(planned(tmp_path, 3, looks=5))
    assert (looks.allowed, looks.is_late) == (1, True)


def test_the_same_seeds_are_one_look_however_often(tmp_path):
    for _ in range(3):
        looks, _ = look(planned(tmp_path, 2))
        assert looks.sentences() == []
    look(planned(tmp_path, 3))
    assert not look(planned(tmp_path, 2))[0].is_late
    assert len(read_json(tmp_path / "06_analyze/looks.json", list)) == 2


@pytest.mark.parametrize(
    ("change", "is_look"),
    [
        ({"held_out": "b"}, True),
        ({"n_seeds": 3, "title": "another title", "power": {"rate": 0.3}}, True),
        ({"n_seeds": 3, "curation": {"per_problem": 2}}, False),
        ({"title": "another title"}, False),
    ],
    ids=["other test problems", "seeds and title", "another question", "title"],
)
def test_which_changes_are_a_second_look(tmp_path, change, is_look):
    look(planned(tmp_path, 2))
    assert look(planned(tmp_path, **({"n_seeds": 2} | change)))[0].is_late is is_look


def test_a_primary_comparison_counts_where_it_was_named_before_the_first_look(tmp_path):
    looks, _ = look(planned(tmp_path / "before", 2, primary=PRIMARY))
    assert looks.primary is not None and looks.sentences() == []
    look(planned(tmp_path / "after", 2))
    looks, _ = look(planned(tmp_path / "after", 2, primary=PRIMARY))
    assert looks.primary is None
    assert "was named, or changed, after the study had been looked at" in looks.sentences()[0]


def test_06_keeps_the_record_and_says_it(synthetic_study, synthetic_tables, tmp_path):
    """An earlier look of one seed had shown what wc's and se's students of all bases differ by at high, alone."""
    folder = shutil.copytree(synthetic_study.folder, tmp_path / synthetic_study.folder.name)
    record = folder / "06_analyze/looks.json"
    (own,) = read_json(record, list)
    assert any(shown.startswith(FOUND) for shown in own["shown"])
    write_json(record, [own | {"seeds": [0], "shown": [f"{FOUND}|+"]}])
    run = Run(folder)
    tables = analyze(run)
    rows = PRIMARY_METRIC.rows(tables["differences"])
    shown = rows[is_significant(rows)]
    assert shown[["arm_a", "arm_b", "budget"]].values.tolist() == [["wc", "se", "high"]]
    assert (rows.loc[rows.index.difference(shown.index), "p_holm"] == 1).all()
    said = answer(run, tables)
    assert said["notes"][0].startswith("This study was looked at before, with one training seed")
    assert said["headline"].startswith("At the budget “high” wc gave a better training set than se")
    assert said["gains"][0].startswith("No arm's examples were shown")
    assert len(read_json(record, list)) == 2
