"""Problems: the nano lab's, rows of files or hubs, or reasoning-gym tasks, as one table with readable gold answers."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterable

import pandas as pd

from wcse_lib import answers
from wcse_lib.nano import make_problems
from wcse_lib.plan import copies as decontamination
from wcse_lib.store import StudyError, encodable, field, read_table
from wcse_lib.study import Dataset, Study, resolve
from wcse_lib.verdicts import open_task, task_score

COLUMNS = ["problem_id", "question", "answer", "level", "reference", "tests"]
MARKED = re.compile(
    r"####|\\(?:boxed|fbox)|\banswer\b\W{0,3}(?:is\b|:|=)", re.I
)  # a line that holds its answer, not only that
FILES = (".jsonl", ".json", ".csv", ".parquet")


def load_problems(dataset: Dataset, seed: int) -> tuple[dict[str, pd.DataFrame], list[dict]]:
    """The problems of a study, and every row that was left out, with split, problem_id, reason
    and, of a copy, the held-out problem (`other`).

    Returns frames by name: `train`, `validation` and `held_out` (COLUMNS; `held_out` also `set`: "held_out" or the
    name of a transfer set, whose ids start with it), and `near_duplicates` (decontamination.PAIRS): training problems
    that stayed although a held-out one is much like them. Raises StudyError when a file or hub cannot be read, lacks a
    column, or holds fewer problems than asked for.
    """
    sizes = {
        "held_out": dataset.n_held_out or 0,
        "validation": dataset.n_validation,
        "train": dataset.n_train,
    }
    dropped, near = [], pd.DataFrame(columns=decontamination.PAIRS)
    if dataset.name in ("nano", "reasoning_gym"):
        splits, seen = {}, frozenset()
        for split, n in sizes.items():  # the last can grow without changing the others
            if dataset.name == "nano":
                rows = make_problems(
                    n, f"{seed}:{split}", tuple(dataset.levels or (1, 2, 3, 4)), seen
                )
            else:
                rows = _gym(dataset, f"{seed}:{split}", split, n, seen, dropped)
            splits[split] = pd.DataFrame([{"tests": "", **row} for row in rows], columns=COLUMNS)
            seen |= set(splits[split]["question"])
        splits["held_out"] = splits["held_out"].assign(set="held_out")
        return {**splits, "near_duplicates": near}, dropped
    train = _shuffled(_read(dataset, "train", dropped), dataset, f"{seed}:train")
    names = ["held_out"] * bool(dataset.held_out) + list(dataset.transfer)
    sets = {
        name: _shuffled(_read(dataset, name, dropped), dataset, f"{seed}:{name}").assign(set=name)
        for name in names
    }
    none = pd.DataFrame(columns=[*COLUMNS, "set"]).astype(str)
    n_read = len(train)
    train, near = _apart(
        train, pd.concat([none, *sets.values()], ignore_index=True), dataset, dropped
    )
    if train.empty:
        raise StudyError(
            f"dataset.train: all {n_read} problems are held out too ({dropped[-1]['reason']}); give another file, or split this one"
        )
    if len(train) <= dataset.n_validation:
        raise StudyError(
            f"dataset.n_validation = {dataset.n_validation}: only {len(train)} training problems are usable"
        )
    cut = len(train) - dataset.n_validation
    wanted = {"held_out": ("n_held_out", dataset.n_held_out)} | {
        k: (f"transfer.{k}.n", v.n) for k, v in dataset.transfer.items()
    }
    splits = {
        "train": _first(train.iloc[:cut], "train", "n_train", dataset.n_train, dropped),
        "validation": train.iloc[cut:],
    }
    splits["held_out"] = pd.concat(
        [none, *(_first(sets[name], name, *wanted[name], dropped) for name in sets)]
    )
    used = set().union(*(splits[split]["problem_id"] for split in splits))
    splits["near_duplicates"] = near[near["problem_id"].isin(used) & near["held_out_id"].isin(used)]
    return {name: frame.reset_index(drop=True) for name, frame in splits.items()}, dropped


def check_splits(study: Study, splits: dict[str, pd.DataFrame]) -> None:
    """Raises StudyError where a study's students cannot be tested, or its controls not be trained, on these
    problems."""
    if splits["held_out"].empty:
        raise StudyError("dataset.held_out: students need held-out problems, and none are usable")
    if study.controls.reference and (splits["train"]["reference"] == "").all():
        why = "the training problems have no solutions; set dataset.columns.solution or reference: false"
        raise StudyError(f"controls.reference: {why}")


def _gym(
    dataset: Dataset, seed: str, split: str, n: int, seen: frozenset[str], dropped: list[dict]
) -> list[dict]:
    """Draw n problems of a reasoning-gym task whose own answer its scorer accepts; none twice, none in two splits."""
    number = int.from_bytes(hashlib.sha256(seed.encode()).digest()[:4], "big") >> 1
    rows, seen, source = (
        [],
        set(seen),
        open_task(dataset.task, json.dumps(dataset.options), number, 20 * n + 20),
    )
    for i in range(len(source) if n else 0):
        entry = source[i]
        question, answer = entry["question"], str(entry["answer"] or "")
        task = {"task": dataset.task, "options": dataset.options, "entry": entry}
        tests, reason = json.dumps(task, ensure_ascii=False, default=str), ""
        if question in seen:
            reason = "the same question was drawn before"
        elif answer and task_score(tests, answer) < 1:
            reason = "the task's scorer does not accept the problem's own answer"
        elif task_score(tests, "no answer at all") >= 1:
            reason = "the task's scorer accepts any answer"
        if reason:
            dropped.append(_drop(split, _id(question), reason))
            continue
        seen.add(question)
        rows.append(dict(zip(COLUMNS, (_id(question), question, answer, "", "", tests))))
        if len(rows) == n:
            return rows
    if n:
        why = (
            f"only {len(rows)} of {n} problems for {split} could be drawn ({dropped[-1]['reason']})"
        )
        raise StudyError(
            f"dataset.task = {dataset.task!r}: {why}; ask for fewer, or choose another task"
        )
    return rows


def _read(dataset: Dataset, split: str, dropped: list[dict]) -> pd.DataFrame:
    """The usable problems of the training file, the held-out one or a transfer set, in their order."""
    held = dataset.transfer.get(split)
    columns, style = (
        (held and held.columns) or dataset.columns,
        (held and held.answer_style) or dataset.answer_style,
    )
    where, source = _rows(dataset, split)
    prefix, rows, ids, questions = f"{split}:" if held else "", [], set(), set()
    levels = None if dataset.levels is None else {str(level) for level in dataset.levels}
    for number, row in enumerate(source, 1):
        question = _text(row, columns.question, where, number)
        problem_id = prefix + (
            _text(row, columns.problem_id, where, number) if columns.problem_id else _id(question)
        )
        level, solution, tests = (
            _text(row, name, where, number) if name else ""
            for name in (columns.level, columns.solution, columns.tests)
        )
        if columns.entry_point:
            tests += f"\n\ncheck({_text(row, columns.entry_point, where, number)})\n"
        gold = "" if columns.tests else _text(row, columns.answer, where, number)
        sought = (
            "\n" in gold or style != "auto"
        )  # a bare value stands as it is, be it one that `extract` would cut
        answer = answers.extract(gold, style) if sought or MARKED.search(gold) else gold
        answer = answer if answer or sought else gold
        reason = ""
        if not question.strip():
            reason = "empty question"
        elif levels is not None and not held and level not in levels:
            reason = "its level is not among dataset.levels"
        elif columns.tests and not tests.strip():
            reason = "no tests"
        elif not columns.tests and not (answer or "").strip():
            reason = "no answer can be read from the answer field"
        elif problem_id in ids:
            reason = "a problem of this id came before"
        elif (key := _key(question)) in questions:
            reason = "the same question came before"
        if reason:
            dropped.append(_drop(split, problem_id, reason))
            continue
        ids.add(problem_id)
        questions.add(key)
        rows.append((problem_id, question, answer, level, solution, tests))
    if not rows:
        why = dropped[-1]["reason"] if dropped else "it is empty"
        raise StudyError(
            f"{where}: no usable problem in it ({why}); check dataset.columns and levels"
        )
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(dataset: Dataset, split: str) -> tuple[str, Iterable[dict]]:
    """Where a split's rows come from, for messages, and the rows."""
    held = dataset.transfer.get(split)
    path = held.path if held else getattr(dataset, split)
    if dataset.name == "files" and not (held and held.hub) or path.endswith(FILES):
        return path, read_table(resolve(path))
    import datasets

    hub, config = (held.hub, held.config) if held and held.hub else (dataset.path, dataset.config)
    where = f"{hub}{f' ({config})' if config else ''}, split {path}"
    try:
        return where, datasets.load_dataset(
            str(resolve(hub)) if resolve(hub).is_dir() else hub, config, split=path
        )
    except Exception as error:  # the library raises a dozen kinds
        why = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        hint = "check id, config, split, network and, for gated sets, your login; a local folder of the same form will do too"
        raise StudyError(f"dataset.path: {where} cannot be loaded ({why}); {hint}") from error


