"""03: verdicts, judgements and examples of one arm's samples."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wcse_lib.sample import progress
from wcse_lib.store import (
    KEY,
    StudyError,
    parquet_writer,
    problem_range_filter,
    read_parquet,
    read_pieces,
    write_parquet,
)
from wcse_lib.study import Machine, Run, Study, on_machine
from wcse_lib.verdicts import (
    JUDGED,
    JUDGEMENTS,
    VERDICTS,
    Reason,
    could_cheat,
    judged_rows,
    reason_kind,
    verifier,
    with_judgements,
)
from wcse_lib.verify import labelling, looks, rates
from wcse_lib.verify.examples import write_examples
from wcse_lib.verify.judges import FREE, judge_of_all, judgement_rows, judges_of, own_judge
from wcse_lib.verify.model_judge import ask_model
from wcse_lib.verify.samples import count_planned_samples, planned_samples, texts_of

TABLES = {
    "verdicts": VERDICTS,
    "judgements": JUDGEMENTS,
    "other_judgements": JUDGEMENTS,
    "judged": JUDGED,
}
COUNTED = {
    "n_truncated": Reason.TRUNCATED,
    "n_bad_gold": Reason.BAD_GOLD,
    "n_timeout": Reason.TIMEOUT,
}


@dataclass(frozen=True)
class Verified:
    """What 03 found, as small tables: samples by verdict and reason, false positives by judge, where every row went."""

    verdicts: pd.DataFrame
    false_positives: pd.DataFrame
    flow: pd.DataFrame


def verify(run: Run, arm: str, machine: Machine) -> Verified:
    """Give every sample a verdict and every correct one judgements, and admit examples at every budget by every recipe.

    Writes under `03_verify/<arm>/`, as Parquet: `verdicts`; `judgements` (the study's own judge, one row a sample:
    correct ones, or all where a filter needs it) and `other_judgements`; `judged` (one row per sample of all that later
    stages ask of these); `false_positives`; `examples` and `dropped` (a row per sample, budget and recipe) and `flow`.
    Samples are held a few problems at a time, but for those that a model judges. Raises StudyError when there are no
    samples or a recipe cannot be followed.
    """
    with on_machine(run.path("03", arm), machine):
        verdicts = _write_judged(run, arm, machine)
        flow = write_examples(run, arm)
        table = false_positives(run, arm)
        write_parquet(run.path("03", arm, "false_positives.parquet"), table)
    return Verified(verdicts, table, flow)


def _write_judged(run: Run, arm: str, machine: Machine) -> pd.DataFrame:
    """Write the TABLES of an arm; returns its samples by verdict and reason, with `n` and `n_problems`."""
    study, folder = run.study, run.path("03", arm)
    own, judges = own_judge(study), judges_of(study)
    problems = read_parquet(run.path("01", "train.parquet"))
    human = labelling.judgements(labels(run))
    counts, for_model = [], []
    n_samples = count_planned_samples(run, arm)
    with contextlib.ExitStack() as stack:
        add = {}
        for name, columns in TABLES.items():
            add[name] = stack.enter_context(parquet_writer(folder / f"{name}.parquet", columns))
        for judge in judges:
            add[judge] = add["judgements" if judge == own else "other_judgements"]
        check = stack.enter_context(
            verifier(study.prompt.answer_style, machine.checkers, run.verification)
        )
        bar = stack.enter_context(progress(f"{arm}: verified", n_samples))
        for samples in planned_samples(run, arm):
            verdicts = check(samples, problems)
            judgements = _judgements(study, samples, verdicts, problems, human)
            add["verdicts"](verdicts)
            for judge, rows in judgements.items():
                add[judge](rows)
            add["judged"](judged_rows(samples, verdicts, judgements.get(own), study.seed))
            counts.append(_counts(verdicts, study.verification.by))
            bar.update(len(samples))
            if "model" in judges:
                for_model.append(_for_model(study, samples, verdicts))
        if not counts:
            raise StudyError(
                f"{run.path('02', arm)}: no sample of this plan's problems; run 02_generate for {arm} first"
            )
        if "model" in judges:
            keys, gold_known = pd.concat(for_model), judge_of_all(study) != "model"
            by_model = ask_model(run, arm, keys, machine, gold_known)
            add["model"](by_model)
    if own == "model":
        _replace_judgements(folder / "judged.parquet", by_model)
    table = pd.concat(counts).groupby(level=[0, 1]).sum()
    return table.sort_values(["verdict", "n"], ascending=[True, False]).reset_index()


def _judgements(
    study: Study,
    samples: pd.DataFrame,
    verdicts: pd.DataFrame,
    problems: pd.DataFrame,
    human: pd.DataFrame,
) -> dict[str, pd.DataFrame]:
    """The judgements of a piece's samples by all judges but the model, which is asked once for all pieces."""
    judgements = {}
    for judge in judges_of(study):
        if judge in FREE:
            every = judge == judge_of_all(study)
            judgements[judge] = judgement_rows(samples, verdicts, problems, judge, every)
        elif judge == "human":
            judgements[judge] = human.merge(verdicts[KEY], on=KEY)
    return judgements


