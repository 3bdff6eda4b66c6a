"""What sampling and training cost under each named convention, and how many samples of every arm a budget buys."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product
from numbers import Integral, Real
from pathlib import Path

import numpy as np
import pandas as pd

from wcse_lib.store import StudyError

CONVENTIONS = {  # name: (unit, what it leaves out)
    "count": ("samples", "every cost: one sample equals one sample"),
    "paper": ("flops", "lengths (taken as equal), prompts, attention, verification: 2·P"),
    "flops": ("flops", "prompts, attention, verification: 2·P·tokens, lengths as measured"),
    "non_embedding": (
        "flops",
        "as flops, and embeddings, a tied output layer too: 2·P_non_embedding·tokens",
    ),
    "active": ("flops", "as flops, and experts that a token does not pass: 2·P_active·tokens"),
    "prompt": ("flops", "attention: 2·P_active·(tokens + prompt)"),
    "attention": ("flops", "hardware effects: as prompt, and attention over the context"),
    "tokens": ("tokens", "model size, prompts, verification"),
    "seconds": ("seconds", "other machines, verification: measured device-seconds"),
    "price": ("usd", "other dates and providers: output, input"),
}
JUDGED = (
    "prompt",
    "attention",
    "price",
)  # these add what judging a sample costs, where that is known
# How prompt tokens count: never, once per problem (shared prefix), with every sample, or once in full and then from a
# cache (in FLOPs like once; in USD at the cached price).
PROMPT = ("none", "once", "each", "cached")
UNITS = ("tokens", "flops", "seconds", "usd")


def _check(above=None, whole=False, **values) -> None:
    """Refuse what is no finite number of at least 0 (or above `above`; or whole)."""
    for name, x in values.items():
        good = (
            isinstance(x, Integral if whole else Real)
            and not isinstance(x, bool)
            and math.isfinite(x)
        )
        if not good or x < 0 or (above is not None and x <= above):
            least = "of at least 0" if above is None else f"above {above}"
            raise ValueError(
                f"{name} = {x!r}: a {'whole' if whole else 'finite'} number {least} is needed"
            )


def _buys(money: Fraction, cost: Fraction) -> int:
    """How many at `cost` the money buys; a float's rounding error (3 - 1e-15) does not lose one."""
    near = round(money / cost)
    return near if abs(near - money / cost) * 10**12 <= near else math.floor(money / cost)


def matched_samples(se_samples: int, se_cost: float, wc_cost: float) -> int:
    """How many wc samples the budget of `se_samples` se samples buys, never overspending.

    Costs are per sample (or per token, at equal lengths) in one unit: 27 and 9 billion parameters give 3 for 1, prices
    of 10.5 and 0.3 USD give 35. Raises ValueError for counts that are not whole and positive, for costs that are not
    finite and positive, and when the budget buys no wc sample at all. Bansal et al. 2024 (2408.16737), section 3.
    """
    _check(0, whole=True, se_samples=se_samples)
    _check(0, se_cost=se_cost, wc_cost=wc_cost)
    se, wc = Fraction(float(se_cost)), Fraction(float(wc_cost))
    if (bought := _buys(int(se_samples) * se, wc)) < 1:
        raise ValueError(
            f"the budget buys 0 samples: {se_samples} at {se_cost:g} each cost less than one at {wc_cost:g}; give the "
            f"reference arm at least {math.ceil(wc / se)} samples per problem"
        )
    return bought


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

    Give a mixture of experts' active parameters. Prompt tokens count as PROMPT says: for "each" sample, "once" per problem
    (the samples share the prefill; so they do when "cached"), or, "none", never. With `n_layers` and `attention_width` (heads × head size) attention adds
    4·layers·width·position per token (Chowdhery et al. 2022, 2204.02311, appendix B). Left out: softmax, norms,
    windows (full attention is counted), hardware utilisation, failed samples, verification.
    """
    _check(0, n_parameters=n_parameters)
    _check(n_tokens=n_tokens, n_prompt_tokens=n_prompt_tokens, n_samples=n_samples)
    if prompt not in PROMPT:
        raise ValueError(
            f"prompt = {prompt!r}: choose how prompt tokens count: {', '.join(PROMPT)}"
        )
    prefills = {"each": n_samples, "none": 0.0}.get(prompt, min(n_samples, 1.0))
    tokens = n_samples * n_tokens + prefills * n_prompt_tokens
    positions = (
        n_samples * n_tokens * (n_prompt_tokens + n_tokens / 2) + prefills * n_prompt_tokens**2 / 2
    )
    return 2.0 * n_parameters * tokens + 4.0 * n_layers * attention_width * positions


def training_flops(n_parameters: float, n_tokens: float, n_trainable: float | None = None) -> float:
    """FLOPs of training on `n_tokens` tokens, prompts and epochs included: 6·P per token (Kaplan et al. 2020); an
    adapter saves the frozen weights' gradients: 4·P + 2·P_trainable. Left out: attention, optimiser, recomputation."""
    _check(0, n_parameters=n_parameters)
    _check(n_tokens=n_tokens, n_trainable=n_trainable or 0)
    return (
        4.0 * n_parameters + 2.0 * (n_parameters if n_trainable is None else n_trainable)
    ) * n_tokens


