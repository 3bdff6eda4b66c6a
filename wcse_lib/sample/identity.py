"""What a folder's samples were drawn from: rows of another model, prompt, setting or question never join them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from wcse_lib.store import StudyError, differences, read_json, write_json
from wcse_lib.study import fingerprint


def claim(folder: Path, identity: dict) -> None:
    """Tie a folder to what its samples are drawn from (model, its checkpoint's files, prompt, seed, decoding).

    Raises StudyError naming what differs, such as one file of a checkpoint, when the folder holds samples of another
    identity. What an earlier version of this package did not note there, or noted otherwise, is noted now.
    """
    path = folder / "identity.json"
    there = read_json(path) if path.exists() else {}
    common = [key for key in there if key in identity]
    if changes := differences(_by_file(there, common), _by_file(identity, common)):
        raise StudyError(
            f"{folder}: holds samples drawn otherwise ({changes}); give the study another name, "
            "or delete that folder to draw anew"
        )
    if there != identity:
        write_json(path, identity)


def _by_file(identity: dict, keys: list[str]) -> dict:
    """These keys of an identity, with an entry for each file of its checkpoint."""
    parts = {}
    for key in keys:
        if key == "checkpoint":
            parts |= {f"checkpoint's {name}": digest for name, digest in identity[key].items()}
        else:
            parts[key] = identity[key]
    return parts


def claim_questions(folder: Path, problems: pd.DataFrame) -> None:
    """Tie a folder to its problems' questions, so that an id that now means another question never joins its samples.

    Args: problems: `problem_id`, `question`. Raises StudyError naming the first problem whose question has changed.
    """
    path = folder / "questions.json"
    known = read_json(path) if path.exists() else {}
    fingerprints = dict(zip(problems["problem_id"], problems["question"].map(fingerprint)))
    changed = [i for i, mark in fingerprints.items() if known.get(i, mark) != mark]
    if changed:
        raise StudyError(
            f"{folder}: holds samples of other questions under the ids of {len(changed)} problems, such as "
            f"{changed[0]}; give changed problems new ids (columns.problem_id), or delete that folder to draw anew"
        )
    if not fingerprints.items() <= known.items():
        write_json(path, known | fingerprints)
