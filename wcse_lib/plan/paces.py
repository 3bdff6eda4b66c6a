"""How fast a study's models are on this machine: as its finished 02 or its pilot measured it, else as a trial shows."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd

from wcse_lib.plan.planner import Draft
from wcse_lib.plan.speed import Trials, Tried
from wcse_lib.store import StudyError, is_complete, read_json
from wcse_lib.study import Machine, PlannedStudent, Run, TrainingPace, resolve


class Pace(NamedTuple):
    """What a sample of a model takes here, in seconds of the whole machine and in tokens, who measured it, the
    seconds that a call takes beside, in which any number of samples is drawn, and the tokens of a correct sample (as of
    any, where nobody looked)."""

    seconds: float
    tokens: float
    measured: str
    call: float = 0.0
    correct: float | None = None

    @property
    def learnt_tokens(self) -> float:
        """How long a student writes that learnt from correct samples."""
        return self.correct or self.tokens


class Paces:
    """The paces of a draft's models; `trials` None tries nothing, `outputs` is where a finished 02 may lie."""

    def __init__(self, draft: Draft, machine: Machine, trials: Trials | None, outputs: str | Path):
        self.draft, self.machine, self.trials = draft, machine, trials
        self.study = draft.study
        self.folder = resolve(outputs) / draft.study.study
        self.problems = draft.splits.get("train", pd.DataFrame(columns=["problem_id", "question"]))
        self.measured = self._measured()
        self.tried = self._tried()

    def of_model(self, model: str) -> Pace | None:
        """What a sample of a local model takes; None where nobody measured it."""
        for arm, pace in self.measured.items():
            if self.study.arms[arm].model == model:
                return pace
        tried = self._try(model)
        if tried is None:
            return None
        seconds = tried.seconds_per_sample / self.machine.workers
        measured = f"{tried.model} by {self.machine.engine}"
        tokens = tried.tokens_per_sample
        return Pace(seconds, tokens, measured, tried.call_seconds, tried.tokens_per_correct)

    def of_arm(self, name: str) -> Pace | None:
        """What a sample of an arm takes; None where nobody measured it."""
        arm = self.study.arms[name]
        if name in self.measured:
            return self.measured[name]
        return self.of_model(arm.model) if arm.engine == "local" else None

    def of_training(self, student: PlannedStudent) -> TrainingPace | None:
        """What training a student takes; None where that cannot be tried."""
        if self.trials is None:
            return None
        texts = [text for tried in self.tried for text in tried.texts]
        return self.trials.training(self.study, student, texts)

    def _measured(self) -> dict[str, Pace]:
        """By arm, of those that this machine has drawn already."""
        paces = {}
        for name in self.study.plain_arms:
            pace = self._of_finished(name) or self._of_pilot(name)
            if pace:
                paces[name] = pace
        return paces

    def _of_finished(self, arm: str) -> Pace | None:
        try:
            run = Run(self.folder)
            if not is_complete(run.path("02", arm), run.plan_id):
                return None
            facts = read_json(run.path("02", arm, "manifest.json"))
        except StudyError:  # not planned yet, or not readable: then nothing was measured
            return None
        if not (facts.get("seconds_per_sample") and facts.get("n_tokens")):
            return None
        seconds = facts["seconds_per_sample"] / self.machine.devices
        return Pace(seconds, facts["n_tokens"] / facts["n_samples"], "as fast as its 02 was")

    def _of_pilot(self, arm: str) -> Pace | None:
        facts = self.draft.known.get(arm)
        if not (facts and facts.seconds_per_sample and facts.tokens_per_sample):
            return None
        seconds = facts.seconds_per_sample / self.machine.devices
        return Pace(seconds, facts.tokens_per_sample, "as fast as its pilot was")

    def _tried(self) -> list[Tried]:
        """What trials show of the arms' own models, where they are here."""
        found = []
        for arm in self.study.plain_arms.values():
            tried = self._try(arm.model) if arm.engine == "local" else None
            if tried is not None:
                found.append(tried)
        return found

    def _try(self, model: str) -> Tried | None:
        return self.trials and self.trials.drawing(self.study, self.problems, model)
