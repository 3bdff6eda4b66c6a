"""How many samples of every arm each budget of a study buys, under the cost model that its params file names."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from wcse_lib import forecast
from wcse_lib.budget.buying import match, match_by_curves
from wcse_lib.budget.checkpoints import ModelSize, Uncounted, read_model
from wcse_lib.budget.costs import COST_MODELS, SampleCost, cost
from wcse_lib.budget.measured import PilotCounts, cost_each, joined
from wcse_lib.budget.prices import read_price
from wcse_lib.store import StudyError
from wcse_lib.study import Study, resolve, resolve_model


def describe(study: Study, name: str) -> dict:
    """What is known of an arm's model: sizes, prices and, where the params file gives it, its length."""
    arm, b, price = study.arms[name], study.budget, None
    size = _size(study, name) if arm.engine == "local" else None
    embedding = (
        size.n_parameters - size.n_non_embedding if size and b.parameters == "non_embedding" else 0
    )
    p = arm.n_parameters or (size.n_parameters - embedding if size else None)
    if p is None and b.match == "flops":
        raise StudyError(
            f"arms.{name}.n_parameters: needed for budget.match: flops, since no checkpoint of {arm.model!r} can be read"
        )
    if arm.usd_per_million_tokens:
        price = {
            "model": arm.model,
            "output": arm.usd_per_million_tokens,
            "input": arm.usd_per_million_prompt_tokens,
        }
    else:
        try:
            price = read_price(resolve(b.prices), arm.model, b.price_date)
        except StudyError as error:
            if b.match == "price":
                raise StudyError(
                    f"arms.{name}.usd_per_million_tokens: needed for budget.match: price ({error})"
                ) from None
    active = arm.n_active_parameters or (
        size.n_active - embedding if size and size.n_active < size.n_parameters else None
    )
    if active and p and active > p:
        raise StudyError(
            f"arms.{name}.n_active_parameters: {active:,.0f} are more than its {p:,.0f} parameters; a token "
            "cannot use more than there are"
        )
    return {
        "model": arm.model,
        "engine": arm.engine,
        "n_parameters": p,
        "n_active_parameters": active,
        "size": asdict(size) if size else None,
        "price": price,
        "tokens_per_sample": arm.tokens_per_sample,
        "prompt_tokens": None,
        "seconds_per_sample": None,
        "judge": None,
    }


def _size(study: Study, name: str) -> ModelSize | None:
    """The size that an arm's checkpoint tells, which a typed one has to agree with within a tenth; a damaged folder is
    refused whatever is typed. The hub is asked only where nothing is typed."""
    arm, b = study.arms[name], study.budget
    checkpoint = resolve_model(arm.model)
    if arm.n_parameters and not b.attention and not Path(checkpoint).is_dir():
        return None
    try:
        size = read_model(checkpoint)
    except Uncounted:  # packed, or of a kind that is not known
        if arm.n_parameters and not b.attention:
            return None
        raise
    embedding = size.n_parameters - size.n_non_embedding if b.parameters == "non_embedding" else 0
    for key, read in {
        "n_parameters": size.n_parameters,
        "n_active_parameters": size.n_active,
    }.items():
        if (typed := getattr(arm, key)) and abs(typed / (read - embedding) - 1) > 0.1:
            raise StudyError(
                f"arms.{name}.{key} = {typed:,.0f}: the checkpoint {checkpoint} holds {read - embedding:,}; leave the key "
                "out, or name the checkpoint that it belongs to"
            )
    return size


def cost_of(arm: dict, batch: bool = False, **changes) -> SampleCost:
    """An arm's cost as the budget module counts it; unknown lengths count as one token."""
    size = ModelSize(**arm["size"]) if arm["size"] else arm["n_parameters"]
    lengths = {
        "n_tokens": arm["tokens_per_sample"] or 1.0,
        "n_prompt_tokens": arm["prompt_tokens"] or 0.0,
    }
    facts = {
        "size": size,
        "device_seconds": arm["seconds_per_sample"],
        "price": arm["price"],
        "judge": arm["judge"] or {},
    }
    return SampleCost(**(lengths | facts | {"batch": batch} | changes))


