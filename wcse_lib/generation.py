"""Room 02: draw one arm's samples for the training problems."""

from __future__ import annotations

import pandas as pd

from wcse_lib.engines import Sampling, open_engine
from wcse_lib.engines.imported import import_samples
from wcse_lib.prompts import load_tokenizer
from wcse_lib.records import read_parquet, read_samples
from wcse_lib.sampling import draw
from wcse_lib.study import Machine, Run, resolve_model


def generate(run: Run, arm: str, machine: Machine) -> pd.DataFrame:
    """Draw (or import) every sample that the plan gives this arm; returns all its rows. Resumes by key."""
    spec, folder = run.study.arms[arm], run.path("02", arm)
    problems = read_parquet(run.path("01", "train.parquet"))
    if spec.engine == "import":
        import_samples(folder, arm, spec, problems)
        rows = read_samples(folder)
        return rows[rows["sample_index"] < n_samples(run, arm)].reset_index(drop=True)
    s = run.study.sampling
    sampling = Sampling(s.temperature, s.top_k, s.top_p, s.max_tokens, tuple(s.stop))
    engine_name = "openai" if spec.engine == "openai" else machine.engine
    model = spec.model if engine_name == "openai" else resolve_model(spec.model)
    tokenizer = load_tokenizer(model)
    engine = open_engine(engine_name, model, machine.model_dump(exclude_none=True))
    try:
        return draw(
            folder,
            arm,
            problems,
            n_samples(run, arm),
            engine,
            tokenizer,
            run.study.prompt,
            sampling,
            run.study.seed,
            spec.model,
            engine_name,
        )
    finally:
        engine.close()


def n_samples(run: Run, arm: str) -> int:
    """The most samples per problem that any of the arm's budgets asks for."""
    return max(run.arm(arm)["samples"].values())


def first_prompt(run: Run, arm: str) -> str:
    """The first problem's whole prompt with its token ids, to be looked at before anything is drawn."""
    from wcse_lib.prompts import prompt_ids

    problem = read_parquet(run.path("01", "train.parquet")).iloc[0]
    if run.study.arms[arm].engine != "local":
        return run.study.prompt.template.replace("{question}", problem["question"])
    tokenizer = load_tokenizer(resolve_model(run.study.arms[arm].model))
    ids = prompt_ids(tokenizer, problem["question"], run.study.prompt.style, run.study.prompt.template)
    return f"{tokenizer.decode(ids)}\n\n{len(ids)} token ids: {ids}"


def checks(run: Run, arm: str, rows: pd.DataFrame) -> dict:
    """Facts about the drawn samples. Raises AssertionError when keys repeat or, for drawn arms, samples are missing."""
    assert not rows.duplicated(["author", "problem_id", "sample_index"]).any(), "a sample stands twice"
    drawn = run.study.arms[arm].engine != "import"
    expected = run.plan["n_problems"]["train"] * n_samples(run, arm)
    assert not drawn or len(rows) == expected, f"{expected - len(rows)} samples are missing"
    assert len(rows), "no samples at all"
    return {
        "n_samples": len(rows),
        "n_samples_planned": expected,
        "n_truncated": int((rows["finish_reason"] == "length").sum()),
        "n_failed": int((rows["finish_reason"] == "error").sum()),
        "duplicate_rate": float(rows.duplicated(["problem_id", "text"]).mean()),
        "n_tokens": int(rows["n_tokens"].clip(lower=0).sum()),
        "n_samples_without_token_count": int((rows["n_tokens"] < 0).sum()),
    }
