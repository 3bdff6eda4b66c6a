"""reasoning-gym tasks: problems, and their own scorers."""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from wcse_lib.store import StudyError


def task_score(tests: str, answer: str) -> float:
    """A reasoning-gym task's own score of an answer, 0 to 1 (some give part of the credit; right is 1.0).

    Args: tests: the problem's column, JSON with `task`, `options` and `entry`. Where the scorer fails the score is 0.
    """
    data = json.loads(tests)
    scorer = open_task(data["task"], json.dumps(data["options"]), 0, 1)
    try:
        return float(scorer.score_answer(answer, data["entry"]))
    except Exception:  # some scorers raise on text that is no answer at all
        return 0.0


def task_verdict(answer: str, entry: str) -> tuple[bool | None, str]:
    """reasoning-gym's own score of an answer: 1 is correct. Run in a process of its own, as scorers may not end."""
    if not answer:
        return False, "no final answer"
    score = task_score(entry, answer)
    return score == 1, f"score {score:g}"


@lru_cache(maxsize=16)
def open_task(task: str, options: str, seed: int, size: int) -> Any:
    """A reasoning-gym data set. Raises StudyError naming the key where the package or the task refuses."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise StudyError(
            f"dataset.name: reasoning_gym: {error}; pip install -e '.[gym]'"
        ) from error
    try:
        return reasoning_gym.create_dataset(task, seed=seed, size=size, **json.loads(options))
    except (TypeError, ValueError, AssertionError) as error:
        raise StudyError(
            f"dataset.task = {task!r}, dataset.options = {options}: refused ({error})"
        ) from error
