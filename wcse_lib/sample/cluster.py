"""Ray: one engine on each of several workers, and tasks spread over them; one process where `workers` is 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

from wcse_lib.sample import engines
from wcse_lib.sample.engines import Decoding, Engine, Output, Request
from wcse_lib.study import Machine, Run

DEATHS = 3  # a worker is started anew, and its work done again, so many times


def open_engine(engine: str, model: str, machine: dict[str, Any]) -> Engine:
    """An engine in this process or, with machine keys `workers` > 1 or `address`, one on each of Ray's workers.

    An endpoint is always called from this process: its `concurrency` is what spreads it.
    """
    if engine == "openai" or not _spread(machine):
        return engines.open_engine(engine, model, machine)
    return RayEngine(engine, model, machine)


class RayEngine:
    """The same engine on N workers; samples depend on their seeds, so it does not matter who draws them.

    Every worker has one chunk of neighbouring requests at a time; its samples come when it is done. Ray starts a lost
    worker anew, on this machine or another, and draws its chunk again.
    """

    def __init__(self, engine: str, model: str, machine: dict[str, Any]):
        ray, need = _start(machine)
        self.chunk = machine.get("max_num_seqs") or machine.get("batch_size") or 256
        worker = ray.remote(**need, max_restarts=DEATHS, max_task_retries=DEATHS)(_Worker)
        self.workers = [
            worker.remote(engine, model, machine) for _ in range(machine.get("workers") or 1)
        ]
        try:
            self.pids = ray.get([worker.pid.remote() for worker in self.workers])
        except ray.exceptions.RayError as error:
            what = f"engine {engine} cannot run {model!r} on {len(self.workers)} workers"
            self.close()
            raise ValueError(f"{what}: {_cause(error)}") from error

    def generate(self, requests: list[Request], sampling: Decoding) -> Iterator[Output]:
        """Yield one Output per request. Raises ValueError when a worker has died too often."""
        import ray
        from ray.util import ActorPool

        size = max(
            1, min(self.chunk, -(-len(requests) // (4 * len(self.workers))))
        )  # several chunks for each worker
        chunks = (requests[i : i + size] for i in range(0, len(requests), size))
        try:
            for outputs in ActorPool(self.workers).map_unordered(
                lambda w, chunk: w.draw.remote(chunk, sampling), chunks
            ):
                yield from outputs
        except ray.exceptions.RayError as error:
            hint = "lower workers, batch_size or (vllm) max_num_seqs, then run again"
            raise ValueError(
                f"a worker failed, or died {DEATHS + 1} times: {_cause(error)}; {hint}"
            ) from error

    def close(self) -> None:
        import ray

        while self.workers:
            ray.kill(self.workers.pop())


class _Worker:
    """Lives on a Ray worker and holds one engine."""

    def __init__(self, engine: str, model: str, machine: dict[str, Any]):
        self.engine = engines.open_engine(engine, model, machine)

    def pid(self) -> int:
        return os.getpid()

    def draw(self, requests: list[Request], sampling: Decoding) -> list[Output]:
        return list(self.engine.generate(requests, sampling))


def map_tasks(function: Callable, items: Iterable, machine: Machine) -> Iterator[tuple[Any, Any]]:
    """Yield `(item, function(item))` as they finish: here, in order, with one worker; else as Ray tasks.

    Args: function, items: picklable. Every task has its own process; on other machines it must see the same files. A task
    whose worker is lost is done again; what `function` raises is raised here, as it is.
    """
    items = iter(items)
    if not _spread(machine.model_dump()):
        yield from ((item, function(item)) for item in items)
        return
    ray, need = _start(machine.model_dump())
    task = ray.remote(**need, max_calls=1, max_retries=DEATHS)(function)
    flying = {task.remote(item): item for item in islice(items, machine.workers)}
    try:
        while flying:
            (done, *_), _ = ray.wait(list(flying))
            item = flying.pop(done)
            try:
                yield item, ray.get(done)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            flying |= {task.remote(item): item for item in islice(items, 1)}
    finally:
        for future in flying:
            ray.cancel(future, force=True)


def each_student(
    run: Run, stage: str, names: list[str], work: Callable, machine: Machine, done: str
) -> None:
    """Call `work(folder, name, machine)` for every named student whose `stage` is not complete, or older than what it reads; `done` is what is said then."""
    folder = str(run.folder.resolve())
    todo = [name for name in names if not run.complete(stage, name)]
    for student, _ in map_tasks(lambda name: work(folder, name, machine), todo, machine):
        if machine.workers > 1:
            print(f"{student}: {done}", flush=True)


def _spread(machine: dict[str, Any]) -> bool:
    return (machine.get("workers") or 1) > 1 or bool(machine.get("address"))


def _start(machine: dict[str, Any]):
    """Ray, started or joined, and what each worker needs of it. Raises ValueError when the cluster cannot hold them."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault(
        "RAY_worker_niceness", "0"
    )  # Ray's own is 15: beside other work its workers hardly run
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        raise ValueError(
            "workers, address: these machine keys need Ray: pip install -e '.[ray]'"
        ) from error
    n, threads = machine.get("workers") or 1, machine.get("threads") or 1
    if not ray.is_initialized():
        local = {
            "num_cpus": max(os.cpu_count() or 1, n * threads),
            "include_dashboard": False,
        }  # may share cores
        where = {"address": machine["address"]} if machine.get("address") else local
        ray.init(logging_level="ERROR", log_to_driver=False, **where)
    have = ray.cluster_resources()
    gpus = machine.get("gpus_per_worker")
    if gpus is None:
        gpus = (machine.get("tensor_parallel_size") or 1) if have.get("GPU") else 0
    for key, name, each in (("threads", "CPU", threads), ("gpus_per_worker", "GPU", gpus)):
        if n * each > have.get(name, 0):
            need = f"{n} with {key}: {each:g} need {n * each:g} {name}s"
            raise ValueError(f"workers: {need}, Ray has {have.get(name, 0):g}")
    return ray, {"num_cpus": threads, "num_gpus": gpus}


def _cause(error: Exception) -> str:
    return str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
