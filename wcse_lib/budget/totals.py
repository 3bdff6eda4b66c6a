"""The ledger in a few lines: what every arm's sampling, and all students together, were planned to cost and cost."""

from __future__ import annotations

from enum import StrEnum

import pandas as pd

SECONDS_PER_HOUR = 3600
COUNTED_IN = ("flops", "usd", "tokens")  # the first of them that every arm's samples know
AMOUNTS = ["planned", "spent", "ratio", "usd", "hours"]


class Part(StrEnum):
    """On what something was spent: the column `part`."""

    PILOT = "pilot"
    PLAN = "planning"
    SAMPLES = "samples"
    PROMPTS = "prompts"
    VERIFICATION = "verification"
    TRAINING = "training"
    TESTS = "tests"


PART_OF = {  # (stage, kind) on the ledger; kinds that are not here are a part of another one
    ("01_plan", "pilot"): Part.PILOT,
    ("01_plan", "fit"): Part.PLAN,
    ("01_plan", "machine"): Part.PLAN,
    ("02_generate", "sampling"): Part.SAMPLES,
    ("02_generate", "prompt"): Part.PROMPTS,
    ("02_generate", "machine"): Part.SAMPLES,
    ("03_verify", "judge"): Part.VERIFICATION,
    ("03_verify", "machine"): Part.VERIFICATION,
    ("04_finetune", "fit"): Part.TRAINING,
    ("04_finetune", "training"): Part.TRAINING,
    ("04_finetune", "machine"): Part.TRAINING,
    ("05_evaluate", "evaluation"): Part.TESTS,
    ("05_evaluate", "machine"): Part.TESTS,
}
WHO = {  # whose amounts are added up
    Part.PLAN: "study",
    Part.VERIFICATION: "all arms",
    Part.TRAINING: "all students",
    Part.TESTS: "all students",
}


def totals(ledger: pd.DataFrame) -> pd.DataFrame:
    """What was planned and spent, in a line for every arm's samples and prompts, and one for each later part.

    Args: ledger: as `ledger_table` gives it. Returns who, part, unit, planned, spent, ratio, usd, hours; NaN where an
    amount is not known. An arm's samples are those of its largest budget, of which smaller ones are a part. `planned`
    and `spent` are in one unit, the first of COUNTED_IN that every arm's samples know, and `ratio` is theirs; `usd` is
    what was billed or costs by list price and, where no such price is known, the machine's time at its own. `hours`:
    that a stage held its machine.
    """
    keys = list(zip(ledger["stage"], ledger["kind"]))
    rows = ledger.assign(part=[PART_OF.get(key) for key in keys]).dropna(subset="part")
    rows = _of_largest_budget(rows)
    rows = rows.assign(who=rows["part"].map(WHO).fillna(rows["who"]))
    unit = _common_unit(rows)
    lines = []
    for (who, part), own in rows.groupby(["who", "part"], sort=False):
        machine, others = own[own["kind"] == "machine"], own[own["kind"] != "machine"]
        counted = others[others["unit"] == unit]
        planned, spent = _sum(counted, "planned"), _sum(counted, "spent")
        usd = _sum(others[others["unit"] == "usd"], "spent")
        if usd is None:
            usd = _sum(machine[machine["unit"] == "usd"], "spent")
        seconds = _sum(machine[machine["unit"] == "seconds"], "spent")
        line = {"who": who, "part": part, "unit": unit, "planned": planned, "spent": spent}
        # a plan that knows no length took it from what was spent
        is_planned = counted["matched"].notna().any()
        line["ratio"] = spent / planned if is_planned and planned and spent else None
        line |= {"usd": usd, "hours": None if seconds is None else seconds / SECONDS_PER_HOUR}
        lines.append(line)
    table = pd.DataFrame(lines, columns=["who", "part", "unit", *AMOUNTS])
    table[AMOUNTS] = table[AMOUNTS].astype(float)
    table = table.dropna(subset=AMOUNTS, how="all")
    return table.sort_values("part", key=lambda part: part.map(list(Part).index), kind="stable")


def _of_largest_budget(rows: pd.DataFrame) -> pd.DataFrame:
    """Every row without a budget, and of an arm's samples and prompts those of the budget that is the largest."""
    n_tokens = rows[(rows["kind"] == "sampling") & (rows["unit"] == "tokens")]
    largest = n_tokens.sort_values("spent").drop_duplicates("who", keep="last")
    budget_of = dict(zip(largest["who"], largest["budget"]))
    budgets = rows["budget"].fillna("")
    return rows[(budgets == "") | (budgets == rows["who"].map(budget_of))]


def _common_unit(rows: pd.DataFrame) -> str:
    samples = rows[(rows["part"] == Part.SAMPLES) & (rows["kind"] == "sampling")]
    for unit in COUNTED_IN:
        if set(samples.loc[samples["unit"] == unit, "who"]) == set(samples["who"]):
            return unit
    return COUNTED_IN[-1]


def _sum(rows: pd.DataFrame, column: str) -> float | None:
    """The sum of an amount; None where nobody knows it. The ledger counts what is unknown as 0."""
    total = float(rows[column].sum())
    return total if total > 0 else None
