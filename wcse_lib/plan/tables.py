"""The plan as tables for people: problems, arms, exchange ratios, students."""

from __future__ import annotations

import numpy as np
import pandas as pd

from wcse_lib import budget
from wcse_lib.budget import MATCHED_WITHIN, cost_of
from wcse_lib.plan.planner import SPLITS
from wcse_lib.store import read_parquet
from wcse_lib.study import UNITS, Run

NO_LENGTHS = "the arms' lengths are not known; run a pilot, or set the arms' tokens_per_sample"
NO_PROMPTS = "the prompts' lengths are not known; run a pilot"
TAKE_EQUAL_LENGTHS = ("flops", "non_embedding", "active", "price")


def problems_table(run: Run) -> pd.DataFrame:
    """One row per split: problems, of which levels, words per question, and how many have a reference solution."""
    rows = []
    for split in SPLITS:
        frame = read_parquet(run.path("01", f"{split}.parquet"))
        n_by_level = frame["level"].replace("", "none").value_counts().sort_index()
        levels = [f"{level}: {n}" for level, n in n_by_level.items()]
        n_words = frame["question"].str.split().str.len()
        row = {"split": split, "n_problems": len(frame), "levels": ", ".join(levels)}
        row["words_per_question"] = n_words.mean()
        row["n_with_reference"] = int((frame["reference"] != "").sum())
        rows.append(row)
    return pd.DataFrame(rows)


def left_out(run: Run) -> pd.DataFrame:
    """Problems that were left out, counted by split and reason."""
    frame = read_parquet(run.path("01", "dropped.parquet"))
    return frame.groupby(["split", "reason"]).size().rename("n").reset_index()


def near_duplicates(run: Run) -> pd.DataFrame:
    """Training problems that stayed although a held-out one is much like them: in words, the most alike first, then in
    meaning, by cosine."""
    frame = read_parquet(run.path("01", "near_duplicates.parquet"))
    return frame[["similarity", "reason", "question", "set", "held_out_question"]]


def arms_table(run: Run) -> pd.DataFrame:
    """One row per arm and budget: samples per problem in a draw, how many draws, what all of them are planned to
    take (samples, tokens, FLOPs, USD, seconds; unknown ones empty), and the part of the budget that a draw uses: under
    99 % is no match."""
    rows, n_problems = [], run.plan.n_problems["train"]
    for name, arm in run.plan.arms.items():
        for budget_name, amounts in arm.planned.items():
            parts = run.plan.shares(name, budget_name)
            n_samples = sum(parts.values())
            planned = {f"planned_{unit}": getattr(amounts, unit) for unit in UNITS}
            row = {
                "arm": name,
                "budget": budget_name,
                "model": getattr(arm, "model", " + ".join(parts)),
                "samples_per_problem": n_samples,
                "n_draws": run.plan.n_draws,
                "n_samples": round(n_problems * n_samples * run.plan.n_draws),
            }
            rows.append(row | planned | {"part_of_budget": arm.budget_used[budget_name]})
    table = pd.DataFrame(rows).dropna(axis=1, how="all")
    if run.study.budget.match == "count":
        return table
    return table.assign(matched=(table["part_of_budget"] - 1).abs() <= MATCHED_WITHIN)


def matched_by(run: Run) -> str:
    """How the study's budget counts, in a line: what is equal, whose lengths, and how prompts are charged."""
    terms, arms = run.study.budget, run.plan.plain_arms()
    prompts = budget.charged_prompts(run.study, arms)
    asked = f" (prompt_tokens: {terms.prompt_tokens})" if prompts != terms.prompt_tokens else ""
    return f"matched by: {terms.match} | lengths: {terms.lengths} | prompts: {prompts}{asked}"


def exchange_table(run: Run) -> pd.DataFrame:
    """Samples of each arm for one of the reference's (at the largest budget) under every cost model, side by side, and
    what each leaves out."""
    arms, terms = run.plan.plain_arms(), run.study.budget
    costs = {name: cost_of(arm, terms.batch, run.plan.machine) for name, arm in arms.items()}
    most = max(terms.samples.values())
    prompts = budget.charged_prompts(run.study, arms)
    table = budget.exchange(terms.reference, costs, most, prompts)
    ratios = table.pivot(index="cost_model", columns="arm", values="exchange_ratio")[list(arms)]
    is_other = (table["arm"] != terms.reference) | (len(arms) == 1)
    notes = table[is_other].groupby("cost_model")["leaves_out"].last()

    # A ratio that needs a length which nobody knows is left empty, or said to assume equal lengths.
    counts_prompts = ratios.index.str.startswith("prompt·") | (ratios.index == "attention")
    no_lengths = any(arm.tokens_per_sample is None for arm in arms.values())
    no_prompts = any(arm.prompt_tokens is None for arm in arms.values())
    lacking = (counts_prompts & no_prompts) | ((ratios.index == "tokens") & no_lengths)
    notes = notes.mask(lacking, NO_LENGTHS if no_lengths else NO_PROMPTS)
    assumes_equal = ratios.index.isin(TAKE_EQUAL_LENGTHS) & ratios.notna().all(axis=1)
    if no_lengths:
        notes = notes.mask(assumes_equal, "lengths, not known here and taken as equal; " + notes)
    ratios[lacking] = np.nan
    in_order = ratios.assign(leaves_out=notes).loc[table["cost_model"].unique()]
    return in_order.reset_index().rename(columns={"cost_model": "cost model"})


def students_table(run: Run) -> pd.DataFrame:
    """One row per student: who learns from whom, at which budget, under which paradigm."""
    rows = [{"student": name, **dict(entry)} for name, entry in run.plan.students.items()]
    frame = pd.DataFrame(rows).astype(object)
    return frame.where(frame.notna(), "")


def read_forecast(run: Run) -> pd.DataFrame | None:
    """What the pilot lets expect of every arm and budget; None where there was no pilot."""
    return read_parquet(run.path("01", "forecast.parquet")) if run.plan.pilot else None
