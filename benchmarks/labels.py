"""Agreement, F1 and seconds of the checker and of math-verify, on labels that the authors of neither of them wrote.

`python benchmarks/labels.py [FILES]`. A file is JSON or JSONL with a row for each output: `gold_answer`,
`llm_response`, `gold_judgment` (A is right; B and C are not), as in VerifierBench and SCI-VerifyBench, or OpenAI's
published GSM8K solutions. Without files it takes the latter from ../shared/data, and the test suite of math-verify,
which pip fetches. Those labels are of math-verify's authors: it agrees with them but where a test sets an option.
"""

import ast
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import NamedTuple

from verification import DATA, plain_loop, processor_seconds

from wcse_lib.answers import VERIFIER, Checker, extract
from wcse_lib.intervals import mcnemar, wilson

MATH_VERIFY = "math-verify==0.9.0"
N_SHOWN = 20


class Labelled(NamedTuple):
    """One output, the answer that it should have, and whether people say that it has it."""

    text: str
    gold: str
    is_right: bool


def of_file(path: Path) -> list[Labelled]:
    """The labelled outputs of a file in one of the two forms above."""
    text = path.read_text(encoding="utf-8")
    is_array = text.lstrip().startswith("[")
    rows = json.loads(text) if is_array else [json.loads(line) for line in text.splitlines()]
    if "ground_truth" in rows[0]:
        return [one for row in rows for one in _of_openai(row)]
    return [
        Labelled(row["llm_response"], row["gold_answer"], row["gold_judgment"] == "A")
        for row in rows
    ]


def _of_openai(row: dict) -> list[Labelled]:
    gold = extract(row["ground_truth"])
    solutions = [value for value in row.values() if isinstance(value, dict)]
    return [Labelled(one["solution"], gold, one["is_correct"]) for one in solutions]


def of_math_verify() -> list[Labelled]:
    """The cases (gold, prediction, whether they are equal) in the tests of math-verify's source package."""
    with tempfile.TemporaryDirectory() as folder:
        fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary"]
        subprocess.run([*fetch, ":all:", "--no-build-isolation", "-d", folder, MATH_VERIFY])
        package = next(Path(folder).glob("*.tar.gz"), None)
        if package is None:
            print(f"{MATH_VERIFY} could not be fetched: its tests are left out")
            return []
        with tarfile.open(package) as archive:
            archive.extractall(folder, filter="data")
        return [one for path in sorted(Path(folder).rglob("test_*.py")) for one in _of_tests(path)]


def _of_tests(path: Path) -> list[Labelled]:
    """The literal cases of the tests that take a gold, a prediction and what is expected, and no option."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        is_table = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "parametrize"
        if not is_table or not isinstance(node.args[0], ast.Constant):
            continue
        names = node.args[0].value.replace(" ", "").split(",")
        if names[:2] != ["gold", "pred"] or len(names) != 3:
            continue
        for case in node.args[1].elts:
            try:
                gold, prediction, expected = ast.literal_eval(case)
            except ValueError:  # made by code
                continue
            found.append(Labelled(prediction, extract(gold) or gold, bool(expected)))
    return found


def _says(name: str, found: list[bool], labels: list[bool], seconds: float) -> str:
    n_agree = sum(f == label for f, label in zip(found, labels))
    n_both = sum(f and label for f, label in zip(found, labels))
    n_accepted, n_right = sum(found), sum(labels)
    f1 = 2 * n_both / (n_accepted + n_right)
    share = wilson(n_agree, len(labels))
    return (
        f"{name:18s} agreement {share.value:.2%} [{share.low:.2%}, {share.high:.2%}], F1 {f1:.4f}, wrong accepts "
        f"{n_accepted - n_both}, wrong rejects {n_right - n_both}, {seconds:.1f} processor seconds"
    )


def compare(name: str, rows: list[Labelled]) -> None:
    """Prints how well both agree with the labels, and the first outputs about which ours does not."""
    texts, golds, labels = map(list, zip(*rows))
    plain_loop(texts[:3], golds[:3])  # imports are not timed
    begin = processor_seconds()
    theirs = plain_loop(texts, golds)
    middle = processor_seconds()
    with Checker() as checker:
        verdicts = list(checker.check_many(texts, golds))
    end = processor_seconds()
    ours = [verdict == "correct" for _, verdict, _ in verdicts]
    print(f"\n{name}: {len(rows)} outputs, {sum(labels)} labelled right")
    print(_says("math-verify loop", theirs, labels, middle - begin))
    print(_says(VERIFIER, ours, labels, end - middle))
    n_unverifiable = sum(verdict == "unverifiable" for _, verdict, _ in verdicts)
    agreements = [[f == label for f, label in zip(found, labels)] for found in (ours, theirs)]
    only_ours, only_theirs, p = mcnemar(*agreements)
    print(f"right alone: ours {only_ours}, theirs {only_theirs} (McNemar's p {p:.2g}); ", end="")
    print(f"unverifiable {n_unverifiable}")
    wrong = [n for n, agrees in enumerate(agreements[0]) if not agrees]
    for n in wrong[:N_SHOWN]:
        answer, verdict, reason = verdicts[n]
        print(f"  label {labels[n]!s:5}, {verdict} ({reason}): {answer!r} beside {golds[n]!r}")


def main(paths: list[str]) -> None:
    for path in paths or [DATA / "gsm8k_openai_model_solutions.jsonl"]:
        if Path(path).exists():
            compare(Path(path).name, of_file(Path(path)))
        else:
            print(f"{path}: no such file")
    cases = [] if paths else of_math_verify()
    if cases:
        compare(f"tests of {MATH_VERIFY}", cases)


if __name__ == "__main__":
    main(sys.argv[1:])
