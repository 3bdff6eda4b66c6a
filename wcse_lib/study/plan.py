"""The plan: what 01 writes once, typed, and every later stage obeys."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from wcse_lib.store import StudyError, read_json
from wcse_lib.study.amounts import Amounts
from wcse_lib.study.arms import Adaptive
from wcse_lib.study.draws import Draws
from wcse_lib.study.machine import ENDPOINTS, MachinePrice
from wcse_lib.study.params import Study

MAIN = "main"  # the recipe that is study.curation
Source = Literal["base", "arm", "on_policy", "pooled", "planted", "reference", "wrong"]
# of students that an arm teaches, by its samples or by scoring what they write
BY_ARMS: tuple[Source, ...] = ("arm", "on_policy")
Paradigm = Literal["kd", "self", "w2s", "opd"]


class Record(BaseModel):
    """A part of the plan: no unknown keys, and nothing changes it."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True)
class ModelSize:
    """Sizes counted in a checkpoint: tied weights once, vision towers too."""

    n_parameters: int
    n_non_embedding: int
    n_active: int  # with only the experts that a token passes
    n_layers: int
    attention_width: int  # query heads × head size


class Price(Record):
    """USD per million tokens, as the params file or a row of the price table gives them; `sample`: of one sample,
    whatever its length."""

    model: str
    output: float
    input: float | None = None
    cached: float | None = None
    batch_discount: float | None = None  # a share
    sample: float | None = None
    date: str | None = None
    source: str | None = None

    def of_batches(self) -> Price:
        """The price of what is bought in batches. Raises ValueError where it is not known by what it is lower."""
        if self.batch_discount is None:
            raise ValueError(
                f"{self.model}: its price row has no 'batch_discount'; add it, with its source"
            )
        lower = {}
        for key in ("output", "input", "cached"):
            amount = getattr(self, key)
            lower[key] = None if amount is None else amount * (1 - self.batch_discount)
        return self.model_copy(update=lower | {"batch_discount": None})


class PlannedArm(Record):
    """What every kind of arm has in the plan."""

    samples: dict[str, int]  # whole samples of a problem in a draw, at each budget
    exchange_ratio: float  # samples for one of the reference arm's
    budget_used: dict[str, float]  # share of each budget that the samples use
    # of all training problems and draws, at each budget, as the budget counts them
    planned: dict[str, Amounts]
    # 2·P, P as the budget counts it; None where no size is known
    planned_flops_per_token: float | None

    @property
    def largest_budget(self) -> str:
        return max(self.samples, key=self.samples.get)


class ModelFacts(Record):
    """What is known of the model of an arm, and of its samples' lengths."""

    model: str
    engine: Literal["local", *ENDPOINTS, "import"]
    n_parameters: float | None
    n_active_parameters: float | None  # of a mixture of experts
    size: ModelSize | None  # where a checkpoint can be read
    price: Price | None
    tokens_per_sample: float | None
    prompt_tokens: float | None
    seconds_per_sample: float | None
    judge: dict[str, float] | None  # what judging a sample costs, by unit

    @property
    def is_billed(self) -> bool:
        """Whether a server draws its samples and bills them, prompts too."""
        return self.engine in ENDPOINTS


class PlannedDrawn(PlannedArm, ModelFacts):
    """An arm whose samples are drawn from its model."""

    kind: Literal["drawn"] = "drawn"


class PlannedImported(PlannedArm, ModelFacts):
    """An arm whose samples come from a file; `samples` are the most of a problem that the file holds.

    By budget, where the file holds fewer samples than one buys: what it buys of a problem, the mean that the file
    holds of it, and how many problems have fewer.
    """

    kind: Literal["imported"] = "imported"
    bought: dict[str, int] = {}
    held: dict[str, float] = {}
    n_short: dict[str, int] = {}


