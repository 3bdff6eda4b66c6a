"""The generators, what they may spend, and what is assumed before anything is drawn."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from wcse_lib.study.fields import Count, Name, Positive, Strict


class SampleColumns(Strict):
    """Which fields of an imported file hold what."""

    text: str = "text"  # the sample
    question: str | None = None  # joins a row to its problem by the question's text …
    problem_id: str | None = None  # … or by its id
    n_tokens: str | None = None  # its length; counted by `tokenizer` when left out
    sample_index: str | None = (
        None  # a problem's samples in this order; the file's order when left out
    )
    finish_reason: str | None = (
        None  # length marks a truncated sample; all others count as finished
    )


class Adaptive(Strict):
    """An arm that spends another arm's budget unevenly over the problems, by what its first samples say."""

    of: Name  # the arm whose model and budget it has
    rule: Literal["difficulty", "stop"] = (
        "difficulty"  # shares follow the failure rate (DART-Math) | stop at `correct`
    )
    first: Count = 2  # samples of every problem before anything is decided
    correct: Count = 4  # stop: enough correct samples of a problem


class ArmParams(Strict):
    """One generator at its share of the budget; or a mix of other arms, or an adaptive arm, at the same budget."""

    model: str | None = None  # nano name, checkpoint folder, hub id or endpoint model name
    engine: Literal["local", "openai", "import"] = (
        "local"  # local: the machine file says which engine
    )
    path: str | None = None  # import: a JSONL, CSV or Parquet file
    columns: SampleColumns | None = None  # import
    tokenizer: str | None = None  # import: counts the tokens where the file does not
    mix: dict[Name, Positive] | Literal["best"] | None = (
        None  # budget shares of other arms; best: by the pilot's forecast
    )
    adaptive: Adaptive | None = None  # spend another arm's budget unevenly over problems
    once: Name | None = (
        None  # the student that this model became in an earlier round of self-improvement
    )
    temperature: Annotated[float, Field(ge=0, le=5)] | None = (
        None  # instead of sampling.temperature
    )
    n_parameters: Positive | None = None  # where no checkpoint can be read
    n_active_parameters: Positive | None = None  # of a mixture of experts: what one token uses
    usd_per_million_tokens: Positive | None = (
        None  # output price, for match: price; else from params/prices.yaml
    )
    usd_per_million_prompt_tokens: Annotated[float, Field(ge=0)] | None = (
        None  # input price; goes with the key above
    )
    tokens_per_sample: Positive | None = (
        None  # for budget.lengths: measured, where there is no pilot
    )

    @model_validator(mode="after")
    def _check(self):
        if sum(x is not None for x in (self.model, self.mix, self.adaptive)) != 1:
            raise ValueError("exactly one of model, mix and adaptive is needed")
        if (self.engine == "import") != bool(self.path):
            raise ValueError("path: needed with engine: import, and only there")
        if self.engine == "import" and not (
            self.columns and (self.columns.question or self.columns.problem_id)
        ):
            raise ValueError(
                "columns: an imported arm needs columns.text and columns.question or columns.problem_id"
            )
        if self.usd_per_million_prompt_tokens is not None and self.usd_per_million_tokens is None:
            raise ValueError(
                "usd_per_million_prompt_tokens: goes with usd_per_million_tokens; give both, or neither to take the price table's"
            )
        return self


class Budget(Strict):
    """What arms may spend: the reference arm's samples per problem at each named budget, and how others are matched."""

    reference: Name  # the arm whose samples are counted in `samples`
    samples: Annotated[dict[Name, Count], Field(min_length=1)] = {
        "low": 1,
        "high": 10,
    }  # samples a problem of the reference arm, at each budget by name
    match: Literal["flops", "price", "seconds", "count", "examples", "coverage"] = "flops"
    parameters: Literal["all", "non_embedding"] = "all"
    lengths: Literal["equal", "measured"] = (
        "equal"  # the paper's rule | the pilot's mean tokens of each arm
    )
    # charge prompts: not | once a problem | with every sample | in full once and then from a cache (USD: at that price)
    prompt_tokens: Literal["none", "once", "each", "cached"] = "none"
    attention: bool = False  # add attention FLOPs
    prices: str = "params/prices.yaml"  # a dated price table, for arms without a price of their own
    price_date: Annotated[str, Field(pattern=r"^\d{4}-\d{2}(-\d{2})?$")] | None = (
        None  # as of then; newest when left out
    )
    batch: bool = False  # at the price table's batch discount

    @field_validator("samples")
    @classmethod
    def _rising(cls, samples: dict[str, int]) -> dict[str, int]:
        """From the smallest to the largest, however the file orders them: controls and figures take the last for the largest."""
        return dict(sorted(samples.items(), key=lambda item: item[1]))


class Pilot(Strict):
    """A small study of the same arms, sampled first, from which 01 forecasts (without students)."""

    n_problems: Annotated[int, Field(ge=10)] = 50  # training problems that it takes
    n_samples: Annotated[int, Field(ge=2)] = 8  # of every problem and arm
    folder: str | None = (
        None  # a finished study's folder whose samples of the same arms serve instead
    )


class Power(Strict):
    """What 01 assumes when it says which differences the study could see."""

    correlation: Annotated[float, Field(gt=-1, lt=1)] = (
        0.5  # of two students' answers to the same problems; of two arms', a pilot tells
    )
    rate: Annotated[float, Field(gt=0, lt=1)] = (
        0.5  # of success: 0.5 is the hardest case; of arms, a pilot tells
    )
    seed_sd_points: Annotated[float, Field(ge=0)] = (
        1.0  # spread of a student's accuracy over training seeds
    )
