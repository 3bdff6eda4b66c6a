"""The steps of a study in their order, and what of them is done, failed, or next."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from wcse_lib.budget import unspent
from wcse_lib.store import count_rows, is_complete, read_json
from wcse_lib.study import Run, Study, named_files

SHOWN_FACTS = ("n_samples", "n_tokens", "n_correct", "n_students", "seconds")  # of a manifest
SPENT = {
    "n_samples": "samples",
    "n_tokens": "tokens",
    "spent_flops": "FLOPs of training",
    "seconds": "seconds of drawing and training",
    "usd": "USD",
}


class Step(NamedTuple):
    """One notebook to run: a stage, of one arm where the stage is run once per arm."""

    stage: str
    arm: str = ""

    def __str__(self) -> str:
        return f"{self.stage} {self.arm}".strip()

    def folder(self, study_folder: Path) -> Path:
        return study_folder / self.stage / self.arm


def steps(study: Study) -> list[Step]:
    """The study's steps in order. Students share one kernel; a study without any skips 04 and 05."""
    in_order = [Step("01_plan")]
    for arm in study.order:
        in_order += [Step("02_generate", arm), Step("03_verify", arm)]
    if study.students:
        in_order += [Step("04_finetune"), Step("05_evaluate")]
    return [*in_order, Step("06_analyze")]


def is_done(folder: Path, study: Study, step: Step) -> bool:
    """Whether a step's manifest was written under this very study and its files as they are now, and not before a step
    that it reads."""
    path = folder / "01_plan" / "plan.json"
    if not path.exists():
        return False
    planned = read_json(path)
    if planned.get("study") != json.loads(study.model_dump_json()):
        return False
    if step.stage == "01_plan" and planned.get("files") != named_files(study):
        return False
    return Run(folder).complete(step.stage, step.arm)


def status(folder: Path) -> str:
    """What is done, what it took, what failed and what is next, as text."""
    opened = Run(folder)
    lines, waiting, spent = [], [], Counter()
    for step in steps(opened.study):
        state = _state(opened, step)
        if state.startswith("complete"):
            spent.update(_spent(step, step.folder(folder)))
        else:
            waiting.append(step)
        lines.append(f"{step!s:<28} {state}")
    amounts = []
    for key, words in SPENT.items():
        if spent[key]:
            shown = f"{spent[key]:,.4g}" if key == "spent_flops" else f"{spent[key]:,.0f}"
            amounts.append(f"{shown} {words}")
    if amounts:
        lines.append(f"spent so far: {', '.join(amounts)}")
    lines += [f"limit: {sentence}" for sentence in unspent(opened.plan.arms)]
    report = folder / "report.html"
    lines.append(f"next: {waiting[0]}" if waiting else f"all done; report: {report}")
    return "\n".join(lines)


def _state(opened: Run, step: Step) -> str:
    """A step's state in words."""
    folder = step.folder(opened.folder)
    if (folder / "failed.json").exists():
        failed = read_json(folder / "failed.json")
        hint = f" ({failed['hint']})" if failed.get("hint") else ""
        return f"failed: {failed['error']}: {failed['message']}{hint}"
    if opened.complete(step.stage, step.arm):
        manifest = read_json(folder / "manifest.json")
        facts = []
        for key, value in manifest.items():
            if key in SHOWN_FACTS:
                shown = f"{value:,.4g}" if isinstance(value, float) else f"{value:,}"
                facts.append(f"{shown} {key}")
        return f"complete {', '.join(facts)}"
    if is_complete(folder, opened.plan_id):
        return "out of date: what it reads was made anew after it, or some of its files are gone"
    n_rows = count_rows(folder)
    return f"under way: {n_rows:,} samples on disk" if n_rows else "not yet"


def _spent(step: Step, folder: Path) -> Counter:
    """What the manifests of a complete step say was spent; its students have manifests of their own."""
    manifests = [folder / "manifest.json"]
    if not step.arm:
        manifests += folder.glob("*/manifest.json")
    spent = Counter()
    for manifest in manifests:
        spent.update(_amounts(read_json(manifest)))
    return spent


def _amounts(facts: dict) -> Counter:
    """What a manifest says was spent, those of its parts (a student's greedy and drawn samples) added up."""
    amounts = Counter({key: facts[key] for key in SPENT if isinstance(facts.get(key), int | float)})
    for part in facts.values():
        if isinstance(part, dict):
            amounts += _amounts(part)
    return amounts
