"""docs/new_domain.md, done as it says: a study of SQL from an empty folder, to verdicts and (slow) to its report."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from wcse_lib import plan as planning
from wcse_lib.sample import stage as generation
from wcse_lib.study import Machine, load_study
from wcse_lib.verdicts import sandbox
from wcse_lib.verify import stage as verification

if sandbox.run_tests("x = 1", "assert x == 1")[0] == "unverifiable":
    pytestmark = pytest.mark.skip(reason="no sandbox: see tests/verdicts/test_sandbox.py")
TINY = {
    "amount: {low: 20}": "amount: {low: 2}",
    "n_samples: 2, maj_k: [1, 2]": "n_samples: 1, maj_k: [1]",
}


def shown(language: str) -> str:
    """The first block of a language on the page."""
    page = (ROOT / "docs/new_domain.md").read_text()
    return re.search(rf"```{language}\n(.*?)\n```\n", page, re.S)[1] + "\n"


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder that was empty, with the page's files in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "make.py").write_text(shown("python"))
    (tmp_path / "sql.yaml").write_text(shown("yaml"))
    subprocess.run([sys.executable, "make.py"], check=True)
    return tmp_path


def test_the_page_as_far_as_verdicts(folder):
    run = planning.make_plan(load_study("sql.yaml"), "outputs")
    assert run.plan.n_problems == {"train": 40, "validation": 0, "held_out": 20}
    generation.generate(run, "se", Machine())
    verified = verification.verify(run, "se", Machine())
    facts = verification.checks(run, "se", verified)
    assert (facts["n_correct"], facts["n_incorrect"]) == (58, 22), "the page names these numbers"


def test_the_program_that_the_page_begins_with(folder):
    begun = re.findall(r"```python\n(.*?)```", (ROOT / "docs/new_domain.md").read_text(), re.S)[1]
    (folder / "mine.py").write_text(begun)
    text = (folder / "sql.yaml").read_text()
    (folder / "sql.yaml").write_text(text.replace("path: sql}", "path: mine.py}"))
    run = planning.make_plan(load_study("sql.yaml"), "outputs")
    assert run.plan.n_problems["train"] == 40


@pytest.mark.slow
def test_the_page_to_the_report(folder):
    text = (folder / "sql.yaml").read_text()
    for own, tiny in TINY.items():
        assert own in text
        text = text.replace(own, tiny)
    (folder / "sql.yaml").write_text(text)
    command = [sys.executable, "-m", "wcse_lib.pipeline", "sql.yaml"]
    path = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=os.environ | path, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    report = (folder / "outputs/sql/report.html").read_text()
    assert "what the study's verifier says of it" in report
    manifest = json.loads((folder / "outputs/sql/03_verify/wc/manifest.json").read_text())
    assert manifest["n_correct"] == 89
