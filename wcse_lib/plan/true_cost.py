"""What a sample of every arm costs by FLOPs, price, seconds and USD, and where these disagree about who is cheaper."""

from __future__ import annotations

import pandas as pd

from wcse_lib import budget
from wcse_lib.budget import MATCHED_WITHIN, SampleCost, charged_prompts, cost_of, flops_cost_model
from wcse_lib.store import query, read_json, sample_table
from wcse_lib.study import ModelFacts, Run

APART = 1.2  # exchange ratios that differ by more are told
MEAN_LENGTHS = """
    SELECT avg(n_tokens) FILTER (n_tokens >= 0) AS tokens_per_sample,
        avg(n_prompt_tokens) FILTER (n_prompt_tokens >= 0) AS prompt_tokens
    FROM samples WHERE finish_reason <> 'error'
"""


def cost_models(run: Run) -> dict[str, str]:
    """The cost models that stand side by side, by what they are called: FLOPs as the budget counts them, price as a
    list says it, the device-seconds of the pilot, and USD as they are paid."""
    flops = flops_cost_model(run.study, run.plan.plain_arms())
    return {"FLOPs": flops, "price": "price", "seconds": "seconds", "USD": "usd"}


def exchange_ratios(run: Run) -> pd.DataFrame:
    """Samples of each arm (columns) for one of the reference's, by each of `cost_models` (rows); NaN where an arm lacks
    what a cost model needs. Lengths are as measured; where one is unknown all are taken as equal, and prompts as free.
    """
    return _ratios(run, _costs(run, _facts(run)))


def _ratios(run: Run, costs: dict[str, SampleCost]) -> pd.DataFrame:
    reference, prompts = run.study.budget.reference, _prompts(run)
    ratios = {}
    for name, cost_model in cost_models(run).items():
        each = {arm: _cost(of_arm, cost_model, prompts) for arm, of_arm in costs.items()}
        ratios[name] = {arm: each[reference] / one for arm, one in each.items()}
    return pd.DataFrame.from_dict(ratios, orient="index", columns=list(costs))


def true_cost_table(run: Run) -> pd.DataFrame:
    """One row per arm with a model: what its finished 02 or the pilot measured (tokens of a sample and its prompt,
    tokens per second), what a sample costs in FLOPs and USD, USD per million tokens of answers by list and as paid, and
    how many of its samples cost as much as one of the reference's by each cost model. What is not known of any arm is
    left out."""
    rows, measured = [], _facts(run)
    costs = _costs(run, measured)
    ratios, prompt = _ratios(run, costs), _prompts(run)
    flops = cost_models(run)["FLOPs"]
    n_devices = run.plan.machine.n_devices if run.plan.machine else 1.0
    for name, of_arm in costs.items():
        facts = measured[name]
        length = facts.tokens_per_sample
        row = {
            "arm": name,
            "tokens_per_sample": length,
            "prompt_tokens": facts.prompt_tokens,
            "tokens_per_second": _per(length, facts.seconds_per_sample, n_devices),
            "flops_per_sample": _cost(of_arm, flops, prompt) if length else None,
            "usd_per_sample": _cost(of_arm, "usd", prompt) if length else None,
            "price_per_million_tokens": (facts.price.output or None) if facts.price else None,
        }
        row["usd_per_million_tokens"] = _per(row["usd_per_sample"], length, 1e6)
        by_model = {
            f"samples for one, by {model}": ratios.loc[model, name] for model in ratios.index
        }
        rows.append(row | by_model)
    return pd.DataFrame(rows).dropna(axis=1, how="all")


def disagreements(run: Run) -> list[str]:
    """A sentence for every arm that one cost model calls cheaper than the reference arm and another dearer, or whose
    exchange ratios differ by more than APART."""
    ratios, reference = exchange_ratios(run), run.study.budget.reference
    sentences = []
    for arm in ratios.columns.drop(reference):
        known = ratios[arm].dropna()
        if len(known) < 2:
            continue
        least, most = known.min(), known.max()
        shown = ", ".join(f"{ratio:.3g} by {model}" for model, ratio in known.items())
        if least < 1 - MATCHED_WITHIN and most > 1 + MATCHED_WITHIN:
            conclusion = (
                "they name different winners: which of the two gets more samples depends on them"
            )
        elif most > APART * least:
            conclusion = f"their exchange ratios differ by {100 * (most / least - 1):.0f} %"
        else:
            continue
        sentences.append(
            f"The cost models disagree about {arm}: one sample of {reference} is worth {shown} of its samples, so "
            f"{conclusion}. This study counts by {run.study.budget.match}."
        )
    return sentences


def opening(run: Run) -> list[str]:
    """The first sentences of 01, as Markdown: where cost models disagree, and which study this is."""
    study = run.study
    warnings = [f"**{sentence}**" for sentence in disagreements(run)]
    return [*warnings, f"**{study.study}**: {study.title} Plan `{run.plan_id}`, seed {study.seed}."]


def _facts(run: Run) -> dict[str, ModelFacts]:
    """What is known of every arm with a model; of one whose 02 is finished, what that measured."""
    return {name: _measured(run, name, arm) for name, arm in run.plan.plain_arms().items()}


def _measured(run: Run, name: str, arm: ModelFacts) -> ModelFacts:
    if not run.complete("02", name):
        return arm
    seconds = read_json(run.path("02", name, "manifest.json")).get("seconds_per_sample")
    lengths = query(MEAN_LENGTHS, samples=sample_table(run.path("02", name))).iloc[0]
    found = dict(lengths.dropna()) | ({"seconds_per_sample": seconds} if seconds else {})
    return arm.model_copy(update=found)


def _costs(run: Run, arms: dict[str, ModelFacts]) -> dict[str, SampleCost]:
    """What a sample of every arm costs; lengths of which one is not known count as equal."""
    batch, machine = run.study.budget.batch, run.plan.machine
    equal = {}
    if any(arm.tokens_per_sample is None for arm in arms.values()):
        equal["n_tokens"] = 1.0
    if equal or any(arm.prompt_tokens is None for arm in arms.values()):
        equal["n_prompt_tokens"] = 0.0
    return {name: cost_of(arm, batch, machine, **equal) for name, arm in arms.items()}


def _prompts(run: Run) -> str:
    return charged_prompts(run.study, run.plan.plain_arms())


def _cost(of_arm: SampleCost, cost_model: str, prompt: str) -> float:
    """What a sample costs; NaN where the arm lacks what the cost model needs."""
    try:
        return budget.cost(of_arm, cost_model, 1, prompt)
    except ValueError:
        return float("nan")


def _per(amount: float | None, of: float | None, times: float = 1.0) -> float | None:
    return times * amount / of if amount is not None and of else None
