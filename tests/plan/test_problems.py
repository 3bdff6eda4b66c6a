"""Problems from every source: each row becomes a problem or stands among the dropped ones with its reason."""

import json
from collections import Counter

import pandas as pd
import pytest
from studies import verdict_rows

from wcse_lib.plan import problems
from wcse_lib.plan.problems import load_problems
from wcse_lib.store import StudyError
from wcse_lib.study import Dataset, check_study
from wcse_lib.verdicts import tasks
from wcse_lib.verdicts.tasks import task_score

ROWS = [
    {
        "q": f"What is {i} apples and {i * i} pears?",
        "a": f"So {i} and {i * i}.\n#### {i + i * i}",
        "lv": i % 3,
        "id": f"r{i}",
    }
    for i in range(1, 31)
]
COLUMNS = {"question": "q", "answer": "a", "solution": "a", "level": "lv", "problem_id": "id"}


def write(folder, name, rows):
    path = folder / name
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        frame = pd.DataFrame(rows)
        frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path)
    return str(path)


def files(folder, form=".jsonl", rows=ROWS, **keys):
    return Dataset(
        name="files",
        train=write(folder, "train" + form, rows),
        **({"columns": COLUMNS, "decontaminate": False} | keys),
    )


def count(splits, dropped):
    return sum(len(splits[s]) for s in ("train", "validation", "held_out")) + len(dropped)


# --- files


@pytest.mark.parametrize("form", [".jsonl", ".csv", ".parquet"])
def test_files_become_problems(tmp_path, form):
    splits, dropped = load_problems(files(tmp_path, form, n_validation=5), 0)
    assert (len(splits["train"]), len(splits["validation"]), len(splits["held_out"]), dropped) == (
        25,
        5,
        0,
        [],
    )
    row = splits["train"].iloc[2]
    assert row.to_dict() == {
        "problem_id": "r3",
        "question": "What is 3 apples and 9 pears?",
        "answer": "12",
        "level": "0",
        "reference": "So 3 and 9.\n#### 12",
        "tests": "",
    }
    assert splits["validation"]["problem_id"].tolist() == [f"r{i}" for i in range(26, 31)], (
        "taken from the end"
    )


def test_rows_in_equal_rows_out_and_dropped(tmp_path):
    odd = [
        {"q": " ", "a": "#### 1", "lv": 1, "id": "empty"},
        {"q": "No answer here?", "a": "nobody\nknows", "lv": 1, "id": "lost"},
        {"q": "Nothing?", "a": None, "lv": 1, "id": "none"},
        {"q": "Twice?", "a": "#### 2", "lv": 1, "id": "r1"},
        {"q": "what is  1 apples AND 1 pears?", "a": "#### 2", "lv": 1, "id": "again"},
    ]
    rows = ROWS + odd
    dataset = files(
        tmp_path,
        rows=rows,
        levels=[1, "2"],
        n_train=10,
        n_validation=3,
        held_out=write(tmp_path, "h.jsonl", rows[20:26]),
        n_held_out=2,
    )
    splits, dropped = load_problems(dataset, 0)
    assert count(splits, dropped) == len(rows) + 6
    assert set(splits["train"]["level"]) | set(splits["held_out"]["level"]) == {"1", "2"}
    reasons = {d["problem_id"]: d["reason"] for d in dropped if d["split"] == "train"}
    assert reasons["empty"] == "empty question" and reasons["r1"].startswith("a problem of this id")
    assert reasons["lost"] == reasons["none"] == "no answer can be read from the answer field"
    assert reasons["again"] == "the same question came before"
    assert reasons["r3"] == "its level is not among dataset.levels" and reasons["r16"].startswith(
        "beyond dataset.n_train = 10"
    )
    assert not set(splits["held_out"]["question"]) & set(splits["train"]["question"]), (
        "with decontaminate: false too"
    )


def test_shuffle_is_by_seed_and_comes_before_subsets(tmp_path):
    drawn = [
        load_problems(files(tmp_path, shuffle=True, n_train=12), seed)[0]["train"][
            "problem_id"
        ].tolist()
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2] and len(set(drawn[0])) == 12
    assert drawn[0] != [f"r{i}" for i in range(1, 13)]
    assert (
        load_problems(files(tmp_path, shuffle=True, n_train=6), 0)[0]["train"][
            "problem_id"
        ].tolist()
        == drawn[0][:6]
    )


