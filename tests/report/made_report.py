"""A finished nano study on disk, made up: plan, tables, answer, manifests and executed notebooks with hostile text."""

from pathlib import Path

import nbformat
import pandas as pd
from conftest import ROOT
from made_tables import BUDGETS, made_tables
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from studies import write_plan

from wcse_lib.store import write_json
from wcse_lib.study import load_study

EVIL = "<script>fetch('https://evil.example/x')</script>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WIDGET = "application/vnd.jupyter.widget-view+json"
HOSTILE = (
    f"<div onclick='alert(1)'>{EVIL}<img src='https://evil.example/a.png'>kept"
    "<a href='javascript:alert(1)'>go</a>"
    "<link rel='stylesheet' href='https://evil.example/c.css'></div>"
)
ANSWER = {
    "headline": "At the high budget, wc's examples made better students by 1.2 points on average, "
    "and this study cannot tell that from none.",
    "sentences": [
        "Measured by students' greedy pass@1 on held-out problems.",
        "Over three bases, the paired difference wc − se is +1.2 points, 95 % interval −0.9 to +3.3.",
    ],
    "gains": ["An arm's examples made student small better.", "Student small: the best is wc's."],
    "controls": ["This study saw a planted fault of 15.0 points for small."],
    "why": ["wc leads in coverage and in nothing else."],
    "next": ["Train with three seeds.", "Test on more problems.", "Label samples.", "Sleep."],
    "not_run": ["No ablations.", "No seeds: one seed each."],
    "notes": ["The gravest.", "The second.", "Both controls hold.", f"A sample reads {EVIL}"],
}


def notebook(folder: Path, png: str = PNG):
    """What papermill leaves: a title, streams with a progress bar, a table, a picture, an error, hostile text."""
    intro = "# 02 · What do the arms write?\n\nReads `01_plan`. [paper](https://arxiv.org/abs/2408.16737)"
    rows = "| Reads | Writes |\n|---|---|\n| plan | samples |"
    outputs = {
        "samples = generate(run, arm)": [
            _stream("stderr", "\r  0%|          | 0/720"),
            _stream("stderr", "\r 50%|█████     | 360/720"),
            _stream("stdout", f"writing {folder}/02_generate/wc from /home/alice/data\n"),
            _stream("stdout", f"\x1b[32mdone\x1b[0m {EVIL}\n"),
            _stream("stderr", "\r100%|██████████| 720/720 [00:18<00:00]\n"),
        ],
        "samples.head()": [new_output("execute_result", _table())],
        "display(HTML(x))": [
            new_output("display_data", {"text/html": HOSTILE}),
            new_output("display_data", {"image/png": png, "text/plain": "<Figure>"}),
            new_output("display_data", {WIDGET: {"model_id": "x"}, "text/plain": "  0%| stale"}),
            new_output(
                "error",
                ename="ValueError",
                evalue="n",
                traceback=["\x1b[31mValueError\x1b[39m: n is 0"],
            ),
        ],
    }
    last = f"Model text: {EVIL} <iframe src='https://evil.example'></iframe> ends."
    cells = [
        new_markdown_cell(f"{intro}\n\n{rows}"),
        new_code_cell(f'run_folder = "{folder}"  # where the study lies\nn = 12'),
        *(new_code_cell(source, outputs=shown) for source, shown in outputs.items()),
        new_markdown_cell(last),
    ]
    return new_notebook(metadata={"language_info": {"name": "python"}}, cells=cells)


def _stream(name: str, text: str):
    return new_output("stream", name=name, text=text)


def _table() -> dict[str, str]:
    texts = [f"A has 3. 3+4=7 {EVIL} #### 7", "B has 2 …"]
    rows = pd.DataFrame({"problem_id": ["train-1", "train-2"], "text": texts})
    html = "<style scoped>.x{color:red}</style>" + rows.to_html()
    return {"text/html": html, "text/plain": rows.to_string()}


def make_study(folder: Path, **changed) -> Path:
    """A finished nano study on disk, with the tables in `changed` replaced (None: missing)."""
    tables = made_tables() | changed
    for name, rows in tables.items():
        if rows is not None:
            (folder / "06_analyze" / "tables").mkdir(parents=True, exist_ok=True)
            rows.to_csv(folder / "06_analyze" / "tables" / f"{name}.csv", index=False)
    arms = {}
    for arm, n_parameters in {"se": 1_200_000, "wc": 450_000}.items():
        samples = {budget: n_of_arm[arm] for budget, n_of_arm in BUDGETS.items()}
        arms[arm] = {"model": f"nano-{arm}", "n_parameters": n_parameters, "samples": samples}
    students = [] if tables["students"] is None else tables["students"]["student"].unique()
    entry = {"base": "small", "model": "nano-student", "source": "base"}
    plan = {
        "study": load_study(ROOT / "params" / "nano.yaml").model_dump(),
        "arms": arms,
        "students": dict.fromkeys(students, entry),
        "plan_id": "0123456789abcdef",
        "n_problems": {"train": 240, "validation": 60, "held_out": 300},
        "versions": {"python": "3.11.7"},
    }
    write_plan(folder, plan)
    write_json(folder / "06_analyze" / "answer.json", ANSWER)
    for stage in ("01_plan", "02_generate/se", "02_generate/wc", "06_analyze"):
        manifest = {"plan_id": "0", "finished": "2026-11-23T02:15:00+00:00"}
        if stage.startswith("02"):
            manifest |= {"machine": "2 × abacus", "commit": ("c0ffee" * 7)[:40]}
        write_json(folder / stage / "manifest.json", manifest)
    for stage in ("02_generate/wc", "03_verify/wc"):
        (folder / stage).mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(folder), folder / stage / "executed.ipynb")
    return folder
