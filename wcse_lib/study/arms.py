"""The generators, what they may spend, and what is assumed before anything is drawn."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from wcse_lib.study.fields import Count, Name, Positive, Share, Strict, Temperature, Text
from wcse_lib.study.machine import ENDPOINTS


class SampleColumns(Strict):
    """Which fields of an imported file hold what."""

    text: str = "text"  # the sample, or a list of a problem's samples
    question: str | None = None  # joins a row to its problem by the question's text …
    problem_id: str | None = None  # … or by its id
    n_tokens: str | None = None  # its length; counted by `tokenizer` when left out
    # a problem's samples in this order; the file's order when left out
    sample_index: str | None = None
    # how it ended, in any server's word; empty ones count as finished
    finish_reason: str | None = None

    @model_validator(mode="after")
    def _rows_can_be_joined(self):
        if not (self.question or self.problem_id):
            raise ValueError("question or problem_id is needed, to join samples to their problems")
        return self


class Adaptive(Strict):
    """An arm that spends another arm's budget unevenly over the problems, by what its first samples say."""

    of: Name  # the arm whose model and budget it has
    # shares follow the failure rate (DART-Math) | stop at `correct` | all that is left goes to unsolved problems | one
    # sample at a time goes to each unsolved problem | by how likely the model finds its first sample of each
    rule: Literal["difficulty", "stop", "unsolved", "reset", "likelihood"] = "difficulty"
    first: Count = 2  # samples of every problem before anything is decided
    correct: Count = 4  # stop: enough correct samples of a problem


class OnPolicy(Strict):
    """Whose model scores what the students themselves write, and how (on-policy distillation, arXiv 2306.13649).

    A student may spend on it what learning from the samples of `of` costs: those samples, and the training on them.
    """

    of: Name  # the arm whose model scores, token by token
    # what the student makes small: 1 reverse KL, 0 forward KL, between them a generalised Jensen–Shannon divergence
    beta: Annotated[float, Field(ge=0, le=1)] = 1.0
    temperature: Positive = 1.0  # at which the students write
    learning_rate: Positive | None = None  # instead of the students' own


class ArmOfModel(Strict):
    """What an arm with a model of its own may say, whether its samples are drawn or imported."""

    model: Text  # nano name, checkpoint folder, hub id or endpoint model name
    # the student that this model became in an earlier round of self-improvement
    once: Name | None = None
    temperature: Temperature | None = None  # instead of sampling.temperature
    n_parameters: Positive | None = None  # where no checkpoint can be read
    n_active_parameters: Positive | None = None  # of a mixture of experts: what one token uses
    # output price, for match: price; else from params/prices.yaml
    usd_per_million_tokens: Positive | None = None
    # input price; goes with the key above
    usd_per_million_prompt_tokens: Annotated[float, Field(ge=0)] | None = None
    # what batches are cheaper by, a share: 0.5 is half the price; goes with these prices
    batch_discount: Share | None = None
    # for budget.lengths: measured, where there is no pilot
    tokens_per_sample: Positive | None = None

    @model_validator(mode="after")
    def _prices_go_together(self):
        if self.usd_per_million_tokens is not None:
            return self
        for key in ("usd_per_million_prompt_tokens", "batch_discount"):
            if getattr(self, key) is not None:
                raise ValueError(
                    f"{key}: goes with usd_per_million_tokens; give both, "
                    "or neither to take the price table's"
                )
        return self


class DrawnArm(ArmOfModel):
    """One generator at its share of the budget."""

    # local: the machine file says which engine | openai: call by call | batch: files of many, at the batch price
    engine: Literal["local", *ENDPOINTS] = "local"


class ImportedArm(ArmOfModel):
    """A generator whose samples are in a file."""

    # what wrote the samples, for tables; the arm's name when left out
    model: Text | None = None
    # its samples are read from `path`
    engine: Literal["import"]
    path: Text  # a JSONL, JSON, CSV or Parquet file
    columns: SampleColumns  # which of its fields hold what
    tokenizer: str | None = None  # counts the tokens where the file does not
    # what one sample cost, whatever its length; instead of usd_per_million_tokens
    usd_per_sample: Positive | None = None

    @model_validator(mode="after")
    def _one_price(self):
        if self.usd_per_sample is not None and self.usd_per_million_tokens is not None:
            raise ValueError("usd_per_sample: stands for usd_per_million_tokens; leave one out")
        return self


class MixedArm(Strict):
    """A mix of other arms at the same budget."""

    # budget shares of other arms; best: by the pilot's forecast
    mix: dict[Name, Positive] | Literal["best"]

    @field_validator("mix")
    @classmethod
    def _shares_sum_to_one(cls, mix: dict | str) -> dict | str:
        if isinstance(mix, dict) and abs(sum(mix.values()) - 1) > 1e-6:
            total = sum(mix.values())
            raise ValueError(f"the shares sum to {total:g}; they must sum to 1")
        return mix


class AdaptiveArm(Strict):
    """An arm that spends another arm's budget unevenly over the problems."""

    # how the budget is spread
    adaptive: Adaptive


class OnPolicyArm(Strict):
    """An arm that writes no samples: the model of another arm scores what the students themselves write."""

    # who scores, and how
    on_policy: OnPolicy


