"""How many samples of every arm each budget of a study buys, under the cost model that its params file names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from wcse_lib.budget.allocate import mix_counts
from wcse_lib.budget.buying import match, match_by_curves
from wcse_lib.budget.costs import COST_MODELS, SampleCost, cost
from wcse_lib.store import StudyError
from wcse_lib.study import (
    Amounts,
    ImportedArm,
    MachinePrice,
    ModelFacts,
    PlannedAdaptive,
    PlannedArm,
    PlannedDrawn,
    PlannedImported,
    PlannedMixed,
    Study,
    sum_of,
)

PlainArm = PlannedDrawn | PlannedImported
MATCHED_WITHIN = 0.01  # of the reference arm's budget


# ---------------------------------------------------------------------- what a sample costs


def cost_of(
    facts: ModelFacts, batch: bool = False, machine: MachinePrice | None = None, **changes
) -> SampleCost:
    """What a sample of an arm costs, as the budget module counts it; unknown lengths count as one token.

    Args: batch: whether the budget counts all arms at the batch price; those that are bought so are in any case;
    machine: what an hour of the machine costs that draws, where that is known.
    """
    machine_usd = None
    if machine and facts.seconds_per_sample:
        machine_usd = machine.amounts(facts.seconds_per_sample / machine.n_devices).usd
    known = {
        "n_tokens": facts.tokens_per_sample or 1.0,
        "n_prompt_tokens": facts.prompt_tokens or 0.0,
        "size": facts.size or facts.n_parameters,
        "active": None if facts.size else facts.n_active_parameters,
        "device_seconds": facts.seconds_per_sample,
        "machine_usd": machine_usd,
        "price": facts.price,
        "is_billed": facts.is_billed,
        "judge": facts.judge or {},
        "batch": batch or facts.engine == "batch",
    }
    return SampleCost(**(known | changes))


def charged_prompts(study: Study, known: Mapping[str, ModelFacts]) -> str:
    """How a study's budget charges prompts, one of `costs.PROMPTS`.

    As `budget.prompt_tokens` says; `known` is "each" where the prompts of all arms, and the answers' lengths that the
    budget takes, are known (matched by price, prices of prompts too), else "none".
    """
    terms = study.budget
    if terms.prompt_tokens != "known":
        return terms.prompt_tokens
    arms = known.values()
    lengths_of = arms if terms.lengths == "measured" else [known[terms.reference]]
    are_known = all(facts.tokens_per_sample is not None for facts in lengths_of)
    are_known = are_known and all(facts.prompt_tokens is not None for facts in arms)
    if terms.match == "price":
        has_price = all(facts.price and facts.price.input is not None for facts in arms)
        are_known = are_known and has_price
    return "each" if are_known else "none"


def matched_costs(study: Study, known: Mapping[str, ModelFacts]) -> dict[str, SampleCost]:
    """Every arm's cost as the study's budget says it is counted. Raises StudyError naming what is not known for it."""
    terms, counted = study.budget, {}
    counts_prompts = terms.attention or charged_prompts(study, known) != "none"
    for name, facts in known.items():
        lengths_of = facts if terms.lengths == "measured" else known[terms.reference]
        _check_known(study, name, facts, lengths_of, counts_prompts)
        n_active = facts.n_active_parameters or facts.n_parameters
        n_tokens = lengths_of.tokens_per_sample or 1.0
        counted[name] = cost_of(facts, terms.batch, n_tokens=n_tokens, active=n_active)
    return counted


def _check_known(
    study: Study, name: str, facts: ModelFacts, lengths_of: ModelFacts, counts_prompts: bool
) -> None:
    terms = study.budget
    needs_lengths = counts_prompts or terms.lengths == "measured"
    if needs_lengths and lengths_of.tokens_per_sample is None:
        raise StudyError(
            f"arms.{name}.tokens_per_sample: budget.lengths = {terms.lengths}, budget.attention and "
            "budget.prompt_tokens need lengths that are known: add a pilot, or set it"
        )
    if counts_prompts and facts.prompt_tokens is None:
        raise StudyError(
            f"budget.prompt_tokens = {terms.prompt_tokens}: the prompts of {name} have no known length; "
            "add a pilot"
        )
    if terms.match == "seconds" and facts.seconds_per_sample is None:
        raise StudyError(
            f"budget.match = seconds: how long a sample of {name} takes is not known; "
            "add a pilot that draws it"
        )


def flops_cost_model(study: Study, known: Mapping[str, ModelFacts]) -> str:
    """The cost model by which the study's budget counts FLOPs."""
    if study.budget.attention:
        return "attention"
    return "active" if charged_prompts(study, known) == "none" else "prompt"