def test_training_problems_leave_when_they_are_held_out(tmp_path):
    held = write(
        tmp_path,
        "h.jsonl",
        [{**ROWS[4], "id": "h1"}, {**ROWS[5], "q": "Six apples and 36 pears?", "id": "h2"}],
    )
    splits, dropped = load_problems(files(tmp_path, held_out=held, decontaminate=True), 0)
    assert len(splits["held_out"]) == 2 and "r5" not in set(splits["train"]["problem_id"])
    assert {
        "split": "train",
        "problem_id": "r5",
        "reason": "a copy of a problem of held_out",
        "other": "h1",
    } in dropped
    near = splits["near_duplicates"]
    assert (
        len(near)
        and near["held_out_id"].isin(["h1", "h2"]).all()
        and near["problem_id"].isin(splits["train"]["problem_id"]).all()
    )


def test_the_very_same_question_names_the_held_out_one(tmp_path):
    held = write(tmp_path, "h.jsonl", [{**ROWS[4], "id": "h1"}])
    _, dropped = load_problems(files(tmp_path, held_out=held), 0)
    assert dropped == [
        {
            "split": "train",
            "problem_id": "r5",
            "reason": "its very question is held out",
            "other": "h1",
        }
    ]


GOLDS = {
    "#### 54": "54",
    "The answer is 54.": "54",
    "so 3 + 4 = 7. #### 7": "7",
    r"\boxed{\frac12}": r"\frac12",
    "Answer: no": "no",
    "54": "54",
    "x = 5 or x = 6": "x = 5 or x = 6",
    "(C) 12": "(C) 12",
    "Paris": "Paris",
    "5 km/h": "5 km/h",
    "#### ": "####",
    "The answers vary": "The answers vary",
}


def test_one_line_that_holds_its_answer_is_read_and_a_bare_value_stands(tmp_path):
    rows = [{"q": f"What is number {i}?", "a": gold} for i, gold in enumerate(GOLDS)]
    splits, dropped = load_problems(
        files(tmp_path, rows=rows, columns={"question": "q", "answer": "a"}), 0
    )
    assert dropped == [] and [a.strip() for a in splits["train"]["answer"]] == list(GOLDS.values())


def test_a_lone_surrogate_stops_nothing(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"q": "\\ud800 What?", "a": "1"}\n')
    splits, _ = load_problems(
        Dataset(
            name="files", train=str(tmp_path / "t.jsonl"), columns={"question": "q", "answer": "a"}
        ),
        0,
    )
    assert splits["train"]["question"].tolist() == ["? What?"]
    splits["train"].to_parquet(tmp_path / "t.parquet")


def test_a_training_file_that_is_the_held_out_one_is_named(tmp_path):
    path = write(tmp_path, "same.jsonl", ROWS)
    dataset = Dataset(name="files", train=path, held_out=path, columns=COLUMNS, n_validation=5)
    with pytest.raises(StudyError, match=r"dataset\.train: all 30 problems are held out too"):
        load_problems(dataset, 0)


def test_transfer_sets_stand_beside_the_held_out_ones(tmp_path):
    """Functional MATH's form: other field names, an answer to be read as it stands, and the same ids as elsewhere."""
    functional = [
        {"problem": f"Evaluate {i} - {i * 3}.", "answer": str(-2 * i), "file": f"r{i}"}
        for i in range(8)
    ]
    dataset = files(
        tmp_path,
        held_out=write(tmp_path, "h.jsonl", ROWS[:4]),
        n_held_out=3,
        transfer={
            "functional": {
                "path": write(tmp_path, "f.csv", functional),
                "n": 5,
                "columns": {"question": "problem", "problem_id": "file"},
            }
        },
    )
    splits, dropped = load_problems(dataset, 0)
    assert splits["held_out"]["set"].tolist() == ["held_out"] * 3 + ["functional"] * 5
    assert (
        splits["held_out"]["problem_id"].is_unique
        and splits["held_out"]["problem_id"].iloc[-1] == "functional:r4"
    )
    assert splits["held_out"]["answer"].iloc[-1] == "-8"
    assert Counter(d["split"] for d in dropped) == {"train": 4, "held_out": 1, "functional": 3}


@pytest.mark.parametrize(
    "keys,message",
    [
        ({"n_train": 31}, r"dataset\.n_train = 31: only 30 problems are usable"),
        ({"n_validation": 30}, r"dataset\.n_validation = 30: only 30 training"),
        (
            {"columns": {"question": "q", "answer": "gold"}},
            r"train\.jsonl, line 1: no column 'gold'; columns are q, a, lv, id",
        ),
        ({"levels": [7]}, r"no usable problem in it \(its level is not among"),
        ({"held_out": "nowhere.jsonl"}, r"nowhere\.jsonl: cannot be read"),
    ],
)
def test_bad_data_is_refused(tmp_path, keys, message):
    if "columns" not in keys:
        keys = {**keys, "columns": COLUMNS}
    with pytest.raises(StudyError, match=message):
        load_problems(files(tmp_path, **keys), 0)


