"""Code of answers: which blocks count, in whatever marks, and how it joins the code of its question."""

import pytest

from wcse_lib.verdicts.blocks import blocks_of
from wcse_lib.verdicts.code import extract_code, program

F = "```"
SOLUTION = "def area(s):\n    return s * s\n"
BLOCK = f"{F}python\n{SOLUTION}{F}\n"
TESTS = "assert area(2) == 4\nassert area(3) == 9"


def block(code, label="python"):
    return f"{F}{label}\n{code}\n{F}\n"


def passes(text, question="", tests=TESTS):
    """Whether what would be run passes, run here: all of these samples are our own."""
    one = program(text, question, tests)
    namespace = {"__name__": "candidate"}
    try:
        exec(compile(one.code, "code", "exec", dont_inherit=True), namespace)
        exec(one.tests, namespace)
        if "def check(" in tests:
            namespace["check"](namespace[one.entry_point])
    except Exception:
        return False
    return bool(one.code.strip())


MARKED = {
    "tildes": f"~~~py\n{SOLUTION}~~~",
    "more marks than its docstring has": "````python\ndef area(s):\n    '''\n```\narea(2)\n```\n"
    "    '''\n    return s * s\n````",
    "a fence in a docstring": block(
        "def area(s):\n    '''\n    ```\n    area(2)\n    ```\n    '''\n    return s * s"
    ),
    "a list": f"2) So:\n\n    {F}python\n    def area(s):\n        return s * s\n    {F}\n",
    "a bullet before the fence": f"* {F}python\n  def area(s):\n      return s * s\n  {F}",
    "a quote": f"> {F}python\n> def area(s):\n>     return s * s\n> {F}",
    "never closed": f"So:\n{F}python\n{SOLUTION}",
    "opened in the prompt": f"import re\n\n{SOLUTION}{F}\nUse it so:\n{block('print(area(2))')}",
    "a body, opened in the prompt": f"    return s * s\n{F}\nDone.",
    "[BEGIN] on the line": f"[BEGIN] {SOLUTION.rstrip()} [DONE]\nAnd more",
    "[DONE] alone": f"{SOLUTION}[DONE]\nProblem 3: …",
    "[PYTHON] around a fence": f"[PYTHON]\n{BLOCK}[/PYTHON]\n[TESTS]\nassert area(2) == 5\n[/TESTS]",
    "[/PYTHON] alone": f"{SOLUTION}[/PYTHON]",
    "a tag of HTML": f"<code>\n{SOLUTION}</code>",
    "tags of HTML": f'<pre><code class="py">\n{SOLUTION}</code></pre>\nDone.',
    "LaTeX": f"\\begin{{minted}}{{python}}\n{SOLUTION}\\end{{minted}}",
    "a label with more": f"{F}{{.python .numberLines}}\n{SOLUTION}{F}",
    "an annotation before": f"Solution: code\n{F}\n{SOLUTION}{F}",
    "Windows": "\ufeff" + BLOCK.replace("\n", "\r\n"),
    "no marks": f"Here is the function:\n\n{SOLUTION}\nIt squares the side.",
    "a fence behind words": f"**Answer:** {BLOCK}Done.",
    "a fence in a box": f"\\boxed{{{BLOCK.rstrip()}}}",
    "prose in an open fence": f"{F}python\n{SOLUTION}\nThis is the square. It's fast.",
    "a fence behind the last line": f"{F}python\n{SOLUTION.rstrip()}{F}\nDone.",
    "a tag on the line": f"<code>{SOLUTION.rstrip()}</code>",
    "a tag without a fence": f"<answer>\n{SOLUTION}</answer>",
    "a tag around words and a fence": f"<solution>\nSo:\n{BLOCK}</solution>",
    "Llama's tag": f"<|python_tag|>{SOLUTION}",
    "Markdown's four spaces": "So:\n\n    def area(s):\n        return s * s\n\nDone.",
    "signs of HTML": f"<code>\n{SOLUTION.rstrip()} if s &gt; 0 else 0\n</code>",
    "odd spaces": block("\u200bdef area(s):\n\u00a0\u00a0return s * s"),
    "old line ends": BLOCK.replace("\n", "\r"),
    "lines of a notebook": block(f"%matplotlib inline\n!pip install x\n{SOLUTION}"),
    "a closing fence forgotten": f"{F}python\n{SOLUTION}\n{block('print(area(2))')}",
}


