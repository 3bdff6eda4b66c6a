"""What it costs that each training seed learns from a draw of its own, as upper bounds that need no pilot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from wcse_lib import budget
from wcse_lib.study import Amounts, ModelFacts, PlannedStudent, Run, Study


def sampling_at_most(
    study: Study, known: Mapping[str, ModelFacts], parts: Mapping[str, float], n_problems: int
) -> Amounts:
    """What samples of all draws cost when every one has max_tokens tokens and no prompt.

    Args: parts: samples of a problem in a draw, by the arm whose model draws them.
    """
    longest = {"tokens_per_sample": float(study.sampling.max_tokens), "prompt_tokens": 0.0}
    terms = study.budget.model_copy(update={"prompt_tokens": "none", "attention": False})
    without_prompts = study.model_copy(update={"budget": terms})
    facts = {part: of_part.model_copy(update=longest) for part, of_part in known.items()}
    return budget.planned_amounts(without_prompts, facts, parts, n_problems)


def training_at_most(study: Study, students: Iterable[PlannedStudent]) -> float:
    """FLOPs of the students' training at most; epochs depend on how many samples are right, and count nothing."""
    return sum(_of_student(study, student) for student in students)


def _of_student(study: Study, student: PlannedStudent) -> float:
    training = study.training
    if student.source == "base" or not student.n_parameters or training.mode == "epochs":
        return 0.0
    n_tokens = student.amount
    if training.mode == "steps":
        n_tokens = student.amount * training.batch_size * training.max_tokens
    rate = student.learning_rate
    n_rates = len(rate) if isinstance(rate, list) else 1
    return n_rates * budget.training_flops(student.n_parameters, n_tokens)


def draws_sentence(study: Study, sampling_flops: float, training_flops: float) -> str:
    """What the training seeds learn from, and what that costs; empty where no two seeds are trained.

    Args: FLOPs at most of all draws and of all trainings, 0 where not known.
    """
    n_seeds, n_draws = len(study.training.seeds), study.n_draws
    if n_seeds == 1 or not study.students:
        return ""
    if n_draws == 1:
        return (
            f"All {n_seeds} training seeds learn from the same samples (training.draws: shared): the study will speak "
            "of these training sets, not of the generators."
        )
    text = (
        f"Each of {n_seeds} training seeds learns from a draw of its own: every arm's budget is drawn "
        f"{n_draws} times"
    )
    if sampling_flops:
        text += (
            f", at most {sampling_flops:.2g} FLOPs in all, {sampling_flops / n_draws:.2g} a draw"
        )
    if sampling_flops and training_flops:
        share = 100 * sampling_flops / (sampling_flops + training_flops)
        text += f" (at most {training_flops:.2g} for training: sampling is {share:.2g} % of both)"
    return f"{text}. training.draws: shared draws once."


def what_draws_cost(run: Run) -> str:
    """`draws_sentence` of a planned study."""
    plan = run.plan
    known, n_problems = plan.plain_arms(), plan.n_problems["train"]
    flops = 0.0
    for name, arm in plan.arms.items():
        if getattr(arm, "engine", "") != "import":
            parts = plan.shares(name, arm.largest_budget)
            flops += sampling_at_most(plan.study, known, parts, n_problems).flops or 0.0
    training = training_at_most(plan.study, plan.students.values())
    return draws_sentence(plan.study, flops, training)
