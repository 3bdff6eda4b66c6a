"""Room 04: give each student its examples, train it, and choose its best checkpoint on validation problems."""

from __future__ import annotations

import html
from collections.abc import Callable

import pandas as pd
from tqdm import tqdm

from wcse_lib import answers, finetune
from wcse_lib.engines import Request, Sampling
from wcse_lib.engines.hf import HFEngine, set_threads
from wcse_lib.prompts import load_tokenizer, prompt_ids
from wcse_lib.records import (
    KEY,
    StudyError,
    is_complete,
    read_json,
    read_parquet,
    read_samples,
    write_manifest,
    write_parquet,
)
from wcse_lib.sampling import progress
from wcse_lib.study import Machine, Run, resolve_model


def examples_of(run: Run, student: str) -> pd.DataFrame:
    """The examples (KEY columns, `completion`) that a student is trained on: its arm's, reference solutions, or its own
    wrong samples. Raises StudyError when there are none."""
    entry = run.student(student)
    if entry["source"] == "reference":
        problems = read_parquet(run.path("01", "train.parquet"))
        problems = problems[problems["solution"] != ""]
        frame = pd.DataFrame(
            {
                "author": "reference",
                "problem_id": problems["problem_id"],
                "sample_index": 0,
                "completion": problems["solution"],
            }
        )
    elif entry["source"] == "wrong":
        samples = read_samples(run.path("02", entry["arm"]))
        verdicts = read_parquet(run.path("03", entry["arm"], "verdicts.parquet"))
        wrong = verdicts.loc[(verdicts["verdict"] == "incorrect") & verdicts["extracted"].notna(), KEY]
        frame = samples.merge(wrong, on=KEY).rename(columns={"text": "completion"})
    else:
        frame = read_parquet(run.path("03", entry["arm"], "examples.parquet"))
        frame = frame[frame["budget"] == entry["budget"]]
    if frame.empty:
        raise StudyError(f"{student}: no examples to train on; see 03_verify for why samples were dropped")
    return frame[[*KEY, "completion"]].reset_index(drop=True)


def encoded_rows(run: Run, student: str, tokenizer) -> tuple[list[dict], pd.DataFrame]:
    """Training rows and the examples dropped for their length. Refuses held-out problems among the examples."""
    examples = examples_of(run, student)
    for split in ("held_out", "validation"):
        leaked = set(examples["problem_id"]) & set(read_parquet(run.path("01", f"{split}.parquet"))["problem_id"])
        if leaked:
            raise StudyError(f"{student}: {len(leaked)} examples are of {split} problems, such as {min(leaked)}")
    questions = read_parquet(run.path("01", "train.parquet")).set_index("problem_id")["question"]
    p = run.study.prompt
    prompts = {i: prompt_ids(tokenizer, questions[i], p.style, p.template) for i in examples["problem_id"].unique()}
    rows = [
        finetune.encode(tokenizer, prompts[row.problem_id], row.completion, run.study.training.max_tokens)
        for row in examples.itertuples()
    ]
    too_long = pd.Series([row is None for row in rows])
    kept = [row for row in rows if row is not None]
    finetune.check_rows(kept, tokenizer)
    return kept, examples[too_long.to_numpy()]


def settings_of(run: Run, student: str, machine: Machine) -> finetune.Settings:
    """The finetuning settings of one student."""
    entry, t = run.student(student), run.study.training
    return finetune.Settings(
        method=t.method,
        training=t.mode,
        amount=entry["amount"],
        learning_rate=entry["learning_rate"],
        backend=t.backend,
        batch_size=t.batch_size,
        max_tokens=t.max_tokens,
        warmup=t.warmup,
        seed=entry["seed"],
        n_checkpoints=t.n_checkpoints,
        lora_rank=t.lora_rank,
        lora_alpha=t.lora_rank,
        dtype=machine.dtype or "auto",
    )


def train_students(run: Run, students: list[str], machine: Machine) -> pd.DataFrame:
    """Train the named students (all that need it when empty); returns one row per student from its train report.

    Finished students are not trained again, an unfinished one resumes from its checkpoint.
    """
    finetune.open_backend(run.study.training.backend)
    set_threads(machine.threads)
    todo = students or [name for name, entry in run.plan["students"].items() if entry["source"] != "base"]
    for student in (name for name in todo if run.student(name)["source"] != "base"):
        folder = run.path("04", student)
        if not is_complete(folder, run.plan_id):
            _train(run, student, machine)
    return reports(run, todo)


