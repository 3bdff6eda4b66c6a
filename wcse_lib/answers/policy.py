"""The choices on which reasonable people differ when they compare answers."""

from __future__ import annotations

from dataclasses import dataclass, fields

POLICY_TABLE = r"""
| where people differ | default | `Policy` field |
| --- | --- | --- |
| a unit or noun on one side only (`5 cm`, `5`) | dropped; two other nouns never equal | `units="drop"`, `"strict"` |
| two units of one kind (`90 min`, `1.5 h`) | equal by size; `1 h 30 min` and a bare number: nothing can be said | - |
| `10%` | equals `0.1` and `10` (the latter as gold must be > 1) | `percent="either"`, `"value"`, `"sign"` |
| `1,5` and `1.5` | equal if the other side is one decimal; `1,234` is 1234, `1.234` no group | `decimal_comma=True` |
| `1.234,50`, `1'234.50`, `1,23,456` | groups of digits, as no number is written otherwise | - |
| dates (`2024-03-05`) | equal as days; `03/05/2024` beside a clear date: nothing can be said | - |
| ranges, scores, numbers of telephones and versions (`10-15`) | text without a value; `10 - 15` is a difference | - |
| `1.5M`, `5K` beside a number | millions and thousands; elsewhere a variable | - |
| `C_5^2`, `A_5^2` beside a number | combinations and arrangements; elsewhere a variable | - |
| order of a bare list (`1, 2`) | any; `(1,2)` is ordered, `\{1,2\}` a set | `lists="unordered"`, `"ordered"` |
| rounded decimals (`0.333`, `1/3`) | never equal, however many digits | `rounded_digits=None`, or from how many on |
| `k=1` and `1`; `p=7, q=2`, `(p,q)=(7,2)`, `(7,2)` | equal; an equation such as `2x=6` equals only equations | - |
| `q=9, p=2` beside `9, 2` and `2, 9` | in the order as written; by the alphabet alone nothing can be said | - |
| `-2 <= x <= 7`, `x \in [-2,7]`, `[-2,7]` | equal, `x<3` and `y<3` not; "or" joins, "and" intersects | - |
| `(1,2)` | a point or an open interval, as the other side is | - |
| base subscripts (`52_8`) | must be the same on both sides; base ten may be left out | - |
| moduli | `3 \pmod 7` equals `3` (a unit) and `10 \pmod 7`, two moduli never; `10 \bmod 7` is 3 | with `units` |
| `\sinh^{-1} x` | the inverse function; `\ln^{-1} x` may be either and is not read | - |
| `AB` | in a formula a product of two, alone a name that `BA` is not | - |
| degrees | `90^\circ` equals `90` (a unit) and `\pi/2` (its value) | - |
| ratios | `4:6` equals `2:3` and `2/3`, `10:30` equals `1:3`; `3:1` is not `3` | - |
| `5:12` beside `10:24`, `10:30` beside `1/3` | may be times: nothing can be said | - |
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
