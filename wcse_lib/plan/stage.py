"""01: turn a study's parameters, and its pilot, into a plan that every later stage obeys and people can judge."""

from __future__ import annotations

import importlib.metadata
import platform
import shutil
from functools import partial
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from wcse_lib.budget import proposals, unspent
from wcse_lib.plan.advice import advise, crossings
from wcse_lib.plan.detectable import power_sentences
from wcse_lib.plan.expected import forecast_table
from wcse_lib.plan.extra_draws import what_draws_cost
from wcse_lib.plan.identity import refuse_other
from wcse_lib.plan.meaning import meaning_sentences
from wcse_lib.plan.on_policy import on_policy_sentences
from wcse_lib.plan.pilot import correlation, curves, facts_of
from wcse_lib.plan.planner import SPLITS, Draft, Gaps, add_students, draft_plan
from wcse_lib.plan.trial import opened_thoughts, prompt_notes
from wcse_lib.sample import progress
from wcse_lib.store import read_parquet, write_contents, write_json, write_parquet
from wcse_lib.study import (
    ImportedArm,
    Machine,
    Plan,
    Run,
    Study,
    check_parameters,
    check_study,
    fingerprint,
    load_study,
    named_files,
    read_yaml,
    resolve,
    verifier_path,
)

PACKAGES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "datasets",
    "vllm",
    "unsloth",
    "pandas",
    "papermill",
    "math-verify",
)
# of planning, as its progress bar names them
STEPS = ("models", "problems and copies", "prompts", "pilot", "budgets", "students", "forecast")
OWN = (  # variables of notebook 01 that are no keys of a params file
    "params",
    "outputs",
    "machine",
    "interactive",
    "In",
    "Out",
    "PAPERMILL_INPUT_PATH",
    "PAPERMILL_OUTPUT_PATH",
)


def study_from(namespace: dict, params: str) -> Study:
    """The study that notebook 01's parameters name.

    Args: namespace: the notebook's variables that hold plain values; params: the study file.
    If `study` is set there (as `papermill -f params/<study>.yaml` does), those variables are the whole study; else
    they override the file's keys. Variables that are no study key are refused, so a misspelt one cannot pass, and so
    are values of another type.
    """
    check_parameters(namespace, Study.model_fields)
    given = {}
    for key, value in namespace.items():
        is_plain = isinstance(value, str | int | float | bool | list | dict)
        if is_plain and not key.startswith("_") and key not in OWN:
            given[key] = value
    if "study" in given:
        return check_study(given, "parameters")
    if not given:
        return load_study(params)
    data = {**read_yaml(resolve(params)), **given}
    return check_study(data, f"{params} with parameters {', '.join(given)}")


def make_plan(study: Study, outputs: str | Path = "outputs", machine: Machine | None = None) -> Run:
    """Check models and data, match the budgets, forecast from the pilot, list the students, and write `01_plan`.

    Args: machine: where the study will run, for what an hour costs there; no sample depends on it.
    Raises StudyError, before anything is written, for missing models, prices, lengths or pilots and unusable data; and
    when the folder holds a study of the same name whose samples would not fit this plan.
    """
    run_folder = resolve(outputs) / study.study
    folder = run_folder / "01_plan"
    with progress("plan", len(STEPS), unit="steps") as bar:
        draft = draft_plan(study, outputs, Gaps(strict=True), machine, partial(_begin, bar))
        _begin(bar, "students")
        add_students(draft)
        refuse_other(folder / "plan.json", study)
        _begin(bar, "forecast")
        plan = _plan_of(draft, machine)
        if draft.pilot:
            _write_forecasts(draft, folder)
        bar.update(1)
    for split in SPLITS:
        write_parquet(folder / f"{split}.parquet", draft.splits[split])
    dropped = pd.DataFrame(draft.dropped, columns=["split", "problem_id", "reason", "other"])
    write_parquet(folder / "dropped.parquet", dropped)
    write_parquet(folder / "near_duplicates.parquet", draft.splits["near_duplicates"])
    write_json(folder / "plan.json", plan.model_dump(mode="json"))
    run = Run(run_folder)
    if program := study.verification.path:
        shutil.copyfile(verifier_path(program), run.verifier_copy)
    write_contents(folder)
    return run