def matched_costs(study: Study, known: dict[str, dict]) -> dict[str, SampleCost]:
    """Every arm's cost as the study's budget says it is counted. Raises StudyError naming what is not known for it."""
    b, out = study.budget, {}
    for name, arm in known.items():
        like = arm if b.lengths == "measured" else known[b.reference]
        if like["tokens_per_sample"] is None and (
            b.lengths == "measured" or b.attention or b.prompt_tokens != "none"
        ):
            raise StudyError(
                f"arms.{name}.tokens_per_sample: budget.lengths = {b.lengths}, budget.attention and budget."
                "prompt_tokens need lengths that are known: add a pilot, or set it"
            )
        if arm["prompt_tokens"] is None and (b.prompt_tokens != "none" or b.attention):
            raise StudyError(
                f"budget.prompt_tokens = {b.prompt_tokens}: the prompts of {name} have no known length; add a pilot"
            )
        if arm["seconds_per_sample"] is None and b.match == "seconds":
            raise StudyError(
                f"budget.match = seconds: how long a sample of {name} takes is not known; add a pilot that draws it"
            )
        size = ModelSize(**arm["size"]) if arm["size"] else None
        active = arm["n_active_parameters"] or arm["n_parameters"]
        size = replace(size, n_active=active) if size else active
        out[name] = cost_of(arm, b.batch, n_tokens=like["tokens_per_sample"] or 1.0, size=size)
    return out


def flops_cost_model(study: Study) -> str:
    """The cost model by which the study's budget counts FLOPs."""
    b = study.budget
    return "attention" if b.attention else "prompt" if b.prompt_tokens != "none" else "active"


def unspent(arms: dict[str, dict]) -> list[str]:
    """A sentence for every arm of a plan and budget whose samples cost over 1 % less, or more, than the reference arm's."""
    return [
        f"{name} uses {100 * used:.0f} % of the budget “{b}” (samples a problem: {arm['samples'][b]}): there the arms are not matched."
        for name, arm in arms.items()
        for b, used in arm["budget_used"].items()
        if abs(used - 1) > 0.01
    ]


def match_arms(study: Study, known: dict[str, dict], pilot: dict[str, PilotCounts]) -> dict:
    """Add every arm's samples per problem at every budget; returns how they are paid for, per problem.

    Returns unit; costs: by arm, of one sample; more: by arm, of each further one; budgets: by name, the reference arm's.
    Raises StudyError when a budget buys no sample of an arm, or something needed for the cost model is not known.
    """
    b, curves = study.budget, None
    costs = matched_costs(study, known)
    cost_model = flops_cost_model(study) if b.match == "flops" else b.match
    if b.match in ("examples", "coverage"):
        if not pilot:
            raise StudyError(
                f"budget.match = {b.match}: needs a pilot; add pilot: {{n_problems: 50, n_samples: 8}}"
            )
        most = max(100, 30 * max(b.samples.values()))
        curves = {name: _curve(study, pilot[name], most) for name in known}
        # what is matched has no cost of its own: it is counted in FLOPs, or else in samples
        is_sized = all(arm["n_parameters"] for arm in known.values())
        cost_model = "active" if is_sized else "count"
    try:
        if curves is None:
            table = match(cost_model, b.reference, costs, dict(b.samples), b.prompt_tokens)
        else:
            table = match_by_curves(b.match, b.reference, curves, dict(b.samples))
        one, two = (
            {name: cost(c, cost_model, k, b.prompt_tokens) for name, c in costs.items()}
            for k in (1, 2)
        )
    except ValueError as error:
        raise StudyError(
            f"budget.match = {b.match}, budget.samples = {dict(b.samples)}: {error}"
        ) from None
    budgets = {
        name: one[b.reference] + (n - 1) * (two[b.reference] - one[b.reference])
        for name, n in b.samples.items()
    }
    for name, rows in table.groupby("arm", sort=False):
        p = known[name]["n_active_parameters"] or known[name]["n_parameters"]
        known[name] |= {
            "samples": dict(zip(rows["budget"], map(int, rows["n_samples"]))),
            "exchange_ratio": float(rows["exchange_ratio"].iloc[-1]),
            "budget_used": dict(
                zip(rows["budget"], map(float, rows["planned"] / rows["reference"]))
            ),
            "planned_flops_per_token": 2.0 * p if p else None,
        }
    unit = COST_MODELS[cost_model].unit
    return {
        "unit": unit,
        "costs": one,
        "more": {a: two[a] - one[a] for a in one},
        "budgets": budgets,
    }


