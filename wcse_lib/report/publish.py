"""A study's examples as dataset folders that `datasets.load_dataset` reads, each with its card, plan and ledger.

python -m wcse_lib.report.publish outputs/nano --out datasets/nano
"""

from __future__ import annotations

import argparse
import shutil
import sys
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from wcse_lib.intervals import ratio
from wcse_lib.report.paths import without_paths
from wcse_lib.store import (
    KEY,
    StudyError,
    check_tables,
    iter_samples,
    parquet_writer,
    problem_range_filter,
    read_parquet,
    read_pieces,
    write_json,
    write_text,
)
from wcse_lib.study import Run

MEANINGS = {
    "problem_id": "the problem, as in the study's plan",
    "question": "its text",
    "solution": "what the model wrote",
    "answer": "the gold answer",
    "extracted": "the final answer read out of the solution",
    "level": "the problem's difficulty, where known",
    "model": "who wrote the solution",
    "sample_index": "which of the arm's samples of this problem it was",
    "sound": "what `judge` says of the reasoning: false where it found it unsound (`arithmetic` "
    "only looks for wrong sums)",
    "judge": "exact, arithmetic (finds wrong sums only), human or model; empty: not judged",
}
COLUMNS = dict.fromkeys(MEANINGS, "string") | {"sample_index": "int64", "sound": "boolean"}
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


def publish_study(run: Run, out: str | Path) -> list[Path]:
    """Write one folder per arm, budget and recipe: `data/train.parquet`, `README.md` (the card), `plan.json`,
    `ledger.csv`.

    Rows: the columns of MEANINGS. A folder is ready to be pushed to a hub after its licence has been chosen in the
    card.
    Raises StudyError naming the file that the study lacks; an arm without examples at a budget gets no folder.
    """
    problems = read_parquet(
        run.path("01", "train.parquet"), ["problem_id", "question", "answer", "level"]
    )
    check_tables(run.folder, run.plan_id)
    folders = []
    for arm in run.plan["arms"]:
        for (b, recipe), found in _write(run, arm, problems, Path(out)).items():
            folder = found["folder"]
            for stale in set((folder / "data").iterdir()) - {folder / "data" / "train.parquet"}:
                stale.unlink()
            write_text(folder / "README.md", _card(run, arm, b, recipe, found))
            write_json(
                folder / "plan.json", without_paths(run.plan.model_dump(mode="json"), run.folder)
            )
            shutil.copyfile(run.path("06", "tables", "ledger.csv"), folder / "ledger.csv")
            folders.append(folder)
    return folders


def _write(run: Run, arm: str, problems: pd.DataFrame, out: Path) -> dict[tuple[str, str], dict]:
    """Write an arm's examples, a few problems at a time; returns by budget and recipe the folder, `n`, `n_problems`,
    `judged` (of each problem's examples, how many were judged and how many are unsound), and the different values of
    `model`, `engine`, `verifier` and `judge`."""
    files = {
        name: run.path("03", arm, f"{name}.parquet")
        for name in ("examples", "verdicts", "judgements")
    }
    written, n = {}, sum(map(len, read_pieces(files["examples"], KEY)))
    with ExitStack() as stack:
        for samples in iter_samples(run.path("02", arm), [*KEY, "model", "engine"]):
            near = problem_range_filter(samples)
            examples = read_parquet(files["examples"], None, near).rename(
                columns={"text": "solution"}
            )
            examples = examples if "recipe" in examples else examples.assign(recipe="main")
            judgements = read_parquet(
                files["judgements"], [*KEY, "sound", "judge"], near
            ).drop_duplicates(KEY)
            rows = examples.merge(
                read_parquet(files["verdicts"], [*KEY, "extracted", "verifier"], near), on=KEY
            )
            rows = (
                rows.merge(judgements, on=KEY, how="left")
                .merge(problems, on="problem_id")
                .merge(samples, on=KEY)
            )
            n -= len(rows)
            for (b, recipe), part in rows.groupby(["budget", "recipe"], sort=False):
                if (b, recipe) not in written:
                    folder = out / "-".join(
                        [run.study.study, arm, b, *([recipe] if recipe != "main" else [])]
                    )
                    add = stack.enter_context(
                        parquet_writer(folder / "data" / "train.parquet", COLUMNS)
                    )
                    written[b, recipe] = {
                        "folder": folder,
                        "add": add,
                        "n": 0,
                        "n_problems": 0,
                        "judged": [],
                    }
                    written[b, recipe] |= {
                        name: {} for name in ("model", "engine", "verifier", "judge")
                    }
                found, sound = (
                    written[b, recipe],
                    part.dropna(subset="sound").astype({"sound": bool}),
                )
                found["add"](part)
                found["judged"].append(
                    (~sound["sound"]).groupby(sound["problem_id"]).agg(["count", "sum"]).to_numpy()
                )
                counted = {"n": len(part), "n_problems": part["problem_id"].nunique()}
                found |= {name: found[name] + k for name, k in counted.items()}
                found |= {
                    name: found[name] | dict.fromkeys(part[name].dropna())
                    for name in ("model", "engine", "verifier", "judge")
                }
        if n:
            raise StudyError(
                f"{files['examples']}: {n} examples have no sample or verdict; run 03_verify again"
            )
    return written