@pytest.mark.parametrize("kind", MARKED)
def test_marks_of_code(kind):
    question = "def area(s):\n    '''The area.'''\n"
    assert passes(MARKED[kind], question if kind.startswith("a body") else "")


def test_code_on_one_line_between_marks_is_no_block():
    assert blocks_of("Use ```area(2)``` or\n```area(3)```\nas you like") == []


TOGETHER = {
    "usage that assigns": BLOCK + block("result = area(2)\nassert result == 5"),
    "usage that reads": BLOCK + block("def main():\n    print(area(int(input())))\nmain()"),
    "usage that imports": BLOCK + block("from shapes import area\nprint(area(2))"),
    "tests of its own": BLOCK + block("def test_area():\n    assert area(1) == 7\ntest_area()"),
    "output that reads as Python": BLOCK + block("[4, 9]", ""),
    "shell and output": block("pip install x", "bash") + BLOCK + block(">>> area(2)\n4", "pycon"),
    "another language": BLOCK + block("function area(s) { return s * s }", "javascript"),
    "imports, a constant, a class": block("import math\nPOWER = 2")
    + block("class Side:\n    def __init__(self, s):\n        self.s = s")
    + block("def area(s):\n    return int(math.pow(Side(s).s, POWER))"),
    "a helper behind": block("def area(s):\n    return times(s, s)")
    + block("def times(a, b):\n    return a * b"),
    "a helper mended": block("def f(s):\n    return s\ndef area(s):\n    return f(s)")
    + block("def f(s):\n    return s * s"),
    "a draft that fails": block("def area(s):\n    return s\nassert area(2) == 4") + BLOCK,
    "a sketch behind": BLOCK + block("def area(s):\n    '''Squares.'''\n    ..."),
    "an elided version behind": BLOCK
    + block("def area(s: int):\n    # ... as before\n    return 0"),
    "under another name": block("def square(s):\n    return s * s") + block("area = square"),
    "an unlabelled block": block("def area(s):\n    return s * s", ""),
}


@pytest.mark.parametrize("kind", TOGETHER)
def test_blocks_that_count(kind):
    assert passes(TOGETHER[kind])


def test_a_later_whole_version_counts_even_if_it_is_wrong():
    assert not passes(BLOCK + block("def area(s):\n    return s + s"))


def test_a_later_version_with_a_syntax_error_counts():
    assert not passes(BLOCK + block("def area(s)\n    return s * s"))


@pytest.mark.parametrize(
    "text",
    [
        f"<think>\n{BLOCK}",
        f"<think>{BLOCK}",
        f"[THINK]{BLOCK}[/THINK]I am not sure.",
        f"◁think▷\n{BLOCK}◁/think▷ No.",
    ],
)
def test_code_that_is_only_thought_is_none(text):
    assert "def area" not in extract_code(text)


def test_code_after_a_thought_counts_whatever_its_label():
    draft = block("def area(s):\n    return 0")
    assert passes(f"<think>{draft}</think>\n{block(SOLUTION, '')}")


QUESTION = '''from typing import (
    List,
    Tuple,
)

SCALE = 2


def scaled(x):
    return x * SCALE


def area(s: int) -> Tuple[int, List[int]]:
    """The area.

    >>> area(1)
    (2, [1])
    """
'''
CHECK = "def check(candidate):\n    assert candidate(1) == (2, [1])\n    assert scaled(3) == 6\n"
ANEW = block("def area(s: int) -> Tuple[int, List[int]]:\n    return scaled(s), [s]")


@pytest.mark.parametrize(
    "text",
    [
        ANEW,
        block(QUESTION + "    return scaled(s), [s]"),
        block(
            "from __future__ import annotations\ndef area(s: Nowhere):\n    return scaled(s), [s]"
        ),
        "    return scaled(s), [s]\n",
        "x = scaled(s)\n    return x, [s]\n\n\ndef other():\n    return 1\n",
        "    return scaled(s), [s]\n\nThis function returns both.",
        block("    return scaled(s), [s]"),
        block("x = scaled(s)\nreturn x, [s]"),
    ],
)
def test_a_question_that_is_code(text):
    assert passes(text, QUESTION, CHECK)


