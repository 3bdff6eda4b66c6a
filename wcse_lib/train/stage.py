"""04: give each student its examples, train it, and choose its best checkpoint on validation problems."""

from __future__ import annotations

import contextlib
import html
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pandas as pd
from tqdm import tqdm

from wcse_lib import sample
from wcse_lib.store import KEY, parquet_writer, read_json, read_parquet, write_manifest
from wcse_lib.study import MAIN, Machine, Run, on_machine, resolve_model, settings_of
from wcse_lib.train.attempt import Training
from wcse_lib.train.encode import coloured
from wcse_lib.train.fit import write_fit
from wcse_lib.train.models import open_backend
from wcse_lib.train.on_policy import train_on_policy
from wcse_lib.train.picking import SCORE_OF, left_out, picked_rows, rule_of
from wcse_lib.train.rows import DROPPED, LONG, TrainingRows, encoded_rows, row_limit, write_rows
from wcse_lib.train.scored import on_policy_training
from wcse_lib.train.trainer import train
from wcse_lib.verdicts import spoken, verifier

# columns of `reports` that stand in a train report under the same name
OF_REPORT = [
    "n_examples",
    "n_dropped_long",
    "n_tokens",
    "steps",
    "epochs",
    "planned_flops",
    "spent_flops",
    "seconds",
    "tokens_per_second",
    "learning_rate",
    "best_step",
    "token_accuracy",
]
OF_MANIFEST = ("n_examples", "n_tokens", "steps", "epochs", "spent_flops", "seconds")


def train_students(run: Run, students: list[str], machine: Machine) -> pd.DataFrame:
    """Train the named students (all that need it when empty); returns one row per student from its train report.

    Finished students are not trained again, an unfinished one resumes from its checkpoint. With `workers` above 1 they
    are Ray tasks, so many at a time. On-policy students come last: they may spend what others have spent.
    """
    names = trained(run, students or list(run.plan.students))
    on_policy = [name for name in names if run.student(name).source == "on_policy"]
    of_rows = [name for name in names if name not in on_policy]
    with on_machine(run.path("04"), machine):
        sample.each_student(run, "04", of_rows, _train_each, machine, "trained")
        sample.each_student(run, "04", on_policy, _train_each, machine, "trained")
    notes = {name: _report(run, name).get("how_compiled", "") for name in of_rows}
    print(sample.told(notes), flush=True)
    return reports(run, names)


def trained(run: Run, students: list[str]) -> list[str]:
    """Those of the students that are trained: all but the bases."""
    return [name for name in students if run.student(name).source != "base"]


def _train_each(folder: str, students: list[str], machine: Machine) -> None:
    for student in students:
        train_student(folder, student, machine)


def train_student(folder: str, student: str, machine: Machine) -> None:
    """Train one student of the study in `folder` and write its train report, `dropped.parquet` and manifest.

    The first of an arm's main students also leaves `fit.parquet`: how every example fits the model before training. So
    does one whose recipe picks by such a score: of all the right samples that it picks from.
    An on-policy student has no examples, and so neither of these files.
    """
    run = Run(folder)
    if machine.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    open_backend(run.study.training.backend)
    sample.set_threads(machine.threads)
    if run.student(student).source == "on_policy":
        report = _train_on_policy(run, student, machine)
    else:
        report = _train_on_examples(run, student, machine)
    facts = {name: report[name] for name in OF_MANIFEST}
    write_manifest(run.path("04", student), run.plan_id, facts)


def _train_on_examples(run: Run, student: str, machine: Machine) -> dict[str, Any]:
    one, here, training = run.student(student), run.path("04", student), run.study.training
    tokenizer = sample.load_tokenizer(resolve_model(one.model))
    rows_file, dropped_file = here / "rows.arrow", here / "dropped.parquet"
    picked_file, rule = here / "picked.arrow", rule_of(run, student)
    try:
        with parquet_writer(dropped_file, DROPPED) as drop:
            rows = write_rows(encoded_rows(run, student, tokenizer, drop), rows_file)
            if (one.source, one.recipe, one.seed) == ("arm", MAIN, training.seeds[0]):
                write_fit(run, student, rows)
            elif rule in SCORE_OF:
                write_fit(run, student, rows, n_gradients=0)
            if rule:
                rows = picked_rows(run, student, rows, picked_file, drop)
        too_long = [("reason", "==", LONG.format(row_limit(run, student)))]
        n_long = len(read_parquet(dropped_file, ["sample_index"], too_long))
        with _watched(run, student) as watchers:
            return train(_on_rows(run, student, rows, n_long, machine, watchers), renew=True)
    finally:
        rows_file.unlink(missing_ok=True)
        picked_file.unlink(missing_ok=True)


def _on_rows(
    run: Run, student: str, rows: TrainingRows, n_long: int, machine: Machine, watchers: dict
) -> Training:
    one, folder = run.student(student), run.path("04", student)
    model, settings = resolve_model(one.model), settings_of(run.study, one, machine)
    end_id = sample.end_token(sample.load_tokenizer(model), run.prompt_of(student).style)
    return Training(
        model,
        rows,
        settings,
        folder,
        n_dropped_long=n_long,
        end_id=end_id,
        n_processes=machine.gpus_per_student,
        **watchers,
    )


def _train_on_policy(run: Run, student: str, machine: Machine) -> dict[str, Any]:
    training = on_policy_training(run, student, machine)
    with _watched(run, student) as watchers:
        return train_on_policy(replace(training, **watchers), renew=True)