def usd(
    price: Mapping, n_tokens: float, n_prompt_tokens=0.0, n_cached_tokens=0.0, batch: bool = False
) -> float:
    """USD of `n_tokens` output and `n_prompt_tokens` input tokens, `n_cached_tokens` of these read from a cache.

    `price`: a row of the price table, USD per million tokens. Raises ValueError when it lacks a price that is needed.
    Leaves out cache writes and storage, surcharges for long prompts, minimum charges, taxes. Source: the row's own.
    """
    uncached = n_prompt_tokens - n_cached_tokens
    _check(n_tokens=n_tokens, n_cached_tokens=n_cached_tokens, uncached_prompt_tokens=uncached)
    parts = {
        k: n
        for k, n in {"output": n_tokens, "input": uncached, "cached": n_cached_tokens}.items()
        if n
    }
    for key in [*parts, *["batch_discount"] * batch]:
        if price.get(key) is None:
            raise ValueError(
                f"{price.get('model')}: its price row has no {key!r}; add it, with its source"
            )
        _check(**{f"{price.get('model')}: price {key!r}": price[key]})
    return (
        sum(n * price[key] for key, n in parts.items())
        / 1e6
        * (1 - price["batch_discount"] if batch else 1)
    )


def read_price(path: str | Path, model: str, date: str | None = None) -> dict:
    """The newest row of `model` in a YAML price table (a list `prices`), on or before `date` (ISO) where given.

    Keys: model, date, source, output; input, cached, batch_discount (a share) where known. Raises StudyError naming
    file, row and key for a bad row (negative, undated, unsourced, unknown key) and for a model without price.
    """
    from wcse_lib.study import read_yaml

    rows, numbers = read_yaml(Path(path)).get("prices") or [], {"input", "cached", "batch_discount"}
    for place, row in enumerate(rows, 1):
        row = row if isinstance(row, dict) else {}
        if wrong := {"model", "date", "source", "output"} ^ (set(row) - numbers):
            raise StudyError(
                f"{path}: prices, row {place}: {min(wrong)!r} is unknown, or needed and missing"
            )
        try:
            _check(
                output=row["output"],
                **{k: x for k, x in row.items() if k in numbers and x is not None},
            )
            _check(0, what_a_batch_still_costs=1 - (row.get("batch_discount") or 0))
            if not re.match(r"\d{4}-\d{2}", str(row["date"])) or not row["source"]:
                raise ValueError(
                    f"date = {row['date']!r} (YYYY-MM or YYYY-MM-DD) and a source are needed"
                )
        except ValueError as error:
            raise StudyError(f"{path}: prices, row {place} ({row['model']}): {error}") from None
    mine = [
        row
        for row in rows
        if row["model"] == model and str(row["date"])[: len(date or "")] <= (date or "")
    ]
    if not mine:
        known = ", ".join(sorted({row["model"] for row in rows})) or "nothing"
        raise StudyError(
            f"{path}: no price for {model!r} by {date or 'any date'}; add a sourced row. Priced: {known}"
        )
    return max(mine, key=lambda row: str(row["date"]))


