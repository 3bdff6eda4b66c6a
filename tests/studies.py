"""Factories that the tests of several folders share: rows, plans and studies as the kit writes them."""

from __future__ import annotations

from pathlib import Path

from wcse_lib.store import write_json
from wcse_lib.study import (
    AdaptiveArm,
    MixedArm,
    ModelFacts,
    Plan,
    PlannedMixed,
    Study,
    check_study,
)


def sample_row(sample_index: int, **more) -> dict:
    """A row of a samples file; `more` replaces or adds columns."""
    return {
        "author": "a",
        "problem_id": "p",
        "sample_index": sample_index,
        "seed": sample_index,
        "text": f"t{sample_index}",
        "n_prompt_tokens": 1,
        "n_tokens": 2,
        "finish_reason": "stop",
        "engine": "hf",
        "model": "m",
        "prompt_hash": "h",
        "error": "",
        "usd": None,
        **more,
    }


def write_plan(folder: Path, plan: dict) -> Plan:
    """Write `01_plan/plan.json` of a made-up study; what the plan's types need and a test leaves out is filled in.

    Args: plan: `study` (as a params file says it), and what a test names of `arms` (by name, with `samples`),
    `students`, `plan_id` and the rest of the plan.
    """
    study = check_study(plan["study"], "test")
    arms = {name: _planned_arm(study, name, given) for name, given in plan["arms"].items()}
    students = {}
    for name, given in plan.get("students", {}).items():
        students[name] = {"n_parameters": 1000, "learning_rate": 1.0e-3, "amount": 1.0} | given
    whole = {
        "plan_id": "p",
        "n_problems": {"train": 0, "validation": 0, "held_out": 0},
        "n_held_out": {},
        "dropped_problems": {},
        "n_near_duplicates": 0,
        "problems_sha256": {},
        "files": {},
        "versions": {},
    } | plan
    whole |= {"study": study.model_dump(mode="json"), "arms": arms, "students": students}
    typed = Plan.model_validate(whole)
    write_json(folder / "01_plan" / "plan.json", typed.model_dump(mode="json"))
    return typed


def _planned_arm(study: Study, name: str, given: dict) -> dict:
    """A planned arm of the kind that the study says, from what a test names of it."""
    spec, samples = study.arms[name], given["samples"]
    arm = {
        "exchange_ratio": 1.0,
        "budget_used": dict.fromkeys(samples, 1.0),
        "planned": {budget: {} for budget in samples},
        "planned_flops_per_token": None,
    }
    if isinstance(spec, MixedArm):
        parts = dict.fromkeys(spec.mix, 1.0)
        arm |= {"kind": "mixed", "shares": spec.mix, "parts": dict.fromkeys(samples, parts)}
        return arm | {key: given[key] for key in given if key in PlannedMixed.model_fields}
    facts = dict.fromkeys(ModelFacts.model_fields)
    if isinstance(spec, AdaptiveArm):
        kind, model = "adaptive", study.arms[spec.adaptive.of].model
        arm["rule"] = spec.adaptive.model_dump()
    else:
        kind, model = ("imported" if spec.engine == "import" else "drawn"), spec.model
    arm |= facts | {"kind": kind, "model": model, "engine": spec.engine}
    return arm | {
        key: value for key, value in given.items() if not (key == "model" and value is None)
    }
