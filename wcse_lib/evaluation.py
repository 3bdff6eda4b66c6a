"""Room 05: test students on held-out problems, greedily and with drawn samples, by the same sampling code as arms."""

from __future__ import annotations

import pandas as pd

from wcse_lib.engines import Sampling, open_engine
from wcse_lib.prompts import load_tokenizer
from wcse_lib.records import is_complete, read_parquet, write_manifest, write_parquet
from wcse_lib.sampling import draw
from wcse_lib.study import Machine, Run, resolve_model
from wcse_lib.verdicts import judgement_rows, verdict_rows

DECODINGS = ("greedy", "sampled")


def evaluate(run: Run, students: list[str], machine: Machine) -> pd.DataFrame:
    """Test the named students (all when empty); returns one row per student and decoding with its raw accuracy.

    Writes `05_evaluate/<student>/<decoding>/` (samples) and verdicts and judgements beside them. A finished student is
    not tested again; an unfinished one resumes by key.
    """
    problems = read_parquet(run.path("01", "held_out.parquet"))
    rows = []
    for student in students or list(run.plan["students"]):
        if not is_complete(run.path("05", student), run.plan_id):
            _test(run, student, problems, machine)
        for decoding in DECODINGS:
            verdicts = read_parquet(run.path("05", student, f"verdicts-{decoding}.parquet"))
            correct = int((verdicts["verdict"] == "correct").sum())
            rows.append(
                {
                    "student": student,
                    "decoding": decoding,
                    "n_samples": len(verdicts),
                    "n_correct": correct,
                    "accuracy": correct / len(verdicts),
                }
            )
    return pd.DataFrame(rows)


def model_of(run: Run, student: str) -> tuple[str, str | None]:
    """The checkpoint to load for a student, and the adapter on top of it if it was trained as one."""
    entry = run.student(student)
    if entry["source"] == "base":
        return resolve_model(entry["model"]), None
    folder = run.path("04", student, "model")
    if (folder / "adapter_config.json").exists():
        return resolve_model(entry["model"]), str(folder)
    return str(folder), None


def _test(run: Run, student: str, problems: pd.DataFrame, machine: Machine) -> None:
    model, adapter = model_of(run, student)
    e, folder = run.study.evaluation, run.path("05", student)
    settings = {
        "greedy": (1, Sampling(temperature=0.0, max_tokens=e.max_tokens)),
        "sampled": (e.n_samples, Sampling(e.temperature, e.top_k, e.top_p, e.max_tokens)),
    }
    tokenizer = load_tokenizer(model)
    engine = open_engine(
        machine.engine, model, machine.model_dump(exclude_none=True) | ({"adapter": adapter} if adapter else {})
    )
    counts = {}
    try:
        for decoding, (n, sampling) in settings.items():
            rows = draw(
                folder / decoding,
                student,
                problems,
                n,
                engine,
                tokenizer,
                run.study.prompt,
                sampling,
                run.study.seed,
                student,
                machine.engine,
            )
            verdicts = verdict_rows(rows, problems, run.study.prompt.answer_style)
            write_parquet(folder / f"verdicts-{decoding}.parquet", verdicts)
            if run.study.dataset.name == "nano":
                write_parquet(
                    folder / f"judgements-{decoding}.parquet", judgement_rows(rows, verdicts, problems, "exact")
                )
            counts[decoding] = {
                "n_samples": len(rows),
                "n_tokens": int(rows["n_tokens"].clip(lower=0).sum()),
                "n_prompt_tokens": int(rows["n_prompt_tokens"].clip(lower=0).sum()),
            }
    finally:
        engine.close()
    write_manifest(folder, run.plan_id, counts)


def checks(run: Run, students: list[str], results: pd.DataFrame) -> dict:
    """Facts about the tests. Raises AssertionError when a student's samples are not all there."""
    n, e = run.plan["n_problems"]["held_out"], run.study.evaluation
    for row in results.itertuples():
        assert row.n_samples == n * (1 if row.decoding == "greedy" else e.n_samples), (
            f"{row.student}: samples are missing"
        )
    assert set(results["student"]) == set(students), "a student was not tested"
    return {"n_students": len(students), "n_samples": int(results["n_samples"].sum())}
