"""What a stage took of its machine: seconds and, by the machine's price, USD and kWh, added up over all its runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from wcse_lib.store import StudyError, locked, read_json, write_json
from wcse_lib.study.amounts import Amounts, sum_of
from wcse_lib.study.machine import Machine

NAME = "machine_time.json"
LOCK_SECONDS = 60  # shards of an arm add to one file


@contextlib.contextmanager
def on_machine(folder: Path, machine: Machine) -> Iterator[None]:
    """Add what the block takes to its stage's machine time, whether it ends, fails or is stopped; a process that is
    killed outright leaves nothing of its own."""
    began = time.monotonic()
    try:
        yield
    finally:
        add_machine_time(folder, machine, time.monotonic() - began)


def add_machine_time(folder: Path, machine: Machine, seconds: float) -> None:
    """Note that a stage held the machine for so long."""
    amounts = machine.price().amounts(seconds).model_dump(exclude_none=True)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder, ".lock-machine-time", LOCK_SECONDS):
        write_json(folder / NAME, [*_parts(folder), amounts])


def machine_time(folder: Path) -> Amounts | None:
    """What a stage took so far; None where nothing was noted. USD and kWh are known where every run knew them."""
    try:
        parts = [Amounts(**part) for part in _parts(folder)]
    except (TypeError, ValidationError):
        raise StudyError(
            f"{folder / NAME}: damaged; delete it: only the time that was noted in it is lost"
        ) from None
    if not parts:
        return None
    total = sum_of(parts)
    return Amounts(seconds=total.seconds, usd=total.usd, kwh=total.kwh)


def _parts(folder: Path) -> list[dict]:
    path = folder / NAME
    return read_json(path, list) if path.exists() else []
