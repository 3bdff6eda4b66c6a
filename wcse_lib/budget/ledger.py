"""Planned against spent, read from a study's own files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wcse_lib import store
from wcse_lib.budget.costs import sampling_flops
from wcse_lib.budget.matching import MATCHED_WITHIN, charged_prompts, planned_amounts
from wcse_lib.store import read_json
from wcse_lib.study import (
    UNITS,
    Amounts,
    MachinePrice,
    ModelFacts,
    PlannedAdaptive,
    PlannedDrawn,
    Run,
    machine_time,
)

COLUMNS = ["who", "stage", "kind", "budget", "unit", "planned", "spent"]
SHOWN_UNITS = tuple(
    unit for unit in UNITS if unit != "prompt_tokens"
)  # these are a kind of their own
# Per sample: tokens that are not known (below 0) count as unknown, never as 0.
AMOUNTS = """
    SELECT budget, draw, model, finish_reason, count(*) AS n,
        sum(n_tokens) FILTER (n_tokens >= 0) AS n_tokens,
        count(*) FILTER (n_tokens >= 0) AS known_n_tokens,
        sum(n_prompt_tokens) FILTER (n_prompt_tokens >= 0) AS n_prompt_tokens,
        count(*) FILTER (n_prompt_tokens >= 0) AS known_n_prompt_tokens,
        sum(n_prompt_tokens) FILTER (n_prompt_tokens >= 0 AND place = 0) AS first_prompts,
        sum(n_tokens * (n_prompt_tokens + n_tokens / 2.0)) AS positions,
        sum(n_prompt_tokens ** 2 / 2.0) AS prompt_positions,
        sum(n_prompt_tokens ** 2 / 2.0) FILTER (place = 0) AS first_prompt_positions,
        sum(usd) AS usd, count(usd) AS known_usd,
        sum(n_cached_tokens) FILTER (n_cached_tokens >= 0) AS cached,
        sum(n_reasoning_tokens) FILTER (n_reasoning_tokens >= 0) AS reasoning
    FROM (SELECT *, {draws} FROM (SELECT * FROM samples UNION ALL BY NAME {of_endpoints}))
    JOIN budgets {of_budget} GROUP BY ALL ORDER BY ALL
"""
# samples of an earlier version say nothing of these
OF_ENDPOINTS = """
    SELECT NULL::BIGINT AS n_cached_tokens, NULL::BIGINT AS n_reasoning_tokens WHERE false