class PlannedAdaptive(PlannedArm, ModelFacts):
    """An arm that spends the budget of the arm `rule.of`, with its model, unevenly over problems."""

    kind: Literal["adaptive"] = "adaptive"
    rule: Adaptive


class PlannedMixed(PlannedArm):
    """An arm that copies samples of other arms."""

    kind: Literal["mixed"] = "mixed"
    shares: dict[str, float]  # of the budget, by arm
    parts: dict[str, dict[str, float]]  # at each budget, mean samples of a problem by arm
    # the same where files of imported arms hold fewer
    held_parts: dict[str, dict[str, float]] = {}

    @property
    def held(self) -> dict[str, float]:
        """Mean samples of a problem, at the budgets where files hold fewer than are bought."""
        return {budget: sum(part.values()) for budget, part in self.held_parts.items()}


AnyArm = Annotated[
    PlannedDrawn | PlannedImported | PlannedMixed | PlannedAdaptive, Field(discriminator="kind")
]


class PlannedStudent(Record):
    """A student to train and test; a base is tested only, and has neither seed nor amount."""

    base: str
    model: str
    n_parameters: int
    learning_rate: float | list[float]  # of several, validation chooses
    source: Source
    arm: str | None = None
    budget: str | None = None
    recipe: str | None = None
    paradigm: Paradigm | None = None
    seed: int | None = None
    amount: float | None = None  # of training, in the unit of training.mode


class PilotFacts(Record):
    """What the pilot measured of an arm."""

    n_problems: int
    n_samples: int
    pass_at_1: float  # of the samples whose number was fixed beforehand, as are the next two
    n_false: int  # judged unsound
    n_judged: int
    never_solved: float  # expected share of problems that 1,000 samples would not solve
    spent: Amounts


class Crossing(Record):
    """Where the expected coverage of two arms crosses, in samples of the first one."""

    arms: list[str]
    value: float
    low: float
    high: float
    p: float  # the chance that there is a crossing


class TriedPrompts(Record):
    """What 01 saw when it showed a local model its prompts."""

    model: str
    text: str = ""  # the first prompt; empty where the model is not here
    ids: list[int] = []
    n_longest: int = 0  # tokens
    longest: str = ""  # the problem of the longest one
    n_positions: int | None = None  # that the model has; None: no limit
    end: str | None = None  # of a student's answers
    notes: list[str] = []


class MeaningFacts(Record):
    """What decontamination by meaning was done with, and what came of it."""

    # what decides the vectors: a checkpoint's files and pooling, or an endpoint's model
    made_by: dict[str, Any]
    n_dimensions: int
    threshold: float  # of a margin: the largest cosine minus the mean of the next ones
    n_compared: (
        int  # training problems whose likeness to others the threshold comes from; 0: it was given
    )
    n_removed: int
    n_tokens: int  # of all the texts, whenever their vectors were made
    usd: float | None = None  # likewise; None where no price is known, or nobody bills


