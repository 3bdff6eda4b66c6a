"""A little of `make fuzz` in every run: seeded random texts through the same functions."""

import random

import pytest
from fuzz import PIECES, TARGETS

N = {"params": 400, "samples": 600, "answers": 600, "report": 40}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("seed", [0, 1])
def test_no_text_breaks_it(target, seed):
    rng = random.Random(f"{target} {seed}")
    for _ in range(N[target]):
        text = "".join(rng.choice(PIECES) for _ in range(rng.randint(0, 40)))
        try:
            TARGETS[target](text)
        except Exception as error:
            raise AssertionError(f"{text!r}") from error
