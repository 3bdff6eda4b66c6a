"""The report: one file, no request, foreign text as text, whatever tables there are."""

import json
import re
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from test_figures import BASES, BUDGETS, tables

from wcse_lib import report
from wcse_lib.records import StudyError, write_json
from wcse_lib.study import load_study

ROOT = Path(__file__).parents[1]
EVIL = "<script>fetch('https://evil.example/x')</script>"
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def notebook(folder: Path, png: str = PNG):
    """What papermill leaves: a title, streams with a progress bar, a table, a picture, an error, hostile text."""
    bar = ["\r  0%|          | 0/720", "\r 50%|█████     | 360/720 [00:09<00:09]", "\r100%|██████████| 720/720 [00:18<00:00]\n"]
    frame = pd.DataFrame({"problem_id": ["train-0001", "train-0002"], "text": [f"A has 3. 3+4=7 {EVIL} #### 7", "B has 2 …"]})
    cells = [
        new_markdown_cell("# 02 · What do the arms write?\n\nReads `01_plan`. [paper](https://arxiv.org/abs/2408.16737)\n\n| Reads | Writes |\n|---|---|\n| plan | samples |"),
        new_code_cell(f'run_folder = "{folder}"  # where the study lies\narm = "wc"\nn = 12', execution_count=1),
        new_code_cell("samples = generate(run, arm)", execution_count=2, outputs=[
            new_output("stream", name="stderr", text=bar[0]), new_output("stream", name="stderr", text=bar[1]),
            new_output("stream", name="stdout", text=f"writing {folder}/02_generate/wc\n\x1b[32mdone\x1b[0m {EVIL}\n"),
            new_output("stream", name="stderr", text=bar[2])]),
        new_code_cell("samples.head()", execution_count=3, outputs=[
            new_output("execute_result", {"text/html": "<style scoped>.x{color:red}</style>" + frame.to_html(), "text/plain": frame.to_string()})]),
        new_code_cell("display(HTML(x))", execution_count=4, outputs=[
            new_output("display_data", {"text/html": f"<div onclick='alert(1)'>{EVIL}<img src='https://evil.example/a.png'>kept</div>"}),
            new_output("display_data", {"image/png": png, "text/plain": "<Figure>"}),
            new_output("display_data", {"application/vnd.jupyter.widget-view+json": {"model_id": "x"}, "text/plain": "  0%| stale"}),
            new_output("error", ename="ValueError", evalue="n", traceback=["\x1b[31mValueError\x1b[39m: n is 0; raise it"])]),
        new_markdown_cell(f"Model text: {EVIL} <iframe src='https://evil.example'></iframe>"),
    ]  # fmt: skip
    return new_notebook(cells=cells, metadata={"language_info": {"name": "python"}})


def make_study(folder: Path, **changed) -> Path:
    """A finished nano study on disk, with the tables in `changed` replaced (None: missing)."""
    folder.mkdir(parents=True)
    study = load_study(ROOT / "params" / "nano.yaml")
    arms = {a: {"model": f"nano-{a}", "n_parameters": p, "samples": {b: k[a] for b, k in BUDGETS.items()}, "exchange_ratio": 1.0} for a, p in {"se": 1_200_000, "wc": 450_000}.items()}
    frames = tables() | changed
    students = frames["students"]["student"].unique() if frames["students"] is not None else []
    plan = {"study": study.model_dump(), "arms": arms, "students": {s: {} for s in students}, "plan_id": "0123456789abcdef",
            "n_problems": {"train": 240, "validation": 60, "held_out": 300}, "versions": {"python": "3.11.7", "torch": "2.13.0"}}
    write_json(folder / "01_plan" / "plan.json", plan)
    for name, frame in frames.items():
        if frame is not None:
            (folder / "06_analyze" / "tables").mkdir(parents=True, exist_ok=True)
            frame.to_csv(folder / "06_analyze" / "tables" / f"{name}.csv", index=False)
    write_json(folder / "06_analyze" / "answer.json", {
        "headline": "At the high budget, wc's examples made better students by 1.2 points on average, and this study cannot tell that from none.",
        "paragraph": f"Over three bases, the paired difference wc − se in greedy pass@1 is +1.2 points, 95 % interval −0.9 to +3.3, n = 300 held-out problems. wc covers 80.4 % of the training problems at 30 samples, se 81.6 % at 10, for the same planned FLOPs. {EVIL if changed.get('evil') else ''}",
        "notes": ["Training on reference solutions raised every student's accuracy; both controls hold."]})
    for stage in ("01_plan", "02_generate/se", "02_generate/wc", "06_analyze"):
        write_json(folder / stage / "manifest.json", {"plan_id": plan["plan_id"], "finished": "2026-11-23T02:15:00+00:00"})
    for stage in ("02_generate/wc", "03_verify/wc"):
        (folder / stage).mkdir(parents=True, exist_ok=True)
        nbformat.write(notebook(folder), folder / stage / f"{stage[:2]}.ipynb")
    return folder
