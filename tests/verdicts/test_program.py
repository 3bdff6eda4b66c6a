"""A verifier that the user writes: whatever it does to an answer, that has a verdict and a sentence, and others too."""

import json

import pytest
from studies import sample_row, verdict_rows

from wcse_lib.store import StudyError
from wcse_lib.study import Verification
from wcse_lib.verdicts import sandbox
from wcse_lib.verdicts.program import Program, faults_of_program, read_program
from wcse_lib.verifiers import SHIPPED

ROW = json.dumps({"answer": "7", "unit": "m"})
# what it does with an answer stands in the answer
WILD = """
import os, sys, threading, time

def verify(answer, row):
    if answer == "raises":
        raise ValueError("no: such thing")
    if answer == "loops":
        while True:
            pass
    if answer == "sleeps":
        time.sleep(100)
    if answer == "prints":
        print("x" * 10**6)
    if answer == "imports":
        import numpy
    if answer == "exits":
        sys.exit(3)
    if answer == "ends":
        os._exit(3)
    if answer == "kills":
        os.kill(os.getppid(), 9)
    if answer == "crashes":
        import ctypes
        ctypes.string_at(0)
    if answer == "eats":
        return "a" * 10**10
    if answer == "forks":
        os.fork()
    if answer == "writes":
        for place in range(3, 20):
            try:
                os.write(place, b"rubbish\\n")
            except OSError:
                pass
    if answer == "starts":
        threading.Thread(target=time.sleep, args=(100,)).start()
    if answer == "changes":
        row["answer"] = "changes"
    if answer == "recurs":
        return verify(answer, row)
    if answer == "yes":
        return "yes"
    if answer == "one":
        return 1
    if answer == "number":
        return True, 5
    if answer == "unsure":
        return None
    return answer == row["answer"], "in " + row["unit"]
"""
FAULTS = {  # answer -> how the reason begins
    "raises": "the program raised ValueError: no: such thing, line 6 of wild.py",
    "loops": "timeout: wild.py took more than 1 s",
    "sleeps": "timeout: wild.py took more than 1 s",
    "imports": "the program raised ModuleNotFoundError: No module named 'numpy', line 15 of wild.py; the sandbox has",
    "exits": "the program raised SystemExit: 3",
    "ends": "the program ended its process: exit status 3",
    "kills": "the program ended its sandbox",
    "crashes": "the program was killed by SIGSEGV",
    "eats": "the program raised MemoryError",
    "recurs": "the program raised RecursionError",
    "yes": "the program returned no verdict: 'yes' (str); verify returns True, False, None or",
    "one": "the program returned no verdict: 1 (int)",
    "number": "the program returned no verdict: (True, 5) (tuple)",
    "unsure": "the program cannot decide",
}
UNHURT = ["prints", "forks", "writes", "starts"]  # decided as any other wrong answer
if sandbox.run_tests("x = 1", "assert x == 1")[0] == "unverifiable":
    pytestmark = pytest.mark.skip(reason="no sandbox: see tests/verdicts/test_sandbox.py")


def says(source, *answers, workers=1, name="wild.py"):
    return Program(name, source, 1.0).says([(ROW, answer) for answer in answers], workers)


def test_what_it_does_to_one_answer_does_not_touch_another():
    asked = []
    for number, wild in enumerate([*FAULTS, *UNHURT, "changes"]):
        # a right and a wrong answer behind every wild one
        asked += [wild, "7", f"wrong {number}"]
    said = dict(zip(asked, says(WILD, *asked, workers=2)))
    for wild, begins in FAULTS.items():
        verdict, reason, _ = said[wild]
        assert verdict is None and reason.startswith(begins), (wild, reason)
    assert said["7"] == (True, "in m", "7") and said["changes"][0] is True
    for answer in asked:
        if answer in UNHURT or answer.startswith("wrong"):
            assert said[answer] == (False, "in m", answer)


@pytest.mark.parametrize(
    "source, reason",
    [
        ("import numpy\ndef verify(answer, row): return True", "ModuleNotFoundError"),
        ("def verify(answer): return True", "TypeError"),
        ("while True: pass", "timeout: wild.py took more than 1 s, before it answered anything"),
        ("import os\nos._exit(0)", "exit status 0, before it answered anything"),
        ("verify = 1", "wild.py defines no function verify"),
        ("def verify(answer, row): return True\ndef key(answer, row): return 5", "key returned 5"),
    ],
)
def test_a_program_that_cannot_be_used_has_one_sentence_for_all(source, reason):
    for verdict, said, vote in says(source, "7", "8"):
        assert verdict is None and reason in said and vote is None


def test_many_answers_share_one_process_and_equal_ones_are_asked_once():
    source = "import os\nn = 0\ndef verify(answer, row):\n global n\n n += 1\n return True, f'{os.getpid()} {n}'"
    said = says(source, *map(str, range(40)), *["0"] * 10)
    assert len({reason.split()[0] for _, reason, _ in said}) == 1
    assert [reason.split()[1] for _, reason, _ in said] == [*map(str, range(1, 41)), *["1"] * 10]


