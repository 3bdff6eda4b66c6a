"""Coverage-guided fuzzing of what strangers write: parameter files, samples, tables of a report (`make fuzz`).

`python tests/fuzz.py TARGET [atheris' own options]`; TARGET: params, samples, answers or report.
tests/test_fuzz.py runs the same functions on seeded random texts, so that every run of the tests has a little of it.
"""

from __future__ import annotations

import importlib
import re
import sys
import tempfile
import time
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

from wcse_lib import store, study
from wcse_lib.analyze import TABLES, read_tables
from wcse_lib.answers import equal, extraction, notation, policy, without_thoughts
from wcse_lib.report import page as report
from wcse_lib.report.tables_html import page_table
from wcse_lib.verdicts import code
from wcse_lib.verify import judges
from wcse_lib.verify.arithmetic import judge_arithmetic
from wcse_lib.verify.model_judge import read_judgement

ROOT = Path(__file__).parents[1]
SECONDS = 5.0  # no text of a few kB may hold a stage longer
PIECES = [
    *"0123456789{}[]()|$#*.,:;%/+-=<>\\^_ \n\t\0\u2028\ufeff\ud800é漢٣",
    "\\boxed{",
    "\\fbox",
    "####",
    "\\frac",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "A: ",
    "The answer is ",
    "Final Answer: The final answer is $",
    "I hope it is correct.",
    "<think>",
    "</think>",
    "<script>alert(1)</script>",
    "</table>",
    "&lt;",
    "{{ 7*7 }}",
    "{% raw %}",
    "```python\n",
    "```",
    "def f(",
    "1e999999",
    "9" * 400,
    "((((((((((((((((",
    "2^2^2^2^2",
    "Tom has ",
    "+7=",
    "x" * 300,
    "study: ",
    "arms: ",
    "- ",
    "!!python/object:os.system ",
    "&a ",
    "*a",
    "? ",
    "null",
    "nan",
    "1_000",
    "0x1F",
    "../../etc/passwd",
    "\r\n",
]


def params_file(text: str) -> None:
    """A file is a study or a machine, or is refused by name."""
    with tempfile.NamedTemporaryFile("wb", suffix=".yaml") as file:
        file.write(text.encode("utf-8", "surrogatepass"))
        file.flush()
        for load in (study.load_study, study.load_machine):
            try:
                load(file.name)
            except store.StudyError as error:
                assert Path(file.name).name in str(error), error


def sample(text: str) -> None:
    """What reads samples gives an answer, part of the text or nothing, and ends."""
    clock = time.process_time()
    for style in extraction.STYLES:
        found = extraction.extract(text, style)
        assert found is None or (isinstance(found, str) and found.strip()), (style, found)
    assert judge_arithmetic(text)[0] in (True, False, None)
    assert judges.exact("Ann has 3 apples. How many apples does Ann have?", text)[0] in (
        True,
        False,
        None,
    )
    assert read_judgement(text, "stop")[0] in (True, False, None)
    assert isinstance(code.extract_code(text), str)
    assert isinstance(without_thoughts(text), str | None)
    assert time.process_time() - clock < SECONDS, "too slow"


def decide(text: str) -> None:
    """An answer reads into the same value twice, whatever white space stands around it."""
    clock = time.process_time()
    key = notation.key(text)
    assert isinstance(key, str) and notation.key(text) == key
    for other in ("1/2", "(1, 2]", "x^2"):
        assert equal.decide(text, other, policy.DEFAULT)[0] in (True, False, None, "ask")
    assert time.process_time() - clock < SECONDS, "too slow"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple] = []

    def handle_starttag(self, tag: str, attrs: list) -> None:
        self.seen.append((tag, *sorted(name for name, _ in attrs)))


def _tags(text: str) -> list[tuple]:
    parser = _Tags()
    parser.feed(text)
    return parser.seen


def _page(text: str) -> str:
    rows = pd.DataFrame(
        {
            "arm": ["wc", text],
            "budget": "low",
            "recipe": "main",
            "step": "dropped",
            "reason": [text, "plain"],
            "n": [3, 4],
        }
    )
    with tempfile.TemporaryDirectory() as folder:
        rows.to_csv(Path(folder) / "flow.csv", index=False)
        frame = read_tables(Path(folder))["flow"]
    return report.render(
        "comparison.html.j2",
        {
            "title": text,
            "sentences": [text, f"A sample reads {text}"],
            "independent": True,
            "settings": {text: text},
            "studies": {text: text},
            "tables": [(TABLES["flow"], page_table(TABLES["flow"], frame))],
        },
    )


@cache
def _known() -> set[tuple]:
    return set().union(*(_tags(_page(text)) for text in ("harmless", "3", "", "0.25")))


def page(text: str) -> None:
    """No text that a report shows becomes a tag or an attribute of it."""
    assert set(_tags(_page(re.sub(r"[\ud800-\udfff]", "?", text)))) <= _known()


TARGETS = {"params": params_file, "samples": sample, "answers": decide, "report": page}


def main() -> None:
    import atheris

    name = sys.argv.pop(1)
    ours = [name for name in sys.modules if name.startswith("wcse_lib")]
    for module in ours:
        del sys.modules[module]
    with atheris.instrument_imports(include=["wcse_lib"]):  # only the kit's own branches count
        for module in ours:
            globals()[module.rpartition(".")[2]] = importlib.import_module(module)

    def one(data: bytes) -> None:
        provider = atheris.FuzzedDataProvider(data)
        if provider.ConsumeBool():
            text = "".join(
                PIECES[provider.ConsumeIntInRange(0, len(PIECES) - 1)]
                for _ in range(provider.ConsumeIntInRange(0, 60))
            )
        else:
            text = provider.ConsumeUnicode(4000)
        TARGETS[name](text)

    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
