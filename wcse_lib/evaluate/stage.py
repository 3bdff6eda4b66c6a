"""05: test students on held-out problems, greedily and with drawn samples, by the same sampling code as arms."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pandas as pd

from wcse_lib import intervals, metrics
from wcse_lib import verify as judges
from wcse_lib.sample import (
    Decoding,
    draw,
    each_student,
    opened,
    without_thinking,
)
from wcse_lib.store import (
    KEY,
    read_json,
    read_parquet,
    read_samples,
    write_json,
    write_manifest,
    write_parquet,
)
from wcse_lib.study import Machine, Run, resolve_model
from wcse_lib.verdicts import verifier
from wcse_lib.verify import as_text, free_judge, judgement_rows, three_kinds

DECODINGS = ("greedy", "sampled")


def evaluate(run: Run, students: list[str], machine: Machine) -> pd.DataFrame:
    """Test the named students (all when empty); returns their `results`.

    Writes `05_evaluate/<student>/<decoding>/` (samples) and verdicts and judgements beside them. A finished student is
    not tested again; an unfinished one resumes by key. With `workers` above 1 students are Ray tasks, so many at once.
    """
    names = students or list(run.plan["students"])
    each_student(run, "05", names, test_student, machine, "tested")
    return results(run, names)


def model_of(run: Run, student: str) -> tuple[str, str | None]:
    """The checkpoint to load for a student, and the adapter on top of it if it was trained as one."""
    entry = run.student(student)
    if entry["source"] == "base":
        return resolve_model(entry["model"]), None
    if run.study.evaluation.merged:
        return str(run.path("04", student, "merged")), None
    folder = run.path("04", student, "model")
    if (folder / "adapter_config.json").exists():
        return resolve_model(entry["model"]), str(folder)
    return str(folder), None


def test_student(folder: str, student: str, machine: Machine) -> None:
    """Sample, verify and judge one student of the study in `folder` on all held-out problems, transfer sets too."""
    run = Run(folder)
    problems = read_parquet(run.path("01", "held_out.parquet"))
    (model, adapter), folder, e = (
        model_of(run, student),
        run.path("05", student),
        run.study.evaluation,
    )
    settings = {
        "greedy": (1, Decoding(temperature=0.0, max_tokens=e.max_tokens)),
        "sampled": (e.n_samples, Decoding(e.temperature, e.top_k, e.top_p, e.max_tokens)),
    }
    _forget_other_weights(run, student, folder)
    counts = {}
    with (
        opened(folder, model, machine, adapter=adapter) as source,
        verifier(run.study.prompt.answer_style, machine.checkers, run.study.verification) as verify,
    ):
        for decoding, (n, sampling) in settings.items():
            clock = time.monotonic()
            rows = draw(
                folder / decoding,
                student,
                problems,
                n,
                source,
                prompt=run.study.prompt,
                decoding=sampling,
                seed=run.study.seed,
                model=student,
            )
            seconds = time.monotonic() - clock
            rows["text"] = rows["text"].map(without_thinking)
            verdicts = verify(rows, problems)
            write_parquet(folder / f"verdicts-{decoding}.parquet", verdicts)
            if judge := free_judge(run.study):
                write_parquet(
                    folder / f"judgements-{decoding}.parquet",
                    judgement_rows(rows, verdicts, problems, judge),
                )
            tokens = {
                name: int(rows[name].clip(lower=0).sum())
                for name in ("n_tokens", "n_prompt_tokens")
            }
            counts[decoding] = {"n_samples": len(rows)} | tokens | {"seconds": seconds}
    write_manifest(folder, run.plan_id, counts)


def _forget_other_weights(run: Run, student: str, folder: Path) -> None:
    """Throw away what a student of this name wrote before it was trained anew: only its own weights' samples count."""
    trained = run.path("04", student, "training.json")
    weights = (
        read_json(trained) if trained.exists() else {"base_model": run.student(student)["model"]}
    )
    known = folder / "weights.json"
    if folder.exists() and (not known.exists() or read_json(known) != weights):
        if any(folder.rglob("part-*.parquet")):
            print(f"{student}: its weights are others than before; tested anew", flush=True)
        shutil.rmtree(folder)
    write_json(known, weights)


