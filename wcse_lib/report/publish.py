"""A study's examples as dataset folders that `datasets.load_dataset` reads, each with its card, plan and ledger."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from wcse_lib.intervals import ratio
from wcse_lib.report.paths import without_paths
from wcse_lib.store import (
    StudyError,
    check_tables,
    parquet_writer,
    query,
    query_pieces,
    sample_table,
    write_json,
    write_text,
)
from wcse_lib.study import MAIN, Run

CARD = Path(__file__).parent / "dataset_card.md.j2"
MEANINGS = {
    "problem_id": "the problem, as in the study's plan",
    "question": "its text",
    "text": "what the model wrote: the solution",
    "answer": "the gold answer",
    "extracted": "the final answer read out of the text",
    "level": "the problem's difficulty, where known",
    "model": "who wrote the text",
    "sample_index": "which of the arm's samples of this problem it was",
    "draw": "which training seed's students learnt from it: 0 for the first seed's, or for all",
    "sound": "what `judge` says of the reasoning: false where it found it unsound "
    "(`arithmetic` only looks for wrong sums)",
    "judge": "exact, arithmetic (finds wrong sums only), human or model; empty: not judged",
}
CHOSEN_BY_DEFAULT = "correct final answers, exact duplicates removed"
NUMBERS = {"sample_index": "int64", "draw": "int64", "sound": "boolean"}
COLUMNS = dict.fromkeys(MEANINGS, "string") | NUMBERS
ROWS = """
    SELECT problem_id, question, examples.text, answer, extracted, level, model, sample_index, {draws}, sound, judge,
           engine, verifier
    FROM examples
    JOIN chosen USING (budget, recipe)
    JOIN problems USING (problem_id)
    JOIN samples USING (author, problem_id, sample_index)
    JOIN verdicts USING (author, problem_id, sample_index)
    LEFT JOIN judgements USING (author, problem_id, sample_index)
    ORDER BY problem_id, sample_index
"""
JUDGED_BY_PROBLEM = """
    SELECT problem_id, count(*) AS n, count(sound) AS n_judged, count_if(NOT sound) AS n_unsound
    FROM published GROUP BY problem_id ORDER BY problem_id
