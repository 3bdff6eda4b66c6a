"""How fast this machine trains, tried for some steps in a temporary folder: what a dry run says time by."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from wcse_lib.sample import end_token, load_tokenizer, prompt_ids
from wcse_lib.store import StudyError
from wcse_lib.study import (
    Machine,
    PlannedStudent,
    Settings,
    Study,
    TrainingPace,
    resolve_model,
    settings_of,
)
from wcse_lib.train.attempt import Training
from wcse_lib.train.encode import encode
from wcse_lib.train.rows import write_rows
from wcse_lib.train.trainer import train

STEPS = 6  # that are timed, after one that only starts the packages


def try_training(
    study: Study, student: PlannedStudent, texts: list[tuple[str, str]], machine: Machine
) -> TrainingPace:
    """Train a student for some steps of the study's own size on (question, sample) pairs; nothing of it stays.

    Raises StudyError where no text fits into `training.max_tokens`, or memory does not suffice.
    """
    model, settings = resolve_model(student.model), settings_of(study, student, machine)
    settings = replace(
        settings,
        training="steps",
        learning_rate=settings.learning_rates[0],
        n_checkpoints=1,
        merge=False,
        report_to=(),
    )
    with tempfile.TemporaryDirectory() as folder:
        encoded = list(_encoded(study, model, texts, settings))
        if not encoded:
            raise StudyError("training.max_tokens: no tried sample fits into it")
        n_wanted = STEPS * settings.batch_size
        rows = write_rows(islice(cycle(encoded), n_wanted), Path(folder, "rows.arrow"))
        end_id = end_token(load_tokenizer(model), study.prompt_of_students.style)

        def trained(n_steps: int) -> tuple[dict, float]:
            began, here = time.monotonic(), Path(folder, str(n_steps))
            of_steps = replace(settings, amount=n_steps)
            training = Training(
                model, rows, of_steps, here, end_id=end_id, n_processes=machine.gpus_per_student
            )
            report = train(training)
            return report, time.monotonic() - began

        _, first_seconds = trained(1)
        report, seconds = trained(STEPS)
    beside = seconds - report["seconds"]
    return TrainingPace(
        seconds_per_token=report["seconds"] / report["n_tokens"],
        tokens_per_row=float(rows.lengths.mean()),
        start_seconds=max(0.0, first_seconds - beside - report["seconds"] / STEPS),
        beside_seconds=beside,
    )


def _encoded(
    study: Study, model: str, texts: list[tuple[str, str]], settings: Settings
) -> Iterator[dict]:
    """Training rows of the texts that are short enough."""
    tokenizer, prompt = load_tokenizer(model), study.prompt_of_students
    end_id = end_token(tokenizer, prompt.style)
    for number, (question, text) in enumerate(texts):
        ids = prompt_ids(tokenizer, question, prompt)
        row = encode(tokenizer, ids, text, settings.max_tokens, end_id)
        if row is not None:
            yield row | {"author": "", "problem_id": "", "sample_index": number}
