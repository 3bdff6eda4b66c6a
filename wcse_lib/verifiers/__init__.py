"""Verifiers that come with the kit, to name in a params file and to copy: programs that define verify(answer, row)."""

from pathlib import Path

SHIPPED = {path.stem: path for path in sorted(Path(__file__).parent.glob("[a-z]*.py"))}

__all__ = ["SHIPPED"]
