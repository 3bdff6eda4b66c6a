"""How long a study will take on this machine, stage by stage, and what that costs in USD: the dry run's last line."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field

from wcse_lib.plan.extra_draws import sampling_at_most
from wcse_lib.plan.paces import Pace, Paces
from wcse_lib.plan.planner import Draft
from wcse_lib.study import (
    MAIN,
    Machine,
    PlannedAdaptive,
    PlannedDrawn,
    PlannedStudent,
    TrainingPace,
)

# A kernel's start and end, and tables: 11 s between nine notebooks, 1.7 s in 01 and in 03 (LOG.md, 2026-11-22).
NOTEBOOK_SECONDS = 3.0
ANALYSIS_SECONDS = 15.0  # 06 and the report of the nano study (LOG.md, 2026-11-20)
FORWARD = 1 / 3  # of a training step: 2·P of 6·P FLOPs


@dataclass
class Outlook:
    """What is expected of a study: seconds of the machine by stage, USD of endpoints' bills (None: not known), who
    measured it, and why something is not known. `is_most`: an upper bound, as something is as long as it may be."""

    seconds: dict[str, float] = field(default_factory=dict)
    bill_usd: float | None = 0.0
    is_most: bool = False
    measured: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def add(self, stage: str, seconds: float) -> None:
        self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds

    def take(self, pace: Pace | None, model: str) -> Pace:
        """A pace that is needed; where there is none, the whole is unknown."""
        if pace is None:
            self.unknown.append(
                f"how fast {model} is was measured neither here nor by a pilot"
                " (tflops in the machine file would bound it)"
            )
            return Pace(0.0, 1.0, "")
        self.measured.append(pace.measured)
        return pace

    @property
    def total(self) -> float | None:
        """Seconds of the machine."""
        return None if self.unknown else sum(self.seconds.values())

    def by_stage(self) -> str:
        """Time by stage, and who measured it."""
        if self.unknown:
            return f"unknown: {'; '.join(dict.fromkeys(self.unknown))}"
        stages = ", ".join(f"{stage} {_time(seconds)}" for stage, seconds in self.seconds.items())
        return f"{stages} ({'; '.join(dict.fromkeys(self.measured))})"


def expected(draft: Draft, paces: Paces) -> Outlook:
    """What the study of a draft will take, each stage as fast as it was measured or tried."""
    outlook = Outlook()
    if not draft.arms or "train" not in draft.n_problems:
        outlook.unknown.append("it depends on problems or models that are not here")
        return outlook
    _add_sampling(outlook, draft, paces)
    if draft.students:
        _add_training(outlook, draft, paces)
        _add_tests(outlook, draft, paces)
    elif draft.study.students:
        outlook.unknown.append("the students' models are not here")
    outlook.add("notebooks", _notebook_seconds(draft))
    _add_bills(outlook, draft)
    if paces.trials and paces.trials.seconds:
        outlook.measured.append(f"tried here for {paces.trials.seconds:.0f} s")
    return outlook


def bounded(draft: Draft, machine: Machine, flops: float) -> Outlook:
    """At most so many FLOPs, at the machine file's TFLOP/s."""
    outlook = Outlook(is_most=True, measured=[f"at {machine.tflops:g} TFLOP/s"])
    outlook.add("sampling, training and tests", flops / machine.tflops / 1e12)
    outlook.add("notebooks", _notebook_seconds(draft))
    _add_bills(outlook, draft)
    return outlook


# ---------------------------------------------------------------------- stages


def _add_sampling(outlook: Outlook, draft: Draft, paces: Paces) -> None:
    """02 and 03: all draws of every arm's largest budget."""
    n_verdicts = 0.0
    for name, arm in draft.arms.items():
        n_samples = _n_samples(draft, name, arm.largest_budget) * draft.study.n_draws
        n_verdicts += n_samples
        if isinstance(arm, PlannedDrawn | PlannedAdaptive) and arm.engine == "batch":
            outlook.unknown.append(
                f"batches of {arm.model} wait in a server's queue, mostly up to a day"
            )
        elif isinstance(arm, PlannedDrawn | PlannedAdaptive):
            drawn_by = arm.rule.of if isinstance(arm, PlannedAdaptive) else name
            pace = outlook.take(paces.of_arm(drawn_by), arm.model)
            outlook.add("02", pace.call + n_samples * pace.seconds)
    for tried in paces.tried:
        outlook.add("02", tried.start_seconds + tried.open_seconds)
        outlook.add("03", n_verdicts / len(paces.tried) * tried.seconds_per_verdict)


