"""The problems that two files of samples share, with their gold answers, and what each file holds of them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from wcse_lib.answers import equivalent
from wcse_lib.plan import load_problems
from wcse_lib.sample import samples_in_file
from wcse_lib.start.columns import FileColumns
from wcse_lib.store import USER, NotText, StudyError, TableRow, folded, read_table, write_text
from wcse_lib.study import Columns, Dataset, ImportedArm

N_SHOWN = 60  # characters of a question in a message


@dataclass(frozen=True)
class SampleFile:
    """One file of samples: the arm that it becomes, where it lies, and which of its columns hold what."""

    name: str
    path: Path
    columns: FileColumns

    def arm(self, key: str, **more) -> ImportedArm:
        """As an imported arm of a study; `key` is the column by which samples find their problems."""
        columns = self.columns.of_samples(key)
        return ImportedArm(
            engine="import", model=self.name, path=str(self.path), columns=columns, **more
        )


@dataclass
class Shared:
    """The problems of a comparison and how they were found.

    problems: columns problem_id, question, answer. n_each: by file, how many problems it has. counts: by file, samples
    of each of `problems`. left_out: by reason, how many problems are in both files and not compared. copies: by file,
    rows that equal an earlier one in everything.
    """

    key: str
    problems: pd.DataFrame
    n_each: dict[str, int]
    counts: dict[str, pd.Series]
    left_out: Counter = field(default_factory=Counter)
    copies: dict[str, int] = field(default_factory=dict)


def share_problems(files: list[SampleFile], gold: Path | None, gold_columns: Columns) -> Shared:
    """The problems of which both files have samples, and whose gold answers agree.

    Args: gold: a file of problems that knows the answers, where the files of samples do not; gold_columns: its columns.
    Raises StudyError naming file and remedy where no file has gold answers, or no problem is in both.
    """
    key = _key_of(files)
    keys = {file.name: _keys_in(file, key) for file in files}
    golds = _golds(files, key, gold, gold_columns)
    problems, left_out = _agreed(golds)
    counts = {file.name: samples_in_file(file.name, file.arm(key), problems) for file in files}
    in_both = pd.DataFrame(counts).min(axis=1) > 0
    if not in_both.any():
        raise StudyError(_nothing_shared(files, keys, key))
    every = set.intersection(*(set(found) for found in keys.values()))
    n_without_gold = len(every) - int(in_both.sum()) - left_out.total()
    if n_without_gold > 0:
        left_out["without a gold answer that can be read, or with empty samples alone"] = (
            n_without_gold
        )
    return Shared(
        key=key,
        problems=problems[in_both.to_numpy()].reset_index(drop=True),
        n_each={name: len(found) for name, found in keys.items()},
        counts={name: n[in_both] for name, n in counts.items()},
        left_out=left_out,
        copies={file.name: _n_copies(file.path) for file in files},
    )


def _key_of(files: list[SampleFile]) -> str:
    """By what the files' problems are told apart: their questions, or ids where one file has no questions."""
    for key in ("question", "problem_id"):
        if all(getattr(file.columns, key) for file in files):
            return key
    by_question, by_id = sorted(files, key=lambda file: file.columns.question is None)
    raise StudyError(
        f"{by_question.path} has questions ({by_question.columns.question}) and {by_id.path} only ids "
        f"({by_id.columns.problem_id}): their problems cannot be joined; name a column that both have by --question or "
        "--problem-id"
    )


def _keys_in(file: SampleFile, key: str) -> dict[str, str]:
    """The problems of a file: what joins them, and their words as the file writes them."""
    column, found = getattr(file.columns, key), {}
    for number, values in enumerate(read_table(file.path), 1):
        line = TableRow(values, file.path, number)
        try:
            words = line.words(column, USER) if key == "question" else line.name(column)
        except NotText:  # counted with its reason where samples are read
            continue
        name = folded(words) if key == "question" else words
        if name:
            found.setdefault(name, words)
    return found


def _golds(
    files: list[SampleFile], key: str, gold: Path | None, gold_columns: Columns
) -> dict[Path, pd.DataFrame]:
    """The problems of every file that has gold answers, by file; of the file of problems alone where one is given."""
    sources = {file.path: file.columns.of_problems(key) for file in files if file.columns.gold}
    if gold is not None:
        sources = {gold: gold_columns}
    if not sources:
        paths = " and ".join(str(file.path) for file in files)
        raise StudyError(
            f"{paths}: no column has a name that gold answers usually have; name it by --gold COLUMN, or give a file "
            "of problems with their answers by --problems FILE"
        )
    found = {}
    for path, columns in sources.items():
        dataset = Dataset(name="files", train=str(path), columns=columns)
        splits, _ = load_problems(dataset, seed=0)
        problems = splits["train"][["problem_id", "question", "answer"]]
        join = problems["question"].map(folded) if key == "question" else problems["problem_id"]
        found[path] = problems.assign(key=join)
    return found


def _agreed(golds: Mapping[Path, pd.DataFrame]) -> tuple[pd.DataFrame, Counter]:
    """The problems of all sources, each once, without those whose gold answers differ between sources."""
    answers: dict[str, list[str]] = {}
    for problems in golds.values():
        for name, answer in zip(problems["key"], problems["answer"]):
            answers.setdefault(name, []).append(answer)
    differ = {name for name, of_sources in answers.items() if _differ(of_sources)}
    every = pd.concat(golds.values()).drop_duplicates("key")
    kept = every[~every["key"].isin(differ)].drop(columns="key").reset_index(drop=True)
    reason = {"with gold answers that differ between the files": len(differ)}
    return kept, Counter(reason if differ else {})


def _differ(golds: list[str]) -> bool:
    return any(one != golds[0] and equivalent(one, golds[0]) is False for one in golds)


def _n_copies(path: Path) -> int:
    """How many rows of a file equal an earlier one in every column."""
    seen: set[int] = set()
    n_rows = 0
    for row in read_table(path):
        seen.add(hash(json.dumps(row, sort_keys=True, default=str)))
        n_rows += 1
    return n_rows - len(seen)


def _nothing_shared(files: list[SampleFile], keys: Mapping[str, dict], key: str) -> str:
    what = {"question": "question", "problem_id": "id of a problem"}[key]
    each = []
    for file in files:
        first = next(iter(keys[file.name].values()), "")
        n = len(keys[file.name])
        each.append(f"{file.path} has {n}, such as “{' '.join(first.split())[:N_SHOWN]}”")
    return (
        f"no {what} with a gold answer stands in both files: {'; '.join(each)}; check that both are about the same "
        "problems, and which columns hold the questions (--question) or ids (--problem-id)"
    )


def write_problems(path: Path, shared: Shared) -> None:
    """Write the problems as JSONL, as a dataset of a study reads them; with ids where samples name these."""
    columns = ["question", "answer"]
    if shared.key == "problem_id":
        columns.insert(0, "problem_id")
    lines = [
        json.dumps(row, ensure_ascii=False) for row in shared.problems[columns].to_dict("records")
    ]
    write_text(path, "".join(f"{line}\n" for line in lines))