# ---------------------------------------------------------------------- what a budget buys


@dataclass(frozen=True)
class Spend:
    """How the samples of a problem are paid for, in one unit.

    `first` and `more` are the cost of an arm's first sample of a problem and of each further one (a prompt that is
    charged once makes the first one dearer); `budgets` are the reference arm's, by name.
    """

    unit: str
    first: dict[str, float]
    more: dict[str, float]
    budgets: dict[str, float]

    def once(self, arm: str) -> float:
        """What an arm's samples of a problem cost beside their number."""
        return self.first[arm] - self.more[arm]

    def cost(self, parts: Mapping[str, float]) -> float:
        """What so many samples of each arm cost together."""
        drawn = {arm: n for arm, n in parts.items() if n > 0}
        return sum(n * self.more[arm] + self.once(arm) for arm, n in drawn.items())

    def average(self, budget_name: str) -> dict[str, float]:
        """What a sample of every arm costs on average when the whole budget goes to it."""
        money = self.budgets[budget_name]
        least = 1e-9 * money
        return {
            arm: money * more / max(money - self.once(arm), least)
            for arm, more in self.more.items()
        }


def match_arms(
    study: Study,
    known: Mapping[str, ModelFacts],
    n_problems: int,
    curves: Mapping[str, np.ndarray] | None = None,
) -> tuple[dict[str, PlainArm], Spend]:
    """Every plain arm with its samples per problem at every budget, and how they are paid for.

    Args: known: arms with a model; n_problems: training problems, for the planned amounts; curves: for budget.match:
    examples or coverage, what 1, 2, … samples of each arm are expected to give. Raises StudyError when a budget buys no
    sample of an arm, or something that the cost model needs is not known.
    """
    terms = study.budget
    costs = matched_costs(study, known)
    by = flops_cost_model(study, known) if terms.match == "flops" else terms.match
    prompts = charged_prompts(study, known)
    try:
        if curves is None:
            table = match(by, terms.reference, costs, terms.samples, prompts)
        else:
            table = match_by_curves(terms.match, terms.reference, curves, terms.samples)
        spend = _spend(study, known, costs, by)
    except ValueError as error:
        raise StudyError(
            f"budget.match = {terms.match}, budget.samples = {dict(terms.samples)}: {error}"
        ) from None
    arms = {}
    for name, rows in table.groupby("arm", sort=False):
        samples = dict(zip(rows["budget"], map(int, rows["n_samples"])))
        used = rows["planned"] / rows["reference"]
        parameters = known[name].n_active_parameters or known[name].n_parameters
        kind = PlannedImported if isinstance(study.arms[name], ImportedArm) else PlannedDrawn
        planned = {
            budget_name: planned_amounts(study, known, {name: n}, n_problems)
            for budget_name, n in samples.items()
        }
        arms[name] = kind(
            **dict(known[name]),
            samples=samples,
            exchange_ratio=float(rows["exchange_ratio"].iloc[-1]),
            budget_used=dict(zip(rows["budget"], map(float, used))),
            planned=planned,
            planned_flops_per_token=2.0 * parameters if parameters else None,
        )
    return arms, spend


def _spend(study: Study, known: Mapping, costs: Mapping[str, SampleCost], by: str) -> Spend:
    """How samples are paid for; budgets matched by examples or coverage are paid in FLOPs where sizes are known."""
    terms = study.budget
    if terms.match in ("examples", "coverage"):
        by = "active" if all(facts.n_parameters for facts in known.values()) else "count"
    prompts, first, more = charged_prompts(study, known), {}, {}
    for name, of_sample in costs.items():
        first[name] = cost(of_sample, by, 1, prompts)
        more[name] = cost(of_sample, by, 2, prompts) - first[name]
    reference = terms.reference
    budgets = {
        budget_name: first[reference] + (n - 1) * more[reference]
        for budget_name, n in terms.samples.items()
    }
    return Spend(COST_MODELS[by].unit, first, more, budgets)