@dataclass(frozen=True)
class ModelSize:
    """Sizes counted in a checkpoint: tied weights once, vision towers too; `n_active` takes only the experts that a
    token passes; `attention_width` is query heads × head size."""

    n_parameters: int
    n_non_embedding: int
    n_active: int
    n_layers: int
    attention_width: int


class Uncounted(StudyError):
    """A checkpoint that is whole as far as can be seen, but whose parameters cannot be counted."""


def read_model(path_or_id: str | Path) -> ModelSize:
    """Sizes from `config.json` and the headers of the safetensors file(s); no weight is read.

    Args: path_or_id: a checkpoint folder (one file, or shards with their index), else a hub id. Raises StudyError (a
    ValueError) naming file and remedy: missing, damaged, truncated or packed (quantised) checkpoints, no connection.
    """
    name, folder = str(path_or_id), Path(path_or_id).expanduser()
    if folder.is_dir():
        config, index = _json(folder / "config.json"), folder / "model.safetensors.index.json"
        files = (
            set(_json(index).get("weight_map", {}).values())
            if index.is_file()
            else {"model.safetensors"}
        )
        headers = [_json(folder / file, header=True) for file in sorted(files)]
        return _size(
            config, {k: (t["dtype"], t["shape"]) for h in headers for k, t in h.items()}, name
        )
    try:
        import huggingface_hub as hub

        config = _json(Path(hub.hf_hub_download(name, "config.json")))
        files = hub.get_safetensors_metadata(name).files_metadata.values()
    except (
        Exception
    ) as error:  # no hub id, offline, gated, no safetensors: many classes, one remedy
        why = f"{type(error).__name__}: {str(error)[:200]}"
        raise StudyError(
            f"{name}: no such folder, and the hub does not tell its size ({why}); check the name, go online, log in if "
            "it is gated, give a downloaded folder, or set the arm's n_parameters"
        ) from error
    return _size(config, {k: (t.dtype, t.shape) for f in files for k, t in f.tensors.items()}, name)


def _json(path: Path, header: bool = False) -> dict:
    """A JSON object, or a safetensors file's header (8 bytes of length, then JSON), checked against the file's size."""
    try:
        with open(path, "rb") as file:
            size = path.stat().st_size
            length = int.from_bytes(file.read(8), "little") if header else size
            data = json.loads(file.read(length) if length <= size else b"")
        if header:
            data.pop("__metadata__", None)
            if size != (end := 8 + length + max(t["data_offsets"][1] for t in data.values())):
                raise ValueError(f"{size:,} bytes long, where its header announces {end:,}")
        return dict(data)
    except FileNotFoundError:
        raise StudyError(
            f"{path}: not there; save the model as safetensors (of an adapter, name the base)"
        ) from None
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise StudyError(
            f"{path}: unreadable ({error}); download or save the checkpoint again"
        ) from error