def _n_samples(draft: Draft, arm: str, budget_name: str) -> float:
    """Samples of all problems in one draw."""
    return draft.n_problems["train"] * sum(draft.shares(arm, budget_name).values())


def _add_training(outlook: Outlook, draft: Draft, paces: Paces) -> None:
    """04: every student's steps, checkpoints and validations, and the examples' likelihoods."""
    n_validated, n_checkpoints = draft.n_problems["validation"], draft.study.training.n_checkpoints
    trained = [student for student in draft.students.values() if student.source != "base"]
    for student in trained:
        pace = paces.of_training(student)
        if pace is None:
            outlook.unknown.append(f"how fast {student.model} is trained was not tried here")
            return
        n_rates = len(student.learning_rate) if isinstance(student.learning_rate, list) else 1
        steps = _training_tokens(outlook, draft, student, pace, paces) * pace.seconds_per_token
        seconds = n_rates * (pace.beside_seconds + steps)
        seconds += _writing_seconds(outlook, draft, student, paces)
        seconds += (
            FORWARD * _likelihood_tokens(draft, student, pace, paces) * pace.seconds_per_token
        )
        outlook.add("04", seconds / paces.machine.workers)
        if n_validated:
            validation = outlook.take(paces.of_model(student.model), student.model)
            each = validation.call + n_validated * validation.seconds
            outlook.add("04", n_rates * n_checkpoints * each / paces.machine.workers)
    if trained:
        outlook.add("04", pace.start_seconds)


def _training_tokens(
    outlook: Outlook, draft: Draft, student: PlannedStudent, pace: TrainingPace, paces: Paces
) -> float:
    training = draft.study.training
    if training.mode == "tokens":
        return student.amount
    if training.mode == "steps":
        return student.amount * training.batch_size * pace.tokens_per_row
    outlook.is_most = True  # equal samples are admitted once
    return student.amount * _n_examples(draft, student, paces) * pace.tokens_per_row


def _writing_seconds(
    outlook: Outlook, draft: Draft, student: PlannedStudent, paces: Paces
) -> float:
    """What an on-policy student takes to write and to be scored: taken to be as long as a draw of the samples whose
    cost it may spend."""
    if student.source != "on_policy":
        return 0.0
    (of,) = _arms_of(draft, student)
    pace = outlook.take(paces.of_arm(of), student.model)
    return _n_samples(draft, of, student.budget) * pace.seconds


def _arms_of(draft: Draft, student: PlannedStudent) -> list[str]:
    """The arms whose samples teach a student, or set what it may spend; all where it has none."""
    if student.source == "on_policy":
        return [draft.study.on_policy_arms[student.arm].of]
    return [student.arm] if student.arm else list(draft.arms)


def _n_examples(draft: Draft, student: PlannedStudent, paces: Paces) -> float:
    """Correct samples in one draw of a student's arm, of all arms where it has none."""
    budget_name = student.budget or draft.study.budget.largest
    rates = [tried.rate_correct for tried in paces.tried] or [1.0]
    arms = _arms_of(draft, student)
    n_samples = sum(_n_samples(draft, arm, budget_name) for arm in arms)
    return n_samples * sum(rates) / len(rates)


def _likelihood_tokens(
    draft: Draft, student: PlannedStudent, pace: TrainingPace, paces: Paces
) -> float:
    """Tokens of an arm's examples at the largest budget: its first student reads them once before training."""
    is_main = student.source == "arm" and student.recipe == MAIN
    is_first = student.seed == draft.study.training.seeds[0]
    if is_main and is_first and student.budget == draft.study.budget.largest:
        return _n_examples(draft, student, paces) * pace.tokens_per_row
    return 0.0


