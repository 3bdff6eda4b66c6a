"""Planned against spent, and forecast against outcome, read from a study's own files."""

from __future__ import annotations

import pandas as pd

from wcse_lib.budget.costs import UNITS, sampling_flops
from wcse_lib.store import iter_samples, read_json
from wcse_lib.study import Run

PAID = [
    "problem_id",
    "sample_index",
    "n_tokens",
    "n_prompt_tokens",
    "finish_reason",
    "model",
    "usd",
]
LOST = {"truncated": "length", "failed": "error"}


def ledger_table(run: Run) -> pd.DataFrame:
    """Every amount that was planned or spent: who, stage, kind, unit, planned, spent, ratio, matched (within 1 %); an
    amount on one side only counts 0 on the other.

    Kinds of an arm, by budget: `sampling` (all its samples, failed and truncated ones too), `truncated` and `failed` (the
    part of it that was lost so; nobody plans for it), `prompt`; and `judge`, `pilot`. Of students: `training`,
    `evaluation`. Units: tokens, flops, usd, seconds, each where it is known. A mix or an adaptive arm is charged for the
    samples that it copied, as if drawn for it. Planned lengths are the plan's, or where it knows none the reference
    arm's mean, which is the matching rule's own assumption and says nothing of that arm itself (`matched` is empty there). Seconds stand at the largest
    budget alone, every sample at its model's mean.
    """
    booked: list[tuple] = []

    def book(who: str, stage: str, kind: str, plan: dict, spend: dict) -> None:
        for unit in UNITS:
            amounts = plan.get(unit), spend.get(unit)
            if amounts != (None, None):
                booked.append((who, stage, kind, unit, *(float(x or 0) for x in amounts)))

    samples = {arm: _amounts(run, arm) for arm in run.plan["arms"]}
    for arm, rows in samples.items():
        for b in run.arm(arm)["samples"]:
            drawn = rows[rows["budget"] == b]
            lost = {kind: drawn[drawn["finish_reason"] == why] for kind, why in LOST.items()}
            whole = drawn[drawn["finish_reason"] != "error"]
            for kind, column in {"sampling": "n_tokens", "prompt": "n_prompt_tokens"}.items():
                if len(whole) and (whole[f"known_{column}"] == whole["n"]).all():
                    plan = (
                        _planned(run, arm, b, samples)
                        if kind == "sampling"
                        else _planned_prompts(run, arm, b)
                    )
                    book(arm, "02_generate", f"{kind} ({b})", plan, _spent(run, drawn, column))
            for kind in (kind for kind in lost if len(lost[kind])):
                book(arm, "02_generate", f"{kind} ({b})", {}, _spent(run, lost[kind], "n_tokens"))
        most = max(run.arm(arm)["samples"], key=run.arm(arm)["samples"].get)
        drawn = rows[rows["budget"] == most]
        took = drawn["n"] * drawn["model"].map(_seconds(run)).astype(float)
        each = [
            (k, run.arm(part).get("seconds_per_sample"))
            for part, k in run.shares(arm, most).items()
        ]
        plan = (
            sum(k * x for k, x in each) * run.plan["n_problems"]["train"]
            if all(x for _, x in each)
            else None
        )
        seconds = float(took.sum()) if len(took) and took.notna().all() else None
        book(arm, "02_generate", f"sampling ({most})", {"seconds": plan}, {"seconds": seconds})
        if (path := run.path("03", arm, "judge.json")).exists():
            cost = read_json(path)
            tokens = {"tokens": cost.get("n_tokens", 0) + cost.get("n_prompt_tokens", 0)}
            book(arm, "03_verify", "judge", {}, _units(cost) | tokens)
    for arm, found in run.plan.get("pilot", {}).items():
        book(
            arm, "01_plan", "pilot", _units(found["spent"]), _units(found["spent"])
        )  # spent before the plan was made
    for student, entry in run.plan["students"].items():
        if entry["source"] != "base" and (path := run.path("04", student, "report.json")).exists():
            report = read_json(path)
            cost = {
                "tokens": report["n_tokens"],
                "flops": report["spent_flops"],
                "seconds": report.get("seconds"),
            }
            book(student, "04_finetune", "training", {"flops": report["planned_flops"]}, cost)
        if (path := run.path("05", student, "manifest.json")).exists():
            parts = [part for part in read_json(path).values() if isinstance(part, dict)]
            tokens = sum(part.get("n_tokens", 0) + part.get("n_prompt_tokens", 0) for part in parts)
            cost = {
                "tokens": tokens,
                "flops": sampling_flops(entry["n_parameters"], tokens),
                "seconds": sum(part.get("seconds", 0) for part in parts),
            }
            book(student, "05_evaluate", "evaluation", {}, cost)
    table = pd.DataFrame(booked, columns=["who", "stage", "kind", "unit", "planned", "spent"])
    table["ratio"] = table["spent"] / table["planned"].where(table["planned"] > 0)
    matched = ((table["spent"] - table["planned"]).abs() <= 0.01 * table["planned"]).astype(
        "boolean"
    )
    own = (
        table["who"].isin([arm for arm in samples if _own_length(run, arm)])
        & table["kind"].str.startswith("sampling")
        & (table["unit"] != "seconds")
    )
    return table.assign(matched=matched.mask(own))


def _own_length(run: Run, arm: str) -> bool:
    """Whether an arm's planned tokens are what it spent, since the plan knows no length and the rule takes this arm's."""
    return arm == run.study.budget.reference and not run.arm(arm).get("tokens_per_sample")