"""
EVEN, UNEVEN = (
    "ON place < n_of_budget",
    "USING (draw, problem_id) WHERE place < n_of_budget",
)


@dataclass(frozen=True)
class Entry:
    """What somebody planned to spend, and spent, on one kind of thing."""

    who: str
    stage: str
    kind: str
    planned: Amounts
    spent: Amounts
    budget: str = ""

    def rows(self) -> Iterator[tuple]:
        """A row for every unit that one of the two knows; the other then counts 0."""
        for unit in SHOWN_UNITS:
            planned, spent = getattr(self.planned, unit), getattr(self.spent, unit)
            if planned is not None or spent is not None:
                amounts = float(planned or 0), float(spent or 0)
                yield self.who, self.stage, self.kind, self.budget, unit, *amounts


def ledger_table(run: Run) -> pd.DataFrame:
    """Every amount that was planned or spent: who, stage, kind, budget, unit, planned, spent, ratio, matched
    (within 1 %); an amount on one side only counts 0 on the other.

    Kinds of an arm, by `budget` (elsewhere empty): `sampling` (all its samples, failed and truncated ones too),
    `truncated` and `failed` (the part of it that was lost so; nobody plans for it), `prompt`; of endpoints that say so
    `cached` (the part of prompts that came from a cache) and `reasoning` (the hidden part of answers), and
    `bill_at_least` and `bill_at_most` where a kill leaves a bill open; and `judge`, `pilot`. Of students: `training`,
    `evaluation`; of on-policy ones `training` holds all that they took and is planned to be what their counterpart's
    samples and training took, and `writing` and `scoring` are the parts of it that went to their own samples and to the
    arm's model. Units: tokens, flops, usd, seconds, each where it is known.
    Of students' models `engine`, in openings: those that their sets of weights need (adapters share their base's), and
    those that 05 made. Of every stage before this one `machine`: how long it held its machine (an arm, "all students",
    "study" of 01), and USD and kWh of that time where the machine file has `usd_per_hour` and `watts`; planned are a
    drawn arm's samples, as fast as the pilot's, at the price that 01 was told.
    A mix or an adaptive arm is charged for the samples that it copied, as if drawn for it. Planned amounts are the
    plan's; where it knows no length they take the reference arm's mean, which is the matching rule's own assumption and
    says nothing of that arm itself (`matched` is empty there). Seconds stand at the largest budget alone, every sample
    at its model's mean. Where each training seed has a draw of its own, an arm's amounts at a budget are those of all
    draws.
    """
    samples = {arm: _samples_of(run, arm) for arm in run.plan.arms}
    entries: list[Entry] = []
    for arm, rows in samples.items():
        entries += _sampling(run, arm, samples)
        entries += _seconds(run, arm, rows)
        entries += _bill(run, arm)
        entries += _judging(run, arm)
    for arm, facts in (run.plan.pilot or {}).items():  # spent before the plan was made
        spent = _without_zeros(facts.spent)
        entries.append(Entry(arm, "01_plan", "pilot", spent, spent))
    for base, spent in _read_amounts(run.path("01", "fit.json")).items():
        entries.append(Entry(base, "01_plan", "fit", Amounts(), Amounts(**spent)))
    for student in run.plan.students:
        entries += _fit(run, student)
        entries += _training(run, student)
        entries += _tests(run, student)
    entries += _machine_time(run)
    rows = [row for entry in entries for row in entry.rows()]
    table = pd.DataFrame([*rows, *_openings(run)], columns=COLUMNS)
    table["ratio"] = table["spent"] / table["planned"].where(table["planned"] > 0)
    difference = (table["spent"] - table["planned"]).abs()
    is_matched = (difference <= MATCHED_WITHIN * table["planned"]).astype("boolean")
    return table.assign(matched=is_matched.mask(_says_nothing(run, table)))


def _says_nothing(run: Run, table: pd.DataFrame) -> pd.Series:
    """Rows whose planned tokens are what was spent, since the plan knows no length and the rule takes this arm's."""
    reference = run.study.budget.reference
    if run.arm(reference).tokens_per_sample:
        return pd.Series(False, table.index)
    is_own = (table["who"] == reference) & (table["kind"] == "sampling")
    return is_own & (table["unit"] != "seconds")


# ---------------------------------------------------------------------- arms


def _samples_of(run: Run, arm: str) -> pd.DataFrame:
    """An arm's samples added up by budget, draw, model and finish_reason."""
    allocation = run.path("02", arm, "allocation.parquet")
    if allocation.exists():
        of_budget = UNEVEN
        budgets = store.query(
            "SELECT budget, draw, problem_id, n AS n_of_budget FROM allocation",
            allocation=allocation,
        )
    else:
        of_budget = EVEN
        n = run.arm(arm).samples
        budgets = pd.DataFrame({"budget": n.keys(), "n_of_budget": n.values()})
    samples = store.sample_table(run.path("02", arm))
    sql = AMOUNTS.format(draws=run.draws(arm).sql, of_budget=of_budget, of_endpoints=OF_ENDPOINTS)
    return store.query(sql, samples=samples, budgets=budgets)


def flops_of_draw(run: Run, arm: str, budget_name: str, draw: int) -> float:
    """FLOPs of an arm's samples at a budget in one draw, counted as everywhere in the ledger."""
    rows = _samples_of(run, arm)
    return _flops(run, rows[(rows["budget"] == budget_name) & (rows["draw"] == draw)])


def _sampling(run: Run, arm: str, samples: dict[str, pd.DataFrame]) -> Iterator[Entry]:
    """An arm's samples and prompts at every budget, and what of them was lost."""
    for budget_name in run.arm(arm).samples:
        rows = samples[arm][samples[arm]["budget"] == budget_name]
        whole = rows[rows["finish_reason"] != "error"]
        entry = {"who": arm, "stage": "02_generate", "budget": budget_name}
        if len(whole) and (whole["known_n_tokens"] == whole["n"]).all():
            planned = _planned(run, arm, budget_name, samples)
            spent = _spent(run, rows)
            yield Entry(**entry, kind="sampling", planned=planned, spent=spent)
        if len(whole) and (whole["known_n_prompt_tokens"] == whole["n"]).all():
            planned = _planned_prompts(run, arm, budget_name)
            spent = _spent_on_prompts(run, rows)
            yield Entry(**entry, kind="prompt", planned=planned, spent=spent)
        for kind, price in (("cached", "cached"), ("reasoning", "output")):
            if rows[kind].notna().any():
                part = _spent_on_part(run, rows, kind, price)
                yield Entry(**entry, kind=kind, planned=Amounts(), spent=part)
        for kind, reason in (("truncated", "length"), ("failed", "error")):
            lost = rows[rows["finish_reason"] == reason]
            if len(lost):
                yield Entry(**entry, kind=kind, planned=Amounts(), spent=_spent(run, lost))


