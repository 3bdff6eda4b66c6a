"""Whose text fits the students? The pilot's correct samples under every student before training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib import sample
from wcse_lib.store import KEY, read_parquet, write_json, write_parquet
from wcse_lib.study import MAIN, Amounts, Run, pilot_folder, resolve_model
from wcse_lib.train.examples import examples_of_arm
from wcse_lib.train.fit import MEASURED, SCORES, Score, fit_of, sums_by_problem
from wcse_lib.train.rows import encoded_rows, write_rows

COLUMNS = ["base", "score", "arm", "value", "low", "high", "unit", "n_examples", "n_problems"]


def fit_of_pilot(run: Run) -> pd.DataFrame:
    """How the pilot's examples fit every student before training: a row per base, score and arm (COLUMNS), the value
    with its 95 % interval over problems.

    Each student's model reads them once. Writes `01_plan/fit.parquet` (`base`, KEY, and what `train.fit` measures) and
    `01_plan/fit.json`, what it took, for the ledger. Empty where the study does not ask for it (pilot.fit), or has no
    students. Raises StudyError for a model that cannot be loaded.
    """
    study = run.study
    if not (study.pilot and study.pilot.fit and study.students):
        return pd.DataFrame(columns=COLUMNS)
    pilot = Run(pilot_folder(study, run.folder.parent))
    examples, spent = [], {}
    for base in study.students:
        found, took = _read_by(run, base, pilot)
        examples.append(found.assign(base=base))
        spent[base] = took.model_dump(exclude_none=True)
    table = pd.concat(examples, ignore_index=True)
    write_parquet(run.path("01", "fit.parquet"), table)
    write_json(run.path("01", "fit.json"), spent)
    return pd.DataFrame(_rows(table, study.seed), columns=COLUMNS)


def choices(run: Run) -> list[str]:
    """Which arm each score of `fit_of_pilot` would choose for each student, and whether the pilot settles that."""
    path = run.path("01", "fit.parquet")
    if not path.exists():
        return []
    sentences = []
    for base, by_arm in _sums(read_parquet(path)):
        if len(by_arm) > 1:
            sentences += [_choice(base, one, by_arm, run.study.seed) for one in SCORES.values()]
    return sentences


def _read_by(run: Run, base: str, pilot: Run) -> tuple[pd.DataFrame, Amounts]:
    """The pilot's examples as one student reads them: KEY, `n_tokens` and MEASURED; and what that took."""
    student = next(
        name for name, one in run.plan.students.items() if one.base == base and one.source != "base"
    )
    one = run.student(student)
    tokenizer = sample.load_tokenizer(resolve_model(one.model))
    pieces = _examples(run, pilot)
    with tempfile.TemporaryDirectory(prefix="wcse-fit-") as folder:
        rows = encoded_rows(run, student, tokenizer, lambda dropped: None, pieces)
        kept = write_rows(rows, Path(folder) / "rows.arrow")
        chosen = np.arange(len(kept.lengths))
        values, spent = fit_of(one.model, one.n_parameters, kept, chosen)
        keys = kept.data.select_columns(KEY).to_pandas()
    measured = pd.DataFrame(values, columns=MEASURED)
    return keys.assign(n_tokens=kept.n_trained).join(measured), spent


def _examples(run: Run, pilot: Run) -> Iterator[pd.DataFrame]:
    """What the pilot admitted of every arm, of this study's training problems.

    Of a pilot that follows the unsolved its first samples alone: further ones are of problems chosen by wrong answers.
    """
    known = read_parquet(run.path("01", "train.parquet"), ["problem_id"])["problem_id"]
    for arm in run.study.plain_arms:
        budget_name, rule = pilot.arm(arm).largest_budget, pilot.study.rule_of(arm)
        n_first = rule.first if rule else pilot.arm(arm).samples[budget_name]
        for piece in examples_of_arm(pilot, arm, budget_name, MAIN, draw=0):
            is_wanted = piece["problem_id"].isin(known) & (piece["sample_index"] < n_first)
            yield piece[is_wanted].assign(is_cut=False)


def _sums(examples: pd.DataFrame) -> Iterator[tuple[str, dict[str, pd.DataFrame]]]:
    """Of every base by arm the sums by problem that SCORES divide."""
    for base, of_base in examples.groupby("base", sort=False):
        yield (
            base,
            {arm: sums_by_problem(of_arm) for arm, of_arm in of_base.groupby("author", sort=False)},
        )


def _rows(examples: pd.DataFrame, seed: int) -> Iterator[tuple]:
    n_examples = examples.groupby(["base", "author"]).size()
    for base, by_arm in _sums(examples):
        for name, score in SCORES.items():
            for arm, sums in by_arm.items():
                counts = int(n_examples[base, arm]), len(sums)
                yield base, name, arm, *score.value(sums, seed), score.unit, *counts


def _choice(base: str, score: Score, by_arm: dict[str, pd.DataFrame], seed: int) -> str:
    values = {arm: score.value(sums, seed).value for arm, sums in by_arm.items()}
    best, *others = sorted(values, key=values.get, reverse=score.sign > 0)
    compared, is_settled = [], True
    for other in others:
        difference, low, high = score.difference(by_arm[best], by_arm[other], seed)
        compared.append(f"minus {other} {difference:+.2f}, {low:+.2f} to {high:+.2f}")
        is_settled &= not low <= 0 <= high
    doubt = "" if is_settled else ", which this pilot does not settle"
    which = f"{score.words} ({score.better} fits better)"
    return f"Student {base}, by {which}: {best} ({'; '.join(compared)}){doubt}."
