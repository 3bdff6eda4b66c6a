"""Ray: one engine on each of several workers, and tasks spread over them; one process where `workers` is 1."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from importlib.util import find_spec
from itertools import islice
from typing import Any

from wcse_lib.sample import engines
from wcse_lib.sample.engines import Decoding, Engine, Output, Request
from wcse_lib.study import Machine, Run

PACKAGES = {"vllm": "vllm", "openai": "openai", "batch": "openai"}  # of engines that need one
DEATHS = 3  # a worker is started anew, and its work done again, so many times
CHUNKS_A_WORKER = 4  # at least, so that no worker waits long for the last one
CHUNK = 256  # requests, where the machine file says nothing


def not_installed(sources: Collection[str], machine: Machine) -> list[str]:
    """Packages that drawing needs and that are not installed here.

    Args: sources: what draws (`Study.engines`); local models are drawn from by the machine's own engine.
    """
    names = {machine.engine if source == "local" else source for source in sources}
    packages = {PACKAGES[name] for name in names if name in PACKAGES}
    if "local" in sources and _is_spread(machine):
        packages.add("ray")
    return sorted(package for package in packages if find_spec(package) is None)


def open_engine(
    engine: str, model: str, machine: Machine, adapters: Collection[str] = ()
) -> Engine:
    """A local engine in this process or, with machine keys `workers` > 1 or `address`, one on each of Ray's workers.

    Arguments are those of `engines.open_engine`.
    """
    if not _is_spread(machine):
        return engines.open_engine(engine, model, machine, adapters)
    return RayEngine(engine, model, machine, adapters)


class RayEngine:
    """The same engine on N workers; samples depend on their seeds, so it does not matter who draws them.

    Every worker has one chunk of neighbouring requests at a time; its samples come when it is done. Ray starts a lost
    worker anew, on this machine or another, and draws its chunk again.
    """

    def __init__(self, engine: str, model: str, machine: Machine, adapters: Collection[str] = ()):
        self.adapter: str | None = None
        self.is_own, resources = _start_ray(machine)
        import ray

        self.chunk = machine.max_num_seqs or machine.batch_size or CHUNK
        worker = ray.remote(**resources, max_restarts=DEATHS, max_task_retries=DEATHS)(_Worker)
        self.workers = [
            worker.remote(engine, model, machine, adapters) for _ in range(machine.workers)
        ]
        try:
            self.pids = ray.get([worker.pid.remote() for worker in self.workers])
        except ray.exceptions.RayError as error:
            self.close()
            raise ValueError(
                f"engine {engine} cannot run {model!r} on {machine.workers} workers: {_cause(error)}"
            ) from error

    def use(self, adapter: str | None) -> None:
        """Every chunk says which adapter it is for: a worker that was started anew knows none."""
        self.adapter = adapter

    def generate(self, requests: list[Request], decoding: Decoding) -> Iterator[Output]:
        """Yield one Output per request. Raises ValueError when a worker has died too often."""
        import ray
        from ray.util import ActorPool

        even_share = -(-len(requests) // (CHUNKS_A_WORKER * len(self.workers)))
        size = max(1, min(self.chunk, even_share))
        chunks = (requests[start : start + size] for start in range(0, len(requests), size))
        results = ActorPool(self.workers).map_unordered(
            lambda worker, chunk: worker.draw.remote(chunk, decoding, self.adapter), chunks
        )
        try:
            for outputs in results:
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
        _stop_ray(self.is_own)
        self.is_own = False


class _Worker:
    """Lives on a Ray worker and holds one engine."""

    def __init__(self, engine: str, model: str, machine: Machine, adapters: Collection[str]):
        self.engine = engines.open_engine(engine, model, machine, adapters)

    def pid(self) -> int:
        return os.getpid()

    def draw(
        self, requests: list[Request], decoding: Decoding, adapter: str | None
    ) -> list[Output]:
        self.engine.use(adapter)
        return list(self.engine.generate(requests, decoding))


def map_tasks(function: Callable, items: Iterable, machine: Machine) -> Iterator[tuple[Any, Any]]:
    """Yield `(item, function(item))` as they finish: here, in order, with one worker; else as Ray tasks.

    Args: function, items: picklable. Every task has its own process; on other machines it must see the same files. A
    task whose worker is lost is done again; what `function` raises is raised here, as it is.

    >>> list(map_tasks(abs, [-1, 2], Machine()))
    [(-1, 1), (2, 2)]
    """
    waiting = iter(items)
    if not _is_spread(machine):
        for item in waiting:
            yield item, function(item)
        return
    is_own, resources = _start_ray(machine)
    import ray

    task = ray.remote(**resources, max_calls=1, max_retries=DEATHS)(function)
    running = {task.remote(item): item for item in islice(waiting, machine.workers)}
    try:
        while running:
            finished = ray.wait(list(running))[0][0]
            item = running.pop(finished)
            try:
                yield item, ray.get(finished)
            except ray.exceptions.RayTaskError as error:
                raise error.cause from error
            for following in islice(waiting, 1):
                running[task.remote(following)] = following
    finally:
        for future in running:
            ray.cancel(future, force=True)
        _stop_ray(is_own)


def each_student(
    run: Run,
    stage: str,
    names: list[str],
    work: Callable,
    machine: Machine,
    done: str,
    together: Callable[[str], str] = str,
) -> None:
    """Call `work(folder, names, machine)` for the named students whose `stage` is not complete, or is older than what
    it reads.

    Args: together: students for whom it gives the same text go to one call, as many workers as there are sharing them;
    by default each has its own. With several workers every call is a task that works alone, and `done` ("trained") is
    printed behind the name of each student.
    """
    folder = str(run.folder.resolve())
    undone = [name for name in names if not run.complete(stage, name)]
    groups: dict[str, list[str]] = {}
    for name in undone:
        groups.setdefault(together(name), []).append(name)
    n_parts = max(1, machine.workers // max(1, len(groups)))
    tasks = [part for group in groups.values() for part in _dealt(group, n_parts)]
    alone = machine.model_copy(update={"workers": 1, "address": None})
    for students, _ in map_tasks(lambda some: work(folder, some, alone), tasks, machine):
        if machine.workers > 1:
            print(f"{', '.join(students)}: {done}", flush=True)


def _dealt(names: list[str], n_parts: int) -> list[list[str]]:
    """Names in so many parts of about equal size, none of them empty."""
    return [names[start::n_parts] for start in range(min(n_parts, len(names)))]


def _is_spread(machine: Machine) -> bool:
    return machine.workers > 1 or bool(machine.address)


def _start_ray(machine: Machine) -> tuple[bool, dict[str, float]]:
    """Start or join Ray: whether this call did, and what each worker needs of it.

    Raises ValueError when the cluster cannot hold them.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    # Ray's own niceness is 15: beside other work its workers hardly run.
    os.environ.setdefault("RAY_worker_niceness", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError as error:
        message = "workers, address: these machine keys need Ray: pip install -e '.[ray]'"
        raise ValueError(message) from error
    n_workers, n_threads = machine.workers, machine.threads or 1
    is_own = not ray.is_initialized()
    if is_own:
        where = {"address": machine.address}
        if not machine.address:  # workers may share this machine's cores
            n_cpus = max(os.cpu_count() or 1, n_workers * n_threads)
            where = {"num_cpus": n_cpus, "include_dashboard": False}
        ray.init(logging_level="ERROR", log_to_driver=False, **where)

    available = ray.cluster_resources()
    n_gpus = machine.gpus_per_worker
    if n_gpus is None:
        n_gpus = (machine.tensor_parallel_size or 1) if available.get("GPU") else 0
    for key, resource, each in (("threads", "CPU", n_threads), ("gpus_per_worker", "GPU", n_gpus)):
        if n_workers * each > available.get(resource, 0):
            _stop_ray(is_own)
            raise ValueError(
                f"workers: {n_workers} with {key}: {each:g} need {n_workers * each:g} {resource}s, "
                f"Ray has {available.get(resource, 0):g}"
            )
    return is_own, {"num_cpus": n_threads, "num_gpus": n_gpus}


def _stop_ray(is_own: bool) -> None:
    """Leave Ray where this module started or joined it.

    Left to the process's end it takes longer than Jupyter waits for a kernel, and a kernel that is then told to end
    prints Ray's stack.
    """
    import ray

    if is_own:
        ray.shutdown()


def _cause(error: Exception) -> str:
    """The last line of what went wrong on the worker."""
    return str(getattr(error, "cause", None) or error).strip().splitlines()[-1]
