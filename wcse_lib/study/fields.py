"""The kinds of value that a params file holds."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from wcse_lib.answers import STYLES

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")]


Count = Annotated[int, Field(ge=1)]


Positive = Annotated[float, Field(gt=0)]
Temperature = Annotated[float, Field(ge=0, le=5)]
Text = Annotated[str, Field(min_length=1)]
Share = Annotated[float, Field(ge=0, lt=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


def _known_style(value: str) -> str:
    if value not in STYLES:
        raise ValueError(f"no such answer style; styles are {', '.join(STYLES)}")
    return value


Style = Annotated[str, AfterValidator(_known_style)]


class Strict(BaseModel):
    """No unknown keys, no silent conversions."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)
