"""What on-policy distillation costs, and may cost: as much as learning from the samples of the arm that scores."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from wcse_lib.budget.checkpoints import read_model
from wcse_lib.budget.costs import sampling_flops, training_flops
from wcse_lib.budget.ledger import flops_of_draw
from wcse_lib.budget.matching import charged_prompts
from wcse_lib.store import StudyError, read_json
from wcse_lib.study import ModelSize, PlannedDrawn, Run, resolve_model


class OnPolicyFlops(NamedTuple):
    """FLOPs of what a student writes, of its scoring by an arm's model, and of training on it."""

    writing: float = 0.0
    scoring: float = 0.0
    training: float = 0.0

    @property
    def total(self) -> float:
        return sum(self)

    def plus(self, other: OnPolicyFlops) -> OnPolicyFlops:
        return OnPolicyFlops(*(mine + theirs for mine, theirs in zip(self, other)))


@dataclass(frozen=True)
class OnPolicyCost:
    """How on-policy distillation is counted, by the rules that count sampling and training everywhere.

    The student's sample is a drawn one, whose prompt is charged where the budget charges prompts (each time: its
    weights are new). The scorer reads prompt and sample in one forward pass, 2·P per token. The student trains on both,
    6·P per token. Attention counts where the budget counts it.
    """

    student: ModelSize
    scorer_parameters: float
    scorer: ModelSize | None  # for attention
    charges_prompts: bool
    counts_attention: bool

    def of_sample(
        self, n_prompt: int, n_scored_prompt: int, n_new: int, n_trained: int
    ) -> OnPolicyFlops:
        """FLOPs of one sample of `n_new` tokens.

        Args: n_prompt and n_scored_prompt: tokens of the prompt as the student and as the scorer reads it; n_trained:
        the student's trained parameters.
        """
        own, scorers = self._shape(self.student), self._shape(self.scorer)
        prompts = "each" if self.charges_prompts else "none"
        n_parameters = self.student.n_parameters
        return OnPolicyFlops(
            writing=sampling_flops(n_parameters, n_new, n_prompt, prompt=prompts, **own),
            scoring=sampling_flops(self.scorer_parameters, 0, n_scored_prompt + n_new, **scorers),
            training=training_flops(n_parameters, n_prompt + n_new, n_trained),
        )

    def _shape(self, size: ModelSize | None) -> dict[str, int]:
        if not self.counts_attention or size is None:
            return {}
        return {"n_layers": size.n_layers, "attention_width": size.attention_width}


def on_policy_cost(run: Run, student: str) -> OnPolicyCost:
    """How the on-policy training of a student of this study is counted."""
    scorer = scorer_of(run, student)
    return OnPolicyCost(
        student=read_model(resolve_model(run.student(student).model)),
        scorer_parameters=scorer.planned_flops_per_token / 2,
        scorer=scorer.size,
        charges_prompts=charged_prompts(run.study, run.plan.plain_arms()) != "none",
        counts_attention=run.study.budget.attention,
    )


def scorer_of(run: Run, student: str) -> PlannedDrawn:
    """The arm whose model scores what an on-policy student writes."""
    return run.arm(run.study.on_policy_arms[run.student(student).arm].of)


def on_policy_budget(run: Run, student: str) -> float:
    """FLOPs that an on-policy student may spend: those of the samples that its counterpart learns from, which the
    arm's model drew at this budget and for this draw, and of the counterpart's training.

    Raises StudyError where the counterpart is not trained yet.
    """
    one, counterpart = run.student(student), run.plan.counterpart(student)
    path = run.path("04", counterpart, "report.json")
    if not path.exists():
        raise StudyError(
            f"{student} may spend what {counterpart} costs, which is not trained yet: train {counterpart} first"
        )
    drawn = flops_of_draw(run, run.student(counterpart).arm, one.budget, run.draw_of(student))
    return drawn + read_json(path)["spent_flops"]