@pytest.mark.parametrize(
    "dataset,message",
    [
        ({"name": "files", "train": "x.csv", "levels": [1]}, r"levels: need columns\.level"),
        (
            {"name": "reasoning_gym", "task": "t", "n_train": 3, "levels": [1]},
            r"levels: need columns\.level",
        ),
        (
            {"name": "files", "train": "x.csv", "columns": {"entry_point": "f"}},
            r"entry_point: goes with tests",
        ),
        (
            {"name": "files", "train": "x.csv", "transfer": {"held_out": {"path": "y.csv"}}},
            r"transfer\.held_out: this name",
        ),
        (
            {
                "name": "files",
                "train": "x.csv",
                "columns": {"tests": "t"},
                "transfer": {"e": {"path": "y.csv", "columns": {}}},
            },
            r"transfer\.e\.columns\.tests",
        ),
        ({"name": "hub", "train": "train"}, r"path: needed for name: hub"),
    ],
)
def test_bad_dataset_keys_are_refused(dataset, message):
    study = {
        "study": "s",
        "dataset": dataset,
        "arms": {"se": {"model": "nano-se"}},
        "budget": {"reference": "se"},
    }
    with pytest.raises(StudyError, match=message):
        check_study(study, "s.yaml")


# --- code tasks

MBPP = {
    "text": "Write a function to add.",
    "code": "def add(a, b):\n    return a + b",
    "task_id": 11,
    "test_list": ["assert add(1, 2) == 3", "assert add(0, 0) == 0"],
    "test_setup_code": "",
}
HUMANEVAL = {
    "task_id": "HumanEval/0",
    "prompt": 'def twice(x):\n    """Twice x."""\n',
    "entry_point": "twice",
    "canonical_solution": "    return 2 * x",
    "test": "def check(candidate):\n    assert candidate(2) == 4",
}


def code_dataset(folder):
    """The column maps that docs/datasets.md and params/code.yaml show."""
    return Dataset(
        name="files",
        train=write(folder, "mbpp.jsonl", [MBPP]),
        decontaminate=False,
        columns={
            "question": "{text}\nYour code should pass these tests:\n{test_list}",
            "solution": "code",
            "tests": "test_list",
        },
        transfer={
            "humaneval": {
                "path": write(folder, "he.parquet", [HUMANEVAL]),
                "columns": {
                    "question": "prompt",
                    "solution": "canonical_solution",
                    "tests": "test",
                    "entry_point": "entry_point",
                    "problem_id": "task_id",
                },
            }
        },
    )


def test_code_tasks_carry_their_tests(tmp_path):
    splits, _ = load_problems(code_dataset(tmp_path), 0)
    train, held = splits["train"].iloc[0], splits["held_out"].iloc[0]
    assert train["answer"] == held["answer"] == "" and train["reference"] == MBPP["code"]
    assert train["question"].endswith("tests:\nassert add(1, 2) == 3\nassert add(0, 0) == 0")
    assert held["problem_id"] == "humaneval:HumanEval/0" and held["tests"].endswith(
        "check(twice)\n"
    )


def code_rows(folder, *rows, **columns):
    """A data set of code tasks, one a row of (question, solution, tests)."""
    keys = ("q", "s", "t")
    path = write(folder, "code.jsonl", [dict(zip(keys, row)) for row in rows])
    columns = {"question": "q", "solution": "s", "tests": "t"} | columns
    return Dataset(name="files", train=path, decontaminate=False, columns=columns)


DOUBLE = "def double(x):\n    return 2 * x"
HALF = "def half(x):\n    return x"
CODE_ROWS = (
    ("Double it.", DOUBLE, ["assert double(3) == 6"]),
    ("Halve it.", HALF, ["assert half(3) == 1.5"]),
    ("Print twice the number.", "print(2 * int(input()))", {"inputs": ["3"], "outputs": ["6"]}),
    ("Double it, by numpy.", DOUBLE, "import numpy as np\nassert np.all(double(3) == 6)"),
    ("Double it, untested.", DOUBLE, "print(double(3))"),
    ("Double it by an array.", f"import numpy\n{DOUBLE}", "assert double(3) == 6"),
)