def _add_tests(outlook: Outlook, draft: Draft, paces: Paces) -> None:
    """05: every student's answers to the held-out problems, as long as its arm's correct samples."""
    n_samples = draft.n_problems["held_out"] * (1 + draft.study.evaluation.n_samples)
    weights = set()
    for name, student in draft.students.items():
        pace = outlook.take(paces.of_model(student.model), student.model)
        teacher = paces.of_arm(student.arm) if student.arm in draft.study.plain_arms else None
        tokens = teacher.learnt_tokens if teacher else pace.tokens
        calls = 2 * pace.call / paces.machine.workers  # the greedy answers, and the drawn ones
        outlook.add("05", calls + n_samples * tokens * pace.seconds / pace.tokens)
        weights.add(name if draft.study.training.method == "full" else student.model)
    for tried in paces.tried:
        outlook.add("05", tried.open_seconds * len(weights) / len(paces.tried))


def _notebook_seconds(draft: Draft) -> float:
    n_notebooks = 2 + 2 * len(draft.study.sampled_arms) + 2 * bool(draft.study.students)
    return NOTEBOOK_SECONDS * n_notebooks + ANALYSIS_SECONDS


def _add_bills(outlook: Outlook, draft: Draft) -> None:
    """USD that endpoints will bill for samples: at known lengths, else at most, and then without prompts."""
    for name, arm in draft.arms.items():
        is_billed = isinstance(arm, PlannedDrawn | PlannedAdaptive) and arm.is_billed
        if not is_billed or outlook.bill_usd is None:
            continue
        usd = arm.planned[arm.largest_budget].usd
        if usd is None:
            outlook.is_most = True
            parts = draft.shares(name, arm.largest_budget)
            n_problems = draft.n_problems.get("train", 1)
            usd = sampling_at_most(draft.study, draft.known, parts, n_problems).usd
        outlook.bill_usd = None if usd is None else outlook.bill_usd + usd


# ---------------------------------------------------------------------- in all


def in_all(outlooks: Iterable[Outlook], machine: Machine) -> str:
    """One line for a study, or for all studies of a grid: device-hours, USD, and hours on this machine."""
    outlooks = list(outlooks)
    about = "at most" if any(one.is_most for one in outlooks) else "about"
    n_unknown = sum(one.total is None for one in outlooks)
    device, n_devices = _devices(machine)
    if n_unknown:
        of = f" of {n_unknown} of {len(outlooks)} studies" if len(outlooks) > 1 else ""
        return (
            f"in all    {device}-hours unknown{of}, {_usd(outlooks, machine, None)}, hours unknown"
        )
    seconds = sum(one.total for one in outlooks)
    hours = seconds / 3600
    return (
        f"in all    {about} {hours * n_devices:.2g} {device}-hours, {_usd(outlooks, machine, seconds)}, "
        f"{about} {hours:.2g} hours on this machine"
    )


def _usd(outlooks: list[Outlook], machine: Machine, seconds: float | None) -> str:
    """USD of machine time and endpoints' bills, as far as they are known."""
    about = "at most" if any(one.is_most for one in outlooks) else "about"
    bills = [one.bill_usd for one in outlooks]
    if None in bills:
        return "USD unknown (an endpoint's arm has no price)"
    machine_usd = None if seconds is None else machine.price().amounts(seconds).usd
    if machine_usd is not None:
        return f"{about} {sum(bills) + machine_usd:,.2f} USD"
    why = "no usd_per_hour in the machine file" if seconds is not None else "time unknown"
    if sum(bills):
        return f"{about} {sum(bills):,.2f} USD of endpoints and machine time unpriced ({why})"
    return f"USD unknown ({why})"


def _devices(machine: Machine) -> tuple[str, float]:
    """What the machine works with, and how many of them."""
    has_gpu = machine.device is None and shutil.which("nvidia-smi") is not None
    if machine.device == "cuda" or has_gpu:
        return "GPU", machine.devices
    return "core", machine.workers * (machine.threads or os.cpu_count() or 1)


def _time(seconds: float) -> str:
    if seconds > 5400:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 60:.1f} min"
