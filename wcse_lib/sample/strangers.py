"""Checkpoints of strangers: no code of theirs is run, whatever their files ask for."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from wcse_lib.store import StudyError

NO_CODE = {"trust_remote_code": False}  # for everything that opens a checkpoint
DAMAGE = (
    "SafetensorError",
    "RecursionError",
    "IndexError",
    "KeyError",
    "JSONDecodeError",
    "AttributeError",
    "ZeroDivisionError",
)
OTHER_SHAPES = (
    "ignore_mismatched_sizes"  # what transformers says of weights that its config does not fit
)
WORDS_SHOWN = 200  # characters of what a library says
SIGNS = ("trust_remote_code", "custom code", "remote code")


@contextlib.contextmanager
def opening(model: str | Path) -> Iterator[None]:
    """Raise StudyError where the block cannot open a model without running the code that lies beside its weights,
    finds its files damaged, or would open other weights than those that lie there."""
    has_adapter = Path(model, "adapter_config.json").exists()
    if has_adapter and any(Path(model).glob("model*.safetensors")):
        raise StudyError(
            f"{model}: holds an adapter (adapter_config.json) beside whole weights, and libraries would put it on the "
            "base that it names, elsewhere; move it to a folder of its own, or merge it into its base"
        )
    try:
        yield
    except Exception as error:  # transformers, vLLM and Unsloth each have their own
        if OTHER_SHAPES in str(error):
            raise StudyError(
                f"{model}: its weights have other shapes than its config.json says; get them anew, both of one place"
            ) from error
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