def _bill(run: Run, arm: str) -> Iterator[Entry]:
    """What an endpoint has billed, where a killed run or unread answers leave that open: at least what its rows cost,
    at most what was noted ahead of its calls."""
    most = _read_amounts(run.path("02", arm, "spending.json")).get("usd", 0.0)
    samples = store.sample_table(run.path("02", arm))
    cost = store.query("SELECT coalesce(sum(usd), 0) AS usd FROM samples", samples=samples)
    least = float(cost["usd"].iloc[0])
    if most > least * (1 + MATCHED_WITHIN):
        for kind, usd in (("bill_at_least", least), ("bill_at_most", most)):
            yield Entry(arm, "02_generate", kind, Amounts(), Amounts(usd=usd))


def _planned(run: Run, arm: str, budget_name: str, samples: dict) -> Amounts:
    """The plan's amounts; where it knows no length, with the mean that the samples of this budget have."""
    planned = run.arm(arm).planned[budget_name]
    if planned.tokens is None:
        known = {
            name: _with_length(run, name, facts, budget_name, samples)
            for name, facts in run.plan.plain_arms().items()
        }
        parts = run.plan.shares(arm, budget_name)
        planned = planned_amounts(run.study, known, parts, run.plan.n_problems["train"])
    hidden = {"seconds": None}
    if _is_billed_unknown_prompts(run, arm, budget_name):
        hidden["usd"] = None
    return planned.model_copy(update=hidden)


def _is_billed_unknown_prompts(run: Run, arm: str, budget_name: str) -> bool:
    """Whether an endpoint's bill will hold prompts of a length that the plan does not know."""
    parts = [run.arm(part) for part in run.plan.shares(arm, budget_name)]
    return any(part.is_billed and part.prompt_tokens is None for part in parts)


def _with_length(
    run: Run, name: str, facts: ModelFacts, budget_name: str, samples: dict
) -> ModelFacts:
    """An arm's facts with the length that the matching rule takes for it."""
    lengths_of = name if run.study.budget.lengths == "measured" else run.study.budget.reference
    length = run.arm(lengths_of).tokens_per_sample
    if length is None:
        rows = samples[lengths_of][samples[lengths_of]["budget"] == budget_name]
        n_known = rows["known_n_tokens"].sum()
        length = float(rows["n_tokens"].sum() / n_known) if n_known else None
    return facts.model_copy(update={"tokens_per_sample": length or None})


def _planned_prompts(run: Run, arm: str, budget_name: str) -> Amounts:
    """Prompt tokens of every sample where the plan knows their length: what an engine without a shared prefix reads."""
    n_prompt_tokens = run.arm(arm).planned[budget_name].prompt_tokens
    if not n_prompt_tokens:
        return Amounts()
    flops: float | None = 0.0
    n_times = run.plan.n_problems["train"] * run.plan.n_draws
    for part, n_samples in run.plan.shares(arm, budget_name).items():
        facts = run.arm(part)
        per_token = facts.planned_flops_per_token
        if flops is not None and per_token:
            n_tokens = n_times * n_samples * facts.prompt_tokens
            flops += n_tokens * per_token
        else:
            flops = None
    return Amounts(tokens=n_prompt_tokens, flops=_where_uncharged(run, flops))


def _where_uncharged(run: Run, flops: float | None) -> float | None:
    """FLOPs of prompts stand by themselves only where the budget does not count them among the samples'."""
    return flops if _charged_prompts(run) == "none" else None


def _charged_prompts(run: Run) -> str:
    return charged_prompts(run.study, run.plan.plain_arms())


def flops_per_token(run: Run) -> dict[str, float]:
    """2·P by model, as the plan counts P; a row's `model` says who drew it, whoever is charged."""
    known = run.plan.plain_arms().values()
    return {arm.model: arm.planned_flops_per_token for arm in known if arm.planned_flops_per_token}


