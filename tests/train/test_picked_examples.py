"""Recipes that pick: rules by hand, equal examples, routing over arms, what is read, and going on after a kill."""

import numpy as np
import pandas as pd
import pytest
from mixed_study import fill, study_of

from wcse_lib import plan, train
from wcse_lib.budget import ledger_table
from wcse_lib.store import KEY, StudyError, read_parquet, remove, write_parquet
from wcse_lib.study import Machine, Recipe, Run
from wcse_lib.train import fit, picking, stage
from wcse_lib.verify.examples import write_examples


def recipe(**changes):
    return Recipe(per_problem=1, **changes)


def candidates():
    """Two problems. p: means of −1, −1, −0.5 nats and of 2, 1, 4 ranks a token; the third is the first again."""
    return pd.DataFrame(
        {
            "author": ["se", "wc", "wc", "se"],
            "problem_id": ["p", "p", "p", "q"],
            "sample_index": [0, 0, 1, 0],
            "place": [3, 2, 1, 4],
            "same": [7, 8, 9, 7],
            "n_tokens": [10, 20, 4, 5],
            "log_likelihood": [-10.0, -20.0, -2.0, -1.0],
            "rank": [20.0, 20.0, 16.0, 5.0],
        }
    )


@pytest.mark.parametrize(
    ("rule", "picked"),
    [
        ("rsr", 1),  # 2 / 1, 1 / 1, 4 / 0.5
        ("likelihood", 2),
        ("random", 2),  # the first place
    ],
)
def test_each_rule_by_hand(rule, picked):
    reason = picking.reasons(candidates(), recipe(pick=rule))
    assert np.flatnonzero(reason == "").tolist() == [picked, 3]
    assert set(reason[reason != ""]) == {f"not picked by {rule}"}


def test_equal_scores_go_by_the_one_order():
    rows = candidates().assign(log_likelihood=-10.0, n_tokens=10)
    reason = picking.reasons(rows, recipe(pick="likelihood"))
    assert np.flatnonzero(reason == "").tolist() == [2, 3]


def test_what_two_arms_wrote_alike_is_picked_once():
    rows = candidates().assign(same=[7, 8, 7, 7])
    two = Recipe(pick="likelihood", per_problem=2)
    reason = picking.reasons(rows, two)
    assert reason[0] == "duplicate (text) of another arm's", "the later one in the order"
    assert np.flatnonzero(reason == "").tolist() == [1, 2, 3]
    several = picking.reasons(rows, two.model_copy(update={"unique": "none"}))
    assert np.flatnonzero(several == "").tolist() == [1, 2, 3], (
        "the third and, of two like it, the first in order"
    )


# ---------------------------------------------------------------------- in a study

RULES = ("rsr", "likelihood", "random")


