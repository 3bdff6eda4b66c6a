"""A small study as 01 and 02 leave it, of samples whose answers and sums are right or wrong independently."""

import random

import pandas as pd
from studies import write_plan

from wcse_lib.store import SampleWriter, write_parquet
from wcse_lib.study import Machine, Run, check_study
from wcse_lib.verify import stage as verification

ROW = {
    "seed": 1,
    "n_prompt_tokens": 9,
    "n_tokens": 9,
    "finish_reason": "stop",
    "engine": "hf",
    "model": "m",
    "prompt_hash": "",
    "error": "",
    "usd": None,
}


def sample(author, problem, index, text, **more):
    return {
        "author": author,
        "problem_id": problem,
        "sample_index": index,
        "text": text,
        **ROW,
        **more,
    }


def make_run(folder, samples, problems, seed=0, **study):
    """A run folder as rooms 01 and 02 leave it: two arms (`se` with a third of the samples of `wc`)."""
    columns = {"question": "question", "answer": "answer"}
    data = {
        "study": "t",
        "seed": seed,
        "dataset": {"name": "files", "train": "x.jsonl", "columns": columns},
        "arms": {
            "se": {"model": "a", "n_parameters": 3.0},
            "wc": {"model": "b", "n_parameters": 1.0},
        },
        "budget": {"reference": "se", "samples": {"low": 1, "high": 2}},
        **study,
    }
    arms = {"se": {"samples": {"low": 1, "high": 2}}, "wc": {"samples": {"low": 3, "high": 6}}}
    plan = {
        "study": check_study(data, "test").model_dump(mode="json"),
        "arms": arms,
        "students": {},
        "plan_id": "p",
    }
    write_plan(folder, plan)
    frame = pd.DataFrame(problems, columns=["problem_id", "question", "answer", "tests"])
    write_parquet(folder / "01_plan" / "train.parquet", frame.assign(level="", solution=""))
    for author in {row["author"] for row in samples}:
        with SampleWriter(folder / "02_generate" / author, every_rows=7) as writer:
            for row in samples:
                if row["author"] == author:
                    writer.add(row)
    return Run(folder)


PROBLEMS = [(f"p{i:02d}", f"What is {i}+1?", str(i + 1), "") for i in range(12)]


def sums(n_per_problem=6, author="wc"):
    """Samples whose answer and whose sums are right or wrong independently; some cut off, failed, empty or repeated."""
    rng, rows = random.Random(5), []
    for i, (problem, *_) in enumerate(PROBLEMS):
        for j in range(n_per_problem):
            sound, right = rng.random() < 0.7, rng.random() < 0.6
            step = f"{i}+1={i + 1}" if sound else f"{i}+1={i + 3}"
            text = f"{rng.choice(['So', 'Thus', 'Now'])} {step}.\n#### {i + 1 if right else i + 7}"
            more = rng.choices(
                [
                    {},
                    {"finish_reason": "length"},
                    {"finish_reason": "error", "error": "E"},
                    {"text": "  "},
                ],
                [20, 1, 1, 1],
            )[0]
            rows.append(sample(author, problem, j, text) | more)
    rng.shuffle(rows)
    return rows


def verify(run, arm="wc"):
    verified = verification.verify(run, arm, Machine())
    folder = run.path("03", arm)
    tables = {p.stem: pd.read_parquet(p) for p in folder.glob("*.parquet")}
    verification.checks(run, arm, verified)
    return verified, tables