def _kind_of_arm(value: Any) -> str | None:
    """The tag of the kind of arm that a mapping of the params file is; None where it is none."""
    if isinstance(value, Strict):
        return next(tag for tag, kind in KINDS_OF_ARM.items() if type(value) is kind)
    if not isinstance(value, dict):
        return None
    kinds = {
        ("model",): "arm-drawn",
        ("mix",): "arm-mixed",
        ("adaptive",): "arm-adaptive",
        ("on_policy",): "arm-on-policy",
    }
    keys = ("model", "mix", "adaptive", "on_policy")
    named = tuple(key for key in keys if value.get(key) is not None)
    if value.get("engine") == "import" and named in ((), ("model",)):
        return "arm-imported"
    return kinds.get(named)


KINDS_OF_ARM = {
    "arm-drawn": DrawnArm,
    "arm-imported": ImportedArm,
    "arm-mixed": MixedArm,
    "arm-adaptive": AdaptiveArm,
    "arm-on-policy": OnPolicyArm,
}
ArmParams = Annotated[
    Annotated[DrawnArm, Tag("arm-drawn")]
    | Annotated[ImportedArm, Tag("arm-imported")]
    | Annotated[MixedArm, Tag("arm-mixed")]
    | Annotated[AdaptiveArm, Tag("arm-adaptive")]
    | Annotated[OnPolicyArm, Tag("arm-on-policy")],
    Discriminator(
        _kind_of_arm,
        custom_error_type="kind_of_arm",
        custom_error_message="exactly one of model, mix, adaptive and on_policy is needed",
    ),
]


class Budget(Strict):
    """What arms may spend: the reference arm's samples per problem at each named budget, and how others are matched."""

    reference: Name  # the arm whose samples are counted in `samples`
    # samples a problem of the reference arm, at each budget by name
    samples: Annotated[dict[Name, Count], Field(min_length=1)] = {"low": 1, "high": 10}
    # what all arms have equally much of
    match: Literal["flops", "price", "seconds", "count", "examples", "coverage"] = "flops"
    # which parameters FLOPs count
    parameters: Literal["all", "non_embedding"] = "all"
    # the paper's rule | the pilot's mean tokens of each arm
    lengths: Literal["equal", "measured"] = "equal"
    # charge prompts: with every sample where a pilot tells all lengths (by price: and prompts have prices), else not |
    # not (the paper) | once a problem | with every sample | in full once, then from a cache (USD: at that price)
    prompt_tokens: Literal["known", "none", "once", "each", "cached"] = "known"
    attention: bool = False  # add attention FLOPs
    prices: str = "params/prices.yaml"  # a dated price table, for arms without a price of their own
    # as of then; newest when left out
    price_date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")] | None = None
    batch: bool = False  # at the price table's batch discount
    # of a pilot, as pilot.first writes it: so many samples of every problem, and the rest of unsolved ones
    first: Count | None = None

    @field_validator("samples")
    @classmethod
    def _rising(cls, samples: dict[str, int]) -> dict[str, int]:
        """From the smallest to the largest, however the file orders them: controls and figures take the last for
        the largest."""
        return dict(sorted(samples.items(), key=lambda item: item[1]))

    @property
    def largest(self) -> str:
        return max(self.samples, key=self.samples.get)


class Pilot(Strict):
    """A small study of the same arms, sampled first, from which 01 forecasts (without students)."""

    n_problems: Annotated[int, Field(ge=10)] = 50  # training problems that it takes
    n_samples: Annotated[int, Field(ge=2)] = 8  # of every problem and arm, on average
    # so many of every problem, and the rest of those that these leave unsolved; all alike when left out
    first: Annotated[int, Field(ge=2)] | None = None
    # a finished study's folder whose samples of the same arms serve instead
    folder: str | None = None
    # let every untrained student read the pilot's correct samples in 01: whose fit it? (loads the students' models)
    fit: bool = False

    @model_validator(mode="after")
    def _something_is_left_for_the_unsolved(self):
        if self.first is not None and self.first >= self.n_samples:
            raise ValueError(
                f"first: {self.first} of {self.n_samples} samples leave none for unsolved problems; "
                "write fewer, or leave it out"
            )
        return self


class Power(Strict):
    """What 01 assumes when it says which differences the study could see, and 06 where one seed shows no luck."""

    # of two students' answers to the same problems; of two arms', a pilot tells
    correlation: Annotated[float, Field(gt=-1, lt=1)] = 0.5
    # of success: 0.5 is the hardest case; of arms, a pilot tells
    rate: Annotated[float, Field(gt=0, lt=1)] = 0.5
    # of the answers of two students that differ in their seed alone; at least `correlation`
    seed_correlation: Annotated[float, Field(gt=-1, lt=1)] = 0.7
    # spread of a student's accuracy over training seeds, each with a draw of its own: nano's is 1.3. With one seed, 06
    # assumes it
    seed_sd_points: Annotated[float, Field(ge=0)] = 1.3
    # differences up to this count as none: 06 then says where larger ones are excluded
    equivalence_points: Annotated[float, Field(gt=0)] | None = None
