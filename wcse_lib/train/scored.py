"""What an on-policy student is asked, and by whose model what it writes is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wcse_lib import sample
from wcse_lib.budget import on_policy_budget, on_policy_cost, scorer_of
from wcse_lib.store import read_parquet
from wcse_lib.study import Machine, Run, resolve_model, settings_of
from wcse_lib.train.on_policy import Asked, OnPolicyTraining


def on_policy_training(run: Run, student: str, machine: Machine) -> OnPolicyTraining:
    """The training of an on-policy student: its prompts, who scores, and for how many FLOPs.

    The scorer reads each problem's prompt as it does as an arm. Raises StudyError where the student's counterpart,
    whose cost is the budget, is not trained yet.
    """
    one, study = run.student(student), run.study
    spec, model = study.on_policy_arms[one.arm], resolve_model(one.model)
    scorer, tokenizer = resolve_model(scorer_of(run, student).model), sample.load_tokenizer(model)
    decoding = sample.Decoding(
        temperature=spec.temperature,
        top_k=0,
        top_p=1.0,
        max_tokens=study.sampling.max_tokens,
        stop=sample.stops(study.prompt, study.sampling.stop),
    )
    return OnPolicyTraining(
        base_model=model,
        scorer=scorer,
        prompts=_prompts(run, student, tokenizer, sample.load_tokenizer(scorer)),
        cost=on_policy_cost(run, student),
        budget_flops=on_policy_budget(run, student),
        beta=spec.beta,
        decoding=decoding,
        author=student,
        seed=study.seed,
        settings=settings_of(study, one, machine),
        folder=Path(run.path("04", student)),
        end_id=sample.end_token(tokenizer, run.prompt_of(student).style),
    )


def _prompts(run: Run, student: str, own: Any, scorers: Any) -> list[Asked]:
    """Every training problem's prompt, as the student and as the arm is shown it, by the tokenizer of each."""
    problems = read_parquet(run.path("01", "train.parquet"), ["problem_id", "question"])
    asked = []
    for problem in problems.itertuples():
        ids = sample.prompt_ids(own, problem.question, run.prompt_of(student))
        scorer_ids = sample.prompt_ids(scorers, problem.question, run.study.prompt)
        asked.append(Asked(problem.problem_id, ids, scorer_ids))
    return asked