def _train(run: Run, student: str, machine: Machine) -> None:
    entry, folder = run.student(student), run.path("04", student)
    base = resolve_model(entry["model"])
    rows, too_long = encoded_rows(run, student, load_tokenizer(base))
    write_parquet(folder / "too_long.parquet", too_long)
    with progress(student, 0) as bar:
        bar.unit = " steps"
        report = finetune.train(
            base, rows, settings_of(run, student, machine), folder, _validator(run), _shown_on(bar), len(too_long)
        )
    facts = {k: report[k] for k in ("n_examples", "n_tokens", "steps", "epochs", "spent_flops", "seconds")}
    write_manifest(folder, run.plan_id, facts)


def _shown_on(bar: tqdm) -> Callable[[int, int, float], None]:
    def show(step: int, n_steps: int, loss: float) -> None:
        bar.total = n_steps
        bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        bar.update(step - bar.n)

    return show


def _validator(run: Run) -> Callable | None:
    """A function that gives a live model's greedy accuracy on the validation problems; None when there are none."""
    problems = read_parquet(run.path("01", "validation.parquet"))
    if problems.empty:
        return None
    p, sampling = run.study.prompt, Sampling(temperature=0.0, max_tokens=run.study.evaluation.max_tokens)
    gold = problems.set_index("problem_id")["answer"]

    def validate(model, tokenizer, step: int) -> float:
        requests = [
            Request(("validation", row.problem_id, 0), prompt_ids(tokenizer, row.question, p.style, p.template), 0)
            for row in problems.itertuples()
        ]
        outputs = list(HFEngine.around(model, tokenizer).generate(requests, sampling))
        found = [
            (answers.extract(o.text, p.answer_style), gold[o.key[1]]) for o in outputs if o.finish_reason == "stop"
        ]
        return sum(a is not None and answers.equivalent(a, g) is True for a, g in found) / len(problems)

    return validate


def reports(run: Run, students: list[str]) -> pd.DataFrame:
    """One row per trained student: examples, tokens, epochs, FLOPs, the last loss, the chosen step and its accuracy."""
    rows = []
    for student in students:
        if run.student(student)["source"] == "base":
            continue
        r = read_json(run.path("04", student, "report.json"))
        best = dict(map(tuple, r["validation_curve"])).get(r["best_step"])
        rows.append({
            "student": student, "n_examples": r["n_examples"], "n_dropped_long": r["n_dropped_long"],
            "n_tokens": r["n_tokens"], "steps": r["steps"], "epochs": r["epochs"], "spent_flops": r["spent_flops"],
            "seconds": r["seconds"], "last_loss": r["loss_curve"][-1][1], "best_step": r["best_step"],
            "validation_accuracy": best,
        })  # fmt: skip
    return pd.DataFrame(rows)


def loss_curves(run: Run, students: list[str]) -> pd.DataFrame:
    """Tidy loss curves: student, step, loss."""
    rows = []
    for student in students:
        if run.student(student)["source"] != "base":
            curve = read_json(run.path("04", student, "report.json"))["loss_curve"]
            rows += [{"student": student, "step": int(step), "loss": loss} for step, loss, _ in curve]
    return pd.DataFrame(rows, columns=["student", "step", "loss"])


def shown_rows(run: Run, student: str, n: int = 3) -> str:
    """HTML of a student's first training rows, token by token with their labels."""
    tokenizer = load_tokenizer(resolve_model(run.student(student)["model"]))
    rows, _ = encoded_rows(run, student, tokenizer)
    return f"<p>{html.escape(student)}</p>" + finetune.coloured(rows, tokenizer, n)


def checks(run: Run, students: list[str], table: pd.DataFrame) -> dict:
    """Facts about the trainings. Raises AssertionError when a student has no model, no examples or no finite loss."""
    trained = [s for s in students if run.student(s)["source"] != "base"]
    assert set(table["student"]) == set(trained), "a student's report is missing"
    assert all(run.path("04", s, "model").is_dir() for s in trained), "a student's model is missing"
    assert (table["n_examples"] > 0).all() and table["last_loss"].notna().all(), "a student learnt nothing"
    return {
        "n_students": len(trained),
        "n_tokens": int(table["n_tokens"].sum()),
        "spent_flops": float(table["spent_flops"].sum()),
    }