def planned_amounts(
    study: Study, known: Mapping[str, ModelFacts], parts: Mapping[str, float], n_problems: int
) -> Amounts:
    """What so many samples a problem of each arm are planned to cost over all problems and draws, as the budget
    counts them: each draw has the whole budget, and reads its prompts anew.

    This is the one place where planned amounts are worked out: 01 writes them into the plan, the ledger and the dry run
    call it with the lengths that they know. A unit is unknown where a length, a size or a price is not known.
    Judging is not in it. An endpoint bills prompts
    whatever the budget counts: where their length is known, its USD hold them.
    """
    if any(known[arm].tokens_per_sample is None for arm in parts):
        return Amounts()
    costs = matched_costs(study, known)
    by, prompts = flops_cost_model(study, known), charged_prompts(study, known)
    each = [_amounts_of(known[arm], costs[arm], n, by, prompts) for arm, n in parts.items()]
    return sum_of(each).times(n_problems * study.n_draws)


def _amounts_of(
    facts: ModelFacts, of_sample: SampleCost, n: float, by: str, prompts: str
) -> Amounts:
    """What n samples of a problem cost, FLOPs by the cost model `by`."""
    has_prompts_in_bill = facts.is_billed and prompts in ("none", "once")
    of_sample = replace(of_sample, judge={})
    return Amounts(
        tokens=n * of_sample.n_tokens,
        prompt_tokens=None if facts.prompt_tokens is None else n * facts.prompt_tokens,
        flops=_cost_or_none(of_sample, by, n, prompts),
        seconds=_cost_or_none(of_sample, "seconds", n, prompts),
        usd=_cost_or_none(of_sample, "price", n, "each" if has_prompts_in_bill else prompts),
    )


def _cost_or_none(of_sample: SampleCost, by: str, n: float, prompts: str) -> float | None:
    try:
        return cost(of_sample, by, n, prompts)
    except ValueError:
        return None


# ---------------------------------------------------------------------- arms made of other arms


def mixed_arm(
    study: Study,
    name: str,
    arms: Mapping[str, PlainArm],
    spend: Spend,
    shares: Mapping[str, float],
    n_problems: int,
    in_file: Mapping[str, pd.Series],
) -> PlannedMixed:
    """The plan of a mix: a share of each budget buys so many samples of a part, and no more than the part draws.

    Args: in_file: of imported arms, samples of every training problem. Raises StudyError where a budget buys no sample.
    """
    parts: dict[str, dict[str, float]] = {}
    for budget_name, money in spend.budgets.items():
        part = {
            arm: _bought(share * money, spend, arm, _most(arms[arm], budget_name))
            for arm, share in shares.items()
        }
        if sum(part.values()) <= 0:
            raise StudyError(
                f"arms.{name}.mix: budget {budget_name!r} buys no sample at these shares; "
                f"raise budget.samples.{budget_name}"
            )
        parts[budget_name] = part
    held = _held_parts(study, parts, in_file)
    samples, used, planned = {}, {}, {}
    for budget_name, money in spend.budgets.items():
        part = held.get(budget_name, parts[budget_name])
        most = [min(n, arms[arm].samples[budget_name]) for arm, n in parts[budget_name].items()]
        samples[budget_name] = max(1, round(sum(most)))
        used[budget_name] = spend.cost(part) / money
        planned[budget_name] = planned_amounts(study, arms, part, n_problems)
    largest = study.budget.largest
    n_reference = max(study.budget.samples.values())
    return PlannedMixed(
        shares=dict(shares),
        parts=parts,
        held_parts=held,
        samples=samples,
        exchange_ratio=sum(parts[largest].values()) / n_reference,
        budget_used=used,
        planned=planned,
        planned_flops_per_token=_mean_flops(arms, held.get(largest, parts[largest])),
    )


def _most(arm: PlainArm, budget_name: str) -> int:
    """The most samples of a problem that a budget buys of an arm, be they in its file or not."""
    bought = arm.bought if isinstance(arm, PlannedImported) else {}
    return bought.get(budget_name, arm.samples[budget_name])


