"""Room 01: turn a study's parameters into a plan that every later stage obeys."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path

import pandas as pd

from wcse_lib import budget, forecast
from wcse_lib.problems import load_problems
from wcse_lib.records import StudyError, read_json, read_parquet, write_json, write_parquet
from wcse_lib.study import Run, Study, check_study, fingerprint, load_study, resolve, resolve_model

PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "vllm", "unsloth", "pandas", "papermill", "math-verify")
SPLITS = ("train", "validation", "held_out")


def study_from(namespace: dict, params: str) -> Study:
    """The study that notebook 01's parameters name.

    Args: namespace: the notebook's variables that hold plain values; params: the study file.
    If `study` is set there (as `papermill -f params/<study>.yaml` does), those variables are the whole study; else
    they override the file's keys. Variables that are no study key are refused, so a misspelt one cannot pass.
    """
    plain = (str, int, float, bool, list, dict)
    given = {k: v for k, v in namespace.items() if not k.startswith("_") and isinstance(v, plain)}
    for own in ("params", "outputs", "In", "Out", "PAPERMILL_INPUT_PATH", "PAPERMILL_OUTPUT_PATH"):
        given.pop(own, None)
    if "study" in given:
        return check_study(given, "parameters")
    if not given:
        return load_study(params)
    from wcse_lib.study import read_yaml

    return check_study({**read_yaml(resolve(params)), **given}, f"{params} with parameters {', '.join(given)}")


def make_plan(study: Study, outputs: str | Path = "outputs") -> Run:
    """Check models and data, match the budgets, list the students, and write `01_plan`.

    Raises StudyError, before anything is written, for missing models or unusable data; and when the folder holds a
    study of the same name whose samples would not fit this plan.
    """
    arms = {name: _arm(study, name) for name in study.arms}
    _match(study, arms)
    students = _students(study, arms)
    splits, dropped = load_problems(study.dataset, study.seed)
    if students and splits["held_out"].empty:
        raise StudyError("dataset.held_out: students need held-out problems, and none are usable")
    if students and study.controls.reference and (splits["train"]["solution"] == "").all():
        raise StudyError(
            "controls.reference: the training problems have no solutions; set dataset.columns.solution or reference: false"
        )
    folder = resolve(outputs) / study.study
    dump = study.model_dump()
    plan = {
        "study": dump,
        "arms": arms,
        "students": students,
        "n_problems": {split: len(splits[split]) for split in SPLITS},
        "n_dropped_problems": len(dropped),
        "problems_sha256": {s: fingerprint(splits[s].values.tolist()) for s in SPLITS},
        "versions": versions(),
    }
    plan["plan_id"] = fingerprint([plan[key] for key in ("study", "arms", "students", "problems_sha256")])
    _refuse_other(folder / "01_plan" / "plan.json", study)
    for split in SPLITS:
        write_parquet(folder / "01_plan" / f"{split}.parquet", splits[split])
    write_parquet(
        folder / "01_plan" / "dropped.parquet", pd.DataFrame(dropped, columns=["split", "problem_id", "reason"])
    )
    write_json(folder / "01_plan" / "plan.json", plan)
    return Run(folder)


def _arm(study: Study, name: str) -> dict:
    arm = study.arms[name]
    size = None
    if arm.engine == "local":
        size = budget.read_model(resolve_model(arm.model))
    p_all = arm.n_parameters or (size.n_parameters if size else None)
    p = size.n_non_embedding if size and not arm.n_parameters and study.budget.parameters == "non_embedding" else p_all
    if p is None and study.budget.match == "flops":
        raise StudyError(
            f"arms.{name}.n_parameters: needed for budget.match: flops, since no checkpoint of {arm.model!r} can be read"
        )
    return {
        "model": arm.model,
        "engine": arm.engine,
        "n_parameters": p,
        "usd_per_million_tokens": arm.usd_per_million_tokens,
    }


def _match(study: Study, arms: dict[str, dict]) -> None:
    """Add each arm's samples per problem at every budget: equal cost per token times equal length (the paper's rule)."""
    mode, reference = study.budget.match, arms[study.budget.reference]
    cost = {
        "flops": lambda a: 2.0 * a["n_parameters"],
        "price": lambda a: a["usd_per_million_tokens"],
        "count": lambda a: 1.0,
    }[mode]
    for arm in arms.values():
        arm["samples"] = {
            b: budget.matched_samples(n, cost(reference), cost(arm)) for b, n in study.budget.samples.items()
        }
        arm["exchange_ratio"] = cost(reference) / cost(arm)
        arm["planned_flops_per_token"] = 2.0 * arm["n_parameters"] if arm["n_parameters"] else None


def _students(study: Study, arms: dict[str, dict]) -> dict[str, dict]:
    """Every student to train or test, by name: bases, one per arm and budget, and the controls."""
    out: dict[str, dict] = {}
    most = max(study.budget.samples, key=study.budget.samples.get)
    for base, student in study.students.items():
        size = budget.read_model(resolve_model(student.model))
        rate = student.learning_rate or study.training.learning_rate
        common = {"base": base, "model": student.model, "n_parameters": size.n_parameters, "learning_rate": rate}
        own = next((a for a in arms if arms[a]["model"] == student.model), None)
        out[f"{base}.base"] = common | {"source": "base", "arm": None, "budget": None, "paradigm": None, "seed": None}
        wanted = [("arm", arm, b) for b in study.budget.samples for arm in (student.arms or arms)]
        wanted += [("reference", None, most)] * study.controls.reference
        wanted += [("wrong", own, most)] * (study.controls.wrong and own is not None)
        for source, arm, b in wanted:
            for seed in study.training.seeds:
                tail = "" if len(study.training.seeds) == 1 else f".s{seed}"
                name = f"{base}.{arm}.{b}{tail}" if source == "arm" else f"{base}.{source}{tail}"
                paradigm = _paradigm(student.model, size.n_parameters, arms[arm]) if source == "arm" else None
                out[name] = common | {
                    "source": source, "arm": arm, "budget": b, "paradigm": paradigm, "seed": seed,
                    "amount": study.training.amount[b],
                }  # fmt: skip
    return out


def _paradigm(model: str, n_parameters: int, arm: dict) -> str | None:
    """Self-improvement, knowledge distillation (a larger model teaches) or weak-to-strong (a smaller one does)."""
    if arm["model"] == model:
        return "self"
    if arm["n_parameters"] is None:
        return "kd"
    return "w2s" if arm["n_parameters"] < n_parameters else "kd"


def _refuse_other(path: Path, study: Study) -> None:
    """Refuse to plan over a study whose rows would not mix with this one's; more samples and problems are fine."""
    if not path.exists():
        return
    old, new = (_leaves(_identity(data)) for data in (read_json(path)["study"], study.model_dump(mode="json")))
    differs = [f"{k}: {old.get(k)!r} there, {new.get(k)!r} now" for k in sorted(old | new) if old.get(k) != new.get(k)]
    if differs:
        raise StudyError(
            f"{path}: a study of this name exists, drawn otherwise ({'; '.join(differs)}); "
            "rename the study, or delete its folder"
        )


