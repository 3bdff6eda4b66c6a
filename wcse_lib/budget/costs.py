"""What samples cost under each named cost model, and the FLOPs of sampling and training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wcse_lib.budget.numbers import check_not_negative, check_positive
from wcse_lib.budget.prices import usd
from wcse_lib.study import ModelSize, Price

# How prompt tokens count: never, once per problem (shared prefix), with every sample, or once in full and then from a
# cache (in FLOPs like once; in USD at the cached price).
PROMPTS = ("none", "once", "each", "cached")


def sampling_flops(
    n_parameters: float,
    n_tokens: float,
    n_prompt_tokens=0.0,
    n_samples=1.0,
    prompt="each",
    n_layers=0,
    attention_width=0,
) -> float:
    """FLOPs of drawing `n_samples` samples of `n_tokens` tokens each: 2·P per token (Kaplan et al. 2020, 2001.08361).

    Give a mixture of experts' active parameters. Prompt tokens count as PROMPTS says. With `n_layers` and
    `attention_width` (heads × head size) attention adds 4·layers·width·position per token (Chowdhery et al. 2022,
    2204.02311, appendix B). Left out: softmax, norms, windows (full attention is counted), hardware utilisation, failed
    samples, verification. Raises ValueError for numbers that cannot be.

    >>> sampling_flops(n_parameters=9e9, n_tokens=100)
    1800000000000.0
    """
    check_positive(n_parameters=n_parameters)
    check_not_negative(n_tokens=n_tokens, n_prompt_tokens=n_prompt_tokens, n_samples=n_samples)
    n_prefills = _prefills(prompt, n_samples)
    tokens = n_samples * n_tokens + n_prefills * n_prompt_tokens
    # every token attends to all positions before it
    sampled_positions = n_samples * n_tokens * (n_prompt_tokens + n_tokens / 2)
    positions = sampled_positions + n_prefills * n_prompt_tokens**2 / 2
    return 2.0 * n_parameters * tokens + 4.0 * n_layers * attention_width * positions


def _prefills(prompt: str, n_samples: float) -> float:
    """How many times a prompt is read in full for `n_samples` samples of its problem."""
    if prompt not in PROMPTS:
        raise ValueError(
            f"prompt = {prompt!r}: choose how prompt tokens count: {', '.join(PROMPTS)}"
        )
    if prompt == "none":
        return 0.0
    return n_samples if prompt == "each" else min(n_samples, 1.0)


def training_flops(n_parameters: float, n_tokens: float, n_trainable: float | None = None) -> float:
    """FLOPs of training on `n_tokens` tokens, prompts and epochs included: 6·P per token (Kaplan et al. 2020); an
    adapter saves the frozen weights' gradients: 4·P + 2·P_trainable. Left out: attention, optimiser, recomputation."""
    check_positive(n_parameters=n_parameters)
    check_not_negative(n_tokens=n_tokens, n_trainable=n_trainable or 0)
    with_gradient = n_parameters if n_trainable is None else n_trainable
    return (4.0 * n_parameters + 2.0 * with_gradient) * n_tokens


@dataclass(frozen=True)
class SampleCost:
    """What one sample of an arm takes: mean lengths in tokens; `size`: a ModelSize or a number of parameters, and of a
    mixture of experts those that a token uses, `active`, where `size` does not say them; measured device-seconds, and
    `machine_usd`, what the machine costs meanwhile; a row of the price table, by which an endpoint's arm is billed;
    `judge`: the cost of checking a sample, by unit ({"usd": 0.001})."""

    n_tokens: float
    n_prompt_tokens: float = 0.0
    size: ModelSize | float | None = None
    active: float | None = None
    device_seconds: float | None = None
    machine_usd: float | None = None
    price: Price | None = None
    is_billed: bool = False
    batch: bool = False
    judge: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        check_positive(n_tokens=self.n_tokens)  # an arm that writes nothing cannot be matched
        check_not_negative(n_prompt_tokens=self.n_prompt_tokens)
        check_not_negative(**{f"judge.{unit}": amount for unit, amount in self.judge.items()})
        if self.size is not None and self.checkpoint is None:
            check_positive(size=self.size)
        for name in ("active", "device_seconds", "machine_usd"):
            if getattr(self, name) is not None:
                check_positive(**{name: getattr(self, name)})

    @property
    def checkpoint(self) -> ModelSize | None:
        """The size, where it was read from a checkpoint."""
        return self.size if isinstance(self.size, ModelSize) else None

    @property
    def n_parameters(self) -> float:
        return self.checkpoint.n_parameters if self.checkpoint else self.size

    @property
    def n_active(self) -> float:
        if self.active is not None:
            return self.active
        return self.checkpoint.n_active if self.checkpoint else self.size

    @property
    def paid(self) -> Price | float | None:
        """By what a sample is paid: an endpoint's price, else the machine's USD; None where that is not known."""
        return self.price if self.is_billed else self.machine_usd


@dataclass(frozen=True)
class CostModel:
    """One way to count cost.

    `count` gives what n samples of one problem cost an arm, in `unit`, where prompts count as one of PROMPTS; `needs`
    is the attribute of SampleCost that has to be known; `judged`: what judging costs is added where it is known.
    """

    count: Callable[[SampleCost, float, str], float]
    unit: str
    leaves_out: str
    needs: str = ""
    judged: bool = False


