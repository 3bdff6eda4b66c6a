"""What a study would do, cost and need, said before anything is drawn or written: the planner, with gaps allowed."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from wcse_lib import budget
from wcse_lib.budget import proposals, unspent
from wcse_lib.plan.extra_draws import draws_sentence, sampling_at_most, training_at_most
from wcse_lib.plan.headline import headline_sentences
from wcse_lib.plan.meaning import price_of
from wcse_lib.plan.on_policy import on_policy_sentences
from wcse_lib.plan.outlook import Outlook, bounded, expected
from wcse_lib.plan.paces import Paces
from wcse_lib.plan.planner import FETCHED, Draft, Gaps, add_students, draft_plan, short
from wcse_lib.plan.speed import Trials, TryTraining
from wcse_lib.plan.students import packages
from wcse_lib.plan.trial import prompt_notes
from wcse_lib.sample import not_installed
from wcse_lib.store import StudyError
from wcse_lib.study import (
    Amounts,
    Machine,
    ModelSize,
    PlannedAdaptive,
    PlannedArm,
    PlannedDrawn,
    PlannedImported,
    PlannedStudent,
    Study,
    resolve,
    resolve_model,
)

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, None: 2}  # of a weight
# Of a parameter in training: weights, gradients and AdamW's moments.
TRAINING_BYTES = {"full": 16, "lora": 2.5, "qlora": 1.0}
REASONS_SHOWN = 5


@dataclass(frozen=True)
class UpperBounds:
    """What a part of the study costs at most; 0 where that is not known."""

    flops: float = 0.0
    usd: float = 0.0


class Preview(NamedTuple):
    """What a study would do, as text, whether a run here would stop for want of something, and what it will take."""

    text: str
    is_lacking: bool
    outlook: Outlook


def preview(study: Study, machine: Machine) -> str:
    """The plan as text; see `look_ahead`."""
    return look_ahead(study, machine).text


def previews(
    studies: list[Study],
    machine: Machine,
    outputs: str | Path = "outputs",
    try_training: TryTraining | None = None,
) -> list[Preview]:
    """Every study's preview; what was not measured in `outputs` is tried here once for all, unless the machine file has
    `tflops`.

    Args: try_training: trains for some steps (`train.try_training`, which lies above this folder).
    """
    trials = None if machine.tflops else Trials(machine, try_training)
    return [look_ahead(study, machine, trials, outputs) for study in studies]


def look_ahead(
    study: Study, machine: Machine, trials: Trials | None = None, outputs: str | Path = "outputs"
) -> Preview:
    """The plan as text: problems, samples, students, most tokens, FLOPs, USD, memory, limits, time, what is missing.

    Lengths are bounded by max_tokens, so tokens, FLOPs and USD are upper bounds of what they count: prompts,
    pilot, judge and training by epochs are left out, which the text says. Time is as the study's own 02 or its pilot
    measured it, where they lie in `outputs`; else as `trials` show; else bounded by `tflops` of the machine file (what
    the machine reaches, not what it is sold for). Nothing is written. Raises StudyError only where the params file
    itself is wrong; what merely is not on this machine (models, data, keys) is listed as missing.
    """
    gaps = Gaps(strict=False)
    draft = _draft(study, outputs, gaps)
    lines = _head(draft)
    arm_lines, sampling = _arms(draft, machine, gaps)
    student_lines, learning = _students(draft, machine, gaps, sampling)
    judge = study.verification.model_judge
    if judge and judge.engine == "local":
        _size(judge.model, gaps)
    lines += [*arm_lines, *student_lines]
    lines += _meaning_lines(draft, gaps)
    lines += [f"on-policy {sentence}" for sentence in on_policy_sentences(study)]
    lines += [f"limit     {sentence}" for sentence in unspent(draft.arms)]
    lines += [f"advice    {sentence}" for sentence in proposals(draft.study, draft.arms)]
    lines += [f"note      {note}" for note in prompt_notes(draft.prompts)]
    if sampling.flops:  # else the lines above tell of the parts that are known
        lines.append(_bounds(study, sampling, learning))
    outlook = _outlook(draft, machine, trials, outputs, sampling.flops + learning.flops)
    lines.append(f"time      {outlook.by_stage()}")
    lines += _endpoint_lines(study, machine, gaps)
    lacking = not_installed(study.engines, machine)
    gaps.missing += [f"package {name}, for drawing samples" for name in lacking]
    missing = dict.fromkeys([*gaps.missing, *gaps.fetched]) or ["nothing"]
    lines += [f"missing   {what}" for what in missing]
    return Preview("\n".join(lines), bool(gaps.missing), outlook)


def _outlook(
    draft: Draft, machine: Machine, trials: Trials | None, outputs: str | Path, most_flops: float
) -> Outlook:
    outlook = expected(draft, Paces(draft, machine, trials, outputs))
    if outlook.total is None and machine.tflops and most_flops:
        return bounded(draft, machine, most_flops)
    return outlook


def _draft(study: Study, outputs: str | Path, gaps: Gaps) -> Draft:
    """The planner's draft; models that the arms name are looked for even where a size is typed."""
    for arm in study.plain_arms.values():
        if arm.engine == "local":
            _size(arm.model, gaps)
    return draft_plan(study, outputs, gaps)