def test_answers_vote_by_key_or_by_their_folded_text():
    plain = "def verify(answer, row): return True"
    by_key = plain + "\ndef key(answer, row): return answer.lower().strip('.') or None"
    assert [vote for _, _, vote in says(plain, "A  b\n", " ")] == ["A b", None]
    assert [vote for _, _, vote in says(by_key, "Yes.", "yes", ".")] == ["yes", "yes", None]
    long = says(plain, "x" * 5000, "x" * 4999 + "y")
    assert long[0][2] != long[1][2] and len(long[0][2]) < 2100


def problems_of(*rows):
    import pandas as pd

    from wcse_lib.verdicts.program import ROW as COLUMNS

    empty = dict.fromkeys(COLUMNS, "")
    return pd.DataFrame([empty | {"problem_id": f"p{i}"} | row for i, row in enumerate(rows)])


def program(folder, source, **keys):
    path = folder / "mine.py"
    path.write_text(source)
    return Verification(by="program", path=str(path), seconds=1, **keys)


def test_verdict_rows_carry_the_program_and_its_version(tmp_path):
    source = "def verify(answer, row):\n return row['answer'] in answer, row['unit'] + ': ' + row['question']"
    how = program(tmp_path, source)
    problems = problems_of(
        {"answer": "7", "question": "q", "tests": '{"unit": "m", "answer": "9"}'}
    )
    samples = sample_rows("it is 9", "it is 7", "cut 9")
    samples.loc[2, "finish_reason"] = "length"
    rows = verdict_rows(samples, problems, "auto", how=how)
    assert rows["verdict"].tolist() == ["correct", "incorrect", "incorrect"], (
        "the row's own columns win"
    )
    assert rows["reason"].tolist() == ["m: q", "m: q", "truncated"]
    assert rows["extracted"].tolist()[:2] == ["it is 9", "it is 7"]
    mark = rows["verifier"].iloc[0]
    assert mark.startswith("program mine.py ")
    changed = program(tmp_path, source + "\n")
    assert verdict_rows(samples, problems, "auto", how=changed)["verifier"].iloc[0] != mark


def test_a_program_may_read_the_final_answer(tmp_path):
    how = program(
        tmp_path, "def verify(answer, row): return answer == row['answer']", reads="answer"
    )
    rows = verdict_rows(
        sample_rows("so #### 7", "no idea"), problems_of({"answer": "7"}), "gsm8k", how=how
    )
    assert rows["verdict"].tolist() == ["correct", "incorrect"]
    assert rows["reason"].tolist() == ["accepted", "no final answer"]


def sample_rows(*texts):
    import pandas as pd

    return pd.DataFrame([sample_row(i, problem_id="p0", text=text) for i, text in enumerate(texts)])


def test_gold_must_be_accepted_and_an_empty_answer_rejected(tmp_path):
    source = "def verify(answer, row): return answer.endswith(row['answer'])"
    problems = problems_of(
        {"answer": "7"},
        {"answer": "8", "reference": "it is 9"},
        {"reference": "x", "answer": ""},
        {"answer": "9"},
    )
    faults = faults_of_program(problems, program(tmp_path, source)).tolist()
    assert faults[0] == faults[1] == faults[3] == ""
    assert faults[2] == "an empty answer is correct, and must be incorrect (accepted)"
    faults = faults_of_program(
        problems, program(tmp_path, "def verify(answer, row): return answer == '7', 'x: y'")
    )
    assert faults.tolist()[1] == "its gold answer is incorrect (x)"


@pytest.mark.parametrize(
    "source, words",
    [
        (None, "no such file; name a Python file that defines verify"),
        ("def check(answer, row): return True", "no function verify in it (verification.path)"),
        ("def verify(answer, row)\n return 1", "line 1: no valid Python"),
        (
            "def verify(answer, row): return False",
            "its gold answer is incorrect: rejected",
        ),
        (
            "def verify(answer, row): return True",
            "an empty answer is correct, and must be incorrect",
        ),
        (
            "def verify(answer, row): return row['schema']",
            "the program raised KeyError: 'schema', line 1 of mine.py",
        ),
    ],
)
def test_a_program_that_cannot_work_is_refused_with_the_key_and_the_remedy(tmp_path, source, words):
    how = program(tmp_path, source or "")
    if source is None:
        (tmp_path / "mine.py").unlink()
    with pytest.raises(StudyError, match="verification.path") as error:
        faults_of_program(problems_of({"answer": "7"}), how)
    assert words in str(error.value)


def test_those_of_the_kit_are_known_by_name():
    assert list(SHIPPED) == ["instructions", "sql", "tool_call"]
    for name in SHIPPED:
        assert read_program(Verification(by="program", path=name)).name == f"{name}.py"
