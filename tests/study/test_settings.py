"""What a training's settings refuse."""

import pytest

from wcse_lib.study import Settings


def settings(**changes) -> Settings:
    fields = dict(method="full", training="steps", amount=12, learning_rate=3e-3, batch_size=8)
    return Settings(**fields | changes)


@pytest.mark.parametrize(
    "change, word",
    [
        ({"method": "dora"}, "method"),
        ({"backend": "jax"}, "backend"),
        ({"training": "hours"}, "training"),
        ({"learning_rate": 0}, "learning_rate"),
        ({"micro_batch_size": 3}, "micro_batch"),
        ({"amount": -1}, "amount"),
        ({"learning_rate": (1e-3, 0)}, "learning_rate"),
        ({"packing": True, "backend": "unsloth"}, "packing"),
        ({"amount": 0.4}, "at least one step"),
    ],
)
def test_wrong_settings_are_named(change, word):
    with pytest.raises(ValueError, match=word):
        settings(**change)