def _head(draft: Draft) -> list[str]:
    study, dataset, n = draft.study, draft.study.dataset, draft.n_problems
    n_train = n.get("train", dataset.n_train or "?")
    n_validation = n.get("validation", dataset.n_validation)
    n_held_out = n.get("held_out", dataset.n_held_out or "?")
    lines = [
        f"study     {study.study}: {study.title}",
        f"problems  {n_train} train, {n_validation} validation, {n_held_out} held out",
    ]
    unusable = {
        reason: count
        for reason, count in draft.dropped_problems.items()
        if not reason.partition(": ")[2].startswith("beyond")
    }
    most_frequent = sorted(unusable.items(), key=lambda item: -item[1])[:REASONS_SHOWN]
    lines += [f"headline  {sentence}" for sentence in headline_sentences(study)]
    lines += [f"left out  {count:,} of {reason}" for reason, count in most_frequent]
    if study.pilot:
        pilot = study.pilot
        lines.append(
            f"pilot     {pilot.n_problems} problems × {pilot.n_samples} samples per arm, drawn first"
        )
    return lines


# ---------------------------------------------------------------------- arms


def _arms(draft: Draft, machine: Machine, gaps: Gaps) -> tuple[list[str], UpperBounds]:
    """A line for every arm, and what the whole sampling costs at most."""
    if not draft.arms:
        return [
            f"arms      {', '.join(draft.study.arms)}: matched {_why_not(draft)}"
        ], UpperBounds()
    lines, flops, usd = [], 0.0, 0.0
    for name, arm in draft.arms.items():
        text, most = _arm(draft, name, arm, machine)
        lines.append(text)
        flops += most.flops or 0.0
        usd += most.usd or 0.0
    return lines, UpperBounds(flops, usd)


def _why_not(draft: Draft) -> str:
    if draft.study.pilot:
        return "after the pilot"
    unknown = [name for name in draft.study.plain_arms if name not in draft.known]
    if unknown:
        return f"not yet: a size or price of {', '.join(unknown)} is not known (see missing)"
    return f"not yet: {draft.unmatched}"


