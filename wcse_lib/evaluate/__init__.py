"""05: test students."""

from wcse_lib.evaluate.stage import checks, evaluate, shown, three_rows

__all__ = ["checks", "evaluate", "shown", "three_rows"]
