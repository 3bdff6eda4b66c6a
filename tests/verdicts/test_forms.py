"""Tests in the forms that people have: run for right and wrong code, or refused with the reason."""

import pandas as pd
import pytest

from wcse_lib.verdicts.execute import fault_of_tests, faults_of_solutions, run_samples
from wcse_lib.verdicts.forms import read_tests, with_entry_point
from wcse_lib.verdicts.runner import same_output, same_value
from wcse_lib.verdicts.sandbox import run_tests

ADD = "def add(a, b):\n    return a + b\n"
WRONG = "def add(a, b):\n    return a - b\n"
QUESTION = "def add(a, b):\n    '''The sum.'''\n"
UNITTEST = "import unittest\nclass Sums(unittest.TestCase):\n"
READS = "a, b = map(int, input().split())\nprint(a + b)\n"
READS_WRONG = READS.replace("a + b", "a * b")
RUN = {  # name: tests, right code, wrong code
    "unittest": UNITTEST + "    def setUp(self):\n        self.two = 2\n"
    "    def test_sum(self):\n        self.assertEqual(add(self.two, 2), 4)\n"
    "    def test_other(self):\n        self.assertEqual(add(self.two, 1), 3)\n",
    "unittest, its main by another name": "from unittest import TestCase, main as go\nclass Sums(TestCase):\n"
    "    def test_sum(self):\n        for a in (1, 2):\n            with self.subTest(a):\n"
    "                self.assertEqual(add(a, 1), a + 1)\nif '__main__' == __name__:\n    go()\n",
    "unittest, by way of a base": "from unittest import TestCase as Case\nclass Base(Case):\n    two = 2\n"
    "class Sums(Base):\n    def test_sum(self):\n        self.assertEqual(add(self.two, 2), 4)\n",
    "unittest, by an alias": "import unittest\nTC = unittest.TestCase\nclass Sums(TC):\n"
    "    def test_sum(self):\n        self.assertEqual(add(1, 2), 3)\n",
    "a runner that swallows": UNITTEST
    + "    def test_0(self):\n        self.assertEqual(add(0, 0), 0)\n"
    "    def test_1(self):\n        self.assertEqual(add(1, 1), 2)\n"
    "unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(Sums))\n",
    "pytest": "import pytest\nfrom solution import add\n\n"
    "@pytest.mark.parametrize('a, b', [(1, 2), pytest.param(0, 4, id='zero')])\n"
    "def test_sum(a, b):\n    assert add(a, b) == pytest.approx(a + b)\n"
    "def test_type():\n    with pytest.raises(TypeError, match='unsupported') as info:\n        add(None, 1)\n"
    "    assert info.value is not None\nif __name__ == '__main__':\n    raise SystemExit(pytest.main())\n",
    "a class of pytest": "class TestSums:\n    def setup_method(self):\n        self.a = 1\n"
    "    def test_sum(self):\n        assert add(self.a, 2) == 3\n",
    "the code as a module": "import submission\nassert submission.add(2, 3) == 5\n",
    "test(candidate)": "def test(candidate):\n    assert candidate(1, 2) == 3\n",
    "check, called by a test": "def check(f):\n    assert f(1, 2) == 3\ndef test_it():\n    check(add)\n",
    "raise": "for a in range(3):\n    if add(a, 1) != a + 1:\n        raise ValueError(a)\nexit()\n",
    "a failure that is caught": "assert add(0, 0) == 0\ntry:\n    assert add(1, 2) == 3\n"
    "except AssertionError:\n    print('no')\n",
    "a list of statements": '["from math import inf", "assert add(1, inf) == inf", "assert add(1, 2) == 3"]',
    "statements as Python spells them": "['assert add(1, 2) == 3', \"assert add('a', 'b') == 'ab'\"]",
    "calls": '{"fn_name": "add", "inputs": [[1, 2], [0, 0.25]], "outputs": [[3], [0.2500000001]]}',
    "calls by name, a case a line": '{"input": {"a": 1, "b": 2}, "output": 3, "func_name": "add"}\n'
    '{"input": {"a": 2, "b": 2}, "output": 4, "func_name": "add"}',
    "calls as text": '[{"input": "1\\n2", "output": "3", "testtype": "functional"}]',
    "calls as Python spells them": "{'fn_name': 'add', 'inputs': [('x', 'y')], 'outputs': ['xy']}",
}
PROGRAMS = {
    "programs": '{"inputs": ["1 2\\n", "0 4\\n"], "outputs": ["3\\n", "4\\n"]}',
    "lines": '{"inputs": [["1 2"]], "outputs": [["3"]]}',
    "one case": '{"input": "1 2", "expected_output": "3"}',
    "cases inside": '{"test_cases": [{"type": "stdin_stdout", "input": "5 2", "output": "7"}]}',
}


