"""How fast this machine draws, checks and trains with a study's own models, tried for some seconds each."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from wcse_lib import budget
from wcse_lib.plan.planner import EXPECTED
from wcse_lib.plan.students import packages
from wcse_lib.sample import Decoding, Engine, Output, Request, open_engine, prompt_ids, stops
from wcse_lib.store import KEY
from wcse_lib.study import Machine, PlannedStudent, Study, TrainingPace, resolve_model
from wcse_lib.verdicts import verifier

# a trial's last round takes at least so long: then batches are as large as the study's own
SECONDS = 2.0
LARGEST = 1e9  # parameters: a larger model takes longer to load than a dry run should
FIRST, FACTOR = 32, 4  # samples of the first round, and how many times more the next one draws
MOST = 8192  # samples of a round
MOST_TEXTS = 256  # samples that training is tried on


@dataclass(frozen=True)
class Tried:
    """What some seconds with a model showed, one worker at work; seconds are of that worker.

    Drawing n samples together takes `call_seconds` + n · `seconds_per_sample`: few are as slow as their longest.
    `texts` are some of the drawn samples with their questions; `start_seconds` is what loading the engine's packages
    took, `open_seconds` opening the model once they are there.
    """

    model: str
    call_seconds: float
    seconds_per_sample: float
    tokens_per_sample: float
    tokens_per_correct: float  # of a correct sample; students write as long as what they learn from
    seconds_per_verdict: float
    rate_correct: float
    start_seconds: float
    open_seconds: float
    texts: list[tuple[str, str]] = field(repr=False, default_factory=list)


TryTraining = Callable[[Study, PlannedStudent, list[tuple[str, str]], Machine], TrainingPace]


class Trials:
    """Trials of models on this machine, each made once, when somebody asks for it."""

    def __init__(self, machine: Machine, try_training: TryTraining | None = None):
        # workers are copies of what is tried here
        self.machine = machine.model_copy(update={"workers": 1, "address": None})
        self.try_training = try_training
        self.seconds = 0.0  # that all trials took
        self._drawn: dict[str, Tried | None] = {}
        self._trained: dict[str, TrainingPace | None] = {}

    def drawing(self, study: Study, problems: pd.DataFrame, model: str) -> Tried | None:
        """What drawing with a model takes; None where it is not here, too large, or cannot be opened."""
        key = f"{study.prompt} {study.sampling} {study.verification.by} {model}"
        if key not in self._drawn:
            with self._timed():
                self._drawn[key] = self._draw(study, problems, model)
        return self._drawn[key]

    def training(
        self, study: Study, student: PlannedStudent, texts: list[tuple[str, str]]
    ) -> TrainingPace | None:
        """What training a student takes on such texts; None where that cannot be tried."""
        key = f"{study.prompt_of_students} {study.training} {student.model}"
        if key not in self._trained:
            with self._timed():
                self._trained[key] = self._train(study, student, texts)
        return self._trained[key]

    @contextlib.contextmanager
    def _timed(self):
        began = time.monotonic()
        yield
        self.seconds += time.monotonic() - began

    def _draw(self, study: Study, problems: pd.DataFrame, model: str) -> Tried | None:
        try:
            folder = resolve_model(model)
            if problems.empty or budget.read_model(folder).n_parameters > LARGEST:
                return None
            return try_drawing(study, problems, folder, self.machine)
        except EXPECTED:  # what a run would need is told elsewhere
            return None

    def _train(
        self, study: Study, student: PlannedStudent, texts: list[tuple[str, str]]
    ) -> TrainingPace | None:
        if self.try_training is None or not texts or student.n_parameters > LARGEST:
            return None
        try:
            if packages(study, self.machine):
                return None
            return self.try_training(study, student, texts, self.machine)
        except EXPECTED:
            return None


def try_drawing(study: Study, problems: pd.DataFrame, model: str, machine: Machine) -> Tried:
    """Draw and check samples of the problems, ever more until a round takes long enough to say how fast that is.

    Args: model: a checkpoint folder; machine: its engine draws. Nothing is written.
    """
    began = time.monotonic()
    open_engine(machine.engine, model, machine).close()
    first_seconds = time.monotonic() - began
    began = time.monotonic()
    with contextlib.closing(open_engine(machine.engine, model, machine)) as engine:
        open_seconds = time.monotonic() - began
        outputs, rounds = _draw_rounds(engine, study, problems)
    call_seconds, seconds_per_sample = _line_through(rounds)
    rows = pd.DataFrame(
        [(*output.key, output.text, output.n_tokens, output.finish_reason) for output in outputs],
        columns=[*KEY, "text", "n_tokens", "finish_reason"],
    )
    seconds_per_verdict, is_correct = _checked(study, rows, problems, machine)
    correct = rows[is_correct] if is_correct.any() else rows
    questions = problems.set_index("problem_id")["question"]
    # engines yield short samples first: in the order of their numbers they are as long as all are
    finished = rows[rows["finish_reason"] == "stop"].sort_values("sample_index")
    some = finished.head(MOST_TEXTS)
    return Tried(
        model=model.rsplit("/", 1)[-1],
        call_seconds=call_seconds,
        seconds_per_sample=seconds_per_sample,
        tokens_per_sample=rows["n_tokens"].mean(),
        tokens_per_correct=correct["n_tokens"].mean(),
        seconds_per_verdict=seconds_per_verdict,
        rate_correct=is_correct.mean(),
        start_seconds=max(0.0, first_seconds - open_seconds),
        open_seconds=open_seconds,
        texts=list(zip(questions.loc[some["problem_id"]], some["text"])),
    )


def _draw_rounds(
    engine: Engine, study: Study, problems: pd.DataFrame
) -> tuple[list[Output], list[tuple[int, float]]]:
    """The last round's samples, and of every round how many samples it drew, and its seconds."""
    sampling, n, seconds, rounds = study.sampling, FIRST, 0.0, []
    decoding = Decoding(
        sampling.temperature,
        sampling.local_top_k,
        sampling.top_p,
        sampling.max_tokens,
        stops(study.prompt, sampling.stop),
    )
    while seconds < SECONDS and n <= MOST:
        asked = problems.iloc[[i % len(problems) for i in range(n)]]
        requests = []
        for i, problem in enumerate(asked.itertuples()):
            ids = prompt_ids(engine.tokenizer, problem.question, study.prompt)
            requests.append(Request(("", problem.problem_id, i), ids, i))
        began = time.monotonic()
        outputs = list(engine.generate(requests, decoding))
        seconds, n = time.monotonic() - began, n * FACTOR
        rounds.append((len(outputs), seconds))
    return outputs, rounds


def _line_through(rounds: list[tuple[int, float]]) -> tuple[float, float]:
    """Seconds of a call and of a sample, from the first round and the last: (samples, seconds) each.

    >>> _line_through([(32, 0.5), (512, 2.9)])
    (0.34, 0.005)
    """
    (n_few, few), (n_many, many) = rounds[0], rounds[-1]
    if n_few == n_many:
        return 0.0, many / n_many
    each = max(0.0, (many - few) / (n_many - n_few))
    return max(0.0, round(few - n_few * each, 9)), each


def _checked(
    study: Study, rows: pd.DataFrame, problems: pd.DataFrame, machine: Machine
) -> tuple[float, np.ndarray]:
    """Seconds of a verdict, and which samples are correct; the first rows only start the processes."""
    style = study.prompt.answer_style
    with verifier(style, machine.checkers, study.verification) as check:
        check(rows.iloc[: machine.checkers].reset_index(drop=True), problems)
        began = time.monotonic()
        verdicts = check(rows, problems)
        seconds = time.monotonic() - began
    return seconds / len(rows), (verdicts["verdict"] == "correct").to_numpy()
