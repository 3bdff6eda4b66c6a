"""What a study would do, cost and need, said before anything is drawn or written."""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass

from wcse_lib import budget
from wcse_lib.budget import describe, match_arms, uneven
from wcse_lib.plan.problems import check_splits, load_problems
from wcse_lib.plan.students import list_students, packages
from wcse_lib.store import StudyError
from wcse_lib.study import Machine, Study, resolve_model

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, None: 2}
TRAINING_BYTES = {
    "full": 16,
    "lora": 2.5,
    "qlora": 1.0,
}  # a parameter: weights, gradients and AdamW's moments


@dataclass(frozen=True)
class Size:
    """A model's size where only the params file gives it."""

    n_parameters: int
    n_non_embedding: int


def preview(study: Study, machine: Machine) -> str:
    """The plan as text: problems, samples, students, most tokens, FLOPs, USD, memory, time, and what is missing here.

    Lengths are bounded by max_tokens, so tokens, FLOPs and USD are upper bounds of what they count: prompts, pilot, judge
    and training by epochs are left out, which the text says. Time needs `tflops` in the machine
    file (what the machine reaches, not what it is sold for). Nothing is written. Raises StudyError only where the params
    file itself is wrong; what merely is not on this machine (models, data, keys) is listed as missing.
    """
    missing: list[str] = []
    left_out: Counter[str] = Counter()
    n = _problems(study, missing, left_out)
    known = {
        name: _described(study, name, missing) for name, arm in study.arms.items() if arm.model
    }
    lines = [
        f"study     {study.study}: {study.title}",
        f"problems  {n['train']} train, {n['validation']} validation, {n['held_out']} held out",
    ]
    lines += [f"left out  {k:,} of {what}" for what, k in left_out.most_common(5)]
    if study.pilot:
        lines.append(
            f"pilot     {study.pilot.n_problems} problems × {study.pilot.n_samples} samples per arm, drawn first"
        )
    flops, usd = _arms(study, known, n["train"], machine, lines)
    sampled = bool(flops)
    flops += _students(study, known, n, machine, lines, missing)
    judge = study.verification.model_judge
    if judge and judge.engine == "local":
        _size(judge.model, missing)
    if flops and sampled:  # else the lines above tell of the parts that are known
        rest = ["prompts", *["the pilot"] * bool(study.pilot), *["the judge"] * bool(judge)]
        rest += ["training, whose epochs hang on how many samples are right"] * bool(
            study.students and study.training.mode == "epochs"
        )
        hours = (
            f"at most {_time(flops / machine.tflops / 1e12)} at {machine.tflops:g} TFLOP/s, and some seconds for every notebook"
            if machine.tflops
            else ("unknown: give the machine file tflops, the TFLOP/s that it reaches")
        )
        lines.append(
            f"in all    at most {flops:.2g} FLOPs"
            + f", {usd:,.2f} USD" * bool(usd)
            + f", without {', '.join(rest)}; time {hours}"
        )
    if any(arm.engine == "openai" for arm in study.arms.values()) or (
        judge and judge.engine == "openai"
    ):
        lines.append(f"endpoint  {machine.base_url}, {machine.concurrency} calls at a time")
        if machine.api_key_variable and not os.environ.get(machine.api_key_variable):
            missing.append(f"the environment variable {machine.api_key_variable}")
    lines += [f"missing   {what}" for what in dict.fromkeys(missing)] or ["missing   nothing"]
    return "\n".join(lines)


def _problems(study: Study, missing: list[str], left_out: Counter) -> dict:
    try:
        splits, dropped = load_problems(study.dataset, study.seed)
        if study.students:
            check_splits(study, splits)
        left_out.update(
            f"{row['split']}: {row['reason']}"
            for row in dropped
            if not row["reason"].startswith("beyond")
        )
        return {split: len(splits[split]) for split in ("train", "validation", "held_out")}
    except (ValueError, OSError, ImportError) as error:
        d = study.dataset
        missing.append(
            f"problems: {_short(error)}"
            if d.name != "hub" or os.path.isdir(d.path)
            else f"dataset {d.path}: not on this machine; fetched from the hub when it runs"
        )
        return {
            "train": d.n_train or "?",
            "validation": d.n_validation,
            "held_out": d.n_held_out or "?",
        }


def _described(study: Study, name: str, missing: list[str]) -> dict | None:
    arm = study.arms[name]
    if arm.engine == "local":
        _size(arm.model, missing)
    try:
        return describe(study, name)
    except StudyError as error:
        missing.append(f"arms.{name}: {_short(error)}")
        return None


def _size(model: str, missing: list[str]) -> budget.ModelSize | None:
    """A model's size as its checkpoint says it; where none can be read, the model is missing."""
    try:
        return budget.read_model(resolve_model(model))
    except StudyError as error:
        missing.append(_model(model, error))
        return None


