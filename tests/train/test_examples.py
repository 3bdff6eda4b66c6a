"""Which examples a student is trained on, their rows, and what is refused before the first step."""

import shutil

import numpy as np
import pandas as pd
import pytest
from studies import lay_examples

from wcse_lib.sample import load_tokenizer
from wcse_lib.store import KEY, StudyError, read_json, read_parquet, write_json, write_parquet
from wcse_lib.study import Machine, Run, resolve_model
from wcse_lib.train import examples, rows, stage
from wcse_lib.train.encode import MASKED
from wcse_lib.train.planted import givers

CONTROLS = {"pooled": True, "wrong": True}
RECIPES = {"equal": {"n_examples": "equal"}}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return lay_examples(tmp_path_factory.mktemp("made"), recipes=RECIPES, controls=CONTROLS)


@pytest.fixture
def copy(made, tmp_path):
    """The same study, to be changed."""
    shutil.copytree(made.folder, tmp_path / "made")
    return Run(tmp_path / "made")


def examples_of(run: Run, student: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Kept examples, and cut ones."""
    frame = pd.concat(examples.examples_of(run, student), ignore_index=True)
    return frame[~frame["is_cut"]], frame[frame["is_cut"]]


def encoded(run: Run, student: str) -> tuple[list[dict], pd.DataFrame]:
    """Rows, and what was dropped."""
    dropped = []
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    found = list(rows.encoded_rows(run, student, tokenizer, dropped.append))
    return found, pd.concat(dropped)


def keys_of(frame: pd.DataFrame) -> set:
    return set(frame[KEY].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    "student, count",
    [
        ("small.se.low", 8),
        ("small.wc.high", 40),
        ("small.pooled.low", 28),
        ("small.pooled.high", 56),
        ("small.planted", 16),
        ("small.reference", 30),
        ("wc.wrong", 30),
    ],
)
def test_every_source_gives_its_examples(made, student, count):
    kept, cut = examples_of(made, student)
    assert len(kept) == count
    assert cut.empty
    assert not kept.duplicated(KEY).any()
    assert list(kept) == [*KEY, "text", "is_cut"]


def texts_of(frame: pd.DataFrame) -> list[str]:
    return sorted(frame["text"])


def test_a_planted_student_learns_its_arms_texts_each_under_another_problem(made):
    planted, _ = examples_of(made, "small.planted")
    of_arm, _ = examples_of(made, "small.se.high")
    assert keys_of(planted) == keys_of(of_arm)
    assert texts_of(planted) == texts_of(of_arm)
    both = planted.merge(of_arm, on=KEY)
    assert (both["text_x"] != both["text_y"]).all()
    again, _ = examples_of(made, "small.planted")
    assert again.equals(planted)


def test_half_a_dose_moves_half_of_the_texts(tmp_path):
    run = lay_examples(tmp_path, controls={"planted": 0.5})
    both = examples_of(run, "small.planted")[0].merge(examples_of(run, "small.se.high")[0], on=KEY)
    assert (both["text_x"] != both["text_y"]).sum() == 8


def test_every_seed_has_a_fault_of_its_own(tmp_path):
    """Of the same examples: with draws of their own, seeds differ in these too."""
    training = {"amount": {"low": 1, "high": 2}, "seeds": [0, 1], "draws": "shared"}
    run = lay_examples(tmp_path, training=training)
    first, second = (examples_of(run, f"small.planted.s{seed}")[0] for seed in (0, 1))
    assert texts_of(first) == texts_of(second)
    assert not first["text"].equals(second["text"])


def test_a_planted_student_learns_no_more_than_its_arms(tmp_path):
    """The arm with more examples is cut to the count of the other: so is what is planted among them."""
    students = {"small": {"model": "nano-student"}}
    more = {"curation": {"n_examples": "equal"}, "students": students}
    budget = {"reference": "wc", "samples": {"low": 1, "high": 2}, "match": "count"}
    run = lay_examples(tmp_path, budget=budget, **more)
    planted, _ = examples_of(run, "small.planted")
    of_arm, _ = examples_of(run, "small.wc.high")
    assert len(planted) == 16
    assert keys_of(planted) == keys_of(of_arm)


@pytest.mark.parametrize("seed", range(30))
def test_answers_are_exchanged_between_problems(seed):
    rng = np.random.default_rng(seed)
    most = int(rng.integers(1, 12))
    problems = np.repeat(np.arange(12), [most, most, *rng.integers(1, most + 1, 10)])
    taken = givers(problems, 1.0, rng)
    assert sorted(taken) == list(range(len(problems)))
    assert (problems[taken] != problems).all()


def test_answers_of_one_problem_cannot_be_exchanged(copy):
    path = copy.path("03", "se", "examples.parquet")
    examples = read_parquet(path)
    write_parquet(path, examples[examples["problem_id"] == examples["problem_id"].iloc[0]])
    with pytest.raises(StudyError, match="small.planted: more than half.*planted: 0"):
        examples_of(copy, "small.planted")


def test_equal_counts_are_cut_and_counted(made):
    few, none = examples_of(made, "small.se.high.equal")
    many, cut = examples_of(made, "small.wc.high.equal")
    assert len(few) == len(many) == 16
    assert none.empty
    assert len(cut) == 24
    found, dropped = encoded(made, "small.wc.high.equal")
    assert len(found) == 16
    assert set(dropped["reason"]) == {rows.CUT}


def test_equal_counts_are_cut_by_key_whatever_the_order(made, copy):
    path = copy.path("03", "wc", "examples.parquet")
    write_parquet(path, read_parquet(path).sample(frac=1, random_state=1))
    many, _ = examples_of(made, "small.wc.high.equal")
    again, _ = examples_of(copy, "small.wc.high.equal")
    assert keys_of(again) == keys_of(many)


def test_pieces_change_nothing(made, monkeypatch):
    whole = examples_of(made, "small.wc.high.equal")
    pieces = [read_parquet(made.path("03", "wc", "examples.parquet")).iloc[i::3] for i in range(3)]
    monkeypatch.setattr(examples, "read_pieces", lambda path, columns: iter(pieces))
    monkeypatch.setattr(examples, "_peers", lambda run, student: {"wc"})
    monkeypatch.setattr(examples, "_n_examples", lambda *at: 16)
    parts = examples_of(made, "small.wc.high.equal")
    assert [keys_of(part) for part in parts] == [keys_of(part) for part in whole]


def test_no_examples_are_an_error(copy):
    path = copy.path("03", "se", "examples.parquet")
    write_parquet(path, read_parquet(path).head(0))
    with pytest.raises(StudyError, match="small.se.low: no examples"):
        examples_of(copy, "small.se.low")


# ---- rows


def test_long_examples_are_dropped_whole_and_counted(copy):
    path = copy.path("03", "se", "examples.parquet")
    table = read_parquet(path)
    first = table["problem_id"] == table["problem_id"].iloc[0]
    write_parquet(path, table.assign(text=table["text"].mask(first, "total is 1+1=2\n" * 100)))
    found, dropped = encoded(copy, "small.se.high")
    assert len(found) == 14
    assert dropped["reason"].tolist() == ["longer than 256 tokens"] * 2
    for row in found:
        assert row["labels"][-1] == row["input_ids"][-1] != MASKED


def test_what_was_only_thought_is_dropped(copy):
    path = copy.path("03", "se", "examples.parquet")
    write_parquet(path, read_parquet(path).assign(text="<think>so it is"))
    dropped = []
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    pieces = rows.encoded_rows(copy, "small.se.low", tokenizer, dropped.append)
    with pytest.raises(ValueError, match="no rows to train on"):
        rows.write_rows(pieces, copy.folder / "rows.arrow")
    assert set(dropped[0]["reason"]) == {"nothing after its thinking"}


def test_who_learns_no_thought_learns_to_end_the_one_that_the_prompt_opened(copy):
    plan = copy.path("01", "plan.json")
    write_json(plan, read_json(plan) | {"opens_thought": {"students.small": "<think>"}})
    tokenizer = load_tokenizer(resolve_model("nano-student"))
    closing = tokenizer("\n</think>\n\n", add_special_tokens=False)["input_ids"]
    found, _ = encoded(Run(copy.folder), "small.se.low")
    for row in found:
        trained = [label for label in row["labels"] if label != MASKED]
        assert trained[: len(closing)] == closing


def test_rows_on_disk_are_the_rows(made, tmp_path):
    found, _ = encoded(made, "small.wc.high")
    written = rows.write_rows(found, tmp_path / "rows.arrow")
    assert written.data[:] == {name: [row[name] for row in found] for name in written.data.features}
    assert written.lengths.tolist() == [len(row["labels"]) for row in found]
    masked = [row["labels"].count(MASKED) for row in found]
    assert (written.lengths - written.n_trained).tolist() == masked


def test_shown_rows_are_coloured(made):
    page = stage.shown_rows(made, "small.se.low")
    assert page.count("tokens, ") == 3
    assert "8 rows, 0 examples dropped" in page
    assert "background:#ddd" in page
    assert "background:#bde5b8" in page


# ---- refusals before the first step


@pytest.mark.parametrize("split", ["held_out", "validation"])
@pytest.mark.parametrize("column", ["problem_id", "question"])
def test_a_held_out_problem_among_the_examples_is_refused(copy, split, column):
    path = copy.path("01", f"{split}.parquet")
    others = read_parquet(path)
    train = read_parquet(copy.path("01", "train.parquet"))
    others.loc[others.index[-1], column] = train[column].iloc[0]
    write_parquet(path, others)
    with pytest.raises(StudyError, match=f"1 training problems are {split} ones"):
        stage.train_student(str(copy.folder), "small.se.low", Machine(threads=1))
    assert not copy.path("04", "small.se.low", "checkpoints").exists()
    assert not copy.path("04", "small.se.low", "rows.arrow").exists()


def all_masked(row: dict) -> dict:
    return {**row, "labels": [MASKED] * len(row["labels"])}


def unended(row: dict) -> dict:
    return {name: ids[:-1] for name, ids in row.items()}


def twice_begun(row: dict) -> dict:
    ids = row["input_ids"][:1] + row["input_ids"]
    return {"input_ids": ids, "labels": [MASKED, *row["labels"]]}


@pytest.mark.parametrize(
    "fault, reason",
    [
        (all_masked, "labels are masked"),
        (unended, "end token .* is not trained"),
        (twice_begun, "2 BOS"),
    ],
)
def test_planted_faults_are_refused_before_training(made, monkeypatch, fault, reason):
    encode = rows.encode
    monkeypatch.setattr(rows, "encode", lambda *args: fault(encode(*args)))
    monkeypatch.setattr(stage, "train", lambda *args: pytest.fail("trained"))
    with pytest.raises(ValueError, match=f"row 0: .*{reason}"):
        stage.train_student(str(made.folder), "small.se.low", Machine(threads=1))