def test_code_tasks_whose_tests_decide_nothing_are_left_out(tmp_path):
    splits, dropped = load_problems(code_rows(tmp_path, *CODE_ROWS), 0)
    assert splits["train"]["question"].tolist() == ["Double it.", "Print twice the number."]
    assert [row["reason"] for row in dropped] == [
        "the tests import numpy; the sandbox has only Python's standard library",
        "the tests assert nothing",
        "its own solution fails its tests (AssertionError)",
        "its own solution fails its tests (No module named 'numpy')",
    ]


def test_code_tasks_without_solutions_are_taken_as_they_are(tmp_path):
    splits, _ = load_problems(code_rows(tmp_path, CODE_ROWS[1], solution=None), 0)
    assert len(splits["train"]) == 1


def test_a_code_set_that_fails_its_own_tests_is_refused(tmp_path):
    message = "no problem of train is usable .its own solution fails its tests .AssertionError"
    with pytest.raises(StudyError, match=message):
        load_problems(code_rows(tmp_path, CODE_ROWS[1]), 0)


def test_a_code_set_whose_tests_assert_nothing_is_refused(tmp_path):
    with pytest.raises(StudyError, match="no usable problem in it .the tests assert nothing"):
        load_problems(code_rows(tmp_path, CODE_ROWS[4]), 0)


