"""The choices on which reasonable people differ when they compare answers."""

from __future__ import annotations

from dataclasses import dataclass, fields

POLICY_TABLE = r"""
| where people differ | default | `Policy` field |
| --- | --- | --- |
| a unit or noun on one side only (`5 cm`, `5`) | dropped; two different ones never equal | `units="drop"`, `"strict"` |
| `10%` | equals `0.1` and `10` (the latter as gold must be > 1) | `percent="either"`, `"value"`, `"sign"` |
| `1,5` and `1.5` | equal if the other side is one decimal; `1,234` is 1234 | `decimal_comma=True` |
| order of a bare list (`1, 2`) | any; `(1,2)` is ordered, `\{1,2\}` a set | `lists="unordered"`, `"ordered"` |
| rounded decimals (`0.333`, `1/3`) | never equal, however many digits | `rounded_digits=None`, or from how many on |
| `k=1` and `1`; `p=7, q=2`, `(p,q)=(7,2)`, `(7,2)` | equal; an equation such as `2x=6` equals only equations | - |
| `-2 <= x <= 7`, `x \in [-2,7]`, `[-2,7]` | equal, `x<3` and `y<3` not; "or" joins, "and" intersects | - |
| `(1,2)` | a point or an open interval, as the other side is | - |
| base subscripts (`52_8`) | must be the same on both sides; base ten may be left out | - |
| moduli | `3 \pmod 7` equals `3` (as a unit does) and `10 \pmod 7`; two different moduli never equal | with `units` |
| degrees | `90^\circ` equals `90` (a unit) and `\pi/2` (its value) | - |
| ratios | `4:6` equals `2:3` and `2/3` (`3:1` not `3`); `5:12` and `10:24` may be times: nothing can be said | - |
| times of day | must be the same; "pm" is a unit | with `units` |
| letters | variables keep their case, words do not; a choice may carry its text (`(C) 12`, `C`) | - |
| variables | equal where both are real; equations up to a constant factor; `\log` in every base | - |
"""
CHOICES = {
    "units": ("drop", "strict"),
    "percent": ("either", "value", "sign"),
    "decimal_comma": (True, False),
    "lists": ("unordered", "ordered"),
    "rounded_digits": (None, *range(1, 31)),
}


@dataclass(frozen=True)
class Policy:
    """Choices on which reasonable people differ; see `POLICY_TABLE`. Raises ValueError on a value it does not name."""

    units: str = "drop"
    percent: str = "either"
    decimal_comma: bool = True
    lists: str = "unordered"
    rounded_digits: int | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value, choices = getattr(self, field.name), CHOICES[field.name]
            # 1 == True, so that the type must be right too
            if value not in choices or type(value) not in map(type, choices):
                raise ValueError(f"Policy.{field.name} is {value!r}; choose one of {choices}")


DEFAULT = Policy()
