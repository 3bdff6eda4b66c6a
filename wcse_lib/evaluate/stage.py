"""Room 05: test students on held-out problems, greedily and with drawn samples, by the same sampling code as arms."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib import intervals, sample, verify
from wcse_lib.store import (
    KEY,
    iter_samples,
    locked,
    parquet_writer,
    parts,
    problem_range_filter,
    query,
    read_json,
    read_parquet,
    read_pieces,
    write_json,
    write_manifest,
)
from wcse_lib.study import Machine, Run, on_machine, resolve_model
from wcse_lib.verdicts import (
    JUDGEMENTS,
    PRIMARY_METRIC,
    SAMPLED_PASS_AT_1,
    VERDICTS,
    Metric,
    metric_words,
    spoken,
    student_scores,
    verifier,
)

LOCK_SECONDS = 60  # for the list of openings, which other workers write too
GREEDY, SAMPLED = "greedy", "sampled"
FALSE_POSITIVE_RATE = "false_positive_rate"
SAMPLE_COLUMNS = [*KEY, "text", "finish_reason", "n_tokens", "n_prompt_tokens"]


def evaluate(run: Run, students: list[str], machine: Machine) -> pd.DataFrame:
    """Test the named students (all when empty); returns their `results`.

    Writes `05_evaluate/<student>/<decoding>/` (samples) and verdicts and judgements beside them. A finished student is
    not tested again; an unfinished one resumes by key. An engine is opened once for all students that are adapters on
    one base, and for the base itself; other students have weights of their own, opened one after the other. With
    `workers` above 1 so many Ray tasks share the students.
    """
    names = students or list(run.plan.students)

    def weights_of(student: str) -> str:
        return model_of(run, student)[0]

    with on_machine(run.path("05"), machine):
        sample.each_student(run, "05", names, test_together, machine, "tested", together=weights_of)
    print(sample.told({name: _how_compiled(run, name) for name in names}), flush=True)
    return results(run, names)


def _how_compiled(run: Run, student: str) -> str:
    """What the engine said of it when it drew the student's samples."""
    manifest = read_json(run.path("05", student, "manifest.json"))
    return manifest.get(SAMPLED, {}).get("how_compiled", "")


def model_of(run: Run, student: str) -> tuple[str, str | None]:
    """The checkpoint to load for a student, and the adapter on top of it if it was trained as one."""
    planned, model = run.student(student), run.path("04", student, "model")
    if planned.source == "base":
        return resolve_model(planned.model), None
    if run.study.evaluation.merged:
        return str(run.path("04", student, "merged")), None
    if (model / "adapter_config.json").exists():
        return resolve_model(planned.model), str(model)
    return str(model), None


def decodings(run: Run) -> dict[str, tuple[int, sample.Decoding]]:
    """By name how many samples of a problem are drawn, and how; they end where arms' samples do."""
    how, stop = run.study.evaluation, sample.stops(run.study.prompt, run.study.sampling.stop)
    greedy = sample.Decoding(temperature=0.0, max_tokens=how.max_tokens, stop=stop)
    sampled = sample.Decoding(how.temperature, how.top_k, how.top_p, how.max_tokens, stop)
    return {GREEDY: (1, greedy), SAMPLED: (how.n_samples, sampled)}


def test_together(folder: str, students: list[str], machine: Machine) -> None:
    """Test students of the study in `folder` one after the other with one engine.

    Its checkpoint, opened once, is one of them itself or the base of their adapters.
    """
    run = Run(folder)
    weights = {student: model_of(run, student) for student in students}
    (model,) = {model for model, _ in weights.values()}
    adapters = [adapter for _, adapter in weights.values() if adapter]
    style, began = run.study.prompt.answer_style, time.monotonic()
    with (
        sample.opened_once(model, machine, adapters) as take,
        verifier(style, machine.checkers, run.verification) as check,
    ):
        _note_opening(run, students, model, time.monotonic() - began)
        for student in students:
            _forget_other_weights(run, student)
            _test(run, student, take(weights[student][1]), check)


def _note_opening(run: Run, students: list[str], model: str, seconds: float) -> None:
    """Add an opened engine to `openings.json`, from which the ledger counts them."""
    folder = run.path("05")
    path = folder / "openings.json"
    opening = {
        "model": run.student(students[0]).model,
        "weights": os.path.relpath(model, run.folder) if Path(model).is_dir() else model,
        "students": students,
        "seconds": seconds,
    }
    with locked(folder, ".lock-openings", LOCK_SECONDS):
        before = read_json(path, list) if path.exists() else []
        write_json(path, [*before, opening])