def _size(config: dict, tensors: Mapping[str, tuple], path: str) -> ModelSize:
    text = config.get("text_config") or config

    def key(*names):
        if not (found := [text[n] for n in names if text.get(n)]):
            raise Uncounted(f"{path}/config.json: {names[0]} is needed, and is not there")
        return found[0]

    tied, total, embedding, expert = (
        text.get("tie_word_embeddings", config.get("tie_word_embeddings")),
        0,
        0,
        0,
    )
    for name, (dtype, shape) in tensors.items():
        if dtype in ("U8", "I32", "U32") and config.get("quantization_config"):
            raise Uncounted(
                f"{path}: {name} packs several weights into one number; name the unquantised checkpoint"
            )
        buffer = (
            re.search(r"inv_freq$|masked_bias$", name)
            or re.search(r"att(ntio)?n\.bias$", name)
            and len(shape) > 1
        )
        if buffer or (tied and "lm_head." in name) or not re.match(r"F|BF|I8", dtype):
            continue  # no weight, or counted as the input embedding
        n = math.prod(shape)
        total, expert = total + n, expert + n * (".experts." in name)
        embedding += n * bool(
            re.search(r"(embed_\w+|\w+_embeddings|wte|wpe|lm_head|shared)\.weight$", name)
        )
    if not total:
        raise StudyError(
            f"{path}: its safetensors hold no weights; download or save the checkpoint again"
        )
    experts = expert and key("num_local_experts", "num_experts", "n_routed_experts")
    active = (
        total
        - expert
        + (round(expert * key("num_experts_per_tok", "moe_top_k") / experts) if expert else 0)
    )
    hidden, heads = (
        key("hidden_size", "n_embd", "d_model"),
        key("num_attention_heads", "n_head", "num_heads"),
    )
    width = heads * (text.get("head_dim") or hidden // heads)
    layers = key("num_hidden_layers", "n_layer", "num_layers")
    return ModelSize(total, total - embedding, active, layers, width)


@dataclass(frozen=True)
class SampleCost:
    """What one sample of an arm takes: mean lengths in tokens; `size`: a ModelSize or a number of parameters; measured
    device-seconds; a row of the price table; `judge`: the cost of checking a sample, by unit ({"usd": 0.001})."""

    n_tokens: float
    n_prompt_tokens: float = 0.0
    size: ModelSize | float | None = None
    device_seconds: float | None = None
    price: Mapping | None = None
    batch: bool = False
    judge: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self):
        _check(0, n_tokens=self.n_tokens)  # an arm that writes nothing cannot be matched
        _check(
            n_prompt_tokens=self.n_prompt_tokens,
            **{f"judge.{unit}": x for unit, x in self.judge.items()},
        )
        given = {
            "size": None if isinstance(self.size, ModelSize) else self.size,
            "device_seconds": self.device_seconds,
        }
        _check(0, **{key: x for key, x in given.items() if x is not None})


def cost(arm: SampleCost, convention: str, n_samples: float = 1, prompt: str = "each") -> float:
    """Cost of `n_samples` samples for one problem, in the convention's unit; CONVENTIONS tells what each leaves out.

    Raises ValueError naming what the arm lacks for it (its size, its checkpoint's layers, device-seconds, a price).
    """
    size, n, judge = (
        arm.size,
        n_samples,
        n_samples * arm.judge.get(CONVENTIONS.get(convention, " ")[0], 0.0),
    )
    full, active = (
        (size.n_parameters, size.n_active) if isinstance(size, ModelSize) else (size, size)
    )
    prompts = arm.n_prompt_tokens * {"each": n, "once": min(n, 1), "cached": n, "none": 0}.get(
        prompt, math.nan
    )
    cached = arm.n_prompt_tokens * max(n - 1, 0) if prompt == "cached" else 0.0
    rules = {
        "count": lambda: n,
        "tokens": lambda: n * arm.n_tokens,
        "paper": lambda: sampling_flops(full, 1, n_samples=n),
        "flops": lambda: sampling_flops(full, arm.n_tokens, n_samples=n),
        "non_embedding": lambda: sampling_flops(size.n_non_embedding, arm.n_tokens, n_samples=n),
        "active": lambda: sampling_flops(active, arm.n_tokens, n_samples=n),
        "prompt": lambda: (
            sampling_flops(active, arm.n_tokens, arm.n_prompt_tokens, n, prompt) + judge
        ),
        "attention": lambda: (
            sampling_flops(
                active,
                arm.n_tokens,
                arm.n_prompt_tokens,
                n,
                prompt,
                size.n_layers,
                size.attention_width,
            )
            + judge
        ),
        "seconds": lambda: n * arm.device_seconds,
        "price": lambda: usd(arm.price, n * arm.n_tokens, prompts, cached, arm.batch) + judge,
    }
    try:
        return float(rules[convention]())
    except KeyError:
        raise ValueError(
            f"{convention!r}: no convention to count cost by; choose of {', '.join(rules)}"
        ) from None
    except (AttributeError, TypeError):
        lacking = {"seconds": "device_seconds", "price": "price"}.get(
            convention, "size read from a checkpoint"
        )
        raise ValueError(
            f"by {convention}: the arm has no {lacking}; give it, or choose another convention"
        ) from None


