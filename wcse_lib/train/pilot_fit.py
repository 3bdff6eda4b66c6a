"""Whose text fits the students? The pilot's correct samples under every student before training."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from wcse_lib import sample
from wcse_lib.store import read_parquet, write_json, write_parquet
from wcse_lib.study import MAIN, Amounts, Run, pilot_folder, resolve_model
from wcse_lib.train.examples import examples_of_arm
from wcse_lib.train.fit import measure
from wcse_lib.train.rows import encoded_rows, write_rows
from wcse_lib.train.scores import COLUMNS as OF_SCORES
from wcse_lib.train.scores import SCORES, Score, scores_of, sums_of_arms

COLUMNS = ["base", *OF_SCORES]


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
    with sample.progress("pilot read by", len(study.students), unit="students") as bar:
        for base in study.students:
            bar.set_postfix_str(base)
            found, took = _read_by(run, base, pilot)
            examples.append(found.assign(base=base))
            spent[base] = took.model_dump(exclude_none=True)
            bar.update(1)
    table = pd.concat(examples, ignore_index=True)
    write_parquet(run.path("01", "fit.parquet"), table)
    write_json(run.path("01", "fit.json"), spent)
    rows = [scores_of(by_arm, study.seed).assign(base=base) for base, by_arm in _sets(table)]
    return pd.concat(rows, ignore_index=True)[COLUMNS]


def choices(run: Run) -> list[str]:
    """Which arm each score of `fit_of_pilot` would choose for each student, and whether the pilot settles that."""
    path = run.path("01", "fit.parquet")
    if not path.exists():
        return []
    sentences = []
    for base, by_arm in _sets(read_parquet(path)):
        sums = sums_of_arms(by_arm)
        for score in SCORES.values():
            known = {arm: of_arm for arm, of_arm in sums.items() if score.is_known(of_arm)}
            if len(known) > 1:
                sentences.append(_choice(base, score, known, run.study.seed))
    return sentences


def _read_by(run: Run, base: str, pilot: Run) -> tuple[pd.DataFrame, Amounts]:
    """What `measure` finds of the pilot's examples for one student."""
    student = next(
        name for name, one in run.plan.students.items() if one.base == base and one.source != "base"
    )
    one = run.student(student)
    tokenizer = sample.load_tokenizer(resolve_model(one.model))
    pieces = _examples(run, pilot)
    with tempfile.TemporaryDirectory(prefix="wcse-fit-") as folder:
        rows = encoded_rows(run, student, tokenizer, lambda dropped: None, pieces)
        kept = write_rows(rows, Path(folder) / "rows.arrow")
        return measure(one.model, one.n_parameters, kept)


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


def _sets(examples: pd.DataFrame) -> Iterator[tuple[str, dict[str, pd.DataFrame]]]:
    """Of every base its measured examples, by arm."""
    for base, of_base in examples.groupby("base", sort=False):
        yield base, dict(iter(of_base.groupby("author", sort=False)))


def _choice(base: str, score: Score, by_arm: dict[str, pd.DataFrame], seed: int) -> str:
    values = {arm: score.value(sums, seed).value for arm, sums in by_arm.items()}
    best, *others = sorted(values, key=values.get, reverse=score.sign > 0)
    compared, is_settled = [], True
    for other in others:
        difference, low, high = score.difference(by_arm[best], by_arm[other], seed)
        compared.append(f"minus {other} {difference:+.2f}, {low:+.2f} to {high:+.2f}")
        is_settled &= low > 0 or high < 0
    doubt = "" if is_settled else ", which this pilot does not settle"
    which = f"{score.words} ({score.better} fits better)"
    return f"Student {base}, by {which}: {best} ({'; '.join(compared)}){doubt}."
