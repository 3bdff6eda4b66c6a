"""Checkpoints of strangers: no code of theirs is run, whatever their files ask for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from wcse_lib.store import StudyError

NO_CODE = {"trust_remote_code": False}  # for everything that opens a checkpoint
DAMAGE = ("SafetensorError", "RecursionError", "IndexError", "KeyError", "JSONDecodeError")
WORDS_SHOWN = 200  # characters of what a library says
SIGNS = ("trust_remote_code", "custom code", "remote code")


@contextlib.contextmanager
def opening(model: str | Path) -> Iterator[None]:
    """Raise StudyError where the block cannot open a model without running the code that lies beside its weights, or
    finds its files damaged."""
    try:
        yield
    except Exception as error:  # transformers, vLLM and Unsloth each have their own
        if type(error).__name__ in DAMAGE:
            words = " ".join(str(error).split())[:WORDS_SHOWN]
            raise StudyError(
                f"{model}: this checkpoint cannot be read ({type(error).__name__}: {words}): its files are damaged, "
                "incomplete or of another kind; get them anew"
            ) from error
        if not any(sign in str(error) for sign in SIGNS):
            raise
        raise StudyError(
            f"{model}: this checkpoint is opened by code of its own, which the kit never runs; take one of a family "
            "that transformers knows by itself, or one that was converted to such a family"
        ) from None


def close_input() -> None:
    """Take the standard input from this process and those that it starts: nobody sits there to be asked."""
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdin = open(os.devnull, encoding="utf-8")
