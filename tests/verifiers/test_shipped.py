"""The verifiers that come with the kit: nothing wrong is accepted, in cases that were written before them."""

import importlib.util
import json
from pathlib import Path

import pytest
import yaml

from wcse_lib.study import Verification
from wcse_lib.verdicts.program import read_program
from wcse_lib.verifiers import SHIPPED

HERE = Path(__file__).parent
MOST_LINES, FEWEST_WRONG = 150, 60


def cases(name):
    return yaml.safe_load((HERE / f"{name}_cases.yaml").read_text())


def verdicts(name, kind):
    """(answer, what the verifier says of it) of every case of a kind, by the program as a module of this process."""
    spec = importlib.util.spec_from_file_location(name, SHIPPED[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for case in cases(name):
        for answer in case[kind]:
            said = module.verify(answer, case["row"])
            yield answer, said[0] if isinstance(said, tuple) else said


@pytest.mark.parametrize("name", SHIPPED)
def test_no_wrong_answer_is_accepted_and_every_right_one_is(name):
    wrong, right = list(verdicts(name, "wrong")), list(verdicts(name, "right"))
    assert [answer for answer, verdict in wrong if verdict is True] == []
    assert [answer for answer, verdict in right if verdict is not True] == []
    assert len(wrong) >= FEWEST_WRONG and len(right) >= 15


@pytest.mark.parametrize("name", SHIPPED)
def test_a_person_can_read_it_in_one_sitting(name):
    assert len(SHIPPED[name].read_text().splitlines()) <= MOST_LINES


@pytest.mark.parametrize("name", SHIPPED)
def test_it_says_the_same_in_the_sandbox(name):
    asked, expected = [], []
    for case in cases(name):
        row = json.dumps(case["row"])
        for kind in ("right", "wrong"):
            asked += [(row, answer) for answer in case[kind]]
            expected += [kind == "right"] * len(case[kind])
    program = read_program(Verification(by="program", path=name))
    said = program.says(asked, workers=2)
    assert [verdict is True for verdict, _, _ in said] == expected
    faults = [
        reason for _, reason, _ in said if reason.startswith(("the program raised", "timeout"))
    ]
    assert faults == []


def votes(name, row, *answers):
    program = read_program(Verification(by="program", path=name))
    return [
        vote for _, _, vote in program.says([(json.dumps(row), answer) for answer in answers], 1)
    ]


def test_queries_vote_by_what_they_find():
    row = cases("sql")[0]["row"]
    same = (
        "SELECT name FROM students WHERE age > 20",
        "select s.name from students s where 20 < s.age",
    )
    one, other, wrong, failing = votes("sql", row, *same, "SELECT name FROM students", "SELECT x")
    assert one == other != wrong and one.startswith("[('Bob',), ('Cem',)]") and failing is None
