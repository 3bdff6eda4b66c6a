"""Rows as people have them: each becomes a problem, leaves with its reason, or is refused by row and column."""

import json

import pandas as pd
import pytest

from wcse_lib.plan.problems import load_problems
from wcse_lib.store import KEY, StudyError, write_parquet
from wcse_lib.study import ANY_OF, Dataset
from wcse_lib.verdicts import verifier

SAID = [{"role": "assistant", "content": "So \\boxed{4}."}]
ASKED = [{"role": "user", "content": "2 + 2?"}]


def problems(folder, rows, name="t.jsonl", **keys):
    """The training problems of a file of these rows, and those that were left out."""
    path = folder / name
    if path.suffix == ".parquet":
        write_parquet(path, pd.DataFrame(rows))
    elif path.suffix == ".csv":
        pd.DataFrame(rows).to_csv(path, index=False)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    keys = {"decontaminate": False} | keys
    splits, dropped = load_problems(Dataset(name="files", train=str(path), **keys), 0)
    assert len(splits["train"]) + len(dropped) == len(rows), "rows in = rows out + rows left out"
    return splits["train"], dropped


def numbered(ids, name="id"):
    return [{name: i, "question": f"{n} + {n}?", "answer": 2 * n} for n, i in enumerate(ids)]


NAMED = {"columns": {"problem_id": "id"}}


@pytest.mark.parametrize("name", ["t.jsonl", "t.csv", "t.parquet"])
def test_ids_beside_a_missing_one_stay_whole(tmp_path, name):
    train, _ = problems(tmp_path, numbered([11, 12, None, 13]), name, **NAMED)
    ids = train["problem_id"].tolist()
    assert (ids[:2], ids[3]) == (["11", "12"], "13")
    assert ids[2].startswith("p-")


@pytest.mark.parametrize("missing", [None, float("nan"), float("-inf"), "", "  ", "NaN", "null"])
def test_rows_without_an_id_are_given_one(tmp_path, missing):
    train, dropped = problems(tmp_path, numbered(["a", missing, missing]), **NAMED)
    assert train["problem_id"].is_unique
    assert dropped == []


def test_two_rows_of_one_question_without_an_id_are_told_by_the_question(tmp_path):
    rows = numbered([None]) * 2
    _, dropped = problems(tmp_path, rows, **NAMED)
    assert [row["reason"] for row in dropped] == ["the same question came before"]


@pytest.mark.parametrize("first", [0, 2])
def test_rows_of_json_that_lack_the_id_are_given_one(tmp_path, first):
    rows = numbered(["a", "b", "c"])
    del rows[first]["id"], rows[1]["id"]
    train, dropped = problems(tmp_path, rows, **NAMED)
    assert train["problem_id"].str.startswith("p-").sum() == 2
    assert dropped == []


def test_an_id_that_no_row_has_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"no column 'name'; columns are id, question, answer"):
        problems(tmp_path, numbered(["a", "b"]), columns={"problem_id": "name"})


def test_64_bit_ids_keep_all_digits(tmp_path):
    ids = [2**63 - 1, 2**63 - 2, 2**53 + 1]
    for name in ("a.jsonl", "a.csv", "a.parquet"):
        train, _ = problems(tmp_path, numbered(ids), name, **NAMED)
        assert train["problem_id"].tolist() == [str(i) for i in ids]


@pytest.mark.parametrize("levels", [[1, 3], [1.0, 3.0], ["1", "3"], ["1.0", 3]])
@pytest.mark.parametrize("held", [[1, 2, 3], [1.0, 2.0, 3.0], ["1", "2", "3"], [1.0, None, 3.0]])
def test_levels_are_compared_by_value(tmp_path, levels, held):
    rows = numbered(held, "level")
    train, dropped = problems(tmp_path, rows, columns={"level": "level"}, levels=levels)
    assert train["level"].tolist() == ["1", "3"]
    assert [row["reason"] for row in dropped] == ["its level is not among dataset.levels"]


@pytest.mark.parametrize(
    "question", [ASKED, ASKED[0], [{"from": "human", "value": "2 + 2?"}], json.dumps(ASKED)]
)
@pytest.mark.parametrize("answer", [SAID, SAID[0], "4", 4, 4.0])
def test_a_chat_of_one_turn_is_its_words(tmp_path, question, answer):
    train, _ = problems(tmp_path, [{"question": question, "answer": answer}])
    assert train.iloc[0][["question", "answer"]].tolist() == ["2 + 2?", "4"]


def test_a_turn_can_be_named(tmp_path):
    system = {"role": "system", "content": "Be brief."}
    columns = {"question": "messages.1.content", "answer": "messages.2.content"}
    train, _ = problems(tmp_path, [{"messages": [system, *ASKED, *SAID]}], columns=columns)
    assert train.iloc[0][["question", "answer"]].tolist() == ["2 + 2?", "4"]


LISTS = [
    (["2", "3"], None, "2, 3"),
    ([2, 3.0], "all", "2, 3"),
    (["\\boxed{2}", "So #### 3"], None, "2, 3"),
    (["2", "3"], "any", f"2{ANY_OF}3"),
    (["2", "", "2"], "any", "2"),
    (["2"], None, "2"),
    ('["2", "3"]', "any", f"2{ANY_OF}3"),
    ("['2', '3']", "all", "2, 3"),
    ('["2", "3"]', None, '["2", "3"]'),
    ("(2, 3)", "any", "(2, 3)"),
]


