"""What is known of an arm's model before anything is drawn: sizes, price and, where it is given, its length."""

from __future__ import annotations

from pathlib import Path

from wcse_lib.budget.checkpoints import Uncounted, read_model
from wcse_lib.budget.prices import read_price
from wcse_lib.store import StudyError
from wcse_lib.study import ImportedArm, ModelFacts, ModelSize, Price, Study, resolve, resolve_model


def describe(study: Study, name: str) -> ModelFacts:
    """What is known of an arm's model: sizes, price and, where the params file gives it, its length.

    Raises StudyError naming the key of a size or price that the budget needs and that is not known.
    """
    arm = study.arms[name]
    size = _checkpoint_size(study, name) if arm.engine == "local" else None
    n_parameters, n_active = _counted_parameters(study, name, size)
    return ModelFacts(
        model=arm.model,
        engine=arm.engine,
        n_parameters=n_parameters,
        n_active_parameters=n_active,
        size=size,
        price=_price(study, name),
        tokens_per_sample=arm.tokens_per_sample,
        prompt_tokens=None,
        seconds_per_sample=None,
        judge=None,
    )


def _counted_parameters(
    study: Study, name: str, size: ModelSize | None
) -> tuple[float | None, float | None]:
    """Parameters of an arm as the budget counts them, and those that a token uses where these are fewer."""
    arm = study.arms[name]
    embedding = _embedding(study, size)
    n_parameters, n_active = arm.n_parameters, arm.n_active_parameters
    if n_parameters is None and size is not None:
        n_parameters = size.n_parameters - embedding
    if n_active is None and size is not None and size.n_active < size.n_parameters:
        n_active = size.n_active - embedding
    if n_parameters is None and study.budget.match == "flops":
        raise StudyError(
            f"arms.{name}.n_parameters: needed for budget.match: flops, "
            f"since no checkpoint of {arm.model!r} can be read"
        )
    if n_active and n_parameters and n_active > n_parameters:
        raise StudyError(
            f"arms.{name}.n_active_parameters: {n_active:,.0f} are more than its "
            f"{n_parameters:,.0f} parameters; a token cannot use more than there are"
        )
    return n_parameters, n_active


def _embedding(study: Study, size: ModelSize | None) -> int:
    """Parameters that the budget does not count."""
    if size is None or study.budget.parameters == "all":
        return 0
    return size.n_parameters - size.n_non_embedding


def _checkpoint_size(study: Study, name: str) -> ModelSize | None:
    """The size that an arm's checkpoint tells; None where only the params file gives one.

    A typed size must agree with the checkpoint within a tenth, and a damaged folder is refused whatever is typed. The
    hub is asked only where nothing is typed.
    """
    arm = study.arms[name]
    checkpoint = resolve_model(arm.model)
    typed_is_enough = bool(arm.n_parameters) and not study.budget.attention
    if typed_is_enough and not Path(checkpoint).is_dir():
        return None
    try:
        size = read_model(checkpoint)
    except Uncounted:  # packed, or of a kind that is not known
        if typed_is_enough:
            return None
        raise
    embedding = _embedding(study, size)
    _check_typed(name, "n_parameters", arm.n_parameters, size.n_parameters - embedding, checkpoint)
    _check_typed(
        name, "n_active_parameters", arm.n_active_parameters, size.n_active - embedding, checkpoint
    )
    return size


def _check_typed(name: str, key: str, typed: float | None, read: int, checkpoint: str) -> None:
    if typed and abs(typed / read - 1) > 0.1:
        raise StudyError(
            f"arms.{name}.{key} = {typed:,.0f}: the checkpoint {checkpoint} holds {read:,}; leave the "
            "key out, or name the checkpoint that it belongs to"
        )


def _price(study: Study, name: str) -> Price | None:
    """An arm's price: its own, else the price table's; None where there is none and none is needed."""
    price = _listed_price(study, name)
    if price and study.arms[name].engine == "batch":
        try:
            price.of_batches()
        except ValueError as error:
            raise StudyError(
                f"arms.{name}.batch_discount: needed for engine: batch ({error}); where the arm names its own "
                "prices, write it beside them: 0 where batches cost as much"
            ) from None
    return price


def _listed_price(study: Study, name: str) -> Price | None:
    """The price of what is bought one by one."""
    arm, terms = study.arms[name], study.budget
    if isinstance(arm, ImportedArm) and arm.usd_per_sample:
        return Price(model=arm.model, output=0.0, sample=arm.usd_per_sample)
    if arm.usd_per_million_tokens:
        return Price(
            model=arm.model,
            output=arm.usd_per_million_tokens,
            input=arm.usd_per_million_prompt_tokens,
            batch_discount=arm.batch_discount,
        )
    try:
        return read_price(resolve(terms.prices), arm.model, terms.price_date)
    except StudyError as error:
        if terms.match != "price":
            return None
        raise StudyError(
            f"arms.{name}.usd_per_million_tokens: needed for budget.match: price ({error})"
        ) from None