def _known(reference: str, arms) -> None:
    if reference not in arms:
        raise ValueError(f"reference = {reference!r}: no such arm; arms are {', '.join(arms)}")


def match(
    mode: str,
    reference: str,
    arms: Mapping[str, SampleCost],
    n_samples: int | Mapping[str, int],
    prompt="each",
    curves: Mapping[str, np.ndarray] | None = None,
) -> pd.DataFrame:
    """Samples per problem, for every arm and budget, that match the reference arm's `n_samples` (one, or by budget).

    Args: mode: a convention, or "examples" or "coverage" with `curves`: by arm its expected value after 1, 2, …
    samples (a pilot's estimates, see forecast). Returns rows budget × arm: exchange_ratio (samples for one of the
    reference's), n_samples, planned and reference (per problem, in the mode's unit). Whole samples only: part of a
    budget may stay unspent. Raises ValueError when an arm gets no sample or misses the aim.
    """
    rows, budgets = [], n_samples if isinstance(n_samples, Mapping) else {"": n_samples}
    _known(reference, arms)
    for (budget, n), (name, arm) in product(budgets.items(), arms.items()):
        _check(0, whole=True, n_samples=n)
        if mode in ("examples", "coverage"):
            if curves is None or not set(arms) <= set(curves) or n > len(curves[reference]):
                raise ValueError(
                    f"match by {mode}: curves: values after 1 to {n} samples (or more) are needed for every arm, from a pilot"
                )
            aim, curve = curves[reference][n - 1], np.asarray(curves[name], float)
            if curve.max() < aim * (1 - 1e-9):
                raise ValueError(
                    f"{name}: {len(curve)} samples miss {reference}'s {mode}; lower n_samples = {n}"
                )
            k = int(np.argmax(curve >= aim * (1 - 1e-9))) + 1
            ratio, planned = k / n, curve[k - 1]
        else:
            one, two, base = (
                cost(a, mode, i, prompt) for a, i in ((arm, 1), (arm, 2), (arms[reference], 1))
            )
            aim = cost(arms[reference], mode, n, prompt)
            if two <= one:
                raise ValueError(
                    f"{name}: another sample costs nothing by {mode}; match by another convention"
                )
            spare = Fraction(aim) - (
                2 * Fraction(one) - Fraction(two)
            )  # a prompt counted once comes first
            if (k := _buys(spare, Fraction(two) - Fraction(one))) < 1:
                raise ValueError(f"{name}: the budget buys 0 samples; raise n_samples = {n}")
            ratio, planned = base / one, cost(arm, mode, k, prompt)
        rows.append([budget, name, ratio, k, float(planned), float(aim)])
    return pd.DataFrame(
        rows, columns="budget arm exchange_ratio n_samples planned reference".split()
    )


def exchange(
    reference: str, arms: Mapping[str, SampleCost], n_samples: int = 1, prompt: str = "each"
) -> pd.DataFrame:
    """Convention × arm, side by side: samples (fractions too) for one of the reference's when it draws `n_samples` of a
    problem, and what the convention leaves out, or, with NaN, what the arm lacks for it. The convention "prompt" stands
    once for every way to count prompts; attention and price take `prompt`."""
    rows = []
    _known(reference, arms)
    ways = [(c, way) for c in CONVENTIONS for way in (PROMPT[1:] if c == "prompt" else [prompt])]
    for (convention, way), name in product(ways, arms):
        (unit, note), ratio = CONVENTIONS[convention], np.nan
        try:
            money = cost(arms[reference], convention, n_samples, way)
            one, two = (cost(arms[name], convention, k, way) for k in (1, 2))
            if two <= one:
                raise ValueError(f"{name}: another sample costs nothing")
            ratio = (money / one if money < one else 1 + (money - one) / (two - one)) / n_samples
        except ValueError as error:
            note = str(error)
        judged = convention in JUDGED and arms[name].judge.get(unit)
        shown = f"prompt·{way}" if convention == "prompt" else convention
        rows.append((shown, name, ratio, note + " + judging, as the pilot's" * bool(judged)))
    return pd.DataFrame(rows, columns=["convention", "arm", "exchange_ratio", "leaves_out"])