def _begin(bar: tqdm, step: str) -> None:
    """Show which of STEPS begins."""
    bar.set_postfix_str(step, refresh=False)
    bar.update(STEPS.index(step) - bar.n)
    bar.refresh()


def _plan_of(draft: Draft, machine: Machine | None) -> Plan:
    """The typed plan of a draft. Its id changes with whatever decides a row of a later stage."""
    study, splits = draft.study, draft.splits
    held_out = splits["held_out"].get("set", pd.Series("held_out", splits["held_out"].index))
    n_by_set = held_out.value_counts(sort=False)
    first_question = splits["train"]["question"].iloc[0]
    plan = Plan(
        plan_id="",
        study=study,
        arms=draft.arms,
        students=draft.students,
        n_problems=draft.n_problems,
        n_held_out={str(name): int(n) for name, n in n_by_set.items()},
        dropped_problems=draft.dropped_problems,
        n_near_duplicates=len(splits["near_duplicates"]),
        meaning=draft.meaning,
        problems_sha256={split: fingerprint(splits[split].values.tolist()) for split in SPLITS},
        files=named_files(study),
        versions=versions(),
        opens_thought=opened_thoughts(study, first_question, draft.prompts),
        prompts=draft.prompts,
        machine=machine.price() if machine else None,
    )
    if draft.pilot:
        plan = plan.model_copy(update=_pilot_parts(draft))
    return plan.model_copy(update={"plan_id": _plan_id(plan)})


def _pilot_parts(draft: Draft) -> dict:
    pilot = {
        name: facts_of(counts, draft.arms[name].planned_flops_per_token)
        for name, counts in draft.pilot.items()
    }
    return {
        "pilot": pilot,
        "pilot_correlation": correlation(draft.pilot),
        "forecast": advise(draft.study, draft.spend, draft.pilot),
        "crossings": crossings(draft.study, draft.spend, draft.pilot),
    }


def _plan_id(plan: Plan) -> str:
    """A hash of all that later stages' rows depend on; what a machine took for a sample is not among it."""
    data = plan.model_dump(mode="json")
    for arm in data["arms"].values():
        arm.pop("seconds_per_sample", None)
        arm.pop("planned")
    imported = {}
    for arm in plan.study.arms.values():
        if isinstance(arm, ImportedArm):
            imported[arm.path] = plan.files.get(arm.path)
    parts = [data["study"], data["arms"], data["students"], data["problems_sha256"], imported]
    if plan.meaning:
        parts.append(plan.meaning.made_by | {"threshold": plan.meaning.threshold})
    if plan.opens_thought:
        parts.append(plan.opens_thought)
    if program := plan.study.verification.path:
        parts.append(plan.files[program])
    return fingerprint(parts)


def _write_forecasts(draft: Draft, folder: Path) -> None:
    """What the pilot lets expect, and the curves that 01 draws."""
    n_problems = draft.n_problems["train"]
    table = forecast_table(draft.study, draft.arms, draft.pilot, n_problems)
    write_parquet(folder / "forecast.parquet", table)
    most = max(max(draft.arms[name].samples.values()) for name in draft.pilot)
    write_parquet(folder / "curves.parquet", curves(draft.pilot, max(100, 2 * most)))


def limits(run: Run) -> list[str]:
    """Before anything is drawn: what the study could not show, what its draws cost, which arms spend less than their
    share, and what a person should know of its prompts."""
    draws = what_draws_cost(run)
    return [
        *power_sentences(run),
        *([draws] if draws else []),
        *on_policy_sentences(run.study),
        *meaning_sentences(run),
        *unspent(run.plan.arms),
        *proposals(run.study, run.plan.arms),
        *prompt_notes(run.plan.prompts),
    ]


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    installed = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed


def checks(run: Run) -> dict:
    """Facts about the plan, and where its arms are not matched. Raises AssertionError when splits overlap or an
    arm gets no sample."""
    seen: set[str] = set()
    for split in SPLITS:
        ids = set(read_parquet(run.path("01", f"{split}.parquet"), ["problem_id"])["problem_id"])
        assert not seen & ids, "splits share problems"
        seen |= ids
    for name, arm in run.plan.arms.items():
        assert min(arm.samples.values()) >= 1, f"{name} gets no sample"
    return {
        "n_arms": len(run.plan.arms),
        "n_students": len(run.plan.students),
        **run.plan.n_problems,
        "not_matched": unspent(run.plan.arms),
    }
