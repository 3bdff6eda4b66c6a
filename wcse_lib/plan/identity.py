"""What rows on disk depend on: a plan whose rows were drawn otherwise is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wcse_lib.store import StudyError, differences
from wcse_lib.study import Study, read_plan

# Keys of the dataset that decide how many rows there are, and not which row is which.
FREE = ("n_train", "n_held_out", "transfer", "decontaminate", "ngram", "meaning")
DRAWN_BY = ("model", "engine", "path", "columns", "tokenizer", "temperature")


def refuse_other(path: Path, study: Study) -> None:
    """Refuse a plan whose rows were drawn otherwise than this study's would be; more samples and problems are fine.

    Raises StudyError naming what differs.
    """
    if not path.exists():
        return
    there, now = _identity(read_plan(path).study), _identity(study)
    common = set(there["arms"]) & set(now["arms"])
    for identity in (there, now):
        identity["arms"] = {name: identity["arms"][name] for name in common}
    changes = differences(_leaves(there), _leaves(now))
    if changes:
        raise StudyError(
            f"{path}: a study of this name exists, drawn otherwise ({changes}); "
            "rename the study, or delete its folder"
        )


def _identity(study: Study) -> dict:
    """The parameters that rows on disk depend on: arms may come and go, but not draw otherwise; how samples are read,
    chosen and learnt from, and how many there are, may change."""
    data = study.model_dump(mode="json")
    sampling = data["sampling"] | {"top_k": study.sampling.local_top_k}
    del sampling["max_failed_share"]  # says when to stop, not how to draw
    arms = {
        name: {key: data["arms"][name].get(key) for key in DRAWN_BY} for name in study.plain_arms
    }
    return {
        "seed": data["seed"],
        "dataset": {key: value for key, value in data["dataset"].items() if key not in FREE},
        "prompt": {key: value for key, value in data["prompt"].items() if key != "answer_style"},
        "sampling": sampling,
        "arms": arms,
    }


def _leaves(data: Any, prefix: str = "") -> dict:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(data, dict):
        return {prefix: data}
    leaves = {}
    for key, part in data.items():
        leaves |= _leaves(part, f"{prefix}.{key}" if prefix else key)
    return leaves