@pytest.mark.parametrize(
    "question",
    [f"Complete this:\n\n{QUESTION}", f"Complete this:\n{block(QUESTION)}"],
)
def test_a_question_that_shows_code(question):
    assert passes(ANEW, question, CHECK)


@pytest.mark.parametrize(
    "text",
    ["    return s, [s]", block("def areas(s):\n    return scaled(s), [s]"), "    pass"],
)
def test_wrong_code_does_not_pass_by_its_question(text):
    assert not passes(text, QUESTION, CHECK)


def test_a_question_that_holds_a_solution_is_no_answer():
    solved = "def area(s):\n    return s * s\n"
    assert not passes(block("def faster(s):\n    return s ** 2"), solved, TESTS)


def test_the_question_of_code_that_stands_alone_is_left_out():
    question = "Given `area(2) == 4`:\n" + block("side = area(2)")
    assert program(BLOCK, question, TESTS).code == SOLUTION


def test_the_program_that_reads_counts_with_its_helpers():
    text = block("def add(a, b):\n    return a + b") + block(
        "print(add(*map(int, input().split())))"
    )
    code = program(
        text + block("print(add(1, 2))"), "", '{"inputs": ["1 2"], "outputs": ["3"]}'
    ).code
    assert "def add" in code and "input" in code and "add(1, 2)" not in code


@pytest.mark.parametrize(
    "setup, value",
    [
        ("N = []\nfor i in range(3):\n    N.append(i)\n", "len(N)"),
        ("N = 2\nN += 1\n", "N"),
        ("import sys\nsys.setrecursionlimit(3333)\n", "sys.getrecursionlimit() // 1111"),
    ],
)
def test_what_sets_up_constants_of_the_question_is_kept(setup, value):
    code = block(f"def three():\n    return {value}")
    assert passes(code, f"{setup}\ndef three():\n    '3.'\n", "assert three() == 3")


def test_a_helper_may_stand_behind_the_sketch():
    question = "def area(s):\n    'The area.'\n    pass\n\ndef square(x):\n    return x * x\n"
    assert passes(block("def area(s):\n    return square(s)"), question)


READS = "def main():\n    print(2 * int(input()))"


@pytest.mark.parametrize(
    "parts, others",
    [
        ((READS, "main()"), ["print(main)"]),
        (("def read():\n    return int(input())", "print(2 * read())"), []),
        (("def read():\n    return int(input())", "def main():\n    print(read())", "main()"), []),
        (("n = int(input())", "print(2 * n)"), []),
        ((f"{READS}\nmain()",), ["main()"]),
        ((f"import sys\nsys.setrecursionlimit(9999)\n{READS}", "main()"), []),
    ],
)
def test_a_program_in_parts_runs_once(parts, others):
    text = "".join(map(block, [*parts, *others]))
    code = extract_code(text, reads_input=True)
    assert code == "\n".join(f"{part}\n" for part in parts)


@pytest.mark.parametrize(
    "line", ["# strip <think> tags", "# ends at </think>", "P = r'(<think>)'", '"A <thought> tag."']
)
def test_a_tag_in_code_is_no_thought(line):
    for label in ("python", ""):
        assert passes(block(f"def area(s):\n    {line}\n    return s * s", label))
    assert passes(f"I write no <think> tags.\n{block(line)}{BLOCK}")


def test_a_question_that_imports_a_package_cannot_be_decided():
    question = "import numpy as np\n\ndef area(s):\n    '''The area.'''\n"
    fault = program("    return s * s", question, TESTS).fault
    assert fault == "the question imports numpy; the sandbox has only Python's standard library"


@pytest.mark.parametrize("mark", ["#### ", "#", "- ", "> ", "* ", "1. ", "#### #", "> - "])
def test_marks_that_a_model_repeats_are_read_once(mark):
    """A pattern that can read a mark in two ways would need longer than a test suite for sixty of them."""
    text = 60 * mark + "16"
    assert extract_code(text) == text
