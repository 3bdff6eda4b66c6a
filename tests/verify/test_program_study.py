"""A study whose samples a program verifies: 01 to 03, what 01 refuses, and a program that changes on the way."""

import json

import pandas as pd
import pytest

from wcse_lib import plan as planning
from wcse_lib.plan.preview import look_ahead
from wcse_lib.plan.problems import load_problems
from wcse_lib.progress import changed_files
from wcse_lib.sample import stage as generation
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, check_study, named_files
from wcse_lib.verdicts import sandbox
from wcse_lib.verify import judges_of
from wcse_lib.verify import stage as verification

SCHEMA = (
    "CREATE TABLE t (a INTEGER NOT NULL, b TEXT NOT NULL); INSERT INTO t VALUES (1, 'x'), (5, 'y');"
)
QUERIES = {  # gold -> a query that finds the same, and one that happens to in the row's own database
    "SELECT b FROM t WHERE a > 3": ("SELECT b FROM t WHERE NOT a <= 3", "SELECT 'y'"),
    "SELECT COUNT(*) FROM t": ("SELECT SUM(1) FROM t", "SELECT 2"),
    "SELECT MAX(a) FROM t": ("SELECT a FROM t ORDER BY a DESC LIMIT 1", "SELECT 5"),
    "SELECT a FROM t": ("SELECT t.a FROM t", "SELECT DISTINCT a FROM t"),
    "SELECT nothing FROM t": ("SELECT 1", "SELECT 2"),
}
if sandbox.run_tests("x = 1", "assert x == 1")[0] == "unverifiable":
    pytestmark = pytest.mark.skip(reason="no sandbox: see tests/verdicts/test_sandbox.py")


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def study_in(folder, **how):
    problems, samples = [], []
    for number, (gold, (same, lucky)) in enumerate(QUERIES.items()):
        problems.append({"id": number, "question": f"q{number}?", "schema": SCHEMA, "answer": gold})
        for query in (same, lucky):
            samples.append({"id": number, "text": f"Like this:\n```sql\n{query};\n```"})
    columns = {"text": "text", "problem_id": "id"}
    arm = {"engine": "import", "path": write(folder / "samples.jsonl", samples), "columns": columns}
    data = {
        "study": "queries",
        "dataset": {
            "name": "files",
            "train": write(folder / "problems.jsonl", problems),
            "columns": {"problem_id": "id"},
        },
        "arms": {"se": arm | {"n_parameters": 2.0e9}, "wc": arm | {"n_parameters": 1.0e9}},
        "budget": {"reference": "se", "samples": {"low": 2}, "match": "count"},
        "verification": {"by": "program", "path": "sql"} | how,
    }
    return check_study(data, "test")


def verdicts_of(run, arm):
    generation.generate(run, arm, Machine())
    verified = verification.verify(run, arm, Machine())
    verification.checks(run, arm, verified)
    rows = pd.read_parquet(run.path("03", arm, "verdicts.parquet"))
    return rows.sort_values(["problem_id", "sample_index"])


def test_queries_through_the_first_three_rooms(tmp_path):
    study = study_in(tmp_path)
    run = planning.make_plan(study, tmp_path)
    assert run.plan.dropped_problems == {
        "train: its gold answer is unverifiable (the row's schema or gold query fails)": 1
    }
    assert judges_of(study) == []
    rows = verdicts_of(run, "wc")
    assert rows["verdict"].tolist() == ["correct", "incorrect"] * 4
    assert rows["verifier"].str.startswith("program sql.py ").all()
    examples = pd.read_parquet(run.path("03", "wc", "examples.parquet"))
    assert len(examples) == 4