@pytest.mark.parametrize("answer,rule,gold", LISTS)
def test_a_list_of_answers_by_its_rule(tmp_path, answer, rule, gold):
    row = {"question": "2 + 2?", "answer": answer}
    train, _ = problems(tmp_path, [row], columns={"answer_list": rule})
    assert train["answer"].tolist() == [gold]


@pytest.mark.parametrize("answer", [["2", None], [], [""]])
def test_a_list_with_nothing_where_an_answer_is_needed_leaves(tmp_path, answer):
    rows = [{"question": "2 + 2?", "answer": answer}, {"question": "1?", "answer": "1"}]
    _, dropped = problems(tmp_path, rows)
    assert dropped[0]["reason"] == "no answer can be read from the answer field"


VERDICTS = [
    ("2, 3", "The answer is 2 and 3.", "correct"),
    ("2, 3", "\\boxed{3, 2}", "correct"),
    ("2, 3", "\\boxed{3}", "incorrect"),
    (f"2{ANY_OF}3", "\\boxed{3}", "correct"),
    (f"2{ANY_OF}3", "\\boxed{2}", "correct"),
    (f"2{ANY_OF}3", "\\boxed{2, 3}", "incorrect"),
    (f"2{ANY_OF}3", "\\boxed{5}", "incorrect"),
]


def test_all_or_any_of_the_answers_are_right():
    ids = [str(i) for i in range(len(VERDICTS))]
    golds, texts, verdicts = zip(*VERDICTS)
    rows = pd.DataFrame({"author": "a", "problem_id": ids, "sample_index": 0, "text": texts})
    held = pd.DataFrame({"problem_id": ids, "answer": golds})
    with verifier("auto") as verify:
        found = verify(rows.assign(finish_reason="stop"), held)
    assert found["verdict"].tolist() == list(verdicts)
    assert found[KEY].equals(rows[KEY])


def test_bytes_are_text_or_leave_with_a_reason(tmp_path):
    rows = [
        {"question": "Où?".encode(), "answer": b"4"},
        {"question": b"\xff\xfe", "answer": b"4"},
        {"question": b"2?", "answer": b"\x80"},
    ]
    train, dropped = problems(tmp_path, rows, "t.parquet")
    assert train["question"].tolist() == ["Où?"]
    reasons = [row["reason"] for row in dropped]
    assert reasons == [f"column {name!r} holds bytes that are no UTF-8 text" for name in rows[0]]


def test_tests_that_are_objects_are_json(tmp_path):
    tests = {"inputs": ["1\n"], "outputs": ["2\n"]}
    train, _ = problems(
        tmp_path, [{"question": "Add 1.", "tests": tests}], columns={"tests": "tests"}
    )
    assert json.loads(train["tests"].iloc[0]) == tests


SYSTEM = [{"role": "system", "content": "Be brief."}, *ASKED]
REFUSED = [
    (
        {"question": {"text": "2?"}},
        {},
        r"'question' holds an object with the keys text; .* question\.text",
    ),
    (
        {"question": SYSTEM},
        {},
        r"2 turns \(system, user\).* question\.1\.content, .*prompt\.system",
    ),
    ({"question": ASKED + SAID}, {}, r"2 turns \(user, assistant\).* as question\.0\.content"),
    ({"question": SAID}, {}, r"1 turns \(assistant\), and one turn of user is needed"),
    (
        {"question": [{"type": "image", "image": "x.png"}]},
        {},
        r"a list of 1, whose first item holds",
    ),
    (
        {"answer": {"value": 4, "unit": "m"}},
        {},
        r"'answer' holds an object with the keys value, unit",
    ),
    ({"answer": [{"value": 4}]}, {}, r"'answer' holds a list of 1, .* as answer\.0\.value"),
    ({"answer": [["2"], ["3"]]}, {}, r"'answer' holds a list of 2, whose first item holds a list"),
    ({"id": {"a": 1}}, {"problem_id": "id"}, r"'id' holds an object .*an id or level is a text"),
    ({"id": 1e17}, {"problem_id": "id"}, r"'id' = 1e\+17: .*has lost digits; write the column as"),
    ({"level": [5]}, {"level": "level"}, r"'level' holds a list of 1"),
    ({}, {"answer": "answer.0.value"}, r"no column 'answer\.0\.value'; .*answer holds no further"),
    ({}, {"question": "{q} {answer}"}, r"no column 'q'; columns are question, answer"),
]


@pytest.mark.parametrize("change,columns,message", REFUSED)
def test_what_has_no_rule_is_refused_by_row_and_column(tmp_path, change, columns, message):
    rows = [{"question": "1?", "answer": "1"}, {"question": "2 + 2?", "answer": "4"} | change]
    rows[0] |= {name: "1" for name in change if name not in rows[0]}
    line = 1 if not change else 2
    with pytest.raises(StudyError, match=rf"t\.jsonl, line {line}: .*{message}"):
        problems(tmp_path, rows, columns=columns)