class Plan(Record):
    """Everything that 01 decided. Later stages read it, and nothing else of the params file."""

    plan_id: str
    study: Study
    arms: dict[str, AnyArm]  # those that have samples
    students: dict[str, PlannedStudent]
    n_problems: dict[str, int]  # by split
    n_held_out: dict[str, int]  # by held-out set
    dropped_problems: dict[str, int]  # by split and reason
    n_near_duplicates: int
    meaning: MeaningFacts | None = None  # decontamination by it
    problems_sha256: dict[str, str]
    files: dict[str, str]  # SHA-256 of the local files that the params file names
    versions: dict[str, str]
    # the tag with which a local model's prompts end where they open a thought, by its key such as arms.wc
    opens_thought: dict[str, str] = {}
    prompts: dict[str, TriedPrompts] = {}  # by the model's key, such as arms.wc
    # what an hour costs where it will run, as 01 was told; no row depends on it
    machine: MachinePrice | None = None
    pilot: dict[str, PilotFacts] | None = None
    pilot_correlation: float | None = None
    forecast: list[str] | None = None  # what the pilot lets expect, in sentences
    crossings: list[Crossing] | None = None

    @property
    def n_draws(self) -> int:
        """How many times every arm's budgets are drawn; see `Study.n_draws`."""
        return self.study.n_draws

    @property
    def teachings(self) -> list[str]:
        """All arms that students learn from: those that have samples, then those that score what students write."""
        return [*self.arms, *self.study.on_policy_arms]

    def counterpart(self, student: str) -> str:
        """Of an on-policy student the one that learns from samples of the very model that scores it: the same base,
        budget and seed."""
        one = self.students[student]
        of = self.study.on_policy_arms[one.arm].of
        wanted = (one.base, "arm", of, one.budget, one.recipe, one.seed)
        for name, other in self.students.items():
            if wanted == (
                other.base,
                other.source,
                other.arm,
                other.budget,
                other.recipe,
                other.seed,
            ):
                return name
        raise KeyError(student)  # a params file without it is refused

    def draws(self, arm: str) -> Draws:
        """How an arm's sample indices are shared out to draws."""
        samples = self.arms[arm].samples
        return Draws(self.n_draws, max(samples.values()))

    def parts(self, arm: str) -> list[str]:
        """The arms that a mix or an adaptive arm draws from; none of any other arm."""
        planned = self.arms[arm]
        if isinstance(planned, PlannedMixed):
            return list(planned.shares)
        return [planned.rule.of] if isinstance(planned, PlannedAdaptive) else []

    def shares(self, arm: str, budget: str) -> dict[str, float]:
        """Samples of a problem at a budget, by the arm whose model draws them."""
        return shares_of(self.arms[arm], arm, budget)

    def n_samples(self, arm: str, budget: str) -> float:
        """Samples of a problem; the mean where a file holds fewer than the budget buys."""
        planned = self.arms[arm]
        held = getattr(planned, "held", {})
        return held.get(budget, planned.samples[budget])

    def opened_thoughts(self, arm: str) -> dict[str, str]:
        """The tags that open the thoughts of an arm's samples, by the model that drew them."""
        tags = {}
        for name in self.parts(arm) or [arm]:
            if tag := self.opens_thought.get(f"arms.{name}"):
                tags[self.arms[name].model] = tag
        return tags

    def opened_thought(self, student: str) -> str:
        """The tag that opens the thought at the end of a student's prompts; "" for none."""
        return self.opens_thought.get(f"students.{self.students[student].base}", "")

    def plain_arms(self) -> dict[str, PlannedDrawn | PlannedImported]:
        """The arms that have a model of their own: what mixes and adaptive arms draw from."""
        plain = (PlannedDrawn, PlannedImported)
        return {name: arm for name, arm in self.arms.items() if isinstance(arm, plain)}


def shares_of(planned: PlannedArm, name: str, budget: str) -> dict[str, float]:
    """Samples of a problem that an arm takes at a budget, by the arm whose model draws them."""
    if isinstance(planned, PlannedMixed):
        return planned.held_parts.get(budget, planned.parts[budget])
    if isinstance(planned, PlannedAdaptive):
        return {planned.rule.of: planned.samples[budget]}
    if isinstance(planned, PlannedImported) and budget in planned.held:
        return {name: planned.held[budget]}
    return {name: planned.samples[budget]}


def read_plan(path: Path) -> Plan:
    """The plan of a study's folder. Raises StudyError when it is missing, damaged, or of another version of the kit."""
    data = read_json(path)
    try:
        return Plan.model_validate(data)
    except ValidationError as error:
        fault = error.errors()[0]
        key = ".".join(map(str, fault["loc"]))
        raise StudyError(
            f"{path}: not a plan of this version of the kit ({key}: {fault['msg']}); "
            "run 01 again under another study name, or delete the study's folder"
        ) from None