def picking_study(**recipe):
    """Two arms and one student; every rule picks two of a problem, of each arm and of both."""
    recipes = {}
    for rule in RULES:
        recipes[rule] = {"pick": rule, "per_problem": 2, "unique": "none"} | recipe
        recipes[f"routed_{rule}"] = recipes[rule] | {"pooled": True}
    return study_of(
        "picks",
        dataset={"name": "nano", "n_train": 16, "n_held_out": 5, "levels": [1, 2]},
        arms={"se": {"model": "nano-se"}, "wc": {"model": "nano-wc"}},
        samples={"high": 5},
        budget={"match": "count"},
        recipes=recipes,
        students={"small": {"model": "nano-student"}},
        training={"amount": {"high": 1}},
        controls={"planted": 0, "reference": False},
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A study after 03, in which no two right samples of an arm's problem read alike."""
    made = plan.make_plan(picking_study(), tmp_path_factory.mktemp("out"))
    fill(made)
    for arm in ("se", "wc"):
        write_examples(made, arm)
        path = made.path("03", arm, "examples.parquet")
        examples = read_parquet(path)
        n_said = examples["sample_index"] + (3 if arm == "wc" else 0)
        write_parquet(path, examples.assign(text=n_said.map("Well. ".__mul__) + examples["text"]))
    return made


@pytest.fixture(scope="module")
def learnt(run):
    """What each student was to be trained on, and how many rows were read for it, by the student's name."""
    patch = pytest.MonkeyPatch()
    rows, n_read, name = {}, {}, ""
    measured = fit.fit_of

    def note_reading(model, n_parameters, rows, chosen, *more):
        n_read[name] = len(chosen)
        return measured(model, n_parameters, rows, chosen, *more)

    def note_rows(training, renew):
        rows[name] = training.rows.data.select_columns(KEY).to_pandas()
        return dict.fromkeys(stage.OF_MANIFEST, 0)

    patch.setattr(fit, "fit_of", note_reading)
    patch.setattr(stage, "train", note_rows)
    for name in train.trained(run, list(run.plan.students)):
        stage.train_student(str(run.folder), name, Machine(threads=1))
    yield rows, n_read
    patch.undo()


def test_every_rule_gives_as_many_examples_of_every_problem(learnt):
    rows, _ = learnt
    for taught_by, routed in (("se", ""), ("wc", ""), ("pooled", "routed_")):
        sets = [rows[f"small.{taught_by}.high.{routed}{rule}"] for rule in RULES]
        counts = [one.groupby("problem_id").size() for one in sets]
        assert counts[0].max() == 2
        assert all(count.equals(counts[0]) for count in counts[1:])
        keys = [set(one.itertuples(index=False, name=None)) for one in sets]
        assert keys[0] != keys[2] and keys[1] != keys[2], "only the choice differs"


def test_routing_takes_a_problems_samples_from_the_arm_that_fits(run, learnt):
    """se's samples have fewer words that the student would not write."""
    rows, _ = learnt
    of_likelihood = rows["small.pooled.high.routed_likelihood"]
    at_random = rows["small.pooled.high.routed_random"]
    assert (of_likelihood["author"] == "se").mean() > (at_random["author"] == "se").mean()
    found = read_parquet(run.path("04", "small.pooled.high.routed_likelihood", "fit.parquet"))
    found = found.assign(fit=found["log_likelihood"] / found["n_tokens"])
    best = found.loc[found.groupby("problem_id")["fit"].idxmax(), KEY]
    assert len(best.merge(of_likelihood, on=KEY)) == len(best)


def test_all_right_samples_are_candidates_and_what_is_not_picked_is_noted(run, learnt):
    rows, _ = learnt
    student = "small.wc.high.rsr"
    judged = read_parquet(run.path("03", "wc", "judged.parquet"))
    n_right = (judged["verdict"] == "correct").sum()
    dropped = read_parquet(run.path("04", student, "dropped.parquet"))
    assert set(dropped["reason"]) == {"not picked by rsr"}
    assert (
        len(dropped) + len(rows[student])
        == n_right
        == len(read_parquet(run.path("04", student, "fit.parquet")))
    )
    assert f"{len(rows[student])} rows, {len(dropped)} examples dropped" in train.shown_rows(
        run, student
    )


def test_nothing_is_read_twice_and_what_was_read_is_on_the_ledger(run, learnt):
    _, n_read = learnt
    n_right = {}
    for arm in ("se", "wc"):
        examples = read_parquet(run.path("03", arm, "examples.parquet"))
        n_right[arm] = examples["recipe"].eq("rsr").sum()
    assert sum(n_read.values()) == sum(n_right.values())
    assert not any("random" in student for student in n_read), "which asks no score"
    table = ledger_table(run).query("kind == 'fit' and unit == 'tokens'")
    assert set(table["who"]) == set(n_read) and (table["spent"] > 0).all()


def test_after_a_kill_nothing_is_read_again(run, learnt, monkeypatch):
    """The folder holds what was measured, and no manifest."""
    rows, _ = learnt
    student = "small.wc.high.rsr"
    remove(run.path("04", student, "manifest.json"))
    before = run.path("04", student, "fit.json").read_text()
    monkeypatch.setattr(fit, "fit_of", None)
    again = {}

    def note_rows(training, renew):
        again[student] = training.rows.data.select_columns(KEY).to_pandas()
        return dict.fromkeys(stage.OF_MANIFEST, 0)

    monkeypatch.setattr(stage, "train", note_rows)
    stage.train_student(str(run.folder), student, Machine(threads=1))
    assert again[student].equals(rows[student])
    assert run.path("04", student, "fit.json").read_text() == before
    assert Run(run.folder).complete("04", student)


@pytest.mark.parametrize(
    ("recipe", "fault"),
    [
        ({"per_problem": None}, "per_problem: missing; pick needs it"),
        ({"filter": "none"}, "pick: chooses among right samples"),
        ({"noise": 0.1}, "pick: chooses among right samples"),
        ({"n_examples": "equal"}, "n_examples: leave it out with pick"),
        ({"pick": None}, "pooled: needs pick: rsr, likelihood or random"),
        ({"pick": "grace"}, "pick"),
    ],
)
def test_faults_name_the_key_and_the_remedy(recipe, fault):
    with pytest.raises(StudyError) as refused:
        picking_study(**recipe)
    assert "test: recipes." in str(refused.value) and fault in str(refused.value)


def test_picking_needs_students_and_routing_two_arms():
    alone = {"arms": {"se": {"model": "nano-se"}}, "students": {"small": {"model": "nano-student"}}}
    routed = {"routed": {"pick": "rsr", "per_problem": 1, "pooled": True}}
    with pytest.raises(StudyError, match="recipes.routed.pooled: needs two arms"):
        study_of(recipes=routed, **alone)
    with pytest.raises(StudyError, match="recipes.routed.pick: needs students"):
        study_of(recipes=routed)