def _spent(run: Run, rows: pd.DataFrame) -> Amounts:
    """Tokens, FLOPs and USD of samples; FLOPs as the plan counts them."""
    return Amounts(
        tokens=float(rows["n_tokens"].sum()), flops=_flops(run, rows), usd=_usd(run, rows)
    )


def _flops(run: Run, rows: pd.DataFrame) -> float | None:
    """FLOPs as the plan counts them: 2·P per token, of prompts as the budget charges them and, where it counts
    attention, 4·layers·width per token and position."""
    per_token = rows["model"].map(flops_per_token(run)).astype(float)
    if per_token.isna().any():
        return None
    prompts = _charged_prompts(run)
    charged = {"none": None, "each": ("n_prompt_tokens", "prompt_positions")}
    columns = charged.get(prompts, ("first_prompts", "first_prompt_positions"))
    amounts = rows.fillna(0)
    n_tokens, positions = amounts["n_tokens"], amounts["positions"]
    if columns is not None:
        n_tokens = n_tokens + amounts[columns[0]]
        positions = positions + amounts[columns[1]]
    flops = per_token * n_tokens
    if run.study.budget.attention:
        per_position = {
            arm.model: 4.0 * arm.size.n_layers * arm.size.attention_width
            for arm in run.plan.plain_arms().values()
            if arm.size
        }
        flops = flops + rows["model"].map(per_position).astype(float) * positions
    return float(flops.sum())


def _usd(run: Run, rows: pd.DataFrame) -> float | None:
    """What an endpoint billed, which holds prompts; else tokens, and samples, at their model's price."""
    if rows["known_usd"].any():
        return float(rows["usd"].sum())
    priced = [arm for arm in run.plan.plain_arms().values() if arm.price]
    of_token = {arm.model: arm.price.output / 1e6 for arm in priced}
    of_sample = {arm.model: arm.price.sample or 0.0 for arm in priced}
    each = rows["model"].map(of_token).astype(float)
    if each.isna().any():
        return None
    of_tokens = each * rows["n_tokens"].fillna(0)
    return float((of_tokens + rows["model"].map(of_sample) * rows["n"]).sum())


def _spent_on_prompts(run: Run, rows: pd.DataFrame) -> Amounts:
    n_tokens = rows["n_prompt_tokens"].fillna(0)
    each = rows["model"].map(flops_per_token(run)).astype(float)
    flops = None if each.isna().any() else float((each * n_tokens).sum())
    return Amounts(tokens=float(n_tokens.sum()), flops=_where_uncharged(run, flops))


def _spent_on_part(run: Run, rows: pd.DataFrame, column: str, price: str) -> Amounts:
    """Tokens that an endpoint counted among a sample's, and their USD at a price of its row; where prompts from a cache
    have no price of their own they cost as others."""
    prices = {}
    for arm in run.plan.plain_arms().values():
        if arm.price:
            amount = getattr(arm.price, price)
            prices[arm.model] = arm.price.input if amount is None else amount
    n_tokens = rows[column].fillna(0)
    usd = rows["model"].map(prices).astype(float) * n_tokens / 1e6
    return Amounts(tokens=float(n_tokens.sum()), usd=None if usd.isna().any() else float(usd.sum()))


def _seconds(run: Run, arm: str, rows: pd.DataFrame) -> Iterator[Entry]:
    """What all samples of the largest budget took, at their models' means."""
    largest = run.arm(arm).largest_budget
    planned = _planned_seconds(run, arm)
    rows = rows[rows["budget"] == largest]
    seconds = rows["n"] * rows["model"].map(_seconds_per_sample(run)).astype(float)
    spent = float(seconds.sum()) if len(seconds) and seconds.notna().all() else None
    amounts = Amounts(seconds=planned), Amounts(seconds=spent)
    yield Entry(arm, "02_generate", "sampling", *amounts, budget=largest)


def _planned_seconds(run: Run, arm: str) -> float | None:
    """Device-seconds of all samples of the largest budget, each as long as its model's in the pilot."""
    planned = 0.0
    for part, n_samples in run.plan.shares(arm, run.arm(arm).largest_budget).items():
        each = run.arm(part).seconds_per_sample
        if not each:
            return None
        planned += n_samples * each
    return planned * run.plan.n_problems["train"] * run.plan.n_draws