def _apart(
    train: pd.DataFrame, held: pd.DataFrame, dataset: Dataset, dropped: list[dict]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Training problems without copies of held-out ones, and the near-duplicates that stayed."""
    if dataset.decontaminate:
        copies, near = decontamination.compare(train, held, dataset.ngram)
        found = [
            (c.problem_id, f"{c.reason} a problem of {c.set}", c.held_out_id)
            for c in copies.itertuples()
        ]
    else:  # the very same question is never trained on
        near, known = (
            pd.DataFrame(columns=decontamination.PAIRS),
            dict(zip(held["question"].map(_key), held["problem_id"])),
        )
        rows = [(r.problem_id, known.get(_key(r.question))) for r in train.itertuples()]
        found = [
            (problem_id, "its very question is held out", other)
            for problem_id, other in rows
            if other
        ]
    dropped += [_drop("train", *row) for row in found]
    return train[~train["problem_id"].isin([problem_id for problem_id, *_ in found])], near


def _text(row: dict, name: str, where: str, number: int) -> str:
    """A field as text, or a text with {field}s filled in; a list's items become lines."""
    if "{" in name:
        return re.sub(r"\{([\w.]+)\}", lambda m: _text(row, m[1], where, number), name)
    value = field(row, name, where, number)
    if value is None or value != value:
        return ""
    text = "\n".join(map(str, value)) if isinstance(value, list) else str(value)
    return encodable(text)  # JSON can hold lone surrogates


def _shuffled(frame: pd.DataFrame, dataset: Dataset, seed: str) -> pd.DataFrame:
    order = random.Random(seed).sample(range(len(frame)), len(frame))
    return frame.iloc[order].reset_index(drop=True) if dataset.shuffle else frame


def _first(
    frame: pd.DataFrame, split: str, key: str, n: int | None, dropped: list[dict]
) -> pd.DataFrame:
    n = len(frame) if n is None else n
    if n > len(frame):
        raise StudyError(
            f"dataset.{key} = {n}: only {len(frame)} problems are usable; ask for fewer, or leave the key out"
        )
    dropped += [
        _drop(split, problem_id, f"beyond dataset.{key} = {n}")
        for problem_id in frame["problem_id"][n:]
    ]
    return frame.iloc[:n]


def _key(question: str) -> str:
    """Questions as compared within and between splits: case and white space folded."""
    return " ".join(question.lower().split())


def _id(question: str) -> str:
    return "p-" + hashlib.sha256(json.dumps(question).encode()).hexdigest()[:12]


def _drop(split: str, problem_id: str, reason: str, other: str = "") -> dict:
    return {"split": split, "problem_id": problem_id, "reason": reason, "other": other}