def _arm(draft: Draft, name: str, arm: PlannedArm, machine: Machine) -> tuple[str, Amounts]:
    """An arm's line, and what its samples cost at most (unknown where the number of problems is)."""
    samples = ", ".join(f"{budget_name} {k}" for budget_name, k in arm.samples.items())
    made_of = arm.model if isinstance(arm, PlannedDrawn | PlannedImported) else arm.kind
    text = f"arm       {name} ({made_of}): samples a problem {samples}"
    if draft.study.n_draws > 1:
        text += f" in each of {draft.study.n_draws} draws"
    if isinstance(arm, PlannedImported):
        return text, Amounts()
    is_known = "train" in draft.n_problems
    each = "" if is_known else " a problem"
    parts = draft.shares(name, arm.largest_budget)
    most = sampling_at_most(draft.study, draft.known, parts, draft.n_problems.get("train", 1))
    text += f", at most {most.tokens:,.0f} tokens{each}"
    if most.flops:
        text += f", {most.flops:.2g} FLOPs{each}"
    is_billed = isinstance(arm, PlannedDrawn | PlannedAdaptive) and arm.is_billed
    if most.usd and is_billed:
        text += f", {most.usd:,.4g} USD{each} without prompts"
    if is_billed and arm.engine == "batch":
        text += f" at the batch price, {_n_batches(draft, arm, machine)}"
    if isinstance(arm, PlannedDrawn) and arm.engine == "local" and arm.n_parameters:
        gigabytes = arm.n_parameters * BYTES[machine.dtype] / 1e9
        text += f"; weights {gigabytes:.3g} GB"
    if not is_billed:
        most = most.model_copy(update={"usd": None})
    return text, most if is_known else Amounts()


def _n_batches(draft: Draft, arm: PlannedArm, machine: Machine) -> str:
    """Into how many batches an arm's requests go, as far as their number decides it."""
    if "train" not in draft.n_problems:
        return f"batches of at most {machine.batch.requests:,} requests"
    n_samples = arm.samples[arm.largest_budget] * draft.study.n_draws
    n_requests = draft.n_problems["train"] * n_samples
    n = math.ceil(n_requests / machine.batch.requests)
    return f"{n_requests:,} requests in {n:,} {'batch' if n == 1 else 'batches'} or more"


# ---------------------------------------------------------------------- students


def _students(
    draft: Draft, machine: Machine, gaps: Gaps, sampling: UpperBounds
) -> tuple[list[str], UpperBounds]:
    """The students' lines, and what training and tests cost at most.

    Args: sampling: what all draws of the arms' samples cost at most.
    """
    study = draft.study
    if not study.students:
        return [], UpperBounds()
    gaps.missing += [f"package {name}, for the training" for name in packages(study, machine)]
    sizes = {
        spec.model: _size_of_student(draft, spec.model, gaps) for spec in study.students.values()
    }
    add_students(draft, sizes)
    students = list(draft.students.values())
    training = training_at_most(study, students) + _writing_at_most(draft)
    tests = sum(_test_flops(draft, student) for student in students)

    n_trained = sum(student.source != "base" for student in students)
    text = f"students  {n_trained} trained, {len(students)} tested"
    costs = [
        f"{what} at most {flops:.2g} FLOPs"
        for what, flops in (("training", training), ("tests", tests))
        if flops
    ]
    all_known = all(size.n_parameters for size in sizes.values())
    if costs:
        unknown = "" if all_known else " (without models whose size cannot be read here)"
        text += f": {', '.join(costs)}{unknown}"
    else:
        text += ": FLOPs unknown, since no size can be read here"
    if largest := max(size.n_parameters for size in sizes.values()):
        gigabytes = largest * TRAINING_BYTES[study.training.method] / 1e9
        text += (
            f"; weights and optimiser of the largest known about {gigabytes:.3g} GB, "
            "activations besides"
        )
    lines = [text]
    if draws := draws_sentence(study, sampling.flops, training):
        lines.append(f"draws     {draws}")
    return lines, UpperBounds(training + tests)


def _writing_at_most(draft: Draft) -> float:
    """FLOPs at most of what on-policy students may spend beside a training: a draw of the samples that set it."""
    flops = 0.0
    for student in draft.students.values():
        if student.source == "on_policy" and draft.arms and "train" in draft.n_problems:
            of = draft.study.on_policy_arms[student.arm].of
            parts = draft.shares(of, student.budget)
            n_problems = draft.n_problems["train"]
            most = sampling_at_most(draft.study, draft.known, parts, n_problems)
            flops += (most.flops or 0.0) / draft.study.n_draws
    return flops