def _machine_time(run: Run) -> Iterator[Entry]:
    """What every stage before 06 took of its machine; 02 is planned where a pilot has measured the arm."""
    for arm in run.plan.arms:
        is_drawn = isinstance(run.arm(arm), PlannedDrawn | PlannedAdaptive)
        seconds, machine = _planned_seconds(run, arm), run.plan.machine or MachinePrice()
        planned = Amounts()
        if is_drawn and seconds:
            planned = machine.amounts(seconds / machine.n_devices)
        yield from _held(run, "02_generate", arm, arm, planned)
        yield from _held(run, "03_verify", arm, arm)
    yield from _held(run, "01_plan", "", "study")
    for stage in ("04_finetune", "05_evaluate"):
        yield from _held(run, stage, "", "all students")


def _held(
    run: Run, stage: str, folder: str, who: str, planned: Amounts | None = None
) -> Iterator[Entry]:
    spent = machine_time(run.path(stage, folder))
    if spent is not None:
        yield Entry(who, stage, "machine", planned or Amounts(), spent)


def _seconds_per_sample(run: Run) -> dict[str, float]:
    """What a sample took to draw, by model, as the plain arms measured it."""
    seconds = {}
    for name, arm in run.plan.plain_arms().items():
        manifest = read_json(run.path("02", name, "manifest.json"))
        if "seconds_per_sample" in manifest:
            seconds[arm.model] = manifest["seconds_per_sample"]
    return seconds


def _judging(run: Run, arm: str) -> Iterator[Entry]:
    path = run.path("03", arm, "judge.json")
    if path.exists():
        cost = read_json(path)
        n_tokens = cost.get("n_tokens", 0) + cost.get("n_prompt_tokens", 0)
        spent = Amounts(tokens=n_tokens, flops=cost.get("flops"), usd=cost.get("usd"))
        yield Entry(arm, "03_verify", "judge", Amounts(), spent)


def _without_zeros(amounts: Amounts) -> Amounts:
    """Amounts of 0 were not measured."""
    known = {unit: value for unit, value in amounts if value}
    return Amounts(**known)


# ---------------------------------------------------------------------- students


def _fit(run: Run, student: str) -> Iterator[Entry]:
    """What it took the untrained student to read an arm's examples."""
    noted = _read_amounts(run.path("04", student, "fit.json"))
    spent = {unit: amount for unit, amount in noted.items() if unit in UNITS}
    if spent:
        yield Entry(student, "04_finetune", "fit", Amounts(), Amounts(**spent))


def _read_amounts(path: Path) -> dict:
    return read_json(path) if path.exists() else {}


def _training(run: Run, student: str) -> Iterator[Entry]:
    path = run.path("04", student, "report.json")
    if run.student(student).source != "base" and path.exists():
        report = read_json(path)
        planned = Amounts(flops=report["planned_flops"])
        spent = Amounts(
            tokens=report["n_tokens"], flops=report["spent_flops"], seconds=report.get("seconds")
        )
        yield Entry(student, "04_finetune", "training", planned, spent)
        for kind, flops in report.get("on_policy_flops", {}).items():
            yield Entry(student, "04_finetune", kind, Amounts(), Amounts(flops=flops))


def _tests(run: Run, student: str) -> Iterator[Entry]:
    path: Path = run.path("05", student, "manifest.json")
    if path.exists():
        decodings = [part for part in read_json(path).values() if isinstance(part, dict)]
        n_tokens = sum(
            part.get("n_tokens", 0) + part.get("n_prompt_tokens", 0) for part in decodings
        )
        flops = sampling_flops(run.student(student).n_parameters, n_tokens)
        seconds = sum(part.get("seconds", 0) for part in decodings)
        spent = Amounts(tokens=n_tokens, flops=flops, seconds=seconds)
        yield Entry(student, "05_evaluate", "evaluation", Amounts(), spent)


def _openings(run: Run) -> Iterator[tuple]:
    """Rows of the engines that 05 opened, by the model that they were opened for: once for each set of weights is what
    it takes, and more where a run was resumed or several workers shared the students."""
    path = run.path("05", "openings.json")
    weights: dict[str, list[str]] = {}
    for opening in read_json(path, list) if path.exists() else []:
        weights.setdefault(opening["model"], []).append(opening["weights"])
    for model, opened in weights.items():
        amounts = float(len(set(opened))), float(len(opened))
        yield model, "05_evaluate", "engine", "", "openings", *amounts