def _amounts(run: Run, arm: str) -> pd.DataFrame:
    """An arm's samples added up by budget, model and finish_reason: `n`, and of tokens and USD the sum of the known ones
    and how many are known (`known_n_tokens`, …)."""
    sums = []
    for rows in iter_samples(run.path("02", arm), PAID):
        for column in ("n_tokens", "n_prompt_tokens", "usd"):
            known = rows[column].astype(float) >= 0
            rows[column], rows[f"known_{column}"] = (
                rows[column].astype(float).where(known, 0.0),
                known,
            )
        rows["n"] = 1
        for b in run.arm(arm)["samples"]:
            groups = run.rows_of_budget(rows, arm, b).groupby(
                ["model", "finish_reason"], as_index=False
            )
            sums.append(groups.sum(numeric_only=True).assign(budget=b))
    columns = [
        "budget",
        "model",
        "finish_reason",
        "n",
        *(x + c for x in ("", "known_") for c in ("n_tokens", "n_prompt_tokens", "usd")),
    ]
    table = pd.concat(sums) if sums else pd.DataFrame(columns=columns)
    return table[columns].groupby(columns[:3], as_index=False).sum()


def _seconds(run: Run) -> dict[str, float]:
    """What a sample took to draw, by model, as the plain arms measured it."""
    facts = {
        a["model"]: read_json(run.path("02", arm, "manifest.json"))
        for arm, a in run.plan["arms"].items()
        if run.study.arms[arm].model
    }
    return {
        model: found["seconds_per_sample"]
        for model, found in facts.items()
        if "seconds_per_sample" in found
    }


def _units(amounts: dict) -> dict:
    return {unit: amounts[unit] for unit in UNITS if amounts.get(unit)}


def flops_per_token(run: Run) -> dict[str, float]:
    """2·P by model, as the plan counts P; a row's `model` says who drew it, whoever is charged."""
    arms = (a for a in run.plan["arms"].values() if a["model"])
    return {a["model"]: a["planned_flops_per_token"] for a in arms if a["planned_flops_per_token"]}


def _spent(run: Run, rows: pd.DataFrame, column: str) -> dict:
    each, tokens = rows["model"].map(flops_per_token(run)).astype(float), rows[column]
    known = {
        "tokens": float(tokens.sum()),
        "flops": float((each * tokens).sum()) if each.notna().all() else None,
    }
    if (
        column == "n_prompt_tokens" or rows["known_usd"].any()
    ):  # a sample's price holds its prompt's
        return known | {"usd": float(rows["usd"].sum()) if column == "n_tokens" else None}
    prices = {a["model"]: a["price"]["output"] for a in run.plan["arms"].values() if a.get("price")}
    priced = rows["model"].map(prices).astype(float)
    return known | {"usd": float((priced * tokens).sum()) / 1e6 if priced.notna().all() else None}


def _planned(run: Run, arm: str, b: str, samples: dict[str, pd.DataFrame]) -> dict:
    """Tokens, FLOPs and USD that the plan gives an arm's samples at a budget."""
    b_, n, out = (
        run.study.budget,
        run.plan["n_problems"]["train"],
        {"tokens": 0.0, "flops": 0.0, "usd": 0.0},
    )
    for part, k in run.shares(arm, b).items():
        like, known = (part if b_.lengths == "measured" else b_.reference), run.arm(part)
        drawn = (
            samples[like].loc[samples[like]["budget"] == b, ["n_tokens", "known_n_tokens"]].sum()
        )
        mean = (
            drawn["n_tokens"] / drawn["known_n_tokens"] if drawn["known_n_tokens"] else float("nan")
        )
        tokens = n * k * (run.arm(like).get("tokens_per_sample") or mean)
        price = known["price"] and known["price"]["output"] / 1e6
        rate = {"tokens": 1.0, "flops": known["planned_flops_per_token"], "usd": price}
        bill = dict.fromkeys(out, 0.0) | {
            "usd": _prompts_usd(run, part, n * k)
        }  # an endpoint's bill holds its prompts
        fine = {
            unit: None not in (out[unit], rate[unit], bill[unit]) and not pd.isna(tokens)
            for unit in out
        }
        out = {
            unit: out[unit] + tokens * rate[unit] + bill[unit] if fine[unit] else None
            for unit in out
        }
    return out


def _prompts_usd(run: Run, part: str, n_samples: float) -> float | None:
    """What an endpoint will bill for prompts, one with every sample; None where their length or price is not known."""
    plan = run.arm(part)
    if run.study.arms[part].engine != "openai":
        return 0.0
    each, price = plan.get("prompt_tokens"), (plan["price"] or {}).get("input")
    return None if each is None or price is None else n_samples * each * price / 1e6


def _planned_prompts(run: Run, arm: str, b: str) -> dict:
    """Prompt tokens of every sample where the plan knows their length: what an engine without a shared prefix reads."""
    each = {part: run.arm(part).get("prompt_tokens") for part in run.shares(arm, b)}
    if not all(each.values()):
        return {}
    n = {
        part: run.plan["n_problems"]["train"] * k * each[part]
        for part, k in run.shares(arm, b).items()
    }
    flops = [run.arm(part)["planned_flops_per_token"] for part in n]
    return {
        "tokens": sum(n.values()),
        "flops": sum(x * f for x, f in zip(n.values(), flops)) if all(flops) else None,
    }
