"""How many samples of every arm a budget buys, and what one sample is worth in samples of another arm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
import pandas as pd

from wcse_lib.budget.costs import COST_MODELS, PROMPTS, SampleCost, cost
from wcse_lib.budget.numbers import check_count, check_positive

MATCHED = ["budget", "arm", "exchange_ratio", "n_samples", "planned", "reference"]


def matched_samples(se_samples: int, se_cost: float, wc_cost: float) -> int:
    """How many wc samples the budget of `se_samples` se samples buys, never overspending.

    Costs are per sample (or per token, at equal lengths) in one unit: 27 and 9 billion parameters give 3 for 1, prices
    of 10.5 and 0.3 USD give 35. Raises ValueError for counts that are not whole and positive, for costs that are not
    finite and positive, and when the budget buys no wc sample at all. Bansal et al. 2024 (2408.16737), section 3.

    >>> matched_samples(10, se_cost=27e9, wc_cost=9e9)
    30
    """
    check_count(se_samples=se_samples)
    check_positive(se_cost=se_cost, wc_cost=wc_cost)
    se, wc = Fraction(float(se_cost)), Fraction(float(wc_cost))
    n_bought = bought(int(se_samples) * se, wc)
    if n_bought < 1:
        raise ValueError(
            f"the budget buys 0 samples: {se_samples} at {se_cost:g} each cost less than one at {wc_cost:g}; give the "
            f"reference arm at least {math.ceil(wc / se)} samples per problem"
        )
    return n_bought


def bought(money: Fraction, each: Fraction) -> int:
    """How many at a cost of `each` the money buys; a float's rounding error (3 - 1e-15) does not lose one."""
    exact = money / each
    near = round(exact)
    if abs(near - exact) * 10**12 <= near:
        return near
    return math.floor(exact)


def match(
    cost_model: str,
    reference: str,
    arms: Mapping[str, SampleCost],
    n_samples: Mapping[str, int],
    prompt="each",
) -> pd.DataFrame:
    """Samples per problem, for every arm and budget, that cost what the reference arm's `n_samples` (by budget) cost.

    Returns rows budget × arm: exchange_ratio (samples for one of the reference's), n_samples, planned and reference
    (per problem, in the cost model's unit). Whole samples only: part of a budget may stay unspent. Raises ValueError
    when an arm gets no sample, or lacks what the cost model needs.
    """
    _check_reference(reference, arms)
    rows = []
    for budget, n in n_samples.items():
        check_count(n_samples=n)
        for name, arm in arms.items():
            one, two = _first_two(name, arm, cost_model, prompt)
            aim = cost(arms[reference], cost_model, n, prompt)
            # a prompt counted once comes first, and further samples cost the difference
            further = Fraction(two) - Fraction(one)
            spare = Fraction(aim) - (Fraction(one) - further)
            k = bought(spare, further)
            if k < 1:
                raise ValueError(f"{name}: the budget buys 0 samples; raise n_samples = {n}")
            ratio = cost(arms[reference], cost_model, 1, prompt) / one
            planned = cost(arm, cost_model, k, prompt)
            rows.append([budget, name, ratio, k, planned, aim])
    return pd.DataFrame(rows, columns=MATCHED)


def match_by_curves(
    aimed_at: str, reference: str, curves: Mapping[str, np.ndarray], n_samples: Mapping[str, int]
) -> pd.DataFrame:
    """Samples per problem of every arm that give the examples or coverage (`aimed_at`) of the reference's `n_samples`.

    `curves`: by arm its expected value after 1, 2, … samples (a pilot's estimates, see forecast). Returns rows as
    `match`. Raises ValueError when an arm misses the aim within its curve, or the reference's curve is too short.
    """
    _check_reference(reference, curves)
    rows = []
    for budget, n in n_samples.items():
        check_count(n_samples=n)
        if n > len(curves[reference]):
            raise ValueError(
                f"match by {aimed_at}: curves: a pilot's values after 1 to {n} samples are needed for every arm"
            )
        aim = curves[reference][n - 1]
        for name, curve in curves.items():
            values = np.asarray(curve, float)
            reached = values >= aim * (1 - 1e-9)
            if not reached.any():
                raise ValueError(
                    f"{name}: {len(curve)} samples miss {reference}'s {aimed_at}; lower n_samples = {n}"
                )
            k = int(reached.argmax()) + 1
            rows.append([budget, name, k / n, k, values[k - 1], aim])
    return pd.DataFrame(rows, columns=MATCHED)


def exchange(
    reference: str, arms: Mapping[str, SampleCost], n_samples: int = 1, prompt: str = "each"
) -> pd.DataFrame:
    """Cost model × arm: what one sample of the reference is worth, when it draws `n_samples` of a problem.

    Returns rows of cost_model, arm, exchange_ratio (samples for one of the reference's, fractions too; NaN where the
    arm lacks something), leaves_out (what the cost model leaves out, or what the arm lacks for it). The cost model
    "prompt" stands once for every way to count prompts ("prompt·once"); attention and price take `prompt`.
    """
    _check_reference(reference, arms)
    rows = []
    for cost_model, model in COST_MODELS.items():
        for way in PROMPTS[1:] if cost_model == "prompt" else [prompt]:
            shown = f"prompt·{way}" if cost_model == "prompt" else cost_model
            for name, arm in arms.items():
                ratio, note = np.nan, model.leaves_out
                try:
                    money = cost(arms[reference], cost_model, n_samples, way)
                    one, two = _first_two(name, arm, cost_model, way)
                    n_bought = money / one
                    if money >= one:
                        n_bought = 1 + (money - one) / (two - one)
                    ratio = n_bought / n_samples
                except ValueError as error:
                    note = str(error)
                if model.judged and arm.judge.get(model.unit):
                    note += " + judging, as the pilot's"
                rows.append((shown, name, ratio, note))
    return pd.DataFrame(rows, columns=["cost_model", "arm", "exchange_ratio", "leaves_out"])


def _first_two(name: str, arm: SampleCost, cost_model: str, prompt: str) -> tuple[float, float]:
    """Cost of one sample and of two. Raises ValueError where the second is free."""
    one, two = (cost(arm, cost_model, n, prompt) for n in (1, 2))
    if two <= one:
        raise ValueError(
            f"{name}: another sample costs nothing by {cost_model}; match by another cost model"
        )
    return one, two


def _check_reference(reference: str, arms: Mapping) -> None:
    if reference not in arms:
        raise ValueError(f"reference = {reference!r}: no such arm; arms are {', '.join(arms)}")
