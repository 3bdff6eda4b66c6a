"""A study's examples as dataset folders that `datasets.load_dataset` reads, each with its card, plan and ledger.

    python -m wcse_lib.publish outputs/nano --out datasets/nano
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

import pandas as pd
import yaml

from wcse_lib.records import (
    KEY,
    StudyError,
    check_tables,
    read_parquet,
    read_samples,
    write_json,
    write_parquet,
    write_text,
)
from wcse_lib.report import without_paths
from wcse_lib.study import Run

MEANINGS = {
    "problem_id": "the problem, as in the study's plan", "question": "its text", "solution": "what the model wrote",
    "answer": "the gold answer", "extracted": "the final answer read out of the solution",
    "level": "the problem's difficulty, where known", "model": "who wrote the solution",
    "sample_index": "which of the arm's samples of this problem it was",
    "sound": "what `judge` says of the reasoning: false where it found it unsound (`arithmetic` only looks for wrong sums)",
    "judge": "exact, arithmetic (finds wrong sums only), human or model; empty: not judged",
}  # fmt: skip
CARD = """
# {}

Solutions that a language model sampled for a compute-matched study of training data. `plan.json` holds every parameter,
`ledger.csv` what was planned and spent. Choose a licence that the problems and the model allow before you share this.

| | |
| --- | --- |
{}

| column | meaning |
| --- | --- |
{}
"""


def publish(run: Run, out: str | Path) -> list[Path]:
    """Write one folder per arm, budget and recipe: `data/train.parquet`, `README.md` (the card), `plan.json`, `ledger.csv`.

    Rows: the columns of MEANINGS. A folder is ready to be pushed to a hub after its licence has been chosen in the card.
    Raises StudyError naming the file that the study lacks; an arm without examples at a budget gets no folder.
    """
    problems = read_parquet(run.path("01", "train.parquet"), ["problem_id", "question", "answer", "level"])
    check_tables(run.folder, run.plan_id)
    folders = []
    for arm in run.plan["arms"]:
        examples = read_parquet(run.path("03", arm, "examples.parquet"))
        examples = examples if "recipe" in examples else examples.assign(recipe="main")
        verdicts = read_parquet(run.path("03", arm, "verdicts.parquet"), [*KEY, "extracted", "verifier"])
        judgements = read_parquet(run.path("03", arm, "judgements.parquet")).drop_duplicates(KEY)[[*KEY, "sound", "judge"]]
        rows = examples.rename(columns={"completion": "solution"}).merge(verdicts, on=KEY).merge(judgements, on=KEY, how="left")
        rows = rows.merge(problems, on="problem_id").merge(read_samples(run.path("02", arm), [*KEY, "model"]), on=KEY)
        if len(rows) != len(examples):
            raise StudyError(f"{run.path('03', arm, 'examples.parquet')}: {len(examples) - len(rows)} examples have no sample or verdict; run 03_verify again")
        for (b, recipe), part in rows.groupby(["budget", "recipe"], sort=False):
            folder = Path(out) / "-".join([run.study.study, arm, b, *([recipe] if recipe != "main" else [])])
            shutil.rmtree(folder / "data", ignore_errors=True)
            write_parquet(folder / "data" / "train.parquet", part[list(MEANINGS)].reset_index(drop=True))
            write_text(folder / "README.md", _card(run, arm, b, recipe, part))
            write_json(folder / "plan.json", without_paths(run.plan, run.folder))
            shutil.copyfile(run.path("06", "tables", "ledger.csv"), folder / "ledger.csv")
            folders.append(folder)
    return folders


def _card(run: Run, arm: str, b: str, recipe: str, rows: pd.DataFrame) -> str:
    spec, study, judged = run.arm(arm), run.study, rows["sound"].dropna().astype(bool)
    curation = (study.curation if recipe == "main" else study.recipes[recipe]).model_dump(exclude_defaults=True)
    front = {
        "license": "unknown", "task_categories": ["text-generation"], "tags": ["synthetic", "reasoning"],
        "pretty_name": f"{study.study}: examples of {arm} at budget {b}",
        "configs": [{"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}],
    }  # fmt: skip
    facts = {
        "Examples": f"{len(rows):,} for {rows['problem_id'].nunique():,} problems",
        "Written by": ", ".join(without_paths(list(map(str, rows["model"].unique())), run.folder)),
        "Budget": f"{b}: {spec['samples'][b]:g} samples a problem, matched by {study.budget.match} to arm {study.budget.reference}",
        "Chosen by": f"recipe {recipe}: {curation or 'correct final answers, exact duplicates removed'}",
        "Final answers checked by": ", ".join(map(str, rows["verifier"].unique())),
        "Reasoning": f"{(~judged).mean():.1%} of {len(judged):,} judged examples are unsound ({', '.join(map(str, rows['judge'].dropna().unique()))})"
        if len(judged) else "not judged",
        "Sampling": f"{study.sampling.model_dump(exclude_none=True)}", "Dataset": f"{without_paths(study.dataset.model_dump(exclude_defaults=True), run.folder)}",
        "Study": f"{study.study}, plan {run.plan_id}, seed {study.seed}",
    }  # fmt: skip
    safe = str.maketrans({"|": "\\|", "\n": " ", "<": "&lt;"})  # nothing may break the row or be read as markup
    table = "\n".join(f"| {key} | {value.translate(safe)} |" for key, value in facts.items())
    columns = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items())
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n" + CARD.format(front["pretty_name"], table, columns)


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m wcse_lib.publish", description=__doc__.splitlines()[0])
    parser.add_argument("folder")
    parser.add_argument("--out", required=True)
    args = parser.parse_args(argv)
    try:
        print(*publish(Run(args.folder), args.out), sep="\n")
    except StudyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
