"""The nano lab: problems, an exact checker and three small language models, so that a whole study runs on two cores."""

from pathlib import Path

from wcse_lib.nano import stories, world
from wcse_lib.nano.stories import make_stories
from wcse_lib.nano.world import check, make_problems

MODELS = Path(__file__).parent / "models"
LEVELS = {"nano": world.LEVELS, "stories": stories.LEVELS}  # by dataset name

__all__ = ["LEVELS", "MODELS", "check", "make_problems", "make_stories"]