"""


@dataclass
class Published:
    """A dataset folder: `problems` has a row per problem (n, n_judged, n_unsound); the rest are the values of
    columns."""

    folder: Path
    budget: str
    recipe: str
    problems: pd.DataFrame
    model: list[str]
    engine: list[str]
    verifier: list[str]
    judge: list[str]


def publish_study(run: Run, out: str | Path) -> list[Path]:
    """Write one folder per arm, budget and recipe: `data/train.parquet`, `README.md` (the card), `plan.json`,
    `ledger.csv`.

    Rows: the columns of MEANINGS, sorted by problem and sample. A folder is ready to be pushed to a hub after its
    licence has been chosen in the card. Raises StudyError naming the file that the study lacks; an arm without
    examples at a budget gets no folder, nor does a recipe with `pick`: what it chooses depends on the student.
    """
    check_tables(run.folder, run.plan_id)
    folders = []
    for arm in run.plan.arms:
        examples = run.path("03", arm, "examples.parquet")
        groups = "SELECT budget, recipe, count(*) AS n FROM examples GROUP BY ALL ORDER BY ALL"
        for group in query(groups, examples=examples).itertuples():
            if getattr(run.recipe(group.recipe), "pick", None):
                continue
            published = _write_rows(run, arm, group, Path(out))
            folder = published.folder
            write_text(folder / "README.md", card(run, arm, published))
            plan = run.plan.model_dump(mode="json")
            write_json(folder / "plan.json", without_paths(plan, run.folder))
            shutil.copyfile(run.path("06", "tables", "ledger.csv"), folder / "ledger.csv")
            folders.append(folder)
    return folders


def _write_rows(run: Run, arm: str, group, out: Path) -> Published:
    """Write the examples of an arm at the budget and recipe of `group`, which has `n` of them."""
    name = f"{run.study.study}-{arm}-{group.budget}"
    folder = out / (name if group.recipe == MAIN else f"{name}-{group.recipe}")
    file = folder / "data" / "train.parquet"
    verified = {
        table: run.path("03", arm, f"{table}.parquet")
        for table in ("examples", "verdicts", "judgements")
    }
    pieces = query_pieces(
        ROWS.format(draws=run.draws(arm).sql),
        chosen=pd.DataFrame({"budget": [group.budget], "recipe": [group.recipe]}),
        problems=run.path("01", "train.parquet"),
        samples=sample_table(run.path("02", arm)),
        **verified,
    )
    values = {column: set() for column in ("model", "engine", "verifier", "judge")}
    n_written = 0
    with parquet_writer(file, COLUMNS) as add:
        for rows in pieces:
            add(rows)
            n_written += len(rows)
            for column, seen in values.items():
                seen.update(rows[column].dropna())
        if n_written < group.n:
            raise StudyError(
                f"{verified['examples']}: {group.n - n_written} examples have no sample or verdict; "
                "run 03_verify again"
            )
    for stale in set(file.parent.iterdir()) - {file}:
        stale.unlink()
    problems = query(JUDGED_BY_PROBLEM, published=file)
    facts = {column: sorted(map(str, seen)) for column, seen in values.items()}
    return Published(folder, group.budget, group.recipe, problems, **facts)


def card(run: Run, arm: str, published: Published) -> str:
    """A dataset card: where the rows come from, how they were chosen and checked, and what the columns mean."""
    from huggingface_hub import DatasetCard, DatasetCardData

    title = f"{run.study.study}: examples of {arm} at budget {published.budget}"
    data_files = [{"split": "train", "path": "data/*.parquet"}]
    data = DatasetCardData(
        license="unknown",
        task_categories=["text-generation"],
        tags=["synthetic", "reasoning"],
        pretty_name=title,
        configs=[{"config_name": "default", "data_files": data_files}],
    )
    facts = _facts(run, arm, published)
    made = DatasetCard.from_template(data, str(CARD), title=title, facts=facts, columns=MEANINGS)
    return str(made)


def _facts(run: Run, arm: str, published: Published) -> dict[str, str]:
    """What the card says of the rows, by its name; empty where it does not apply."""
    study, budget, recipe = run.study, published.budget, published.recipe
    curation = run.recipe(recipe)
    choice = curation.model_dump(exclude_defaults=True)
    spec = study.arms[arm]
    own = {"top_k": study.top_k(spec)} | spec.model_dump(include={"temperature"}, exclude_none=True)
    sampling = study.sampling.model_dump(exclude={"max_failed_share"}) | own
    imported = "import" in published.engine
    n_examples, n_problems = published.problems["n"].sum(), len(published.problems)
    n_samples, n_draws = run.arm(arm).samples[budget], run.plan.n_draws
    draws = f" in each of {n_draws} draws" if n_draws > 1 else ""
    matched = f"matched by {study.budget.match} to arm {study.budget.reference}"
    dataset = study.dataset.model_dump(exclude_defaults=True)
    return {
        "Examples": f"{n_examples:,} for {n_problems:,} problems",
        "Written by": ", ".join(without_paths(published.model, run.folder)),
        "Budget": f"{budget}: {n_samples:g} samples a problem{draws}, {matched}",
        "Chosen by": f"recipe {recipe}: {choice or CHOSEN_BY_DEFAULT}",
        "Final answers checked by": ", ".join(published.verifier),
        "Reasoning": _unsound(published),
        "Sampling": "" if published.engine == ["import"] else str(sampling),
        "Imported": "how imported samples were drawn is not known here" if imported else "",
        "Dataset": str(without_paths(dataset, run.folder)),
        "Study": f"{study.study}, plan {run.plan_id}, seed {study.seed}",
    }


def _unsound(published: Published) -> str:
    problems = published.problems
    n_judged = problems["n_judged"].sum()
    if not n_judged:
        return "not judged"
    value, low, high = ratio(problems["n_unsound"], problems["n_judged"])
    return (
        f"{value:.1%} of {n_judged:,} judged examples are unsound (95 % interval over problems "
        f"{low:.1%} to {high:.1%}; judge: {', '.join(published.judge)})"
    )