def test_only_as_many_solutions_are_tried_as_problems_are_asked_for(tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(
        problems,
        "faults_of_solutions",
        lambda rows, seconds: tried.append(len(rows)) or pd.Series("", rows.index),
    )
    dataset = code_rows(tmp_path, *CODE_ROWS[:3]).model_copy(update={"n_train": 2})
    load_problems(dataset, 0)
    assert tried == [2]


def test_setup_code_runs_before_the_tests(tmp_path):
    """MBPP's column map as docs/datasets.md shows it."""
    row = {"text": "q", "code": "class Node: pass\ndef kind(n):\n    return type(n).__name__"}
    row |= {"test_list": ["assert kind(root) == 'Node'"], "test_setup_code": "root = Node()"}
    columns = {"question": "text", "solution": "code", "tests": "{test_setup_code}\n{test_list}"}
    path = write(tmp_path, "mbpp.jsonl", [row])
    dataset = Dataset(name="files", train=path, decontaminate=False, columns=columns)
    assert len(load_problems(dataset, 0)[0]["train"]) == 1


def test_tests_decide_on_real_code(tmp_path):
    from wcse_lib.verdicts import sandbox

    splits, _ = load_problems(code_dataset(tmp_path), 0)
    mbpp, humaneval = splits["train"].iloc[0]["tests"], splits["held_out"].iloc[0]["tests"]
    assert sandbox.run_tests(MBPP["code"], mbpp)[0] == "correct"
    assert sandbox.run_tests("def add(a, b):\n    return a", mbpp)[0] == "incorrect"
    assert (
        sandbox.run_tests(HUMANEVAL["prompt"] + HUMANEVAL["canonical_solution"], humaneval)[0]
        == "correct"
    )
    assert sandbox.run_tests("def twice(x):\n    return x", humaneval)[0] == "incorrect"


# --- hub, from local folders of the same form


@pytest.fixture
def hub(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "hub"
    folder.mkdir()
    write(folder, "train.jsonl", ROWS[4:])
    write(folder, "test.jsonl", ROWS[:4])
    return folder


def test_hub_datasets_read_like_files(tmp_path, hub):
    extra = write(
        tmp_path, "extra.jsonl", [{"q": "Evaluate 5 - 15.", "a": "#### -10", "lv": 1, "id": "e"}]
    )
    dataset = Dataset(
        name="hub",
        path=str(hub),
        train="train",
        held_out="test",
        columns=COLUMNS,
        decontaminate=False,
        transfer={"file": {"path": extra}, "slice": {"hub": str(hub), "path": "train[:3]"}},
    )
    splits, _ = load_problems(dataset, 0)
    assert splits["train"]["problem_id"].tolist() == [f"r{i}" for i in range(8, 31)], (
        "three of them are held out"
    )
    assert Counter(splits["held_out"]["set"]) == {"held_out": 4, "file": 1, "slice": 3}
    assert splits["train"]["answer"].iloc[0] == "72"


def test_a_hub_that_cannot_be_read_is_named(hub):
    for keys, message in (
        ({"path": str(hub), "train": "trian"}, "split trian cannot be loaded"),
        (
            {"path": "no-such-owner/no-such-set", "train": "train"},
            r"dataset\.path: no-such-owner/no-such-set, split train cannot",
        ),
    ):
        with pytest.raises(StudyError, match=message):
            load_problems(Dataset(name="hub", columns=COLUMNS, **keys), 0)


# --- reasoning-gym


def gym(**keys):
    pytest.importorskip(
        "reasoning_gym", reason="reasoning-gym is not installed (pip install -e '.[gym]')"
    )
    keys = {
        "task": "chain_sum",
        "options": {"min_terms": 2, "max_terms": 3, "max_digits": 2},
        "n_train": 40,
        "n_validation": 5,
    } | keys
    return Dataset(name="reasoning_gym", **({"n_held_out": 20} | keys))


def test_gym_tasks_are_drawn_by_seed_without_overlap():
    splits, dropped = load_problems(gym(), 0)
    again, other = load_problems(gym(), 0)[0], load_problems(gym(n_train=60), 0)[0]
    assert {s: len(f) for s, f in splits.items()} == {
        "held_out": 20,
        "validation": 5,
        "train": 40,
        "near_duplicates": 0,
    }
    questions = pd.concat([splits[s]["question"] for s in ("train", "validation", "held_out")])
    assert questions.is_unique and again["train"].equals(splits["train"])
    assert other["train"].iloc[:40].equals(splits["train"]) and other["held_out"].equals(
        splits["held_out"]
    )
    assert (
        load_problems(gym(), 1)[0]["train"]["question"].tolist()
        != splits["train"]["question"].tolist()
    )
    for row in splits["train"].itertuples():
        assert task_score(row.tests, row.answer) == 1.0 > task_score(row.tests, f"{row.answer}1")


def test_gym_tasks_that_cannot_be_scored_are_refused():
    with pytest.raises(
        StudyError, match=r"game_of_life_halting': only 0 of 20 .*accepts any answer"
    ):
        load_problems(gym(task="game_of_life_halting", options={}), 0)
    with pytest.raises(StudyError, match=r"dataset\.task = 'nonsense'"):
        load_problems(gym(task="nonsense", options={}), 0)
    with pytest.raises(StudyError, match="only .* of 500 problems for train .*same question"):
        load_problems(
            gym(
                options={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
                n_train=500,
            ),
            0,
        )


def test_without_the_package_a_gym_study_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "reasoning_gym", None)
    tasks.open_task.cache_clear()
    with pytest.raises(StudyError, match=r"pip install -e '\.\[gym\]'"):
        load_problems(Dataset(name="reasoning_gym", task="chain_sum", n_train=3), 0)


# --- nano, and real rows


def test_nano_has_all_columns():
    splits, dropped = load_problems(
        Dataset(n_train=6, n_validation=2, n_held_out=3, levels=[1, 2]), 0
    )
    assert (
        dropped == []
        and list(splits["train"]) == problems.COLUMNS
        and list(splits["held_out"]) == [*problems.COLUMNS, "set"]
    )
    assert (splits["held_out"]["set"] == "held_out").all() and set(splits["train"]["tests"]) == {""}


def test_real_rows_of_gsm8k_and_math(real_data):
    """Every gold answer is read, and equals itself through the verifier; MATH by level."""
    gsm8k = Dataset(
        name="files",
        train=str(real_data / "gsm8k_train.jsonl"),
        held_out=str(real_data / "gsm8k_test.jsonl"),
        columns={"solution": "answer"},
        answer_style="gsm8k",
        n_validation=500,
    )
    splits, dropped = load_problems(gsm8k, 0)
    assert count(splits, dropped) == 7473 + 1319 and len(splits["held_out"]) == 1319
    assert 6900 < len(splits["train"]) <= 6973 and all("copy of" in d["reason"] for d in dropped)
    math = Dataset(
        name="files",
        train=str(real_data / "math_test_half.jsonl"),
        answer_style="boxed",
        levels=["Level 4", "Level 5"],
        columns={
            "question": "problem",
            "answer": "solution",
            "solution": "solution",
            "level": "level",
        },
    )
    train = load_problems(math, 0)[0]["train"].head(200)
    assert set(train["level"]) == {"Level 4", "Level 5"}
    samples = pd.DataFrame(
        {
            "author": "a",
            "problem_id": train["problem_id"],
            "sample_index": 0,
            "text": train["reference"],
            "finish_reason": "stop",
        }
    )
    assert (verdict_rows(samples, train, "boxed")["verdict"] == "correct").mean() > 0.99
