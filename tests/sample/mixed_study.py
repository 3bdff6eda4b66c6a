"""A study of every kind of arm whose samples are made up, right or wrong by a seed of their own."""

import hashlib
from functools import partial

import pandas as pd
from studies import verdict_rows

from wcse_lib.sample import uneven
from wcse_lib.sample.drawing import complete
from wcse_lib.store import (
    KEY,
    SampleWriter,
    read_parquet,
    read_samples,
    write_manifest,
    write_parquet,
)
from wcse_lib.study import MixedArm, Run, check_study
from wcse_lib.verdicts import judged_rows
from wcse_lib.verify import judgement_rows


def study_of(name="mixed", n=40, samples=None, budget=None, **more):
    """A nano study of se, wc, a half-and-half mix and an adaptive arm of wc."""
    arms = {
        "se": {"model": "nano-se"},
        "wc": {"model": "nano-wc"},
        "mix": {"mix": {"se": 0.5, "wc": 0.5}},
        "adaptive": {"adaptive": {"of": "wc", "first": 2}},
    }
    data = {
        "study": name,
        "dataset": {"name": "nano", "n_train": n, "levels": [1, 2]},
        "arms": arms,
        "budget": {
            "reference": "se",
            "samples": samples or {"low": 1, "high": 5},
            **(budget or {}),
        },
    }
    return check_study(data | more, "test")


def taught(name="three_draws", **training):
    """Such a study with a student that is an arm, too, and three training seeds."""
    training = {"seeds": [4, 9, 2], "amount": {"low": 1, "high": 2}} | training
    dataset = {"name": "nano", "n_train": 24, "n_held_out": 5, "levels": [1, 2]}
    return study_of(
        name,
        dataset=dataset,
        students={"wc": {"model": "nano-wc"}},
        training=training,
        recipes={"first": {"n_samples": 1}, "equal": {"n_examples": "equal"}},
        controls={"pooled": True, "wrong": True},
    )


def chance(problem_id: str, model: str) -> float:
    """A problem's made-up success rate: some are never solved."""
    u = int(hashlib.sha256(problem_id.encode()).hexdigest()[:8], 16) / 2**32
    return max(0.0, u - 0.15) * (1.0 if model == "nano-se" else 0.7)


def drawn(run: Run, arm: str, n, author: str | None = None) -> pd.DataFrame:
    """What an engine would do: the samples that are not there yet, right or wrong by a seed of their own."""
    author, folder = author or arm, run.path("02", author or arm)
    problems, have = read_parquet(run.path("01", "train.parquet")), read_samples(folder, KEY)
    have, spec = set(zip(have["problem_id"], have["sample_index"])), run.study.arms[arm]
    with SampleWriter(folder) as writer:
        for row in problems.itertuples():
            for i in range(n) if isinstance(n, int) else n[row.problem_id]:
                if (row.problem_id, i) not in have:
                    u = (
                        int(
                            hashlib.sha256(f"{spec.model}{row.problem_id}{i}".encode()).hexdigest()[
                                :8
                            ],
                            16,
                        )
                        / 2**32
                    )
                    text = row.reference if u < chance(row.problem_id, spec.model) else "#### 99999"
                    writer.add(
                        {
                            "author": author,
                            "problem_id": row.problem_id,
                            "sample_index": i,
                            "seed": 0,
                            "text": text,
                            "n_prompt_tokens": 20,
                            "n_tokens": 10 + i % 3,
                            "finish_reason": "stop",
                            "engine": "hf",
                            "model": spec.model,
                            "prompt_hash": "",
                            "error": "",
                            "usd": None,
                        }
                    )
    return complete(folder, author, problems, n)


def fill(run: Run, arms=None) -> None:
    """02 and 03 of the arms, plain ones first."""
    problems = read_parquet(run.path("01", "train.parquet"))
    for arm in arms or run.study.order:
        spec = run.study.arms[arm]
        if isinstance(spec, MixedArm):
            rows = uneven.draw_mix(run, arm)
        elif rule := run.study.rule_of(arm):
            rows = uneven.draw_adaptive(run, arm, partial(drawn, run, rule.of, author=arm))
        else:
            rows = drawn(run, arm, run.draws(arm).n_in_blocks)
        verdicts = verdict_rows(rows, problems, "auto")
        write_parquet(run.path("03", arm, "verdicts.parquet"), verdicts)
        judgements = judgement_rows(rows, verdicts, problems, "exact")
        write_parquet(run.path("03", arm, "judgements.parquet"), judgements)
        judged = judged_rows(rows, verdicts, judgements, run.study.seed)
        write_parquet(run.path("03", arm, "judged.parquet"), judged)
        write_parquet(
            run.path("03", arm, "examples.parquet"),
            rows[KEY].head(0).assign(budget="", recipe="main"),
        )
        each = 0.5 if arm == "se" else 0.1
        write_manifest(
            run.path("02", arm),
            run.plan_id,
            {"seconds": each * len(rows), "seconds_per_sample": each},
        )
        write_manifest(run.path("03", arm), run.plan_id, {})
