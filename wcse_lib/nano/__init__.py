"""The nano lab: problems, an exact checker and three small language models, so that a whole study runs on two cores."""

from pathlib import Path

MODELS = Path(__file__).parent / "models"
