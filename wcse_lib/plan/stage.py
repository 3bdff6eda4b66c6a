"""Room 01: turn a study's parameters, and its pilot, into a plan that every later stage obeys and people can judge."""

from __future__ import annotations

import importlib.metadata
import platform
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib import budget
from wcse_lib.budget import (
    cost_of,
    describe,
    flops_cost_model,
    match_arms,
    matched_costs,
    uneven,
    unspent,
)
from wcse_lib.plan import power
from wcse_lib.plan.explorer import explore, paper_curves, plain_arms
from wcse_lib.plan.pilot import (
    MEASURED,
    advise,
    correlation,
    curves,
    facts,
    forecast_table,
    pilot_folder,
    pilot_study,
    read_pilot,
    refuse_other,
)
from wcse_lib.plan.problems import check_splits, load_problems
from wcse_lib.plan.students import list_students
from wcse_lib.store import read_parquet, write_json, write_parquet
from wcse_lib.study import (
    Run,
    Study,
    check_study,
    fingerprint,
    load_study,
    named_files,
    read_yaml,
    resolve,
)

__all__ = [
    "explore",
    "paper_curves",
    "pilot_study",
    "read_pilot",
]  # of the floor, for notebook 01 and the pipeline

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
SPLITS = ("train", "validation", "held_out")
UNKNOWN = "the arms' lengths are not known; run a pilot, or set the arms' tokens_per_sample"


def study_from(namespace: dict, params: str) -> Study:
    """The study that notebook 01's parameters name.

    Args: namespace: the notebook's variables that hold plain values; params: the study file.
    If `study` is set there (as `papermill -f params/<study>.yaml` does), those variables are the whole study; else
    they override the file's keys. Variables that are no study key are refused, so a misspelt one cannot pass.
    """
    plain = (str, int, float, bool, list, dict)
    given = {k: v for k, v in namespace.items() if not k.startswith("_") and isinstance(v, plain)}
    for own in (
        "params",
        "outputs",
        "interactive",
        "In",
        "Out",
        "PAPERMILL_INPUT_PATH",
        "PAPERMILL_OUTPUT_PATH",
    ):
        given.pop(own, None)
    if "study" in given:
        return check_study(given, "parameters")
    if not given:
        return load_study(params)
    return check_study(
        {**read_yaml(resolve(params)), **given}, f"{params} with parameters {', '.join(given)}"
    )


def make_plan(study: Study, outputs: str | Path = "outputs") -> Run:
    """Check models and data, match the budgets, forecast from the pilot, list the students, and write `01_plan`.

    Raises StudyError, before anything is written, for missing models, prices, lengths or pilots and unusable data; and
    when the folder holds a study of the same name whose samples would not fit this plan.
    """
    folder = resolve(outputs) / study.study
    known = {name: describe(study, name) for name, arm in study.arms.items() if arm.model}
    splits, dropped = load_problems(study.dataset, study.seed)
    pilot = read_pilot(pilot_folder(study, outputs), study) if study.pilot else {}
    for name, found in pilot.items():
        known[name] |= {k: getattr(found, k) for k in MEASURED if getattr(found, k) is not None}
    spend = match_arms(study, known, pilot)
    arms = {
        name: known[name] if arm.model else uneven(study, name, known, spend, pilot)
        for name, arm in study.arms.items()
    }
    students = list_students(study, arms)
    if students:
        check_splits(study, splits)
    held_out = splits["held_out"].get("set", pd.Series("held_out", splits["held_out"].index))
    plan = {
        "study": study.model_dump(mode="json"),
        "arms": arms,
        "students": students,
        "n_problems": {split: len(splits[split]) for split in SPLITS},
        "n_held_out": {str(name): int(n) for name, n in held_out.value_counts(sort=False).items()},
        "dropped_problems": dict(Counter(f"{row['split']}: {row['reason']}" for row in dropped)),
        "n_near_duplicates": len(splits["near_duplicates"]),
        "problems_sha256": {s: fingerprint(splits[s].values.tolist()) for s in SPLITS},
        "files": named_files(study),
        "versions": versions(),
    }
    rows = {
        name: {k: v for k, v in arm.items() if k != "seconds_per_sample"}
        for name, arm in arms.items()
    }
    imported = {arm.path: plan["files"].get(arm.path) for arm in study.arms.values() if arm.path}
    plan["plan_id"] = fingerprint(
        [plan["study"], rows, students, plan["problems_sha256"], imported]
    )
    refuse_other(folder / "01_plan" / "plan.json", study)
    if pilot:
        plan["pilot"] = {name: facts(found, known[name]) for name, found in pilot.items()}
        plan["pilot_correlation"], told = correlation(pilot), advise(study, spend, pilot)
        plan["forecast"], plan["crossings"] = told["sentences"], told["crossings"]
        write_parquet(
            folder / "01_plan" / "forecast.parquet",
            forecast_table(study, arms, pilot, len(splits["train"])),
        )
        most = max(100, 2 * max(n for arm in known.values() for n in arm["samples"].values()))
        write_parquet(folder / "01_plan" / "curves.parquet", curves(pilot, most))
    for split in SPLITS:
        write_parquet(folder / "01_plan" / f"{split}.parquet", splits[split])
    left_out = pd.DataFrame(dropped, columns=["split", "problem_id", "reason", "other"])
    write_parquet(folder / "01_plan" / "dropped.parquet", left_out)
    write_parquet(folder / "01_plan" / "near_duplicates.parquet", splits["near_duplicates"])
    write_json(folder / "01_plan" / "plan.json", plan)
    return Run(folder)