def _for_model(study: Study, samples: pd.DataFrame, verdicts: pd.DataFrame) -> pd.DataFrame:
    """Those of a piece's samples that the model may have to judge."""
    if judge_of_all(study) == "model":
        is_usable = (samples["finish_reason"] == "stop") & (samples["text"].str.strip() != "")
        return samples.loc[is_usable, KEY]
    correct = verdicts.loc[verdicts["verdict"] == "correct", [*KEY, "verdict"]]
    n_per_arm = study.verification.model_judge.n_per_arm
    return labelling.draw(correct, n_per_arm, study.seed) if n_per_arm else correct


def _counts(verdicts: pd.DataFrame, by: str) -> pd.DataFrame:
    """Samples (`n`) and `n_problems` by verdict and kind of reason."""
    kinds = verdicts.assign(reason=reason_kind(verdicts["reason"], by))
    groups = kinds.groupby(["verdict", "reason"])["problem_id"]
    return groups.agg(n="size", n_problems="nunique")


def _replace_judgements(path: Path, judgements: pd.DataFrame) -> None:
    """Write the judgements of the study's own judge, which were known last, into the judged rows."""
    with parquet_writer(path, JUDGED) as add:
        for rows in read_pieces(path):
            add(with_judgements(rows, judgements))


def correct_judgements(run: Run, arm: str) -> Iterator[pd.DataFrame]:
    """All judges' judgements of correct samples (columns JUDGEMENTS), in pieces."""
    folder = run.path("03", arm)
    for rows in read_pieces(folder / "verdicts.parquet", [*KEY, "verdict"]):
        near = problem_range_filter(rows)
        own = read_parquet(folder / "judgements.parquet", [*JUDGEMENTS], near)
        others = read_parquet(folder / "other_judgements.parquet", [*JUDGEMENTS], near)
        correct = rows.loc[rows["verdict"] == "correct", KEY]
        yield pd.concat([own, others], ignore_index=True).merge(correct, on=KEY)


def false_positives(run: Run, arm: str, budget: str | None = None) -> pd.DataFrame:
    """Share of correct samples whose reasoning does not hold, by judge, with intervals and how to read it.

    Of the samples that belong to a `budget`, or of all.
    """
    sums, by_model = [], []
    for judgements in correct_judgements(run, arm):
        if budget is not None:
            judgements = run.rows_of_budget(judgements, arm, budget)
        sums.append(rates.by_problem(judgements))
        if (judgements["judge"] == "model").any():
            by_model.append(rates.calibration(judgements))
    tables = [rates.false_positive_table(pd.concat(sums), run.study.seed)]
    if by_model:
        tables.append(rates.corrected_table(pd.concat(by_model)))
    with_rows = [table for table in tables if len(table)]
    table = pd.concat(with_rows or tables[:1], ignore_index=True)
    return rates.without_drawn_rate(table)


def labels(run: Run) -> pd.DataFrame:
    """The labels that people have given in the panel."""
    return labelling.load(run.path("03", "labels.jsonl"))


def panel(run: Run, labeller: str, n: int):
    """The labelling panel over `n` correct samples of every arm verified so far, mixed.

    Random ones; where a model judged an arm's, random ones of those that it flags and of those that it passes, with
    more of the flagged than there are (`labelling.n_flagged`): `corrected_rate` weighs them back.
    """
    items, seed = [], run.study.seed
    for arm in run.plan.arms:
        if run.path("03", arm, "judged.parquet").exists():
            items.append(texts_of(run, arm, _to_label(run, arm, n)))
    mixed = labelling.draw(pd.concat(items), n, seed)
    return labelling.panel(mixed, run.path("03", "labels.jsonl"), labeller)


