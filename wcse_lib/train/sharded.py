"""One student in training on several GPUs of this machine: a process for each, which holds its share of every weight.

By FSDP through accelerate, under TRL's trainer; on CPUs the same, over gloo. A step's rows are dealt to the processes,
so that steps, rows and (but for the last bits of sums) losses are those of one process.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from multiprocessing import connection
from pathlib import Path
from typing import Any

import numpy as np

from wcse_lib.store import StudyError
from wcse_lib.train.attempt import NO_MEMORY, Diverged, Training, measured, run_attempt
from wcse_lib.train.models import open_backend

HERE = "127.0.0.1"
GRACE_SECONDS = 3.0  # in which the other processes may say what went wrong, before they are killed
WHOLE_STATE = "pytorch_model_fsdp.bin"  # in checkpoints of such trainings alone


def check_gpus(n_processes: int) -> None:
    """Raises StudyError where there are fewer GPUs than processes; without any, processes share the CPU."""
    import torch

    n_here = torch.cuda.device_count()
    if torch.cuda.is_available() and n_processes > n_here:
        raise StudyError(
            f"gpus_per_student: {n_processes}: there are {n_here} GPUs here; lower it in the machine file"
        )


def run_sharded(
    training: Training, tokenizer: Any, steps: list[np.ndarray], micro: int, checkpoint: Path | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """As `attempt.run_attempt`, by `training.n_processes` processes; `micro` rows in the memory of each.

    `training.validate` has to be picklable; every process validates, and the first one's accuracy counts. What one of
    them raises is raised here. When one dies the others are ended (RuntimeError); when this process dies they end
    themselves.
    """
    import torch

    n = training.n_processes
    attempt = partial(
        _attempt, replace(training, progress=None), tokenizer, steps, micro, checkpoint
    )
    # What this process was asked for before lies on the first GPU yet.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    n_threads = max(1, torch.get_num_threads() // n)
    context, port = multiprocessing.get_context("spawn"), _free_port()
    processes, pipes = [], {}
    try:
        for rank in range(n):
            mine, theirs = context.Pipe(duplex=False)
            told = (rank, n, port, n_threads, theirs, attempt)
            processes.append(context.Process(target=_take_part, args=told))
            processes[-1].start()
            theirs.close()  # so that its end is noticed here
            pipes[mine] = rank
        return _results(pipes, processes, training.progress)[0]
    finally:
        for process in processes:
            process.kill()
            process.join()


def check_checkpoint(checkpoint: Path | None, n_processes: int) -> None:
    """Raises StudyError where a checkpoint was left by one process and several are to go on from it, or by several."""
    is_sharded = n_processes > 1
    if checkpoint and (checkpoint / WHOLE_STATE).exists() != is_sharded:
        there, here = ("one GPU", "several") if is_sharded else ("several GPUs", "one")
        raise StudyError(
            f"{checkpoint}: was left by a training on {there}, and this one is on {here}: set gpus_per_student in the "
            f"machine file as it was, or delete {checkpoint.parent} to train this student anew"
        )


def _results(
    pipes: dict[connection.Connection, int], processes: list, progress: Callable | None
) -> dict[int, tuple]:
    """What every process returned, by its number. Raises what the first to fail raised, or that one of them died."""
    results, errors, dead = {}, {}, []
    until = None
    while pipes:
        if (errors or dead) and until is None:
            until = time.monotonic() + GRACE_SECONDS
        left = None if until is None else max(0.0, until - time.monotonic())
        speaking = connection.wait(list(pipes), left)
        if not speaking:
            break
        for pipe in speaking:
            rank = pipes[pipe]
            try:
                kind, word = pipe.recv()
            except EOFError:
                del pipes[pipe]
                if rank not in results and rank not in errors:
                    dead.append(rank)
                continue
            if kind == "step" and progress:
                progress(*word)
            elif kind == "result":
                results[rank] = word
            elif kind == "error":
                errors[rank] = word
    if errors or dead:
        raise _cause(errors, dead, processes)
    return results


def _cause(errors: dict[int, Exception], dead: list[int], processes: list) -> Exception:
    """The error to raise: where one process ended, the others only miss it."""
    for error in errors.values():
        if any(words in str(error) for words in NO_MEMORY):
            return error
    if dead:
        rank = dead[0]
        processes[rank].join()
        how = processes[rank].exitcode
        ended = f"was killed by signal {-how}" if how < 0 else f"ended with exit code {how}"
        return RuntimeError(
            f"process {rank + 1} of the {len(processes)} that train this student {ended}, and so the others were "
            "ended. Run again: it goes on from its last checkpoint. If memory was short, lower "
            "training.micro_batch_size, or raise gpus_per_student"
        )
    return next(iter(errors.values()))


def _take_part(
    rank: int,
    n: int,
    port: int,
    n_threads: int,
    parent: connection.Connection,
    attempt: Callable[..., tuple[list, dict]],
) -> None:
    """What each process does: train together with the others, and tell the parent how it went."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    threading.Thread(target=_end_with_parent, daemon=True).start()
    where = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n}
    where |= {"MASTER_ADDR": HERE, "MASTER_PORT": port, "OMP_NUM_THREADS": n_threads}
    os.environ |= {name: str(value) for name, value in where.items()}
    try:
        open_backend("trl")
        _shard_on_cpus_too()
        tell = partial(_tell_step, parent) if rank == 0 else None
        history, facts = attempt(progress=tell)
        parent.send(("result", (history, facts | measured())))
    except Exception as error:
        parent.send(("error", _plain(error)))
    finally:
        parent.close()


def _attempt(training: Training, *how: Any, progress: Callable | None) -> tuple[list, dict]:
    return run_attempt(replace(training, progress=progress), *how)


def _tell_step(parent: connection.Connection, *step: Any) -> None:
    parent.send(("step", step))


def _plain(error: Exception) -> Exception:
    """An error that any process can read, with what it was called where the parent does not act on its kind."""
    if isinstance(error, (StudyError, Diverged)):
        return error
    return RuntimeError(f"{type(error).__name__}: {error}")


def _end_with_parent() -> None:
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)


def _shard_on_cpus_too() -> None:
    """Accelerate passes over FSDP on CPUs and keeps all weights in every process; PyTorch can share them out there."""
    from accelerate.state import AcceleratorState, PartialState
    from accelerate.utils import DistributedType

    prepare = AcceleratorState.__init__

    def prepare_for_fsdp(state, *args, fsdp_plugin=None, **options):
        prepare(state, *args, fsdp_plugin=fsdp_plugin, **options)
        if fsdp_plugin and state.distributed_type == DistributedType.MULTI_CPU:
            state.distributed_type = DistributedType.FSDP
            state.fsdp_plugin = fsdp_plugin
            PartialState._shared_state["distributed_type"] = DistributedType.FSDP

    AcceleratorState.__init__ = prepare_for_fsdp


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind((HERE, 0))
        return listener.getsockname()[1]