def results(run: Run, students: list[str]) -> pd.DataFrame:
    """One row per student, set of held-out problems and metric: n, value, and a 95 % interval.

    Greedy pass@1 with Wilson's interval, where n is problems; sampled pass@1, the largest maj@k and the false-positive
    rate (n: judged samples of the drawn correct ones) with bootstrap intervals over problems.
    """
    sets, out = run.sets(), []
    k = max(run.study.evaluation.maj_k, default=1)
    for student in students:
        folder = run.path("05", student)
        greedy, sampled = (
            read_parquet(folder / f"verdicts-{decoding}.parquet") for decoding in DECODINGS
        )
        judged = folder / "judgements-sampled.parquet"
        judged = read_parquet(judged) if judged.exists() else None
        for name in sets.unique():
            right = greedy.loc[(greedy["problem_id"].map(sets) == name), "verdict"] == "correct"
            rows = sampled[sampled["problem_id"].map(sets) == name].assign(
                right=lambda f: f["verdict"] == "correct"
            )
            groups = rows.sort_values(KEY).groupby("problem_id")
            said = [[None if pd.isna(a) else a for a in part] for _, part in groups["extracted"]]
            votes = metrics.majority_details(said, [list(part) for _, part in groups["right"]], k)[
                "accuracy"
            ]
            means = groups["right"].mean().to_numpy()
            values = {
                "greedy pass@1": (len(right), intervals.wilson(int(right.sum()), len(right))),
                "sampled pass@1": (len(groups), intervals.bootstrap(means, seed=run.study.seed)),
                f"maj@{k}": (
                    len(groups),
                    intervals.bootstrap(votes.to_numpy(), seed=run.study.seed),
                ),
            }
            if judged is not None:
                sums = judges.by_problem(judged[judged["problem_id"].map(sets) == name])
                table = judges.false_positive_table(sums, run.study.seed)
                for row in table[table["n"] > 0].itertuples():
                    values["false-positive rate"] = (row.n, (row.value, row.low, row.high))
            for metric, (n, (value, low, high)) in values.items():
                facts = {"student": student, "set": name, "metric": metric, "n": n}
                out.append(facts | {"value": float(value), "low": float(low), "high": float(high)})
    return pd.DataFrame(out)


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """Results to read: a row per student and set, a column per metric, "40.0 [34.6, 45.6] of 300" in per cent."""
    text = [
        f"{100 * r.value:.1f} [{100 * r.low:.1f}, {100 * r.high:.1f}] of {r.n}"
        for r in table.itertuples()
    ]
    order = list(zip(table["set"], table["student"]))
    wide = table.assign(text=text).pivot(index=["set", "student"], columns="metric", values="text")
    return (
        wide.reindex(columns=table["metric"].unique())
        .loc[sorted(wide.index, key=order.index)]
        .fillna("")
    )


def three_rows(run: Run, student: str) -> str:
    """A correct sample, a correct one with unsound reasoning, and an incorrect one, where there are such, as text."""
    folder, problems = run.path("05", student), read_parquet(run.path("01", "held_out.parquet"))
    rows = read_parquet(folder / "verdicts-sampled.parquet").assign(sound=None, judge_reason="")
    if (path := folder / "judgements-sampled.parquet").exists():
        judged = read_parquet(path).rename(columns={"reason": "judge_reason"})[
            [*KEY, "sound", "judge_reason"]
        ]
        rows = rows.drop(columns=["sound", "judge_reason"]).merge(judged, on=KEY, how="left")
    chosen = three_kinds(rows).merge(read_samples(folder / "sampled", [*KEY, "text"]), on=KEY)
    return as_text(chosen.merge(problems[["problem_id", "question", "answer"]], on="problem_id"))


def checks(run: Run, students: list[str], table: pd.DataFrame) -> dict:
    """Facts about the tests. Raises AssertionError when a student's samples are not all there."""
    n, e, n_samples = run.plan["n_problems"]["held_out"], run.study.evaluation, 0
    for student in students:
        for decoding, k in zip(DECODINGS, (1, e.n_samples)):
            verdicts = read_parquet(run.path("05", student, f"verdicts-{decoding}.parquet"), KEY)
            assert len(verdicts) == n * k and not verdicts.duplicated(KEY).any(), (
                f"{student}: samples are missing"
            )
            n_samples += len(verdicts)
    assert set(table["student"]) == set(students), "a student was not tested"
    return {"n_students": len(students), "n_samples": n_samples}