def test_known_forms_decide():
    """All in one call, as the sandbox starts a process for each."""
    texts, golds = [], []
    for tests in RUN.values():
        texts += [ADD, WRONG]
        golds += [[QUESTION, tests]] * 2
    for tests in PROGRAMS.values():
        texts += [READS, READS_WRONG]
        golds += [["Print the sum.", tests]] * 2
    verdicts = [verdict for _, verdict, _ in run_samples(texts, golds, 2, 5.0)]
    names = [*RUN, *PROGRAMS]
    found = dict(zip(names, zip(verdicts[::2], verdicts[1::2])))
    assert found == dict.fromkeys(names, ("correct", "incorrect"))


REFUSED = {
    "# add(1, 2) should be 3": "the tests assert nothing",
    "'''add(1, 2) == 3'''": "the tests assert nothing",
    "print(add(1, 2) == 3)": "the tests assert nothing",
    "assert True": "the tests assert nothing",
    "assert (add(1, 2) == 3, 'no')": "the tests assert nothing",
    "assert [add(1, 2) == 3]": "the tests assert nothing",
    "assert {'a': add(1, 2) == 3}": "the tests assert nothing",
    "assert lambda: add(1, 2) == 3": "the tests assert nothing",
    "assert (add(a, 2) == 3 for a in (1,))": "the tests assert nothing",
    "from solution import add\nassert add": "the tests assert nothing",
    "def sums():\n    assert add(1, 2) == 3": "the tests define sums and nothing calls it",
    "class Sums:\n    def run(self):\n        assert add(1, 2) == 3": "the tests define Sums and nothing calls it",
    f"{ADD}assert add(1, 2) == 3": "the tests use nothing of the code",
    "def check(candidate):\n    assert candidate(1, 2) == 3": "set dataset.columns.entry_point",
    '{"inputs": [[1, 2]], "outputs": [3]}': "set dataset.columns.entry_point",
    '{"inputs": ["1", "2"], "outputs": ["3"]}': "2 inputs and 1 outputs",
    '{"inputs": ["1"], "outputs": ["\\n"]}': "the tests expect no output",
    '{"add": [1, 2, 3]}': "the tests are JSON and hold no case",
    '{"inputs": ["1"]}': "and not both",
    "def test_sum(tmp_path):\n    assert add(1, 2) == 3": "the pytest fixture tmp_path",
    "import pytest\n@pytest.fixture\ndef two(): return 2\ndef test_sum(two): assert add(two, 2) == 4": (
        "the pytest fixture two"
    ),
    "import scipy.stats as st\nassert add(1, 2) == 3": "the tests import scipy; the sandbox has only",
    "def test_sum():\n    from sympy import Integer\n    assert add(1, 2) == 3": "the tests import sympy",
    ">>> add(1, 2)\n3": "the tests do not compile: invalid syntax (line 1)",
    "assert add(1, 2 == 3": "the tests do not compile",
}


@pytest.mark.parametrize("tests", REFUSED)
def test_tests_that_decide_nothing_are_refused_with_the_reason(tests):
    assert REFUSED[tests] in fault_of_tests("Add two numbers.", tests)


def test_what_is_refused_makes_no_sample_correct():
    assert run_tests(ADD, "print(add(1, 2) == 3)") == ("unverifiable", "the tests assert nothing")


def test_an_optional_package_is_no_fault():
    tests = "try:\n    import numpy\nexcept ImportError:\n    numpy = None\nassert add(1, 2) == 3"
    assert fault_of_tests("", tests) == ""


@pytest.mark.parametrize(
    ("tests", "verdict"),
    [
        ("import importlib\nx = importlib.import_module('numpy')\n", "unverifiable"),
        ("from collections import Mapping\n", "unverifiable"),
        ("from .solution import add\n", "correct"),
        ("from solution import subtract\n", "incorrect"),
    ],
)
def test_a_missing_module_of_the_tests_is_no_fault_of_the_code(tests, verdict):
    assert run_tests(ADD, f"{tests}assert add(1, 2) == 3")[0] == verdict


def test_a_missing_module_of_the_tests_is_found_by_the_solution():
    tests = "from collections import Mapping\nassert add(1, 2) == 3"
    problems = pd.DataFrame({"question": [QUESTION], "tests": [tests], "reference": [ADD]})
    fault = faults_of_solutions(problems, 5.0).iloc[0]
    assert fault.startswith("the tests cannot run here: ImportError in the tests")