def _test(run: Run, student: str, source: sample.Opened, check: Callable) -> None:
    """Sample, verify and judge one student on all held-out problems, transfer sets too.

    Args: source: what draws from its weights; check: what `verifier` gives.
    """
    here = run.path("05", student)
    problems = read_parquet(run.path("01", "held_out.parquet"))
    facts = {}
    for name, (n_samples, decoding) in decodings(run).items():
        start = time.monotonic()
        sample.draw(
            here / name,
            student,
            problems,
            n_samples,
            source,
            prompt=run.prompt_of(student),
            decoding=decoding,
            seed=run.study.seed,
            model=student,
        )
        seconds = time.monotonic() - start
        facts[name] = verify_samples(run, student, name, check) | {"seconds": seconds}
        if source.how_compiled:
            facts[name]["how_compiled"] = source.how_compiled
    write_manifest(here, run.plan_id, facts)


def _forget_other_weights(run: Run, student: str) -> None:
    """Throw away what a student of this name wrote before it was trained anew: only its own weights' samples count."""
    trained, here = run.path("04", student, "training.json"), run.path("05", student)
    weights = {"base_model": run.student(student).model}
    if trained.exists():
        weights = read_json(trained)
    known = here / "weights.json"
    if here.exists() and (not known.exists() or read_json(known) != weights):
        if any(here.rglob("part-*.parquet")):
            print(f"{student}: its weights are others than before; tested anew", flush=True)
        shutil.rmtree(here)
    write_json(known, weights)


def verify_samples(run: Run, student: str, decoding: str, check: Callable) -> dict[str, int]:
    """Write the verdicts of a student's samples, and the judgements where a judge speaks for students.

    `check` is what `verifier` gives. Returns the numbers of samples and tokens. Samples are read piece by piece.
    """
    folder, judge = run.path("05", student), verify.free_judge(run.study)
    problems = read_parquet(run.path("01", "held_out.parquet"))
    totals = Counter()
    with contextlib.ExitStack() as files:
        add_verdicts = files.enter_context(
            parquet_writer(folder / f"verdicts-{decoding}.parquet", VERDICTS)
        )
        if judge:
            add_judgements = files.enter_context(
                parquet_writer(folder / f"judgements-{decoding}.parquet", JUDGEMENTS)
            )
        for samples in _samples(run, student, decoding, problems):
            verdicts = check(samples, problems)
            add_verdicts(verdicts)
            if judge:
                add_judgements(verify.judgement_rows(samples, verdicts, problems, judge))
            totals["n_samples"] += len(samples)
            for name in ("n_tokens", "n_prompt_tokens"):
                totals[name] += int(samples[name].clip(lower=0).sum())
    return dict(totals)


def _samples(
    run: Run, student: str, decoding: str, problems: pd.DataFrame
) -> Iterator[pd.DataFrame]:
    """The samples that the study asks for, without their thinking; there may be more from an earlier plan."""
    n_samples, _ = decodings(run)[decoding]
    opened = run.plan.opened_thought(student)
    for samples in iter_samples(run.path("05", student, decoding), SAMPLE_COLUMNS):
        is_known = samples["problem_id"].isin(problems["problem_id"])
        samples = samples[is_known & (samples["sample_index"] < n_samples)]
        if len(samples):
            yield spoken(samples.reset_index(drop=True), opened)


def results(run: Run, students: list[str]) -> pd.DataFrame:
    """One row per student, set of held-out problems and metric: metric, decoding, k, n, value, low, high, unit.

    pass@k (k = 1) of either decoding and the largest maj@k, whose n is problems: intervals.rate_of_problems. The
    false-positive rate (no k; n: judged samples of the drawn correct ones) with a bootstrap interval over problems.
    """
    sets, seed, rows = run.sets().sort_index(), run.study.seed, []
    largest_k = max(run.study.evaluation.maj_k, default=1)
    wanted = [PRIMARY_METRIC, SAMPLED_PASS_AT_1, Metric("maj@k", SAMPLED, largest_k)]
    for student in students:
        found = student_scores(run.path("05", student), [largest_k], run.study.verification)
        judged = _judged_problems(run, student)
        for set_name in run.sets().unique():
            here = {"student": student, "set": set_name}
            for metric in wanted:
                values = found.scores[metric][sets == set_name]
                # a problem without a verifiable answer says nothing
                values = values[~np.isnan(values)]
                if not len(values):
                    continue
                estimate = intervals.rate_of_problems(values, seed)
                rows.append(here | metric._asdict() | vars(estimate))
            of_set = judged[judged["problem_id"].map(sets) == set_name]
            rates = verify.false_positive_table(of_set, seed).query("n > 0")
            here |= {"metric": FALSE_POSITIVE_RATE, "decoding": SAMPLED, "unit": "%"}
            for rate in rates[["n", "value", "low", "high"]].to_dict("records"):
                rows.append(here | rate)
    columns = ["student", "set", *Metric._fields, "n", "value", "low", "high", "unit"]
    return pd.DataFrame(rows, columns=columns).astype({"k": "Int64"})


