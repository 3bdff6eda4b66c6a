"""Files of samples as people have them, and how a test compares two."""

import json
from pathlib import Path

from wcse_lib.start import Question, compare_files

N_PROBLEMS = 30


def rows_of(n_samples: int, n_right: int, names=("question", "gold", "response")) -> list[dict]:
    """Rows of `n_samples` samples of each problem, the first `n_right` (fewer of every third problem) of them right."""
    rows = []
    for problem in range(N_PROBLEMS):
        right = n_right - (problem % 3 == 0)
        for sample in range(n_samples):
            answer = problem + 2 if sample < right else problem + 3
            text = f"{problem} + 2 = {problem + 2}, in way {sample}.\n#### {answer}"
            rows.append(dict(zip(names, (f"What is {problem} + 2?", str(problem + 2), text))))
    return rows


def write(path: Path, rows: list[dict], mark: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    path.write_text(mark + "".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def compared(folder: Path, first: list[dict], second: list[dict], **asked):
    """The comparison of two files of these rows, a.jsonl and b.jsonl, in `folder`."""
    paths = write(folder / "a.jsonl", first), write(folder / "b.jsonl", second)
    return compare_files(Question(paths, **asked), folder / "out" / "study", tell=lambda line: None)
