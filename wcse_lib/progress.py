"""The steps of a study in their order, and what of them is done, failed, or next."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from wcse_lib.budget import unspent
from wcse_lib.store import (
    StudyError,
    check_all,
    count_rows,
    is_complete,
    query,
    read_json,
    sample_table,
)
from wcse_lib.study import Run, Study, named_files

FACTS = {  # of a manifest, in words; those that are 0 are not told
    "n_samples": "samples",
    "n_failed": "failed",
    "n_empty": "empty",
    "n_truncated": "cut short",
    "n_tokens": "tokens",
    "n_correct": "correct",
    "n_students": "students",
    "seconds": "seconds",
    "usd": "USD",
}
SPENT = {
    "n_samples": "samples",
    "n_tokens": "tokens",
    "spent_flops": "FLOPs of training",
    "seconds": "seconds of drawing and training",
    "usd": "USD",
}
LOST_SO_FAR = """
    SELECT count(*) AS samples, count(*) FILTER (finish_reason = 'error') AS failed,
        count(*) FILTER (finish_reason <> 'error' AND trim(text) = '') AS empty
    FROM samples
"""
OF_OLDER_PLAN = "of an older plan"


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


def changed_files(folder: Path, study: Study) -> list[str]:
    """Which files that the study names are others than 01 read, what comes of it, and the way back of a verifier."""
    if not (folder / "01_plan" / "plan.json").exists():
        return []
    run, sentences = Run(folder), []
    for name, mark in named_files(study).items():
        if run.plan.files.get(name, mark) == mark:
            continue
        sentence = f"{name} has changed since 01 read it: the study is planned anew"
        if name == run.study.verification.path:
            sentence += (
                f", and all samples, which stay, are verified anew; the former program is {run.verifier_copy}, "
                "to be put back if the change was not meant"
            )
        sentences.append(sentence)
    return sentences


def status(folder: Path, is_planned_anew: bool = False) -> str:
    """What is done, what it took, what failed and what is next, as text.

    Args: is_planned_anew: whether 01 has to run again, as where the study's parameters are others than the plan's:
    nothing is then done, but of an older plan.
    """
    opened = Run(folder)
    lines, waiting, spent = [], [], Counter()
    for step in steps(opened.study):
        state = _state(opened, step)
        if state.startswith("complete"):
            spent.update(_spent(step, step.folder(folder)))
        if is_planned_anew:
            state = f"{OF_OLDER_PLAN}; {state}"
        if not state.startswith("complete"):
            waiting.append(step)
        lines.append(f"{step!s:<28} {state}")
    amounts = [f"{_shown(key, spent[key])} {words}" for key, words in SPENT.items() if spent[key]]
    if amounts:
        lines.append(f"spent so far: {', '.join(amounts)}")
    lines += [f"limit: {sentence}" for sentence in unspent(opened.plan.arms)]
    report = folder / "report.html"
    lines.append(f"next: {waiting[0]}" if waiting else f"all done; report: {report}")
    return "\n".join(lines)


def _shown(key: str, amount: float) -> str:
    """An amount for people; USD with the digits that small ones need.

    >>> _shown("usd", 0.00084), _shown("usd", 12.5), _shown("n_samples", 1200)
    ('0.00084', '12.50', '1,200')
    """
    if key == "spent_flops":
        return f"{amount:,.4g}"
    if key == "usd":
        return f"{amount:,.2f}" if amount >= 1 else f"{amount:.2g}"
    return f"{amount:,.0f}"


def _state(opened: Run, step: Step) -> str:
    """A step's state in words."""
    folder = step.folder(opened.folder)
    if (folder / "failed.json").exists():
        failed = read_json(folder / "failed.json")
        hint = f" ({failed['hint']})" if failed.get("hint") else ""
        return f"failed: {failed['error']}: {failed['message']}{hint}"
    if opened.complete(step.stage, step.arm):
        try:
            check_all(folder)
        except StudyError as error:
            return f"changed: {error}"
        return f"complete {_facts(read_json(folder / 'manifest.json'))}".strip()
    if is_complete(folder, opened.plan_id):
        return "out of date: what it reads was made anew after it, or some of its files are gone"
    under_way = _facts(_so_far(folder))
    if (folder / "manifest.json").exists():
        return f"{OF_OLDER_PLAN}{f', {under_way} on disk' if under_way else ''}"
    return f"under way: {under_way} on disk" if under_way else "not yet"


def _facts(facts: dict) -> str:
    """Those of FACTS that a manifest holds, in words."""
    known = [key for key in FACTS if isinstance(facts.get(key), int | float) and facts[key]]
    return ", ".join(f"{_shown(key, facts[key])} {FACTS[key]}" for key in known)


def _so_far(folder: Path) -> dict:
    """How many samples lie in a folder, and how many of them are failed or empty."""
    try:
        counts = query(LOST_SO_FAR, samples=sample_table(folder)).iloc[0]
    except StudyError:  # a damaged part, which the stage itself names
        return {"n_samples": count_rows(folder)}
    return {f"n_{name}": int(n) for name, n in counts.items()}


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