@contextlib.contextmanager
def _watched(run: Run, student: str) -> Iterator[dict[str, Callable | None]]:
    """Who watches a training, `validate` and `progress`, while a bar shows its steps."""
    problems = read_parquet(run.path("01", "validation.parquet"))
    with sample.progress(student, 0) as bar, Validator(str(run.folder), student) as validate:
        bar.unit = " steps"
        yield {"validate": None if problems.empty else validate, "progress": _shown_on(bar)}


def _shown_on(bar: tqdm) -> Callable[[int, int, float], None]:
    def show(step: int, n_steps: int, loss: float) -> None:
        bar.total = n_steps
        bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        bar.update(step - bar.n)

    return show


class Validator(contextlib.ExitStack):
    """Gives a live model's greedy accuracy on the validation problems; can be sent to other processes.

    What verifies is opened at the first call, and closed with the block.
    """

    def __init__(self, folder: str, student: str):
        super().__init__()
        self.folder, self.student = folder, student
        self.verify: Callable | None = None

    def __reduce__(self) -> tuple:
        return Validator, (self.folder, self.student)

    def __call__(self, model: Any, tokenizer: Any, step: int) -> float:
        run = Run(self.folder)
        prompt, max_tokens = run.prompt_of(self.student), run.study.evaluation.max_tokens
        if self.verify is None:
            self.verify = self.enter_context(verifier(prompt.answer_style, 1, run.verification))
        stop = sample.stops(run.study.prompt, run.study.sampling.stop)
        greedy = sample.Decoding(temperature=0.0, max_tokens=max_tokens, stop=stop)
        problems = read_parquet(run.path("01", "validation.parquet"))
        requests = []
        for problem in problems.itertuples():
            ids = sample.prompt_ids(tokenizer, problem.question, prompt)
            requests.append(sample.Request(("validation", problem.problem_id, 0), ids, 0))
        rows = []
        for output in sample.HFEngine(model, tokenizer).generate(requests, greedy):
            rows.append((*output.key, output.text, output.finish_reason))
        samples = pd.DataFrame(rows, columns=[*KEY, "text", "finish_reason"])
        opened = run.plan.opened_thought(self.student)
        verdicts = self.verify(spoken(samples, opened), problems)
        return float((verdicts["verdict"] == "correct").mean())


def reports(run: Run, students: list[str]) -> pd.DataFrame:
    """One row per trained student: examples, tokens, epochs, FLOPs, speed, losses, and what validation chose.

    `times_repeated`: epochs over the fewest among students of the same base, budget and recipe, as equal steps bring
    about; `steps_at_equal_epochs`: the steps that would give each as few epochs as that one has.
    """
    rows, groups = [], []
    for student in students:
        one, report = run.student(student), _report(run, student)
        row = {"student": student} | {name: report[name] for name in OF_REPORT}
        row["peak_memory_gib"] = report["peak_memory_bytes"] / 2**30
        row["last_loss"] = report["loss_curve"][-1][1]
        row["validation_accuracy"] = report["accuracy"]
        rows.append(row)
        groups.append((one.base, one.budget, one.recipe, one.source))
    frame = pd.DataFrame(rows)
    least = frame.groupby(pd.Series(groups))["epochs"].transform("min")
    steps = (frame["steps"] * least / frame["epochs"]).round().astype(int)
    return frame.assign(times_repeated=frame["epochs"] / least, steps_at_equal_epochs=steps)


def _report(run: Run, student: str) -> dict[str, Any]:
    return read_json(run.path("04", student, "report.json"))


def curves(run: Run, students: list[str]) -> pd.DataFrame:
    """Tidy curves of trained students: student, step, loss, learning_rate, and accuracy at validated steps."""
    frames = []
    for student in students:
        report = _report(run, student)
        frame = pd.DataFrame(report["loss_curve"], columns=["step", "loss", "learning_rate"])
        accuracies = dict(map(tuple, report["validation_curve"]))
        accuracy = frame["step"].map(accuracies).astype(float)
        frames.append(frame.assign(accuracy=accuracy, student=student))
    return pd.concat(frames)


def shown_rows(run: Run, student: str, n: int = 3) -> str:
    """HTML of a student's first `n` training rows, token by token with their labels."""
    if run.student(student).source == "on_policy":
        return (
            f"<p>{html.escape(student)}: has no rows; it learns from what it writes in training</p>"
        )
    open_backend(run.study.training.backend)  # before transformers, which Unsloth patches
    tokenizer = sample.load_tokenizer(resolve_model(run.student(student).model))
    not_picked = left_out(run, student)
    first, n_rows, dropped = [], 0, []
    for row in encoded_rows(run, student, tokenizer, dropped.append):
        if tuple(row[name] for name in KEY) in not_picked:
            continue
        n_rows += 1
        if n_rows <= n:
            first.append(row)
    n_dropped = len(not_picked) + sum(map(len, dropped))
    title = f"{student}: {n_rows} rows, {n_dropped} examples dropped"
    return f"<p>{html.escape(title)}</p>" + coloured(first, tokenizer)


def checks(run: Run, students: list[str], table: pd.DataFrame) -> dict[str, float]:
    """Facts about the trainings. Raises AssertionError when a student has no model, no examples or no finite loss."""
    names = trained(run, students)
    assert set(table["student"]) == set(names), "a student's report is missing"
    for student in names:
        assert run.path("04", student, "model").is_dir(), f"{student}: its model is missing"
    learnt = (table["n_examples"] > 0) & table["last_loss"].notna()
    assert learnt.all(), "a student learnt nothing"
    return {
        "n_students": len(names),
        "n_tokens": int(table["n_tokens"].sum()),
        "spent_flops": float(table["spent_flops"].sum()),
    }