# ---------------------------------------------------------------------------------------------- tables for people


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that matter."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def problems_table(run: Run) -> pd.DataFrame:
    """One row per split: problems, of which levels, words per question, and how many have a reference solution."""
    rows = []
    for split in SPLITS:
        frame = read_parquet(run.path("01", f"{split}.parquet"))
        levels = frame["level"].replace("", "none").value_counts().sort_index()
        rows.append(
            {
                "split": split,
                "n_problems": len(frame),
                "levels": ", ".join(f"{k}: {n}" for k, n in levels.items()),
                "words_per_question": frame["question"].str.split().str.len().mean(),
                "n_with_solution": int((frame["solution"] != "").sum()),
            }
        )
    return pd.DataFrame(rows)


def left_out(run: Run) -> pd.DataFrame:
    """Problems that were left out, counted by split and reason."""
    frame = read_parquet(run.path("01", "dropped.parquet"))
    return frame.groupby(["split", "reason"]).size().rename("n").reset_index()


def near_duplicates(run: Run) -> pd.DataFrame:
    """Training problems that stayed although a held-out one is much like them, the most alike first."""
    frame = read_parquet(run.path("01", "near_duplicates.parquet"))
    return frame[["similarity", "question", "set", "held_out_question"]]


def arms_table(run: Run) -> pd.DataFrame:
    """One row per arm and budget: samples per problem, what they are planned to cost (tokens, FLOPs, USD, seconds; unknown
    ones empty), and the part of the budget that they use: under 99 % is no match."""
    rows, n, b = [], run.plan["n_problems"]["train"], run.study.budget
    for name, arm in run.plan["arms"].items():
        for budget_name in arm["samples"]:
            parts = run.shares(name, budget_name)
            rows.append(
                {
                    "arm": name,
                    "budget": budget_name,
                    "model": arm["model"] or " + ".join(parts),
                    "samples_per_problem": sum(parts.values()),
                    "n_samples": round(n * sum(parts.values())),
                    **_planned(run, parts, n),
                    "part_of_budget": arm["budget_used"][budget_name],
                }
            )
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    return (
        table.assign(matched=(table["part_of_budget"] - 1).abs() <= 0.01)
        if b.match != "count"
        else table
    )


def _planned(run: Run, parts: dict[str, float], n_problems: int) -> dict[str, float]:
    """Planned amounts of the samples per problem that are drawn from each arm, as the budget counts them; NaN where a
    length, size or price is not known."""
    out, known = {}, plain_arms(run)
    cost_models = {"tokens": "tokens", "flops": flops_cost_model(run.study)}
    cost_models |= {"usd": "price", "seconds": "seconds"}
    costs = matched_costs(run.study, known)
    for unit, cost_model in cost_models.items():
        try:
            if any(known[a]["tokens_per_sample"] is None for a in parts):
                raise ValueError(UNKNOWN)
            each = sum(
                budget.cost(costs[a], cost_model, k, run.study.budget.prompt_tokens)
                for a, k in parts.items()
            )
            out[f"planned_{unit}"] = n_problems * each
        except ValueError:
            out[f"planned_{unit}"] = np.nan
    return out


def exchange_table(run: Run) -> pd.DataFrame:
    """Samples of each arm for one of the reference's (at the largest budget) under every cost model, side by side, and
    what each leaves out."""
    arms, b = plain_arms(run), run.study.budget
    costs = {name: cost_of(arm, b.batch) for name, arm in arms.items()}
    table = budget.exchange(b.reference, costs, max(b.samples.values()), b.prompt_tokens)
    ratios = table.pivot(index="cost_model", columns="arm", values="exchange_ratio")[list(arms)]
    notes = (
        table[(table["arm"] != b.reference) | (len(arms) == 1)]
        .groupby("cost_model")["leaves_out"]
        .last()
    )
    prompts = ratios.index.str.startswith("prompt·") | (ratios.index == "attention")
    lengths = any(arm["tokens_per_sample"] is None for arm in arms.values())
    unread = prompts & any(arm["prompt_tokens"] is None for arm in arms.values())
    lacking = unread | lengths & (ratios.index == "tokens")
    notes = notes.mask(
        lacking, UNKNOWN if lengths else "the prompts' lengths are not known; run a pilot"
    )
    assumed = (
        ratios.index.isin(["flops", "non_embedding", "active", "price"])
        & lengths
        & ratios.notna().all(axis=1)
    )
    notes = notes.mask(assumed, "lengths, not known here and taken as equal; " + notes)
    ratios[lacking] = np.nan
    out = ratios.assign(leaves_out=notes).loc[table["cost_model"].unique()].reset_index()
    return out.rename(columns={"cost_model": "cost model"})


