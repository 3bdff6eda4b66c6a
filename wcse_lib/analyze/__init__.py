"""06: from rows on disk to tables and words."""

from wcse_lib.analyze.stage import analyze, checks
from wcse_lib.analyze.words import ALL, PRIMARY, answer

__all__ = ["ALL", "PRIMARY", "analyze", "answer", "checks"]