def _size_of_student(draft: Draft, model: str, gaps: Gaps) -> ModelSize:
    """As its checkpoint tells; else what an arm of the same model says; else 0."""
    if size := _size(model, gaps):
        return size
    n_parameters = 0
    for facts in draft.known.values():
        if facts.model == model and facts.n_parameters and not n_parameters:
            n_parameters = int(facts.n_parameters)
    return ModelSize(n_parameters, n_parameters, n_parameters, 0, 0)


def _test_flops(draft: Draft, student: PlannedStudent) -> float:
    evaluation = draft.study.evaluation
    n_problems = draft.n_problems.get("held_out", draft.study.dataset.n_held_out or 0)
    n_samples = n_problems * (1 + evaluation.n_samples)
    return 2.0 * student.n_parameters * n_samples * evaluation.max_tokens


def _size(model: str, gaps: Gaps) -> ModelSize | None:
    """A model's size as its checkpoint says it; where none can be read, the model is missing."""
    try:
        return budget.read_model(resolve_model(model))
    except StudyError as error:
        is_folder = (
            model.startswith((".", "/", "~", "nano-", "outputs/")) or resolve(model).exists()
        )
        if is_folder:
            gaps.missing.append(f"model {model}: {short(error)}")
        else:
            gaps.fetched.append(f"model {model}: {FETCHED}")
        return None


# ---------------------------------------------------------------------- in all


def _bounds(study: Study, sampling: UpperBounds, learning: UpperBounds) -> str:
    flops = sampling.flops + learning.flops
    left_out = ["prompts"]
    if study.pilot:
        left_out.append("the pilot")
    if study.verification.model_judge:
        left_out.append("the judge")
    if study.students and study.training.mode == "epochs":
        left_out.append("training, whose epochs depend on how many samples are right")
    text = f"bounds    at most {flops:.2g} FLOPs"
    if sampling.usd:
        text += f", {sampling.usd:,.2f} USD"
    return f"{text}, without {', '.join(left_out)}"


def _meaning_lines(draft: Draft, gaps: Gaps) -> list[str]:
    """What decontamination by meaning will take; a dry run makes no vectors."""
    study, meaning = draft.study, draft.study.dataset.meaning
    if meaning is None:
        return []
    text = "meaning   vectors"
    if counted := draft.counted:
        text += f" of {counted.n_problems:,} problems"
    text += f" by {meaning.model}, in 01 and not in this dry run: more problems may leave"
    if meaning.engine == "local":
        _size(meaning.model, gaps)
    elif counted:
        text += f"; each is paid once, at most {counted.n_bytes:,} tokens"
        if price := price_of(study):
            text += f" or {counted.n_bytes * (price.input or 0.0) / 1e6:,.4g} USD"
    return [text]


def _endpoint_lines(study: Study, machine: Machine, gaps: Gaps) -> list[str]:
    """How servers are called that bill; what they lack here is entered among what is missing."""
    lines, engines, terms = [], study.engines, machine.batch
    if "openai" in engines:
        lines.append(f"endpoint  {machine.base_url}, {machine.concurrency} calls at a time")
    if "batch" in engines:
        lines.append(
            f"batches   {machine.base_url}: of {terms.requests:,} requests and {terms.megabytes:g} MB at most, "
            f"{terms.at_once} at a time, waited for {terms.hours:g} h; servers take up to a day for each"
        )
        if fault := machine.unfit_for_batches:
            gaps.missing.append(f"machine file, {fault}")
    key = machine.api_key_variable
    if lines and key and not os.environ.get(key):
        gaps.missing.append(f"the environment variable {key}")
    return lines