def _held_parts(
    study: Study, parts: Mapping[str, Mapping[str, float]], in_file: Mapping[str, pd.Series]
) -> dict[str, dict[str, float]]:
    """A mix's parts as the files of imported arms hold them, at the budgets where these hold fewer than it takes."""
    n_in_file = next((n for n in in_file.values() if len(n)), None)
    if n_in_file is None:
        return {}
    held: dict[str, dict[str, float]] = {}
    counts = mix_counts(parts, list(n_in_file.index), study.seed)
    for (budget_name, part), rows in counts.groupby(["budget", "part"]):
        if part not in in_file:
            continue
        wanted = rows.set_index("problem_id")["n"]
        there = np.minimum(wanted, in_file[part].reindex(wanted.index))
        if there.sum() < wanted.sum():
            of_budget = held.setdefault(budget_name, dict(parts[budget_name]))
            of_budget[part] = float(there.sum()) / len(n_in_file)
    return held


def _bought(money: float, spend: Spend, arm: str, most: int) -> float:
    """Samples of a problem that the money buys, between none and what the arm draws."""
    n = (money - spend.once(arm)) / spend.more[arm]
    return min(max(0.0, n), float(most))


def _mean_flops(arms: Mapping[str, PlainArm], parts: Mapping[str, float]) -> float | None:
    """FLOPs per token over the samples of a mix; None where a part's size is not known."""
    each = {arm: arms[arm].planned_flops_per_token for arm in parts}
    if not all(each.values()):
        return None
    return sum(n * each[arm] for arm, n in parts.items()) / sum(parts.values())


def adaptive_arm(study: Study, name: str, arms: Mapping[str, PlainArm]) -> PlannedAdaptive:
    """The plan of an adaptive arm: all of its parent's but how samples are spread over problems."""
    rule = study.arms[name].adaptive
    parent = dict(arms[rule.of])
    parent.pop("kind")
    return PlannedAdaptive(**parent, rule=rule)


def held_arm(
    study: Study,
    name: str,
    arm: PlannedImported,
    n_in_file: pd.Series,
    known: Mapping[str, ModelFacts],
) -> PlannedImported:
    """An imported arm's plan, cut to what its file holds; unchanged where that is all that the budgets buy.

    Args: n_in_file: samples of every training problem. Where the file is uneven, every problem keeps what it has.
    """
    changes: dict[str, dict] = {
        key: dict(getattr(arm, key)) for key in ("samples", "budget_used", "planned")
    }
    bought, held, n_short = {}, {}, {}
    for budget_name, n in arm.samples.items():
        mean = float(n_in_file.clip(upper=n).mean())
        if mean == n:
            continue
        bought[budget_name], held[budget_name] = n, mean
        n_short[budget_name] = int((n_in_file < n).sum())
        changes["samples"][budget_name] = min(n, int(n_in_file.max()))
        changes["budget_used"][budget_name] *= mean / n
        amounts = planned_amounts(study, known, {name: mean}, len(n_in_file))
        changes["planned"][budget_name] = amounts
    return arm.model_copy(update=changes | {"bought": bought, "held": held, "n_short": n_short})


def unspent(arms: Mapping[str, PlannedArm]) -> Iterable[str]:
    """A sentence for every arm and budget whose samples cost over 1 % less, or more, than the reference arm's, or
    whose file holds fewer than the budget buys."""
    sentences = []
    for name, arm in arms.items():
        for budget_name, used in arm.budget_used.items():
            is_imported = isinstance(arm, PlannedImported)
            if is_imported and budget_name in arm.held:
                sentences.append(_not_met(name, arm, budget_name))
            elif abs(used - 1) > MATCHED_WITHIN:
                n = getattr(arm, "held", {}).get(budget_name, arm.samples[budget_name])
                sentences.append(
                    f"{name} uses {100 * used:.0f} % of the budget “{budget_name}” (samples a problem: "
                    f"{n:.3g}): there the arms are not matched."
                )
    return sentences


def _not_met(name: str, arm: PlannedImported, budget_name: str) -> str:
    """A budget that buys more than an imported arm's file holds."""
    mean, used = arm.held[budget_name], arm.budget_used[budget_name]
    uneven = ""
    if mean != arm.samples[budget_name]:
        uneven = (
            f" on average (at most {arm.samples[budget_name]}; {arm.n_short[budget_name]} problems "
            "have too few, and each counts with those that it has)"
        )
    return (
        f"The budget “{budget_name}” is not met by {name}: its file holds {mean:.3g} of the "
        f"{arm.bought[budget_name]} samples a problem that it buys{uneven}, {100 * used:.0f} % of the "
        "budget; there the arms are not matched."
    )