def _to_label(run: Run, arm: str, n: int) -> pd.DataFrame:
    """The samples of an arm that the panel shows: KEY columns and verdict."""
    seed = run.study.seed
    # a draw of draws is a draw of the whole, as its order depends on the keys alone
    drawn = {True: [], False: []}
    n_judged = {True: 0, False: 0}
    for judgements in correct_judgements(run, arm):
        by_model = judgements[judgements["judge"] == "model"].dropna(subset="sound")
        for is_flagged in drawn:
            keys = by_model.loc[by_model["sound"] != is_flagged, KEY].assign(verdict="correct")
            n_judged[is_flagged] += len(keys)
            drawn[is_flagged].append(labelling.draw(keys, n, seed))
    if sum(n_judged.values()):
        n_flagged = labelling.n_flagged(n, n_judged[True], n_judged[False])
        flagged = labelling.draw(pd.concat(drawn[True]), n_flagged, seed)
        passed = labelling.draw(pd.concat(drawn[False]), n - n_flagged, seed)
        return pd.concat([flagged, passed], ignore_index=True)
    pieces = read_pieces(run.path("03", arm, "judged.parquet"), [*KEY, "verdict"])
    correct = pd.concat([labelling.draw(piece, n, seed) for piece in pieces])
    return labelling.draw(correct, n, seed)


def three_rows(run: Run, arm: str) -> str:
    """A correct sample, a correct one with unsound reasoning, and an incorrect one, where there are such, as text."""
    kinds = []
    for rows in read_pieces(run.path("03", arm, "judged.parquet")):
        kinds.append(looks.three_kinds(rows))
        if len(kinds[-1]) == 3:
            break
    firsts = pd.concat(kinds).sort_values("kind", kind="stable").drop_duplicates("kind")
    return looks.as_text(texts_of(run, arm, firsts))


def checks(run: Run, arm: str, verified: Verified) -> dict:
    """Facts about the verdicts. Raises AssertionError when a row was lost on the way or nothing could be verified."""
    for at, part in verified.flow.groupby(["budget", "recipe"]):
        n = part.groupby("step")["n"].sum()
        assert n["samples"] == n.get("dropped", 0) + n["examples"], f"rows were lost at {at}"
    pieces = read_pieces(run.path("03", arm, "examples.parquet"), ["budget"])
    n_chosen = verified.flow.query("step == 'examples'")["n"].sum()
    assert sum(map(len, pieces)) == n_chosen, "examples lost their texts"

    table = verified.verdicts
    for name in ("verdicts", "judged"):
        n_rows = _count_by_key(run.path("03", arm, f"{name}.parquet"))
        assert n_rows == table["n"].sum(), f"{name}: a sample is missing"

    n = table.groupby("verdict")["n"].sum()
    n_decided = n.get("correct", 0) + n.get("incorrect", 0)
    assert n_decided > 0, (
        f"no sample could be verified ({table.nlargest(1, 'n')['reason'].iloc[0]})"
    )
    facts = {}
    for verdict in ("correct", "incorrect", "unverifiable"):
        facts[f"n_{verdict}"] = int(n.get(verdict, 0))
    for name, reason in COUNTED.items():
        facts[name] = int(table.loc[table["reason"].str.startswith(reason), "n"].sum())
    if run.study.verification.by == "tests":
        facts["n_correct_that_could_cheat"] = _n_that_could_cheat(run, arm)
    return facts


def _n_that_could_cheat(run: Run, arm: str) -> int:
    """Correct samples whose code names a means of passing tests without being right; see `could_cheat`."""
    n = 0
    path = run.path("03", arm, "verdicts.parquet")
    for rows in read_pieces(path, ["verdict", "extracted"]):
        n += int(rows.loc[rows["verdict"] == "correct", "extracted"].map(could_cheat).sum())
    return n


def _count_by_key(path: Path) -> int:
    """The rows of a file. Raises AssertionError unless they are sorted by key, each once."""
    n_rows, last = 0, pd.DataFrame()
    for keys in read_pieces(path, KEY):
        # by key, so that equal ones would stand side by side
        order = pd.MultiIndex.from_frame(pd.concat([last, keys]))
        is_ordered = order.is_monotonic_increasing and order.is_unique
        assert is_ordered, f"{path.name}: a sample stands twice, or out of order"
        n_rows, last = n_rows + len(keys), keys.tail(1)
    return n_rows