def _judged_problems(run: Run, student: str) -> pd.DataFrame:
    """A student's judgements of drawn samples, added up by problem (`verify.by_problem`)."""
    path = run.path("05", student, "judgements-sampled.parquet")
    pieces = read_pieces(path, list(JUDGEMENTS)) if path.exists() else ()
    empty = pd.DataFrame(columns=["author", "judge", "problem_id", "n", "n_false", "n_undecided"])
    return pd.concat([verify.by_problem(piece) for piece in pieces] or [empty])


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Results to read: a row per set and student, a column per metric, "40.0 [34.6, 45.6], n = 300" in per cent."""
    cells = {}
    for row in table.itertuples():
        words = "false-positive rate"
        if row.metric != FALSE_POSITIVE_RATE:
            words = metric_words(row.metric, row.decoding, row.k)
        estimate = intervals.Estimate(row.value, row.low, row.high, row.n, row.unit)
        cell = estimate.text(with_unit=False)
        cells.setdefault((row.set, row.student), {})[words] = cell
    frame = pd.DataFrame.from_dict(cells, orient="index")
    return frame.rename_axis(["set", "student"]).fillna("")


def three_rows(run: Run, student: str) -> str:
    """A correct sample, a correct one with unsound reasoning, and an incorrect one, where there are such, as text."""
    folder, kinds = run.path("05", student), []
    for rows in _judged_pieces(run, student):
        kinds.append(verify.three_kinds(rows))
        if len(kinds[-1]) == 3:
            break
    firsts = pd.concat(kinds).sort_values("kind", kind="stable").drop_duplicates("kind")
    texts = query(
        "SELECT author, problem_id, sample_index, text FROM samples SEMI JOIN firsts USING (problem_id)",
        samples=parts(folder / SAMPLED),
        firsts=firsts[["problem_id"]],
    )
    problems = read_parquet(run.path("01", "held_out.parquet"))
    asked = problems[["problem_id", "question", "answer"]]
    return verify.as_text(firsts.merge(texts, on=KEY).merge(asked, on="problem_id"))


def _judged_pieces(run: Run, student: str) -> Iterator[pd.DataFrame]:
    """Verdicts of drawn samples with `sound` and `judge_reason`, which are empty where nobody judged."""
    folder = run.path("05", student)
    path = folder / "judgements-sampled.parquet"
    for rows in read_pieces(folder / "verdicts-sampled.parquet"):
        if not path.exists():
            yield rows.assign(sound=None, judge_reason="")
            continue
        judged = read_parquet(path, [*KEY, "sound", "reason"], problem_range_filter(rows))
        judged = judged.rename(columns={"reason": "judge_reason"})
        yield rows.merge(judged, on=KEY, how="left")


def checks(run: Run, students: list[str], table: pd.DataFrame) -> dict[str, int]:
    """Facts about the tests. Raises AssertionError when a student's samples are not all there."""
    n_samples, n_problems = 0, run.plan.n_problems["held_out"]
    for student in students:
        for name, (n, _) in decodings(run).items():
            verdicts = run.path("05", student, f"verdicts-{name}.parquet")
            counts = query(
                # a bit for each sample of a problem: a set of keys would grow with their number
                f"""SELECT sum(n)::BIGINT AS n, sum(n_keys)::BIGINT AS n_keys FROM (
                    SELECT count(*) AS n,
                        bit_count(bitstring_agg(sample_index, 0, {n - 1})) AS n_keys
                    FROM verdicts GROUP BY author, problem_id)""",
                verdicts=verdicts,
            ).iloc[0]
            assert counts["n"] == n * n_problems, f"{student}: samples are missing"
            assert counts["n_keys"] == counts["n"], f"{student}: samples stand there twice"
            n_samples += int(counts["n"])
    assert set(table["student"]) == set(students), "a student was not tested"
    return {"n_students": len(students), "n_samples": n_samples}