def test_needed_names_are_what_the_tests_do_not_bind():
    tests = "from math import pi\nfrom solution import area\nround_up = 1\nassert area(Side(1)) == round_up * pi"
    assert read_tests(tests).needed == {"area", "Side"}


@pytest.mark.parametrize(
    ("tests", "named"),
    [
        ("def check(candidate):\n    assert candidate(1)", "\n\ncheck(f)\n"),
        ("def test(candidate):\n    assert candidate(1)", "\n\ntest(f)\n"),
        ("def check(c):\n    assert c(1)\ncheck(f)", "check(f)"),
        ("assert f(1)", "assert f(1)"),
    ],
)
def test_an_entry_point_is_called_where_nothing_calls_it(tests, named):
    assert with_entry_point(tests, "f").endswith(named)


def test_an_entry_point_names_the_function_of_cases():
    tests = with_entry_point('[{"input": [1, 2], "output": 3}]', "add")
    assert read_tests(tests).function == "add"


def test_cases_of_programs_keep_having_no_function():
    tests = with_entry_point('[{"input": "1", "output": "3", "testtype": "stdin"}]', "add")
    assert read_tests(tests).function == ""


@pytest.mark.parametrize(
    ("printed", "expected", "same"),
    [
        ("3 4 \n\n", "3 4\n", True),
        ("3  4", "3 4", True),
        ("3\n4", "3 4", False),
        ("0.3333333333", "0.33333333", True),
        ("0.33", "0.333333", False),
        ("2.0", "2", False),
        ("1000001", "1000000", False),
        ("*\n***", "  *\n ***", False),
        ("YES", "Yes", False),
        ("", "0", False),
    ],
)
def test_outputs_are_compared_by_lines(printed, expected, same):
    assert same_output(printed, expected) == same


@pytest.mark.parametrize(
    ("ours", "theirs", "same"),
    [
        ([1, [2.0000000001]], [1, [2.0]], True),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ([1, 2], [2, 1], False),
        ("1", 1, False),
        (1000001, 1000000, False),
    ],
)
def test_results_are_compared_as_json(ours, theirs, same):
    assert same_value(ours, theirs) == same


ENDS_EARLY = {
    "sys.exit": "import sys\nsys.exit(0)",
    "os._exit": "import os\nos._exit(0)",
    "SystemExit in the function": "def add(a, b):\n    raise SystemExit",
    "os._exit in the function": "import os\ndef add(a, b):\n    os._exit(0)",
    "a result that equals everything": "class All:\n    def __eq__(self, other): return True\n"
    "def add(a, b):\n    return All()",
    "its own helpers": "def check_sum(a, b): pass\ndef test_sum(): pass\nclass Sums: pass",
    "no result": "def add(a, b):\n    return []",
}
ENDING_TESTS = [
    UNITTEST + "    def test_sum(self):\n        self.assertEqual(add(1, 2).bit_length(), 2)\n",
    "def check_sum(a, b):\n    assert add(a, b).bit_length() == 2\ndef test_sum():\n    check_sum(1, 2)\n",
    '{"fn_name": "add", "inputs": [[1, 2]], "outputs": [3]}',
    "for value in add(1, 2):\n    assert value == 3\n",
]


def test_code_that_ends_early_or_pretends_does_not_pass():
    texts, golds = [], []
    for code in ENDS_EARLY.values():
        texts += [code] * len(ENDING_TESTS)
        golds += [["", tests] for tests in ENDING_TESTS]
    rows = run_samples(texts, golds, 2, 5.0)
    assert [row for row in rows if row[1] == "correct"] == []


def test_programs_run_as_programs():
    """Input by every way that contests know, output at the very end, and an exit status."""
    tests = '{"inputs": ["2\\n", "5\\n"], "outputs": ["4", "10"]}'
    right = [
        "print(2 * int(open(0).read()))",
        "import sys\ndef main():\n    print(2 * int(sys.stdin.buffer.readline()))\n    sys.exit()\n"
        "if __name__ == '__main__':\n    main()",
        "import threading\nthreading.Thread(target=lambda: print(2 * int(input()))).start()",
        "import atexit\natexit.register(lambda: print(2 * int(input())))",
    ]
    wrong = ["print(4)", "print(2 * int(input()))\nraise SystemExit(1)", "while True: print('4')"]
    rows = run_samples(right + wrong, [["", tests]] * 7, 2, 5.0)
    assert [row[1] for row in rows] == ["correct"] * 4 + ["incorrect"] * 3
