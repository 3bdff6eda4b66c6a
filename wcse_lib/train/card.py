"""A trained student as a folder that is ready for a hub, with a model card."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from wcse_lib import intervals
from wcse_lib.store import StudyError, is_complete, read_json, read_parquet
from wcse_lib.study import MAIN, Run, resolve_model
from wcse_lib.train.models import merge

TEMPLATE = Path(__file__).parent / "card.md.j2"
FACTS = ("data_sha256", "steps", "epochs", "n_tokens", "spent_flops", "best_step")


def export(run: Run, student: str, out: str | Path, merged: bool = False) -> Path:
    """Copy a trained student (its adapter, or `merged` into its base in 16 bit) to `out`, with a model card, README.md.

    The folder is ready for a hub; nothing is sent. Raises StudyError when `out` exists or the student is not trained.
    """
    folder, out = run.path("04", student), Path(out)
    if out.exists():
        raise StudyError(f"{out}: exists; choose another")
    if not is_complete(folder, run.plan_id):
        raise StudyError(f"{folder}: train {student} first")
    is_adapter = (folder / "model" / "adapter_config.json").exists()
    has_merged = (folder / "merged").exists()
    if merged and has_merged:
        shutil.copytree(folder / "merged", out)
    elif merged and is_adapter:
        merge(resolve_model(run.student(student).model), folder / "model", out)
    else:
        shutil.copytree(folder / "model", out)
    (out / "README.md").write_text(card(run, student), encoding="utf-8")
    return out


def card(run: Run, student: str) -> str:
    """A student's model card: whence its examples, how it was trained, and, after 05, its held-out accuracy."""
    from huggingface_hub import ModelCard, ModelCardData

    one, report = run.student(student), read_json(run.path("04", student, "report.json"))
    sources = {
        "arm": f"samples of the arm `{one.arm}`",
        "on_policy": f"what it wrote in training, scored by the arm `{one.arm}`",
        "pooled": "samples of all arms",
        "planted": f"samples of the arm `{one.arm}`, answers permuted between problems",
        "reference": "reference solutions",
        "wrong": "its own wrong samples",
    }
    facts = {name: report[name] for name in FACTS}
    facts["validation accuracy (chose the checkpoint)"] = report["accuracy"]
    facts |= report["settings"] | report["versions"]
    study = {
        "study": run.study.study,
        "title": run.study.title or run.study.study,
        "plan_id": run.plan_id,
    }
    lesson = {
        "source": sources[one.source],
        "recipe": one.recipe or MAIN,
        "n_examples": report["n_examples"],
    }
    data = ModelCardData(base_model=one.model, tags=["wcse"])
    results = _results(run, student)
    parts = study | lesson | {"student": student, "one": one, "facts": facts, "results": results}
    return str(ModelCard.from_template(data, str(TEMPLATE), **parts))


def _results(run: Run, student: str) -> list[tuple[str, int, Any]]:
    """Set of held-out problems, number of problems, greedy pass@1 with its interval."""
    file = run.path("05", student, "verdicts-greedy.parquet")
    if not file.exists():
        return []
    verdicts = read_parquet(file, ["problem_id", "verdict"])
    right = verdicts["verdict"] == "correct"
    results = []
    for name, part in right.groupby(verdicts["problem_id"].map(run.sets()), sort=False):
        rate = intervals.wilson(int(part.sum()), len(part))
        results.append((name.replace("_", "-"), len(part), rate))
    return results