COST_MODELS: dict[str, CostModel] = {}
IN_WORDS = {
    "size": "n_parameters",
    "checkpoint": "size read from a checkpoint",
    "paid": "machine time with a price (a pilot, and usd_per_hour in the machine file), nor an endpoint's bill",
}


def _counted_in(unit: str, leaves_out: str, needs="", judged=False) -> Callable:
    """Enter the function below into COST_MODELS under its own name."""

    def enter(count: Callable) -> Callable:
        name = count.__name__.removeprefix("_by_")
        COST_MODELS[name] = CostModel(count, unit, leaves_out, needs, judged)
        return count

    return enter


@_counted_in("samples", "every cost: one sample equals one sample")
def _by_count(arm: SampleCost, n: float, prompt: str) -> float:
    return n


@_counted_in("flops", "lengths (taken as equal), prompts, attention, verification: 2·P", "size")
def _by_paper(arm: SampleCost, n: float, prompt: str) -> float:
    return sampling_flops(arm.n_parameters, 1, n_samples=n)


@_counted_in("flops", "prompts, attention, verification: 2·P·tokens, lengths as measured", "size")
def _by_flops(arm: SampleCost, n: float, prompt: str) -> float:
    return sampling_flops(arm.n_parameters, arm.n_tokens, n_samples=n)


@_counted_in(
    "flops",
    "as flops, and embeddings, a tied output layer too: 2·P_non_embedding·tokens",
    "checkpoint",
)
def _by_non_embedding(arm: SampleCost, n: float, prompt: str) -> float:
    return sampling_flops(arm.checkpoint.n_non_embedding, arm.n_tokens, n_samples=n)


@_counted_in("flops", "as flops, and experts that a token does not pass: 2·P_active·tokens", "size")
def _by_active(arm: SampleCost, n: float, prompt: str) -> float:
    return sampling_flops(arm.n_active, arm.n_tokens, n_samples=n)


@_counted_in("flops", "attention: 2·P_active·(tokens + prompt)", "size", judged=True)
def _by_prompt(arm: SampleCost, n: float, prompt: str) -> float:
    return sampling_flops(arm.n_active, arm.n_tokens, arm.n_prompt_tokens, n, prompt)


@_counted_in(
    "flops", "hardware effects: as prompt, and attention over the context", "checkpoint", True
)
def _by_attention(arm: SampleCost, n: float, prompt: str) -> float:
    shape = (arm.checkpoint.n_layers, arm.checkpoint.attention_width)
    return sampling_flops(arm.n_active, arm.n_tokens, arm.n_prompt_tokens, n, prompt, *shape)


@_counted_in("tokens", "model size, prompts, verification")
def _by_tokens(arm: SampleCost, n: float, prompt: str) -> float:
    return n * arm.n_tokens


@_counted_in("seconds", "other machines, verification: measured device-seconds", "device_seconds")
def _by_seconds(arm: SampleCost, n: float, prompt: str) -> float:
    return n * arm.device_seconds


@_counted_in("usd", "other dates and providers: output, input", "price", judged=True)
def _by_price(arm: SampleCost, n: float, prompt: str) -> float:
    n_prompts, n_cached = _prefills(prompt, n), 0.0
    if prompt == "cached":
        n_prompts, n_cached = n, max(n - 1, 0)
    n_prompt_tokens = arm.n_prompt_tokens * n_prompts
    n_cached_tokens = arm.n_prompt_tokens * n_cached
    of_tokens = usd(arm.price, n * arm.n_tokens, n_prompt_tokens, n_cached_tokens, arm.batch)
    return of_tokens + n * (arm.price.sample or 0.0)


@_counted_in(
    "usd", "other machines: what is paid, machine time or an endpoint's bill", "paid", True
)
def _by_usd(arm: SampleCost, n: float, prompt: str) -> float:
    if not arm.is_billed:
        return n * arm.machine_usd
    # an endpoint bills every prompt, whatever the budget counts
    return _by_price(arm, n, "cached" if prompt == "cached" else "each")


def cost(arm: SampleCost, cost_model: str, n_samples: float = 1, prompt: str = "each") -> float:
    """Cost of `n_samples` samples for one problem, in the unit of the cost model, a key of COST_MODELS.

    Raises ValueError naming what the arm lacks for it (its size, its checkpoint's layers, device-seconds, a price).

    >>> cost(SampleCost(n_tokens=100, size=9e9), "flops", n_samples=3)
    5400000000000.0
    """
    if cost_model not in COST_MODELS:
        raise ValueError(f"{cost_model!r}: no cost model; choose of {', '.join(COST_MODELS)}")
    model = COST_MODELS[cost_model]
    if model.needs and getattr(arm, model.needs) is None:
        lacking = IN_WORDS.get(model.needs, model.needs)
        raise ValueError(
            f"by {cost_model}: the arm has no {lacking}; give it, or choose another cost model"
        )
    amount = model.count(arm, n_samples, prompt)
    if model.judged:
        amount += n_samples * arm.judge.get(model.unit, 0.0)
    return float(amount)