def test_a_changed_program_is_noticed_and_the_way_back_is_said(tmp_path):
    program = tmp_path / "mine.py"
    strict = "def verify(answer, row):\n    return row['answer'] in answer\n"
    lenient = "def verify(answer, row):\n    return 'SELECT' in answer\n"
    program.write_text(strict)
    study = study_in(tmp_path, path=str(program))
    run = planning.make_plan(study, tmp_path)
    before = verdicts_of(run, "se")
    assert (before["verdict"] == "incorrect").all()
    assert changed_files(run.folder, study) == [] and named_files(study) == run.plan.files

    program.write_text(lenient)
    (sentence,) = changed_files(run.folder, study)
    assert sentence.startswith(str(program)) and "verified anew" in sentence
    copy = run.verifier_copy
    assert str(copy) in sentence and copy.read_text() == strict
    # 03 by hand, without 01
    with pytest.raises(StudyError, match="not the program that 01 planned with") as error:
        verification.verify(run, "se", Machine())
    assert str(copy) in str(error.value) and str(program) in str(error.value)

    again = planning.make_plan(study, tmp_path)
    assert again.plan_id != run.plan_id and not again.complete("03", "se")
    assert (verdicts_of(again, "se")["verdict"] == "correct").all()
    assert copy.exists(), "the former one stays"

    program.write_bytes(copy.read_bytes())
    assert planning.make_plan(study, tmp_path).plan_id == run.plan_id


def test_a_program_that_fails_for_samples_never_stops_the_stage(tmp_path):
    program = tmp_path / "mine.py"
    program.write_text(
        "def verify(answer, row):\n"
        "    if 'DISTINCT' in answer:\n        while True: pass\n"
        "    if 'NOT' in answer:\n        raise ValueError(answer)\n"
        "    return 'SELECT' in answer\n"
    )
    run = planning.make_plan(study_in(tmp_path, path=str(program), seconds=1), tmp_path)
    rows = verdicts_of(run, "wc")
    reasons = rows.loc[rows["verdict"] == "unverifiable", "reason"].tolist()
    assert reasons[0].startswith("the program raised ValueError: Like this")
    assert reasons[1].startswith("timeout: mine.py took more than 1 s") and len(reasons) == 2
    assert (rows["verdict"] == "correct").sum() == 8


@pytest.mark.parametrize(
    "how, words",
    [
        ({"path": "mine.py"}, "verification.path = 'mine.py': no such file"),
        (
            {"path": "tool_call"},
            "verification.path = 'tool_call': it can decide about none of 5 problems; mend it",
        ),
    ],
)
def test_01_refuses_what_could_verify_nothing_before_anything_is_paid(tmp_path, how, words):
    study = study_in(tmp_path, **how)
    with pytest.raises(StudyError) as error:
        planning.make_plan(study, tmp_path)
    assert words in str(error.value) and not (tmp_path / "queries").exists()
    looked = look_ahead(study, Machine())
    assert looked.is_lacking and "verification.path" in looked.text


@pytest.mark.parametrize(
    "how, fault",
    [
        ({"path": None}, "path: needed for by: program, and only there"),
        ({"by": "answer"}, "path: needed for by: program, and only there"),
        ({"by": "answer", "path": None, "reads": "answer"}, "reads: only for by: program"),
        ({"policy": {"units": True}}, "policy"),
        ({"judge": "auto", "path": 3}, "path"),
    ],
)
def test_keys_that_do_not_go_together_are_refused(tmp_path, how, fault):
    with pytest.raises(StudyError, match=fault):
        study_in(tmp_path, **how)


def test_gold_may_be_an_object_or_missing(tmp_path):
    tools = [
        {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}
    ]
    call = {"name": "f", "arguments": {"x": 1}}
    rows = [
        {"id": 1, "question": "call f", "tools": tools, "answer": call},
        {"id": 2, "question": "a whole number", "schema": {"type": "integer"}},
    ]
    study = study_in(tmp_path, path="tool_call")
    train = write(tmp_path / "problems.jsonl", rows)
    dataset = study.dataset.model_copy(update={"train": train})
    splits, dropped = load_problems(dataset, 0, study.verification)
    assert dropped == [] and splits["train"]["answer"].tolist() == [json.dumps(call), ""]
    assert json.loads(splits["train"]["tests"].iloc[0]) == rows[0]