def _card(run: Run, arm: str, b: str, recipe: str, found: dict) -> str:
    spec, study = run.arm(arm), run.study
    curation = (study.curation if recipe == "main" else study.recipes[recipe]).model_dump(
        exclude_defaults=True
    )
    drawn = study.sampling.model_dump(exclude_none=True) | study.arms[arm].model_dump(
        include={"temperature"}, exclude_none=True
    )
    front = {
        "license": "unknown",
        "task_categories": ["text-generation"],
        "tags": ["synthetic", "reasoning"],
        "pretty_name": f"{study.study}: examples of {arm} at budget {b}",
        "configs": [
            {"config_name": "default", "data_files": [{"split": "train", "path": "data/*.parquet"}]}
        ],
    }
    facts = {
        "Examples": f"{found['n']:,} for {found['n_problems']:,} problems",
        "Written by": ", ".join(without_paths(list(map(str, found["model"])), run.folder)),
        "Budget": f"{b}: {spec['samples'][b]:g} samples a problem, matched by {study.budget.match} "
        f"to arm {study.budget.reference}",
        "Chosen by": f"recipe {recipe}: {curation or 'correct final answers, exact duplicates removed'}",
        "Final answers checked by": ", ".join(map(str, found["verifier"])),
        "Reasoning": _unsound(found),
        "Sampling": str(drawn) if set(found["engine"]) != {"import"} else "",
        "Imported": "how imported samples were drawn is not known here"
        if "import" in found["engine"]
        else "",
        "Dataset": f"{without_paths(study.dataset.model_dump(exclude_defaults=True), run.folder)}",
        "Study": f"{study.study}, plan {run.plan_id}, seed {study.seed}",
    }
    safe = str.maketrans(
        {"|": "\\|", "\n": " ", "<": "&lt;"}
    )  # nothing may break the row or be read as markup
    table = "\n".join(
        f"| {key} | {value.translate(safe)} |" for key, value in facts.items() if value
    )
    columns = "\n".join(f"| `{name}` | {meaning} |" for name, meaning in MEANINGS.items())
    return f"---\n{yaml.safe_dump(front, sort_keys=False, allow_unicode=True)}---\n" + CARD.format(
        front["pretty_name"], table, columns
    )


def _unsound(found: dict) -> str:
    judged, unsound = np.concatenate(found["judged"]).T
    if not judged.sum():
        return "not judged"
    value, low, high = ratio(unsound, judged)
    interval = f"95 % interval over problems {low:.1%} to {high:.1%}"
    return f"{value:.1%} of {judged.sum():,} judged examples are unsound ({interval}; judge: {', '.join(map(str, found['judge']))})"


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m wcse_lib.report.publish", description=__doc__.splitlines()[0]
    )
    parser.add_argument("folder")
    parser.add_argument("--out", required=True)
    args = parser.parse_args(argv)
    try:
        print(*publish_study(Run(args.folder), args.out), sep="\n")
    except StudyError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