def _curve(study: Study, pilot: PilotCounts, most: int) -> np.ndarray:
    """What the pilot lets expect of 1 … `most` samples per problem: coverage, or examples."""
    ks = np.unique(np.geomspace(1, most, 30).astype(int))
    if study.budget.match == "coverage":
        values = forecast.forecast_coverage(*pilot.pair, ks)["value"]
    else:
        values = forecast.forecast_unique(*pilot.pair, pilot.groups, ks)["value"]
    return np.interp(np.arange(1, most + 1), ks, values)


def uneven(
    study: Study, name: str, known: dict[str, dict], spend: dict, pilot: dict[str, PilotCounts]
) -> dict:
    """The plan of a mix or an adaptive arm, from the arms that it draws from."""
    arm, names = study.arms[name], sorted(study.budget.samples, key=study.budget.samples.get)
    if arm.adaptive:
        return known[arm.adaptive.of] | {"adaptive": arm.adaptive.model_dump()}
    shares = _best_shares(spend, pilot, names[-1]) if arm.mix == "best" else dict(arm.mix)
    parts = {}
    for b in names:  # a share of the money buys so many samples, and no more than its arm draws
        money = {
            a: share * spend["budgets"][b] - (spend["costs"][a] - spend["more"][a])
            for a, share in shares.items()
        }
        parts[b] = {
            a: min(max(0.0, m / spend["more"][a]), float(known[a]["samples"][b]))
            for a, m in money.items()
        }
        if sum(parts[b].values()) <= 0:
            raise StudyError(
                f"arms.{name}.mix: budget {b!r} buys no sample at these shares; raise budget.samples.{b}"
            )
    last = parts[names[-1]]
    known_sizes = all(known[a]["planned_flops_per_token"] for a in last)
    flops = (
        sum(n * known[a]["planned_flops_per_token"] for a, n in last.items()) / sum(last.values())
        if known_sizes
        else None
    )
    used = {
        b: sum(
            n * spend["more"][a] + (n > 0) * (spend["costs"][a] - spend["more"][a])
            for a, n in parts[b].items()
        )
        for b in names
    }
    return {
        "model": None,
        "engine": "mix",
        "n_parameters": None,
        "mix": shares,
        "parts": parts,
        "samples": {
            b: max(1, round(sum(parts[b].values()))) for b in study.budget.samples
        },  # the mean, to a whole one
        "exchange_ratio": sum(last.values()) / study.budget.samples[names[-1]],
        "budget_used": {b: used[b] / spend["budgets"][b] for b in names},
        "planned_flops_per_token": flops,
    }


def _best_shares(spend: dict, pilot: dict[str, PilotCounts], b: str) -> dict[str, float]:
    """Budget shares of the mix whose forecast coverage at a budget is best (the same at every budget, so that they nest)."""
    each = cost_each(spend, b)
    best = forecast.best_mix(joined(pilot), each, spend["budgets"][b]).iloc[0]
    money = {a: best[a] * each[a] for a in pilot if best[a] > 0}
    return {a: float(m / sum(money.values())) for a, m in money.items()}
