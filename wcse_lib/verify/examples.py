"""Examples: what every recipe chooses at every budget among an arm's judged samples, and where each row went."""

from __future__ import annotations

import math
from collections import Counter

import pandas as pd

from wcse_lib.store import (
    KEY,
    StudyError,
    parquet_writer,
    problem_range_filter,
    read_parquet,
    write_parquet,
)
from wcse_lib.study import MAIN, Curation, Run
from wcse_lib.verdicts import KEY_COLUMNS
from wcse_lib.verify.curate import (
    Cutoffs,
    candidate_ranks,
    problem_cutoff,
    rank_cutoffs,
    select,
)
from wcse_lib.verify.samples import planned_samples, whole_problems

CHOSEN = KEY_COLUMNS | {"budget": "string", "recipe": "string"}
At = tuple[str, str, int]  # budget, recipe and draw: what a student learns from


def write_examples(run: Run, arm: str) -> pd.DataFrame:
    """Write `examples`, `dropped` and `flow` of an arm from its judged rows, and return the flow.

    Each draw is chosen from by itself, as the data of other training seeds. Flow: one row per budget, recipe, step
    (samples, dropped, examples) and `reason`, with `n` rows of all draws.
    Raises StudyError when a recipe asks for more examples than there are.
    """
    folder, seed = run.path("03", arm), run.study.seed
    choices = _choices(run, arm)
    cutoffs = {at: _cutoffs(run, arm, at, choice) for at, choice in choices.items()}
    reasons = {at[:2]: Counter() for at in choices}
    with (
        parquet_writer(folder / "dropped.parquet", CHOSEN | {"reason": "string"}) as add_dropped,
        parquet_writer(folder / "examples.parquet", CHOSEN | {"text": "string"}) as add_examples,
    ):
        for samples in planned_samples(run, arm, []):
            judged = read_parquet(folder / "judged.parquet", None, problem_range_filter(samples))
            for at, choice in choices.items():
                budget, recipe, _ = at
                rows = _rows_of(run, arm, at, judged)
                examples, dropped = select(rows, choice, seed, cutoffs[at])
                reasons[budget, recipe]["examples"] += len(examples)
                reasons[budget, recipe].update(dropped["reason"])
                texts = examples[KEY].merge(samples[[*KEY, "text"]], on=KEY)
                add_examples(texts.assign(budget=budget, recipe=recipe))
                add_dropped(dropped.assign(budget=budget, recipe=recipe))
    flow = _flow(arm, reasons)
    write_parquet(folder / "flow.parquet", flow)
    return flow


def _flow(arm: str, reasons: dict[tuple[str, str], Counter]) -> pd.DataFrame:
    """The steps of every budget and recipe as rows, from how many samples left for each reason."""
    rows = []
    for (budget, recipe), counts in reasons.items():
        n_samples, n_examples = counts.total(), counts.pop("examples")
        steps = [("samples", n_samples, "")]
        steps += [("dropped", n, reason) for reason, n in counts.most_common()]
        steps += [("examples", n_examples, "")]
        for step, n, reason in steps:
            facts = {"arm": arm, "budget": budget, "recipe": recipe}
            rows.append({**facts, "step": step, "n": n, "reason": reason})
    return pd.DataFrame(rows)


def _rows_of(run: Run, arm: str, at: At, rows: pd.DataFrame) -> pd.DataFrame:
    """Those of an arm's rows that a choice is made from, with their `place` in the draw."""
    budget, _, draw = at
    chosen = run.rows_of_budget(rows, arm, budget, draw)
    return chosen.assign(place=run.draws(arm).place(chosen["sample_index"]))


def _choices(run: Run, arm: str) -> dict[At, Curation]:
    """What every recipe asks at every one of its budgets, in numbers, and of every draw."""
    choices = {}
    for name, recipe in {MAIN: run.study.curation, **run.study.recipes}.items():
        for budget in getattr(recipe, "budgets", None) or run.arm(arm).samples:
            known = {}
            if recipe.n_samples == "reference":
                known["n_samples"] = run.arm(run.study.budget.reference).samples[budget]
            if recipe.n_examples == "equal":  # cut by 04, which sees the examples of all arms
                known["n_examples"] = None
            if getattr(recipe, "pick", None):  # of all right samples by 04, under each student
                known["per_problem"] = None
            choice = recipe.model_copy(update=known)
            for draw in range(run.plan.n_draws):
                choices[budget, name, draw] = choice
    return choices


def _cutoffs(run: Run, arm: str, at: At, choice: Curation) -> Cutoffs:
    """What a choice asks of all samples at once: nothing, unless it counts problems or examples or wants noise."""
    budget, recipe, draw = at
    path, seed = run.path("03", arm, "judged.parquet"), run.study.seed
    last_problem = math.inf
    if choice.n_problems is not None:
        problem_ids = set()
        for keys in whole_problems(path, KEY):
            problem_ids.update(run.rows_of_budget(keys, arm, budget, draw)["problem_id"])
        last_problem = problem_cutoff(problem_ids, choice.n_problems, seed)
    if choice.n_examples is None and not choice.noise:
        return Cutoffs(last_problem)

    candidates = []
    for judged in whole_problems(path):
        rows = _rows_of(run, arm, at, judged)
        candidates.append(candidate_ranks(rows, choice, seed, last_problem))
    try:
        return Cutoffs(last_problem, *rank_cutoffs(candidates, choice))
    except ValueError as error:
        key = "curation" if recipe == MAIN else f"recipes.{recipe}"
        raise StudyError(f"{key}: {arm} at budget {budget}: {error}") from None