def _identity(data: dict) -> dict:
    """The parameters that rows on disk depend on (arms may come and go, but not change)."""
    dataset = {k: v for k, v in data["dataset"].items() if k not in ("n_train", "n_held_out")}
    return {"seed": data["seed"], "dataset": dataset, "prompt": data["prompt"], "sampling": data["sampling"]}


def _leaves(data, prefix: str = "") -> dict:
    """Nested mappings as one, with dotted keys."""
    if not isinstance(data, dict):
        return {prefix: data}
    return {k: v for key, part in data.items() for k, v in _leaves(part, f"{prefix}.{key}" if prefix else key).items()}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def arms_table(run: Run) -> pd.DataFrame:
    """One row per arm and budget: samples per problem, exchange ratio, planned FLOPs per token."""
    return pd.DataFrame(
        [
            {"arm": name, "model": a["model"], "n_parameters": a["n_parameters"], "budget": b, "samples_per_problem": n,
             "n_samples": n * run.plan["n_problems"]["train"], "exchange_ratio": a["exchange_ratio"]}
            for name, a in run.plan["arms"].items() for b, n in a["samples"].items()
        ]
    )  # fmt: skip


def students_table(run: Run) -> pd.DataFrame:
    """One row per student: who learns from whom, at which budget, under which paradigm."""
    frame = pd.DataFrame([{"student": name, **entry} for name, entry in run.plan["students"].items()]).astype(object)
    return frame.where(frame.notna(), "")


def power_table(run: Run) -> pd.DataFrame:
    """The smallest difference seen with 80 % power (α = 0.05), for arms on the training problems and students on the
    held-out ones, unpaired and paired at an assumed correlation of 0.5, at a rate of one half (the hardest case)."""
    rows = []
    for what, n in (("arms' coverage, training problems", run.plan["n_problems"]["train"]),
                    ("students' pass@1, held-out problems", run.plan["n_problems"]["held_out"])):  # fmt: skip
        if n > 1:
            single = forecast.minimum_detectable_effect(n, 0.5)
            paired = forecast.minimum_detectable_effect(n, 0.5, paired_correlation=0.5)
            rows.append({"what": what, "n_problems": n, "unpaired_points": 100 * single, "paired_points": 100 * paired})
    return pd.DataFrame(rows)


def checks(run: Run) -> dict:
    """Facts about the plan. Raises AssertionError when splits overlap or an arm gets no sample."""
    keys = [set(read_parquet(run.path("01", f"{s}.parquet"))["problem_id"]) for s in SPLITS]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2], "splits share problems"
    assert all(n >= 1 for a in run.plan["arms"].values() for n in a["samples"].values()), "an arm gets no sample"
    return {"n_arms": len(run.plan["arms"]), "n_students": len(run.plan["students"]), **run.plan["n_problems"]}