def students_table(run: Run) -> pd.DataFrame:
    """One row per student: who learns from whom, at which budget, under which paradigm."""
    frame = pd.DataFrame(
        [{"student": name, **entry} for name, entry in run.plan["students"].items()]
    ).astype(object)
    return frame.where(frame.notna(), "")


def read_forecast(run: Run) -> pd.DataFrame | None:
    return read_parquet(run.path("01", "forecast.parquet")) if "pilot" in run.plan else None


def power_table(run: Run) -> pd.DataFrame:
    """The smallest differences (points) seen with 80 % power at α = 0.05, one row for each thing that is compared.

    Coverage on the training problems and students on every held-out set, unpaired and paired; false positives over the
    correct samples to expect. Arms' rates and correlation are the pilot's; without one, and for students, `power` gives
    them, and the spread over training seeds in the last column, which one seed, that cannot tell of its spread, lacks.
    """
    pilot, n, given = run.plan.get("pilot", {}), run.plan["n_problems"]["train"], run.study.power
    table, seeds = read_forecast(run), len(run.study.training.seeds)
    rows, named = (
        [],
        {}
        if table is None
        else table[table["metric"] == "coverage"].groupby("arm")["value"].last(),
    )
    p = named.get(run.study.budget.reference, given.rate)
    rows.append(
        (
            "coverage of arms",
            n,
            p,
            run.plan.get("pilot_correlation", given.correlation),
            "training problems",
        )
    )
    least = [
        (min(a["samples"].values()) * n * pilot[name]["pass_at_1"], name)
        for name, a in plain_arms(run).items()
        if name in pilot
    ]
    if least and (judged := min(least))[0] >= 2 and pilot[judged[1]]["n_judged"]:
        rate = pilot[judged[1]]["n_false"] / pilot[judged[1]]["n_judged"]
        rows.append(
            (
                "false positives of arms",
                int(judged[0]),
                rate,
                None,
                f"correct samples of {judged[1]} (expected)",
            )
        )
    rows += [
        (
            "students",
            n,
            given.rate,
            given.correlation,
            "held-out problems" if s == "held_out" else f"problems of {s}",
        )
        for s, n in run.plan["n_held_out"].items()
        if run.plan["students"]
    ]
    out = []
    for what, items, p, r, items_are in (row for row in rows if row[1] > 1):
        p, ways = (
            float(np.clip(p, 0.02, 0.98)),
            {"unpaired": {}, "paired": {"paired_correlation": r}},
        )
        ways["paired_with_seeds"] = ways["paired"] | {
            "n_seeds": seeds,
            "seed_sd": given.seed_sd_points / 100,
        }
        asked = [
            "unpaired",
            *["paired"] * (r is not None),
            *["paired_with_seeds"] * (what == "students" and seeds > 1),
        ]
        points = {
            f"{k}_points": 100 * power.minimum_detectable_effect(items, p, **ways[k]) for k in asked
        }
        out.append(
            {"what": what, "n": items, "items": items_are, "rate": p, "correlation": r, **points}
        )
    return pd.DataFrame(out)


def power_sentences(run: Run, wanted: float = 0.02) -> list[str]:
    """What the study's items can and cannot show, one sentence for each comparison."""
    out, seeds, sd = [], len(run.study.training.seeds), run.study.power.seed_sd_points
    for row in power_table(run).itertuples():
        test = {} if pd.isna(row.correlation) else {"paired_correlation": row.correlation}
        paired = f", paired (correlation {row.correlation:.2g})," if test else ""
        told = power.power_sentence(
            row.n, row.rate, wanted, f"{row.items}{paired} at a rate of {row.rate:.2g}", **test
        )
        if row.what == "students" and seeds == 1:
            told += " One training seed cannot tell a difference of the arms from one of seeds: what holds is that of these two students."
        elif row.what == "students":
            told += f" With {seeds} training seeds that spread by {sd:g} points: {row.paired_with_seeds_points:.1f} points."
        out.append(f"{row.what.capitalize()}: your {told}")
    return out


def checks(run: Run) -> dict:
    """Facts about the plan, and where its arms are not matched. Raises AssertionError when splits overlap or an arm gets
    no sample."""
    keys = [set(read_parquet(run.path("01", f"{s}.parquet"))["problem_id"]) for s in SPLITS]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2], (
        "splits share problems"
    )
    assert all(n >= 1 for a in run.plan["arms"].values() for n in a["samples"].values()), (
        "an arm gets no sample"
    )
    found = {
        "n_arms": len(run.plan["arms"]),
        "n_students": len(run.plan["students"]),
        **run.plan["n_problems"],
    }
    return found | {"not_matched": unspent(run.plan["arms"])}