def _arms(
    study: Study, known: dict, n: int | str, machine: Machine, lines: list
) -> tuple[float, float]:
    """Lines for every arm, by problem where their number is not known; returns FLOPs and USD of the whole sampling, at most."""
    try:
        if unknown := [name for name, arm in known.items() if arm is None]:
            raise StudyError(f"the size of {', '.join(unknown)} is not known here")
        spend = match_arms(study, known, {})
        arms = {
            a: known[a] if spec.model else uneven(study, a, known, spend, {})
            for a, spec in study.arms.items()
        }
    except (StudyError, TypeError, KeyError, ValueError) as error:
        why = "after the pilot" if study.pilot else f"not yet: {_short(error)}"
        lines.append(f"arms      {', '.join(study.arms)}: matched {why}")
        return 0.0, 0.0
    flops = usd = 0.0
    for name, arm in arms.items():
        samples = ", ".join(f"{b} {k}" for b, k in arm["samples"].items())
        text = f"arm       {name} ({arm['model'] or arm['engine']}): samples a problem {samples}"
        if study.arms[name].engine != "import":
            all_known, each = isinstance(n, int), "" if isinstance(n, int) else " a problem"
            tokens = (
                (n if all_known else 1) * max(arm["samples"].values()) * study.sampling.max_tokens
            )
            cost = tokens * (arm["planned_flops_per_token"] or 0)
            text += f", at most {tokens:,} tokens{each}" + f", {cost:.2g} FLOPs{each}" * bool(cost)
            flops += cost if all_known else 0.0
            if arm.get("price") and study.arms[name].engine == "openai":
                dollars = tokens * arm["price"]["output"] / 1e6
                text, usd = (
                    f"{text}, {dollars:,.4g} USD{each} without prompts",
                    usd + (dollars if all_known else 0.0),
                )
            if arm["n_parameters"] and study.arms[name].engine == "local":
                text += f"; weights {arm['n_parameters'] * BYTES[machine.dtype] / 1e9:.3g} GB"
        lines.append(text)
    return flops, usd


def _students(
    study: Study, known: dict, n: dict, machine: Machine, lines: list, missing: list
) -> float:
    """Lines for training and evaluation; returns their FLOPs, at most."""
    sizes = {}
    missing += [
        f"package {name}, for the training"
        for name in (packages(study, machine) if study.students else ())
    ]
    for student in study.students.values():
        p = next(
            (
                a["n_parameters"]
                for a in known.values()
                if a and a["model"] == student.model and a["n_parameters"]
            ),
            0,
        )
        sizes[student.model] = _size(student.model, missing) or Size(int(p), int(p))
    if not sizes:
        return 0.0
    arms = {
        a: known.get(a) or {"model": s.model, "n_parameters": s.n_parameters}
        for a, s in study.arms.items()
    }
    students = list_students(study, arms, sizes)
    t, e, train, test = study.training, study.evaluation, 0.0, 0.0
    for entry in students.values():
        p = entry["n_parameters"]
        rates = len(entry["learning_rate"]) if isinstance(entry["learning_rate"], list) else 1
        tokens = (
            {"steps": entry["amount"] * t.batch_size * t.max_tokens, "tokens": entry["amount"]}
            if entry["source"] != "base"
            else {}
        )
        train += rates * budget.training_flops(p, tokens[t.mode]) if p and t.mode in tokens else 0
        if isinstance(n["held_out"], int):
            test += 2.0 * p * n["held_out"] * (1 + e.n_samples) * e.max_tokens
    most = max(size.n_parameters for size in sizes.values())
    unknown = (
        ""
        if all(s.n_parameters for s in sizes.values())
        else " (without models whose size cannot be read here)"
    )
    trained = sum(entry["source"] != "base" for entry in students.values())
    text = f"students  {trained} trained, {len(students)} tested"
    costs = [
        f"{what} at most {flops:.2g} FLOPs"
        for what, flops in (("training", train), ("tests", test))
        if flops
    ]
    text += (
        f": {', '.join(costs)}{unknown}"
        if costs
        else ": FLOPs unknown, since no size can be read here"
    )
    if most:
        text += f"; weights and optimiser of the largest known about {most * TRAINING_BYTES[t.method] / 1e9:.3g} GB, activations besides"
    lines.append(text)
    return train + test


def _model(name: str, error: Exception) -> str:
    """What is said of a model that cannot be read: a hub id is fetched when the study runs, a folder has to be there."""
    local = name.startswith((".", "/", "~", "nano-", "outputs/"))
    return (
        f"model {name}: {_short(error)}"
        if local
        else f"model {name}: not on this machine; fetched from the hub when it runs"
    )


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds > 5400 else f"{max(1, round(seconds / 60))} min"


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:220] or type(error).__name__
